"""What the server says of itself: whether it lives, whether it can answer, which models it has, and its metrics."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

from starlette.responses import JSONResponse, Response

from hybridllm.errors import HybridLLMError
from hybridllm.server.exchange import exchange_of
from hybridllm.server.problems import Problem, RefusedError

if TYPE_CHECKING:
    from starlette.requests import Request

    from hybridllm.async_client import AsyncHybridClient
    from hybridllm.health import Health
    from hybridllm.server.api_keys import ApiKeys
    from hybridllm.server.work import Work

__all__ = ["MetricsSink", "StatusEndpoints", "why_not_alive", "why_not_ready"]

_HEALTH_S = 5.0
_ANY_MODEL = "hybridllm"
_ON_ITS_WAY = frozenset({"loading", "restarting"})


class MetricsSink(Protocol):
    """What the server needs of ``hybridllm.metrics.Metrics``."""

    def set_health(self, health: Health) -> None:
        """Take the gauges' values from here."""

    def note_http(self, route: str, status: int, seconds: float) -> None:
        """Count a response; ``route`` is a path's template."""

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""


async def why_not_ready(client: AsyncHybridClient) -> str:
    """Why the device cannot answer at this moment; empty if it can."""
    health, problem = await _health_of(client)
    if health is None or health.device_ready:
        return problem
    return health.device_problem or "The device's model is not loaded yet."


async def why_not_alive(client: AsyncHybridClient) -> str:
    """The same, except that an engine which is being started, or started again, counts as one that will answer."""
    health, problem = await _health_of(client)
    if health is not None and health.engine is not None and health.engine.state in _ON_ITS_WAY:
        return ""
    if health is None or health.device_ready:
        return problem
    return health.device_problem or "The device's model is not loaded."


async def _health_of(client: AsyncHybridClient) -> tuple[Health | None, str]:
    try:
        async with asyncio.timeout(_HEALTH_S):
            return await client.health(), ""
    except TimeoutError:
        return None, f"The client did not say within {_HEALTH_S:g} s how it is."
    except HybridLLMError as error:
        return None, error.message


class StatusEndpoints:
    """The endpoints besides chat completions.

    Args:
        client: Who answers.
        work: Says whether the server is ending.
        keys: Whoever has none of them learns no reasons.
        metrics: What ``/metrics`` shows.
    """

    def __init__(self, client: AsyncHybridClient, work: Work, keys: ApiKeys, metrics: MetricsSink | None) -> None:
        self._client = client
        self._work = work
        self._keys = keys
        self._metrics = metrics
        self._created = int(time.time())

    async def livez(self, _request: Request) -> Response:
        """The event loop turns."""
        return JSONResponse({"alive": True})

    async def readyz(self, request: Request) -> Response:
        """Whether an answer can be given."""
        why = "The server is ending." if self._work.draining else await why_not_ready(self._client)
        document: dict[str, object] = {"ready": not why}
        if why and (not self._keys or exchange_of(request.scope).keyed):
            document["reason"] = why
        return JSONResponse(document, 503 if why else 200)

    async def metrics(self, _request: Request) -> Response:
        """The metrics for Prometheus."""
        assert self._metrics is not None  # or there would be no such route
        self._metrics.set_health(await self._client.health())
        body, content_type = self._metrics.render()
        return Response(body, headers={"content-type": content_type})

    async def models(self, _request: Request) -> Response:
        """The names that a request may give as its model."""
        return JSONResponse({"object": "list", "data": self._models()})

    async def model(self, request: Request) -> Response:
        """One of them."""
        wanted = request.path_params["model"]
        for model in self._models():
            if model["id"] == wanted:
                return JSONResponse(model)
        raise RefusedError(
            Problem(
                404, "There is no such model here. GET /v1/models lists them.", code="model_not_found", param="model"
            )
        )

    def _models(self) -> list[dict[str, object]]:
        owners = {_ANY_MODEL: "hybridllm"}
        if self._client.model_info is not None:
            owners[self._client.model_info.name] = "local"
        if self._client.remote is not None:
            owners.setdefault(self._client.remote.model, "remote")
        return [
            {"id": name, "object": "model", "created": self._created, "owned_by": owner}
            for name, owner in owners.items()
        ]
