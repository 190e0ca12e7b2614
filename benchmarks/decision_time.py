"""Times one routing decision: prints JSON with the median and the spread in microseconds.

The policy has as many rules as asked for, none of which matches, so that every rule is looked at.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from policies import Facts, Place, decide, parse_policy

_HEAD = """
version: 1
name: measured
labels: {order: [public, internal, private], unlabeled: private}
zones: {cloud: public, site: internal}
rules:
"""
_WHENS = (
    "{memory_headroom_mib: {lt: %d}}",
    "{local_ttft_ms: {lt: 9000}, remote_ttft_ms: {gt: 5%03d}}",
    "{label: {ge: internal}, max_tokens: {lt: %d}}",
    "{tags: {contains_any: [tag-%d, other]}}",
    "{time_of_day: {ge: '08:00', lt: '08:%02d'}}",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--decisions", type=int, default=20_000)
    arguments = parser.parse_args()
    for rules in arguments.rules:
        measure(rules, arguments.decisions)


def measure(number_of_rules: int, decisions: int) -> None:
    """Measure with so many rules and print."""
    rules = [
        f"  - name: rule-{index}\n    when: {_WHENS[index % len(_WHENS)] % (index % 60)}\n    route: [remote, local]\n"
        for index in range(number_of_rules)
    ]
    policy = parse_policy(_HEAD + "".join(rules) + "default: [local, remote]\n")
    facts = Facts(
        label="public",
        tags=frozenset({"faq"}),
        connectivity="online",
        memory_headroom_mib=4096.0,
        local_ready=True,
        local_ttft_ms=300.0,
        remote_ttft_ms=700.0,
        prompt_tokens=120,
        max_tokens=256,
        time_of_day="12:30",
        weekday="mon",
        places=(Place("local", "device", 4096, frozenset()), Place("remote", "cloud", None, frozenset())),
    )
    if decide(policy, facts).rule != "default":
        raise SystemExit("A rule matched, so not every rule was looked at.")
    samples_us = []
    for _ in range(decisions):
        began = time.perf_counter_ns()
        decide(policy, facts)
        samples_us.append((time.perf_counter_ns() - began) / 1000)
    cuts = statistics.quantiles(samples_us, n=100)
    print(
        json.dumps(
            {
                "benchmark": "decision_time",
                "rules": number_of_rules,
                "decisions": decisions,
                "median_us": round(statistics.median(samples_us), 2),
                "p05_us": round(cuts[4], 2),
                "p95_us": round(cuts[94], 2),
                "p99_us": round(cuts[98], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
