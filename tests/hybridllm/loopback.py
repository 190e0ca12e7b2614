"""A real HTTP server on loopback that records every byte which reaches it and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import gzip
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from email.utils import formatdate

Behaviour = Callable[["Exchange"], None]


class Exchange:
    """One request and the connection to answer it on."""

    def __init__(self, connection: socket.socket, raw: bytes, server: LoopbackServer) -> None:
        self.connection = connection
        self.server = server
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = lines[0].split(" ", 2)
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.json = json.loads(self.body) if self.body else None
        self.keeps_open = False

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def send_unprotected(self, data: bytes) -> None:
        """Bytes straight onto the connection, past its TLS."""
        socket.socket.sendall(self.connection, data)

    def head(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        fields = {"Content-Type": "text/event-stream", **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        last = "" if self.keeps_open else "Connection: close\r\n"
        self.send(f"HTTP/1.1 {status} Said\r\n{lines}{last}\r\n".encode("latin-1"))

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the server's own end."""
        self.server.stopping.wait(seconds)


class LoopbackServer:
    """Each request gets the next behaviour; the last one goes on for ever. With ``tls`` it speaks HTTPS.

    It can go down, so that connections are refused, and come up again on the same port.
    """

    def __init__(self, *behaviours: Behaviour, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.behaviours = list(behaviours)
        self.exchanges: list[Exchange] = []
        self.received = bytearray()
        self.connections = 0
        self.tls = tls
        self.stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self._socket.getsockname()[1])
        self._threads: list[threading.Thread] = []

    @property
    def base_url(self) -> str:
        return self.base_url_of("127.0.0.1")

    def base_url_of(self, host: str) -> str:
        """Its base URL under another name."""
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}/v1"

    def __enter__(self) -> LoopbackServer:
        self._listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopping.set()
        self.down()
        for thread in self._threads:
            thread.join(timeout=5)

    def down(self) -> None:
        """Refuse connections from now on; those that stand go on."""
        listening, self._socket = self._socket, None
        if listening is not None:
            with contextlib.suppress(OSError):  # not every system wakes the one that waits there
                listening.shutdown(socket.SHUT_RDWR)
            self._listener.join(timeout=5)  # a socket that somebody waits at stays open
            listening.close()

    def up(self) -> None:
        """Listen again, on the same port."""
        if self._socket is None:
            self._socket = socket.create_server(("127.0.0.1", self.port))
            self._listen()

    def wait_for_connections(self, count: int, timeout_s: float = 10.0) -> bool:
        """Whether so many connections were accepted in time: the system accepts one before the server knows of it."""
        ends_s = time.monotonic() + timeout_s
        while self.connections < count and time.monotonic() < ends_s:
            time.sleep(0.005)
        return self.connections >= count

    def _listen(self) -> None:
        self._socket.settimeout(0.05)
        self._listener = self._start(self._accept, self._socket)

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self, listening: socket.socket) -> None:
        while self._socket is listening:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while True:
                raw = b""
                while b"\r\n\r\n" not in raw or len(raw) < _whole_length(raw):
                    piece = connection.recv(65536)
                    if not piece:
                        return
                    self.received += piece
                    raw += piece
                exchange = Exchange(connection, raw, self)
                index = min(len(self.exchanges), len(self.behaviours) - 1)
                self.exchanges.append(exchange)
                self.behaviours[index](exchange)
                if not exchange.keeps_open:
                    break
            if self.tls is not None:
                connection.close()  # another object than the one that the block above closes


def _whole_length(raw: bytes) -> int:
    head, _, _ = raw.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(head) + 4 + int(line.split(b":")[1])
    return len(head) + 4


def chunk(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    """One server-sent chat completion chunk."""
    delta = {} if text is None else {"content": text}
    body = {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "cloud-model-7",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}\n\n'
DONE = b"data: [DONE]\n\n"


def whole_stream(*texts: str) -> bytes:
    return chunk("", role="assistant") + b"".join(map(chunk, texts)) + chunk(finish="stop") + USAGE + DONE


def answer(*texts: str) -> Behaviour:
    """A whole answer."""
    return stream(whole_stream(*(texts or ("Hello", " from", " afar."))))


def stream(data: bytes, *, piece: int = 0, headers: dict[str, str] | None = None) -> Behaviour:
    """These bytes as the body, in pieces of so many bytes, then the end of the connection."""

    def behave(exchange: Exchange) -> None:
        exchange.head(headers=headers)
        step = piece or max(1, len(data))
        for start in range(0, len(data), step):
            exchange.send(data[start : start + step])
            if piece:
                time.sleep(0.0005)

    return behave


def status(code: int, body: bytes = b"{}", headers: dict[str, str] | None = None) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        exchange.head(code, {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
        exchange.send(body)

    return behave


def raw(*pieces: bytes) -> Behaviour:
    """These bytes and nothing else, head included."""

    def behave(exchange: Exchange) -> None:
        for piece in pieces:
            exchange.send(piece)

    return behave


def endless(beginning: bytes, piece: bytes) -> Behaviour:
    """A beginning and then the same piece until nobody listens; about 64 KiB are sent at a time."""

    def behave(exchange: Exchange) -> None:
        exchange.send(beginning)
        many = piece * max(1, 65536 // len(piece))
        while not exchange.server.stopping.is_set():
            exchange.send(many)

    return behave


def silent(seconds: float = 30.0) -> Behaviour:
    """Nothing at all."""
    return lambda exchange: exchange.wait(seconds)


def stalls_after(data: bytes, seconds: float = 30.0) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(data)
        exchange.wait(seconds)

    return behave


def reset(after: bytes | None = None) -> Behaviour:
    """A TCP reset before the head, or after a part of the body."""

    def behave(exchange: Exchange) -> None:
        if after is not None:
            exchange.head()
            exchange.send(after)
            time.sleep(0.05)
        exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        exchange.connection.close()

    return behave


def kept(data: bytes, *, then_close: bool = False) -> Behaviour:
    """These bytes as a body with a known end, on a connection that stays open for the next request, or only seems to."""

    def behave(exchange: Exchange) -> None:
        exchange.keeps_open = True
        exchange.head(headers={"Content-Length": str(len(data))})
        exchange.send(data)
        exchange.keeps_open = not then_close

    return behave


def refused(code: int, name: str = "", headers: dict[str, str] | None = None, **more: object) -> Behaviour:
    """A status with an error as OpenAI words it, whose message quotes what was asked."""

    def behave(exchange: Exchange) -> None:
        error = {"message": f"You said: {exchange.body.decode()}", "code": name or None, **more}
        status(code, json.dumps({"error": error}).encode(), headers)(exchange)

    return behave


def busy(seconds: float, code: int = 429, *, as_date: bool = False) -> Behaviour:
    """Come back in so many seconds."""

    def behave(exchange: Exchange) -> None:
        value = formatdate(time.time() + seconds, usegmt=True) if as_date else f"{seconds:g}"
        refused(code, headers={"Retry-After": value})(exchange)

    return behave


def redirect(location: str, code: int = 307) -> Behaviour:
    return status(code, headers={"Location": location})


def login_page() -> Behaviour:
    """What a captive portal answers in everybody's name."""
    page = b"<!doctype html><title>Welcome to our network</title><form><input name=room></form>"
    return stream(page, headers={"Content-Type": "text/html; charset=utf-8"})


def late(seconds: float, *texts: str) -> Behaviour:
    """The head at once, and the first token after so many seconds."""

    def behave(exchange: Exchange) -> None:
        exchange.head()
        exchange.wait(seconds)
        exchange.send(whole_stream(*(texts or ("Hello", " from", " afar."))))

    return behave


def delta(**fields: object) -> bytes:
    """One chunk whose delta has these fields."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": fields}]}).encode() + b"\n\n"


EMPTY = delta(content="")
THOUGHT = delta(reasoning_content="Hm.", content=None)


def trickle(piece: bytes, wait_s: float = 0.05, *, beginning: bytes = b"") -> Behaviour:
    """A beginning and then the same piece again and again, as long as anybody listens."""

    def behave(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(beginning)
        while not exchange.server.stopping.is_set():
            exchange.send(piece)
            exchange.wait(wait_s)

    return behave


def bomb(mib: int = 64) -> Behaviour:
    """A small body that would become a large one."""
    squeezed = gzip.compress(bytes(mib << 20), compresslevel=1)
    return stream(squeezed, headers={"Content-Encoding": "gzip"})


def tunnel(port: int) -> Behaviour:
    """A proxy's CONNECT, whatever host it asks for leading to a port of loopback."""

    def behave(exchange: Exchange) -> None:
        with socket.create_connection(("127.0.0.1", port)) as target:
            exchange.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {exchange.connection: target, target: exchange.connection}
            while not exchange.server.stopping.is_set():
                ready, _, _ = select.select(list(ends), [], [], 0.05)
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    return behave


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
