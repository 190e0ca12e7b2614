"""The commands and the snippet of docs/server.md and of the README run, its unit is understood, and what it names exists."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from hybridllm.cli.exit_codes import ExitCode
from hybridllm.config import load_config
from hybridllm.metrics import Metrics
from hybridllm.server.exchange import _ROUTES
from hybridllm.server.problems import _KINDS
from hybridllm.server.settings import ServerSettings
from hybridllm.testing import ScriptedBackend
from tests.docs.pages import blocks_of, page_named
from tests.engine_cache import ROOT
from tests.server.live_server import LiveServer

PAGE = page_named("server.md")
TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = "http://127.0.0.1:8080"
UNIT = ROOT / "examples" / "hybridllm.service"
EXPECTED = re.compile(r"^print\(.*\)\s+# (.+)$", re.MULTILINE)


def blocks(language):
    return [block.text for block in blocks_of(PAGE) if block.language == language]


@pytest.fixture(scope="module")
def server():
    backend = ScriptedBackend(lambda _: "We open at nine.", capabilities={"extended_sampling"})
    with LiveServer(backend, metrics=Metrics("1")) as running:
        yield running


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and a shell")
def test_the_commands_do_what_they_should(server):
    outputs = []
    for text in blocks("bash"):
        done = subprocess.run(
            ["bash", "-euc", text.replace(SHOWN, server.url)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        outputs.append(done.stdout)
    whole, streamed, status = outputs
    assert json.loads(whole)["choices"][0]["message"]["content"] == "We open at nine."
    assert json.loads(whole)["route"]["label"] == "public"
    assert streamed.endswith("data: [DONE]\n\n")
    assert '"label":"public"' in streamed
    assert '{"ready":true}' in status
    assert "hybridllm_requests_total" in status


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and a shell")
def test_the_readmes_command_does_too(server):
    (text,) = [block.text for block in blocks_of(page_named("README.md")) if block.language == "bash"]
    done = subprocess.run(
        ["bash", "-euc", text.replace(SHOWN, server.url)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"] == "We open at nine."
    assert (answer["route"]["served_by"], answer["route"]["label"]) == ("local", "public")


def test_the_snippet_prints_what_it_says(server, capsys):
    (text,) = blocks("py")
    exec(compile(text.replace(SHOWN, server.url), str(PAGE), "exec"), {})
    assert capsys.readouterr().out.splitlines() == EXPECTED.findall(text)


def test_the_paths_the_codes_and_the_defaults_are_those_of_the_server():
    for path in _ROUTES:
        assert f"`{path}`" in TEXT.replace("`GET ", "`").replace("`POST ", "`"), path
    for _, status, _, code in _KINDS:
        assert str(status) in TEXT
        assert code is None or f"`{code}`" in TEXT or status == 503
    settings = ServerSettings()
    for shown in (
        f"`--max-requests` ({settings.max_requests})",
        f"connections | {settings.max_connections};",
        f"`--max-body-mib` ({settings.body_limit_bytes // 2**20}), there within {settings.body_timeout_s:g} s",
        f"{settings.head_limit_bytes // 1024} KiB and 100 headers, there within {settings.head_timeout_s:g} s",
        f"{settings.send_timeout_s:g} s, then its connection ends",
        f"idle connection | {settings.keep_alive_s} s",
        f"`--ping-s` ({settings.ping_s:g} s)",
        f"`--drain-s` ({settings.drain_s:g})",
        f"{ExitCode.TERMINATED} or {ExitCode.INTERRUPTED}",
    ):
        assert shown in TEXT, shown


def test_the_example_configuration_is_one():
    assert load_config(ROOT / "examples" / "serve.yaml")["policy"] == "offline-first"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_understood(tmp_path):
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    command = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)[1]
    unit.write_text(text.replace(command, sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_hardened_and_lets_the_remote_be_reached():
    settings = {
        line.partition("=")[0]: line.partition("=")[2]
        for line in UNIT.read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    }
    expected = {"Type": "notify", "DynamicUser": "yes", "ProtectSystem": "strict", "NoNewPrivileges": "yes"}
    assert {name: settings[name] for name in expected} == expected
    assert {"WatchdogSec", "MemoryMax", "CapabilityBoundingSet", "SystemCallFilter"} <= set(settings)
    assert "AF_INET" in settings["RestrictAddressFamilies"]
    assert "IPAddressDeny" not in settings
    assert int(settings["TimeoutStopSec"]) > ServerSettings().drain_s
