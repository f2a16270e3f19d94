"""Ranks from counts: how a table of two ordered variables is merged until every cell is safe, and the rank correlation of a table."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from ..disclosure import Rules, intervals
from .compare import mid_ranks

FEWEST_CLASSES = 3          # of a merged axis: ranks of two classes are not a rank correlation any more
MOST_CLASSES = 100          # where merging starts from, per axis: more cannot stay safe, and each step reads the whole table
MOST_BALANCED = 6           # classes of an axis cut into equal parts
Cuts = list[int]            # where an axis is cut: [0, 3, 5, 9] are the bins 0-2, 3-4 and 5-8


def cuts_for(counts: np.ndarray, rules: Rules, contributors: np.ndarray | None = None) -> tuple[Cuts, Cuts] | None:
    """Where to cut both axes so that every cell is nobody or at least the smallest cell; None if too little is left.

    contributors : registries with people in each cell, if known. Greedy: first each axis on its own margin, then the smallest
    unsafe cell is joined, along the axis with more classes, with the neighbour of fewer people. Where that ends with too little,
    a few classes of about equal size are tried. Whole numbers only.
    """
    there = np.full_like(counts, rules.min_registries) if contributors is None else contributors
    return _greedy(counts, there, rules) or _balanced(counts, there, rules)


def _greedy(counts: np.ndarray, there: np.ndarray, rules: Rules) -> tuple[Cuts, Cuts] | None:
    cuts: tuple[Cuts, Cuts] = (list(range(counts.shape[0] + 1)), list(range(counts.shape[1] + 1)))
    if not _unsafe(counts, there, rules).any():
        return cuts
    floor = max(rules.min_cell, -(-int(counts.sum()) // MOST_CLASSES))
    by_count = msgspec.structs.replace(rules, min_cell=floor, min_registries=1)
    for axis in (0, 1):
        margin = counts.sum(axis=1 - axis)
        found = intervals(margin, np.ones_like(margin), by_count, zeros=False)
        if not found:
            return None
        cuts[axis][:] = [0, *(stop for _, stop in found)]
    fewest = _fewest(counts)
    while True:
        table, registries = merged_table(counts, *cuts), merged_table(there, *cuts, how=np.maximum)
        unsafe = _unsafe(table, registries, rules)
        if not unsafe.any():
            return cuts if all(size >= least for size, least in zip(table.shape, fewest)) else None
        cell = np.unravel_index(int(np.argmin(np.where(unsafe, table, np.iinfo(np.int64).max))), table.shape)
        room = [table.shape[axis] - fewest[axis] for axis in (0, 1)]
        if max(room) <= 0:
            return None
        axis = 0 if room[0] >= room[1] else 1
        line, margin = int(cell[axis]), table.sum(axis=1 - axis)
        sides = [side for side in (line - 1, line + 1) if 0 <= side < len(margin)]
        other = min(sides, key=lambda side: (int(margin[side]), side))
        del cuts[axis][max(line, other)]


def _balanced(counts: np.ndarray, there: np.ndarray, rules: Rules) -> tuple[Cuts, Cuts] | None:
    """A few classes per axis, of about equal numbers of people: the most cells that are all safe."""
    fewest, found = _fewest(counts), []
    for a in range(fewest[0], min(counts.shape[0], MOST_BALANCED) + 1):
        for b in range(fewest[1], min(counts.shape[1], MOST_BALANCED) + 1):
            cuts = _equal_parts(counts.sum(axis=1), a), _equal_parts(counts.sum(axis=0), b)
            if len(cuts[0]) == a + 1 and len(cuts[1]) == b + 1 and not _unsafe(
                    merged_table(counts, *cuts), merged_table(there, *cuts, how=np.maximum), rules).any():
                found.append((a * b, cuts))
    return max(found)[1] if found else None


def _equal_parts(margin: np.ndarray, parts: int) -> Cuts:
    """Where to cut so that each of the parts has about as many people: after the bin that comes nearest to each share."""
    below, n = [0, *np.cumsum(margin).tolist()], int(margin.sum())
    inner = {min(range(1, len(margin)), key=lambda k: (abs(parts * below[k] - part * n), k)) for part in range(1, parts)}
    return [0, *sorted(inner), len(margin)]


def _fewest(counts: np.ndarray) -> tuple[int, ...]:
    """The classes that an axis must keep: three, or all if it never had more (a boolean)."""
    return tuple(min(FEWEST_CLASSES, size) for size in counts.shape)


def merged_table(counts: np.ndarray, cuts_a: Cuts, cuts_b: Cuts, how: np.ufunc = np.add) -> np.ndarray:
    """A table whose rows and columns are joined at the cuts. how : np.maximum for contributing registries, a safe lower bound."""
    return how.reduceat(how.reduceat(counts, cuts_a[:-1], axis=0), cuts_b[:-1], axis=1)


def _unsafe(counts: np.ndarray, there: np.ndarray, rules: Rules) -> np.ndarray:
    """Cells with somebody in them, but too few people or registries."""
    return (counts > 0) & ((counts < rules.min_cell) | (there < rules.min_registries))


def rank_correlation(table: np.ndarray) -> float | None:
    """Spearman's rho of a table of people: Pearson's r of mid-ranks; None where an axis has one class.

    Bonett & Wright (2000), Psychometrika 65:23-28, for the intervals; mid-ranks: Kendall (1970), Rank Correlation Methods, chapter 3.
    """
    middle = (int(table.sum()) + 1) / 2
    a, b = table.sum(axis=1), table.sum(axis=0)
    x, y = mid_ranks(a) - middle, mid_ranks(b) - middle
    xx, yy = float(a @ x**2), float(b @ y**2)
    if not xx > 0 or not yy > 0:
        return None
    return min(1.0, max(-1.0, float(x @ table @ y) / math.sqrt(xx) / math.sqrt(yy)))
