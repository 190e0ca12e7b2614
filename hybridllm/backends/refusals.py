"""A server's errors as our own: what they say to a program is kept, what they say to a person is not."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from hybridllm.errors import ContentFiltered, ContextLengthExceeded, HybridLLMError, RemoteError

__all__ = ["CONTENT_FILTER", "CONTEXT_LENGTH", "Refusal", "code_of", "refusal_of"]

CONTEXT_LENGTH = "context_length_exceeded"
"""The code of a request that is too long, whatever the server calls it."""

CONTENT_FILTER = "content_filter"
"""The code of a request that was refused for what it says, whatever the server calls it."""

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NOT_LETTERS = re.compile(r"[^a-z]")
# Names that servers use as an error's code or type, without case and underscores.
_NAMES = {
    CONTEXT_LENGTH: frozenset(
        {
            "contextlengthexceeded",  # OpenAI
            "exceedcontextsizeerror",  # llama.cpp
            "contextwindowexceedederror",  # LiteLLM
            "maxtokensexceeded", "tokenlimitexceeded",  # OpenRouter
        }
    ),
    CONTENT_FILTER: frozenset(
        {
            "contentfilter", "responsibleaipolicyviolation",  # Azure
            "contentpolicyviolation", "moderationblocked",  # OpenAI
            "contentpolicyviolationerror",  # LiteLLM
            "datainspectionfailed",  # DashScope
        }
    ),
}  # fmt: skip
# vLLM, SGLang and others say it only in words. The text is searched and forgotten.
_TOO_LONG = re.compile(
    r"maximum (?:context|prompt) length|context (?:length|window|size) (?:is )?exceed|prompt is too long"
    r"|(?:longer than|greater than|exceeds?) (?:the |this )?(?:model'?s? |available |maximum )*context (?:length|window|size)",
    re.IGNORECASE,
)
_STATUS_OF_TOO_LONG = frozenset({400, 413, 422, 500})
_SEARCHED_CHARACTERS = 4096
_MENDS = {
    400: "Check the fields of the request against what the server supports.",
    401: "Check remote.api_key.",
    402: "Check the credit of the account there.",
    403: "Check what remote.api_key is allowed to do.",
    404: "Check remote.base_url and remote.model.",
    413: "Send a shorter conversation.",
    422: "Check the fields of the request against what the server supports.",
    429: "Wait, or raise the limit there.",
    511: "Log in to the network.",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error body says to a program."""

    code: str = ""
    """Its code: ``CONTEXT_LENGTH``, ``CONTENT_FILTER``, another as the server has it, or empty."""

    status: int | None = None
    """An HTTP status that it names; some servers do within a stream, which began with 200."""

    def as_status(self, status: int, retry_after_s: float | None) -> HybridLLMError:
        """The error of an answer with this status."""
        said = f" and the code {self.code!r}" if self.code else ""
        return self._special(f"status {status}{said}", status) or RemoteError(
            f"The remote answered with status {status}{said}.",
            _MENDS.get(status, "Try again later." if status >= 500 else ""),
            status=status,
            code=self.code,
            retry_after_s=retry_after_s,
        )

    def in_stream(self) -> HybridLLMError:
        """The error of a stream that brought this instead of more."""
        said = f"the code {self.code!r}" if self.code else f"the status {self.status}" if self.status else ""
        return self._special(said or "no code", None) or RemoteError(
            f"The remote broke off with an error{said and f' with {said}'}.", "Ask again.", code=self.code
        )

    def _special(self, said: str, status: int | None) -> HybridLLMError | None:
        if self.code == CONTENT_FILTER:
            return ContentFiltered(
                f"The remote's filter refused the request for what it says ({said}).",
                "Change the request.",
                status=status,
                code=self.code,
            )
        if self.code == CONTEXT_LENGTH:
            return ContextLengthExceeded(
                f"The request is too long for the remote ({said}).",
                "Shorten the conversation, or ask for fewer tokens.",
                field="messages",
            )
        return None


def refusal_of(body: bytes | str, status: int | None = None) -> Refusal:
    """What an error body says to a program. Nothing of its message is kept: servers quote the request in it.

    Args:
        body: The body, or the beginning of one.
        status: The HTTP status; None for an error within a stream.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal()
    error = found.get("error", found) if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return Refusal()
    said = next((word for word in (error.get("code"), error.get("status")) if _is_status(word)), None)
    inner, metadata = error.get("innererror"), error.get("metadata")
    words = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    names = {_NOT_LETTERS.sub("", word.lower()) for word in words if isinstance(word, str)}
    if names & _NAMES[CONTENT_FILTER] or (isinstance(metadata, dict) and "flagged_input" in metadata):  # OpenRouter
        return Refusal(CONTENT_FILTER, said)
    if names & _NAMES[CONTEXT_LENGTH] or (_may_be_too_long(status or said) and _says_too_long(error)):
        return Refusal(CONTEXT_LENGTH, said)
    return Refusal(next(filter(None, map(code_of, words)), ""), said)


def code_of(word: object) -> str:
    """A word that a server gave as a code, if it can be one; else an empty text."""
    return word if isinstance(word, str) and _CODE.fullmatch(word.replace("/", ".")) else ""


def _is_status(word: object) -> bool:
    return isinstance(word, int) and not isinstance(word, bool) and 400 <= word < 600


def _may_be_too_long(status: int | None) -> bool:
    return status is None or status in _STATUS_OF_TOO_LONG


def _says_too_long(error: dict[str, Any]) -> bool:
    message = error.get("message")
    return isinstance(message, str) and _TOO_LONG.search(message[:_SEARCHED_CHARACTERS]) is not None
