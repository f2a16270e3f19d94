"""Tables of one query that have variables in common: each hides its small cells on its own, and together they may give them back.

How this works. Two tables that both have sex and treatment class say the same about these two, but may hide other cells beside the small
ones: what the one hides the other may show, and a small cell follows by subtraction (measured with three-way tables beside their two-way
ones: in 27 of 28 random ones). So of two questions that show the table of the same variables in different ways, the later one is refused
where that table has a cell of fewer than the smallest; and where one of them divides it further, as the smaller table is then a margin
that the larger one does not know of. Ways that agree on what they hide are let through: sizes of groups are suppressed alike by all
analyses, and what is shown by group and level is decided alike in all Tables 1.

The counts are those of `overlaps`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..data.dictionary import MOST_GROUPS, Dictionary
from ..sums.statistic import Sums
from .few_valued import few_in
from .overlaps import Compared
from .release import Declared, Tabled, Trees
from .rules import Rules

MOST_SEEN = 2               # variables whose joint table round 0 counts


def tabled(shown: Sequence[Declared]) -> set[Tabled]:
    """The tables of a question."""
    return {table for one in shown for table in one.tables()}


def linked(k: int, questions: Sequence[Sequence[Declared]], many: Sequence[tuple[Compared, Sums]],
           dictionary: Dictionary, rules: Rules) -> str | None:
    """In words, the variables whose table, with small cells, question k shows otherwise than a question
    before it; None if there are none.

    questions : per question, what it declares. many : what is compared, with its totals.
    """
    if rules.min_cell <= 1:
        return None
    mine = tabled(questions[k])
    for j in range(k):
        if questions[j] == questions[k]:
            continue
        for one, other in itertools.product(mine, tabled(questions[j])):
            common = one.names & other.names
            if not common or _agree(one, other, common):
                continue
            if (implied := {one.implied, other.implied} & common) and not _few(implied, (j, k), many, dictionary):
                continue
            if _divides(one, other, common) or any(
                    _hides(*cells, rules) for q in (j, k) for cells in _cells(q, common, many, dictionary)):
                return " and ".join(f'"{name}"' for name in sorted(common))
    return None


def grown_again(k: int, questions: Sequence[Sequence[Declared]]) -> str | None:
    """In words, the covariates that question k grows trees on after another question has done so; None if it does not.

    The leaves of small models are counts of patients in boxes, to the last one: learning rates scale the same leaf, and their roundings
    narrow it down. Each leaf holds enough, but bins and settings move the boxes, and two of them may differ by a few patients.
    """
    for mine in (one for one in questions[k] if isinstance(one, Trees)):
        for other in (one for some in questions[:k] for one in some if isinstance(one, Trees)):
            common = {*mine.covariates} & {*other.covariates}
            if other != mine and common:
                return " and ".join(f'"{name}"' for name in sorted(common))
    return None


def _agree(a: Tabled, b: Tabled, common: frozenset[str]) -> bool:
    """Whether two tables hide the same of what they have in common.

    Moments of a number beside its own table say how what is hidden there is spread over its values.
    """
    if (a.implied in common) != (b.implied in common):
        return False
    ways = {a.hides, b.hides}
    if ({a.merged, b.merged} - {""}) & common:
        return ways == {"merged"}
    if len(common) == 1 and all(one.hides != "cells" or len(one.names) == 1 for one in (a, b)):
        return True
    return "cells" not in ways and (len(ways) == 1 or len(common) == 1)


def _few(names: set[str], questions: Sequence[int], many: Sequence[tuple[Compared, Sums]], dictionary: Dictionary) -> bool:
    """Whether one of these numbers has few values, in one of the groups in which a question counts its values.

    A number that is cut into bins counts as one: how its values lie within them is not counted here.
    """
    for one, totals in many:
        for grouping in (each for q in questions for each in one.shown[q]):
            if grouping.column not in names or not grouping.axis.plain:
                continue
            if not dictionary.bins(grouping.column, most=MOST_GROUPS).atoms:
                return True
            people, _ = one.counts(grouping, totals, dictionary)
            known = people[:, :-1] if grouping.axis.unknown else people
            if any(few_in(row) for row in known if row.any()):
                return True
    return False


def _divides(a: Tabled, b: Tabled, common: frozenset[str]) -> bool:
    """Whether cells of the one are parts of what the other shows as a cell, or may be."""
    return len(common) > 1 and max(len(a.names), len(b.names)) > MOST_SEEN


def _hides(people: np.ndarray, contributors: np.ndarray, rules: Rules) -> bool:
    """Whether a table has a cell that is hidden for its own sake, somebody being in it."""
    return bool(((people > 0) & ((people < rules.min_cell) | (contributors < rules.min_registries))).any())


def _cells(q: int, names: frozenset[str], many: Sequence[tuple[Compared, Sums]], dictionary: Dictionary
           ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Patients in the cells of the table of one or two variables, over the complete cases of question q, and contributing registries."""
    found: Mapping[str | None, tuple[Compared, Sums]] = {one.by: (one, totals) for one, totals in many}
    first, *others = sorted(names)
    by, column = (first, others[0]) if others else (None, first)
    for divided, name in ((by, column), (column, by)):
        if divided not in found or (others and name is None):
            continue
        one, totals = found[divided]
        for grouping in one.shown[q]:
            if grouping.column == name:
                yield one.counts(grouping, totals, dictionary)
                return
