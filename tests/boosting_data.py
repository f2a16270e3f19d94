"""What the tests of boosting share: tables whose values are bins, training by xgboost on the pooled table, and comparing trees."""

import json

import numpy as np
import pytest

import fedstats
from fedstats.analyses.boosting.trees import LARGEST

xgboost = pytest.importorskip("xgboost")
LEAF_CLOSE = 1e-5       # leaves differ by the rounding of gradients to 2^-20, and by float32 in xgboost's own sums
SETTINGS = {"reg_lambda": "lambda", "reg_alpha": "alpha", "learning_rate": "eta"}


def in_bins(X, bins):
    """Each column replaced by the number of its bin, about equally many in each; missing stays missing."""
    found = np.full(X.shape, np.nan)
    for k, column in enumerate(X.T):
        known = np.unique(column[~np.isnan(column)])
        cuts = known[1:] if len(known) <= bins else np.unique(np.nanquantile(column, np.arange(1, bins) / bins))
        place = np.searchsorted(cuts, column, side="right")
        # numbered without gaps: xgboost puts its cut at the next value that occurs
        found[:, k] = np.where(np.isnan(column), np.nan, np.searchsorted(np.unique(place[~np.isnan(column)]), place))
    return found


def with_gaps(X, share, seed=0):
    X = X.copy()
    X[np.random.default_rng(seed).random(X.shape) < share] = np.nan
    return X


def names_of(X):
    return [f"x{k}" for k in range(X.shape[1])]


def dictionary_of(X, y, **more):
    """Features of whole numbers, each a bin; the outcome y; more: further variables."""
    lines = [{"name": name, "type": "integer", "range": [0, int(np.nanmax(column))]} for name, column in zip(names_of(X), X.T)]
    if set(np.unique(y)) <= {0, 1}:
        lines.append({"name": "y", "type": "boolean"})
    elif (y == np.rint(y)).all():
        lines.append({"name": "y", "type": "integer", "range": [int(y.min()), int(y.max())]})
    else:
        lines.append({"name": "y", "type": "number", "range": [float(np.floor(y.min())), float(np.ceil(y.max()))]})
    return {"name": "bins", "variables": lines + [{"name": name, **line} for name, line in more.items()]}


def tables(X, y, registries, *, order=None, **more):
    """The rows dealt out to registries, in this order."""
    order = np.arange(len(y)) if order is None else order
    found = {}
    for k in range(registries):
        own = order[k::registries]
        found[f"r{k}"] = {"patient_id": own, "y": y[own], **dict(zip(names_of(X), X[own].T)),
                          **{name: one[own] for name, one in more.items()}}
    return found


def boosted(X, y, *, registries=3, world=fedstats.pooled, order=None, rules=None, more=None, columns=None, **options):
    """The model of a federation over these rows, without release rules unless given. more: {column: (line of the dictionary, values)}."""
    more = more or {}
    fed = world(tables(X, y, registries, order=order, **{name: values for name, (_, values) in more.items()}),
                dictionary=dictionary_of(X, y, **{name: line for name, (line, _) in more.items()}),
                rules=rules or fedstats.disclosure.NO_RULES)
    return fed.cohort().boost("y", columns or names_of(X), **options)


def native(X, y, model, *, weight=None, objective=None, custom=None, **settings):
    """xgboost.train(tree_method="hist") on the pooled table, started from the model's base score."""
    if "monotone" in settings:
        ways = settings.pop("monotone")
        settings["monotone_constraints"] = tuple(ways.get(name, 0) for name in names_of(X))
    rounds = settings.pop("rounds")
    settings = {"max_depth": 4, "learning_rate": 0.1, "min_child_weight": 1, "max_bin": 1024} | settings
    base = model.base_margin if custom else model.base_score
    given = {"tree_method": "hist", "base_score": base, **{SETTINGS.get(name, name): value for name, value in settings.items()}}
    if custom is None:
        given["objective"] = objective or model.objective
    return xgboost.train(given, xgboost.DMatrix(X, y, weight=weight), rounds, obj=custom)


def trees_of(booster):
    return json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]


def assert_same_trees(model, booster, leaf=LEAF_CLOSE):
    """Same shape, features, thresholds and default directions; leaves within `leaf`."""
    theirs = trees_of(booster)
    assert len(theirs) == len(model.trees)
    for t, (a, b) in enumerate(zip(model.trees, theirs)):
        assert list(a.left) == b["left_children"] and list(a.right) == b["right_children"], f"shape of tree {t}"
        for k, left in enumerate(a.left):
            if left < 0:
                assert abs(a.value[k] - b["split_conditions"][k]) <= leaf, f"leaf {k} of tree {t}"
                continue
            assert a.feature[k] == b["split_indices"][k] and a.default_left[k] == bool(b["default_left"][k]), f"node {k} of tree {t}"
            # missing against all the rest: xgboost writes a number that gives the maximum away
            assert a.threshold[k] in (b["split_conditions"][k], LARGEST), f"threshold of node {k} of tree {t}"


def synthetic(n, p, seed=0, gaps=0.05, bins=16):
    """n rows of p features in bins, some missing, with a score that depends on a few of them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    score = X[:, 0] - 0.7 * X[:, 1] * (X[:, 2] > 0) + 0.5 * np.abs(X[:, 3]) - 0.5
    return with_gaps(in_bins(X, bins), gaps, seed + 1), score + 0.3 * rng.normal(size=n)
