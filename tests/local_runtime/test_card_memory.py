"""What a model takes of a card's memory, allocation by allocation. No card is needed."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runtime import card_context
from local_runtime.card_memory import CardNeeds, allocated_bytes, tensors_bytes
from local_runtime.memory_plan import MemoryNeeds, predict_needs
from local_runtime.model_plan import converted_bytes
from local_runtime.models.config import ModelConfig
from local_runtime.models.registry import model_weight_specs
from local_runtime.paths import model_folder
from tests.local_runtime.checkpoints import qwen2_config

KIB, MIB = 1 << 10, 1 << 20
BUNDLED = ModelConfig.from_folder(model_folder("kiosk-assistant"))
HALF_BILLION = ModelConfig.from_dict(
    qwen2_config(
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


@pytest.mark.parametrize(
    ("size_kib", "taken_mib"),
    [(64, 2), (300, 8), (511, 12), (1024, 24), (1024.5, 48), (2048, 48), (2049, 96), (3072, 96), (17000, 432)],
)
def test_24_allocations_take_what_they_took_on_an_h100(size_kib: float, taken_mib: int) -> None:
    expected_bytes = tensors_bytes([int(size_kib * KIB)] * 24)
    assert taken_mib * MIB - 2 * MIB < expected_bytes <= taken_mib * MIB  # a shared block may have room left


def needs_of(config: ModelConfig, quant: Any, context_tokens: int, sequences: int) -> MemoryNeeds:
    return predict_needs(
        config,
        target_kind="cuda",
        quant=quant,
        weights_bytes=converted_bytes(model_weight_specs(config), quant, "cuda"),
        context_tokens=context_tokens,
        max_sequences=sequences,
    )


@pytest.mark.parametrize(
    ("config", "quant", "context_tokens", "sequences", "weights_mib", "cache_mib"),
    [
        (BUNDLED, "f16", 2048, 4, 38, 80),
        (BUNDLED, "q4", 1024, 8, 8, 80),
        (HALF_BILLION, "q4", 4096, 4, 358, 240),
        (HALF_BILLION, "f16", 1024, 16, 1026, 240),
        (HALF_BILLION, "f32", 1024, 2, 1960, 98),
    ],
)
def test_the_parts_are_what_an_h100_was_short_of_after_each(
    config: ModelConfig, quant: str, context_tokens: int, sequences: int, weights_mib: int, cache_mib: int
) -> None:
    needs = needs_of(config, quant, context_tokens, sequences)
    assert needs.weights_bytes / MIB == pytest.approx(weights_mib, abs=4)
    assert needs.cache_bytes(context_tokens * sequences) / MIB == pytest.approx(cache_mib, abs=4)


def test_buffers_are_as_large_as_the_program_s_bounds() -> None:
    one, four, sixteen = (needs_of(HALF_BILLION, "f16", 1024, count).workspace_bytes / MIB for count in (1, 4, 16))
    # 128 for the numbers of pages, 24 for a chunk's activations, 3 for single tokens', 2 for the cache's, and logits.
    assert one == pytest.approx(128 + 24 + 3 + 2, abs=2)
    assert four - one == pytest.approx(2 + 2 + 4, abs=0.1)  # of 2, 3 and 4 rows, in whole blocks
    assert sixteen - four < 16 * 2  # no more rows than are kept: 32
    assert needs_of(HALF_BILLION, "f16", 256, 1).workspace_bytes < one * MIB  # the cache's buffers hold a shorter chunk


@given(
    layers=st.integers(1, 80),
    page_bytes=st.integers(1, 64).map(lambda count: count * 1024),
    available_bytes=st.integers(-MIB, 1 << 34),
)
def test_the_largest_cache_that_fits(layers: int, page_bytes: int, available_bytes: int) -> None:
    needs = CardNeeds(0, 0, 0, token_bytes=layers * page_bytes // 16, num_layers=layers)
    tokens = needs.cache_tokens(available_bytes)
    assert tokens % 16 == 0
    if tokens:
        assert needs.cache_bytes(tokens) <= available_bytes
    assert needs.cache_bytes(tokens + 16) > available_bytes


def test_a_context_counts_until_it_is_there() -> None:
    ahead = predict_needs(
        BUNDLED,
        target_kind="cuda",
        quant="f16",
        weights_bytes=MIB,
        context_tokens=512,
        max_sequences=1,
        context_bytes=500 * MIB,
    )
    assert ahead.runtime_bytes - needs_of(BUNDLED, "f16", 512, 1).runtime_bytes == 500 * MIB
    assert allocated_bytes(0) == 0


def driver_with(calls: list[str], retained: int = 0) -> SimpleNamespace:
    """A CUDA driver that notes what it is asked for, and answers to the wish for a context with ``retained``."""

    def retain(_: Any, device: ctypes.c_int) -> int:
        calls.append(f"retain {device.value}")
        return retained

    def release(device: ctypes.c_int) -> int:
        calls.append(f"release {device.value}")
        return 0

    return SimpleNamespace(cuInit=lambda _: 0, cuDevicePrimaryCtxRetain=retain, cuDevicePrimaryCtxRelease=release)


def test_a_context_is_held_until_it_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(card_context, "cuda_driver", lambda: driver_with(calls))
    assert card_context.hold_context(1)
    card_context.release_context(1)
    assert calls == ["retain 1", "release 1"]


@pytest.mark.parametrize("retained", [None, 2], ids=["no driver", "out of memory"])
def test_where_no_context_can_be_made_nothing_is_held(
    retained: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    driver = None if retained is None else driver_with(calls, retained)
    monkeypatch.setattr(card_context, "cuda_driver", lambda: driver)
    assert not card_context.hold_context(0)
    assert calls == ([] if driver is None else ["retain 0"])
    assert card_context.main(0) == 1
    assert capsys.readouterr().out == ""


def test_what_a_context_takes_is_what_is_missing_afterwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(card_context, "cuda_driver", lambda: driver_with(calls))
    monkeypatch.setattr(card_context, "accelerator_headroom_mib", lambda _: 8000.0 - 526.5 * len(calls))
    assert card_context.main(0) == 0
    assert int(capsys.readouterr().out) == 526.5 * MIB
    assert calls == ["retain 0", "release 0"]
