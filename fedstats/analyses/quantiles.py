"""Quantiles: from people per registered bin, in one round; exact where bins hold single values, bounded where they do not.

How this works: the bins are merged until each may be shown. Every order statistic that a quantile needs lies in one of the
merged bins, which the cumulated counts tell. A bin of a single value gives it exactly; in a wider registered bin people are
placed evenly, and its ends bound the answer; in bins that were merged only the bounds are told. Nothing but the merged
bins enters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import ClassVar

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..disclosure import Rules, intervals, merged
from ..disclosure.precision import Public
from ..disclosure.release import Average, Declared, classes
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis, names_of
from ..query.views import Picture, Table
from ..sums.statistic import INDICATORS
from .histogram import binned
from .shared.common import check_ordered, ends_of_bins

# The registered list (DISCLOSURE, quantiles): no bisection, no minimum, no maximum.
PROBABILITIES = tuple(Fraction(text) for text in (
    "1/100", "1/40", "1/20", "1/10", "1/5", "1/4", "3/10", "1/3", "2/5", "1/2",
    "3/5", "2/3", "7/10", "3/4", "4/5", "9/10", "19/20", "39/40", "99/100"))
QUARTILES = (0.25, 0.5, 0.75)
SAME = 1e-9             # a decimal probability and the registered one it stands for
TYPES = (1, 2, 6, 7)    # of Hyndman & Fan (1996), as R numbers them


class QuantilesParams(Params, frozen=True):
    """names : numbers, integers or booleans with bins. q : registered probabilities. type : 1, 2, 6 or 7 of Hyndman & Fan."""

    names: tuple[str, ...]
    q: tuple[float, ...] = QUARTILES
    type: int = 7

    def columns(self) -> tuple[str, ...]:
        return self.names

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        of = self.population()
        return tuple(Average(of, (name,), classes=classes(dictionary, (name,))) for name in self.names)

    def check(self, dictionary: Dictionary) -> None:
        names_of(self.names)
        if self.type not in TYPES:
            raise QuestionError(f"quantiles of type {self.type} are not offered", hint="types are 1, 2, 6 and 7 (7 is R's default)")
        if not self.q or len(set(self.q)) != len(self.q):
            raise QuestionError("q must name at least one probability, none of them twice")
        for q in self.q:
            registered(q)
        for name in self.names:
            dictionary.numeric(name)
            check_ordered(dictionary, name)


def registered(q: float) -> Fraction:
    """The registered probability that a number stands for. Raises QuestionError, listing them."""
    for one in PROBABILITIES:
        if abs(q - one) <= SAME:
            return one
    texts = (str(one) if one.denominator == 3 else f"{float(one):g}" for one in PROBABILITIES)
    raise QuestionError(f"{q:g} is not a registered probability of quantiles", hint="registered are " + ", ".join(texts))


class Quantile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quantile of one column, in its unit. exact : equal to the quantile of the pooled rows; otherwise interpolated, and
    the exact one lies from `low_bound` to `high_bound`. None: not released; a value also where its bins had to be merged."""

    column: str
    unit: str
    q: Public[float]
    value: float | None
    low_bound: Public[float | None]
    high_bound: Public[float | None]
    exact: bool


class Quantiles(Result, frozen=True, kw_only=True):
    """Frame: index `column`, `q`; columns value, low_bound, high_bound, exact, unit. `result["age", 0.5]` is one quantile."""

    kind: ClassVar[str] = "quantiles"

    quantiles: tuple[Quantile, ...]
    type: int

    def __getitem__(self, key: tuple[str, float]) -> Quantile:
        return {(one.column, registered(one.q)): one for one in self.quantiles}[key[0], registered(key[1])]

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((x.column, x.q, x.value, x.low_bound, x.high_bound, x.exact, x.unit) for x in self.quantiles)
        return (Table(("column", "q", "value", "low_bound", "high_bound", "exact", "unit"), rows, index=2, title="Quantiles"),)

    def picture(self) -> Picture:
        return Picture("points", "Quantiles with their bounds", labels=tuple(f"{x.column}, q = {x.q:.3g}" for x in self.quantiles),
                       series=(("value", tuple(x.value for x in self.quantiles)), ("low", tuple(x.low_bound for x in self.quantiles)),
                               ("high", tuple(x.high_bound for x in self.quantiles))))


def _call(columns: str | Iterable[str], q: float | Iterable[float] = QUARTILES, *, type: int = 7) -> QuantilesParams:
    """quantiles(columns, q=(0.25, 0.5, 0.75), type=7)"""
    wanted = (q,) if isinstance(q, (int, float)) else tuple(q)
    return QuantilesParams(names_of(columns), tuple(float(one) for one in wanted), type)


@analysis("quantiles/1", params=QuantilesParams, result=Quantiles, call=_call)
def quantiles(params: QuantilesParams, setting: Setting) -> Joint:
    """Quantiles at registered probabilities, over complete cases, from people per registered bin.

    Sample quantiles of type 1, 2, 6 or 7: Hyndman & Fan (1996), Am Stat 50:361-365, as R's quantile(type =).
    """
    (totals,) = yield [binned(columns=params.names)]
    found, notes = [], []
    for k, name in enumerate(params.names):
        ends = ends_of_bins(setting.dictionary, name)
        counts, contributors = totals[f"people{k}"], totals[f"people{k}{INDICATORS}"]
        ranges = intervals(counts, contributors, setting.rules, zeros=not setting.rules.hides_zeros)
        bins = [(ends[a][0], ends[b - 1][1]) for a, b in ranges]
        if len(bins) == 1 and bins[0][0] < bins[0][1]:      # one bin from end to end says nothing about a quantile
            ranges, bins = (), []
        shown = merged(counts, ranges)[0].tolist()
        some = [_one(name, setting, shown, ranges, bins, q, params.type) for q in params.q]
        if not ranges:
            notes.append(f'quantiles of "{name}" not released: no two bins have {setting.rules.min_cell} people from '
                         f"{setting.rules.min_registries} registries (rules min_cell, min_registries); use coarser cut points")
        elif any(one.low_bound is None for one in some):
            notes.append(f'outer quantiles of "{name}" not released: fewer than {setting.rules.min_cell} people lie beyond them '
                         "(rule min_cell); ask for probabilities nearer to 0.5, or for a larger cohort")
        wide = [one.high_bound - one.low_bound for one in some
                if one.low_bound is not None and one.high_bound is not None and not one.exact]
        if wide:
            unit = setting.dictionary[name].unit
            notes.append(f'quantiles of "{name}" are interpolated inside bins where `exact` is false: the exact ones lie within their '
                         f"bounds, at most {max(wide):.4g}{' ' + unit if unit else ''} apart")
        if any(one.value is None and one.low_bound is not None for one in some):
            notes.append(f'of some quantiles of "{name}" only the bounds are told: they lie in bins that had to be joined '
                         "(rule min_cell), and a place in there would be a guess")
        found += some
    return Quantiles(size=setting.size, quantiles=tuple(found), type=params.type, notes=tuple(notes),
                     methods=f"Sample quantiles of type {params.type} of Hyndman & Fan (1996) from counts at registered cut points.")


def _one(
    name: str,
    setting: Setting,
    counts: Sequence[int],
    ranges: Sequence[tuple[int, int]],
    bins: Sequence[tuple[float, float]],
    q: float,
    type: int,
) -> Quantile:
    unit, probability = setting.dictionary[name].unit, registered(q)
    if not counts or not may_ask(sum(counts), probability, setting.rules):
        return Quantile(name, unit, q, None, None, None, False)
    value, low, high = quantile_of(counts, bins, probability, type)
    told = in_single_bins(counts, ranges, probability, type)
    return Quantile(name, unit, q, value if told else None, low, high, low == high)


def in_single_bins(
    counts: Sequence[int], ranges: Sequence[tuple[int, int]], q: Fraction, type: int = 7
) -> bool:
    """Whether a quantile lies in bins that are not joined of several.

    Then it is that of all registered bins. In joined ones people would be placed evenly over the whole
    width: another number than without rules, so only its bounds are told.
    """
    j, after, g = positions(sum(counts), q, type)
    places = np.searchsorted(np.cumsum(counts), [j, after if g else j])
    return all(ranges[k][1] - ranges[k][0] == 1 for k in places)


def may_ask(n: int, q: Fraction, rules: Rules) -> bool:
    """Whether enough people lie beyond a quantile: n min(q, 1 - q) of at least the smallest cell."""
    return n > 0 and (rules.min_cell == 1 or n * min(q, 1 - q) >= rules.min_cell)


def positions(n: int, q: Fraction, type: int) -> tuple[int, int, Fraction]:
    """Which order statistics a quantile mixes, and the weight of the second: (1 - g) x_(j) + g x_(j').

    In exact fractions, so n q = 53 is 53. Hyndman & Fan (1996), definitions 1, 2, 6 and 7.
    """
    if type in (1, 2):
        j = -((-n * q.numerator) // q.denominator)          # ceil(n q)
        whole = (n * q).denominator == 1
        return (j, min(j + 1, n), Fraction(1, 2)) if type == 2 and whole else (j, j, Fraction(0))
    place = (n + 1) * q if type == 6 else (n - 1) * q + 1
    place = min(max(place, Fraction(1)), Fraction(n))
    j = place.numerator // place.denominator
    return j, min(j + 1, n), place - j


def quantile_of(counts: Sequence[int] | np.ndarray, bins: Sequence[tuple[float, float]], q: Fraction, type: int = 7
                ) -> tuple[float, float, float]:
    """A quantile of counted people, with the bounds between which the exact one lies.

    counts : people per bin, in order. bins : smallest and largest value of each bin. The i-th of c people in a bin is placed
    at low + (high - low) (i - 1/2) / c.
    """
    below = list(itertools.accumulate((int(c) for c in counts), initial=0))
    j, after, g = positions(below[-1], q, type)

    def order_statistic(rank: int) -> tuple[float, float, float]:
        k = next(k for k in range(len(bins)) if below[k + 1] >= rank)
        low, high = bins[k]
        return low + (high - low) * (rank - below[k] - 0.5) / (below[k + 1] - below[k]), low, high

    first, second = order_statistic(j), order_statistic(after if g else j)
    weight = float(g)
    value, low, high = ((1 - weight) * a + weight * b for a, b in zip(first, second))
    return value, low, high
