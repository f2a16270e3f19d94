"""For method work: what training together is worth, against each registry alone, bagging, and a registry that was left out.

Over a network only the joint model exists: a local model is one registry's own, and a fit without a registry gives it away by subtraction
(DISCLOSURE, "no site selectors"). So this takes federations of `pooled` and `simulate` only, where all rows lie in one process anyway, and
computes without a seal and without release rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..analyses.boosting.model import RiskModel
from ..analyses.boosting.objectives import LOGISTIC
from ..analyses.shared.folds import fold_of
from ..analyses.shared.scores import BINS, auc, bin_of_margin, risk_of
from ..analyses.validation.sums import logits_of
from ..client.federation import Cohort, Federation
from ..client.worlds import Pooled
from ..data.filters import keep
from ..data.rows import Rows
from ..disclosure import NO_RULES
from ..errors import QuestionError
from ..query.population import Codebook, Household

JOINT, LOCAL, ABROAD, BAGGED, LEFT_OUT = "joint", "local only", "local for all", "bagged", "left out"
WAYS = (JOINT, LOCAL, ABROAD, BAGGED, LEFT_OUT)


class Way(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good one way of training is for patients that were not used. registries : AUC per registry, of its own patients."""

    how: str
    auc: float
    brier: float
    registries: dict[str, float]


def compare_ways(cohort: Cohort, outcome: str, covariates: Sequence[str], *, folds: int = 5, seed: int = 0, **training: Any
                 ) -> tuple[Way, ...]:
    """Ways of training a model of a yes or no, all judged on the same held-out patients, fold by fold.

    joint : one model over all registries. local only : each registry's patients by its own model. local for all : everybody's patients by
    one registry's model, the mean over registries. bagged : the mean risk of all local models. left out : each registry's patients by a
    model of all other registries. training : as in `boost`.
    Raises QuestionError for a federation over a network.
    """
    data = getattr(cohort._federation._world, "data", None)
    if not isinstance(data, Mapping):
        raise QuestionError("local models and fits without a registry exist in pooled and simulate only",
                            hint="over a network ask boost and validation: their result has the spread between registries")
    if training.get("objective", LOGISTIC) != LOGISTIC or len(data) < 2:
        raise QuestionError("this compares models of a yes or no over at least two registries")
    rows = {name: _cases(one, cohort, outcome) for name, one in data.items()}
    fold = {name: fold_of(one, seed, folds) for name, one in rows.items()}
    risks = {how: {name: np.zeros(one.n) for name, one in rows.items()} for how in WAYS if how != ABROAD}
    abroad = {owner: {name: np.zeros(one.n) for name, one in rows.items()} for owner in rows}
    for k in range(folds):
        seen = {name: one.where(fold[name] != k) for name, one in rows.items()}
        held = {name: one.where(fold[name] == k) for name, one in rows.items()}

        def model(names: Sequence[str], seen: dict[str, Rows] = seen) -> RiskModel:
            return _trained({name: seen[name] for name in names}, outcome, covariates, seed=seed, **training)

        joint, own = model(list(rows)), {name: model([name]) for name in rows}
        for name, patients in held.items():
            here = fold[name] == k
            risks[JOINT][name][here] = _risk(joint, patients)
            for owner, one in own.items():
                abroad[owner][name][here] = _risk(one, patients)
            risks[LOCAL][name][here] = abroad[name][name][here]
            risks[BAGGED][name][here] = np.mean([abroad[owner][name][here] for owner in own], axis=0)
            risks[LEFT_OUT][name][here] = _risk(model([other for other in rows if other != name]), patients)
    y = {name: one.steps(outcome) == 1 for name, one in rows.items()}
    found = {how: _way(how, one, y) for how, one in risks.items()} | {ABROAD: _mean([_way(ABROAD, one, y) for one in abroad.values()])}
    return tuple(found[how] for how in WAYS)


def _cases(data: Any, cohort: Cohort, outcome: str) -> Rows:
    rows = data.rows(cohort.recipe)
    return rows.where(keep(cohort.where, rows)).complete([outcome])


def _trained(rows: Mapping[str, Rows], outcome: str, covariates: Sequence[str], **training: Any) -> RiskModel:
    first = next(iter(rows.values()))
    world = Pooled(Codebook(first.dictionary), {name: Household(one) for name, one in rows.items()}, {}, NO_RULES)
    return Federation(world).cohort().boost(outcome, list(covariates), **training)


def _risk(model: RiskModel, rows: Rows) -> np.ndarray:
    return risk_of(logits_of(model, rows, None))


def _way(how: str, risks: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> Way:
    p, happened = (np.concatenate([one[name] for name in risks]) for one in (risks, y))
    own = {name: _area(risks[name], y[name]) for name in risks}
    return Way(how, _area(p, happened), float(((p - happened) ** 2).mean()), own)


def _mean(ways: Sequence[Way]) -> Way:
    auc, brier = (float(np.mean([getattr(one, name) for one in ways])) for name in ("auc", "brier"))
    own = {name: float(np.mean([one.registries[name] for one in ways])) for name in ways[0].registries}
    return Way(ways[0].how, auc, brier, own)


def _area(risk: np.ndarray, y: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        place = bin_of_margin(np.log(risk / (1 - risk)))
    return auc(*(np.bincount(place[y == k], minlength=BINS) for k in (False, True)))
