"""A registry that keeps the total histograms of a training run tries to put rows together again, feature by feature.

The attack: under the log-loss one row's hessian is h = |g| (1 - |g|), so a bin that holds a single row announces itself; and the same
pair (g, h) in bins of other features of the same node is the same row. Where people are counted, a count of 1 says so at once. What is
found in one node is carried on: in the next trees the row is looked for in the leaves that its margin allows.
"""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from fedstats import Dictionary, Rules
from fedstats.analyses.boosting import train
from fedstats.analyses.boosting.cases import read_model, read_tree
from fedstats.data.rows import load
from fedstats.disclosure import NO_RULES
from fedstats.query import rounds
from fedstats.query.analysis import Setting, Size, question_of

from ..boosting_data import dictionary_of, names_of, synthetic, tables

FEATURES = 30
ENOUGH = 0.9            # of a row's features: then it counts as put together


def recorded(X, y, rules, **options):
    """Every ask of a training run with the totals that all registries see."""
    dictionary = Dictionary.from_dict(dictionary_of(X, y))
    many = [load(table, dictionary)[0] for table in tables(X, y, 3).values()]
    params = question_of("boost", "y", names_of(X), **options).read()
    steps = train(params, Setting(dictionary, rules, 3, Size(len(y))))
    asks, found = next(steps), []
    try:
        while True:
            totals = rounds.pooled(asks, many, dictionary, len(y))
            found += zip(asks, totals)
            asks = steps.send(totals)
    except StopIteration:
        return found


def nodes_seen(record):
    """The histogram of every node that was asked or follows by subtraction: (tree, text of the tree, node, unit, bins of each feature)."""
    kept = {}
    for ask, totals in record:
        if ask.statistic != "boosting_histograms/1":
            continue
        model, tree = read_model(ask.params["model"]), read_tree(ask.params["tree"])
        whole = totals["sums"]
        if "people" in totals:
            whole = np.concatenate([whole, totals["people"].sum(axis=2, keepdims=True)], axis=2)
        t, first = len(ask.params["trees"]), np.concatenate([[0], np.cumsum([one.bins for one in model.features])])
        for node, histogram in zip(ask.params["nodes"], whole):
            kept[t, node] = histogram
            if node:
                parent = int(np.flatnonzero((tree["left"] == node) | (tree["right"] == node))[0])
                kept[t, int(tree["left"][parent] + tree["right"][parent]) - node] = kept[t, parent] - histogram
        for node in [*ask.params["nodes"], *(k for k in range(len(tree)) if (t, k) in kept)]:
            yield (t, node), [kept[t, node][a:b] for a, b in itertools.pairwise(first)], ask.params["unit"]


def lone_rows(histogram, unit):
    """Bins of one feature that hold a single row: (bin, gradient, hessian)."""
    for place, entry in enumerate(histogram):
        g, h = int(entry[0]), int(entry[1])
        if len(entry) > 2:
            alone = entry[2] == 1
        else:
            p = abs(g) * unit
            alone = h > 0 and p < 1 and abs(p * (1 - p) - h * unit) < 2 * unit
        if alone:
            yield place, g, h


def put_together(record):
    """For each (tree, node, gradient, hessian) the bins that must be one row's: {feature: bin}."""
    found = defaultdict(dict)
    for node, features, unit in nodes_seen(record):
        for k, histogram in enumerate(features):
            for place, g, h in lone_rows(histogram, unit):
                found[(*node, g, h)][k] = place
    return found


def linked_over_trees(record, X):
    """The same, and what is seen of a row in several nodes and trees is joined: pieces that agree on at least half of the features, and
    on which no two patients of this table could agree by chance, are one row's. (The attacker is given that last knowledge for free.)"""
    rows = np.where(np.isnan(X), -1, X).astype(int)
    known = defaultdict(dict)
    for piece in put_together(record).values():
        if len(piece) < 3:
            continue
        columns, values = list(piece), list(piece.values())
        match = np.flatnonzero((rows[:, columns] == values).all(axis=1))
        if len(match) == 1:
            known[int(match[0])] |= piece
    return known


def share_found(known, X):
    """The share of patients of whom enough features are known, rightly."""
    return sum(len(piece) >= ENOUGH * X.shape[1] for piece in known.values()) / len(X)


def made_up(patients, bins):
    X, score = synthetic(patients, FEATURES, gaps=0.02, bins=64)
    y = (np.random.default_rng(1).random(patients) < 1 / (1 + np.exp(-score))).astype(float)
    return np.floor(X / (64 // bins)), y


@pytest.mark.parametrize(("patients", "trees"), [(600, 30), (2_000, 100)])
def test_a_default_run_gives_no_row_away(patients, trees):
    """At the default floors nobody's features can be put together, nor even half of them."""
    X, y = made_up(patients, 16)
    known = linked_over_trees(recorded(X, y, Rules(), rounds=trees), X)

    assert share_found(known, X) == 0
    assert max((len(piece) for piece in known.values()), default=0) < FEATURES / 2


def test_without_floors_the_attack_finds_more_than_half():
    """The control: with 64 bins, depth 6 and no rules the same attack joins the features of most patients."""
    X, y = made_up(600, 64)
    record = recorded(X, y, NO_RULES, rounds=20, max_depth=6, bins=64, min_child_weight=1)

    assert share_found(linked_over_trees(record, X), X) > 0.5
