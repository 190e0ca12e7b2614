"""``hybridllm.yaml``."""

import pytest

from hybridllm import HybridClient
from hybridllm.config import load_config
from hybridllm.errors import ConfigError, PolicyError
from hybridllm.testing import ScriptedBackend
from policies import Limits, Retries, parse_policy

POLICY = "version: 1\nname: mine\nlabels: {order: [public, private], unlabeled: private}\nzones: {cloud: public}\ndefault: [local]\n"

REMOTE = "remote:\n  base_url: https://host.example/v1\n  model: big\n  ca_file: ~/ca.pem\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "hybridllm.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_whole_file(write, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUD_KEY", "sk-canary")
    path = write(
        "model: models/small\nquant: q4\nthreads: 2\npolicy: mine.yaml\noffline: false\nprivacy_floor: public\n"
        "remote:\n  base_url: https://host.example/v1\n  model: big\n  api_key_env: CLOUD_KEY\n  gap_timeout_s: 2\n"
        "  max_retries: 0\n  capabilities: [extended_sampling]\n"
    )
    (tmp_path / "mine.yaml").write_text(POLICY, encoding="utf-8")
    arguments = load_config(path)
    assert arguments["model"] == str(tmp_path / "models/small")
    assert arguments["policy"] == str(tmp_path / "mine.yaml")
    remote = arguments["remote"]
    assert (remote.api_key, remote.api_key_env) == (None, "CLOUD_KEY")
    assert (remote.gap_timeout_s, remote.max_retries) == (2, 0)
    assert "sk-canary" not in repr(arguments)
    with HybridClient.from_config(path, local=ScriptedBackend(["Yes."]), offline=True) as client:
        assert client.policy.name == "mine"
        assert client.offline
        assert client.remote == remote
        assert client.chat.completions.create(messages=[{"role": "user", "content": "x"}]).route.policy == "mine"


PATIENT = POLICY + "limits: {connect_s: 7, first_token_s: 8, gap_s: 9}\nretries: {most: 4, budget: 0.5}\n"


@pytest.mark.parametrize(
    ("said", "limits", "most"),
    [
        ("", Limits(7, 8, 9), 4),
        ("  connect_timeout_s: 0.5\n", Limits(0.5, 8, 9), 4),
        ("  first_token_timeout_s: 1\n", Limits(7, 1, 9), 4),
        ("  gap_timeout_s: 1.5\n", Limits(7, 8, 1.5), 4),
        ("  max_retries: 0\n", Limits(7, 8, 9), 0),
    ],
)
def test_what_a_remote_says_of_patience_stands_above_the_policy(write, said, limits, most):
    remote = load_config(write(REMOTE + said))["remote"]
    policy = parse_policy(PATIENT)
    assert remote.limits_under(policy) == limits
    assert remote.retries_under(policy) == Retries(most, 0.5)


def test_how_much_the_engine_takes_is_a_number(write):
    assert load_config(write("max_waiting: 3\nmemory_mib: 900\n")) == {"max_waiting": 3, "memory_mib": 900}
    with pytest.raises(ConfigError, match="whole number"):
        load_config(write("memory_mib: 0.5\n"))


def test_a_tilde_is_the_users_home(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    arguments = load_config(write("model: ~/m\npolicy: ~/p.yaml\ncache_dir: ~/c\n" + REMOTE))
    assert arguments.pop("remote").ca_file == str(tmp_path / "home/ca.pem")
    home = tmp_path / "home"
    assert arguments == {"model": str(home / "m"), "policy": str(home / "p.yaml"), "cache_dir": str(home / "c")}


def test_a_preset_and_a_bundled_model_are_names(write):
    assert load_config(write("policy: kiosk\nmodel: kiosk-assistant\n")) == {
        "policy": "kiosk",
        "model": "kiosk-assistant",
    }


@pytest.mark.parametrize(
    ("text", "line", "key", "part"),
    [
        ("modle: x\n", 1, "modle", "Did you mean 'model'?"),
        ("threads: two\n", 1, "threads", "expected a number"),
        ("threads: 1.5\n", 1, "threads", "whole number"),
        ("offline: maybe\n", 1, "offline", "true or false"),
        ("model: x\nremote: {model: m}\n", 2, "remote", "'base_url' is missing"),
        ("remote:\n  base_url: nowhere\n  model: m\n", 2, "remote.base_url", "not a URL"),
        ("remote:\n  base_url: https://h/v1\n  model: m\n  zone: device\n", 4, "remote.zone", "never the device"),
        (
            "remote:\n  base_url: https://h/v1\n  model: m\n  api_key_env: sk-canary\n",
            4,
            "remote.api_key_env",
            "not the name of an environment variable",
        ),
        (
            "remote:\n  model: m\n  base_url: http://8.8.8.8/v1\n",
            3,
            "remote.base_url",
            "plain http",
        ),
        (
            "remote:\n  base_url: https://h/v1\n  model: m\n  api_key: a\n  api_key_env: B\n",
            5,
            "remote.api_key_env",
            "both api_key and api_key_env",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(write, text, line, key, part):
    path = write(text)
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    error = raised.value
    assert (error.file, error.line, error.key) == (str(path), line, key)
    assert str(error).startswith(f"{path}:{line}")
    assert part in str(error)


def test_a_key_that_is_not_set_is_a_mistake_where_it_would_be_sent(write, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    path = write(REMOTE.replace("  ca_file: ~/ca.pem\n", "  api_key_env: NO_SUCH_KEY\n"))
    with pytest.raises(ConfigError, match="The environment variable NO_SUCH_KEY"):
        HybridClient.from_config(path, local=ScriptedBackend([]))
    with HybridClient.from_config(path, local=ScriptedBackend([]), offline=True) as client:
        assert client.remote.api_key_env == "NO_SUCH_KEY"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        HybridClient.from_config(tmp_path / "none.yaml")


def test_a_bad_policy_in_a_good_file(write, tmp_path):
    (tmp_path / "mine.yaml").write_text("version: 2\n", encoding="utf-8")
    with pytest.raises(PolicyError, match=r"mine\.yaml"):
        HybridClient.from_config(write("policy: mine.yaml\n"), local=ScriptedBackend([]))
