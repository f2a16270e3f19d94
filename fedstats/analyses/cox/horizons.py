"""How well a Cox model predicts by a given time: AUC(t) and Brier score, weighted for censoring.

How this works. Counts by time and interval of risk, which the concordance needs anyway, also hold who had the event by time t, who
is known to have had none, and how censoring went on. Those whose outcome is known stand for those censored before, by the inverse
probability of not being censored yet (Kaplan-Meier of the censoring, the same for everybody). A risk is taken at the middle of its
interval; times are those of the registered grid.

AUC(t), cumulative cases and dynamic controls: Uno et al. (2007), JASA 102:527. Brier score: Graf et al. (1999), Stat Med 18:2529.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

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


def not_censored_before(events: np.ndarray, stay: np.ndarray) -> np.ndarray:
    """The chance of not being censored before each time, and up to the last: shape (times + 1,). Events come before censorings."""
    at_risk = np.cumsum((events + stay)[::-1])[::-1] - events
    hazard = np.divide(stay, at_risk, out=np.zeros(len(stay)), where=at_risk > 0)
    return np.concatenate([[1.0], np.cumprod(1.0 - hazard)])


def horizon(time: float, last: int, pairs: Mapping[str, np.ndarray], survival: np.ndarray, rules: Rules) -> Horizon:
    """AUC and Brier score at one time. last : place of the time among those counted. pairs : totals of one stratum, shape
    (times, risks). survival : predicted at that time, per interval of risk."""
    events, stay = np.asarray(pairs["events"], dtype=float), np.asarray(pairs["stay"], dtype=float)
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
