"""Fixtures of the client's tests."""

import pytest

from hybridllm import Remote
from hybridllm.testing import ScriptedBackend
from tests.hybridllm.faces import AwaitedFace, BlockingFace
from tests.hybridllm.loopback import LoopbackServer

QUESTION = [{"role": "user", "content": "When do you open?"}]


@pytest.fixture
def question():
    return QUESTION


@pytest.fixture(params=[BlockingFace, AwaitedFace], ids=["blocking", "awaited"])
def face(request):
    """Makes faces of the client; all are closed at the end."""
    made = []

    def make(**arguments):
        arguments.setdefault("local", ScriptedBackend(lambda _: "Here I am."))
        made.append(request.param(**arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def serve():
    """Starts loopback servers; all are stopped at the end."""
    started = []

    def start(*behaviours, port=0):
        server = LoopbackServer(*behaviours, port=port).__enter__()
        started.append(server)
        return server

    yield start
    for server in started:
        server.__exit__()


@pytest.fixture
def remote_at():
    """A patient-enough, impatient remote at a server."""

    def make(server, **more):
        arguments = {
            "base_url": server.base_url,
            "model": "cloud-model",
            "api_key": "sk-canary-key",
            "connect_timeout_s": 1.0,
            "first_token_timeout_s": 0.5,
            "gap_timeout_s": 0.3,
            "max_retries": 1,
        }
        return Remote(**{**arguments, **more})

    return make
