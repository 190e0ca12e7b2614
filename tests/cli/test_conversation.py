"""A conversation and its file."""

import json
import os
import stat
from pathlib import Path

import pytest

from hybridllm.cli.conversation import Conversation, ConversationFileError


def test_a_request_has_the_system_message_first_and_the_new_message_last():
    conversation = Conversation(system="Be kind.")
    conversation.add("Hi", "Hello.")
    assert conversation.request("Who are you?") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who are you?"},
    ]


def test_taking_back_gives_what_was_said_and_forgets_the_exchange():
    conversation = Conversation()
    conversation.add("one", "1")
    conversation.add("two", "2")
    assert conversation.take_back() == "two"
    assert [message["content"] for message in conversation.messages] == ["one", "1"]
    assert conversation.take_back() == "one"
    assert conversation.take_back() is None


def test_saving_and_loading_keeps_everything(tmp_path):
    path = tmp_path / "chat.json"
    before = Conversation("S", [], "public", ("faq",), kept_local=True)
    before.add("你好", "Hello 👋")
    before.save(path)
    assert Conversation.load(path) == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_saved_conversation_is_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "chat.json"
    Conversation().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(ConversationFileError, match="is a folder"):
        Conversation().save(path)
    with pytest.raises(ConversationFileError, match="cannot be written"):
        Conversation().save(Path(__file__) / "chat.json")
    with pytest.raises(ConversationFileError, match="cannot be written"):
        Conversation("half a character: \ud800").save(tmp_path / "chat.json")
    with pytest.raises(ConversationFileError, match="cannot be written"):
        Conversation().save(tmp_path / "zero\0byte")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="named pipes are POSIX's")
def test_saving_replaces_no_device_and_no_pipe(tmp_path):
    path = tmp_path / "pipe"  # not a device of this machine: a save that replaces it would do harm
    os.mkfifo(path)
    with pytest.raises(ConversationFileError, match="is a device or a pipe"):
        Conversation().save(path)
    assert path.is_fifo()


def good_record():
    return {
        "hybridllm_conversation": 1,
        "privacy": None,
        "tags": [],
        "kept_local": False,
        "system": None,
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hybridllm_conversation": 2}, "hybridllm_conversation is not 1"),
        ({"privacy": 3}, "privacy is neither text nor null"),
        ({"kept_local": "no"}, "kept_local is neither true nor false"),
        ({"tags": ["a", 1]}, "tags is not a list of texts"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages is not a list of pairs"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, r"messages\[1\].role"),
        ({"messages": [{"role": "user", "content": 1}, {"role": "assistant", "content": "b"}]}, r"\[0\].content"),
    ],
)
def test_a_file_of_the_wrong_shape_is_refused_by_name(tmp_path, change, says):
    path = tmp_path / "chat.json"
    path.write_text(json.dumps({**good_record(), **change}))
    with pytest.raises(ConversationFileError, match=says):
        Conversation.load(path)


@pytest.mark.parametrize(
    ("content", "says"), [("not json", "is not JSON"), ("[1]", "hybridllm_conversation is missing")]
)
def test_another_file_is_refused(tmp_path, content, says):
    path = tmp_path / "other"
    path.write_text(content)
    with pytest.raises(ConversationFileError, match=says):
        Conversation.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConversationFileError, match="cannot be read: No such file"):
        Conversation.load(tmp_path / "none.json")
