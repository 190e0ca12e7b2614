"""What is repeated at a remote, when, and how often: against a real server, which must not be hammered."""

import asyncio
import time

import pytest

from hybridllm import Remote
from hybridllm.backends.retry_after import retry_after_s
from hybridllm.errors import (
    BreakerOpen,
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    RemoteError,
    RemoteUnreachable,
)
from hybridllm.refused_key import RefusedKey
from hybridllm.retry_budget import RetryBudget
from policies import Breaker, Limits, Retries
from tests.hybridllm.loopback import (
    answer,
    busy,
    delta,
    free_port,
    kept,
    login_page,
    refused,
    reset,
    silent,
    stalls_after,
    status,
    stream,
    whole_stream,
)
from tests.hybridllm.remote_harness import SHORT, Asker, Clock

FEW_FAILURES = Breaker(failures=3, open_s=10.0, successes=2)


@pytest.fixture
def asker(serve):
    """Makes askers at servers with these behaviours; all are closed at the end."""
    made = []

    def make(*behaviours, **more):
        server = serve(*behaviours)
        made.append(Asker(server, **more))
        return made[-1], server

    yield make
    for one in made:
        one.close()


# ---- what can help ----


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 520])
def test_a_status_that_may_be_another_next_time_is_repeated_with_the_same_key(asker, code):
    one, server = asker(status(code), status(code), answer("Third time."))
    answered = one.ask()
    assert (answered.text, answered.tries) == ("Third time.", 3)
    assert len({exchange.headers["idempotency-key"] for exchange in server.exchanges}) == 1
    assert len({exchange.body for exchange in server.exchanges}) == 1
    assert answered.ledger.egress_bytes == sum(len(exchange.body) for exchange in server.exchanges)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 413, 422, 501, 505, 511])
def test_a_status_that_stays_the_same_is_not_repeated(asker, code):
    one, server = asker(status(code), answer())
    answered = one.ask()
    assert answered.error.status == code
    assert (answered.tries, len(server.exchanges)) == (1, 1)


def test_an_account_that_is_used_up_is_not_a_limit_that_passes(asker):
    one, server = asker(refused(429, "insufficient_quota"), answer())
    answered = one.ask()
    assert (answered.error.code, len(server.exchanges)) == ("insufficient_quota", 1)


@pytest.mark.parametrize("code", [429, 503])
def test_an_error_within_a_stream_that_names_such_a_status(asker, code):
    error = f'data: {{"error": {{"code": {code}, "message": "canary"}}}}\n\n'.encode()
    one, _ = asker(stream(error), answer("Second time."))
    assert one.ask().text == "Second time."
    one, server = asker(stream(b'data: {"error": {"code": 400, "message": "canary"}}\n\n'), answer())
    answered = one.ask()
    assert "status 400" in str(answered.error)
    assert "canary" not in str(answered.error)
    assert len(server.exchanges) == 1


@pytest.mark.parametrize("others_left", [False, True])
def test_a_connection_that_was_kept_for_too_long_is_replaced_at_once(asker, others_left):
    one, _ = asker(kept(whole_stream("First."), then_close=True), reset(), answer("Second."))
    assert one.ask().text == "First."
    answered = one.ask(others_left=others_left)
    assert answered.text == "Second."
    assert answered.took_s < 5


def test_a_connection_is_used_again(asker):
    one, server = asker(kept(whole_stream("Again.")))
    assert [one.ask().text for _ in range(5)] == ["Again."] * 5
    assert (server.connections, len(server.exchanges)) == (1, 5)


def test_no_connection_is_tried_again_only_where_nobody_else_is_left():
    with Asker(base_url=f"http://127.0.0.1:{free_port()}/v1") as one:
        for others_left in (False, True):
            answered = one.ask(others_left=others_left)
            assert isinstance(answered.error, RemoteUnreachable)
            assert answered.tries == (1 if others_left else 3)
            assert answered.ledger.egress_bytes == 0


def test_nothing_is_repeated_after_the_first_piece_or_for_silence(asker):
    for behaviour, text in ((stream(delta(content="Half")), "Half"), (silent(), "")):
        one, server = asker(behaviour, answer(), limits=SHORT)
        answered = one.ask()
        assert (answered.text, answered.finished, len(server.exchanges)) == (text, None, 1)
        assert isinstance(answered.error, RemoteError)


def test_as_often_as_the_policy_says(asker):
    for most in (0, 1, 3):
        one, server = asker(status(503), retries=Retries(most=most))
        assert one.ask().error.status == 503
        assert len(server.exchanges) == 1 + most


# ---- when ----


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_kept_in_seconds_and_as_a_date(asker, as_date):
    one, _ = asker(busy(2.0 if as_date else 1.0, as_date=as_date), answer("Later."))
    answered = one.ask()
    assert answered.text == "Later."
    assert 0.9 < answered.took_s < 6


@pytest.mark.parametrize(("others_left", "seconds"), [(False, 6.0), (True, 3.0)])
def test_a_pause_that_is_too_long_ends_the_attempt(asker, others_left, seconds):
    one, server = asker(busy(seconds, 503), answer())
    answered = one.ask(others_left=others_left)
    assert (answered.error.status, answered.error.retry_after_s) == (503, seconds)
    assert (len(server.exchanges), answered.took_s < 2) == (1, True)


def test_what_is_left_of_the_deadline_decides(asker):
    one, server = asker(busy(2.0), answer())
    assert one.ask(deadline_s=1.5).error.status == 429
    assert len(server.exchanges) == 1
    # Half of the time belongs to somebody else, where there is one.
    one, server = asker(busy(1.0), answer())
    assert one.ask(deadline_s=1.6, others_left=True).error.status == 429
    assert len(server.exchanges) == 1
    # What a first token is expected to take has to fit too.
    one, server = asker(status(503), answer())
    one.latency.note_first_token(9_000)
    assert one.ask(deadline_s=5).error.status == 503
    assert len(server.exchanges) == 1
    one, server = asker(status(503), answer("In time."))
    one.latency.note_first_token(20)
    assert one.ask(deadline_s=5).text == "In time."


PATIENT = Limits(connect_s=60, first_token_s=60, gap_s=60)


@pytest.mark.parametrize("behaviour", [silent(), stalls_after(delta(content="Half"))], ids=["first token", "gap"])
def test_the_deadline_bounds_every_wait(asker, behaviour):
    one, _ = asker(behaviour, limits=PATIENT)
    answered = one.ask(deadline_s=0.4)
    assert isinstance(answered.error, DeadlineExceeded)
    assert 0.3 < answered.took_s < 5


def test_the_deadline_bounds_the_wait_for_a_connection(monkeypatch):
    async def silent_resolver(loop, *arguments, **more):
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", silent_resolver)
    with Asker(base_url="https://llm.example/v1", limits=PATIENT) as one:
        answered = one.ask(deadline_s=0.4)
        assert isinstance(answered.error, DeadlineExceeded)
        assert 0.3 < answered.took_s < 5
        assert answered.ledger.egress_bytes == 0


# ---- how often ----


def test_a_budget_of_retries():
    clock = Clock()
    budget = RetryBudget(clock)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    clock.now_s += 10.5
    assert [budget.take(), budget.take()] == [True, False]
    clock.now_s += 3600
    assert budget.left == 3
    for _ in range(20):
        budget.note_first_try(0.2)
    assert budget.left == 7
    for _ in range(1000):
        budget.note_first_try(0.2)
    assert budget.left == 13


def test_an_outage_is_not_hammered(asker):
    one, server = asker(status(503), retries=Retries(most=2, budget=0.2))
    began_s = time.monotonic()
    asked = 30
    for _ in range(asked):
        assert one.ask().error.status == 503
    given = 3 + 0.1 * (time.monotonic() - began_s)
    assert asked + 3 <= len(server.exchanges) <= asked * 1.2 + given + 1


def test_a_breaker_leaves_a_failing_remote_alone_and_finds_it_well_again(asker):
    failing = [status(503)] * 3
    one, server = asker(*failing, answer("Well."), settings=FEW_FAILURES, retries=Retries(most=0))
    for _ in range(3):
        assert one.ask().error.status == 503
    assert one.backend.breaker == "open"
    for _ in range(5):
        answered = one.ask(others_left=True)
        assert isinstance(answered.error, BreakerOpen)
        assert (answered.tries, answered.ledger.egress_bytes) == (0, 0)
    assert len(server.exchanges) == 3
    one.clock.now_s += 10
    assert one.backend.breaker == "half_open"
    assert [one.ask().text, one.ask().text] == ["Well.", "Well."]
    assert one.backend.breaker == "closed"


FAILURES = {
    "503": status(503),
    "429": status(429),
    "408": status(408),
    "silent": silent(),
    "reset": reset(),
    "cut": stream(delta(content="Half")),
    "reset in the middle": reset(after=delta(content="Half")),
    "login page": login_page(),
    "not json": stream(b"data: canary\n\n"),
    "error in the stream": stream(b'data: {"error": {"type": "server_error"}}\n\n'),
}


@pytest.mark.parametrize("behaviour", FAILURES.values(), ids=FAILURES.keys())
def test_what_counts_as_a_failure(asker, behaviour):
    one, _ = asker(behaviour, settings=Breaker(failures=2), retries=Retries(most=0), limits=SHORT)
    for _ in range(2):
        assert one.backend.breaker == "closed"
        assert one.ask(whole=True).error is not None
    assert one.backend.breaker == "open"


NO_FAILURES = {
    "400": status(400),
    "404": status(404),
    "409": status(409),
    "413": status(413),
    "422": status(422),
    "too long": refused(400, "context_length_exceeded"),
    "filtered": refused(400, "content_filter"),
}


@pytest.mark.parametrize("behaviour", NO_FAILURES.values(), ids=NO_FAILURES.keys())
def test_what_is_the_requests_fault_counts_for_the_remote(asker, behaviour):
    one, _ = asker(status(500), behaviour, status(500), answer(), settings=Breaker(failures=2), retries=Retries(most=0))
    for _ in range(3):
        assert one.ask().error is not None
    assert one.backend.breaker == "closed"
    assert one.connectivity.state == "degraded"  # the first sign of all was trouble


def test_no_connection_counts_as_a_failure_that_a_connection_ends():
    with Asker(base_url=f"http://127.0.0.1:{free_port()}/v1", settings=Breaker(failures=2)) as one:
        one.ask(others_left=True)
        one.ask(others_left=True)
        assert (one.backend.breaker, one.connectivity.state) == ("open", "offline")
        one.circuit.note_probe(True)
        assert one.backend.breaker == "half_open"


def test_to_be_stopped_is_no_failure_unless_the_silence_was_long(asker):
    one, _ = asker(silent(), limits=PATIENT, settings=Breaker(failures=2))
    for _ in range(3):
        assert isinstance(one.ask(stop_after_s=0.1).error, TimeoutError)
    assert one.backend.breaker == "closed"
    for deadline_s in (None, 1.2):
        one.ask(stop_after_s=None if deadline_s else 1.2, deadline_s=deadline_s)
    assert one.backend.breaker == "open"
    # A remote that usually takes long is not yet silent.
    one, _ = asker(silent(), limits=PATIENT, settings=Breaker(failures=1))
    one.latency.note_first_token(30_000)
    one.ask(stop_after_s=1.2)
    assert one.backend.breaker == "closed"


def test_a_stream_that_its_reader_leaves_is_no_failure(asker):
    one, _ = asker(answer(*"abcdef"), settings=Breaker(failures=1))
    for _ in range(3):
        assert one.ask(stop_after_pieces=2).error is None
    assert (one.backend.breaker, one.backend.idle) == ("closed", True)


def test_a_pause_that_is_too_long_for_any_request_is_kept_by_all(asker):
    one, server = asker(busy(30.0), settings=Breaker(failures=100, open_s=10.0))
    one.ask()
    refusal = one.ask().error
    assert isinstance(refusal, BreakerOpen)
    assert refusal.retry_after_s == 30.0
    assert len(server.exchanges) == 1


def test_who_is_alone_waits_for_a_breaker_that_is_about_to_let_somebody_through(asker):
    one, _ = asker(status(500), answer("Well."), settings=Breaker(failures=1, open_s=0.3), retries=Retries(most=1))
    one.circuit._clock = time.monotonic  # both clocks are the real one here
    assert one.ask(others_left=True).error.status == 500
    assert isinstance(one.ask(others_left=True).error, BreakerOpen)
    answered = one.ask()
    assert (answered.text, answered.tries) == ("Well.", 1)


def test_the_failure_of_a_try_is_not_hidden_by_the_breaker_that_it_opened(asker):
    one, _ = asker(status(503), settings=Breaker(failures=2, open_s=60.0), retries=Retries(most=5))
    answered = one.ask()
    assert (answered.error.status, answered.tries) == (503, 2)


# ---- keys ----


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("TESTED_REMOTE_KEY", "sk-revoked")
    clock = Clock()
    remote = Remote(base_url="https://h.example/v1", model="m", api_key_env="TESTED_REMOTE_KEY")
    return RefusedKey(remote, clock), clock


def test_a_refused_key_rests_ever_longer(key):
    key, clock = key
    key.check()
    for pause_s in (60, 120, 240, 480, 600, 600):
        key.note_refused(401)
        assert key.paused
        with pytest.raises(
            BreakerOpen, match=rf"refused the key \(status 401\) and is not asked for another {pause_s} s"
        ) as raised:
            key.check()
        assert "Check TESTED_REMOTE_KEY." in str(raised.value)
        assert "sk-" not in str(raised.value) + repr(vars(key))
        clock.now_s += pause_s
        key.check()
        assert not key.paused
    key.note_accepted()
    key.note_refused(402)
    with pytest.raises(BreakerOpen, match=r"no credit left \(status 402\) and is not asked for another 60 s"):
        key.check()


def test_a_key_that_changes_is_shown_at_once(key, monkeypatch):
    key, _ = key
    key.note_refused(401)
    monkeypatch.setenv("TESTED_REMOTE_KEY", "sk-new")
    key.check()
    assert not key.paused
    key.note_refused(401)
    monkeypatch.delenv("TESTED_REMOTE_KEY")
    key.check()  # the gate says what is wrong with it


def test_a_forbidden_request_is_not_yet_a_refused_key(key):
    key, _ = key
    key.note_refused(403)
    key.note_refused(403)
    key.note_accepted()
    key.note_refused(403)
    key.note_refused(403)
    key.check()
    key.note_refused(403)
    with pytest.raises(BreakerOpen, match="status 403"):
        key.check()


def test_a_revoked_key_is_not_shown_with_every_request(asker, monkeypatch):
    monkeypatch.setenv("TESTED_REMOTE_KEY", "sk-revoked")
    one, server = asker(
        refused(401, "invalid_api_key"), answer("Welcome."), api_key=None, api_key_env="TESTED_REMOTE_KEY"
    )
    first = one.ask()
    assert (first.error.status, first.error.code) == (401, "invalid_api_key")
    assert "Check remote.api_key" in str(first.error)
    assert one.backend.breaker == "open"
    second = one.ask()
    assert isinstance(second.error, BreakerOpen)
    assert (second.tries, len(server.exchanges), second.took_s < 1) == (0, 1, True)
    monkeypatch.setenv("TESTED_REMOTE_KEY", "sk-new")
    assert one.ask().text == "Welcome."
    assert one.backend.breaker == "closed"
    assert one.connectivity.state == "online"


# ---- what an error says ----


@pytest.mark.parametrize(
    "behaviour",
    [
        refused(400, "context_length_exceeded"),
        refused(413, "", type="exceed_context_size_error"),
        refused(500, "", type="exceed_context_size_error", n_ctx=256),
        refused(400, "ContextWindowExceededError"),
        status(
            400,
            b'{"object": "error", "message": "This model\'s maximum context length is 2048 tokens. However, you requested '
            b'4096 tokens.", "type": "BadRequestError", "param": null, "code": 400}',
        ),
        status(
            400,
            b'{"object": "error", "message": "The input (61709 tokens) is longer than the model\'s context length (40960 '
            b'tokens).", "type": "BadRequestError", "param": null, "code": 400}',
        ),
        stream(b'data: {"error": {"message": "prompt is too long: 9 tokens > 8 maximum", "code": 400}}\n\n'),
    ],
)
def test_a_request_that_is_too_long_for_the_remote(asker, behaviour):
    one, server = asker(behaviour, answer())
    answered = one.ask()
    assert isinstance(answered.error, ContextLengthExceeded)
    assert (answered.error.field, len(server.exchanges)) == ("messages", 1)
    assert "tokens)" not in str(answered.error)
    assert "You said" not in str(answered.error)
    assert one.latency.ttft_ms is None


@pytest.mark.parametrize(
    "behaviour",
    [
        refused(400, "content_filter"),
        refused(400, "content_policy_violation"),
        refused(400, "", innererror={"code": "ResponsibleAIPolicyViolation"}),
        refused(400, "data_inspection_failed"),
        refused(403, "", metadata={"reasons": ["x"], "flagged_input": "canary"}),
        stream(b'data: {"error": {"message": "canary", "code": "content_filter"}}\n\n'),
    ],
)
def test_a_request_that_the_remotes_filter_refuses(asker, behaviour):
    one, server = asker(behaviour, answer())
    answered = one.ask()
    assert isinstance(answered.error, ContentFiltered)
    assert (answered.error.code, len(server.exchanges)) == ("content_filter", 1)
    assert "canary" not in str(answered.error)
    assert "When do you open" not in str(answered.error)
    assert one.backend.breaker == "closed"


def test_what_an_error_quotes_is_never_kept(asker):
    one, _ = asker(refused(400, "prompt is too long", type="When do you open?"))
    error = one.ask().error
    assert (type(error), error.code) == (RemoteError, "")
    one, _ = asker(refused(404, "model_not_found"))
    assert one.ask().error.code == "model_not_found"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0), (" 0 ", 0.0), ("", None), ("soon", None), ("-1", None), ("1.5", None), ("9" * 20, None),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 20.0), ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0), ("Thu, 99 Jan", None),
    ],
)  # fmt: skip
def test_retry_after(value, seconds):
    assert retry_after_s(value, now_s=10.0) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of the machine cannot be changed here")
def test_retry_after_without_a_zone_is_not_in_this_machines(monkeypatch):
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        assert retry_after_s("Thu, 01 Jan 1970 00:00:30 -0000", now_s=10.0) == 20.0
    finally:
        monkeypatch.undo()
        time.tzset()
