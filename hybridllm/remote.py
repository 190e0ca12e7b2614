"""The optional remote: an OpenAI-compatible server, and how patiently it is treated."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urlsplit

from hybridllm.addresses import literal_address, refusal_of
from hybridllm.capabilities import OPENAI_CAPABILITIES
from hybridllm.errors import BadRequest
from policies import Limits, Retries

if TYPE_CHECKING:
    from policies import Policy

__all__ = ["Remote", "is_key"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Strict on purpose: where two parsers could read a URL in two ways, bytes could go to another host than the permit's.
_HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?")
_LONGEST_HOST_NAME = 253
_LONGEST_URL = 2048
_MOST = 1e15
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
# A host that ends so is an address (WHATWG URL, "ends in a number checker").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An OpenAI-compatible server. Only a policy decides what it may see; this says where it is.

    Raises:
        BadRequest: A field is not usable; its ``field`` names which.
    """

    base_url: str
    """Base of its URLs, as OpenAI's libraries have it, such as ``https://api.example.com/v1``."""

    model: str
    """Name of the model there."""

    api_key: str | None = field(default=None, repr=False)
    """Key, sent as a bearer token; it appears in no representation and in no log."""

    api_key_env: str | None = None
    """Environment variable that holds the key instead. It is read for each try, when a permit has opened the gate, and not
    before: where nothing may go to the remote, it is never read. After a key was refused it is also read to see whether there is
    another one."""

    zone: str = "cloud"
    """Zone of the policy that it lies in: ``cloud``, or ``site`` for a server that you run in the same building."""

    connect_timeout_s: float | None = None
    """Longest wait for a connection, name lookup and all addresses together, and as long again for TLS; None for what the
    policy says, which is 2 s unless it says something else."""

    first_token_timeout_s: float | None = None
    """Longest wait for the first token after that; None for what the policy says, else 10 s."""

    gap_timeout_s: float | None = None
    """Longest wait between two pieces of an answer; None for what the policy says, else 5 s."""

    max_retries: int | None = None
    """Further tries after one that may help to repeat; the first token ends them. None for what the policy says, else 2."""

    context_tokens: int | None = None
    """Its context in tokens, where you know it; requests that are estimated to be longer are not sent there."""

    capabilities: frozenset[str] = frozenset()
    """What it can do beyond what every server with OpenAI's interface is taken to do, such as ``vision``, ``extended_sampling``
    for top_k, min_p and repetition_penalty, or ``continue_answer`` if it goes on with an answer whose beginning it gets as the
    last message (``continue_final_message``, in vLLM and SGLang). Once it is made, the words of OpenAI's interface are among
    them, without those that it ``lacks``."""

    lacks: frozenset[str] = frozenset()
    """What it cannot do of OpenAI's interface: ``tools``, ``tool_choice``, ``response_format``, ``logprobs``, ``logit_bias``,
    ``n``."""

    ca_file: str | None = None
    """File with the certificate authorities to trust instead of the public ones; no variable can set it."""

    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy to go through; proxy variables of the environment are never looked at."""

    max_response_mib: float = 16.0
    """Largest answer that is read, in MiB; a longer one is an error."""

    def __post_init__(self) -> None:
        _check_url(self.base_url, "remote.base_url", ("https", "http"))
        _check_text(self.model, "remote.model")
        _check_text(self.zone, "remote.zone")
        if self.zone == "device":
            raise BadRequest(
                "remote.zone is 'device', and a server is never the device, not even on loopback.",
                "Use 'cloud', or 'site' for a server of your own.",
                field="remote.zone",
            )
        self._check_key()
        for name in ("connect_timeout_s", "first_token_timeout_s", "gap_timeout_s", "max_response_mib"):
            if getattr(self, name) is not None or name == "max_response_mib":
                _check_positive(getattr(self, name), f"remote.{name}")
        retries = 0 if self.max_retries is None else self.max_retries
        if not isinstance(retries, int) or isinstance(retries, bool) or not 0 <= retries <= 10:
            raise BadRequest("remote.max_retries is not a whole number from 0 to 10.", field="remote.max_retries")
        if self.context_tokens is not None:
            _check_positive(self.context_tokens, "remote.context_tokens")
        for name in ("capabilities", "lacks"):
            _check_words(getattr(self, name), f"remote.{name}")
        unknown = sorted(frozenset(self.lacks) - OPENAI_CAPABILITIES)
        if unknown:
            raise BadRequest(
                "remote.lacks has a word that is nothing of OpenAI's interface.",
                f"It may have {', '.join(sorted(OPENAI_CAPABILITIES))}.",
                field="remote.lacks",
            )
        object.__setattr__(self, "lacks", frozenset(self.lacks))
        object.__setattr__(self, "capabilities", (OPENAI_CAPABILITIES | frozenset(self.capabilities)) - self.lacks)
        if self.proxy is not None:
            _check_url(self.proxy, "remote.proxy", ("http", "https"), userinfo=True)
        self._check_addresses()

    def limits_under(self, policy: Policy) -> Limits:
        """How long it may take: what it says itself, else what the policy says."""
        said = policy.limits
        return Limits(
            connect_s=said.connect_s if self.connect_timeout_s is None else self.connect_timeout_s,
            first_token_s=said.first_token_s if self.first_token_timeout_s is None else self.first_token_timeout_s,
            gap_s=said.gap_s if self.gap_timeout_s is None else self.gap_timeout_s,
        )

    def connecting_s(self, limits: Limits) -> float:
        """Longest time until a connection stands.

        ``connect_s`` counts once for name lookup and TCP together, and once more for each thing that follows on the way: TLS
        with a proxy, the proxy's word that its tunnel stands, and TLS with the remote.
        """
        steps = 1 if self.plain_http else 2
        if self.proxy is not None:
            steps += (urlsplit(self.proxy).scheme == "https") + (not self.plain_http)
        return steps * limits.connect_s

    def retries_under(self, policy: Policy) -> Retries:
        """What is repeated: what it says itself, else what the policy says."""
        said = policy.retries
        return said if self.max_retries is None else replace(said, most=self.max_retries)

    @property
    def host(self) -> str:
        """Host name or address."""
        return _place_of(self.base_url).host

    @property
    def port(self) -> int:
        """Port, the scheme's own where the URL names none."""
        return _place_of(self.base_url).port

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a permit is bound to."""
        return _place_of(self.base_url).origin

    @property
    def plain_http(self) -> bool:
        """Whether requests go out without TLS."""
        return _place_of(self.base_url).origin.startswith("http:")

    @property
    def first_hop(self) -> tuple[str, int]:
        """Host and port that a connection is made to: the proxy's, if there is one."""
        if self.proxy is None:
            return self.host, self.port
        parts = urlsplit(self.proxy)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

    @property
    def chat_url(self) -> str:
        """Where chat completions are asked for."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    def _check_key(self) -> None:
        if self.api_key is not None and not is_key(self.api_key):
            raise BadRequest(
                "remote.api_key is not a key: it has to be printable ASCII without spaces.",
                "Check it for line breaks and quotes.",
                field="remote.api_key",
            )
        if self.api_key_env is None:
            return
        if self.api_key is not None:
            raise BadRequest("both api_key and api_key_env are given.", "Keep one of them.", field="remote.api_key_env")
        # It may be the key itself, so it is not shown.
        if not isinstance(self.api_key_env, str) or not _VARIABLE.fullmatch(self.api_key_env):
            raise BadRequest(
                "remote.api_key_env is not the name of an environment variable: letters, digits and underscores.",
                "Write the variable's name, not the key.",
                field="remote.api_key_env",
            )

    def _check_addresses(self) -> None:
        """What is written as an address can be judged at once; names are, whenever they are resolved."""
        host = literal_address(self.host)
        refusal = None if host is None else refusal_of(host, private_only=False, in_clear=self.plain_http)
        if refusal is not None:
            raise BadRequest(f"remote.base_url leads to {host}, {refusal.why}.", refusal.mend, field="remote.base_url")
        if self.proxy is not None and self.plain_http and host is None:
            raise BadRequest(
                "remote.proxy would resolve the name of a remote with plain http, and nobody could check that it leads to "
                "a private network.",
                "Use https in remote.base_url, write its address instead of its name, or leave the proxy out.",
                field="remote.proxy",
            )


class _Place(NamedTuple):
    host: str
    """Name or address."""

    port: int
    """TCP port."""

    origin: str
    """Scheme, host and port, as permits have it."""


@lru_cache(maxsize=64)
def _place_of(base_url: str) -> _Place:
    """Where a URL that was checked leads; asked for several times with every request."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    return _Place(host, port, f"{parts.scheme}://{shown}:{port}")


def is_key(key: object) -> bool:
    """Whether something can be sent as a key."""
    return isinstance(key, str) and key != "" and key.isascii() and key.isprintable() and " " not in key


def _check_url(url: object, key: str, schemes: tuple[str, ...], *, userinfo: bool = False) -> None:
    mend = "Write it as https://host/v1." if key.endswith("base_url") else "Write it as http://host:port."
    if not isinstance(url, str) or not url.strip() or len(url) > _LONGEST_URL:
        raise BadRequest(f"{key} is not a URL.", mend, field=key)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadRequest(f"{key} is not a URL.", mend, field=key) from None
    # Only the parts without credentials are ever shown.
    if parts.scheme not in schemes or not parts.hostname or url != url.strip() or " " in url or not url.isprintable():
        raise BadRequest(f"{key} is not a URL with http or https and a host{_shown(parts)}.", mend, field=key)
    if not userinfo and (parts.username is not None or parts.password is not None):
        raise BadRequest(f"{key} has a user name or a password in it.", "Pass the key as api_key.", field=key)
    place = parts.netloc.rpartition("@")[2]
    if not _is_host(parts.hostname, place) or port == 0:
        raise BadRequest(
            f"{key} has no usable host and port.",
            "Write the host in ASCII (xn--… for other alphabets) or as an IP address.",
            field=key,
        )
    if "?" in url or "#" in url:
        raise BadRequest(f"{key} has a query or a fragment.", "Leave out '?', '#' and what follows them.", field=key)
    if any(step in (".", "..") for step in parts.path.split("/")):
        raise BadRequest(f"{key} has '.' or '..' as a step of its path.", "Write the path without them.", field=key)
    if key.endswith("base_url") and parts.path.rstrip("/").endswith("/chat/completions"):
        raise BadRequest(f"{key} ends with /chat/completions.", "Give the base, such as https://host/v1.", field=key)


def _is_host(host: str, place: str) -> bool:
    """Whether all parsers read the host alike; ``place`` is what stands between the user's name and the path."""
    try:
        if "[" in place:
            return _BRACKETED.fullmatch(place) is not None and IPv6Address(host).scope_id is None
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return IPv4Address(host) is not None
    except ValueError:
        return False
    return len(host) <= _LONGEST_HOST_NAME and _HOST_NAME.fullmatch(host) is not None


def _shown(parts: SplitResult) -> str:
    if "@" in parts.netloc or "@" in parts.path:
        return ""
    url = parts.geturl()
    return f": {url[:60]!r}" if url.isprintable() else ""


def _check_text(value: object, key: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{key} is not a text of at least one character.", field=key)


def _check_words(words: object, key: str) -> None:
    if isinstance(words, str) or not isinstance(words, Collection) or not all(isinstance(word, str) for word in words):
        raise BadRequest(f"{key} is not a list of words.", field=key)


def _check_positive(value: object, key: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < _MOST:
        raise BadRequest(f"{key} is not a number above 0.", field=key)
