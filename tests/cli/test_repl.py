"""The loop of a conversation, with a person who is quick with Ctrl-C."""

import pytest

from hybridllm.cli.chat_session import AskOptions, ChatSession
from hybridllm.cli.client_options import ClientOptions
from hybridllm.cli.conversation import Conversation
from hybridllm.cli.repl import Repl
from hybridllm.cli.terminal import Terminal
from tests.cli.programs import Program


class ImpatientTerminal(Terminal):
    """A terminal with a person, who presses Ctrl-C whenever something of the loop's own is being printed."""

    can_ask = True

    def __init__(self):
        super().__init__(plain=True, quiet=False)
        self.interrupted = []

    def note(self, text, style="dim"):
        self.interrupted.append(text)
        raise KeyboardInterrupt

    def error(self, text):
        self.note(text)


class Typed:
    """A reader that gives what was typed; an exception is raised."""

    def __init__(self, *entries):
        self._entries = [*entries, EOFError()]

    def read(self):
        entry = self._entries.pop(0)
        if isinstance(entry, BaseException):
            raise entry
        return entry


@pytest.mark.parametrize(
    ("typed", "note"),
    [
        (KeyboardInterrupt(), "Press Ctrl-D or type /exit to leave."),
        ("/nonsense", "There is no command /nonsense."),
        ("before", "Answered by this device"),
    ],
)
def test_ctrl_c_while_a_note_is_printed_ends_nothing(typed, note):
    program, terminal = Program("ok"), ImpatientTerminal()
    options = ClientOptions(None, None, None, None, None, None, None, None, False, None)
    session = ChatSession(terminal, program.open_client, options, AskOptions(), Conversation())
    try:
        code = Repl(session, Typed(typed, "Hello")).run()
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C ended the chat")
    finally:
        session.close()
    assert code == 0
    assert terminal.interrupted[0].startswith("Chatting with")
    assert terminal.interrupted[1].startswith(note)
    assert program.backend.requests[-1].messages[-1].text == "Hello"
