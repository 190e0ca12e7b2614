"""The long run of the proof: ``python -m tests.prove --cases 100000``; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from dataclasses import asdict, fields

from tests.prove.machine import Tally, prove


def _share(cases: int, loud: bool) -> Tally | str:
    """One process's share; what went wrong comes back as text."""
    began_s = time.monotonic()

    def progress(tally: Tally) -> None:
        if loud and sys.stderr.isatty():
            rate = tally.cases / (time.monotonic() - began_s)
            print(f"\r{tally.cases} of {cases} in this process, {rate:.0f} a second", end="", file=sys.stderr)

    try:
        return prove(cases, progress=progress)
    except Exception as error:  # noqa: BLE001 - a leak, or a defect of the proof: both end the run, and are printed
        return "".join(traceback.format_exception(error))


def main() -> int:
    """Play the cases in several processes; returns 1 if something leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument(
        "--processes",
        type=int,
        default=3 * (os.cpu_count() or 1),
        help="three for each processor: much of the time is waited",
    )
    arguments = parser.parse_args()
    began_s = time.monotonic()
    share = -(-arguments.cases // arguments.processes)
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        shares = [pool.apply_async(_share, (share, number == 0)) for number in range(arguments.processes)]
        tallies = []
        for result in shares:
            tallies.append(result.get())
            if isinstance(tallies[-1], str):
                print(tallies[-1], file=sys.stderr)
                pool.terminate()  # one leak is enough
                break
    failed = [tally for tally in tallies if isinstance(tally, str)]
    whole = [tally for tally in tallies if isinstance(tally, Tally)]
    total = Tally(**{field.name: sum(getattr(tally, field.name) for tally in whole) for field in fields(Tally)})
    print(json.dumps({"prove": asdict(total), "leaks": len(failed), "seconds": round(time.monotonic() - began_s, 1)}))
    return int(bool(failed))
