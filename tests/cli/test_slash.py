"""How a typed line is read."""

import pytest

from hybridllm.cli.repl import Repl
from hybridllm.cli.slash import COMMANDS, SlashCommand, UnknownCommandError, help_lines, parse_line


def test_text_without_a_slash_is_a_message_without_the_space_around_it():
    assert parse_line("  When do you open?\n") == "When do you open?"


def test_a_command_is_split_into_name_and_argument():
    assert parse_line("/system You are kind.") == SlashCommand("system", "You are kind.")
    assert parse_line(" /WHY ") == SlashCommand("why", "")


def test_an_argument_may_go_on_over_lines():
    assert parse_line("/system one\ntwo") == SlashCommand("system", "one\ntwo")


@pytest.mark.parametrize(("typed", "name"), [("/quit", "exit"), ("/?", "help")])
def test_aliases(typed, name):
    assert parse_line(typed) == SlashCommand(name, "")


def test_two_slashes_send_a_message_that_begins_with_one():
    assert parse_line("//etc/hosts is a file") == "/etc/hosts is a file"


def test_an_unknown_command_suggests_the_one_that_was_meant():
    with pytest.raises(UnknownCommandError, match=r"no command /stat\. Did you mean /stats\?"):
        parse_line("/stat")
    with pytest.raises(UnknownCommandError, match=r"/help lists the commands"):
        parse_line("/zzzzzz")


def test_the_help_names_every_command_once():
    lines = help_lines()
    for name in COMMANDS:
        assert sum(line.startswith((f"/{name} ", f"/{name}  ")) for line in lines) == 1


class _NoSession:
    terminal = None


def test_every_command_has_a_handler():
    repl = Repl(_NoSession(), reader=None)
    assert set(repl.command_names) == set(COMMANDS)
