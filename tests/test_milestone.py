"""Time to EDSS 3, 4 and 6: MSprog's results on published data, then prevalent patients, origins, death and bad questions."""

import numpy as np
import pandas as pd
import pytest

from fedstats.errors import InputError
from fedstats.ms.outcomes.milestone import milestone

from .progression_data import one, random_tables, results, tables


@pytest.mark.parametrize("level", [3, 4, 6])
@pytest.mark.parametrize("name", ["toy", "sample"])
def test_milestones_equal_those_of_msprog(name, level):
    """Same patients, dates, scores, times and censoring as value_milestone of MSprog 1.0.7."""
    visits, relapses = tables(name)
    wanted, found = results(f"{name}__milestone{level}"), milestone(visits, level, relapses)

    assert list(found["patient_id"]) == list(wanted["Unnamed: 0"])
    np.testing.assert_array_equal(found["date"], pd.to_datetime(wanted["date"]).to_numpy("datetime64[D]"))
    np.testing.assert_array_equal(found["value"], wanted["EDSS"].to_numpy())
    np.testing.assert_array_equal(found["time2event"], wanted["time2event"].to_numpy())
    np.testing.assert_array_equal(found["observed"], wanted["observed"].to_numpy())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("onset", ["crossing", "visit"])
def test_a_higher_milestone_is_never_reached_earlier(seed, onset):
    """Nobody reaches EDSS 6 before EDSS 4, if any confirmed visit at the level counts."""
    visits, relapses = random_tables(seed)
    four, six = (milestone(visits, level, relapses, onset="visit") for level in (4, 6))
    both = six["observed"]

    assert (four["observed"][both]).all()
    assert (four["date"][both] <= six["date"][both]).all()


def test_who_is_there_at_time_zero_is_counted_or_excluded():
    """EDSS 6 from the first visit: an event on day 0 in MSprog, nobody's incident event in a cohort."""
    case = one([0, 100, 200], [6, 6, 6])
    counted, excluded = milestone(case[0], 6), milestone(case[0], 6, prevalent="exclude")

    assert counted["observed"][0] and counted["time2event"][0] == 0 and not counted["at_risk"][0]
    assert len(excluded) == 0 and excluded.flow["prevalent"] == 1 and excluded.flow["events"] == 0


def test_who_comes_with_the_score_is_prevalent_even_if_nobody_confirmed_it():
    """EDSS 8 at the first visit, next seen after three years: not at risk of reaching EDSS 3."""
    visits, _ = one([0, 1100, 1300], [8, 8, 8])

    assert not milestone(visits, 3)["observed"][0]
    assert milestone(visits, 3, onset="visit")["time2event"][0] == 1100
    assert milestone(visits, 3, prevalent="exclude").flow["prevalent"] == 1


def test_time_starts_at_the_origin():
    """EDSS 4 before treatment is prevalent; EDSS 6 after it is an event counted from treatment."""
    visits, _ = one([0, 100, 200, 300, 400], [4, 4, 4, 6, 6])

    assert milestone(visits, 6, origin={"a": 150})["time2event"][0] == 150
    assert milestone(visits, 4, origin={"a": 150})["time2event"][0] == 0
    assert len(milestone(visits, 4, origin={"a": 150}, prevalent="exclude")) == 0


def test_an_unconfirmed_visit_at_the_level_is_no_event():
    """EDSS 6 in a relapse, back to 3: EDSS 6 is not reached; at the last visit only if asked for."""
    assert not milestone(one([0, 100, 200], [3, 6, 3])[0], 6)["observed"][0]
    assert not milestone(one([0, 100], [3, 6])[0], 6)["observed"][0]
    assert milestone(one([0, 100], [3, 6])[0], 6, impute_last_visit=1)["observed"][0]


def test_death_competes_with_a_milestone():
    """EDSS 10 is death: observation ends there."""
    found = milestone(one([0, 100, 200], [3, 10, 10])[0], 6)

    assert found["competing"][0] and not found["observed"][0] and found["time2event"][0] == 100


def test_lower_is_worse_for_sdmt():
    """SDMT at 40 or below."""
    visits = {"patient_id": ["a"] * 3, "visit_date": [0, 100, 200], "sdmt": [50, 38, 40]}

    assert milestone(visits, 40, outcome="sdmt")["time2event"][0] == 100


@pytest.mark.parametrize("settings", [{}, {"prevalent": "exclude"}, {"onset": "visit"}], ids=str)
def test_order_of_rows_and_other_patients_are_irrelevant(settings):
    """Each patient's milestone depends on that patient's visits only."""
    visits, relapses = random_tables(7)
    wanted = milestone(visits, 4, relapses, **settings).frame()
    some = visits["patient_id"] < "p030"

    pd.testing.assert_frame_equal(milestone(visits.sample(frac=1, random_state=1), 4, relapses, **settings).frame(), wanted)
    pd.testing.assert_frame_equal(milestone(visits[some], 4, relapses, **settings).frame(),
                                  wanted[wanted["patient_id"] < "p030"].reset_index(drop=True))


@pytest.mark.parametrize(("level", "settings", "says"), [
    (10, {}, "cannot be reached"), (12, {}, "cannot be reached"), (4, {"prevalent": "drop"}, "prevalent is 'drop'"),
    (4, {"onset": "any"}, "onset is 'any'"), (4, {"outcome": "msss"}, "no thresholds")])
def test_questions_without_meaning_are_refused(level, settings, says):
    """The text says what was asked, the hint what can be."""
    with pytest.raises(InputError, match=says) as caught:
        milestone(one([0, 100], [3, 4])[0], level, **settings)

    assert caught.value.hint
