"""OpenTelemetry: the spans and metrics of requests, their names, and that no content can be in them."""

import json
import logging
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from opentelemetry import baggage, context, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.util.genai.handler import TelemetryHandler

from hybridllm import HybridClient, Remote, load_policy, observation, telemetry_names
from hybridllm.errors import BadRequest, ConfigError, HybridLLMError, RemoteError
from hybridllm.telemetry import Telemetry
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.docs.pages import code_spans, page_named
from tests.hybridllm.leaks import MARK, content
from tests.hybridllm.loopback import answer, chunk, reset, status, stream
from tests.hybridllm.requests_over import BEGAN_AT_S, anything_over, assessed, attempt, over, usage

PUBLIC = {"privacy": "public"}
REMOTE = Remote(base_url="https://user-facing.example:8443/secret/path/v1", model="large", api_key="sk-key")
BEGAN_NS = int(BEGAN_AT_S * 1e9)


class Collected:
    """Everything that a program could export."""

    def __init__(self):
        self.spans_exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans_exporter))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider(metric_readers=[self.reader])
        self.log_exporter = InMemoryLogRecordExporter()
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.log_exporter))

    def telemetry(self, **more):
        return Telemetry(self.tracer_provider, self.meter_provider, **more)

    @property
    def spans(self):
        return self.spans_exporter.get_finished_spans()

    @property
    def request(self):
        (span,) = [span for span in self.spans if telemetry_names.OURS_ROUTE in span.attributes]
        return span

    @property
    def attempts(self):
        return [span for span in self.spans if telemetry_names.OURS_PLACE in span.attributes]

    def points(self):
        """The metrics' data points by the metric's name."""
        data = self.reader.get_metrics_data()
        metrics = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: list(metric.data.data_points) for metric in metrics}

    def close(self):
        for provider in (self.tracer_provider, self.meter_provider, self.logger_provider):
            provider.shutdown()

    def text(self):
        """All of it, as an exporter would write it."""
        data = self.reader.get_metrics_data()
        return "\n".join([
            *(span.to_json() for span in self.spans),
            "" if data is None else data.to_json(),
            *(record.to_json() for record in self.log_exporter.get_finished_logs()),
        ])  # fmt: skip


@pytest.fixture
def collected():
    everything = Collected()
    yield everything
    everything.close()


def told(collected, ended, **more):
    collected.telemetry(**{"model": "small", "remote": REMOTE, **more})(ended)
    return collected.request


# ---- spans ----


def test_an_answer_of_the_device(collected):
    assessment = assessed(privacy="private", stream=True, max_tokens=50, temperature=0.5, top_k=3, seed=4711)
    served = attempt(started_s=0.25, duration_s=1.0, ttft_ms=500.0, usage=usage(10, 5, cached=8))
    span = told(collected, over(served, assessment=assessment, usage=usage(10, 5, cached=8), ttft_ms=750.0))
    assert span.name == "chat small"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert (span.start_time, span.end_time) == (BEGAN_NS, BEGAN_NS + 1_500_000_000)
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hybridllm",
        "gen_ai.request.model": "small",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_k": 3,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.75,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "hybridllm.route": "local",
        "hybridllm.route.reason": "only_candidate",
        "hybridllm.route.rule": "default",
        "hybridllm.privacy.label": "private",
        "hybridllm.outcome": "answered",
        "hybridllm.egress.bytes": 0,
    }
    (child,) = collected.attempts
    assert child.name == "hybridllm.attempt local"
    assert child.kind is SpanKind.INTERNAL
    assert child.parent.span_id == span.context.span_id
    assert (child.start_time, child.end_time) == (BEGAN_NS + 250_000_000, BEGAN_NS + 1_250_000_000)
    assert dict(child.attributes) == {
        "gen_ai.provider.name": "hybridllm",
        "gen_ai.request.model": "small",
        "hybridllm.place": "local",
        "hybridllm.attempt.why": "first",
        "hybridllm.attempt.outcome": "served",
        "hybridllm.attempt.tries": 1,
        "hybridllm.attempt.time_to_first_token": 0.5,
        "hybridllm.attempt.input_tokens": 10,
        "hybridllm.attempt.cached_tokens": 8,
        "hybridllm.attempt.output_tokens": 5,
        "hybridllm.egress.bytes": 0,
    }


def test_a_remote_that_fails_and_the_device_after_it(collected):
    failed = attempt("remote", "failed", error="RemoteError: 503", error_type="RemoteError", tries=3, egress_bytes=600)
    span = told(collected, over(failed, attempt("local", why="fallback", started_s=1.0)))
    assert span.attributes["hybridllm.route.reason"] == "fallback"
    assert "error.type" not in span.attributes
    remote, local = collected.attempts
    assert remote.kind is SpanKind.CLIENT
    assert remote.status.status_code is StatusCode.ERROR
    assert remote.status.description is None
    assert remote.attributes["error.type"] == "RemoteError"
    assert remote.attributes["hybridllm.attempt.tries"] == 3
    assert remote.attributes["hybridllm.egress.bytes"] == 600
    assert local.attributes["hybridllm.attempt.why"] == "fallback"


def test_of_a_remote_only_host_and_port_are_shown(collected):
    span = told(collected, over(attempt("remote"), model="large"))
    for one in (span, *collected.attempts):
        assert one.attributes["server.address"] == "user-facing.example"
        assert one.attributes["server.port"] == 8443
        assert one.attributes["gen_ai.provider.name"] == "openai"
        assert one.attributes["gen_ai.request.model"] == "large"
    assert "secret" not in collected.text()
    assert "sk-key" not in collected.text()


def test_without_a_remote_to_show_nothing_of_it_is_shown(collected):
    span = told(collected, over(attempt("remote"), model="large"), remote=None, model="")
    assert span.name == "chat"
    assert not {"server.address", "server.port", "gen_ai.request.model", "gen_ai.response.model"} & set(span.attributes)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("large", "large"),
        ("large-2026-02-03", "large-2026-02-03"),
        ("large-20260203", "large-20260203"),
        ("large-0613", "large-0613"),
        ("large-latest", "large-latest"),
        ("", None),
        ("small", None),
        (MARK, None),
        (f"large-{MARK}", None),
        (f"large {MARK}", None),
        ("large-4111111111111111", None),
        ("large-2026-02-03-4711", None),
        ("large-0613\n", None),
    ],
)
def test_a_models_own_name_is_shown_where_it_is_a_version_of_the_one_asked_for(collected, said, shown):
    span = told(collected, over(attempt("remote"), model=said))
    assert span.attributes.get("gen_ai.response.model") == shown


@pytest.mark.parametrize(
    ("error_type", "outcome", "shown"),
    [
        ("PolicyDenied", "denied", "PolicyDenied"),
        ("CannotServe", "failed", "CannotServe"),
        ("DeadlineExceeded", "failed", "DeadlineExceeded"),
        (MARK, "failed", "_OTHER"),
        ("Cancelled", "cancelled", None),
    ],
)
def test_how_a_request_ended(collected, error_type, outcome, shown):
    span = told(collected, over(error_type=error_type))
    assert span.attributes["hybridllm.outcome"] == outcome
    assert span.attributes.get("error.type") == shown
    assert span.status.status_code is (StatusCode.UNSET if shown is None else StatusCode.ERROR)
    assert span.status.description is None
    assert span.attributes["hybridllm.route"] == "none"
    assert collected.attempts == []


# ---- whose child it is ----


def test_the_request_is_a_child_of_the_span_in_which_it_came_in(collected):
    telemetry = collected.telemetry()
    tracer = collected.tracer_provider.get_tracer("test")
    carried = context.attach(baggage.set_baggage("text", MARK))
    with tracer.start_as_current_span("caller") as caller:
        token = telemetry.began()
    context.detach(carried)
    with tracer.start_as_current_span("somebody else"):
        telemetry(over(attempt(), tokens_from_observers=(None, token, object())))
    assert collected.request.parent.span_id == caller.get_span_context().span_id
    assert collected.request.context.trace_id == caller.get_span_context().trace_id
    assert MARK not in repr(token)


def test_tokens_of_others_are_not_taken(collected):
    other = Collected()
    with other.tracer_provider.get_tracer("test").start_as_current_span("caller"):
        token = other.telemetry().began()
    collected.telemetry()(over(attempt(), tokens_from_observers=(token,)))
    assert collected.request.parent is None
    other.close()


def test_without_a_token_it_is_the_span_that_is_current_now(collected):
    with collected.tracer_provider.get_tracer("test").start_as_current_span("caller") as caller:
        collected.telemetry()(over(attempt()))
    assert collected.request.parent.span_id == caller.get_span_context().span_id


def test_a_request_through_a_client_is_a_child_of_the_callers_span(face, collected, question):
    client = face(observers=[collected.telemetry()])
    with collected.tracer_provider.get_tracer("test").start_as_current_span("caller") as caller:
        client.create(messages=question)
    assert collected.request.parent.span_id == caller.get_span_context().span_id
    assert [one.parent.span_id for one in collected.attempts] == [collected.request.context.span_id]


def test_of_a_trace_that_is_not_sampled_nothing_is_exported(collected):
    unsampled = trace.SpanContext(trace_id=1, span_id=2, is_remote=True, trace_flags=trace.TraceFlags(0))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(unsampled)))
    try:
        collected.telemetry()(over(attempt()))
    finally:
        context.detach(token)
    assert collected.spans == ()
    assert collected.points()["gen_ai.client.operation.duration"][0].count == 1


# ---- metrics ----


def only(points, **attributes):
    """The one data point with these attributes; a dot is written as two underscores."""
    wanted = {name.replace("__", "."): value for name, value in attributes.items()}
    (point,) = [point for point in points if all(point.attributes.get(name) == wanted[name] for name in wanted)]
    return point


def test_metrics_of_a_streamed_answer(collected):
    failed = attempt("remote", "failed", error_type="RemoteError", usage=usage(0, 4), ttft_ms=100.0)
    served = attempt("local", why="continue", duration_s=3.0, ttft_ms=1000.0, usage=usage(10, 5))
    ended = over(failed, served, assessment=assessed(stream=True), ttft_ms=250.0, duration_s=4.0)
    told(collected, ended)
    points = collected.points()
    assert set(points) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
    }
    (duration,) = points["gen_ai.client.operation.duration"]
    assert duration.sum == 4.0
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hybridllm",
        "gen_ai.request.model": "small",
        "hybridllm.route": "local",
        "hybridllm.route.reason": "continued",
    }
    (first,) = points["gen_ai.client.operation.time_to_first_chunk"]
    assert first.sum == 0.25
    tokens = points["gen_ai.client.token.usage"]
    assert only(tokens, gen_ai__token__type="input").sum == 10
    assert only(tokens, gen_ai__token__type="output", gen_ai__provider__name="hybridllm").sum == 5
    afar = only(tokens, gen_ai__token__type="output", gen_ai__provider__name="openai")
    assert afar.sum == 4
    assert afar.attributes["server.address"] == "user-facing.example"
    assert only(points["gen_ai.server.time_to_first_token"]).sum == 1.0
    assert only(points["gen_ai.server.time_per_output_token"]).sum == 0.5


def test_an_answer_that_is_not_streamed_has_no_first_chunk(collected):
    told(collected, over(attempt(ttft_ms=100.0), ttft_ms=100.0))
    assert "gen_ai.client.operation.time_to_first_chunk" not in collected.points()
    assert "gen_ai.response.time_to_first_chunk" not in collected.request.attributes


def test_a_failure_has_its_class(collected):
    told(collected, over(attempt("remote", "failed", error_type="RemoteError"), error_type="CannotServe"))
    (duration,) = collected.points()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "CannotServe"


# ---- names ----


def test_every_name_is_one_of_the_conventions_or_begins_with_ours():
    known = {
        value
        for module in (gen_ai_attributes, gen_ai_metrics, error_attributes, server_attributes)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    ours = {value for name, value in vars(telemetry_names).items() if name.startswith("OURS_")}
    assert all(name.startswith("hybridllm.") for name in ours)
    values = {"SCOPE", "SCHEMA_URL", "OPERATION_CHAT", "TOKEN_INPUT", "TOKEN_OUTPUT", "REMOTE_PROVIDER",
              "DEVICE_PROVIDER", "OTHER_ERROR"}  # fmt: skip
    theirs = {
        value
        for name, value in vars(telemetry_names).items()
        if isinstance(value, str) and name in telemetry_names.__all__ and name not in values
    } - ours
    assert len(theirs) > 20
    assert theirs - known == set()
    assert gen_ai_attributes.GenAiOperationNameValues.CHAT.value == telemetry_names.OPERATION_CHAT
    assert gen_ai_attributes.GenAiProviderNameValues.OPENAI.value == telemetry_names.REMOTE_PROVIDER
    assert error_attributes.ErrorTypeValues.OTHER.value == telemetry_names.OTHER_ERROR
    assert {telemetry_names.TOKEN_INPUT, telemetry_names.TOKEN_OUTPUT} == {
        value.value for value in gen_ai_attributes.GenAiTokenTypeValues
    }


def test_opentelemetrys_own_utility_says_the_same_in_the_same_words(collected):
    theirs = Collected()
    handler = TelemetryHandler(theirs.tracer_provider, theirs.meter_provider, instrumentation_scope_name="test")
    call = handler.inference(
        "openai", request_model="large", server_address="user-facing.example", server_port=8443, operation_name="chat"
    )
    call.response_model_name, call.response_id, call.finish_reasons = "large-0613", "chatcmpl-1", ["stop"]
    call.input_tokens, call.output_tokens, call.cache_read_input_tokens = 10, 5, 8
    call.max_tokens, call.temperature, call.top_p, call.top_k = 50, 0.5, 0.25, 3
    call.frequency_penalty, call.presence_penalty = 0.5, 0.25
    call.record_stream_chunk()
    call.stop()
    (expected,) = theirs.spans

    assessment = assessed(stream=True, max_tokens=50, temperature=0.5, top_p=0.25, top_k=3, frequency_penalty=0.5,
                          presence_penalty=0.25)  # fmt: skip
    served = attempt("remote", usage=usage(10, 5, cached=8), ttft_ms=1.0)
    span = told(
        collected,
        over(served, assessment=assessment, usage=usage(10, 5, cached=8), model="large-0613", ttft_ms=1.0),
    )
    assert (span.name, span.kind) == (expected.name, expected.kind)
    shown = {name: value for name, value in span.attributes.items() if not name.startswith("hybridllm.")}
    timed = telemetry_names.RESPONSE_FIRST_CHUNK
    assert {**shown, timed: 0} == {**expected.attributes, timed: 0}
    assert timed in shown
    assert timed in expected.attributes

    mine, wanted = shape_of(collected), shape_of(theirs)
    assert set(mine) == set(wanted)
    for name, (unit, bounds, attributes) in wanted.items():
        assert mine[name][:2] == (unit, bounds), name
        assert attributes - mine[name][2] == set(), name
        assert all(extra.startswith("hybridllm.") for extra in mine[name][2] - attributes), name
    theirs.close()


def shape_of(collected):
    """The unit, the bounds and the attributes of every metric."""
    data = collected.reader.get_metrics_data()
    return {
        metric.name: (
            metric.unit,
            tuple(metric.data.data_points[0].explicit_bounds),
            set(metric.data.data_points[0].attributes),
        )
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }


def test_the_scope_says_whose_names_these_are(collected):
    span = told(collected, over(attempt()))
    assert span.instrumentation_scope.name == "hybridllm"
    assert span.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.41.0"


def test_the_page_says_every_name():
    named = {value for name, value in vars(telemetry_names).items()
             if name in telemetry_names.__all__ and isinstance(value, str)} - {telemetry_names.SCHEMA_URL}  # fmt: skip
    said = set(code_spans(page_named("observability.md")))
    # A span's name, and the two kinds of tokens, which are values.
    assert named - said == {telemetry_names.OURS_ATTEMPT, telemetry_names.TOKEN_INPUT, telemetry_names.TOKEN_OUTPUT}


# ---- no content ----


def quoting(asked):
    quoted = " ".join(text for _, text in asked.texts())
    return ScriptedReply(
        f"{content('answer')} more", error=RemoteError(quoted, content("mend"), code=MARK), fail_after=1
    )


@pytest.mark.parametrize("mode", ["", "SPAN_AND_EVENT", "SPAN_ONLY", "true"])
@pytest.mark.parametrize(
    "behaviour",
    [
        answer(content("answer")),
        stream(chunk(content("answer"), model=MARK) + chunk(finish=MARK)),
        stream(chunk(content("answer"), model=f"cloud-model-{MARK}") + chunk(finish="stop")),
        status(422, json.dumps({"error": {"message": MARK, "code": MARK}}).encode(), {"X-Echo": MARK}),
        reset(chunk(content("answer"))),
    ],
    ids=["answer", "names", "model", "error", "reset"],
)
@pytest.mark.parametrize("local", [lambda _: content("answer"), quoting], ids=["served", "failing"])
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
def test_no_content(serve, remote_at, collected, monkeypatch, caplog, mode, behaviour, local, streaming):
    caplog.set_level(logging.DEBUG)
    for name, value in {"CAPTURE_MESSAGE_CONTENT": mode, "EMIT_EVENT": "true", "COMPLETION_HOOK": "upload"}.items():
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_GENAI_{name}", value)
    remote = remote_at(serve(behaviour), max_retries=0)
    local = ScriptedBackend(local, model=MARK, continues=True)
    asked = {
        "messages": [
            {"role": "system", "content": content("system")},
            {"role": "assistant", "content": None, "refusal": content("refusal")},
            {"role": "user", "content": [{"type": "text", "text": content("part")}], "name": content("name")},
        ],
        "stop": [content("stop")],
        "user": content("user"),
        "tags": [MARK],
        **PUBLIC,
    }
    token = context.attach(baggage.set_baggage("text", content("baggage")))
    telemetry = collected.telemetry(model="small", remote=remote)
    failed = None
    try:
        with HybridClient(local=local, remote=remote, policy="cloud-assist", observers=[telemetry]) as client:
            if streaming:
                with client.chat.completions.create(stream=True, **asked) as answered:
                    answered.get_final_completion()
            else:
                client.chat.completions.create(**asked)
    except HybridLLMError as error:
        failed = type(error).__name__
    finally:
        context.detach(token)
    assert collected.request.attributes.get("error.type") == failed
    assert collected.request.events == ()
    assert collected.log_exporter.get_finished_logs() == ()
    assert "gen_ai.client.operation.duration" in collected.points()
    assert MARK not in collected.text()
    assert MARK not in caplog.text
    assert MARK not in repr(telemetry)


WORDS = {
    *observation.ROUTES, *observation.REASONS, *observation.OUTCOMES, *observation.WHYS, *observation.ATTEMPT_OUTCOMES,
    *observation.ERRORS, "chat", "hybridllm", "openai", "_OTHER", "small", "large", "user-facing.example", "chatcmpl-1",
    "public", "internal", "private", "default", *(rule.name for rule in load_policy("cloud-assist").rules),
}  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything_over())
def test_whatever_a_request_says_what_is_exported_is_numbers_and_words_of_ours(ended):
    collected = Collected()
    ended = replace(ended, text=MARK, void=MARK)
    collected.telemetry(model="small", remote=REMOTE)(ended)
    text = collected.text()
    assert MARK not in text
    span = collected.request
    assert span.start_time <= span.end_time
    assert len(collected.attempts) == len(ended.route.attempts)
    free = {"gen_ai.response.model"}  # the one word that somebody else may choose, within the model's versions
    for one in collected.spans:
        for name, value in one.attributes.items():
            if isinstance(value, str) and name not in free:
                assert value in WORDS, (name, value)
        assert one.attributes.get("gen_ai.response.model", "large")[:5] in ("large", "small")
    collected.close()


# ---- installing and arguments ----


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigError, match=r"opentelemetry-api, which is not installed\. .*hybridllm\[telemetry\]"):
        Telemetry()


def test_without_providers_nothing_happens(question):
    with HybridClient(local=ScriptedBackend(["Here I am."]), observers=[Telemetry()]) as client:
        assert client.chat.completions.create(messages=question).route.served_by == "local"


def test_a_model_is_a_name():
    with pytest.raises(BadRequest, match="model is a int"):
        Telemetry(model=3)
