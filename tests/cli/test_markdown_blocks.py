"""Cutting a stream of Markdown into blocks."""

from hypothesis import given
from hypothesis import strategies as st

from hybridllm.cli.markdown_blocks import MarkdownBlocks


def blocks_of(text, size=1):
    cutter = MarkdownBlocks()
    found = []
    for start in range(0, len(text), size):
        found += cutter.push(text[start : start + size])
    return [*found, cutter.flush()]


def test_a_blank_line_ends_a_paragraph_once_the_next_line_is_there():
    cutter = MarkdownBlocks()
    assert cutter.push("one\n\n") == []
    assert cutter.push("two") == []
    assert cutter.push("\n") == ["one"]
    assert cutter.tail == "two\n"
    assert cutter.flush() == "two"


def test_a_blank_line_inside_a_fence_ends_nothing():
    text = "```python\na = 1\n\nb = 2\n```\n\nafter\n"
    assert blocks_of(text) == ["```python\na = 1\n\nb = 2\n```", "after"]


def test_a_longer_fence_is_not_closed_by_a_shorter_one():
    text = "````\n```\n\nx\n```\n````\n\nafter\n"
    assert blocks_of(text) == ["````\n```\n\nx\n```\n````", "after"]


def test_a_loose_list_stays_one_block():
    text = "1. one\n\n2. two\n\n   more of two\n\nafter\n"
    assert blocks_of(text) == ["1. one\n\n2. two\n\n   more of two", "after"]


def test_a_paragraph_before_a_list_is_a_block_of_its_own():
    assert blocks_of("These:\n\n- a\n- b\n") == ["These:", "- a\n- b"]


@given(st.text(alphabet="ab-1. `~\n#|", max_size=80), st.integers(1, 7))
def test_nothing_is_lost_and_the_pieces_do_not_matter(text, size):
    whole = blocks_of(text, size=max(1, len(text)))
    assert blocks_of(text, size) == whole
    assert "".join("".join(whole).split()) == "".join(text.split())
