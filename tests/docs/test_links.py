"""Links lead somewhere, and files that are named exist."""

import re

import pytest

from tests.docs.pages import PAGES, anchors_of, code_spans, links_of, name_of
from tests.engine_cache import ROOT

_TOP = ("hybridllm", "local_runtime", "policies", "tests", "examples", "training", "benchmarks", "docs", "tools")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in links_of(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert target.is_relative_to(ROOT), f"{name_of(page)} links out of the repository: {link}"
        if anchor:
            assert anchor in anchors_of(target), f"{name_of(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    for span in code_spans(page):
        if re.fullmatch(rf"({'|'.join(_TOP)})/[\w./-]*", span):
            assert (ROOT / span).exists(), f"{name_of(page)} names {span}"


def test_every_page_can_be_reached_from_the_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links_of(PAGES[0])}
    assert set(PAGES[1:]) <= linked


def test_the_picture_needs_nobody_else():
    picture = (ROOT / "docs" / "images" / "chat.svg").read_text(encoding="utf-8")
    assert "url(http" not in picture
    assert "@font-face" not in picture
    assert "rule&#160;default" in picture
