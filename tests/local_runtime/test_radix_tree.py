from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.radix_tree import RadixTree


def common(left: list[int], right: list[int]) -> int:
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return length


def test_the_longest_common_beginning_is_found_wherever_it_ends() -> None:
    tree = RadixTree()
    assert tree.longest_prefix([1, 2]) == (0, None)
    assert tree.add(1, [1, 2, 3, 4]) == []
    assert tree.longest_prefix([1, 2, 9]) == (2, 1)
    assert tree.longest_prefix([1, 2, 3, 4, 5]) == (4, 1)
    assert tree.longest_prefix([2]) == (0, None)
    assert tree.add(2, [1, 2, 7]) == []  # parts in the middle of an edge
    assert tree.longest_prefix([1, 2, 7, 7]) == (3, 2)
    assert tree.longest_prefix([1, 2, 3]) == (3, 1)
    assert tree.tokens(1) == [1, 2, 3, 4]
    assert tree.tokens(2) == [1, 2, 7]


def test_a_longer_one_covers_those_on_its_way_and_a_shorter_one_is_not_added() -> None:
    tree = RadixTree()
    tree.add(1, [1, 2])
    assert tree.add(2, [1, 2, 3, 4]) == [1]
    assert tree.add(3, [1, 2, 3]) is None
    assert tree.add(4, [1, 2, 3, 4]) is None
    assert tree.add(5, [1, 2, 3, 4, 5]) == [2, 1]
    assert 3 not in tree
    tree.remove(5)
    assert tree.longest_prefix([1, 2, 3, 4, 5]) == (4, 2)
    with pytest.raises(ValueError, match="in the tree already"):
        tree.add(1, [7])


def test_a_cut_takes_off_only_what_no_other_holds() -> None:
    tree = RadixTree()
    tree.add(1, [1, 2, 3, 4, 5, 6])
    assert tree.cut(1, 4)
    assert tree.tokens(1) == [1, 2, 3, 4]
    tree.add(2, [1, 2, 8])
    assert not tree.cut(1, 2)  # the other one holds these
    assert tree.longest_prefix([1, 2, 3]) == (2, 2)
    tree.add(3, [1, 2, 8, 9])
    assert not tree.cut(2, 1)  # what lies below it holds all of it
    assert tree.tokens(3) == [1, 2, 8, 9]


def test_no_token_is_in_a_representation() -> None:
    tree = RadixTree()
    tree.add(1, [4711, 815])
    assert "4711" not in repr(tree._nodes[1])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_life_of_a_tree_is_that_of_a_list(data: st.DataObject) -> None:
    tree = RadixTree()
    model: dict[int, list[int]] = {}
    strings = st.lists(st.integers(0, 2), min_size=1, max_size=9)
    for source in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["add", "add", "remove", "cut"]))
        if action == "add":
            tokens = data.draw(strings)
            covered = tree.add(source, tokens)
            if any(held[: len(tokens)] == tokens for held in model.values()):
                assert covered is None
            else:
                assert covered is not None
                assert set(covered) == {other for other, held in model.items() if tokens[: len(held)] == held}
                model[source] = tokens
        elif model:
            chosen = data.draw(st.sampled_from(sorted(model)))
            if action == "remove":
                tree.remove(chosen)
                del model[chosen]
            elif tree.cut(chosen, at := data.draw(st.integers(1, len(model[chosen])))):
                model[chosen] = model[chosen][:at]
            else:
                rest = model.pop(chosen)
                assert any(common(rest[:at], held) >= at for held in model.values()) or any(
                    held[: len(rest)] == rest for held in model.values()
                )
        assert len(tree) == len(model)
        assert all(tree.tokens(each) == held for each, held in model.items())
        asked = data.draw(strings)
        length, found = tree.longest_prefix(asked)
        assert length == max((common(asked, held) for held in model.values()), default=0)
        assert (found is None) == (length == 0)
        if found is not None:
            assert model[found][:length] == asked[:length]
        assert set(tree.below(asked)) == {each for each, held in model.items() if held[: len(asked)] == asked}
