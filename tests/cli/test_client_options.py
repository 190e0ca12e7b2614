"""What the options of a command make of a configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hybridllm.cli.client_options import ClientOptions, open_client
from hybridllm.cli.mistakes import CommandError
from tests.cli.programs import Program

if TYPE_CHECKING:
    from pathlib import Path

REMOTE = "remote:\n  base_url: https://site.example/v1\n  model: small\n  zone: site\n  api_key: sk-site\n"


def configuration(folder: Path, text: str) -> str:
    path = folder / "hybridllm.yaml"
    path.write_text("policy: kiosk\n" + text, encoding="utf-8")
    return str(path)


def test_another_model_of_the_configured_remote(tmp_path: Path) -> None:
    options = ClientOptions(config=configuration(tmp_path, REMOTE), remote_model="large")
    with open_client(options, None) as client:
        assert client.remote is not None
        assert (client.remote.model, client.remote.zone, client.remote.api_key) == ("large", "site", "sk-site")


def test_another_remote_inherits_neither_zone_nor_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRIDLLM_REMOTE_API_KEY", raising=False)
    options = ClientOptions(
        config=configuration(tmp_path, REMOTE), remote_url="https://other.example/v1", remote_model="large"
    )
    with open_client(options, None) as client:
        assert client.remote is not None
        assert (client.remote.host, client.remote.zone, client.remote.api_key) == ("other.example", "cloud", None)


def test_another_url_of_the_same_origin_keeps_what_was_said_about_the_server(tmp_path: Path) -> None:
    more = "  gap_timeout_s: 9\n  ca_file: ca.pem\n"
    path = configuration(tmp_path, REMOTE + more)
    with open_client(ClientOptions(config=path, remote_url="https://site.example:443/v2"), None) as client:
        remote = client.remote
    assert remote is not None
    assert (remote.base_url, remote.model, remote.zone) == ("https://site.example:443/v2", "small", "site")
    assert (remote.api_key, remote.gap_timeout_s, remote.ca_file) == ("sk-site", 9, str(tmp_path / "ca.pem"))


@pytest.mark.parametrize("url", ["https://other.example/v1", "http://site.example/v1", "https://site.example:444/v1"])
@pytest.mark.parametrize("variable", [None, "sk-given"])
def test_another_origin_keeps_the_rest_but_not_zone_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv("HYBRIDLLM_REMOTE_API_KEY", raising=False)
    else:
        monkeypatch.setenv("HYBRIDLLM_REMOTE_API_KEY", variable)
    path = configuration(tmp_path, REMOTE + "  gap_timeout_s: 9\n")
    with open_client(ClientOptions(config=path, remote_url=url), None) as client:
        remote = client.remote
    assert remote is not None
    assert (remote.base_url, remote.model, remote.gap_timeout_s) == (url, "small", 9)
    assert (remote.zone, remote.api_key) == ("cloud", None)
    assert remote.api_key_env == (None if variable is None else "HYBRIDLLM_REMOTE_API_KEY")


@pytest.mark.parametrize("key", ["api_key: sk-site", "api_key_env: SITE_KEY"])
def test_the_variable_takes_the_place_of_the_files_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("HYBRIDLLM_REMOTE_API_KEY", "sk-given")
    monkeypatch.setenv("SITE_KEY", "sk-site")
    path = configuration(tmp_path, REMOTE.replace("api_key: sk-site", key))
    with open_client(ClientOptions(config=path, remote_url="https://site.example/v2"), None) as client:
        remote = client.remote
    assert remote is not None
    assert (remote.zone, remote.api_key, remote.api_key_env) == ("site", None, "HYBRIDLLM_REMOTE_API_KEY")


def test_a_model_without_a_remote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="names no remote"):
        open_client(ClientOptions(config=configuration(tmp_path, ""), remote_model="large"), None)


def test_compiling_an_empty_name_is_refused() -> None:
    result = Program().run("compile", "")
    assert result.exit_code == 2
    assert "The model's name is empty" in result.stderr
