"""Weights are mapped: loading copies none of them, and processes of the same model share them."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from local_runtime.weights import WEIGHTS_FILE
from tests.engine_cache import ENGINE_CACHE, engine_environment

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="what a mapping holds is told on Linux only"
)

# Loads the bundled model, answers, and whenever it is asked says in KiB what its mapping of the weights holds.
CHILD = """
import json, sys
from local_runtime.loader import load
from local_runtime.options import LoadOptions

def own_kib():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["RssAnon"].split()[0])

def weights():
    found, inside = {}, False
    for line in open("/proc/self/smaps"):
        name, _, value = line.partition(":")
        if " " in name:
            inside = line.rstrip().endswith(sys.argv[2])
        elif inside and value.strip().endswith("kB"):
            found[name] = found.get(name, 0) + int(value.split()[0])
    return found

import local_runtime.runner
from local_runtime.tokenizer import ChatTokenizer
from local_runtime.paths import model_folder
ChatTokenizer.from_folder(model_folder("kiosk-assistant"), 4096)
before_kib = own_kib()
model = load(LoadOptions("kiosk-assistant", quant="f16", target="cpu", context_tokens=64, max_sequences=1, cache_dir=sys.argv[1]),
             lambda progress: None)
model.runner.add_sequence(0)
model.runner.prefill(0, [5, 6, 7])
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps({**weights(), "own": own_kib() - before_kib, "info_mib": model.info.weights_mib}), flush=True)
sys.stdin.readline()
"""


def test_two_processes_share_the_weights_and_copy_none() -> None:
    with ExitStack() as stack:
        command = [sys.executable, "-c", CHILD, str(ENGINE_CACHE), WEIGHTS_FILE]
        children = [
            stack.enter_context(
                subprocess.Popen(
                    command, env=engine_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(2)
        ]
        told = []
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:  # both have read all of the weights and hold them
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            told.append(json.loads(child.stdout.readline()))
        for child in children:
            child.communicate("\n")
            assert child.returncode == 0
    for weights in told:
        mapped_kib = weights["info_mib"] * 1024
        assert weights["Rss"] >= 0.97 * mapped_kib  # all of them were read
        assert weights["Private_Dirty"] == weights["Shared_Dirty"] == 0
        assert weights["Shared_Clean"] >= 0.97 * mapped_kib
        assert weights["Pss"] <= 0.6 * weights["Rss"]  # each of the two answers for a half
        assert weights["own"] <= mapped_kib / 2  # what it took beside them is no copy of them
