"""Which way an answer came, as response headers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from hybridllm.types.route import Route

__all__ = ["header_text", "route_headers"]

_AS_IT_IS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_LONGEST = 1024


def route_headers(route: Route) -> list[tuple[bytes, bytes]]:
    """The headers that say who answered, why, under which label and by which rule."""
    said = {"route": route.served_by, "reason": route.reason, "label": route.label, "rule": route.rule}
    return [(f"x-hybridllm-{name}".encode(), header_text(text)) for name, text in said.items()]


def header_text(text: str) -> bytes:
    """A text as the value of a header: printable ASCII as it is, everything else and ``%`` percent-encoded in UTF-8.

    One that is very long is cut; the whole of it stands in the body.
    """
    return quote(text[:_LONGEST].strip(), safe=_AS_IT_IS, errors="replace").encode("ascii")
