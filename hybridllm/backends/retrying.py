"""Whether a try at a remote is repeated, and when: only where that can help, in what is left of the time, and not by everybody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from hybridllm.breaker import LONGEST_WAIT_S
from hybridllm.errors import AddressRefused, BreakerOpen, RemoteError
from hybridllm.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity import RetryCallState

    from hybridllm.backends.base import BackendCall
    from hybridllm.backends.remote_try import RemoteTry
    from hybridllm.breaker import CircuitBreaker
    from hybridllm.retry_budget import RetryBudget

__all__ = ["Retrying"]

_T = TypeVar("_T")

_LONGEST_WAIT_WITH_OTHERS_S = 2.0
_FIRST_JITTER_S = 0.2
_LONGEST_JITTER_S = 2.0
# Of a request's time, the share that belongs to this place while somebody else could still answer.
_SHARE_WITH_OTHERS = 0.5
# A connection that breaks sooner than this without a word was probably kept open for too long, and nobody has read a thing.
_AT_ONCE_S = 1.0
# Server errors that another try does not mend: not implemented, HTTP version not supported, network login (captive).
_SERVER_CANNOT = frozenset({501, 505, 511})
_CONFLICT = 409  # of this request with itself: the server is still busy with an earlier try of it
_ACCOUNT_USED_UP = "insufficient_quota"


class Retrying:
    """Decides on the tries of one attempt.

    Args:
        call: The attempt.
        budget: What retries the remote may still get.
        breaker: Whether another try would be let through.
        expected_s: Gives the seconds that a first token is expected to take; None where nobody knows.

    Attributes:
        failed: The last try that failed; None before.
    """

    def __init__(
        self,
        call: BackendCall,
        *,
        budget: RetryBudget,
        breaker: CircuitBreaker,
        expected_s: Callable[[], float | None],
    ) -> None:
        self.failed: RemoteTry | None = None
        self._call = call
        self._budget = budget
        self._breaker = breaker
        self._expected_s = expected_s
        self._end_s: float | None = None
        if call.deadline_s is not None:
            now_s = time.monotonic()
            share = _SHARE_WITH_OTHERS if call.others_left else 1.0
            self._end_s = now_s + share * (call.deadline_s - now_s)

    async def run(self, one: Callable[[], Awaitable[_T]]) -> _T:
        """Make tries until one answers or another one would not help.

        Args:
            one: Makes a try.

        Raises:
            HybridLLMError: What the last one failed with.
        """
        try:
            return await one()  # most of them answer, so the loop is made for those that do not
        except RemoteError as error:
            if not self._can_help(error):
                raise
            first: list[RemoteError] = [error]

        async def again() -> _T:
            if first:
                raise first.pop()
            return await one()

        from tenacity import AsyncRetrying, retry_if_exception

        loop = AsyncRetrying(
            retry=retry_if_exception(self._can_help), wait=self._wait_s, stop=self._not_worth_it, reraise=True
        )
        return await loop(again)

    def _can_help(self, error: BaseException) -> bool:
        if not isinstance(error, RemoteError) or isinstance(error, AddressRefused):
            return False
        alone = not self._call.others_left
        if isinstance(error, BreakerOpen):
            return alone and error.status is None  # with a status it is the key that is refused
        fault, status = (None, 0) if self.failed is None else (self.failed.fault, self.failed.status)
        if fault is Fault.UNREACHABLE:
            return alone
        if fault is Fault.BROKEN:
            return alone or (self.failed is not None and self.failed.took_s < _AT_ONCE_S)
        if fault is Fault.OVERLOADED:
            return error.code != _ACCOUNT_USED_UP
        if fault is Fault.REQUEST:
            return status == _CONFLICT
        return fault is Fault.FAILING and status >= 500 and status not in _SERVER_CANNOT

    def _wait_s(self, state: RetryCallState) -> float:
        """Full jitter over 0.2 s, doubled up to 2 s; after what the server asked for, a little of it."""
        from tenacity import wait_random_exponential

        asked_s = _asked_s(state)
        jitter_s = wait_random_exponential(multiplier=_FIRST_JITTER_S, max=_LONGEST_JITTER_S)(state)
        if asked_s is None or asked_s <= 0:
            return jitter_s
        return asked_s + min(jitter_s, 0.1 * asked_s)

    def _not_worth_it(self, state: RetryCallState) -> bool:
        """Whether the tries end here; if not, one is taken from the budget."""
        if state.attempt_number > self._call.retries.most:
            return True
        longest_s = _LONGEST_WAIT_WITH_OTHERS_S if self._call.others_left else LONGEST_WAIT_S
        if (_asked_s(state) or 0.0) > longest_s:
            return True
        wait_s = state.upcoming_sleep
        if self._end_s is not None and time.monotonic() + wait_s + (self._expected_s() or 0.0) >= self._end_s:
            return True
        return not self._breaker.admits_in(wait_s) or not self._budget.take()


def _asked_s(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after_s if isinstance(error, RemoteError) else None
