"""What may be written where."""

import io

import pytest

from hybridllm.cli.progress import LoadProgress
from hybridllm.cli.terminal import Terminal, printable, wrapped
from local_runtime.options import Progress


class FakeTty(io.StringIO):
    def isatty(self):
        return True


def take_streams(monkeypatch):
    """Terminals as standard output and error; not a fixture, since pytest puts its own streams in before the test."""
    monkeypatch.delenv("HYBRIDLLM_PLAIN", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    out, err = FakeTty(), FakeTty()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    return out, err


def test_control_characters_do_not_reach_a_terminal(monkeypatch):
    out, _err = take_streams(monkeypatch)
    Terminal().write("a\x1b]0;title\x07b\x9b2Jc\td\n")
    assert out.getvalue() == "a]0;titleb2Jc\td\n"
    assert printable("\x7f\x00ok") == "ok"


def test_a_pipe_gets_the_answer_as_it_is(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stdout", pipe)
    Terminal().write("a\x1b[0mb")
    assert pipe.getvalue() == "a\x1b[0mb"


@pytest.mark.parametrize(
    ("plain", "environment"),
    [(True, {}), (False, {"HYBRIDLLM_PLAIN": "1"}), (False, {"TERM": "dumb"})],
)
def test_plain_mode_writes_neither_colours_nor_escapes(monkeypatch, plain, environment):
    out, err = take_streams(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal(plain=plain)
    assert not terminal.fancy
    assert not terminal.fancy_progress
    terminal.line("fine", "green")
    terminal.note("note")
    terminal.error("bad")
    with LoadProgress(terminal) as progress:
        progress(Progress("compile", 0.5, "x"))
    assert out.getvalue() == "fine\n"
    assert err.getvalue() == "note\nhybridllm: bad\nCompiling for this device...\n"


def test_a_terminal_gets_colours_unless_no_color_is_set(monkeypatch):
    _out, err = take_streams(monkeypatch)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Terminal().error("bad")
    assert "\x1b[31m" in err.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    err.truncate(0)
    Terminal().error("bad")
    assert "\x1b[3" not in err.getvalue()
    assert err.getvalue().endswith("hybridllm: bad\n")


def test_quiet_leaves_notices_out_but_not_errors(monkeypatch):
    _out, err = take_streams(monkeypatch)
    terminal = Terminal(plain=True, quiet=True)
    terminal.note("note")
    terminal.error("bad")
    assert err.getvalue() == "hybridllm: bad\n"


def test_progress_in_lines_says_the_slow_steps_and_each_quarter(monkeypatch):
    _out, err = take_streams(monkeypatch)
    with LoadProgress(Terminal(plain=True)) as progress:
        progress(Progress("resolve"))
        for step in range(11):
            progress(Progress("convert", step / 10, "tensor"))
        progress(Progress("load"))
        progress(Progress("ready"))
    assert err.getvalue().splitlines() == [
        "Converting the weights...",
        "Converting the weights: 30%",
        "Converting the weights: 50%",
        "Converting the weights: 80%",
        "Converting the weights: 100%",
    ]


def test_progress_after_its_end_is_not_shown(monkeypatch):
    _out, err = take_streams(monkeypatch)
    with LoadProgress(Terminal(plain=True)) as progress:
        pass
    progress(Progress("compile", 0.1))
    assert err.getvalue() == ""


def test_progress_on_a_terminal_draws_a_bar_and_takes_it_away(monkeypatch):
    _out, err = take_streams(monkeypatch)
    with LoadProgress(Terminal()) as progress:
        progress(Progress("compile", 0.5, "kernels"))
    drawn = err.getvalue()
    assert "Compiling for this device" in drawn
    assert drawn.endswith(("\x1b[2K", "\x1b[?25h")) or "\x1b[2K" in drawn


def test_lines_are_broken_between_words_and_long_words_stay_whole():
    assert wrapped("Answered by this device, rule default", 12) == "Answered by\nthis device,\nrule default"
    assert wrapped("see /a/very/long/path now", 8) == "see\n/a/very/long/path\nnow"
    assert wrapped("Rule:   x", 80) == "Rule:   x"
    assert wrapped("你好 世界", 5) == "你好\n世界"
    assert wrapped("", 5) == ""
