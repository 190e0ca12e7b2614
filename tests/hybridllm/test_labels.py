"""Labels only rise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    return join_labels(policy, asked, privacy=privacy, tags=tags, floors={"client": floor})


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
