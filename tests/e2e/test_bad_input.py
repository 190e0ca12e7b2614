"""What bad input gets from the real command line: one line that names the thing and the mend, exit code 2, an untouched cache."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from hybridllm import BadRequest, HybridClient
from tests.engine_cache import ROOT, engine_environment, program
from tests.local_runtime.checkpoints import byte_level_tokenizer, llama_config, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECOND_SHARD = "model-00002-of-00003.safetensors"


def run(*argv: object, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        program("-m", "hybridllm", *argv), input=stdin, capture_output=True, text=True, timeout=300, cwd=ROOT,
        env=engine_environment(**environment), check=False,
    )  # fmt: skip


def assert_refused(done: subprocess.CompletedProcess[str], *, names: str, mend: str) -> None:
    """One line of our own wording on standard error, nothing on standard output, exit code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("hybridllm: ")
    assert names in done.stderr
    assert mend in done.stderr
    for jargon in ("Traceback", "Error(", "Errno", "internal error", "unexpectedly"):
        assert jargon not in done.stderr


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint in three shards, for tests to copy and to damage."""
    return write_checkpoint(tmp_path_factory.mktemp("sound") / "model", llama_config(), shards=3)


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("weights")


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def cut_configuration(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama",')


def change_configuration(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, **changes}))


def unknown_architecture(folder: Path) -> None:
    change_configuration(folder, model_type="mamba")


def other_width(folder: Path) -> None:
    change_configuration(folder, intermediate_size=96)


def missing_shard(folder: Path) -> None:
    (folder / SECOND_SHARD).unlink()


def cut_shard(folder: Path) -> None:
    data = (folder / SECOND_SHARD).read_bytes()
    (folder / SECOND_SHARD).write_bytes(data[: len(data) // 2])


def shard_elsewhere(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace(SECOND_SHARD, "../" + SECOND_SHARD))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def larger_tokenizer(folder: Path) -> None:
    byte_level_tokenizer(400).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("damage", "names", "mend"),
    [
        (no_folder, "There is no model", "Give the folder of a Hugging Face checkpoint, or a bundled model's name."),
        (a_file, "is a file, not a model folder", "Give the folder of a Hugging Face checkpoint"),
        (empty_folder, "holds no config.json, so it is no checkpoint", "Give the folder of a Hugging Face checkpoint"),
        (cut_configuration, "config.json is not JSON", "Copy or download the checkpoint again."),
        (unknown_architecture, "the architecture 'mamba'", "Use a checkpoint whose model_type is one of llama"),
        (other_width, "has the shape [160, 64], but config.json implies [96, 64]", "Check that config.json and the weights"),
        (missing_shard, f"The shard {SECOND_SHARD}", "Copy or download all shards into the folder."),
        (cut_shard, SECOND_SHARD, "Copy or download the file again."),
        (shard_elsewhere, f"names the shard '../{SECOND_SHARD}'", "Copy or download the file again."),
        (no_tokenizer, "holds no tokenizer.json", "Copy tokenizer.json into the folder."),
        (larger_tokenizer, "tokenizer.json does not match the model", "Use the tokenizer that belongs to this checkpoint."),
    ],
)  # fmt: skip
def test_a_model_folder_that_is_not_sound(
    sharded: Path, tmp_path: Path, damage: Callable[[Path], None], names: str, mend: str
) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    shutil.copytree(sharded, folder)
    damage(folder)
    done = run("chat", "--json", "--model", folder, "Hello", HYBRIDLLM_CACHE=str(cache))
    assert_refused(done, names=names, mend=mend)
    assert str(folder) in done.stderr or damage is other_width  # that one names the tensor and its file
    assert files_in(cache) == []


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("a" * 5000, "cannot be opened: File name too long"),
        ("~nosuchuser/x", "The model folder ~nosuchuser/x begins with the home of a user that cannot be found"),
    ],
)
def test_a_path_that_cannot_be_followed(tmp_path: Path, model: str, names: str) -> None:
    for command in (("chat", "--json", "--model", model, "Hello"), ("models", "show", model)):
        done = run(*command, HYBRIDLLM_CACHE=str(tmp_path / "cache"))
        assert_refused(done, names=names, mend="Give the folder of a Hugging Face checkpoint")
        assert len(done.stderr) < 700
        assert "defect" not in done.stderr
    assert files_in(tmp_path) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_python_that_cannot_make_a_virtual_environment_does_not_block_make(tmp_path: Path) -> None:
    """As on Debian without python3-venv: it leaves a python without pip behind and fails."""
    venv, python = tmp_path / "venv", tmp_path / "python"
    half = f"mkdir -p {venv}/bin && touch {venv}/pyvenv.cfg {venv}/bin/python && chmod +x {venv}/bin/python"
    python.write_text(f'#!/bin/sh\nif [ "$1" = -m ]; then {half}; exit 1; fi\n')
    python.chmod(0o755)
    make = ["make", "--no-print-directory", f"VENV={venv}", f"PYTHON={python}", f"{venv}/bin/pip"]
    for _ in range(2):
        done = subprocess.run(make, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
        assert done.returncode == 2
        assert "apt install python3-venv" in done.stderr
        assert not venv.exists()
    venv.mkdir()
    (venv / "somebodys.txt").touch()
    done = subprocess.run(make, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert (venv / "somebodys.txt").exists()


def test_looking_into_a_folder_and_preparing_it_refuse_the_same(sharded: Path, tmp_path: Path) -> None:
    folder, cache = tmp_path / "model", tmp_path / "cache"
    shutil.copytree(sharded, folder)
    cut_shard(folder)
    shown = run("models", "show", folder, HYBRIDLLM_CACHE=str(cache))
    assert_refused(shown, names=SECOND_SHARD, mend="Copy or download the file again.")
    compiled = run("compile", "--quiet", "--json", folder, HYBRIDLLM_CACHE=str(cache))
    assert compiled.stderr == shown.stderr
    assert (compiled.returncode, compiled.stdout) == (2, "")
    assert files_in(cache) == []


def test_a_policy_with_a_typo(tmp_path: Path) -> None:
    preset = (ROOT / "policies" / "presets" / "kiosk.yaml").read_text()
    path, cache = tmp_path / "typo.yaml", tmp_path / "cache"
    path.write_text(re.sub(r"^rules:", "ruels:", preset, flags=re.MULTILINE))
    line = 1 + next(index for index, text in enumerate(path.read_text().splitlines()) if text.startswith("ruels:"))
    chatted = run("chat", "--policy", path, "Hello", HYBRIDLLM_CACHE=str(cache))
    assert_refused(chatted, names=f"{path}:{line}:1: ruels: ", mend="Did you mean 'rules'?")
    assert files_in(cache) == []
    checked = run("policy", "check", path)
    assert (checked.returncode, checked.stderr) == (2, "")
    assert checked.stdout == chatted.stderr.removeprefix("hybridllm: ")
    (record,) = json.loads(run("policy", "check", "--json", path).stdout)["files"]
    assert (record["line"], record["column"], record["key"]) == (line, 1, "ruels")


def test_a_policy_that_there_is_not(tmp_path: Path) -> None:
    done = run("chat", "--policy", "kioskk", "Hello", HYBRIDLLM_CACHE=str(tmp_path / "cache"))
    assert_refused(done, names="kioskk", mend="Did you mean 'kiosk'?")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "names", "mend"),
    [
        ("nonsense", "'nonsense'", "Write it as https://host/v1."),
        ("", "remote.base_url is not a URL", "Write it as https://host/v1."),
        ("ftp://llm.example/v1", "'ftp://llm.example/v1'", "Write it as https://host/v1."),
        ("https://user:secret@llm.example/v1", "has a user name or a password in it", "Pass the key"),
    ],
)
def test_a_remote_url_that_is_none(tmp_path: Path, url: str, names: str, mend: str) -> None:
    done = run("chat", "--remote-url", url, "--remote-model", "m", "Hello", HYBRIDLLM_CACHE=str(tmp_path / "cache"))
    assert_refused(done, names=names, mend=mend)
    assert "secret" not in done.stderr
    assert files_in(tmp_path) == []


def test_a_prompt_longer_than_the_context() -> None:
    done = run("chat", "-", stdin="hello " * 6000)  # in the shared cache: the engine has to run to count tokens
    lines = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith(("Converting", "Compiling"))]
    done.stderr = "".join(lines)
    assert_refused(
        done, names="tokens, but the context of kiosk-assistant holds", mend="Shorten the conversation by at least"
    )
    assert re.search(r"The prompt has \d{4,} tokens", done.stderr)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ("hello", "messages"),
        ([], "messages"),
        (["hello"], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": "x", "colour": "red"}], "messages[0].colour"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "messages[0].content[0].type"),
    ],
)
def test_a_message_of_the_wrong_shape(
    tmp_path: Path, messages: Any, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDLLM_CACHE", str(tmp_path))
    with HybridClient() as client, pytest.raises(BadRequest) as caught:
        client.chat.completions.create(messages=messages)
    error = caught.value
    assert error.field == field
    assert error.message.startswith(field.removesuffix(".role"))
    assert error.mend or "expected" in error.message
    assert "\n" not in str(error)
    assert files_in(tmp_path) == []


def test_a_saved_conversation_of_the_wrong_shape(tmp_path: Path) -> None:
    record: dict[str, Any] = {
        "hybridllm_conversation": 1, "privacy": None, "tags": [], "kept_local": False, "system": None,
        "messages": [{"role": "user", "content": "x"}, {"role": "robot", "content": "y"}],
    }  # fmt: skip
    wrong, binary, half = tmp_path / "wrong.json", tmp_path / "binary.json", tmp_path / "half.json"
    wrong.write_text(json.dumps(record))
    binary.write_bytes(b"\xff\xfe\0")
    half.write_text('{"hybridllm_conversation": 1,')
    done = run("chat", stdin=f"/load {wrong}\n/load {binary}\n/load {half}\n/load {tmp_path}\n/file {binary}\n")
    said = [line for line in done.stderr.splitlines() if line.startswith("hybridllm: ")]
    assert len(said) == 5, done.stderr
    assert said[0] == (
        f"hybridllm: {wrong} is not a saved conversation: messages[1].role is not assistant. Give a file that /save wrote."
    )
    assert str(binary) in said[1]
    assert "Give a file that /save wrote." in said[1]
    assert str(half) in said[2]
    assert str(tmp_path) in said[3]
    assert said[4] == f"hybridllm: {binary} is not UTF-8 text (byte 0). Give a text in UTF-8."
    assert "Traceback" not in done.stderr


def test_a_system_message_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "sheet.md").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    done = run("chat", "--system", f"@{tmp_path / 'sheet.md'}", "Hello", HYBRIDLLM_CACHE=str(tmp_path / "cache"))
    assert_refused(done, names=f"{tmp_path / 'sheet.md'} is not UTF-8 text (byte 0)", mend="Give a text in UTF-8.")
    assert files_in(tmp_path) == [tmp_path / "sheet.md"]


def test_a_cache_that_cannot_be_written(sharded: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    done = run("chat", "--model", sharded, "Hello", HYBRIDLLM_CACHE=str(blocked))
    assert (done.returncode, done.stdout) == (5, "")
    assert re.fullmatch(
        rf"hybridllm: The cache folder {re.escape(str(blocked))} cannot be written: Not a directory\. .*HYBRIDLLM_CACHE\.\n",
        done.stderr,
    )
