"""Every approximation says how far it may be from the exact pooled value: held against that over random data; small on ordinary data."""

import math

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary
from fedstats.analyses.shared.common import at_most

from .helpers import split
from .test_cox import RANDOM, random_frame


def grid_cohort(frame, step, **more):
    """Days counted one by one, or up to the end of their month of so many days."""
    variables = [{**one, "cut_points": {"from": 0, "to": 3660, "step": step}, "range": [0, 3660]} if one["name"] == "days" else one
                 for one in RANDOM["variables"]]
    book = Dictionary.from_dict({**RANDOM, "variables": variables})
    return fedstats.pooled(split(frame, np.arange(len(frame)) % 3), dictionary=book, **more).cohort()


def breslow(days, event, relative, until):
    """The cumulative baseline hazard at a time."""
    return sum((event & (days == t)).sum() / relative[days >= t].sum() for t in np.unique(days[event & (days <= until)]))


def exact(frame, result, step, strata, horizon):
    """C, AUC, the Brier score and that without covariates, patient by patient, from the risks themselves at all times of the grid."""
    terms = [one for one in ("age", "edss", "sex") if any(c.term.startswith(one) for c in result.coefficients)]
    relative = np.array(result.predict_partial_hazard(frame[terms]))
    days, event = np.ceil(frame["days"].to_numpy() / step) * step, frame["event"].to_numpy()
    stratum = frame["sex"].to_numpy() if strata else np.zeros(len(frame))
    hazard = {one: breslow(days[stratum == one], event[stratum == one], relative[stratum == one], horizon) for one in set(stratum)}
    survival = np.exp(-relative * np.array([hazard[one] for one in stratum]))

    later = (days[None, :] > days[:, None]) | ((days[None, :] == days[:, None]) & ~event[None, :])
    pair = later & event[:, None] & (stratum[:, None] == stratum[None, :])
    level = np.round(np.log(relative), 10)
    won = (level[:, None] > level[None, :]) + 0.5 * (level[:, None] == level[None, :])
    found = {"c": (pair * won).sum() / pair.sum()}

    def free(t):        # not censored before t; events come first
        left = 1.0
        for s in np.unique(days[~event & (days < t)]):
            left *= 1 - (~event & (days == s)).sum() / ((days > s) | (~event & (days == s))).sum()
        return left

    case, control = np.flatnonzero(event & (days <= horizon)), np.flatnonzero(days > horizon)
    weight, other = np.array([1 / free(days[i]) for i in case]), 1 / free(horizon + 1e-9)
    level = np.round(np.log(-np.log(survival)), 10)
    ahead = (level[case][:, None] > level[control]) + 0.5 * (level[case][:, None] == level[control])
    found["auc"] = (weight[:, None] * ahead).sum() / (weight.sum() * len(control))
    found["brier"] = ((weight * survival[case] ** 2).sum() + other * ((1 - survival[control]) ** 2).sum()) / len(days)
    a, b = weight.sum(), other * len(control)
    return found | {"brier_without": a * b / (a + b) / len(days)}


@pytest.mark.parametrize("seed", range(12))
def test_concordance_auc_and_brier_score_are_within_their_bounds(seed):
    """Of few and many patients, single days and months, one baseline and two, few and many different risks."""
    n, step, strata = [97, 137, 260, 500][seed % 4], [1, 30, 90][seed % 3], seed % 2 == 1
    frame = random_frame(n, 100 + seed)
    terms = ["age + edss", "sex", "edss", "age"][seed // 3] if not strata else ["age + edss", "edss", "age", "age + edss"][seed // 3]
    result = grid_cohort(frame, step).cox(f"Surv(days, event) ~ {terms}" + " + strata(sex)" * strata, horizons=[720, 1440],
                                          ties="breslow", transforms=())
    for one in result.horizons:
        right = exact(frame, result, step, strata, one.time)

        assert abs(result.concordance.c - right["c"]) <= result.concordance.off + 1e-12
        assert abs(one.auc - right["auc"]) <= one.auc_off + 1e-12
        assert abs(one.brier - right["brier"]) <= one.brier_off + 1e-12
        assert abs(one.brier_without - right["brier_without"]) <= one.brier_off + 1e-12
        assert f"by {one.time:g}: AUC within {one.auc_off:g}, Brier scores within {one.brier_off:g}" in " ".join(result.notes)


def test_the_bounds_are_small_on_ordinary_data():
    """A month's grid: C within 0.01, AUC within 0.01, Brier score within 0.01; a covariate of two values: C and AUC exactly."""
    c = grid_cohort(random_frame(1500, 7), 30)
    many, two = (c.cox(f"Surv(days, event) ~ {terms}", horizons=1440, transforms=()) for terms in ("age + edss + sex", "sex"))

    assert many.concordance.off < 0.01 and many.horizons[0].auc_off < 0.01 and many.horizons[0].brier_off < 0.01
    assert two.concordance.off == 0 and two.horizons[0].auc_off < 1e-12


@pytest.mark.parametrize(("n", "step", "more"), [(400, 1, {}), (1200, 30, {"rules": fedstats.Rules(show_zeros=True, rounding=False)})],
                         ids=["thinned", "rules"])
def test_the_baseline_between_shown_times_is_within_its_bound(n, step, more):
    """Where not every time is shown the curve waits for the next one: by how much it may be too low meanwhile is said."""
    frame = random_frame(n, 21)
    result = grid_cohort(frame, step, **more).cox("Surv(days, event) ~ age + strata(sex)", ties="breslow", transforms=())
    (note,) = [one for one in result.notes if "between two shown times" in one]
    bound = float(note.split("by at most ")[1].split(" ")[0])
    days, event = np.ceil(frame["days"].to_numpy() / step) * step, frame["event"].to_numpy()
    relative, worst = np.array(result.predict_partial_hazard(frame[["age"]])), 0.0
    for one in result.baseline:
        mine = (frame["sex"] == one.stratum.split("=")[1]).to_numpy()
        for t in np.unique(days[days <= one.times[-1]]):
            shown = ([0.0, *one.hazard])[np.searchsorted(one.times, t, side="right")]
            missed = breslow(days[mine], event[mine], relative[mine], t) - shown
            worst = max(worst, missed)

            assert -1e-9 <= missed <= bound
    assert worst > 0


def bound_of(notes, start):
    """The number after "up to" or "at most" in the note that starts so; 0 where there is none."""
    found = [note for note in notes if note.startswith(start)]
    return float(found[0].replace("at most ", "up to ").split("up to ")[1].split(" ")[0].rstrip(",")) if found else 0.0


def test_a_bound_is_rounded_up():
    """Two digits, never below the bound itself."""
    for x in 10.0 ** np.random.default_rng(1).uniform(-9, 3, 300):
        assert x * (1 - 1e-9) <= at_most(x) <= x * 1.1 + 1e-15
    assert (at_most(0.0), at_most(0.0123), at_most(0.1), at_most(math.inf)) == (0.0, 0.013, 0.1, math.inf)
