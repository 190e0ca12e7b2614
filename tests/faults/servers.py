"""Servers that misbehave below HTTP: on the connection and in its TLS. What misbehaves above is in ``behaviours``."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trustme

from tests.hybridllm.loopback import Behaviour, LoopbackServer, free_port

Handle = Callable[[socket.socket, "ConnectionServer"], None]
HOST = "127.0.0.1"


class ConnectionServer:
    """Hands every connection to a function, in a thread of its own, and closes it afterwards.

    Attributes:
        received: What was read with ``read``.
        connections: How many there were.
        stopping: Set when the server ends; functions that wait, wait for it.
    """

    def __init__(self, handle: Handle, *, port: int = 0) -> None:
        self.received = bytearray()
        self.connections = 0
        self.stopping = threading.Event()
        self._handle = handle
        self._socket: socket.socket | None = socket.create_server((HOST, port))
        self.port = int(self._socket.getsockname()[1])
        self._listener = threading.Thread()
        self._threads: list[threading.Thread] = []

    def read(self, connection: socket.socket) -> bytes:
        """What comes next, and is written down."""
        data = connection.recv(65536)
        self.received += data
        return data

    def __enter__(self) -> ConnectionServer:
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
            with contextlib.suppress(OSError):  # wakes the thread that accepts, on every system
                socket.create_connection((HOST, self.port), timeout=1).close()
            self._listener.join(timeout=5)
            listening.close()

    def up(self) -> None:
        """Listen again, on the same port."""
        if self._socket is None:
            self._socket = socket.create_server((HOST, self.port))
            self._listen()

    def _listen(self) -> None:
        self._listener = threading.Thread(target=self._accept, args=(self._socket,), daemon=True)
        self._listener.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            if self._socket is not listening:
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5)
            self._handle(connection, self)


def read_request(connection: socket.socket) -> bytes:
    """One HTTP request, head and body; empty where the connection ends before it is whole."""
    raw, needed = b"", 0
    while not needed or len(raw) < needed:
        piece = connection.recv(65536)
        if not piece:
            return b""
        raw += piece
        head, found, _ = raw.partition(b"\r\n\r\n")
        if found:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            needed = len(head) + 4 + (int(lengths[0].split(b":")[1]) if lengths else 0)
    return raw


def plaintext(connection: socket.socket, server: ConnectionServer) -> None:
    """What a server without TLS says to a greeting in TLS."""
    server.read(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def endless_handshake(connection: socket.socket, server: ConnectionServer) -> None:
    """A greeting is read, and nothing comes back."""
    server.read(connection)
    server.stopping.wait(30)


def wait_silently(connection: socket.socket, server: ConnectionServer) -> None:
    """The connection is accepted, and not even read."""
    server.stopping.wait(30)


def reset_at_once(connection: socket.socket, server: ConnectionServer) -> None:
    """The connection is reset as soon as something came."""
    server.read(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that swallows whoever wants to connect: its queue is full, so Linux drops what comes (tcp(7), ``listen(2)``)."""
    with contextlib.ExitStack() as held:
        server = held.enter_context(contextlib.closing(socket.socket()))
        server.bind((HOST, 0))
        server.listen(0)
        port = int(server.getsockname()[1])
        for _ in range(3):
            waiting = held.enter_context(contextlib.closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex((HOST, port))
        yield port


class Certificates:
    """Certificates of one authority, right ones and wrong ones, for a server on loopback.

    Args:
        folder: Where the authority's file goes.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca_file = str(folder / "authority.pem")
        self._itself = folder / "itself.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)

    def right(self) -> ssl.SSLContext:
        """What a server shows that all is well with."""
        return self._context(self._authority.issue_cert(HOST))

    def other_name(self) -> ssl.SSLContext:
        """A certificate for somebody else."""
        return self._context(self._authority.issue_cert("other.example"))

    def expired(self) -> ssl.SSLContext:
        """A certificate that was right until yesterday."""
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        return self._context(
            self._authority.issue_cert(HOST, not_before=yesterday - datetime.timedelta(days=30), not_after=yesterday)
        )

    def vouching_for_itself(self) -> ssl.SSLContext:
        """A certificate that no authority has signed."""
        itself = trustme.CA()
        self._itself.write_bytes(itself.private_key_pem.bytes() + itself.cert_pem.bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._itself)
        return context

    def unknown_authority(self) -> ssl.SSLContext:
        """A certificate of an authority that nobody knows."""
        return self._context(trustme.CA().issue_cert(HOST))

    @staticmethod
    def _context(certificate: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context


class Site:
    """Where the remote is said to be, and what arrived there.

    Attributes:
        base_url: Its base URL.
        ca_file: Whom to trust there; None where no TLS is spoken.
        server: Who listens there; None for nobody.
    """

    def __init__(
        self, base_url: str, server: LoopbackServer | ConnectionServer | None = None, ca_file: str | None = None
    ) -> None:
        self.base_url = base_url
        self.ca_file = ca_file
        self.server = server

    @property
    def requests(self) -> int:
        """Requests that arrived whole."""
        return len(self.server.exchanges) if isinstance(self.server, LoopbackServer) else 0

    @property
    def received(self) -> bytes:
        """All bytes that arrived, without what TLS hid."""
        return b"" if self.server is None else bytes(self.server.received)

    def stop(self) -> None:
        """Let the server come to its end."""
        if self.server is not None:
            self.server.stopping.set()


SiteMaker = Callable[[Certificates], contextlib.AbstractContextManager[Site]]


def http(*behaviours: Behaviour) -> SiteMaker:
    """A server that answers requests like this, the last one for ever."""

    @contextlib.contextmanager
    def make(certificates: Certificates) -> Iterator[Site]:
        with LoopbackServer(*behaviours) as server:
            yield Site(server.base_url, server)

    return make


def https(context: Callable[[Certificates], ssl.SSLContext], *behaviours: Behaviour) -> SiteMaker:
    """The same over TLS."""

    @contextlib.contextmanager
    def make(certificates: Certificates) -> Iterator[Site]:
        with LoopbackServer(*behaviours, tls=context(certificates)) as server:
            yield Site(server.base_url, server, certificates.ca_file)

    return make


def connection(handle: Handle, *, tls: bool = False) -> SiteMaker:
    """A server that does this with every connection; with ``tls`` it is said to speak TLS."""

    @contextlib.contextmanager
    def make(certificates: Certificates) -> Iterator[Site]:
        with ConnectionServer(handle) as server:
            scheme, ca_file = ("https", certificates.ca_file) if tls else ("http", None)
            yield Site(f"{scheme}://{HOST}:{server.port}/v1", server, ca_file)

    return make


@contextlib.contextmanager
def nobody(certificates: Certificates) -> Iterator[Site]:
    """A port that refuses."""
    yield Site(f"http://{HOST}:{free_port()}/v1")


@contextlib.contextmanager
def unknown_name(certificates: Certificates) -> Iterator[Site]:
    """A name that no resolver knows (RFC 6761, section 6.4)."""
    yield Site("https://no-such-host.invalid/v1")


@contextlib.contextmanager
def swallowed(certificates: Certificates) -> Iterator[Site]:
    """A network that swallows what is sent."""
    with black_hole() as port:
        yield Site(f"http://{HOST}:{port}/v1")
