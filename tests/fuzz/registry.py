"""All targets by their names."""

from __future__ import annotations

from tests.fuzz import policy_targets, request_targets, wire_targets

TARGETS = {target.name: target for target in (*policy_targets.TARGETS, *request_targets.TARGETS, *wire_targets.TARGETS)}
