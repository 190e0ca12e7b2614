"""The commands of a conversation, line by line through a pipe: no terminal, no colours, every line a message."""

import json

import pytest

from hybridllm.testing import ScriptedReply
from tests.cli.programs import Program
from tests.hybridllm.loopback import LoopbackServer, answer


def converse(program, *lines, argv=()):
    return program.run("chat", *argv, stdin="".join(f"{line}\n" for line in lines))


def asked(program, number=-1):
    return [(message.role, message.text) for message in program.backend.requests[number].messages]


def test_a_piped_conversation_keeps_what_was_said():
    program = Program("First.", "Second.")
    result = converse(program, "one", "", "two")
    assert result.exit_code == 0
    assert result.stdout == "First.\nSecond.\n"
    assert asked(program) == [("user", "one"), ("assistant", "First."), ("user", "two")]
    assert program.backend.closed


def test_help_lists_the_commands():
    result = converse(Program(), "/help")
    assert "/why" in result.stdout
    assert "Ctrl-C stops the answer" in result.stdout


def test_an_unknown_command_is_said_and_the_chat_goes_on():
    result = converse(Program("Hi."), "/wyh", "Hello")
    assert result.exit_code == 0
    assert "There is no command /wyh. Did you mean /why?" in result.stderr
    assert result.stdout == "Hi.\n"


def test_system_is_set_from_text_and_file_and_removed(tmp_path):
    sheet = tmp_path / "sheet.md"
    sheet.write_text("Open at nine.")
    program = Program("ok")
    result = converse(program, "/system", "/system Be kind.", "a", f"/system @{sheet}", "b", "/system none", "c")
    assert "There is no system message" in result.stdout
    assert asked(program, 0)[0] == ("system", "Be kind.")
    assert asked(program, 1)[0] == ("system", "Open at nine.")
    assert asked(program, 2)[0] == ("user", "a")


def test_a_file_goes_with_the_next_message_only(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("blue\n")
    program = Program("ok")
    converse(program, f"/file {note}", "Which colour?", "And now?")
    assert asked(program, 0)[-1] == ("user", "File note.txt:\n```\nblue\n```\n\nWhich colour?")
    assert asked(program, 1)[-1] == ("user", "And now?")


def test_a_file_that_cannot_be_read_is_said():
    result = converse(Program(), "/file /no/such/file", "/file")
    assert "/no/such/file cannot be read" in result.stderr
    assert "Write /file PATH" in result.stdout


def test_regen_answers_the_last_message_again_without_the_old_answer():
    program = Program("First.", "Second.")
    result = converse(program, "/regen", "Hello", "/regen", "more")
    assert "There is nothing to answer again yet." in result.stdout
    assert asked(program, 1) == [("user", "Hello")]
    assert asked(program, 2) == [("user", "Hello"), ("assistant", "Second."), ("user", "more")]


def test_a_regen_that_fails_keeps_the_old_answer():
    from hybridllm.errors import ModelError

    program = Program("First.", ModelError("broke"), "Third.")
    result = converse(program, "Hello", "/regen", "more")
    assert result.exit_code == 0
    assert "hybridllm: " in result.stderr
    assert asked(program) == [("user", "Hello"), ("assistant", "First."), ("user", "more")]


def test_an_error_is_said_and_the_conversation_is_as_before():
    from hybridllm.errors import ModelError

    program = Program(ModelError("broke"), "Fine.")
    result = converse(program, "one", "two")
    assert asked(program) == [("user", "two")]
    assert result.stdout == "Fine.\n"


def test_save_load_and_new(tmp_path):
    path = tmp_path / "chat.json"
    program = Program("First.", "Second.", "Third.")
    result = converse(program, "one", f"/save {path}", "/new", "two", f"/load {path}", "three", argv=["--system", "S"])
    assert asked(program, 1) == [("system", "S"), ("user", "two")]
    assert asked(program, 2) == [("system", "S"), ("user", "one"), ("assistant", "First."), ("user", "three")]
    assert f"Saved 2 messages to {path}." in result.stdout
    assert json.loads(path.read_text())["messages"][1]["content"] == "First."


def test_loading_what_is_no_conversation_changes_nothing(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("{}")
    program = Program("First.", "Second.")
    result = converse(program, "one", f"/load {path}", "two")
    assert "is not a saved conversation" in result.stderr
    assert asked(program)[0] == ("user", "one")


def test_model_shows_and_switches_and_the_conversation_goes_on():
    program = Program("ok")
    result = converse(program, "one", "/model", "/model other", "two")
    assert "Model: kiosk-assistant" in result.stdout
    assert "Model: other" in result.stdout
    assert [options.model for options in program.opened] == [None, "other"]
    assert asked(program)[0] == ("user", "one")


def test_why_and_stats_after_an_answer():
    result = converse(Program("one two"), "Hello", "/why", "/stats")
    assert "Rule:        default (policies/presets/offline-first.yaml:" in result.stdout
    assert "Answers:        1 by this device" in result.stdout
    assert "Tokens:         1 read, 2 written" in result.stdout
    assert "Left device:    0 bytes" in result.stdout


def test_route_says_where_the_next_message_would_go_and_asks_nobody():
    program = Program()
    result = converse(program, "/route Hello")
    assert "Would ask:   this device" in result.stdout
    assert "Label:       private" in result.stdout
    assert program.backend.requests == []


def test_route_without_a_message_and_with_an_attached_file(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("blue " * 400)
    result = converse(Program(), "/route", f"/file {note}", "/route")
    assert result.stdout.count("Would ask:   this device") == 2
    assert result.stderr == ""


def test_a_conversation_that_has_grown_too_long_says_how_to_go_on():
    program = Program("word " * 300)
    result = converse(program, "one", "word " * 400, "/new", "two")
    assert result.exit_code == 0
    assert "does not fit its context of 512" in result.stderr
    assert "/new starts a new conversation" in result.stderr
    assert asked(program) == [("user", "two")]


def test_what_left_the_device_is_counted_for_answers_that_failed_too():
    from hybridllm.errors import CannotServe
    from hybridllm.types.route import Attempt

    attempt = Attempt(place="remote", outcome="failed", started_s=0.0, duration_s=0.1, egress_bytes=321)
    program = Program(CannotServe("Nobody could answer.", attempts=[attempt]))

    class Failing:
        def create(self, **fields):
            raise CannotServe("Nobody could answer.", attempts=[attempt])

    real_open = program.open_client

    def open_failing(options, on_progress):
        client = real_open(options, on_progress)
        client.chat.completions = Failing()
        return client

    program.open_client = open_failing
    result = converse(program, "one", "/stats")
    assert "Left device:    321 bytes" in result.stdout


REMOTE = ("--remote-url", "https://llm.example/v1", "--remote-model", "large", "--policy", "cloud-assist")


def test_local_keeps_the_conversation_on_this_device_even_when_it_is_switched_off_again():
    program = Program("ok")
    result = converse(
        program, "/local", "/local on", "a secret", "/local off", "/route more", "/new", "/route more",
        argv=[*REMOTE, "--privacy", "public"],
    )  # fmt: skip
    assert "The policy decides where your messages go." in result.stdout
    assert "This conversation holds messages that must stay on this device" in result.stdout
    before, after = result.stdout.split("A new conversation")
    assert "Label:       private" in before
    assert "Would ask:   this device\n" in before
    assert "Label:       public" in after
    assert "Would ask:   the remote, then this device" in after


def test_local_off_without_a_message_in_between_changes_nothing():
    result = converse(Program(), "/local on", "/local off", "/route x", argv=[*REMOTE, "--privacy", "public"])
    assert "Would ask:   the remote, then this device" in result.stdout


@pytest.mark.parametrize(
    ("saved_under", "loaded_under", "stays"),
    [
        ((), ("--privacy", "public"), True),
        (
            ("--privacy", "public"),
            ("--privacy", "public"),
            True,
        ),  # another policy: there, public may mean something else
        ((*REMOTE,), ("--privacy", "public"), True),
        ((*REMOTE, "--privacy", "public"), ("--privacy", "public"), False),
        ((*REMOTE, "--privacy", "public"), ("--privacy", "public", "--tag", "faq"), True),
    ],
)
def test_a_conversation_does_not_lose_its_label_through_a_file(tmp_path, saved_under, loaded_under, stays):
    path = tmp_path / "chat.json"
    converse(Program("ok"), "hello", f"/save {path}", argv=saved_under)
    result = converse(Program("ok"), f"/load {path}", "/route more", argv=[*REMOTE, *loaded_under])
    assert ("It stays on this device." in result.stdout) is stays
    assert ("Label:       private" in result.stdout) is stays


@pytest.mark.parametrize(
    "lines",
    [
        ("/local on", "/system a secret", "/local off"),
        ("/local on", "/system a secret", "Hi", "/local off", "/new"),
        ("/local on", "/file {secret}", "/local off"),
        ("/load {kept}", "/new"),
    ],
)
def test_what_was_set_while_everything_stayed_here_stays(tmp_path, lines):
    secret, kept = tmp_path / "secret.txt", tmp_path / "kept.json"
    secret.write_text("a secret")
    converse(
        Program("ok"), "/local on", "/system a secret", "Hi", f"/save {kept}", argv=[*REMOTE, "--privacy", "public"]
    )
    typed = [line.format(secret=secret, kept=kept) for line in lines]
    program = Program("ok", "ok", "ok")
    result = converse(program, *typed, "/local", "/route", "Hello", argv=[*REMOTE, "--privacy", "public"])
    assert "must stay on this device" in result.stdout
    assert "Label:       private" in result.stdout
    assert "Would ask:   this device\n" in result.stdout
    assert result.stderr.count("Answered by this device") == 1 + ("Hi" in lines)


@pytest.mark.parametrize(
    "lines",
    [
        ("/local on", "/system SECRET", "/local off"),
        ("/local on", "/system SECRET", "Hi", "/local off", "/new"),
        ("/local on", "/file {secret}", "/local off"),
        ("/load {kept}",),
        ("/load {kept}", "/new"),
    ],
)
def test_no_byte_of_what_stays_reaches_the_remote(tmp_path, lines):
    secret, kept = tmp_path / "secret.txt", tmp_path / "kept.json"
    secret.write_text("SECRET")
    with LoopbackServer(answer("From afar.")) as server:
        argv = ["--remote-url", server.base_url, *REMOTE[2:], "--privacy", "public"]
        converse(Program("ok"), "/local on", "/system SECRET", "Hi", f"/save {kept}", argv=argv)
        typed = [line.format(secret=secret, kept=kept) for line in lines]
        assert "From afar." not in converse(Program("ok"), *typed, "Hello", argv=argv).stdout
        assert (server.connections, server.received) == (0, b"")
        assert converse(Program("ok"), "Hello", argv=argv).stdout == "From afar.\n"  # the remote is there


def test_a_conversation_loaded_while_everything_stayed_here_stays(tmp_path):
    path, argv = tmp_path / "chat.json", [*REMOTE, "--privacy", "public"]
    converse(Program("ok"), "hello", f"/save {path}", argv=argv)
    result = converse(Program(), "/local on", f"/load {path}", "/local off", "/route more", argv=argv)
    assert "It stays on this device." in result.stdout
    assert "Would ask:   this device\n" in result.stdout


def test_another_policy_under_the_same_name_keeps_what_was_said_here(tmp_path):
    policy = tmp_path / "p.yaml"
    argv = write_policy(policy, unlabeled="public", tags="{notes: private}")
    program = Program("ok")
    real_open = program.open_client

    def open_client(options, on_progress):
        if options.model == "other":  # the file was edited in the meantime
            write_policy(policy, unlabeled="public", tags="{notes: public}")
        return real_open(options, on_progress)

    program.open_client = open_client
    result = converse(program, "/system harmless", "/model other", "/route x", "/new", "/route x", argv=argv)
    assert result.stdout.count("Would ask:   this device\n") == 2


def test_a_system_message_set_later_is_free_again(tmp_path):
    result = converse(
        Program(), "/local on", "/system a secret", "/local off", "/system harmless", "/route x",
        argv=[*REMOTE, "--privacy", "public"],
    )  # fmt: skip
    assert "Would ask:   the remote, then this device" in result.stdout


def write_policy(path, unlabeled, tags="{}", detectors="[]"):
    path.write_text(
        f"version: 1\nname: p\nlabels:\n  order: [public, private]\n  unlabeled: {unlabeled}\n  tags: {tags}\n"
        f"zones: {{cloud: public}}\ndetectors: {detectors}\ndefault: [remote, local]\n"
    )
    return ("--policy", str(path), *REMOTE[:4])


@pytest.mark.parametrize(
    ("strict", "open_", "options", "said"),
    [
        ({"unlabeled": "private"}, {"unlabeled": "public"}, (), "a secret"),
        ({"unlabeled": "public", "tags": "{notes: private}"}, {"unlabeled": "public", "tags": "{notes: public}"},
         ("--tag", "notes"), "a secret"),
        ({"unlabeled": "public", "detectors": "[payment_card]"}, {"unlabeled": "public"}, (), "card 4111 1111 1111 1111"),
    ],
)  # fmt: skip
def test_a_saved_conversation_keeps_its_label_under_another_policy(tmp_path, strict, open_, options, said):
    path = tmp_path / "chat.json"
    converse(Program("ok"), said, f"/save {path}", argv=[*write_policy(tmp_path / "a.yaml", **strict), *options])
    loaded = converse(
        Program("ok"), f"/load {path}", "/route thanks", argv=[*write_policy(tmp_path / "b.yaml", **open_), *options]
    )
    assert "It stays on this device." in loaded.stdout
    assert "Would ask:   this device\n" in loaded.stdout


@pytest.mark.parametrize(
    ("change", "stays"),
    [({}, False), ({"label": None}, True), ({"label": "private"}, True), ({"label": "unheard of"}, True),
     ({"policy_hash": None}, True), ({"policy_hash": "other", "label": "unheard of"}, True)],
)  # fmt: skip
@pytest.mark.parametrize("options", [("--privacy", "public"), ("--tag", "faq")])
def test_a_saved_label_has_to_be_one_that_is_given_here(tmp_path, options, change, stays):
    path = tmp_path / "chat.json"
    argv = (*write_policy(tmp_path / "a.yaml", unlabeled="private", tags="{faq: public}"), *options)
    converse(Program("ok"), "/system harmless", f"/save {path}", argv=argv)
    record = json.loads(path.read_text())
    record["messages"] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text(json.dumps({**record, "label": "public", **change}))
    result = converse(Program("ok"), f"/load {path}", "/local", "/route more", argv=argv)
    assert ("It stays on this device." in result.stdout) is stays
    assert ("Would ask:   this device\n" in result.stdout) is stays
    if stays:  # and it can be gone on with
        answered = converse(Program("fine"), f"/load {path}", "more", f"/save {path}", argv=argv)
        assert answered.exit_code == 0
        assert json.loads(path.read_text())["label"] == "private"


def test_a_detector_s_label_outlives_the_message_that_is_taken_back():
    argv = [*REMOTE, "--privacy", "public"]
    result = converse(Program("ok"), "card 4111 1111 1111 1111", "/route harmless", argv=argv)
    assert "Label:       private" in result.stdout


@pytest.mark.parametrize(
    "command",
    ["/file ~nosuchuser/x", "/save ~nosuchuser/x", "/load ~nosuchuser/x", "/system @~nosuchuser/x",
     "/save " + 300 * "x", "/file " + 300 * "x", "/load " + 300 * "x", "/load {deep}", "/load {nested}",
     "/load {surrogate}", "/load {huge}", "/file {huge}", "/file /dev/zero", "/load /dev/zero"],
)  # fmt: skip
def test_a_mistyped_file_is_one_line_and_the_chat_goes_on(tmp_path, command):
    files = {name: tmp_path / name for name in ("deep", "nested", "surrogate", "huge")}
    files["deep"].write_text(200_000 * "[")
    saved = {"hybridllm_conversation": 1, "privacy": None, "tags": [], "kept_local": False, "system": None}
    files["surrogate"].write_text(
        json.dumps({**saved, "messages": [{"role": "user", "content": "\ud800"}, {"role": "assistant", "content": ""}]})
    )
    files["nested"].write_text(json.dumps(saved)[:-1] + ', "messages": ' + 900 * "[" + 900 * "]" + "}")
    with files["huge"].open("wb") as file:
        file.truncate(2**33)
    result = converse(Program("still here"), command.format(**files), "Hello")
    assert "still here" in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("hybridllm: ")]
    assert line.endswith((".", "wrote."))
    assert "internal error" not in result.stderr


@pytest.mark.parametrize(("typed", "said"), [('"""\nhello\n', "hello"), ("hello \\", "hello"), ('"""\nC:\\', "C:\\")])
def test_the_end_of_a_pipe_ends_an_unfinished_message(typed, said):
    program = Program("ok")
    result = program.run("chat", stdin=typed)
    assert asked(program)[-1][1].strip() == said
    assert result.exit_code == 0


def test_a_piped_conversation_ends_with_the_code_of_its_last_message():
    nonsense = ["--privacy", "nonsense"]
    assert converse(Program("ok"), "hello", argv=nonsense).exit_code == 2
    assert converse(Program("ok"), "hello", "", "/stats", "/exit", argv=nonsense).exit_code == 2
    assert converse(Program("ok"), "hello", "/load /no/such/file").exit_code == 2
    assert converse(Program("ok"), "/nonsense", "hello").exit_code == 0


def test_json_escapes_and_unicode_go_through():
    result = converse(Program("你好 👋"), "问")
    assert result.stdout == "你好 👋\n"


def test_an_empty_answer_is_an_answer():
    result = converse(Program(ScriptedReply("")), "Hello")
    assert result.exit_code == 0
    assert "Answered by this device" in result.stderr
