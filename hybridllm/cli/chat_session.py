"""Asking on behalf of a person: one client, one conversation, answers that stream and can be stopped."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from hybridllm.cli.answer_view import answer_view
from hybridllm.cli.conversation import Conversation
from hybridllm.cli.decision_report import explanation_lines
from hybridllm.cli.engine_options import DEFAULT_MODEL
from hybridllm.cli.progress import LoadProgress
from hybridllm.cli.route_report import place_words
from hybridllm.errors import CannotServe, HybridLLMError

if TYPE_CHECKING:
    from pathlib import Path

    from hybridllm import HybridClient
    from hybridllm.cli.answer_view import AnswerView
    from hybridllm.cli.client_options import ClientOptions, OpenClient
    from hybridllm.cli.terminal import Terminal
    from hybridllm.types.completion_usage import CompletionUsage
    from hybridllm.types.route import Route

__all__ = ["Answer", "AskOptions", "ChatSession", "ChatStats"]


@dataclass(frozen=True, slots=True)
class AskOptions:
    """What goes with every request; None leaves the client's default.

    Attributes:
        temperature: How freely tokens are drawn; 0 takes the most likely one always.
        max_tokens: The most tokens of one answer.
        seed: Makes the draws reproducible.
        deadline_s: Seconds within which the answer must be whole.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    deadline_s: float | None = None

    def fields(self) -> dict[str, Any]:
        """The request's fields that are given."""
        given = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "deadline_s": self.deadline_s,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(slots=True)
class Answer:
    """What came back for one message.

    Attributes:
        text: The text, up to where it was stopped.
        route: The way it came; None if it was stopped before anybody began to answer.
        finish_reason: As the place gave it; None if the answer was stopped.
        usage: Token counts; None if unknown.
        stopped: True if the person stopped it.
    """

    text: str = field(default="", repr=False)
    route: Route | None = None
    finish_reason: str | None = None
    usage: CompletionUsage | None = None
    stopped: bool = False


@dataclass(slots=True)
class ChatStats:
    """Counts and speeds of one chat.

    Attributes:
        answers: Answers by the place that gave them.
        stopped: Answers that the person stopped.
        prompt_tokens: Prompt tokens of all answers that brought their usage.
        completion_tokens: Completion tokens of the same answers.
        egress_bytes: Bytes that left this device.
        ttft_ms: Milliseconds to the first token, one for each answer.
        tokens_per_s: Tokens per second, one for each answer that had two tokens.
    """

    answers: dict[str, int] = field(default_factory=dict)
    stopped: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    egress_bytes: int = 0
    ttft_ms: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)

    def count(self, answer: Answer) -> None:
        """Take one answer into account."""
        self.stopped += answer.stopped
        if answer.usage is not None:
            self.prompt_tokens += answer.usage.prompt_tokens
            self.completion_tokens += answer.usage.completion_tokens
        route = answer.route
        if route is None:
            return
        self.answers[route.served_by] = self.answers.get(route.served_by, 0) + 1
        self.egress_bytes += route.egress_bytes
        if route.ttft_ms is not None:
            self.ttft_ms.append(route.ttft_ms)
        if route.tokens_per_s is not None:
            self.tokens_per_s.append(route.tokens_per_s)


class ChatSession:
    """One client and one conversation.

    Args:
        terminal: Where answers and progress are shown.
        open_client: Opens the client.
        client_options: What it is opened from.
        ask_options: What goes with every request.
        conversation: What was said before; also holds the label and the tags.

    Attributes:
        keep_local: True while what is said must stay on this device.
        last_route: The way the last answer came; None before the first one.
    """

    def __init__(
        self,
        terminal: Terminal,
        open_client: OpenClient,
        client_options: ClientOptions,
        ask_options: AskOptions,
        conversation: Conversation,
    ) -> None:
        self.terminal = terminal
        self.client_options = client_options
        self.ask_options = ask_options
        self.conversation = conversation
        self.keep_local = False
        self.last_route: Route | None = None
        self.stats = ChatStats()
        self._open_client = open_client
        self._progress = LoadProgress(terminal)
        self.client: HybridClient = open_client(client_options, self._progress)

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def load(self) -> None:
        """Make the model ready before the first message, so that the first answer is as quick as the others.

        Where a remote is configured, a model that cannot be loaded is only a warning.

        Raises:
            HybridLLMError: The model cannot be loaded, and nobody else could answer.
        """
        try:
            with self._progress:
                self.client.load()
        except HybridLLMError as error:
            if self.client.remote is None or self.client.offline:
                raise
            self.terminal.warn(f"This device cannot answer: {error}")

    def switch_model(self, model: str) -> None:
        """Go on with another model; the old one stays if the new one cannot be opened.

        Raises:
            HybridLLMError: The new model cannot be used.
        """
        options = replace(self.client_options, model=model)
        client = self._open_client(options, self._progress)
        try:
            with self._progress:
                client.load()
        except BaseException:
            client.close()
            raise
        if client.policy.hash != self.client.policy.hash:  # its file was edited: what was said may mean something else
            self._keep_local(self.conversation)
        self.client.close()
        self.client, self.client_options = client, options

    @property
    def stays_local(self) -> bool:
        """True if the next request must not leave this device, now or because of what was said before."""
        return self.keep_local or self.conversation.stays_local

    def labels(self, *, stays_local: bool) -> dict[str, Any]:
        """The request fields that say how sensitive the next request is: never less than an earlier one was."""
        labels, now = self.client.policy.labels, self.conversation
        privacy = labels.top if stays_local else now.privacy
        if not stays_local and now.label is not None:
            given = self._given_label()
            joined = labels.join(given, now.label)  # a label that a new policy does not know counts as its top label
            privacy = privacy if joined == given else joined
        return {"privacy": privacy, "tags": now.tags}

    def _given_label(self) -> str:
        """The label that ``--privacy`` and ``--tag`` give, or a lower one; what else may raise it is not here."""
        labels, now = self.client.policy.labels, self.conversation
        said = [] if now.privacy is None else [now.privacy]
        said += [labels.tags[tag] for tag in now.tags if tag in labels.tags]
        return reduce(labels.join, said, labels.order[0]) if said else labels.unlabeled

    @property
    def model_name(self) -> str:
        """The model on this device."""
        info = self.client.model_info
        return info.name if info is not None else self.client_options.model or DEFAULT_MODEL

    def adopt(self, conversation: Conversation) -> None:
        """Go on with a conversation that was saved earlier.

        Its messages may have been said under another policy, label or tag than this chat's. What those mean is for their
        policy to know, so where they differ, or where nobody wrote them down, the conversation stays on this device.
        """
        now, policy = self.conversation, self.client.policy
        same = (conversation.privacy, conversation.tags, conversation.policy_hash) == (
            now.privacy,
            now.tags,
            policy.hash,
        )
        if conversation.label is not None:
            # Something beyond label and tags raised it, which may not be here: a detector, a floor of the configuration.
            given = self._given_label()
            same = same and policy.labels.join(given, conversation.label) == given
        elif conversation.messages:
            same = False
        if self.keep_local or conversation.kept_local or not same:
            self._keep_local(conversation)
        conversation.privacy, conversation.tags = now.privacy, now.tags
        self.conversation = conversation
        self.last_route = None

    @staticmethod
    def _keep_local(conversation: Conversation) -> None:
        """Keep all that a conversation holds on this device, for good."""
        conversation.kept_local = conversation.kept_local or bool(conversation.messages or conversation.system)
        conversation.system_kept_local = conversation.system is not None

    def set_system(self, text: str | None) -> None:
        """Set the system message; one that is set while everything stays on this device stays for good."""
        stays = text is not None and (self.keep_local or self.conversation.kept_local)
        # In this order, because Ctrl-C may come in between.
        self.conversation.system_kept_local = self.conversation.system_kept_local or stays
        self.conversation.system = text
        self.conversation.system_kept_local = stays

    def save(self, path: Path) -> None:
        """Write the conversation with what it needs to keep its label when it is loaded.

        Raises:
            ConversationFileError: The file cannot be written.
        """
        self.conversation.policy_hash = self.client.policy.hash
        if self.keep_local:
            self.conversation.kept_local = True
        self.conversation.save(path)

    def start_anew(self) -> None:
        """Forget what was said; the system message, the label and the tags stay."""
        now = self.conversation
        self.conversation = Conversation(
            system=now.system, privacy=now.privacy, tags=now.tags, system_kept_local=now.system_kept_local
        )
        self.last_route = None

    def explain(self, text: str, *, kept_local: bool = False) -> list[str]:
        """Where the next message would go, line by line; asks nobody.

        With ``kept_local`` the text holds something that must stay on this device.

        Raises:
            HybridLLMError: The request's labels are not the policy's.
        """
        # Without a message yet, any will do: it is not sent, and labels come from the options and the conversation.
        labels = self.labels(stays_local=self.stays_local or kept_local)
        explanation = self.client.explain(messages=self.conversation.request(text or "?"), **labels)
        return explanation_lines(explanation)

    def engine_lines(self) -> list[str]:
        """The engine at this moment, line by line; nothing where there is no engine of ours."""
        stats = self.client.engine_stats()
        if stats is None:
            return []
        if stats.state != "ready":
            return [f"Engine:         {stats.state}"]
        used = stats.pages_total - stats.pages_free
        return [
            f"Engine memory:  {stats.rss_mib:.0f} MiB, at most {stats.peak_rss_mib:.0f} MiB",
            f"KV cache:       {used} of {stats.pages_total} pages of {stats.page_tokens} tokens",
        ]

    def ask(self, text: str, *, kept_local: bool = False) -> Answer:
        """Send a message, show its answer as it comes, and remember both.

        With ``kept_local`` the text holds something that must stay on this device.

        Ctrl-C stops the answer; what had come until then is remembered. An error leaves the conversation as it was.

        Raises:
            HybridLLMError: Nobody could answer, or the request is not allowed.
        """
        stays_local = self.stays_local or kept_local
        answer = Answer()
        view = answer_view(self.terminal)
        try:
            with self._progress:
                self._stream(text, answer, view, self.labels(stays_local=stays_local))
        except KeyboardInterrupt:
            answer.stopped = True
        except HybridLLMError as error:
            self.stats.egress_bytes += _egress_bytes(answer, error)
            self.last_route = answer.route or self.last_route
            raise
        finally:
            view.close()
        if answer.route is not None:
            self.last_route = answer.route
        self.stats.count(answer)
        if not answer.stopped or answer.text:
            # First how sensitive it is, because Ctrl-C may come in between.
            self.conversation.kept_local = self.conversation.kept_local or stays_local
            if answer.route is not None:
                before, labels = self.conversation.label, self.client.policy.labels
                self.conversation.label = labels.join(before or labels.order[0], answer.route.label)
            self.conversation.add(text, answer.text)
        return answer

    def _stream(self, text: str, answer: Answer, view: AnswerView, labels: dict[str, Any]) -> None:
        stream = self.client.chat.completions.create(
            messages=self.conversation.request(text),
            stream=True,
            stream_options={"include_usage": True},
            **labels,
            **self.ask_options.fields(),
        )
        with stream:
            try:
                for chunk in stream:
                    self._progress.close()
                    answer.usage = chunk.usage or answer.usage
                    if chunk.handover is not None and chunk.handover.kind == "restart":
                        answer.text = ""
                        view.push(f"\n\n({place_words(chunk.handover.to_place)} begins anew)\n\n")
                    for choice in chunk.choices:
                        answer.finish_reason = choice.finish_reason or answer.finish_reason
                        if choice.delta.reasoning_content:
                            view.think(choice.delta.reasoning_content)
                        if choice.delta.content:
                            answer.text += choice.delta.content
                            view.push(choice.delta.content)
            finally:
                answer.route = stream.route  # before and after: a second Ctrl-C may come in between
                stream.close()
                answer.route = stream.route


def _egress_bytes(answer: Answer, error: HybridLLMError) -> int:
    """What left the device for a request that failed."""
    if answer.route is not None:
        return answer.route.egress_bytes
    return sum(attempt.egress_bytes for attempt in error.attempts) if isinstance(error, CannotServe) else 0
