"""Words for the way an answer came."""

from hybridllm.cli.route_report import place_words, status_line, why_lines
from hybridllm.types.route import Attempt, Route


def route(**changes):
    fields = {
        "served_by": "local",
        "rule": "slow-here",
        "rule_location": "kiosk.yaml:17",
        "reason": "The remote did not answer.",
        "label": "public",
        "policy": "kiosk",
        "policy_hash": "0" * 64,
        "attempts": [
            Attempt(
                place="remote",
                outcome="failed",
                error="RemoteUnreachable: refused",
                started_s=0,
                duration_s=1.5,
                tries=3,
            ),
            Attempt(place="local", outcome="served", started_s=1.5, duration_s=0.25),
        ],
        "egress_bytes": 412,
        "ttft_ms": 1730.4,
        "tokens_per_s": 118.26,
    }
    return Route(**{**fields, **changes})


def test_the_status_line_says_who_by_which_rule_and_how_fast():
    assert status_line(route(), completion_tokens=12, finish_reason="stop") == (
        "Answered by this device, rule slow-here, 12 tokens, first after 1.7 s, 118 tokens/s"
    )


def test_the_status_line_leaves_out_what_is_unknown_and_says_that_an_answer_was_cut():
    line = status_line(route(ttft_ms=None, tokens_per_s=None), finish_reason="length")
    assert line == "Answered by this device, rule slow-here, cut at the token limit"


def test_a_remote_is_called_by_its_name():
    assert place_words("remote") == "the remote"
    assert place_words("site-server") == "the remote 'site-server'"


def test_why_gives_rule_file_line_attempts_and_what_left_the_device():
    lines = why_lines(route())
    assert "Rule:        slow-here (kiosk.yaml:17)" in lines
    assert "Attempt 1:   the remote: failed after 1.5 s, 3 tries (RemoteUnreachable: refused)" in lines
    assert "Attempt 2:   this device: served after 250 ms" in lines
    assert lines[-1] == "Left device: 412 bytes"
    assert why_lines(route(egress_bytes=0))[-1] == "Left device: nothing"
