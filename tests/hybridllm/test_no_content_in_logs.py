"""No content and no key in any log record or warning, with every logger of every library at its loudest."""

import asyncio
import logging
import reprlib
import sys
import warnings

import httpx
import pytest

from hybridllm import AsyncHybridClient, HybridClient, Remote
from hybridllm.errors import HybridLLMError
from hybridllm.testing import ScriptedBackend, ScriptedReply
from tests.hybridllm.loopback import answer, chunk, endless, free_port, raw, reset, silent, stalls_after, status, stream

# Short, so that a representation that is cut to some thirty characters still shows them.
QUESTION, SYSTEM, SPEAKER, STOP, USER, KEY, ANSWER, ECHO = (
    f"cnry{letter}" for letter in ("Qu", "Sy", "Sp", "St", "Us", "Ke", "An", "Ec")
)
CANARIES = (QUESTION, SYSTEM, SPEAKER, STOP, USER, KEY, ANSWER, ECHO)
LOUD = ("httpx", "httpcore", "h11", "anyio", "asyncio", "tenacity", "concurrent.futures", "urllib3", "pydantic")
HTTPCORE = tuple(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))

# What a server might send back of what it was sent, in every place that it has.
ECHOED = f"X-Echo: {ECHO}\r\nContent-Type: application/json; x={ECHO}\r\nSet-Cookie: {ECHO}={ECHO}\r\n".encode()
BEHAVIOURS = {
    "an answer": [answer(ANSWER)],
    "an answer with echoes": [
        raw(b"HTTP/1.1 200 " + ECHO.encode() + b"\r\nContent-Type: text/event-stream\r\nX-Echo: " + ECHO.encode() + b"\r\n\r\n",
            chunk(ANSWER) + chunk(finish="stop"))
    ],
    "a retry": [status(503, f'{{"error": {{"message": "{ECHO}"}}}}'.encode(), {"X": ECHO}), answer(ANSWER)],
    "an error that quotes": [raw(b"HTTP/1.1 400 " + ECHO.encode() + b"\r\n" + ECHOED + b"\r\n" + ECHO.encode())],
    "an error in json": [status(422, f'{{"error": {{"message": "{ECHO}", "code": "x y {ECHO}"}}}}'.encode())],
    "an unauthorized key": [status(401, f"Bearer {KEY}".encode(), {"WWW-Authenticate": KEY})],
    "a redirect": [status(307, headers={"Location": f"http://127.0.0.1:9/{ECHO}"})],
    "no headers": [raw(f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n".encode())],
    "no status line": [raw(f"{ECHO}\r\n\r\n".encode())],
    "a chunk that is none": [raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 + ECHO.encode() + b"\r\n")],
    "endless headers": [endless(b"HTTP/1.1 200 OK\r\n", f"X-Echo: {ECHO}\r\n".encode())],
    "informational answers": [raw(f"HTTP/1.1 103 {ECHO}\r\nX: {ECHO}\r\n\r\n".encode() * 3 + b"HTTP/1.1 500 x\r\n\r\n")],
    "no json": [stream(f"data: {ECHO}\n\n".encode())],
    "an error event": [stream(f'event: error\ndata: {{"error": "{ECHO}"}}\n\n'.encode())],
    "a reset at once": [reset()],
    "a reset in the middle": [reset(chunk(ANSWER))],
    "a timeout": [silent()],
    "a stall": [stalls_after(chunk(ANSWER))],
}  # fmt: skip


class Everything(logging.Handler):
    """Keeps whatever somebody could make of a record: its message, its arguments, its error with the traceback."""

    def __init__(self):
        super().__init__(logging.NOTSET)
        self.texts = []

    def emit(self, record):
        said = [record.name, record.getMessage(), repr(record.args), repr(record.__dict__)]
        if record.exc_info:
            said.append(logging.Formatter().formatException(record.exc_info))
        self.texts.append("\n".join(said))


@pytest.fixture
def heard(monkeypatch):
    """All records and warnings of the test."""
    # In asyncio's debug mode each step of an event loop that takes longer than this is logged, with its arguments.
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    always = property(lambda loop: 0.0, lambda loop, value: None)
    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "slow_callback_duration", always, raising=False)
    everything = Everything()
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, {*LOUD, *HTTPCORE, *logging.root.manager.loggerDict})]
    before = [(one, one.level, one.disabled, one.propagate) for one in loggers]
    for one in loggers:
        one.setLevel(1)
        one.disabled = False
        one.propagate = True
    root.addHandler(everything)
    unraisable, hook = [], sys.unraisablehook
    monkeypatch.setattr(sys, "unraisablehook", lambda args: (unraisable.append(repr(args)), hook(args)))
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield everything
        everything.texts += [f"{one.message!r} {one.source!r}" for one in warned] + unraisable
        assert_silent(everything)
    finally:
        root.removeHandler(everything)
        for one, level, disabled, propagate in before:
            one.setLevel(level)
            one.disabled = disabled
            one.propagate = propagate


def assert_silent(everything):
    for text in everything.texts:
        for canary in CANARIES:
            assert canary.lower() not in text.lower(), text[:2000]


def remote_at(base_url, **more):
    return Remote(
        **{
            "base_url": base_url,
            "model": "m",
            "api_key": KEY,
            "connect_timeout_s": 1.0,
            "first_token_timeout_s": 0.3,
            "gap_timeout_s": 0.2,
            "max_retries": 1,
            **more,
        }
    )


REQUEST = {
    "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION, "name": SPEAKER}],
    "stop": [STOP],
    "user": USER,
    "privacy": "public",
}


def ask_blocking(remote, local, *, streaming):
    with HybridClient(local=local, remote=remote, policy="cloud-assist") as client:
        try:
            if streaming:
                with client.chat.completions.create(stream=True, **REQUEST) as opened:
                    return "".join(choice.delta.content or "" for one in opened for choice in one.choices)
            return client.chat.completions.create(**REQUEST).choices[0].message.content
        except HybridLLMError as error:
            logging.getLogger("application").exception("It failed: %s", error)
            return None


def ask_awaited(remote, local):
    async def go():
        async with AsyncHybridClient(local=local, remote=remote, policy="cloud-assist") as client:
            try:
                reply = await client.chat.completions.create(**REQUEST)
            except HybridLLMError as error:
                logging.getLogger("application").exception("It failed: %s", error)
            else:
                # The result of the application's own task would be its own matter, so it has none.
                assert reply.choices[0].message.content in (ANSWER, "Here.")

    with asyncio.Runner(debug=True) as runner:
        runner.run(go())


@pytest.mark.parametrize("behaviours", BEHAVIOURS.values(), ids=BEHAVIOURS.keys())
@pytest.mark.parametrize("way", ["blocking", "streaming", "awaited"])
def test_whatever_the_remote_does(serve, heard, behaviours, way):
    server = serve(*behaviours)
    local = ScriptedBackend(lambda _: "Here.")
    if way == "awaited":
        ask_awaited(remote_at(server.base_url), local)
    else:
        ask_blocking(remote_at(server.base_url), local, streaming=way == "streaming")
    assert QUESTION.encode() in server.received
    assert any("asyncio" in text for text in heard.texts)
    assert_silent(heard)


@pytest.mark.parametrize("way", ["blocking", "streaming"])
def test_when_both_places_fail(serve, heard, way):
    local = ScriptedBackend(lambda _: ScriptedReply(f"{ANSWER} b", error=RuntimeError("broken"), fail_after=1))
    for base_url in (serve(BEHAVIOURS["an error that quotes"][0]).base_url, f"http://127.0.0.1:{free_port()}/v1"):
        ask_blocking(remote_at(base_url), local, streaming=way == "streaming")
    assert any("It failed" in text for text in heard.texts)
    assert_silent(heard)


def test_a_proxy_and_its_password(serve, heard):
    refusing = serve(raw(f"HTTP/1.1 407 {ECHO}\r\nX: {ECHO}\r\n\r\n{ECHO}".encode()))
    proxy = f"http://{USER}:{KEY}@127.0.0.1:{refusing.port}"
    ask_blocking(remote_at("https://llm.example/v1", proxy=proxy), ScriptedBackend(lambda _: "Here."), streaming=False)
    ask_blocking(remote_at("http://10.1.2.3/v1", proxy=proxy), ScriptedBackend(lambda _: "Here."), streaming=False)
    assert b"Proxy-Authorization" in refusing.received
    assert_silent(heard)


def test_no_configuration_of_logging_lets_it_out(serve, heard):
    """Configured again by the application, after the first request and with every logger named."""
    import logging.config

    server = serve(*BEHAVIOURS["an answer with echoes"], *BEHAVIOURS["an error that quotes"])
    remote = remote_at(server.base_url)
    local = ScriptedBackend(lambda _: "Here.")
    ask_blocking(remote, local, streaming=False)
    logging.config.dictConfig(
        {
            "version": 1,
            "incremental": False,
            "disable_existing_loggers": False,
            "filters": {"all": {"()": lambda: lambda record: True}},
            "loggers": {name: {"level": "DEBUG", "filters": ["all"], "propagate": True} for name in (*LOUD, *HTTPCORE)},
        }
    )
    for name in HTTPCORE:
        logging.getLogger(name).filters.clear()
    ask_blocking(remote, local, streaming=False)
    assert len(server.exchanges) == 2
    assert_silent(heard)


def test_other_users_of_the_same_libraries_keep_their_logs(serve, heard):
    """And so the handler above does hear what it is there to hear."""
    server = serve(*BEHAVIOURS["an answer with echoes"])
    ask_blocking(remote_at(server.base_url), ScriptedBackend(lambda _: "Here."), streaming=False)
    assert_silent(heard)

    async def go():
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(server.base_url, content=b"{}")

    asyncio.run(go())
    leaks = [text for text in heard.texts if ECHO in text]
    assert any("receive_response_headers.complete" in text for text in leaks)
    assert any("HTTP Request: POST" in text for text in leaks)
    heard.texts = [text for text in heard.texts if ECHO not in text]


def test_short_texts_would_show_in_what_asyncio_cuts():
    assert all(canary in reprlib.repr(canary) for canary in CANARIES)
