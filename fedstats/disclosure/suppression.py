"""Tables of people: which cells and margins are suppressed so that nothing follows by subtraction.

How this works: small cells and margins go first; then, by linear programming over everything that stays visible, further ones until
the range that a reader can work out for every suppressed number is wide enough; at last what turns out not to be needed is shown
again. Complementary suppression: Willenborg & de Waal (2001), Elements of Statistical Disclosure Control, chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import Refused
from .rules import Rules

MOST_RECONSIDERED = 200     # hidden entries of one table up to which each is tried whether it may be shown after all
MOST_CELLS = 5_000          # cells of one released table: beyond it the check for complementary suppression takes too long


@dataclass(frozen=True)
class Shown:
    """A table of counts after suppression.

    cells : counts, -1 where suppressed. margins : per dimension, the totals of its levels, -1 where suppressed (one
    dimension has none). total : everybody, always shown. hidden : how many cells and margins are suppressed.
    """

    cells: np.ndarray
    margins: tuple[np.ndarray, ...]
    total: int

    HIDDEN: ClassVar[int] = -1

    @property
    def hidden(self) -> int:
        return int((self.cells < 0).sum() + sum((margin < 0).sum() for margin in self.margins))

    @property
    def whole(self) -> bool:
        """Whether nothing is suppressed: only then are statistics of the whole table released."""
        return self.hidden == 0


def show_table(counts: np.ndarray, contributors: np.ndarray, rules: Rules, *, margins_hidden: Sequence[np.ndarray] | None = None,
               firm: bool = True, vacant: Sequence[np.ndarray] | None = None) -> Shown:
    """Suppress the small cells of a table, and enough others that nothing follows by subtraction.

    counts : people per cell, any number of dimensions. contributors : registries with people in the cell, same shape.
    Cells and one-way margins of 1..k-1 people (and of none, unless zeros may be shown), or from too few registries, are
    suppressed; then, by linear programming over everything that stays visible, further cells (smallest first) until the
    range that a reader can work out for every suppressed number is at least k wide; then those of the further ones that turn
    out not to be needed are shown again (largest first). The total is always shown.
    margins_hidden : per dimension, which margins are hidden, where that has been decided elsewhere: the others are known to a
    reader, so only cells are suppressed. firm : that decision stands; else, where hiding every cell is not enough beside these margins,
    margins are hidden too. vacant : per dimension, which lines are of levels that nobody has in the whole data-cut: their zeros say
    nothing about anybody, are shown, and cannot hide anything.

    Complementary suppression: Willenborg & de Waal (2001), Elements of Statistical Disclosure Control, chapter 4.
    """
    counts = np.ascontiguousarray(counts, dtype=np.int64)
    if counts.size > MOST_CELLS and rules.min_cell > 1:
        raise Refused(f"a table of {counts.size} cells is too large to be checked for release (at most {MOST_CELLS})",
                      hint="use fewer variables, or coarser cut points")
    table = _Entries(counts, np.asarray(contributors), rules, margins_hidden, vacant)
    if not table.protect() and margins_hidden is not None and not firm:
        return show_table(counts, contributors, rules, vacant=vacant)
    table.reconsider()
    cells = np.where(table.cell_hidden, Shown.HIDDEN, counts)
    margins = tuple(np.where(hidden, Shown.HIDDEN, total) for hidden, total in zip(table.margin_hidden, table.margin_totals))
    return Shown(cells, margins, int(counts.sum()))


class _Entries:
    """The cells and margins of one table, which of them are hidden, and what a reader can work out about those."""

    def __init__(self, counts: np.ndarray, contributors: np.ndarray, rules: Rules, decided: Sequence[np.ndarray] | None = None,
                 vacant: Sequence[np.ndarray] | None = None) -> None:
        self.counts, self.rules = counts, rules
        nobody = np.zeros(counts.shape, dtype=bool)
        for axis, lines in enumerate(vacant or ()):
            nobody[(slice(None),) * axis + (lines & (counts.sum(axis=tuple(a for a in range(counts.ndim) if a != axis)) == 0),)] = True
        self.cell_hidden = np.ascontiguousarray(_primary(counts, contributors, rules) & ~nobody)
        self.axes = range(counts.ndim) if counts.ndim > 1 else range(0)
        others = [tuple(a for a in range(counts.ndim) if a != axis) for axis in self.axes]
        self.margin_totals = [counts.sum(axis=axes) for axes in others]
        # a registry with people in a cell has people in its margin, so the largest cell indicator is a safe lower bound
        self.margin_hidden = [_primary(total, contributors.max(axis=axes), rules)
                              for total, axes in zip(self.margin_totals, others)]
        for axis, lines in zip(self.axes, vacant or ()):
            self.margin_hidden[axis] &= ~(lines & (self.margin_totals[axis] == 0))
        self.decided = decided is not None
        if decided is not None:
            self.margin_hidden = [np.array(hidden, dtype=bool) for hidden in decided]
        # nobody has a level that is seen to be empty: there is nothing to hide in it
        self.empty = nobody
        for axis, totals, hidden in zip(self.axes, self.margin_totals, self.margin_hidden):
            self.empty[(slice(None),) * axis + ((totals == 0) & ~hidden,)] |= self.decided
        # what the rules hide by themselves; the rest is hidden only to protect it
        self.cell_needed, self.margin_needed = self.cell_hidden.copy(), [hidden.copy() for hidden in self.margin_hidden]

    def protect(self) -> bool:
        """Hide more until nothing hidden is exposed. False where everything is hidden and that is not enough."""
        while True:
            exposed = self._exposed()
            if exposed is None or not self._hide_beside(exposed):
                return exposed is None

    def reconsider(self) -> None:
        """Show again, largest first, what was hidden beside others and is not needed: the greedy first pass hides too much."""
        extra = [((-1, int(cell)), int(self.counts.ravel()[cell])) for cell in np.flatnonzero(self.cell_hidden & ~self.cell_needed)]
        for axis, totals in zip(self.axes, self.margin_totals):
            lines = np.flatnonzero(self.margin_hidden[axis] & ~self.margin_needed[axis])
            extra += [((axis, int(line)), int(totals[line])) for line in lines]
        if not 0 < len(extra) <= MOST_RECONSIDERED or self._exposed() is not None:
            return
        for entry, _ in sorted(extra, key=lambda pair: -pair[1]):
            self._show_again(entry)

    def _show_again(self, entry: tuple[int, ...] | None) -> None:
        """Show an entry and whatever follows from it, unless something follows that must stay hidden: then all is as before.

        (One of two hidden margins gives the other: they are shown together or not at all.)
        """
        before = (self.cell_hidden.copy(), [hidden.copy() for hidden in self.margin_hidden])
        while entry is not None:
            axis, place = entry
            hidden, needed = ((self.cell_hidden.ravel(), self.cell_needed.ravel()) if axis < 0
                              else (self.margin_hidden[axis], self.margin_needed[axis]))
            if needed[place]:
                self.cell_hidden, self.margin_hidden = before
                return
            hidden[place] = False
            entry = self._exposed()

    def _system(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a reader knows of the hidden cells x >= 0: rows of A x = b, and which flat cells x stands for."""
        hidden = np.flatnonzero(self.cell_hidden)
        place = np.full(self.counts.size, -1)
        place[hidden] = np.arange(len(hidden))
        rows = [np.ones(len(hidden))]
        right = [self.counts.ravel()[hidden].sum()]
        for axis, line_hidden in zip(self.axes, self.margin_hidden):
            of_line = np.indices(self.counts.shape)[axis].ravel()[hidden]
            for line in np.flatnonzero(~line_hidden):
                inside = of_line == line
                if inside.any():
                    rows.append(inside.astype(float))
                    right.append(self.counts.ravel()[hidden[inside]].sum())
        return np.array(rows), np.array(right, dtype=float), hidden

    def _targets(self, hidden: np.ndarray) -> list[tuple[tuple[int, ...], np.ndarray]]:
        """Every suppressed number as a 0/1 sum of hidden cells: ((-1, flat cell) or (axis, line), vector)."""
        targets: list[tuple[tuple[int, ...], np.ndarray]] = [((-1, int(cell)), (hidden == cell).astype(float)) for cell in hidden]
        for axis, line_hidden in zip(self.axes, self.margin_hidden):
            of_line = np.indices(self.counts.shape)[axis].ravel()[hidden]
            targets += [((axis, int(line)), (of_line == line).astype(float)) for line in np.flatnonzero(line_hidden)]
        return targets

    def _exposed(self) -> tuple[int, ...] | None:
        """A suppressed number whose range is narrower than the smallest cell, or None."""
        A, b, hidden = self._system()
        targets = self._targets(hidden)
        if not targets:
            return None
        if not len(hidden):             # hidden margins over visible cells
            return targets[0][0]
        from scipy.optimize import linprog

        seen = [self.counts.ravel()[hidden].astype(float)]          # tables that fit what is visible; the true one does
        k = self.rules.min_cell - 1e-6                              # solver tolerance; vertices of two-way tables are integers
        for key, vector in targets:
            reach = np.array(seen) @ vector
            if reach.max() - reach.min() >= k:
                continue
            for sign in (1.0, -1.0):
                found = linprog(sign * vector, A_eq=A, b_eq=b, bounds=(0, None), method="highs")
                if found.status == 0:
                    seen.append(found.x)
                reach = np.array(seen) @ vector
                if reach.max() - reach.min() >= k:
                    break
            else:
                return key
        return None

    def _hide_beside(self, exposed: tuple[int, ...]) -> bool:
        """Hide one more number so that the exposed one is harder to work out; False when everything is hidden."""
        axis, place = exposed
        where = np.unravel_index(place, self.counts.shape) if axis < 0 else None
        lines = [(a, int(where[a])) for a in self.axes] if where is not None else [(axis, place)]
        nearby = np.zeros(self.counts.shape, dtype=bool)
        for a, line in lines:
            nearby[(slice(None),) * a + (line,)] = True
        for among in (nearby & ~self.cell_hidden & ~self.empty, ~self.cell_hidden & ~self.empty):
            # a line that hides one cell only gives it away: prefer to complete those lines
            if where is not None and len(lines) and among is not None:
                lonely = np.zeros_like(nearby)
                for a, line in lines:
                    index = (slice(None),) * a + (line,)
                    if not self.margin_hidden[a][line] and self.cell_hidden[index].sum() == 1:
                        lonely[index] = True
                if (lonely & among).any():
                    among = lonely & among
            if among.any():
                flat = np.flatnonzero(among.ravel())
                sizes = self.counts.ravel()[flat]
                self.cell_hidden.ravel()[flat[np.argmin(np.where(sizes > 0, sizes, np.iinfo(np.int64).max))]] = True
                return True
        if self.decided:
            return False
        margins = [(int(self.margin_totals[a][line]), a, line) for a, line in lines if not self.margin_hidden[a][line]]
        margins = margins or [(int(total), a, line) for a in self.axes
                              for line, total in enumerate(self.margin_totals[a]) if not self.margin_hidden[a][line]]
        if not margins:
            return False
        _, a, line = min(margins)
        self.margin_hidden[a][line] = True
        return True


def _primary(counts: np.ndarray, contributors: np.ndarray, rules: Rules) -> np.ndarray:
    small = (counts > 0) & ((counts < rules.min_cell) | (contributors < rules.min_registries))
    return small | ((counts == 0) & rules.hides_zeros)
