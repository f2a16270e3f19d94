"""The released model: trees that xgboost reads, what they were made from, and predictions without xgboost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.native import listed, table_of
from ...data.rows import Rows, load
from ...data.variable import Variable
from ...disclosure.precision import Public
from ...errors import InputError, QuestionError
from ...query.analysis import Result
from ...query.views import Picture, Table
from .bins import Feature
from .objectives import COX, HAZARD, LOGISTIC, POISSON, sigmoid
from .soundness import check_model, check_tree

MOST_SHOWN = 20         # features of the picture


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tree; entry k of each is node k, and children of -1 mark a leaf; children come after their parent. All numbers are
    32-bit floats. Raises ValueError for what is no tree (`soundness`).

    left, right : children. feature : column. threshold : x < threshold goes left, missing goes left if default_left. value : of a
    leaf, on the scale of the margin, learning rate included. cover : weight that passes the node, rounded by the release rules.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    default_left: tuple[bool, ...]
    value: tuple[float, ...]
    cover: tuple[float, ...]

    def __post_init__(self) -> None:
        check_tree(self)

    @property
    def leaves(self) -> int:
        return sum(child < 0 for child in self.left)

    @property
    def depth(self) -> int:
        depth = [0] * len(self.left)
        for k, (left, right) in enumerate(zip(self.left, self.right)):
            if left >= 0:
                depth[left] = depth[right] = depth[k] + 1
        return max(depth)


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the model. name : as xgboost knows it. variable : of the dictionary. level : position of an indicator's level.
    bins : how many bins it was cut into, 0 if trees could not use it. missing_as_lowest : too few missing values to be told apart."""

    name: str
    variable: str
    level: int | None = None
    bins: int = 0
    missing_as_lowest: bool = False


class RiskModel(Result, frozen=True, kw_only=True):
    """Frame: one row per column of the model (index `column`), columns variable, bins, splits (how often trees cut there).

    `predict`, `margins` and `contributions` take new data as a frame or a dict of columns; `booster()` is the xgboost Booster and
    `save` its file. trees, columns, base_score : the model. variables : the dictionary's lines of its covariates, for checking new
    data. time, ends : follow-up time and the ends of its grid intervals (hazards). metrics : on the training patients ("held_" : on
    those held out), from sealed sums. parameters : how it was trained. n is the number of training patients, events of those with the
    outcome (None: not a yes or no).
    """

    kind: ClassVar[str] = "boost"

    outcome: str
    objective: str
    covariates: tuple[str, ...]
    columns: Public[tuple[Column, ...]]
    trees: Public[tuple[Tree, ...]]
    base_score: Public[float]
    base_margin: Public[float]
    variables: Public[tuple[Variable, ...]]
    time: str | None = None
    ends: Public[tuple[float, ...]] = ()
    events: int | None = None
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    parameters: Public[dict[str, Any]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_model(self)

    # -- use -----------------------------------------------------------------------------------------------------------------

    def matrix(self, data: Any, *, at: float | None = None) -> np.ndarray:
        """New patients as the model's columns, float32, shape (patients, columns), NaN where missing.

        data : a frame, a dict of columns, or a dict of single values. at : for hazards, the end of the interval.
        Raises InputError naming column and rule for values that the dictionary does not allow.
        """
        return self._matrix(self._rows(data), at)

    def margins(self, data: Any, *, at: float | None = None) -> np.ndarray:
        """The sum of the base margin and the leaves, float32: the same bits as the Booster's `output_margin`."""
        return self._margins(self.matrix(data, at=at))

    def margins_of(self, rows: Rows, *, at: float | None = None) -> np.ndarray:
        """The same for rows that a registry has loaded already."""
        return self._margins(self._matrix(rows, at))

    def predict(self, data: Any, *, horizon: float | Sequence[float] | None = None) -> np.ndarray:
        """What the model says of new patients, one number each.

        binary:logistic : probability. reg:squarederror : mean. count:poisson : expected count. survival:cox : relative hazard,
        exp(margin). hazard:logistic : absolute risk up to `horizon`, one of `ends`, the last by default; several horizons give an
        array of shape (patients, horizons).
        """
        if self.objective == HAZARD:
            return self._risk(data, horizon)
        if horizon is not None:
            raise QuestionError(f"a model of {self.objective} has no horizon",
                                hint=f'train it with objective="{HAZARD}" for absolute risks')
        margin = self.margins(data)
        if self.objective == LOGISTIC:
            return sigmoid(margin)
        return np.exp(margin.astype(float)) if self.objective in (POISSON, COX) else margin.astype(float)

    def contributions(self, data: Any, *, at: float | None = None) -> np.ndarray:
        """SHAP values by xgboost, on the scale of the margin, shape (patients, columns + 1); the last column is the mean.

        Rows sum to the margin. Lundberg et al. (2020), Nature Machine Intelligence 2:56-67.
        """
        from .booster import matrix_of

        return self.booster().predict(matrix_of(self, self.matrix(data, at=at)), pred_contribs=True)

    def booster(self) -> Any:
        """The model as an `xgboost.Booster`."""
        from .booster import booster_of

        return booster_of(self)

    def save(self, path: str | Path) -> None:
        """Write the file that `load_model` of xgboost 1.7 and later reads: .json or .ubj. Raises InputError for other endings."""
        from .booster import save

        save(self, path)

    # -- views ---------------------------------------------------------------------------------------------------------------

    @property
    def splits(self) -> dict[str, int]:
        """How often trees cut on each column."""
        counts = [0] * len(self.columns)
        for tree in self.trees:
            for left, feature in zip(tree.left, tree.feature):
                counts[feature] += left >= 0
        return {column.name: count for column, count in zip(self.columns, counts)}

    def tables(self) -> tuple[Table, ...]:
        splits = self.splits
        title = f"{self.outcome}: {len(self.trees)} trees, {self.objective}"
        found = [Table(("column", "variable", "bins", "splits"),
                       tuple((one.name, one.variable, one.bins, splits[one.name]) for one in self.columns), index=1, title=title)]
        if self.metrics:
            found.append(Table(("metric", "value"), tuple(self.metrics.items()), index=1, title="On the training patients"))
        return tuple(found)

    def picture(self) -> Picture:
        most = sorted(self.splits.items(), key=lambda one: -one[1])[:MOST_SHOWN]
        return Picture("bars", f"{self.outcome}: where trees cut", x="column", y="splits", labels=tuple(name for name, _ in most),
                       series=(("splits", tuple(count for _, count in most)),))

    # -- inside ---------------------------------------------------------------------------------------------------------------

    def _rows(self, data: Any) -> Rows:
        dictionary = Dictionary(name="the model's covariates", variables=self.variables, most_rows=1)
        rows, report = load(table_of(data), dictionary, who="new patients")
        for (name, rule), count in report.violations.items():
            raise InputError(f'column "{name}": {count} of {rows.n} values are {rule}', hint="see `model.variables` for ranges and levels")
        return rows

    def _matrix(self, rows: Rows, at: float | None) -> np.ndarray:
        found = np.empty((rows.n, len(self.columns)), dtype=np.float32)
        for k, column in enumerate(self.columns):
            if column.variable == self.time:
                found[:, k] = self.ends[-1] if at is None else at
            else:
                found[:, k] = Feature(column.name, column.variable, column.level).values(rows)
        return found

    def _margins(self, matrix: np.ndarray) -> np.ndarray:
        margin = np.full(len(matrix), self.base_margin, dtype=np.float32)
        for tree in self.trees:
            left, right, feature = (np.array(one) for one in (tree.left, tree.right, tree.feature))
            threshold, value = (np.array(one, dtype=np.float32) for one in (tree.threshold, tree.value))
            missing_left, node = np.array(tree.default_left), np.zeros(len(matrix), dtype=np.int64)
            moving = np.flatnonzero(left[node] >= 0)
            while len(moving):
                here = node[moving]
                x = matrix[moving, feature[here]]
                node[moving] = np.where(np.where(np.isnan(x), missing_left[here], x < threshold[here]), left[here], right[here])
                moving = moving[left[node[moving]] >= 0]
            margin = margin + value[node]
        return margin

    def _risk(self, data: Any, horizon: float | Sequence[float] | None) -> np.ndarray:
        """1 - product of (1 - hazard) over the intervals up to each horizon. Singer & Willett (1993), J Educ Stat 18:155-195."""
        given = listed(horizon)
        single = not isinstance(given, list)
        wanted = [self.ends[-1]] if given is None else [given] if single else given
        for one in wanted:
            if one not in self.ends:
                raise QuestionError(f"{one:g} is not the end of an interval of this model",
                                    hint="ends are: " + ", ".join(f"{end:g}" for end in self.ends))
        survival, found = np.ones(self._rows(data).n), {}
        for end in self.ends:
            survival = survival * (1 - sigmoid(self.margins(data, at=end)))
            found[end] = 1 - survival
        return found[wanted[0]] if single else np.stack([found[one] for one in wanted], axis=1)
