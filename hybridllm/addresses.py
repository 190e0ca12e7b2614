"""What kind of place an IP address leads to, judged without asking anybody; and whether something may be sent there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["AddressKind", "IPAddress", "Refusal", "kind_of", "literal_address", "refusal_of"]

IPAddress = IPv4Address | IPv6Address

_PRIVATE_4 = tuple(map(IPv4Network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")))
_PRIVATE_6 = tuple(map(IPv6Network, ("::1/128", "fc00::/7", "fe80::/10")))
# Not addresses of one server: this network and unspecified, multicast, reserved and broadcast (RFC 6890).
_NEVER_4 = tuple(map(IPv4Network, ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")))
# The same, with unspecified among the long deprecated IPv4-compatible ones (RFC 4291, 2.5.5.1), and the prefix of local
# translators (RFC 8215), in which nobody else can tell where the IPv4 address stands.
_NEVER_6 = tuple(map(IPv6Network, ("::/96", "ff00::/8", "64:ff9b:1::/48")))
# What clouds answer with a machine's credentials: AWS, Google, Azure and others; AWS for containers; Alibaba; Oracle.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254", "fd00:ec2::254", "fd20:ce::254",
            "169.254.170.2", "169.254.170.23", "fd00:ec2::23",
            "100.100.100.200",
            "192.0.0.192",
        ),
    )
)  # fmt: skip
# Translated to IPv4 on the way, with its address in the last 32 bits: NAT64 (RFC 6052) and SIIT (RFC 2765).
_TRANSLATED = tuple(map(IPv6Network, ("64:ff9b::/96", "::ffff:0:0:0/96")))
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


class AddressKind(Enum):
    """Where an address leads."""

    PRIVATE = "private"
    """Loopback, RFC 1918, link-local, or a unique local IPv6 address (RFC 4193)."""

    PUBLIC = "public"
    """Anywhere else, also the provider's shared network (RFC 6598) and whatever a translator or tunnel makes of it."""

    NEVER = "never"
    """Not one server (unspecified, multicast, broadcast, reserved), or a cloud's metadata service."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing may be sent to an address."""

    why: str
    """A clause that goes on after the address, beginning with ``which``."""

    mend: str
    """What to do about it."""


def kind_of(address: IPAddress) -> AddressKind:
    """The kind of an address.

    An IPv4-mapped address is its IPv4 address, because the system connects to that. An address that leads through a
    translator or a tunnel (NAT64, SIIT, 6to4, Teredo, ISATAP) is never private, whatever it has inside, since it leaves the
    network to get there; and it is refused if the address inside is.
    """
    if isinstance(address, IPv4Address):
        if address in _METADATA or any(address in network for network in _NEVER_4):
            return AddressKind.NEVER
        return AddressKind.PRIVATE if any(address in network for network in _PRIVATE_4) else AddressKind.PUBLIC
    if address.ipv4_mapped is not None:
        return kind_of(address.ipv4_mapped)
    plain = IPv6Address(int(address))  # a scope is no part of what it is compared with
    if any(plain in network for network in _PRIVATE_6[:1]):
        return AddressKind.PRIVATE
    if plain in _METADATA or any(plain in network for network in _NEVER_6):
        return AddressKind.NEVER
    inside = _inside(plain)
    if inside:
        never = any(kind_of(one) is AddressKind.NEVER for one in inside)
        return AddressKind.NEVER if never else AddressKind.PUBLIC
    return AddressKind.PRIVATE if any(plain in network for network in _PRIVATE_6) else AddressKind.PUBLIC


def literal_address(host: str) -> IPAddress | None:
    """The address that a URL's host is; None if it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def refusal_of(address: IPAddress, *, private_only: bool, in_clear: bool) -> Refusal | None:
    """Why nothing may be sent to an address; None if it may.

    Args:
        address: The address.
        private_only: Whether the zone allows private addresses only.
        in_clear: Whether what is sent could be read on the way.
    """
    kind = kind_of(address)
    if kind is AddressKind.NEVER:
        return Refusal(
            "which is not one server's address, or is a metadata service's",
            "Give the server's own address; on this device that is 127.0.0.1.",
        )
    if kind is AddressKind.PRIVATE:
        return None
    if in_clear:
        return Refusal(
            "which is outside private networks, and plain http would show what is sent to everybody on the way",
            "Use https.",
        )
    if private_only:
        return Refusal(
            "which is outside private networks, and its zone has only those",
            "Check the name and the network, or give the zone `addresses: any` in the policy.",
        )
    return None


def _inside(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a translator or a tunnel would send it on to."""
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if any(address in network for network in _TRANSLATED):
        return (last,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return (last,)
    return ()
