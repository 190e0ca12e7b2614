"""Every parser on its seeds and on drawn inputs: no crash, no connect, no file. The long run is ``make fuzz``."""

import json
import socket

import pytest

from tests.fuzz import hypothesis_engine
from tests.fuzz.__main__ import main
from tests.fuzz.guard import ForbiddenCallError
from tests.fuzz.hypothesis_engine import try_examples
from tests.fuzz.registry import TARGETS
from tests.fuzz.strategies import GRAMMARS
from tests.fuzz.target import Target

EXAMPLES = {"policy": 80, "decision": 60}
EXAMPLES_ELSEWHERE = 120


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_seeds(target):
    seeds = target.seeds()
    assert len(seeds) >= 4
    for data in seeds:
        target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_drawn_inputs(target):
    try_examples(target, EXAMPLES.get(target.name, EXAMPLES_ELSEWHERE))


def test_every_target_has_a_grammar():
    assert set(GRAMMARS) == set(TARGETS)


def planted(check):
    """A target with a defect that the engine has to find."""
    real = TARGETS["retry-after"]
    return Target("retry-after", check, real.seeds, real.words)


def breaks_on_a_date(data):
    if b"GMT" in data:
        raise KeyError("date")


def connects_on_a_date(data):
    if b"GMT" in data:
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=0.1)
        except BaseException:  # noqa: BLE001 - it hides what it does, as a defect would
            return


@pytest.mark.parametrize(("check", "error"), [(breaks_on_a_date, KeyError), (connects_on_a_date, ForbiddenCallError)])
def test_a_planted_defect_is_found(check, error):
    with pytest.raises(error) as raised:
        try_examples(planted(check), 100)
    assert any("The smallest input" in note for note in raised.value.__notes__)


def test_a_crash_is_saved_and_can_be_run_again(tmp_path, monkeypatch, capsys):
    target = planted(breaks_on_a_date)
    monkeypatch.setitem(TARGETS, "retry-after", target)
    monkeypatch.setattr("tests.fuzz.__main__.FOLDER", tmp_path)
    monkeypatch.setattr("tests.fuzz.__main__.ROOT", tmp_path)
    assert main(["retry-after", "--seconds", "30", "--engine", "hypothesis"]) == 1
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["target"] == "retry-after"
    assert "--run" in said.err
    crash = tmp_path / record["crash"]
    assert b"GMT" in crash.read_bytes()
    with pytest.raises(KeyError):
        main(["retry-after", "--run", str(crash)])


def test_a_run_without_findings_counts_its_executions(tmp_path):
    runs, branches, crash = hypothesis_engine.fuzz(TARGETS["retry-after"], 1, tmp_path)
    assert runs >= hypothesis_engine.EXAMPLES_A_ROUND
    assert (branches, crash) == (None, None)
