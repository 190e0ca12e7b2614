"""``hybridllm chat`` with a message: output, JSON, exit codes."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from hybridllm.errors import CannotServe, ContextLengthExceeded, ModelError, PolicyDenied
from hybridllm.testing import ScriptedReply
from hybridllm.types import ChatCompletion
from tests.cli.programs import Program, clean_environment, run_process, write_script


def test_standard_output_has_the_answer_alone_and_the_status_line_goes_to_standard_error():
    result = Program("We open at **nine**.").run("chat", "When do you open?")
    assert result.exit_code == 0
    assert result.stdout == "We open at **nine**.\n"
    assert re.fullmatch(r"Answered by this device, rule \S+, 4 tokens, first after .*\n", result.stderr)


def test_thoughts_do_not_go_into_a_pipe():
    result = Program(ScriptedReply("At nine.", reasoning="Hm. Let me think.")).run("chat", "When do you open?")
    assert result.stdout == "At nine.\n"
    assert result.stderr.startswith("Thinking.\nAnswered by this device, ")
    silent = Program(ScriptedReply("At nine.", reasoning="Hm.")).run("chat", "-q", "When do you open?")
    assert (silent.stdout, silent.stderr) == ("At nine.\n", "")


def test_quiet_leaves_the_status_line_out():
    result = Program("Hi.").run("chat", "-q", "Hello")
    assert (result.stdout, result.stderr) == ("Hi.\n", "")


def test_a_dash_reads_the_message_from_standard_input():
    program = Program("Fine.")
    assert program.run("chat", "-", stdin="How are you?\nReally?\n").exit_code == 0
    assert [message.text for message in program.backend.requests[0].messages] == ["How are you?\nReally?"]


def test_json_is_one_openai_completion_with_its_route_and_nothing_else():
    result = Program("We open at nine.").run("chat", "--json", "When do you open?")
    assert result.exit_code == 0
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert record["object"] == "chat.completion"
    said = {
        "role": "assistant",
        "content": "We open at nine.",
        "refusal": None,
        "reasoning_content": None,
        "tool_calls": None,
    }
    assert record["choices"][0]["message"] == {**said, "privacy": "private"}
    assert record["usage"]["completion_tokens"] == 4
    assert record["route"]["served_by"] == "local"
    assert record["route"]["egress_bytes"] == 0
    assert re.fullmatch(r".+\.yaml:\d+", record["route"]["rule_location"])
    assert ChatCompletion.model_validate(record).route.label == "private"


def test_the_options_reach_the_request(tmp_path):
    sheet = tmp_path / "sheet.md"
    sheet.write_text("Open at nine.\n")
    program = Program("ok")
    result = program.run(
        "chat", "--system", f"@{sheet}", "--temperature", "0.5", "--max-tokens", "7", "--seed", "3", "--privacy", "public",
        "--tag", "faq", "--tag", "health", "--json", "Hello",
    )  # fmt: skip
    request = program.backend.requests[0]
    assert [(message.role, message.text) for message in request.messages] == [
        ("system", "Open at nine."),
        ("user", "Hello"),
    ]
    assert (request.temperature, request.token_limit, request.seed) == (0.5, 7, 3)
    assert json.loads(result.stdout)["route"]["label"] == "private"  # the tag "health" outweighs --privacy


def test_the_options_reach_the_client():
    program = Program("ok")
    program.run(
        "chat", "--model", "m", "--quant", "q4", "--target", "cpu", "--threads", "2", "--context-tokens", "64", "--policy",
        "kiosk", "--offline", "Hello",
    )  # fmt: skip
    options = program.opened[0]
    assert (options.model, options.quant, options.target, options.threads) == ("m", "q4", "cpu", 2)
    assert (options.context_tokens, options.policy, options.offline) == (64, "kiosk", True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ContextLengthExceeded("The prompt is too long.", "Shorten it."), 2),
        (ModelError("There is no model.", "Give one."), 2),
        (PolicyDenied("Only the remote could.", "Relabel it."), 4),
        (CannotServe("Nobody could answer.", "Try later."), 5),
        (ZeroDivisionError("defect"), 1),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_is_one_line_on_standard_error_and_its_exit_code(error, code, as_json, monkeypatch):
    monkeypatch.delenv("HYBRIDLLM_DEBUG", raising=False)

    def refusing(options, on_progress):
        raise error

    program = Program()
    program.open_client = refusing
    result = program.run("chat", "Hello", *(["--json"] if as_json else []))
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("hybridllm: ")
    assert result.stderr.count("\n") == 1
    assert str(error) in result.stderr


@pytest.mark.parametrize(
    ("argv", "stdin", "says"),
    [
        (["chat", "--json"], None, "--json needs a message"),
        (["chat", "  "], None, "The message is empty"),
        (["chat", "-"], "", "Standard input is empty"),
        (["chat", "--system", "@/no/such/file", "x"], None, "/no/such/file cannot be read"),
        (["chat", "--quant", "q5", "x"], None, "'q5' is not one of auto, q4, f16, f32"),
        (["chat", "--temperature", "3", "x"], None, "'--temperature'"),
        (["chat", "--max-tokens", "0", "x"], None, "'--max-tokens'"),
        (["chat", "--policy", "no-such-policy", "x"], None, "no-such-policy"),
        (["chat", "--privacy", "no-such-label", "x"], None, "no-such-label"),
        (["chat", "--remote-url", "nonsense", "--remote-model", "m", "x"], None, "is not a URL"),
        (["chat", "--remote-url", "https://llm.example/v1", "x"], None, "without --remote-model"),
        (["chat", "--no-such-option"], None, "No such option"),
        (["no-such-command"], None, "No such command"),
    ],
)
def test_bad_usage_names_the_thing_and_ends_with_2(argv, stdin, says):
    result = Program().run(*argv, stdin=stdin)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_what_only_a_remote_could_serve_but_may_not_see_is_refused_for_privacy():
    program = Program("never")
    result = program.run(
        "chat", "-", "--remote-url", "https://llm.example/v1", "--remote-model", "m", stdin="a secret " * 600
    )  # fmt: skip
    assert result.exit_code == 4
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    assert program.backend.requests == []


def test_a_configuration_file_with_a_typo_is_3_with_its_line(tmp_path):
    from hybridllm.cli.client_options import open_client

    path = tmp_path / "hybridllm.yaml"
    path.write_text("model: kiosk-assistant\nolicy: kiosk\n")
    program = Program()
    program.open_client = open_client
    result = program.run("chat", "--config", path, "Hello")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"hybridllm: {path}:2:")
    assert "olicy" in result.stderr
    assert program.run("doctor", "--quick", "--config", path).exit_code == 3


def test_options_win_over_the_configuration_file(tmp_path):
    from hybridllm.cli.client_options import ClientOptions, open_client

    path = tmp_path / "hybridllm.yaml"
    path.write_text("policy: kiosk\nremote:\n  base_url: https://llm.example/v1\n  model: m\n")
    with open_client(ClientOptions(config=str(path), policy="cloud-assist", offline=True), None) as client:
        assert client.policy.name == "cloud-assist"
        assert client.remote.model == "m"
        assert client.offline


def test_an_answer_cut_at_the_limit_says_so():
    result = Program("one two three four").run("chat", "--max-tokens", "2", "count")
    assert result.stdout == "one two\n"
    assert "cut at the token limit" in result.stderr


def test_an_error_in_the_middle_keeps_what_came_and_ends_the_line():
    result = Program(ScriptedReply("one two three", error=ModelError("broke"), fail_after=2)).run("chat", "x")
    assert result.stdout == "one two\n"
    assert result.exit_code != 0
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_is_quiet(tmp_path):
    command = write_script(tmp_path / "s.json", [{"text": "word " * 4000, "token_s": 0.001}])
    process = subprocess.Popen(
        [*command, "chat", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
    )
    assert process.stdout.read(4) == b"word"
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 141
    assert errors == b""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to another process")
def test_ctrl_c_ends_a_single_answer_with_130(tmp_path):
    command = write_script(tmp_path / "s.json", [{"text": "word " * 4000, "token_s": 0.01}])
    process = subprocess.Popen(
        [*command, "chat", "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment()
    )
    assert process.stdout.read(4) == b"word"
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began_s < 20  # the whole answer takes 40 s
    assert rest.endswith(b"\n")
    assert errors == b"hybridllm: interrupted\n"


def test_a_real_process_gives_json_to_a_pipe(tmp_path):
    done = run_process([*write_script(tmp_path / "s.json", ["Hello."]), "chat", "--json", "Hi"])
    assert done.returncode == 0
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "Hello."
