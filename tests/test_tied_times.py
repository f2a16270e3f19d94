"""Times in years, months or weeks that are the same and differ in their last bits: they are ties, as in R (timefix)."""

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats.analyses.survival.life_table import on_grid, same_times

R_TIED = -0.1699917867      # coxph of R survival 3.5-3 with timefix, the same on days and on years

UNITS = {"years": 365.25, "months": 30.4375, "weeks": 7.0}


@pytest.fixture(scope="module")
def patients():
    """Durations of whole 30 days as dates give them: the difference of two dates in years, months, weeks, and in days."""
    rng = np.random.default_rng(5)
    n = 300
    day = rng.integers(10, 40, n) * 30.0
    x, event = rng.integers(0, 2, n), rng.random(n) < 0.6
    start = rng.integers(0, 3000, n)
    frame = pd.DataFrame({"days": day.astype(int), "e": event, "x": x, "g": np.array(["a", "b", "c"])[rng.integers(0, 3, n)]})
    late = (rng.integers(0, 9, n) * 30.0).clip(max=day - 30)
    frame["days_in"] = late.astype(int)
    for unit, length in UNITS.items():
        first = start / length
        frame[unit] = (first + day / length) - first
        frame[f"{unit}_in"] = np.maximum((first + late / length) - first, 0.0)
    return frame


def cohort(frame, world=fedstats.pooled):
    variables = [{"name": "days", "type": "integer", "range": [0, 1300], "cut_points": {"from": 0, "to": 1290, "step": 30}},
                 {"name": "days_in", "type": "integer", "range": [0, 1300]}, {"name": "e", "type": "boolean"},
                 {"name": "x", "type": "integer", "range": [0, 1]}, {"name": "g", "type": "category", "levels": ["a", "b", "c"]}]
    for unit, length in UNITS.items():
        variables += [{"name": unit, "type": "number", "range": [0, 1300 / length],
                       "cut_points": {"from": 0, "to": 1290 / length, "step": 30 / length}},
                      {"name": f"{unit}_in", "type": "number", "range": [0, 1300 / length]}]
    tables = {f"r{k}": frame[frame.index % 3 == k].reset_index(drop=True) for k in range(3)}
    return world(tables, dictionary={"name": "ties", "variables": variables}).cohort()


@pytest.fixture(scope="module")
def c(patients):
    return cohort(patients)


@pytest.mark.parametrize("unit", ["days", *UNITS])
def test_ties_are_those_of_r_in_every_unit(c, patients, unit):
    """The coefficient of R on days, whatever the unit; in years, months and weeks there are more different doubles than times."""
    found = c.cox(f"Surv({unit}, e) ~ x + strata(registry)").coefficients[0].coef

    assert found == pytest.approx(R_TIED, abs=1e-9)
    assert patients["years"].nunique() > patients["days"].nunique()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("more", ["", " + strata(g)"])
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_everything_of_a_stratified_cox_model_is_the_same_in_every_unit(c, unit, more, ties):
    """Likelihood, errors, proportional hazards, concordance and the late entry of some, in days and in another unit."""
    for left in ("{0}, e", "{0}_in, {0}, e"):
        days, other = (c.cox(f"Surv({left.format(one)}) ~ x + strata(registry)" + more, ties=ties, robust=True,
                             transforms=("km", "rank", "identity")) for one in ("days", unit))

        assert other.coefficients[0].coef == pytest.approx(days.coefficients[0].coef, rel=1e-9)
        assert other.coefficients[0].se == pytest.approx(days.coefficients[0].se, rel=1e-9)
        assert (other.loglik, other.events) == (pytest.approx(days.loglik, rel=1e-12), days.events)
        assert [one.chi2 for one in other.proportional_hazards] == pytest.approx([one.chi2 for one in days.proportional_hazards], rel=1e-8)
        assert other.concordance.c == pytest.approx(days.concordance.c, rel=1e-12)
        assert other.concordance.se == pytest.approx(days.concordance.se, rel=1e-9)


@pytest.mark.parametrize("unit", UNITS)
def test_curves_and_tests_on_the_grid_are_the_same_in_every_unit(c, unit):
    """Kaplan-Meier, log-rank (also within registries), Cox on the grid and piecewise hazards cut at the registered cut points."""
    length = UNITS[unit]
    days, other = (c.kaplan_meier(time=one, event="e", by="g", tau=tau) for one, tau in (("days", 900.0), (unit, 900 / length)))
    for a, b in zip(days.groups, other.groups):
        assert (a.events, a.censored, a.survival) == (b.events, b.censored, b.survival)
        assert b.rmst * length == pytest.approx(a.rmst, rel=1e-12)
    for strata in (None, "registry"):
        days, other = (c.logrank(time=one, event="e", by="g", strata=strata) for one in ("days", unit))
        assert other.chi2 == pytest.approx(days.chi2, rel=1e-12)
    days, other = (c.cox(f"Surv({one}_in, {one}, e) ~ x", horizons=()) for one in ("days", unit))
    assert other.coefficients[0].coef == pytest.approx(days.coefficients[0].coef, rel=1e-9)
    days, other = (c.piecewise(f"Surv({one}, e) ~ x", cuts=cuts) for one, cuts in
                   (("days", [300, 600, 900]), (unit, [300 / length, 600 / length, 900 / length])))
    assert [one.events for one in other.intervals] == [one.events for one in days.intervals]
    assert [one.hazard / length for one in other.intervals] == pytest.approx([one.hazard for one in days.intervals], rel=1e-9)


def test_rows_that_join_are_as_one_row(patients):
    """A stay cut in two at a time that differs in its last bit from row to row changes nothing, and nobody is lost."""
    whole = patients.assign(patient_id=[f"p{k}" for k in range(len(patients))])
    first, second = whole.copy(), whole.copy()
    first["e"], first["years"] = False, 150 / 365.25 * (1 + 2e-16 * (np.arange(len(whole)) % 3))
    second["years_in"] = 150 / 365.25 * (1 - 2e-16 * (np.arange(len(whole)) % 2))
    first["years_in"] = 0.0
    book = {"name": "rows", "most_rows": 2, "variables": [
        {"name": "years", "type": "number", "range": [0, 4]}, {"name": "years_in", "type": "number", "range": [0, 4]},
        {"name": "e", "type": "boolean"}, {"name": "x", "type": "integer", "range": [0, 1]}]}
    split = pd.concat([first, second], ignore_index=True)
    place = split["patient_id"].str[1:].astype(int) % 3
    tables = {f"r{k}": split[place == k].reset_index(drop=True) for k in range(3)}
    found = fedstats.pooled(tables, dictionary=book).cohort().cox("Surv(years_in, years, e) ~ x + strata(registry)", transforms=())

    assert found.coefficients[0].coef == pytest.approx(R_TIED, abs=1e-9)
    assert found.events == int(patients["e"].sum())


def test_the_tolerance_is_relative_and_the_same_everywhere():
    """Neighbours within 1.5e-8 of themselves are one time, others are not; near 0 the largest time of the dictionary decides."""
    time = np.array([1.0, 1.0 + 1e-15, 1.0 + 1e-8, 1.0 + 1e-6, 0.0, 1e-13, 1000.0, 1000.00001])
    found, none = same_times(10.0, time, None)

    assert none is None
    assert found.tolist() == [1.0, 1.0, 1.0, 1.0 + 1e-6, 0.0, 0.0, 1000.0, 1000.0]
    assert same_times(3652.5, time * 365.25)[0].tolist() == [365.25 * one for one in found]


def test_a_number_stands_for_the_time_of_the_grid_next_to_it():
    """Three times 0.7 is 2.0999999999999996: a tau or a horizon of 2.1 is meant to be there."""
    grid = [0.7 * k for k in range(1, 5)]

    assert on_grid(grid, 2.1) == 0.7 * 3
    assert on_grid(grid, 2.2) is None


def test_the_end_of_follow_up_is_not_outside_the_range():
    """Ten years as the difference of two dates in years may be 10.000000000000002: the patient is kept."""
    first = np.arange(60) * 0.37
    years = (first + 10.0) - first
    frame = pd.DataFrame({"t": years, "e": np.arange(60) % 2 == 0})
    book = {"name": "ends", "variables": [{"name": "t", "type": "number", "range": [0, 10], "cut_points": {"from": 0, "to": 10, "step": 1}},
                                          {"name": "e", "type": "boolean"}]}
    found = fedstats.pooled({f"r{k}": frame.iloc[k::3] for k in range(3)}, dictionary=book).cohort().kaplan_meier(time="t", event="e")

    assert (years > 10).any()
    assert found.n == 60 and found.groups[0].total_events == 30
