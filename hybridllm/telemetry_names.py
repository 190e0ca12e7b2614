"""Every name that telemetry uses, in one table: those of OpenTelemetry's conventions for generative AI as of version 1.41, since
they are renamed from time to time, and our own for what these lack.

They are written down here and not imported, because the packages that hold them move and drop them too; a test compares them
with the conventions' package and with what ``opentelemetry-util-genai`` itself emits.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "DEVICE_PROVIDER",
    "DURATION_BOUNDS_S",
    "ERROR_TYPE",
    "METRIC_DURATION",
    "METRIC_FIRST_CHUNK",
    "METRIC_FIRST_TOKEN",
    "METRIC_TOKENS",
    "METRIC_TOKEN_TIME",
    "OPERATION",
    "OPERATION_CHAT",
    "OTHER_ERROR",
    "OURS_ATTEMPT",
    "OURS_ATTEMPT_CACHED",
    "OURS_ATTEMPT_COMPLETION",
    "OURS_ATTEMPT_FIRST_TOKEN",
    "OURS_ATTEMPT_OUTCOME",
    "OURS_ATTEMPT_PROMPT",
    "OURS_ATTEMPT_TRIES",
    "OURS_ATTEMPT_WHY",
    "OURS_EGRESS",
    "OURS_LABEL",
    "OURS_OUTCOME",
    "OURS_PLACE",
    "OURS_REASON",
    "OURS_ROUTE",
    "OURS_RULE",
    "PROVIDER",
    "REMOTE_PROVIDER",
    "REQUEST_FREQUENCY_PENALTY",
    "REQUEST_MAX_TOKENS",
    "REQUEST_MODEL",
    "REQUEST_PRESENCE_PENALTY",
    "REQUEST_STREAM",
    "REQUEST_TEMPERATURE",
    "REQUEST_TOP_K",
    "REQUEST_TOP_P",
    "RESPONSE_FINISH_REASONS",
    "RESPONSE_FIRST_CHUNK",
    "RESPONSE_ID",
    "RESPONSE_MODEL",
    "SCHEMA_URL",
    "SCOPE",
    "SERVER_ADDRESS",
    "SERVER_FIRST_TOKEN_BOUNDS_S",
    "SERVER_PORT",
    "SERVER_TOKEN_BOUNDS_S",
    "TOKENS_BOUNDS",
    "TOKEN_INPUT",
    "TOKEN_OUTPUT",
    "TOKEN_TYPE",
    "USAGE_CACHED",
    "USAGE_INPUT",
    "USAGE_OUTPUT",
]

SCOPE: Final = "hybridllm"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"

# ---- attributes of the conventions ----

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_CACHED: Final = "gen_ai.usage.cache_read.input_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# ---- values of the conventions ----

OPERATION_CHAT: Final = "chat"
TOKEN_INPUT: Final = "input"
TOKEN_OUTPUT: Final = "output"
OTHER_ERROR: Final = "_OTHER"
REMOTE_PROVIDER: Final = "openai"
"""The conventions' word for OpenAI's protocol, whoever speaks it."""
DEVICE_PROVIDER: Final = "hybridllm"
"""Ours: they have none for a model on the device."""

# ---- metrics of the conventions: seconds and tokens ----

METRIC_DURATION: Final = "gen_ai.client.operation.duration"
METRIC_TOKENS: Final = "gen_ai.client.token.usage"
METRIC_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
METRIC_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"
METRIC_TOKEN_TIME: Final = "gen_ai.server.time_per_output_token"

DURATION_BOUNDS_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS_BOUNDS: Final = tuple(4.0**power for power in range(14))
SERVER_FIRST_TOKEN_BOUNDS_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
SERVER_TOKEN_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

# ---- ours ----

OURS_ROUTE: Final = "hybridllm.route"
OURS_REASON: Final = "hybridllm.route.reason"
OURS_RULE: Final = "hybridllm.route.rule"
OURS_LABEL: Final = "hybridllm.privacy.label"
OURS_OUTCOME: Final = "hybridllm.outcome"
OURS_EGRESS: Final = "hybridllm.egress.bytes"
OURS_PLACE: Final = "hybridllm.place"
OURS_ATTEMPT: Final = "hybridllm.attempt"
OURS_ATTEMPT_WHY: Final = "hybridllm.attempt.why"
OURS_ATTEMPT_OUTCOME: Final = "hybridllm.attempt.outcome"
OURS_ATTEMPT_TRIES: Final = "hybridllm.attempt.tries"
OURS_ATTEMPT_FIRST_TOKEN: Final = "hybridllm.attempt.time_to_first_token"
# Not the conventions' names: whoever adds up the tokens of all spans would count those of the request twice.
OURS_ATTEMPT_PROMPT: Final = "hybridllm.attempt.input_tokens"
OURS_ATTEMPT_CACHED: Final = "hybridllm.attempt.cached_tokens"
OURS_ATTEMPT_COMPLETION: Final = "hybridllm.attempt.output_tokens"
