"""Chat templates against the real ``transformers``, rendered now: ``make parity``. Everyday tests use what it rendered before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_runtime.chat_templates import load_rendered

pytestmark = pytest.mark.parity
REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_stored_texts_are_what_transformers_renders(tmp_path: Path) -> None:
    file = tmp_path / "fresh.json"
    script = REPOSITORY / "tools" / "make_chat_template_reference.py"
    subprocess.run([sys.executable, str(script), "--output", str(file)], check=True, cwd=REPOSITORY)
    fresh = json.loads(file.read_text(encoding="utf-8"))
    assert fresh == load_rendered()
    sys.stderr.write(f"{len(fresh)} conversations render as transformers renders them\n")
