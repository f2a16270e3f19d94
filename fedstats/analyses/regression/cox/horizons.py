"""How well a Cox model predicts by a given time: AUC(t) and Brier score, weighted for censoring.

How this works. Counts by time and interval of risk, which the concordance needs anyway, also hold who had the event by time t, who
is known to have had none, and how censoring went on. Those whose outcome is known stand for those censored before, by the inverse
probability of not being censored yet (Kaplan-Meier of the censoring, the same for everybody). A risk is taken at the middle of its
interval; times are those of the registered grid. Where strata have baselines of their own, a patient's risk is from that of his stratum:
patients of one stratum and one interval make a cell, and cells of all strata are put in the order of their risk.

AUC(t), cumulative cases and dynamic controls: Uno et al. (2007), JASA 102:527. Brier score: Graf et al. (1999), Stat Med 18:2529.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.variable import ON_STEP
from fedstats.disclosure import Rules, safe
from fedstats.disclosure.precision import Public
from fedstats.errors import QuestionError
from fedstats.sums import steady

from ...shared.common import at_most
from ...survival.life_table import times_of
from .calibration import RiskGroup
from .concordance import RISK_BINS

TOUCH = 1e-6                # of half an interval of risk: what the ends of neighbours may differ by rounding


class Horizon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prediction of the event by one time. auc : chance that who has the event by then had a higher risk than who has not. brier : mean
    squared error of the predicted survival; brier_without : of the same curve for everybody. None: not released. calibration : groups
    of predicted risk, where they were asked for; none where they are too small. auc_off, brier_off : those of the risks themselves, at all
    times of the grid, are within so much (brier_off : of both Brier scores); predicted_off : and the predicted risks of groups."""

    time: Public[float]
    auc: float | None = None
    brier: float | None = None
    brier_without: float | None = None
    calibration: tuple[RiskGroup, ...] = ()
    auc_off: float | None = None
    brier_off: float | None = None
    predicted_off: float | None = None


def check_horizons(dictionary: Dictionary, time: str, horizons: Sequence[float]) -> None:
    """Whether these are times of the registered grid. Raises QuestionError."""
    grid = times_of(dictionary, time)[1:]
    for one in horizons:
        if not grid[0] <= one < grid[-1] or np.abs(grid - one).min() > ON_STEP * max(1.0, abs(one)):
            raise QuestionError(f'the horizon {one:g} is not a time of the registered grid of "{time}" before its end, {grid[-1]:g}',
                                hint=f'horizons are cut points of "{time}" in the dictionary')


@dataclass(frozen=True)
class Ranked:
    """Who leaves when, in the order of the predicted risk by one time.

    counts : "events" and "stay" by time and cell, each of shape (times, cells), risks increasing. log_hazard : logarithm of the cumulative
    hazard of each cell by that time. rank : of the cells, by stratum and interval of risk, shape (strata, intervals). order : the cells.
    half : half the width of an interval.
    """

    counts: dict[str, np.ndarray]
    log_hazard: tuple[float, ...]
    rank: np.ndarray
    order: np.ndarray
    half: float

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the largest logarithm of the cumulative hazard in each cell; the outer intervals of risk are open."""
        middle, bins = np.array(self.log_hazard), self.order % RISK_BINS
        return np.where(bins == 0, -np.inf, middle - self.half), np.where(bins == RISK_BINS - 1, np.inf, middle + self.half)

    @property
    def survival(self) -> np.ndarray:
        """Predicted, per cell."""
        return np.exp(-np.exp(np.array(self.log_hazard)))


def ranked(pairs: Mapping[str, np.ndarray], hazards: Sequence[float], width: float) -> Ranked:
    """pairs : totals of `cox_pairs`. hazards : cumulative baseline hazard by the time, per stratum. width : of an interval of risk.
    Steady, as the groups of `calibration` are made of it."""
    strata, times, _ = pairs["events"].shape
    found = [(steady.log(hazard) if hazard > 0 else -math.inf) + eta for hazard in hazards for eta in risks(width).tolist()]
    order = sorted(range(len(found)), key=lambda cell: (found[cell], cell))
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    counts = {name: np.moveaxis(np.asarray(pairs[name]), 0, 1).reshape(times, -1)[:, order] for name in ("events", "stay")}
    return Ranked(counts, tuple(found[cell] for cell in order), rank.reshape(strata, -1), np.array(order), width / 2)


def not_censored_before(events: np.ndarray, stay: np.ndarray) -> np.ndarray:
    """The chance of not being censored before each time, and up to the last: shape (times + 1,). Events come before censorings."""
    at_risk = np.cumsum((events + stay)[::-1])[::-1] - events
    hazard = np.divide(stay, at_risk, out=np.zeros(len(stay)), where=at_risk > 0)
    return np.concatenate([[1.0], np.cumprod(1.0 - hazard)])


def horizon(time: float, last: int, by_risk: Ranked, rules: Rules, joined: bool, alike: np.ndarray) -> Horizon:
    """AUC and Brier score at one time. last : place of the time among those counted. joined, alike : see `concordance_of`."""
    events, stay = (np.asarray(by_risk.counts[name], dtype=float) for name in ("events", "stay"))
    survival = by_risk.survival
    cases, controls = events[:last + 1].sum(), (events + stay)[last + 1:].sum()
    if not (cases and controls and safe(int(cases), rules) and safe(int(controls), rules)):
        return Horizon(time)
    free = not_censored_before(events.sum(axis=1), stay.sum(axis=1))
    case = (events[:last + 1] / free[:last + 1, None]).sum(axis=0)
    control = (events + stay)[last + 1:].sum(axis=0) / free[last + 1]
    below = np.cumsum(control) - control
    auc = float((case * (below + control / 2)).sum() / (case.sum() * control.sum()))
    n = float((events + stay).sum())
    everybody = control.sum() / (case.sum() + control.sum())
    found = Horizon(time, auc, float((case * survival**2 + control * (1 - survival) ** 2).sum() / n),
                    float((case * everybody**2 + control * (1 - everybody) ** 2).sum() / n))
    # by the least and the largest weight that the times within a run allow
    high = highest(events.sum(axis=1), stay.sum(axis=1)) if joined else free
    later = free[1:] if joined else free[:-1]
    cases = [(events[:last + 1] / one[:last + 1, None]).sum(axis=0) for one in (high, later)]
    controls = [(events + stay)[last + 1:].sum(axis=0) / one[last + 1] for one in (high, free)]
    return msgspec.structs.replace(found, auc_off=at_most(auc_off(auc, cases, control, by_risk, alike.ravel()[by_risk.order])),
                                   brier_off=at_most(brier_off(found, cases, controls, by_risk, n)))


def highest(events: np.ndarray, stay: np.ndarray) -> np.ndarray:
    """The most that `not_censored_before` can be, whoever leaves first within a run of times: all events last. What it returns is the
    least."""
    at_risk = np.cumsum((events + stay)[::-1])[::-1]
    return np.concatenate([[1.0], np.cumprod(1.0 - np.divide(stay, at_risk, out=np.zeros(len(stay)), where=at_risk > 0))])


def predicted_off(by_risk: Ranked, ends: Sequence[int]) -> float:
    """By how much the mean predicted risk of a group may be off. ends : of groups, exclusive, in the order of risk."""
    with np.errstate(over="ignore"):
        high, low = (np.exp(-np.exp(one)) for one in by_risk.limits())
    far = np.maximum(high - by_risk.survival, by_risk.survival - low)
    weight = sum(np.asarray(by_risk.counts[name], dtype=float).sum(axis=0) for name in ("events", "stay"))
    return max(float(weight[a:b] @ far[a:b] / weight[a:b].sum()) for a, b in zip((0, *ends), ends))


def auc_off(auc: float, cases: Sequence[np.ndarray], control: np.ndarray, by_risk: Ranked, alike: np.ndarray) -> float:
    """By how much AUC may be off: of a case and a control whose intervals overlap, either may have the higher risk, unless both are in one
    where all have the same; and cases may have any weight between these two, shape (cells,)."""
    low, high = by_risk.limits()
    order_low, order_high = np.argsort(low, kind="stable"), np.argsort(high, kind="stable")
    upto_low, upto_high = (np.concatenate([[0.0], np.cumsum(control[order])]) for order in (order_low, order_high))
    own = np.where(alike, control / 2, 0.0)
    touch = TOUCH * by_risk.half        # neighbours touch, and do not overlap
    most = upto_low[np.searchsorted(low[order_low], high - touch, side="left")] - own
    least = upto_high[np.searchsorted(high[order_high], low + touch, side="right")] + own
    whole, ends = float(control.sum()), []
    for share, sign in ((most / whole, 1), (least / whole, -1)):
        # the largest mean gives the larger weights to those above it: try every place for the border
        order = np.argsort(-sign * share, kind="stable")
        full, rest = (one[order] for one in (cases[1], cases[0]))
        weight = np.cumsum(full) + rest.sum() - np.cumsum(rest)
        value = np.cumsum(full * share[order]) + (rest * share[order]).sum() - np.cumsum(rest * share[order])
        mean = np.divide(value, weight, out=np.full(len(weight), auc), where=weight > 0)
        ends.append(float((sign * mean).max()) * sign)
    return max(ends[0] - auc, auc - ends[1], 0.0)


def brier_off(found: Horizon, cases: Sequence[np.ndarray], controls: Sequence[np.ndarray], by_risk: Ranked, n: float) -> float:
    """By how much either Brier score may be off: risks anywhere in their interval, weights between these two."""
    assert found.brier is not None and found.brier_without is not None
    with np.errstate(over="ignore"):
        high, low = (np.exp(-np.exp(one)) for one in by_risk.limits())
    least = float((cases[0] * low**2 + controls[0] * (1 - high) ** 2).sum()) / n
    most = float((cases[1] * high**2 + controls[1] * (1 - low) ** 2).sum()) / n
    # of one risk for everybody the score is c k / (c + k), which grows with both
    alone = [float(c.sum() * k.sum() / (c.sum() + k.sum())) / n for c, k in zip(cases, controls)]
    return max(most - found.brier, found.brier - least, alone[1] - found.brier_without, found.brier_without - alone[0], 0.0)


def risks(width: float) -> np.ndarray:
    """The linear predictor in the middle of each interval of risk."""
    return (np.arange(RISK_BINS) - RISK_BINS // 2 + 0.5) * width
