"""What the program's exit status means, and which error gives which."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["EXIT_CODES_HELP", "ExitCode", "exit_code_for"]


class ExitCode(IntEnum):
    """The exit statuses of ``hybridllm``; a script may rely on them."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CONFIG = 3
    PRIVACY = 4
    CANNOT_SERVE = 5
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141
    TERMINATED = 143


EXIT_CODES_HELP = """\b
Exit codes:
  0    done
  1    a defect of this program; or policy verify, policy simulate or audit verify found something
  2    bad usage or bad input: an option, a model folder, a policy file, a message, a URL
  3    bad configuration: hybridllm.yaml or the environment
  4    refused for privacy
  5    cannot serve: nobody could answer
  130  interrupted with Ctrl-C
  141  whoever read the output closed it
  143  ended by SIGTERM"""

# Errors of the engine by their stable code; those that are the user's to mend are bad input, the rest "cannot serve".
_ENGINE_USAGE = frozenset(
    {"checkpoint", "unsupported_model", "tokenizer", "target", "invalid_request", "context_length_exceeded"}
)
_ENGINE_DEFECT = frozenset({"internal", "protocol"})


def exit_code_for(error: BaseException) -> ExitCode:
    """The exit status for an error that reached the command line.

    Args:
        error: Any exception; those of :mod:`hybridllm.errors` and :mod:`local_runtime.errors` are expected, everything
            else is a defect.
    """
    from hybridllm import errors
    from local_runtime.errors import LocalRuntimeError
    from policies import PolicyFileError

    if isinstance(error, KeyboardInterrupt | errors.Cancelled):
        return ExitCode.INTERRUPTED
    if isinstance(error, errors.PolicyDenied):
        return ExitCode.PRIVACY
    if isinstance(error, errors.ConfigError):
        return ExitCode.CONFIG if error.file else ExitCode.USAGE  # without a file it was an option
    if isinstance(error, errors.BadRequest | errors.PolicyError | errors.ModelError | PolicyFileError):
        return ExitCode.USAGE
    if isinstance(error, errors.HybridLLMError):
        return ExitCode.CANNOT_SERVE
    if isinstance(error, LocalRuntimeError):
        if error.code in _ENGINE_USAGE:
            return ExitCode.USAGE
        return ExitCode.INTERNAL if error.code in _ENGINE_DEFECT else ExitCode.CANNOT_SERVE
    return ExitCode.INTERNAL
