"""Fixtures of the fault matrix."""

import pytest

from tests.faults.servers import Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """One authority for all cells: its keys cost more time than a cell."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
