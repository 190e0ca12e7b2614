"""Sending through a gate of one's own, with a permit that fits: what the tests of the transport need and no more."""

from __future__ import annotations

import asyncio
import socket

from hybridllm import load_policy
from hybridllm.backends.base import Ledger
from hybridllm.egress import EgressGate
from hybridllm.permits import PermitOffice
from hybridllm.policy_in_force import PolicyInForce
from policies import Facts, Limits, Place, decide

KIOSK = load_policy("kiosk")
BODY = b'{"messages": []}'


class Sent:
    """What came back, and what left."""

    def __init__(self, status, body, ledger, header):
        self.status = status
        self.body = body
        self.egress_bytes = ledger.egress_bytes
        self.header = header


class Sender:
    """A gate and the office that mints for it; one event loop for all its requests."""

    def __init__(self, remote, policy=KIOSK):
        self.remote = remote
        self.policy = policy
        self.in_force = PolicyInForce(policy)
        self.office = PermitOffice(self.in_force)
        self.gate = EgressGate(remote, self.in_force, self.office)
        self.ledger = Ledger()
        self._runner = asyncio.Runner()
        self._attempt = 0

    def mint(self, body=BODY):
        places = (Place("local", "device"), Place("remote", self.remote.zone))
        decision = decide(self.policy, Facts(label="public", places=places))
        self._attempt += 1
        return self.office.mint(
            self.policy,
            decision,
            self.remote,
            "remote",
            request_id="r",
            attempt=self._attempt,
            body=body,
            still_allowed=lambda policy: None,
        )

    def send(self, body=BODY):
        async def go():
            async with self.gate.send(self.mint(body), body, {}, self.ledger, Limits()) as response:
                pieces = [piece async for piece in response.pieces()]
                return Sent(response.status, b"".join(pieces), self.ledger, response.header)

        return self._runner.run(go())

    def probe_error(self, timeout_s=2.0):
        return self._runner.run(self.gate.probe_error(timeout_s))

    def close(self):
        self._runner.run(self.gate.aclose())
        self._runner.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()


def gate_to(remote, policy=KIOSK):
    """A gate that nothing is sent through."""
    in_force = PolicyInForce(policy)
    return EgressGate(remote, in_force, PermitOffice(in_force))


def send_to(remote, policy=KIOSK, body=BODY):
    """One request through a gate of its own."""
    with Sender(remote, policy) as sender:
        return sender.send(body)


class Resolver:
    """Stands in for the loop's name lookup and counts how often each name was asked for.

    Args:
        answers: For each name the addresses of each lookup in turn; the last go on for ever.
    """

    def __init__(self, **answers):
        self.answers = {name.replace("__", "."): list(turns) for name, turns in answers.items()}
        self.lookups = []

    async def getaddrinfo(self, host, port, **hints):
        kind = hints["type"]
        self.lookups.append(host)
        turns = self.answers[host]
        addresses = turns.pop(0) if len(turns) > 1 else turns[0]
        return [
            (socket.AF_INET6, kind, hints["proto"], "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, kind, hints["proto"], "", (address, port))
            for address in addresses
        ]

    def install(self, monkeypatch):
        monkeypatch.setattr(
            asyncio.base_events.BaseEventLoop, "getaddrinfo", lambda loop, *a, **more: self.getaddrinfo(*a, **more)
        )
        return self
