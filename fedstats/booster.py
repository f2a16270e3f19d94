"""The door to xgboost: a released model as a real Booster, which saves, loads, explains and predicts like any other.

How this works. The installed xgboost writes the JSON of a model without trees; the trees of the released model are put in, and
`load_model` reads it. So the file has whatever form this version of xgboost wants. Thresholds and leaves are 32-bit floats and are
written as such, so predictions are the same bits. Loss changes are left out, and covers are those that the release rules let through.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from .analyses.boosting.model import RiskModel, Tree

ROOT_PARENT = 2147483647    # how xgboost writes "no parent"
OF_XGBOOST = {"hazard:logistic": "binary:logistic"}     # a discrete-time hazard is a logistic model of person-periods
NEUTRAL = {"binary:logistic": 0.5, "reg:squarederror": 0.0, "count:poisson": 1.0, "survival:cox": 1.0}     # base scores whose margin is 0


def library() -> Any:
    """xgboost. Raises InputError where it is not installed."""
    try:
        import xgboost
    except ImportError:
        raise InputError("xgboost is not installed here", hint='install the extra "models"') from None
    return xgboost


def booster_of(model: RiskModel) -> Any:
    """The model as an `xgboost.Booster`."""
    xgboost = library()
    names, objective = [column.name for column in model.columns], OF_XGBOOST.get(model.objective, model.objective)
    empty, trees = _empty(xgboost, objective, model.base_score, names), model.trees
    start = empty.predict(xgboost.DMatrix(np.zeros((1, len(names)), dtype=np.float32), feature_names=names), output_margin=True)
    if np.float32(start[0]) != np.float32(model.base_margin):
        empty, trees = _empty(xgboost, objective, NEUTRAL[objective], names), _shifted(trees, np.float32(model.base_margin))
    content = json.loads(bytes(empty.save_raw("json")))
    booster = content["learner"]["gradient_booster"]["model"]
    booster["trees"] = [_tree(tree, k, len(names)) for k, tree in enumerate(trees)]
    booster["tree_info"] = [0] * len(trees)
    booster["iteration_indptr"] = list(range(len(trees) + 1))
    booster["gbtree_model_param"]["num_trees"] = str(len(trees))
    found = xgboost.Booster()
    found.load_model(bytearray(json.dumps(content).encode()))
    return found


def matrix_of(model: RiskModel, values: np.ndarray) -> Any:
    """A DMatrix of rows as the model's columns. values : float32, shape (rows, columns), NaN where missing."""
    return library().DMatrix(values, feature_names=[column.name for column in model.columns])


def _shifted(trees: tuple[Tree, ...], margin: np.float32) -> tuple[Tree, ...]:
    """The base margin put into the leaves of the first tree: the same bits, as margins are added up from it in float32.

    For machines whose logarithm of the base score differs from ours in the last bit.
    """
    from .analyses.boosting.model import Tree

    if not trees:
        return (Tree((-1,), (-1,), (0,), (0.0,), (False,), (float(margin),), (1.0,)),)
    first = msgspec.structs.replace(trees[0], value=tuple(float(margin + np.float32(one)) for one in trees[0].value))
    return (first, *trees[1:])


def _empty(xgboost: Any, objective: str, base: float, names: list[str]) -> Any:
    data = xgboost.DMatrix(np.zeros((2, len(names)), dtype=np.float32), label=np.array([0.0, 1.0]), feature_names=names)
    return xgboost.train({"objective": objective, "base_score": base, "tree_method": "hist"}, data, 0)


def _tree(tree: Tree, place: int, columns: int) -> dict[str, Any]:
    n = len(tree.left)
    parents = [ROOT_PARENT] * n
    for k in range(n):
        if tree.left[k] >= 0:
            parents[tree.left[k]] = parents[tree.right[k]] = k
    leaf = [left < 0 for left in tree.left]
    return {"base_weights": [_short(v) if end else 0.0 for v, end in zip(tree.value, leaf)], "categories": [], "categories_nodes": [],
            "categories_segments": [], "categories_sizes": [], "default_left": [int(one) for one in tree.default_left], "id": place,
            "left_children": list(tree.left), "loss_changes": [0.0] * n, "parents": parents, "right_children": list(tree.right),
            "split_conditions": [_short(v if end else t) for v, t, end in zip(tree.value, tree.threshold, leaf)],
            "split_indices": list(tree.feature), "split_type": [0] * n, "sum_hessian": [_short(one) for one in tree.cover],
            "tree_param": {"num_deleted": "0", "num_feature": str(columns), "num_nodes": str(n), "size_leaf_vector": "1"}}


def _short(value: float) -> float:
    """The double with the shortest decimal digits that read back as this float32."""
    return float(str(np.float32(value)))
