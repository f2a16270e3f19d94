"""Weights of rows: a column of the table, or inverse probabilities of treatment from a fitted propensity model.

    propensity = c.glm("treated ~ age + edss + relapses_12m", family="binomial")
    c.cox("Surv(days, event) ~ treated", weights=propensity.inverse_probability())

How this works: inverse probabilities are computed where the rows are, from the released coefficients of a logistic or multinomial model:
no patient's propensity leaves. If the propensity model has an intercept per registry (`strata(registry)`), no intercept has been released:
each registry works out its own again, from the released slopes and the rows of the question, and keeps it. Such weights look at all rows
of a registry at once, so sums weighted by them add up over registries, not over patients.

Robins, Hernán & Brumback (2000), Epidemiology 11:550-560; truncation: Cole & Hernán (2008), Am J Epidemiol 168:656-664.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from scipy import special

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..errors import QuestionError
from .terms import Design, Term, levels_of, variables_of

LEAST_BOUND = 2.0**-30
MOST_WEIGHT = 1000.0
STEEPEST = 100.0            # log odds of treatment over the whole range of a column
MOST_STEPS, SETTLED = 200, 1e-15
OWN_INTERCEPTS = (
    "weights: each registry has an intercept of its own in the propensity model, worked out there from the slopes and its "
    "patients of this question, and never released; where everybody or nobody is treated, nobody weighs anything"
)
TO_THE_TREATED = "weights to the treated (att): 1 for the treated, the odds of treatment for the untreated, not stabilised"
STABILISED_ATT = "weights to the treated (att) are not stabilised: the treated weigh 1 as they are, the untreated their odds of treatment"


class InverseProbability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights 1 / P(the treatment that was given | terms).

    treatment : a boolean, or 0 and 1; with levels a category. terms, drop, coefficients : of the propensity model, intercept first,
    columns as they are.
    share : of treated patients, for stabilised weights; None: not stabilised. That of all registries together, also by registry: shares of
    their own would leave treatment and registry dependent. estimand : "ate" weighs everybody to the whole cohort, "att" the untreated to
    the treated. most : weights are truncated here. levels : of a category, as the multinomial model has them; coefficients are then those
    of all but the first, level by level, and who has another level weighs nothing.
    by_registry : there is no intercept among the coefficients, each registry has its own (`own_intercept`). Where everybody or nobody is
    treated there is nothing to compare, and nobody weighs anything, as the propensity model does not hear of that registry either.
    """

    treatment: str
    terms: tuple[Term, ...]
    coefficients: tuple[float, ...]
    drop: tuple[str, ...] = ()
    share: float | None = None
    estimand: Literal["ate", "att"] = "ate"
    most: float = 20.0
    levels: tuple[str, ...] = ()
    by_registry: bool = False

    def design(self, dictionary: Dictionary) -> Design:
        """The columns of the propensity model."""
        return Design.of(self.terms, dictionary, intercept=not self.by_registry, drop=self.drop)

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.treatment, *variables_of(self.terms)]))

    def values(self, rows: Rows) -> np.ndarray:
        """The weight of each complete case, shape (n,)."""
        columns = self.design(rows.dictionary).plain(rows)
        if self.levels:
            return self._of_levels(rows, columns)
        eta = columns @ np.array(self.coefficients)
        treated = rows.values(self.treatment) == 1
        if self.by_registry:
            intercept = own_intercept(eta, treated)
            if intercept is None:
                return np.zeros(rows.n)
            eta = eta + intercept
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


def own_intercept(eta: np.ndarray, treated: np.ndarray) -> float | None:
    """The intercept of one registry's propensities: at which as many are expected to be treated as are, sum expit(a + eta) = sum treated.

    It maximises the registry's likelihood beside eta. None where everybody or nobody is treated, or there is nobody. eta, treated : shape
    (n,). Newton's method within a bracket.
    """
    n, number = len(eta), int(treated.sum())
    if number in (0, n):
        return None
    middle = float(np.log(number / (n - number)))
    low, high = middle - float(eta.max()), middle - float(eta.min())        # all probabilities below, or above, the mean
    a = (low + high) / 2
    for _ in range(MOST_STEPS):
        p = special.expit(a + eta)
        excess, slope = float(p.sum()) - number, float(p @ (1 - p))
        low, high = (low, a) if excess > 0 else (a, high)
        newton = a - excess / slope if slope > 0 else low
        following = newton if low < newton < high else (low + high) / 2
        if abs(following - a) <= SETTLED * (1 + abs(a)):
            return following
        a = following
    return a


@dataclass(frozen=True)
class Weighting:
    """Weights as a model uses them: the variables they need, the largest one, and how rows give them. inverse : the propensity model, None
    for a column of the table."""

    variables: tuple[str, ...]
    high: float
    values: Callable[[Rows], np.ndarray]
    dictionary: Dictionary
    inverse: InverseProbability | None = None

    @staticmethod
    def of(source: Any, dictionary: Dictionary) -> Weighting | None:
        """source : a variable's name, an `InverseProbability` (or its plain form), or None. Raises QuestionError."""
        if source is None:
            return None
        if isinstance(source, str):
            entry = dictionary.numeric(source)
            if not entry.low >= 0:
                raise QuestionError(f'"{source}" may be negative: weights are 0 or more', hint="let its range start at 0 in the dictionary")
            return Weighting((source,), max(entry.high, LEAST_BOUND), lambda rows: rows.values(source), dictionary)
        made = read_inverse(source)
        entry = dictionary[made.treatment]
        if made.levels:
            _check_levels(made, dictionary)
        elif entry.steps != 1 or entry.ends != (0.0, 1.0):
            raise QuestionError(f'"{made.treatment}" has more than two levels: inverse probabilities are of a treatment given or not',
                                hint="for several levels take those of a multinomial model")
        if len(made.design(dictionary)) * max(len(made.levels) - 1, 1) != len(made.coefficients):
            raise QuestionError("the coefficients of the propensity model do not fit its terms")
        _check_slopes(made, dictionary)
        if made.estimand == "att" and made.share is not None:
            raise QuestionError(STABILISED_ATT, hint="leave the share out")
        if not 1 <= made.most <= MOST_WEIGHT or not (made.share is None or 0 < made.share < 1):
            raise QuestionError(f"weights are truncated between 1 and {MOST_WEIGHT:g}, and the share of treated lies between 0 and 1")
        return Weighting(made.variables, made.most, made.values, dictionary, made)


def _check_slopes(made: InverseProbability, dictionary: Dictionary) -> None:
    """The coefficients are the analyst's to state, and a steep one is a threshold that can be slid over a single patient: two weighted
    means would differ by him. Raises QuestionError."""
    design = made.design(dictionary)
    for k, coefficient in enumerate(made.coefficients):
        j = k % len(design)
        if abs(coefficient) * (design.high[j] - design.low[j]) > STEEPEST:
            raise QuestionError(f'the propensity changes too fast with "{design.names[j]}": more than {STEEPEST:g} log odds in all',
                                hint="leave that term out, or give its variable a narrower range in the dictionary")


def _check_levels(made: InverseProbability, dictionary: Dictionary) -> None:
    known = levels_of(made.treatment, dictionary)[0]
    if len(made.levels) < 2 or len(set(made.levels)) < len(made.levels) or not set(made.levels) <= set(known):
        raise QuestionError(f'the levels of the propensity model are not those of "{made.treatment}"', hint="levels: " + ", ".join(known))
    if made.share is not None or made.estimand != "ate" or made.by_registry:
        raise QuestionError("inverse probabilities of several levels weigh everybody to the whole cohort, are not stabilised, and have no "
                            "intercepts by registry")


def weight_variables(source: str | InverseProbability | None) -> tuple[str, ...]:
    """The variables that weights need."""
    return () if source is None else (source,) if isinstance(source, str) else source.variables


def weight_notes(source: Any) -> tuple[str, ...]:
    """What a result says of its weights. source : as in `Weighting.of`."""
    if source is None or isinstance(source, str):
        return ()
    made = read_inverse(source)
    return (TO_THE_TREATED,) * (made.estimand == "att") + (OWN_INTERCEPTS,) * made.by_registry



def read_inverse(source: Any) -> InverseProbability:
    """Inverse-probability weights from plain data. Raises QuestionError."""
    try:
        return msgspec.convert(msgspec.to_builtins(source), InverseProbability, strict=True)
    except msgspec.ValidationError as error:
        raise QuestionError(f"these weights cannot be read: {error}") from None
