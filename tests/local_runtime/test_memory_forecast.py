"""What the engine's process is expected to take: the parts, the plan for a machine, and a real engine's peak beside it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.memory_plan import measured, predicted
from local_runtime import loader
from local_runtime.errors import InvalidRequestError, OutOfMemoryError
from local_runtime.memory_forecast import (
    forecast,
    require_room_for_tokenizer,
    tokenizer_bytes,
    tokenizer_reading_bytes,
)
from local_runtime.memory_plan import SPARE_MIB, kept_logits_rows, logits_rows, predict_needs, score_tokens
from local_runtime.model_plan import Case, Machine, context_spread, context_to_serve, converted_bytes, plan_cases
from local_runtime.models.config import ModelConfig
from local_runtime.models.registry import model_weight_specs
from local_runtime.options import LoadOptions
from local_runtime.paths import model_folder
from tests.engine_cache import ENGINE_CACHE
from tests.local_runtime.checkpoints import llama_config

MIB = 1 << 20
BUNDLED = "kiosk-assistant"
LARGE = ModelConfig.from_dict(
    llama_config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=151936,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
)


@pytest.mark.skipif(sys.platform != "linux", reason="the process's own part was measured on Linux")
@pytest.mark.parametrize(("context_tokens", "sequences"), [(512, 1), (1024, 3)])
def test_a_real_engine_takes_what_is_predicted(context_tokens: int, sequences: int) -> None:
    options = LoadOptions(
        BUNDLED,
        quant="f16",
        target="cpu",
        context_tokens=context_tokens,
        max_sequences=sequences,
        cache_dir=str(ENGINE_CACHE),
    )
    expected, found = predicted(options, "cpu"), measured(options)
    assert expected.loading_peak_bytes / MIB == pytest.approx(found.loaded_mib, rel=0.05)
    assert expected.peak_bytes / MIB == pytest.approx(found.peak_mib, rel=0.05)


def case(
    folder: Path,
    config: ModelConfig,
    headroom_mib: float,
    *,
    memory_mib: int | None = None,
    may_cut_context: bool = True,
) -> Case:
    (only,) = plan_cases(
        folder,
        config,
        Machine("cpu", headroom_mib),
        quants=("q4",),
        contexts=(4096,),
        memory_mib=memory_mib,
        may_cut_context=may_cut_context,
    )
    return only


def test_what_is_planned_is_what_loading_decides(tmp_path: Path) -> None:
    plenty = case(tmp_path, LARGE, 100_000)
    assert (plenty.verdict, plenty.served_tokens, plenty.cache_tokens, plenty.said) == ("fits", 4096, 4 * 4096, "")
    assert plenty.memory is not None
    before_mib = plenty.memory.before_model_bytes / MIB
    needs = predict_needs(
        LARGE,
        target_kind="cpu",
        quant="q4",
        weights_bytes=converted_bytes(model_weight_specs(LARGE), "q4", "cpu"),
        context_tokens=4096,
        max_sequences=4,
    )
    assert plenty.token_bytes == needs.token_bytes
    for headroom_mib in (700, 600, 500):
        planned = case(tmp_path, LARGE, headroom_mib)
        loaded = needs.plan(
            headroom_mib=headroom_mib - before_mib,
            memory_mib=None,
            context_tokens=4096,
            may_cut_context=True,
            max_sequences=4,
        )
        assert (planned.served_tokens, planned.cache_tokens) == (loaded.context_tokens, loaded.total_tokens)
        assert planned.verdict == "cut"
        assert planned.said == loaded.said(4096)
        assert planned.memory is not None
        assert planned.memory.peak_bytes / MIB <= headroom_mib - SPARE_MIB + 1
    small = case(tmp_path, LARGE, 400)
    assert (small.verdict, small.served_tokens) == ("too large", 0)
    assert "The model needs" in small.said
    assert case(tmp_path, LARGE, 500, may_cut_context=False).verdict == "too large"
    assert case(tmp_path, LARGE, 100_000, memory_mib=400).verdict == "cut"


def test_a_format_that_the_model_cannot_have_is_named(tmp_path: Path) -> None:
    config = ModelConfig.from_dict(llama_config(hidden_size=80, intermediate_size=208, head_dim=16))
    cases = plan_cases(tmp_path, config, Machine("cpu", 10_000), contexts=(512,))
    assert [(one.quant, one.verdict) for one in cases] == [("q4", "unsupported"), ("f16", "fits"), ("f32", "fits")]
    assert "multiples of 32" in cases[0].said
    with pytest.raises(InvalidRequestError, match="context is 512 tokens"):
        plan_cases(tmp_path, config, Machine("cpu", 10_000), contexts=(513,))


def test_the_contexts_that_are_shown() -> None:
    assert context_spread(LARGE) == (1024, 4096, 8192, 32768)
    assert context_spread(ModelConfig.from_dict(llama_config(max_position_embeddings=512))) == (512,)
    assert context_to_serve(None, 131072) == 8192


def test_the_parts_add_up(tmp_path: Path) -> None:
    memory = case(tmp_path, LARGE, 100_000).memory
    assert memory is not None
    parts_bytes = (
        memory.libraries_bytes
        + memory.tokenizer_bytes
        + memory.runtime_bytes
        + memory.weights_bytes
        + memory.workspace_bytes
        + memory.cache_bytes
    )
    assert memory.peak_bytes == parts_bytes
    assert memory.loaded_bytes == parts_bytes - memory.workspace_bytes - memory.cache_bytes
    assert memory.private_bytes == parts_bytes - memory.weights_bytes
    assert memory.card_bytes == 0
    assert memory.first_start_peak_bytes > 300 * MIB


def test_a_card_holds_the_model_and_the_process_does_not() -> None:
    needs = predict_needs(
        LARGE, target_kind="cuda", quant="f16", weights_bytes=942 * MIB, context_tokens=512, max_sequences=1
    )
    memory = forecast(needs, target_kind="cuda", cache_tokens=512, vocab_size=LARGE.vocab_size)
    assert memory.card_bytes > 942 * MIB + memory.cache_bytes
    assert memory.loaded_bytes == memory.before_model_bytes + memory.runtime_bytes
    longer = predict_needs(
        LARGE, target_kind="cuda", quant="f16", weights_bytes=942 * MIB, context_tokens=4096, max_sequences=1
    )
    assert longer.workspace_bytes == needs.workspace_bytes  # a card's buffers are those of the longest chunk


def test_reading_a_tokenizer_can_be_what_takes_most() -> None:
    needs = predict_needs(LARGE, target_kind="cpu", quant="q4", weights_bytes=MIB, context_tokens=16, max_sequences=1)
    small, large = (
        forecast(needs, target_kind="cpu", cache_tokens=16, vocab_size=151_936, tokenizer_file_bytes=size)
        for size in (1000, 100 * MIB)
    )
    assert small.loading_peak_bytes == small.loaded_bytes
    assert large.peak_bytes == large.loading_peak_bytes > large.loaded_bytes
    assert tokenizer_reading_bytes(1000) == tokenizer_reading_bytes(1000, 60_000)


def test_a_tokenizer_that_there_is_no_room_for_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    require_room_for_tokenizer(151_936, 9_000_000, 150)
    with pytest.raises(OutOfMemoryError, match=r"tokenizer of 151936 tokens takes 121 MiB, but 100 MiB"):
        require_room_for_tokenizer(151_936, 9_000_000, 100)
    monkeypatch.setattr(loader, "system_headroom_mib", lambda: 2.0)
    monkeypatch.setattr(loader.ChatTokenizer, "from_folder", lambda *_: pytest.fail("it was read"))
    with pytest.raises(OutOfMemoryError, match="Reading the tokenizer of 4096 tokens takes 3 MiB, but 2 MiB"):
        loader.load(LoadOptions(BUNDLED, target="cpu"), lambda _: None)


def test_a_plan_refuses_what_cannot_even_be_read(tmp_path: Path) -> None:
    refused = case(tmp_path, LARGE, 100)
    assert refused.verdict == "too large"
    assert "Reading the tokenizer" in refused.said


def test_tables_grow_in_steps() -> None:
    assert tokenizer_bytes(57_344) - tokenizer_bytes(57_343) < 1000  # seven of eight places of 65,536
    assert tokenizer_bytes(57_345) - tokenizer_bytes(57_344) > 65_536 * 80


def test_logits_are_kept_for_every_number_of_answers() -> None:
    assert [logits_rows(count, 4096) for count in (1, 2, 4)] == [5, 9, 20]


def test_logits_are_kept_up_to_a_bound() -> None:
    assert [score_tokens(1, size) for size in (4096, 32_000, 151_936, 3_000_000)] == [64, 64, 13, 1]
    assert [kept_logits_rows(count, 151_936) for count in (1, 16, 64)] == [26, 32, 128]
    assert logits_rows(64, 4096) == 128 + 2 * 64 + 2
    # What a card or a machine with many answers at a time would hold of a large vocabulary: 0.15 GiB, and not 1.3.
    assert logits_rows(64, 151_936) * 151_936 * 4 / MIB < 160


def test_only_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_config()), encoding="utf-8")
    bare = plan_cases(tmp_path, ModelConfig.from_folder(tmp_path), Machine("cpu", 10_000))
    assert {one.verdict for one in bare} == {"fits"}
    bundled = model_folder(BUNDLED)
    config = ModelConfig.from_folder(bundled)
    (whole,) = plan_cases(bundled, config, Machine("cpu", 10_000), quants=("f16",), contexts=(2048,))
    assert whole.memory is not None
    file_bytes = (bundled / "tokenizer.json").stat().st_size
    assert whole.memory.tokenizer_reading_bytes == tokenizer_reading_bytes(config.vocab_size, file_bytes)
