"""How a checkpoint recommends that tokens be drawn, and who has the last word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local_runtime.errors import CheckpointError
from local_runtime.generation_config import recommended_sampling
from local_runtime.options import SamplingOptions


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"do_sample": False, "temperature": 0.7}, SamplingOptions(temperature=0.0)),
        ({"do_sample": False, "repetition_penalty": 1.1}, SamplingOptions(temperature=0.0, repetition_penalty=1.1)),
        ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}, SamplingOptions(0.7, 0.8, 20)),
        ({"eos_token_id": 2, "temperature": None}, SamplingOptions()),
    ],
)
def test_it_is_read(tmp_path: Path, content: dict[str, object], expected: SamplingOptions) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert recommended_sampling(tmp_path) == expected


def test_without_the_file_nothing_is_recommended(tmp_path: Path) -> None:
    assert recommended_sampling(tmp_path) == SamplingOptions()


@pytest.mark.parametrize("content", ["[]", "{", '{"temperature": "hot"}', '{"top_p": 7}'])
def test_a_bad_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        recommended_sampling(tmp_path)


def test_a_request_has_the_last_word() -> None:
    asked = SamplingOptions(temperature=0.9, seed=5)
    assert asked.over(SamplingOptions(temperature=0.0, top_k=20)) == SamplingOptions(temperature=0.9, top_k=20, seed=5)
