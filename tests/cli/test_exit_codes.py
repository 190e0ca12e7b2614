"""Which error gives which exit status."""

import pytest

from hybridllm import errors
from hybridllm.cli.exit_codes import EXIT_CODES_HELP, ExitCode, exit_code_for
from local_runtime import errors as engine
from policies import PolicyFileError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadRequest("x"), ExitCode.USAGE),
        (errors.ContextLengthExceeded("x"), ExitCode.USAGE),
        (errors.ModelError("x"), ExitCode.USAGE),
        (errors.PolicyError("x"), ExitCode.USAGE),
        (PolicyFileError("x", file="p.yaml", line=1), ExitCode.USAGE),
        (errors.ConfigError("x", file="hybridllm.yaml", line=3), ExitCode.CONFIG),
        (errors.ConfigError("a URL that was given as an option"), ExitCode.USAGE),
        (errors.PolicyDenied("x"), ExitCode.PRIVACY),
        (errors.PrivacyViolation("x"), ExitCode.PRIVACY),
        (errors.CannotServe("x"), ExitCode.CANNOT_SERVE),
        (errors.StreamInterrupted("x"), ExitCode.CANNOT_SERVE),
        (errors.RemoteUnreachable("x"), ExitCode.CANNOT_SERVE),
        (errors.DeadlineExceeded("x"), ExitCode.CANNOT_SERVE),
        (errors.EngineError("x"), ExitCode.CANNOT_SERVE),
        (errors.Cancelled("x"), ExitCode.INTERRUPTED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (engine.CheckpointError("x"), ExitCode.USAGE),
        (engine.ContextLengthExceededError("x"), ExitCode.USAGE),
        (engine.OutOfMemoryError("x"), ExitCode.CANNOT_SERVE),
        (engine.WorkerDiedError("x"), ExitCode.CANNOT_SERVE),
        (engine.CompileError("x"), ExitCode.CANNOT_SERVE),
        (engine.EngineInternalError("x"), ExitCode.INTERNAL),
        (ZeroDivisionError("x"), ExitCode.INTERNAL),
    ],
)
def test_every_error_has_its_status(error, code):
    assert exit_code_for(error) is code


def test_every_error_of_the_tree_is_decided_on_purpose():
    for name in errors.__all__:
        error = getattr(errors, name)("x")
        assert exit_code_for(error) is not ExitCode.INTERNAL, name


def test_the_help_lists_every_status():
    for code in ExitCode:
        assert f"  {code.value} " in EXIT_CODES_HELP
