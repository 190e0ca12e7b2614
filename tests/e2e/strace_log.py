"""Reads what ``strace -f -v -s 0 -e trace=network,io_uring_setup -o FILE`` wrote: who was spoken to, and in which family."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

__all__ = ["Destination", "NetworkLog", "read_log"]

_CALLS = frozenset({"connect", "sendto", "sendmsg", "sendmmsg"})
_LINE = re.compile(r"(?:\[pid +)?(?:(?P<pid>\d+)\]? +)?(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>[a-z_0-9]+)\((?P<arguments>.*)")
_RESUMED = re.compile(r"<\.\.\. (?P<name>[a-z_0-9]+) resumed>,? ?(?P<arguments>.*)")
_UNFINISHED = re.compile(r"\s*<unfinished \.\.\.>$")
_RESULT = re.compile(r"\)\s+= (?P<result>-?\d+|\?)")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_ADDRESS = re.compile(r"\{sa_family=(?P<family>\w+)(?P<rest>[^{}]*)\}")
_PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
_HOST = re.compile(r'inet_addr\("([^"]*)"\)|inet_pton\(AF_INET6, "([^"]*)"')
_UNIX_PATH = re.compile(r'sun_path=(@?"[^"]*")')
# A pointer in an address's place: the kernel could not read it, or strace did not, and then nobody knows where it led.
_UNREAD = {
    "connect": re.compile(r"^-?\d+(?:<[^>]*>)?, 0x[0-9a-f]+"),
    "sendto": re.compile(r", 0x[0-9a-f]+, \d+\)"),
    "sendmsg": re.compile(r"msg_name=0x|^-?\d+(?:<[^>]*>)?, 0x"),
    "sendmmsg": re.compile(r"msg_name=0x|^-?\d+(?:<[^>]*>)?, 0x"),
}
_HARMLESS_FAMILIES = frozenset({"AF_UNIX", "AF_LOCAL", "AF_NETLINK", "AF_UNSPEC"})
_NAME_SERVICE_PORTS = frozenset({53, 137, 853, 5353, 5355})
_NAME_SERVICES = ("nscd/socket", "resolve/io.systemd.Resolve", "avahi-daemon/socket")


@dataclass(frozen=True, slots=True)
class Destination:
    """One address that a call named."""

    call: str
    """``connect``, ``sendto``, ``sendmsg`` or ``sendmmsg``."""

    family: str
    """Address family, such as ``AF_INET6``; ``unreadable`` where the log does not say."""

    host: str
    """IP address, or a Unix socket's path; empty where there is none."""

    port: int | None
    """Port, for IP."""

    succeeded: bool
    """Whether the call gave no error; a connection that is still being made counts as one."""

    @property
    def is_beyond_loopback(self) -> bool:
        """Whether it leads, or may lead, away from this machine. Whatever is not understood does."""
        if self.family in _HARMLESS_FAMILIES:
            return False
        if self.family not in ("AF_INET", "AF_INET6"):
            return True
        try:
            address = ip_address(self.host)
        except ValueError:
            return True
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return not (mapped or address).is_loopback

    @property
    def is_lookup(self) -> bool:
        """Whether it asks for a name's address, of anybody: a resolver on loopback asks somebody else."""
        if self.family in ("AF_INET", "AF_INET6"):
            return self.port in _NAME_SERVICE_PORTS
        return self.family in ("AF_UNIX", "AF_LOCAL") and self.succeeded and self.host.endswith(_NAME_SERVICES)

    def __str__(self) -> str:
        port = "" if self.port is None else f" port {self.port}"
        return f"{self.call} {self.family} {self.host}{port}"


@dataclass(slots=True)
class NetworkLog:
    """What the traced processes did."""

    destinations: list[Destination] = field(default_factory=list)
    """Every address that was named, in order."""

    calls: int = 0
    """Calls of all kinds that were read; 0 means that nothing was traced."""

    pids: set[int] = field(default_factory=set)
    """Processes and threads."""

    rings: int = 0
    """Times that somebody set up an io_uring, through which one could connect unseen."""

    @property
    def beyond_loopback(self) -> list[Destination]:
        """Addresses that lead, or may lead, away from this machine."""
        return [destination for destination in self.destinations if destination.is_beyond_loopback]

    @property
    def lookups(self) -> list[Destination]:
        """Questions for a name's address."""
        return [destination for destination in self.destinations if destination.is_lookup]

    @property
    def unix_sockets(self) -> list[str]:
        """Paths of the Unix sockets that somebody tried to reach."""
        return [destination.host for destination in self.destinations if destination.family in ("AF_UNIX", "AF_LOCAL")]


def read_log(lines: Iterable[str]) -> NetworkLog:
    """Read a log; calls that were interrupted by another thread's are put together again first."""
    log = NetworkLog()
    for name, arguments in _whole_calls(lines, log.pids):
        log.calls += 1
        if name == "io_uring_setup":
            log.rings += 1
        elif name in _CALLS:
            log.destinations += _destinations(name, arguments)
    return log


def _whole_calls(lines: Iterable[str], pids: set[int]) -> Iterator[tuple[str, str]]:
    begun: dict[int, tuple[str, str]] = {}
    for line in lines:
        found = _LINE.match(line.rstrip("\n"))
        assert found is not None
        pid, rest = int(found["pid"] or 0), found["rest"]
        resumed, call = _RESUMED.match(rest), _CALL.match(rest)
        if resumed is None and call is None:
            continue  # a signal or an exit
        pids.add(pid)
        if resumed is not None:
            name, first = begun.pop(pid, (resumed["name"], ""))
            yield name, first + resumed["arguments"]
        elif call is not None and _UNFINISHED.search(call["arguments"]):
            begun[pid] = call["name"], _UNFINISHED.sub("", call["arguments"])
        elif call is not None:
            yield call["name"], call["arguments"]
    yield from begun.values()  # killed inside of the call


def _destinations(call: str, arguments: str) -> Iterator[Destination]:
    arguments = _without_data(arguments)  # which could look like an address
    results = _RESULT.findall(arguments)
    succeeded = bool(results) and (not results[-1].startswith("-") or "EINPROGRESS" in arguments)
    addresses = list(_ADDRESS.finditer(arguments))
    for address in addresses:
        rest = address["rest"]
        host, port, path = _HOST.search(rest), _PORT.search(rest), _UNIX_PATH.search(rest)
        named = (host[1] or host[2]) if host else path[1].replace('"', "") if path else ""
        yield Destination(call, address["family"], named, int(port[1]) if port else None, succeeded)
    if not addresses and _UNREAD[call].search(arguments):
        yield Destination(call, "unreadable", "", None, succeeded)


def _without_data(arguments: str) -> str:
    """The arguments with the texts taken out that are no part of an address."""

    def kept(text: re.Match[str]) -> str:
        before = arguments[: text.start()]
        return text[0] if before.endswith(("inet_addr(", "AF_INET6, ", "sun_path=", "sun_path=@")) else '""'

    return _TEXT.sub(kept, arguments)
