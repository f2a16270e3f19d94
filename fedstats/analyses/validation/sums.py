"""The local halves of a validation: what a registry adds up about the risks that models give to patients they have not seen.

All sums are whole numbers, so that they do not depend on how patients are spread over registries. An ask carries the model of every fold;
each patient is scored by the model that was grown without the patient's fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...query.analysis import Size
from ...sums.statistic import Block, statistic
from ..boosting.model import RiskModel
from ..boosting.objectives import HAZARD
from ..shared.common import group_of, groups
from ..shared.folds import fold_of
from ..shared.scores import BINS, auc, auc_variance, bin_of_margin, risk_of
from ..survival.life_table import bin_of

UNIT_BITS = 24              # of a weighted risk, squared error or log-loss
WEIGHT_BITS = 20            # of a weight: those who need none count 1
LARGEST_WEIGHT = 16.0       # of a patient: horizons to which fewer than one in 16 could be followed are refused
SIZE_BANDS = (100, 300, 1000, 3000, 10_000)     # patients: a model card tells how many registries lie in each band, no size
LARGEST_LOSS = 16.0         # log-loss of one patient: risks below 1e-7 count as that


class Censoring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How patients are weighted where follow-up may end before the horizon.

    time : follow-up. ends : of its grid intervals up to the horizon. weights : in units of 2^-WEIGHT_BITS, of an event at time 0, of one
    in each interval, and, last, of those still observed at the horizon.
    """

    time: str
    ends: tuple[float, ...]
    weights: tuple[int, ...]


class Scorer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the asks of a validation share. models : one per fold, the plain content of a `RiskModel`. needs : columns that must be known.
    outcome : yes or no; the event, where `censoring` says up to when."""

    models: tuple[dict[str, Any], ...]
    seed: int
    outcome: str
    needs: tuple[str, ...]
    censoring: Censoring | None = None

    @property
    def horizon(self) -> float | None:
        return self.censoring.ends[-1] if self.censoring else None


def plain_model(model: RiskModel) -> dict[str, Any]:
    """What predicting needs of a model, as plain data."""
    found = msgspec.structs.replace(model, size=Size(0), notes=(), methods="", metrics={}, parameters={}, variables=(), events=None)
    return msgspec.to_builtins(found)


def logits_of(model: RiskModel, rows: Rows, horizon: float | None) -> np.ndarray:
    """The logit of each patient's risk, up to the horizon for hazards."""
    if model.objective != HAZARD:
        return model.margins_of(rows).astype(float)
    staying = np.zeros(rows.n)
    for end in model.ends[:model.ends.index(horizon) + 1] if horizon is not None else model.ends:
        # log(1 - hazard)
        staying -= np.logaddexp(0.0, model.margins_of(rows, at=end).astype(float))
    with np.errstate(divide="ignore"):
        return np.log(-np.expm1(staying)) - staying


@dataclass(frozen=True)
class Scored:
    """Patients of one registry with the risk that the model of the other folds gives them.

    rows : complete cases, fold by fold. margin : logits of risks. y : 0 without and 1 with the outcome, 2 censored before the horizon.
    weight : 0 for those censored.
    """

    rows: tuple[Rows, ...]
    margin: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, rows: Rows, scorer: Mapping[str, Any]) -> Scored:
        one = msgspec.convert(scorer, Scorer)
        known = np.logical_and.reduce([rows.present(name) for name in one.needs], axis=0)
        fold = fold_of(rows, one.seed, len(one.models))
        parts = [rows.where(known & (fold == k)) for k in range(len(one.models))]
        margins = [logits_of(msgspec.convert(model, RiskModel), cases, one.horizon) for model, cases in zip(one.models, parts)]
        pairs = [_outcomes(cases, one) for cases in parts]
        y, weight = (np.concatenate(both) for both in zip(*pairs))
        return cls(tuple(parts), np.concatenate(margins), y, weight)

    def members(self, by: Sequence[str]) -> np.ndarray:
        """Who is in which group, boolean, shape (groups, n)."""
        return np.concatenate([_members(cases, by) for cases in self.rows], axis=1)

    def histograms(self, where: np.ndarray, bins: int, values: np.ndarray | None = None) -> np.ndarray:
        """Sums of whole numbers per outcome and bin, int64, shape (2, bins); people by default."""
        found = np.zeros((3, bins), dtype=np.int64)
        np.add.at(found, (self.y, where), 1 if values is None else values)
        return found[:2]


def _outcomes(cases: Rows, scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    happened = cases.steps(scorer.outcome) == 1
    if scorer.censoring is None:
        return happened.astype(np.int64), np.full(cases.n, 1 << WEIGHT_BITS, dtype=np.int64)
    until, weights = len(scorer.censoring.ends), np.array(scorer.censoring.weights, dtype=np.int64)
    place = bin_of(cases.values(scorer.censoring.time), np.array([0.0, *scorer.censoring.ends]))
    y = np.where(place > until, 0, np.where(happened, 1, 2))
    return y, np.where(y == 0, weights[-1], np.where(y == 1, weights[np.minimum(place, until)], 0))


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole numbers of 2^-UNIT_BITS."""
    return np.rint(values * 2.0**UNIT_BITS).astype(np.int64)


# -- statistics ----------------------------------------------------------------------------------------------------------------------


def group_count(dictionary: Dictionary, by: Sequence[str]) -> int:
    """Everybody, and the groups of each variable, unknown included."""
    return 1 + sum(len(groups(dictionary, name, True)) for name in by)


def _members(rows: Rows, by: Sequence[str]) -> np.ndarray:
    found = [np.ones((1, rows.n), dtype=bool)]
    for name in by:
        found.append(group_of(rows, name, True)[None, :] == np.arange(len(groups(rows.dictionary, name, True)))[:, None])
    return np.concatenate(found)


def _weight_bound(scorer: Mapping[str, Any]) -> float:
    return LARGEST_WEIGHT if scorer["censoring"] else 1.0


def _scores_layout(dictionary: Dictionary, *, scorer: Mapping[str, Any], by: Sequence[str]) -> dict[str, Block]:
    G, most = group_count(dictionary, by), _weight_bound(scorer)
    blocks = {"people": Block((G, 3), counts=True), "apart": Block((G, G), counts=True), "cells": Block((G, 2, BINS), 1.0, integer=True)}
    if scorer["censoring"]:
        blocks |= {"weights": Block((G, 2, BINS), most * 2.0**WEIGHT_BITS, integer=True),
                   "squares": Block((G, 2, BINS), most * most * 2.0**WEIGHT_BITS, integer=True)}
    mean = most * 2.0**UNIT_BITS
    return blocks | {"expected": Block((G,), mean, integer=True), "brier": Block((G,), mean, integer=True),
                     "loss": Block((G,), LARGEST_LOSS * mean, integer=True)}


@statistic("scores/1", layout=_scores_layout)
def scores(rows: Rows, scorer: Mapping[str, Any], by: Sequence[str]) -> dict:
    """Per group (everybody first): people without the outcome, with it, and censored; the first two per bin of the risk, also weighted;
    sums of the risk, of its squared distance from the outcome, and of the log-loss. And for each pair of groups, how many are in one of
    them only."""
    found = Scored.of(rows, scorer)
    inside, where, p = found.members(by), bin_of_margin(found.margin), risk_of(found.margin)
    weight, happened = found.weight / 2.0**WEIGHT_BITS, found.y == 1
    loss = np.minimum(np.logaddexp(0.0, np.where(happened, -found.margin, found.margin)), LARGEST_LOSS)
    means = {"expected": _whole(weight * p), "brier": _whole(weight * (p - happened) ** 2), "loss": _whole(weight * loss)}
    both = inside.astype(np.int64) @ inside.T.astype(np.int64)
    n = np.diag(both)
    sums: dict[str, Any] = {"people": [np.bincount(found.y[own], minlength=3) for own in inside],
                            "apart": n[:, None] + n[None, :] - 2 * both,
                            "cells": np.stack([found.histograms(where, BINS, own) for own in inside])}
    if scorer["censoring"]:
        sums["weights"] = np.stack([found.histograms(where, BINS, found.weight * own) for own in inside])
        sums["squares"] = np.stack([found.histograms(where, BINS, (found.weight * found.weight >> WEIGHT_BITS) * own) for own in inside])
    return sums | {name: np.array([values[own].sum() for own in inside]) for name, values in means.items()}


def _classes_layout(dictionary: Dictionary, *, scorer: Mapping[str, Any], ends: Sequence[int]) -> dict[str, Block]:
    most, C = _weight_bound(scorer), len(ends)
    return {"people": Block((2, C), counts=True), "weights": Block((2, C), most * 2.0**WEIGHT_BITS, integer=True),
            "squares": Block((C,), most * most * 2.0**WEIGHT_BITS, integer=True),
            "expected": Block((C,), most * 2.0**UNIT_BITS, integer=True)}


@statistic("score_classes/1", layout=_classes_layout)
def score_classes(rows: Rows, scorer: Mapping[str, Any], ends: Sequence[int]) -> dict:
    """Per class of bins: people without and with the outcome, also weighted, their squared weights, and the weighted sum of the risk.

    ends : of the classes, exclusive, in bins.
    """
    found, C = Scored.of(rows, scorer), len(ends)
    where = np.searchsorted(np.array(ends), bin_of_margin(found.margin), side="right")
    squares, expected = np.zeros((2, C), dtype=np.int64)
    np.add.at(squares, where, found.weight * found.weight >> WEIGHT_BITS)
    np.add.at(expected, where, _whole(found.weight / 2.0**WEIGHT_BITS * risk_of(found.margin)))
    return {"people": found.histograms(where, C), "weights": found.histograms(where, C, found.weight), "squares": squares,
            "expected": expected}


SPREAD = ("auc", "auc_squared", "variance")


def _spread_layout(dictionary: Dictionary, *, scorer: Mapping[str, Any], fewest: int) -> dict[str, Block]:
    return {"registries": Block((), 1.0, integer=True), **{name: Block((), 2.0**UNIT_BITS, integer=True) for name in SPREAD}}


@statistic("score_spread/1", layout=_spread_layout, alone=True)
def score_spread(rows: Rows, scorer: Mapping[str, Any], fewest: int) -> dict:
    """A registry's own AUC, its square and its sampling variance, to be summed over registries; nothing where it has fewer than `fewest`
    patients with or without the outcome."""
    found = Scored.of(rows, scorer)
    where = bin_of_margin(found.margin)
    if np.bincount(found.y, minlength=3)[:2].min() < max(fewest, 2):
        return dict.fromkeys(("registries", *SPREAD), 0)
    weights = found.histograms(where, BINS, found.weight) / 2.0**WEIGHT_BITS
    squares = found.histograms(where, BINS, found.weight * found.weight >> WEIGHT_BITS) / 2.0**WEIGHT_BITS
    own, variance = auc(*weights), auc_variance(*weights, squares=squares)
    return {"registries": 1} | {name: int(_whole(np.array(value))) for name, value in zip(SPREAD, (own, own * own, min(variance, 1.0)))}


@statistic("registry_sizes/1", layout=lambda dictionary, *, columns: {"registries": Block((len(SIZE_BANDS) + 1,), 1.0, integer=True)},
           alone=True)
def registry_sizes(rows: Rows, columns: Sequence[str]) -> dict:
    """In which band of sizes this registry lies, by its complete cases; to be summed over registries. None where it has no patient."""
    n, found = rows.complete(columns).n, np.zeros(len(SIZE_BANDS) + 1, dtype=np.int64)
    found[np.searchsorted(np.array(SIZE_BANDS), n, side="right")] = n > 0
    return {"registries": found}
