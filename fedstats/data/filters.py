"""Cohort filters: which patients a question is about, as data.

A filter is `{"all" | "any" | "not": ...}` over `[variable, op, value]`, op one of == != < <= > >= in missing; a plain list means
`all`; a missing value satisfies nothing but `missing`. Comparisons cut at registered cut points only, and nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import QuestionError
from .dictionary import RESERVED, Dictionary
from .native import listed, native
from .rows import Rows
from .variable import ON_STEP, Variable, one_form

COMPARE = ("==", "!=", "<", "<=", ">", ">=")
DEEPEST = 12                # levels of nesting in a filter
MOST_CONDITIONS = 200


def normal_filter(where: Any) -> Any:
    """A filter in its one canonical form, JSON-ready: lists, dicts and plain values only. Raises QuestionError."""
    budget = [MOST_CONDITIONS]

    def walk(node: Any, depth: int) -> Any:
        budget[0] -= 1
        if depth > DEEPEST or budget[0] < 0:
            raise QuestionError(f"the filter is too large: at most {DEEPEST} levels and {MOST_CONDITIONS} conditions")
        if isinstance(node, Mapping):
            if len(node) == 1 and (key := next(iter(node))) in ("all", "any"):
                return {key: [walk(child, depth + 1) for child in _children(node[key])]}
            if len(node) == 1 and "not" in node:
                return {"not": walk(node["not"], depth + 1)}
            if set(node) <= {"variable", "op", "value"} and {"variable", "op"} <= set(node):
                return _condition([node["variable"], node["op"], node.get("value")])
            raise QuestionError('a filter is {"all": [...]}, {"any": [...]}, {"not": ...} or [variable, op, value]')
        if isinstance(node, (list, tuple)):
            if node and isinstance(node[0], str):
                return _condition(node)
            return {"all": [walk(child, depth + 1) for child in node]}
        raise QuestionError('a condition is [variable, op, value], such as ["age", ">=", 18]')

    return walk([] if where is None else where, 0)


def _children(found: Any) -> Sequence[Any]:
    if not isinstance(found, (list, tuple)):
        raise QuestionError('"all" and "any" take a list')
    return found


def _condition(node: Sequence[Any]) -> list[Any]:
    if len(node) == 2 and node[1] == "missing":
        node = [*node, True]
    if len(node) != 3 or not isinstance(node[1], str):
        raise QuestionError('a condition is [variable, op, value], such as ["age", ">=", 18]')
    name, op, value = node[0], str(node[1]), node[2]
    name = one_form(str(name)) if isinstance(name, str) else name
    if op not in (*COMPARE, "in", "missing"):
        raise QuestionError(f'"{op}" is not a comparison of filters', hint="one of == != < <= > >= in missing")
    if op == "in":
        value = listed(value)
        if not isinstance(value, list) or not value:
            raise QuestionError(f'"{name}" in: a list of values is wanted')
        return [name, op, [_plain(one) for one in value]]
    if op == "missing":
        return [name, op, bool(True if value is None else value)]
    return [name, op, _plain(value)]


def _plain(value: Any) -> Any:
    value = native(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()[:10]
    if not isinstance(value, (str, int, float, bool)) or (isinstance(value, float) and not np.isfinite(value)):
        raise QuestionError("a filter compares with a text, a number or a date")
    return one_form(value) if isinstance(value, str) else value


def filter_columns(tree: Any) -> tuple[str, ...]:
    """The variables that a (canonical) filter names, in order of appearance."""
    if isinstance(tree, dict):
        parts: list[Any] = tree.get("all") or tree.get("any") or [tree.get("not", [])]
        return tuple(dict.fromkeys(name for part in parts for name in filter_columns(part)))
    return (tree[0],) if tree else ()


def check_filter(tree: Any, dictionary: Dictionary) -> None:
    """Whether a canonical filter can be asked at all, found out on no rows. Raises QuestionError."""
    keep(tree, Rows(dictionary, 0, {}))


def keep(tree: Any, rows: Rows) -> np.ndarray:
    """Which patients a canonical filter keeps, boolean, shape (n,). Raises QuestionError for unregistered cut points."""
    if isinstance(tree, dict):
        if "not" in tree:
            return ~keep(tree["not"], rows) & _all_known(tree["not"], rows)
        parts = [keep(part, rows) for part in (tree["all"] if "all" in tree else tree["any"])]
        if not parts:
            return np.full(rows.n, "all" in tree)
        return np.logical_and.reduce(parts) if "all" in tree else np.logical_or.reduce(parts)
    name, op, value = tree
    if name == RESERVED:
        rows.dictionary[name]
    present = rows.present(name)
    if op == "missing":
        return ~present if value else present
    if op == "in":
        return np.logical_or.reduce([_compare(rows, name, "==", one) for one in value]) & present
    return _compare(rows, name, op, value) & present


def _all_known(tree: Any, rows: Rows) -> np.ndarray:
    """Null satisfies nothing but `missing`: the negation of a comparison does not hold for an unknown value either."""
    if isinstance(tree, dict):
        parts: list[Any] = [tree["not"]] if "not" in tree else tree.get("all") or tree.get("any") or []
        return np.logical_and.reduce([_all_known(part, rows) for part in parts]) if parts else np.ones(rows.n, dtype=bool)
    return np.ones(rows.n, dtype=bool) if tree[1] == "missing" else rows.present(tree[0])


def _compare(rows: Rows, name: str, op: str, value: Any) -> np.ndarray:
    variable = rows.dictionary[name]
    if variable.labels is not None:
        code = variable.code(value)
        if op not in ("==", "!="):
            raise QuestionError(f'"{name}" is of type {variable.type}: it can be compared with == != in missing only')
        return (rows.steps(name) == code) == (op == "==")
    wanted = variable.number(value)
    _check_cut(variable, op, wanted, value)
    slack = ON_STEP * (variable.unit_step or 0.0)
    values = rows.values(name)
    with np.errstate(invalid="ignore"):
        match op:
            case "<":
                return values < wanted - slack
            case "<=":
                return values <= wanted + slack
            case ">":
                return values > wanted + slack
            case ">=":
                return values >= wanted - slack
            case _:
                return (np.abs(values - wanted) <= slack) == (op == "==")


def _check_cut(variable: Variable, op: str, wanted: float, value: Any) -> None:
    """Filters cut at registered cut points only: `> 4` on whole numbers cuts at 5, `== 4` at 4 and at 5."""
    step = variable.unit_step or 0.0
    cuts = {"<": [wanted], ">=": [wanted], "<=": [wanted + step], ">": [wanted + step]}.get(op, [wanted, wanted + step])
    if op in ("==", "!=") and variable.unit_step is None:
        raise QuestionError(f'"{variable.name}" is a number without a step: it cannot be compared with {op}', hint="use < or >=")
    if all(variable.is_cut(cut) for cut in cuts):
        return
    if variable.cuts is None:
        raise QuestionError(f'"{variable.name}" is a number without cut points: it cannot be filtered on',
                            hint=f'add "cut_points" to "{variable.name}" in the dictionary')
    near = sorted(variable.cuts, key=lambda cut: abs(cut - cuts[0]))[:4]
    raise QuestionError(f'"{variable.name}" {op} {value} does not cut at a registered cut point',
                        hint="nearest cut points: " + ", ".join(f"{cut:g}" for cut in sorted(near))
                        + "; filters mean: < and >= at a cut point (<= and > one step below it)")
