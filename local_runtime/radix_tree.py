"""Which sequence holds the keys and values of which tokens: a radix tree over token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RadixTree"]


class _Node:
    """The end of one or more token strings, or the place where some of them part.

    Attributes:
        edge: Tokens between the parent and this node; empty only at the root.
        children: By the first token of their edges.
        source: The sequence whose tokens end here.
    """

    __slots__ = ("children", "edge", "parent", "source")

    def __init__(self, edge: tuple[int, ...], parent: _Node | None) -> None:
        self.edge = edge
        self.parent = parent
        self.children: dict[int, _Node] = {}
        self.source: int | None = None

    def __repr__(self) -> str:  # tokens are content
        return f"<{len(self.edge)} tokens, {len(self.children)} children, source {self.source}>"


class RadixTree:
    """Sequences by their tokens (Morrison, 1968, "PATRICIA"); for prefix caches as in Zheng et al., 2023, "SGLang".

    A sequence that is a source holds all tokens from the root to its node, so whatever lies on the way there can be had from it.
    Each leaf has a source.
    """

    def __init__(self) -> None:
        self._root = _Node((), None)
        self._nodes: dict[int, _Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, source: int) -> bool:
        return source in self._nodes

    def tokens(self, source: int) -> list[int]:
        """The tokens under which a source was added."""
        edges: list[tuple[int, ...]] = []
        node: _Node | None = self._nodes[source]
        while node is not None:
            edges.append(node.edge)
            node = node.parent
        return [token for edge in reversed(edges) for token in edge]

    def longest_prefix(self, tokens: Sequence[int]) -> tuple[int, int | None]:
        """How many of ``tokens`` some source begins with, and such a source; 0 and None if there is none."""
        node, matched, _ = self._walk(tokens)
        return (matched, self._any_source(node)) if matched else (0, None)

    def add(self, source: int, tokens: Sequence[int]) -> list[int] | None:
        """Add a source that holds exactly ``tokens``.

        Returns:
            Sources on the way there, which hold nothing that this one doesn't; None, and nothing is added, if another source
            holds all of ``tokens`` already.

        Raises:
            ValueError: The source is in the tree, or has no tokens.
        """
        if source in self._nodes or not tokens:
            raise ValueError(f"source {source} is in the tree already, or has no tokens")
        node, matched, on_edge = self._walk(tokens)
        if matched == len(tokens):
            return None
        if on_edge < len(node.edge):
            node = self._split(node, on_edge)
        edge = tuple(tokens[matched:])
        leaf = node.children[edge[0]] = _Node(edge, node)
        leaf.source = source
        self._nodes[source] = leaf
        covered: list[int] = []
        while node is not self._root:
            if node.source is not None:
                covered.append(node.source)
            assert node.parent is not None
            node = node.parent
        return covered

    def remove(self, source: int) -> None:
        """Forget a source; what only it held is gone from the tree."""
        node = self._nodes.pop(source)
        node.source = None
        self._prune(node)

    def cut(self, source: int, tokens: int) -> bool:
        """Let a source that is a leaf hold only its first ``tokens`` tokens.

        Returns:
            False if others hold these as well: the source is then forgotten.
        """
        node = self._nodes[source]
        length = sum(len(edge) for edge in self._edges_above(node))
        if node.children or tokens <= length:
            self.remove(source)
            return False
        node.edge = node.edge[: tokens - length]
        return True

    def below(self, tokens: Sequence[int]) -> list[int]:
        """All sources that begin with ``tokens``."""
        node, matched, _ = self._walk(tokens)
        return list(self._sources(node)) if matched == len(tokens) else []

    def _walk(self, tokens: Sequence[int]) -> tuple[_Node, int, int]:
        """Down along ``tokens``: the last node reached, how many tokens agree, and how many of the node's own edge."""
        node, matched = self._root, 0
        while matched < len(tokens) and (child := node.children.get(tokens[matched])) is not None:
            edge = child.edge
            if tuple(tokens[matched : matched + len(edge)]) == edge:
                node, matched = child, matched + len(edge)
                continue
            agree = 1
            while matched + agree < len(tokens) and tokens[matched + agree] == edge[agree]:
                agree += 1
            return child, matched + agree, agree
        return node, matched, len(node.edge)

    def _split(self, node: _Node, at: int) -> _Node:
        """Put a node into a node's edge, before its ``at``-th token."""
        assert node.parent is not None
        upper = _Node(node.edge[:at], node.parent)
        node.parent.children[node.edge[0]] = upper
        node.parent = upper
        node.edge = node.edge[at:]
        upper.children[node.edge[0]] = node
        return upper

    def _prune(self, node: _Node) -> None:
        """Take a node without a source out where nothing needs it."""
        while node.parent is not None and node.source is None and len(node.children) <= 1:
            parent = node.parent
            if not node.children:
                del parent.children[node.edge[0]]
                node = parent
                continue
            (child,) = node.children.values()
            child.edge = node.edge + child.edge
            child.parent = parent
            parent.children[child.edge[0]] = child
            return

    def _edges_above(self, node: _Node) -> Iterator[tuple[int, ...]]:
        above = node.parent
        while above is not None:
            yield above.edge
            above = above.parent

    def _any_source(self, node: _Node) -> int | None:
        while node.source is None and node.children:
            node = next(iter(node.children.values()))
        return node.source

    def _sources(self, node: _Node) -> Iterator[int]:
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if node.source is not None:
                yield node.source
            waiting.extend(node.children.values())
