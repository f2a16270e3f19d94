"""One tree from whole-number histograms: exactly what xgboost grows from the same rounded gradients."""

import json

import numpy as np
import pytest

from fedstats.analyses.boosting import kernels as boosting_kernels
from fedstats.analyses.boosting.bins import Feature, merged
from fedstats.analyses.boosting.objectives import starting_score
from fedstats.analyses.boosting.rules import merge_leaves
from fedstats.analyses.boosting.trees import LARGEST, Bins, Growing, TreeSettings
from fedstats.disclosure import NO_RULES, Rules

from .boosting_data import synthetic, xgboost

UNIT = 2.0**-8      # coarse on purpose: with few bits ties are frequent, and gradients are exact 32-bit floats


def grown(X, pair, settings, unit):
    """A tree from rows in bins and their whole-number gradients, with plain loops, and the leaf of each row."""
    counts = [int(np.nanmax(column)) + 1 for column in X.T]
    bins = Bins.of(range(X.shape[1]), counts)
    node = np.zeros(len(X), dtype=int)

    def histogram(k):
        found = np.zeros((bins.size, pair.shape[1]), dtype=np.int64)
        for f in range(X.shape[1]):
            own = (node == k) & ~np.isnan(X[:, f])
            np.add.at(found, bins.first[f] + X[own, f].astype(int), pair[own])
        return found

    growing = Growing(tuple(pair.sum(axis=0).tolist()), unit, bins, settings)
    while growing.open:
        growing.grow({k: histogram(k) for k in growing.asked})
        for k, one in enumerate(growing.nodes):
            if one.split is not None:
                own = node == k
                x = X[own, one.split.feature]
                node[own] = np.where(np.where(np.isnan(x), one.split.default_left, x < one.split.cut), one.left, one.right)
    return growing, node, counts


@pytest.mark.parametrize("bits", [8, 13, 20])
@pytest.mark.parametrize("settings", [
    TreeSettings(max_depth=6, learning_rate=0.3), TreeSettings(reg_alpha=0.7, gamma=0.3, min_child_weight=3.0),
    TreeSettings(max_delta_step=0.3, reg_lambda=0.5), TreeSettings(monotone=(1, -1, 1, 0, -1, 1)),
    TreeSettings(reg_lambda=0.0, min_child_weight=0.0),
], ids=["deep", "penalties", "boxed", "monotone", "bare"])
def test_trees_are_exactly_those_of_xgboost_on_the_same_rounded_gradients(settings, bits):
    """Ten trees at 8, 13 and 20 bits: splits, directions, gains and leaves are the same 32-bit floats."""
    X, score = synthetic(700, 6, bins=9, gaps=0.15)
    y, unit = (score > np.median(score)).astype(float), 2.0**-bits
    margin, pairs, trees = np.zeros(len(y), dtype=np.float32), [], []
    for _ in range(10):
        p = 1 / (1 + np.exp(-margin.astype(float)))
        pair = np.rint(np.stack([p - y, p * (1 - p)], axis=1) / unit).astype(np.int64)
        growing, node, counts = grown(X, pair, settings, unit)
        leaf = np.array([one.weight * np.float32(settings.learning_rate) for one in growing.nodes], dtype=np.float32)
        margin = margin + leaf[node]
        pairs.append(pair)
        trees.append((growing, leaf))
    given = iter(pairs)

    def objective(*_):
        pair = next(given)
        return pair[:, 0] * unit, pair[:, 1] * unit

    booster = xgboost.train({"tree_method": "hist", "base_score": 0.0, "max_depth": settings.max_depth, "eta": settings.learning_rate,
                             "lambda": settings.reg_lambda, "alpha": settings.reg_alpha, "gamma": settings.gamma, "max_bin": 64,
                             "min_child_weight": settings.min_child_weight, "max_delta_step": settings.max_delta_step,
                             **({"monotone_constraints": settings.monotone} if settings.monotone else {})},
                            xgboost.DMatrix(X, y), 10, obj=objective)
    theirs = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]

    for (growing, leaf), other in zip(trees, theirs):
        assert [one.left for one in growing.nodes] == other["left_children"]
        for k, one in enumerate(growing.nodes):
            if one.split is None:
                assert leaf[k] == np.float32(other["split_conditions"][k])
                continue
            feature, cut = one.split.feature, one.split.cut
            assert (feature, one.split.default_left) == (other["split_indices"][k], bool(other["default_left"][k]))
            # missing against all the rest: xgboost writes a number just beyond the lowest or highest value
            assert cut == other["split_conditions"][k] or cut in (0, counts[feature])
            assert one.split.gain == np.float32(other["loss_changes"][k])


def test_a_tree_with_few_people_on_one_side_is_not_grown():
    """Where people are counted, each side holds enough of them, with and without the outcome; and small nodes are not opened."""
    X, score = synthetic(400, 4, bins=8, gaps=0.05)
    y = score > np.quantile(score, 0.8)
    pair = np.column_stack([np.where(y, -64, 64), np.full(400, 64), ~y, y]).astype(np.int64)
    growing, node, _ = grown(X, pair, TreeSettings(min_people=8, min_open=40, max_depth=5), UNIT)

    for k, one in enumerate(growing.nodes):
        if one.split is None:
            own = node == k
            assert own.sum() >= 8 and all(count == 0 or count >= 8 for count in (y[own].sum(), (~y[own]).sum()))
        elif k:
            siblings = growing.nodes[growing.nodes[one.parent].left], growing.nodes[growing.nodes[one.parent].right]
            assert all(sum(child.sums[2:]) >= 40 for child in siblings)
    assert len(growing.nodes) > 3


def test_the_lighter_sibling_is_asked():
    """Of each pair only the node with the smaller hessian sends its histogram; the other follows by subtraction."""
    X, score = synthetic(400, 4, bins=8)
    pair = np.column_stack([np.where(score > 0, -64, 64), np.full(400, 64)]).astype(np.int64)
    bins, seen = Bins.of(range(4), [8] * 4), []
    growing = Growing(tuple(pair.sum(axis=0).tolist()), UNIT, bins, TreeSettings(max_depth=2))
    places = np.where(np.isnan(X), 32, X + 8 * np.arange(4)).astype(np.int32)
    histogram = boosting_kernels.histograms(places, np.zeros(400, dtype=np.int32), pair, 1, 32)
    growing.grow({0: histogram[0]})
    seen = growing.asked

    assert len(seen) == 1
    assert growing.nodes[seen[0]].sums[1] == min(growing.nodes[1].sums[1], growing.nodes[2].sums[1])


def test_leaves_of_too_few_registries_are_merged_and_nodes_numbered_anew():
    """A leaf with people of two registries only joins its sibling."""
    X, score = synthetic(400, 4, bins=8)
    pair = np.column_stack([np.where(score > 0, -64, 64), np.full(400, 64)]).astype(np.int64)
    growing, _, _ = grown(X, pair, TreeSettings(max_depth=3), UNIT)
    leaves = [k for k, one in enumerate(growing.nodes) if one.split is None]
    people, contributors = np.full((len(leaves), 1), 50), np.full((len(leaves), 1), 3)
    contributors[-1] = 2
    before = len(growing.nodes)

    assert merge_leaves(growing, people, contributors, Rules()) == 1
    assert len(growing.nodes) == before - 2
    for k, one in enumerate(growing.nodes):
        assert (one.left < 0) == (one.split is None) and (one.left < 0 or (one.left > k and growing.nodes[one.left].parent == k))
    assert [one.depth for one in growing.nodes] == sorted(one.depth for one in growing.nodes)


def test_compiled_and_plain_loops_agree(monkeypatch):
    """With and without numba: the same sums and the same leaves."""
    rng = np.random.default_rng(3)
    places, slot = rng.integers(0, 13, (500, 3)).astype(np.int32), rng.integers(-1, 2, 500).astype(np.int32)
    values = rng.integers(-2**40, 2**40, (500, 2))
    tree = [np.array(one, dtype=np.int32) for one in
            ([1, -1, 3, -1, -1], [2, -1, 4, -1, -1], [0, 0, 2, 0, 0], [6, 0, 3, 0, 0], [1, 0, 0, 0, 0])]
    found = boosting_kernels.histograms(places, slot, values, 2, 12), boosting_kernels.walk(places, *tree, 12)
    monkeypatch.setattr(boosting_kernels, "compiled", lambda loop: None)
    plain = boosting_kernels.histograms(places, slot, values, 2, 12), boosting_kernels.walk(places, *tree, 12)

    assert all(np.array_equal(a, b) for a, b in zip(found, plain))
    assert found[0].sum() == sum(int(values[slot >= 0][:, c] @ (places[slot >= 0] < 12).sum(axis=1)) for c in (0, 1))


# -- bins ---------------------------------------------------------------------------------------------------------------------------------


def test_bins_are_merged_until_each_holds_enough_and_there_are_few_enough():
    """Registered bins join their neighbours: at most as many as asked for, each with 10 people of 3 registries."""
    feature = Feature("age", "age", None, tuple(float(k) for k in range(1, 40)))
    people = np.array([*np.random.default_rng(0).poisson(12, 40), 30])
    found = merged(feature, people, np.full(41, 3), 8, Rules())
    sums = np.add.reduceat(people[:-1], [0, *(int(t) for t in found.thresholds)])

    assert 2 <= found.bins <= 8 and (sums >= 10).all() and not found.fold


def test_few_missing_values_count_as_the_lowest_bin():
    """Three patients without a value are no bin of their own: they would be found by subtraction."""
    feature = Feature("age", "age", None, (1.0, 2.0))

    assert merged(feature, np.array([20, 20, 20, 3]), np.array([3, 3, 3, 2]), 16, Rules()).fold
    assert not merged(feature, np.array([20, 20, 20, 0]), np.array([3, 3, 3, 0]), 16, Rules()).fold
    assert not merged(feature, np.array([20, 20, 20, 3]), np.array([3, 3, 3, 2]), 16, NO_RULES).fold


def test_a_level_with_few_people_is_no_column_to_cut():
    """An indicator with nine patients, or with people of two registries, is left out; without rules it stays."""
    feature = Feature("dmt=x", "dmt", 3, (1.0,))

    assert merged(feature, np.array([100, 9, 0]), np.array([3, 3, 0]), 16, Rules()) is None
    assert merged(feature, np.array([100, 30, 0]), np.array([3, 2, 0]), 16, Rules()) is None
    assert merged(feature, np.array([100, 9, 0]), np.array([3, 3, 0]), 16, NO_RULES) == feature


@pytest.mark.parametrize("objective", ["binary:logistic", "count:poisson", "reg:squarederror"])
def test_the_starting_margin_is_the_one_xgboost_computes(objective):
    """From the base score, as a 32-bit float, in the last bit or next to it."""
    for total in (0.0123, 0.25, 0.4999, 0.77, 0.98):
        score, margin = starting_score(objective, total, 1.0)
        data = xgboost.DMatrix(np.zeros((2, 1)), label=[0, 1])
        theirs = xgboost.train({"objective": objective, "base_score": score}, data, 0).predict(data, output_margin=True)[0]

        assert abs(theirs - np.float32(margin)) <= np.spacing(np.abs(np.float32(margin))) and abs(margin) < LARGEST
