"""A connection over asyncio as httpcore wants one: whatever is written is checked at that moment, what is read is counted.

httpcore's own connections go through anyio, whose scopes around every read and write cost as much as a whole request does here.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpcore

from hybridllm.egress.exchange import count_read
from hybridllm.egress.tls import Channel, TlsChannel
from hybridllm.errors import AddressRefused, PolicyTightened

if TYPE_CHECKING:
    import ssl

    from hybridllm.addresses import IPAddress
    from hybridllm.egress.destination import Destination

__all__ = ["CheckedStream", "open_stream"]

_MOST_UNREAD_BYTES = 256 * 1024


async def open_stream(hop: Destination, address: IPAddress, timeout_s: float) -> CheckedStream:
    """Connect to one address of a destination.

    Args:
        hop: The destination.
        address: One of its addresses, which was checked.
        timeout_s: Longest wait.

    Raises:
        OSError: There is no connection; a ``TimeoutError`` is one.
    """
    async with asyncio.timeout(timeout_s):
        _, wire = await asyncio.get_running_loop().create_connection(_Wire, str(address), hop.port)
    return CheckedStream(wire, hop, address)


class CheckedStream(httpcore.AsyncNetworkStream):
    """One connection, in clear or, after ``start_tls``, under TLS.

    The first bytes after a read are held back until more follow or an answer is waited for. So the head of a request, which has
    the key in it, leaves only together with the body, which is checked last.

    Args:
        wire: The connection.
        hop: Where it leads; says whether something may be sent there at this moment.
        address: The address there.
    """

    def __init__(self, wire: _Wire, hop: Destination, address: IPAddress) -> None:
        self._wire = wire
        self._channel: Channel = wire
        self._hop = hop
        self._address = address
        self._allowed = ""  # the kind of addresses under which this one was allowed when it was checked last
        self._held = b""
        self._holds = True
        self._unread = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What came, at least one byte; none at the end."""
        if self._held:
            await self._send(b"", timeout)
        self._holds = True
        data = self._unread or await self._channel.receive(timeout)
        self._unread = data[max_bytes:]
        data = data[:max_bytes]
        count_read(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send, or keep until the next call.

        Raises:
            PolicyTightened: A policy that came since does not allow it.
        """
        if self._holds:
            self._check()
            self._holds, self._held = False, buffer
        else:
            await self._send(buffer, timeout)

    async def aclose(self) -> None:
        """Close at once; what was held back is never sent."""
        self._held = b""
        await self._wire.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same connection under TLS, or under one more."""
        try:
            if self._held:
                await self._send(b"", timeout)
            self._check()
            async with asyncio.timeout(timeout):
                self._channel = await TlsChannel.opened(self._channel, ssl_context, server_hostname)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout from error
            if isinstance(error, OSError | httpcore.NetworkError):  # the errors of TLS are of the first kind
                raise httpcore.ConnectError from error
            raise
        self._holds = True
        return self

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: whether there is something to read, and the TLS object."""
        if info == "is_readable":
            return self._unread != b"" or self._wire.readable
        return self._channel.ssl_object if info == "ssl_object" else None

    def _check(self) -> None:
        kind = self._hop.addresses()
        if kind == self._allowed:
            return
        try:
            self._hop.check(self._address)
        except AddressRefused as refused:  # it was allowed when the connection was made
            raise PolicyTightened(refused.message, refused.mend) from None
        self._allowed = kind

    async def _send(self, more: bytes, timeout: float | None) -> None:
        self._check()
        data, self._held = self._held + more, b""
        if data:
            await self._channel.send(data, timeout)


class _Wire(asyncio.Protocol):
    """The connection itself, in clear: collects what comes."""

    ssl_object = None

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._came: deque[bytes] = deque()
        self._unread_bytes = 0
        self._paused = False
        self._ended = False
        self._full = False  # the system did not take all that was written
        self._failure: Exception | None = None
        self._reader: asyncio.Future[bool] | None = None
        self._read_by_s = math.inf
        self._read_timer: asyncio.TimerHandle | None = None
        self._writer: asyncio.Future[bool] | None = None

    # ---- told by asyncio ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # So that a body which the system did not take is waited for, and that within its time.
        self._transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        self._came.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > _MOST_UNREAD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return False  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._full, self._failure = True, False, exc
        self._cancel_read_timer()
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    # ---- for whoever reads and writes ----

    async def receive(self, timeout_s: float | None) -> bytes:
        """What came; nothing at the end."""
        if not self._came and not self._ended:
            await self._wait_for_bytes(timeout_s)
        if not self._came:
            if self._failure is not None:
                raise httpcore.ReadError from self._failure
            return b""
        data = self._came.popleft()
        self._unread_bytes -= len(data)
        if self._paused and not self._came and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def _wait_for_bytes(self, timeout_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        self._read_by_s = math.inf if timeout_s is None else loop.time() + timeout_s
        if timeout_s is not None and (self._read_timer is None or self._read_by_s < self._read_timer.when()):
            self._cancel_read_timer()
            self._read_timer = loop.call_at(self._read_by_s, self._check_reader)
        try:
            if not await self._reader:
                raise httpcore.ReadTimeout
        finally:
            self._reader = None

    def _check_reader(self) -> None:
        """The timer stays set when what was waited for came: mostly it goes off too early, and is set again if somebody waits."""
        self._read_timer = None
        if self._reader is None or self._read_by_s == math.inf:
            return
        loop = asyncio.get_running_loop()
        if self._read_by_s > loop.time():
            self._read_timer = loop.call_at(self._read_by_s, self._check_reader)
        else:
            _wake(self._reader, in_time=False)

    def _cancel_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    async def send(self, data: bytes, timeout_s: float | None) -> None:
        """Send, and wait until the system has taken it."""
        if self._transport is None or self._transport.is_closing():
            raise httpcore.WriteError
        self._transport.write(data)
        if self._full:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                in_time = await _within(self._writer, timeout_s)
            finally:
                self._writer = None
            if not in_time:
                raise httpcore.WriteTimeout
        if self._failure is not None:
            raise httpcore.WriteError from self._failure

    async def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
            await asyncio.sleep(0)  # in which the transport closes its socket

    @property
    def readable(self) -> bool:
        """Whether something came, its end included, that the event loop may not have come to yet."""
        if self._came or self._ended or self._transport is None:
            return True
        connection = self._transport.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return True
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([connection], [], [], 0)[0])
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        return bool(poll.poll(0))


def _wake(waiter: asyncio.Future[bool] | None, *, in_time: bool = True) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(in_time)


async def _within(waiter: asyncio.Future[bool], timeout_s: float | None) -> bool:
    """Wait; False where it took too long."""
    if timeout_s is None:
        return await waiter
    alarm = asyncio.get_running_loop().call_later(timeout_s, partial(_wake, waiter, in_time=False))
    try:
        return await waiter
    finally:
        alarm.cancel()
