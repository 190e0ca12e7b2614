"""Reads YAML into nodes that know their line, column and key, so that every complaint can name them.

Only plain data is understood: no tags, no anchors or aliases (nothing can expand without bound), no key twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, NoReturn

import yaml

from policies.errors import PolicyFileError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["DocumentNode", "did_you_mean", "read_document", "read_document_file"]

_MAX_BYTES = 1 << 20
_KINDS = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}
_LONGEST_SHOWN = 40
# Reading a value takes PyYAML some 20 µs, so that a file of nothing but values could take it half a minute.
_MOST_VALUES = 20_000
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
# YAML 1.1 reads 1:30 as 90, 010 as 8 and 1_0 as 10, and YAML 1.2 does not; only what cannot be misread is a number here.
_DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A sentence that names the nearest known word, or all of them when there are few."""
    near = get_close_matches(word, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    if known and len(known) <= 12:
        return f"Known: {', '.join(known)}."
    return ""


@dataclass(frozen=True, slots=True, eq=False)
class DocumentNode:
    """One node of a YAML file together with where it stands."""

    node: yaml.Node
    """PyYAML's node."""

    file: str
    """The file as the user named it."""

    key: str = ""
    """Path of the key from the top, such as ``rules[1].when``."""

    @property
    def line(self) -> int:
        """Line, counted from 1."""
        return int(self.node.start_mark.line) + 1

    @property
    def location(self) -> str:
        """``file:line``, for people."""
        return f"{printable(self.file)}:{self.line}"

    def fail(self, problem: str, mend: str = "") -> NoReturn:
        """Raise ``PolicyFileError`` for this node."""
        raise PolicyFileError(
            problem, mend, file=self.file, line=self.line, column=int(self.node.start_mark.column) + 1, key=self.key
        )

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_sequence(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_number(self) -> bool:
        """Whether YAML takes it for a number, be it one that ``number`` does not take."""
        return isinstance(self.node, yaml.ScalarNode) and self._tag() in ("int", "float")

    @property
    def is_boolean(self) -> bool:
        """Whether it is ``true`` or ``false``."""
        return isinstance(self.node, yaml.ScalarNode) and self._tag() == "bool"

    def entries(self) -> dict[str, DocumentNode]:
        """The entries of a mapping with free keys, in the order of the file."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail(f"expected a mapping, found {self._kind()}.")
        found: dict[str, DocumentNode] = {}
        for key_node, value_node in self.node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            at_key = DocumentNode(key_node, self.file, self.key)
            if name is None:
                at_key.fail("a key must be a plain word.")
            at_key = DocumentNode(key_node, self.file, self._path(name))
            if name in found:
                at_key.fail(f"the key stands twice, first in line {found[name].line}.", "Keep one of them.")
            found[name] = DocumentNode(value_node, self.file, self._path(name))
        return found

    def fields(self, known: Sequence[str], required: Sequence[str] = ()) -> dict[str, DocumentNode]:
        """The entries of a mapping whose keys are fixed; an unknown or a missing one is an error."""
        found = self.entries()
        for name, child in found.items():
            if name not in known:
                child._at_key(self.node).fail(f"unknown key {name[:_LONGEST_SHOWN]!r}.", did_you_mean(name, known))
        for name in required:
            if name not in found:
                self.fail(f"the key {name!r} is missing.")
        return found

    def items(self) -> list[DocumentNode]:
        """The elements of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail(f"expected a list, found {self._kind()}.", "Write it as [a, b].")
        return [DocumentNode(child, self.file, f"{self.key}[{index}]") for index, child in enumerate(self.node.value)]

    def text(self) -> str:
        """A non-empty text; a number or ``true`` without quotes is not one."""
        value = self.plain()
        if self._tag() not in ("str", "timestamp") or not value.strip():
            self.fail(f"expected text, found {self._kind()}.", "Put it in quotes." if value.strip() else "")
        return value

    def plain(self) -> str:
        """The characters of a scalar as they stand in the file, whatever YAML would make of them."""
        if not isinstance(self.node, yaml.ScalarNode):
            self.fail(f"expected a single value, found {self._kind()}.")
        return str(self.node.value)

    def number(self) -> float:
        """A finite number in plain decimals; no other base, no exponent, no ``_`` or ``:`` between the digits."""
        written = self.plain()
        if self._tag() not in ("int", "float"):
            self.fail(f"expected a number, found {self._kind()}.")
        if _NOT_FINITE.fullmatch(written):
            self.fail("expected a finite number.")
        if not _DECIMAL.fullmatch(written):
            self.fail(
                f"expected a plain decimal number, found {written[:_LONGEST_SHOWN]!r}.",
                "Write it in the digits 0 to 9, such as 512 or 0.5.",
            )
        if not -1e15 < float(written) < 1e15:
            self.fail("expected a finite number, smaller than 1e15.")
        return float(written) if "." in written else int(written)

    def integer(self) -> int:
        """A whole number."""
        value = self.number()
        if not isinstance(value, int):
            self.fail(f"expected a whole number, found {value}.")
        return value

    def boolean(self) -> bool:
        """``true`` or ``false``."""
        self.plain()
        if self._tag() != "bool":
            self.fail(f"expected true or false, found {self._kind()}.")
        return bool(self._constructed())

    def choice(self, known: Sequence[str], what: str) -> str:
        """A word out of ``known``; YAML's other readings of it (``on``, ``no``) do not count."""
        value = self.plain()
        if value not in known:
            shown = value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]}…"
            self.fail(f"unknown {what} {shown!r}.", did_you_mean(value, known))
        return value

    def _constructed(self) -> object:
        try:
            value: object = yaml.constructor.SafeConstructor().construct_object(self.node)
        except (ValueError, OverflowError, yaml.YAMLError):
            self.fail(f"cannot read {str(self.node.value)[:_LONGEST_SHOWN]!r}.")
        return value

    def _tag(self) -> str:
        return str(self.node.tag).rpartition(":")[2]

    def _kind(self) -> str:
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        shown = str(self.node.value)[:_LONGEST_SHOWN]
        kind = _KINDS.get(self._tag(), self._tag())
        return kind if not shown else f"{kind} ({shown!r})"

    def _path(self, name: str) -> str:
        shown = printable(name[:_LONGEST_SHOWN])
        return f"{self.key}.{shown}" if self.key else shown

    def _at_key(self, parent: yaml.Node) -> DocumentNode:
        for key_node, value_node in parent.value:
            if value_node is self.node:
                return DocumentNode(key_node, self.file, self.key)
        return self


class _Composer(yaml.SafeLoader):
    """PyYAML's safe loader that refuses what could make a small file big, slow or ambiguous."""

    _values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not understood here", problem_mark=event.start_mark
            )
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!":
            raise yaml.MarkedYAMLError(problem="tags are not understood here", problem_mark=event.start_mark)
        # An escape can spell what no file name, variable or hash can be made of.
        written = getattr(event, "value", None)
        if written is not None and _NOT_TEXT.search(written):
            raise yaml.MarkedYAMLError(
                problem="a zero byte or half of a character is not understood here", problem_mark=event.start_mark
            )
        self._values += 1
        if self._values > _MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=f"more than {_MOST_VALUES} values", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def read_document(text: str, file: str) -> DocumentNode:
    """Read one YAML document.

    Args:
        text: The document.
        file: What to call it in errors.

    Raises:
        PolicyFileError: It is not YAML, is empty, too long, or uses tags, anchors or several documents.
    """
    loader = None
    if len(text) > _MAX_BYTES:
        raise PolicyFileError("the text is longer than 1 MiB.", file=file)
    try:
        loader = _Composer(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise PolicyFileError(
            f"not readable as YAML: {error.problem or error.context}.",
            file=file,
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PolicyFileError("a character that YAML does not allow.", file=file, line=line) from None
    except RecursionError:
        raise PolicyFileError("nested too deeply.", file=file, line=1) from None
    except (yaml.YAMLError, ValueError):
        raise PolicyFileError("not readable as YAML.", file=file, line=1) from None
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        raise PolicyFileError("the file is empty.", file=file, line=1)
    return DocumentNode(node, file)


def read_document_file(path: Path, file: str) -> DocumentNode:
    """Read one YAML document from a file of at most 1 MiB.

    Raises:
        PolicyFileError: As ``read_document``, and when the file cannot be read or is not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise PolicyFileError("there is no such file.", "Check the path.", file=file) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the path is not valid"
        raise PolicyFileError(f"the file cannot be read: {reason}.", "Check the path.", file=file) from None
    if len(raw) > _MAX_BYTES:
        raise PolicyFileError("the file is larger than 1 MiB.", "Check the path.", file=file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyFileError("the file is not UTF-8.", "Save it as UTF-8.", file=file, line=line) from None
    return read_document(text, file)
