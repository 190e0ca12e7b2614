"""The coverage-guided engine: libFuzzer through atheris, which sees every branch that an input takes in our own modules."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

INSTRUMENTED = ("policies", "hybridllm", "yaml", "email", "json")
"""Packages whose branches guide the engine: ours, and those that most of a broken input's way is inside of."""

_SLOWEST_S = 10
_MOST_MIB = 2048
_RUNS = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)
_COVERED = re.compile(r"\bcov: (\d+)")
_CRASH = re.compile(r"(\S*/(?:crash|timeout|oom)-[0-9a-f]{40})")


def is_available():
    """Whether atheris is installed here."""
    with contextlib.suppress(ImportError):
        import atheris  # noqa: F401

        return True
    return False


def fuzz(target, seconds, folder):
    """Fuzz one target in a process of its own: libFuzzer ends it at the first crash.

    Returns:
        Executions, branches covered, and the saved crash or None.
    """
    for name in ("seeds", "corpus", "crashes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(target.seeds()):
        (folder / "seeds" / f"{index:04d}").write_bytes(seed)
    (folder / "words.dict").write_text("".join(f'"{_escaped(word)}"\n' for word in dict.fromkeys(target.words)))
    command = [
        sys.executable, "-m", "tests.fuzz.atheris_engine", target.name, str(folder / "corpus"), str(folder / "seeds"),
        f"-max_total_time={seconds}", f"-max_len={target.most_bytes}", f"-timeout={_SLOWEST_S}", f"-rss_limit_mb={_MOST_MIB}",
        f"-artifact_prefix={folder / 'crashes'}/", f"-dict={folder / 'words.dict'}", "-print_final_stats=1",
    ]  # fmt: skip
    log = folder / "log.txt"
    with log.open("wb") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    said = log.read_text(encoding="utf-8", errors="replace")
    runs, covered, crash = _RUNS.search(said), _COVERED.findall(said), _CRASH.search(said)
    if runs is None or (status != 0 and crash is None):
        raise RuntimeError(f"The engine did not run; it says why in {log}.")
    return int(runs[1]), int(covered[-1]) if covered else 0, Path(crash[1]) if status != 0 and crash else None


def _escaped(word):
    """A word as libFuzzer's dictionaries want it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "surrogatepass"))


def _main():
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.registry import TARGETS
    target = TARGETS[sys.argv[1]]
    for seed in target.seeds():  # what a parser imports when it first needs it is then there
        with contextlib.suppress(Exception):  # the engine itself begins with the seeds and saves what breaks
            target.check(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
