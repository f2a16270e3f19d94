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
from typing import Literal, NamedTuple

import numpy as np

from .analyses.boosting.params import BoostParams
from .analyses.crosstab import CrosstabParams
from .analyses.histogram import HistogramParams
from .analyses.severity import SeverityParams
from .analyses.table_one import TableOneParams
from .analyses.validation.params import ValidationParams
from .analysis import Params
from .dictionary import Dictionary
from .disclosure import Rules
from .overlaps import DIVIDING, Compared, Grouping, named
from .statistic import Sums

Way = Literal["cells", "bins", "bands", "levels", "groups"]
MOST_SEEN = 2               # variables whose joint table round 0 counts


class Tabled(NamedTuple):
    """A table that a question shows: its variables, and by which way of hiding. bins : the one whose neighbouring bins are merged."""

    names: frozenset[str]
    way: Way
    bins: str | None = None


def tabled(params: Params, shown: Sequence[Grouping]) -> set[Tabled]:
    """The tables of a question. shown : what it shows groups of."""
    if isinstance(params, CrosstabParams):
        return {Tabled(frozenset(params.variables), "cells")}
    names, by = {one.column for one in shown}, named(params, DIVIDING)
    if isinstance(params, HistogramParams):
        return {Tabled(frozenset({params.column, *by}), "bins", params.column)}
    if isinstance(params, SeverityParams):
        return {Tabled(frozenset({params.edss}), "bands", params.edss)}
    if isinstance(params, TableOneParams):
        return {Tabled(frozenset({name, *by}), "levels") for name in names}
    if not by or hasattr(params, "terms"):
        return set()
    if isinstance(params, ValidationParams):        # divides everybody by each in turn
        return {Tabled(frozenset({name, one}), "groups") for name in names - by for one in by}
    return {Tabled(frozenset({name, *by}), "groups") for name in names}


def linked(k: int, params: Sequence[Params], many: Sequence[tuple[Compared, Sums]], dictionary: Dictionary, rules: Rules) -> str | None:
    """In words, the variables whose table, with small cells, question k shows otherwise than a question before it; None if there are none.

    many : what is compared, with its totals.
    """
    everybody = next((one for one, _ in many if one.by is None), None)
    if rules.min_cell <= 1 or everybody is None:
        return None
    mine = tabled(params[k], everybody.shown[k])
    for j in range(k):
        if params[j] == params[k]:
            continue
        for one, other in itertools.product(mine, tabled(params[j], everybody.shown[j])):
            common = one.names & other.names
            if common and not _agree(one, other, common) and (_divides(one, other, common) or any(
                    _hides(*cells, rules) for q in (j, k) for cells in _cells(q, common, many, dictionary))):
                return " and ".join(f'"{name}"' for name in sorted(common))
    return None


def grown_again(k: int, params: Sequence[Params]) -> str | None:
    """In words, the covariates that question k grows trees on after another question has done so; None if it does not.

    The leaves of small models are counts of patients in boxes, to the last one: learning rates scale the same leaf, and their roundings
    narrow it down. Each leaf holds enough, but bins and settings move the boxes, and two of them may differ by a few patients.
    """
    mine = params[k]
    if not isinstance(mine, BoostParams):
        return None
    for other in params[:k]:
        if isinstance(other, BoostParams) and other != mine and (common := {*mine.covariates} & {*other.covariates}):
            return " and ".join(f'"{name}"' for name in sorted(common))
    return None


def _agree(a: Tabled, b: Tabled, common: frozenset[str]) -> bool:
    """Whether two tables hide the same of what they have in common."""
    ways = {a.way, b.way}
    if {a.bins, b.bins} & common:
        return ways == {"bins"}
    if len(common) == 1 and all(one.way != "cells" or len(one.names) == 1 for one in (a, b)):
        return True
    return "cells" not in ways and (len(ways) == 1 or len(common) == 1)


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
