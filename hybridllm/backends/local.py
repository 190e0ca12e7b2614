"""The device: the local engine, which lives in a process of its own, behind the backend seam."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hybridllm.backends.base import Backend, BackendCall, BackendEvent
from hybridllm.backends.local_answers import LocalAnswers, one_for_each_answer
from hybridllm.backends.local_request import engine_capabilities, engine_messages, engine_request, engine_tools
from hybridllm.capabilities import TOOL_CHOICE, TOOLS
from hybridllm.errors import (
    BadRequest,
    Cancelled,
    ContextLengthExceeded,
    EngineError,
    HybridLLMError,
    ModelError,
    Overloaded,
)
from local_runtime.errors import LocalRuntimeError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from hybridllm.types.chat_request import ChatRequest
    from local_runtime.client import Handle, LocalEngine
    from local_runtime.events import EngineStats, Event, StateKept
    from local_runtime.options import ModelInfo, Progress

__all__ = ["LocalBackend", "from_local_error"]

_T = TypeVar("_T")

_BY_TOOL_FORMAT = frozenset({TOOLS, TOOL_CHOICE})

_NEWEST_SHARE = 0.2
"""What the newest answer counts in the usual time of an answer."""

_CLASSES: dict[str, type[HybridLLMError]] = {
    "checkpoint": ModelError,
    "unsupported_model": ModelError,
    "tokenizer": ModelError,
    "target": ModelError,
    "compile": ModelError,
    "invalid_request": BadRequest,
    "context_length_exceeded": ContextLengthExceeded,
    "saved_state": BadRequest,
}


def from_local_error(error: LocalRuntimeError) -> HybridLLMError:
    """The engine's error as one of the SDK's; its code decides which."""
    if error.code == "overloaded":
        return Overloaded(error.message, error.mend, retry_after_s=error.retry_after_s)
    return _CLASSES.get(error.code, EngineError)(error.message, error.mend)


class LocalBackend(Backend):
    """Asks the local engine. Nothing is started before it is needed.

    Args:
        model: Name of a bundled model, or a checkpoint folder.
        quant: ``auto``, ``q4``, ``f16`` or ``f32``.
        target: ``auto``, ``cpu``, ``cuda`` or a TVM target.
        threads: CPU threads; None for what the engine finds best.
        context_tokens: Context to serve; None for what the model has.
        max_sequences: Answers that are generated at the same time; further ones wait.
        max_waiting: How many may wait; one more is refused with ``Overloaded``.
        memory_mib: The most memory in MiB that the engine may take; None for what is free.
        cache_dir: Where compiled models are kept; None for the user's cache folder.
        saved_state: File of a saved state that is restored whenever the engine's process starts.
        on_progress: Called with the progress of loading, from another thread.
        in_process: Run the engine in this process, for debugging.

    Raises:
        BadRequest: An argument is not usable.
    """

    def __init__(
        self,
        model: str,
        *,
        quant: str = "auto",
        target: str = "auto",
        threads: int | None = None,
        context_tokens: int | None = None,
        max_sequences: int = 4,
        max_waiting: int = 32,
        memory_mib: int | None = None,
        cache_dir: str | None = None,
        saved_state: str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        in_process: bool = False,
    ) -> None:
        from local_runtime.client import LocalEngine
        from local_runtime.options import LoadOptions

        try:
            options = LoadOptions(
                model=model,
                quant=quant,  # type: ignore[arg-type]  # it checks the name itself
                target=target,
                threads=threads,
                context_tokens=context_tokens,
                max_sequences=max_sequences,
                max_waiting=max_waiting,
                memory_mib=memory_mib,
                cache_dir=cache_dir,
                saved_state=saved_state,
            )
        except LocalRuntimeError as error:
            raise from_local_error(error) from None
        self._model = model
        self._max_sequences = max_sequences
        self._engine: LocalEngine = LocalEngine(options, on_progress=on_progress, in_process=in_process)
        self._info: ModelInfo | None = None
        self._starting: asyncio.Future[ModelInfo] | None = None
        self._open = 0
        self._service_s: float | None = None

    @property
    def model(self) -> str:
        """The loaded model's name; before it is loaded, the name that was asked for."""
        return self._info.name if self._info is not None else self._model

    @property
    def capabilities(self) -> frozenset[str]:
        """All that the engine can do; none of its models sees pictures, and a model that was not made for tools calls none."""
        able = engine_capabilities()
        return able if self._info is None or self._info.tool_format else able - _BY_TOOL_FORMAT

    @property
    def context_tokens(self) -> int | None:
        """The context that is served; None before the model is loaded."""
        return self._info.context_tokens if self._info is not None else None

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and its process lives."""
        return self._info is not None and self._engine.state == "ready"

    @property
    def continues(self) -> bool:
        """The engine goes on with an answer that another place has begun."""
        return True

    @property
    def queue_s(self) -> float | None:
        """The place in the queue times the usual time of an answer, over how many are generated at a time.

        Told from the answers that went through here, so that deciding asks nobody; None while no answer has ended yet.
        """
        ahead = self._open - self._max_sequences + 1
        if ahead <= 0:
            return 0.0
        return None if self._service_s is None else self._service_s * ahead / self._max_sequences

    def _note_service(self, service_s: float) -> None:
        past_s = self._service_s
        self._service_s = service_s if past_s is None else past_s + _NEWEST_SHARE * (service_s - past_s)

    @property
    def info(self) -> ModelInfo | None:
        """What is loaded; None before."""
        return self._info

    async def start(self) -> None:
        """Load the model, unless it is. Whoever waits may be cancelled; the loading goes on.

        Raises:
            ModelError: The model cannot be loaded.
            EngineError: The engine's process died.
        """
        if self.ready:
            return
        if (
            self._starting is None
            or self._starting.done()
            or self._starting.get_loop() is not asyncio.get_running_loop()
        ):
            self._starting = _in_daemon_thread(self._engine.start)
        try:
            self._info = await asyncio.shield(self._starting)
        except LocalRuntimeError as error:
            _raise_mapped(error)

    async def stats(self) -> EngineStats:
        """The engine at this moment; starts nothing.

        Raises:
            EngineError: The engine's process died in this moment.
        """
        try:
            return await _in_daemon_thread(self._engine.stats)
        except LocalRuntimeError as error:
            _raise_mapped(error)

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        """Exact length of the rendered prompt; None before the model is loaded, and when the engine is too busy."""
        if not self.ready:
            return None
        messages, variables = engine_messages(request), request.chat_template_kwargs
        tools = [] if request.tool_choice == "none" else engine_tools(request)
        try:
            return await _in_daemon_thread(
                lambda: self._engine.count_prompt_tokens(messages, variables, tools, timeout_s=2.0)
            )
        except LocalRuntimeError:
            return None

    async def save_state(self, path: str, request: ChatRequest) -> StateKept:
        """Write what all conversations that begin with the request's messages have in common into a file.

        Raises:
            BadRequest: The file cannot be written, or there is nothing to save.
            ModelError: The model cannot be loaded.
            EngineError: The engine's process died, or has no room for it.
        """
        messages, variables, tools = engine_messages(request), request.chat_template_kwargs, engine_tools(request)
        await self.start()
        try:
            return await _in_daemon_thread(lambda: self._engine.save_state(path, messages, variables, tools))
        except LocalRuntimeError as error:
            _raise_mapped(error)

    async def restore_state(self, path: str) -> StateKept:
        """Read such a file, for requests that begin like it.

        Raises:
            BadRequest: The file is missing, damaged, or not of this model as it is loaded now.
            ModelError: The model cannot be loaded.
            EngineError: The engine's process died, or has no room for it.
        """
        await self.start()
        try:
            return await _in_daemon_thread(lambda: self._engine.restore_state(path))
        except LocalRuntimeError as error:
            _raise_mapped(error)

    async def stream(self, call: BackendCall) -> AsyncGenerator[BackendEvent, None]:
        """Generate on the device; closing the iterator cancels, and frees the pages of all sequences."""
        from local_runtime.events import Failed, TextDelta

        call.ledger.tries += 1
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

        def receiver(choice: int) -> Callable[[Event], None]:
            def receive(event: Event) -> None:
                # The loop may be gone when the last event of a cancelled answer comes.
                # The event is in a closure because asyncio's debug mode logs the arguments of callbacks.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(lambda: events.put_nowait((choice, event)))

            return receive

        count = call.request.n
        answers = LocalAnswers(count, wants_prompt_logprobs=call.request.prompt_logprobs is not None)
        under_way: dict[int, Handle] = {}
        began_s = loop.time()
        self._open += count
        try:
            for choice, request in enumerate(one_for_each_answer(engine_request(call), count)):
                under_way[choice] = self._engine.submit(request, receiver(choice))
            while True:
                choice, event = await events.get()
                if isinstance(event, TextDelta):
                    piece = answers.piece(choice, event)  # text may be held back over several tokens
                    if piece is not None:
                        yield piece
                    continue
                del under_way[choice]
                if isinstance(event, Failed):
                    _raise_mapped(event.error)
                if event.reason == "cancelled":
                    raise Cancelled("The answer was stopped by the engine.", "Ask again.")
                self._note_service(max(0.0, loop.time() - began_s - event.timings.queue_s))
                rest = answers.rest(choice)
                if rest is not None:
                    yield rest
                answers.ended(choice, event, event.reason)
                if answers.whole:
                    yield answers.finished(self.model)
                    return
        except LocalRuntimeError as error:
            _raise_mapped(error)
        finally:
            self._open -= count
            for handle in under_way.values():
                handle.cancel()

    async def aclose(self) -> None:
        """End the engine's process."""
        await _in_daemon_thread(self._engine.close)


def _raise_mapped(error: LocalRuntimeError) -> NoReturn:
    raise from_local_error(error) from None


def _in_daemon_thread(function: Callable[[], _T]) -> asyncio.Future[_T]:
    """Run something that blocks beside the event loop.

    Not in the loop's executor: the interpreter waits for that one's threads when it exits, and loading a model may take
    half a minute.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: object) -> None:
        if not future.done():
            set_it(value)

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            outcome: tuple[Callable[[Any], None], object] = (future.set_exception, error)
        else:
            outcome = (future.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is whoever waited
            loop.call_soon_threadsafe(settle, *outcome)

    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    threading.Thread(target=work, name="hybridllm-blocking", daemon=True).start()
    return future
