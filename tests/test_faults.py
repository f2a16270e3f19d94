"""Real processes that are killed, frozen, cut off, full or late, at moments drawn by a seed: see `bench.bench_faults`."""

import sys

import pytest

from .bench import bench_faults

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_whatever_breaks_the_answer_is_right_or_none_and_the_next_one_is_right():
    """Twelve faults of any party: no wrong number, no endless waiting, the cause by name, and the next question is answered."""
    assert bench_faults.main(12, seed=4) == 0
