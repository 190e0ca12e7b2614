"""Requests as Hypothesis draws them: messages, loops of tools, schemas, pictures, metadata, with a canary in every part."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from hybridllm.types import ChatCompletionMessage
from tests.prove.canaries import Atom, Aviary

__all__ = [
    "LABELS",
    "LONG",
    "ORDER",
    "SHORT",
    "TAGS",
    "Asked",
    "Known",
    "Part",
    "drawn_loop",
    "drawn_request",
    "drawn_with",
    "labels",
    "refused_requests",
]

ORDER = ("public", "internal", "private", "secret")
TAGS = ("faq", "health", "staff")
# Low labels more often: what never leaves shows little.
LABELS = st.sampled_from((*ORDER[:1] * 4, *ORDER[:2], *ORDER))
labels = st.none() | LABELS
# A run of words as long as the label memory looks at, and one too short for it.
LONG, SHORT = 6, 1
_PNG = b"\x89PNG\r\n\x1a\n"

Role = str
"""A message's role, ``tools`` for a tool's description, ``arguments`` for those of an assistant's call."""


@dataclass
class Known:
    """A text that went through the client earlier and has a label since."""

    text: str
    label: str
    atoms: tuple[Atom, ...]
    is_answer: bool
    message: Any = None


@dataclass
class Part:
    """A text of a request, with the label of its own that it has, if any."""

    label: str | None
    role: Role
    text: str
    atoms: tuple[Atom, ...] = ()


@dataclass
class Asked:
    """One request, with what the proof knows of it."""

    messages: list[Any] = field(default_factory=list)
    privacy: str | None = None
    tags: tuple[str, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)
    """Fields that are no part with a label of its own, with something to read in them."""

    tools: list[dict[str, Any]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    """Every message and tool, and what else stands in a message."""

    plain: list[Atom] = field(default_factory=list)
    """What stands in it openly."""

    mails: list[Atom] = field(default_factory=list)
    """Addresses that stand in it."""

    @property
    def fields(self) -> dict[str, Any]:
        return {**self.extras, **({"tools": self.tools} if self.tools else {})}

    def add(self, label: str | None, role: Role, text: str, *atoms: Atom) -> None:
        self.parts.append(Part(label, role, text, atoms))
        self.plain += atoms


_FIELDS = (
    "user",
    "stop",
    "tools",
    "picture",
    "address of a picture",
    "form",
    "grammar",
    "metadata",
    "template",
    "ids",
    "thoughts",
)
# What a request has beside its messages; nothing more often, for each costs time.
_EXTRAS = st.sampled_from((*["none"] * 8, "user", "tools", *_FIELDS))
_SOME_EXTRAS = st.sampled_from(_FIELDS)
_PLACES = st.sampled_from(("message", "quoted", "arguments", "result", "tool"))
_IN_TOOLS = st.sampled_from(("description", "enum", "default", "key", "name", "mail"))
_IN_LOOPS = st.sampled_from(
    ("new", "new", "copied arguments", "copied result", "mail in arguments", "mail in result", "called")
)


class _Drawing:
    def __init__(self, data: Any, aviary: Aviary, known: list[Known], *, harmless: bool, some_label: Any) -> None:
        self.data, self.aviary, self.known, self.harmless, self.some_label = data, aviary, known, harmless, some_label
        self.asked = Asked(
            privacy=data.draw(st.just(ORDER[0]) if harmless else labels),
            tags=() if harmless else tuple(data.draw(st.lists(st.sampled_from((*TAGS, "misspelt")), max_size=1))),
        )

    def draw(self, strategy: Any) -> Any:
        return self.data.draw(strategy)

    def message(self) -> None:
        """One message of a person or a model."""
        # All is drawn whatever is known by now, for that depends on who was faster, and Hypothesis wants to be able to draw the
        # same again.
        asked = self.asked
        kinds = ["new", "new", "new", "mail"] + ["copy", "quoted", "object"] * (1 if self.harmless else 2)
        role = self.draw(st.sampled_from(["user", "user", "assistant", "system"]))
        kind, label, which = (
            self.draw(st.sampled_from(kinds)),
            self.draw(self.some_label),
            self.draw(st.integers(0, 11)),
        )
        words, umlaut = self.draw(st.sampled_from([LONG, LONG, SHORT])), self.draw(st.booleans())
        in_parts, named = self.draw(st.integers(0, 3)) == 0, self.draw(st.integers(0, 4)) == 0
        atoms: tuple[Atom, ...] = ()
        if kind in ("copy", "quoted", "object") and self.known:
            copy = self.known[which % len(self.known)]
            atoms = copy.atoms
            if kind == "object" and copy.message is not None:
                self.put_back(copy)
                return
            text = f"Sum this up: {copy.text}. Thanks." if kind == "quoted" else copy.text
        elif kind == "mail":
            mail = self.aviary.mail()
            asked.mails.append(mail)
            text = f"I am {mail.text}, hello"
        else:
            atoms = (self.aviary.breed(words, umlaut=umlaut),)
            text = atoms[0].text
        message: dict[str, Any] = {"role": role, "content": text}
        if in_parts:
            message["content"] = [{"type": "text", "text": piece} for piece in text.split(" ", 1)]
            text = "\n".join(text.split(" ", 1))
        if label is not None:
            message["privacy"] = label
        if named:
            name = self.aviary.breed(SHORT)
            asked.plain.append(name)
            message["name"] = name.text
        asked.messages.append(message)
        asked.add(label, role, text, *atoms)

    def put_back(self, copy: Known) -> None:
        """An answer as the client gave it; what it calls gets its results."""
        message: ChatCompletionMessage = copy.message
        self.asked.messages.append(message)
        self.asked.add(message.privacy, "assistant", copy.text, *copy.atoms)
        for call in message.tool_calls or ():
            self.result(call.id, self.aviary.breed(LONG), None)

    def result(self, identity: str, atom: Atom, label: str | None) -> None:
        message: dict[str, Any] = {"role": "tool", "tool_call_id": identity, "content": atom.text}
        if label is not None:
            message["privacy"] = label
        self.asked.messages.append(message)
        self.asked.add(label, "tool", atom.text, atom)

    def loop(self) -> None:
        """A call of a tool in the history, and its result, each maybe with a label, a copy or an address in it."""
        asked = self.asked
        kind, which = self.draw(_IN_LOOPS), self.draw(st.integers(0, 11))
        call_label, result_label = self.draw(self.some_label), self.draw(self.some_label)
        umlaut, escaped, in_json = self.draw(st.booleans()), self.draw(st.booleans()), self.draw(st.booleans())
        in_arguments, in_result = self.aviary.breed(LONG, umlaut=umlaut), self.aviary.breed(LONG, umlaut=umlaut)
        called, returned = in_arguments.text, in_result.text
        call_atoms, result_atoms = (in_arguments,), (in_result,)
        if kind.startswith("copied") and self.known:
            copy = self.known[which % len(self.known)]
            if kind == "copied arguments":
                called, call_atoms = copy.text, copy.atoms
            else:
                returned, result_atoms = f"It says: {copy.text}!", copy.atoms
        elif kind.startswith("mail"):
            mail = self.aviary.mail()
            asked.mails.append(mail)
            if kind == "mail in arguments":
                called, call_atoms = f"to {mail.text}", ()
            else:
                returned, result_atoms = f"from {mail.text}", ()
        identity, name, key = (self.aviary.breed(SHORT) for _ in range(3))
        asked.plain += [identity, name, key]
        arguments = written({key.text: [called]}, escaped=escaped)
        content = written({"result": returned}, escaped=escaped) if in_json else returned
        call = {"id": identity.text, "type": "function", "function": {"name": name.text, "arguments": arguments}}
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
        result: dict[str, Any] = {"role": "tool", "tool_call_id": identity.text, "content": content}
        for labelled, label in ((message, call_label), (result, result_label)):
            if label is not None:
                labelled["privacy"] = label
        asked.messages += [message, result]
        asked.add(call_label, "arguments", called, *call_atoms)
        asked.add(result_label, "tool", returned, *result_atoms)

    def extra(self, kind: str) -> None:
        """A field beside the messages."""
        asked, breed = self.asked, self.aviary.breed
        if kind == "tools":
            self.tools()
        elif kind == "form":
            key, value = breed(SHORT), breed(LONG, umlaut=True)
            schema = {"type": "object", "properties": {key.text: {"const": value.text}}}
            asked.extras["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            asked.plain += [key, value]
        elif kind == "ids":
            asked.extras |= {"logit_bias": {"17": -1}, "stop_token_ids": [18]}
        elif kind in ("picture", "address of a picture", "thoughts"):
            self.in_a_message(kind)
        elif kind != "none":
            atom, key = breed(LONG), breed(SHORT)
            asked.extras |= {
                "user": {"user": atom.text},
                "stop": {"stop": atom.text},
                "grammar": {"grammar": {"type": "regex", "text": atom.text}},
                "metadata": {"metadata": {key.text: atom.text}},
                "template": {"chat_template_kwargs": {key.text: [atom.text]}},
            }[kind]
            asked.plain += [atom, key]

    def in_a_message(self, kind: str) -> None:
        atom = self.aviary.breed(LONG)
        if kind == "thoughts":
            message: dict[str, Any] = {"role": "assistant", "content": "Hm.", "reasoning_content": atom.text}
            text = "Hm."
        else:
            shown = base64.b64encode(_PNG + atom.text.encode()).decode()
            url = (
                f"data:image/png;base64,{shown}"
                if kind == "picture"
                else f"https://x.example/{atom.text.replace(' ', '-')}.png"
            )
            message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
            text = ""
        label = self.draw(self.some_label)
        if label is not None:
            message["privacy"] = label
        self.asked.messages.insert(0, message)
        # Thoughts and addresses of pictures are texts as others are, and those are remembered by the message's label.
        self.asked.add(label, message["role"], text)
        if kind == "thoughts":
            self.asked.parts.append(Part(label, "thoughts", atom.text, (atom,)))
        self.asked.plain.append(atom)

    def tools(self) -> None:
        asked = self.asked
        where, label, which = self.draw(_IN_TOOLS), self.draw(self.some_label), self.draw(st.integers(0, 47))
        name, atom = self.aviary.breed(SHORT), self.aviary.breed(LONG)
        atoms: tuple[Atom, ...] = (atom,)
        text = atom.text
        if where == "mail":
            mail = self.aviary.mail()
            asked.mails.append(mail)
            text, atoms = f"of {mail.text}", ()
        elif which < len(self.known):
            text, atoms = self.known[which].text, self.known[which].atoms
        function: dict[str, Any] = {"name": name.text}
        if where in ("description", "name"):
            function["description"] = text
        else:
            inside = {
                "enum": {"enum": [text]},
                "default": {"default": {"x": [text]}},
                "key": {"properties": {text: {}}},
            }
            function["parameters"] = {"type": "object", "properties": {"x": inside.get(where, {"title": text})}}
        tool: dict[str, Any] = {"type": "function", "function": function}
        if label is not None:
            tool["privacy"] = label
        asked.tools.append(tool)
        asked.plain.append(name)
        asked.add(label, "tools", text, *atoms)


def written(value: Any, *, escaped: bool) -> str:
    """JSON, with everything escaped that may be."""
    text = json.dumps(value, ensure_ascii=escaped)
    return text.replace("@", "\\u0040") if escaped else text


def drawn_request(data: Any, aviary: Aviary, known: list[Known]) -> Asked:
    """A request.

    Args:
        data: Draws.
        aviary: Breeds canaries.
        known: Texts of earlier requests, which may be in it again.
    """
    # Half of the requests say little that is sensitive: what never leaves shows nothing.
    harmless = data.draw(st.booleans())
    some_label = st.none() | (st.sampled_from(ORDER[:2]) if harmless else labels)
    drawing = _Drawing(data, aviary, known, harmless=harmless, some_label=some_label)
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.integers(0, 5)) == 0:
            drawing.loop()
        else:
            drawing.message()
    drawing.extra(data.draw(_EXTRAS))
    return drawing.asked


def drawn_loop(data: Any, aviary: Aviary, known: list[Known]) -> Asked:
    """A request with calls of tools and their results, and whatever else one may have; most are harmless but for one part."""
    some_label = st.sampled_from((*[None] * 14, *ORDER[:1] * 4, *ORDER[1:3]))
    labelled_part_by_part = data.draw(st.integers(0, 5)) == 0
    if labelled_part_by_part:
        some_label = st.just(ORDER[0])
    drawing = _Drawing(data, aviary, known, harmless=True, some_label=some_label)
    if labelled_part_by_part:
        drawing.asked.privacy = None
    drawing.loop()
    if data.draw(st.booleans()):
        drawing.tools()
    drawing.extra(data.draw(_SOME_EXTRAS))
    return drawing.asked


def drawn_with(data: Any, aviary: Aviary, text: str, atoms: tuple[Atom, ...], label: str | None) -> Asked:
    """A harmless request with this text in one of its parts; only that part may have a label of its own."""
    asked = Asked(privacy=ORDER[0])
    where, with_tool = data.draw(_PLACES), data.draw(st.booleans())
    name, identity = aviary.breed(SHORT), aviary.breed(SHORT)
    own: dict[str, Any] = {} if label is None else {"privacy": label}
    if where in ("message", "quoted"):
        role = data.draw(st.sampled_from(["user", "assistant"]))
        said = f"Sum this up: {text}. Thanks." if where == "quoted" else text
        asked.messages.append({"role": role, "content": said, **own})
        asked.add(label, role, said, *atoms)
    elif where in ("arguments", "result"):
        called, returned = (text, "Done.") if where == "arguments" else ("x", text)
        function = {"name": "look", "arguments": written({"text": called}, escaped=data.draw(st.booleans()))}
        asked.messages += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": identity.text, "type": "function", "function": function}],
                **(own if where == "arguments" else {}),
            },
            {
                "role": "tool",
                "tool_call_id": identity.text,
                "content": returned,
                **(own if where == "result" else {}),
            },
        ]
        asked.add(label if where == "arguments" else None, "arguments", called, *(atoms * (where == "arguments")))
        asked.add(label if where == "result" else None, "tool", returned, *(atoms * (where == "result")))
        asked.plain.append(identity)
    if where == "tool" or with_tool:
        described = text if where == "tool" else "Looks it up."
        tool = {"type": "function", "function": {"name": name.text, "description": described}}
        asked.tools.append({**tool, **(own if where == "tool" else {})})
        asked.add(label if where == "tool" else None, "tools", described, *(atoms * (where == "tool")))
        asked.plain.append(name)
    if not asked.messages:
        asked.messages.append({"role": "user", "content": "Look it up."})
        asked.add(None, "user", "Look it up.")
    return asked


def _function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def refused_requests(secret: str) -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Requests that are not usable, each with a text in the part that is wrong: messages and fields."""
    hello: list[dict[str, Any]] = [{"role": "user", "content": "Look it up."}]
    call = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": secret}}
    tool = _function("look")
    return {
        "result without a call": ([*hello, {"role": "tool", "tool_call_id": "call-1", "content": secret}], {}),
        "call without a result": ([*hello, {"role": "assistant", "content": None, "tool_calls": [call]}], {}),
        "custom tool": (hello, {"tools": [{"type": "custom", "custom": {"name": secret}}]}),
        "tool with a wrong name": (hello, {"tools": [_function(secret)]}),
        "tool with a wrong schema": (hello, {"tools": [_function("look", parameters={"type": secret})]}),
        "choice of no tool": (hello, {"tools": [tool], "tool_choice": _function(secret)}),
        "sound": ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": secret}}]}], {}),
        "file": ([{"role": "user", "content": [{"type": "file", "file": {"file_data": secret}}]}], {}),
        "text as a picture": (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:text/plain,{secret}"}}]}],
            {},
        ),
        "label as metadata": (hello, {"metadata": {"privacy": secret}}),
        "unknown field": (hello, {"prediction": {"type": "content", "content": secret}}),
        "unknown form": (hello, {"response_format": {"type": secret}}),
        "unknown grammar": (hello, {"grammar": {"type": "gbnf", "text": secret}}),
    }
