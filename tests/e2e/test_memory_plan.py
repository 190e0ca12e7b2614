"""The engine's memory, predicted and measured, over models from 10 million to half a billion parameters. ``-s`` shows the table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.memory_plan import SPREAD, run_case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the process's own part was measured on Linux"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("case", SPREAD, ids=lambda case: "-".join(map(str, case)))
def test_the_peak_is_within_five_percent_of_the_prediction(case: tuple[str, str, int, int], folder: Path) -> None:
    record: dict[str, Any] = run_case(*case, "cpu", folder)
    print(f"\n{record}")
    for stage in ("loaded", "peak"):
        assert abs(record[stage]["error_percent"]) <= 5, record
    if "build" in record:
        assert 100 < record["build"]["measured_mib"] <= record["build"]["bound_mib"]
