"""Inputs to begin with: the presets, the snippets of the documentation, and what the tests hold against the parsers."""

from __future__ import annotations

import ast
from functools import cache

from tests.docs.pages import PAGES, blocks_of
from tests.engine_cache import ROOT

_SHORTEST = 12


@cache
def preset_texts():
    return tuple(path.read_text(encoding="utf-8") for path in sorted((ROOT / "policies" / "presets").glob("*.yaml")))


@cache
def documented_yaml():
    return tuple(block.text for page in PAGES for block in blocks_of(page) if block.language == "yaml")


@cache
def texts_of_tests(*files):
    """Every text constant in these test files: broken policies, odd messages, odd addresses."""
    found = []
    for file in files:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) >= _SHORTEST:
                found.append(node.value)
    return tuple(dict.fromkeys(found))


def encoded(texts):
    return [text.encode("utf-8", "surrogatepass") for text in texts]
