"""What an operator can choose about the server, and which choices are refused."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from hybridllm.errors import ConfigError

if TYPE_CHECKING:
    from hybridllm.server.api_keys import ApiKeys

__all__ = ["ServerSettings", "is_loopback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server listens and what it bears.

    Attributes:
        host: Address to listen on; anything but a loopback address needs an API key.
        port: Port to listen on; 0 takes a free one.
        allowed_hosts: Names that a request's ``Host`` header may have besides the address and ``localhost``.
        metrics: Whether ``/metrics`` is served; None serves it on loopback only.
        max_requests: Chat completions under way at the same time; one more is refused with 429.
        max_connections: Open connections; one more is closed at once.
        body_limit_bytes: Largest body of a request.
        head_limit_bytes: Largest request line and headers together.
        head_timeout_s: Seconds within which the head of a request has to be there.
        body_timeout_s: Seconds within which its body has to be there.
        send_timeout_s: Seconds for which a client may leave what was sent to it unread.
        keep_alive_s: Seconds for which an idle connection is kept.
        ping_s: Seconds of silence after which a stream gets a keep-alive comment.
        drain_s: Seconds that running answers get to become whole when the server ends.
        access_log: Whether each request is logged, without any content.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    allowed_hosts: frozenset[str] = frozenset()
    metrics: bool | None = None
    max_requests: int = 64
    max_connections: int = 512
    body_limit_bytes: int = 4 * 2**20
    head_limit_bytes: int = 16 * 2**10
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    send_timeout_s: float = 60.0
    keep_alive_s: int = 30
    ping_s: float = 15.0
    drain_s: float = 30.0
    access_log: bool = True

    @property
    def serves_metrics(self) -> bool:
        """Whether ``/metrics`` is there."""
        return is_loopback(self.host) if self.metrics is None else self.metrics

    def check(self, keys: ApiKeys) -> None:
        """Check that nobody from elsewhere can ask without a key.

        Raises:
            ConfigError: The address can be reached from elsewhere, and there is no key.
        """
        if not keys and not is_loopback(self.host):
            raise ConfigError(
                f"The address {self.host!r} can be reached from elsewhere, and no API key is set.",
                "Give --api-key-file or --api-key-env, or listen on 127.0.0.1.",
                key="host",
            )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a server on ``host``; of names only ``localhost`` counts."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
