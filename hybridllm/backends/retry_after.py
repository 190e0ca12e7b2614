"""The ``Retry-After`` header (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["retry_after_s"]


def retry_after_s(value: str, now_s: float) -> float | None:
    """Seconds to wait; None if the header is missing or not understood.

    Args:
        value: The header, as whole seconds or as a date.
        now_s: The time now, in Unix seconds.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # it says -0000; dates in HTTP are in UTC, whatever the zone of this machine
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
