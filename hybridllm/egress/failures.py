"""Turns what httpcore, h11 and the system raise into our own errors."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from hybridllm.errors import HybridLLMError, RemoteError, RemoteUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["mapped", "unreachable"]


def mapped(error: Exception) -> Exception:
    """What to raise, ``from None``, for an error of a connection: ours, or the same one where it is ours or a defect.

    The texts of the others quote what a server said, which may be what it was sent, so they are wiped out: a crash reporter
    that follows an error to its cause finds nothing.
    """
    if isinstance(error, HybridLLMError):
        return error
    import httpcore

    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        _wipe(error)
        return unreachable(error, waited=isinstance(error, httpcore.ConnectTimeout))
    if isinstance(error, httpcore.ProxyError):
        _wipe(error)
        return RemoteUnreachable("The remote cannot be reached: its proxy refuses.", "Check remote.proxy.")
    if isinstance(error, httpcore.TimeoutException):
        _wipe(error)
        return RemoteError("The remote was silent for too long.", "Try again later.")
    broken = (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
        OSError,  # TLS that breaks in the middle of an answer may come as it is
        ValueError,  # as does a number in the answer's head that is too long to be one
    )
    if isinstance(error, broken):
        _wipe(error)
        return RemoteError(f"The connection to the remote broke ({type(error).__name__}).", "Try again later.")
    return error


def unreachable(error: BaseException, *, waited: bool | None = None) -> RemoteUnreachable:
    """The error of a connection that did not come about.

    Args:
        error: What came instead.
        waited: Whether the time was over; None to tell by the error.
    """
    waited = isinstance(error, TimeoutError) if waited is None else waited
    what = "did not answer in time" if waited else "cannot be connected to"
    return RemoteUnreachable(f"The remote {what}{_reason(error)}.", "Check the network and remote.base_url.")


def _reason(error: BaseException) -> str:
    """Why a connection failed, from the operating system's error or TLS's, in words of our own."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ": its certificate is not valid"
        if isinstance(cause, ssl.SSLError):
            return ": TLS failed"
        if isinstance(cause, socket.gaierror):
            return ": its name is unknown"
        if isinstance(cause, ConnectionRefusedError):
            return ": it refused the connection"
    return ""


def _wipe(error: BaseException) -> None:
    for cause in _chain(error):
        # The system's own errors have numbers and texts of the system.
        if not isinstance(cause, OSError):
            cause.args = ()


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
