"""The audit log and the decision log of a client: what leaves is written down first, or does not leave."""

import pytest

from hybridllm import AuditError, BadRequest
from hybridllm.audit import tail, verify_audit
from hybridllm.logged_decision import read_decision_log
from hybridllm.testing import ScriptedBackend
from policies import decide, parse_policy
from tests.hybridllm.loopback import answer, status

POLICY = parse_policy(
    "version: 1\nname: cloud-first\nlabels: {order: [public, private], unlabeled: private}\nzones: {cloud: public}\n"
    "detectors: [email]\nrules: [{name: stripped, when: {detected: email}, route: [remote, local], redact: [email]}]\n"
    "default: [remote, local]\n"
)
CANARY = "kanarienvogel"
QUESTION = [{"role": "user", "content": f"{CANARY}?"}]


@pytest.fixture
def recorded(face, serve, remote_at, tmp_path, monkeypatch):
    """A client with both logs, and the folder of the audit log."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def make(*behaviours, audit=tmp_path / "audit", replies=lambda _: CANARY):
        server = serve(*(behaviours or (answer(CANARY),)))
        made = face(
            policy=POLICY,
            local=ScriptedBackend(replies),
            remote=remote_at(server),
            audit=audit,
            decision_log=tmp_path / "decisions.jsonl",
        )
        return made, server, tmp_path

    return make


def test_a_try_is_written_down_before_and_its_outcome_after(recorded):
    made, server, folder = recorded(status(503, headers={"Retry-After": "0"}), answer("Fine, [EMAIL_1]"))
    reply = made.create(messages=[{"role": "user", "content": f"{CANARY} jane@example.com"}], privacy="public")
    assert reply.route.served_by == "remote", reply.route
    made.close()
    first, second, outcome = tail(folder / "audit", 3)
    for number, line in enumerate((first, second), start=1):
        assert (line["event"], line["attempt"], line["endpoint"]) == (
            "egress",
            number,
            f"http://127.0.0.1:{server.port}",
        )
        assert (line["label"], line["rule"], line["policy_hash"]) == ("public", "stripped", POLICY.hash)
        assert line["body_bytes"] == len(server.exchanges[number - 1].body)
        assert line["redacted"] == ["email"]
    assert (outcome["event"], outcome["outcome"], outcome["place"]) == ("outcome", "served", "remote")
    assert outcome["egress_bytes"] == reply.route.egress_bytes == first["body_bytes"] + second["body_bytes"]
    assert {line["request_id"] for line in (first, second, outcome)} == {reply.id}
    assert verify_audit(folder / "audit").ok


def test_the_device_is_written_down_too_and_nothing_has_content(recorded):
    made, server, folder = recorded()
    made.create(messages=QUESTION)
    made.close()
    [outcome] = tail(folder / "audit", 1)
    assert (outcome["place"], outcome["zone"], outcome["egress_bytes"], outcome["label"]) == (
        "local",
        "device",
        0,
        "private",
    )
    assert not server.received
    for file in folder.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_written_down_does_not_leave_and_the_device_answers(recorded, tmp_path, stream, caplog):
    (tmp_path / "taken").write_text("a file where the folder should be")
    made, server, _ = recorded(audit=tmp_path / "taken")
    ask = made.final if stream else made.create
    reply = ask(messages=QUESTION, privacy="public")
    assert reply.route.served_by == "local"
    assert reply.route.attempts[0].error.startswith("AuditError: ")
    assert reply.choices[0].message.content == CANARY
    assert not server.received
    made.close()
    assert any(record.name == "hybridllm.audit" for record in caplog.records)


def test_a_log_that_can_be_written_again_is_used_again(recorded, tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    made, server, _ = recorded(audit=tmp_path / "taken")
    assert made.create(messages=QUESTION, privacy="public").route.served_by == "local"
    (tmp_path / "taken").unlink()
    assert made.create(messages=QUESTION, privacy="public").route.served_by == "remote"
    assert len(server.exchanges) == 1


def test_a_folder_that_cannot_be_one(recorded):
    with pytest.raises(AuditError):
        recorded(audit="a\0b")


def test_what_is_no_path_is_a_bad_request(recorded):
    with pytest.raises(BadRequest, match="audit is a int, expected a path"):
        recorded(audit=3)


def test_decisions_can_be_made_again_from_their_log(recorded):
    made, _, folder = recorded()
    made.create(messages=QUESTION, privacy="public")
    made.create(messages=QUESTION)
    made.final(messages=[{"role": "user", "content": "jane@example.com"}], privacy="public")
    made.close()
    logged = list(read_decision_log(folder / "decisions.jsonl"))
    assert len(logged) == 3
    for entry in logged:
        assert decide(POLICY, entry.facts).to_dict() == entry.decision
    assert [entry.served_by for entry in logged] == ["remote", "local", "remote"]
