"""Prometheus metrics: what is counted, that nothing else can appear in them, and that they stay few."""

import json
import re
import sys
import threading
from dataclasses import replace

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from hybridllm import HybridClient, load_policy, observation
from hybridllm.errors import ConfigError, HybridLLMError, PolicyDenied, RemoteError
from hybridllm.health import Health
from hybridllm.metrics import HTTP_ROUTES, HTTP_STATUSES, MOST_SERIES, Metrics
from hybridllm.testing import ScriptedBackend, ScriptedReply
from local_runtime.events import EngineStats
from policies import Hedge
from tests.docs.pages import blocks_of, page_named, prose_of
from tests.hybridllm.leaks import MARK, content
from tests.hybridllm.loopback import answer, chunk, reset, silent, status, stream
from tests.hybridllm.requests_over import anything_over, assessed, attempt, over, usage
from tests.hybridllm.test_imports import in_a_fresh_interpreter

PUBLIC = {"privacy": "public"}
HEALTHY = Health(
    device_ready=True,
    device_problem="",
    engine=EngineStats(
        state="ready",
        running=2,
        waiting=5,
        max_sequences=4,
        pages_total=100,
        pages_free=40,
        page_tokens=16,
        rss_mib=10.0,
        peak_rss_mib=20.0,
        restarts=1,
    ),
    connectivity="online",
    breaker="closed",
    memory_headroom_mib=2.0,
    policy="kiosk",
    policy_hash="5e1f",
    policy_problem="",
    reloads_ok=0,
    reloads_failed=0,
    requests_open=3,
)


def read(metrics):
    """Every sample by its name and labels, without the process's own."""
    body, _ = metrics.render()
    return {
        (sample.name.removeprefix("hybridllm_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith("hybridllm_")
    }


def value(metrics, name, **labels):
    return read(metrics).get((name, tuple(sorted(labels.items()))))


def counted(metrics, name):
    """The samples of one name that are not 0, as ``{label values in the order of the labels' names: value}``."""
    return {
        tuple(text for _, text in labels): number
        for (sample, labels), number in read(metrics).items()
        if sample == name and number
    }


@pytest.fixture
def metrics():
    return Metrics("1.2.3")


@pytest.fixture
def client(face, serve, remote_at, metrics):
    """A client that asks the remote first and is observed."""

    def make(*behaviours, policy="cloud-assist", remote=None, **arguments):
        at = remote_at(serve(*behaviours), **{"max_retries": 0, **(remote or {})}) if behaviours else None
        return face(remote=at, policy=policy, observers=[metrics.observe], **arguments)

    return make


# ---- requests on their way ----


def test_an_answer_from_afar(client, metrics, question):
    client(answer("Hello", " from", " afar.")).create(messages=question, **PUBLIC)
    assert counted(metrics, "requests_total") == {("answered", "preferred", "remote"): 1}
    assert counted(metrics, "attempts_total") == {("served", "remote", "first"): 1}
    assert counted(metrics, "tokens_total") == {("completion", "remote"): 3, ("prompt", "remote"): 7}
    assert counted(metrics, "tries_total") == {("remote",): 1}
    assert value(metrics, "egress_bytes_total", place="remote") > 100
    assert value(metrics, "time_to_first_token_seconds_count", place="remote") == 1
    assert value(metrics, "time_per_token_seconds_count", place="remote") == 1
    assert value(metrics, "request_time_to_first_token_seconds_count", route="remote") == 1
    assert value(metrics, "request_duration_seconds_count", route="remote") == 1
    assert counted(metrics, "fallbacks_total") == counted(metrics, "denials_total") == {}


def test_a_device_alone(client, metrics, question):
    client(policy="offline-first").create(messages=question)
    assert counted(metrics, "requests_total") == {("answered", "only_candidate", "local"): 1}
    assert value(metrics, "egress_bytes_total", place="local") == 0
    assert value(metrics, "ruled_out_total", place="remote", reason="not_configured") == 1


def test_a_place_that_fails_is_followed(client, metrics, question):
    client(status(503)).create(messages=question, **PUBLIC)
    assert counted(metrics, "requests_total") == {("answered", "fallback", "local"): 1}
    assert value(metrics, "fallbacks_total", **{"from": "remote", "to": "local", "reason": "RemoteError"}) == 1
    assert counted(metrics, "attempts_total") == {("failed", "remote", "first"): 1, ("served", "local", "fallback"): 1}
    assert counted(metrics, "attempt_errors_total") == {("RemoteError", "remote"): 1}
    assert counted(metrics, "request_errors_total") == {}


def test_retries_count_as_tries(client, metrics, question):
    client(status(503), answer(), remote={"max_retries": 1}).create(messages=question, **PUBLIC)
    assert value(metrics, "tries_total", place="remote") == 2
    assert value(metrics, "retries_total", place="remote") == 1
    assert counted(metrics, "attempts_total") == {("served", "remote", "first"): 1}


@pytest.mark.parametrize(("how", "reason"), [("continue", "continued"), ("restart", "restarted")])
def test_an_answer_that_breaks_off_goes_on(face, serve, remote_at, metrics, question, how, reason):
    policy = replace(load_policy("cloud-assist"), hedge=None, on_interrupt=how)
    remote = remote_at(serve(reset(chunk("Hello") + chunk(" there"))), max_retries=0)
    local = ScriptedBackend(lambda _: "Hello there, you.", continues=True)
    client = face(local=local, remote=remote, policy=policy, observers=[metrics.observe])
    client.final(messages=question, **PUBLIC)
    assert counted(metrics, "requests_total") == {("answered", reason, "local"): 1}
    assert value(metrics, "attempts_total", place="local", why=how, outcome="served") == 1
    assert sum(counted(metrics, "fallbacks_total").values()) == 1


def test_a_hedge_is_no_fallback(face, serve, remote_at, metrics, question):
    policy = replace(load_policy("cloud-assist"), hedge=Hedge(after=0.05, budget=1.0))
    remote = remote_at(serve(silent()), max_retries=0, first_token_timeout_s=20.0)
    face(remote=remote, policy=policy, observers=[metrics.observe]).create(messages=question, **PUBLIC)
    assert counted(metrics, "requests_total") == {("answered", "hedge", "local"): 1}
    assert counted(metrics, "attempts_total") == {("cancelled", "remote", "first"): 1, ("served", "local", "hedge"): 1}
    assert counted(metrics, "fallbacks_total") == {}


def test_who_stops_reading_is_no_failure(client, metrics, question):
    client(answer("One", " two", " three")).read(1, messages=question, **PUBLIC)
    assert counted(metrics, "requests_total") == {("cancelled", "preferred", "remote"): 1}
    assert counted(metrics, "request_errors_total") == {("Cancelled",): 1}


def test_nobody_can_answer(client, metrics, question):
    failing = ScriptedBackend([RemoteError("No.")])
    with pytest.raises(HybridLLMError):
        client(status(500), local=failing).create(messages=question, **PUBLIC)
    assert counted(metrics, "requests_total") == {("failed", "fallback", "local"): 1}
    assert counted(metrics, "request_errors_total") == {("CannotServe",): 1}


def test_what_may_not_leave_is_a_denial(client, metrics):
    fits_nothing = ScriptedBackend(lambda _: "no", context_tokens=3)
    asked = [{"role": "user", "content": "Far more words than this small device can hold."}]
    with pytest.raises(PolicyDenied):
        client(answer(), local=fits_nothing).create(messages=asked)
    assert counted(metrics, "requests_total") == {("denied", "denied", "none"): 1}
    assert counted(metrics, "denials_total") == {("label",): 1, ("policy_denied",): 1}
    assert counted(metrics, "ruled_out_total") == {("local", "context"): 1, ("remote", "label"): 1}


# ---- what is derived ----


@pytest.mark.parametrize(
    ("attempts", "fields", "said"),
    [
        ([attempt("local")], {}, ("local", "preferred", "answered")),
        ([attempt("remote"), attempt("local", "cancelled", why="hedge")], {"served_by": "remote"},
         ("remote", "preferred", "answered")),
        ([attempt("elsewhere")], {}, ("other", "preferred", "answered")),
        ([], {"error_type": "CannotServe"}, ("none", "nobody", "failed")),
        ([], {"error_type": "NoSuchError"}, ("none", "nobody", "failed")),
        ([attempt("local", "cancelled")], {"error_type": "DeadlineExceeded"}, ("local", "preferred", "failed")),
        ([attempt("remote", "failed", error_type="PrivacyViolation")], {"error_type": "PrivacyViolation"},
         ("remote", "denied", "denied")),
        # the same place twice: stopped as the slower one, then asked again because the faster one failed
        ([attempt("remote", "cancelled"), attempt("local", "failed", why="hedge"), attempt("remote", why="fallback")],
         {}, ("remote", "fallback", "answered")),
    ],
)  # fmt: skip
def test_route_reason_and_outcome(metrics, attempts, fields, said):
    metrics.observe(over(*attempts, **fields))
    route, reason, outcome = said
    assert counted(metrics, "requests_total") == {(outcome, reason, route): 1}


@pytest.mark.parametrize("error_type", ["PolicyTightened", "RedactionFailed", "AddressRefused", "AuditError"])
def test_an_attempt_that_was_not_allowed_is_a_denial(metrics, error_type):
    metrics.observe(over(attempt("remote", "failed", error_type=error_type), attempt("local", why="fallback")))
    assert sum(counted(metrics, "denials_total").values()) == 1
    assert value(metrics, "fallbacks_total", **{"from": "remote", "to": "local", "reason": error_type}) == 1


def test_an_attempt_and_its_request_are_one_denial(metrics):
    metrics.observe(over(attempt("remote", "failed", error_type="PrivacyViolation"), error_type="PrivacyViolation"))
    assert counted(metrics, "denials_total") == {("privacy_violation",): 1}


def test_times_and_tokens(metrics):
    served = attempt(duration_s=3.0, ttft_ms=1000.0, usage=usage(10, 5, cached=8), started_s=0.5)
    metrics.observe(over(served, ttft_ms=1500.0, duration_s=3.5))
    assert value(metrics, "time_to_first_token_seconds_sum", place="local") == 1.0
    assert value(metrics, "time_per_token_seconds_sum", place="local") == 0.5
    assert value(metrics, "request_time_to_first_token_seconds_sum", route="local") == 1.5
    assert value(metrics, "request_duration_seconds_sum", route="local") == 3.5
    assert counted(metrics, "tokens_total") == {
        ("cached", "local"): 8, ("completion", "local"): 5, ("prompt", "local"): 10,
    }  # fmt: skip


def test_one_token_has_no_time_per_token(metrics):
    metrics.observe(over(attempt(ttft_ms=1.0, usage=usage(1, 1))))
    metrics.observe(over(attempt(outcome="failed", ttft_ms=1.0, usage=usage(0, 9), error_type="EngineError")))
    assert value(metrics, "time_per_token_seconds_count", place="local") is None


# ---- health ----


def test_a_healthy_client(metrics):
    assert value(metrics, "device_ready") is None
    metrics.set_health(HEALTHY)
    shown = {name: number for (name, labels), number in read(metrics).items() if not labels}
    assert shown == {
        "device_ready": 1, "requests_open": 3, "memory_headroom_bytes": 2 * 1024**2, "queue_depth": 5, "running": 2,
        "running_limit": 4, "kv_pages": 100, "kv_pages_free": 40, "engine_resident_bytes": 10 * 1024**2,
        "engine_resident_peak_bytes": 20 * 1024**2, "policy_last_reload_successful": 1,
        "engine_restarts_total": 1,
    }  # fmt: skip
    assert counted(metrics, "breaker_state") == {("closed",): 1}
    assert counted(metrics, "connectivity") == {("online",): 1}
    assert counted(metrics, "engine_state") == {("ready",): 1}


def test_what_is_unknown_has_no_series(metrics):
    metrics.set_health(HEALTHY)
    metrics.set_health(
        replace(HEALTHY, engine=None, breaker=None, connectivity=None, memory_headroom_mib=None, device_ready=False)
    )
    names = {name for name, _ in read(metrics)}
    assert not names & {"queue_depth", "kv_pages_free", "engine_state", "breaker_state", "memory_headroom_bytes"}
    assert counted(metrics, "connectivity") == {("unknown",): 1}
    assert value(metrics, "device_ready") == 0


def test_an_engine_that_is_not_ready_shows_its_state_only(metrics):
    metrics.set_health(replace(HEALTHY, engine=EngineStats(state="restarting", restarts=3)))
    assert counted(metrics, "engine_state") == {("restarting",): 1}
    assert value(metrics, "engine_restarts_total") == 3
    assert value(metrics, "kv_pages") is None


def test_every_state_is_one_of_those_that_are_shown(metrics):
    for field, name, states in (
        ("breaker", "breaker_state", ("closed", "open", "half_open")),
        ("connectivity", "connectivity", ("online", "degraded", "captive", "offline")),
    ):
        for state in states:
            metrics.set_health(replace(HEALTHY, **{field: state}))
            assert counted(metrics, name) == {(state,): 1}


def test_reloads():
    now = [100.0]
    metrics = Metrics("1", clock=lambda: now[0])
    metrics.set_health(HEALTHY)
    assert value(metrics, "policy_last_reload_timestamp_seconds") is None
    now[0] = 200.0
    metrics.set_health(replace(HEALTHY, reloads_ok=1))
    now[0] = 300.0
    metrics.set_health(replace(HEALTHY, reloads_ok=1))
    assert value(metrics, "policy_last_reload_timestamp_seconds") == 200.0
    assert value(metrics, "policy_last_reload_successful") == 1
    metrics.set_health(replace(HEALTHY, reloads_ok=1, reloads_failed=2, policy_problem=f"{MARK} is no key."))
    assert value(metrics, "policy_last_reload_timestamp_seconds") == 300.0
    assert value(metrics, "policy_last_reload_successful") == 0
    assert value(metrics, "policy_reloads_total", outcome="ok") == 1
    assert value(metrics, "policy_reloads_total", outcome="failed") == 2
    assert MARK not in metrics.render()[0].decode()


def test_a_real_clients_health(metrics):
    with HybridClient(local=ScriptedBackend(["Here I am."])) as client:
        metrics.set_health(client.health())
    assert value(metrics, "device_ready") == 1
    assert value(metrics, "requests_open") == 0


# ---- the server's side ----


def test_http_requests_count_by_route_and_status(metrics):
    metrics.note_http("/v1/chat/completions", 200, 0.25)
    metrics.note_http("/v1/models/{model}", 404, 0.001)
    metrics.note_http(f"/{MARK}", 418, 0.001)
    metrics.note_http("/livez", 0, -1.0)
    assert counted(metrics, "http_requests_total") == {
        ("/v1/chat/completions", "200"): 1, ("/v1/models/{model}", "404"): 1, ("other", "4xx"): 1, ("/livez", "other"): 1,
    }  # fmt: skip
    assert value(metrics, "http_request_duration_seconds_sum", route="/v1/chat/completions") == 0.25
    assert MARK not in metrics.render()[0].decode()


def test_the_format(metrics):
    body, kind = metrics.render()
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    text = body.decode()
    python = ".".join(map(str, sys.version_info[:3]))
    assert re.search(
        rf'^hybridllm_build_info{{python="{re.escape(python)}\S*",version="1.2.3"}} 1.0$', text, re.MULTILINE
    )
    assert "_created" not in text
    if sys.platform == "linux":
        assert "process_open_fds " in text


def test_alerts_see_the_first_failure(metrics):
    assert value(metrics, "fallbacks_total", **{"from": "remote", "to": "local", "reason": "RemoteError"}) == 0
    assert value(metrics, "denials_total", reason="privacy_violation") == 0
    assert value(metrics, "retries_total", place="remote") == 0


def test_the_registry_is_its_own():
    before = {metric.name for metric in REGISTRY.collect()}
    first, second = Metrics("1"), Metrics("2")
    first.observe(over(attempt()))
    assert counted(first, "requests_total")
    assert not counted(second, "requests_total")
    assert {metric.name for metric in REGISTRY.collect()} == before


def test_threads_count_together(metrics):
    ended = over(attempt("remote", "failed", error_type="RemoteError"), attempt("local", why="fallback"))

    def work():
        for _ in range(200):
            metrics.observe(ended)
            metrics.set_health(HEALTHY)
        metrics.render()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted(metrics, "requests_total") == {("answered", "fallback", "local"): 1600}
    assert sum(counted(metrics, "fallbacks_total").values()) == 1600


# ---- how many series there can be, and what can be in them ----

WORDS = {
    "route": {*observation.ROUTES},
    "reason": {*observation.REASONS},
    "outcome": {*observation.OUTCOMES},
    "place": {*observation.PLACES},
    "from": {*observation.PLACES},
    "to": {*observation.PLACES},
    "why": {*observation.WHYS},
    "error": {*observation.ERRORS},
    "kind": {"prompt", "cached", "completion"},
    "status": {*map(str, HTTP_STATUSES), "1xx", "2xx", "3xx", "4xx", "5xx", "other"},
    "state": {
        "closed", "open", "half_open",
        "online", "degraded", "captive", "offline", "unknown",
        "stopped", "loading", "ready", "restarting", "failed",
    },
}  # fmt: skip
MORE_WORDS = {
    ("fallbacks", "reason"): {*observation.ERRORS},
    ("denials", "reason"): {*observation.DENIALS},
    ("ruled_out", "reason"): {*observation.RULED_OUT},
    ("attempts", "outcome"): {*observation.ATTEMPT_OUTCOMES},
    ("policy_reloads", "outcome"): {"ok", "failed"},
    ("http_requests", "route"): {*HTTP_ROUTES},
    ("http_request_duration_seconds", "route"): {*HTTP_ROUTES},
}


def families(metrics):
    return [
        family
        for family in text_string_to_metric_families(metrics.render()[0].decode())
        if family.name.startswith("hybridllm_")
        and family.name not in ("hybridllm_build_info", "hybridllm_engine_state")
    ]


def words_of(family, label):
    return MORE_WORDS.get((family.name.removeprefix("hybridllm_"), label)) or WORDS[label]


def test_the_bound_holds_for_every_combination_of_words():
    metrics = Metrics("1")
    metrics.set_health(replace(HEALTHY, reloads_ok=1))
    for code in HTTP_STATUSES:
        metrics.note_http("/livez", code, 1.0)
    one = attempt("remote", "failed", error_type="RemoteError", ttft_ms=1.0, usage=usage(), egress_bytes=1, tries=2)
    another = attempt("local", why="fallback", ttft_ms=1.0, usage=usage())
    metrics.observe(over(one, another, error_type="CannotServe", ttft_ms=1.0, assessment=assessed(privacy=None)))
    total = 0
    for family in families(metrics):
        first = family.samples[0]
        labels = [label for label in first.labels if label != "le"]
        alike = [one for one in family.samples if all(one.labels[name] == first.labels[name] for name in labels)]
        combinations = 1
        for label in labels:
            combinations *= len(words_of(family, label))
        total += combinations * (len(alike) if family.type == "histogram" else 1)
    assert 500 < total <= MOST_SERIES


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(anything_over(), min_size=1, max_size=4), st.lists(st.tuples(st.text(), st.integers(), st.floats())))
def test_whatever_a_request_says_the_labels_are_from_their_sets(requests, visits):
    metrics = Metrics("1")
    for ended in requests:
        metrics.observe(ended)
    for route, code, seconds in visits:
        metrics.note_http(route, code, seconds)
    shown = families(metrics)
    assert sum(len(family.samples) for family in shown) <= MOST_SERIES
    for family in shown:
        for sample in family.samples:
            assert sample.value >= 0
            for label, word in sample.labels.items():
                assert label == "le" or word in words_of(family, label), (family.name, label)
    assert sum(counted(metrics, "requests_total").values()) == len(requests)


def quoting(asked):
    quoted = " ".join(text for _, text in asked.texts())
    return ScriptedReply(
        f"{content('answer')} more", error=RemoteError(quoted, content("mend"), code=MARK), fail_after=1
    )


@pytest.mark.parametrize(
    "behaviour",
    [
        answer(content("answer")),
        stream(chunk(content("answer"), model=MARK) + chunk(finish=MARK)),
        status(422, json.dumps({"error": {"message": MARK, "code": MARK, "type": MARK}}).encode(), {"X-Echo": MARK}),
        reset(chunk(content("answer"))),
    ],
    ids=["answer", "names", "error", "reset"],
)
@pytest.mark.parametrize("local", [lambda _: content("answer"), quoting], ids=["served", "failing"])
@pytest.mark.parametrize("streaming", [False, True])
def test_no_content(client, metrics, behaviour, local, streaming):
    one = client(behaviour, local=ScriptedBackend(local, model=MARK, continues=True))
    asked = {
        "messages": [
            {"role": "system", "content": content("system")},
            {"role": "user", "content": [{"type": "text", "text": content("part")}], "name": content("name")},
        ],
        "stop": [content("stop")],
        "user": content("user"),
        "tags": [MARK],
        **PUBLIC,
    }
    try:
        (one.final if streaming else one.create)(**asked)
    except HybridLLMError:
        assert sum(counted(metrics, "request_errors_total").values()) == 1
    assert sum(counted(metrics, "requests_total").values()) == 1
    assert MARK not in metrics.render()[0].decode()
    assert MARK not in repr(metrics)


# ---- what the page says ----

PAGE = page_named("observability.md")


def everything_shown():
    """Every metric once, with all of its labels."""
    metrics = Metrics("1")
    metrics.set_health(replace(HEALTHY, reloads_ok=1))
    metrics.note_http("/livez", 200, 1.0)
    one = attempt("remote", "failed", error_type="RemoteError", ttft_ms=1.0, usage=usage(), egress_bytes=1, tries=2)
    another = attempt("local", why="fallback", ttft_ms=1.0, usage=usage())
    metrics.observe(over(one, another, error_type="CannotServe", ttft_ms=1.0, assessment=assessed(privacy=None)))
    shown = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        if family.name.startswith("hybridllm_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            shown[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    return shown


def test_the_page_names_every_metric_with_its_labels():
    rows = {}
    for line in prose_of(PAGE).splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("| `hybridllm_"):
            rows[cells[1].strip("`")] = set(re.findall(r"`(\w+)`", cells[2]))
    assert rows == everything_shown()


def test_the_page_names_every_word():
    said = set(re.findall(r"`([\w]+)`", prose_of(PAGE)))
    for words in (
        observation.REASONS,
        observation.OUTCOMES,
        observation.WHYS,
        observation.DENIALS,
        observation.RULED_OUT,
    ):
        assert set(words) - said == set()


def test_the_alerts_speak_of_metrics_and_words_that_are_there():
    (block,) = [block for block in blocks_of(PAGE) if block.language == "yml"]
    (group,) = yaml.safe_load(block.text)["groups"]
    shown = everything_shown()
    suffixed = {f"{name}{suffix}" for name in shown for suffix in ("", "_bucket", "_count", "_sum")}
    assert len(group["rules"]) >= 5
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"].endswith(".")
        named = set(re.findall(r"hybridllm_\w+", rule["expr"]))
        assert named
        assert named <= suffixed, rule["alert"]
        for label, word in re.findall(r'(\w+)="(\w+)"', rule["expr"]):
            assert any(label in shown[name] for name in named & set(shown))
            assert word in WORDS.get(label, ()) or any(
                word in words for (_, at), words in MORE_WORDS.items() if at == label
            )


# ---- installing ----


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"prometheus-client, which is not installed\. .*hybridllm\[server\]"):
        Metrics("1")


def test_importing_the_package_loads_neither():
    loaded = in_a_fresh_interpreter(
        "import sys, hybridllm, hybridllm.metrics, hybridllm.telemetry, hybridllm.telemetry_names; print(*sys.modules)"
    )
    assert not {"prometheus_client", "opentelemetry"} & set(loaded)
