"""The second place is asked when the first is late; the one that speaks first answers, the other one is stopped."""

from dataclasses import replace

import pytest

from hybridllm import load_policy
from hybridllm.errors import CannotServe, RemoteError
from hybridllm.hedging import HedgeBudget
from hybridllm.testing import ScriptedBackend, ScriptedReply
from policies import Hedge
from tests.hybridllm.faces import text_of
from tests.hybridllm.loopback import answer, chunk, silent, stalls_after, status

PUBLIC = {"privacy": "public"}


@pytest.fixture
def hedged(face, serve, remote_at):
    """A client that asks the remote first and hedges after a moment."""

    def make(*behaviours, local=None, after=0.05, budget=1.0, remote=None, preset="cloud-assist"):
        server = serve(*behaviours)
        local = ScriptedBackend(lambda _: "From the device.", continues=True) if local is None else local
        policy = replace(load_policy(preset), hedge=Hedge(after=after, budget=budget))
        at = remote_at(server, **{"first_token_timeout_s": 20.0, "max_retries": 0, **(remote or {})})
        return face(local=local, remote=at, policy=policy), local, server

    return make


@pytest.mark.parametrize("streaming", [False, True])
def test_the_second_answers_where_the_first_is_silent(hedged, question, streaming):
    client, _, server = hedged(silent())
    reply = (client.final if streaming else client.create)(messages=question, **PUBLIC)
    assert reply.choices[0].message.content == "From the device."
    assert reply.route.served_by == "local"
    first, second = reply.route.attempts
    assert (first.place, first.why, first.outcome) == ("remote", "first", "cancelled")
    assert (second.place, second.why, second.outcome) == ("local", "hedge", "served")
    assert "local was asked as well, because the one before was late; local was faster" in reply.route.reason
    assert len(server.exchanges) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_nobody_else_is_asked_where_the_first_is_in_time(hedged, question, streaming):
    client, local, _ = hedged(answer("Quick."), after=5.0)
    reply = (client.final if streaming else client.create)(messages=question, **PUBLIC)
    assert reply.route.served_by == "remote"
    assert len(reply.route.attempts) == 1
    assert local.calls == []


def test_the_slower_one_is_stopped_and_frees_what_it_held(hedged, question):
    slow = ScriptedBackend(lambda _: ScriptedReply("Never heard.", first_token_s=60.0), continues=True)

    def late(exchange):
        exchange.wait(0.4)
        answer("From afar.")(exchange)

    client, local, _ = hedged(late, local=slow)
    reply = client.create(messages=question, **PUBLIC)
    assert reply.route.served_by == "remote"
    assert [attempt.outcome for attempt in reply.route.attempts] == ["served", "cancelled"]
    assert local.cancelled == 1


def test_a_first_that_fails_while_the_second_runs_costs_no_third_attempt(hedged, question):
    def fails_late(exchange):
        exchange.wait(0.2)
        status(500)(exchange)

    client, _, _ = hedged(fails_late, local=ScriptedBackend(lambda _: ScriptedReply("Here.", first_token_s=0.5)))
    reply = client.create(messages=question, **PUBLIC)
    assert reply.choices[0].message.content == "Here."
    assert [(attempt.place, attempt.outcome) for attempt in reply.route.attempts] == [
        ("remote", "failed"),
        ("local", "served"),
    ]


def test_a_first_that_fails_at_once_is_followed_without_waiting(hedged, question):
    client, _, _ = hedged(status(500), after=60.0)
    reply = client.create(messages=question, **PUBLIC)
    assert [attempt.why for attempt in reply.route.attempts] == ["first", "fallback"]


def test_both_fail(hedged, question):
    def fails_late(exchange):
        exchange.wait(0.2)
        status(500)(exchange)

    client, _, _ = hedged(fails_late, local=ScriptedBackend([RemoteError("nothing here")]))
    with pytest.raises(CannotServe) as caught:
        client.create(messages=question, **PUBLIC)
    assert "remote: RemoteError" in str(caught.value)
    assert "local: RemoteError" in str(caught.value)


def test_the_loser_goes_on_where_the_winner_breaks_off(hedged, question):
    """The device was late and stopped; when the remote breaks off it is asked again, for it never failed."""
    replies = iter([ScriptedReply("One two three.", first_token_s=60.0), "One two three."])
    local = ScriptedBackend(lambda _: next(replies), continues=True)
    client, _, _ = hedged(
        stalls_after(chunk("One", role="assistant")), local=local, preset="offline-first", remote={"gap_timeout_s": 0.3}
    )
    chunks, opened = client.read(messages=question, **PUBLIC)
    assert text_of(chunks) == "One two three."
    assert [(attempt.place, attempt.why, attempt.outcome) for attempt in opened.route.attempts] == [
        ("local", "first", "cancelled"),
        ("remote", "hedge", "failed"),
        ("local", "continue", "served"),
    ]


def test_what_may_not_leave_is_never_hedged_to_the_remote(hedged, question):
    slow = ScriptedBackend(lambda _: ScriptedReply("Slow.", first_token_s=0.3))
    client, _, server = hedged(answer("Leak."), local=slow, preset="offline-first", after=0.01)
    reply = client.create(messages=question, privacy="private")
    assert reply.choices[0].message.content == "Slow."
    assert server.connections == 0


def test_a_percentile_that_is_not_known_yet_hedges_nothing(hedged, question):
    def late(exchange):
        exchange.wait(0.3)
        answer("Late.")(exchange)

    client, local, _ = hedged(late, after="p95")
    assert client.create(messages=question, **PUBLIC).route.served_by == "remote"
    assert local.calls == []


def test_the_budget_bounds_the_extra_load(hedged, question):
    def late(exchange):
        exchange.wait(0.15)
        answer("Late.")(exchange)

    slow = ScriptedBackend(lambda _: ScriptedReply("Never heard.", first_token_s=60.0))
    client, local, _ = hedged(late, local=slow, after=0.02, budget=0.25)
    routes = [client.create(messages=question, **PUBLIC).route for _ in range(12)]
    assert {route.served_by for route in routes} == {"remote"}
    assert len(local.calls) == 1 + 12 // 4
    assert sum(len(route.attempts) == 2 for route in routes) == len(local.calls)


def test_the_budget_alone():
    budget = HedgeBudget()
    assert budget.take()
    assert not budget.take()
    for _ in range(9):
        budget.note_request(0.1)
        assert not budget.take()
    budget.note_request(0.1 + 1e-9)
    assert budget.take()
    for _ in range(1000):
        budget.note_request(1.0)
    assert sum(budget.take() for _ in range(100)) == 10
