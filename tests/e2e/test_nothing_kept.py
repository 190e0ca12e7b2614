"""A conversation with the model in the box leaves nothing of itself in any file: temporary, cached, configured or dumped."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.engine_cache import ENGINE_CACHE, ROOT, engine_environment, program

CANARY = "kanarienvogel-4711-ü"
PROGRAM = f"""
import json, logging, os, signal
from hybridllm import HybridClient, HybridLLMError

logging.basicConfig(filename="all.log", level=logging.DEBUG)
asked = dict(
    messages=[
        {{"role": "system", "content": "{CANARY} system"}},
        {{"role": "user", "content": "Repeat: {CANARY}", "name": "{CANARY} name"}},
    ],
    stop=["{CANARY} stop"], user="{CANARY} user", max_tokens=24,
)
said = []
with HybridClient() as client:
    said.append(client.chat.completions.create(**asked).choices[0].finish_reason)
    with client.chat.completions.create(stream=True, **asked) as stream:
        said.append(stream.get_final_completion().choices[0].finish_reason)
    for wrong in (dict(deadline_s=1e-3), dict(temperature="{CANARY}")):
        try:
            client.chat.completions.create(**asked | wrong)
        except HybridLLMError as error:
            said.append(type(error).__name__)
    stream = client.chat.completions.create(stream=True, **asked | dict(max_tokens=400, stop=None))
    os.kill(client._client._backends["local"]._engine.worker_pid, signal.SIGABRT)  # it would leave a core
    stream.get_final_completion()  # goes on in another process
    said.append(client.engine_stats().restarts)
print(json.dumps(said))
"""


def spellings(text: str) -> list[bytes]:
    """Ways in which a file may hold a text."""
    plain = text.encode()
    shifted = [base64.b64encode(b"x" * shift + plain)[4 * (shift > 0) : -4] for shift in range(3)]
    return [
        plain,
        text.encode("utf-16-le"),
        json.dumps(text).encode().strip(b'"'),
        urllib.parse.quote(text).encode(),
        plain.hex().encode(),
        text.split("-")[0].encode(),
        *(piece for piece in shifted if len(piece) >= 12),
    ]


def files_that_hold(text: str, *folders: Path, since: float = 0.0) -> list[Path]:
    """Files that were written since then and hold the text in some spelling."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_mtime >= since:
                data = path.read_bytes()
                if any(spelling in data for spelling in spellings(text)) or text.split("-")[0] in path.name:
                    found.append(path)
    return found


@pytest.mark.parametrize("spelling", range(len(spellings(CANARY))))
def test_the_search_finds_every_spelling(tmp_path: Path, spelling: int) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"\0\1..." + spellings(CANARY)[spelling] + b"...")
    assert files_that_hold(CANARY, tmp_path) == [tmp_path / "deep" / "file"]


def test_a_conversation_leaves_nothing_of_itself_in_any_file(tmp_path: Path) -> None:
    places = {
        name: tmp_path / name.lower()
        for name in (
            "HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR",
        )
    }  # fmt: skip
    for folder in (*places.values(), tmp_path / "cwd"):
        folder.mkdir()
    script = tmp_path / "program.py"
    script.write_text(PROGRAM, encoding="utf-8")
    began = time.time() - 1
    done = subprocess.run(
        program(script),
        cwd=tmp_path / "cwd",
        env=engine_environment(**{name: str(folder) for name, folder in places.items()}),
        preexec_fn=_cores_as_large_as_they_may if os.name == "posix" else None,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    script.unlink()
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said[2:] == ["DeadlineExceeded", "BadRequest", 1]
    assert CANARY not in done.stderr
    assert (tmp_path / "cwd" / "all.log").exists()
    assert files_that_hold(CANARY, tmp_path) == []
    assert files_that_hold(CANARY, ENGINE_CACHE, since=began) == []
    assert not [path for path in tmp_path.rglob("*core*") if path.is_file()]
    assert ROOT not in tmp_path.parents


def _cores_as_large_as_they_may() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
