"""A policy's file that changes while the client runs: atomic, strict for what is under way, closed when it is broken."""

import threading
import time

import pytest

from hybridllm import BadRequest, HybridClient, PolicyTightened
from hybridllm.policy_in_force import PolicyInForce
from hybridllm.policy_watch import PolicyWatch
from hybridllm.testing import ScriptedBackend
from policies import load_policy
from tests.hybridllm.loopback import answer, status

OPEN = """version: 1
name: open
labels: {order: [public, internal, private], unlabeled: private, tags: {faq: public}}
zones: {cloud: internal}
default: [remote, local]
"""
STRICT = OPEN.replace("name: open", "name: strict").replace("cloud: internal", "cloud: public")
QUESTION = [{"role": "user", "content": "When do you open?"}]


def until(true, seconds=5.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(OPEN)
    return path


@pytest.fixture
def client(file, serve, remote_at):
    server = serve(answer())
    with HybridClient(
        local=ScriptedBackend(lambda _: "Here."), policy=file, watch_policy=True, remote=remote_at(server)
    ) as made:
        yield made, server


def ask(made, privacy="internal", **more):
    return made.chat.completions.create(messages=QUESTION, privacy=privacy, **more)


def replace_file(file, text):
    """As editors do it: a new file is put in the old one's place."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@pytest.mark.parametrize("write", [lambda file, text: file.write_text(text), replace_file])
def test_a_changed_file_takes_effect(client, file, write):
    made, _ = client
    assert ask(made).route.served_by == "remote"
    write(file, STRICT)
    until(lambda: made.policy.name == "strict")
    reply = ask(made)
    assert (reply.route.served_by, reply.route.policy) == ("local", "strict")
    assert ask(made, "public").route.served_by == "remote"
    write(file, OPEN)
    until(lambda: made.policy.name == "open")
    assert ask(made).route.served_by == "remote"
    assert made.policy_problem == ""


@pytest.mark.parametrize("broken", ["version: 1\nname: [", OPEN.replace("zones", "zonse"), "", None])
def test_a_broken_file_closes_the_remote_and_says_so_and_the_device_goes_on(client, file, broken, caplog):
    made, server = client
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    until(lambda: made.policy_problem)
    assert str(file) in made.policy_problem
    for privacy in ("public", "internal", None):
        reply = ask(made, privacy)
        assert reply.route.served_by == "local"
    assert reply.choices[0].message.content == "Here."
    assert not server.received
    assert [record.levelname for record in caplog.records if record.name == "hybridllm.policy"] == ["ERROR"]
    assert "Nothing leaves this device until the policy is mended." in caplog.text
    file.write_text(STRICT)
    until(lambda: not made.policy_problem)
    assert ask(made, "public").route.served_by == "remote"


def test_a_request_under_way_keeps_its_policy_but_its_bytes_need_the_new_ones_leave_too(file, serve, remote_at):
    """The remote's first try fails; before the retry leaves, a stricter policy comes into force."""
    arrived, go_on = threading.Event(), threading.Event()

    def fails_after_a_while(exchange):
        arrived.set()
        go_on.wait(5)
        status(503)(exchange)

    server = serve(fails_after_a_while, answer())
    with HybridClient(
        local=ScriptedBackend(lambda _: "Here."),
        policy=file,
        watch_policy=True,
        remote=remote_at(server, first_token_timeout_s=8),
    ) as made:
        replies = []
        asking = threading.Thread(target=lambda: replies.append(ask(made)))
        asking.start()
        assert arrived.wait(5)
        file.write_text(STRICT)
        until(lambda: made.policy.name == "strict")
        go_on.set()
        asking.join(10)
    reply = replies[0]
    assert reply.route.policy == "open", "it keeps the policy that it began with"
    assert [attempt.outcome for attempt in reply.route.attempts] == ["failed", "served"]
    assert "a new policy has come into force" in reply.route.attempts[0].error
    assert reply.route.served_by == "local"
    assert len(server.exchanges) == 1, "the retry was not sent"


def test_a_policy_that_is_not_stricter_lets_what_is_under_way_go_on(file, serve, remote_at):
    arrived, go_on = threading.Event(), threading.Event()

    def fails_after_a_while(exchange):
        arrived.set()
        go_on.wait(5)
        status(503)(exchange)

    server = serve(fails_after_a_while, answer("Yes."))
    with HybridClient(
        local=ScriptedBackend([]), policy=file, watch_policy=True, remote=remote_at(server, first_token_timeout_s=8)
    ) as made:
        replies = []
        asking = threading.Thread(target=lambda: replies.append(ask(made, "public")))
        asking.start()
        assert arrived.wait(5)
        file.write_text(STRICT)
        until(lambda: made.policy.name == "strict")
        go_on.set()
        asking.join(10)
    assert (replies[0].route.served_by, replies[0].route.policy) == ("remote", "open")


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        (lambda text: text.replace("faq: public", "faq: private"), False),
        (lambda text: text.replace("default: [remote, local]", "default: [local]"), False),
        (lambda text: text.replace("zones:", "detectors: [email]\nzones:"), False),
        (lambda text: text.replace("internal, ", "").replace("cloud: internal", "cloud: public"), True),
        (lambda text: text.replace("internal, ", "").replace("internal", "public").replace("public", "open"), True),
        (lambda text: text + "description: the same\n", True),
    ],
)  # fmt: skip
def test_the_new_policy_decides_the_whole_request_again(file, change, allowed):
    """Labels, tags, detectors and routes of the new policy all count, not only the ceiling of the zone."""
    from hybridllm.assessment import Assessment, label_request
    from hybridllm.label_memory import LabelMemory
    from hybridllm.types import ChatRequest
    from policies import Facts, Place, decide, parse_policy

    old = load_policy(file)
    request = ChatRequest.parse([{"role": "user", "content": "write to jane@example.com"}])
    labelled = label_request(old, request, privacy=None, tags=frozenset({"faq"}), floors={}, memory=LabelMemory())
    facts = Facts(
        label=labelled.joined.label, tags=labelled.tags, places=(Place("local", "device"), Place("remote", "cloud"))
    )
    assessment = Assessment(labelled, facts, decide(old, facts))
    assert assessment.decision.candidates == ("remote", "local")
    new = parse_policy(change(OPEN))
    if allowed:
        assessment.check_still_allowed(new, "remote")
    else:
        with pytest.raises(PolicyTightened, match="a new policy has come into force"):
            assessment.check_still_allowed(new, "remote")


def test_a_floor_that_the_new_policy_does_not_know_closes_the_remote(file):
    in_force = PolicyInForce(load_policy(file))
    watch = PolicyWatch(file, in_force, privacy_floor="internal")
    file.write_text(OPEN.replace("internal, ", "").replace("cloud: internal", "cloud: public"))
    watch.read_again()
    assert "privacy_floor is not one of its labels" in in_force.problem
    assert in_force.current.zones == {}
    assert in_force.current.labels.order == ("public", "internal", "private")


def test_a_reader_never_sees_half_a_policy(file):
    """Readers in other threads get one policy or the other, whole, while it is replaced thousands of times."""
    policies = [load_policy(file), load_policy("kiosk"), load_policy("cloud-assist")]
    in_force = PolicyInForce(policies[0])
    stop = threading.Event()
    seen = set()

    def read():
        while not stop.is_set():
            seen.add(in_force.current.hash)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(3000):
        in_force.replace(policies[number % 3])
    stop.set()
    for reader in readers:
        reader.join()
    assert seen <= {policy.hash for policy in policies}


def test_only_a_file_can_be_watched():
    with pytest.raises(BadRequest, match="the policy is not a file"):
        HybridClient(local=ScriptedBackend([]), policy="kiosk", watch_policy=True)


def test_closing_the_client_ends_the_thread(file):
    def watching():
        return [thread for thread in threading.enumerate() if thread.name == "hybridllm-policy-watch"]

    client = HybridClient(local=ScriptedBackend([]), policy=file, watch_policy=True)
    assert watching()
    client.close()
    assert not watching()
