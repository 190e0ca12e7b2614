"""A worker that dies, stops or hangs where it is told to, and says what it was asked; as a script, it is the process.

It speaks the protocol with a thread for pings like the real one, but has no engine: the tokens of an answer follow from its
prompt, and it refuses to go on from tokens that are not its own. ``LoadOptions.model`` is a :class:`Plan` as JSON: what each
life of the worker does, one after another; the last one's is done by all further ones too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from local_runtime.child_process import die_with_parent
from local_runtime.errors import CheckpointError, InvalidRequestError, OverloadedError
from local_runtime.events import EngineStats, Timings, Usage
from local_runtime.options import GenerateRequest, LoadOptions, ModelInfo, Progress
from local_runtime.protocol import (
    PROTOCOL_VERSION,
    Cancel,
    Command,
    CountPromptTokens,
    DeltaReply,
    FailedReply,
    FinishedReply,
    Generate,
    Hello,
    HelloReply,
    Load,
    Ping,
    PongReply,
    ProgressReply,
    PromptTokensReply,
    ReadyReply,
    Reply,
    RestoreState,
    Shutdown,
    StateReply,
    Stats,
    StatsReply,
    decode_command,
    encode,
    read_frame,
    write_frame,
)

COMMAND = [sys.executable, str(Path(__file__))]


@dataclass
class Life:
    """What one worker does.

    Attributes:
        at: Where it does it: ``start`` (before it says hello), ``load``, ``ready`` (idle, when the model is loaded), ``request``
            (when one arrives), ``count`` (a question), ``restore`` and ``restored`` (before and after a state is), ``token``
            (after ``tokens`` of this life), ``frame`` (inside the delta
            after these), ``flush`` (between the last token and the rest of the text), ``end`` (between the last delta and
            ``finished``), or nowhere.
        does: ``kill``, ``exit``, ``abort``, ``stop`` (SIGSTOP), ``stick`` (a step that never ends), ``mute`` (nothing is answered
            any more, and nothing computed), ``spin`` (the same, but it computes), ``refuse`` (a load error), ``babble`` (a frame
            that makes no sense).
        word: Only for requests with this word in their first message.
        tokens: See ``token``.
        load_s: How long loading takes.
        step_s: How long a token takes.
        full: Refuse a request while another one is under way, as if there were no room.
        last_words: What it writes to standard error first.
    """

    at: str = ""
    does: str = "kill"
    word: str = ""
    tokens: int = 0
    load_s: float = 0.0
    step_s: float = 0.0
    full: bool = False
    last_words: str = ""


@dataclass
class Plan:
    """What the lives of a worker are.

    Attributes:
        folder: Where they leave what they were asked.
        lives: One after another.
        without_ids: Deltas carry no tokens, as from an engine that can't go on.
    """

    folder: str
    lives: list[Life] = field(default_factory=lambda: [Life()])
    without_ids: bool = False

    def options(self) -> LoadOptions:
        return LoadOptions(json.dumps(dataclasses.asdict(self)))

    def seen(self) -> list[list[dict[str, Any]]]:
        """What each life was asked: ``number``, ``prompt`` and how many tokens had been said (``begun``)."""
        files = sorted(Path(self.folder).glob("life-*"), key=lambda path: int(path.name[5:]))
        return [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in files]


def tokens_of(prompt: str, count: int) -> list[int]:
    """The first tokens of an answer."""
    seed = sum(prompt.encode())
    return [(seed + 37 * place) % 9973 for place in range(count)]


def text_of(tokens: Sequence[int]) -> str:
    return "".join(f"{token} " for token in tokens)


def whole_text(prompt: str, count: int) -> str:
    """The whole text, with the rest that is held back until the end."""
    return text_of(tokens_of(prompt, count)) + "."


class DyingWorker:
    def __init__(self, commands: BinaryIO, replies: BinaryIO) -> None:
        self._commands, self._replies = commands, replies
        self._write_lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._active: dict[int, tuple[GenerateRequest, int]] = {}
        self._life = Life()
        self._said = 0
        self._beat = 0
        self._busy_since: float | None = None
        self._mute = False
        self._log: Any = None
        self._plan = Plan("")

    def send(self, reply: Reply) -> None:
        with self._write_lock:
            write_frame(self._replies, encode(reply))

    def read(self) -> None:
        while (payload := read_frame(self._commands)) is not None:
            command = decode_command(payload)
            if self._mute:
                continue
            if isinstance(command, Ping):
                busy_s = 0.0 if self._busy_since is None else time.monotonic() - self._busy_since
                self.send(PongReply(command.id, self._beat, busy_s))
            elif isinstance(command, Shutdown):
                os._exit(0)
            else:
                self._inbox.put(command)
        os._exit(0)

    def reached(self, place: str, prompt: str = "") -> None:
        """Do what this life does, if it does it here."""
        life = self._life
        if life.at != place or life.word not in prompt:
            return
        if life.last_words:
            print(life.last_words, file=sys.stderr, flush=True)
        match life.does:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(7)
            case "abort":
                os.abort()
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "stick":
                time.sleep(600)
            case "mute":
                self._mute = True
                time.sleep(600)
            case "spin":
                self._mute = True
                while True:
                    pass
            case "babble":
                with self._write_lock:
                    write_frame(self._replies, b"babble")
                time.sleep(600)

    def run(self) -> None:
        while True:
            if self._active:
                self._begin()
                self._step()
            try:
                self._busy_since = self._busy_since if self._active else None
                command = self._inbox.get(block=not self._active)
            except queue.Empty:
                continue
            self._begin()
            self._handle(command)

    def _begin(self) -> None:
        self._beat += 1
        self._busy_since = time.monotonic()

    def _handle(self, command: Command) -> None:
        match command:
            case Hello():
                pass  # Said when the plan is known, so that a life can end before.
            case Load(id=number, options=options):
                self._load(number, options)
            case Generate(id=number, request=request):
                prompt = str(request.messages[0]["content"])
                begun = request.answer_begun_ids or []
                self._note(number=number, prompt=prompt, begun=len(begun))
                if begun != tokens_of(prompt, len(begun)):
                    self.send(FailedReply.of(number, InvalidRequestError("These tokens are not mine.")))
                    return
                if self._life.full and self._active:
                    self.send(FailedReply.of(number, OverloadedError("There is no room.")))
                    return
                self._active[number] = (request, len(begun))
                self.reached("request", prompt)
            case Cancel(id=number):
                if number in self._active:
                    _, said = self._active.pop(number)
                    self.send(FinishedReply(number, "cancelled", Usage(1, said), Timings()))
            case CountPromptTokens(id=number, messages=messages):
                self._note(number=number, prompt=messages[0]["content"], begun=-1)
                self.reached("count", str(messages[0]["content"]))
                self.send(PromptTokensReply(number, len(str(messages[0]["content"]))))
            case RestoreState(id=number, path=path):
                self._note(number=number, prompt=path, begun=-1)
                self.reached("restore", path)
                self.send(StateReply(number, 16, 1, 0.0))
                self.reached("restored", path)
            case Stats(id=number):
                self.send(StatsReply(number, EngineStats("ready", running=len(self._active))))

    def _load(self, number: int, options: LoadOptions) -> None:
        fields = json.loads(options.model)
        self._plan = Plan(fields["folder"], [Life(**life) for life in fields["lives"]], fields["without_ids"])
        count = 0
        while self._log is None:
            try:
                self._log = (Path(self._plan.folder) / f"life-{count}").open("x", encoding="utf-8")
            except FileExistsError:
                count += 1
        self._life = self._plan.lives[min(count, len(self._plan.lives) - 1)]
        self.reached("start")
        self.send(HelloReply(PROTOCOL_VERSION, os.getpid()))
        self.send(ProgressReply(number, Progress("load", None, str(count))))
        time.sleep(self._life.load_s)
        if self._life.at == "load" and self._life.does == "refuse":
            self.send(FailedReply.of(number, CheckpointError("The weights are torn.", "Fetch them again.")))
            os._exit(0)
        self.reached("load")
        info = ModelInfo(
            name="dying", path="", model_type="", quant="", target="", device="", context_tokens=1000, vocab_size=9973,
            parameters=0, weights_mib=0.0, kv_mib=0.0, load_s=0.0, compiled=False,
        )  # fmt: skip
        self.send(ReadyReply(number, info))
        self.reached("ready")

    def _note(self, **fields: object) -> None:
        self._log.write(json.dumps(fields) + "\n")
        self._log.flush()

    def _step(self) -> None:
        for number, (request, said) in list(self._active.items()):
            prompt = str(request.messages[0]["content"])
            total = request.max_tokens or 10**6
            if said < total:
                time.sleep(self._life.step_s)
                token = tokens_of(prompt, said + 1)[-1]
                if self._life.word in prompt:
                    if self._said == self._life.tokens:
                        self.reached("token", prompt)
                    self._said += 1
                self._delta(number, prompt, text_of([token]), [token])
                self._active[number] = (request, said + 1)
            if said + 1 >= total:
                self.reached("flush", prompt)
                self._delta(number, prompt, ".", [])
                self.reached("end", prompt)
                del self._active[number]
                self.send(FinishedReply(number, "length", Usage(len(prompt), total), Timings(0.01, 0.02, 0.03, 0.03)))

    def _delta(self, number: int, prompt: str, text: str, ids: list[int]) -> None:
        reply = DeltaReply(number, text, len(ids), [] if self._plan.without_ids else ids)
        life = self._life
        if life.at == "frame" and life.word in prompt and self._said > life.tokens:
            payload = encode(reply)
            with self._write_lock:
                self._replies.write(len(payload).to_bytes(4, "little") + payload[: len(payload) // 2])
                self._replies.flush()
            self.reached("frame", prompt)
        self.send(reply)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    worker = DyingWorker(sys.stdin.buffer, sys.stdout.buffer)
    threading.Thread(target=worker.read, daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main()
