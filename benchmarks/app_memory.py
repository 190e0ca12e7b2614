"""Peak resident memory of the application's process, the engine not counted: prints JSON in MiB.

Three programs, each in a fresh interpreter: the import alone, a client whose answers come from the engine's process, and a
client whose answers come from a server on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ASK = [{"role": "user", "content": "When do you open?"}]


class _Cloud(BaseHTTPRequestHandler):
    """Answers every request with the same short stream."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, reason in (({"content": "At nine."}, None), ({}, "stop")):
            piece = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: standard output is for the figures."""


def peak_mib() -> float:
    """The highest resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / (1 << 20)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def run_case(case: str, model: str | None, base_url: str | None, answers: int) -> None:
    """Run in the fresh interpreter: do the work and print its peak."""
    import hybridllm

    if case == "import":
        assert hybridllm.__version__
    else:
        from hybridllm import HybridClient, Remote

        remote = Remote(base_url=base_url, model="m") if base_url else None
        with HybridClient(model or "kiosk-assistant", remote=remote, policy="cloud-assist") as client:
            served = set()
            for _ in range(answers):
                with client.chat.completions.create(
                    messages=ASK, stream=True, privacy="public", max_tokens=32
                ) as stream:
                    list(stream)
                    served.add(stream.route.served_by)
        if served != {case}:
            raise SystemExit(f"answered by {served}, expected {case}")
    print(json.dumps({"peak_mib": peak_mib()}))


def measured_mib(case: str, *more: str) -> float:
    """Peak of one case, run in a fresh interpreter."""
    command = [sys.executable, __file__, "--case", case, *more]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    return round(json.loads(done.stdout.splitlines()[-1])["peak_mib"], 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a bundled model or a checkpoint folder")
    parser.add_argument("--answers", type=int, default=5)
    parser.add_argument("--case", choices=("import", "local", "remote"), help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        run_case(arguments.case, arguments.model, arguments.base_url, arguments.answers)
        return
    more = ["--answers", str(arguments.answers)]
    local = [*more, *(["--model", arguments.model] if arguments.model else [])]
    cloud = ThreadingHTTPServer(("127.0.0.1", 0), _Cloud)
    threading.Thread(target=cloud.serve_forever, daemon=True).start()
    try:
        figures = {
            "import_peak_mib": measured_mib("import"),
            "answers_from_the_engine_peak_mib": measured_mib("local", *local),
            "answers_from_a_remote_peak_mib": measured_mib(
                "remote", *more, "--base-url", f"http://127.0.0.1:{cloud.server_port}/v1"
            ),
        }
    finally:
        cloud.shutdown()
    print(json.dumps({"benchmark": "app_memory", "answers": arguments.answers, **figures}))


if __name__ == "__main__":
    main()
