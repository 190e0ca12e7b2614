"""The built wheel, installed into an empty environment, answers from another folder, with no compiler and no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED_LIMIT_MIB = 40

pytestmark = pytest.mark.slow  # it installs everything once more


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source") / "hybridllm"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", ".dev", "*.egg-info", "build", "dist", "__pycache__", ".*_cache", "tests"
    )
    shutil.copytree(REPOSITORY, source, ignore=ignored)  # setuptools writes beside the sources
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)], check=True, capture_output=True
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of an environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [
        str(programs / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        str(REPOSITORY / "constraints.txt"),
        str(wheel),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return programs


def test_it_holds_the_three_packages_and_their_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        bundled = sum(entry.compress_size for entry in archive.infolist() if "/bundled/" in entry.filename)
    for name in ("hybridllm/py.typed", "local_runtime/py.typed", "policies/py.typed"):
        assert name in names
    for preset in ("offline-first", "kiosk", "cloud-assist"):
        assert f"policies/presets/{preset}.yaml" in names
    for file in ("config.json", "model.safetensors", "tokenizer.json", "MODEL_CARD.md"):
        assert f"local_runtime/bundled/kiosk-assistant/{file}" in names
    assert not [name for name in names if name.split("/")[0] in ("tests", "training", "benchmarks", "examples")]
    assert bundled <= BUNDLED_LIMIT_MIB * 2**20


def test_it_answers_from_another_folder_without_a_compiler(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {
        "PATH": str(empty),  # no cc, no ld, no git
        "HOME": str(tmp_path),
        "HYBRIDLLM_CACHE": str(tmp_path / "cache"),
        **{name: value for name, value in os.environ.items() if name in ("SYSTEMROOT", "TEMP", "TMP", "LANG")},
    }
    command = [
        str(installed / "hybridllm"), "chat", "--offline", "--json", "--temperature", "0", "--max-tokens", "40",
        "--system", "Opening hours: Sunday 10:30 to 16:00.", "When do you open on Sunday?",
    ]  # fmt: skip
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    reply = json.loads(result.stdout)
    assert reply["route"]["served_by"] == "local"
    assert reply["choices"][0]["message"]["content"].strip()
    assert reply["usage"]["completion_tokens"] > 0


def test_its_doctor_is_content(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HYBRIDLLM_CACHE": str(tmp_path / "cache")}
    command = [str(installed / "hybridllm"), "doctor"]
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
