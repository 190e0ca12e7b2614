"""The OpenAI-compatible server over a client; needs the extra ``server``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybridllm.server.api_keys import ApiKeys
    from hybridllm.server.app import create_app
    from hybridllm.server.run import serve
    from hybridllm.server.settings import ServerSettings

__all__ = ["ApiKeys", "ServerSettings", "create_app", "serve"]

_MODULE_OF = {"ApiKeys": "api_keys", "ServerSettings": "settings", "create_app": "app", "serve": "run"}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
