"""What reads a caller: the messages and fields of a request, the address of a remote, and a saved conversation."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path

import httpx

from hybridllm.backends.base import BackendCall
from hybridllm.backends.local_request import engine_request
from hybridllm.capabilities import CAPABILITIES
from hybridllm.cli.conversation import Conversation
from hybridllm.cli.mistakes import CommandError
from hybridllm.errors import BadRequest
from hybridllm.redactable import rewritten
from hybridllm.remote import Remote
from hybridllm.types.chat_request import ChatRequest
from tests.fuzz.corpus import encoded, texts_of_tests
from tests.fuzz.target import Target, check_message, promise
from tests.fuzz.values import json_or_any, texts_in

_LONGEST_MESSAGE = 600
# A message may show so many characters of a field's name or of a role; the rest of what it says is our own.
_MOST_SHOWN = 40

REQUEST_WORDS = (
    *(name for name in ChatRequest.model_fields), "role", "content", "name", "privacy", "refusal", "tool_calls", "type", "text",
    "image_url", "include_usage", "system", "developer", "user", "assistant", "tool", "function", "tools", "response_format",
    "metadata", "timeout", "extra_body", "cls", "self", "id", "arguments", "tool_call_id", "reasoning_content", "description",
    "parameters", "strict", "properties", "required", "additionalProperties", "anyOf", "$defs", "enum", "json_schema", "json_object",
    "schema", "lark", "regex", "url", "detail", "data:image/png;base64,iVBORw0KGgo=", "https://x.example/y.png", "auto", "none",
    "object", "custom", "look", "call-1",
)  # fmt: skip


def check_request(data):
    """The bytes are a list of messages, or an object with ``messages`` and other fields, as JSON or as any Python value."""
    value = json_or_any(data, REQUEST_WORDS)
    fields = {}
    messages = value
    if isinstance(value, dict) and "messages" in value:
        fields = {name: given for name, given in value.items() if isinstance(name, str) and name != "messages"}
        messages = value["messages"]
    try:
        request = ChatRequest.parse(messages, **fields)
    except BadRequest as error:
        check_message(str(error), most_characters=_LONGEST_MESSAGE)
        _check_quotes_nothing(f"{error} {error.field}", (messages, fields))
        return
    read = []
    for path, text in request.texts():
        promise(path and isinstance(text, str), "a text has no path")
        text.encode()
        read.append(text)
    promise(request.token_limit is None or request.token_limit > 0, "the token limit is not above 0")
    body = json.loads(request.remote_body("a-model"))
    promise(body["stream"] is True and body["model"] == "a-model", "the body is not what was asked for")
    promise(len(body["messages"]) == len(request.messages), "a message is lost")
    promise(all("privacy" not in part for part in (*body["messages"], *body.get("tools", ()))), "a label would be sent")
    promise(set(body) <= {*ChatRequest.model_fields, "model"}, "a field that nobody knows would be sent")
    _check_everything_is_read(body, "\n".join(read))
    promise(request.capabilities <= CAPABILITIES, "it needs what no place can have")
    promise(rewritten(request, lambda text: text, str) == request, "redaction that finds nothing changes something")
    engine_request(BackendCall(request, "req-1"))


def _check_everything_is_read(body, read):
    """Every text that would be sent is one that detectors get, but for words of the interface and the bytes of pictures."""
    free = [
        body.get("metadata"), body.get("chat_template_kwargs"), body.get("stop"), body.get("user"),
        body.get("grammar", {}).get("text"),
        [tool["function"] for tool in body.get("tools", ())], body.get("response_format", {}).get("json_schema"),
        [message.get(name) for message in body["messages"] for name in ("name", "refusal", "tool_call_id", "tool_calls")],
        [message["content"] for message in body["messages"] if isinstance(message["content"], str)],
        [part.get("text") for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]],
    ]  # fmt: skip
    for text in texts_in(free):
        promise(text in read or text in _INTERFACE, "a text would be sent that nobody reads")


_INTERFACE = frozenset({
    "name", "description", "parameters", "strict", "type", "function", "id", "arguments", "schema",
})  # fmt: skip


def _check_quotes_nothing(said, given):
    """No run of characters that a caller wrote may be in an error, beyond the length of a field's name."""
    size = _MOST_SHOWN + 1
    windows = {said[start : start + size] for start in range(len(said) - size + 1)}
    for text in texts_in(given):
        if len(text) >= size:
            promise(not any(window in text for window in windows), "the error's message quotes the request")


REMOTE_WORDS = (
    "http://", "https://", "HTTPS://", "llm.example", "[::1]", "[::ffff:10.0.0.1]", "127.0.0.1", "xn--fsq", ":443", ":0", ":080",
    ":65536", "/v1", "/chat/completions", "..", "@", "?", "#", "%2e", "%00", "\\", "\t", "\u212a", "\u3002", "\uff0e", "user:pw@",
    '{"base_url": "', '"model": "', '"proxy": "', '"zone": "', '"api_key": "',
)  # fmt: skip
_REMOTE_FIELDS = ("base_url", "model", "zone", "proxy", "api_key")


def check_remote(data):
    """The bytes are a base URL, or a JSON object with the texts of a remote."""
    given = {"base_url": data.decode("utf-8", "surrogateescape"), "model": "a-model"}
    if data[:1] == b"{":
        try:
            given |= {name: value for name, value in json.loads(data).items() if name in _REMOTE_FIELDS}
        except (ValueError, RecursionError, AttributeError):
            return
    try:
        remote = Remote(**given)
    except BadRequest as error:
        check_message(str(error), most_characters=_LONGEST_MESSAGE)
        promise(error.field.startswith("remote."), "the error names no field of the remote")
        return
    url = httpx.URL(remote.chat_url)
    host = url.raw_host.decode("ascii").lower()
    host = f"[{host}]" if ":" in host else host
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    promise(f"{url.scheme}://{host}:{port}" == remote.origin, "httpx would connect to another origin")
    promise(not url.userinfo and not url.query and not url.fragment, "the address has more than a path")
    promise(url.path.endswith("/chat/completions"), "the address does not lead to chat completions")
    if remote.api_key is not None:
        promise(f"'{remote.api_key}'" not in repr(remote), "the key is in the representation")
    promise(1 <= remote.port <= 65535 and remote.first_hop[0], "there is nowhere to connect to")


_FOLDER = Path(tempfile.mkdtemp(prefix="hybridllm-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
CONVERSATION_FILE = _FOLDER / "chat.json"

CONVERSATION_WORDS = (
    '"hybridllm_conversation": 1', '"messages": ', '"role": "user"', '"role": "assistant"', '"content": ""', '"system": null',
    '"privacy": null', '"tags": []', '"kept_local": true', '"system_kept_local": false', '"label": "private"',
    '"policy_hash": null', "[", "]", "{", "}", ",", "\\ud800", "1e999", "NaN",
)  # fmt: skip


def check_conversation(data):
    with CONVERSATION_FILE.open("wb", buffering=0) as file:
        file.write(data)
    try:
        loaded = Conversation.load(CONVERSATION_FILE)
    except CommandError as error:
        check_message(str(error), most_characters=_LONGEST_MESSAGE)
        promise(str(CONVERSATION_FILE) in str(error), "the error does not name the file")
        return
    promise(len(loaded.messages) % 2 == 0, "a message has no answer")
    promise(isinstance(loaded.stays_local, bool), "nobody knows whether it stays here")
    loaded.save(CONVERSATION_FILE)
    promise(Conversation.load(CONVERSATION_FILE) == loaded, "it is another conversation after saving and loading it")


_REQUEST_SEEDS = (
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    [{"role": "assistant", "content": None, "refusal": "no", "tool_calls": None}, {"role": "user", "content": "x", "name": "j"}],
    {"messages": [{"role": "user", "content": "Hi", "privacy": "public"}], "temperature": 0.5, "max_tokens": 9, "stop": ["."]},
    {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "stream_options": {"include_usage": True}, "n": 1},
    {"messages": [{"role": "tool", "content": "x"}], "tools": [], "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
    {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/y.png", "detail": "low"}}]},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [{"id": "call-1", "type": "function", "function": {"name": "look", "arguments": '{"a": "\\u00fc"}'}}],
            },
            {"role": "tool", "tool_call_id": "call-1", "content": '{"b": [1, "x"]}', "privacy": "public"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "d",
                    "parameters": {
                        "type": "object",
                        "properties": {"a": {"anyOf": [{"type": "null"}, {"enum": ["x", 4111111]}]}},
                        "required": ["a"],
                        "additionalProperties": False,
                    },
                    "strict": True,
                },
                "privacy": "public",
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "logit_bias": {"5": 1},
        "stop_token_ids": [5],
        "logprobs": True,
        "top_logprobs": 3,
        "metadata": {"a": "b"},
        "chat_template_kwargs": {"enable_thinking": False},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "description": "d"}},
    },
    {"messages": [{"role": "user", "content": "Hi"}], "grammar": {"type": "regex", "text": "[0-9]+"}, "n": 2, "prompt_logprobs": 1},
    {"messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "json_object"}, "min_tokens": 3, "max_tokens": 2},
    {"messages": [{"role": "user", "content": "Hi", "x" * 100: "y" * 100}], "z" * 100: 1},
)  # fmt: skip


def request_seeds():
    # Each also as the beginning of a value built from bytes: kinds 15 and 7 are a message and a list.
    built = [bytes([7, 2, 15, 20, 0, 1, 2, 5]) + b"Hello", bytes(range(64)), b"\x0c\x05" + bytes(range(255, 0, -1))]
    return [*(json.dumps(value).encode() for value in _REQUEST_SEEDS), *built]


def remote_seeds():
    texts = [text for text in texts_of_tests("hybridllm/test_types.py", "hybridllm/test_egress.py") if "://" in text]
    addresses = (
        "https://llm.example/v1", "http://127.0.0.1:8080/v1/", "http://[::1]:1/v1", "HTTPS://LLM.Example.:443/a/b", "http://1/",
        "https://xn--fsqu00a.xn--0zwm56d/v1", "http://[::ffff:127.0.0.1]/v1", "https://user:pw@host/v1",
    )  # fmt: skip
    objects = ({"base_url": "https://h/v1", "proxy": "http://u:p@proxy:3128", "api_key": "sk-1", "zone": "site"},)
    return [*encoded((*addresses, *texts)), *(json.dumps(given).encode() for given in objects)]


def conversation_seeds():
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    record = {
        "hybridllm_conversation": 1,
        "privacy": None,
        "tags": ["faq"],
        "kept_local": True,
        "system": "x",
        "messages": said,
    }
    return [
        json.dumps(record).encode(),
        json.dumps({**record, "label": "private", "messages": []}).encode(),
        b"[" * 3000,
        b"{",
    ]


TARGETS = (
    Target("request", check_request, request_seeds, REQUEST_WORDS),
    Target("remote", check_remote, remote_seeds, REMOTE_WORDS, most_bytes=512),
    Target(
        "conversation",
        check_conversation,
        conversation_seeds,
        CONVERSATION_WORDS,
        may_touch=(str(_FOLDER),),
        most_bytes=2048,
    ),
)
