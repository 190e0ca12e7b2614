"""Every Python block runs, one page after another in one namespace, and prints what the comments beside ``print`` say."""

import re

import pytest

from tests.docs.pages import EXAMPLE_URL, PAGES, blocks_of, name_of
from tests.engine_cache import ROOT

_EXPECTED = re.compile(r"^\s*print\(.*\)\s+# (.+)$", re.MULTILINE)


def python_blocks(page):
    return [block for block in blocks_of(page) if block.language == "python"]


def test_no_python_block_is_marked_as_one_that_does_not_run():
    assert not [block for page in PAGES for block in python_blocks(page) if block.marker]
    assert sum(len(python_blocks(page)) for page in PAGES) >= 15


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name_of)
def test_the_blocks_of_a_page_run_and_print_what_they_say(page, desk, server_url, capsys):
    namespace = {"__name__": "snippets"}
    for block in python_blocks(page):
        source = "\n" * (block.line - 1) + block.text.replace(EXAMPLE_URL, server_url)
        exec(compile(source, str(ROOT / block.page), "exec"), namespace)
        printed = iter(capsys.readouterr().out.splitlines())
        for expected in _EXPECTED.findall(block.text):
            assert expected in printed, f"{block} does not print {expected!r}, or not in this order"
