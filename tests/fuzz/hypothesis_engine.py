"""The engine for everywhere: hypothesis with strategies that know the grammar, for a number of examples or of seconds."""

from __future__ import annotations

import hashlib
import time

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.strategies import inputs_for

EXAMPLES_A_ROUND = 200


def try_examples(target, examples, *, number=0):
    """Run the target on so many inputs.

    Raises:
        Exception: What the target raised on the smallest input that was found; a note of it has the input.
    """
    last = [b""]

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs_for(target))
    def one(data):
        last[0] = data
        target.run(data)

    try:
        one()
    except BaseException as error:
        error.add_note(f"The smallest input of the target {target.name!r} that does this: {last[0]!r}")
        error.failing_input = last[0]
        raise


def fuzz(target, seconds, folder):
    """Fuzz one target until the time is over or something breaks.

    Returns:
        Executions, None for the branches that nobody counted, and the saved crash or None.
    """
    until_s = time.monotonic() + seconds
    runs = 0
    while time.monotonic() < until_s:
        try:
            try_examples(target, EXAMPLES_A_ROUND, number=runs)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a target raises is the finding, and is saved
            crash = getattr(error, "failing_input", b"")
            path = folder / "crashes" / f"crash-{hashlib.sha1(crash, usedforsecurity=False).hexdigest()}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(crash)
            return runs, None, path
        runs += EXAMPLES_A_ROUND
    return runs, None, None
