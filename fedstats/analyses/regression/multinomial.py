"""Multinomial logistic regression: as nnet::multinom fits it on the pooled table, converged further.

log(P(Y = j) / P(Y = first)) = x'b_j, the first level being the reference. Agresti (2013), Categorical Data Analysis, section 8.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy import special

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...formula.terms import Design, Term
from ...formula.weights import InverseProbability
from ...query.analysis import Joint, Setting, analysis
from ...sums import steady
from ...sums.statistic import Ask, Block, statistic
from ..shared.common import CONFIDENCE
from .levelled import Levelled, LevelledParams, Levels, content, fitted, meat_of, read_call
from .newton import metered
from .ranges import as_tuples, narrowed


def _layout(dictionary: Dictionary, *, columns: Sequence[str], terms: Sequence[Any], outcome: str, codes: Sequence[int],
            point: Sequence[float], drop: Sequence[str] = (), last: bool = False,
            ranges: Sequence[Sequence[Any]] = ()) -> dict[str, Block]:
    design = Design.of(terms, narrowed(dictionary, as_tuples(ranges)), drop=drop)
    p, q, far = len(design), len(point), 0.0
    for k in range(len(codes) - 1):
        low, high = design.eta_range(point[k * p:(k + 1) * p])
        far = max(far, -low, high)
    triangle = q * (q + 1) // 2
    # |log P| is at most the spread of the linear predictors and the log of the number of levels
    blocks = {"likelihood": Block((), steady.power_of_two(2 * far + 3)), "score": Block((q,)), "information": Block((triangle,), 0.25)}
    if last:
        blocks |= {"meat": Block((triangle,), steady.power_of_two(float(dictionary.most_rows))), "rows": Block((), integer=True)}
    return blocks


@statistic("multinomial/1", layout=_layout)
def multinomial_sums(rows: Rows, columns: Sequence[str], terms: Sequence[Any], outcome: str, codes: Sequence[int],
                     point: Sequence[float], drop: Sequence[str] = (), last: bool = False,
                     ranges: Sequence[Sequence[Any]] = ()) -> dict:
    """Log likelihood, score and information of the scaled coefficients of all levels but the first, level by level."""
    design = Design.of(terms, narrowed(rows.dictionary, as_tuples(ranges)), drop=drop)
    data = Levels.of(rows, columns, design, outcome, codes)
    p, q, n = len(design), len(point), len(data.place)
    B = np.asarray(point, dtype=float).reshape(-1, p)
    eta = np.column_stack([np.zeros(n), data.X @ B.T])
    log_p = special.log_softmax(eta, axis=1)
    share = np.exp(log_p[:, 1:])
    residual = (data.place[:, None] == np.arange(1, len(codes))) - share
    scores = (residual[:, :, None] * data.X[:, None, :]).reshape(n, q)
    information = np.zeros((q, q))
    for j in range(len(B)):
        for k in range(len(B)):
            weight = share[:, j] * ((j == k) - share[:, k])
            information[j * p:(j + 1) * p, k * p:(k + 1) * p] = (data.X.T * weight) @ data.X
    found = {"likelihood": log_p[np.arange(n), data.place].sum(), "score": scores.sum(axis=0),
             "information": information[np.triu_indices(q)]}
    if last:
        found |= {"meat": meat_of(scores, data.person), "rows": n}
    return found


class Multinomial(Levelled, frozen=True, kw_only=True):
    """Coefficients level by level under names such as "age[high vs none]"; see `Levelled`. An odds ratio is against the first level."""

    kind: ClassVar[str] = "multinomial"

    def inverse_probability(self, *, most: float = 20.0) -> InverseProbability:
        """Weights for another model from this propensity model of a treatment with several levels: 1 / P(the level that was given), not
        stabilised. most : weights are truncated there."""
        return InverseProbability(self.outcome, self.terms, tuple(one.coef for one in self.coefficients), self.dropped, most=float(most),
                                  levels=self.levels)

    def predict(self, new: Any) -> Any:
        """Probabilities of the levels for new patients: DataFrame, one column per level; NaN where a value is missing."""
        X, known = self.columns_for(new, intercept=True)
        B = np.array([one.coef for one in self.coefficients]).reshape(-1, X.shape[1])
        return self.probabilities(known, special.softmax(np.column_stack([np.zeros(len(X)), X @ B.T]), axis=1))


def _call(formula: str | None = None, *, outcome: str | None = None, covariates: Sequence[str | Term] | str = (),
          confidence: float = CONFIDENCE) -> LevelledParams:
    """multinomial("phenotype ~ age + sex") or multinomial(outcome="phenotype", covariates=["age", "sex"])"""
    return LevelledParams(*read_call(formula, outcome, covariates), confidence=confidence)


@analysis("multinomial/1", params=LevelledParams, result=Multinomial, call=_call)
def multinomial(params: LevelledParams, setting: Setting) -> Joint:
    """Multinomial logistic regression of an outcome with unordered levels against its first level, as nnet::multinom."""

    def make(model: dict[str, Any], point: list[float], last: bool) -> Ask:
        return multinomial_sums(point=point, last=last, **model)

    def names(design: Design, levels: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{name}[{level} vs {levels[0]}]" for level in levels[1:] for name in design.names)

    def start(design: Design, counts: np.ndarray) -> list[float]:
        logs = [steady.log(float(count)) for count in counts.tolist()]
        return [value for one in logs[1:] for value in (one - logs[0], *[0.0] * (len(design) - 1))]

    found, cost = yield from metered(fitted(params, setting, intercept=True, make=make, names=names, start=start), setting)
    p, others = len(found.design), len(found.levels) - 1
    T = np.kron(np.eye(others), found.design.back)
    groups = {label: tuple(k * p + place for k in range(others) for place in places) for label, places in found.design.terms.items()}
    shared = content(params, setting, found, T, groups)
    return Multinomial(**(shared | {"cost": cost, "methods": "Multinomial logistic regression, fitted by Newton's method to the sums over "
                                    f"all registries; model-based standard errors, {params.confidence:.0%} intervals."}))
