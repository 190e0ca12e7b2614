"""Asking a remote without a client: its backend, with a gate and permits of its own, and clocks that a test can move."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from hybridllm import Remote, load_policy
from hybridllm.backends.base import BackendCall, Burst, ContentDelta, Finished, Ledger
from hybridllm.backends.remote import RemoteBackend
from hybridllm.breaker import CircuitBreaker
from hybridllm.connectivity import Connectivity
from hybridllm.egress import EgressGate
from hybridllm.errors import HybridLLMError
from hybridllm.latency import Latency
from hybridllm.permits import PermitOffice
from hybridllm.policy_in_force import PolicyInForce
from hybridllm.types import ChatRequest
from policies import Breaker, Facts, Limits, Place, Retries, decide

POLICY = load_policy("cloud-assist")
ENOUGH = Limits(connect_s=10.0, first_token_s=10.0, gap_s=10.0)
"""For answers that come: enough on a machine that is busy with something else."""

SHORT = Limits(connect_s=5.0, first_token_s=0.4, gap_s=0.3)
"""For answers that do not."""


def pieces_of(event):
    """The pieces that come with one event."""
    if isinstance(event, Burst):
        return event.pieces
    assert isinstance(event, ContentDelta)
    return (event,)


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


class Answered:
    """What came of one attempt."""

    def __init__(self):
        self.text = ""
        self.finished = None
        self.error = None
        self.ledger = Ledger()
        self.took_s = 0.0

    @property
    def tries(self):
        return self.ledger.tries


class Asker:
    """A remote's backend; one event loop for all that is asked.

    Attributes:
        settings: The breaker's, replaced at will.
        clock: The breaker's.
    """

    def __init__(self, server=None, *, settings=None, limits=ENOUGH, retries=None, **remote):
        if server is not None:
            remote.setdefault("base_url", server.base_url)
        self.remote = Remote(**{"model": "m", "api_key": "sk-canary", **remote})
        self.settings = Breaker(failures=1000) if settings is None else settings
        self.limits = limits
        self.retries = Retries() if retries is None else retries
        self.clock = Clock()
        self.office = PermitOffice(PolicyInForce(POLICY))
        self.gate = EgressGate(self.remote, PolicyInForce(POLICY), self.office)
        self.connectivity = Connectivity()
        self.latency = Latency()
        self.circuit = CircuitBreaker(lambda: self.settings, clock=self.clock, chance=lambda: 0.0)
        self.backend = RemoteBackend(
            self.remote, self.gate, self.connectivity, breaker=self.circuit, latency=self.latency
        )
        self.runner = asyncio.Runner()
        self._permits = 0

    def call(self, deadline_s=None, **fields):
        """A call as the router makes it; the deadline counts from now."""
        request = ChatRequest.parse([{"role": "user", "content": "When do you open?"}])
        return BackendCall(
            **{
                "request": request,
                "request_id": "request-1",
                "authorize": self._permit,
                "limits": self.limits,
                "retries": self.retries,
                "deadline_s": None if deadline_s is None else time.monotonic() + deadline_s,
                **fields,
            }
        )

    async def asked(self, *, stop_after_s=None, stop_after_pieces=None, **fields):
        """Ask; what went wrong is in the answer. It may be stopped after so many seconds or pieces."""
        answered = Answered()
        call = self.call(**fields, ledger=answered.ledger)
        began_s = time.monotonic()
        pieces = 0
        try:
            async with asyncio.timeout(stop_after_s), aclosing(self.backend.stream(call)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        answered.finished = event
                        continue
                    for piece in pieces_of(event):
                        answered.text += piece.text
                        pieces += 1
                    if stop_after_pieces is not None and pieces >= stop_after_pieces:
                        break
        except (HybridLLMError, TimeoutError) as error:
            answered.error = error
        answered.took_s = time.monotonic() - began_s
        return answered

    def ask(self, **fields):
        return self.runner.run(self.asked(**fields))

    def close(self):
        self.runner.run(self.backend.aclose())
        self.runner.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def _permit(self, body):
        places = (Place("local", "device"), Place("remote", self.remote.zone))
        decision = decide(POLICY, Facts(label="public", places=places))
        self._permits += 1
        return self.office.mint(
            POLICY,
            decision,
            self.remote,
            "remote",
            request_id="request-1",
            attempt=self._permits,
            body=body,
            still_allowed=lambda policy: None,
        )
