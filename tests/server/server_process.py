"""``hybridllm serve`` in a process of its own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading

from tests.cli.programs import clean_environment
from tests.engine_cache import ROOT
from tests.server.live_server import QUESTION, request, until

_LISTENING = re.compile(r"Listening on (http://\S+:(\d+)), policy (\S+?)(?:, model (\S+))?\.")


class ServerProcess:
    """A server that is started with some options, and ends with its block.

    Args:
        command: The program, up to its options.
        argv: The options; a free port is added.
        environment: Changes of the environment.
    """

    def __init__(self, command, *argv, **environment):
        self.process = subprocess.Popen(
            [*command, "serve", "--port", "0", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=ROOT, env=clean_environment(PYTHONPATH=str(ROOT), **environment),
        )  # fmt: skip
        self.out, self.errors = [], []
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]

    @staticmethod
    def _read(stream, lines):
        with stream:
            lines.extend(iter(stream.readline, ""))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=60)
        for thread in self._threads:
            thread.join(timeout=60)

    def listening(self, within_s=90.0):
        """Wait until it says where it listens; returns what it says."""
        until(lambda: self.out or self.process.poll() is not None, "the line", within_s)
        match = _LISTENING.fullmatch("".join(self.out).strip())
        assert match, (self.out, self.errors)
        self.url, self.port = match[1], int(match[2])
        return match

    def ask(self, **fields):
        """A chat completion."""
        body = json.dumps({"messages": QUESTION, **fields}).encode()
        return request(self.port, "POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})

    def get(self, path):
        """Anything else."""
        return request(self.port, "GET", path)

    def refuses(self):
        """Whether it takes no further connection."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=30).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:  # it waited to be accepted when that ended
            return False
        return False

    def ended(self, within_s=60.0):
        """Wait until it ends; returns its exit status."""
        return self.process.wait(timeout=within_s)

    def says(self, text):
        """Whether a line on standard error has this."""
        return any(text in line for line in self.errors)


def scripted(folder, replies=("At nine.",), **more):
    """The program with a scripted place on the device."""
    path = folder / "script.json"
    path.write_text(json.dumps({"replies": list(replies), **more}), encoding="utf-8")
    return [sys.executable, "-m", "tests.server.scripted_server", str(path)]


class ServiceManager:
    """What systemd is to a service: a socket that it tells how it is."""

    def __init__(self, address):
        self.messages = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def _listen(self):
        while not self._ended.is_set():
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except TimeoutError:
                continue

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._ended.set()
        self._thread.join(timeout=30)
        self._socket.close()

    def heard(self, start):
        """The messages that begin like this."""
        return [message for message in self.messages if message.startswith(start)]
