"""The prefix cache over a compiled model: the runtime's pages are the ledger's, and the answers are the same as without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from local_runtime.engine import Engine
from local_runtime.events import Event, Finished, TextDelta
from local_runtime.options import GenerateRequest, ModelInfo, SamplingOptions
from local_runtime.tokenizer import ChatTokenizer
from tests.local_runtime.checkpoints import llama_config
from tests.local_runtime.scripted_runner import write_tokenizer
from tests.local_runtime.test_runner import PLAINEST

if TYPE_CHECKING:
    from pathlib import Path

SEED = 41
VOCAB_SIZE = 331
CONFIG = llama_config(vocab_size=VOCAB_SIZE, max_position_embeddings=2048)
CONTEXT_TOKENS = 96


@dataclass(frozen=True)
class RealModel:
    runner: Any
    tokenizer: ChatTokenizer
    info: ModelInfo
    recommended_sampling: SamplingOptions


@pytest.fixture(scope="module")
def model(open_runner: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> RealModel:
    """A model whose cache has room for 17 pages, of which one sequence of a whole context takes 6."""
    runner = open_runner(
        CONFIG, SEED, "q4", target=PLAINEST, context_tokens=CONTEXT_TOKENS, max_sequences=4, total_tokens=256
    )
    folder: Path = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    info = ModelInfo(
        name="small",
        path=str(folder),
        model_type="llama",
        quant="q4",
        target=PLAINEST,
        device="cpu",
        context_tokens=CONTEXT_TOKENS,
        vocab_size=VOCAB_SIZE,
        parameters=0,
        weights_mib=0.0,
        kv_mib=0.0,
        load_s=0.0,
        compiled=False,
    )
    return RealModel(runner, ChatTokenizer.from_folder(folder, VOCAB_SIZE), info, SamplingOptions())


class Asked:
    """Greedy answers of exactly so many tokens."""

    def __init__(self, model: RealModel, *, prefix_cache: bool) -> None:
        self.engine = Engine(model, prefix_cache=prefix_cache)
        self.runner = model.runner
        self.events: list[list[Event]] = []

    def submit(self, ids: list[int], max_tokens: int) -> None:
        self.events.append([])
        request = GenerateRequest(
            raw_token_ids=ids, max_tokens=max_tokens, sampling=SamplingOptions(temperature=0), ignore_eos=True
        )
        self.engine.submit(len(self.events), request, self.events[-1].append)

    def run(self) -> None:
        while self.engine.has_work:
            self.engine.step()
            assert self.engine._scheduler.pages.free == self.runner.available_pages()

    def said(self, number: int) -> list[int]:
        return [token for event in self.events[number] if isinstance(event, TextDelta) for token in event.ids]

    def cached(self, number: int) -> int:
        end = self.events[number][-1]
        assert isinstance(end, Finished), end
        return end.usage.cached_tokens

    def end(self) -> None:
        prefixes = self.engine._scheduler.prefixes
        if prefixes is not None:
            prefixes.clear()
        assert self.runner.available_pages() == self.runner.total_pages


def alone(model: RealModel, ids: list[int], max_tokens: int) -> list[int]:
    asked = Asked(model, prefix_cache=False)
    asked.submit(ids, max_tokens)
    asked.run()
    return asked.said(0)


def test_conversations_and_bursts_say_what_they_say_alone(model: RealModel) -> None:
    random = Random(5)
    system = [random.randrange(VOCAB_SIZE) for _ in range(37)]  # parts in mid-page
    questions = [[random.randrange(VOCAB_SIZE) for _ in range(3 + number)] for number in range(4)]
    asked = Asked(model, prefix_cache=True)
    prompts = [[*system, *question] for question in questions]
    for prompt in prompts:
        asked.submit(prompt, 9)
    asked.run()
    turns = [[*prompt, *asked.said(number), 7, 8, 9] for number, prompt in enumerate(prompts)]
    for turn in turns:
        asked.submit(turn, 9)
    asked.run()
    for number, prompt in enumerate([*prompts, *turns]):
        assert asked.said(number) == alone_after(asked, model, prompt)
    assert [asked.cached(number) for number in range(4)] == [0, 37, 37, 37]
    assert [asked.cached(4 + number) for number in range(4)] == [len(prompt) + 8 for prompt in prompts]
    asked.end()


def alone_after(asked: Asked, model: RealModel, prompt: list[int]) -> list[int]:
    """The answer without the cache, once the cache has given its pages up."""
    prefixes = asked.engine._scheduler.prefixes
    assert prefixes is not None
    prefixes.clear()
    return alone(model, prompt, 9)


def test_more_shared_pages_than_a_step_can_list(model: RealModel) -> None:
    # Four tables of 6 pages, of which they share 5: the runtime lists those again for each, and has room for 17 in its buffer.
    asked = Asked(model, prefix_cache=True)
    system = [(11 * place) % VOCAB_SIZE for place in range(80)]
    prompts = [[*system, number] for number in range(4)]
    for prompt in prompts:
        asked.submit(prompt, 15)
    asked.run()
    said = [asked.said(number) for number in range(4)]
    asked.end()
    assert said == [alone(model, prompt, 15) for prompt in prompts]


def test_a_long_random_life_keeps_the_ledger_and_the_runtime_together(model: RealModel) -> None:
    random = Random(6)
    stems = [[random.randrange(VOCAB_SIZE) for _ in range(48)] for _ in range(3)]
    asked = Asked(model, prefix_cache=True)
    prompts: list[list[int]] = []
    for _ in range(120):
        stem = random.choice(stems)
        prompts.append(
            [*stem[: random.randint(1, 48)], *(random.randrange(VOCAB_SIZE) for _ in range(random.randint(1, 9)))]
        )
        asked.submit(prompts[-1], random.randint(1, 12))
        for _ in range(random.randint(0, 12)):
            if asked.engine.has_work:
                asked.engine.step()
                assert asked.engine._scheduler.pages.free == asked.runner.available_pages()
        if random.random() < 0.15:
            asked.engine.cancel(random.randint(1, len(prompts)))
    asked.run()
    reused = [asked.cached(number) for number in range(len(prompts))]
    assert sum(tokens > 0 for tokens in reused) > 40
    asked.end()
    compared = [number for number in random.sample(range(len(prompts)), 20) if reused[number]]
    for number in compared:
        said = asked.said(number)
        assert not said or said == alone(model, prompts[number], len(said))
    assert len(compared) > 5
