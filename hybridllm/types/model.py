"""What all public types share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from local_runtime.content import CONTENT, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CONTENT", "Model"]


class Model(BaseModel):
    """A type that knows all its fields: one that it does not know is an error, never ignored.

    A field that holds what somebody wrote is declared as ``Annotated[…, CONTENT]``: representations show its length only.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # pydantic takes these for repr, str, rich and devtools alike.
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            hidden = name is not None and name in fields and CONTENT in fields[name].metadata
            yield name, summary(value) if hidden else value
