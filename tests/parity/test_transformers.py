"""The compiled models against the real ``transformers``, computed now: ``make parity``. Everyday tests use a stored reference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.local_runtime.conftest import engine_cache, open_runner  # noqa: F401  fixtures
from tests.local_runtime.parity_cases import (
    DECODE_COLUMN_STRIDE,
    GREEDY_TOKENS,
    PARITY_CASES,
    ParityCase,
    ParityReference,
    load_references,
)

pytestmark = pytest.mark.parity
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ParityReference]:
    file = tmp_path_factory.mktemp("reference") / "fresh.npz"
    script = REPOSITORY / "tools" / "make_parity_reference.py"
    subprocess.run([sys.executable, str(script), "--output", str(file)], check=True, cwd=REPOSITORY)
    return load_references(file)


@pytest.mark.parametrize("case", PARITY_CASES, ids=lambda case: case.name)
def test_logits_and_greedy_text_equal_transformers(
    case: ParityCase,
    references: dict[str, ParityReference],
    open_runner: Callable[..., Any],  # noqa: F811
) -> None:
    reference = references[case.name]
    runner = open_runner(case.config, case.seed)
    runner.add_sequence(0)
    prefill = runner.prefill(0, case.prompt_ids())
    steps = np.stack([runner.decode([0], [token])[0] for token in case.forced_ids()])
    runner.remove_sequence(0)
    runner.add_sequence(0)
    greedy = [int(np.argmax(runner.prefill(0, case.prompt_ids())))]
    while len(greedy) < GREEDY_TOKENS:
        greedy.append(int(np.argmax(runner.decode([0], greedy[-1:])[0])))
    runner.remove_sequence(0)

    worst = max(
        float(np.abs(prefill - reference.prefill_logits).max()),
        float(np.abs(steps[:, ::DECODE_COLUMN_STRIDE] - reference.decode_logits).max()),
    )
    sys.stderr.write(f"{case.name}: largest difference of a logit {worst:.2e}\n")
    assert worst <= 1e-4
    assert greedy == reference.greedy_ids
