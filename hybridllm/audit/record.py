"""One record of the audit log, whose fields are names, counts and digests only: there is no room for content in it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from hybridllm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AuditRecord"]

Event = Literal["egress", "outcome"]

_LARGEST_COUNT = 2**63 - 1
_MOST_REDACTED = 256

# A policy's names are of the same shape (policies/loader.py), and a request's is "chatcmpl-" with hexadecimal digits.
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_SHAPES = {
    "event": "|".join(get_args(Event)),
    "request_id": r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}",
    "label": f"({_NAME})?",
    "rule": f"({_NAME})?",
    "policy": f"({_NAME})?",
    "policy_hash": r"([0-9a-f]{1,128})?",
    "place": f"({_NAME})?",
    "zone": f"({_NAME})?",
    "endpoint": r"(https?://([a-z0-9_.-]{1,254}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?)?",
    "body_sha256": r"([0-9a-f]{64})?",
    "outcome": r"([A-Za-z][A-Za-z0-9_.-]{0,63})?",
}
_TEXTS = {field: re.compile(shape) for field, shape in _SHAPES.items()}
_COUNTS = ("attempt", "body_bytes", "egress_bytes")
_DETECTOR = re.compile(_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """What the log keeps of one try, or of one request.

    Raises:
        AuditError: A field has not the shape that it should have. The error names the field and never shows its value.
    """

    event: Event
    """``egress``: written and synced before bytes go out; ``outcome``: what became of a request, also of one that the
    device served."""

    request_id: str
    """The request's name, as in ``reply.id``."""

    label: str
    """The request's label; empty if it never got one."""

    rule: str
    """Name of the policy's rule that decided; ``default`` if none matched."""

    policy: str
    """Name of the policy."""

    policy_hash: str
    """SHA-256 of the policy's meaning, as hexadecimal digits."""

    place: str
    """``local``, or the name of the remote."""

    zone: str
    """The place's zone; ``device`` for the device."""

    endpoint: str
    """Scheme, host and port; empty for the device."""

    attempt: int
    """Which try of the request, counted from 1 over all places; 0 if none was made."""

    body_bytes: int
    """Length of the request body that this record is about."""

    body_sha256: str = ""
    """SHA-256 of that body, as hexadecimal digits; empty if nothing was to be sent."""

    redacted: tuple[str, ...] = ()
    """Detectors whose findings were replaced by placeholders before the body was made."""

    outcome: str = ""
    """``served``, ``failed``, ``cancelled``, ``refused``, or the class name of an error; empty in an ``egress`` record."""

    egress_bytes: int = 0
    """Bytes of request bodies that left the device, all tries of the request together."""

    duration_s: float | None = None
    """How long it took, in seconds; None if that is not known yet."""

    def __post_init__(self) -> None:
        for field, shape in _TEXTS.items():
            value = getattr(self, field)
            if not isinstance(value, str) or shape.fullmatch(value) is None:
                raise _misshapen(field)
        for field in _COUNTS:
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_COUNT:
                raise _misshapen(field)
        if (
            not isinstance(self.redacted, tuple)
            or len(self.redacted) > _MOST_REDACTED
            or not all(isinstance(name, str) and _DETECTOR.fullmatch(name) for name in self.redacted)
        ):
            raise _misshapen("redacted")
        seconds = self.duration_s
        if seconds is not None and (
            not isinstance(seconds, int | float)
            or isinstance(seconds, bool)
            or not math.isfinite(seconds)
            or seconds < 0
        ):
            raise _misshapen("duration_s")

    def to_fields(self) -> dict[str, Any]:
        """The record as values of JSON, in the order in which a line has them."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["redacted"] = list(self.redacted)
        return fields

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> AuditRecord:
        """The record that a parsed line holds.

        Raises:
            AuditError: The line is one of the log's own (``header``, ``recovered``), or not of this version.
        """
        missing = [name for name in cls.__slots__ if name not in line]
        if missing:
            raise _misshapen(missing[0])
        redacted = line["redacted"]
        given = {name: line[name] for name in cls.__slots__}
        return cls(**{**given, "redacted": tuple(redacted) if isinstance(redacted, list) else redacted})


def _misshapen(field: str) -> AuditError:
    return AuditError(
        f"The field {field} of an audit record has not the shape that the log allows.",
        "Names, counts and digests only; what was said has no place in it.",
    )
