"""The information of a Cox model without sums of squares at every time: against its definition, near the fit and far from it."""

import numpy as np
import pytest

from fedstats.analyses.regression.cox import likelihood
from fedstats.analyses.regression.cox.curvature import second, second_by_run
from fedstats.analyses.regression.cox.params import call
from fedstats.analyses.regression.cox.rows import kept
from fedstats.sums import steady

from .test_cox_concordance import cohort_of_rows

FRAME, BETA = np.array([[0.1, 0.5], [0.0, 1.0]]), np.array([0.3, 0.2])


@pytest.mark.parametrize(("keywords", "most_rows"), [({}, 1), ({"strata": "sex"}, 1), ({"entry": "start"}, 1),
                                                     ({"strata": ["sex", "w"], "weights": "off", "entry": "start"}, 3)])
@pytest.mark.parametrize("runs", [1, 4, 11])
def test_runs_of_times_add_up_to_what_each_row_is_exposed_to(keywords, most_rows, runs):
    """One matrix per run and who leaves in it, the same as row by row: strata, late entry, several rows per patient."""
    random = np.random.default_rng(runs)
    _, at = kept(cohort_of_rows(400, most_rows), call(time="days", event="event", covariates=["age", "edss"], **keywords).model)
    z = at.z(FRAME)
    ratio, place = at.ratio(z, BETA), np.flatnonzero(at.count(at.died))
    hazard = random.random(len(place))
    spared, ends = 0.3 * hazard * random.random(len(place)), [len(place) * (k + 1) // runs for k in range(runs)]
    run = np.searchsorted(ends, np.arange(len(place)), side="right")
    one_by_one = np.array([second(at, z, ratio, place, (run == k) * hazard, (run == k) * spared) for k in range(runs)])

    assert second_by_run(at, z, ratio, place, hazard, spared, ends) == pytest.approx(one_by_one, rel=1e-10, abs=1e-10)


def test_logarithms_of_whole_arrays_are_those_of_single_numbers():
    """Bit for bit, so that it does not matter which of the two a registry's machine would prefer; and none of 0."""
    random = np.random.default_rng(1)
    x = np.concatenate([np.exp(20 * random.normal(size=2000)), 1 + 1e-8 * random.normal(size=2000)])
    exponent = random.integers(-50, 500, len(x))
    single = [steady.log(value) + (k * steady.LN2_HIGH + k * steady.LN2_LOW) for value, k in zip(x.tolist(), exponent.tolist())]

    assert likelihood.logs(x, exponent).tolist() == single
    with pytest.raises(ValueError):
        likelihood.logs(np.array([1.0, 0.0]), np.array([0, 0]))


def information_of(x, days, event, beta, other, runs):
    """The information at beta by its definition (Breslow), and what the joint half makes of the hazards at another beta."""
    times = np.unique(days)
    there, d = days[:, None] >= times, np.array([(event & (days == t)).sum() for t in times])
    here, before = (likelihood.cells_of(d, d.astype(float), (there.T * np.exp(x @ b)) @ np.column_stack([np.ones(len(x)), x]), None)
                    for b in (beta, other))
    ends = [len(here.place) * (k + 1) // runs for k in range(runs)]
    run = np.searchsorted(ends, np.arange(len(here.place)), side="right")

    def second(hazard):
        return steady.pack(x.T @ (x * (np.exp(x @ beta) * (there[:, here.place] @ hazard))[:, None]))

    hazards = likelihood.carried(before, beta - other)
    parts = np.array([second(hazards[0] * (run == k)) for k in range(runs)])
    return likelihood.information(here, second(here.hazard)), likelihood.information_near(here, parts, hazards, ends)


def test_the_information_with_older_hazards_is_near_and_positive():
    """From hazards at another beta the information is off by little, the less the nearer that was and the more runs of times there are;
    and it is never indefinite."""
    random = np.random.default_rng(3)
    x, days, event = random.normal(size=(400, 2)), random.integers(1, 40, 400), random.random(400) < 0.6
    beta = np.array([0.5, -0.4])
    for away, runs, gap in ((0.0, 1, 1e-12), (0.0, 6, 1e-12), (0.01, 6, 1e-5), (0.5, 6, 0.02), (0.5, 1, 0.1), (3.0, 6, np.inf)):
        exact, found = information_of(x, days, event, beta, beta + away, runs)

        assert np.abs(found - exact).max() <= gap * np.abs(exact).max(), (away, runs)
        assert (np.linalg.eigvalsh(found) > 0).all()
