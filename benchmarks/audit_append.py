"""Times appends to the audit log: prints JSON with medians and spreads in microseconds.

``unsynced`` is what a record of an answer costs; ``synced`` waits for the disk, as a record does before bytes leave. Also
timed: opening a full file, whose whole chain is checked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hybridllm.audit import AuditLog, AuditRecord, verify_audit

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE_BYTES = 8 * 1024 * 1024


def _record(index: int) -> AuditRecord:
    return AuditRecord(
        event="egress",
        request_id=f"chatcmpl-{index:032x}",
        label="public",
        rule="slow-here",
        policy="kiosk",
        policy_hash="5e" * 32,
        place="remote",
        zone="cloud",
        endpoint="https://llm.example:443",
        attempt=1,
        body_bytes=2048,
        body_sha256="a7" * 32,
    )


def _spread_us(samples_us: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(samples_us, n=100)
    return {
        "median_us": round(statistics.median(samples_us), 1),
        "p05_us": round(cuts[4], 1),
        "p95_us": round(cuts[94], 1),
        "p99_us": round(cuts[98], 1),
    }


def _timed_us(run: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - began) / 1000


def _appends(log: AuditLog, count: int, *, sync: bool) -> list[float]:
    records = [_record(index) for index in range(count)]
    return [_timed_us(lambda record=record: log.append(record, sync=sync)) for record in records]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synced", type=int, default=500, help="synced appends")
    parser.add_argument("--opens", type=int, default=5, help="openings of a full file")
    parser.add_argument("--folder", default=None, help="where to write (default: the system's temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder, key_file = Path(temporary) / "log", Path(temporary) / "audit.key"
        with AuditLog(folder, key_file=key_file, max_bytes=2 * _FILE_BYTES) as log:
            log.open()
            synced_us = _appends(log, arguments.synced, sync=True)
            unsynced_us: list[float] = []
            while (folder / "audit-000001.jsonl").stat().st_size < _FILE_BYTES:
                unsynced_us += _appends(log, 1000, sync=False)
        opens_us = [_timed_us(AuditLog(folder, key_file=key_file).open) for _ in range(arguments.opens)]
        verify_us = _timed_us(lambda: verify_audit(folder, key_file=key_file))
        report = verify_audit(folder, key_file=key_file)
        if not report.ok:
            raise SystemExit("The log that was written does not verify.")
    print(
        json.dumps(
            {
                "benchmark": "audit_append",
                "synced": {"appends": len(synced_us), **_spread_us(synced_us)},
                "unsynced": {"appends": len(unsynced_us), **_spread_us(unsynced_us)},
                "open_full_file_ms": [round(value / 1000, 1) for value in (min(opens_us), max(opens_us))],
                "verify_ms": round(verify_us / 1000, 1),
                "lines": report.files[0].lines,
            }
        )
    )


if __name__ == "__main__":
    main()
