"""The client, awaited. It measures the facts, asks for the decision, and sends the request on its way."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack
from weakref import WeakKeyDictionary

from hybridllm.assessment import Assessment, Labelled, label_request
from hybridllm.async_completions import AsyncChat
from hybridllm.boundary import content_free, without_content
from hybridllm.client_arguments import bytes_of, check_arguments, conversation_name, takes_long, watched
from hybridllm.connectivity import Connectivity
from hybridllm.errors import BadRequest, Cancelled, HybridLLMError, PrivacyViolation
from hybridllm.explanation import Explanation
from hybridllm.health import Health
from hybridllm.hedging import HedgeBudget
from hybridllm.label_memory import LabelMemory
from hybridllm.labels import call_label, checked_tags, remember_answer, remember_labelled
from hybridllm.policy import load_policy
from hybridllm.policy_file import PolicyFile
from hybridllm.policy_in_force import PolicyInForce
from hybridllm.records import Records
from hybridllm.router import Ended, RequestRun
from hybridllm.signals import REMOTE, MeasuredByProgram, Signals
from hybridllm.types.chat_request import ChatRequest
from hybridllm.types.message_shape import did_you_mean
from policies import LOCAL, Policy, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from hybridllm.backends.base import Backend
    from hybridllm.backends.local import LocalBackend
    from hybridllm.conversation import AsyncConversation, Dialogue
    from hybridllm.health import Observer
    from hybridllm.permits import Permit
    from hybridllm.policy_watch import PolicyWatch
    from hybridllm.remote import Remote
    from hybridllm.remote_watch import RemoteWatch
    from hybridllm.request_fields import RequestFields
    from local_runtime.events import EngineStats, StateKept
    from local_runtime.options import ModelInfo, Progress
    from policies import Facts

__all__ = ["AsyncHybridClient"]

_PROBE_TIMEOUT_S = 2.0
_PROBE_WAIT_S = 0.25
_LONGEST_DEADLINE_S = 366 * 86400
_ANY_MODEL = "hybridllm"
_log = logging.getLogger("hybridllm")


class AsyncHybridClient:
    """One chat interface over the model on this device and an optional remote; a policy decides between them.

    Use it in one event loop, as an async context manager or with ``await client.close()``; one that was used and is dropped
    without being closed ends its engine, and warns with ``ResourceWarning``.

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
        from hybridllm.permits import PermitOffice

        self._in_force = PolicyInForce(load_policy(policy))
        check_arguments(
            remote,
            self._in_force.current,
            policy_given=policy is not None,
            privacy_floor=privacy_floor,
            label_memory_s=label_memory_s,
        )
        if local is None:
            from hybridllm.backends.local import LocalBackend

            local = LocalBackend(
                str(model),
                quant=quant,
                target=target,
                threads=threads,
                context_tokens=context_tokens,
                max_sequences=max_sequences,
                max_waiting=max_waiting,
                memory_mib=memory_mib,
                cache_dir=None if cache_dir is None else str(cache_dir),
                saved_state=None if saved_state is None else str(saved_state),
                on_progress=on_progress,
                in_process=in_process,
            )
        self._records = Records(audit, decision_log, remote)
        self._remote = remote
        self._offline = offline
        self._floor = privacy_floor
        self._office = PermitOffice(self._in_force)
        self._memory = LabelMemory(max_age_s=label_memory_s)
        self._connectivity = Connectivity(offline=offline)
        self._backends: dict[str, Backend] = {LOCAL: local}
        self._model_asked_for = local.model  # once it is loaded, the backend calls it by its name
        if remote is not None and not offline:
            from hybridllm.egress import EgressGate

            self._gate = EgressGate(remote, self._in_force, self._office, self._records.note_egress)
        self._policy_file: PolicyFile | None = None
        if isinstance(policy, str | Path):
            self._policy_file = PolicyFile(policy, self._in_force, privacy_floor=privacy_floor)
        self._policy_watch: PolicyWatch | None = None
        if watch_policy:
            self._policy_watch = watched(policy, self._in_force, privacy_floor)
            self._policy_watch.start()
        self._signals = Signals(local, remote, self._connectivity, offline=offline, measured_by_program=facts)
        self._signals.refresh()
        self._remote_watch: RemoteWatch | None = None
        if remote is not None and not offline:
            self._remote_watch = self._reached(remote)
        self._observers = tuple(observers)
        self._hedges = HedgeBudget()
        self._names_key = secrets.token_bytes(16)
        self._open: WeakKeyDictionary[RequestRun, Dialogue | None] = WeakKeyDictionary()
        self._probing: asyncio.Task[None] | None = None
        self._used = False
        self._closed = False

    def _reached(self, remote: Remote) -> RemoteWatch:
        """Make the remote a place that can be asked."""
        from hybridllm.backends.remote import RemoteBackend
        from hybridllm.breaker import CircuitBreaker
        from hybridllm.remote_watch import RemoteWatch

        in_force = self._in_force
        breaker = CircuitBreaker(lambda: in_force.current.breaker)
        backend = RemoteBackend(
            remote, self._gate, self._connectivity, breaker=breaker, latency=self._signals.latency[REMOTE]
        )
        self._backends[REMOTE] = backend
        return RemoteWatch(
            self._gate.probe,
            self._connectivity,
            breaker,
            idle=lambda: backend.idle,
            may_probe=lambda: remote.zone in in_force.current.zones,
        )

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
    def chat(self) -> AsyncChat:
        """Where ``completions.create`` is."""
        # Made anew each time: kept here, it would tie a knot that only the cycle collector could undo.
        return AsyncChat(self)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._in_force.current

    @property
    def policy_problem(self) -> str:
        """Why nothing may leave the device, where the policy's file became one that cannot be used; else empty."""
        return self._in_force.problem

    @property
    def remote(self) -> Remote | None:
        """The remote, if one is configured."""
        return self._remote

    @property
    def offline(self) -> bool:
        """Whether the remote must not be contacted."""
        return self._offline

    @property
    def connectivity(self) -> str | None:
        """What is known about the way to the remote: ``online``, ``degraded``, ``captive``, ``offline`` or None."""
        return self._connectivity.state

    @property
    def model_info(self) -> ModelInfo | None:
        """The model that the engine has loaded; None before, and with a place of your own."""
        from hybridllm.backends.local import LocalBackend

        local = self._backends[LOCAL]
        return local.info if isinstance(local, LocalBackend) else None

    @content_free
    def conversation(self, *, system: str | None = None, privacy_floor: str | None = None) -> AsyncConversation:
        """A dialogue that keeps its messages and the most sensitive label that an answer in it had.

        Args:
            system: A system message that stands first.
            privacy_floor: A label that every request of it has at least.

        Raises:
            BadRequest: An argument is not usable.
        """
        from hybridllm.conversation import AsyncConversation, Dialogue

        return AsyncConversation(self, Dialogue.begun(self.policy, system, privacy_floor))

    @content_free
    async def load(self) -> ModelInfo | None:
        """Load the device's model now and not with the first request.

        Raises:
            ModelError: It cannot be loaded.
            EngineError: The engine's process died.
        """
        self._check_open()
        await self._backends[LOCAL].start()
        return self.model_info

    @content_free
    async def save_state(
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
        fields = {"tools": tools, "chat_template_kwargs": chat_template_kwargs}
        request = ChatRequest.parse(messages, **{name: value for name, value in fields.items() if value is not None})
        return await self._engine_of_its_own().save_state(str(path), request)

    @content_free
    async def restore_state(self, path: str | Path) -> StateKept:
        """Read a file of ``save_state``; also in every further process of the engine.

        Raises:
            BadRequest: The file is missing, damaged, or not of this model as it is loaded now.
            ModelError: The model cannot be loaded.
            EngineError: The engine's process died, or has no room for it.
        """
        return await self._engine_of_its_own().restore_state(str(path))

    def _engine_of_its_own(self) -> LocalBackend:
        from hybridllm.backends.local import LocalBackend

        self._check_open()
        local = self._backends[LOCAL]
        if not isinstance(local, LocalBackend):
            raise BadRequest("local is a place of your own, which keeps no states.", "Leave local out.", field="local")
        return local

    @content_free
    async def engine_stats(self) -> EngineStats | None:
        """The engine at this moment; None with a place of your own. Starts nothing."""
        from hybridllm.backends.local import LocalBackend

        local = self._backends[LOCAL]
        return await local.stats() if isinstance(local, LocalBackend) else None

    @content_free
    async def health(self) -> Health:
        """What the client can do at this moment. Starts nothing, and asks nobody elsewhere."""
        from hybridllm.memory import system_headroom_mib

        local = self._backends[LOCAL]
        problem, engine = "", None
        try:
            engine = await self.engine_stats()
        except HybridLLMError as error:
            problem = error.message
        if engine is not None and engine.state == "failed":
            problem = "The engine failed several times in a row and rests for a while."
        remote = self._backends.get(REMOTE)
        return Health(
            device_ready=local.ready and not self._closed,
            device_problem="The client is closed." if self._closed else problem,
            engine=engine,
            connectivity=self.connectivity,
            breaker=None if remote is None else remote.breaker,
            memory_headroom_mib=system_headroom_mib(),
            policy=self.policy.name,
            policy_hash=self.policy.hash,
            policy_problem=self.policy_problem,
            reloads_ok=self._in_force.replaced,
            reloads_failed=self._in_force.refused,
            requests_open=sum(not run.over for run in list(self._open)),
        )

    @content_free
    async def reload_policy(self) -> None:
        """Read the policy's file again. One that cannot be used lets nothing leave: see ``policy_problem``.

        Raises:
            BadRequest: The policy did not come from a file or a preset.
        """
        if self._policy_file is None:
            raise BadRequest("The client's policy did not come from a file.", "Give policy a path.", field="policy")
        await asyncio.to_thread(self._policy_file.read_again)

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
        request, tag_set = self._parsed(messages, tags, deadline_s, fields)
        self._catch_up()
        policy = self._in_force.current
        labelled = self._labelled(policy, request, privacy, tag_set, None)
        facts = self._signals.facts(labelled, deadline_s=deadline_s)
        decision = decide(policy, facts)
        return Explanation(decision, decision.trace, facts, labelled.joined.label, labelled.joined.sources)

    @content_free
    async def close(self) -> None:
        """End the engine and close all connections; does nothing the second time."""
        if self._closed:
            return
        self._closed = True
        if self._policy_watch is not None:
            await asyncio.to_thread(self._policy_watch.stop)
        for run in list(self._open):
            run.abort(Cancelled("The client was closed before the answer was whole.", "Make a new one."))
        if self._probing is not None:
            self._probing.cancel()
        if self._remote_watch is not None:
            await self._remote_watch.aclose()
        for backend in self._backends.values():
            await backend.aclose()
        await self._records.aclose()

    async def __aenter__(self) -> Self:
        return self

    @content_free
    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_used", False) and not self._closed:
            warnings.warn("A client was dropped without being closed.", ResourceWarning, stacklevel=2, source=self)

    async def start_run(
        self,
        messages: object,
        privacy: str | None,
        tags: Collection[str],
        deadline_s: float | None,
        fields: Any,
        *,
        dialogue: Dialogue | None = None,
        may_restart: bool = True,
    ) -> tuple[ChatRequest, RequestRun]:
        """Label a request and decide where it goes; nobody has been asked yet."""
        began_s = time.monotonic()
        self._check_open()
        told = tuple(map(self._told_of_beginning, self._observers))
        request, tag_set = self._parsed(messages, tags, deadline_s, fields)
        policy = self._in_force.current  # this request's policy, whatever comes into force from now on
        self._catch_up()
        floor = None if dialogue is None else dialogue.floor
        if takes_long(policy, request):
            labelled = await asyncio.to_thread(self._labelled, policy, request, privacy, tag_set, floor)
        else:
            labelled = self._labelled(policy, request, privacy, tag_set, floor)
        self._remember_messages(labelled)
        facts = await self._fresh_facts(labelled, deadline_s)
        run = RequestRun(
            Assessment(labelled, facts, decide(policy, facts)),
            self._backends,
            self._signals.latency,
            self._authorize,
            on_end=partial(self._note_end, dialogue),
            began_s=began_s,
            deadline_s=deadline_s,
            limits=policy.limits if self._remote is None else self._remote.limits_under(policy),
            retries=policy.retries if self._remote is None else self._remote.retries_under(policy),
            hedges=self._hedges,
            device_latency=self._signals.device_latency,
            tokens_from_observers=told,
            may_restart=may_restart,
            conversation=conversation_name(self._names_key, request, dialogue),
        )
        self._open[run] = dialogue
        if self._remote_watch is not None:
            self._remote_watch.start()
        return request, run

    def _labelled(
        self, policy: Policy, request: ChatRequest, privacy: str | None, tags: frozenset[str], floor: str | None
    ) -> Labelled:
        return label_request(
            policy,
            request,
            privacy=privacy,
            tags=tags,
            floors={"client": self._floor, "conversation": floor},
            memory=self._memory,
        )

    def _remember_messages(self, labelled: Labelled) -> None:
        """What is labelled in a request is sensitive from now on, whatever becomes of the request."""
        said_for_all = call_label(labelled.policy, labelled.privacy, labelled.tags)
        remember_labelled(self._memory, labelled.policy, labelled.request, said_for_all)

    def _catch_up(self) -> None:
        """Remember what was given out of answers that are not whole yet: it could be in the next request already."""
        for run, dialogue in list(self._open.items()):
            if run.over:
                self._open.pop(run, None)
                continue
            texts, label = run.given_out()
            if texts:
                labels = run.policy.labels
                remember_answer(self._memory, texts, label, labels)
                if dialogue is not None:
                    dialogue.floor = labels.join(dialogue.floor or labels.order[0], label)

    @staticmethod
    def _told_of_beginning(observer: Observer) -> object:
        """Tell an observer that wants to know that a request came in; what it returns comes back to it at the end."""
        began = getattr(observer, "began", None)
        try:
            return None if began is None else began()
        except Exception as error:  # noqa: BLE001 - somebody else's code must not cost an answer
            _log.error("An observer failed: %s", without_content(error))
            return None

    def _note_end(self, dialogue: Dialogue | None, ended: Ended) -> None:
        """Remember how sensitive an answer is, so that its label comes back with it, and write the request down."""
        labelled = ended.assessment.labelled
        remember_answer(self._memory, ended.texts(), ended.label, labelled.policy.labels)
        if dialogue is not None:
            dialogue.add(labelled.request, ended)
        self._records.note_end(ended)
        for observer in self._observers:
            try:
                observer(ended)
            except Exception as error:  # noqa: BLE001 - somebody else's code, and the answer was given already
                _log.error("An observer failed: %s", without_content(error))

    def _authorize(self, *, assessment: Assessment, place: str, request_id: str, attempt: int, body: bytes) -> Permit:
        decision = assessment.decision
        if self._remote is None:
            raise PrivacyViolation("Nothing was sent: no remote is configured.", label=decision.label, place=place)
        return self._office.mint(
            assessment.labelled.policy,
            decision,
            self._remote,
            place,
            request_id=request_id,
            attempt=attempt,
            body=body,
            still_allowed=partial(assessment.check_still_allowed, place=place),
        )

    def _parsed(
        self, messages: object, tags: object, deadline_s: object, fields: Any
    ) -> tuple[ChatRequest, frozenset[str]]:
        given = dict(fields)
        self._check_model(given.pop("model", None))
        if deadline_s is not None:
            right = isinstance(deadline_s, int | float) and not isinstance(deadline_s, bool)
            if not right or not 0 < deadline_s <= _LONGEST_DEADLINE_S:  # type: ignore[operator]
                raise BadRequest("deadline_s is not a number of seconds above 0, at most a year.", field="deadline_s")
        return ChatRequest.parse(messages, **given), checked_tags(tags)

    def _check_model(self, model: object) -> None:
        """A request may name the model of either place, but the policy decides who answers."""
        if model is None:
            return
        known = [_ANY_MODEL, self._backends[LOCAL].model, self._model_asked_for]
        if self._remote is not None:
            known.append(self._remote.model)
        if model not in known:
            raise BadRequest(
                "model is not one that this client has.",
                did_you_mean(model, known) or "Leave it out: the policy decides which place answers.",
                field="model",
            )

    async def _fresh_facts(self, labelled: Labelled, deadline_s: float | None) -> Facts:
        self._signals.refresh()
        await self._probe_if_useful(labelled)
        request = labelled.request
        local = self._backends[LOCAL]
        limit = local.context_tokens
        count = None
        # An exact count is a question to the engine, so it is asked only when the prompt is not obviously short: no token
        # is shorter than a byte.
        if limit is not None and local.ready and bytes_of(request) + (request.token_limit or 1) > limit:
            count = await local.count_prompt_tokens(request)
        return self._signals.facts(labelled, deadline_s=deadline_s, local_prompt_tokens=count)

    async def _probe_if_useful(self, labelled: Labelled) -> None:
        """Look whether the remote is there, if it may see this request at all and nothing recent says so."""
        remote = self._remote
        if remote is None or REMOTE not in self._backends or not self._connectivity.needs_probe:
            return
        if not labelled.policy.may_see(remote.zone, labelled.joined.label):
            return
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe(), name="hybridllm-probe")
        if self._connectivity.state != "online":
            await asyncio.wait([self._probing], timeout=_PROBE_WAIT_S)

    async def _probe(self) -> None:
        self._connectivity.note_probe(await self._gate.probe(_PROBE_TIMEOUT_S))

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled("The client is closed.", "Make a new one.")
        self._used = True
