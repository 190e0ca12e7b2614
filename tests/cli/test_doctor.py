"""What the doctor finds, and that each line that isn't fine names its mend."""

import errno
import json
import os
import re
import socket
import subprocess
import tomllib
from pathlib import Path

import pytest

from hybridllm.cli import doctor_checks as checks
from hybridllm.cli.client_options import ClientOptions, open_client
from hybridllm.cli.doctor_checks import Finding
from hybridllm.remote import Remote
from policies import load_policy
from tests.cli.programs import Program

ROOT = Path(__file__).parents[2]


def test_the_pins_are_those_of_the_package():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pinned = dict(line.split("==") for line in wanted if "==" in line)
    assert pinned == checks.TVM_PINS


def test_tvm_in_another_version_or_absent_is_failing_with_the_command_that_mends_it():
    wrong, absent = checks.tvm_findings({"pytest": "0.0.1", "no-such-distribution": "1.2"})
    assert wrong.status == absent.status == "failing"
    assert "but only 0.0.1 is known to work" in wrong.detail
    assert absent == Finding(
        "no-such-distribution",
        "failing",
        "not installed",
        "Install it with: python -m pip install no-such-distribution==1.2",
    )


def test_the_installed_tvm_is_fine():
    assert {finding.status for finding in checks.tvm_findings()} == {"fine"}


def test_the_processor_is_named_with_its_instruction_set():
    processor, gpu = checks.probe_findings()
    assert (processor.name, gpu.name) == ("processor", "gpu")
    assert re.search(r"\d+ cores?; \S+", processor.detail)


@pytest.mark.parametrize(
    ("output", "raises", "says"),
    [
        ("", None, "could not be asked for"),
        ('{"targets": []}', None, "could not be asked for"),
        ("", subprocess.TimeoutExpired("probe", 60), "took longer than 60 s"),
    ],
)
def test_a_probe_that_fails_is_a_finding_and_no_crash(monkeypatch, output, raises, says):
    def run(*args, **kwargs):
        if raises:
            raise raises
        return subprocess.CompletedProcess(args, 1, output, "")

    monkeypatch.setattr(subprocess, "run", run)
    (finding,) = checks.probe_findings()
    assert finding.status == "failing"
    assert says in finding.detail
    assert "local_runtime.probe" in finding.mend


def test_a_processor_without_wide_instructions_is_a_warning():
    target = {"kind": "cpu", "name": "Old", "arch": "x86_64", "features": ["sse4_2"], "memory_mib": 1, "free_mib": 1}
    finding = checks._processor_finding(target, 1)
    assert finding.status == "warning"
    assert finding.detail == "Old, x86_64, 1 core; sse4_2"
    assert finding.mend


def test_a_gpu_is_named_with_its_memory():
    gpu = {"kind": "cuda", "name": "GPU X", "arch": "sm_90", "features": [], "memory_mib": 80000, "free_mib": 79000}
    assert checks._gpu_finding([gpu]).detail == "GPU X (sm_90, 79000 of 80000 MiB free)"


def test_the_cache_is_fine_where_it_can_be_written_and_failing_where_not(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 3 * 2**20)
    fine = checks.cache_finding(tmp_path)
    assert fine.status in ("fine", "warning")  # a nearly full disk is only a warning
    assert f"{tmp_path}: 3 MiB used" in fine.detail
    failing = checks.cache_finding(tmp_path / "file" / "below")
    assert failing.status == "failing"
    assert "HYBRIDLLM_CACHE" in failing.mend


def test_a_cache_that_is_read_only_is_a_warning_since_what_is_compiled_there_still_runs(tmp_path, monkeypatch):
    def refuse(**_options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
    finding = checks.cache_finding(tmp_path)
    assert finding.status == "warning"
    assert finding.detail.endswith("but nothing can be added: Read-only file system")
    assert "HYBRIDLLM_CACHE" in finding.mend


def test_the_bundled_model_is_fine_and_a_missing_one_is_failing(tmp_path):
    assert checks.model_finding("kiosk-assistant").status == "fine"
    missing = checks.model_finding(str(tmp_path / "none"))
    assert missing.status == "failing"
    assert missing.mend


def test_a_model_that_cannot_be_loaded_is_a_finding(tmp_path):
    from local_runtime.options import LoadOptions

    finding = checks.engine_finding(LoadOptions(str(tmp_path), cache_dir=str(tmp_path / "cache")), None)
    assert finding.status == "failing"
    assert "config.json" in finding.detail
    assert finding.mend


def test_a_policy_with_a_typo_is_failing_with_file_line_and_key(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nname: p\nlabls: {}\n")
    (finding,) = checks.configuration_findings(ClientOptions(policy=str(path)), open_client)
    assert finding.status == "failing"
    assert f"{path}:3:1: labls" in finding.detail


def test_a_remote_that_listens_is_fine_and_one_that_does_not_is_a_warning():
    with socket.create_server(("127.0.0.1", 0)) as server:
        remote = Remote(base_url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", model="m")
        found = checks.remote_finding(remote, load_policy("kiosk"))
    assert (found.status, found.detail) == (
        "fine",
        f"{remote.origin} takes connections (zone cloud, may see up to public)",
    )
    gone = checks.remote_finding(remote, load_policy("kiosk"))
    assert gone.status == "warning"
    assert gone.mend
    assert checks.remote_finding(None, load_policy("kiosk")).status == "fine"


def test_quick_json_has_a_finding_for_each_thing(tmp_path):
    result = Program().run("doctor", "--quick", "--json", "--cache-dir", tmp_path)
    record = json.loads(result.stdout)
    names = [finding["name"] for finding in record["findings"]]
    assert names == [
        "python", "processor", "gpu", "memory", "apache-tvm", "apache-tvm-ffi", "apache-tvm-ffi-orcjit", "cache", "model",
        "policy", "remote",
    ]  # fmt: skip
    assert record["can_serve"] is True
    assert result.exit_code == 0


def test_the_engine_is_tried_as_the_configuration_file_wants_it(tmp_path, monkeypatch):
    path = tmp_path / "hybridllm.yaml"
    path.write_text(f"context_tokens: 96\nmax_sequences: 2\ncache_dir: {tmp_path}\n")
    tried = []

    def engine_finding(options, on_progress):
        tried.append(options)
        return Finding("engine", "failing", "too little memory", "Serve less.")

    monkeypatch.setattr(checks, "engine_finding", engine_finding)
    result = Program().run("doctor", "--config", path)
    assert [(options.context_tokens, options.max_sequences) for options in tried] == [(96, 2)]
    assert result.exit_code == 5


def test_a_configuration_file_that_is_not_there_is_a_finding_of_the_report(tmp_path):
    result = Program().run("doctor", "--quick", "--json", "--cache-dir", tmp_path, "--config", tmp_path / "nope.yaml")
    assert result.exit_code == 3
    record = json.loads(result.stdout)
    assert record["can_serve"] is False
    assert record["findings"][0]["name"] == "python"
    last = record["findings"][-1]
    assert (last["name"], last["status"]) == ("configuration", "failing")
    assert "nope.yaml" in last["detail"]


@pytest.mark.parametrize("option", ["--model", "--config"])
def test_an_empty_name_is_refused(option):
    result = Program().run("doctor", "--quick", option, "")
    assert result.exit_code == 2
    assert f"{option} is empty" in result.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_folder_without_write_permission_is_a_warning_and_one_that_cannot_be_made_is_failing(tmp_path):
    tmp_path.chmod(0o500)
    assert checks.cache_finding(tmp_path).status == "warning"
    assert checks.cache_finding(tmp_path / "below").status == "failing"


def test_what_cannot_serve_ends_with_5_and_says_the_mend(tmp_path):
    result = Program().run("doctor", "--quick", "--model", tmp_path, "--cache-dir", tmp_path / "cache")
    assert result.exit_code == 5
    assert re.search(r"^model: +failing: .*config\.json", result.stdout, re.MULTILINE)
    assert "Give the folder of a Hugging Face checkpoint" in result.stdout
    assert result.stdout.endswith("This device cannot answer yet.\n")
