"""What is told of a request's way: the sentence why, and the error where nobody could answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridllm.attempt import shown
from hybridllm.errors import (
    BadRequest,
    CannotServe,
    ContextLengthExceeded,
    HybridLLMError,
    Overloaded,
    PolicyDenied,
)
from policies import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridllm.attempt import AttemptFailed
    from hybridllm.types.route import Attempt
    from policies import Decision

__all__ = ["nobody_answered", "reason_of"]

_HOW_IT_WENT_ON = {
    "fallback": "so {place} was asked",
    "hedge": "{place} was asked as well, because the one before was late",
    "continue": "{place} went on with the answer",
    "restart": "{place} began the answer anew",
}


def reason_of(decision: Decision, attempts: Sequence[Attempt], served_by: str) -> str:
    """Why a place answered, as one sentence that a person can read."""
    parts = [f"rule {decision.rule!r} asks {' before '.join(decision.candidates) or 'nobody'}"]
    parts += [
        f"{out.place} was left out: {out.why.rstrip('.')}"
        for out in decision.struck_out
        if out.code != "not_configured"
    ]
    for index, attempt in enumerate(attempts):
        if attempt.why != "first":
            parts.append(_HOW_IT_WENT_ON[attempt.why].format(place=attempt.place))
        if attempt.outcome == "failed" and (attempt.place != served_by or index + 1 < len(attempts)):
            parts.append(f"{attempt.place} {'failed' if attempt.ttft_ms is None else 'broke off'}")
    if any(attempt.why == "hedge" for attempt in attempts) and served_by:
        parts.append(f"{served_by} was faster")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def nobody_answered(
    decision: Decision, failures: Sequence[AttemptFailed], attempts: Sequence[Attempt]
) -> HybridLLMError:
    """The error that helps most: what the user can mend comes before what happened to go wrong."""
    struck_out = decision.struck_out
    errors = [failure.error for failure in failures]
    private = next((out for out in struck_out if out.code in ("label", "zone")), None)
    too_long = next((out for out in struck_out if out.place == LOCAL and out.code == "context"), None)
    local_error = errors[0] if len(errors) == 1 and failures[0].place == LOCAL else None
    here = local_error.message if isinstance(local_error, ContextLengthExceeded) else None
    if here is None and not errors:
        here = "; ".join(f"{out.place}: {out.why}" for out in struck_out if out.place == LOCAL)
    if private is not None and here is not None:
        return PolicyDenied(
            f"The device cannot serve this request ({here.rstrip('.')}), and {private.place} may not see it: {private.why}",
            "Shorten or change the request, or label it if it is not sensitive.",
            label=decision.label,
            place=private.place,
        )
    if local_error is not None:
        return local_error
    if not errors and too_long is not None:
        return ContextLengthExceeded(
            f"The request is too long for the device: {too_long.why}", "Shorten the conversation.", field="messages"
        )
    if not errors:
        said = "; ".join(f"{out.place}: {out.why.rstrip('.')}" for out in struck_out)
        return CannotServe(f"Nobody can serve this request: {said}.", "Change the request or the policy.")
    if all(isinstance(error, BadRequest) for error in errors):
        return errors[0]
    said = "; ".join(f"{failure.place}: {shown(failure.error)}".rstrip(".") for failure in failures)
    full = next((error for error in errors if isinstance(error, Overloaded)), None)
    if full is not None:  # the one failure that ends by itself soon
        return Overloaded(f"Nobody could answer. {said}.", full.mend, retry_after_s=full.retry_after_s)
    mend = next((error.mend for error in reversed(errors) if error.mend), "Ask again later.")
    return CannotServe(f"Nobody could answer. {said}.", mend, attempts=attempts)
