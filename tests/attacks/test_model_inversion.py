"""What a released model tells of the patients it was trained on: labels and feature boxes read off its leaves.

Attacks of the TimberStrike kind (reconstruction from the trees alone), from two seats.
1. Anybody with the file: a leaf's value and cover give its sums of gradients and hessians; a single patient has |g| (1 - |g|) = h, and
   the sign of g is the label. The path to the leaf is a box around the patient's features.
2. A registry: it takes its own patients' sums from each leaf first, so that a patient of somebody else is alone in the rest.
3. Somebody who knows the features of all patients of all registries, but no outcome: each leaf is one linear equation in the outcomes.
   Nothing in a release rule can stop that attacker altogether; how much he gains over asking the model is measured (bench_risk).
"""

from dataclasses import dataclass

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.disclosure import NO_RULES

from ..risk_data import COVARIATES, DICTIONARY, registries

LIFTED = {"rounds": 40, "max_depth": 8, "min_child_weight": 0.0, "bins": 64, "reg_lambda": 1.0}
DEFAULT = {"rounds": 10, "reg_lambda": 1.0}       # as many as the rule of leaves allows for 800 patients
ETA, PENALTY = 0.1, 1.0         # learning rate and L2 penalty, public settings of the model
SINGLE = 2e-3                   # how far |g| (1 - |g|) may be from h, relative, for a leaf to count as one patient


@dataclass(frozen=True)
class Target:
    """A trained model with the patients behind it: what the attacker is after. home : the registry of each patient."""

    model: object
    X: np.ndarray
    y: np.ndarray
    home: np.ndarray


def target(rules, sizes=(200, 200, 200, 200), seed=5, **training):
    tables = registries(sizes, seed)
    fed = fedstats.pooled(tables, dictionary=Dictionary.from_dict(DICTIONARY), rules=rules)
    model = fed.cohort().boost("worse", COVARIATES, **training)
    whole = {name: np.concatenate([np.asarray(one[name], dtype=object) for one in tables.values()]) for name in (*COVARIATES, "worse")}
    return Target(model, model.matrix({name: whole[name] for name in COVARIATES}), whole["worse"].astype(bool),
                  np.repeat(np.arange(len(sizes)), sizes))


def leaf_of(tree, X):
    """The node in which each row ends."""
    left, right, feature, missing = (np.array(one) for one in (tree.left, tree.right, tree.feature, tree.default_left))
    threshold, node = np.array(tree.threshold, dtype=np.float32), np.zeros(len(X), dtype=int)
    while len(moving := np.flatnonzero(left[node] >= 0)):
        here = node[moving]
        x = X[moving, feature[here]]
        node[moving] = np.where(np.where(np.isnan(x), missing[here], x < threshold[here]), left[here], right[here])
    return node


def sums_of_leaves(tree, scale=1.0):
    """(leaf, sum of gradients, sum of hessians) as the file gives them. scale : of the cover, in hessians."""
    for leaf in np.flatnonzero(np.array(tree.left) < 0).tolist():
        H = tree.cover[leaf] * scale
        yield leaf, -tree.value[leaf] * (H + PENALTY) / ETA, H


def read_off(found, own=None, scale=1.0):
    """The attack: which patients it names, with the label it gives each. own : registry of the attacker, None for the file alone.

    Returns (patients rightly found alone with their right label, of all whom the attacker does not know; share of claims that are right).
    """
    right, hits, claims, margin = set(), 0, 0, np.full(len(found.X), found.model.base_margin)
    mine = np.zeros(len(found.X), dtype=bool) if own is None else found.home == own
    for tree in found.model.trees:
        node, p = leaf_of(tree, found.X), 1 / (1 + np.exp(-margin))
        for leaf, G, H in sums_of_leaves(tree, scale):
            here = (node == leaf) & mine
            g, h = G - (p - found.y)[here].sum(), H - (p * (1 - p))[here].sum()
            if not 0 < abs(g) < 1 or abs(abs(g) * (1 - abs(g)) - h) > SINGLE * h:
                continue
            claims += 1
            others = np.flatnonzero((node == leaf) & ~mine)
            if len(others) == 1 and found.y[others[0]] == (g < 0):
                right.add(int(others[0]))
                hits += 1
        margin = margin + np.array(tree.value)[node]
    return len(right) / (~mine).sum(), hits / max(claims, 1)


def guess_all(found):
    """The attacker who knows everybody's features: outcomes by least squares over all leaves, drawn towards the model's own risks.

    Returns (share of outcomes guessed right, share that asking the model gets right).
    """
    rows, right, margin = [], [], np.full(len(found.X), found.model.base_margin)
    for tree in found.model.trees:
        node, p = leaf_of(tree, found.X), 1 / (1 + np.exp(-margin))
        for leaf in np.unique(node):
            inside = node == leaf
            H = (p * (1 - p))[inside].sum()
            rows.append(inside)
            right.append(p[inside].sum() + tree.value[leaf] * (H + PENALTY) / ETA)
        margin = margin + np.array(tree.value)[node]
    A, b, risk = np.array(rows, dtype=float), np.array(right), 1 / (1 + np.exp(-margin))
    guess = risk + A.T @ np.linalg.solve(A @ A.T + 1e-2 * np.eye(len(b)), b - A @ risk)
    return ((guess > 0.5) == found.y).mean(), ((risk > 0.5) == found.y).mean()


@pytest.fixture(scope="module")
def lifted():
    return target(NO_RULES, **LIFTED)


@pytest.fixture(scope="module")
def default():
    return target(Rules(), **DEFAULT)


def test_with_the_floors_lifted_the_file_names_many_patients(lifted):
    """The control: the attack works where nothing is in its way, and what it says is right."""
    share, precision = read_off(lifted)

    assert share > 0.15 and precision > 0.9


def test_with_the_floors_lifted_a_registry_sees_more_than_others(lifted):
    assert read_off(lifted, own=0)[0] > 1.1 * read_off(lifted)[0] > 0.15


@pytest.mark.parametrize("own", [None, 0, 1])
def test_the_default_model_names_nobody(default, own):
    """Leaves hold the smallest cell, covers are rounded to multiples of it, leaf values to three digits: nothing adds up to one patient."""
    share, _ = read_off(default, own, scale=0.25)       # covers are in people where rules apply: at most four times the hessian

    assert share <= 0.005


def test_every_released_leaf_holds_the_smallest_cell_of_both(default):
    """Checked on the patients themselves, with and without the outcome."""
    for tree in default.model.trees:
        node = leaf_of(tree, default.X)
        for leaf in np.unique(node):
            cells = np.bincount(default.y[node == leaf], minlength=2)

            assert all(count == 0 or count >= 10 for count in cells) and cells.sum() >= 10


def test_who_knows_all_features_gains_little_at_the_default(lifted, default):
    """Against asking the model for the outcome; with the floors lifted he knows nearly everybody's."""
    (attack, model), (control, _) = guess_all(default), guess_all(lifted)

    assert control > 0.9
    assert attack - model < 0.1
