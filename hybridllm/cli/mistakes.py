"""A person's mistake that the command line finds itself."""

from __future__ import annotations

from hybridllm.cli.exit_codes import ExitCode

__all__ = ["CommandError"]


class CommandError(Exception):
    """A mistake that a command found itself.

    Args:
        message: One or two sentences that name the thing and the mend.
        code: The exit status that the program ends with.
    """

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code
