"""A folder with the files that the pages speak of, a server where they name one, and the tests' compile cache."""

import shutil

import pytest

from tests.docs.pages import write_files
from tests.engine_cache import ENGINE_CACHE, ROOT
from tests.examples.openai_server import OpenAIServer
from tests.hybridllm.loopback import free_port


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A person's working folder; becomes the current one."""
    write_files(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYBRIDLLM_CACHE", str(ENGINE_CACHE))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LLM_EXAMPLE_KEY", "sk-example")
    monkeypatch.delenv("HYBRIDLLM_REMOTE_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def server_url():
    """A server on loopback in the place of the one that the pages name."""
    port = free_port()
    with OpenAIServer(port, "From afar."):
        yield f"http://127.0.0.1:{port}/v1"
