"""The remote: an OpenAI-compatible server, asked through the egress gate.

Before the first token a try is repeated where that may help: after 408, 409, 425, 429 and 5xx, and after connection errors
when nobody else is left to ask. After the first token nothing is repeated, and a stream that ends without a finish reason
was cut: it is an error, never an answer.

A model that thinks first says nothing for a while, but its pieces come: each of them shows that it is alive.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from contextlib import aclosing
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeGuard

from hybridllm.backends.base import Backend, BackendCall, BackendEvent, ContentDelta, Finished
from hybridllm.backends.retry_after import retry_after_s
from hybridllm.backends.sse import server_events
from hybridllm.errors import AddressRefused, PrivacyViolation, RemoteError, RemoteUnreachable
from hybridllm.types.completion_usage import CompletionUsage, PromptTokensDetails

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tenacity import RetryCallState

    from hybridllm.connectivity import Connectivity
    from hybridllm.egress import EgressGate, EgressResponse
    from hybridllm.remote import Remote

__all__ = ["RemoteBackend"]

_RETRIED_STATUS = frozenset({408, 409, 425, 429})
_LONGEST_RETRY_WAIT_S = 5.0
_LONGEST_RETRY_WAIT_WITH_OTHERS_S = 2.0
# Of a request's time, the share that its first token may take here while somebody else could still answer.
_SHARE_WITH_OTHERS = 0.5
_ERROR_BODY_BYTES = 16 * 1024
# Where servers put what a model thinks: llama.cpp, SGLang and DeepSeek under the first name, vLLM and OpenRouter under the second.
_THOUGHTS = ("reasoning_content", "reasoning")
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MENDS = {
    400: "Check the fields of the request against what the server supports.",
    401: "Check remote.api_key.",
    403: "Check what remote.api_key is allowed to do.",
    404: "Check remote.base_url and remote.model.",
    413: "Send a shorter conversation.",
    422: "Check the fields of the request against what the server supports.",
    429: "Wait, or raise the limit there.",
}


class _Sign(Enum):
    """A chunk came that has nothing for the answer; never leaves this module."""

    EMPTY = "empty"
    THOUGHT = "thought"


class RemoteBackend(Backend):
    """Asks the remote.

    Args:
        remote: Where it is and how patiently it is treated.
        gate: The way out.
        connectivity: Learns from the traffic.
    """

    def __init__(self, remote: Remote, gate: EgressGate, connectivity: Connectivity) -> None:
        self._remote = remote
        self._gate = gate
        self._connectivity = connectivity

    @property
    def model(self) -> str:
        """Name of the model there."""
        return self._remote.model

    @property
    def capabilities(self) -> frozenset[str]:
        """What the operator declared."""
        return self._remote.capabilities

    @property
    def context_tokens(self) -> int | None:
        """What the operator declared."""
        return self._remote.context_tokens

    async def stream(self, call: BackendCall) -> AsyncGenerator[BackendEvent, None]:
        """Ask, with retries up to the first token, and pass the pieces on."""
        if call.authorize is None:
            raise PrivacyViolation("Nothing was sent: the request was not authorised.", place="remote")
        events, first = await self._open(call)
        async with aclosing(events):
            yield first
            if isinstance(first, Finished):
                return
            while True:
                try:
                    async with asyncio.timeout(call.limits.gap_s):
                        event = await anext(events)
                except TimeoutError:
                    self._connectivity.note_trouble()
                    raise RemoteError(
                        f"The remote stopped in the middle of its answer for {call.limits.gap_s:g} s.",
                        "Ask again.",
                    ) from None
                if isinstance(event, _Sign):
                    continue
                yield event
                if isinstance(event, Finished):
                    return

    async def aclose(self) -> None:
        """Close the way out."""
        await self._gate.aclose()

    async def _open(self, call: BackendCall) -> tuple[AsyncGenerator[BackendEvent | _Sign, None], BackendEvent]:
        """The stream and its first event, after as many tries as help."""
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        body = call.request.remote_body(self._remote.model)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + call.retries.most),
            wait=_wait_s,
            retry=retry_if_exception(lambda error: _may_help_to_repeat(error, call)),
            reraise=True,
        )
        return await retrying(self._try, call, body)

    async def _try(
        self, call: BackendCall, body: bytes
    ) -> tuple[AsyncGenerator[BackendEvent | _Sign, None], BackendEvent]:
        call.ledger.tries += 1
        events = self._events(call, body)
        patience_s = call.limits.connect_s + call.limits.first_token_s
        share_s = math.inf
        if call.others_left and call.deadline_s is not None:
            share_s = _SHARE_WITH_OTHERS * (call.deadline_s - time.monotonic())
            patience_s = min(patience_s, share_s)
        clock = asyncio.get_running_loop().time
        began_s = clock()
        thinking = False
        try:
            async with asyncio.timeout(patience_s) as limit:
                while isinstance(first := await anext(events), _Sign):
                    thinking = thinking or first is _Sign.THOUGHT
                    if thinking:
                        limit.reschedule(min(clock() + call.limits.gap_s, began_s + share_s))
        except TimeoutError:
            await events.aclose()
            self._connectivity.note_trouble()
            took = f"thought for {clock() - began_s:.3g} s and gave no answer" if thinking else "gave no token"
            within = "in time" if thinking else f"within {patience_s:.3g} s"
            raise RemoteError(f"The remote {took} {within}.", "Try again later.") from None
        except BaseException:
            await events.aclose()
            raise
        return events, first

    async def _events(self, call: BackendCall, body: bytes) -> AsyncGenerator[BackendEvent | _Sign, None]:
        """One try: send, then turn the server's chunks into events, at least one for each. Ends with ``Finished`` or raises."""
        assert call.authorize is not None
        permit = call.authorize(body)
        # The same key for all tries of a request lets a server that knows it avoid doing the work twice.
        headers = {"idempotency-key": call.request_id}
        try:
            async with self._gate.send(permit, body, headers, call.ledger, call.limits) as response:
                if response.status != 200:
                    raise await self._status_error(response)
                kind = response.header("content-type").partition(";")[0].strip().lower()
                if kind != "text/event-stream":
                    if kind in ("text/html", "application/xhtml+xml"):
                        self._connectivity.note_captive()
                    raise RemoteError(
                        f"The remote answered with {_code(kind) or 'no content type'} instead of a stream of events.",
                        "Check remote.base_url, and whether a network login page is in the way.",
                        status=response.status,
                    )
                self._connectivity.note_success()
                reader = _ChunkReader()
                async with aclosing(server_events(response.pieces())) as events:
                    async for event in events:
                        if event.data.strip() == "[DONE]":
                            break
                        for found in reader.read(event.name, event.data):
                            yield found
                yield reader.finished()
        except RemoteUnreachable:
            self._connectivity.note_unreachable()
            raise

    async def _status_error(self, response: EgressResponse) -> RemoteError:
        status = response.status
        code = ""
        try:
            async with asyncio.timeout(1.0):
                code = _error_code(await response.beginning(_ERROR_BODY_BYTES))
        except (RemoteError, TimeoutError):
            code = ""
        if status >= 500 or status == 429:
            self._connectivity.note_trouble()
        elif 300 <= status < 400:
            self._connectivity.note_captive()
            return RemoteError(
                f"The remote answered with a redirect ({status}), which is not followed.",
                "Give the final address as remote.base_url.",
                status=status,
            )
        else:
            self._connectivity.note_success()
        said = f" and the code {code!r}" if code else ""
        return RemoteError(
            f"The remote answered with status {status}{said}.",
            _MENDS.get(status, "Try again later." if status >= 500 else ""),
            status=status,
            code=code,
            retry_after_s=retry_after_s(response.header("retry-after"), time.time()),
        )


class _ChunkReader:
    """Turns chat completion chunks into events and knows whether the answer became whole."""

    def __init__(self) -> None:
        self._finish: str | None = None
        self._usage: CompletionUsage | None = None
        self._model: str | None = None

    def read(self, name: str, data: str) -> list[ContentDelta | _Sign]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise RemoteError("The remote sent a piece that is not JSON.") from None
        if not isinstance(chunk, dict) or name == "error" or chunk.get("error"):
            code = _error_code(data.encode())
            said = f" with the code {code!r}" if code else ""
            raise RemoteError(f"The remote broke off with an error{said}.", "Ask again.", code=code)
        if isinstance(chunk.get("model"), str):
            self._model = chunk["model"][:200]
        if isinstance(chunk.get("usage"), dict):
            self._usage = _usage(chunk["usage"])
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise RemoteError("The remote sent a piece without choices.")
        found: list[ContentDelta | _Sign] = []
        sign = _Sign.EMPTY
        for choice in choices:
            delta = _delta(choice)
            text, refusal = delta.get("content") or "", delta.get("refusal") or ""
            if not isinstance(text, str) or not isinstance(refusal, str):
                raise RemoteError("The remote sent a piece whose content is not text.")
            # JSON can spell half of a surrogate pair, which no message could carry on.
            text, refusal = (part.encode("utf-8", "replace").decode() for part in (text, refusal))
            if delta.get("tool_calls") or delta.get("function_call"):
                raise RemoteError("The remote answered with a tool call, and the request had no tools.")
            if (text or refusal) and self._finish is not None:
                raise RemoteError("The remote sent more text after the end of its answer.")
            if text or refusal:
                found.append(ContentDelta(text=text, refusal=refusal))
            elif any(delta.get(name) for name in _THOUGHTS):
                sign = _Sign.THOUGHT
            if choice.get("finish_reason") is not None:
                self._finish = str(choice["finish_reason"])
        return found or [sign]

    def finished(self) -> Finished:
        """The end; an error if no piece brought a finish reason."""
        if self._finish is None:
            raise RemoteError("The remote's answer was cut: it ended without a finish reason.", "Ask again.")
        if self._finish not in ("stop", "length", "content_filter"):
            raise RemoteError(
                "The remote ended its answer for a reason that is not supported.", code=_code(self._finish)
            )
        return Finished(reason=self._finish, usage=self._usage, model=self._model)  # type: ignore[arg-type]


def _delta(choice: object) -> dict[str, Any]:
    """A choice's delta. One that brings only the end, or what a filter found, may lack it; one with a whole answer may not."""
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if delta is None and isinstance(choice, dict) and "message" not in choice and "text" not in choice:
        return {}
    if not isinstance(delta, dict):
        raise RemoteError("The remote sent a choice without a delta.")
    return delta


def _usage(usage: dict[str, Any]) -> CompletionUsage | None:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    whole = [count for count in counts if _is_count(count)]
    if len(whole) != len(counts):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return CompletionUsage(
        prompt_tokens=whole[0],
        completion_tokens=whole[1],
        total_tokens=whole[2],
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached) if _is_count(cached) else None,
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _error_code(body: bytes) -> str:
    """The machine-readable code of an error body. Its message is never kept: servers quote the request in it."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return ""
    return _code(error.get("code")) or _code(error.get("type"))


def _code(word: object) -> str:
    return word if isinstance(word, str) and _CODE.fullmatch(word.replace("/", ".")) else ""


def _may_help_to_repeat(error: BaseException, call: BackendCall) -> bool:
    if not isinstance(error, RemoteError):
        return False
    wait_s = error.retry_after_s or 0.0
    if call.deadline_s is not None and time.monotonic() + wait_s >= call.deadline_s:
        return False
    if wait_s > (_LONGEST_RETRY_WAIT_WITH_OTHERS_S if call.others_left else _LONGEST_RETRY_WAIT_S):
        return False
    if isinstance(error, AddressRefused):
        return False
    if isinstance(error, RemoteUnreachable):
        return not call.others_left
    return error.status is not None and (error.status in _RETRIED_STATUS or error.status >= 500)


def _wait_s(state: RetryCallState) -> float:
    """What the server asked for, else full jitter that doubles from 0.2 s to 2 s."""
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, RemoteError) and error.retry_after_s is not None:
        return error.retry_after_s
    return wait_random_exponential(multiplier=0.1, max=2.0)(state)
