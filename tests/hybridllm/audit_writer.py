"""A process that appends to an audit log without end, and says on standard output what is on the disk for certain.

    python -m tests.hybridllm.audit_writer FOLDER KEY_FILE NAME COUNT

Records are called ``NAME-0``, ``NAME-1``…; every third is not synced. COUNT 0 goes on until somebody ends it.
"""

from __future__ import annotations

import itertools
import sys

from hybridllm.audit import AuditLog, AuditRecord

MAX_BYTES = 6000


def record(name, **changed):
    """A record as the client writes them."""
    fields = {
        "event": "egress", "request_id": name, "label": "public", "rule": "slow-here", "policy": "kiosk",
        "policy_hash": "5e" * 32, "place": "remote", "zone": "cloud", "endpoint": "https://llm.example:443", "attempt": 1,
        "body_bytes": 2048, "body_sha256": "a7" * 32, "redacted": ("email",),
    }  # fmt: skip
    return AuditRecord(**{**fields, **changed})


def main(folder, key_file, name, count):
    """Append; one line of output for each synced record, as soon as it is synced."""
    log = AuditLog(folder, key_file=key_file, max_bytes=MAX_BYTES)
    for index in range(int(count)) if int(count) else itertools.count():
        sync = index % 3 != 2
        log.append(record(f"{name}-{index}"), sync=sync)
        if sync:
            sys.stdout.write(f"{name}-{index}\n")
            sys.stdout.flush()
    log.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
