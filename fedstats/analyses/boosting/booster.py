"""The door to xgboost: a released model as a real Booster, which saves, loads, explains and predicts like any other.

How this works. The installed xgboost writes the JSON of a model without trees; the trees of the released model are put in, and
`load_model` reads it. Thresholds and leaves are 32-bit floats and are written as such, so predictions are the same bits. Loss
changes are left out, and covers are those that the release rules let through.

Two things are written otherwise than the installed version does, so that every xgboost from 1.7 on reads the same model:
`base_score` as a number and not as a list of one (before 3.1 a list is read as another number, without a word), and names
as UTF-8 and not with escapes (xgboost takes a backslash and a u in a name for just these).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ...errors import InputError

if TYPE_CHECKING:
    from .model import RiskModel, Tree

UNSPEAKABLE = ("Cc", "Cs")  # Unicode's control characters and halves of surrogate pairs
ROOT_PARENT = 2147483647    # how xgboost writes "no parent"
OF_XGBOOST = {"hazard:logistic": "binary:logistic"}     # a discrete-time hazard is a logistic model of person-periods
BASE_SCORE, LENGTH_BYTES = b"base_scoreSL", 8        # the key, and the marks of a text whose length takes eight bytes (UBJSON)
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
    found = library().Booster()
    found.load_model(bytearray(text_of(model).encode("utf-8")))
    return found


def text_of(model: RiskModel) -> str:
    """The file that `load_model` reads, as JSON."""
    return json.dumps(content_of(model), ensure_ascii=False)


def content_of(model: RiskModel) -> dict[str, Any]:
    """The same, JSON-ready."""
    xgboost = library()
    names, objective = columns_of(model), OF_XGBOOST.get(model.objective, model.objective)
    base, trees, empty = model.base_score, model.trees, _empty(xgboost, objective, model.base_score, names)
    nobody = xgboost.DMatrix(np.zeros((1, len(names)), dtype=np.float32), feature_names=names)
    if np.float32(empty.predict(nobody, output_margin=True)[0]) != np.float32(model.base_margin):
        base, trees = NEUTRAL[objective], _shifted(trees, np.float32(model.base_margin))
        empty = _empty(xgboost, objective, base, names)
    content = json.loads(bytes(empty.save_raw("json")))
    content["learner"]["feature_names"] = names
    content["learner"]["learner_model_param"]["base_score"] = str(np.float32(base))
    booster = content["learner"]["gradient_booster"]["model"]
    booster["trees"] = [_tree(tree, k, len(names)) for k, tree in enumerate(trees)]
    booster["tree_info"] = [0] * len(trees)
    booster["iteration_indptr"] = list(range(len(trees) + 1))
    booster["gbtree_model_param"]["num_trees"] = str(len(trees))
    return content


def save(model: RiskModel, path: str | Path) -> None:
    """Write the model's file, .json or .ubj. Raises InputError for other endings."""
    path = Path(path)
    if path.suffix not in (".json", ".ubj"):
        raise InputError(f'a model is saved as .json or .ubj, not "{path.suffix}"')
    if path.suffix == ".json":
        path.write_text(text_of(model), encoding="utf-8")
    else:
        path.write_bytes(_one_base_score(bytes(booster_of(model).save_raw("ubj"))))


def columns_of(model: RiskModel) -> list[str]:
    """The names of the model's columns, as xgboost takes them."""
    return names_for_xgboost([column.name for column in model.columns])


def names_for_xgboost(names: Sequence[str]) -> list[str]:
    """Names without what xgboost refuses, [ ] and <, or cannot carry through its files, control characters. All different."""
    found: dict[str, None] = {}
    for name in names:
        text = name.replace("[", "(").replace("]", ")").replace("<", "below ")
        text = "".join("_" if unicodedata.category(one) in UNSPEAKABLE else one for one in text) or "_"
        same, k = text, 1
        while text in found:
            k += 1
            text = f"{same} ({k})"
        found[text] = None
    return list(found)


def matrix_of(model: RiskModel, values: np.ndarray) -> Any:
    """A DMatrix of rows as the model's columns. values : float32, shape (rows, columns), NaN where missing."""
    return library().DMatrix(values, feature_names=columns_of(model))


def _one_base_score(file: bytes) -> bytes:
    """A UBJSON file with its base score as a number: the text "[5E-1]" without its brackets, one byte of length before it."""
    at = file.index(BASE_SCORE) + len(BASE_SCORE)
    start = at + LENGTH_BYTES
    text = file[start:start + int.from_bytes(file[at:start], "big")]
    short = text.strip(b"[]")
    return file[:at] + len(short).to_bytes(LENGTH_BYTES, "big") + short + file[start + len(text):]


def essence(content: Any) -> Any:
    """What a .json file says of the model, without the version of xgboost and its ways of writing; None for what is no model.

    Files of one model by two versions have the same. Nothing is loaded: what is in a file may be made to harm.
    """
    try:
        learner = dict(content["learner"])
        param, booster = dict(learner["learner_model_param"]), dict(learner["gradient_booster"])
        param["base_score"] = float(np.float32(param["base_score"].strip("[]")))
        booster["model"] = {name: one for name, one in booster["model"].items() if name != "cats"}
        return learner | {"learner_model_param": param, "gradient_booster": booster}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _shifted(trees: tuple[Tree, ...], margin: np.float32) -> tuple[Tree, ...]:
    """The base margin put into the leaves of the first tree: the same bits, as margins are added up from it in float32.

    For machines whose logarithm of the base score differs from ours in the last bit.
    """
    from .model import Tree

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
