"""The server's life as a process: what it prints, its signals and exit statuses, draining, reloading, and what systemd is told."""

import contextlib
import http.client
import json
import signal
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hybridllm.cli.app import Services, app
from hybridllm.cli.client_options import open_client
from hybridllm.cli.exit_codes import ExitCode
from hybridllm.cli.main import main  # noqa: F401 - registers the commands
from tests.cli.programs import run_process
from tests.server.live_server import KEY, QUESTION, request, until
from tests.server.server_process import ServerProcess, ServiceManager, scripted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals to another process")

POLICY = """version: 1
name: {name}
labels: {{order: [public, private], unlabeled: private}}
zones: {{cloud: public}}
rules: []
default: [local]
"""
SLOW = {"text": "One two", "first_token_s": 0.2, "token_s": 2.5}
HELD = {"text": "One two", "token_s": 3600}


@contextlib.contextmanager
def open_stream(server):
    """A stream of which the first piece has come."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        body = json.dumps({"messages": QUESTION, "stream": True})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        with contextlib.closing(connection.getresponse()) as response:
            assert response.readline().startswith(b"data: ")
            yield response


def test_it_says_where_it_listens_answers_and_ends_with_0(tmp_path):
    with ServerProcess(scripted(tmp_path)) as server:
        assert server.listening()[3] == "offline-first"
        assert server.ask().json["choices"][0]["message"]["content"] == "At nine."
        assert server.get("/readyz").json == {"ready": True}
        metrics = server.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b'hybridllm_requests_total{outcome="' in metrics.body
        assert b'hybridllm_http_requests_total{route="/v1/chat/completions",status="200"} 1.0' in metrics.body
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
    assert len(server.out) == 1
    paths = [json.loads(line)["path"] for line in server.errors]
    assert paths == ["/v1/chat/completions", "/readyz", "/metrics"]


def test_an_answer_under_way_becomes_whole_and_nothing_new_is_taken(tmp_path):
    with ServerProcess(scripted(tmp_path, [SLOW]), "--no-access-log") as server:
        server.listening()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as kept:
            kept.request("GET", "/readyz")
            assert json.loads(kept.getresponse().read()) == {"ready": True}
            with open_stream(server) as response:
                server.process.send_signal(signal.SIGTERM)
                until(server.refuses, "the end of accepting")
                kept.request("GET", "/readyz")
                reply = kept.getresponse()
                assert (reply.status, json.loads(reply.read())["reason"]) == (503, "The server is ending.")
                assert response.read().endswith(b"data: [DONE]\n\n")
        assert server.ended() == 0
    assert server.errors == []


def test_what_is_not_whole_in_time_is_ended_and_told_so(tmp_path):
    with ServerProcess(scripted(tmp_path, [HELD]), "--drain-s", "0.3", "--no-access-log") as server:
        server.listening()
        with open_stream(server) as response:
            server.process.send_signal(signal.SIGTERM)
            rest = response.read()
        assert server.ended() == 0
    assert b'"code": "stopping"' in rest
    assert b"[DONE]" not in rest
    assert server.errors == ["WARNING hybridllm.server: Answers that were not whole after 0.3 s were ended.\n"]


@pytest.mark.parametrize(
    ("second", "status"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)]
)
def test_a_second_signal_ends_it_at_once(tmp_path, second, status):
    with ServerProcess(scripted(tmp_path, [HELD]), "--drain-s", "3600") as server:
        server.listening()
        with open_stream(server) as response:
            server.process.send_signal(signal.SIGINT)
            until(server.refuses, "the end of accepting")
            assert server.process.poll() is None
            server.process.send_signal(second)
            assert b"stopping" in response.read()
        assert server.ended() == status


def test_ctrl_c_while_it_loads(tmp_path):
    with ServerProcess(scripted(tmp_path, start_s=3600)) as server:
        until(lambda: server.process.poll() is not None or _signals_are_its_own(server), "the start")
        server.process.send_signal(signal.SIGINT)
        assert server.ended() == 0
    assert server.out == []
    assert server.errors == []


def _signals_are_its_own(server):
    """Whether the process handles SIGHUP, which nobody but the server does."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (signal.SIGHUP - 1) & 1


if not sys.platform.startswith("linux"):
    test_ctrl_c_while_it_loads = pytest.mark.skip(reason="reads /proc")(test_ctrl_c_while_it_loads)


def test_sighup_reads_the_policy_and_the_keys_again(tmp_path):
    policy, keys = tmp_path / "policy.yaml", tmp_path / "keys"
    policy.write_text(POLICY.format(name="first"), encoding="utf-8")
    keys.write_text(KEY, encoding="utf-8")
    keys.chmod(0o600)
    arguments = ("--policy", str(policy), "--api-key-file", str(keys))
    with ServerProcess(scripted(tmp_path), *arguments) as server:
        assert server.listening()[3] == "first"

        def asked(key):
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            body = json.dumps({"messages": QUESTION}).encode()
            return request(server.port, "POST", "/v1/chat/completions", body, headers)

        assert asked(KEY).json["route"]["policy"] == "first"
        policy.write_text(POLICY.format(name="second"), encoding="utf-8")
        keys.write_text("a-new-key-of-the-tests", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.says("The policy second is in force."), "the new policy")
        assert asked(KEY).status == 401
        assert asked("a-new-key-of-the-tests").json["route"]["policy"] == "second"
        policy.write_text("version: 1\nname: [", encoding="utf-8")
        keys.write_text("", encoding="utf-8")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.says("Nothing leaves this device: "), "the refusal")
        assert server.says("The API keys were not read again: ")
        assert asked("a-new-key-of-the-tests").status == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    if not hasattr(socket, "AF_UNIX") or (request.param == "abstract" and not sys.platform.startswith("linux")):
        pytest.skip("has no such sockets")
    address = (
        f"@hybridllm-test-{tmp_path.name}-{id(tmp_path)}" if request.param == "abstract" else str(tmp_path / "notify")
    )
    with ServiceManager(address) as opened:
        opened.address = address
        yield opened


def test_systemd_is_told_what_happens(tmp_path, manager):
    variables = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    with ServerProcess(scripted(tmp_path, start_s=0.3), **variables) as server:
        server.listening()
        until(lambda: len(manager.heard("WATCHDOG=1")) >= 3, "the watchdog's food")
        assert manager.messages[0] == f"READY=1\nSTATUS=Listening on {server.url}, policy offline-first"
        server.process.send_signal(signal.SIGHUP)
        until(lambda: len(manager.heard("READY=1")) == 2, "the reload's end")
        (reloading,) = manager.heard("RELOADING=1")
        assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert int(reloading.rpartition("=")[2]) > 0
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == 0
        until(lambda: manager.heard("STOPPING=1"), "the farewell")
    assert manager.messages.index(reloading) < manager.messages.index("STOPPING=1")


def test_a_port_that_is_taken_is_one_sentence_and_ends_with_2(tmp_path):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = run_process([*scripted(tmp_path), "serve", "--port", port])
    assert done.returncode == ExitCode.USAGE
    assert done.stdout == ""
    assert done.stderr.startswith(f"hybridllm: 127.0.0.1:{port} cannot be listened on: ")
    assert "in use" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "status"), [("ModelError", ExitCode.USAGE), ("EngineError", ExitCode.CANNOT_SERVE)])
def test_a_model_that_cannot_be_loaded_ends_it(tmp_path, name, status):
    done = run_process(
        [*scripted(tmp_path, start_error=[name, "It is damaged."], start_s=0.01), "serve", "--port", "0"]
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "hybridllm: It is damaged.\n")


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["--host", "0.0.0.0"], ExitCode.USAGE, "no API key is set"),
        (["--api-key-env", "NO_SUCH_KEY"], ExitCode.USAGE, "NO_SUCH_KEY holds no API key"),
        (["--host", "no.such.host.invalid", "--api-key-env", "THE_KEY"], ExitCode.USAGE, "cannot be listened on"),
        (["--policy", "none.yaml"], ExitCode.USAGE, "none.yaml"),
        (["--config", "none.yaml"], ExitCode.CONFIG, "none.yaml"),
        (["--remote-model", "large"], ExitCode.USAGE, "--remote-url"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence(monkeypatch, argv, status, says):
    monkeypatch.setenv("THE_KEY", KEY)
    done = CliRunner().invoke(app, ["serve", "--port", "0", *argv], obj=Services(open_client))
    assert done.exit_code == status, done.stderr
    assert done.stdout == ""
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_it_says_how_to_install_it():
    hidden = "import sys; sys.modules['uvicorn'] = None; from hybridllm.cli.main import main; main(['serve'])"
    done = run_process([sys.executable, "-c", hidden])
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert done.stderr == (
        "hybridllm: The server needs packages that are not installed. Install them: pip install 'hybridllm[server]'.\n"
    )


def test_a_key_that_others_can_read_is_said(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(KEY, encoding="utf-8")
    keys.chmod(0o644)
    with ServerProcess(scripted(tmp_path), "--api-key-file", str(keys)) as server:
        server.listening()
    assert server.says(f"Other users of this machine can read {keys}.")
