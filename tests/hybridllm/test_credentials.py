"""The remote's key: named when a client is made, read when a permit has opened the gate, and at no other time."""

import os
from collections.abc import MutableMapping

import pytest

from hybridllm import HybridClient, Remote
from hybridllm.config import load_config
from hybridllm.errors import BadRequest, ConfigError, PrivacyViolation
from hybridllm.policy import DEVICE_ONLY
from hybridllm.testing import ScriptedBackend
from tests.hybridllm.gate_harness import Sender, gate_to
from tests.hybridllm.loopback import answer, status

NAME = "TESTED_REMOTE_KEY"
PUBLIC = {"privacy": "public"}


class RecordingEnvironment(MutableMapping):
    """The environment, noting each name whose value somebody reads."""

    def __init__(self, real):
        self._real = real
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return self._real[name]

    def __setitem__(self, name, value):
        self._real[name] = value

    def __delitem__(self, name):
        del self._real[name]

    def __iter__(self):
        return iter(self._real)

    def __len__(self):
        return len(self._real)

    def copy(self):
        return dict(self)


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv(NAME, "sk-canary")
    recording = RecordingEnvironment(os.environ)
    monkeypatch.setattr(os, "environ", recording)
    assert NAME in recording  # what looks as harmless as this is noticed too
    assert recording.read == [NAME]
    recording.read.clear()
    return recording


def remote_at(server, **more):
    return Remote(
        **{
            "base_url": server.base_url,
            "model": "m",
            "api_key_env": NAME,
            "max_retries": 1,
            "connect_timeout_s": 1.0,
            **more,
        }
    )


def client_for(remote, **more):
    return HybridClient(
        **{"local": ScriptedBackend(lambda _: "Here."), "remote": remote, "policy": "cloud-assist", **more}
    )


def ask(client, **more):
    return client.chat.completions.create(messages=[{"role": "user", "content": "x"}], **more)


@pytest.mark.parametrize(
    ("client_arguments", "request_arguments"),
    [
        ({"policy": None}, PUBLIC),
        ({"offline": True}, PUBLIC),
        ({}, {"privacy": "private"}),
        ({}, {}),
        ({"privacy_floor": "private"}, PUBLIC),
    ],
    ids=["without a policy", "offline", "private", "unlabelled", "private at least"],
)
def test_where_nothing_may_leave_the_key_is_never_read(serve, environment, client_arguments, request_arguments):
    server = serve(answer())
    with client_for(remote_at(server), **client_arguments) as client:
        assert ask(client, **request_arguments).route.served_by == "local"
        client.explain(messages=[{"role": "user", "content": "x"}])
        assert "sk-canary" not in repr(client.remote)
    assert NAME not in environment.read
    assert server.received == b""


def test_a_policy_without_the_zone_reads_no_key_and_needs_none(serve, environment):
    server = serve(answer())
    Remote(base_url=server.base_url, model="m", api_key_env="NO_SUCH_KEY")
    with Sender(remote_at(server)) as sender:
        permit = sender.mint()
        gate_to(remote_at(server, api_key_env="NO_SUCH_KEY"), DEVICE_ONLY)
        sender.gate = gate_to(sender.remote, DEVICE_ONLY)
        sender.mint = lambda body: permit
        with pytest.raises(PrivacyViolation):
            sender.send()
    assert NAME not in environment.read
    assert server.connections == 0


def test_it_is_read_for_each_try_that_has_a_permit(serve, environment):
    server = serve(status(503), answer())
    with client_for(remote_at(server)) as client:
        assert NAME not in environment.read
        assert ask(client, **PUBLIC).route.served_by == "remote"
    assert environment.read.count(NAME) == 2
    assert [exchange.headers["authorization"] for exchange in server.exchanges] == ["Bearer sk-canary"] * 2


def test_a_key_that_changes_is_the_next_one_that_is_sent(serve, monkeypatch):
    monkeypatch.setenv(NAME, "sk-first")
    server = serve(answer())
    with Sender(remote_at(server)) as sender:
        sender.send()
        monkeypatch.setenv(NAME, "sk-second")
        sender.send()
    assert [one.headers["authorization"] for one in server.exchanges] == ["Bearer sk-first", "Bearer sk-second"]


def test_a_permit_that_does_not_fit_reads_no_key(serve, environment):
    server = serve(answer())
    with Sender(remote_at(server)) as sender:
        sender.mint = lambda body: None
        with pytest.raises(PrivacyViolation, match="there is no permit"):
            sender.send()
    assert NAME not in environment.read


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (None, "is not set"),
        ("", "is not set"),
        ("two words", "holds no key"),
        ("line\n", "holds no key"),
        ("schlüssel", "no key"),
    ],
)
def test_a_key_that_is_gone_or_none_when_it_is_needed(serve, monkeypatch, value, part):
    monkeypatch.setenv(NAME, "sk-canary")
    server = serve(answer())
    with client_for(remote_at(server)) as client:
        if value is None:
            monkeypatch.delenv(NAME)
        else:
            monkeypatch.setenv(NAME, value)
        route = ask(client, **PUBLIC).route
    (failed,) = [attempt for attempt in route.attempts if attempt.outcome == "failed"]
    assert route.served_by == "local"
    assert failed.error.startswith("ConfigError: ")
    assert NAME in failed.error
    assert part in failed.error
    assert not value or value not in failed.error
    assert failed.tries == 1
    assert b"authorization" not in server.received.lower()


def test_a_variable_that_is_not_set_is_noticed_when_the_client_is_made(serve, environment):
    remote = remote_at(serve(answer()), api_key_env="NO_SUCH_KEY")
    with pytest.raises(ConfigError, match=r"The environment variable NO_SUCH_KEY, which .* is not set") as raised:
        gate_to(remote)
    assert raised.value.key == "remote.api_key_env"
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        client_for(remote)
    for harmless in ({"offline": True}, {"policy": None}):
        with client_for(remote, **harmless) as client:
            assert ask(client, **PUBLIC).route.served_by == "local"
    assert not {NAME, "NO_SUCH_KEY"} & set(environment.read)


@pytest.mark.parametrize("name", ["", "sk-canary", "1KEY", "A=B", "A B", "A\0", "Ä", "canary\n", 5, "A" * 256])
def test_what_is_no_name_of_a_variable(name):
    with pytest.raises(BadRequest, match=r"remote\.api_key_env is not the name") as raised:
        Remote(base_url="https://h/v1", model="m", api_key_env=name)
    assert raised.value.field == "remote.api_key_env"
    assert "canary" not in str(raised.value)


def test_one_way_to_give_a_key(tmp_path):
    with pytest.raises(BadRequest, match="both api_key and api_key_env"):
        Remote(base_url="https://h/v1", model="m", api_key="sk-canary", api_key_env=NAME)


def test_a_configuration_file_and_the_command_line_read_no_key(environment, tmp_path, monkeypatch):
    from hybridllm.cli.client_options import API_KEY_VARIABLE, ClientOptions, open_client

    environment[API_KEY_VARIABLE] = "sk-canary"
    path = tmp_path / "hybridllm.yaml"
    path.write_text(
        f"policy: kiosk\nremote: {{base_url: https://h/v1, model: m, api_key_env: {NAME}}}\n", encoding="utf-8"
    )
    try:
        assert load_config(path)["remote"].api_key_env == NAME
        with open_client(ClientOptions(config=str(path)), None) as client:
            assert client.remote.api_key_env == NAME
        with open_client(ClientOptions(remote_url="https://h/v1", remote_model="m"), None) as client:
            assert client.remote.api_key_env == API_KEY_VARIABLE
    finally:
        del environment[API_KEY_VARIABLE]
    assert not {NAME, API_KEY_VARIABLE} & set(environment.read)
