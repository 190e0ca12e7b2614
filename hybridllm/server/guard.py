"""Who may ask at all: no browser page of somebody else's, nobody without the key, no head that is too long.

A browser sends requests for any page that it shows. It names the page's origin in them, and where a foreign name was made to
lead to this machine (DNS rebinding), it sends that name as ``Host``. Neither is answered, and no header ever allows it.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from hybridllm.server.problems import Problem
from hybridllm.server.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Scope

    from hybridllm.server.api_keys import ApiKeys
    from hybridllm.server.exchange import Exchange
    from hybridllm.server.settings import ServerSettings

__all__ = ["Guard", "header_values"]

_MOST_HEADERS = 100
_OPEN = frozenset({"/livez", "/readyz"})
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
_OF_THE_WILD = frozenset({"0.0.0.0", "::"})


class Guard:
    """Looks at a request's head.

    Args:
        settings: Where the server listens, and the names that it may be called.
        keys: The keys that open it.
    """

    def __init__(self, settings: ServerSettings, keys: ApiKeys) -> None:
        self._keys = keys
        self._head_limit_bytes = settings.head_limit_bytes
        self._names = frozenset(map(_plain_name, settings.allowed_hosts))
        if settings.host not in _OF_THE_WILD:
            self._names |= {_plain_name(settings.host)}

    def refusal(self, scope: Scope, exchange: Exchange) -> Problem | None:
        """Why a request is not answered; None if it may be. Notes in the exchange whether a key fits."""
        exchange.keyed = self._has_key(scope)
        return self._head_too_long(scope) or self._foreign(scope) or self._locked(scope, exchange)

    def _head_too_long(self, scope: Scope) -> Problem | None:
        headers = scope["headers"]
        size_bytes = sum(len(name) + len(value) + 4 for name, value in headers)
        size_bytes += len(scope["raw_path"]) + len(scope["query_string"])
        if size_bytes <= self._head_limit_bytes and len(headers) <= _MOST_HEADERS:
            return None
        return Problem(
            431,
            f"The request's head is larger than {self._head_limit_bytes} bytes or has more than {_MOST_HEADERS} headers. "
            "Send fewer headers.",
            code="head_too_large",
            headers=(("connection", "close"),),
        )

    def _foreign(self, scope: Scope) -> Problem | None:
        hosts = list(header_values(scope, b"host"))
        if len(hosts) != 1:  # RFC 9112, 3.2
            return Problem(
                400,
                "The request has no Host header, or several. Send one.",
                code="invalid_http",
                headers=(("connection", "close"),),
            )
        match = _HOST.fullmatch(hosts[0])
        if match is None or not self._is_ours(_plain_name(match["name"]), scope):
            return Problem(
                421,
                "The Host header does not name this server. Use its address, or start it with --allowed-host.",
                code="host_not_allowed",
            )
        own = f"{scope['scheme']}://{hosts[0]}".lower()
        origins = [value.lower() for value in header_values(scope, b"origin")]
        sites = [value.lower() for value in header_values(scope, b"sec-fetch-site")]
        if any(origin != own for origin in origins) or any(site not in ("same-origin", "none") for site in sites):
            return Problem(
                403,
                "The request comes from a page of another origin, and such requests are not answered.",
                "permission_error",
                "origin_not_allowed",
            )
        return None

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name in self._names:
            return True
        here = _plain_name((scope.get("server") or ("",))[0])
        return name == here or (is_loopback(here) and is_loopback(name))

    def _has_key(self, scope: Scope) -> bool:
        given = list(header_values(scope, b"authorization"))
        if len(given) != 1:
            return False
        scheme, _, key = given[0].partition(" ")
        return scheme.lower() == "bearer" and self._keys.fits(key.strip().encode("utf-8", "replace"))

    def _locked(self, scope: Scope, exchange: Exchange) -> Problem | None:
        if not self._keys or exchange.keyed or scope["path"] in _OPEN:
            return None
        return Problem(
            401,
            "The API key is missing or is not one of this server's. Send it as Authorization: Bearer KEY.",
            "authentication_error",
            "invalid_api_key",
            headers=(("www-authenticate", "Bearer"),),
        )


def header_values(scope: Scope, name: bytes) -> Iterator[str]:
    """Every value of a request's header, its name in lower case; bytes that are not UTF-8 become replacement characters."""
    return (value.decode("utf-8", "replace").strip() for key, value in scope["headers"] if key == name)


def _plain_name(name: str) -> str:
    """A name or address as it is compared: lower case, no brackets, no final dot, addresses in their one short form."""
    plain = name.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ip_address(plain))
    except ValueError:
        return plain
