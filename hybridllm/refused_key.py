"""A key that the remote refuses is not shown to it again with every request."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from typing import TYPE_CHECKING

from hybridllm.errors import BreakerOpen, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.remote import Remote

__all__ = ["RefusedKey"]

_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 600.0
# A 403 may be about one request, so it takes as many in a row.
_FORBIDDEN = 403
_FORBIDDEN_IN_A_ROW = 3


class RefusedKey:
    """Leaves the remote alone after 401, 402, or several 403 in a row: a minute, then twice as long each time, ten minutes at most.

    It ends earlier when another key is in the environment variable. The variable is read for that only after a request was
    refused, and when another one has its permit.

    Args:
        remote: The remote.
        clock: Seconds that only go forward.
    """

    def __init__(self, remote: Remote, clock: Callable[[], float] = time.monotonic) -> None:
        self._remote = remote
        self._clock = clock
        self._secret = secrets.token_bytes(16)
        self._status = 0
        self._in_a_row = 0
        self._pauses = 0
        self._until_s: float | None = None
        self._refused: bytes | None = None

    @property
    def paused(self) -> bool:
        """Whether the remote is left alone, unless the key has changed."""
        return self._until_s is not None and self._clock() < self._until_s

    def check(self) -> None:
        """Check that the key may be shown; call it with a permit at hand.

        Raises:
            BreakerOpen: It was refused a short while ago.
        """
        if self._until_s is None:
            return
        left_s = self._until_s - self._clock()
        if left_s <= 0 or self._fingerprint() != self._refused:
            self._until_s = None
            return
        reason = "said that there is no credit left" if self._status == 402 else "refused the key"
        raise BreakerOpen(
            f"The remote {reason} (status {self._status}) and is not asked for another {math.ceil(left_s)} s, or until the key "
            "changes.",
            f"Check {'remote.api_key' if self._remote.api_key_env is None else self._remote.api_key_env}.",
            status=self._status,
            retry_after_s=left_s,
        )

    def note_refused(self, status: int) -> None:
        """The remote answered with 401, 402 or 403."""
        self._in_a_row += 1
        if status == _FORBIDDEN and self._in_a_row < _FORBIDDEN_IN_A_ROW:
            return
        fingerprint = self._fingerprint()
        if fingerprint != self._refused:
            self._pauses = 0
        self._refused, self._status = fingerprint, status
        self._until_s = self._clock() + min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._pauses, 10))
        self._pauses += 1

    def note_accepted(self) -> None:
        """The remote did what it was asked."""
        self._in_a_row = self._pauses = 0
        self._until_s = self._refused = None

    def _fingerprint(self) -> bytes | None:
        """What tells one key from another, and nothing about either; None without a key."""
        from hybridllm.egress.credentials import read_key

        try:
            key = read_key(self._remote)
        except ConfigError:  # the gate says so when it is to send one
            return None
        return None if key is None else hashlib.blake2b(key.encode(), key=self._secret, digest_size=16).digest()
