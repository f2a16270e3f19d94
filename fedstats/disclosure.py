"""Release rules: what may be said about totals, the same at every registry, decided on integers only.

How this works (closure): totals are suppressed or merged *first*; every released number is computed from the surviving
totals only; what cannot be computed from them is not released. So an analysis hands its totals to one of the functions here
and goes on with what comes back: `show_table` for tables of people, `intervals` for grids and ordered levels, `may_imply`
for means that are tables in disguise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np

from .errors import InputError, Refused

FLOOR_CELL, FLOOR_REGISTRIES, FLOOR_COHORT = 5, 3, 50    # `connect` goes no lower, whatever a roster says
FEW_LEVELS = 5              # a mean and SD over at most this many levels are the table of the levels in disguise
SIGNIFICANT, DECIMALS = 4, 4    # rounding of released statistics (significant digits) and of curves (decimals)
MOST_RECONSIDERED = 200     # hidden entries of one table up to which each is tried whether it may be shown after all
MOST_CELLS = 5_000          # cells of one released table: beyond it the check for complementary suppression takes too long


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shared release rules of a consortium.

    min_cell : smallest number of people in a released cell (anchors: DataSHIELD 3, OHDSI 5, ACRO 10, CMS 11).
    min_cohort : smallest number of patients a question may be about.
    min_registries : fewest registries that must have people in a released cell, and in a question.
    show_zeros : whether empty cells may be shown as 0.
    rounding : whether released statistics are rounded (4 significant digits; curves 4 decimals).
    """

    min_cell: int = 10
    min_cohort: int = 50
    min_registries: int = 3
    show_zeros: bool = False
    rounding: bool = True

    def __post_init__(self) -> None:
        for name in ("min_cell", "min_cohort", "min_registries"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"rules: {name} must be a whole number of at least 1")

    @property
    def hides_zeros(self) -> bool:
        return self.min_cell > 1 and not self.show_zeros

    @property
    def relaxed(self) -> bool:
        """Whether any rule is below the floor that `connect` enforces."""
        return self.min_cell < FLOOR_CELL or self.min_registries < FLOOR_REGISTRIES or self.min_cohort < FLOOR_COHORT

    def sentence(self) -> str:
        """The rules as one line under a result."""
        if self == NO_RULES:
            return "no release rules"
        text = (f"cells of at least {self.min_cell} people from at least {self.min_registries} registries, "
                f"cohorts of at least {self.min_cohort}, "
                f"{'rounded' if self.rounding else 'not rounded'}{', empty cells shown' if not self.hides_zeros else ''}")
        return text + (" (rules relaxed)" if self.relaxed else "")


NO_RULES = Rules(min_cell=1, min_cohort=1, min_registries=1, show_zeros=True, rounding=False)
FLOORS = Rules(min_cell=FLOOR_CELL, min_cohort=FLOOR_COHORT, min_registries=FLOOR_REGISTRIES, show_zeros=True, rounding=False)


def strictest(many: Sequence[Rules]) -> Rules:
    """The strictest of several sets of rules, rule by rule: every house's minimum holds for all."""
    return Rules(min_cell=max(r.min_cell for r in many), min_cohort=max(r.min_cohort for r in many),
                 min_registries=max(r.min_registries for r in many), show_zeros=all(r.show_zeros for r in many),
                 rounding=any(r.rounding for r in many))


# -- gate ------------------------------------------------------------------------------------------------------------------


def gate(n: int, registries: int, rules: Rules, what: str = "the cohort") -> None:
    """Whether totals about n patients from so many contributing registries may be opened. Raises Refused, without the count."""
    if n < max(rules.min_cohort, rules.min_cell):
        rule, least = max(("min_cell", rules.min_cell), ("min_cohort", rules.min_cohort), key=lambda one: one[1])
        raise Refused(f"{what} has fewer than {least} patients with all columns known (rule {rule})",
                      hint="widen the filter, or leave out columns that are often missing; " + _line(rule, least))
    if registries < rules.min_registries:
        raise Refused(f"fewer than {rules.min_registries} registries have patients in {what} (rule min_registries)",
                      hint="widen the filter, or ask more registries; " + _line("min_registries", rules.min_registries))


def _line(rule: str, value: int) -> str:
    """Where a rule stands, for whoever may change it."""
    return f"the rule is the line {rule} = {value} under [rules] of the consortium file, or a registry's stricter one under [minima]"


def may_count(count: int, rules: Rules, contributors: int | None = None) -> bool:
    """Whether a number of people may be shown: 0 where zeros may, else at least the smallest cell from enough registries."""
    if count == 0:
        return not rules.hides_zeros
    return count >= rules.min_cell and (contributors is None or contributors >= rules.min_registries)


def safe(count: int, rules: Rules) -> bool:
    """Nobody, or at least the smallest cell: what an interval or an implied cell must hold."""
    return count == 0 or count >= rules.min_cell


def may_imply(counts: Any, contributors: Any, rules: Rules) -> bool:
    """Whether a statistic that gives away a table of people (the mean of a boolean) may be shown: every cell is safe."""
    counts, contributors = np.asarray(counts), np.asarray(contributors)
    return all(safe(int(c), rules) and (c == 0 or r >= rules.min_registries) for c, r in zip(counts.ravel(), contributors.ravel()))


# -- tables of people --------------------------------------------------------------------------------------------------------


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


def show_table(counts: np.ndarray, contributors: np.ndarray, rules: Rules, *, margins_hidden: Sequence[np.ndarray] | None = None
               ) -> Shown:
    """Suppress the small cells of a table, and enough others that nothing follows by subtraction.

    counts : people per cell, any number of dimensions. contributors : registries with people in the cell, same shape.
    Cells and one-way margins of 1..k-1 people (and of none, unless zeros may be shown), or from too few registries, are
    suppressed; then, by linear programming over everything that stays visible, further cells (smallest first) until the
    range that a reader can work out for every suppressed number is at least k wide; then those of the further ones that turn
    out not to be needed are shown again (largest first). The total is always shown.
    margins_hidden : per dimension, which margins are hidden, where that has been decided elsewhere: the others are known to a
    reader, so only cells are suppressed.

    Complementary suppression: Willenborg & de Waal (2001), Elements of Statistical Disclosure Control, chapter 4.
    """
    counts = np.ascontiguousarray(counts, dtype=np.int64)
    if counts.size > MOST_CELLS and rules.min_cell > 1:
        raise Refused(f"a table of {counts.size} cells is too large to be checked for release (at most {MOST_CELLS})",
                      hint="use fewer variables, or coarser cut points")
    table = _Entries(counts, np.asarray(contributors), rules, margins_hidden)
    table.protect()
    table.reconsider()
    cells = np.where(table.cell_hidden, Shown.HIDDEN, counts)
    margins = tuple(np.where(hidden, Shown.HIDDEN, total) for hidden, total in zip(table.margin_hidden, table.margin_totals))
    return Shown(cells, margins, int(counts.sum()))


class _Entries:
    """The cells and margins of one table, which of them are hidden, and what a reader can work out about those."""

    def __init__(self, counts: np.ndarray, contributors: np.ndarray, rules: Rules, decided: Sequence[np.ndarray] | None = None) -> None:
        self.counts, self.rules = counts, rules
        self.cell_hidden = np.ascontiguousarray(_primary(counts, contributors, rules))
        self.axes = range(counts.ndim) if counts.ndim > 1 else range(0)
        others = [tuple(a for a in range(counts.ndim) if a != axis) for axis in self.axes]
        self.margin_totals = [counts.sum(axis=axes) for axes in others]
        # a registry with people in a cell has people in its margin, so the largest cell indicator is a safe lower bound
        self.margin_hidden = [_primary(total, contributors.max(axis=axes), rules)
                              for total, axes in zip(self.margin_totals, others)]
        self.decided = decided is not None
        if decided is not None:
            self.margin_hidden = [np.array(hidden, dtype=bool) for hidden in decided]
        # what the rules hide by themselves; the rest is hidden only to protect it
        self.cell_needed, self.margin_needed = self.cell_hidden.copy(), [hidden.copy() for hidden in self.margin_hidden]

    def protect(self) -> None:
        while True:
            exposed = self._exposed()
            if exposed is None or not self._hide_beside(exposed):
                return

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
        for among in (nearby & ~self.cell_hidden, ~self.cell_hidden):
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


# -- grids and ordered levels ------------------------------------------------------------------------------------------------


def intervals(counts: np.ndarray, contributors: np.ndarray, rules: Rules, *, zeros: bool = True) -> tuple[tuple[int, int], ...]:
    """Merge neighbouring bins until each merged bin is safe to show in every row.

    counts : people, shape (rows, bins); several rows (groups, or events and censored) are cut at the same places.
    contributors : registries with people in the bin, same shape. zeros : whether an empty merged bin is safe.
    Returns half-open ranges of bins, in order; what is left over joins the last one. Empty if nothing can be shown.
    """
    counts, contributors = np.atleast_2d(counts), np.atleast_2d(contributors)
    found: list[tuple[int, int]] = []
    start = 0
    for stop in range(1, counts.shape[1] + 1):
        if _safe_range(counts, contributors, start, stop, rules, zeros):
            found.append((start, stop))
            start = stop
    while start < counts.shape[1]:
        if not found:
            return ()
        before = found.pop()[0]
        if _safe_range(counts, contributors, before, counts.shape[1], rules, zeros):
            found.append((before, counts.shape[1]))
            break
        start = before
    return tuple(found)


def _safe_range(counts: np.ndarray, contributors: np.ndarray, start: int, stop: int, rules: Rules, zeros: bool) -> bool:
    total = counts[:, start:stop].sum(axis=1)
    enough = contributors[:, start:stop].max(axis=1) >= rules.min_registries
    return bool((((total >= rules.min_cell) & enough) | ((total == 0) & zeros)).all())


def merged(counts: np.ndarray, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
    """Counts summed over ranges of bins along the last axis."""
    return np.stack([counts[..., a:b].sum(axis=-1) for a, b in ranges], axis=-1) if ranges else counts[..., :0]


# -- rounding ----------------------------------------------------------------------------------------------------------------


def rounded(content: Any, *, verbatim: frozenset[str], curves: frozenset[str], key: str = "") -> Any:
    """Released floats rounded by the roster's rule, wherever they stand in a result's plain content.

    Every float is rounded to 4 significant digits, those under a key of `curves` to 4 decimals; public things (edges,
    times, probabilities) stand under keys of `verbatim`. Full-precision floats identify the counts behind them.
    """
    if isinstance(content, dict):
        return {name: rounded(one, verbatim=verbatim, curves=curves, key=name if not key or name in verbatim | curves else key)
                for name, one in content.items()}
    if isinstance(content, (list, tuple)):
        return [rounded(one, verbatim=verbatim, curves=curves, key=key) for one in content]
    if not isinstance(content, float) or key in verbatim or not math.isfinite(content):
        return content
    if key in curves:
        return round(content, DECIMALS)
    return float(f"{content:.{SIGNIFICANT}g}")

