"""A conversation in a real terminal."""

import json
import re
import signal
import stat
import sys

import pytest

pytest.importorskip("pexpect", reason="Windows has no pseudo-terminals for pexpect")

from tests.cli.terminal_session import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    ENTER,
    PASTE_BEGIN,
    PASTE_END,
    TAB,
    UP,
    TerminalSession,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


def test_a_conversation_shows_markdown_and_says_which_way_the_answer_came(tmp_path):
    with TerminalSession(tmp_path, ["We open at **nine**.\n\n- Monday\n- Tuesday"]) as chat:
        chat.wait_for("/help shows what you can do")
        chat.wait_for_prompt(1)
        chat.say("When do you open?")
        chat.wait_for("Answered by this device, rule ")
        assert "We open at nine." in chat.seen
        assert " • Monday" in chat.seen
        assert "**" not in chat.seen
        assert re.search(r"first after [\d.]+ m?s", chat.seen)
        chat.wait_for_prompt(2)
        chat.send(CTRL_D)
        assert chat.end() == 0


def test_thoughts_stand_above_the_answer(tmp_path):
    reply = {"text": "At **nine**.", "reasoning": "They ask for\x1b[2J the hours."}
    with TerminalSession(tmp_path, [reply, {"text": "", "reasoning": "Only thoughts."}]) as chat:
        chat.wait_for_prompt(1)
        chat.say("When do you open?")
        chat.wait_for("Answered by this device, rule ")
        assert re.search(r"They ask for\S* the hours\.\s*\n\s*\n\s*At nine\.", chat.seen)
        chat.wait_for_prompt(2)
        chat.say("Again")
        chat.wait_for("Only thoughts.")
        chat.wait_for_prompt(3)
        chat.send(CTRL_D)
        assert chat.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path):
    with TerminalSession(tmp_path, [{"text": "word " * 2000, "token_s": 0.02}, "Second answer."]) as chat:
        chat.wait_for_prompt(1)
        chat.say("Talk")
        chat.wait_for("word word word")
        chat.send(CTRL_C)
        chat.wait_for("Stopped. /regen answers again.")
        chat.wait_for_prompt(2)
        assert chat.seen.count("word") < 1000
        chat.say("Again")
        chat.wait_for("Second answer.")
        chat.wait_for_prompt(3)
        chat.say("/stats")
        chat.wait_for("Stopped:        1")
        chat.say("/exit")
        assert chat.end() == 0


def test_ctrl_c_at_the_prompt_says_how_to_leave(tmp_path):
    with TerminalSession(tmp_path, ["Hi."]) as chat:
        chat.wait_for_prompt(1)
        chat.send("half a mess" + CTRL_C)
        chat.wait_for("Press Ctrl-D or type /exit to leave.")
        chat.say("Hello")
        chat.wait_for("Hi.")


def test_sigterm_gives_the_terminal_back_as_it_was(tmp_path):
    with TerminalSession(tmp_path, ["Hi."]) as chat:
        chat.wait_for_prompt(1)
        chat.child.kill(signal.SIGTERM)
        assert chat.end() == 143
        assert chat.raw.rfind("\x1b[?2004l") > chat.raw.rfind("\x1b[?2004h")  # bracketed paste is off again
        assert chat.raw.rfind("\x1b[?25h") > chat.raw.rfind("\x1b[?25l")  # and the cursor is there
        assert "Traceback" not in chat.seen


def test_a_narrow_terminal_breaks_lines_between_words(tmp_path):
    with TerminalSession(tmp_path, ["Good morning, visitor."], columns=20, lines=10) as chat:
        chat.wait_for_prompt(1)
        chat.say("Hi")
        chat.wait_for("Answered by this")
        chat.wait_for_prompt(2)
        assert "Good morning,\nvisitor.\nAnswered by this\ndevice, rule" in chat.seen


def test_a_paste_of_many_lines_is_one_message_and_is_not_sent_by_itself(tmp_path):
    with TerminalSession(tmp_path, ["Seen."]) as chat:
        chat.wait_for_prompt(1)
        chat.send(PASTE_BEGIN + "first\nsecond\n/exit\nlast" + PASTE_END)
        chat.wait_for("last")
        assert "Seen." not in chat.seen
        chat.send(ENTER)
        chat.wait_for("Seen.")
        chat.wait_for_prompt(2)
        chat.say(f"/save {tmp_path}/chat.json")
        chat.wait_for("Saved 2 messages")
        saved = json.loads((tmp_path / "chat.json").read_text())
        assert saved["messages"][0]["content"] == "first\nsecond\n/exit\nlast"


def test_alt_enter_backslash_and_quotes_make_messages_of_many_lines(tmp_path):
    with TerminalSession(tmp_path, ["ok"], script={"cycle": True}) as chat:
        chat.wait_for_prompt(1)
        chat.send("one" + ALT_ENTER + "two" + ENTER)
        chat.wait_for("Answered by", times=1)
        chat.say("three\\")
        chat.say("four")
        chat.wait_for("Answered by", times=2)
        chat.say('"""')
        chat.say("five")
        chat.say("")
        chat.say('six"""')
        chat.wait_for("Answered by", times=3)
        chat.say(f"/save {tmp_path}/chat.json")
        chat.wait_for("Saved 6 messages")
        saved = json.loads((tmp_path / "chat.json").read_text())
        assert [entry["content"] for entry in saved["messages"][::2]] == ["one\ntwo", "three\nfour", "five\n\nsix"]


def test_why_names_the_rule_with_its_file_and_line(tmp_path):
    with TerminalSession(tmp_path, ["ok"]) as chat:
        chat.wait_for_prompt(1)
        chat.say("/why")
        chat.wait_for("Nothing was answered yet")
        chat.say("Hello")
        chat.wait_for("Answered by this device")
        chat.say("/why")
        chat.wait_for("Left device: nothing")
        assert re.search(r"^Rule:        \S+ \(policies/presets/offline-first\.yaml:\d+\)$", chat.seen, re.MULTILINE)
        assert re.search(r"^Label:       private$", chat.seen, re.MULTILINE)
        assert re.search(r"^Attempt 1:   this device: served after", chat.seen, re.MULTILINE)


def test_history_is_there_in_the_next_chat_and_readable_by_its_owner_only(tmp_path):
    with TerminalSession(tmp_path, ["ok"]) as chat:
        chat.wait_for_prompt(1)
        chat.say("an unusual question")
        chat.wait_for("Answered by")
        chat.wait_for_prompt(2)
        chat.send(CTRL_D)
        assert chat.end() == 0
    history = next((tmp_path / "state").rglob("history"), None) or next(tmp_path.rglob("history"))
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with TerminalSession(tmp_path, ["again"]) as chat:
        chat.wait_for_prompt(1)
        chat.send(UP)
        chat.wait_for("> an unusual question")
        chat.send(ENTER)
        chat.wait_for("again")


def test_no_history_writes_nothing(tmp_path):
    with TerminalSession(tmp_path, ["ok"], "--no-history") as chat:
        chat.wait_for_prompt(1)
        chat.say("secret")
        chat.wait_for("Answered by")
        chat.wait_for_prompt(2)
        chat.send(CTRL_D)
        assert chat.end() == 0
    assert list(tmp_path.rglob("history")) == []


def test_tab_completes_a_command(tmp_path):
    with TerminalSession(tmp_path, ["ok"]) as chat:
        chat.wait_for_prompt(1)
        chat.send("/sta" + TAB)
        chat.wait_for("> /stats")
        chat.send(ENTER)
        chat.wait_for("Answers:        none yet")


def test_an_answer_longer_than_the_screen_is_printed_whole_and_once(tmp_path):
    words = [f"line{number}" for number in range(60)]
    with TerminalSession(tmp_path, ["\n\n".join(words)], lines=12) as chat:
        chat.wait_for_prompt(1)
        chat.say("Go")
        chat.wait_for("Answered by")
        chat.wait_for_prompt(2)
        shown = [line.strip() for line in chat.seen.splitlines()]
        assert [line for line in shown if line.startswith("line")] == words


def test_escape_sequences_in_an_answer_do_nothing_to_the_terminal(tmp_path):
    with TerminalSession(tmp_path, ["safe \x1b]0;stolen title\x07 \x1b[2J\x9b31m text"]) as chat:
        chat.wait_for_prompt(1)
        chat.say("Go")
        chat.wait_for("Answered by")
        assert "\x1b]0;stolen" not in chat.raw
        assert "\x1b[2J" not in chat.raw
        assert "safe" in chat.seen


def test_plain_mode_moves_no_cursor_and_uses_no_colour(tmp_path):
    with TerminalSession(tmp_path, ["We open at **nine**."], "--plain") as chat:
        chat.wait_for("You:")
        chat.send("When?\n")
        chat.wait_for("Answered by this device")
        chat.wait_for("You:", times=2)
        assert "We open at **nine**." in chat.seen
        chat.send(CTRL_C)
        chat.wait_for("Press Ctrl-D or type /exit to leave.")
        chat.send(CTRL_D)
        assert chat.end() == 0
        assert "\x1b" not in chat.raw


def test_a_dumb_terminal_gets_plain_mode(tmp_path):
    with TerminalSession(tmp_path, ["We open at **nine**."], TERM="dumb") as chat:
        chat.wait_for("You:")
        chat.send("When?\n")
        chat.wait_for("**nine**")
        assert "\x1b" not in chat.raw


def test_no_color_keeps_the_layout_and_drops_the_colours(tmp_path):
    with TerminalSession(tmp_path, ["`code` and [a link](https://x.example)\n\n# Title"], NO_COLOR="1") as chat:
        chat.wait_for_prompt(1)
        chat.say("Go")
        chat.wait_for("Answered by")
        assert "Title" in chat.seen
        answer = chat.raw.split("Go", 1)[1]
        assert not re.search(r"\x1b\[[0-9;]*\b(3[0-7]|38|4[0-7]|48|9[0-7])\b[0-9;]*m", answer.split("> ")[0])
