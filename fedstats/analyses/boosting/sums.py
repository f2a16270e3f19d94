"""The local halves of boosting: what a registry adds up for the start, for a level of a tree, for its leaves, and for the scores.

All sums are whole numbers, so that they do not depend on how patients are spread over registries. The asks carry the model so far: as
texts, one per finished tree and one for the tree that grows. (Asks do not travel: every registry derives them.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...sums import steady
from ...sums.statistic import Block, statistic
from .bins import columns
from .cases import Target, cases_of, intervals_of, read_model, read_tree
from .kernels import histograms as add_up
from .noise import REACH, noisy
from .objectives import LOGISTIC, loss
from .trees import LEAF

WEIGHT_BITS = 30        # of the largest weight: sums of weights and of weighted outcomes
RISK_BITS = 36          # of exp(margin - shift) <= 1: risk sums
LOSS_BITS = 26          # of the largest loss of a row


def most_weight(dictionary: Dictionary, target: Target) -> float:
    """The largest weight a row can have."""
    return (dictionary[target.weights].high if target.weights else 1.0) * max(1.0, target.positive)


def two_classes(target: Target) -> bool:
    """Whether leaves hold people with and without an event, which are counted apart."""
    return target.time is not None or target.objective == LOGISTIC


# -- start -----------------------------------------------------------------------------------------------------------------------


def _start_layout(dictionary: Dictionary, *, model: str, covariates: Sequence[str]) -> dict[str, Block]:
    found = read_model(model).target
    blocks = {"n": Block(counts=True)}
    if two_classes(found):
        blocks["events"] = Block(counts=True)
    if found.time:
        blocks |= {"leave": Block((len(found.ends),), counts=True), "events_in": Block((len(found.ends),), counts=True)}
    blocks |= {"weight": Block((), 2.0**WEIGHT_BITS * found.repeats, integer=True),
               "weighted": Block((), 2.0**WEIGHT_BITS * found.repeats, integer=True)}
    for k, feature in enumerate(columns(dictionary, covariates)):
        blocks[f"people{k}"] = Block((feature.bins + 1,), counts=True)
    return blocks


@statistic("boosting_start/1", layout=_start_layout)
def start(rows: Rows, model: str, covariates: Sequence[str]) -> dict:
    """People; with an event; leaving in each interval of the grid; sums of weights and of weighted outcomes, as shares of the largest;
    and people per candidate bin of every feature, those missing last. Over rows whose outcome, time and weight are known."""
    wanted, dictionary = read_model(model).target, rows.dictionary
    cases = cases_of(rows, model)
    known = rows.complete(wanted.needs)
    low, high = dictionary[wanted.outcome].ends
    unit = most_weight(dictionary, wanted) / 2.0**WEIGHT_BITS
    share = cases.y if two_classes(wanted) else (cases.y - low) / (high - low)
    sums: dict[str, Any] = {"n": known.people(), "weight": _whole(cases.weight / unit), "weighted": _whole(cases.weight * share / unit)}
    if two_classes(wanted):
        sums["events"] = len(np.unique((cases.person if known.person is None else known.person[cases.person])[cases.y == 1]))
    if wanted.time:
        interval, happened = intervals_of(known, wanted)
        sums |= {"leave": people_per(interval, len(wanted.ends), known.person),
                 "events_in": people_per(interval[happened], len(wanted.ends), None if known.person is None else known.person[happened])}
    for k, feature in enumerate(columns(dictionary, covariates)):
        places = feature.places(known)
        sums[f"people{k}"] = people_per(np.where(places < 0, feature.bins, places), feature.bins + 1, known.person)
    return sums


def _whole(values: np.ndarray) -> int:
    """The sum of values, each rounded to a whole number first: the same in any order and grouping."""
    return int(np.rint(values).astype(np.int64).sum())


def people_per(place: np.ndarray, size: int, person: np.ndarray | None) -> np.ndarray:
    """How many patients have a row in each place 0..size-1. person : of each row, None where each row is a patient."""
    if person is None:
        return np.bincount(place, minlength=size)
    return np.bincount(np.unique(person.astype(np.int64) * size + place) % size, minlength=size)


# -- one level of a tree -------------------------------------------------------------------------------------------------------------


def _histogram_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], tree: str,
                      nodes: Sequence[int], unit: float, people: bool, used: Sequence[int] | None = None,
                      hazard: Sequence[Sequence[float]] | None = None) -> dict[str, Block]:
    found = read_model(model).target
    features = read_model(model).features
    shape = (len(nodes), sum(features[k].bins for k in (range(len(features)) if used is None else used)))
    most = 2.0**found.bits * found.repeats
    blocks = {"sums": Block((*shape, 2), most, integer=True)}
    if list(nodes) == [0]:
        blocks["total"] = Block((2,), most, integer=True)
    if people:
        classes = 2 if two_classes(found) else 1
        blocks["people"] = Block((*shape, classes), 1.0, integer=True)
        if list(nodes) == [0]:
            blocks["everybody"] = Block((classes,), 1.0, integer=True)
    return blocks


@statistic("boosting_histograms/1", layout=_histogram_layout)
def histograms(rows: Rows, model: str, trees: Sequence[str], tree: str, nodes: Sequence[int], unit: float,
               people: bool, used: Sequence[int] | None = None, hazard: Sequence[Sequence[float]] | None = None) -> dict:
    """Sums of gradients and hessians per asked node and bin of every feature, as whole numbers of `unit`; for the root also over all.

    model : target and features. trees : the finished ones. tree : the one that grows. used : the features this tree may use, all by
    default. people : count them too, without and with the outcome; a patient with several rows is counted in one of them. hazard : for
    Cox, per grid interval the sums up to it of d / R and d / R^2, and the shift of the margins in R.
    """
    cases = cases_of(rows, model)
    values = cases.gradients(trees, unit, hazard, cases.classes(two_classes(cases.target)) if people else None)
    table = read_tree(tree)
    slot_of = np.full(len(table), -1, dtype=np.int32)
    slot_of[list(nodes)] = np.arange(len(nodes), dtype=np.int32)
    slot = np.where(cases.seen(len(trees)), slot_of[cases.nodes_of(table)], np.int32(-1))
    found = add_up(cases.places, slot, values, len(nodes), cases.bins.size)
    if used is not None:
        found = np.concatenate([found[:, cases.bins.first[k]:cases.bins.first[k + 1]] for k in used], axis=1)
    sums: dict[str, Any] = {"sums": found[..., :2]}
    if people:
        sums["people"] = found[..., 2:]
    if list(nodes) == [0]:
        total = [int(column[slot >= 0].sum()) for column in values.T]
        sums["total"] = total[:2]
        if people:
            sums["everybody"] = total[2:]
    return sums


# -- risk sets, leaves, scores ----------------------------------------------------------------------------------------------------------


def _risk_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], shift: float) -> dict[str, Block]:
    J = len(read_model(model).target.ends)
    return {"risk": Block((J,), 2.0**RISK_BITS, integer=True), "deaths": Block((J,), 1.0, integer=True)}


@statistic("boosting_risk/1", layout=_risk_layout)
def risk(rows: Rows, model: str, trees: Sequence[str], shift: float) -> dict:
    """For Cox: the sum of exp(margin - shift) over those who leave in each grid interval, in units of 2^-RISK_BITS, and the events, of
    the rows that the next tree sees."""
    cases = cases_of(rows, model)
    seen, J = cases.seen(len(trees)), len(cases.target.ends)
    whole = np.rint(np.exp(cases.margin(trees).astype(float) - shift) * 2.0**RISK_BITS).astype(np.int64)
    sums = np.zeros(J, dtype=np.int64)
    np.add.at(sums, cases.interval[seen], whole[seen])
    return {"risk": sums, "deaths": np.bincount(cases.interval[seen & (cases.y == 1)], minlength=J)}


def _reach_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], edges: Sequence[float]) -> dict[str, Block]:
    return {"people": Block((len(edges) + 1,), float(read_model(model).target.repeats), integer=True)}


@statistic("boosting_reach/1", layout=_reach_layout)
def reach(rows: Rows, model: str, trees: Sequence[str], edges: Sequence[float]) -> dict:
    """Rows per cell of the margin of the model so far: between which values margins really lie. edges : between the cells."""
    cases = cases_of(rows, model)
    cell = np.searchsorted(np.array(edges), cases.margin(trees).astype(float), side="right")
    return {"people": np.bincount(cell, minlength=len(edges) + 1)}


def _leaf_count(trees: Sequence[str]) -> int:
    return sum(int((read_tree(one)["left"] == LEAF).sum()) for one in trees)


def _leaf_sums_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], batch: Sequence[str], unit: float,
                      hazard: Sequence[Sequence[float]] | None = None) -> dict[str, Block]:
    found = read_model(model).target
    return {"sums": Block((_leaf_count(batch), 2), 2.0**found.bits * found.repeats, integer=True)}


@statistic("boosting_leaf_sums/1", layout=_leaf_sums_layout)
def leaf_sums(rows: Rows, model: str, trees: Sequence[str], batch: Sequence[str], unit: float,
              hazard: Sequence[Sequence[float]] | None = None) -> dict:
    """Sums of gradients and hessians in each leaf of each tree of a batch, whose splits are known, as whole numbers of `unit`.

    trees : the finished ones, at whose margins gradients are taken. batch : the next ones. hazard : as for histograms.
    """
    return {"sums": _over_leaves(rows, model, trees, batch, unit, hazard)}


def _noisy_leaf_sums_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], batch: Sequence[str], unit: float,
                            scale: float) -> dict[str, Block]:
    most = steady.power_of_two(2.0**read_model(model).target.bits + REACH * scale)
    return {"sums": Block((_leaf_count(batch), 2), most, integer=True)}


@statistic("boosting_noisy_leaf_sums/1", layout=_noisy_leaf_sums_layout, alone=True)
def noisy_leaf_sums(rows: Rows, model: str, trees: Sequence[str], batch: Sequence[str], unit: float, scale: float) -> dict:
    """The same with whole-number noise of this registry on every sum. scale : its standard deviation in units; 0 for none."""
    return {"sums": noisy(_over_leaves(rows, model, trees, batch, unit, None), scale)}


def _over_leaves(rows: Rows, model: str, trees: Sequence[str], batch: Sequence[str], unit: float,
                 hazard: Sequence[Sequence[float]] | None) -> np.ndarray:
    cases = cases_of(rows, model)
    seen = cases.seen(len(trees))
    values, found = cases.gradients(trees, unit, hazard)[seen], []
    for text in batch:
        table = read_tree(text)
        node = cases.nodes_of(table)[seen]
        # doubles below 2^53 add whole numbers exactly
        sums = [np.bincount(node, one.astype(float), minlength=len(table)).astype(np.int64) for one in values.T]
        found.append(np.stack(sums, axis=1)[table["left"] == LEAF])
    return np.concatenate(found)


def _leaves_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], first: int = 0) -> dict[str, Block]:
    return {"people": Block((_leaf_count(trees), 2 if two_classes(read_model(model).target) else 1), counts=True)}


@statistic("boosting_leaves/1", layout=_leaves_layout)
def leaves(rows: Rows, model: str, trees: Sequence[str], first: int = 0) -> dict:
    """People in each leaf of each tree, without and with the outcome, of those that the tree sees; a patient with several rows is
    counted in one of them. first : the place of the first of these trees in the model."""
    cases = cases_of(rows, model)
    classes, found = cases.classes(two_classes(cases.target)), []
    for t, text in enumerate(trees, first):
        table, seen = read_tree(text), cases.seen(t)
        node = cases.nodes_of(table)[seen]
        is_leaf = table["left"] == LEAF
        found.append(np.stack([np.bincount(node, one, minlength=len(table))[is_leaf] for one in classes[seen].T], axis=1))
    return {"people": np.concatenate(found)}


def _scores_layout(dictionary: Dictionary, *, model: str, trees: Sequence[str], unit: float, held: bool,
                   edges: Sequence[float] = ()) -> dict[str, Block]:
    found = read_model(model).target
    blocks = {"loss": Block((), 2.0**LOSS_BITS * found.repeats, integer=True),
              "weight": Block((), 2.0**WEIGHT_BITS * found.repeats, integer=True)}
    if edges:
        # of a hazard, a patient counts once for every interval
        blocks |= {"people": Block((2, len(edges) + 1), float(found.repeats), integer=True), "classes": Block((2,), counts=True)}
    return blocks


@statistic("boosting_scores/1", layout=_scores_layout)
def scores(rows: Rows, model: str, trees: Sequence[str], unit: float, held: bool, edges: Sequence[float] = ()) -> dict:
    """The weighted loss of the model so far, as whole numbers of `unit`, and the weights, over the patients held out or the others;
    and people without and with the outcome, in all and per bin of the margin. edges : of these bins, on the scale of the margin."""
    cases = cases_of(rows, model)
    inside = cases.held() == held
    margin, y = cases.margin(trees)[inside], cases.y[inside]
    weight = cases.weight[inside] / most_weight(rows.dictionary, cases.target)
    sums: dict[str, Any] = {"loss": _whole(loss(cases.target.objective, margin, y) * weight / unit),
                            "weight": _whole(weight * 2.0**WEIGHT_BITS)}
    if edges:
        place = np.searchsorted(np.array(edges), margin.astype(float), side="right")
        who = None if cases.patient is None else cases.patient[cases.person][inside]
        sums["people"] = np.stack([people_per(place[y == k], len(edges) + 1, None if who is None else who[y == k]) for k in (0, 1)])
        each = cases.person[inside] if who is None else who
        sums["classes"] = [people_per(0 * place[y == k], 1, each[y == k])[0] for k in (0, 1)]
    return sums
