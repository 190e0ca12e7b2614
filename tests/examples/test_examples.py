"""The examples as a person runs them: in a process of their own, on the real engine, with a real server on loopback."""

import json
import re
import socket
import subprocess
import time

import pytest

from tests.engine_cache import ROOT, engine_environment, program
from tests.examples.openai_server import OpenAIServer

EXAMPLES = ROOT / "examples"


def run(name, *arguments, stdin="", **environment):
    return subprocess.run(
        program(EXAMPLES / name, *arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=180,
        cwd=ROOT,
        env=engine_environment(**environment),
        check=False,
    )


def test_the_terminal_assistant_answers_one_question_on_this_device():
    done = run("terminal_assistant.py", "--ask", "When do you open on Sunday?")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert re.search(r"\(answered by local, rule \S+, \d+ tokens/s\)\n$", done.stderr)


def test_the_terminal_assistant_holds_a_conversation():
    done = run(
        "terminal_assistant.py",
        "--sheet",
        EXAMPLES / "fact_sheets" / "clinic.md",
        stdin="Hello\n\nWho is the eye doctor?\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("(answered by local, rule ") == 2


def test_a_sheet_that_is_missing_is_said():
    done = run("terminal_assistant.py", "--sheet", "no-such-sheet.md", "--ask", "Hello")
    assert done.returncode == 2
    assert done.stderr.startswith("The sheet no-such-sheet.md cannot be read: ")
    assert done.stdout == ""


def test_a_sheet_that_is_missing_is_said_by_the_kiosk_too():
    done = run("kiosk_loop.py", "--sheet", "no-such-sheet.md", "Hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("The sheet no-such-sheet.md cannot be read: ")


def test_a_question_that_nobody_may_answer_does_not_end_the_kiosk():
    with socket.create_server(("127.0.0.1", 0)) as server:  # a remote that could take it, if it were allowed to
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        done = run("kiosk_loop.py", "--remote-url", url, "private: " + "word " * 3000, "private: When do you open?")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("[not answered] ")
    assert second.startswith("[local, ")


def test_a_question_that_is_too_long_does_not_end_the_terminal_assistant():
    done = run("terminal_assistant.py", stdin="word " * 3000 + "\nHello\n")
    assert done.returncode == 0, done.stderr
    assert "(not answered) " in done.stderr
    assert "(answered by local, rule " in done.stderr


@pytest.mark.parametrize(
    ("order", "zone", "said"),
    [("[public, private]", "cloud", "internal"), ("[public, internal, private]", "site", "cloud")],
)
def test_a_policy_without_what_the_example_asks_for_is_said_in_one_line(tmp_path, order, zone, said):
    policy = tmp_path / "own.yaml"
    policy.write_text(
        f"version: 1\nname: own\nlabels: {{order: {order}, unlabeled: private, tags: {{faq: public}}}}\n"
        f"zones: {{{zone}: public}}\ndefault: [local, remote]\n"
    )
    done = run("policy_from_yaml.py", "--policy", policy)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr


def test_a_model_that_is_missing_is_said():
    done = run("terminal_assistant.py", "--model", "no-such-model", "--ask", "Hello")
    assert done.returncode == 1
    assert "no-such-model" in done.stderr
    assert "Traceback" not in done.stderr


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class KioskProcess:
    """``kiosk_loop.py`` with standard input and output as pipes."""

    def __init__(self, *arguments):
        self._process = subprocess.Popen(
            program("-u", EXAMPLES / "kiosk_loop.py", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=engine_environment(),
        )

    def ask(self, question):
        """Ask; return which way the answer came and its text."""
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        way = re.match(r"\[([^\]]*)\] (.*)", line)
        assert way, f"{line!r} {self._process.stderr.read() if self._process.poll() is not None else ''}"
        return way[1], way[2]

    def ask_until(self, question, served_by, *, timeout_s=20):
        """Ask again and again until somebody else answers: what is known of the network is a few seconds old."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            way, text = self.ask(question)
            if way.startswith(served_by):
                return way, text
            time.sleep(0.5)
        raise AssertionError(f"{served_by} did not answer within {timeout_s} s; at last {way!r} did")

    def finish(self):
        """End its input; return its exit code."""
        self._process.stdin.close()
        code = self._process.wait(timeout=30)
        self._process.stdout.close()
        self._process.stderr.close()
        return code

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def test_the_kiosk_starts_offline_uses_the_remote_while_it_is_there_and_goes_on():
    port = free_port()
    kiosk = KioskProcess("--remote-url", f"http://127.0.0.1:{port}/v1", "--remote-model", "large")
    try:
        way, text = kiosk.ask("When do you open?")
        assert way.startswith("local, ")
        assert text
        with OpenAIServer(port, "From afar.") as server:
            way, text = kiosk.ask_until("When do you open?", "remote")
            assert text == "From afar."
            asked = len(server.bodies)
            assert server.bodies[-1]["messages"][-1] == {"role": "user", "content": "When do you open?"}
            way, _ = kiosk.ask("private: My name is Ingrid and I have a cold.")
            assert way.startswith("local, ")
            assert len(server.bodies) == asked
            assert "Ingrid and I" not in json.dumps(server.bodies)
        way, text = kiosk.ask("When do you close?")
        assert way == "local, default after remote failed"
        assert text
        assert kiosk.ask("And on Monday?")[0] == "local, no-network"
        assert kiosk.finish() == 0
    finally:
        kiosk.kill()


def test_the_kiosk_answers_questions_from_its_arguments_without_any_remote():
    done = run("kiosk_loop.py", "Where is the café?", "How much is a ticket?")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\[local, default\] ", done.stdout, re.MULTILINE)) == 2


def test_a_url_that_is_none_is_said():
    done = run("kiosk_loop.py", "--remote-url", "nonsense", "Hello")
    assert done.returncode == 1
    assert "remote.base_url is not a URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_policy_example_shows_where_each_request_would_go():
    done = run("policy_from_yaml.py")
    assert done.returncode == 0, done.stderr
    blocks = re.split(r"^(?=\S)", done.stdout, flags=re.MULTILINE)[1:]
    assert [block.splitlines()[1].strip() for block in blocks] == [
        "label public: remote then local",
        "label private: local",
        "label internal: local",
        "label private: local",
    ]
    assert re.search(r"rule questions-everybody-asks \(.*policy_from_yaml\.yaml:\d+\)", blocks[0])


@pytest.mark.parametrize("text", ["version: 2\n", "version: 1\nname: x\nrules: [\n"])
def test_a_policy_that_is_not_understood_is_said_with_its_line(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    done = run("policy_from_yaml.py", "--policy", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{path}:")
    assert "Traceback" not in done.stderr
