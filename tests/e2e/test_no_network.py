"""With no network at all, not even loopback routes, the whole way from the client to the compiled model works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.engine_cache import ROOT, engine_environment, program

TIMEOUT_S = 300
# RFC 5737 keeps this address, and RFC 2606 this name, for examples: nobody answers there.
REMOTES = ("https://192.0.2.1/v1", "https://llm.example.invalid/v1")
PRESETS = ("offline-first", "kiosk", "cloud-assist")


def namespace_command() -> list[str] | None:
    """A prefix that runs a command in a network namespace without routes, or None where the system does not allow one."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    prefix = [unshare, "--map-root-user", "--net"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else None


PREFIX = namespace_command()
pytestmark = pytest.mark.skipif(
    PREFIX is None, reason="this system does not let us make a network namespace (unshare --net)"
)


def run_inside(*arguments: object, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in the namespace."""
    assert PREFIX is not None
    return subprocess.run(
        [*PREFIX, *program(*arguments)],
        input=given,
        capture_output=True,
        text=True,
        env=engine_environment(),
        cwd=ROOT,
        timeout=TIMEOUT_S,
        check=False,
    )


def hybridllm(*arguments: object, given: str = "") -> str:
    """What the command line prints in the namespace."""
    done = run_inside("-m", "hybridllm", *arguments, given=given)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_namespace_really_has_no_network() -> None:
    probe = "import socket; socket.create_connection((%r, 9), timeout=2)"
    for address in ("127.0.0.1", "192.0.2.1"):
        assert "Network is unreachable" in run_inside("-c", probe % address).stderr
    name = run_inside("-c", "import socket; socket.getaddrinfo('llm.example.invalid', 443)")
    assert "gaierror" in name.stderr
    # The same probe outside: there is a loopback here, and nobody listens at this port, or somebody does.
    outside = subprocess.run([sys.executable, "-c", probe % "127.0.0.1"], capture_output=True, text=True, check=False)
    assert "unreachable" not in outside.stderr


def test_a_client_without_network_answers() -> None:
    source = """
import json
from hybridllm import HybridClient
with HybridClient() as client:
    reply = client.chat.completions.create(
        messages=[{"role": "system", "content": "Ticket price: 7 euros."}, {"role": "user", "content": "What is a ticket?"}],
        temperature=0, max_tokens=40)
    print(json.dumps({"text": reply.choices[0].message.content, "by": reply.route.served_by, "rule": reply.route.rule}))
"""
    done = run_inside("-c", source)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert reply["by"] == "local"
    assert reply["text"].strip()


def test_the_command_line_without_network_answers() -> None:
    assert hybridllm("chat", "--temperature", 0, "--max-tokens", 30, "Hello!").strip()


def requests_with(presets: tuple[str, ...], remotes: tuple[str, ...]) -> list[dict[str, Any]]:
    """A private and a public request, whole and streamed, under each preset with each remote configured."""
    source = f"""
import json
from hybridllm import HybridClient, Remote
ASK = {{"messages": [{{"role": "user", "content": "Hello!"}}], "temperature": 0, "max_tokens": 6}}
for policy in {presets!r}:
    for url in {remotes!r}:
        remote = Remote(base_url=url, model="large", connect_timeout_s=0.5, max_retries=1)
        with HybridClient(remote=remote, policy=policy) as client:
            for privacy in (None, "private", "public"):
                reply = client.chat.completions.create(**ASK, privacy=privacy)
                with client.chat.completions.create(**ASK, privacy=privacy, stream=True) as stream:
                    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
                for text, route in ((reply.choices[0].message.content, reply.route), ("".join(pieces), stream.route)):
                    print(json.dumps({{"policy": policy, "url": url, "privacy": privacy, "text": text, **route.model_dump()}}))
"""
    done = run_inside("-c", source)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_the_device_answered(answers: list[dict[str, Any]], expected: int) -> None:
    assert len(answers) == expected
    for answer in answers:
        assert answer["served_by"] == "local"
        assert answer["text"].strip()
        assert answer["egress_bytes"] == 0
        assert answer["label"] == (answer["privacy"] or "private")
        if answer["privacy"] != "public":
            assert [attempt["place"] for attempt in answer["attempts"]] == ["local"]
    # The whole answer and the streamed one are the same text, wherever nothing but the device was asked.
    assert all(whole["text"] == streamed["text"] for whole, streamed in zip(answers[::2], answers[1::2], strict=True))


def test_a_remote_that_nobody_reaches_leaves_the_answer_to_the_device() -> None:
    answers = requests_with(("cloud-assist",), REMOTES[:1])
    assert_the_device_answered(answers, 6)


@pytest.mark.slow
def test_every_preset_with_every_remote() -> None:
    answers = requests_with(PRESETS, REMOTES)
    assert_the_device_answered(answers, len(PRESETS) * len(REMOTES) * 6)


def test_a_conversation_over_a_pipe() -> None:
    said = hybridllm("chat", "--temperature", 0, "--max-tokens", 20, given="Hello!\nWho are you?\n/stats\n/exit\n")
    assert "2 by this device" in said
    assert "Left device:    0 bytes" in said


@pytest.mark.slow
def test_the_doctor_finds_that_this_device_can_answer() -> None:
    report = json.loads(hybridllm("doctor", "--json"))
    assert report["can_serve"]
    assert {finding["status"] for finding in report["findings"]} <= {"fine", "warning"}


def test_a_policy_explains_itself() -> None:
    arguments = ("policy", "explain", "Hello", "--policy", "cloud-assist", "--json")
    decision = json.loads(hybridllm(*arguments))["decision"]
    assert decision["label"] == "private"
    assert decision["candidates"] == ["local"]
