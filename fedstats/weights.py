"""Weights of rows: a column of the table, or inverse probabilities of treatment from a fitted propensity model.

    propensity = c.glm("treated ~ age + edss + relapses_12m", family="binomial")
    c.cox("Surv(days, event) ~ treated", weights=propensity.inverse_probability())

Inverse probabilities are computed where the rows are, from the released coefficients of a logistic or multinomial model: no patient's
propensity leaves. Robins, Hernán & Brumback (2000), Epidemiology 11:550-560; truncation: Cole & Hernán (2008), Am J Epidemiol 168:656-664.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from scipy import special

from .dictionary import Dictionary
from .errors import QuestionError
from .rows import Rows
from .terms import Design, Term, levels_of, variables_of

LEAST_BOUND = 2.0**-30
MOST_WEIGHT = 1000.0
STEEPEST = 100.0            # log odds of treatment over the whole range of a column


class InverseProbability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights 1 / P(the treatment that was given | terms).

    treatment : a boolean, or 0 and 1; with levels a category. terms, drop, coefficients : of the propensity model, intercept first,
    columns as they are.
    share : of treated patients, for stabilised weights; None: not stabilised. estimand : "ate" weighs everybody to the whole cohort,
    "att" the untreated to the treated. most : weights are truncated here. levels : of a category, as the multinomial model has them;
    coefficients are then those of all but the first, level by level, and who has another level weighs nothing.
    """

    treatment: str
    terms: tuple[Term, ...]
    coefficients: tuple[float, ...]
    drop: tuple[str, ...] = ()
    share: float | None = None
    estimand: Literal["ate", "att"] = "ate"
    most: float = 20.0
    levels: tuple[str, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.treatment, *variables_of(self.terms)]))

    def values(self, rows: Rows) -> np.ndarray:
        """The weight of each complete case, shape (n,)."""
        design = Design.of(self.terms, rows.dictionary, drop=self.drop)
        columns = design.plain(rows)
        if self.levels:
            return self._of_levels(rows, columns)
        eta = columns @ np.array(self.coefficients)
        treated = rows.values(self.treatment) == 1
        if self.estimand == "att":
            found = np.where(treated, 1.0, np.exp(np.minimum(eta, 700.0)))
        else:
            share = (1.0, 1.0) if self.share is None else (1 - self.share, self.share)
            # 1 / expit(x) = 1 + exp(-x)
            found = np.where(treated, share[1], share[0]) * (1.0 + np.exp(np.minimum(np.where(treated, -eta, eta), 700.0)))
        return np.minimum(found, self.most)

    def _of_levels(self, rows: Rows, columns: np.ndarray) -> np.ndarray:
        labels, codes = levels_of(self.treatment, rows.dictionary)
        own = [codes[labels.index(level)] for level in self.levels]
        eta = columns @ np.array(self.coefficients).reshape(len(own) - 1, -1).T
        log_p = special.log_softmax(np.column_stack([np.zeros(len(eta)), eta]), axis=1)
        got = rows.bins(self.treatment)[:, None] == np.array(own)
        return np.minimum((got * np.exp(np.minimum(-log_p, 700.0))).sum(axis=1), self.most)


@dataclass(frozen=True)
class Weighting:
    """Weights as a model uses them: the variables they need, the largest one, and how rows give them."""

    variables: tuple[str, ...]
    high: float
    values: Callable[[Rows], np.ndarray]

    @staticmethod
    def of(source: Any, dictionary: Dictionary) -> Weighting | None:
        """source : a variable's name, an `InverseProbability` (or its plain form), or None. Raises QuestionError."""
        if source is None:
            return None
        if isinstance(source, str):
            entry = dictionary.numeric(source)
            if not entry.low >= 0:
                raise QuestionError(f'"{source}" may be negative: weights are 0 or more', hint="let its range start at 0 in the dictionary")
            return Weighting((source,), max(entry.high, LEAST_BOUND), lambda rows: rows.values(source))
        made = read_inverse(source)
        entry = dictionary[made.treatment]
        if made.levels:
            _check_levels(made, dictionary)
        elif entry.steps != 1 or entry.ends != (0.0, 1.0):
            raise QuestionError(f'"{made.treatment}" has more than two levels: inverse probabilities are of a treatment given or not',
                                hint="for several levels take those of a multinomial model")
        if len(Design.of(made.terms, dictionary, drop=made.drop)) * max(len(made.levels) - 1, 1) != len(made.coefficients):
            raise QuestionError("the coefficients of the propensity model do not fit its terms")
        _check_slopes(made, dictionary)
        if not 1 <= made.most <= MOST_WEIGHT or not (made.share is None or 0 < made.share < 1):
            raise QuestionError(f"weights are truncated between 1 and {MOST_WEIGHT:g}, and the share of treated lies between 0 and 1")
        return Weighting(made.variables, made.most, made.values)


def _check_slopes(made: InverseProbability, dictionary: Dictionary) -> None:
    """The coefficients are the analyst's to state, and a steep one is a threshold that can be slid over a single patient: two weighted
    means would differ by him. Raises QuestionError."""
    design = Design.of(made.terms, dictionary, drop=made.drop)
    for k, coefficient in enumerate(made.coefficients):
        j = k % len(design)
        if abs(coefficient) * (design.high[j] - design.low[j]) > STEEPEST:
            raise QuestionError(f'the propensity changes too fast with "{design.names[j]}": more than {STEEPEST:g} log odds in all',
                                hint="leave that term out, or give its variable a narrower range in the dictionary")


def _check_levels(made: InverseProbability, dictionary: Dictionary) -> None:
    known = levels_of(made.treatment, dictionary)[0]
    if len(made.levels) < 2 or len(set(made.levels)) < len(made.levels) or not set(made.levels) <= set(known):
        raise QuestionError(f'the levels of the propensity model are not those of "{made.treatment}"', hint="levels: " + ", ".join(known))
    if made.share is not None or made.estimand != "ate":
        raise QuestionError("inverse probabilities of several levels weigh everybody to the whole cohort, and are not stabilised")


def weight_variables(source: str | InverseProbability | None) -> tuple[str, ...]:
    """The variables that weights need."""
    return () if source is None else (source,) if isinstance(source, str) else source.variables


def read_inverse(source: Any) -> InverseProbability:
    """Inverse-probability weights from plain data. Raises QuestionError."""
    try:
        return msgspec.convert(msgspec.to_builtins(source), InverseProbability, strict=True)
    except msgspec.ValidationError as error:
        raise QuestionError(f"these weights cannot be read: {error}") from None
