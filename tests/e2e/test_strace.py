"""The kernel's word for it: under strace, local mode makes no connect beyond loopback and looks no name up.

Everything that a process and its children ask of the network passes by, whatever library they ask through. The same log of a
request that may leave has to show where it goes, or else silence would prove nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.strace_log import NetworkLog, read_log
from tests.e2e.test_no_network import PREFIX
from tests.engine_cache import ROOT, engine_environment, program

STRACE = shutil.which("strace")
OPTIONS = ["-f", "-qq", "-v", "-s", "0", "-e", "trace=network,io_uring_setup"]
TIMEOUT_S = 300
# RFC 5737 keeps this address, and RFC 2606 this name, for examples: nobody answers there.
REMOTE_ADDRESS = "192.0.2.1"
REMOTE_URL = f"https://{REMOTE_ADDRESS}/v1"
REMOTE_NAME_URL = "https://llm.example.invalid/v1"
PRESETS = ("offline-first", "kiosk", "cloud-assist")


def reason_against_strace() -> str:
    """Why nothing can be traced here; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "strace runs on Linux only"
    if STRACE is None:
        return "strace is not installed"
    tried = subprocess.run([STRACE, *OPTIONS, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[:200]}"


pytestmark = pytest.mark.skipif(bool(REASON := reason_against_strace()), reason=REASON or "traced")


def traced(
    folder: Path, command: list[str], *, given: str = "", prefix: list[str] | None = None, **environment: str
) -> tuple[NetworkLog, str]:
    """Run a command to its end under strace; gives what it did to the network, and what it printed."""
    assert STRACE is not None
    log = folder / "strace.log"
    done = subprocess.run(
        [*(prefix or []), STRACE, *OPTIONS, "-o", str(log), *command],
        input=given,
        capture_output=True,
        text=True,
        env=engine_environment(**environment),
        cwd=ROOT,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with log.open(encoding="utf-8", errors="surrogateescape") as lines:
        return read_log(lines), done.stdout


def python(source: str) -> list[str]:
    """The command that runs a program in Python."""
    return program("-c", source)


def assert_silent(log: NetworkLog) -> None:
    """Nobody was spoken to but this machine itself, and nothing could have escaped the log."""
    assert [str(found) for found in log.beyond_loopback] == []
    assert [str(found) for found in log.lookups] == []
    assert log.rings == 0


IMPORTS = """
import json
from hybridllm import HybridClient, Remote
from hybridllm.testing import ScriptedBackend
ASK = {"messages": [{"role": "user", "content": "When do you open?"}], "temperature": 0, "max_tokens": 8}
said = []
def remote(url):
    return Remote(base_url=url, model="large", connect_timeout_s=0.3, first_token_timeout_s=0.3, max_retries=0)
"""


@pytest.fixture(scope="module")
def control_prefix() -> list[str]:
    """The positive controls run where their packets go nowhere, if the system lets us; the calls are made all the same."""
    return PREFIX or []


def control(folder: Path, url: str, prefix: list[str]) -> NetworkLog:
    """A public request under a policy that asks the remote first."""
    source = f"""{IMPORTS}
with HybridClient(local=ScriptedBackend(["Hi."]), remote=remote({url!r}), policy="cloud-assist") as client:
    print(client.chat.completions.create(**ASK, privacy="public").route.served_by)
"""
    log, said = traced(folder, python(source), prefix=prefix)
    assert said.strip() == "local"
    return log


def test_a_public_request_is_seen_going_to_the_remote(tmp_path: Path, control_prefix: list[str]) -> None:
    log = control(tmp_path, REMOTE_URL, control_prefix)
    hosts = {(found.call, found.host, found.port) for found in log.beyond_loopback}
    assert ("connect", REMOTE_ADDRESS, 443) in hosts
    assert log.lookups == []


def test_a_public_request_to_a_name_is_seen_looking_it_up(tmp_path: Path, control_prefix: list[str]) -> None:
    assert control(tmp_path, REMOTE_NAME_URL, control_prefix).lookups


def test_the_whole_chat_with_the_bundled_model_is_silent(tmp_path: Path) -> None:
    """The default client, and one whose policy would ask a remote first for what may leave: this may not."""
    source = f"""{IMPORTS}
with HybridClient() as client:
    said.append(client.chat.completions.create(**ASK).route.served_by)
with HybridClient(remote=remote({REMOTE_NAME_URL!r}), policy="cloud-assist") as client:
    client.explain(messages=ASK["messages"])
    said.append(client.chat.completions.create(**ASK).route.served_by)
    with client.chat.completions.create(**ASK, privacy="private", stream=True) as stream:
        assert list(stream)
        said.append(stream.route.served_by)
print(json.dumps(said))
"""
    log, said = traced(tmp_path, python(source))
    assert json.loads(said) == ["local", "local", "local"]
    assert len(log.pids) > 2, "the engine's own process was not traced"
    assert_silent(log)


def test_the_command_line_is_silent(tmp_path: Path) -> None:
    arguments = ("chat", "--json", "--max-tokens", 8, "--policy", "cloud-assist", "--remote-url", REMOTE_URL)
    log, said = traced(tmp_path, program("-m", "hybridllm", *arguments, "--remote-model", "large", "My card is lost."))
    assert json.loads(said)["route"]["served_by"] == "local"
    assert_silent(log)


def test_clients_that_only_open_and_close_and_those_that_are_offline_are_silent(tmp_path: Path) -> None:
    source = f"""{IMPORTS}
for policy in {PRESETS!r}:
    for url in ({REMOTE_URL!r}, {REMOTE_NAME_URL!r}):
        with HybridClient(local=ScriptedBackend([]), remote=remote(url), policy=policy):
            pass
        HybridClient(local=ScriptedBackend([]), remote=remote(url), policy=policy).close()
        with HybridClient(local=ScriptedBackend(["Hi."]), remote=remote(url), policy=policy, offline=True) as client:
            said.append(client.chat.completions.create(**ASK, privacy="public").route.served_by)
print(json.dumps(said))
"""
    log, said = traced(tmp_path, python(source))
    assert json.loads(said) == ["local"] * 6
    assert log.calls > 0
    assert_silent(log)


@pytest.mark.slow
@pytest.mark.parametrize("policy", PRESETS)
def test_private_requests_are_silent_under_every_preset_in_both_faces(tmp_path: Path, policy: str) -> None:
    source = f"""{IMPORTS}
import asyncio
from hybridllm import AsyncHybridClient
async def awaited(url):
    async with AsyncHybridClient(remote=remote(url), policy={policy!r}) as client:
        said.append((await client.chat.completions.create(**ASK)).route.served_by)
        async with await client.chat.completions.create(**ASK, tags=["health"], stream=True) as stream:
            assert [chunk async for chunk in stream]
            said.append(stream.route.served_by)
for url in ({REMOTE_URL!r}, {REMOTE_NAME_URL!r}):
    asyncio.run(awaited(url))
    with HybridClient(remote=remote(url), policy={policy!r}, privacy_floor="private") as client:
        said.append(client.chat.completions.create(**ASK, privacy="public").route.served_by)
        said.append(client.chat.completions.create(**ASK, privacy="private", deadline_s=60).route.served_by)
print(json.dumps(said))
"""
    log, said = traced(tmp_path, python(source))
    assert json.loads(said) == ["local"] * 8
    assert_silent(log)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "--no-history"),
        ("chat", "--offline", "--privacy", "public", "--remote-url", REMOTE_URL, "--remote-model", "large", "Hello"),
        ("doctor",),
        ("models",),
        ("policy", "explain", "Hello", "--policy", "kiosk", "--privacy", "public"),
        ("policy", "check", "kiosk", "cloud-assist"),
        ("--help",),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_commands_are_silent(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    log, said = traced(tmp_path, program("-m", "hybridllm", *arguments), given="Hello!\n/stats\n/exit\n")
    assert said.strip()
    assert_silent(log)


@pytest.mark.slow
def test_compiling_the_model_for_the_first_time_is_silent(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    source = f"{IMPORTS}\nwith HybridClient() as client: print(client.load() is not None)"
    log, said = traced(tmp_path, python(source), HYBRIDLLM_CACHE=str(cache))
    assert said.strip() == "True"
    assert any(cache.rglob("*")), "nothing was compiled"
    assert_silent(log)
