"""Relapses: which onsets are one, how many in a window, how many per person-year."""

import numpy as np
import pytest

from fedstats.ms.outcomes.relapses import annualised_rate, counts, separate


def test_onsets_within_thirty_days_are_one_relapse():
    """Days 0, 29 and 58 are two relapses (58 is 58 days after the first began); 30 days apart are two."""
    day = np.array([0, 29, 58, 100, 130, 159])

    assert separate(np.zeros(6, int), day).tolist() == [True, False, True, True, True, False]


def test_each_patient_is_alone_and_the_order_does_not_matter():
    """Two patients on nearby days; rows in any order."""
    patient, day = np.array([2, 1, 2, 1]), np.array([10, 0, 45, 20])

    assert separate(patient, day).tolist() == [True, True, True, False]
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        assert separate(patient[order], day[order]).tolist() == separate(patient, day)[order].tolist()


def test_a_window_is_open_at_its_start_and_closed_at_its_end():
    """Onsets on days 0, 100, 200: from 0 to 200 there are two. An onset that belongs to a relapse before the window is none."""
    patient, day = np.zeros(4, int), np.array([0, 100, 110, 200])

    assert counts(patient, day, np.array([0, 0, 0, 7]), np.array([0, 105, -1, 0]), np.array([200, 150, 99, 300])).tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_one_patient_after_the_other(seed):
    """Read one by one, the slow way."""
    random = np.random.default_rng(seed)
    patient, day = random.integers(0, 20, 150), random.integers(-400, 2000, 150)
    who, start = np.arange(25), random.integers(-300, 800, 25)
    stop = start + random.integers(0, 900, 25)
    own = separate(patient, day)
    slow = [int((own & (patient == p) & (day > a) & (day <= b)).sum()) for p, a, b in zip(who, start, stop)]

    assert counts(patient, day, who, start, stop).tolist() == slow


def test_the_rate_is_relapses_over_person_years():
    """Three relapses in two patients of one and two years: one a year. Nobody observed: no rate."""
    found = annualised_rate(np.array([1, 2]), np.array([365.25, 730.5]))

    assert (found.relapses, found.person_years, found.rate) == (3, 3.0, 1.0)
    assert np.isnan(annualised_rate(np.array([]), np.array([])).rate)
