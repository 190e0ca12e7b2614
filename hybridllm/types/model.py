"""What all public types share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Model"]


class Model(BaseModel):
    """A type that knows all its fields: one that it does not know is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True)
