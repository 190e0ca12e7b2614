"""From command-line options to a client: what a person can choose, and how the client is opened from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hybridllm.cli.mistakes import CommandError

if TYPE_CHECKING:
    from hybridllm import AsyncHybridClient, HybridClient, Remote
    from hybridllm.health import Observer
    from local_runtime.options import Progress

__all__ = [
    "API_KEY_VARIABLE",
    "ClientOptions",
    "OpenAsyncClient",
    "OpenClient",
    "client_arguments",
    "open_async_client",
    "open_client",
    "remote_from",
]

API_KEY_VARIABLE = "HYBRIDLLM_REMOTE_API_KEY"
"""The environment variable with the remote's key; never an option, because other users can read a command line."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Which model, which remote and which policy; None or an empty value leaves the client's default.

    Attributes:
        model: A model folder or a bundled model's name.
        quant: ``auto``, ``q4``, ``f16`` or ``f32``.
        target: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``metal`` or a TVM target as a JSON object.
        threads: CPU threads of the engine.
        context_tokens: The context to serve.
        policy: A preset's name or a policy file.
        remote_url: The base URL of an OpenAI-compatible server.
        remote_model: The model's name there.
        offline: Never use the remote.
        config: A ``hybridllm.yaml``; what is given beside it overrides it, of the remote field by field. A URL with another
            origin keeps neither the file's key nor its zone, which then is ``cloud``.
    """

    model: str | None = None
    quant: str | None = None
    target: str | None = None
    threads: int | None = None
    context_tokens: int | None = None
    policy: str | None = None
    remote_url: str | None = None
    remote_model: str | None = None
    offline: bool = False
    config: str | None = None


OpenClient = Callable[[ClientOptions, "Callable[[Progress], None] | None"], "HybridClient"]
"""Opens a client for the options and reports its preparation to the second argument."""

OpenAsyncClient = Callable[
    [ClientOptions, "Callable[[Progress], None] | None", "Sequence[Observer]"], "AsyncHybridClient"
]
"""The same for an event loop of one's own; the third argument is told of every request when it is over."""


def open_client(options: ClientOptions, on_progress: Callable[[Progress], None] | None) -> HybridClient:
    """Open a client.

    Args:
        options: What the person chose.
        on_progress: Told how far the model's preparation is, from any thread.

    Raises:
        CommandError: Options contradict each other.
        HybridLLMError: The policy, the remote or the configuration file cannot be used.
    """
    from hybridllm import HybridClient

    return HybridClient(**client_arguments(options, on_progress))


def open_async_client(
    options: ClientOptions, on_progress: Callable[[Progress], None] | None, observers: Sequence[Observer]
) -> AsyncHybridClient:
    """Open a client for an event loop of one's own; ``open_client`` says what is raised.

    Args:
        options: What the person chose.
        on_progress: Told how far the model's preparation is, from any thread.
        observers: Told of every request when it is over.
    """
    from hybridllm import AsyncHybridClient

    return AsyncHybridClient(**client_arguments(options, on_progress), observers=observers)


def client_arguments(options: ClientOptions, on_progress: Callable[[Progress], None] | None) -> dict[str, Any]:
    """The client's arguments as the options and their configuration file say.

    Raises:
        CommandError: Options contradict each other.
        HybridLLMError: The configuration file cannot be used.
    """
    if options.remote_model is not None and options.remote_url is None and options.config is None:
        raise CommandError("--remote-model is given without --remote-url. Give both, or neither.")
    configured: dict[str, Any] = {}
    if options.config is not None:
        from hybridllm.config import load_config

        configured = load_config(options.config)
    given: dict[str, Any] = {
        "model": options.model,
        "quant": options.quant,
        "target": options.target,
        "threads": options.threads,
        "context_tokens": options.context_tokens,
        "policy": options.policy,
        "remote": _overridden(options, configured.get("remote")),
        "offline": options.offline or None,
        "on_progress": on_progress,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return {**configured, **chosen}


def _overridden(options: ClientOptions, configured: Remote | None) -> Remote | None:
    """The configuration's remote with the fields that the options name; without one, what the options say alone.

    What may be shown to one server and the key that opens it say nothing about another: an URL with another origin starts
    without the file's key and in the zone ``cloud``.
    """
    if configured is None:
        if options.remote_model is not None and options.remote_url is None:
            raise CommandError(f"--remote-model is given, but {options.config} names no remote. Give --remote-url too.")
        return remote_from(options)
    changes: dict[str, Any] = {}
    if options.remote_model is not None:
        changes["model"] = options.remote_model
    if options.remote_url is None:
        return replace(configured, **changes) if changes else None
    if replace(configured, base_url=options.remote_url).origin != configured.origin:
        changes |= {"zone": "cloud", "api_key": None, "api_key_env": None}
    if _key_is_set():
        changes |= {"api_key": None, "api_key_env": API_KEY_VARIABLE}
    return replace(configured, base_url=options.remote_url, **changes)


def remote_from(options: ClientOptions) -> Remote | None:
    """The remote that the options name; None if they name none.

    Raises:
        CommandError: Only one of URL and model is given.
        BadRequest: The URL is not one.
    """
    if options.remote_url is None:
        return None
    from hybridllm import Remote

    if options.remote_model is None:
        raise CommandError("--remote-url is given without --remote-model. Name the model that the server shall run.")
    return Remote(
        base_url=options.remote_url,
        model=options.remote_model,
        api_key_env=API_KEY_VARIABLE if _key_is_set() else None,
    )


def _key_is_set() -> bool:
    """Whether the variable exists; its value is not read before it is sent."""
    return any(name == API_KEY_VARIABLE for name in os.environ)
