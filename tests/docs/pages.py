"""The documentation as tests read it: pages, their fenced blocks, commands, links and headings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.engine_cache import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE_URL = "https://llm.example/v1"

_FENCE = re.compile(r"^```(\S*)[ ]?(.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block: what stands after the fence, its text, and the line of its first line."""

    page: str
    language: str
    marker: str
    text: str
    line: int

    def __str__(self):
        return f"{self.page}:{self.line}"


def name_of(page):
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page):
    """The page's fenced blocks, in order."""
    found, opened, lines = [], None, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, lines = (fence[1], fence[2].strip(), number + 1), []
        elif opened is not None and line == "```":
            language, marker, first = opened
            found.append(Block(name_of(page), language, marker, "\n".join(lines) + "\n", first))
            opened = None
        elif opened is not None:
            lines.append(line)
    assert opened is None, f"{page}: a fence is never closed"
    return found


def all_blocks(language):
    """The blocks of all pages in one language."""
    return [block for page in PAGES for block in blocks_of(page) if block.language == language]


def prose_of(page):
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def code_spans(page):
    """What stands between single backticks in the page's prose."""
    return re.findall(r"`([^`\n]+)`", prose_of(page))


def links_of(page):
    """The targets of the page's links and pictures."""
    return re.findall(r"\]\(([^()\s]+)\)", prose_of(page))


def anchors_of(page):
    """What a link into the page may name after ``#``, as GitHub makes it from headings."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_named(name):
    """The page with this file name."""
    return next(page for page in PAGES if page.name == name)


def policy_of_the_page():
    """The whole policy of the page about policies, which its commands and snippets call ``kiosk.yaml``."""
    return next(block for block in blocks_of(page_named("policies.md")) if block.language == "yaml")


def write_files(folder):
    """Write the files that snippets and commands use."""
    broken = next(block for block in all_blocks("yaml") if block.marker == "broken")
    config = next(block for block in all_blocks("yaml") if block.marker == "config")
    for name, block in (("kiosk.yaml", policy_of_the_page()), ("broken.yaml", broken), ("hybridllm.yaml", config)):
        (folder / name).write_text(block.text, encoding="utf-8")
