"""Policies from YAML: what is understood, and how exactly everything else is refused."""

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import policies
from policies import PolicyFileError, load_policy, parse_policy, preset_names

PRESETS = Path(policies.__file__).parent / "presets"
KIOSK = (PRESETS / "kiosk.yaml").read_text(encoding="utf-8")


def test_the_three_presets_are_there():
    assert preset_names() == ("cloud-assist", "kiosk", "offline-first")
    for name in preset_names():
        policy = load_policy(name)
        assert policy.name == name
        assert policy.description
        assert policy.rules[0].location.startswith(f"policies/presets/{name}.yaml:")


def test_a_policy_is_read_as_it_is_written():
    policy = parse_policy(KIOSK, file="kiosk.yaml")
    assert policy.labels.order == ("public", "internal", "private")
    assert policy.labels.tags == {"faq": "public", "health": "private", "payment": "private"}
    assert policy.zones == {"cloud": "public", "site": "internal"}
    names = [detector.name for detector in policy.detectors]
    assert names == ["payment_card", "national_id", "iban", "email", "phone"]
    assert [rule.name for rule in policy.rules] == ["no-network", "short-of-memory", "slow-here"]
    assert [str(condition) for condition in policy.rules[2].when] == ["local_ttft_ms gt 1500", "remote_ttft_ms lt 1500"]
    assert policy.rules[1].route == ("remote", "local")
    line = KIOSK.splitlines().index("  - name: short-of-memory") + 1
    assert policy.rules[1].location == f"kiosk.yaml:{line}"


def test_a_path_is_read_and_named_as_the_user_named_it(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(KIOSK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_policy("mine.yaml").file == "mine.yaml"
    assert load_policy(tmp_path / "mine.yaml").hash == load_policy("kiosk").hash


def test_the_hash_is_that_of_the_meaning():
    again = parse_policy(KIOSK.replace("# A terminal", "# Another terminal").replace("lt: 512", "lt: 512 "))
    assert again.hash == load_policy("kiosk").hash
    assert parse_policy(KIOSK.replace("lt: 512", "lt: 513")).hash != again.hash


def test_a_number_means_the_same_with_and_without_a_point():
    whole, point = (parse_policy(KIOSK.replace("lt: 512", f"in: [{number}, 0.5]")) for number in ("512", "512.0"))
    assert whole == point
    assert whole.hash == point.hash
    assert whole.hash != parse_policy(KIOSK.replace("lt: 512", "in: [512.5, 0.5]")).hash


def test_policies_can_be_members_of_a_set():
    kiosk = load_policy("kiosk")
    assert hash(kiosk.labels) == hash(parse_policy(KIOSK).labels)
    assert {kiosk, parse_policy(KIOSK), load_policy("cloud-assist")} == {kiosk, load_policy("cloud-assist")}


# (what to replace, with what, line, column, key, part of the message)
MISTAKES = [
    (
        "connectivity: offline",
        "conectivity: offline",
        15,
        25,
        "rules[0].when.conectivity",
        "Did you mean 'connectivity'?",
    ),
    ("lt: 512", "lt: many", 18, 38, "rules[1].when.memory_headroom_mib.lt", "expected a number, found text ('many')"),
    ("lt: 512", "lt: .inf", 18, 38, "rules[1].when.memory_headroom_mib.lt", "finite"),
    ("lt: 512", "lt: .NaN", 18, 38, "rules[1].when.memory_headroom_mib.lt", "finite"),
    ("lt: 512", f"lt: {'9' * 5000}", 18, 38, "rules[1].when.memory_headroom_mib.lt", "finite"),
    ("lt: 512", "lt: 1:30", 18, 38, "rules[1].when.memory_headroom_mib.lt", "a plain decimal number, found '1:30'"),
    ("lt: 512", "lt: 1:30.5", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 010", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: -010", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 01.5", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 0x10", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 0b11", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 1_0", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 1_0.5", 18, 38, "rules[1].when.memory_headroom_mib.lt", "such as 512 or 0.5"),
    ("lt: 512", "lt: 1.5e+3", 18, 38, "rules[1].when.memory_headroom_mib.lt", "plain decimal number"),
    ("lt: 512", "lt: 1e3", 18, 38, "rules[1].when.memory_headroom_mib.lt", "expected a number, found text ('1e3')"),
    ("lt: 512", "in: [1, 0x10]", 18, 42, "rules[1].when.memory_headroom_mib.in[1]", "plain decimal number"),
    ("version: 1", "version: 0b1", 2, 10, "version", "plain decimal number"),
    ("lt: 512", "lt: true", 18, 38, "rules[1].when.memory_headroom_mib.lt", "expected a number"),
    ("lt: 512", "less: 5", 18, 40, "rules[1].when.memory_headroom_mib.less", "unknown operator 'less'"),
    ("{lt: 512}", "{}", 18, 33, "rules[1].when.memory_headroom_mib", "no comparison"),
    ("{lt: 512}", "{in: []}", 18, 38, "rules[1].when.memory_headroom_mib.in", "needs at least one value"),
    ("connectivity: offline", "connectivity: offlin", 15, 26, "rules[0].when.connectivity", "Did you mean 'offline'?"),
    ("connectivity: offline", "local_ready: 1", 15, 25, "rules[0].when.local_ready", "true or false"),
    ("connectivity: offline", "time_of_day: 8:30", 15, 25, "rules[0].when.time_of_day", "such as '08:30'"),
    ("connectivity: offline", "label: secret", 15, 19, "rules[0].when.label", "unknown label 'secret'"),
    ("{connectivity: offline}", "{}", 15, 11, "rules[0].when", "would always match"),
    ("version: 1", "version: 2", 2, 10, "version", "version 2 is not understood"),
    ("version: 1", "version: '1'", 2, 10, "version", "expected a number"),
    ("route: [local]", "route: [locl]", 16, 13, "rules[0].route[0]", "Did you mean 'local'?"),
    ("route: [local]", "route: local", 16, 12, "rules[0].route", "expected a list"),
    ("route: [local]", "route: [local, local]", 16, 20, "rules[0].route[1]", "stands twice"),
    ("name: kiosk", "name: kiosk\nname: x", 4, 1, "name", "stands twice, first in line 3"),
    ("name: kiosk", "name: [kiosk]", 3, 7, "name", "expected a single value, found a list"),
    ("cloud: public", "cloud: private", 10, 10, "zones.cloud", "never leaves the device"),
    ("cloud: public", "device: public", 10, 11, "zones.device", "has no ceiling"),
    ("unlabeled: private", "unlabeled: secret", 7, 14, "labels.unlabeled", "Known: public, internal, private."),
    ("[public, internal, private]", "[public, public]", 6, 19, "labels.order[1]", "stands twice"),
    ("[public, internal, private]", "[]", 6, 10, "labels.order", "no label is named"),
    ("health: private", "health: secret", 8, 31, "labels.tags.health", "unknown label"),
    ("rules:", "ruls:", 13, 1, "ruls", "Did you mean 'rules'?"),
    ("default: [local, remote]", "default: []", 23, 10, "default", "no place is named"),
    ("default: [local, remote]", "", 2, 1, "", "the key 'default' is missing"),
    ("email", "e-mail", 12, 46, "detectors[3]", "Did you mean 'email'?"),
    ("- name: slow-here", "- name: no-network", 20, 11, "rules[2].name", "is taken"),
    ("- name: slow-here", "- name: default", 20, 11, "rules[2].name", "is taken"),
    ("- name: slow-here\n    when", "- when", 20, 5, "rules[2]", "the key 'name' is missing"),
    ("version: 1", "version: &a 1", 2, 10, "", "anchors and aliases"),
    ("version: 1", "version: !!python/object:os.system 1", 2, 10, "", "tags are not understood"),
    ("version: 1", "version: [1", 3, 5, "", "not readable as YAML"),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "key", "part"), MISTAKES)
def test_a_mistake_is_named_with_file_line_column_and_key(old, new, line, column, key, part):
    assert old in KIOSK
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(KIOSK.replace(old, new, 1), file="kiosk.yaml")
    error = raised.value
    assert (error.file, error.line, error.column, error.key) == ("kiosk.yaml", line, column, key)
    assert str(error).startswith(f"kiosk.yaml:{line}:{column}: ")
    assert part in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("written", "number"),
    [("512", 512), ("+512", 512), ("-1", -1), ("0", 0), ("0.5", 0.5), ("-0.25", -0.25), (".5", 0.5), ("10.", 10)],
)
def test_plain_decimals_are_numbers(written, number):
    policy = parse_policy(KIOSK.replace("lt: 512", f"lt: {written}"))
    assert policy.rules[1].when[0].operand == number


# Text with a line break, a terminal's escapes and a character that turns the direction of writing.
UGLY = r"a\nb\r\e[31mred\a\u202e\u2028"


@pytest.mark.parametrize(
    "text",
    [
        KIOSK + f'"{UGLY}": 1\n',
        KIOSK + f'? "{UGLY}"\n: 1\n? "{UGLY}"\n: 2\n',
        KIOSK.replace("faq: public", f'"{UGLY}": public'),
        KIOSK.replace("faq: public", f'faq: "{UGLY}"'),
        KIOSK.replace("cloud: public", f'"{UGLY}": public'),
        KIOSK.replace("connectivity: offline", f'"{UGLY}": offline'),
        KIOSK.replace("connectivity: offline", f'connectivity: "{UGLY}"'),
        KIOSK.replace("lt: 512", f'"{UGLY}": 512'),
        KIOSK.replace("lt: 512", f'lt: "{UGLY}"'),
        KIOSK.replace("connectivity: offline", f'time_of_day: "{UGLY}"'),
        KIOSK.replace("name: kiosk", f'name: "{UGLY}"'),
        KIOSK.replace("route: [local]", f'route: ["{UGLY}"]'),
        KIOSK.replace("version: 1", f'version: "{UGLY}"'),
    ],
)
def test_what_a_user_wrote_cannot_break_a_message(text):
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(text, file="a\x1b\nb.yaml")
    error = raised.value
    for shown in (str(error), error.message, error.problem, error.mend, error.key):
        assert shown.isprintable()
    assert str(error).startswith(r"a\x1b\nb.yaml:")
    assert error.file == "a\x1b\nb.yaml"


def test_what_a_user_wrote_is_shown_escaped():
    with pytest.raises(PolicyFileError, match=re.escape(r": a\nb: unknown key 'a\nb'.")):
        parse_policy(KIOSK + '"a\\nb": 1\n')
    with pytest.raises(PolicyFileError, match=re.escape(r"there is no preset and no file of this name.")) as raised:
        load_policy("a\x1b[31m")
    assert str(raised.value).isprintable()
    policy = parse_policy(KIOSK.replace("connectivity: offline", f'tags: "{UGLY}"'), file="a\nb.yaml")
    assert str(policy.rules[0].when[0]) == r"tags contains a\nb\r\x1b[31mred\x07\u202e\u2028"
    assert policy.rules[0].location == r"a\nb.yaml:14"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("just text", "expected a mapping"),
        ("- a\n- b\n", "expected a mapping"),
        ("a: 1\n---\nb: 2\n", "not readable as YAML"),
        ("a: \x00", "does not allow"),
        ("[" * 1500, "nested too deeply"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
    ],
)
def test_what_is_no_policy_at_all(text, part):
    with pytest.raises(PolicyFileError, match=part):
        parse_policy(text)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(PolicyFileError, match="no such file"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(PolicyFileError, match="cannot be read"):
        load_policy(tmp_path)
    with pytest.raises(PolicyFileError, match="Did you mean 'kiosk'"):
        load_policy("kioks")
    with pytest.raises(PolicyFileError, match="no policy is named"):
        load_policy(" ")
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\nname: caf\xe9\n")
    with pytest.raises(PolicyFileError) as raised:
        load_policy(tmp_path / "latin.yaml")
    assert raised.value.line == 2
    (tmp_path / "big.yaml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(PolicyFileError, match="larger than 1 MiB"):
        load_policy(tmp_path / "big.yaml")


def test_an_unquoted_time_and_a_word_that_yaml_reads_as_a_bool_keep_their_letters():
    text = KIOSK.replace("connectivity: offline", "time_of_day: {ge: 22:00}").replace("faq: public", "on: public")
    policy = parse_policy(text)
    assert policy.rules[0].when[0].operand == "22:00"
    assert "on" in policy.labels.tags


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=200, deadline=None)
def test_no_text_makes_it_fail_in_another_way(text):
    with pytest.raises(PolicyFileError):
        parse_policy(text)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_policy_is_read_or_refused(data):
    start = data.draw(st.integers(0, len(KIOSK)))
    stop = data.draw(st.integers(start, min(len(KIOSK), start + 30)))
    damaged = KIOSK[:start] + data.draw(st.text(max_size=8)) + KIOSK[stop:]
    with contextlib.suppress(PolicyFileError):
        policy = parse_policy(damaged)
        assert policy.labels.top not in policy.zones.values()


WITH_EVERYTHING = """\
version: 1
name: everything
labels: {order: [public, internal, private], unlabeled: private, tags: {faq: public}}
zones:
  cloud: public
  site: {ceiling: internal, addresses: any}
detectors:
  - email
  - {name: phone, label: internal}
  - name: projects
    words: [Blue Heron, 青鹭]
  - name: room
    label: internal
    pattern: 'room [0-9]{3}'
rules:
  - name: masked
    when: {detected: [email, room]}
    route: [remote, local]
    redact: [email, room]
  - name: stay
    when: {declared_label: private}
    route: [local]
default: [local, remote]
guarantees:
  - name: health-stays
    when: {tags: faq}
    never: [cloud]
"""


def test_detectors_zones_redaction_and_guarantees_are_read_as_they_are_written():
    policy = parse_policy(WITH_EVERYTHING, file="e.yaml")
    assert [(found.name, found.label, found.words, found.pattern) for found in policy.detectors] == [
        ("email", None, (), ""),
        ("phone", "internal", (), ""),
        ("projects", None, ("Blue Heron", "青鹭"), ""),
        ("room", "internal", (), "room [0-9]{3}"),
    ]
    assert [found.location for found in policy.detectors] == ["e.yaml:8", "e.yaml:9", "e.yaml:10", "e.yaml:12"]
    assert policy.detector_labels == {
        "email": "private",
        "phone": "internal",
        "projects": "private",
        "room": "internal",
    }
    assert policy.zones == {"cloud": "public", "site": "internal"}
    assert policy.addresses == {"site": "any"}
    assert [rule.redact for rule in policy.rules] == [("email", "room"), ()]
    (guarantee,) = policy.guarantees
    assert (guarantee.name, guarantee.never, guarantee.location) == ("health-stays", ("cloud",), "e.yaml:25")
    assert [str(condition) for condition in guarantee.when] == ["tags contains faq"]


def test_what_a_zone_says_of_addresses_and_what_holds_without():
    assert parse_policy(WITH_EVERYTHING).addresses_of("site") == "any"
    silent = parse_policy(WITH_EVERYTHING.replace(", addresses: any", ""))
    assert (silent.addresses_of("site"), silent.addresses_of("cloud")) == ("private", "any")
    said = parse_policy(WITH_EVERYTHING.replace("addresses: any", "addresses: private"))
    assert said.hash == silent.hash != parse_policy(WITH_EVERYTHING).hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  - email\n", "  - {name: email, label: internal}\n"),
        ("[Blue Heron, 青鹭]", "[Blue Heron]"),
        ("room [0-9]{3}", "room [0-9]{4}"),
        ("    redact: [email, room]\n", "    redact: [email]\n"),
        ("    redact: [email, room]\n", ""),
    ],
)
def test_what_changes_the_meaning_changes_the_hash(old, new):
    assert old in WITH_EVERYTHING
    assert parse_policy(WITH_EVERYTHING.replace(old, new)).hash != parse_policy(WITH_EVERYTHING).hash


# (what to replace, with what, line, column, key, part of the message)
MISTAKES_IN_NEWER_KEYS = [
    ("  - email\n", "  - emial\n", 8, 5, "detectors[0]", "Did you mean 'email'?"),
    ("{name: phone, label", "{nmae: phone, label", 9, 6, "detectors[1].nmae", "Did you mean 'name'?"),
    ("name: phone, ", "", 9, 5, "detectors[1]", "the key 'name' is missing"),
    ("name: phone, label: internal", "name: fone", 9, 12, "detectors[1].name", "Did you mean 'phone'?"),
    ("label: internal}", "label: secret}", 9, 26, "detectors[1].label", "unknown label 'secret'"),
    ("- {name: phone, label: internal}", "- email", 9, 5, "detectors[1]", "the detector 'email' stands twice"),
    ("name: room", "name: projects", 12, 5, "detectors[3]", "the detector 'projects' stands twice"),
    ("name: projects", "name: iban", 10, 11, "detectors[2].name", "'iban' is built in and has no words of its own"),
    ("name: room", "name: iban", 12, 11, "detectors[3].name", "'iban' is built in and has no pattern of its own"),
    ("name: room", "name: a room", 12, 11, "detectors[3].name", "a name has letters"),
    ("label: internal\n", "words: [a]\n", 14, 14, "detectors[3].pattern", "both words and pattern"),
    ("[Blue Heron, 青鹭]", "[]", 11, 12, "detectors[2].words", "expected 1 to 1000 words, found 0"),
    ("[Blue Heron, 青鹭]", str(["w"] * 1001), 11, 12, "detectors[2].words", "expected 1 to 1000 words, found 1001"),
    ("[Blue Heron, 青鹭]", "[Blue, ' ']", 11, 19, "detectors[2].words[1]", "expected text"),
    ("[Blue Heron, 青鹭]", "[Blue, 7]", 11, 19, "detectors[2].words[1]", "expected text, found a number"),
    ("[Blue Heron, 青鹭]", "Blue", 11, 12, "detectors[2].words", "expected a list"),
    ("'room [0-9]{3}'", "''", 14, 14, "detectors[3].pattern", "expected text"),
    ("room [0-9]{3}", "r" * 1001, 14, 14, "detectors[3].pattern", "at most 1000 characters"),
    ("'room [0-9]{3}'", "[a]", 14, 14, "detectors[3].pattern", "expected a single value, found a list"),
    ("addresses: any", "addresses: local", 6, 40, "zones.site.addresses", "Known: any, private."),
    ("addresses: any", "adresses: any", 6, 29, "zones.site.adresses", "Did you mean 'addresses'?"),
    ("ceiling: internal, ", "", 6, 9, "zones.site", "the key 'ceiling' is missing"),
    ("ceiling: internal", "ceiling: private", 6, 19, "zones.site.ceiling", "never leaves the device"),
    ("ceiling: internal", "ceiling: secret", 6, 19, "zones.site.ceiling", "unknown label"),
    ("redact: [email, room]", "redact: [email, rooom]", 19, 21, "rules[0].redact[1]", "Did you mean 'room'?"),
    ("redact: [email, room]", "redact: [iban]", 19, 14, "rules[0].redact[0]", "unknown detector of this policy 'iban'"),
    ("redact: [email, room]", "redact: [email, email]", 19, 21, "rules[0].redact[1]", "stands twice"),
    ("redact: [email, room]", "redact: []", 19, 13, "rules[0].redact", "no detector of this policy is named"),
    ("redact: [email, room]", "redact: email", 19, 13, "rules[0].redact", "expected a list"),
    ("route: [remote, local]", "route: [local]", 19, 13, "rules[0].redact", "never leaves the device"),
    ("never: [cloud]", "never: [clod]", 27, 13, "guarantees[0].never[0]", "Did you mean 'cloud'?"),
    ("never: [cloud]", "never: []", 27, 12, "guarantees[0].never", "no zone is named"),
    ("    never: [cloud]\n", "", 25, 5, "guarantees[0]", "the key 'never' is missing"),
    ("when: {tags: faq}", "when: {}", 26, 11, "guarantees[0].when", "always match"),
    ("when: {tags: faq}", "when: {tag: faq}", 26, 17, "guarantees[0].when.tag", "Did you mean 'tags'?"),
    ("name: health-stays", "name: health stays", 25, 11, "guarantees[0].name", "a name has letters"),
    (
        "    never: [cloud]\n",
        "    never: [cloud]\n  - {name: health-stays, when: {tags: faq}, never: [site]}\n",
        28,
        12,
        "guarantees[1].name",
        "is taken",
    ),
]


@pytest.mark.parametrize(("old", "new", "line", "column", "key", "part"), MISTAKES_IN_NEWER_KEYS)
def test_a_mistake_in_a_newer_key_is_named_alike(old, new, line, column, key, part):
    assert old in WITH_EVERYTHING
    with pytest.raises(PolicyFileError) as raised:
        parse_policy(WITH_EVERYTHING.replace(old, new, 1), file="e.yaml")
    error = raised.value
    assert (error.line, error.column, error.key) == (line, column, key)
    assert part in str(error)
    assert "\n" not in str(error)


def test_redact_needs_detectors_of_the_policy():
    text = KIOSK.replace("route: [remote, local]", "route: [remote, local]\n    redact: [email]", 1)
    assert parse_policy(text).rules[1].redact == ("email",)
    without = re.sub(r"^detectors:.*\n", "", text, flags=re.MULTILINE)
    with pytest.raises(PolicyFileError, match="unknown detector of this policy 'email'"):
        parse_policy(without)
