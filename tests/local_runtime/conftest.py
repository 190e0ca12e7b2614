"""Shared by the engine's tests: checkpoints prepared by the real build process, and runners over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import local_runtime.tvm_compat  # noqa: F401  the first import decides: this process gets the compiler, as kernel tests need
from tests.local_runtime.checkpoints import checkpoint_tensors, write_checkpoint


@pytest.fixture(scope="session")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that the tests of one run share, so that each model is compiled once."""
    return tmp_path_factory.mktemp("engine-cache")


@pytest.fixture(scope="session")
def open_runner(engine_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Make a runner for a configuration: ``open_runner(config, seed, quant="f32", context_tokens=…, transform=…)``.

    A runner is shared by all who ask for the same; its cache holds two sequences of ``context_tokens`` unless
    ``total_tokens`` says otherwise. ``transform`` changes each float32 weight by its Hugging Face name before the checkpoint
    is written.
    """
    from local_runtime.build import BuildRequest, prepare
    from local_runtime.runner import TvmRunner
    from local_runtime.weights import open_weights

    runners: dict[str, Any] = {}

    def checkpoint(
        config: dict[str, Any], seed: int, transform: Callable[[str, np.ndarray], np.ndarray] | None
    ) -> Path:
        folder = write_checkpoint(tmp_path_factory.mktemp("checkpoint"), config, seed=seed)
        if transform is not None:
            tensors = {name: transform(name, value) for name, value in checkpoint_tensors(config, seed).items()}
            save_file(tensors, folder / "model.safetensors")
        return folder

    def make(
        config: dict[str, Any],
        seed: int,
        quant: str = "f32",
        *,
        context_tokens: int = 512,
        threads: int = 2,
        target: str = "cpu",
        max_sequences: int = 4,
        total_tokens: int | None = None,
        transform: Callable[[str, np.ndarray], np.ndarray] | None = None,
    ) -> Any:
        sizes = (context_tokens, threads, target, max_sequences, total_tokens)
        key = repr((sorted(config.items(), key=str), seed, quant, sizes, transform))
        if key not in runners:
            folder = checkpoint(config, seed, transform)
            prepared = prepare(BuildRequest(str(folder), quant, target, str(engine_cache)), lambda _: None)
            weights = {(name, part): array for name, part, array in open_weights(prepared.weights)}
            runners[key] = TvmRunner(
                prepared.target,
                prepared.artifact,
                weights,
                vocab_size=config["vocab_size"],
                context_tokens=context_tokens,
                max_sequences=max_sequences,
                total_tokens=total_tokens or 2 * context_tokens,
                threads=threads,
            )
        return runners[key]

    yield make
    for runner in runners.values():
        runner.close()
