"""The gate: a permit is checked, the bytes go to the one remote, and the answer comes back."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hybridllm.addresses import literal_address, refusal_of
from hybridllm.egress.credentials import check_key_is_there, read_key
from hybridllm.egress.destination import Destination
from hybridllm.errors import AddressRefused, BadRequest, Cancelled, HybridLLMError, PolicyTightened, PrivacyViolation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from hybridllm.addresses import IPAddress
    from hybridllm.backends.base import Ledger
    from hybridllm.egress.response import EgressResponse
    from hybridllm.egress.transport import CheckedTransport
    from hybridllm.permits import Permit, PermitOffice
    from hybridllm.policy_in_force import PolicyInForce
    from hybridllm.remote import Remote
    from policies import Limits

    RecordEgress = Callable[[Permit, int], Awaitable[None]]

__all__ = ["EgressGate"]


class EgressGate:
    """The gate to one remote.

    Args:
        remote: The only endpoint that it can reach.
        in_force: The policy in force.
        office: Who minted the permits.
        record: Writes down what is about to leave; where it fails, nothing leaves. None where nothing is recorded.

    Raises:
        BadRequest: The policy lets the remote's zone see something, but not at an address such as the remote's.
        ConfigError: It does, but the environment variable with the remote's key is not set.
    """

    def __init__(
        self, remote: Remote, in_force: PolicyInForce, office: PermitOffice, record: RecordEgress | None = None
    ) -> None:
        self._remote = remote
        self._in_force = in_force
        self._office = office
        self._record = record
        self._transport: CheckedTransport | None = None
        self._closed = False
        self._problems: dict[str, BadRequest | None] = {}
        self._hop = Destination.of(remote, self._addresses)
        self._max_body_bytes = int(remote.max_response_mib * (1 << 20))
        # A remote that no policy lets see anything needs neither key nor address to be refused.
        if remote.zone in in_force.current.zones:
            problem = self._problem_under(self._addresses())
            if problem is not None:
                raise problem
            check_key_is_there(remote)

    @asynccontextmanager
    async def send(
        self, permit: Permit, body: bytes, headers: Mapping[str, str], ledger: Ledger, limits: Limits
    ) -> AsyncIterator[EgressResponse]:
        """Send and read the answer inside the ``async with`` block; arguments and errors are those of ``open``."""
        response = await self.open(permit, body, headers, ledger, limits)
        try:
            yield response
        finally:
            await response.aclose()

    async def open(
        self, permit: Permit, body: bytes, headers: Mapping[str, str], ledger: Ledger, limits: Limits
    ) -> EgressResponse:
        """Send ``body`` to the remote's chat endpoint and wait for the head of the answer, which has to be closed.

        Args:
            permit: Minted for exactly this body and this try.
            body: The bytes.
            headers: Further headers, none of which may come from a request's content.
            ledger: Gets the bytes added when they really leave.
            limits: How long it may take.

        Raises:
            PrivacyViolation: The permit does not fit, or the connection would go to another origin; nothing was sent.
            AddressRefused: The connection would go to an address that is not allowed; nothing was sent.
            AuditError: What is about to leave could not be recorded; nothing was sent.
            PolicyTightened: A policy that came since the decision, or since the gate was made, does not allow it; nothing
                was sent.
            ConfigError: The remote's key cannot be read.
            RemoteUnreachable: There is no connection to the remote.
            RemoteError: The connection broke, or the answer is larger than allowed.
        """
        self._check(permit, body)
        self._office.redeem(permit)
        if self._record is not None:
            await self._record(permit, len(body))
        transport = self._open_transport()
        try:
            if transport.origin != permit.origin:
                raise PrivacyViolation("Nothing was sent: the URL leads to another origin.")
            return await transport.send(self._checked_body(permit, body, ledger), self._headers(headers, body), limits)
        except PrivacyViolation as violation:
            violation.label, violation.place = permit.label, permit.place
            raise

    async def probe(self, timeout_s: float) -> bool:
        """Whether a connection to the remote's host and port comes about; not a single byte is sent over it."""
        return await self.probe_error(timeout_s) is None

    async def probe_error(self, timeout_s: float) -> HybridLLMError | None:
        """Why no connection to the remote's host and port comes about; None if one does. Not a single byte is sent over it."""
        from hybridllm.egress.failures import unreachable

        try:
            writer = await self._hop.connect(self._open_and_send_nothing, timeout_s)
        except AddressRefused as refused:
            return refused
        except OSError as error:
            return unreachable(error)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return None

    async def aclose(self) -> None:
        """Close all connections; afterwards nothing can be sent."""
        self._closed = True
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def _checked_body(self, permit: Permit, body: bytes, ledger: Ledger) -> AsyncIterator[bytes]:
        self._check(permit, body)
        ledger.egress_bytes += len(body)
        yield body

    def _check(self, permit: Permit, body: bytes) -> None:
        """Whether these bytes may go to this remote, as the policy is at this moment."""
        self._office.check(permit, self._remote, body)
        problem = self._problem_of_the_way()
        if problem is not None:
            # When the gate was made this was checked, so the policy in force has come since.
            raise PolicyTightened(f"Nothing was sent: {problem.message}", problem.mend)

    def _addresses(self) -> str:
        """Which addresses the remote may have, as the policy is at this moment."""
        return self._in_force.current.addresses_of(self._remote.zone)

    def _problem_of_the_way(self) -> BadRequest | None:
        """What the configuration alone says against sending anything; names are checked when they are resolved."""
        addresses = self._addresses()
        if addresses not in self._problems:
            self._problems[addresses] = self._problem_under(addresses)
        return self._problems[addresses]

    def _problem_under(self, addresses: str) -> BadRequest | None:
        """The same where the policy allows these addresses: one of ``policies.ADDRESSES``."""
        private_only = addresses != "any"
        literal = literal_address(self._remote.host)
        if literal is not None:
            refusal = refusal_of(literal, private_only=private_only, in_clear=self._remote.plain_http)
            if refusal is not None:
                return BadRequest(
                    f"remote.base_url leads to {literal}, {refusal.why}.", refusal.mend, field="remote.base_url"
                )
        elif private_only and self._remote.proxy is not None:
            return BadRequest(
                f"remote.proxy would resolve the remote's name, and nobody could check that its address is private, as "
                f"zone {self._remote.zone!r} demands.",
                "Write the remote's address instead of its name, or leave the proxy out.",
                field="remote.proxy",
            )
        return None

    async def _open_and_send_nothing(self, address: IPAddress, timeout_s: float) -> asyncio.StreamWriter:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(str(address), self._hop.port)
        return writer

    def _headers(self, more: Mapping[str, str], body: bytes) -> list[tuple[bytes, bytes]]:
        """What differs from one try to the next."""
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in more.items()]
        headers.append((b"content-length", b"%d" % len(body)))
        key = read_key(self._remote)
        if key is not None:
            headers.append((b"authorization", b"Bearer " + key.encode("ascii")))
        return headers

    def _open_transport(self) -> CheckedTransport:
        if self._closed:
            raise Cancelled("The client is closed.", "Make a new one.")
        if self._transport is None:
            from hybridllm.egress.transport import CheckedTransport

            self._transport = CheckedTransport(self._remote, self._hop, self._max_body_bytes)
        return self._transport
