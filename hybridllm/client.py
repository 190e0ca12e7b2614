"""The client, blocking: a face over ``AsyncHybridClient``, which runs in an event loop in a thread of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from hybridllm.async_client import AsyncHybridClient
from hybridllm.boundary import content_free
from hybridllm.loop_thread import LoopThread
from hybridllm.streams import AsyncChatStream, ChatStream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from hybridllm.backends.base import Backend
    from hybridllm.conversation import Conversation
    from hybridllm.explanation import Explanation
    from hybridllm.health import Health, Observer
    from hybridllm.remote import Remote
    from hybridllm.request_fields import RequestFields
    from hybridllm.signals import MeasuredByProgram
    from hybridllm.types.chat_completion import ChatCompletion
    from local_runtime.events import EngineStats, StateKept
    from local_runtime.options import ModelInfo, Progress
    from policies import Policy

__all__ = ["Chat", "Completions", "HybridClient"]


class HybridClient:
    """One chat interface over the model on this device and an optional remote; a policy decides between them.

    It may be used from several threads. Use it as a context manager, or call ``close``; one that was used and is dropped
    without being closed ends its engine, and warns with ``ResourceWarning``. A process that is forked has to make its own.

    Args:
        model: Name of a bundled model, or a checkpoint folder.
        remote: An OpenAI-compatible server; None for the device alone.
        policy: A preset's name, a YAML file, a loaded policy, or None, with which nothing can leave the device. A file that
            cannot be used is an error; a program that must start nevertheless catches it and passes None.
        quant: Weights as ``q4``, ``f16``, ``f32``, or ``auto``.
        target: What to compile for: ``auto``, ``cpu``, ``cuda``, or a TVM target.
        threads: CPU threads of the engine; None for what it finds best.
        context_tokens: Context to serve; None for what the model has.
        max_sequences: Answers that the device generates at the same time; further ones wait.
        max_waiting: How many may wait; one more is refused with ``Overloaded``.
        memory_mib: The most memory in MiB that the engine may take; None for what is free.
        cache_dir: Where compiled models are kept; None for the user's cache folder.
        saved_state: File of ``save_state`` that is restored whenever the engine's process starts; where it cannot be used, the log
            says so, and prompts are computed as usual.
        offline: Never contact the remote, not even to see whether it is there.
        privacy_floor: A label that every request has at least.
        label_memory_s: How long the label of an answer is remembered, so that a copy of it in a later request has it too.
        watch_policy: Put a changed policy file into force while the client runs; a broken one closes the remote.
        audit: Folder of the audit log; what cannot be recorded there does not leave. None for no audit log.
        decision_log: File to record decisions in, without content, for ``hybridllm policy simulate``.
        facts: Gives facts that your program measures itself, such as ``budget_left``.
        observers: Told of every request when it is over, for metrics and telemetry.
        local: A place on the device to ask instead of the engine, such as ``hybridllm.testing.ScriptedBackend``.
        on_progress: Called with the progress of loading the model, from another thread.
        in_process: Run the engine in this process, for debugging.

    Raises:
        PolicyError: The policy cannot be used.
        BadRequest: An argument is not usable.
    """

    def __init__(
        self,
        model: str | Path = "kiosk-assistant",
        *,
        remote: Remote | None = None,
        policy: str | Path | Policy | None = "offline-first",
        quant: str = "auto",
        target: str = "auto",
        threads: int | None = None,
        context_tokens: int | None = None,
        max_sequences: int = 4,
        max_waiting: int = 32,
        memory_mib: int | None = None,
        cache_dir: str | Path | None = None,
        saved_state: str | Path | None = None,
        offline: bool = False,
        privacy_floor: str | None = None,
        label_memory_s: float = 3600.0,
        watch_policy: bool = False,
        audit: str | Path | None = None,
        decision_log: str | Path | None = None,
        facts: MeasuredByProgram | None = None,
        observers: Sequence[Observer] = (),
        local: Backend | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        in_process: bool = False,
    ) -> None:
        self._client = AsyncHybridClient(
            model,
            remote=remote,
            policy=policy,
            quant=quant,
            target=target,
            threads=threads,
            context_tokens=context_tokens,
            max_sequences=max_sequences,
            max_waiting=max_waiting,
            memory_mib=memory_mib,
            cache_dir=cache_dir,
            saved_state=saved_state,
            offline=offline,
            privacy_floor=privacy_floor,
            label_memory_s=label_memory_s,
            watch_policy=watch_policy,
            audit=audit,
            decision_log=decision_log,
            facts=facts,
            observers=observers,
            local=local,
            on_progress=on_progress,
            in_process=in_process,
        )
        self._thread = LoopThread()
        self._closing = threading.Lock()

    @classmethod
    def from_config(cls, path: str | Path, **overrides: Any) -> Self:
        """A client as ``hybridllm.yaml`` describes it.

        Args:
            path: The file.
            overrides: Arguments of the class that take precedence over the file's.

        Raises:
            ConfigError: The file cannot be used; names file, line and key.
            PolicyError: The policy that it names cannot be used.
        """
        from hybridllm.config import load_config

        return cls(**{**content_free(load_config)(path), **overrides})

    @property
    def chat(self) -> Chat:
        """Where ``completions.create`` is."""
        return Chat(self._client, self._thread)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._client.policy

    @property
    def policy_problem(self) -> str:
        """Why nothing may leave the device, where the policy's file became one that cannot be used; else empty."""
        return self._client.policy_problem

    @property
    def remote(self) -> Remote | None:
        """The remote, if one is configured."""
        return self._client.remote

    @property
    def offline(self) -> bool:
        """Whether the remote must not be contacted."""
        return self._client.offline

    @property
    def connectivity(self) -> str | None:
        """What is known about the way to the remote: ``online``, ``degraded``, ``captive``, ``offline`` or None."""
        return self._client.connectivity

    @property
    def model_info(self) -> ModelInfo | None:
        """The model that the engine has loaded; None before, and with a place of your own."""
        return self._client.model_info

    @content_free
    def conversation(self, *, system: str | None = None, privacy_floor: str | None = None) -> Conversation:
        """A dialogue that keeps its messages and the most sensitive label that an answer in it had.

        Args:
            system: A system message that stands first.
            privacy_floor: A label that every request of it has at least.

        Raises:
            BadRequest: An argument is not usable.
        """
        from hybridllm.conversation import Conversation, Dialogue

        return Conversation(self._client, Dialogue.begun(self.policy, system, privacy_floor), self._thread)

    @content_free
    def load(self) -> ModelInfo | None:
        """Load the device's model now and not with the first request.

        Raises:
            ModelError: It cannot be loaded.
            EngineError: The engine's process died.
        """
        return self._thread.run(self._client.load())

    @content_free
    def save_state(
        self,
        path: str | Path,
        *,
        messages: object,
        tools: object = None,
        chat_template_kwargs: object = None,
    ) -> StateKept:
        """Compute what all conversations that begin with ``messages`` have in common, and write what the device's model keeps of it.

        Requests that begin so need not compute it again: now, after a crash of the engine's process, and where the file is
        restored. It holds the content of the messages; only its owner can read it.

        Args:
            path: The file; what is there is replaced.
            messages: The beginning, such as a system message, in OpenAI's shape.
            tools: The tools that go with it, if the requests will have any.
            chat_template_kwargs: The variables of the chat template that go with it.

        Raises:
            BadRequest: The messages are not usable, or the file cannot be written.
            ModelError: The model cannot be loaded.
            EngineError: The engine's process died, or has no room for it.
        """
        return self._thread.run(
            self._client.save_state(path, messages=messages, tools=tools, chat_template_kwargs=chat_template_kwargs)
        )

    @content_free
    def restore_state(self, path: str | Path) -> StateKept:
        """Read a file of ``save_state``; also in every further process of the engine.

        Raises:
            BadRequest: The file is missing, damaged, or not of this model as it is loaded now.
            ModelError: The model cannot be loaded.
            EngineError: The engine's process died, or has no room for it.
        """
        return self._thread.run(self._client.restore_state(path))

    @content_free
    def engine_stats(self) -> EngineStats | None:
        """The engine at this moment; None with a place of your own. Starts nothing."""
        return self._thread.run(self._client.engine_stats())

    @content_free
    def health(self) -> Health:
        """What the client can do at this moment. Starts nothing, and asks nobody elsewhere."""
        return self._thread.run(self._client.health())

    @content_free
    def reload_policy(self) -> None:
        """Read the policy's file again. One that cannot be used lets nothing leave: see ``policy_problem``.

        Raises:
            BadRequest: The policy did not come from a file or a preset.
        """
        self._thread.run(self._client.reload_policy())

    @content_free
    def explain(
        self,
        *,
        messages: object,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> Explanation:
        """What would happen to a request, decided from what is known already: no I/O, and nobody is asked.

        Raises:
            BadRequest: The request is not usable.
        """
        return self._client.explain(messages=messages, privacy=privacy, tags=tags, deadline_s=deadline_s, **fields)

    @content_free
    def close(self) -> None:
        """End the engine and close all connections; does nothing the second time."""
        with self._closing:
            if not self._thread.closed:
                try:
                    self._thread.run(self._client.close())
                finally:
                    self._thread.close()

    def __enter__(self) -> Self:
        return self

    @content_free
    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Chat:
    """``client.chat``."""

    def __init__(self, client: AsyncHybridClient, thread: LoopThread) -> None:
        self.completions = Completions(client, thread)


class Completions:
    """``client.chat.completions``."""

    def __init__(self, client: AsyncHybridClient, thread: LoopThread) -> None:
        self._client = client
        self._thread = thread

    @overload
    def create(
        self,
        *,
        messages: object,
        stream: Literal[False] = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: object,
        stream: Literal[True],
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatStream: ...

    @content_free
    def create(
        self,
        *,
        messages: object,
        stream: bool = False,
        privacy: str | None = None,
        tags: Collection[str] = (),
        deadline_s: float | None = None,
        **fields: Unpack[RequestFields],
    ) -> ChatCompletion | ChatStream:
        """Ask for an answer.

        Args:
            messages: The conversation, oldest message first, in OpenAI's shape; a message may have a ``privacy`` label.
            stream: Whether to return a ``ChatStream`` as soon as the first piece is there.
            privacy: Label of the whole request, one of the policy's.
            tags: Tags of the request; the policy says what label each has.
            deadline_s: Seconds within which the answer has to be whole.
            fields: The other fields, as in ``ChatRequest``.

        Raises:
            BadRequest: The request is not usable; nothing was asked.
            PolicyDenied: Only a place that may not see the request could serve it.
            CannotServe: Every place that may see it was asked and failed.
            DeadlineExceeded: ``deadline_s`` is over.
        """
        # The overloads know True and False apart; a bool that is known at run time only fits neither.
        answer: ChatCompletion | AsyncChatStream = self._thread.run(
            self._client.chat.completions.create(  # type: ignore[call-overload]
                messages=messages, stream=stream, privacy=privacy, tags=tags, deadline_s=deadline_s, **fields
            )
        )
        return ChatStream(answer, self._thread) if isinstance(answer, AsyncChatStream) else answer
