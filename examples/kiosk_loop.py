"""A kiosk that starts without a network, uses a remote while one is there, and goes on when it vanishes.

    python examples/kiosk_loop.py "When do you open?" "Where is the café?"
    printf 'When do you open?\n' | python examples/kiosk_loop.py
    python examples/kiosk_loop.py --remote-url http://127.0.0.1:8000/v1 --remote-model large "When do you open?"

Questions are taken from the arguments, or line by line from standard input, so the loop can stand behind any front end.
A line ``private: ...`` is labelled private: no remote sees it, however good the connection is. Everything else is labelled
public here, since this kiosk's sheet is what hangs at its door anyway; without a label it would count as private.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator  # noqa: TC003 - an example reads better without a second import block
from pathlib import Path

from hybridllm import HybridClient, HybridLLMError, Remote

FOLDER = Path(__file__).parent
PRIVATE = "private:"


def questions(arguments: Iterable[str]) -> Iterator[str]:
    """The questions of the command line, or else the lines of standard input, as they come."""
    yield from (line.strip() for line in (arguments or sys.stdin) if line.strip())


def main() -> int:
    """Answer every question; return the exit code."""
    parser = argparse.ArgumentParser(description="A kiosk that goes on when the network does not.")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="without any, lines of standard input")
    parser.add_argument("--sheet", type=Path, default=FOLDER / "fact_sheets" / "museum.md")
    parser.add_argument("--policy", default=str(FOLDER / "kiosk_loop.yaml"), help="a policy file or a preset's name")
    parser.add_argument("--remote-url", help="an OpenAI-compatible server; its key is read from KIOSK_REMOTE_KEY")
    parser.add_argument("--remote-model", default="default", help="the model's name there")
    parser.add_argument("--model", default="kiosk-assistant", help="a bundled model's name or a checkpoint folder")
    arguments = parser.parse_args()
    try:
        system = {"role": "system", "content": arguments.sheet.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        print(f"The sheet {arguments.sheet} cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        remote = None
        if arguments.remote_url:
            remote = Remote(
                base_url=arguments.remote_url,
                model=arguments.remote_model,
                api_key=os.environ.get("KIOSK_REMOTE_KEY") or None,
                connect_timeout_s=1.0,
                max_retries=0,  # a visitor is waiting, and the device can answer
            )
        with HybridClient(model=arguments.model, remote=remote, policy=arguments.policy) as client:
            for question in questions(arguments.questions):
                answer(client, system, question)
    except HybridLLMError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def answer(client: HybridClient, system: dict[str, str], question: str) -> None:
    """Answer one question and print which way the answer came; one that cannot be answered does not end the loop."""
    private = question.lower().startswith(PRIVATE)
    text = question[len(PRIVATE) :].strip() if private else question
    try:
        reply = client.chat.completions.create(
            messages=[system, {"role": "user", "content": text}],
            privacy="private" if private else "public",
            temperature=0,
            max_tokens=200,
        )
    except HybridLLMError as error:
        print(f"[not answered] {error}", flush=True)
        return
    route = reply.route
    failed = [f"{attempt.place} failed" for attempt in route.attempts if attempt.outcome == "failed"]
    aside = f" after {', '.join(failed)}" if failed else ""
    print(f"[{route.served_by}, {route.rule}{aside}] {reply.choices[0].message.content}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
