"""Prometheus metrics of a client and its server, in a registry of their own. Every label is from a closed set, so the number of
series is bounded, and no label or value can hold anything that was asked or answered."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Final

from hybridllm.errors import ConfigError
from hybridllm.observation import DENIALS, OTHER, observed
from hybridllm.signals import REMOTE
from policies import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import CollectorRegistry, Metric

    from hybridllm.health import Health
    from hybridllm.observation import ObservedAttempt, ObservedMove
    from hybridllm.router import Ended

__all__ = ["HTTP_ROUTES", "HTTP_STATUSES", "MOST_SERIES", "Metrics"]

HTTP_ROUTES: Final = (
    "/v1/chat/completions",
    "/v1/models",
    "/v1/models/{model}",
    "/livez",
    "/readyz",
    "/metrics",
    OTHER,
)
"""Templates of the server's paths; every other path counts as ``other``."""

HTTP_STATUSES: Final = (
    200, 204, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 415, 421, 422, 429, 431, 499, 500, 501, 502, 503, 504, 507,
)  # fmt: skip
"""Statuses that are counted by themselves; every other one counts as its class, such as ``4xx``."""

MOST_SERIES: Final = 1500
"""More series than this are never there, whatever happens."""

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)
_FIRST_TOKEN_S: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
_TOKEN_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_HTTP_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
# Failures after which another place is asked as a rule; their series are there from the start, so that the first is a rise.
_USUAL_FAILURES: Final = (
    "RemoteError", "RemoteUnreachable", "BreakerOpen", "AddressRefused", "EngineError", "ModelError", "Overloaded",
    "ContextLengthExceeded", "PolicyTightened", "RedactionFailed", "AuditError",
)  # fmt: skip


class Metrics:
    """What happened since it was made, for Prometheus to scrape. Its methods may be called by any thread.

    Args:
        version: The program's version, for ``hybridllm_build_info``.
        clock: Unix seconds; says when a policy was read.

    Raises:
        ConfigError: The package that knows Prometheus' format is not installed.
    """

    def __init__(self, version: str, *, clock: Callable[[], float] = time.time) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError:
            raise ConfigError(
                "Metrics need the package prometheus-client, which is not installed.",
                "Install it: pip install 'hybridllm[server]'.",
            ) from None
        from hybridllm.health_metrics import HealthMetrics

        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"hybridllm_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> Histogram:
            return Histogram(f"hybridllm_{name}", text, labels, buckets=bounds, registry=registry)

        self._requests = counter(
            "requests_total",
            "Requests that are over, by the place that answered or was asked last, why that one, and what became of them.",
            ("route", "reason", "outcome"),
        )
        self._request_errors = counter(
            "request_errors_total", "Requests that were not answered, by the class of the error.", ("error",)
        )
        self._request_s = histogram(
            "request_duration_seconds", "Time from a request to the end of its answer.", ("route",), _REQUEST_S
        )
        self._request_first_token_s = histogram(
            "request_time_to_first_token_seconds",
            "Time from a request to the first token that was given out, waits for other places included.",
            ("route",),
            _FIRST_TOKEN_S,
        )
        self._fallbacks = counter(
            "fallbacks_total",
            "Failures of a place after which another one was asked, by the class of the error.",
            ("from", "to", "reason"),
        )
        self._denials = counter("denials_total", "Things that were not allowed, by why.", ("reason",))
        self._ruled_out = counter(
            "ruled_out_total", "Places that a policy named and that were no candidates, by why.", ("place", "reason")
        )
        self._attempts = counter(
            "attempts_total",
            "Places that were asked, by why (first, fallback, hedge, continue, restart) and what became of it.",
            ("place", "why", "outcome"),
        )
        self._attempt_errors = counter(
            "attempt_errors_total", "Attempts that failed, by the class of the error.", ("place", "error")
        )
        self._tries = counter("tries_total", "How often a place was asked, retries included.", ("place",))
        self._retries = counter("retries_total", "How often a place was asked again within an attempt.", ("place",))
        self._egress = counter("egress_bytes_total", "Bytes of request bodies that left the device.", ("place",))
        self._tokens = counter(
            "tokens_total", "Tokens that a place read and wrote; cached ones are among the prompt's.", ("place", "kind")
        )
        self._first_token_s = histogram(
            "time_to_first_token_seconds",
            "Time from asking a place to its first token.",
            ("place",),
            _FIRST_TOKEN_S,
        )
        self._token_s = histogram(
            "time_per_token_seconds",
            "Mean time from one token to the next in a whole answer.",
            ("place",),
            _TOKEN_S,
        )
        self._http = counter("http_requests_total", "HTTP requests to the server.", ("route", "status"))
        self._http_s = histogram(
            "http_request_duration_seconds", "Time that an HTTP request took.", ("route",), _HTTP_S
        )
        Gauge("hybridllm_build_info", "1; its labels say what runs.", ("version", "python"), registry=registry).labels(
            version, platform.python_version()
        ).set(1)
        ProcessCollector(registry=registry)
        self._health = HealthMetrics(clock)
        registry.register(self._health)
        self._begin_at_zero()

    def observe(self, ended: Ended) -> None:
        """Count a request that is over: an observer of a client."""
        request = observed(ended)
        self._requests.labels(request.route, request.reason, request.outcome).inc()
        if request.error:
            self._request_errors.labels(request.error).inc()
        self._request_s.labels(request.route).observe(request.duration_s)
        if request.first_token_s is not None:
            self._request_first_token_s.labels(request.route).observe(request.first_token_s)
        for attempt in request.attempts:
            self._count_attempt(attempt)
        for move in request.moves:
            self._count_move(move)
        for denial in request.denials:
            self._denials.labels(denial).inc()
        for place, code in request.ruled_out:
            self._ruled_out.labels(place, code).inc()

    def set_health(self, health: Health) -> None:
        """Show a client as it is now; call it before each ``render``."""
        self._health.set(health)

    def note_http(self, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request.

        Args:
            route: Its path's template, one of ``HTTP_ROUTES``.
            status: Status of the answer.
            seconds: How long it took, to the last byte of the answer.
        """
        known = route if route in HTTP_ROUTES else OTHER
        self._http.labels(known, _status(status)).inc()
        self._http_s.labels(known).observe(max(0.0, seconds))

    def render(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, and that format's content type."""
        from prometheus_client import generate_latest

        return generate_latest(_WithoutCreated(self._registry)), _CONTENT_TYPE

    def _count_attempt(self, attempt: ObservedAttempt) -> None:
        place = attempt.place
        self._attempts.labels(place, attempt.why, attempt.outcome).inc()
        if attempt.error:
            self._attempt_errors.labels(place, attempt.error).inc()
        self._tries.labels(place).inc(attempt.tries)
        if attempt.tries > 1:
            self._retries.labels(place).inc(attempt.tries - 1)
        if attempt.egress_bytes:
            self._egress.labels(place).inc(attempt.egress_bytes)
        if attempt.first_token_s is not None:
            self._first_token_s.labels(place).observe(attempt.first_token_s)
        token_s = attempt.token_s
        if token_s is not None:
            self._token_s.labels(place).observe(token_s)
        if attempt.tokens is not None:
            self._tokens.labels(place, "prompt").inc(attempt.tokens.prompt)
            self._tokens.labels(place, "cached").inc(attempt.tokens.cached)
            self._tokens.labels(place, "completion").inc(attempt.tokens.completion)

    def _count_move(self, move: ObservedMove) -> None:
        self._fallbacks.labels(move.origin, move.target, move.error).inc()

    def _begin_at_zero(self) -> None:
        """Make the series that alerts look at: one that begins at 1 would never have risen."""
        for reason in DENIALS:
            self._denials.labels(reason)
        for place, other in ((LOCAL, REMOTE), (REMOTE, LOCAL)):
            for metric in (self._tries, self._retries, self._egress):
                metric.labels(place)
            for error in _USUAL_FAILURES:
                self._fallbacks.labels(place, other, error)


class _WithoutCreated:
    """A registry's metrics without the series that say when a counter was made, which nobody asks for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


def _status(status: int) -> str:
    if status in HTTP_STATUSES:
        return str(status)
    return f"{status // 100}xx" if 100 <= status < 600 else OTHER
