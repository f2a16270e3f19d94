"""What is told of a survival curve: exact numbers at its reporting times, bounds between them.

How this works. Every registry holds the counts of the whole grid, so every number is computed from all of
them. The release rules say only *where* a curve may be told: at the ends of the intervals that may be shown
(`cuts`). There survival, its standard error, events and people at risk are those of the pooled
table, rounded; between them the curve is bounded by its neighbours. Nothing is computed from merged
intervals: they would put all exits to their ends.

Rounding follows what one person moves: survival to one person at risk, a restricted mean to tau over the
number of patients. Where that is coarse beside the standard error, half a step is added to the interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.variable import ON_STEP
from ...disclosure import Rules, may_count
from .cuts import Ends, LifeTables
from .life_table import at_risk
from .product_limit import ConfType, Quantile, band, product_limit, quantile, restricted_mean

QUARTILES = (0.25, 0.5, 0.75)
ENOUGH_FOR_SE = 100         # at risk: with fewer the interval is told, and no standard error
COARSE = 5                  # a step above one fifth of the standard error widens the interval
FEWEST_INTERVALS = 3        # for a restricted mean; and as many smallest cells of events


@dataclass(frozen=True)
class Counts:
    """One group on the whole grid: times, events and censored at each, and its patients."""

    times: np.ndarray
    events: np.ndarray
    censored: np.ndarray

    @property
    def people(self) -> int:
        return int((self.events + self.censored).sum())

    @property
    def at_risk(self) -> np.ndarray:
        return at_risk(self.events + self.censored)


@dataclass(frozen=True)
class Reported:
    """Where a group may be told. first, last : per reporting time, the places in the grid where its
    interval begins and ends, both included; it is at the time of the last. Where time 0 is not told, the
    first row is the start of follow-up, with an empty interval: last is -1."""

    counts: Counts
    first: np.ndarray
    last: np.ndarray

    @property
    def times(self) -> np.ndarray:
        return np.where(self.last >= 0, self.counts.times[self.last], 0.0)

    @property
    def since(self) -> np.ndarray:
        """The earliest time at which somebody of each interval may have left; the reporting time itself
        where nothing is merged."""
        return self.counts.times[self.first]

    @property
    def merged(self) -> bool:
        return bool((self.first < self.last).any())

    @property
    def remaining(self) -> int:
        """Under observation after the last reporting time."""
        return int(self.counts.at_risk[self.last[-1] + 1:][:1].sum())

    def sums(self, counts: np.ndarray) -> np.ndarray:
        """Counts of the grid added up within each interval."""
        upto = np.concatenate([[0], np.cumsum(counts)])
        return upto[self.last + 1] - upto[self.first]

    def interval_of(self, time: float) -> tuple[float, float]:
        """The times after which, and not after which, an exact time of the grid lies, as a reader may know it."""
        place = min(int(np.searchsorted(self.times * (1 + 1e-12), time)), len(self.last) - 1)
        if self.first[place] >= self.last[place]:
            return time, time
        start = self.counts.times[self.first[place] - 1] if self.first[place] else 0.0
        return float(start), float(self.times[place])


def reported(tables: LifeTables, m: int, g: int, step: float | None) -> Reported | None:
    """Where group g of margin m may be told; None: nowhere. step : of a coarser grid, that it is asked on."""
    counts = Counts(tables.times, tables.events[m][g], tables.censored[m][g])
    ends: Ends = tables.cuts[m].own[g]
    if step is not None:
        counts, ends = on_coarser_grid(counts, ends, step)
    if not ends:
        return None
    first, last = np.array((0, *ends[:-1])), np.array(ends) - 1
    if last[0] > 0:         # time 0 is told of everybody: those who leave then are part of the first interval
        first, last = np.concatenate([[0], first]), np.concatenate([[-1], last])
    leave = np.array([int((counts.events + counts.censored)[a:b + 1].sum()) for a, b in zip(first, last)])
    keep = leave > 0
    keep[0] = True
    keep[-1] |= counts.people > leave.sum()        # followed to there, though nobody left
    return Reported(counts, first[keep], last[keep])


def on_coarser_grid(counts: Counts, ends: Ends, step: float) -> tuple[Counts, Ends]:
    """The same group with times rounded up to multiples of a step, and those of the ends that are such multiples."""
    cell = np.ceil(counts.times / step - ON_STEP).astype(int)
    size = int(cell[-1]) + 1
    times = np.minimum(step * np.arange(size), counts.times[-1])
    last_of = np.append(np.flatnonzero(np.diff(cell)), len(cell) - 1)         # of each multiple, the last place of the grid
    events, censored = (np.bincount(cell, one, size).astype(np.int64) for one in (counts.events, counts.censored))
    return (Counts(times, events, censored),
            tuple(int(cell[end - 1]) + 1 for end in ends if end - 1 in last_of))


# -- what is told ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """Numbers at the reporting times, None where they are not released. All of the same length."""

    survival: tuple[float, ...]
    se: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    cumulative_hazard: tuple[float, ...]
    cumulative_hazard_se: tuple[float | None, ...]


def at_reporting_times(where: Reported, z: float, kind: ConfType, rules: Rules) -> Told:
    """Survival, Greenwood's standard error, limits and the Nelson-Aalen estimate at the reporting times."""
    n, d, last = where.counts.at_risk, where.counts.events, np.maximum(where.last, 0)
    started = where.last >= 0
    survival, variance = (np.where(started, one[last], start) for one, start in zip(product_limit(d, n), (1.0, 0.0)))
    ratio = np.divide(d, n, out=np.zeros(len(n)), where=n > 0)
    over = np.divide(ratio, n, out=np.zeros(len(n)), where=n > 0)
    hazard, hazard_variance = (np.where(started, np.cumsum(one)[last], 0.0) for one in (ratio, over))
    with np.errstate(invalid="ignore"):
        se = survival * np.sqrt(variance)
    low, high = band(survival, np.sqrt(variance), z, kind)
    if not rules.rounding:
        return Told(tuple(survival.tolist()), _known(se), _known(low), _known(high), tuple(hazard.tolist()),
                    _known(np.sqrt(hazard_variance)))
    people = np.maximum(n[np.maximum(where.first, 0)], 1)         # at risk at the start of each interval
    enough = people >= ENOUGH_FOR_SE
    survival = np.round(survival * people) / people
    se = np.array([_digits(one, 2) for one in se.tolist()])
    with np.errstate(divide="ignore", invalid="ignore"):
        from_rounded = band(survival, np.where(survival > 0, se / survival, np.inf), z, kind)
    half = np.where(1 / people > se / COARSE, 0.5 / people, 0.0)
    # computed from what is told where the standard error is; else the exact limits, outwards to one person
    low = np.where(enough, from_rounded[0] - half, np.floor(low * people + 1e-9) / people)
    high = np.where(enough, from_rounded[1] + half, np.ceil(high * people - 1e-9) / people)
    return Told(tuple(survival.tolist()), _known(np.where(enough, se, np.nan)), _known(np.clip(low, 0, 1)), _known(np.clip(high, 0, 1)),
                tuple((np.round(hazard * people) / people).tolist()),
                _known(np.where(enough, [_digits(one, 2) for one in np.sqrt(hazard_variance).tolist()], np.nan)))


def quantiles_of(where: Reported, z: float, kind: ConfType) -> tuple[Quantile, ...]:
    """Quartiles of the exact curve, as the reporting intervals that hold them."""
    return tuple(_quantile(p, where, where.counts.events, z, kind) for p in QUARTILES)


def follow_up_of(where: Reported, z: float, kind: ConfType) -> Quantile:
    """Median follow-up: of the curve on which being censored is the event. Schemper & Smith (1996), Control Clin Trials 17:343-346."""
    return _quantile(0.5, where, where.counts.censored, z, kind)


def _quantile(p: float, where: Reported, events: np.ndarray, z: float, kind: ConfType) -> Quantile:
    survival, variance = product_limit(events, where.counts.at_risk)
    exact = quantile(p, where.counts.times, survival, *band(survival, np.sqrt(variance), z, kind))
    last = float(where.times[-1])
    if where.remaining:         # beyond the last reporting time nothing is told
        exact = Quantile(p, *(None if one is None or one > last else one for one in (exact.time, exact.time_low, exact.time_high)))
    if not where.merged:
        return exact
    after, time = where.interval_of(exact.time) if exact.time is not None else (None, None)
    low = None if exact.time_low is None else where.interval_of(exact.time_low)[0]
    high = None if exact.time_high is None else where.interval_of(exact.time_high)[1]
    return Quantile(p, time, low, high, after if after != time else None)


def may_restrict(where: Reported, tau: float, rules: Rules) -> str:
    """Why the restricted mean to tau may not be told; "" if it may."""
    if rules.min_cell <= 1:
        return "" if tau <= where.times[-1] or not where.remaining else "its curve ends before tau"
    upto = where.times <= tau * (1 + 1e-12)
    if not np.isclose(where.times, tau, rtol=1e-12, atol=0).any():
        return "tau is not one of its reporting times"
    if upto.sum() <= FEWEST_INTERVALS:
        return f"it has fewer than {FEWEST_INTERVALS} reporting intervals up to tau"
    if where.sums(where.counts.events)[upto].sum() < FEWEST_INTERVALS * rules.min_cell:
        return f"fewer than {FEWEST_INTERVALS * rules.min_cell} events up to tau"
    return ""


def restricted(where: Reported, tau: float, z: float, rules: Rules) -> tuple[float, float, float, float]:
    """Restricted mean to tau of the exact curve, its standard error, and limits."""
    mean, se = restricted_mean(where.counts.times, where.counts.events, where.counts.at_risk, tau)
    if not rules.rounding:
        return mean, se, mean - z * se, mean + z * se
    step = tau / where.counts.people
    half = step / 2 if step > se / COARSE else 0.0
    mean, se = round(mean / step) * step, max(round(se / step), 1) * step
    return mean, se, mean - z * se - half, mean + z * se + half


def total_events(where: Reported, rules: Rules) -> int:
    """All events of a group, as a table or a log-rank test tells them, where there are enough with and without; those after the last
    reporting time are nobody's or enough people's then. Else those up to that time."""
    events, censored = int(where.counts.events.sum()), int(where.counts.censored.sum())
    if all(may_count(count, rules) for count in (events, censored)):
        return events
    return int(where.sums(where.counts.events).sum())


def common_end(many: Sequence[Reported], rules: Rules) -> float | None:
    """The usual end of restricted means: the last time that is told of every group."""
    some = [one for one in many if one.counts.people]
    if not some:
        return None
    if rules.min_cell <= 1:
        return min(float(one.times[-1]) for one in some)
    return max(set.intersection(*(set(one.times[1:].tolist()) for one in some)), default=None)


def _digits(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}") if math.isfinite(value) else math.nan


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(value if math.isfinite(value) else None for value in values.tolist())
