"""Features of a boosted model and their bins: which columns a covariate becomes, and where trees may cut it.

How this works. A number, integer, date or boolean is one feature; a category becomes one indicator per level, named `sex=M`, in the
dictionary's order, as xgboost users expect from one-hot coding (xgboost forbids brackets in names). Trees cut at registered cut points
only, so nobody can slide a threshold, and thresholds are 32-bit floats, as xgboost compares 32-bit floats. From sealed counts per
registered bin neighbours are merged until a feature has no more bins than asked for and, under release rules, until each holds the
smallest cell. A few missing values, too few to be a bin of their own, count as the lowest bin and so always go left.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...data.variable import Variable
from ...disclosure import Rules
from .booster import names_for_xgboost

MOST_CANDIDATES = 512       # registered cut points of one variable that are considered; of more, every second, third ... is
INDICATOR = 1.0             # the threshold between false and true: x < 1 goes left


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the model.

    name : as xgboost knows it. variable : of the dictionary. level : for an indicator, the level's position.
    thresholds : where bins begin, the first bin aside; 32-bit floats. fold : missing values count as the lowest bin.
    """

    name: str
    variable: str
    level: int | None = None
    thresholds: tuple[float, ...] = ()
    fold: bool = False

    @property
    def bins(self) -> int:
        return len(self.thresholds) + 1

    def values(self, rows: Rows) -> np.ndarray:
        """The column as the model sees it, float32, NaN where missing."""
        found = rows.values(self.variable)
        if self.level is not None:
            found = np.where(np.isnan(found), np.nan, found == self.level)
        return found.astype(np.float32)

    def places(self, rows: Rows) -> np.ndarray:
        """The bin of each row, int64, -1 where missing (0 where missing values are folded in)."""
        values = self.values(rows)
        found = np.searchsorted(np.array(self.thresholds, dtype=np.float32), values, side="right")
        return np.where(np.isnan(values), 0 if self.fold else -1, found)


def candidates(dictionary: Dictionary, name: str) -> tuple[float, ...]:
    """The thresholds at which a variable that is not a category may be cut, increasing 32-bit floats.

    Raises QuestionError for a number without cut points.
    """
    variable = dictionary[name]
    if variable.type == "boolean":
        return (INDICATOR,)
    edges = dictionary.bins(name).edges
    assert edges is not None
    inner = edges[1:-1]
    inner = inner[::-(-len(inner) // MOST_CANDIDATES)] if len(inner) > MOST_CANDIDATES else inner
    return tuple(dict.fromkeys(float(np.float32(cut)) for cut in inner))


def columns(dictionary: Dictionary, covariates: Sequence[str]) -> tuple[Feature, ...]:
    """All features of these covariates, at every candidate threshold; the model's columns, in order."""
    found: list[Feature] = []
    for name in covariates:
        variable = dictionary[name]
        if variable.type == "category":
            found += [Feature(indicator(variable, k), name, k, (INDICATOR,)) for k in range(len(variable.labels or ()))]
        else:
            found.append(Feature(name, name, None, candidates(dictionary, name)))
    names = names_for_xgboost([one.name for one in found])
    return tuple(msgspec.structs.replace(one, name=name) for one, name in zip(found, names))


def indicator(variable: Variable, level: int) -> str:
    """The name of a level's column."""
    return f"{variable.name}={(variable.labels or ())[level]}"


def merged(feature: Feature, people: np.ndarray, contributors: np.ndarray, most: int, rules: Rules) -> Feature | None:
    """The feature with its bins merged, or None where no cut is left.

    people, contributors : patients and contributing registries per candidate bin, the last entry those missing.
    most : bins. Whole numbers only, so every registry merges alike.
    """
    counts, there = [int(one) for one in people[:-1]], [int(one) for one in contributors[:-1]]
    missing, missing_there = int(people[-1]), int(contributors[-1])
    ruled = rules.min_cell > 1
    fold = ruled and (0 < missing < rules.min_cell or (missing > 0 and missing_there < rules.min_registries))
    if fold:
        counts[0], there[0] = counts[0] + missing, max(there[0], missing_there)
    keep: list[int] = []            # merged bins end before these candidate bins
    held = registries = 0
    left, room = sum(counts), most
    for k, (count, who) in enumerate(zip(counts, there)):
        held, registries = held + count, max(registries, who)
        wanted = -(-left // room) if len(counts) > most else 0
        if ruled and (held < rules.min_cell or registries < rules.min_registries):
            continue
        if held < wanted or room == 1 or k == len(counts) - 1:
            continue
        keep.append(k)
        left, room, held, registries = left - held, room - 1, 0, 0
    # what is left over at the upper end joins the bin before it
    if keep and ruled and (held < rules.min_cell or registries < rules.min_registries):
        keep.pop()
    thresholds = tuple(feature.thresholds[k] for k in keep)
    if not thresholds and (fold or not missing):
        return None
    return msgspec.structs.replace(feature, thresholds=thresholds, fold=fold)
