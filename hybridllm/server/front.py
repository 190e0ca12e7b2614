"""The outermost application: every request gets a name, is looked at, answered and logged; no exception gets past it."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hybridllm.boundary import without_content
from hybridllm.server.exchange import Exchange
from hybridllm.server.problems import ClientGoneError, problem_of, send_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hybridllm.server.guard import Guard
    from hybridllm.server.status import MetricsSink

__all__ = ["ACCESS_LOG", "Front"]

ACCESS_LOG = "hybridllm.server.access"
"""Name of the logger with a JSON object for each request: method, path template, status, seconds, names, outcome."""

_log = logging.getLogger("hybridllm.server")
_access = logging.getLogger(ACCESS_LOG)
_CLIENT_GONE = 499  # nginx's number for it; goes out to nobody
_FOR_ALL = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Front:
    """An ASGI application around another.

    Args:
        app: Answers what the guard lets in.
        guard: Looks at each request's head.
        metrics: Counts responses; None for nobody.
        access_log: Whether to log them.
    """

    def __init__(self, app: ASGIApp, guard: Guard, metrics: MetricsSink | None, *, access_log: bool) -> None:
        self._app = app
        self._guard = guard
        self._metrics = metrics
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other kinds of connections are not answered."""
        if scope["type"] != "http":
            return
        began_s = time.monotonic()
        exchange = Exchange.begun(scope)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                name = (b"x-request-id", exchange.request_id.encode())
                message["headers"] = [*message.get("headers", ()), *_FOR_ALL, name]
            await send(message)

        try:
            refusal = self._guard.refusal(scope, exchange)
            if refusal is None:
                await self._app(scope, receive, noted)
            else:
                await send_problem(noted, refusal)
        except ClientGoneError:
            exchange.outcome, exchange.status = "client_gone", exchange.status or _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the server above would log it with everything that it holds
            # Its text may quote a request. An error of our own has none, but should not have come so far either.
            _log.error("The request %s failed. %s", exchange.request_id, without_content(error))
            exchange.outcome = "internal_error"
            if not exchange.status:
                await send_problem(noted, problem_of(error))
        finally:
            self._note(exchange, time.monotonic() - began_s)

    def _note(self, exchange: Exchange, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.note_http(exchange.route, exchange.status, seconds)
        if self._access_log:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "method": exchange.method,
                "path": exchange.route,
                "status": exchange.status,
                "seconds": round(seconds, 6),
                "request_id": exchange.request_id,
                "completion_id": exchange.completion_id,
                "outcome": exchange.outcome,
            }
            _access.info("%s", json.dumps(line))
