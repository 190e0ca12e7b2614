"""An assistant in the terminal that answers from a fact sheet, on this device.

    python examples/terminal_assistant.py
    python examples/terminal_assistant.py --sheet examples/fact_sheets/clinic.md
    python examples/terminal_assistant.py --ask "How much is a ticket for students?"

Write your own sheet: plain lines such as ``Adults: 12 euros``. Nothing leaves the device, and no network is needed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hybridllm import HybridClient, HybridLLMError

SHEETS = Path(__file__).parent / "fact_sheets"
MOST_TOKENS = 200  # of one answer
MOST_REMEMBERED = 8  # messages; the sheet and what was said last matter most in a small context


def answer(client: HybridClient, messages: list[dict[str, str]]) -> str:
    """Print the answer as it comes, then which way it came; return its text."""
    text = ""
    with client.chat.completions.create(
        messages=messages, stream=True, temperature=0, max_tokens=MOST_TOKENS
    ) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                piece = choice.delta.content or ""
                text += piece
                print(piece, end="", flush=True)
        print()
        route = stream.route
    speed = f", {route.tokens_per_s:.0f} tokens/s" if route.tokens_per_s else ""
    print(f"(answered by {route.served_by}, rule {route.rule}{speed})", file=sys.stderr)
    return text


def converse(client: HybridClient, system: dict[str, str]) -> None:
    """Answer questions until the input ends; Ctrl-C stops an answer."""
    said: list[dict[str, str]] = []
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not question:
            continue
        asked = {"role": "user", "content": question}
        try:
            text = answer(client, [system, *said[-MOST_REMEMBERED:], asked])
        except KeyboardInterrupt:
            print("\n(stopped)", file=sys.stderr)
            continue
        except HybridLLMError as error:
            print(f"(not answered) {error}", file=sys.stderr)
            continue
        said += [asked, {"role": "assistant", "content": text}]


def main() -> int:
    """Read the arguments, answer, and return the exit code."""
    parser = argparse.ArgumentParser(description="Answers from a fact sheet, on this device.")
    parser.add_argument("--sheet", type=Path, default=SHEETS / "museum.md", help="the fact sheet, a text file")
    parser.add_argument("--ask", metavar="QUESTION", help="answer this one question and leave")
    parser.add_argument("--model", default="kiosk-assistant", help="a bundled model's name or a checkpoint folder")
    arguments = parser.parse_args()
    try:
        system = {"role": "system", "content": arguments.sheet.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        print(f"The sheet {arguments.sheet} cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        with HybridClient(model=arguments.model) as client:
            if arguments.ask:
                answer(client, [system, {"role": "user", "content": arguments.ask}])
            else:
                converse(client, system)
    except HybridLLMError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
