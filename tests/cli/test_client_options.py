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


def test_a_model_without_a_remote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="names no remote"):
        open_client(ClientOptions(config=configuration(tmp_path, ""), remote_model="large"), None)


def test_compiling_an_empty_name_is_refused() -> None:
    result = Program().run("compile", "")
    assert result.exit_code == 2
    assert "The model's name is empty" in result.stderr
