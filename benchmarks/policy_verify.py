"""Times the verification of policies, alone and against themselves with a rule less: one JSON object, times in milliseconds.

The generated policies ask for every sort of fact, with constants that rarely repeat: numbers, times, tags, finds, labels.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from policies import load_policy, parse_policy, preset_names, verify

if TYPE_CHECKING:
    from policies import Policy

_SEED = 20


def _conditions(draw: random.Random) -> dict[str, object]:
    several = {
        "memory_headroom_mib": {draw.choice(("lt", "ge")): draw.randrange(64, 8192)},
        "local_ttft_ms": {"gt": draw.randrange(200, 5000)},
        "remote_ttft_ms": {"lt": draw.randrange(200, 5000)},
        "prompt_tokens": {"ge": draw.randrange(10, 4000), "lt": draw.randrange(4000, 9000)},
        "time_of_day": {
            "ge": f"{draw.randrange(12):02d}:{draw.randrange(60):02d}",
            "lt": f"{draw.randrange(12, 24)}:00",
        },
        "weekday": draw.sample(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), 3),
        "connectivity": draw.sample(("online", "degraded", "captive", "offline"), 2),
        "local_meets_deadline": draw.choice((True, False)),
        "tags": draw.sample([f"tag-{index}" for index in range(40)], 2),
        "detected": draw.choice(("email", "phone", "iban")),
        "label": {"ge": draw.choice(("staff", "internal"))},
        "capabilities": draw.choice(("tools", "images")),
    }
    return {fact: several[fact] for fact in draw.sample(sorted(several), draw.randrange(2, 4))}


def generated(rules: int) -> Policy:
    """A policy with so many rules."""
    draw = random.Random(_SEED)
    document = {
        "version": 1,
        "name": f"generated-{rules}",
        "labels": {
            "order": ["public", "staff", "internal", "private"],
            "unlabeled": "private",
            "tags": {f"tag-{index}": draw.choice(("public", "staff", "internal", "private")) for index in range(30)},
        },
        "zones": {"cloud": "public", "partner": "staff", "site": "internal"},
        "detectors": [{"name": "email", "label": "internal"}, {"name": "phone", "label": "staff"}, "iban"],
        "rules": [
            {
                "name": f"rule-{index}",
                "when": _conditions(draw),
                "route": draw.choice((["local"], ["local", "remote"], ["remote", "local"])),
            }
            for index in range(rules)
        ],
        "default": ["local", "remote"],
        "guarantees": [{"name": "tag-1-stays", "when": {"tags": "tag-1"}, "never": ["cloud"]}],
    }
    for rule in document["rules"]:  # type: ignore[attr-defined]
        if "remote" in rule["route"] and draw.random() < 0.2:
            rule["redact"] = ["email", "phone"]
    return parse_policy(json.dumps(document))


def _measured(policy: Policy, runs: int) -> dict[str, object]:
    fewer = replace(policy, rules=policy.rules[1:])
    times_ms: dict[str, list[float]] = {"alone": [], "against": []}
    for _ in range(runs):
        for name, against in (("alone", None), ("against", fewer)):
            began = time.process_time()
            verification = verify(policy, against=against)
            times_ms[name].append((time.process_time() - began) * 1000)
    found: dict[str, int] = {}
    for finding in verify(policy).findings:
        found[finding.kind] = found.get(finding.kind, 0) + 1
    return {
        "policy": policy.name,
        "rules": len(policy.rules),
        "alone_ms": round(statistics.median(times_ms["alone"]), 1),
        "against_ms": round(statistics.median(times_ms["against"]), 1),
        "states": verification.states,
        "findings": found,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, nargs="*", default=[20, 200], metavar="N")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    policies = [load_policy(name) for name in preset_names()] + [generated(rules) for rules in arguments.rules]
    measured = [_measured(policy, arguments.runs) for policy in policies]
    print(json.dumps({"benchmark": "policy_verify", "runs": arguments.runs, "policies": measured}))


if __name__ == "__main__":
    main()
