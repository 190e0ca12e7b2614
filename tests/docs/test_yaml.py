"""Every YAML block is what it says: a policy, a policy with the error that is shown, a configuration, or a rule's condition."""

import re
import textwrap

import pytest

from hybridllm import load_policy
from hybridllm.config import load_config
from policies import PolicyFileError, parse_policy
from tests.docs.pages import PAGES, all_blocks, blocks_of, policy_of_the_page

_AROUND = """
version: 1
name: around
labels: {order: [public, private], unlabeled: private}
zones: {}
rules:
  - name: shown
    route: [local]
"""


def marked(marker):
    return [block for block in all_blocks("yaml") if block.marker == marker]


def test_every_block_is_of_a_known_sort():
    assert {block.marker for block in all_blocks("yaml")} == {"", "broken", "config", "fragment"}


@pytest.mark.parametrize("block", marked(""), ids=str)
def test_policies_load(block):
    assert parse_policy(block.text, file=block.page).rules


@pytest.mark.parametrize("block", marked("fragment"), ids=str)
def test_conditions_load_inside_a_policy(block):
    policy = parse_policy(_AROUND + textwrap.indent(block.text, "    ") + "default: [local]\n")
    lines = [line for line in block.text.splitlines()[1:] if line.strip()]
    assert len({condition.fact for condition in policy.rules[0].when}) == len(lines)


def test_the_readmes_policy_is_the_preset_that_it_names():
    block = next(block for block in blocks_of(PAGES[0]) if block.language == "yaml")
    shown = parse_policy(block.text)
    assert shown.hash == load_policy(shown.name).hash


def test_the_broken_policy_gives_the_error_that_is_shown(desk):
    (block,) = marked("broken")
    page = next(page for page in PAGES if block.page.endswith(page.name))
    shown = next(other for other in blocks_of(page) if other.language == "text" and other.line > block.line)
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(block.text, file="broken.yaml")
    assert str(caught.value) == shown.text.strip()


def test_the_configuration_loads_and_its_keys_are_all_named(desk):
    arguments = load_config("hybridllm.yaml")
    assert arguments["remote"].api_key_env == "LLM_EXAMPLE_KEY"
    (block,) = marked("config")
    assert load_policy(arguments["policy"]).name == parse_policy(policy_of_the_page().text).name
    assert set(re.findall(r"^(\w+):", block.text, re.MULTILINE)) == set(arguments)
