"""A model without a model: a runner whose next token is a plain function of the tokens so far.

It keeps its pages exactly and fails on every misuse (a sequence that is unknown, known twice, too long, too many), so
that tests of the scheduler, the engine, the worker and the client check the bookkeeping as well as the text. The
tokenizer is a real one, with one token for each byte, so characters span tokens. As a script, this file is a worker:
``LocalEngine(..., worker_command=[sys.executable, ".../scripted_runner.py"])``; :class:`Script` says how it behaves.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from local_runtime.errors import CheckpointError, OutOfMemoryError
from local_runtime.options import ModelInfo, Progress, SamplingOptions
from local_runtime.prefix_cache import MOST_IDLE
from local_runtime.sliding import SlidingWindow
from local_runtime.state_file import StateShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from local_runtime.options import LoadOptions
    from local_runtime.tokenizer import ChatTokenizer

SPECIALS = ("<|end|>", "<|user|>", "<|assistant|>", "<|poison|>", "<|crash|>", "<|nan|>")
END, USER, ASSISTANT, POISON, CRASH, NAN = range(256, 256 + len(SPECIALS))
VOCAB_SIZE = 256 + len(SPECIALS)
TEXT = "Opening hours: 9–17. Café crème, naïve façade; 你好，世界！ \U0001f600\U0001f680 tail. ".encode()
CHAT_TEMPLATE = (
    "{% for m in messages %}<|user|>{{ m['role'] }}:{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def next_token(tokens: Sequence[int]) -> int:
    """The automaton: bytes of :data:`TEXT` from a place that the first tokens choose, with an end now and then.

    The token of a byte is the byte.
    """
    seed = sum(tokens[:9]) * 31
    place = seed + len(tokens)
    return END if place % 101 == 0 else TEXT[place % len(TEXT)]


def expected_tokens(prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What a request with this prompt must generate, the end token included."""
    tokens = list(prompt)
    while len(tokens) - len(prompt) < max_tokens:
        tokens.append(next_token(tokens))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in plain}
    for offset, byte in enumerate(byte for byte in range(256) if byte not in alphabet):
        alphabet[byte] = chr(256 + offset)
    return alphabet


def write_tokenizer(folder: Path) -> Path:
    """Write a byte-level tokenizer with a chat template into ``folder``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = _byte_alphabet()
    tokenizer = Tokenizer(models.BPE(vocab={alphabet[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"chat_template": CHAT_TEMPLATE, "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def make_tokenizer(folder: Path) -> ChatTokenizer:
    from local_runtime.tokenizer import ChatTokenizer

    return ChatTokenizer.from_folder(write_tokenizer(folder), VOCAB_SIZE)


@dataclass
class Script:
    """How a scripted model behaves; travels to a worker as JSON in ``LoadOptions.model``."""

    step_s: float = 0.0
    load_s: float = 0.0
    load_error: str = ""
    context_tokens: int = 256
    page_tokens: int = 4
    total_pages: int = 256
    prefill_chunk_tokens: int = 16
    max_sequences: int = 4
    score_tokens: int = 16
    window_tokens: int | None = None
    noise: bool = False
    remove_error: bool = False
    child_process: bool = False

    def as_model(self) -> str:
        return json.dumps(dataclasses.asdict(self))


class ScriptedRunner:
    """A :class:`local_runtime.model_interface.Runner` that asserts instead of trusting.

    ``say`` gives the most likely next token; by default :func:`next_token`, whose special tokens also work their mischief.
    """

    def __init__(
        self, script: Script, say: Callable[[Sequence[int]], int] | None = None, vocab_size: int = VOCAB_SIZE
    ) -> None:
        self._say = say
        self.vocab_size = vocab_size
        self.context_tokens = script.context_tokens
        self.prefill_chunk_tokens = script.prefill_chunk_tokens
        self.max_sequences = script.max_sequences
        self.page_tokens = script.page_tokens
        self.total_pages = script.total_pages
        self.window: SlidingWindow | None = None
        if script.window_tokens is not None:
            self.window = SlidingWindow(script.window_tokens, script.prefill_chunk_tokens, script.page_tokens)
        self.can_share = True
        self.state_identity: Mapping[str, str] = {"model": "scripted"}
        self.state_shape = StateShape(1, (1, 1, self.page_tokens, 1), "int32")
        self.step_s = script.step_s
        self.remove_error = script.remove_error
        self.fork_error = False
        self.score_tokens = script.score_tokens
        self.activation_eps = float(np.finfo(np.float32).eps)
        self.sequences: dict[
            int, list[int]
        ] = {}  # with the tokens that were let go of, for the automaton reads them all
        self.dropped: dict[int, int] = {}
        self.slide_error: Exception | None = None
        self.pages: dict[int, list[int]] = {}
        self._page_numbers = itertools.count()
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.closed = False

    def _pages(self, tokens: int) -> int:
        return -(-tokens // self.page_tokens)

    def available_pages(self) -> int:
        return self.total_pages - len({page for pages in self.pages.values() for page in pages})

    def shortage(self, pages: int) -> OutOfMemoryError | None:
        return None

    @property
    def headroom_mib(self) -> float | None:
        return None

    def add_sequence(self, sequence_id: int) -> None:
        assert not self.closed
        assert sequence_id not in self.sequences, f"sequence {sequence_id} is added twice"
        assert len(self.sequences) < self.max_sequences + MOST_IDLE, "more sequences than the engine may keep"
        self.sequences[sequence_id] = []
        self.pages[sequence_id] = []
        self.dropped[sequence_id] = 0

    def remove_sequence(self, sequence_id: int) -> None:
        assert not self.closed
        assert sequence_id in self.sequences, f"sequence {sequence_id} is freed twice"
        if self.remove_error:
            raise RuntimeError("the device is gone")
        del self.sequences[sequence_id], self.pages[sequence_id], self.dropped[sequence_id]

    def fork_sequence(self, parent_id: int, child_id: int, at_tokens: int | None = None) -> None:
        assert not self.closed
        assert not self.dropped[parent_id], "a fork of what has lost its beginning"
        tokens = self.sequences[parent_id]
        at_tokens = len(tokens) if at_tokens is None else at_tokens
        assert 1 <= at_tokens <= len(tokens), "a fork outside of its parent"
        self.calls.append(("fork", (parent_id, child_id, at_tokens)))
        if self.fork_error:
            raise OutOfMemoryError("There is no memory for a copy.")
        self.add_sequence(child_id)
        self.pages[child_id] = self.pages[parent_id][: at_tokens // self.page_tokens]
        self._extend(child_id, tokens[:at_tokens])

    def pop(self, sequence_id: int, tokens: int) -> None:
        assert not self.closed
        held = self.sequences[sequence_id]
        kept = 0 if self.window is None else min(len(held) - tokens, self.window.window_tokens)
        assert 1 <= tokens <= len(held), "more tokens are taken back than there are"
        assert len(held) - tokens - self.dropped[sequence_id] >= kept, "tokens are taken back whose window is not there"
        del held[-tokens:]
        del self.pages[sequence_id][self._held_pages(sequence_id) :]

    def drop_first(self, sequence_id: int, tokens: int) -> None:
        assert not self.closed
        assert self.window is not None
        assert tokens > 0
        assert tokens % self.page_tokens == 0
        self.calls.append(("drop_first", (sequence_id, tokens)))
        if self.slide_error is not None:
            raise self.slide_error
        self.dropped[sequence_id] += tokens
        held = len(self.sequences[sequence_id]) - self.dropped[sequence_id]
        assert held >= self.window.window_tokens, "tokens are let go of that are still to be seen"
        self.pages[sequence_id] = []
        self._take_pages(sequence_id)

    def read_pages(self, sequence_id: int, tokens: int) -> Iterator[NDArray[Any]]:
        assert 0 < tokens <= len(self.sequences[sequence_id])
        assert not self.dropped[sequence_id]
        assert tokens % self.page_tokens == 0
        self.calls.append(("read_pages", (sequence_id, tokens)))
        held = np.asarray(self.sequences[sequence_id][:tokens], np.int32)
        yield from held.reshape(-1, 1, *self.state_shape.page)

    def restore_sequence(self, sequence_id: int, layers: Sequence[NDArray[Any]]) -> None:
        self.calls.append(("restore", (sequence_id,)))
        self.add_sequence(sequence_id)
        self._extend(sequence_id, [int(token) for token in layers[0].reshape(-1)])

    def _extend(self, sequence_id: int, token_ids: Sequence[int]) -> None:
        """Append tokens, and pages for them; what is shared is never written to."""
        held, pages = self.sequences[sequence_id], self.pages[sequence_id]
        if len(held) % self.page_tokens and len(held):
            holders = sum(pages[-1] in others for others in self.pages.values())
            assert holders == 1, "a page that others share is written to"
        held.extend(token_ids)
        self._take_pages(sequence_id)

    def _held_pages(self, sequence_id: int, more_tokens: int = 0) -> int:
        return self._pages(len(self.sequences[sequence_id]) - self.dropped[sequence_id] + more_tokens)

    def _take_pages(self, sequence_id: int) -> None:
        pages = self.pages[sequence_id]
        pages.extend(next(self._page_numbers) for _ in range(self._held_pages(sequence_id) - len(pages)))
        if self.window is not None:
            assert len(pages) <= self._pages(self.window.most_tokens), "a sequence holds more than its window asks for"
        assert self.available_pages() >= 0, "more pages in use than there are"

    def prefill(self, sequence_id: int, token_ids: Sequence[int]) -> NDArray[np.float32]:
        assert 1 <= len(token_ids) <= self.prefill_chunk_tokens
        self.calls.append(("prefill", (sequence_id,)))
        return self._append(sequence_id, token_ids)

    def decode(self, sequence_ids: Sequence[int], token_ids: Sequence[int]) -> NDArray[np.float32]:
        assert len(sequence_ids) == len(set(sequence_ids)) == len(token_ids) >= 1
        assert len(sequence_ids) <= self.max_sequences, "more sequences in a step than places"
        listed = sum(self._held_pages(each, 1) for each in sequence_ids)
        assert listed <= self.total_pages, "the step lists more pages than the runtime has room for"
        self.calls.append(("decode", tuple(sequence_ids)))
        for sequence_id in sequence_ids:
            if POISON in self.sequences[sequence_id] and self._say is None:
                raise RuntimeError("poisoned")
        # Like a real device: the sequences before the failing one have changed already when an exception comes.
        return np.stack(
            [self._append(each, [token]) for each, token in zip(sequence_ids, token_ids, strict=True)], axis=0
        )

    def decode_with_chunk(
        self, sequence_ids: Sequence[int], token_ids: Sequence[int], chunk_id: int, chunk_ids: Sequence[int]
    ) -> NDArray[np.float32]:
        assert chunk_id not in sequence_ids
        assert 1 <= len(chunk_ids) <= self.prefill_chunk_tokens - len(sequence_ids)
        decoded = self.decode(sequence_ids, token_ids)
        listed = sum(self._held_pages(each) for each in sequence_ids)
        listed += self._held_pages(chunk_id, len(chunk_ids))
        assert listed <= self.total_pages, "the step lists more pages than the runtime has room for"
        self.calls.append(("prefill", (chunk_id,)))
        return np.concatenate([decoded, self._append(chunk_id, chunk_ids)[None]], axis=0)

    def score(self, sequence_id: int, token_ids: Sequence[int]) -> NDArray[np.float32]:
        assert 1 <= len(token_ids) <= self.score_tokens
        self.calls.append(("score", (sequence_id, len(token_ids))))
        return np.stack([self._append(sequence_id, [token]) for token in token_ids], axis=0)

    def _append(self, sequence_id: int, token_ids: Sequence[int]) -> NDArray[np.float32]:
        assert not self.closed
        tokens = self.sequences[sequence_id]
        self._extend(sequence_id, token_ids)
        assert all(0 <= token < self.vocab_size for token in tokens)
        assert len(tokens) <= self.context_tokens, "a sequence is longer than the context"
        if self.step_s:
            time.sleep(self.step_s)
        if CRASH in tokens and self._say is None:
            os.abort()
        logits = np.zeros(self.vocab_size, np.float32)
        if self._say is not None:
            logits[self._say(tokens)] = 50.0
        else:
            logits[next_token(tokens)] = np.nan if NAN in tokens else 50.0
        return logits

    def close(self) -> None:
        assert not self.closed, "the runner is closed twice"
        self.closed = True


@dataclass(frozen=True)
class ScriptedModel:
    runner: ScriptedRunner
    tokenizer: ChatTokenizer
    info: ModelInfo
    recommended_sampling: SamplingOptions = field(default_factory=SamplingOptions)


def make_model(script: Script, folder: Path, say: Callable[[Sequence[int]], int] | None = None) -> ScriptedModel:
    info = ModelInfo(
        name="scripted",
        path=str(folder),
        model_type="scripted",
        quant="f32",
        target="python",
        device="python",
        context_tokens=script.context_tokens,
        vocab_size=VOCAB_SIZE,
        parameters=0,
        weights_mib=0.0,
        kv_mib=0.0,
        load_s=script.load_s,
        compiled=False,
    )
    return ScriptedModel(ScriptedRunner(script, say), make_tokenizer(folder), info)


def load(options: LoadOptions, on_progress: Callable[[Progress], None]) -> ScriptedModel:
    """Load a scripted model: ``options.model`` is a :class:`Script` as JSON."""
    script = Script(**json.loads(options.model))
    on_progress(Progress("resolve", None, "scripted"))
    if script.noise:
        # What badly behaved native libraries do: print to the process's own standard output.
        os.write(1, b"a library prints\n")
        print("another one prints")
    if script.child_process:
        # As the real loader does: the compiler runs in a process of its own.
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.DEVNULL)
        on_progress(Progress("compile", None, str(child.pid)))
    time.sleep(script.load_s)
    if script.load_error == "checkpoint":
        raise CheckpointError("There is no config.json in the folder.", "Give a checkpoint's folder.")
    if script.load_error == "unexpected":
        raise KeyError("surprise")
    if script.load_error == "exit":
        print("last words of the worker", file=sys.stderr)
        os._exit(7)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(script, Path(folder))
    on_progress(Progress("ready", 1.0, "scripted"))
    return model


if __name__ == "__main__":
    from local_runtime.worker import serve

    serve(load)
