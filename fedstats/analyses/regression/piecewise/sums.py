"""What a piecewise exponential model asks of rows: events and person-time per registered interval of time.

How this works. A row adds to an interval the time that it spends there, and its event if it ends there. So all that leaves a registry is a
sum per interval, of which there are a handful: no risk set at every time, as Cox regression needs it. Intervals are (a, b]. Time is counted
in units of the whole range, a power of two, so that sums keep the bounds of `cox.risk`.

Holford (1980), Biometrics 36:299; Friedman (1982), Ann Stat 10:101.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from ...survival.life_table import bin_of, same_times
from ..cox.model import Model, as_frame, model_of
from ..cox.residuals import Baseline, squares, squares_blocks
from ..cox.risk import USED_PARTS, used_parts
from ..cox.rows import Cases, cases_of
from ..glm.data import by_person


def unit_of(dictionary: Dictionary, time: str) -> float:
    """The time in which person-time is counted: the largest that there may be, as a power of two."""
    return steady.power_of_two(dictionary[time].high)


@dataclass(frozen=True)
class Spent:
    """Rows with the time that they spend in each interval. share : in units of the whole range, shape (n, J). place : the interval where
    a row ends. lost : events of rows that spend no time, which are left out."""

    cases: Cases
    share: np.ndarray
    place: np.ndarray
    lost: int

    def count(self, keep: np.ndarray) -> np.ndarray:
        """Patients per interval where a row of theirs ends, shape (J,)."""
        place = self.place[keep]
        if self.cases.person is not None and len(place):
            place = np.unique(np.stack([place, self.cases.person[keep]]), axis=1)[0]
        return np.bincount(place, minlength=self.share.shape[1])

    def z(self, frame: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(self.place)), (self.cases.x - frame[:, 0]) / frame[:, 1]])

    def ratio(self, z: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """weight times exp(eta) of each row."""
        return self.cases.weight * np.exp(z[:, 1:] @ beta + self.cases.offset)


def spent(rows: Rows, model: Model, ends: Sequence[float]) -> Spent:
    """A registry's complete cases by interval; they stay with the rows from round to round."""
    held: dict[Any, Spent] = rows.__dict__.setdefault("piecewise", {})
    key = (model, tuple(ends))
    if key not in held:
        held.clear()
        cases = cases_of(rows, model)
        entry = np.zeros(len(cases.time)) if cases.entry is None else cases.entry
        until, start = same_times(cases.high, cases.time, entry)
        keep = (until > start) & (cases.weight > 0)
        lost = int((cases.event & ~keep & (cases.weight > 0)).sum())
        cases, entry = cases.where(keep), entry[keep]
        high = np.array(ends, dtype=float)
        low = np.concatenate([[0.0], high[:-1]])
        share = np.clip(np.minimum(cases.time[:, None], high) - np.maximum(entry[:, None], low), 0.0, None)
        place = np.clip(bin_of(cases.time, np.concatenate([[0.0], high])) - 1, 0, len(high) - 1)
        held[key] = Spent(cases, share / unit_of(rows.dictionary, model.time), place, lost)
    return held[key]


def _totals_layout(dictionary: Dictionary, *, model: Any, ends: Sequence[float]) -> dict[str, Block]:
    read = model_of(model)
    p, J, weight = len(read.design(dictionary)), len(ends), read.bounds(dictionary, [], [])[0]
    offset = read.offset_column(dictionary)
    half = (offset.high[0] - offset.low[0]) / 2 if offset else 1.0
    return {"rows": Block(integer=True), "lost": Block(integer=True), "w": Block((), weight), "x": Block((p,), weight),
            "xx": Block((p * (p + 1) // 2,), weight), "used": Block((p, USED_PARTS), integer=True), "events": Block(integer=True),
            "events_w": Block((), weight), "events_ww": Block((), weight * weight), "events_x": Block((p,), weight),
            "with_event": Block((J,), counts=True), "without": Block((J,), counts=True), "weight": Block((J,), weight),
            "by_interval": Block((J,), integer=True), "time": Block((J,), 1.0),
            "offset": Block((), steady.power_of_two(weight * (half or 1.0)))}


@statistic("piecewise_totals/1", layout=_totals_layout)
def piecewise_totals(rows: Rows, model: Any, ends: Sequence[float]) -> dict:
    """Rows, their weight and weighted sums of 1, x and x x'; of the events the same and the sum of squared weights; by interval the people
    who leave with and without an event, the events and their weight, and person-time. ends : of the intervals, increasing."""
    here = spent(rows, model_of(model), ends)
    cases, died = here.cases, here.cases.event
    weighted, weight = cases.x * cases.weight[:, None], cases.weight[died]
    return {"rows": len(cases.time), "lost": here.lost, "w": cases.weight.sum(), "x": weighted.sum(axis=0),
            "xx": steady.pack(cases.x.T @ weighted), "used": used_parts(cases.x), "events": died.sum(), "events_w": weight.sum(),
            "events_ww": (weight**2).sum(), "events_x": weighted[died].sum(axis=0), "with_event": here.count(died),
            "without": here.count(~died), "weight": np.bincount(here.place[died], weight, minlength=len(ends)),
            "by_interval": np.bincount(here.place[died], minlength=len(ends)),
            "time": here.share.sum(axis=0), "offset": (weight * cases.offset[died]).sum()}


def _risk_layout(dictionary: Dictionary, *, model: Any, ends: Sequence[float], beta: Sequence[float], frame: Sequence[Sequence[float]]
                 ) -> dict[str, Block]:
    # in its frame a column may reach 2, its square 4; a row spends at most one unit of time
    p = len(beta)
    return {"risk": Block((len(ends), (p + 1) * (p + 2) // 2), 4.0 * model_of(model).bounds(dictionary, beta, frame)[2])}


@statistic("piecewise_risk/1", layout=_risk_layout)
def piecewise_risk(rows: Rows, model: Any, ends: Sequence[float], beta: Sequence[float], frame: Sequence[Sequence[float]]) -> dict:
    """Per interval the packed sums of w exp(eta) (1, x)(1, x)' over all rows, times the time that they spend there."""
    here = spent(rows, model_of(model), ends)
    z = here.z(as_frame(frame))
    i, j = np.triu_indices(z.shape[1])
    weighted = here.share * here.ratio(z, np.asarray(beta, dtype=float))[:, None]
    return {"risk": np.array([(z.T @ (z * one[:, None]))[i, j] for one in weighted.T])}


def _residuals_layout(dictionary: Dictionary, *, model: Any, ends: Sequence[float], beta: Sequence[float],
                      frame: Sequence[Sequence[float]], baseline: Any, covariance: Sequence[float]) -> dict[str, Block]:
    weight, _, ratio = model_of(model).bounds(dictionary, beta, frame)
    blocks = squares_blocks(weight, ratio, math.fsum(baseline["hazard"]), dictionary.most_rows, len(beta))
    bound = blocks["squares"].bound
    return blocks | {"own": Block((len(ends),), bound), "cross": Block((len(ends), len(beta)), bound)}


@statistic("piecewise_residuals/2", layout=_residuals_layout)
def piecewise_residuals(rows: Rows, model: Any, ends: Sequence[float], beta: Sequence[float], frame: Sequence[Sequence[float]],
                        baseline: Any, covariance: Sequence[float]) -> dict:
    """As `cox.residuals`: a row's score is the sum over intervals of its events less those expected, times x less the mean there. own,
    cross : sums over patients of their events less those expected in an interval, squared and times the score: what the robust variance
    of the hazards needs."""
    here = spent(rows, model_of(model), ends)
    z, of = here.z(as_frame(frame)), msgspec.convert(baseline, Baseline)
    hazard, mean = np.zeros(len(ends)), np.zeros((len(ends), len(beta)))
    hazard[of.place], mean[of.place] = of.hazard, np.reshape(of.mean, (len(of.place), -1))
    expected = here.share * hazard * here.ratio(z, np.asarray(beta, dtype=float))[:, None]
    died = here.cases.event
    residual = expected @ mean - z[:, 1:] * expected.sum(axis=1)[:, None]
    residual[died] += here.cases.weight[died, None] * (z[died, 1:] - mean[here.place[died]])
    excess = -expected
    excess[died, here.place[died]] += here.cases.weight[died]
    excess, score = (by_person(one, here.cases.person) for one in (excess, residual))
    return squares(here.cases.person, residual, expected.sum(axis=1), covariance) | {"own": (excess**2).sum(axis=0),
                                                                                     "cross": excess.T @ score}
