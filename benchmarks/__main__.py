"""Runs every benchmark in a process of its own, one JSON object a line: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ENGINE = [sys.executable, "-m", "hybridllm", "bench", "--json"]


def main() -> int:
    """Run the chosen benchmarks; returns 1 if one of them failed."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which (default: all of {', '.join([*names, 'engine'])})"
    )
    chosen = parser.parse_args().names or [*names, "engine"]
    failed = False
    for name in chosen:
        if name not in (*names, "engine"):
            parser.error(f"there is no benchmark {name!r}; there are {', '.join([*names, 'engine'])}")
        print(f"{name} ...", file=sys.stderr)
        command = ENGINE if name == "engine" else [sys.executable, "-m", f"benchmarks.{name}"]
        failed |= subprocess.run(command, cwd=FOLDER.parent, check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
