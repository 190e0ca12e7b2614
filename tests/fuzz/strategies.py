"""Inputs that know the grammar: whole policies, requests, streams and addresses, then a few wounds to their bytes."""

from __future__ import annotations

import json

import yaml
from hypothesis import strategies as st

from policies import CONNECTIVITY, DETECTORS, FACT_KINDS, OPERATORS, WEEKDAYS
from policies.condition import SEVERAL
from tests.policies.strategies import handling, rule_handling

_LABELS = ("public", "internal", "private", "secret")
_ZONES = ("cloud", "site", "lab")
_ODD = st.sampled_from(
    (None, True, 0, -1, 1.5, 1e300, "", "no-such-word", [], {}, ["x"], {"x": 1}, "\u202e", "a" * 100, "22:00")
)
_TEXT = st.text(max_size=12) | st.sampled_from(("Hello", "\x00", "\u2028", "\ud800"))


def _mostly(strategy):
    """What the grammar wants, and now and then something else."""
    return st.integers(0, 19).flatmap(lambda die: _ODD if die == 0 else strategy)


def _constants(kind):
    return {
        "number": st.integers(-10, 5000) | st.floats(-10, 5000),
        "boolean": st.booleans(),
        "connectivity": st.sampled_from(CONNECTIVITY),
        "weekday": st.sampled_from(WEEKDAYS),
        "time": st.sampled_from(("00:00", "08:30", "23:59")),
        "label": st.sampled_from(_LABELS),
        "words": st.sampled_from(("faq", "health", "email")),
    }[kind]


@st.composite
def _conditions(draw):
    found = {}
    for fact in draw(st.lists(st.sampled_from(sorted(FACT_KINDS)), min_size=1, max_size=3, unique=True)):
        kind = FACT_KINDS[fact]
        constant = _constants(kind)
        operator = draw(st.sampled_from((None, *OPERATORS[kind])))
        if operator is None:
            found[fact] = draw(_mostly(constant))
        else:
            found[fact] = {
                operator: draw(_mostly(st.lists(constant, min_size=1, max_size=3) if operator in SEVERAL else constant))
            }
    return found


@st.composite
def _handled(draw, keys):
    """Keys that say how requests are handled, as the loader takes them, and now and then something else."""
    return {key: draw(_mostly(st.just(value))) for key, value in draw(keys).items()}


@st.composite
def policy_documents(draw):
    """A policy as plain values; most of them load."""
    order = list(_LABELS[: draw(st.integers(2, 4))])
    below_top = st.sampled_from(order[:-1])
    route = st.lists(st.sampled_from(("local", "remote")), min_size=1, max_size=2, unique=True)
    detectors = draw(st.lists(st.sampled_from(DETECTORS), max_size=3, unique=True))
    document = {
        "version": draw(_mostly(st.just(1))),
        "name": draw(_mostly(st.just("drawn"))),
        "labels": {
            "order": order,
            "unlabeled": draw(_mostly(st.sampled_from(order))),
            "tags": draw(
                st.dictionaries(st.sampled_from(("faq", "health")), _mostly(st.sampled_from(order)), max_size=2)
            ),
        },
        "zones": draw(
            st.dictionaries(st.sampled_from(_ZONES), _mostly(below_top | st.fixed_dictionaries({"ceiling": below_top})))
        ),
        "detectors": [
            *detectors,
            *([{"name": "own", "label": order[0], "words": ["x"]}] if draw(st.booleans()) else []),
        ],
        "rules": [
            {
                "name": f"rule-{index}",
                "when": when,
                "route": draw(_mostly(route)),
                **(draw(_handled(rule_handling())) if draw(st.integers(0, 3)) == 0 else {}),
            }
            for index, when in enumerate(draw(st.lists(_conditions(), max_size=4)))
        ],
        "default": draw(_mostly(route)),
        **(draw(_handled(handling())) if draw(st.booleans()) else {}),
    }
    for key in draw(st.lists(st.sampled_from(sorted(document)), max_size=1)):
        if draw(st.integers(0, 3)) == 0:
            document[draw(st.sampled_from(("", "zone", key + "s")))] = document.pop(key)
    return document


@st.composite
def policy_files(draw):
    """A policy as YAML, in block or flow style."""
    document = draw(policy_documents())
    return yaml.safe_dump(
        document, default_flow_style=draw(st.sampled_from((None, True, False))), sort_keys=False
    ).encode()


@st.composite
def _facts(draw):
    facts = {
        "label": draw(_mostly(st.sampled_from(_LABELS))),
        "connectivity": draw(_mostly(st.sampled_from(CONNECTIVITY))),
    }
    for fact in draw(st.lists(st.sampled_from(sorted(FACT_KINDS)), max_size=6)):
        constant = _constants(FACT_KINDS[fact])
        facts[fact] = draw(_mostly(st.lists(constant, max_size=3) if FACT_KINDS[fact] == "words" else constant))
    place = st.fixed_dictionaries(
        {"name": st.sampled_from(("local", "remote")), "zone": st.sampled_from((*_ZONES, "device"))},
        optional={
            "context_tokens": _mostly(st.integers(0, 5000)),
            "capabilities": _mostly(st.lists(st.sampled_from(("image", "extended_sampling")))),
            "unavailable": st.sampled_from(("", "it starts")),
        },
    )
    facts["places"] = draw(_mostly(st.lists(place, max_size=2)))
    return facts


def fact_values():
    return _facts().map(_as_json)


def decisions():
    policy = st.just(b"") | policy_files()
    return st.tuples(policy, fact_values()).map(b"\n%%\n".join)


def config_files():
    remote = st.fixed_dictionaries(
        {
            "base_url": _mostly(st.sampled_from(("https://llm.example/v1", "http://[::1]:8080"))),
            "model": _mostly(st.just("m")),
        },
        optional={
            "zone": _mostly(st.sampled_from(_ZONES)),
            "api_key": _mostly(st.just("sk-1")),
            "api_key_env": _mostly(st.sampled_from(("HOME", "NO_SUCH_VARIABLE", "a\x00b", "=")) | _TEXT),
            "max_retries": _mostly(st.integers(-1, 11)),
            "gap_timeout_s": _mostly(st.floats(-1, 5)),
            "capabilities": _mostly(st.lists(_mostly(st.just("extended_sampling")), max_size=2)),
            "proxy": _mostly(st.just("http://u:p@proxy:3128")),
            "ca_file": _mostly(st.sampled_from(("~/ca.pem", "~nobody-here/x", "~\x00"))),
        },
    )
    document = st.fixed_dictionaries(
        {},
        optional={
            "model": _mostly(st.sampled_from(("kiosk-assistant", "~/m", "./x", "~\x00/y")) | _TEXT),
            "policy": _mostly(st.sampled_from(("kiosk", "my.yaml", "~\x00")) | _TEXT),
            "threads": _mostly(st.integers(0, 9)),
            "offline": _mostly(st.booleans()),
            "cache_dir": _mostly(_TEXT),
            "remote": _mostly(remote),
        },
    )
    return document.map(lambda values: yaml.safe_dump(values).encode())


_NAME = st.sampled_from(("look", "send", "two words", "x" * 65))
_ID = st.sampled_from(("call-1", "call-1", "call-2", ""))


def _tools():
    """What ``tools`` may be, with schemas of some depth."""
    schema = st.recursive(
        st.sampled_from(({"type": "string"}, {"enum": ["a", 4111111]}, {"const": None}, {}, True)),
        lambda inner: (
            st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)})
            | st.fixed_dictionaries(
                {"type": st.just("object"), "properties": st.dictionaries(_TEXT, inner, max_size=2)},
                optional={
                    "additionalProperties": _mostly(st.just(False)),
                    "required": _mostly(st.lists(_TEXT, max_size=2)),
                },
            )
        ),
        max_leaves=4,
    )
    function = st.fixed_dictionaries(
        {"name": _mostly(_NAME)},
        optional={"description": _mostly(_TEXT), "parameters": _mostly(schema), "strict": _mostly(st.booleans())},
    )
    tool = st.fixed_dictionaries(
        {"type": _mostly(st.just("function")), "function": _mostly(function)},
        optional={"privacy": _mostly(st.just("public"))},
    )
    return st.lists(_mostly(tool), max_size=3)


def _calls():
    arguments = st.sampled_from(("{}", '{"a": "\\u00fc"}', '{"a": 1, "a": [2.50]}', "[1e400", "\\ud800")) | _TEXT
    function = st.fixed_dictionaries({"name": _mostly(_NAME), "arguments": _mostly(arguments)})
    call = st.fixed_dictionaries(
        {"id": _mostly(_ID), "type": _mostly(st.just("function")), "function": _mostly(function)}
    )
    return st.lists(_mostly(call), min_size=1, max_size=2)


def _parts():
    url = st.sampled_from(
        (
            "https://x.example/y.png",
            "data:image/png;base64,iVBORw0KGgo=",
            "data:image/gif;base64,x",
            "file:///x",
            "http://[::1",
        )
    )
    image = st.fixed_dictionaries({"url": _mostly(url)}, optional={"detail": _mostly(st.just("low"))})
    text = st.fixed_dictionaries({"type": _mostly(st.just("text")), "text": _mostly(_TEXT)})
    return text | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": _mostly(image)})


def requests():
    part = _parts()
    message = st.fixed_dictionaries(
        {
            "role": _mostly(st.sampled_from(("system", "developer", "user", "assistant", "tool"))),
            "content": _mostly(_TEXT | st.lists(_mostly(part), max_size=3)),
        },
        optional={
            "name": _mostly(_TEXT),
            "privacy": _mostly(st.just("public")),
            "refusal": _mostly(_TEXT),
            "tool_calls": _mostly(st.none() | _calls()),
            "reasoning_content": _mostly(_TEXT),
        },
    )
    # A call and its result, so that what comes after that check is reached.
    calling = st.fixed_dictionaries({"role": st.just("assistant"), "tool_calls": _calls().map(lambda calls: calls[:1])})
    result = st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": _ID, "content": _mostly(_TEXT)})
    loop = st.tuples(calling, result).map(list)
    messages = _mostly(
        st.tuples(st.lists(_mostly(message), max_size=3), st.just([]) | loop).map(lambda lists: lists[0] + lists[1])
    )
    form = st.fixed_dictionaries(
        {"type": _mostly(st.sampled_from(("text", "json_object", "json_schema")))},
        optional={
            "json_schema": _mostly(
                st.fixed_dictionaries({"name": _mostly(_NAME), "schema": st.just({"type": "object"})})
            )
        },
    )
    choice = st.sampled_from(("auto", "none", "required", {"type": "function", "function": {"name": "look"}}))
    number = _mostly(st.integers(-3, 300) | st.floats(-3, 3))
    fields = st.fixed_dictionaries(
        {"messages": messages},
        optional={
            **dict.fromkeys(
                (
                    "temperature",
                    "top_p",
                    "max_tokens",
                    "top_k",
                    "min_p",
                    "seed",
                    "frequency_penalty",
                    "n",
                    "min_tokens",
                    "top_logprobs",
                    "prompt_logprobs",
                ),
                number,
            ),
            "logprobs": _mostly(st.booleans()),
            "stop_token_ids": _mostly(st.lists(_mostly(st.integers(0, 9)), max_size=3)),
            "logit_bias": _mostly(st.dictionaries(st.sampled_from(("5", "17", "x")), number, max_size=2)),
            "tools": _mostly(_tools()),
            "tool_choice": _mostly(choice),
            "parallel_tool_calls": _mostly(st.booleans()),
            "metadata": _mostly(st.dictionaries(_TEXT, _mostly(_TEXT), max_size=2)),
            "chat_template_kwargs": _mostly(st.dictionaries(_TEXT, _mostly(_TEXT), max_size=2)),
            "grammar": _mostly(st.fixed_dictionaries({"type": _mostly(st.just("regex")), "text": _mostly(_TEXT)})),
            "stop": _mostly(_TEXT | st.lists(_mostly(_TEXT), max_size=18)),
            "stream": _mostly(st.booleans()),
            "stream_options": _mostly(
                st.dictionaries(st.sampled_from(("include_usage", "x" * 60)), _mostly(st.booleans()))
            ),
            "user": _mostly(_TEXT),
            "response_format": _mostly(form),
        },
    )
    return (messages | fields).map(_as_json) | st.binary(max_size=300)


def addresses():
    scheme = st.sampled_from(("http", "https", "HTTPS", "ftp", ""))
    host = st.sampled_from((
        "llm.example", "LLM.Example.", "127.0.0.1", "0x7f.1", "[::1]", "[::ffff:10.0.0.1]", "[fe80::1%1]", "xn--fsqu00a.xn--0zwm56d",
        "xn--", "\u212a", "a..b", "-a", "例子.测试", "u:p@h", "",
    )) | st.text("abxn-.:@[]%0189\\\u3002", max_size=12)  # fmt: skip
    port = st.sampled_from(("", ":", ":0", ":080", ":443", ":65535", ":65536", ":-1", ":x"))
    path = st.sampled_from(
        ("", "/", "/v1", "/v1/", "/a/../b", "/%2e%2e/x", "/v1/chat/completions", "?q", "#f", "/ü", "/a\\b", "//")
    )
    return st.tuples(scheme, st.sampled_from(("://", ":", "//")), host, port, path).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    )


def conversations():
    turn = st.tuples(_mostly(_TEXT), _mostly(_TEXT)).map(
        lambda texts: [{"role": "user", "content": texts[0]}, {"role": "assistant", "content": texts[1]}]
    )
    record = st.fixed_dictionaries(
        {
            "hybridllm_conversation": _mostly(st.just(1)),
            "privacy": _mostly(st.none()),
            "tags": _mostly(st.lists(_TEXT, max_size=2)),
            "kept_local": _mostly(st.booleans()),
            "system": _mostly(st.none() | _TEXT),
            "messages": _mostly(
                st.lists(turn, max_size=3).map(lambda turns: [entry for turn in turns for entry in turn])
            ),
        },
        optional={"label": _mostly(st.just("private")), "system_kept_local": _mostly(st.booleans())},
    )
    return record.map(_as_json)


def event_streams():
    line = st.sampled_from(
        ("data: x", "data:y", "data", "event: error", ": note", "", "", "id: 1", "data: \u2028ü", "\ufeffdata: z")
    )
    end = st.sampled_from(("\n", "\r\n", "\r"))
    lines = st.lists(st.tuples(line, end), max_size=12).map(lambda pairs: "".join(map("".join, pairs)).encode())
    return st.tuples(st.binary(min_size=8, max_size=8), lines).map(b"".join)


def wait_headers():
    dates = (
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Sun, 06 Nov 9999 08:49:37 -2359",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "1e3",
        "٣",
        "-5",
    )
    return st.sampled_from(dates).map(str.encode) | st.integers(0, 10**12).map(lambda number: str(number).encode())


def _as_json(value):
    return json.dumps(value).encode()


GRAMMARS = {
    "policy": policy_files,
    "facts": fact_values,
    "decision": decisions,
    "config": config_files,
    "request": requests,
    "remote": addresses,
    "conversation": conversations,
    "sse": event_streams,
    "retry-after": wait_headers,
}
"""For each target the strategy that knows what it reads."""


@st.composite
def _wounded(draw, inputs, words):
    data = bytearray(draw(inputs))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 8)))
        wound = draw(st.sampled_from(("delete", "repeat", "word", "bytes")))
        put = {
            "delete": b"",
            "repeat": bytes(data[at:until]) * 3,
            "word": draw(st.sampled_from(words or ("",))).encode("utf-8", "surrogatepass"),
            "bytes": draw(st.binary(min_size=1, max_size=3)),
        }[wound]
        data[at:until] = put
    return bytes(data)


def inputs_for(target):
    """Well-formed inputs, seeds, and both of them with a few bytes deleted, repeated, or replaced by a word of the language."""
    whole = GRAMMARS[target.name]() | st.sampled_from(target.seeds())
    return whole | _wounded(whole, target.words)
