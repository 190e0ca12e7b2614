"""Permits: the only thing that opens the egress gate.

A permit is minted from a decision, for one try, and is bound to the request, the attempt, the endpoint's origin and zone,
the label, the policy and the SHA-256 of the exact bytes. It lives for seconds and is good once. Its seal is a MAC under a
key that exists only in this process's memory, so that no other code can make one up. Where the policy in force is no longer
the permit's, the request is decided again, and both have to allow it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from hybridllm.errors import PrivacyViolation
from policies import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridllm.policy_in_force import PolicyInForce
    from hybridllm.remote import Remote
    from policies import Decision, Policy

__all__ = ["Permit", "PermitOffice"]

MARGIN_S = 1.0
"""How much longer a permit is good than its try may take until the first token; afterwards it is worthless."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Permit:
    """Leave to send exactly these bytes, once, to one origin."""

    request_id: str
    """The request that the bytes belong to."""

    attempt: int
    """Which try of that request, counted from 1 over all places."""

    place: str
    """The candidate that the decision named."""

    origin: str
    """Scheme, host and port that may receive the bytes."""

    zone: str
    """Zone of that endpoint."""

    label: str
    """The request's label."""

    rule: str
    """Name of the rule that decided."""

    policy: str
    """Name of the policy that decided."""

    policy_hash: str
    """SHA-256 of that policy's meaning."""

    redacted: tuple[str, ...]
    """Detectors whose finds were replaced by placeholders in the bytes."""

    body_sha256: str
    """SHA-256 of the bytes, as hexadecimal digits."""

    expires_s: float
    """When it ends, on the clock of ``time.monotonic``."""

    seal: bytes = field(repr=False)
    """MAC over all of this."""


class PermitOffice:
    """Mints permits and checks them; one for each client.

    Args:
        in_force: The policy in force.
    """

    def __init__(self, in_force: PolicyInForce) -> None:
        self._in_force = in_force
        self._key = secrets.token_bytes(32)
        self._redeemed: dict[bytes, float] = {}
        # It knows the request's content, so it goes when the permit goes.
        self._still_allowed: WeakKeyDictionary[Permit, Callable[[Policy], None]] = WeakKeyDictionary()

    def mint(
        self,
        policy: Policy,
        decision: Decision,
        remote: Remote,
        place: str,
        *,
        request_id: str,
        attempt: int,
        body: bytes,
        still_allowed: Callable[[Policy], None],
    ) -> Permit:
        """Mint a permit for one try.

        Args:
            policy: The policy that the decision was made under.
            decision: The decision.
            remote: Where the bytes are to go.
            place: What the decision calls it.
            request_id: The request.
            attempt: Which try it is.
            body: The bytes.
            still_allowed: Decides the request again under a policy that came since; raises ``PolicyTightened`` if that one
                does not allow it.

        Raises:
            PrivacyViolation: The decision does not name this place, was made under another policy, or its label may not
                go to the remote's zone.
        """
        if place == LOCAL or place not in decision.candidates:
            raise _violation(f"{place} is not among the candidates of the decision", decision.label, place)
        if decision.policy_hash != policy.hash:
            raise _violation("the decision was made under another policy", decision.label, place)
        label = decision.label_for(place)
        if not policy.may_see(remote.zone, label):
            raise _violation(f"the zone {remote.zone!r} may not see {label!r}", label, place)
        # The bytes leave once the connection stands; however slow that may be, a try in time must not find its permit expired.
        limits = remote.limits_under(policy)
        longest_try_s = remote.connecting_s(limits) + limits.first_token_s
        permit = Permit(
            request_id=request_id,
            attempt=attempt,
            place=place,
            origin=remote.origin,
            zone=remote.zone,
            label=label,
            rule=decision.rule,
            policy=policy.name,
            policy_hash=policy.hash,
            redacted=decision.redact if place in decision.redacted_places else (),
            body_sha256=hashlib.sha256(body).hexdigest(),
            expires_s=time.monotonic() + longest_try_s + MARGIN_S,
            seal=b"",
        )
        object.__setattr__(permit, "seal", self._seal(permit))  # nobody has seen it yet
        self._still_allowed[permit] = still_allowed
        return permit

    def check(self, permit: object, remote: Remote, body: bytes) -> Permit:
        """Check that a permit fits these bytes, this endpoint and the policy in force at this moment.

        Raises:
            PrivacyViolation: It does not; the error says in which respect.
            PolicyTightened: It did when it was minted, and the policy in force since does not allow it.
        """
        policy = self._in_force.current
        if not isinstance(permit, Permit):
            raise _violation("there is no permit", "", "")
        problem = ""
        if not hmac.compare_digest(permit.seal, self._seal(permit)):
            problem = "its seal is not ours"
        elif permit.expires_s < time.monotonic():
            problem = "it has expired"
        elif permit.origin != remote.origin:
            problem = "it is for another origin"
        elif permit.zone != remote.zone:
            problem = "it is for another zone"
        elif permit.body_sha256 != hashlib.sha256(body).hexdigest():
            problem = "it is for other bytes"
        elif permit.policy_hash == policy.hash and not policy.may_see(permit.zone, permit.label):
            problem = f"the zone {permit.zone!r} may not see {permit.label!r}"
        if problem:
            raise _violation(f"the permit does not fit: {problem}", permit.label, permit.place)
        if permit.policy_hash != policy.hash:
            self._still_allowed[permit](policy)
        return permit

    def redeem(self, permit: Permit) -> None:
        """Use a permit up.

        Raises:
            PrivacyViolation: It was used before.
        """
        now = time.monotonic()
        if len(self._redeemed) > 1024:
            self._redeemed = {seal: expires_s for seal, expires_s in self._redeemed.items() if expires_s >= now}
        if permit.seal in self._redeemed:
            raise _violation("the permit was used before", permit.label, permit.place)
        self._redeemed[permit.seal] = permit.expires_s

    def _seal(self, permit: Permit) -> bytes:
        # repr separates and escapes, so that no two different permits have the same text.
        return hmac.digest(self._key, repr(_SEALED_FIELDS(permit)).encode(), "sha256")


_SEALED_FIELDS = attrgetter(*(name for name in Permit.__dataclass_fields__ if name != "seal"))


def _violation(problem: str, label: str, place: str) -> PrivacyViolation:
    return PrivacyViolation(f"Nothing was sent: {problem}.", label=label, place=place)
