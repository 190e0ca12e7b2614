"""Watches a policy's file and puts what stands in it into force, all of it or nothing.

A file that can no longer be used closes every remote and says so; the device goes on answering under the labels it knew.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hybridllm.errors import ConfigError
from hybridllm.policy_file import PolicyFile

if TYPE_CHECKING:
    from hybridllm.policy_in_force import PolicyInForce

__all__ = ["PolicyWatch"]

_log = logging.getLogger("hybridllm.policy")
_QUIET_MS = 50
_LOOK_FOR_THE_END_MS = 200
_JOIN_S = 5.0


class PolicyWatch:
    """A thread that waits for changes of one file.

    Args:
        path: The file.
        in_force: Where its policy is put.
        privacy_floor: The client's own label, which every policy has to know.

    Raises:
        ConfigError: The package that watches files is not installed.
    """

    def __init__(self, path: str | Path, in_force: PolicyInForce, *, privacy_floor: str | None = None) -> None:
        try:
            import watchfiles
        except ImportError:
            raise ConfigError(
                "watch_policy needs the package watchfiles, which is not installed.",
                "Install it: pip install 'hybridllm[watch]'.",
                key="watch_policy",
            ) from None
        self._watch = watchfiles.watch
        self._path = Path(path)
        self._named = path
        self._in_force = in_force
        self._file = PolicyFile(path, in_force, privacy_floor=privacy_floor)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hybridllm-policy-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; does nothing the second time."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=_JOIN_S)

    def read_again(self) -> None:
        """Put what stands in the file now into force."""
        self._file.read_again()

    def _run(self) -> None:
        # A rename into the folder replaces a file too, and a link can be turned to another folder, so folders are watched.
        folders = {self._path.absolute().parent, self._path.resolve().parent}
        try:
            changes = self._watch(
                *folders,
                stop_event=self._stop,
                debounce=_QUIET_MS,
                step=_QUIET_MS // 2,
                rust_timeout=_LOOK_FOR_THE_END_MS,
                yield_on_timeout=True,
                recursive=False,
                raise_interrupt=False,
                watch_filter=None,
            )
            read: list[bytes | None] = []
            for _ in changes:
                now: list[bytes | None] = [self._bytes()]
                if now != read:  # the first time too: it may have changed before the watch began
                    read = now
                    self.read_again()
        except Exception as error:  # noqa: BLE001 - a folder that is gone cannot be watched; then nobody knows the policy
            problem = f"{self._named}: the policy's file can no longer be watched ({type(error).__name__})."
            self._in_force.close_remotes(problem)
            _log.error("Nothing leaves this device any more. %s", problem)

    def _bytes(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except OSError:
            return None
