"""What a regression tells of an outcome of few values: its mean and SD, which are a table of people.

How this works. A model with an intercept only is the mean and SD of its outcome; one with factors only, a table
of means with a common SD. Beside a covariate of many values coefficients are averages, but the null deviance is
still the SD of everybody. So the values of such an outcome are counted, by each factor, and where their table
might not be shown, a model of factors is refused, and any other keeps what belongs to its null model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...disclosure import Rules
from ...disclosure.release import few_levels
from ...errors import Refused
from ...formula.terms import Term, variables_of
from ...sums.statistic import Ask, Block, Sums, statistic
from ..shared.common import group_of, groups, integer_bound
from ..shared.implied import count_blocks, counts_of, silent
from .model_cells import factor_names, people_at, selecting, weighed


def _layout(dictionary: Dictionary, *, outcome: str, by: str | None = None, **_: Any) -> dict[str, Block]:
    g, variable = len(groups(dictionary, by)) if by else 1, dictionary.numeric(outcome)
    return {"n": Block((g,), integer=True), "x0": Block((g,), integer_bound(variable), integer=True),
            "xx0": Block((g,), integer_bound(variable, 2), integer=True), **count_blocks(variable, 0, g)}


@statistic("outcome_moments/1", layout=_layout)
def outcome_moments(rows: Rows, outcome: str, columns: Sequence[str], by: str | None = None, weights: Any = None) -> dict:
    """Per group: rows, sum and sum of squares of the outcome in whole steps, and people per value of it; complete cases of
    `columns`, those of weight 0 aside."""
    cases = weighed(rows.complete(columns), weights)
    group = group_of(cases, by) if by else np.zeros(cases.n, dtype=np.int64)
    g, x = len(groups(rows.dictionary, by)) if by else 1, cases.steps(outcome)
    sums = {"n": np.bincount(group, minlength=g), "x0": np.zeros(g, dtype=np.int64), "xx0": np.zeros(g, dtype=np.int64)}
    np.add.at(sums["x0"], group, x)
    np.add.at(sums["xx0"], group, x * x)
    ((name, block),) = count_blocks(rows.dictionary[outcome], 0, g).items()
    if cases.person is None:
        return sums | counts_of(cases, outcome, 0, group, g)
    size = block.shape[1]
    place = x if name == "levels0" else np.where(x <= 0, 0, np.where(x >= integer_bound(rows.dictionary[outcome]), size - 1, 1))
    return sums | {name: people_at(cases, group * size + place, g * size).reshape(g, size)}


class Implied:
    """The outcome of a model as a table in disguise. asked : for what it must be counted by; nothing where it has no steps, or where
    weights or an offset of many values make every row another one."""

    def __init__(self, outcome: str, terms: Sequence[Term], selectors: Sequence[str], dictionary: Dictionary) -> None:
        variable = dictionary[outcome]
        self.variable, factors = variable, factor_names(terms, dictionary)
        self.factors_only = set(variables_of(terms)) <= set(factors)
        whole = variable.is_numeric and variable.steps is not None and not few_levels(variable)
        self.asked: tuple[str | None, ...] = ()
        if whole and set(selectors) <= set(selecting(selectors, dictionary)):
            self.asked = (None, *factors) if self.factors_only else (None,)

    def asks(self, columns: Sequence[str], weights: Any) -> list[Ask]:
        return [outcome_moments(outcome=self.variable.name, columns=list(columns), by=by, weights=weights) for by in self.asked]

    def check(self, totals: Sequence[Sums], rules: Rules) -> bool:
        """Whether what belongs to the null model may be told. Raises Refused for a model of factors that may not be told at all."""
        kept = [silent(one, 0, self.variable, np.zeros(len(one["n"]), dtype=bool), rules).spreads.any() for one in totals]
        if not any(kept):
            return True
        if self.factors_only:
            raise Refused(f'"{self.variable.name}" has few values, and a model of it by groups is the table of these: a value has fewer '
                          f"than {rules.min_cell} patients (rule few values, min_cell)",
                          hint="ask compare for the means, which may stand alone, or rates for events; or widen the cohort")
        return False

