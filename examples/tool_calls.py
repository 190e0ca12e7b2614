"""An assistant that looks things up: the model calls functions of this program, and answers from what they return.

    python examples/tool_calls.py --model path/to/a/checkpoint-with-tools "When do you open on Sunday?"
    python examples/tool_calls.py --remote-url http://127.0.0.1:8000/v1 --remote-model large "When do you open on Sunday?"

The functions run here, whoever answers. What the tables say hangs at the door, so their results are labelled public; a function
that reads somebody's records would give its result ``privacy="private"``, and from then on nothing of the conversation leaves the
device.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable  # noqa: TC003 - an example reads better without a second import block

from hybridllm import Conversation, HybridClient, HybridLLMError, Remote

HOURS = {"monday": "closed", "saturday": "9 to 18", "sunday": "9 to 18"}
PRICES = {"adults": 12, "children": 0, "audio guide": 3}
MOST_ROUNDS = 5  # of calls; a model that still wants to look things up then has lost its way


def opening_hours(day: str) -> str:
    """When it is open on a day."""
    return HOURS.get(day.lower(), "10 to 17")


def price(what: str) -> str:
    """What something costs, in euros."""
    return f"{PRICES[what.lower()]} euros" if what.lower() in PRICES else f"unknown; known are {', '.join(PRICES)}"


FUNCTIONS: dict[str, Callable[..., str]] = {"opening_hours": opening_hours, "price": price}


def tool(name: str, description: str, argument: str) -> dict[str, object]:
    """A function with one argument, which is a text, as the model is told of it."""
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("opening_hours", "When the museum is open on a day of the week.", "day"),
    tool("price", "What a ticket or an audio guide costs.", "what"),
]


def result_of(name: str, arguments: str) -> str:
    """Call a function as the model asks; what it did wrong is told to it, so that it can try again."""
    try:
        return FUNCTIONS[name](**json.loads(arguments))
    except (ValueError, TypeError, AttributeError) as error:
        return f"The call is not usable: {type(error).__name__}."


def answer(talk: Conversation, question: str) -> str:
    """Ask, make the calls that the model wants, and return what it says in the end."""
    reply = talk.create(question, privacy="public", tools=TOOLS, temperature=0)
    for _ in range(MOST_ROUNDS):
        calls = reply.choices[0].message.tool_calls
        if not calls:
            break
        for call in calls:
            result = result_of(call.function.name, call.function.arguments)
            print(f"  {call.function.name}({call.function.arguments}) -> {result}", file=sys.stderr)
            talk.add_tool_result(call.id, result, privacy="public")
        reply = talk.create(privacy="public", tools=TOOLS, temperature=0)
    return f"[{reply.route.served_by}] {reply.choices[0].message.content or '(no answer)'}"


def main() -> int:
    """Answer every question of the command line; return the exit code."""
    parser = argparse.ArgumentParser(description="An assistant that looks things up.")
    parser.add_argument("questions", nargs="+", metavar="QUESTION")
    parser.add_argument("--model", default="kiosk-assistant", help="a checkpoint whose chat template knows tools")
    parser.add_argument("--remote-url", help="an OpenAI-compatible server; its key is read from REMOTE_KEY")
    parser.add_argument("--remote-model", default="default", help="the model's name there")
    arguments = parser.parse_args()
    try:
        remote = None
        if arguments.remote_url:
            key = os.environ.get("REMOTE_KEY") or None
            remote = Remote(base_url=arguments.remote_url, model=arguments.remote_model, api_key=key)
        with HybridClient(model=arguments.model, remote=remote, policy="cloud-assist") as client:
            for question in arguments.questions:
                print(answer(client.conversation(), question), flush=True)
    except HybridLLMError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
