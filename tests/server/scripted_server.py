"""``hybridllm serve`` with a scripted place in the engine's stead: ``python -m tests.server.scripted_server SCRIPT.json ARGUMENTS``.

The script is a JSON object with ``replies`` as in ``tests.cli.scripted_program``, which are given round and round, and the other
arguments of a ``ScriptedBackend``; ``start_error`` is the name of an error's class and its message.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

from hybridllm import AsyncHybridClient, errors
from hybridllm.cli.client_options import client_arguments
from hybridllm.cli.main import main
from hybridllm.testing import ScriptedBackend
from tests.cli.scripted_program import reply_from


def run(script_path, argv):
    """Run the command line with the script's replies."""
    script = json.loads(Path(script_path).read_text(encoding="utf-8"))
    replies = itertools.cycle([reply_from(entry) for entry in script.pop("replies")])
    if "start_error" in script:
        name, message = script["start_error"]
        script["start_error"] = getattr(errors, name)(message)

    def opener(options, on_progress, observers):
        arguments = client_arguments(options, on_progress)
        return AsyncHybridClient(**arguments, local=ScriptedBackend(replies, **script), observers=observers)

    main(argv, async_opener=opener)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
