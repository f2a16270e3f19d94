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

from ... import steady
from ...dictionary import Dictionary
from ...disclosure import Rules, safe
from ...errors import QuestionError
from ...variable import ON_STEP
from ..survival import times_of
from .calibration import RiskGroup
from .concordance import RISK_BINS


class Horizon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prediction of the event by one time. auc : chance that who has the event by then had a higher risk than who has not. brier : mean
    squared error of the predicted survival; brier_without : of the same curve for everybody. None: not released. calibration : groups
    of predicted risk, where they were asked for; none where they are too small."""

    time: float
    auc: float | None = None
    brier: float | None = None
    brier_without: float | None = None
    calibration: tuple[RiskGroup, ...] = ()


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
    hazard of each cell by that time. rank : of the cells, by stratum and interval of risk, shape (strata, intervals).
    """

    counts: dict[str, np.ndarray]
    log_hazard: tuple[float, ...]
    rank: np.ndarray

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
    return Ranked(counts, tuple(found[cell] for cell in order), rank.reshape(strata, -1))


def not_censored_before(events: np.ndarray, stay: np.ndarray) -> np.ndarray:
    """The chance of not being censored before each time, and up to the last: shape (times + 1,). Events come before censorings."""
    at_risk = np.cumsum((events + stay)[::-1])[::-1] - events
    hazard = np.divide(stay, at_risk, out=np.zeros(len(stay)), where=at_risk > 0)
    return np.concatenate([[1.0], np.cumprod(1.0 - hazard)])


def horizon(time: float, last: int, by_risk: Ranked, rules: Rules) -> Horizon:
    """AUC and Brier score at one time. last : place of the time among those counted."""
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
    return Horizon(time, auc, float((case * survival**2 + control * (1 - survival) ** 2).sum() / n),
                   float((case * everybody**2 + control * (1 - everybody) ** 2).sum() / n))


def risks(width: float) -> np.ndarray:
    """The linear predictor in the middle of each interval of risk."""
    return (np.arange(RISK_BINS) - RISK_BINS // 2 + 0.5) * width
