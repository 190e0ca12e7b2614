"""The engine in this process, over the bundled model or a geometry with random weights, for benchmarks that watch its steps."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from local_runtime.engine import Engine
from local_runtime.events import Event, Failed, Finished, TextDelta
from local_runtime.loader import load
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, SamplingOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUNDLED = "kiosk-assistant"
HALF_BILLION = "0.5B"
_HALF_BILLION: dict[str, Any] = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "rope_theta": 1000000.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "use_sliding_window": False,
}
"""The geometry of Qwen2.5-0.5B."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Arguments that all of these benchmarks take."""
    arguments = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--model", default=BUNDLED, help=f"a checkpoint, or {HALF_BILLION} for random weights of that geometry"
    )
    arguments.add_argument(
        "--cache-dir", help="where a random checkpoint, its weights and its code stay for the next time"
    )
    arguments.add_argument("--threads", type=int)
    arguments.add_argument("--runs", type=int, default=5)
    return arguments


@dataclass
class Answer:
    """One request.

    Attributes:
        asked_at: When it was asked.
        token_times: When each of its tokens came, in seconds of ``time.perf_counter``.
        end: Its last event.
    """

    asked_at: float
    token_times: list[float] = field(default_factory=list)
    end: Finished | None = None

    def take(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.token_times += [time.perf_counter()] * event.tokens
        elif isinstance(event, Finished):
            self.end = event
        elif isinstance(event, Failed):
            raise event.error

    @property
    def ttft_s(self) -> float:
        """Seconds to its first token."""
        return self.token_times[0] - self.asked_at

    def gaps_s(self, since: float = 0.0, until: float = float("inf")) -> list[float]:
        """Seconds between neighbouring tokens that came within a time."""
        times = [moment for moment in self.token_times if since <= moment <= until]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


class Bench:
    """An engine and what was asked of it. Prompts are random tokens; answers are greedy and as long as asked for."""

    def __init__(self, engine: Engine, seed: int = 0) -> None:
        self.engine = engine
        self._random = Random(seed)
        self._asked = 0

    def prompt(self, tokens: int) -> list[int]:
        """A prompt that was never asked before."""
        return [self._random.randrange(self.engine.info.vocab_size) for _ in range(tokens)]

    def ask(self, ids: Sequence[int], new_tokens: int) -> Answer:
        """Ask for an answer of exactly so many tokens."""
        self._asked += 1
        answer = Answer(time.perf_counter())
        request = GenerateRequest(
            raw_token_ids=list(ids), max_tokens=new_tokens, sampling=SamplingOptions(temperature=0.0), ignore_eos=True
        )
        self.engine.submit(self._asked, request, answer.take)
        return answer

    def run(self) -> None:
        """Step until all is answered."""
        while self.engine.has_work:
            self.engine.step()

    def run_until(self, answer: Answer, tokens: int) -> None:
        """Step until an answer has so many tokens."""
        while len(answer.token_times) < tokens:
            self.engine.step()


@contextmanager
def engine(
    arguments: argparse.Namespace, *, prefix_cache: bool = True, **options: Any
) -> Iterator[tuple[Bench, ModelInfo]]:
    """Load a model into this process.

    Args:
        arguments: As :func:`parser` gives them.
        prefix_cache: As the engine's own.
        options: Further fields of ``LoadOptions``.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.cache_dir or scratch)
        model = str(random_checkpoint(folder / "random-0.5B")) if arguments.model == HALF_BILLION else arguments.model
        kept = str(folder) if arguments.cache_dir or model != arguments.model else None
        loaded = load(LoadOptions(model, threads=arguments.threads, cache_dir=kept, **options), lambda _: None)
        running = Engine(loaded, prefix_cache=prefix_cache)
        try:
            yield Bench(running), loaded.info
        finally:
            running.close()


def random_checkpoint(folder: Path) -> Path:
    from tests.local_runtime.checkpoints import write_checkpoint

    if not (folder / "model.safetensors").is_file():
        write_checkpoint(folder, _HALF_BILLION, dtype="float16", max_tokenizer_vocab=2000)
        _fill_vocabulary(folder)
    return folder


def _fill_vocabulary(checkpoint: Path) -> None:
    """Give a tokenizer as many tokens as its model has; no text comes to those that are added."""
    size = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    file = checkpoint / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    vocabulary.update({f"unused {number}": number for number in range(size) if number not in taken})
    file.write_text(json.dumps(tokenizer), encoding="utf-8")


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median, lowest and highest of some runs."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in figures.items()} | {"runs": len(values)}


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie, by linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
