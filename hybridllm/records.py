"""What is written down of a client's requests: the audit log, which can keep bytes from leaving, and the decision log.

Both are written by one thread of their own, in order, so that a slow disk never holds up an answer.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hybridllm.errors import AuditError, BadRequest
from policies import DEVICE_ZONE, LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.audit import AuditLog
    from hybridllm.decision_log import DecisionLog
    from hybridllm.permits import Permit
    from hybridllm.remote import Remote
    from hybridllm.router import Ended

__all__ = ["Records"]

_log = logging.getLogger("hybridllm.audit")


class Records:
    """The logs of one client.

    Args:
        audit: Folder of the audit log, or None.
        decision_log: File of the decision log, or None.
        remote: The remote, whose zone and origin the records name.

    Raises:
        BadRequest: One of them is not a path.
        AuditError: The folder cannot be one.
    """

    def __init__(self, audit: str | Path | None, decision_log: str | Path | None, remote: Remote | None) -> None:
        self._audit: AuditLog | None = None
        self._decisions: DecisionLog | None = None
        for name, path in (("audit", audit), ("decision_log", decision_log)):
            if path is not None and not isinstance(path, str | Path):
                raise BadRequest(
                    f"{name} is a {type(path).__name__}, expected a path.", f'Write {name}="…".', field=name
                )
        if audit is not None:
            from hybridllm.audit import AuditLog

            self._audit = AuditLog(audit)
        if decision_log is not None:
            from hybridllm.decision_log import DecisionLog

            self._decisions = DecisionLog(decision_log)
        self._remote = remote
        self._writer: ThreadPoolExecutor | None = None

    async def note_egress(self, permit: Permit, body_bytes: int) -> None:
        """Record what is about to leave; it is on the disk when this returns.

        Raises:
            AuditError: It could not be recorded, so it must not leave.
        """
        if self._audit is None:
            return
        from hybridllm.audit import AuditRecord

        record = AuditRecord(
            event="egress",
            request_id=permit.request_id,
            label=permit.label,
            rule=permit.rule,
            policy=permit.policy,
            policy_hash=permit.policy_hash,
            place=permit.place,
            zone=permit.zone,
            endpoint=permit.origin,
            attempt=permit.attempt,
            body_bytes=body_bytes,
            body_sha256=permit.body_sha256,
            redacted=permit.redacted,
        )
        audit = self._audit
        await asyncio.get_running_loop().run_in_executor(self._thread(), lambda: audit.append(record, sync=True))

    def note_end(self, ended: Ended) -> None:
        """Record what became of a request; it cannot change any more, so a log that cannot be written is only warned of."""
        try:
            if self._audit is not None:
                self._thread().submit(self._guarded, self._append_outcome, ended)
            if self._decisions is not None:
                self._thread().submit(self._guarded, self._append_decision, ended)
        except RuntimeError:  # no thread can be started any more; the answer is there all the same
            _log.warning("A record could not be written: there is no thread to write it.")

    async def aclose(self) -> None:
        """Write what is left and close."""
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.to_thread(writer.shutdown)
        if self._audit is not None:
            try:
                await asyncio.to_thread(self._audit.close)
            except AuditError as error:
                _log.warning("%s", error)

    def _thread(self) -> ThreadPoolExecutor:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hybridllm-records")
        return self._writer

    @staticmethod
    def _guarded(write: Callable[[Ended], None], ended: Ended) -> None:
        try:
            write(ended)
        except AuditError as error:
            _log.warning("%s", error)
        except Exception as error:  # noqa: BLE001 - nobody waits for this thread, and the answer was given already
            _log.warning("A record could not be written: %s.", type(error).__name__)

    def _append_outcome(self, ended: Ended) -> None:
        from hybridllm.audit import AuditRecord

        assert self._audit is not None
        route, decision = ended.route, ended.assessment.decision
        served = [attempt for attempt in route.attempts if attempt.outcome == "served"]
        asked = served or route.attempts
        last = asked[-1] if asked else None
        place = last.place if last is not None else ""
        afar = self._remote if place not in ("", LOCAL) else None
        record = AuditRecord(
            event="outcome",
            request_id=ended.request_id,
            label=route.label,
            rule=route.rule,
            policy=route.policy,
            policy_hash=route.policy_hash,
            place=place,
            zone=afar.zone if afar is not None else DEVICE_ZONE if place else "",
            endpoint=afar.origin if afar is not None else "",
            attempt=len(route.attempts),
            body_bytes=0,
            redacted=decision.redact if place in decision.redacted_places else (),
            outcome=last.outcome if last is not None else "refused",
            egress_bytes=route.egress_bytes,
            duration_s=ended.duration_s,
        )
        self._audit.append(record, sync=False)

    def _append_decision(self, ended: Ended) -> None:
        from hybridllm.decision_log import entry_of

        assert self._decisions is not None
        at = ended.assessment
        entry = entry_of(
            at.labelled.policy,
            at.facts,
            at.decision,
            ended.route,
            ended.usage,
            request_id=ended.request_id,
            at_s=ended.began_at_s,
        )
        self._decisions.append(entry)
