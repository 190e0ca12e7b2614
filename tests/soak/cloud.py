"""The soak's cloud: a process of its own that answers rightly, or does what it was told last.

It listens on two ports, with TLS and without. A line on its standard input with the name of a fault makes it so; an empty line
makes it print what it has seen, as one line of JSON.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.behaviours import refused_with
from tests.faults.servers import (
    Certificates,
    ConnectionServer,
    endless_handshake,
    plaintext,
    read_request,
    reset_at_once,
    wait_silently,
)
from tests.hybridllm.leaks import MARK
from tests.hybridllm.loopback import Exchange, answer
from tests.soak.faults import HEALTHY, HTTP_FAULTS
from tests.soak.questions import CONTINUED, cloud_pieces

__all__ = ["Cloud", "CloudProcess"]

_ON_CONNECTION = {"accepted and silent": wait_silently, "reset at once": reset_at_once}
_IN_TLS = {"plaintext on the TLS port": plaintext, "a handshake that never ends": endless_handshake}


class Cloud:
    """Both ports.

    Args:
        folder: Where the authority's file goes.
    """

    def __init__(self, folder: Path) -> None:
        certificates = Certificates(folder)
        self.ca_file = certificates.ca_file
        self._right, self._wrong = certificates.right(), certificates.other_name()
        self._fault = HEALTHY
        self._chance = random.Random(0)
        self._seen: Counter[str] = Counter()
        self._private = 0
        self._lock = threading.Lock()
        self.servers = (
            ConnectionServer(lambda connection, server: self._serve(connection, server, tls=False)),
            ConnectionServer(lambda connection, server: self._serve(connection, server, tls=True)),
        )

    def become(self, fault: str) -> None:
        """Do this from now on."""
        was, self._fault = self._fault, fault
        for server in self.servers:
            if fault == "refused":
                server.down()
            elif was == "refused":
                server.up()

    def seen(self) -> dict[str, Any]:
        """What arrived."""
        with self._lock:
            return {"requests": sum(self._seen.values()), "by_fault": dict(self._seen), "private": self._private}

    def _serve(self, connection: socket.socket, server: ConnectionServer, *, tls: bool) -> None:
        fault = self._fault
        at_once = _ON_CONNECTION.get(fault) or (_IN_TLS.get(fault) if tls else None)
        if at_once is not None:
            at_once(connection, server)
            return
        if not tls:
            self._answer(connection, server, fault)
            return
        context: ssl.SSLContext = self._wrong if fault == "another host's certificate" else self._right
        with context.wrap_socket(connection, server_side=True) as protected:
            self._answer(protected, server, fault)

    def _answer(self, connection: socket.socket, server: ConnectionServer, fault: str) -> None:
        raw = read_request(connection)
        if not raw:
            return
        exchange = Exchange(connection, raw, server)  # type: ignore[arg-type]  # it needs no more of it than its end
        with self._lock:
            self._seen[fault] += 1
            self._private += MARK.encode() in raw
        body = exchange.json
        pieces = cloud_pieces(body.get("user", ""))
        if body["messages"][-1]["role"] == "assistant":  # somebody else began
            pieces = [CONTINUED]
        at = self._chance.randrange(len(pieces) + 1)
        if exchange.headers.get("authorization") == "Bearer revoked":
            refused_with(401, "invalid_api_key")(exchange)
        elif fault in HTTP_FAULTS:
            HTTP_FAULTS[fault](pieces, at)(exchange)
        else:
            answer(*pieces)(exchange)


class CloudProcess:
    """The cloud, from the soak's side.

    Args:
        folder: Where the authority's file goes.

    Attributes:
        http_port: Its port without TLS.
        https_port: Its port with TLS.
        ca_file: Whom to trust there.
    """

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.soak.cloud", str(folder)]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        found = self._read()
        self.http_port, self.https_port, self.ca_file = found["http_port"], found["https_port"], found["ca_file"]

    def become(self, fault: str) -> None:
        """Do this from now on."""
        with self._lock:
            self._write(f"{fault}\n")

    def seen(self) -> dict[str, Any]:
        """What arrived there."""
        with self._lock:
            self._write("\n")
            return self._read()

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


def main() -> None:
    """Be the cloud until standard input ends."""
    cloud = Cloud(Path(sys.argv[1]))
    plain, protected = cloud.servers
    with plain, protected:
        print(json.dumps({"http_port": plain.port, "https_port": protected.port, "ca_file": cloud.ca_file}), flush=True)
        for line in sys.stdin:
            if line.strip():
                cloud.become(line.strip())
            else:
                print(json.dumps(cloud.seen()), flush=True)


if __name__ == "__main__":
    main()
