"""``python -m tests.fuzz``: fuzz every target for a while, or run one on a saved input. Prints one JSON object a target."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests.engine_cache import ROOT
from tests.fuzz import atheris_engine, hypothesis_engine
from tests.fuzz.registry import TARGETS

FOLDER = ROOT / ".fuzz"


def fuzz(names, seconds, engine):
    """Fuzz these targets one after the other; 1 if something broke."""
    broken = 0
    for name in names:
        began_s = time.monotonic()
        runs, branches, crash = engine.fuzz(TARGETS[name], seconds, FOLDER / name)
        took_s = time.monotonic() - began_s
        record = {
            "target": name,
            "engine": engine.__name__.rpartition(".")[2].removesuffix("_engine"),
            "executions": runs,
            "seconds": round(took_s, 1),
            "executions_per_s": round(runs / took_s),
            "branches": branches,
            "crash": None if crash is None else str(crash.relative_to(ROOT)),
        }
        print(json.dumps(record), flush=True)
        if crash is not None:
            broken = 1
            again = f"{sys.executable} -m tests.fuzz --run {crash.relative_to(ROOT)} {name}"
            print(
                f"{name} broke on {crash.stat().st_size} bytes. To see it again: {again}", file=sys.stderr, flush=True
            )
    return broken


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)} [default: all]")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--engine", choices=("auto", "atheris", "hypothesis"), default="auto")
    parser.add_argument("--run", type=Path, metavar="FILE", help="run the target on this input and let it fail")
    chosen = parser.parse_args(argv)
    unknown = [name for name in chosen.targets if name not in TARGETS]
    if unknown or (chosen.run and len(chosen.targets) != 1) or chosen.seconds < 1:
        parser.error("name known targets, exactly one with --run, and at least 1 second")
    if chosen.run:
        TARGETS[chosen.targets[0]].run(chosen.run.read_bytes())
        return 0
    guided = atheris_engine.is_available() if chosen.engine == "auto" else chosen.engine == "atheris"
    if not guided:
        print("Without atheris: hypothesis draws the inputs, and no coverage guides it.", file=sys.stderr, flush=True)
    return fuzz(chosen.targets or list(TARGETS), chosen.seconds, atheris_engine if guided else hypothesis_engine)


if __name__ == "__main__":
    sys.exit(main())
