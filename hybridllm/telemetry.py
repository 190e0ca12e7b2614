"""OpenTelemetry spans and metrics of requests, with the conventions' names for generative AI; never any content.

Spans are made when a request is over, with the times that it had. There is no setting, and no variable of OpenTelemetry's, that
makes this module export what was asked or answered: it never gets hold of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from hybridllm import telemetry_names as names
from hybridllm.boundary import content_free_init
from hybridllm.errors import BadRequest, ConfigError
from hybridllm.observation import NOBODY, OTHER, observed
from hybridllm.signals import REMOTE
from policies import LOCAL

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from hybridllm.observation import ObservedAttempt, ObservedRequest
    from hybridllm.remote import Remote
    from hybridllm.router import Ended

__all__ = ["BeginningObserver", "Telemetry"]

Attributes = dict[str, "str | int | float | bool | tuple[str, ...]"]

# A remote may name the version of the model that it was asked for; whatever else it calls itself could be anything.
_VERSION: Final = re.compile(r"-(?:\d{4}|\d{6}|\d{8}|\d{4}-\d{2}(?:-\d{2})?|latest|preview)")
_SAMPLING: Final = (
    ("max_tokens", names.REQUEST_MAX_TOKENS),
    ("max_completion_tokens", names.REQUEST_MAX_TOKENS),
    ("temperature", names.REQUEST_TEMPERATURE),
    ("top_p", names.REQUEST_TOP_P),
    ("top_k", names.REQUEST_TOP_K),
    ("frequency_penalty", names.REQUEST_FREQUENCY_PENALTY),
    ("presence_penalty", names.REQUEST_PRESENCE_PENALTY),
)
_NS_PER_S: Final = 1_000_000_000


class BeginningObserver(Protocol):
    """An observer that is also told when a request comes in."""

    def began(self) -> object:
        """Called where the caller's context variables are those of this moment, before anybody is asked.

        Returns:
            Anything; it comes back in ``Ended.tokens_from_observers``.
        """

    def __call__(self, ended: Ended) -> None:
        """Called when the request is over."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """The context in which a request came in, and whose token this is."""

    owner: Telemetry = field(repr=False)
    context: Context = field(repr=False)  # it may hold baggage, which is the program's


@content_free_init
class Telemetry:
    """An observer of a client that makes spans and records metrics.

    A request has one span, and each place that was asked for it one below that. The request's is a child of the span that was
    the caller's current one. Where the spans and metrics go is the program's business: without providers that export them,
    nothing is recorded at all.

    Args:
        tracer_provider: Makes the spans; None for OpenTelemetry's global one.
        meter_provider: Records the metrics; None for the global one.
        model: Name of the device's model, as it is to be shown; empty to show none.
        remote: The client's remote, whose model, host and port are shown; None to show none of them.

    Raises:
        ConfigError: OpenTelemetry is not installed.
        BadRequest: An argument is not usable.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        model: str = "",
        remote: Remote | None = None,
    ) -> None:
        try:
            from opentelemetry import context, metrics, trace
        except ImportError:
            raise ConfigError(
                "Telemetry needs the package opentelemetry-api, which is not installed.",
                "Install it: pip install 'hybridllm[telemetry]'.",
            ) from None
        if not isinstance(model, str):
            raise BadRequest(f"model is a {type(model).__name__}, expected a name.", field="model")
        from hybridllm import __version__

        self._context = context
        self._trace = trace
        self._tracer = trace.get_tracer(names.SCOPE, __version__, tracer_provider, schema_url=names.SCHEMA_URL)
        meter = metrics.get_meter(names.SCOPE, __version__, meter_provider, schema_url=names.SCHEMA_URL)

        def histogram(name: str, unit: str, text: str, bounds: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=bounds)

        self._duration = histogram(
            names.METRIC_DURATION, "s", "Time from a request to the end of its answer.", names.DURATION_BOUNDS_S
        )
        self._first_chunk = histogram(
            names.METRIC_FIRST_CHUNK,
            "s",
            "Time from a request to the first piece of its streamed answer, waits for other places included.",
            names.DURATION_BOUNDS_S,
        )
        self._tokens = histogram(
            names.METRIC_TOKENS, "{token}", "Tokens that a place read and wrote.", names.TOKENS_BOUNDS
        )
        self._first_token = histogram(
            names.METRIC_FIRST_TOKEN,
            "s",
            "Time from asking the device to its first token.",
            names.SERVER_FIRST_TOKEN_BOUNDS_S,
        )
        self._token_time = histogram(
            names.METRIC_TOKEN_TIME,
            "s",
            "Mean time from one token of the device to the next.",
            names.SERVER_TOKEN_BOUNDS_S,
        )
        self._models = {LOCAL: model, REMOTE: "" if remote is None else remote.model}
        self._server: Attributes = {}
        if remote is not None:
            self._server = {names.SERVER_ADDRESS: remote.host, names.SERVER_PORT: remote.port}

    def began(self) -> object:
        """Remember the caller's current span; see ``BeginningObserver``."""
        return _Begun(self, self._context.get_current())

    def __call__(self, ended: Ended) -> None:
        """Make the spans of a request that is over, and record its metrics."""
        request = observed(ended)
        place = self._of_place(request.route)
        said = _version_of(self._models.get(request.route, ""), ended.model)
        if said:
            place[names.RESPONSE_MODEL] = said
        span = self._request_span(request, place, ended)
        within = self._trace.set_span_in_context(span, self._parent_of(ended))
        for attempt in request.attempts:
            self._attempt_span(request, attempt, within)
        span.end(_ns(request.began_at_s, request.duration_s))
        self._record(request, place, within)

    # ---- spans ----

    def _request_span(self, request: ObservedRequest, place: Attributes, ended: Ended) -> Span:
        attributes = place | {
            names.OPERATION: names.OPERATION_CHAT,
            names.REQUEST_STREAM: request.streamed,
            names.RESPONSE_ID: request.request_id,
            names.OURS_ROUTE: request.route,
            names.OURS_REASON: request.reason,
            names.OURS_RULE: request.rule,
            names.OURS_LABEL: request.label,
            names.OURS_OUTCOME: request.outcome,
            names.OURS_EGRESS: request.egress_bytes,
        }
        asked = ended.assessment.labelled.request
        for option, name in _SAMPLING:
            value = getattr(asked, option)
            if value is not None:
                attributes[name] = value
        if request.finish_reasons:
            attributes[names.RESPONSE_FINISH_REASONS] = request.finish_reasons
        if asked.n > 1:
            attributes[names.REQUEST_CHOICES] = asked.n
        if request.streamed and request.first_token_s is not None:
            attributes[names.RESPONSE_FIRST_CHUNK] = request.first_token_s
        if request.tokens is not None:
            attributes[names.USAGE_INPUT] = request.tokens.prompt
            attributes[names.USAGE_OUTPUT] = request.tokens.completion
            if request.tokens.cached:
                attributes[names.USAGE_CACHED] = request.tokens.cached
        model = self._models.get(request.route, "")
        span = self._tracer.start_span(
            f"{names.OPERATION_CHAT} {model}".rstrip(),
            self._parent_of(ended),
            self._trace.SpanKind.CLIENT,
            attributes | _error(_failure(request)),
            start_time=_ns(request.began_at_s),
        )
        if _failure(request):
            span.set_status(self._trace.StatusCode.ERROR)
        return span

    def _attempt_span(self, request: ObservedRequest, attempt: ObservedAttempt, within: Context) -> None:
        attributes = self._of_place(attempt.place) | {
            names.OURS_PLACE: attempt.place,
            names.OURS_ATTEMPT_WHY: attempt.why,
            names.OURS_ATTEMPT_OUTCOME: attempt.outcome,
            names.OURS_ATTEMPT_TRIES: attempt.tries,
            names.OURS_EGRESS: attempt.egress_bytes,
        }
        if attempt.first_token_s is not None:
            attributes[names.OURS_ATTEMPT_FIRST_TOKEN] = attempt.first_token_s
        if attempt.tokens is not None:
            attributes[names.OURS_ATTEMPT_PROMPT] = attempt.tokens.prompt
            attributes[names.OURS_ATTEMPT_CACHED] = attempt.tokens.cached
            attributes[names.OURS_ATTEMPT_COMPLETION] = attempt.tokens.completion
        span = self._tracer.start_span(
            f"{names.OURS_ATTEMPT} {attempt.place}",
            within,
            self._trace.SpanKind.INTERNAL if attempt.place == LOCAL else self._trace.SpanKind.CLIENT,
            attributes | _error(attempt.error),
            start_time=_ns(request.began_at_s, attempt.started_s),
        )
        if attempt.error:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(_ns(request.began_at_s, attempt.started_s, attempt.duration_s))

    def _parent_of(self, ended: Ended) -> Context:
        for token in ended.tokens_from_observers:
            if isinstance(token, _Begun) and token.owner is self:
                return token.context
        return self._context.get_current()

    # ---- metrics ----

    def _record(self, request: ObservedRequest, place: Attributes, within: Context) -> None:
        common = place | {
            names.OPERATION: names.OPERATION_CHAT,
            names.OURS_ROUTE: request.route,
            names.OURS_REASON: request.reason,
        }
        self._duration.record(request.duration_s, common | _error(_failure(request)), within)
        if request.streamed and request.first_token_s is not None:
            self._first_chunk.record(request.first_token_s, common, within)
        for attempt in request.attempts:
            served = attempt.outcome == "served" and attempt.place == request.route
            self._record_attempt(attempt, place if served else self._of_place(attempt.place), within)

    def _record_attempt(self, attempt: ObservedAttempt, place: Attributes, within: Context) -> None:
        common = place | {names.OPERATION: names.OPERATION_CHAT}
        tokens = attempt.tokens
        if tokens is not None:
            if tokens.prompt:  # where an attempt broke off, nobody knows
                self._tokens.record(tokens.prompt, common | {names.TOKEN_TYPE: names.TOKEN_INPUT}, within)
            self._tokens.record(tokens.completion, common | {names.TOKEN_TYPE: names.TOKEN_OUTPUT}, within)
        if attempt.place != LOCAL or attempt.outcome != "served":
            return  # the conventions' figures of a server are for whole answers, and for who runs the model
        if attempt.first_token_s is not None:
            self._first_token.record(attempt.first_token_s, common, within)
        if attempt.token_s is not None:
            self._token_time.record(attempt.token_s, common, within)

    def _of_place(self, place: str) -> Attributes:
        """Who was asked, as far as the operator wants it shown."""
        here = place in (LOCAL, NOBODY)
        attributes: Attributes = {names.PROVIDER: names.DEVICE_PROVIDER if here else names.REMOTE_PROVIDER}
        model = self._models.get(place)
        if model:
            attributes[names.REQUEST_MODEL] = model
        return attributes | self._server if place == REMOTE else attributes


def _failure(request: ObservedRequest) -> str:
    """The error that a request ended with. That somebody stopped reading is none."""
    return "" if request.outcome == "cancelled" else request.error


def _error(error: str) -> Attributes:
    return {names.ERROR_TYPE: names.OTHER_ERROR if error == OTHER else error} if error else {}


def _version_of(asked: str, said: str) -> str:
    """What a place calls its model, where that is the name that it was asked for, or a version of it; else empty."""
    if not asked or not said.startswith(asked):
        return ""
    return said if said == asked or _VERSION.fullmatch(said, len(asked)) else ""


def _ns(at_s: float, *later_s: float) -> int:
    """Unix nanoseconds; added up as whole ones, since a float of today's seconds is only exact to a quarter of a microsecond."""
    return round(at_s * _NS_PER_S) + sum(round(seconds * _NS_PER_S) for seconds in later_s)
