"""The proof: whatever is said, configured, reloaded or broken, no text arrives at a place that may not see it.

Hypothesis draws policies, labels, histories and faults, and plays them against a real client with a real gate and a real
server on loopback that keeps every byte. Every text has words that occur nowhere else, so each can be recognised in what
arrived. What may arrive is worked out here from scratch, in the words of the documentation, without the code under test:

- a request may leave only if the join of everything that is said about any part of it is not above the zone's ceiling and
  is not the top label, under the policy that it began with and under any that came into force before its bytes left;
- an answer has the label of its request, in whichever form it comes back later; so has a message that was labelled;
- what a detector finds arrives only where its label may, or as a placeholder where a rule says so;
- what the device has said of an answer that broke off arrives only where the whole request may, and what it found out by itself
  only where that may.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from hybridllm import AsyncHybridClient, Remote
from hybridllm.capabilities import CAPABILITIES
from hybridllm.errors import BadRequest, HybridLLMError, PolicyDenied, StreamInterrupted
from hybridllm.testing import ScriptedBackend, ScriptedCall, ScriptedReply
from policies import Policy, parse_policy
from tests.prove.asked import (
    LABELS,
    LONG,
    ORDER,
    TAGS,
    Asked,
    Known,
    Part,
    drawn_loop,
    drawn_request,
    drawn_with,
    labels,
    refused_requests,
)
from tests.prove.canaries import Atom, Aviary
from tests.prove.expectation import Expected, expected, highest, may_see, rank
from tests.prove.fake_cloud import FakeCloud, Plan

__all__ = ["Leak", "Tally", "prove"]

ZONE_CEILINGS = st.sampled_from(ORDER[:3])


parsed = lru_cache(maxsize=512)(parse_policy)
"""Reading YAML takes longer than asking, and policies do not change."""


class Leak(AssertionError):  # noqa: N818 - it is what it says
    """A text arrived that may not arrive."""


@dataclass
class Tally:
    """What was played."""

    cases: int = 0
    """Requests."""

    arrived: int = 0
    """Requests of which something arrived: without these, nothing would be shown."""

    allowed: int = 0
    """Requests that might leave."""

    reloads: int = 0
    """Policies that came into force while a request was under way."""

    hedged: int = 0
    """Requests for which a second place was asked because the first was late."""

    continued: int = 0
    """Answers of the device that broke off and went on at the server."""

    redacted: int = 0
    """Requests that arrived with placeholders."""

    loops: int = 0
    """Requests that arrived with results of tools."""

    tools: int = 0
    """Requests that arrived with tools to call."""

    calls: int = 0
    """Answers that called a tool."""

    pictures: int = 0
    """Requests that arrived with a picture."""

    canaries: int = 0
    """Planted texts."""

    recorded_bytes: int = 0
    """Bytes that arrived."""


# --- what is drawn ---


# What detectors alone found may leave, but only as a placeholder.
REDACTING = (
    f"version: 1\nname: redacting\nlabels: {{order: [{', '.join(ORDER)}], unlabeled: {ORDER[-1]}}}\n"
    f"zones: {{cloud: {ORDER[0]}, site: {ORDER[0]}}}\ndetectors: [{{name: email, label: {ORDER[1]}}}]\n"
    "breaker: {failures: 100, open_s: 0.01}\n"
    "rules:\n  - {name: redacting, when: {detected: email}, route: [remote, local], redact: [email]}\n"
    "default: "
)


@st.composite
def policy_texts(draw: Any) -> str:
    """Policies as people write them: all routes, ceilings, detectors, tags, redactions."""
    tags = {tag: draw(LABELS) for tag in TAGS if draw(st.booleans())}
    detectors = draw(st.sampled_from(["[]", "[email]", "[email, phone]", "[{name: email, label: internal}]"]))
    route = st.sampled_from(["[remote, local]", "[remote, local]", "[remote]", "[local, remote]", "[local]"])
    conditions = st.sampled_from(
        ["{label: public}", "{label: {ge: internal}}", "{tags: staff}", "{local_ready: true}", "{prompt_tokens: {lt: 40}}",
         "{connectivity: offline}", "{memory_headroom_mib: {lt: 1}}"]
    )  # fmt: skip
    rules = [
        f"  - {{name: rule-{index}, when: {draw(conditions)}, route: {draw(route)}}}\n"
        for index in range(draw(st.integers(0, 3)))
    ]
    if "email" in detectors and draw(st.booleans()):
        rules.insert(0, "  - {name: redacting, when: {detected: email}, route: [remote, local], redact: [email]}\n")
    # Nothing is left alone for long here, or little would be tried.
    handling = "breaker: {failures: 100, open_s: 0.01, successes: 1}\nretries: {most: 2, budget: 1}\n"
    handling += draw(st.sampled_from(["", "", "hedge: {after: 0.002, budget: 1}\n"]))
    handling += f"on_interrupt: {draw(st.sampled_from(['continue', 'continue', 'restart', 'error']))}\n"
    return (
        f"version: 1\nname: drawn\nlabels: {{order: [{', '.join(ORDER)}], unlabeled: {draw(LABELS)}, "
        f"tags: {{{', '.join(f'{tag}: {label}' for tag, label in tags.items())}}}}}\n"
        f"zones: {{cloud: {{ceiling: {draw(ZONE_CEILINGS)}}}, site: {{ceiling: {draw(ZONE_CEILINGS)}}}}}\n"
        f"detectors: {detectors}\n"
        + handling
        + ("rules:\n" + "".join(rules) if rules else "")
        + f"default: {draw(route)}\n"
    )


steps = st.lists(
    # 401 less often: a key that was refused is not shown again for a long while.
    st.sampled_from(
        [*["answer", "echo", "call", "cut", "late", "reset", "redirect", "html", "503", "429", "400"] * 4, "401"]
    ),
    min_size=1,
    max_size=3,
)


# --- answers ---


@dataclass
class Answered:
    """What came of a request."""

    message: Any = None
    text: str = ""
    arguments: str = ""
    served_by: str = ""

    @property
    def texts(self) -> list[str]:
        """What it said, and what it called tools with, as JSON and as a program reads it."""
        read = list(json.loads(self.arguments).values()) if self.arguments.endswith("}") else []
        return [text for text in (self.text, self.arguments, *read) if text]


def calling(asked: Asked, text: str) -> ScriptedReply | str:
    """An answer that calls a tool, where there is one."""
    if not asked.tools:
        return text
    return ScriptedReply(tool_calls=[ScriptedCall(asked.tools[0]["function"]["name"], {"text": text})])


# --- the machine ---


def machine_of(tally: Tally, only: str = "") -> type[RuleBasedStateMachine]:
    """A machine that counts into ``tally``, with all its rules or with one of this name."""

    class Machine(RuleBasedStateMachine):
        @initialize(
            seed=st.integers(0, 2**32),
            text=policy_texts(),
            zone=st.sampled_from(["cloud", "site"]),
            floor=st.none() | st.sampled_from(ORDER[1:]),
            continues=st.booleans(),
            able=st.booleans(),
        )
        def begin(self, seed: int, text: str, zone: str, floor: str | None, continues: bool, able: bool) -> None:
            self.runner = asyncio.Runner()
            self.aviary, self.planted = Aviary(seed), 0
            self.known: list[Known] = []
            self.zone, self.floor = zone, floor
            self.cloud = FakeCloud()
            self.replies: list[str | ScriptedReply | BaseException] = []
            self.runner.run(self.open(text, continues, able))

        async def open(self, text: str, continues: bool, able: bool) -> None:
            await self.cloud.start()
            # One that can do everything gets everything; one that is like OpenAI's gets what that would get.
            declared = ({"continue_answer"} if continues else set()) | (
                {*CAPABILITIES, "reasoning_content"} if able else set()
            )
            remote = Remote(
                base_url=self.cloud.base_url, model="m", api_key="sk-key", zone=self.zone, max_retries=2,
                connect_timeout_s=2, first_token_timeout_s=5, gap_timeout_s=5,
                capabilities=declared,
            )  # fmt: skip
            self.client = AsyncHybridClient(
                local=ScriptedBackend(lambda _: self.replies[-1], continues=True, capabilities=CAPABILITIES),
                remote=remote,
                policy=parsed(text),
                privacy_floor=self.floor,
            )
            self.dialogue = self.client.conversation()
            self.dialogue_known: list[Known] = []

        @property
        def in_force(self) -> Any:
            return self.client._in_force

        @rule(text=policy_texts())
        def reload(self, text: str) -> None:
            self.in_force.replace(parsed(text))

        @rule(data=st.data(), plan=steps, text=policy_texts())
        def break_the_policy_and_mend_it(self, data: Any, plan: list[str], text: str) -> None:
            self.in_force.close_remotes("broken")
            self.play(data, drawn_request(data, self.aviary, self.known), plan, False, None, self.floor, closed=True)
            self.in_force.replace(parsed(text))

        @rule(data=st.data(), plan=steps, stream=st.booleans())
        def ask(self, data: Any, plan: list[str], stream: bool) -> None:
            self.play(data, drawn_request(data, self.aviary, self.known), plan, stream, None, self.floor)

        @rule(data=st.data(), plan=steps, stream=st.booleans())
        def ask_in_a_loop_of_tools(self, data: Any, plan: list[str], stream: bool) -> None:
            """Under a policy that lets go what is harmless, so that what goes wrong with a part of it shows."""
            before = self.in_force.current
            self.in_force.replace(parsed(REDACTING + "[remote, local]\n"))
            asked = drawn_loop(data, self.aviary, self.known)
            self.play(data, asked, plan, stream, None, self.floor)
            self.in_force.replace(before)

        @rule(data=st.data(), plan=steps, ceiling=ZONE_CEILINGS, unlabeled=LABELS)
        def ask_a_server_that_is_late(self, data: Any, plan: list[str], ceiling: str, unlabeled: str) -> None:
            """The device is asked too, before the server has answered."""
            before = self.in_force.current
            self.in_force.replace(
                parsed(
                    f"version: 1\nname: hedging\nlabels: {{order: [{', '.join(ORDER)}], unlabeled: {unlabeled}}}\n"
                    f"zones: {{cloud: {ceiling}, site: {ceiling}}}\ndetectors: [{{name: email, label: internal}}]\n"
                    "breaker: {failures: 100, open_s: 0.01}\nhedge: {after: 0.002, budget: 1}\ndefault: [remote, local]\n"
                )
            )
            asked = drawn_request(data, self.aviary, self.known)
            self.play(data, asked, ["late", *plan], True, None, self.floor)
            self.in_force.replace(before)

        @rule(data=st.data(), plan=steps, stream=st.booleans(), label=st.sampled_from(ORDER[:3]))
        def say_it_again_elsewhere(self, data: Any, plan: list[str], stream: bool, label: str) -> None:
            """What was labelled in one part of a request comes back without a label in a part of another one."""
            before = self.in_force.current
            self.in_force.replace(parsed(REDACTING + "[remote, local]\n"))
            atom = self.aviary.breed(LONG)
            first = drawn_with(data, self.aviary, atom.text, (atom,), label)
            local = data.draw(st.sampled_from(["answers", "late", "calls"]))
            self.play(data, first, plan, stream, None, self.floor, local=local)
            which = data.draw(st.integers(1, 3))
            if self.known:
                again = self.known[-min(which, len(self.known))]
                asked = drawn_with(data, self.aviary, again.text, again.atoms, None)
                self.play(data, asked, ["answer"], stream, None, self.floor)
            self.in_force.replace(before)

        @rule(data=st.data(), plan=steps, stream=st.booleans(), text=policy_texts())
        def ask_while_the_policy_changes(self, data: Any, plan: list[str], stream: bool, text: str) -> None:
            """The first try fails in a way that is tried again, and by then another policy is in force."""
            asked = drawn_request(data, self.aviary, self.known)
            self.play(data, asked, ["503", *plan], stream, text, self.floor)

        @rule(data=st.data(), plan=steps, ceiling=ZONE_CEILINGS, label=st.sampled_from(ORDER[:2]))
        def ask_a_device_that_breaks_off(self, data: Any, plan: list[str], ceiling: str, label: str) -> None:
            """The server could go on, if it may see what the device has said until then."""
            before = self.in_force.current
            self.in_force.replace(
                parsed(
                    f"version: 1\nname: device-first\nlabels: {{order: [{', '.join(ORDER)}], unlabeled: secret}}\n"
                    f"zones: {{cloud: {ceiling}, site: {ceiling}}}\ndetectors: [{{name: email, label: internal}}]\n"
                    "breaker: {failures: 100, open_s: 0.01}\ndefault: [local, remote]\n"
                )
            )
            atom = self.aviary.breed(LONG)
            asked = Asked(
                [{"role": "user", "content": atom.text}],
                label,
                parts=[Part(None, "user", atom.text, (atom,))],
                plain=[atom],
            )
            self.play(data, asked, plan, True, None, self.floor, local="breaks off")
            self.in_force.replace(before)

        @rule(data=st.data(), plan=steps, stream=st.booleans())
        def ask_with_an_address(self, data: Any, plan: list[str], stream: bool) -> None:
            """What a detector alone found may leave, but only as a placeholder."""
            before = self.in_force.current
            self.in_force.replace(parsed(REDACTING + "[local]\n"))
            mail = self.aviary.mail()
            text = f"I am {mail.text}, hello"
            asked = Asked([{"role": "user", "content": text}], ORDER[0], parts=[Part(None, "user", text)], mails=[mail])
            self.play(data, asked, plan, stream, None, self.floor)
            self.in_force.replace(before)

        @rule(data=st.data(), plan=steps, stream=st.booleans(), privacy=labels)
        def converse(self, data: Any, plan: list[str], stream: bool, privacy: str | None) -> None:
            atom = self.aviary.breed(LONG)
            asked = Asked(privacy=privacy, plain=[atom])
            for message in self.dialogue.messages:
                asked.parts.append(Part(None, message["role"], message["content"]))
            asked.parts.append(Part(None, "user", atom.text))
            asked.plain += [atom for known in self.dialogue_known for atom in known.atoms]
            floor = highest(self.floor, *(known.label for known in self.dialogue_known))
            self.play(
                data,
                asked,
                plan,
                stream,
                None,
                floor if self.dialogue_known or self.floor else None,
                self.dialogue,
                atom,
            )

        @rule(data=st.data(), stream=st.booleans())
        def ask_with_a_part_that_is_refused(self, data: Any, stream: bool) -> None:
            """Whatever is refused is refused whole: not a byte of it leaves, however harmless its label."""
            tally.cases += 1
            secret = self.aviary.breed(LONG).text
            requests = refused_requests(secret)
            where = data.draw(st.sampled_from(sorted(requests)))
            messages, fields = requests[where]
            self.cloud.begin(Plan())
            error = self.runner.run(self.refused(messages, stream, fields))
            assert secret.split()[0] not in f"{error} {vars(error)}", "an error quotes a text"
            if self.cloud.bytes():
                raise Leak(f"a request with a {where} that was refused arrived in {self.zone}")

        async def refused(self, messages: list[dict[str, Any]], stream: bool, fields: dict[str, Any]) -> BadRequest:
            try:
                await self.client.chat.completions.create(messages=messages, stream=stream, privacy=ORDER[0], **fields)
            except BadRequest as error:
                return error
            raise AssertionError("a part that is not usable was accepted; the proof has to learn what its label is")

        def play(
            self, data: Any, asked: Asked, plan: list[str], stream: bool, reloaded: str | None, floor: str | None,
            dialogue: Any = None, said: Atom | None = None, closed: bool = False, local: str | None = None,
        ) -> None:  # fmt: skip
            tally.cases += 1
            policy = self.in_force.current
            if closed:
                policy = dataclasses.replace(policy, zones={})
            under = [(policy, expected(policy, asked, self.known, floor))]
            here, afar = self.aviary.breed(LONG), self.aviary.breed(LONG)
            if local is None:
                local = data.draw(st.sampled_from(["answers", "answers", "late", "fails", "breaks off", "calls"]))
            finding = self.aviary.mail() if data.draw(st.booleans()) else None
            found_out = here.text if finding is None else f"{finding.text} {here.text}"
            self.replies = [
                {
                    "answers": found_out,
                    "late": ScriptedReply(found_out, first_token_s=0.02),
                    "fails": RuntimeError(here.text),
                    "breaks off": ScriptedReply(found_out, error=RuntimeError("x"), fail_after=3),
                    "calls": calling(asked, found_out),
                }[local]
            ]

            def arrive() -> None:
                if reloaded is not None:
                    tally.reloads += 1
                    new = parsed(reloaded)
                    under.append((new, expected(new, asked, self.known, floor)))
                    self.in_force.replace(new)
                    self.before_reload = self.cloud.bytes()
                    self.cloud.recorded.clear()

            self.before_reload = b""
            self.cloud.begin(Plan(plan, afar.text, arrive))
            answered = self.runner.run(
                self.carry_out(asked, stream, dialogue, said, device_answers=local in ("answers", "late", "calls"))
            )
            tally.canaries += len(set(self.aviary.atoms.values())) - self.planted
            self.planted = len(set(self.aviary.atoms.values()))
            if reloaded is not None and len(under) == 2:
                self.judge(asked, under[:1], self.before_reload, here, finding)
            self.judge(asked, under, self.cloud.bytes(), here, finding)
            self.learn(asked, under[0], answered, here, afar, dialogue, said, finding)

        async def carry_out(
            self, asked: Asked, stream: bool, dialogue: Any, said: Atom | None, *, device_answers: bool
        ) -> Answered:
            got = Answered()
            arguments: dict[str, Any] = {"privacy": asked.privacy, "tags": asked.tags, **asked.fields}
            try:
                if dialogue is not None:
                    assert said is not None
                    answered = await dialogue.create(said.text, stream=stream, privacy=asked.privacy)
                else:
                    answered = await self.client.chat.completions.create(
                        messages=asked.messages, stream=stream, **arguments
                    )
                if stream:
                    async with answered:
                        async for chunk in answered:
                            for choice in chunk.choices:
                                got.text += choice.delta.content or ""
                                for piece in choice.delta.tool_calls or ():
                                    got.arguments += piece.function.arguments or ""
                    got.served_by = answered.route.served_by
                    tally.hedged += any(attempt.why == "hedge" for attempt in answered.route.attempts)
                else:
                    got.message = answered.choices[0].message
                    got.text = got.message.content or ""
                    got.arguments = "".join(call.function.arguments for call in got.message.tool_calls or ())
                    got.served_by = answered.route.served_by
                tally.calls += bool(got.arguments)
            except StreamInterrupted as error:  # somebody had begun, as drawn; what was given out before counts
                self.tells_nothing(error, asked)
            except PolicyDenied as error:
                raise AssertionError("a refusal, where the device could have answered") from error
            except HybridLLMError as error:
                self.tells_nothing(error, asked)
                assert not device_answers, "the device always answers"
            return got

        def tells_nothing(self, error: HybridLLMError, asked: Asked) -> None:
            for atom in (*asked.plain, *asked.mails):
                assert not any(word in f"{error} {error!r} {vars(error)}" for word in atom.words), (
                    "an error quotes a text"
                )

        def judge(
            self, asked: Asked, under: list[tuple[Policy, Expected]], recorded: bytes, here: Atom, finding: Atom | None
        ) -> None:
            tally.recorded_bytes += len(recorded)
            arrived = self.aviary.found_in(recorded)
            for policy, joined in under:
                whole = may_see(policy, self.zone, joined.label)
                redacting = any(rule.redact for rule in policy.rules)
                stripped = redacting and may_see(policy, self.zone, joined.declared)
                if not whole and here in arrived:
                    raise Leak("the device's own answer arrived")
                if finding is not None and finding in arrived:
                    raised = policy.detector_labels.get("email", ORDER[0])
                    if not may_see(policy, self.zone, highest(joined.label, raised)):
                        raise Leak("an address that the device found out by itself arrived")
                if not whole and not stripped and recorded:
                    raise Leak(f"a request of {joined.label} arrived in {self.zone}")
                if not whole and arrived.intersection(asked.mails):
                    raise Leak(f"an address of {joined.label} arrived in {self.zone}")
            for known in self.known:
                for policy, _ in under:
                    if not may_see(policy, self.zone, known.label) and arrived.intersection(known.atoms):
                        raise Leak(f"a text that was {known.label} arrived in {self.zone}")
            if recorded:
                tally.arrived += 1
                tally.continued += b"continue_final_message" in recorded
                tally.redacted += b"[EMAIL_" in recorded
                tally.loops += b'"tool_call_id"' in recorded
                tally.tools += b'"tools":' in recorded
                tally.pictures += b'"image_url"' in recorded
            tally.allowed += all(may_see(policy, self.zone, joined.label) for policy, joined in under)

        def learn(
            self, asked: Asked, first: tuple[Policy, Expected], answered: Answered, here: Atom, afar: Atom,
            dialogue: Any, said: Atom | None, finding: Atom | None,
        ) -> None:  # fmt: skip
            """Which texts have a label from now on."""
            _, joined = first
            message = answered.message
            if message is not None and rank(message.privacy) < rank(
                joined.label if answered.served_by == "local" else joined.declared
            ):
                raise Leak(f"an answer to a request of {joined.label} is labelled {message.privacy}")
            everything = answered.text + answered.arguments
            if everything and answered.served_by:
                echoed = tuple(atom for atom in (*asked.plain, *asked.mails) if atom.text in everything)
                put_back = any(atom in asked.mails for atom in echoed)
                spoke = tuple(one for one in (here, afar, finding) if one is not None and one.words[0] in everything)
                by_device = answered.served_by == "local" or here in spoke or finding in spoke
                label = joined.label if by_device or put_back else joined.declared
                for text in answered.texts:
                    atoms = tuple(atom for atom in (*spoke, *echoed) if atom.words[0] in text)
                    self.known.append(Known(text, label, atoms, is_answer=True, message=message))
                    if dialogue is not None and said is not None:
                        self.dialogue_known += [self.known[-1], Known(said.text, label, (said,), is_answer=False)]
            for part in asked.parts:
                # In parts it is one text for the label memory, and in copies of it another one.
                if part.label is not None and len(part.text) >= 50 and "\n" not in part.text:
                    self.known.append(Known(part.text, part.label, part.atoms, is_answer=False))
            del self.known[:-12], self.dialogue_known[:-20]

        def teardown(self) -> None:
            if hasattr(self, "runner"):
                with contextlib.closing(self.runner):
                    self.runner.run(self.client.close())
                    self.runner.run(self.cloud.stop())

    if only:
        for name, found in list(vars(Machine).items()):
            if name != only and hasattr(found, RULE_MARKER):
                delattr(Machine, name)
    return Machine


def prove(
    cases: int,
    *,
    progress: Callable[[Tally], None] | None = None,
    shrink: bool = True,
    only: str = "",
) -> Tally:
    """Play at least so many requests.

    Args:
        cases: Requests.
        progress: Told from time to time how far it is.
        shrink: Whether to look for the shortest way to a leak, which takes a while.
        only: Name of the one rule to play; all of them if empty.

    Raises:
        Leak: A text arrived that may not arrive; Hypothesis adds the shortest way to it.
    """
    tally = Tally()
    while tally.cases < cases:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine_of(tally, only),
            settings=settings(
                max_examples=min(200, 1 + cases // 16), stateful_step_count=20, deadline=None, database=None, print_blob=False,
                phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
        if progress is not None:
            progress(tally)
    return tally
