"""A copy of a labelled text is as sensitive as the text was: as far as fingerprints reach, and no further."""

import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm import HybridClient
from hybridllm.label_memory import RUN_CHARACTERS, UNSPACED_RUN_CHARACTERS, LabelMemory
from hybridllm.testing import ScriptedBackend
from policies import Labels
from tests.hybridllm.loopback import answer

LABELS = Labels(("public", "internal", "private"), "private")
REPORT = (
    "The blood test of last Tuesday shows a slightly raised cholesterol level; the doctor advises less butter, "
    "more walking, and another test in about three months from now."
)
CHINESE = "上星期二的验血结果显示胆固醇略高，医生建议少吃黄油、多走路，大约三个月以后再检查一次。"


class Clock:
    now_s = 50.0

    def __call__(self):
        return self.now_s


def memory_of(text, label="private", **arguments):
    memory = LabelMemory(**arguments)
    memory.remember(text, label, LABELS)
    return memory


def recall(memory, text, whole=False):
    return memory.recall(text, LABELS, whole=whole)


@pytest.mark.parametrize(
    "copy",
    [
        REPORT,
        REPORT.upper(),
        f"Please sum this up for my friend: {REPORT} Thanks!",
        REPORT.replace(" ", "\n"),
        REPORT.replace(" ", "  ").replace(";", " -- "),
        f"**{REPORT}**",
        REPORT[20:110],
        REPORT[: len(REPORT) // 2],
        "What does 'a slightly raised cholesterol level' the doctor advises less butter mean?",
    ],
)
def test_copies_are_found(copy):
    assert recall(memory_of(REPORT), copy) == "private"


@pytest.mark.parametrize("copy", [CHINESE, CHINESE[8:30], f"请翻译：{CHINESE}", CHINESE.replace("，", " ， ")])
def test_copies_in_scripts_without_spaces_are_found(copy):
    assert recall(memory_of(CHINESE), copy) == "private"


@pytest.mark.parametrize(
    "other",
    [
        "",
        "When do you open?",
        "My cholesterol is a little high, says the doctor.",  # the same in other words: only a label can know
        "three months from now",  # too short a piece
        "医生建议多走路",
        "The blood test of last Monday showed nothing of interest, and no other test is planned for now.",
    ],
)
def test_other_texts_are_not(other):
    memory = memory_of(REPORT)
    memory.remember(CHINESE, "private", LABELS)
    assert recall(memory, other, whole=True) is None


def test_a_short_text_is_found_as_a_whole_only():
    memory = memory_of("Yes.")
    assert recall(memory, "yes", whole=True) == "private"
    assert recall(memory, "yes") is None
    assert recall(memory, "Yes, we do.", whole=True) is None


def test_the_more_sensitive_label_stays_and_the_least_sensitive_is_not_worth_it():
    memory = memory_of(REPORT, "internal")
    assert recall(memory, REPORT) == "internal"
    memory.remember(REPORT, "private", LABELS)
    memory.remember(REPORT, "internal", LABELS)
    assert recall(memory, REPORT) == "private"
    assert len(memory_of(REPORT, "public")) == 0


def test_a_label_that_another_policy_does_not_know_counts_as_the_top_label():
    other = Labels(("open", "closed"), "closed")
    assert memory_of(REPORT, "internal").recall(REPORT, other, whole=True) == "closed"


def test_it_is_forgotten_after_its_age():
    clock = Clock()
    memory = memory_of(REPORT, max_age_s=60, clock=clock)
    clock.now_s += 59
    assert recall(memory, REPORT) == "private"
    clock.now_s += 2
    assert recall(memory, REPORT) is None


def test_the_oldest_are_forgotten_beyond_the_bound():
    memory = memory_of(REPORT, max_fingerprints=100)
    for number in range(200):
        memory.remember(
            f"sentence number {number} is about something else altogether, namely {number}", "private", LABELS
        )
    assert len(memory) == 100
    assert recall(memory, REPORT) is None
    assert recall(memory, f"sentence number {199} is about something else altogether, namely") == "private"


def test_no_text_is_kept(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # as in a program whose hashes would be the same in every process
    memory = memory_of(REPORT)
    assert "cholesterol" not in repr(vars(memory))
    assert all(isinstance(fingerprint, int) for fingerprint in memory._known)
    assert set(memory._known).isdisjoint(memory_of(REPORT)._known), "every memory has a salt of its own"


@given(
    st.text(min_size=1, max_size=80),
    st.text(max_size=40),
    st.text(max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_a_text_of_some_length_is_found_between_any_others(text, before, after):
    memory = memory_of(text)
    assert recall(memory, text, whole=True) in ("private", None)
    words = " ".join(part for part in text.split() if part.isalnum() and part.isascii())
    if len(words) > RUN_CHARACTERS + len(words.partition(" ")[0]):
        memory.remember(words, "private", LABELS)
        assert recall(memory, f"{before} {words} {after}") == "private"


def test_the_run_lengths_are_what_the_documentation_says():
    assert (RUN_CHARACTERS, UNSPACED_RUN_CHARACTERS) == (36, 12)


# --- through the client ---


def ask(client, messages, **more):
    return client.create(messages=messages, **more)


@pytest.fixture
def cloud(face, serve, remote_at):
    """A client whose policy asks the remote first, and what the remote gets to see."""
    server = serve(answer())

    def make(**more):
        arguments = {"policy": "offline-first", "local": ScriptedBackend(lambda _: REPORT), "remote": remote_at(server)}
        return face(**{**arguments, **more}), server

    return make


def cloud_first(tmp_path):
    path = tmp_path / "cloud-first.yaml"
    path.write_text(
        "version: 1\nname: cloud-first\nlabels: {order: [public, internal, private], unlabeled: private}\n"
        "zones: {cloud: public}\ndefault: [remote, local]\n"
    )
    return path


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_comes_back_has_its_label_as_an_object_as_a_dict_and_within_a_text(cloud, tmp_path, stream):
    client, server = cloud(policy=cloud_first(tmp_path))
    first = [{"role": "user", "content": "What does my blood test say?"}]
    if stream:
        client.read(messages=first)
        message = None
    else:
        message = ask(client, first).choices[0].message
        assert message.privacy == "private"
    plain = {"role": "assistant", "content": REPORT}
    histories = [
        [*first, plain, {"role": "user", "content": "Is that bad?"}],
        [{"role": "user", "content": f"Translate this: {REPORT[10:90]}"}],
        [{"role": "system", "content": f"Known: {REPORT}"}, {"role": "user", "content": "Is that bad?"}],
    ]
    if message is not None:
        histories.append([*first, message, {"role": "user", "content": "Is that bad?"}])
    for history in histories:
        reply = ask(client, history, privacy="public")
        assert (reply.route.served_by, reply.route.label) == ("local", "private")
    assert not server.received
    reply = ask(
        client, [{"role": "user", "content": "When do you open on Sundays in winter, please?"}], privacy="public"
    )
    assert reply.route.served_by == "remote"


def test_a_message_that_was_labelled_has_its_label_when_the_label_is_lost(cloud, tmp_path):
    client, server = cloud(policy=cloud_first(tmp_path), local=ScriptedBackend(lambda _: "I see."))
    said = "I was in hospital for two weeks because of my heart."
    ask(client, [{"role": "user", "content": said, "privacy": "private"}], privacy="public")
    reply = ask(client, [{"role": "user", "content": said}], privacy="public")
    assert (reply.route.served_by, reply.route.label) == ("local", "private")
    source = client.client.explain(messages=[{"role": "user", "content": said}], privacy="public").label_sources[-1]
    assert source.said_by == "messages[0].content, a copy of what had this label"
    assert not server.received


def test_an_answer_that_is_not_whole_yet_is_known_too(serve, remote_at, tmp_path):
    """What was shown of a stream can be in the next request before the stream ends."""
    server = serve(answer())
    local = ScriptedBackend(lambda _: REPORT)
    with HybridClient(local=local, policy=cloud_first(tmp_path), remote=remote_at(server)) as client:
        talk = client.conversation()
        open_streams = [
            client.chat.completions.create(messages=[{"role": "user", "content": "My blood test?"}], stream=True),
            talk.create("My blood test?", stream=True),
        ]
        shown = ""
        for stream in open_streams:
            while len(shown) < 90:
                shown += next(stream).choices[0].delta.content or ""
            copied = [{"role": "user", "content": f"In simpler words: {shown}"}]
            assert client.explain(messages=copied, privacy="public").label == "private"
            assert client.chat.completions.create(messages=copied, privacy="public").route.served_by == "local"
            assert talk.create("And?", privacy="public").route.served_by == "local"
            shown = "" if stream is open_streams[0] else shown
            stream.close()
        assert talk.label == "private"
    assert not server.received


def test_two_threads_at_once_miss_nothing():
    memory = memory_of("Yes.")
    stop, missed = threading.Event(), []

    def remember():
        while not stop.is_set():
            memory.remember("Yes.", "private", LABELS)

    writer = threading.Thread(target=remember)
    writer.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        missed = [number for number in range(5000) if recall(memory, "yes", whole=True) != "private"]
    finally:
        sys.setswitchinterval(before)
        stop.set()
        writer.join()
    assert missed == []


def test_without_memory_nothing_is_remembered(cloud, tmp_path):
    client, server = cloud(policy=cloud_first(tmp_path), label_memory_s=0)
    ask(client, [{"role": "user", "content": "What does my blood test say?"}])
    reply = ask(
        client, [{"role": "assistant", "content": REPORT}, {"role": "user", "content": "And?"}], privacy="public"
    )
    assert reply.route.served_by == "remote"
    assert server.received
