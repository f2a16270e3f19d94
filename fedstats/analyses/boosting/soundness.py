"""Whether a model is one: trees that end, columns and values that exist. Looked at before anything walks through a tree.

How this works. A model may come from a file or a wire that somebody else wrote. A child that stands before its parent leads round and
round, an index beyond the end reads another's memory in xgboost, a threshold that is no number sends everybody to one side. So every
model is checked as it is made, from whatever source, and what breaks a rule here never exists. Raises ValueError, which readers of
files and messages turn into their own errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...data.dictionary import Dictionary, check
from ...errors import FedstatsError
from .objectives import COX, HAZARD, LOGISTIC, OBJECTIVES, POISSON
from .params import DEEPEST, MOST_INTERVALS, MOST_ROUNDS

if TYPE_CHECKING:
    from .model import Column, RiskModel, Tree

MOST_COLUMNS = 100_000              # of 200 covariates with all their levels
MOST_NODES = 2**(DEEPEST + 1) - 1   # of a tree
LARGEST_SINGLE = 3.4028235e38       # of a 32-bit float


def check_tree(tree: Tree) -> None:
    """Whether the nodes are one tree, each child after its parent, with finite numbers."""
    n = len(tree.left)
    if not 1 <= n <= MOST_NODES:
        raise ValueError(f"a tree has {n} nodes: from 1 to {MOST_NODES}")
    for name in ("right", "feature", "threshold", "default_left", "value", "cover"):
        if len(getattr(tree, name)) != n:
            raise ValueError(f'a tree has another number of "{name}" than of nodes')
    if not all(abs(one) <= LARGEST_SINGLE for many in (tree.threshold, tree.value, tree.cover) for one in many):    # false for NaN
        raise ValueError("a tree holds a number that is not finite")
    if min(tree.cover) < 0:
        raise ValueError("a tree has a negative cover")
    _check_shape(tree.left, tree.right, n)


def _check_shape(left: Sequence[int], right: Sequence[int], n: int) -> None:
    depth: dict[int, int] = {0: 0}      # of each node that has a parent
    for k, (a, b) in enumerate(zip(left, right)):
        if k not in depth:
            raise ValueError("a node of a tree has no parent before it")
        if a == b == -1:
            continue
        if not (k < a < n and k < b < n) or a == b or a in depth or b in depth:
            raise ValueError("a child in a tree does not come after its one parent")
        depth[a] = depth[b] = depth[k] + 1
    if max(depth.values()) > DEEPEST:
        raise ValueError(f"a tree is deeper than {DEEPEST}")


def check_model(model: RiskModel) -> None:
    """Whether trees, columns, variables and times of a model fit together."""
    if model.objective not in OBJECTIVES:
        raise ValueError("the objective is unknown")
    _check_start(model)
    if len(model.trees) > MOST_ROUNDS or len(model.columns) > MOST_COLUMNS:
        raise ValueError(f"a model has at most {MOST_ROUNDS} trees and {MOST_COLUMNS} columns")
    for tree in model.trees:
        if not all(0 <= one < len(model.columns) for one in tree.feature):
            raise ValueError("a tree cuts a column that does not exist")
    _check_ends(model)
    if model.variables:     # none where only predicting is wanted
        _check_variables(model)
    for column in model.columns:
        _check_column(column, model)


def _check_start(model: RiskModel) -> None:
    base = model.base_score
    if not (math.isfinite(base) and abs(base) <= LARGEST_SINGLE and abs(model.base_margin) <= LARGEST_SINGLE):
        raise ValueError("the starting score is not finite")
    if (model.objective in (LOGISTIC, HAZARD) and not 0 < base < 1) or (model.objective in (POISSON, COX) and not base > 0):
        raise ValueError("the starting score is not one of this objective")


def _check_ends(model: RiskModel) -> None:
    ends: tuple[Any, ...] = (0.0, *model.ends)
    if not all(a < b <= LARGEST_SINGLE for a, b in pairwise(ends)) or len(model.ends) > MOST_INTERVALS:
        raise ValueError("the ends of intervals must increase")
    if model.objective == HAZARD and (not model.ends or not model.time):
        raise ValueError("a hazard needs a follow-up time and its intervals")


def _check_variables(model: RiskModel) -> None:
    try:
        book = Dictionary(name="the model's covariates", variables=model.variables)
        check(book)
    except FedstatsError as error:
        raise ValueError(error.what) from None
    missing = [name for name in model.covariates if name not in book]
    if missing or len(model.covariates) != len(book.names):
        raise ValueError("the covariates are not those of the codebook")


def _check_column(column: Column, model: RiskModel) -> None:
    if model.time is not None and column.variable == model.time:
        return
    if not model.variables:
        if column.level is not None and column.level < 0:
            raise ValueError("a column stands for a level that does not exist")
        return
    variable = next((one for one in model.variables if one.name == column.variable), None)
    if variable is None:
        raise ValueError("a column belongs to no variable of the codebook")
    count = len(variable.labels or ()) if variable.type == "category" else 0
    if (column.level is None) == (variable.type == "category") or (column.level is not None and not 0 <= column.level < count):
        raise ValueError("a column stands for a level that does not exist")
