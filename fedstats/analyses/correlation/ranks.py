"""Ranks over all registries: margins first, then sums of products of mid-ranks.

How this works. A patient's rank among all patients follows from the counts of both columns' registered
bins, which every registry holds after the first round. In the second each registry ranks its own
patients and sends one sum per pair of columns. Ranks are doubled and taken about their mean,
2 r - (n + 1), so that every number is whole: nothing is merged, rounded or lost.

Kendall (1970), Rank Correlation Methods, chapter 3, for mid-ranks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...disclosure import Rules, may_imply
from ...disclosure.release import COUNTED_STEPS, few_levels
from ...sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from ..shared.common import count_cells
from ..shared.implied import ends_safe, few_classes

PAIRED_STEPS = 40           # up to which the table of two columns is counted, as both may turn out to have few values

# -- local halves -----------------------------------------------------------------------------------------


def _few(dictionary: Dictionary, columns: Sequence[str]) -> list[tuple[int, ...]]:
    """The columns whose ranks may turn out to be tables in disguise, and the pairs of them, as places."""
    sizes = [len(dictionary.bins(name)) for name in columns]
    single = [k for k, size in enumerate(sizes) if size <= COUNTED_STEPS]
    paired = [k for k in single if sizes[k] <= PAIRED_STEPS + 1]
    return [*((k,) for k in single), *itertools.combinations(paired, 2)]


def _margins_layout(dictionary: Dictionary, *, columns: Sequence[str]) -> dict[str, Block]:
    sizes = [len(dictionary.bins(name)) for name in columns]
    blocks = {f"margin{k}": Block((size,), integer=True) for k, size in enumerate(sizes)}
    return {"n": Block(counts=True)} | blocks | {
        f"levels{places}": Block(tuple(sizes[k] for k in places), counts=True) for places in _few(dictionary, columns)}


@statistic("rank_margins/2", layout=_margins_layout)
def rank_margins(rows: Rows, columns: Sequence[str]) -> dict:
    """People per bin of each column, over complete cases; for columns whose values may turn out to be
    few, and pairs of them, the tables that their ranks would give away."""
    cases = rows.complete(columns)
    places = [cases.bins(name) for name in columns]
    sizes = [len(rows.dictionary.bins(name)) for name in columns]
    sums: dict = {"n": cases.n}
    sums |= {f"margin{k}": np.bincount(place, minlength=size) for k, (place, size) in enumerate(zip(places, sizes))}
    for some in _few(rows.dictionary, columns):
        sums[f"levels{some}"] = count_cells([sizes[k] for k in some], [places[k] for k in some])
    return sums


def _products_layout(dictionary: Dictionary, *, columns: Sequence[str], margins: Sequence[Sequence[int]]) -> dict[str, Block]:
    n = sum(margins[0])
    pairs = len(columns) * (len(columns) - 1) // 2
    return {"products": Block((pairs,), float(max(n, 1)) ** 2, integer=True)}


@statistic("rank_products/1", layout=_products_layout)
def rank_products(rows: Rows, columns: Sequence[str], margins: Sequence[Sequence[int]]) -> dict:
    """Per pair of columns, in order, the sum over complete cases of the products of their doubled ranks about
    the mean. margins : people per bin of each column over all registries."""
    cases = rows.complete(columns)
    ranks = [doubled_ranks(np.asarray(margin))[cases.bins(name)] for name, margin in zip(columns, margins)]
    return {"products": [int((a * b).sum()) for a, b in itertools.combinations(ranks, 2)]}


def doubled_ranks(counts: np.ndarray) -> np.ndarray:
    """2 r - (n + 1) for the mid-rank r of each bin, whole numbers. counts : people per bin, in order."""
    upto = np.cumsum(counts)
    return 2 * upto - counts - upto[-1]


# -- joint half -------------------------------------------------------------------------------------------


Rho = dict[tuple[int, int], float | None]


def correlations(margins: Sums, columns: Sequence[str]) -> Generator[list[Ask], list[Sums], Rho]:
    """Spearman's rho of every pair of columns, by their places; None where one of them has a single value.

    margins : totals of `rank_margins`. One round.
    """
    counts = [margins[f"margin{k}"] for k in range(len(columns))]
    (found,) = yield [rank_products(columns=columns, margins=[one.tolist() for one in counts])]
    pairs = itertools.combinations(range(len(columns)), 2)
    return {(j, k): rank_correlation(counts[j], counts[k], product) for (j, k), product in zip(pairs, found["products"].tolist())}


def rank_correlation(a: np.ndarray, b: np.ndarray, product: int) -> float | None:
    """Spearman's rho: Pearson's r of mid-ranks. a, b : people per bin of each column. product : of doubled
    ranks about their mean, summed."""
    aa, bb = (_squares(one) for one in (a, b))
    if not aa or not bb:
        return None
    return min(1.0, max(-1.0, product / math.sqrt(aa) / math.sqrt(bb)))


def _squares(counts: np.ndarray) -> int:
    """The sum of squared doubled ranks about their mean, exactly, in whole numbers of any size."""
    return sum(c * r * r for c, r in zip(counts.tolist(), doubled_ranks(counts).tolist()))


def may_rank(totals: Sums, j: int, k: int, columns: Sequence[str], dictionary: Dictionary, rules: Rules) -> bool:
    """Whether the ranks of two columns may be correlated: the tables that they give away are safe.

    Of two columns of few values that is the table of both; beside one of many values, who is at the ends of it.
    """
    if rules.min_cell <= 1:
        return True
    few = [one for one in (j, k) if few_classes(totals[f"margin{one}"], dictionary.bins(columns[one]).atoms)]
    if not all(_may_average(totals, one, few_levels(dictionary[columns[one]]), rules) for one in few):
        return False
    return len(few) < 2 or _safe(totals, (j, k), rules)


def _may_average(totals: Sums, k: int, levels: bool, rules: Rules) -> bool:
    """Whether an average over a column of few values may be told. levels : the dictionary gives it few."""
    name = f"levels{(k,)}"
    if levels or name not in totals:
        return _safe(totals, (k,), rules)
    return ends_safe(totals[name], totals[name + INDICATORS], rules)


def _safe(totals: Sums, places: tuple[int, ...], rules: Rules) -> bool:
    name = f"levels{places}"
    return name in totals and may_imply(totals[name], totals[name + INDICATORS], rules)
