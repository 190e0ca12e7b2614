"""Tells systemd how the server is (``sd_notify(3)``): one datagram each to the socket that ``NOTIFY_SOCKET`` names.

The protocol is a line of text in a datagram, so a library for it would be longer than this. Elsewhere nothing is told.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["Notifier"]

_log = logging.getLogger("hybridllm.server")


class Notifier:
    """Whom to tell.

    Args:
        address: Path of the socket, or ``@`` and its abstract name; empty for nobody.
        watchdog_s: Seconds within which the service manager has to hear from us; None if it does not watch.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s if address else None
        self._address = address
        self._failed = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Self:
        """As the service manager says; takes the variables away, so that no process that we start speaks for us."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        meant_for = environment.pop("WATCHDOG_PID", str(os.getpid()))
        watched = watchdog_us.isdigit() and int(watchdog_us) > 0 and meant_for == str(os.getpid())
        if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            address = ""
        return cls(address, int(watchdog_us) / 1e6 if watched else None)

    def ready(self, status: str) -> None:
        """The server can answer, or has read its configuration again."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """It reads its configuration again; ``ready`` ends that."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def status(self, status: str) -> None:
        """One line for a person."""
        self._tell(f"STATUS={status}")

    def stopping(self) -> None:
        """It ends."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """It still answers; to be told in half of ``watchdog_s``."""
        self._tell("WATCHDOG=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)  # a service manager that does not read must not hold the event loop
                channel.sendto(text.encode(), address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warning("The service manager cannot be told anything: %s.", error.strerror or error)
