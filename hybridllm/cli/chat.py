"""``hybridllm chat``: one answer, or a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hybridllm.cli import options  # noqa: TC001 - typer reads the annotations at run time
from hybridllm.cli.app import app, command, services_of
from hybridllm.cli.client_options import ClientOptions
from hybridllm.cli.mistakes import CommandError
from hybridllm.cli.terminal import Terminal

if TYPE_CHECKING:
    from hybridllm.cli.chat_session import AskOptions, ChatSession
    from hybridllm.cli.client_options import OpenClient
    from hybridllm.cli.conversation import Conversation

__all__ = ["chat"]


@command(app, "chat", "Answer one message, or hold a conversation.")
def chat(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="The message; - reads it from standard input; without it a conversation begins."
        ),
    ] = None,
    model: options.Model = None,
    quant: options.Quant = None,
    target: options.Target = None,
    threads: options.Threads = None,
    context_tokens: options.ContextTokens = None,
    system: Annotated[
        str | None, typer.Option(help="The system message, or @FILE with it.", metavar="TEXT|@FILE")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, max=2.0, metavar="X", help="How freely words are drawn; 0 takes the likeliest always."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The most tokens of one answer.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Makes the draws reproducible.")] = None,
    deadline_s: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds within which an answer must be whole.", metavar="SECONDS")
    ] = None,
    privacy: options.Privacy = None,
    tag: options.Tag = None,
    policy: options.PolicyOption = None,
    remote_url: options.RemoteUrl = None,
    remote_model: options.RemoteModel = None,
    offline: options.Offline = False,
    config: options.Config = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one OpenAI chat-completion object plus its route, nothing else.")
    ] = False,
    plain: options.Plain = False,
    quiet: options.Quiet = False,
    no_history: Annotated[
        bool, typer.Option("--no-history", help="Neither read nor write the history of typed messages.")
    ] = False,
) -> None:
    """Answer one message, or hold a conversation.

    \b
    Examples:
      hybridllm chat "What can you do?"
      hybridllm chat --system @sheet.md "When do you open?"
      hybridllm chat --json "Hello" | python -m json.tool
      cat letter.txt | hybridllm chat -
      hybridllm chat                          a conversation; /help lists its commands
      hybridllm chat --remote-url https://llm.example/v1 --remote-model large --privacy public
    """
    from hybridllm.cli.attachment import argument_text, read_stdin, text_or_file
    from hybridllm.cli.chat_session import AskOptions
    from hybridllm.cli.conversation import Conversation

    terminal = Terminal(plain=plain, quiet=quiet)
    if as_json and prompt is None:
        raise CommandError("--json needs a message: give it as an argument, or - to read it from standard input.")
    text = None if prompt is None else read_stdin() if prompt == "-" else argument_text(prompt, "The message")
    if text is not None and not text.strip():
        raise CommandError("The message is empty. Write something, or leave it out for a conversation.")
    conversation = Conversation(
        system=text_or_file(system) if system is not None else None, privacy=privacy, tags=tuple(tag or ())
    )
    asking = AskOptions(temperature=temperature, max_tokens=max_tokens, seed=seed, deadline_s=deadline_s)
    client_options = ClientOptions(
        model, quant, target, threads, context_tokens, policy, remote_url, remote_model, offline, config
    )
    opener = services_of(context).open_client
    if text is not None and as_json:
        _answer_as_json(terminal, opener, client_options, asking, conversation, text)
        return
    from hybridllm.cli.chat_session import ChatSession

    session = ChatSession(terminal, opener, client_options, asking, conversation)
    try:
        if text is not None:
            _answer_once(session, text)
        else:
            _converse(session, keep_history=not no_history)
    finally:
        session.close()


def _answer_once(session: ChatSession, text: str) -> None:
    from hybridllm.cli.route_report import status_line

    answer = session.ask(text)
    if answer.stopped:
        raise KeyboardInterrupt
    if answer.route is not None:
        tokens = answer.usage.completion_tokens if answer.usage else None
        session.terminal.note(status_line(answer.route, completion_tokens=tokens, finish_reason=answer.finish_reason))


def _converse(session: ChatSession, *, keep_history: bool) -> None:
    from hybridllm.cli.line_reader import line_reader
    from hybridllm.cli.repl import Repl

    session.load()
    code = Repl(session, line_reader(session.terminal, keep_history=keep_history)).run()
    if code:
        raise typer.Exit(code)


def _answer_as_json(
    terminal: Terminal,
    opener: OpenClient,
    client_options: ClientOptions,
    asking: AskOptions,
    conversation: Conversation,
    text: str,
) -> None:
    from hybridllm.cli.progress import LoadProgress

    with LoadProgress(terminal) as progress, opener(client_options, progress) as client:
        completion = client.chat.completions.create(
            messages=conversation.request(text),
            privacy=conversation.privacy,
            tags=conversation.tags,
            **asking.fields(),
        )
        progress.close()
        terminal.write(completion.model_dump_json() + "\n")
