"""A worker whose model answers every prompt with two calls of tools after a thought: as slow as ``Script.step_s`` says."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from local_runtime.options import LoadOptions, Progress
from tests.local_runtime.chat_templates import TEMPLATES
from tests.local_runtime.scripted_runner import ScriptedModel
from tests.local_runtime.tool_models import saying, tool_tokenizer

ANSWER = (
    "<think>\nthey ask\n</think>\n\nI look.\n"
    '<tool_call>\n{"name": "opening_hours", "arguments": {"day": "today"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def load(options: LoadOptions, on_progress: Callable[[Progress], None]) -> ScriptedModel:
    with tempfile.TemporaryDirectory() as folder:
        marks = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
        tokenizer = tool_tokenizer(Path(folder), TEMPLATES["qwen3"].source, [], marks)
        return saying(Path(folder), tokenizer, ANSWER, **json.loads(options.model))


if __name__ == "__main__":
    from local_runtime.worker import serve

    serve(load)
