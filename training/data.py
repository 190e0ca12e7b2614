"""Packs generated dialogues into rows of tokens, in parallel processes, as fast as a GPU eats them."""

from __future__ import annotations

import multiprocessing as mp
import queue
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from training.chat_format import encode
from training.dialogues import MIXES, draw_dialogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUFFER_DIALOGUES = 48


def training_texts(count: int) -> Iterator[str]:
    """Every message of the first `count` training dialogues, for the tokenizer."""
    for seed in range(count):
        for message in draw_dialogue(seed, "train").messages():
            yield message["content"]


def packed_rows(
    tokenizer: Tokenizer, row_tokens: int, first_seed: int, stride: int, mix: str = "everyday"
) -> Iterator[np.ndarray]:
    """Endless rows of whole dialogues.

    Args:
        tokenizer: the trained tokenizer.
        row_tokens: the length of a row; longer dialogues are left out.
        first_seed: the seed of the first dialogue.
        stride: the step between seeds, so that several processes share the seeds.
        mix: a name in `dialogues.MIXES`.

    Yields:
        uint16 [2, row_tokens]: token ids (0 where the row is not full), and the mask of `chat_format.encode`.
    """
    waiting: list[tuple[list[int], list[int]]] = []
    seed = first_seed
    while True:
        row = np.zeros((2, row_tokens), dtype=np.uint16)
        used = 0
        while True:
            while len(waiting) < BUFFER_DIALOGUES:
                ids, mask = encode(tokenizer, draw_dialogue(seed, "train", mix=MIXES[mix]).messages())
                seed += stride
                if len(ids) <= row_tokens:
                    waiting.append((ids, mask))
            left = row_tokens - used
            # The oldest dialogue goes first; when it no longer fits, the longest that does fills the rest.
            pick = 0 if len(waiting[0][0]) <= left else -1
            if pick < 0:
                fitting = [index for index, (ids, _) in enumerate(waiting) if len(ids) <= left]
                if not fitting:
                    break
                pick = max(fitting, key=lambda index: len(waiting[index][0]))
            ids, mask = waiting.pop(pick)
            row[0, used : used + len(ids)] = ids
            row[1, used : used + len(ids)] = mask
            used += len(ids)
        yield row


def _produce(
    tokenizer_path: str,
    row_tokens: int,
    batch_rows: int,
    first_seed: int,
    stride: int,
    mix: str,
    rows: mp.queues.Queue[np.ndarray],
) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_path)
    batch: list[np.ndarray] = []
    for row in packed_rows(tokenizer, row_tokens, first_seed, stride, mix):
        batch.append(row)
        if len(batch) == batch_rows:
            rows.put(np.stack(batch))
            batch = []


class Batches:
    """Batches of rows from `workers` processes; with 0 workers they are made in this process.

    Rows of different workers arrive in no fixed order, so a run with several workers sees the same dialogues in a
    slightly different order each time. Of `parts` programs that train together, each draws dialogues of its own.
    """

    def __init__(
        self,
        tokenizer_path: Path,
        row_tokens: int,
        batch_rows: int,
        workers: int,
        first_seed: int,
        mix: str = "everyday",
        part: int = 0,
        parts: int = 1,
    ) -> None:
        self._batch_rows = batch_rows
        workers_here = max(1, workers)
        first_seed, stride = first_seed + part * workers_here, parts * workers_here
        self._processes: list[mp.process.BaseProcess] = []
        if workers == 0:
            tokenizer = Tokenizer.from_file(str(tokenizer_path))
            self._local = packed_rows(tokenizer, row_tokens, first_seed, stride, mix)
            return
        context = mp.get_context("spawn")
        self._chunk = 4
        self._queue: mp.queues.Queue[np.ndarray] = context.Queue(maxsize=max(64, batch_rows))
        for index in range(workers):
            process = context.Process(
                target=_produce,
                args=(str(tokenizer_path), row_tokens, self._chunk, first_seed + index, stride, mix, self._queue),
                daemon=True,
            )
            process.start()
            self._processes.append(process)

    def next(self) -> np.ndarray:
        """The next batch, uint16 [rows, 2, row_tokens].

        Raises:
            RuntimeError: a worker died.
        """
        if not self._processes:
            return np.stack([next(self._local) for _ in range(self._batch_rows)])
        parts: list[np.ndarray] = []
        while sum(len(part) for part in parts) < self._batch_rows:
            try:
                parts.append(self._queue.get(timeout=30))
            except queue.Empty:
                if not all(process.is_alive() for process in self._processes):
                    raise RuntimeError("a data worker stopped; its traceback is above") from None
        return np.concatenate(parts)[: self._batch_rows]

    def close(self) -> None:
        """Stops the workers."""
        for process in self._processes:
            process.terminate()
