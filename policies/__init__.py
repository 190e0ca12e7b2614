"""The decision: facts in, decision out. Pure: no I/O beyond reading a policy file, no clock, no sockets."""

from policies.condition import OPERATORS, Condition
from policies.decision import Decision, RuleVerdict, StruckOut, decide
from policies.errors import PolicyFileError
from policies.facts import CONNECTIVITY, FACT_KINDS, WEEKDAYS, FactError, Facts, Place
from policies.findings import Finding, MayLeave, UnknownSignal, Verification
from policies.handling import Breaker, Hedge, Limits, OnInterrupt, Retries
from policies.loader import load_policy, parse_policy, preset_names
from policies.schema import DETECTORS, DEVICE_ZONE, LOCAL, Detector, Guarantee, Labels, Policy, Rule
from policies.verification import verify

__all__ = [
    "CONNECTIVITY",
    "DETECTORS",
    "DEVICE_ZONE",
    "FACT_KINDS",
    "LOCAL",
    "OPERATORS",
    "WEEKDAYS",
    "Breaker",
    "Condition",
    "Decision",
    "Detector",
    "FactError",
    "Facts",
    "Finding",
    "Guarantee",
    "Hedge",
    "Labels",
    "Limits",
    "MayLeave",
    "OnInterrupt",
    "Place",
    "Policy",
    "PolicyFileError",
    "Retries",
    "Rule",
    "RuleVerdict",
    "StruckOut",
    "UnknownSignal",
    "Verification",
    "decide",
    "load_policy",
    "parse_policy",
    "preset_names",
    "verify",
]
