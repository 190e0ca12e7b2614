"""What a failure says about a remote: whether it can be reached, whether it is well, or only that it did not like the request."""

from __future__ import annotations

from enum import Enum

__all__ = ["Fault", "fault_of_status"]


class Fault(Enum):
    """What was wrong with one try."""

    UNREACHABLE = "unreachable"
    """No connection came about; nothing was sent."""

    BROKEN = "broken"
    """The connection broke before the head of an answer, as one does that was kept open for too long."""

    CAPTIVE = "captive"
    """Somebody else answered in the remote's name."""

    OVERLOADED = "overloaded"
    """The remote has too much to do, or we ask too often."""

    FAILING = "failing"
    """The remote failed, or its answer broke off or is not one."""

    SILENT = "silent"
    """Nothing came for too long."""

    KEY = "key"
    """The remote knows the key no more, or the account has no credit left."""

    REQUEST = "request"
    """The remote does not like this request; it is well."""


_OVERLOADED = frozenset({408, 425, 429})
_KEY = frozenset({401, 402, 403})
_NETWORK_LOGIN = 511  # RFC 6585, section 6


def fault_of_status(status: int) -> Fault:
    """What an HTTP status other than 200 says."""
    if status in _OVERLOADED:
        return Fault.OVERLOADED
    if status in _KEY:
        return Fault.KEY
    if 300 <= status < 400 or status == _NETWORK_LOGIN:
        return Fault.CAPTIVE
    if 400 <= status < 500:
        return Fault.REQUEST
    return Fault.FAILING
