"""A conversation as the chat keeps it: its messages, how sensitive they are, and its file on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hybridllm.cli.attachment import read_bounded, reason_of
from hybridllm.cli.mistakes import CommandError
from local_runtime.content import CONTENT, hides_content
from local_runtime.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Conversation", "ConversationFileError"]

_FORMAT = 1
_ROLES = ("user", "assistant")


class ConversationFileError(CommandError):
    """A file that was to be read or written cannot be; one sentence with the mend."""


@hides_content
@dataclass
class Conversation:
    """What was said so far.

    Attributes:
        system: The system message, or None.
        messages: User and assistant messages in turn, each ``{"role": ..., "content": ...}``.
        privacy: The label that the person gave with ``--privacy``, or None.
        tags: The tags that the person gave with ``--tag``.
        kept_local: True once something was said that must stay on this device. It never becomes False again, because
            every later request carries the earlier messages.
        system_kept_local: True if the system message must stay on this device; a new conversation that keeps it stays too.
        label: The most sensitive label that a request of this conversation had, or None before the first one.
        policy_hash: The hash of the policy that gave ``label``; what a label or a tag means is the policy's to say.
    """

    system: str | None = field(default=None, metadata=CONTENT)
    messages: list[dict[str, str]] = field(default_factory=list, metadata=CONTENT)
    privacy: str | None = None
    tags: tuple[str, ...] = ()
    kept_local: bool = False
    system_kept_local: bool = False
    label: str | None = None
    policy_hash: str | None = None

    @property
    def stays_local(self) -> bool:
        """True if a request with all of it must not leave this device."""
        return self.kept_local or self.system_kept_local

    def request(self, user_text: str) -> list[dict[str, Any]]:
        """The messages of a request that says ``user_text`` next."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *self.messages, {"role": "user", "content": user_text}]

    def add(self, user_text: str, answer: str) -> None:
        """Remember one exchange."""
        self.messages.append({"role": "user", "content": user_text})
        self.messages.append({"role": "assistant", "content": answer})

    def take_back(self) -> str | None:
        """Forget the last exchange and return what the user said in it; None if nothing was said."""
        if not self.messages:
            return None
        del self.messages[-1]
        return self.messages.pop()["content"]

    def save(self, path: Path) -> None:
        """Write the conversation as JSON, readable by its owner only; all of it or nothing.

        Raises:
            ConversationFileError: The file cannot be written.
        """
        record = {
            "hybridllm_conversation": _FORMAT,
            "privacy": self.privacy,
            "tags": list(self.tags),
            "kept_local": self.kept_local,
            "system_kept_local": self.system_kept_local,
            "label": self.label,
            "policy_hash": self.policy_hash,
            "system": self.system,
            "messages": self.messages,
        }
        try:
            if path.is_dir():
                raise ConversationFileError(f"{path} is a folder. Give a file's name.")
            if path.exists() and not path.is_file():
                raise ConversationFileError(f"{path} is a device or a pipe. Give a file's name.")
            write_atomically(path, (json.dumps(record, ensure_ascii=False, indent=2) + "\n").encode())
        except (OSError, ValueError) as error:
            raise ConversationFileError(
                f"{path} cannot be written: {reason_of(error)}. Choose another place."
            ) from None

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read a conversation that :meth:`save` wrote.

        Raises:
            ConversationFileError: There is no such file, or it is not a saved conversation.
        """
        try:
            data = read_bounded(path)
        except (OSError, ValueError) as error:
            raise ConversationFileError(
                f"{path} cannot be read: {reason_of(error)}. Give the path of a saved conversation."
            ) from None
        try:
            record = json.loads(data.decode())
            problem = _problem(record)
        except ValueError as error:
            raise ConversationFileError(f"{path} is not JSON: {error}. Give a file that /save wrote.") from None
        except RecursionError:
            raise ConversationFileError(
                f"{path} is not a saved conversation: it is nested too deeply. Give a file that /save wrote."
            ) from None
        if problem:
            raise ConversationFileError(f"{path} is not a saved conversation: {problem}. Give a file that /save wrote.")
        return cls(
            system=record["system"],
            messages=[{"role": entry["role"], "content": entry["content"]} for entry in record["messages"]],
            privacy=record["privacy"],
            tags=tuple(record["tags"]),
            kept_local=record["kept_local"],
            system_kept_local=record.get("system_kept_local", record["kept_local"]),
            label=record.get("label"),
            policy_hash=record.get("policy_hash"),
        )


def _problem(record: Any) -> str:
    """What is wrong with a record read from a file; empty if nothing is."""
    if not isinstance(record, dict) or "hybridllm_conversation" not in record:
        return "hybridllm_conversation is missing"
    if record["hybridllm_conversation"] != _FORMAT:
        return f"hybridllm_conversation is not {_FORMAT}"
    for name in ("system", "privacy", "kept_local"):
        if name not in record:
            return f"{name} is missing"
    for name in ("system", "privacy", "label", "policy_hash"):
        if not isinstance(record.get(name), str | None):
            return f"{name} is neither text nor null"
    for name in ("kept_local", "system_kept_local"):
        if not isinstance(record.get(name, True), bool):
            return f"{name} is neither true nor false"
    tags = record.get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return "tags is not a list of texts"
    messages = record.get("messages")
    if not isinstance(messages, list) or len(messages) % 2:
        return "messages is not a list of pairs"
    for index, entry in enumerate(messages):
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            return f"messages[{index}].content is not text"
        if entry.get("role") != _ROLES[index % 2]:
            return f"messages[{index}].role is not {_ROLES[index % 2]}"
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "it holds half of a character"
    return ""
