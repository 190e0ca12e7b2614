"""The server's application: which path leads where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from hybridllm.errors import HybridLLMError
from hybridllm.server.api_keys import ApiKeys
from hybridllm.server.chat import ChatEndpoint
from hybridllm.server.front import Front
from hybridllm.server.guard import Guard
from hybridllm.server.problems import Problem, RefusedError, problem_of
from hybridllm.server.settings import ServerSettings
from hybridllm.server.status import StatusEndpoints
from hybridllm.server.work import Work

if TYPE_CHECKING:
    from starlette.requests import Request

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.server.status import MetricsSink

__all__ = ["create_app"]


def create_app(
    client: AsyncHybridClient,
    settings: ServerSettings | None = None,
    *,
    keys: ApiKeys | None = None,
    metrics: MetricsSink | None = None,
    work: Work | None = None,
) -> Front:
    """The application, for ``serve`` or for an ASGI server of your own, which then has to watch over heads and slow clients.

    Args:
        client: Who answers; it is used in the event loop that the application runs in.
        settings: Limits and names; None for the defaults.
        keys: The keys that open it; None for none.
        metrics: What ``/metrics`` shows, where the settings want that.
        work: The requests under way; None for the application's own.

    Raises:
        ConfigError: The address can be reached from elsewhere, and there is no key.
    """
    settings, keys = settings or ServerSettings(), keys or ApiKeys()
    settings.check(keys)
    work = work or Work(settings.max_requests)
    status = StatusEndpoints(client, work, keys, metrics)
    routes = [
        Route("/v1/chat/completions", ChatEndpoint(client, work, settings), methods=["POST"]),
        Route("/v1/models", status.models),
        Route("/v1/models/{model:path}", status.model),
        Route("/livez", status.livez),
        Route("/readyz", status.readyz),
    ]
    if metrics is not None and settings.serves_metrics:
        routes.append(Route("/metrics", status.metrics))
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _not_here,
            HybridLLMError: _failed,
            RefusedError: _failed,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False  # the address would be made from the Host header
    return Front(app, Guard(settings, keys), metrics, access_log=settings.access_log)


async def _failed(_request: Request, error: Exception) -> Response:
    return _response(problem_of(error))


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # it is what the handler is registered for
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        problem = Problem(
            405, f"This path takes {allowed} only.", code="method_not_allowed", headers=(("allow", allowed),)
        )
    else:
        problem = Problem(
            404,
            "There is no such path. The server has /v1/chat/completions, /v1/models, /livez, /readyz and /metrics.",
            code="not_found",
        )
    return _response(problem)


def _response(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, dict(problem.headers), "application/json")
