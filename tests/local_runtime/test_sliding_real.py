"""Long conversations with a compiled model whose layers all have a window: few pages, and the answers that all pages give."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from local_runtime.options import GenerateRequest, ModelInfo, SamplingOptions
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.checkpoints import mistral_config
from tests.local_runtime.scripted_runner import write_tokenizer
from tests.local_runtime.test_prefix_cache_real import Asked, RealModel

if TYPE_CHECKING:
    from pathlib import Path

SEED = 43
VOCAB_SIZE = 320
WINDOW_TOKENS = 23
CONTEXT_TOKENS = 1500
CONFIG = mistral_config(vocab_size=VOCAB_SIZE, sliding_window=WINDOW_TOKENS, max_position_embeddings=4096)
SPAN_TOKENS = 560  # the window, a page less one token, and a chunk of 512, in whole pages
RANDOM = Random(7)
PROMPT = [RANDOM.randrange(VOCAB_SIZE) for _ in range(1100)]


@pytest.fixture(scope="module")
def open_model(open_runner: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], RealModel]:
    folder: Path = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    info = ModelInfo(
        name="windowed",
        path=str(folder),
        model_type="mistral",
        quant="f32",
        target="cpu",
        device="cpu",
        context_tokens=CONTEXT_TOKENS,
        vocab_size=VOCAB_SIZE,
        parameters=0,
        weights_mib=0.0,
        kv_mib=0.0,
        load_s=0.0,
        compiled=False,
    )

    def make(total_tokens: int) -> RealModel:
        runner = open_runner(CONFIG, SEED, context_tokens=CONTEXT_TOKENS, max_sequences=4, total_tokens=total_tokens)
        return RealModel(runner, ChatTokenizer.from_folder(folder, VOCAB_SIZE), info, SamplingOptions())

    return make


@pytest.fixture(scope="module")
def whole(open_model: Callable[[int], RealModel]) -> RealModel:
    """One that keeps all pages."""
    model = open_model(2 * CONTEXT_TOKENS)
    model.runner.window = None
    return model


@pytest.fixture(scope="module")
def sliding(open_model: Callable[[int], RealModel]) -> RealModel:
    """One that lets go, in a cache for two sequences."""
    return open_model(2 * SPAN_TOKENS)


def run(asked: Asked) -> int:
    """Run to the end; the most pages that one sequence held."""
    most = 0
    while asked.engine.has_work:
        asked.engine.step()
        ledger = asked.engine._scheduler.pages
        assert ledger.free == asked.runner.available_pages()
        most = max([most, *(len(account.pages) for account in ledger._accounts.values())])
    return most


def answer(model: RealModel, ids: list[int], max_tokens: int) -> list[int]:
    asked = Asked(model, prefix_cache=False)
    asked.submit(ids, max_tokens)
    asked.run()
    return asked.said(0)


def test_a_long_prompt_and_a_long_answer_are_those_of_a_cache_that_keeps_all(
    sliding: RealModel, whole: RealModel
) -> None:
    assert sliding.runner.window.most_tokens == SPAN_TOKENS
    expected = answer(whole, PROMPT, 300)
    asked = Asked(sliding, prefix_cache=True)
    asked.submit(PROMPT, 300)
    assert WINDOW_TOKENS // 16 < run(asked) <= SPAN_TOKENS // 16
    assert asked.said(0) == expected
    asked.end()
    for said in (1, 150, 299):  # in another worker
        events: list[Any] = []
        again = Asked(sliding, prefix_cache=True)
        request = GenerateRequest(
            raw_token_ids=PROMPT,
            max_tokens=300,
            sampling=SamplingOptions(temperature=0),
            ignore_eos=True,
            answer_begun_ids=expected[:said],
        )
        again.engine.submit(1, request, events.append)
        run(again)
        assert [token for event in events[:-1] for token in event.ids] == expected[said:]
        again.end()


def test_many_that_share_their_beginning_run_and_slide_beside_each_other(sliding: RealModel, whole: RealModel) -> None:
    asked = Asked(sliding, prefix_cache=True)
    prompts = [[*PROMPT[:200], 3, 1, 4], [*PROMPT[:200], *PROMPT[300:800]], PROMPT[:400], [5, *PROMPT[:900]]]
    for prompt in prompts:
        asked.submit(prompt, 450)
    assert run(asked) <= SPAN_TOKENS // 16
    asked.submit([*PROMPT[:200], 9], 5)
    run(asked)
    for number, prompt in enumerate(prompts):
        assert asked.said(number) == answer(whole, prompt, 450)
    asked.end()
