"""Times ``import hybridllm`` in fresh interpreters: prints JSON with medians in seconds.

The interpreter's own start is measured apart and taken off; what is left is what the import costs a program.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

HEAVY = ("tvm", "tvm_ffi", "numpy", "tokenizers", "httpcore", "pydantic", "yaml", "psutil")
IMPORT = "import hybridllm"
CLIENT = "from hybridllm import HybridClient"


def wall_s(program: str) -> float:
    """Seconds that a fresh interpreter takes for a program."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    samples: dict[str, list[float]] = {"pass": [], IMPORT: [], CLIENT: []}
    for program in samples:
        wall_s(program)  # writes the bytecode
    for _ in range(runs):
        for program, taken in samples.items():
            taken.append(wall_s(program))
    interpreter_s = statistics.median(samples["pass"])
    listed = subprocess.run(
        [sys.executable, "-c", f"import sys\n{IMPORT}\nprint(*sys.modules)"], check=True, capture_output=True, text=True
    )
    print(
        json.dumps(
            {
                "benchmark": "import_time",
                "runs": runs,
                "interpreter_median_s": round(interpreter_s, 4),
                "import_median_s": round(statistics.median(samples[IMPORT]) - interpreter_s, 4),
                "import_max_s": round(max(samples[IMPORT]) - interpreter_s, 4),
                "import_of_the_client_median_s": round(statistics.median(samples[CLIENT]) - interpreter_s, 4),
                "heavy_modules_loaded": sorted(set(listed.stdout.split()) & set(HEAVY)),
            }
        )
    )


if __name__ == "__main__":
    main()
