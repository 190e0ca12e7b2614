"""With no network at all, not even loopback routes, the whole way from the client to the compiled model works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def namespace_command() -> list[str] | None:
    """A prefix that runs a command in a network namespace without routes, or None where the system does not allow one."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    prefix = [unshare, "--map-root-user", "--net"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else None


PREFIX = namespace_command()
needs_namespace = pytest.mark.skipif(
    PREFIX is None, reason="this system does not let us make a network namespace (unshare --net)"
)


@needs_namespace
def test_the_namespace_really_has_no_network() -> None:
    assert PREFIX is not None
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=2)"
    result = subprocess.run([*PREFIX, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "Network is unreachable" in result.stderr


@needs_namespace
def test_a_client_without_network_answers() -> None:
    assert PREFIX is not None
    program = """
import json
from hybridllm import HybridClient
with HybridClient() as client:
    reply = client.chat.completions.create(
        messages=[{"role": "system", "content": "Ticket price: 7 euros."}, {"role": "user", "content": "What is a ticket?"}],
        temperature=0, max_tokens=40)
    print(json.dumps({"text": reply.choices[0].message.content, "by": reply.route.served_by, "rule": reply.route.rule}))
"""
    result = subprocess.run(
        [*PREFIX, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    reply = json.loads(result.stdout)
    assert reply["by"] == "local"
    assert reply["text"].strip()


@needs_namespace
def test_the_command_line_without_network_answers() -> None:
    assert PREFIX is not None
    result = subprocess.run(
        [*PREFIX, sys.executable, "-m", "hybridllm", "chat", "--temperature", "0", "--max-tokens", "30", "Hello!"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
