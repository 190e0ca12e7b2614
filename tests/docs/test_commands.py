"""Every command that is shown exists with its options; those that are cheap are run."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hybridllm.cli.app import Services, app
from hybridllm.cli.client_options import open_client
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.main import main  # noqa: F401 - registers the commands
from hybridllm.cli.slash import COMMANDS
from tests.docs.pages import EXAMPLE_URL, PAGES, all_blocks, code_spans, name_of, page_named, prose_of
from tests.engine_cache import ROOT

_PROGRAM = typer.main.get_command(app)
_MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def shown_lines():
    """Every command line of a shell block, as words."""
    for block in all_blocks("sh"):
        for number, line in enumerate(block.text.splitlines(), start=block.line):
            words = shlex.split(line, comments=True)
            if words:
                yield pytest.param(words, id=f"{block.page}:{number}")


def shown_spans(first_word):
    """Every command in running text, as words, without the marks for what may be left out."""
    for page in PAGES:
        for span in code_spans(page):
            if span.startswith(first_word + " ") and "…" not in span.split()[1]:
                command = re.split(r" [>|] ", span)[0]
                yield pytest.param(shlex.split(re.sub(r"[][]|\.\.\.", "", command)), id=f"{name_of(page)}: {span}")


def check_arguments(arguments):
    """Fail unless the command line understands these; runs nothing."""
    command, path = _PROGRAM, "hybridllm"
    while arguments and arguments[0] in getattr(command, "commands", {}):
        path, command = f"{path} {arguments[0]}", command.commands[arguments[0]]
        arguments = arguments[1:]
    if hasattr(command, "commands"):
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        assert not set(arguments) - options, f"{path} knows no {arguments}"
    elif "--help" not in arguments:
        command.make_context(path, list(arguments))


@pytest.mark.parametrize("words", list(shown_lines()))
def test_a_line_of_a_shell_block_is_a_command_that_exists(words):
    if words[0] == "hybridllm":
        check_arguments(words[1:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", _MAKEFILE, re.MULTILINE)
    elif words[1:3] == ["-m", "benchmarks"]:
        assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in words[3:])
    else:
        assert words == ["pip", "install", "."] or words[0] == "export", words


@pytest.mark.parametrize("words", list(shown_spans("hybridllm")))
def test_a_command_in_running_text_exists(words):
    check_arguments([{"COMMAND": "chat"}.get(word, word) for word in words[1:]])


@pytest.mark.parametrize("words", list(shown_spans("make")))
def test_a_make_target_in_running_text_exists(words):
    assert re.search(rf"^{words[1]}:", _MAKEFILE, re.MULTILINE)


def cheap_lines():
    """Lines that take a moment, need no other model, and end by themselves."""
    for shown in shown_lines():
        (words,) = shown.values
        quick = words[:2] in (["hybridllm", "models"], ["hybridllm", "policy"]) or "--quick" in words
        asks_once = words[:2] == ["hybridllm", "chat"] and not words[-1].startswith(("-", "@"))
        if (quick or asks_once) and not any(word.startswith("~") for word in words):
            yield shown


@pytest.mark.parametrize("words", list(cheap_lines()))
def test_a_cheap_command_does_what_it_should(words, desk, server_url):
    arguments = [server_url if word == EXAMPLE_URL else word for word in words[1:]]
    done = CliRunner().invoke(app, arguments, obj=Services(open_client))
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()
    if "--privacy" in words and words[1] == "chat":
        assert done.stdout.strip() == "From afar."


def test_policy_check_prints_the_finding_and_ends_with_2(desk):
    done = CliRunner().invoke(app, ["policy", "check", "broken.yaml"], obj=Services(open_client))
    assert done.exit_code == 2
    assert done.stdout.strip() in page_named("policies.md").read_text(encoding="utf-8")


def test_the_exit_codes_and_the_chats_commands_are_those_of_the_program():
    page = prose_of(page_named("cli.md"))
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {code.value for code in ExitCode}
    assert set(COMMANDS) <= set(re.findall(r"`/(\w+)", page))


def test_the_readme_starts_with_the_two_commands():
    first = next(block for block in all_blocks("sh") if block.page == "README.md")
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == ["make demo", "make test"]
    assert Path(ROOT / "docs" / "images" / "chat.svg").is_file()
