"""The audit log: what left this device, and by which rule; never what was said.

Append-only JSON lines, each sealed with a MAC over the line before it, so that nothing in the log can be changed, moved or
taken out of it unnoticed by somebody without the key. Its limits are in ``docs/audit.md``.
"""

from __future__ import annotations

from hybridllm.audit.key import default_folder, default_key_file
from hybridllm.audit.log import AuditLog
from hybridllm.audit.reading import follow, tail
from hybridllm.audit.record import AuditRecord
from hybridllm.audit.verify import AuditReport, FileReport, Finding, verify_audit

__all__ = [
    "AuditLog",
    "AuditRecord",
    "AuditReport",
    "FileReport",
    "Finding",
    "default_folder",
    "default_key_file",
    "follow",
    "tail",
    "verify_audit",
]
