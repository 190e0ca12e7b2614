"""What reads a caller: the messages and fields of a request, the address of a remote, and a saved conversation."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path

import httpx

from hybridllm.cli.conversation import Conversation
from hybridllm.cli.mistakes import CommandError
from hybridllm.errors import BadRequest
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
    "metadata", "timeout", "extra_body", "cls", "self",
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
    for path, text in request.texts():
        promise(path and isinstance(text, str), "a text has no path")
        text.encode()
    promise(request.token_limit is None or request.token_limit > 0, "the token limit is not above 0")
    body = json.loads(request.remote_body("a-model"))
    promise(body["stream"] is True and body["model"] == "a-model", "the body is not what was asked for")
    promise(len(body["messages"]) == len(request.messages), "a message is lost")
    promise(all("privacy" not in message for message in body["messages"]), "a label would be sent")


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
