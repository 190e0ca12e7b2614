"""What is noted of one request and its response, for the access log and the metrics. Nothing of it is content."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["Exchange", "exchange_of"]

_KEY = "hybridllm.exchange"
_ROUTES = frozenset({"/v1/chat/completions", "/v1/models", "/livez", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class Exchange:
    """One request and its response."""

    method: str
    """The method, if it is a usual one, else ``other``: it is the client's to choose."""

    route: str
    """The path's template, or ``other``, for the same reason."""

    request_id: str = field(default_factory=lambda: f"req-{uuid.uuid4().hex}")
    """Name of the exchange; goes out in ``X-Request-Id``."""

    completion_id: str = ""
    """Name of the completion, which the audit log and the telemetry know it by; empty where there is none."""

    status: int = 0
    """Status of the response; 0 before there is one."""

    outcome: str = "ok"
    """``ok``, ``client_gone``, or the code of the error that a stream ended with."""

    keyed: bool = False
    """Whether a key was given that fits."""

    @classmethod
    def begun(cls, scope: Scope) -> Exchange:
        """The exchange of a request that has just come; it is found again with ``exchange_of``."""
        path, method = scope["path"], scope["method"]
        if path.startswith("/v1/models/"):
            path = "/v1/models/{model}"
        elif path not in _ROUTES:
            path = "other"
        exchange = cls(method if method in _METHODS else "other", path)
        scope[_KEY] = exchange
        return exchange


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that a request belongs to."""
    return cast("Exchange", scope[_KEY])
