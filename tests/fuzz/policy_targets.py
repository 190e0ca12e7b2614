"""What reads files of an operator: policies, facts of a decision log, decisions over both, and the configuration."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from pathlib import Path

from hybridllm.config import load_config
from hybridllm.errors import ConfigError
from policies import (
    CONNECTIVITY,
    DETECTORS,
    DEVICE_ZONE,
    FACT_KINDS,
    LOCAL,
    OPERATORS,
    WEEKDAYS,
    FactError,
    Facts,
    PolicyFileError,
    decide,
    parse_policy,
)
from tests.engine_cache import ROOT
from tests.fuzz.corpus import documented_yaml, encoded, preset_texts, texts_of_tests
from tests.fuzz.target import Target, check_message, promise
from tests.fuzz.values import json_or_any

_LONGEST_MESSAGE = 2000
_BETWEEN = b"\n%%\n"
_PRESETS = preset_texts()  # read now: a parser under test may open no file

POLICY_WORDS = (
    "version: 1", "name", "description", "labels", "order", "unlabeled", "tags", "zones", "ceiling", "addresses", "any",
    "private", "detectors", "label", "words", "pattern", "rules", "when", "route", "redact", "default", "guarantees", "never",
    "limits", "connect_s", "first_token_s", "gap_s", "retries", "most", "budget", "breaker", "failures", "open_s", "successes",
    "on_interrupt", "continue", "restart", "error", "hedge", "after", "p95",
    "local", "remote", "cloud", "site", DEVICE_ZONE, "public", "internal", *DETECTORS, *FACT_KINDS, *CONNECTIVITY, *WEEKDAYS,
    *sorted({operator for operators in OPERATORS.values() for operator in operators}), "true", "false", "null", "22:00", "010",
    "1e3", ".inf", "0x1F", "[", "]", "{", "}", "- ", ": ", "? ", "| ", "> ", "&a ", "*a", "!!python/object", "<<: ", "---\n",
    "...\n", "%YAML 1.2\n", "#", '"', "'", '"\\ud800"', '"\\0"', '"\\x1b"', "\n  ", "\t", "\u2028", "\ufeff",
)  # fmt: skip


def _text(data):
    # Bytes that are not UTF-8 become lone surrogates, which a caller of ``parse_policy`` can pass as well.
    return data.decode("utf-8", "surrogateescape")


def _parsed(data):
    """The policy, or None; anything but ``PolicyFileError`` is a crash."""
    try:
        policy = parse_policy(_text(data))
    except PolicyFileError as error:
        check_message(str(error), most_characters=_LONGEST_MESSAGE)
        promise(str(error).startswith("<policy>:"), "the error does not begin with the file")
        return None
    return policy


def check_policy(data):
    policy = _parsed(data)
    if policy is None:
        return
    top = policy.labels.top
    promise(DEVICE_ZONE not in policy.zones, "the device has a ceiling")
    for zone in (*policy.zones, "no-such-zone"):
        promise(not policy.may_see(zone, top), "the top label may leave the device")
        promise(not policy.may_see(zone, "no-such-label"), "an unknown label may leave the device")
        promise(zone in policy.zones or not policy.may_see(zone, policy.labels.order[0]), "a zone without ceiling sees")
    promise(policy.may_see(DEVICE_ZONE, top), "the device may not see")
    promise(policy.labels.unlabeled in policy.labels.rank, "unlabeled is no label")
    promise(len(policy.hash) == 64, "the policy has no hash")
    promise(parse_policy(_text(data)).hash == policy.hash, "the same text gives another hash")
    json.dumps(policy.to_dict(), allow_nan=False).encode()


FACT_WORDS = (
    *FACT_KINDS, *CONNECTIVITY, *WEEKDAYS, "places", "name", "zone", "context_tokens", "capabilities", "unavailable", "local",
    "remote", "cloud", "site", "device", "public", "private", "22:00", "extended_sampling",
)  # fmt: skip


def _facts(data):
    value = json_or_any(data, FACT_WORDS)
    try:
        facts = Facts.from_dict(value)
    except FactError as error:
        promise(len(str(error)) <= 500, "the error of facts is long")
        return None
    return facts


def check_facts(data):
    facts = _facts(data)
    if facts is None:
        return
    plain = facts.to_dict()
    promise(len(facts.values()) == len(FACT_KINDS), "a fact is lost")
    written = json.dumps(plain)
    again = Facts.from_dict(json.loads(written))
    promise(json.dumps(again.to_dict()) == written, "facts are not the same after writing and reading them")


def check_decision(data):
    """``POLICY %% FACTS``; an empty policy, or a number, stands for a preset."""
    written, _, rest = data.partition(_BETWEEN)
    text = _PRESETS[len(rest) % len(_PRESETS)].encode() if not written.strip() else written
    policy = _parsed(text)
    facts = _facts(rest)
    if policy is None or facts is None:
        return
    decision = decide(policy, facts)
    promise(decision.to_json() == decide(policy, facts).to_json(), "the same facts give another decision")
    promise(len(decision.trace) == len(policy.rules) + 1, "the trace lacks a rule")
    promise(decision.label in policy.labels.rank, "the decision is for a label that the policy does not have")
    if facts.label not in policy.labels.rank:
        promise(decision.label == policy.labels.top, "an unknown label does not count as the top one")
    places = {place.name: place for place in reversed(facts.places)}
    for name in decision.candidates:
        if name != LOCAL:
            promise(
                policy.may_see(places[name].zone, decision.label_for(name)), "a place may not see what it would get"
            )
            promise(places[name].zone != DEVICE_ZONE, "another place counts as the device")
            promise(decision.label != policy.labels.top or name in decision.redacted_places, "the top label leaves")
    struck = {out.place: out.code for out in decision.struck_out}
    promise(
        LOCAL in decision.candidates or struck.get(LOCAL) in ("context", "capability"), "the device does not answer"
    )
    json.dumps(decision.to_dict())


_FOLDER = Path(tempfile.mkdtemp(prefix="hybridllm-fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
CONFIG_FILE = _FOLDER / "hybridllm.yaml"

CONFIG_WORDS = (
    "model", "policy", "quant", "target", "cache_dir", "privacy_floor", "threads", "context_tokens", "max_sequences", "offline",
    "remote", "base_url", "zone", "ca_file", "proxy", "api_key", "api_key_env", "connect_timeout_s", "first_token_timeout_s",
    "gap_timeout_s", "max_response_mib", "max_retries",
    "max_waiting", "memory_mib", "capabilities", "https://llm.example/v1", "http://[::1]:8080", "kiosk",
    "~", "~nobody-here/x", "true", "1e999", '"\\0"', '"\\ud800"', "HOME", "[", "{", ": ", "\n",
)  # fmt: skip


def write_config(data):
    with CONFIG_FILE.open("wb", buffering=0) as file:
        file.write(data)


def check_config(data):
    write_config(data)
    try:
        arguments = load_config(CONFIG_FILE)
    except ConfigError as error:
        check_message(str(error), most_characters=_LONGEST_MESSAGE)
        promise(str(CONFIG_FILE) in str(error), "the error does not name the file")
        return
    promise(isinstance(arguments, dict), "no arguments")
    repr(arguments)


_FACT_SEEDS = (
    {},
    {"label": "public", "connectivity": "online", "places": [{"name": "remote", "zone": "cloud"}]},
    {
        "label": "internal", "declared_label": "public", "tags": ["faq"], "detected": ["email"], "memory_headroom_mib": 100,
        "local_ready": True, "local_ttft_ms": 1e9, "remote_ttft_ms": 10, "prompt_tokens": 12.5, "max_tokens": 100,
        "capabilities": ["extended_sampling"], "time_of_day": "22:00", "weekday": "sun",
        "places": [
            {"name": "local", "zone": "device", "context_tokens": 10, "capabilities": [], "unavailable": "it starts"},
            {"name": "remote", "zone": "site", "context_tokens": 4096, "capabilities": ["extended_sampling"]},
        ],
    },
    {"local_prompt_tokens": 10**400, "places": [{"name": "local", "zone": "device", "context_tokens": 5}]},
    {"label": 1, "places": {}},
)  # fmt: skip


def fact_seeds():
    return [json.dumps(facts).encode() for facts in _FACT_SEEDS]


def policy_seeds():
    return encoded(
        (*preset_texts(), *documented_yaml(), *texts_of_tests("policies/test_loader.py", "policies/test_handling.py"))
    )


def decision_seeds():
    texts = [b"", *encoded(preset_texts()), *encoded(documented_yaml())]
    return [text + _BETWEEN + facts for text in texts for facts in fact_seeds()]


def config_seeds():
    return encoded((*documented_yaml(), *texts_of_tests("hybridllm/test_config.py")))


TARGETS = (
    Target("policy", check_policy, policy_seeds, POLICY_WORDS),
    Target("facts", check_facts, fact_seeds, FACT_WORDS, most_bytes=1024),
    Target("decision", check_decision, decision_seeds, (*POLICY_WORDS, *FACT_WORDS)),
    Target(
        "config",
        check_config,
        config_seeds,
        CONFIG_WORDS,
        may_touch=(str(_FOLDER), str(ROOT / "policies" / "presets")),
        most_bytes=1024,
    ),
)
