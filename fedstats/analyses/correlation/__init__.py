"""Correlation: Pearson from sums of products, Spearman from mid-ranks over all registries.

Both are averages over everybody, computed from all complete cases. A correlation of columns with few
levels is a table of people in disguise, so that table must be safe. Ranks are in `ranks`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from ...data.dictionary import MOST_BINS, Dictionary
from ...data.rows import Rows
from ...data.variable import Variable
from ...disclosure import may_imply
from ...disclosure.precision import Public, PValue, Statistic, to_step
from ...disclosure.precision import Told as Given
from ...disclosure.release import Average, Declared, counted, moment_classes
from ...errors import QuestionError
from ...query.analysis import Joint, Params, Result, Setting, analysis, names_of
from ...query.views import Picture, Table
from ...sums.statistic import INDICATORS, Block, Sums, statistic
from ..shared.centred_products import Product, settled_products
from ..shared.common import CONFIDENCE, check_confidence, count_cells, ends_of_bins, integer_bound, p_student, z_of
from ..shared.implied import count_blocks, counts_of, is_few, silent
from ..shared.moments import scaled
from ..shared.telling import told_correlation
from .ranks import PAIRED_STEPS, correlations, may_rank, rank_margins

MOST_COLUMNS = 12
METHODS = ("both", "pearson", "spearman")



# -- local halves ------------------------------------------------------------------------------------------------------------


def _whole(dictionary: Dictionary, *names: str) -> bool:
    return all(dictionary.numeric(name).unit_step is not None for name in names)


def _products_layout(dictionary: Dictionary, *, columns: Sequence[str]) -> dict[str, Block]:
    blocks = {"n": Block(counts=True)}
    for k, name in enumerate(columns):
        variable = dictionary.numeric(name)
        if _whole(dictionary, name):
            blocks |= {f"x{k}": Block((), integer_bound(variable), integer=True),
                       f"xx{k}": Block((), integer_bound(variable, 2), integer=True)}
        else:
            blocks |= {f"x{k}": Block(), f"xx{k}": Block()}
        blocks |= {one: Block(block.shape[1:], counts=True) for one, block in count_blocks(variable, k, 1).items()}
    for j, k in itertools.combinations(range(len(columns)), 2):
        a, b = dictionary.numeric(columns[j]), dictionary.numeric(columns[k])
        whole = _whole(dictionary, a.name, b.name)
        blocks[f"xy{j},{k}"] = Block((), integer_bound(a) * integer_bound(b), integer=True) if whole else Block()
        if _paired(a) and _paired(b):
            blocks[f"levels{j},{k}"] = Block((_levels(a), _levels(b)), counts=True)
    return blocks


@statistic("products/2", layout=_products_layout)
def products(rows: Rows, columns: Sequence[str]) -> dict:
    """People, sums, squares and products of all pairs, over complete cases; centred and scaled as in moments.

    A product is of whole steps where both columns have them, else of both as shares of their range. Columns with a step add people per
    value, and pairs of those with few steps the table of both, which a correlation may give away.
    """
    cases, dictionary = rows.complete(columns), rows.dictionary
    sums: dict[str, Any] = {"n": cases.n}
    everybody = np.zeros(cases.n, dtype=np.int64)
    for k, name in enumerate(columns):
        x = cases.steps(name) if _whole(dictionary, name) else scaled(cases, name)
        sums |= {f"x{k}": _sum(x), f"xx{k}": _sum(x * x)}
        sums |= {one: counts[0] for one, counts in counts_of(cases, name, k, everybody, 1).items()}
    for j, k in itertools.combinations(range(len(columns)), 2):
        a, b = columns[j], columns[k]
        if _whole(dictionary, a, b):
            sums[f"xy{j},{k}"] = (cases.steps(a) * cases.steps(b)).sum()
        else:
            sums[f"xy{j},{k}"] = _sum(_share(cases, a) * _share(cases, b))
        if _paired(dictionary[a]) and _paired(dictionary[b]):
            sums[f"levels{j},{k}"] = count_cells((_levels(dictionary[a]), _levels(dictionary[b])), (cases.steps(a), cases.steps(b)))
    return sums


def _sum(x: np.ndarray) -> Any:
    """Whole numbers exactly, others rounded once."""
    return x.sum() if x.dtype.kind == "i" else math.fsum(x.tolist())


def _paired(variable: Variable) -> bool:
    """Whether the table of this column with others is counted: it may turn out to have few values, and has few enough."""
    return counted(variable) and (variable.steps or 0) <= PAIRED_STEPS


def _levels(variable: Variable) -> int:
    assert variable.steps is not None
    return variable.steps + 1


def _share(rows: Rows, name: str) -> np.ndarray:
    """A column as a share of its range, 0..1."""
    steps = rows.dictionary[name].steps
    return scaled(rows, name) if steps is None else rows.steps(name) / steps


# -- question and result -----------------------------------------------------------------------------------------------------


class CorrelationParams(Params, frozen=True):
    """names : two or more numbers, integers or booleans. method : "both", "pearson" or "spearman"."""

    names: tuple[str, ...]
    method: str = "both"
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return self.names

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        of = self.population()
        return tuple(Average(of, pair, classes=moment_classes(dictionary, pair)) for pair in itertools.combinations(self.names, 2))

    def check(self, dictionary: Dictionary) -> None:
        names_of(self.names)
        check_confidence(self.confidence)
        if not 2 <= len(self.names) <= MOST_COLUMNS:
            raise QuestionError(f"correlation takes 2 to {MOST_COLUMNS} columns, not {len(self.names)}")
        if self.method not in METHODS:
            raise QuestionError(f'there is no correlation method "{self.method}"', hint="methods are: " + ", ".join(METHODS))
        for name in self.names:
            dictionary.numeric(name)


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A correlation with its Fisher z interval and t test. t is None at -1 and 1, the interval for fewer than 4 patients."""

    r: Given[float]
    low: Given[float | None]
    high: Given[float | None]
    t: Statistic[float | None]
    df: int
    p: PValue[float]


class Spearman(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spearman's rank correlation, Fisher z interval, the wider interval of Bonett & Wright, and t test.

    classes : the registered classes of values of each column. exact : each of a single value, so that the coefficient equals
    that of the pooled rows; else that of the pooled rows with values put into their classes.
    """

    rho: Given[float]
    low: Given[float | None]
    high: Given[float | None]
    low_bonett_wright: Given[float | None]
    high_bonett_wright: Given[float | None]
    t: Statistic[float | None]
    df: int
    p: PValue[float]
    classes: tuple[int, int]
    exact: bool


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two columns and their correlations. None: not asked for, not defined or not released; the notes say which."""

    x: str
    y: str
    n: int
    pearson: Coefficient | None
    spearman: Spearman | None


class Correlation(Result, frozen=True, kw_only=True):
    """Frame: one row per pair (index `x`, `y`), columns n, for Pearson r, r_low, r_high, t, df, p, for Spearman rho, rho_low,
    rho_high, rho_p, classes_x, classes_y, exact. `matrix("pearson")` is the matrix people print; `result["age", "edss"]` is one pair."""

    kind: ClassVar[str] = "correlation"

    columns: tuple[str, ...]
    pairs: tuple[Pair, ...]
    method: str
    confidence: Public[float] = CONFIDENCE

    def __getitem__(self, names: tuple[str, str]) -> Pair:
        return {frozenset((one.x, one.y)): one for one in self.pairs}[frozenset(names)]

    def matrix(self, method: str = "pearson") -> np.ndarray:
        """The coefficients, shape (columns, columns), ones on the diagonal, NaN where not released. method : "pearson" or "spearman"."""
        found = np.eye(len(self.columns))
        for one in self.pairs:
            if method == "pearson":
                value = one.pearson.r if one.pearson else math.nan
            else:
                value = one.spearman.rho if one.spearman else math.nan
            j, k = self.columns.index(one.x), self.columns.index(one.y)
            found[j, k] = found[k, j] = value
        return found

    def tables(self) -> tuple[Table, ...]:
        linear = ("r", "r_low", "r_high", "t", "df", "p") if self.method != "spearman" else ()
        ranks = ("rho", "rho_low", "rho_high", "rho_p", "classes_x", "classes_y", "exact") if self.method != "pearson" else ()
        rows = []
        for one in self.pairs:
            r, s = one.pearson, one.spearman
            left = (r.r, r.low, r.high, r.t, r.df, r.p) if r else (None,) * len(linear)
            right = (s.rho, s.low, s.high, s.p, *s.classes, s.exact) if s else (None,) * len(ranks)
            rows.append((one.x, one.y, one.n, *left, *right))
        return (Table(("x", "y", "n", *linear, *ranks), tuple(rows), index=2, title="Correlation"),)

    def picture(self) -> Picture:
        method = "spearman" if self.method == "spearman" else "pearson"
        matrix = self.matrix(method)
        return Picture("heat", f"Correlation ({method.capitalize()})", labels=self.columns, columns=self.columns,
                       series=tuple((name, tuple(None if math.isnan(v) else float(v) for v in row))
                                    for name, row in zip(self.columns, matrix)), y_range=(-1.0, 1.0))


def _call(columns: Iterable[str], *, method: str = "both", confidence: float = CONFIDENCE) -> CorrelationParams:
    """correlation(columns, method="both", confidence=0.95)"""
    return CorrelationParams(names_of(columns), method, confidence)


# -- joint half --------------------------------------------------------------------------------------------------------------


@analysis("correlation/1", params=CorrelationParams, result=Correlation, call=_call)
def correlation(params: CorrelationParams, setting: Setting) -> Joint:
    """Pearson's and Spearman's correlation of every pair of columns, with intervals and tests, over complete cases of all of them.

    Spearman's is from counts at registered levels or cut points, mid-ranks for ties.
    """
    dictionary, names = setting.dictionary, params.names
    pairs = list(itertools.combinations(range(len(names)), 2))
    notes: list[str] = []
    wanted = [name for name in names if params.method != "pearson" and _has_ranks(dictionary, name, notes)]
    ranked = len(wanted) > 1
    first = yield [*([products(columns=names)] if params.method != "spearman" else []), *([rank_margins(columns=wanted)] if ranked else [])]
    sums = first[0] if params.method != "spearman" else None
    margins, rho = (first[-1], (yield from correlations(first[-1], wanted))) if ranked else ({}, {})
    released = [one for one in pairs if sums is not None and _may_correlate(sums, names, *one, setting, notes)]
    settled = (yield from settled_products(sums, names, setting, released)) if sums is not None else {}
    result = []
    for j, k in pairs:
        linear_r = _pearson(settled[j, k], names, j, k, setting, params.confidence, notes) if (j, k) in settled else None
        ranks = None
        if names[j] in wanted and names[k] in wanted:
            places = (wanted.index(names[j]), wanted.index(names[k]))
            ranks = _spearman(margins, rho[places], places, wanted, setting, params.confidence, notes)
        result.append(Pair(names[j], names[k], setting.size.n, linear_r, ranks))
    if any(one.spearman and not one.spearman.exact for one in result):
        notes.append("Spearman correlations where `exact` is false are on classes of values (registered cut points): patients of one "
                     "class count as ties, which draws the coefficient towards 0 where classes are few")
    return Correlation(size=setting.size, columns=names, pairs=tuple(result), method=params.method, confidence=params.confidence,
                       notes=tuple(notes), methods=_methods(params))


def _methods(params: CorrelationParams) -> str:
    names = "Pearson and Spearman" if params.method == "both" else params.method.capitalize()
    return f"{names} correlations with {params.confidence:.0%} intervals by Fisher's z and tests by Student's t."


# -- Pearson -----------------------------------------------------------------------------------------------------------------


def _may_correlate(sums: Sums, names: Sequence[str], j: int, k: int, setting: Setting, notes: list[str]) -> bool:
    """Whether the tables that Pearson's r gives away are safe."""
    if _safe(sums, names, j, k, setting):
        return True
    notes.append(f'Pearson of "{names[j]}" and "{names[k]}" not released: it would give away a cell with fewer than '
                 f"{setting.rules.min_cell} people (rule min_cell); leave out the column with rare levels, or ask for a larger cohort")
    return False


def _safe(sums: Sums, names: Sequence[str], j: int, k: int, setting: Setting) -> bool:
    """A column of few values with one of many: those at its ends may be known. Two of few values: the table of both may be."""
    if setting.rules.min_cell <= 1:
        return True
    one_group = {name: np.asarray(block)[None] for name, block in sums.items()}
    variables = {one: setting.dictionary[names[one]] for one in (j, k)}
    if any(silent(one_group, one, variable, np.zeros(1, dtype=bool), setting.rules).means[0] for one, variable in variables.items()):
        return False
    if not all(is_few(sums, one, variable) for one, variable in variables.items()):
        return True
    both = f"levels{j},{k}"
    return both in sums and may_imply(sums[both], sums[both + INDICATORS], setting.rules)


def _pearson(found: Product, names: Sequence[str], j: int, k: int, setting: Setting, confidence: float, notes: list[str]
             ) -> Coefficient | None:
    """Pearson's r. Altman (1991), sections 11.3 and 11.7."""
    n = setting.size.n
    if n < 3 or not found.left > 0 or not found.right > 0:
        notes.append(f'Pearson of "{names[j]}" and "{names[k]}" is not defined: it needs three patients and values that vary')
        return None
    r = min(1.0, max(-1.0, found.both / math.sqrt(found.left) / math.sqrt(found.right)))
    t, p = t_test(r, n)
    r, *told = told_correlation(r, n, setting.rules)
    return Coefficient(r, *fisher_interval(r, 1 / (n - 3) if n > 3 else None, confidence, *told), t, n - 2, p)


def t_test(r: float, n: int) -> tuple[float | None, float]:
    """Student's t of a correlation with n - 2 degrees of freedom, and its p."""
    if abs(r) == 1:
        return None, 0.0
    t = r * math.sqrt((n - 2) / ((1 - r) * (1 + r)))
    return t, p_student(t, n - 2)


def fisher_interval(r: float, variance: float | None, confidence: float, wider: float = 0.0, step: float = 0.0
                    ) -> tuple[float | None, float | None]:
    """tanh(atanh(r) +- z sqrt(variance)). Fisher (1921), Metron 1:3-32; the variance is 1 / (n - 3) for Pearson's r.

    wider : what is added on both sides, for the digits that r has lost. step : in which limits are told; 0: exactly."""
    if variance is None:
        return None, None
    if abs(r) == 1:
        return r, r
    half = z_of(confidence) * math.sqrt(variance)
    low, high = (math.tanh(math.atanh(r) + sign * half) + sign * wider for sign in (-1, 1))
    return to_step(max(low, -1.0), step), to_step(min(high, 1.0), step)


# -- Spearman ----------------------------------------------------------------------------------------------------------------


def _has_ranks(dictionary: Dictionary, name: str, notes: list[str]) -> bool:
    """Whether a column has bins by which its values can be ranked."""
    variable = dictionary[name]
    if variable.type == "boolean" or variable.cuts is not None or (variable.steps is not None and variable.steps < MOST_BINS):
        return True
    notes.append(f'no Spearman with "{name}": it has no cut points; add "cut_points" to it in the dictionary')
    return False


def _spearman(margins: Sums, rho: float | None, places: tuple[int, int], names: Sequence[str], setting: Setting, confidence: float,
              notes: list[str]) -> Spearman | None:
    """Spearman's rho with its intervals, if the tables that it gives away are safe. places : of the two among `names`."""
    label = f'Spearman of "{names[places[0]]}" and "{names[places[1]]}"'
    if not may_rank(margins, *places, names, setting.dictionary, setting.rules):
        notes.append(f"{label} not released: it would give away a cell with fewer than {setting.rules.min_cell} people (rule min_cell); "
                     "leave out the column with rare levels, or ask for a larger cohort")
        return None
    n = int(margins["n"])
    if n < 3 or rho is None:
        notes.append(f"{label} is not defined: it needs three patients and values that vary")
        return None
    ends = [ends_of_bins(setting.dictionary, names[place]) for place in places]
    exact = all(low == high for one in ends for low, high in one)
    t, p = t_test(rho, n)
    room = n - 3 if n > 3 else None
    rho, *told = told_correlation(rho, n, setting.rules)
    return Spearman(rho, *fisher_interval(rho, 1 / room if room else None, confidence, *told),
                    *fisher_interval(rho, (1 + rho * rho / 2) / room if room else None, confidence, *told), t, n - 2, p,
                    (len(ends[0]), len(ends[1])), exact)
