"""The soak at the size of the everyday run, and what its judge lets through."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from hybridllm.errors import CannotServe, ContentFiltered, DeadlineExceeded, StreamInterrupted
from hybridllm.types import Attempt
from tests.engine_cache import ROOT, engine_environment
from tests.faults.cells import Outcome
from tests.soak.faults import all_faults
from tests.soak.judging import LONGEST_S, Asked, wrong_with
from tests.soak.questions import CONTINUED, QUESTIONS, cloud_pieces
from tests.soak.resources import MOST_GROWTH_MIB, Held, leaks

RIGHT = "We open at nine."
PUBLIC, PRIVATE = QUESTIONS[0], QUESTIONS[-1]
CLOUD = cloud_pieces(PUBLIC.request["user"])


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL and SIGSTOP")
def test_a_short_soak_finds_nothing_wrong():
    command = [sys.executable, "-m", "tests.soak", "--seconds", "5", "--warm-up-s", "3", "--every-s", "5"]
    command += ["--strike-s", "1.5", "--stops-for-ever", "0", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, env=engine_environment(), capture_output=True, text=True, timeout=400)
    report = json.loads(done.stdout)
    assert report["violations"] == []
    assert done.returncode == 0
    figures = report["soak"]
    assert figures["asked"] > 10
    assert figures["arrived"]["requests"] > 0
    assert sum(figures["faults"].values()) > 4
    assert sum(figures["strikes"].values()) > 0
    assert len(report["counts"]) == 2


def test_private_questions_say_so_and_public_ones_may_leave():
    assert all("privacy" not in question.request for question in QUESTIONS if question.private)
    assert all(question.request["privacy"] == "public" for question in QUESTIONS if not question.private)
    assert len({question.request["user"] for question in QUESTIONS}) == len(QUESTIONS)
    assert len(set(all_faults())) == len(all_faults())


def outcome(*pieces, served_by="remote", finish="stop", at=None, error=None, took_s=1.0, places=()):
    attempts = [Attempt(place=place, outcome="served", started_s=0.0) for place in places or (served_by,)]
    return Outcome(list(pieces), "", at, finish, error, attempts, served_by, took_s)


ASKED = Asked(PUBLIC)
HASTY = Asked(PUBLIC, deadline_s=0.5)
STOPPED = Asked(PUBLIC, stop_after=2)
LATE = CannotServe("Nobody could answer.", "Ask again.")

RIGHT_ONES = {
    "the cloud's": (ASKED, outcome(*CLOUD)),
    "the device's": (ASKED, outcome(RIGHT, served_by="local")),
    "begun there and ended here": (ASKED, outcome(*CLOUD[:3], " nine.", served_by="local", at=3)),
    "begun there and ended here at its limit": (
        ASKED,
        outcome(*CLOUD[:3], " a" * 90, served_by="local", finish="length", at=3),
    ),
    "begun here and ended there": (ASKED, outcome("We open", CONTINUED, at=1)),
    "stopped by whoever asked": (STOPPED, outcome(*CLOUD[:2], finish=None)),
    "too late, and said so": (HASTY, outcome(finish=None, error=LATE)),
    "broken off at the deadline": (HASTY, outcome(*CLOUD[:2], finish=None, error=DeadlineExceeded("Over.", "Wait."))),
}
WRONG_ONES = {
    "truncated": (ASKED, outcome(*CLOUD[:-1])),
    "a piece is missing": (ASKED, outcome(*CLOUD[:2], *CLOUD[3:])),
    "a piece is there twice": (ASKED, outcome(*CLOUD[:2], *CLOUD[1:])),
    "the device's, truncated": (ASKED, outcome(RIGHT[:-1], served_by="local")),
    "somebody else's": (ASKED, outcome(*cloud_pieces("visitor 5"))),
    "the beginning was not kept": (ASKED, outcome(*CLOUD[1:3], " nine.", served_by="local", at=2)),
    "the beginning is there twice": (ASKED, outcome(*CLOUD[:2], *CLOUD[:2], " nine.", served_by="local", at=4)),
    "no end": (ASKED, outcome(*CLOUD, finish=None)),
    "ended at its limit": (ASKED, outcome(*CLOUD, finish="length")),
    "stopped, and garbled": (STOPPED, outcome(*CLOUD[1:3], finish=None)),
    "nobody answered, without a deadline": (ASKED, outcome(finish=None, error=LATE)),
    "broken off without a deadline": (ASKED, outcome(finish=None, error=StreamInterrupted("Cut.", "Ask again."))),
    "an error of somebody else's": (HASTY, outcome(finish=None, error=OSError())),
    "an end and an error": (HASTY, outcome(*CLOUD, error=LATE)),
    "filtered by nobody": (HASTY, outcome(finish=None, error=ContentFiltered("No.", "Change it."))),
    "too late": (HASTY, outcome(*CLOUD, took_s=30.0)),
    "hung": (ASKED, outcome(*CLOUD, took_s=LONGEST_S + 1)),
    "private, and sent": (Asked(PRIVATE), outcome(RIGHT, served_by="local", places=("remote", "local"))),
}


@pytest.mark.parametrize(("asked", "found"), RIGHT_ONES.values(), ids=RIGHT_ONES.keys())
def test_what_is_right(asked, found):
    assert wrong_with(asked, found, RIGHT) == ""


@pytest.mark.parametrize(("asked", "found"), WRONG_ONES.values(), ids=WRONG_ONES.keys())
def test_what_is_wrong(asked, found):
    assert wrong_with(asked, found, RIGHT) != ""


HELD = Held(threads=("MainThread",), files=20, processes=3, rss_mib=70.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"threads": ("MainThread", "hybridllm-loop")}, "threads"),
        ({"files": 20 + 17}, "files"),
        ({"processes": 4}, "processes"),
        ({"rss_mib": 71.0 + MOST_GROWTH_MIB}, "memory"),
    ],
)
def test_what_has_leaked(change, word):
    assert leaks(HELD, HELD, clients=2) == []
    (found,) = leaks(HELD, replace(HELD, **change), clients=2)
    assert found.startswith(word)
