"""Folds: any local half on some of a registry's patients, those of a fold or those outside it.

How this works. The fold of a patient is a hash of seed and patient id, so it does not depend on the registry or the row. `of_fold` wraps
any ask: a joint half that knows nothing of folds can so be run on the patients outside of one, and several such side by side in the same
rounds. The rows of a fold are kept in memory, so that what a local half keeps for the same rows is found again.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...errors import InputError
from ...sums.statistic import STATISTICS, Ask, Block, Layout, Sums, statistic

MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)      # splitmix64, Steele, Lea & Flood (2014), OOPSLA
MOST_FOLDS = 20


def fold_of(rows: Rows, seed: int, folds: int) -> np.ndarray:
    """The fold of each row's patient, int64 from 0, shape (n,)."""
    salt = int.from_bytes(hashlib.sha256(f"fedstats folds {seed}".encode()).digest()[:8], "big")
    with np.errstate(over="ignore"):
        z = rows.keys ^ np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX[0])
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX[1])
        z = z ^ (z >> np.uint64(31))
    return (z % np.uint64(folds)).astype(np.int64)


_KEPT: dict[int, tuple[weakref.ref, dict[tuple[int, int, int, bool], Rows]]] = {}


def rows_of_fold(rows: Rows, seed: int, folds: int, fold: int, inside: bool) -> Rows:
    """The rows of a fold, or those outside it; the same object for the same rows."""
    place = id(rows)
    known = _KEPT.get(place)
    if known is None or known[0]() is not rows:
        known = (weakref.ref(rows, lambda gone: _forget(place, gone)), {})
        _KEPT[place] = known
    key = (seed, folds, fold, inside)
    if key not in known[1]:
        # a copy even where all rows stay: what is kept by identity must not keep `rows` alive
        keep = (fold_of(rows, seed, folds) == fold) == inside
        known[1][key] = Rows(rows.dictionary, int(keep.sum()), {name: column[keep] for name, column in rows.held.items()},
                             None if rows.ids is None else rows.ids[keep], rows.flow)
    return known[1][key]


def _forget(place: int, gone: weakref.ref) -> None:
    if place in _KEPT and _KEPT[place][0] is gone:
        del _KEPT[place]


def _layout(dictionary: Dictionary, *, seed: int, folds: int, fold: int, inside: bool, statistic: str, params: Mapping[str, Any]) -> Layout:
    return _member(statistic).layout(dictionary, **params)


@statistic("of_fold/1", layout=_layout)
def of_fold(rows: Rows, seed: int, folds: int, fold: int, inside: bool, statistic: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Another local half on the patients of a fold (`inside`), or on all others."""
    return _member(statistic).local(rows_of_fold(rows, seed, folds, fold, inside), **params)


def _member(name: str) -> Any:
    member = STATISTICS.get(name)
    if member is None or member.finish is not None or member.alone or name == "of_fold/1":
        raise InputError(f'"{name}" cannot be asked about folds')
    return member


def _sizes_layout(dictionary: Dictionary, *, columns: list[str], seed: int, folds: int) -> Layout:
    return {"people": Block((folds,), counts=True)}


@statistic("fold_sizes/1", layout=_sizes_layout)
def fold_sizes(rows: Rows, columns: list[str], seed: int, folds: int) -> dict:
    """Patients of each fold, complete cases of the columns."""
    known = np.logical_and.reduce([rows.present(name) for name in columns], axis=0)
    return {"people": np.bincount(fold_of(rows, seed, folds)[known], minlength=folds)}


def outside(joint: Generator[list[Ask], list[Sums], Any], seed: int, folds: int, fold: int) -> Generator[list[Ask], list[Sums], Any]:
    """A joint half as it would run without the patients of one fold."""
    wrap: Callable[[Ask], Ask] = lambda one: of_fold(seed=seed, folds=folds, fold=fold, inside=False, statistic=one.statistic,      # noqa: E731
                                                     params=one.params)
    try:
        asks = next(joint)
        while True:
            asks = joint.send((yield [wrap(one) for one in asks]))
    except StopIteration as done:
        return done.value
