"""A worker whose parts quote what they were asked when they fail, each in the place that its model's name says."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runtime.options import Progress
from tests.local_runtime.scripted_runner import Script, ScriptedModel, make_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local_runtime.options import LoadOptions

TEMPLATES = {
    "template refuses": "{{ raise_exception('No: ' ~ messages[0].content) }}",
    "template fails": "{{ '{:d}'.format(messages[0].content) }}",
    "template attribute": "{{ messages[0].content[messages[0].content].x }}",
}


class PanicException(BaseException):
    """Like that of libraries in Rust: no ``Exception``, and its text quotes what was worked on."""


def broken(mode: str, model: ScriptedModel) -> None:
    """Break the part that ``mode`` names; the text of every exception is the whole conversation."""
    from local_runtime.chat_template import ChatTemplate

    runner, tokenizer = model.runner, model.tokenizer
    asked: list[str] = []
    encode_chat = tokenizer.encode_chat

    def remember(messages: Sequence[dict[str, Any]], **variables: Any) -> list[int]:
        asked.append(f"{messages} {variables}")
        if mode == "tokenizer":
            raise ValueError(asked[-1])
        if mode == "panic":
            os.write(2, f"thread '<unnamed>' panicked: byte 3 is not a boundary of {asked[-1]}\n".encode())
            raise PanicException(asked[-1])
        if mode == "prints":
            print(asked[-1])
            print(asked[-1], file=sys.stderr)
            os.write(1, asked[-1].encode())
            os.write(2, asked[-1].encode())
        if mode == "thread":
            thread = threading.Thread(target=fail, name=asked[-1])
            thread.start()
            thread.join()
        return encode_chat(messages, **variables)

    def fail(*_: object) -> None:
        raise RuntimeError(asked[-1])

    vars(tokenizer)["encode_chat"] = remember
    if mode in TEMPLATES:
        tokenizer._template = ChatTemplate(TEMPLATES[mode], {}, "t.jinja")
    elif mode in ("prefill", "decode"):
        vars(runner)[mode] = fail
    elif mode == "remove":
        vars(runner)["remove_sequence"] = fail


def load(options: LoadOptions, on_progress: Callable[[Progress], None]) -> ScriptedModel:
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Script(), Path(folder))
    broken(options.model, model)
    on_progress(Progress("ready", 1.0, "leaky"))
    return model


if __name__ == "__main__":
    from local_runtime.worker import serve

    serve(load)
