"""Release rules: what may be said about totals, the same at every registry, decided on integers only.

How this works (closure): totals are suppressed or merged *first*; every released number is computed from the surviving
totals only; what cannot be computed from them is not released. So an analysis hands its totals to one of the functions here
and goes on with what comes back: `show_table` for tables of people, `intervals` for grids and ordered levels, `may_imply`
for means that are tables in disguise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ..data.native import native
from ..errors import InputError, Refused

FLOOR_CELL, FLOOR_REGISTRIES, FLOOR_COHORT = 5, 3, 50    # `connect` goes no lower, whatever a roster says
FEW_LEVELS = 5              # a mean and SD over at most this many levels are the table of the levels in disguise


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shared release rules of a consortium.

    min_cell : smallest number of people in a released cell (anchors: DataSHIELD 3, OHDSI 5, ACRO 10, CMS 11).
    min_cohort : smallest number of patients a question may be about.
    min_registries : fewest registries that must have people in a released cell, and in a question.
    show_zeros : whether empty cells may be shown as 0.
    rounding : whether released numbers end where one person's part of them begins (`precision`).
    """

    min_cell: int = 10
    min_cohort: int = 50
    min_registries: int = 3
    show_zeros: bool = False
    rounding: bool = True

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            msgspec.structs.force_setattr(self, name, native(getattr(self, name)))
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
    if n == 0 and max(rules.min_cohort, rules.min_cell) == 1:
        raise Refused(f"nobody is in {what} with all columns known",
                      hint="widen the filter, or leave out columns that are often missing")
    if n < max(rules.min_cohort, rules.min_cell):
        rule, least = max(("min_cell", rules.min_cell), ("min_cohort", rules.min_cohort), key=lambda one: one[1])
        if least == 1:
            raise Refused(f"nobody is in {what} with all columns known",
                          hint="widen the filter, or leave out columns that are often missing; whoever has records that cannot be "
                          "read or contradict each other is left out where they matter: fedstats dictionary check counts them")
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
