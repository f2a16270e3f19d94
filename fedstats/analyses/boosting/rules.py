"""What a consortium's release rules ask of a boosted model: floors on bins, depth and leaves, and merging of leaves that are too small.

How this works. In lockstep every registry sees the total histograms, so these must not single out a row (a bin with one row gives its
gradient away, and the same gradient is found again in the bins of the other features). So under release rules bins are few and hold
the smallest cell at the root, trees are shallow, children are heavy. A leaf is part of what is released: it must hold the smallest
cell of people, and none or the smallest cell with and without the outcome, so people are counted by outcome in every histogram and only
splits with such children are taken. A histogram is a question about the patients of its node, so it is opened only if the node and
its sibling hold as many as a cohort must (at 10 people per node the linking attack still joined half of a row's features). How many
registries have people in a leaf is counted at the end; sibling leaves with too few are merged. And a released model has few leaves
for its patients (`check_leaves`), or all leaves together would give the outcomes away. Without rules nothing of this applies,
and the trees are those of xgboost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...disclosure import Rules
from ...errors import Refused
from .objectives import HAZARD, LOGISTIC, SQUARED
from .trees import LEAF, Growing

MOST_BINS, MOST_BINS_LARGE, LARGE = 16, 32, 10_000      # bins of a feature; with at least LARGE patients the second
MOST_DEPTH = 4
MOST_LEVELS = 2_000         # trees times depth: each level opens one more set of totals
LEAF_DIGITS = 3             # significant digits of a released leaf
PATIENTS_PER_LEAF = 5       # of a released model, at least: see `check_leaves`
LARGEST_HESSIAN = 0.25      # of one row under the log-loss: h = p (1 - p)


@dataclass(frozen=True)
class Floors:
    """What the rules ask of one model. child : least min_child_weight. people : least people of a child, in all and by outcome.
    opened : least people of a node whose histogram is opened, and of its sibling."""

    bins: int
    depth: int
    levels: int
    child: float
    people: int
    opened: int


def floors(rules: Rules, objective: str, n: int, weighted: bool) -> Floors | None:
    """The floors under these rules, None where there are none. weighted : rows may weigh other than 1."""
    k = rules.min_cell
    if k <= 1:
        return None
    hessian = {LOGISTIC: LARGEST_HESSIAN, HAZARD: LARGEST_HESSIAN, SQUARED: 1.0}.get(objective)
    # the hessian of a row is at most this, so a child of that weight holds k rows
    bounded = hessian is not None and not weighted
    return Floors(MOST_BINS_LARGE if n >= LARGE else MOST_BINS, MOST_DEPTH, MOST_LEVELS,
                  k * float(hessian or 0.0) if bounded else 0.0, k, rules.min_cohort)


def check_floors(found: Floors, *, bins: int, depth: int, rounds: int, child: float | None, k: int) -> None:
    """Raises Refused, naming the floor and what to change."""
    for what, value, most in (("bins", bins, found.bins), ("max_depth", depth, found.depth),
                              ("rounds x max_depth", rounds * depth, found.levels)):
        if value > most:
            raise Refused(f"{what} is {value}, and the release rules allow at most {most}: finer sums could single out a patient",
                          hint=f"use {what} of at most {most}" + (" (32 bins from 10 000 patients on)" if what == "bins" else ""))
    if child is not None and child < found.child:
        raise Refused(f"min_child_weight is {child:g}, and a smallest cell of {k} people asks for at least {found.child:g}",
                      hint=f"use min_child_weight={found.child:g} or more, or leave it out")


def check_leaves(rules: Rules, *, rounds: int, depth: int, n: int) -> None:
    """Whether a model of so many trees may be released about n patients. Raises Refused with how many trees may.

    A leaf is a linear equation in the outcomes of its patients, for whoever knows everybody's features. The sum of m outcomes of risk
    p has 0.5 log2(2 pi e m p (1 - p)) bits: 4 to 6 for the 50 to 1000 patients of a leaf; n outcomes have at most n bits. So with one
    leaf for every 5 patients the leaves could say as much as the outcomes themselves. (One number for every 10 patients, as for
    coefficients, would ask for 16 000 patients for 100 trees of depth 4, for 31 000 with their cuts; cuts are no such equations.)
    """
    leaves = 2**depth
    if rules.min_cell > 1 and n and PATIENTS_PER_LEAF * rounds * leaves > n:
        trees, shallow = n // (PATIENTS_PER_LEAF * leaves), n // (PATIENTS_PER_LEAF * leaves // 2)
        instead = f" or {shallow} of depth {depth - 1}" if depth > 1 and shallow else ""
        fewer = f"use at most {trees} trees of this depth{instead}: with a larger learning_rate fewer trees do; or widen the cohort"
        raise Refused(f"{rounds} trees of depth {depth} would release up to {rounds * leaves} leaves, and one for every "
                      f"{PATIENTS_PER_LEAF} patients is the most: more could tell the outcome of each",
                      hint=fewer if trees else "use trees of less depth, or widen the cohort")


def too_small(cells: np.ndarray, contributors: np.ndarray, rules: Rules) -> bool:
    """Whether people of a leaf, by outcome, may not be behind one released number."""
    people = int(cells.sum())
    return (people < rules.min_cell or any(0 < int(count) < rules.min_cell for count in cells)
            or int(contributors.max(initial=0)) < rules.min_registries)


def merge_leaves(growing: Growing, cells: np.ndarray, contributors: np.ndarray, rules: Rules) -> int:
    """Turn splits with a leaf that is too small into leaves, from the bottom up; the tree is renumbered level by level.

    cells, contributors : people by outcome and contributing registries per leaf, shape (leaves, classes), leaves in the order of nodes.
    Returns how many splits were taken back.
    """
    nodes = growing.nodes
    leaves = [k for k, node in enumerate(nodes) if node.left == LEAF]
    held = {k: (cells[row], contributors[row]) for row, k in enumerate(leaves)}
    taken_back = 0
    for k in range(len(nodes) - 1, -1, -1):         # children come after their parents
        node = nodes[k]
        if node.left == LEAF:
            continue
        below = [held[child] for child in (node.left, node.right)]
        held[k] = below[0][0] + below[1][0], np.maximum(below[0][1], below[1][1])
        if any(nodes[child].left == LEAF and too_small(*held[child], rules) for child in (node.left, node.right)):
            node.split, node.left, node.right, taken_back = None, LEAF, LEAF, taken_back + 1
    if taken_back:
        growing.renumber()
    return taken_back


def leaf_values(growing: Growing, rules: Rules) -> dict[int, float]:
    """The value of each leaf, a 32-bit float; rounded where the rules round."""
    eta, found = np.float32(growing.settings.learning_rate), {}
    for k, node in enumerate(growing.nodes):
        if node.left == LEAF:
            value = float(node.weight * eta)
            found[k] = float(np.float32(f"{value:.{LEAF_DIGITS}g}")) if rules.rounding else value
    return found


def covers(growing: Growing, rules: Rules, objective: str) -> list[float]:
    """How much weight passes each node, for attributions: hessians of leaves, rounded to multiples of the smallest cell, and their sums.

    For the log-loss four times the hessian, which is at most the number of people; attributions only use ratios.
    """
    scale = growing.unit * (1.0 / LARGEST_HESSIAN if objective in (LOGISTIC, HAZARD) else 1.0)
    k = rules.min_cell
    found = [0.0] * len(growing.nodes)
    for place in range(len(growing.nodes) - 1, -1, -1):
        node = growing.nodes[place]
        if node.left != LEAF:
            found[place] = found[node.left] + found[node.right]
        elif k > 1:
            found[place] = float(k * max(1, int(node.sums[1] * scale / k + 0.5)))
        else:
            found[place] = node.sums[1] * growing.unit
    return found

