"""Labels only rise; detectors find what they name."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm.detectors import DETECTORS, detect, normalized
from hybridllm.errors import BadRequest
from hybridllm.labels import checked_tags, join_labels
from hybridllm.types import ChatRequest
from policies import load_policy, parse_policy

OFFLINE_FIRST, KIOSK = load_policy("offline-first"), load_policy("kiosk")
ORDER = OFFLINE_FIRST.labels.order


def request(*labels, text="hello", **fields):
    messages = [
        {"role": "user", "content": text, **({"privacy": label} if label else {})} for label in labels or (None,)
    ]
    return ChatRequest.parse(messages, **fields)


def join(asked, privacy=None, tags=(), floor=None, policy=OFFLINE_FIRST):
    return join_labels(policy, asked, privacy=privacy, tags=tags, floor=floor)


@pytest.mark.parametrize(
    ("labels", "privacy", "tags", "floor", "label"),
    [
        ([None], None, (), None, "private"),
        ([None], "public", (), None, "public"),
        ([None], None, ("faq",), None, "public"),
        ([None], "public", ("health",), None, "private"),
        ([None], "public", ("helth",), None, "private"),
        (["public"], None, (), None, "public"),
        (["public", None], None, (), None, "private"),
        (["public", "internal"], None, (), None, "internal"),
        (["internal"], "public", (), None, "internal"),
        ([None], "public", (), "internal", "internal"),
        ([None], None, (), "public", "private"),
        (["private"], "public", ("faq",), "public", "private"),
    ],
)
def test_the_join(labels, privacy, tags, floor, label):
    joined = join(request(*labels), privacy, tags, floor)
    assert joined.label == label
    assert joined.sources


@given(
    st.lists(st.none() | st.sampled_from(ORDER), min_size=1, max_size=4),
    st.none() | st.sampled_from(ORDER),
    st.lists(st.sampled_from(["faq", "health", "other"]), max_size=3),
    st.none() | st.sampled_from(ORDER),
)
@settings(deadline=None)
def test_a_further_word_never_lowers_what_another_source_said(labels, privacy, tags, floor):
    rank = ORDER.index
    joined = join(request(*labels), privacy, tags, floor)
    for said in (*labels, privacy, floor):
        if said is not None:
            assert rank(joined.label) >= rank(said)
    for label in ORDER:
        assert rank(join(request(*labels), privacy, tags, label).label) >= rank(
            joined.label if floor is None else label
        )
        assert rank(join(request(*labels, label), privacy, tags, floor).label) >= rank(joined.label)


def test_stop_texts_and_the_users_name_are_parts_too():
    assert join(request("public", stop=["x"])).label == "private"
    assert join(request("public", user="jane")).label == "private"
    assert join(request("public", stop=["x"]), "public").label == "public"


def test_a_tag_that_only_rules_use_says_nothing():
    policy = parse_policy(
        "version: 1\nname: t\nlabels: {order: [public, private], unlabeled: private}\nzones: {cloud: public}\n"
        "rules: [{name: vip, when: {tags: vip}, route: [remote]}]\ndefault: [local]\n"
    )
    assert join(request(), "public", ("vip",), policy=policy).label == "public"
    assert join(request(), None, ("vip",), policy=policy).label == "private"


def test_unknown_labels_and_tags_that_are_none():
    with pytest.raises(BadRequest, match=r"privacy is 'secret', .* Use one of public, internal, private"):
        join(request(), "secret")
    with pytest.raises(BadRequest, match=r"messages\[0\]\.privacy"):
        join(request("secret"))
    with pytest.raises(BadRequest, match="tags is a str"):
        checked_tags("faq")
    with pytest.raises(BadRequest, match="tags is a dict"):
        checked_tags({"faq": 1})
    with pytest.raises(BadRequest, match="not a word"):
        checked_tags([1])


def test_a_detector_raises_and_says_where():
    joined = join(request("public", text="jane@example.com"), "public", policy=KIOSK)
    assert joined.label == "private"
    assert joined.sources[-1].said_by == "detector 'email' in messages[0].content"
    assert join(request("public", text="jane@example.com"), "public").label == "public"


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        (["jane@exam", "ple.com"], "email"),
        (["4111 1111", "1111 1111"], "payment_card"),
        (["a", "jane@example.com"], "email"),
    ],
)
def test_detectors_read_the_parts_of_a_message_as_lines_and_run_together(parts, found):
    content = [{"type": "text", "text": part} for part in parts]
    joined = join(ChatRequest.parse([{"role": "user", "content": content}]), "public", policy=KIOSK)
    assert joined.label == "private"
    assert joined.sources[-1].said_by == f"detector '{found}' in messages[0].content"


FOUND = {
    "payment_card": [
        "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "order 12 4111 1111 1111 1111 now",
        "３７８２ ８２２４６３１ ０００５", "6011000990139424", "5555.5555.5555.4444", "4222222222222",
        "4111\u200b1111\u200b1111\u200b1111", "٤١١١ ١١١١ ١١١١ ١١١١",
    ],
    "iban": [
        "DE89370400440532013000", "DE89 3704 0044 0532 0130 00 please", "gb82 west 1234 5698 7654 32",
        "FR14-2004-1010-0505-0001-3M02-606", "NO9386011117947",
    ],
    "email": ["jane.doe@example.com", "a+b@mail.example.co.uk", "jane＠example.com", "用户@例子.公司"],
    "phone": [
        "+49 30 1234567", "0049 (30) 1234-567", "+86 138 0013 8000", "13800138000", "138-0013-8000",
        "(415) 555-2671", "415-555-2671", "+1.415.555.2671",
    ],
    "national_id": ["11010519491231002X", "110105 19491231 002x", "078-05-1120", "078 05 1120"],
}  # fmt: skip
NOT_FOUND = {
    "payment_card": ["4111111111111112", "1234 5678 9012 3456", "0000000000000000", "411111111111", "year 2024 room 17"],
    "iban": ["DE89370400440532013001", "XX89370400440532013000", "DE8937040044", "ab12 monkeys are not money"],
    "email": ["at nine@ten", "jane@localhost", "look @ this.", "a@b"],
    "phone": ["we open at 09:00", "room 101, floor 3", "2024-05-17", "12345", "price 1,250.00", "4111111111111111"],
    "national_id": ["110105194912310021", "11010519491331002X", "000-12-3456", "666-12-3456", "900-12-3456",
                    "123-00-4567", "123-45-0000", "123456789"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in FOUND.items() for text in texts])
def test_found(name, text):
    assert detect([name], text) == name
    assert detect([name], f"Please note: {text}, thanks.") == name


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in NOT_FOUND.items() for text in texts])
def test_not_found(name, text):
    assert detect([name], text) is None


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_a_detector(text):
    for name in DETECTORS:
        assert detect([name], text) in (None, name)


@pytest.mark.parametrize("piece", ["1", "1 ", "a@", "a.", "+1", "DE12 ", "(415) ", "1-"])
def test_the_time_grows_with_the_length_and_not_with_its_square(piece):
    def taken_s(length):
        text = piece * (length // len(piece))
        began = time.thread_time()
        detect(DETECTORS, text)
        return time.thread_time() - began

    # Four times the text would take sixteen times as long if some expression went over it again and again.
    assert taken_s(48_000) < 9 * max(taken_s(12_000), 0.005)


def test_normalized_text():
    assert normalized("４１１１\u200b–１１") == "4111-11"
    assert normalized("plain") == "plain"
