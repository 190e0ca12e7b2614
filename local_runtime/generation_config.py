"""What a checkpoint recommends for drawing tokens: its ``generation_config.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from local_runtime.errors import CheckpointError, InvalidRequestError
from local_runtime.options import SamplingOptions

__all__ = ["recommended_sampling"]

_FIELDS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def recommended_sampling(folder: str | Path) -> SamplingOptions:
    """Read how the model's makers want tokens to be drawn; ``do_sample: false`` means greedily.

    Args:
        folder: The checkpoint's folder. Without the file nothing is recommended.

    Raises:
        CheckpointError: The file is not a JSON object, or a value in it is out of range.
    """
    file = Path(folder) / "generation_config.json"
    if not file.is_file():
        return SamplingOptions()
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise CheckpointError(f"{file} must hold a JSON object.", "Copy or download the checkpoint again.")
        greedy = raw.get("do_sample") is False
        names = ("repetition_penalty",) if greedy else _FIELDS
        values: dict[str, Any] = {name: raw[name] for name in names if raw.get(name) is not None}
        if greedy:
            values["temperature"] = 0.0
        return SamplingOptions(**values)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.", "Copy or download the checkpoint again.") from error
    except InvalidRequestError as error:
        raise CheckpointError(f"{file}: {error.message}", "Correct that value.") from error
