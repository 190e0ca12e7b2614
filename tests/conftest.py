"""What holds for all tests."""

import os
import signal


def pytest_configure():
    """The processes among which pytest-xdist divides the tests ignore Ctrl-C, and what they start would ignore it too."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGINT, signal.default_int_handler)
