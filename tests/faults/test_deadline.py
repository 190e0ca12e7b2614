"""A request's deadline bounds every wait: name lookup, connection, TLS, first token, gaps, retries, and the move to the device."""

import socket
import sys
import threading
from contextlib import nullcontext

import pytest

from hybridllm.errors import CannotServe, DeadlineExceeded, StreamInterrupted
from tests.faults.behaviours import EMPTY, trickle
from tests.faults.cells import MARGIN_S, Row
from tests.faults.servers import Site, connection, endless_handshake, http, swallowed, wait_silently
from tests.faults.table import PATIENT, WHOLE, Fault, beginning
from tests.hybridllm.loopback import silent, stalls_after, status

DEADLINE_S = 2.0
SLOW_NAME = "slow.invalid"


def fault(name, site, given=0):
    return Fault(name=name, site=site, cause="whatever", given=given, limits=PATIENT)


WAITS = [
    fault("accepted and silent", connection(wait_silently)),
    fault("a handshake that never ends", connection(endless_handshake, tls=True)),
    fault("no first token", http(silent())),
    fault("503 for ever", http(status(503, headers={"Retry-After": "0"}))),
    fault("429 for ever, with a pause each time", http(status(429, headers={"Retry-After": "1"}))),
    fault("a stall", http(stalls_after(beginning(3))), given=3),
    fault("a trickle of empty chunks", http(trickle(beginning(3), EMPTY)), given=3),
]
if sys.platform == "linux":
    WAITS.append(fault("swallowed by the network", swallowed))


@pytest.mark.parametrize("fault", WAITS, ids=lambda fault: fault.name)
def test_it_is_over_at_the_deadline(fault, certificates):
    for cell, _, outcome in Row(fault, DEADLINE_S).played(certificates):
        assert outcome.took_s < DEADLINE_S + MARGIN_S, cell
        given = fault.given if cell.streaming else 0
        if cell.device == "answers" and not given:
            assert (outcome.text, outcome.finish_reason) == (WHOLE, "stop"), (cell, outcome)
            assert outcome.served_by == "local", cell
            continue
        assert isinstance(outcome.error, DeadlineExceeded | CannotServe), (cell, outcome)
        assert outcome.finish_reason is None, cell
        assert len(outcome.pieces) == given, cell
        if given:
            assert isinstance(outcome.error, DeadlineExceeded | StreamInterrupted), cell
        elif cell.device == "fails":
            assert [attempt.outcome for attempt in outcome.attempts] == ["failed", "failed"], (cell, outcome)


def test_a_name_lookup_that_hangs(certificates, monkeypatch):
    known, over = socket.getaddrinfo, threading.Event()

    def slow(host, *arguments, **more):
        if host == SLOW_NAME:
            over.wait(2 * DEADLINE_S)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return known(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    hanging = fault("a name lookup that hangs", lambda _: nullcontext(Site(f"https://{SLOW_NAME}/v1")))
    try:
        played = Row(hanging, DEADLINE_S, devices=("answers", "fails")).played(certificates)
    finally:
        over.set()
    for cell, _, outcome in played:
        assert outcome.took_s < DEADLINE_S + MARGIN_S, cell
        if cell.device == "answers":
            assert outcome.text == WHOLE, (cell, outcome)
        else:
            assert isinstance(outcome.error, DeadlineExceeded | CannotServe), (cell, outcome)
