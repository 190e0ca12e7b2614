"""The table of faults: what goes wrong at the remote, and what has to follow from it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from policies import Limits
from tests.faults.behaviours import (
    COMMENT,
    EMPTY,
    ERROR_EVENT,
    bomb,
    chunked,
    flood,
    in_a_second,
    late,
    refused_with,
    shorter_than_said,
    trickle,
)
from tests.faults.servers import (
    Certificates,
    SiteMaker,
    connection,
    endless_handshake,
    http,
    https,
    nobody,
    plaintext,
    reset_at_once,
    swallowed,
    unknown_name,
    wait_silently,
)
from tests.hybridllm.loopback import (
    DONE,
    answer,
    chunk,
    reset,
    silent,
    stalls_after,
    status,
    stream,
    whole_stream,
)

WORDS = ("The", " café", " opens", " at", " nine", " 🙂", " every", " day.")
"""The right answer, as the pieces that it comes in; the device knows it too, so that what is missing or double shows."""
WHOLE = "".join(WORDS)

PATIENT = Limits(connect_s=10.0, first_token_s=20.0, gap_s=10.0)
"""For faults that show at once: no wait for them may be mistaken for another fault on a busy machine."""
QUICK = Limits(connect_s=0.3, first_token_s=0.3, gap_s=10.0)
"""For faults that are silent from the beginning."""
STALL = Limits(connect_s=10.0, first_token_s=20.0, gap_s=0.3)
"""For those that fall silent later."""

RETRIES = 2
"""Further tries that the policy of the tests allows."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault."""

    name: str
    """What happens."""

    site: SiteMaker
    """Makes it happen."""

    cause: str = ""
    """What the failed attempt has to say, as a regular expression; empty where the remote answers after all."""

    given: int = 0
    """Pieces that a consumer who streams has had by then."""

    given_at_most: bool = False
    """Whether it may be fewer: where what is wrong came together with what was right, the client may see it all at once."""

    requests: int = 1
    """Requests that arrive whole while the device could still answer."""

    requests_alone: int | None = None
    """The same where nobody else is left; None for as many."""

    refusal: str = ""
    """The answer is a refusal, which is passed on as it is."""

    final: str = ""
    """Class of the error that ends the request whoever else could answer; empty for none."""

    limits: Limits = PATIENT
    """How long the remote may take."""

    waits: int = 0
    """How many of those limits pass before the fault is noticed, at most."""

    max_response_mib: float = 16.0
    """Largest answer that is read."""

    @property
    def answered(self) -> bool:
        """Whether the remote answers after all."""
        return not self.cause and not self.final

    @property
    def longest_s(self) -> float:
        """What the policy lets it take, retries not counted."""
        limits = self.limits
        return 0.0 if not self.waits else self.waits * (2 * limits.connect_s + limits.first_token_s + limits.gap_s)


def beginning(pieces: int) -> bytes:
    """A stream up to there."""
    return chunk("", role="assistant") + b"".join(map(chunk, WORDS[:pieces]))


RIGHT = answer(*WORDS)
ALL = 1 + RETRIES
"""All tries that the policy of the tests allows."""

UNREACHABLE = (
    Fault(name="name not found", site=unknown_name, cause="name", requests=0),
    Fault(name="refused", site=nobody, cause="refused", requests=0),
    Fault(
        name="accepted and silent", site=connection(wait_silently), cause="no token", requests=0, limits=QUICK, waits=1
    ),
    Fault(name="request read and silent", site=http(silent()), cause="no token", limits=QUICK, waits=1),
    Fault(
        name="first token after 20 s",
        site=http(late(RIGHT, 20.0)),
        cause="no token",
        limits=QUICK,
        waits=1,
    ),
    Fault(name="reset as soon as something comes", site=connection(reset_at_once), cause="broke", requests=0),
    Fault(name="reset before the head", site=http(reset()), cause="broke", requests=ALL),
    Fault(name="closed before the head", site=http(lambda exchange: None), cause="broke", requests=ALL),
)
if sys.platform == "linux":
    UNREACHABLE += (
        Fault(
            name="swallowed by the network",
            site=swallowed,
            cause="did not answer in time",
            requests=0,
            limits=QUICK,
            waits=1 + RETRIES,
        ),
    )

TLS = (
    Fault(
        name="certificate for another host", site=https(Certificates.other_name, RIGHT), cause="certificate", requests=0
    ),
    Fault(name="expired certificate", site=https(Certificates.expired, RIGHT), cause="certificate", requests=0),
    Fault(
        name="self-signed certificate",
        site=https(Certificates.vouching_for_itself, RIGHT),
        cause="certificate",
        requests=0,
    ),
    Fault(name="unknown authority", site=https(Certificates.unknown_authority, RIGHT), cause="certificate", requests=0),
    Fault(name="plaintext on the TLS port", site=connection(plaintext, tls=True), cause="TLS failed", requests=0),
    Fault(
        name="a handshake that never ends",
        site=connection(endless_handshake, tls=True),
        cause="did not answer in time|no token",
        requests=0,
        limits=QUICK,
        waits=1 + RETRIES,
    ),
    Fault(name="TLS as it should be", site=https(Certificates.right, RIGHT)),
)

STATUS = (
    Fault(name="429 once", site=http(status(429), RIGHT), requests=2),
    Fault(
        name="429 once, Retry-After in seconds", site=http(status(429, headers={"Retry-After": "1"}), RIGHT), requests=2
    ),
    Fault(name="429 once, Retry-After as a date", site=http(in_a_second(429), RIGHT), requests=2),
    Fault(name="429 for ever", site=http(status(429)), cause="429", requests=ALL),
    Fault(
        name="429 for ever, Retry-After of 10 minutes",
        site=http(status(429, headers={"Retry-After": "600"})),
        cause="429",
    ),
    Fault(name="500 once", site=http(status(500), RIGHT), requests=2),
    Fault(name="503 for ever", site=http(status(503)), cause="503", requests=ALL),
    Fault(name="a key that was revoked", site=http(refused_with(401, "invalid_api_key")), cause="401.*invalid_api_key"),
    Fault(name="403", site=http(refused_with(403, "no_access")), cause="403"),
    Fault(name="404", site=http(status(404)), cause="404"),
    Fault(name="422", site=http(status(422)), cause="422"),
    Fault(
        name="context_length_exceeded",
        site=http(refused_with(400, "context_length_exceeded")),
        cause="context_length_exceeded|too long",
    ),
    Fault(name="a filter refuses the request", site=http(refused_with(400, "content_filter")), final="ContentFiltered"),
)

NOT_AN_ANSWER = (
    Fault(
        name="a captive portal's page",
        site=http(stream(b"<html>Log in</html>", headers={"Content-Type": "text/html"})),
        cause="text/html|login",
    ),
    Fault(
        name="a captive portal's redirect",
        site=http(status(302, headers={"Location": "http://127.0.0.1:9/login"})),
        cause="redirect",
    ),
    Fault(
        name="wrong content type",
        site=http(stream(whole_stream(*WORDS), headers={"Content-Type": "application/json"})),
        cause="application/json",
    ),
    Fault(name="a compressed bomb", site=http(bomb()), cause="compressed"),
    Fault(
        name="a body of one endless line",
        site=http(flood(b"data: ", b"x" * 1024)),
        cause="line without an end|larger than",
    ),
    Fault(
        name="an endless body of empty chunks", site=http(flood(b"", EMPTY)), cause="larger than", max_response_mib=0.25
    ),
    Fault(
        name="a trickle of empty chunks",
        site=http(trickle(b"", EMPTY)),
        cause="no token",
        limits=QUICK,
        waits=1,
    ),
    Fault(
        name="a trickle of comments",
        site=http(trickle(b"", COMMENT)),
        cause="no token",
        limits=QUICK,
        waits=1,
    ),
)

WHOLE_AFTER_ALL = (
    Fault(name="no [DONE], but a reason to end", site=http(stream(beginning(8) + chunk(finish="stop")))),
    Fault(name="cut inside characters", site=http(stream(whole_stream(*WORDS), piece=3))),
    Fault(
        name="chunked",
        site=http(chunked(*(whole_stream(*WORDS)[at : at + 7] for at in range(0, 2000, 7)))),
    ),
    Fault(
        name="a refusal by a filter",
        site=http(
            stream(
                b'data: {"choices": [{"index": 0, "delta": {"refusal": "No."}}]}\n\n'
                + chunk(finish="content_filter")
                + DONE
            )
        ),
        refusal="No.",
    ),
)


def in_the_middle(pieces: int) -> tuple[Fault, ...]:
    """What can break a stream off after so many pieces; without any, nothing was given out yet."""
    begun = beginning(pieces)
    after = f" after {pieces}" if pieces else ""

    def fault(name: str, *site: SiteMaker, cause: str, **more: object) -> Fault:
        return Fault(name=f"{name}{after}", site=site[0], cause=cause, given=pieces, **more)  # type: ignore[arg-type]

    faults = (
        fault("a malformed chunk", http(stream(begun + b'data: {"choices": [\n\n')), cause="not JSON"),
        fault("an error event", http(stream(begun + ERROR_EVENT)), cause="overloaded"),
        fault("no [DONE] and no reason", http(stream(begun)), cause="without a finish reason"),
        fault("[DONE] without a reason", http(stream(begun + DONE)), cause="without a finish reason"),
        fault("invalid UTF-8", http(stream(begun + b"data: \xff\xfe\n\n")), cause="UTF-8", given_at_most=True),
        fault("a body shorter than said", http(shorter_than_said(begun, 400)), cause="broke"),
        fault("chunked coding that is cut", http(chunked(begun, end=b"")), cause="broke"),
    )
    if not pieces:
        return faults
    return (
        *faults,
        fault("reset", http(reset(begun)), cause="broke"),
        fault("a stall", http(stalls_after(begun)), cause="stopped in the middle", limits=STALL, waits=1),
        fault(
            "a trickle of comments", http(trickle(begun, COMMENT)), cause="stopped in the middle", limits=STALL, waits=1
        ),
        fault(
            "text after the end",
            http(stream(begun + chunk(finish="stop") + chunk(" more") + DONE)),
            cause="more after the end",
        ),
    )


CUT_AT_EVERY_TOKEN = tuple(
    Fault(
        name=f"cut after {pieces} of {len(WORDS)} tokens",
        site=http(stream(beginning(pieces))),
        cause="without a finish reason",
        given=pieces,
    )
    for pieces in range(len(WORDS) + 1)
)

FAULTS = (
    *UNREACHABLE,
    *TLS,
    *STATUS,
    *NOT_AN_ANSWER,
    *WHOLE_AFTER_ALL,
    *in_the_middle(0),
    *in_the_middle(3),
    *CUT_AT_EVERY_TOKEN,
)
