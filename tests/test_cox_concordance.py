"""The standard error of Harrell's C: against R, against the definition patient by patient, and against resampling."""

import msgspec
import numpy as np
import pytest

from fedstats import Dictionary
from fedstats.analyses.regression.cox.concordance import concordance_of, cox_influence, cox_pairs, risk_bins
from fedstats.analyses.regression.cox.params import call
from fedstats.analyses.regression.cox.rows import kept
from fedstats.data.rows import load
from fedstats.sums.statistic import answer

from .helpers import reference
from .test_cox import LUNG_TERMS, RANDOM, cgd_cohort, delayed_cohort, episodes, lung_cohort, random_cohort, random_frame

CLOSE = 1e-7
BETA, FRAME, WIDTH = [0.3, 0.5], [[0.0, 1.0, -1.0, 1.0]] * 2, 0.05
LUNG = "Surv(time, event) ~ age + sex + ph.ecog"


def lungs_by_institution(weights=None):
    return lung_cohort("inst").cox(LUNG + " + strata(registry)", weights=weights)


@pytest.mark.parametrize(("fit", "file", "model", "setting", "quantity"), [
    (lungs_by_institution, "cox_lung", "cox_strata_inst", "ties=efron;scale=day;weights=none", "concordance_se"),
    (lambda: lungs_by_institution("w"), "cox_lung", "cox_strata_inst", "ties=efron;scale=day;weights=w", "concordance_se"),
    (lambda: delayed_cohort("inst").cox(time="time", event="event", entry="in2", covariates=LUNG_TERMS, strata="registry"),
     "cox_counting_process", "cox_delayed_strata_inst", "ties=efron", "concordance_se"),
    (lambda: episodes("center").cox("Surv(tstart, tstop, status) ~ treat + inherit + steroids + age + strata(registry)"),
     "cox_counting_process", "ag_strata_center", "ties=efron", "concordance_se_robust_cluster_id")],
    ids=["institutions", "weights", "late entry", "repeated events"])
def test_the_error_within_registries_equals_r(fit, file, model, setting, quantity):
    """On true days, of the risks themselves: plain, weighted, left-truncated, and several rows per patient (clustered, as R's is then)."""
    assert fit().concordance.se == pytest.approx(reference(file, model, setting, quantity), rel=CLOSE)


@pytest.mark.parametrize(("fit", "file", "model", "setting", "quantity"), [
    (lambda: lung_cohort(time={"range": [0, 1110], "cut_points": {"from": 0, "to": 1110, "step": 30}}).cox(LUNG),
     "cox_lung", "cox_pooled", "ties=efron;scale=grid30;weights=none", "concordance_se"),
    (lambda: lung_cohort(time={"range": [0, 1110], "cut_points": {"from": 0, "to": 1110, "step": 30}}).cox(LUNG, weights="w"),
     "cox_lung", "cox_pooled", "ties=efron;scale=grid30;weights=w", "concordance_se"),
    (lambda: cgd_cohort(grid=30).cox(time="time", event="event", covariates=["treat", "age", "inherit", "steroids"]),
     "cox_cgd_first_event", "cox_pooled", "ties=efron;scale=grid30;covariates=4", "concordance_se"),
    (lambda: episodes().cox("Surv(tstart, tstop, status) ~ treat + inherit + steroids + age"),
     "cox_counting_process", "ag_pooled", "ties=efron", "concordance_se_robust_cluster_id")],
    ids=["lung", "weights", "infections", "repeated events"])
def test_the_error_on_a_grid_is_near_that_of_r(fit, file, model, setting, quantity):
    """Risks in 256 intervals, neighbouring times joined where there are many: within 3 in 100 of R's."""
    assert fit().concordance.se == pytest.approx(reference(file, model, setting, quantity), rel=0.03)


def cohort_of_rows(n=240, most_rows=1):
    """Rows with weights, late entry and, if wanted, several rows per patient; and the Cox model of them."""
    frame = random_frame(n, 11)
    frame["days"] = np.ceil(frame["days"] / 100).astype(int) * 100
    frame["start"] = np.where(np.arange(n) % 3 == 0, 100, 0)
    frame["patient_id"] = np.arange(n) // most_rows
    source = {**RANDOM, "most_rows": most_rows, "variables": [
        *({**one, "cut_points": {"from": 0, "to": 3700, "step": 100}, "range": [0, 3700]} if one["name"] == "days" else one
          for one in RANDOM["variables"]), {"name": "start", "type": "integer", "range": [0, 3700]}]}
    return load(frame[frame["start"] < frame["days"]], Dictionary.from_dict(source))[0]


def all_pairs(at, risk):
    """Row against row, shape (n, n): whether the first one's event is a pair with the other, and how much of it is concordant."""
    i, j = np.ix_(np.arange(at.n), np.arange(at.n))
    later = (at.leaves[j] > at.leaves[i]) | ((at.leaves[j] == at.leaves[i]) & ~at.died[j])
    entered = True if at.enters is None else at.enters[j] < at.leaves[i]
    pair = (at.died[i] & later & entered & (at.stratum[i] == at.stratum[j])).astype(float)
    return pair, pair * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))


def variance_of(at, pair, won):
    """The sum over patients of (weight times the derivative of C with respect to it) squared."""
    w = at.weight
    every, right = w @ pair @ w, w @ won @ w
    change = w * ((won + won.T) @ w - right / every * (pair + pair.T) @ w) / every
    if at.person is not None:
        change = np.bincount(at.person, change)
    return change @ change


@pytest.mark.parametrize(("keywords", "most_rows"), [({}, 1), ({"strata": "sex"}, 1), ({"weights": "w"}, 1), ({"entry": "start"}, 1),
                                                     ({"strata": "sex", "weights": "w", "entry": "start"}, 3)])
def test_the_error_from_counts_is_that_of_all_pairs(keywords, most_rows):
    """The infinitesimal jackknife by its definition, row against row, risks in the same intervals."""
    rows = cohort_of_rows(most_rows=most_rows)
    model = call(time="days", event="event", covariates=["age", "edss"], **keywords).model
    _, at = kept(rows, model)
    asked = {"model": msgspec.to_builtins(model), "beta": BETA, "frame": FRAME, "width": WIDTH, "ends": list(range(1, at.times + 1))}
    counts = answer(cox_pairs(**asked), rows)
    squares = float(answer(cox_influence(**asked, counts=counts), rows)["squares"])
    pair, won = all_pairs(at, risk_bins(at, BETA, FRAME, WIDTH))
    expected = variance_of(at, pair, won)

    assert squares == pytest.approx(expected, rel=1e-9)
    assert concordance_of(counts, False, squares).c == pytest.approx((at.weight @ won @ at.weight) / (at.weight @ pair @ at.weight))
    if not {"weights", "entry"} & set(keywords):
        assert concordance_of(counts, False).se ** 2 == pytest.approx(expected, rel=1e-9)


def test_the_error_is_the_spread_over_samples_of_patients():
    """Drawn again 400 times with replacement, C varies by what the standard error says."""
    rows, random = cohort_of_rows(600), np.random.default_rng(2)
    _, at = kept(rows, call(time="days", event="event", covariates=["age", "edss"]).model)
    pair, won = all_pairs(at, risk_bins(at, BETA, FRAME, WIDTH))
    drawn = random.multinomial(at.n, [1 / at.n] * at.n, size=400).astype(float)
    spread = np.std([(w @ won @ w) / (w @ pair @ w) for w in drawn])

    assert spread == pytest.approx(np.sqrt(variance_of(at, pair, won)), rel=0.12)


def test_the_error_is_shown_beside_c_and_narrows_with_more_patients():
    """Four times as many patients: about half the error; it is part of the table of the fit."""
    few, many = (random_cohort(random_frame(n, 4)).cox("Surv(days, event) ~ age + edss") for n in (300, 1200))
    (table,) = [one for one in many.tables() if one.title == "Fit"]

    assert dict(table.rows)["standard error of the concordance"] == many.concordance.se
    assert 0.35 < many.concordance.se / few.concordance.se < 0.7
