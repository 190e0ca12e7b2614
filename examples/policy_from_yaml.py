"""A policy of your own from a YAML file: what it decides, and why, before anything is asked.

    python examples/policy_from_yaml.py
    python examples/policy_from_yaml.py --policy my-policy.yaml

Shows for a few requests where the policy in ``policy_from_yaml.yaml`` would send them. ``explain`` only decides: it asks nobody,
loads no model and opens no connection.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from hybridllm import HybridClient, HybridLLMError, Remote

REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("When do you open?", {"tags": ("faq",)}),
    ("My blood pressure is 150 to 95. Is that high?", {"tags": ("health",)}),
    ("Which gate does the staff use?", {"privacy": "internal"}),
    ("Nobody said how sensitive this is.", {}),
)


def main() -> int:
    """Print the decisions; return the exit code."""
    parser = argparse.ArgumentParser(description="Shows what a policy decides.")
    parser.add_argument("--policy", type=Path, default=Path(__file__).with_suffix(".yaml"))
    arguments = parser.parse_args()
    # Nothing is ever sent here, so the address does not have to exist.
    remote = Remote(base_url="https://llm.example/v1", model="large")
    try:
        with HybridClient(remote=remote, policy=arguments.policy) as client:
            for text, labels in REQUESTS:
                show(client, text, labels)
    except HybridLLMError as error:  # the policy has a mistake, or not the zone and the labels that are asked for here
        print(error, file=sys.stderr)
        return 2
    return 0


def show(client: HybridClient, text: str, labels: dict[str, Any]) -> None:
    """Print one decision."""
    decision = client.explain(messages=[{"role": "user", "content": text}], **labels).decision
    print(f"{text}\n  label {decision.label}: {' then '.join(decision.candidates)}")
    print(f"  rule {decision.rule} ({decision.location})")
    for out in decision.struck_out:
        print(f"  not {out.place}: {out.why}")


if __name__ == "__main__":
    sys.exit(main())
