"""Every fault, with a device that answers and with one that fails: a whole answer, or a clean error in time."""

import pytest

from tests.faults.cells import Row
from tests.faults.table import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_whole_answer_or_a_clean_error(fault, certificates):
    Row(fault).check(certificates)


def test_the_names_of_the_faults_are_different():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
