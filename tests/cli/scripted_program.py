"""The command line with a scripted place in the engine's stead: ``python -m tests.cli.scripted_program SCRIPT.json ARGUMENTS``.

Everything but the tokens' source is the real program: the terminal, the client, the policy, the remote. The script is a JSON object
with ``replies``, each a text or an object with the fields of ``ScriptedReply``; ``cycle`` starts them again when they are used up.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

from hybridllm import HybridClient, errors
from hybridllm.cli.client_options import remote_from
from hybridllm.cli.main import main
from hybridllm.testing import ScriptedBackend, ScriptedReply


def reply_from(entry):
    """One reply of the script."""
    if isinstance(entry, str):
        return ScriptedReply(entry)
    fields = dict(entry)
    if "error" in fields:
        name, message = fields.pop("error")
        fields["error"] = getattr(errors, name)(message)
    return ScriptedReply(**fields)


def run(script_path, argv):
    """Run the command line with the script's replies."""
    script = json.loads(Path(script_path).read_text(encoding="utf-8"))
    replies = [reply_from(entry) for entry in script["replies"]]

    def opener(options, on_progress):
        backend = ScriptedBackend(itertools.cycle(replies) if script.get("cycle") else replies, model="scripted")
        given = {"policy": options.policy, "remote": remote_from(options), "offline": options.offline or None}
        return HybridClient(local=backend, on_progress=on_progress, **{k: v for k, v in given.items() if v is not None})

    main(argv, opener=opener)


if __name__ == "__main__":
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    run(sys.argv[1], sys.argv[2:])
