"""Where a connection goes: the one host of the configuration, resolved once, every address checked before any is used."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from hybridllm.addresses import literal_address, refusal_of
from hybridllm.errors import AddressRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hybridllm.addresses import IPAddress
    from hybridllm.remote import Remote

__all__ = ["Destination"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and port that connections are made to, and what its addresses have to be."""

    host: str
    """Name or address."""

    port: int
    """TCP port."""

    in_clear: bool
    """Whether something that must not be read goes over this hop without TLS."""

    addresses: Callable[[], str]
    """Which addresses the zone may have at this moment: one of ``policies.ADDRESSES``."""

    what: str = "remote"
    """What an error calls it."""

    @classmethod
    def of(cls, remote: Remote, addresses: Callable[[], str]) -> Destination:
        """The first hop on the way to a remote: its proxy, if it has one."""
        host, port = remote.first_hop
        if remote.proxy is None:
            return cls(host, port, remote.plain_http, addresses)
        # Of a tunnel through a plain proxy everybody can read the names; of a request in clear all; and any password.
        readable = remote.proxy.lower().startswith("http:") and (remote.plain_http or "@" in remote.proxy)
        return cls(host, port, readable, addresses, what="proxy")

    async def connect(self, open_at: Callable[[IPAddress, float], Awaitable[_T]], timeout_s: float) -> _T:
        """Connect to the first of its addresses that answers; each gets its share of the time that is left.

        Args:
            open_at: Opens a connection to an address (never a name, so that nothing is looked up again) within so many
                seconds, or raises ``OSError``, of which ``TimeoutError`` is one.
            timeout_s: Longest wait altogether, for the lookup too.

        Returns:
            What ``open_at`` gave.

        Raises:
            OSError: There is no connection.
            AddressRefused: An address is not allowed.
        """
        clock = asyncio.get_running_loop().time
        end_s = clock() + timeout_s
        async with asyncio.timeout_at(end_s):
            addresses = await self.resolve()
        failure = OSError("The name has no address.")
        for position, address in enumerate(addresses):
            share_s = max(0.0, end_s - clock()) / (len(addresses) - position)
            try:
                return await open_at(address, share_s)
            except OSError as error:
                failure = error
        raise failure

    async def resolve(self) -> list[IPAddress]:
        """Look the name up, once, and check every address that it has.

        Raises:
            OSError: The name is unknown, or the resolver does not answer.
            AddressRefused: One of its addresses is not allowed, so that none is used.
        """
        literal = literal_address(self.host)
        if literal is not None:
            found = [literal]
        else:
            loop = asyncio.get_running_loop()
            answers = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            found = list(dict.fromkeys(_address(answer[4]) for answer in answers))
        for address in found:
            self.check(address)
        return found

    def check(self, address: IPAddress) -> None:
        """Check that something may be sent to an address, as the policy is at this moment.

        Raises:
            AddressRefused: It may not.
        """
        refusal = refusal_of(address, private_only=self.addresses() != "any", in_clear=self.in_clear)
        if refusal is not None:
            raise AddressRefused(f"Nothing was sent: the {self.what} is at {address}, {refusal.why}.", refusal.mend)


def _address(sockaddr: tuple[Any, ...]) -> IPAddress:
    """The address in what the resolver gave; a link-local IPv6 address is useless without the interface that it is on."""
    text = str(sockaddr[0])
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    return ip_address(f"{text}%{scope}" if scope and "%" not in text else text)
