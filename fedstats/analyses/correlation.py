"""Correlation: Pearson from sums of products, Spearman from the table of both columns' bins.

How this works: Pearson's r of a column with few levels is a table of people in disguise, so that table must be safe. Spearman
needs the table of two columns. Under release rules its rows and columns are merged with neighbours until every cell is safe;
how many registries have people in a merged cell is not known from the small ones, so a second round counts the merged table,
and the coefficient is computed from that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..analysis import Joint, Params, Result, Setting, analysis, names_of
from ..dictionary import MOST_BINS, Dictionary
from ..disclosure import Rules, may_imply
from ..errors import QuestionError
from ..rows import Rows
from ..statistic import INDICATORS, Block, Sums, statistic
from ..variable import Variable
from ..views import Picture, Table
from ._common import CONFIDENCE, check_confidence, count_cells, ends_of_bins, integer_bound, p_student, z_of
from .moments import few_levels, scaled
from .rank_tables import FEWEST_CLASSES, Cuts, cuts_for, merged_table, rank_correlation

MOST_COLUMNS = 12
MOST_TABLE = 20_000         # cells of the table of two columns, before merging
# of a share of the range: a spread of less than a ten-millionth of it is that of rounding
LEAST_VARIANCE = 1e-14
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
        if few_levels(variable):
            blocks[f"levels{k}"] = Block((_levels(variable),), counts=True)
    for j, k in itertools.combinations(range(len(columns)), 2):
        a, b = dictionary.numeric(columns[j]), dictionary.numeric(columns[k])
        whole = _whole(dictionary, a.name, b.name)
        blocks[f"xy{j},{k}"] = Block((), integer_bound(a) * integer_bound(b), integer=True) if whole else Block()
        if few_levels(a) and few_levels(b):
            blocks[f"levels{j},{k}"] = Block((_levels(a), _levels(b)), counts=True)
    return blocks


@statistic("products/1", layout=_products_layout)
def products(rows: Rows, columns: Sequence[str]) -> dict:
    """People, sums, squares and products of all pairs, over complete cases; centred and scaled as in moments.

    A product is of whole steps where both columns have them, else of both as shares of their range. Columns with few levels
    add the tables that a correlation would give away.
    """
    cases, dictionary = rows.complete(columns), rows.dictionary
    sums: dict[str, Any] = {"n": cases.n}
    for k, name in enumerate(columns):
        x = cases.steps(name) if _whole(dictionary, name) else scaled(cases, name)
        sums |= {f"x{k}": x.sum(), f"xx{k}": (x * x).sum()}
        if few_levels(dictionary[name]):
            sums[f"levels{k}"] = np.bincount(x, minlength=_levels(dictionary[name]))
    for j, k in itertools.combinations(range(len(columns)), 2):
        a, b = columns[j], columns[k]
        if _whole(dictionary, a, b):
            sums[f"xy{j},{k}"] = (cases.steps(a) * cases.steps(b)).sum()
        else:
            sums[f"xy{j},{k}"] = (_share(cases, a) * _share(cases, b)).sum()
        if few_levels(dictionary[a]) and few_levels(dictionary[b]):
            sums[f"levels{j},{k}"] = count_cells((_levels(dictionary[a]), _levels(dictionary[b])), (cases.steps(a), cases.steps(b)))
    return sums


def _levels(variable: Variable) -> int:
    assert variable.steps is not None
    return variable.steps + 1


def _share(rows: Rows, name: str) -> np.ndarray:
    """A column as a share of its range, 0..1."""
    steps = rows.dictionary[name].steps
    return scaled(rows, name) if steps is None else rows.steps(name) / steps


def _pair_layout(dictionary: Dictionary, *, columns: Sequence[str], a: str, b: str, cuts_a: Cuts | None = None,
                 cuts_b: Cuts | None = None) -> dict[str, Block]:
    shape = tuple(len(dictionary.bins(name)) if cuts is None else len(cuts) - 1 for name, cuts in ((a, cuts_a), (b, cuts_b)))
    return {"people": Block(shape, counts=True)}


@statistic("pair/1", layout=_pair_layout)
def pair(rows: Rows, columns: Sequence[str], a: str, b: str, cuts_a: Cuts | None = None, cuts_b: Cuts | None = None) -> dict:
    """People per bin of a and bin of b, over complete cases of all the columns. cuts_a, cuts_b : merge neighbouring bins."""
    cases = rows.complete(columns)
    places, shape = [], []
    for name, cuts in ((a, cuts_a), (b, cuts_b)):
        found = cases.bins(name)
        places.append(found if cuts is None else np.searchsorted(cuts, found, side="right") - 1)
        shape.append(len(rows.dictionary.bins(name)) if cuts is None else len(cuts) - 1)
    return {"people": count_cells(shape, places)}


# -- question and result -----------------------------------------------------------------------------------------------------


class CorrelationParams(Params, frozen=True):
    """names : two or more numbers, integers or booleans. method : "both", "pearson" or "spearman"."""

    names: tuple[str, ...]
    method: str = "both"
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return self.names

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

    r: float
    low: float | None
    high: float | None
    t: float | None
    df: int
    p: float


class Spearman(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spearman's rank correlation, Fisher z interval, the wider interval of Bonett & Wright, and t test.

    classes : how many classes of values of each column were ranked. exact : each of a single value, so that the coefficient
    equals that of the pooled rows.
    """

    rho: float
    low: float | None
    high: float | None
    low_bonett_wright: float | None
    high_bonett_wright: float | None
    t: float | None
    df: int
    p: float
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
    verbatim: ClassVar[frozenset[str]] = frozenset({"confidence"})

    columns: tuple[str, ...]
    pairs: tuple[Pair, ...]
    method: str
    confidence: float = CONFIDENCE

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
    dictionary, rules, names = setting.dictionary, setting.rules, params.names
    pairs = list(itertools.combinations(range(len(names)), 2))
    notes: list[str] = []
    wanted = pairs if params.method != "pearson" else []
    ranked = [(j, k) for j, k in wanted if _may_rank(dictionary, names[j], names[k], notes)]
    linear = [products(columns=names)] if params.method != "spearman" else []
    totals = yield [*linear, *(pair(columns=names, a=names[j], b=names[k]) for j, k in ranked)] or [products(columns=names)]
    sums, found = (totals[0] if linear else None), dict(zip(ranked, totals[len(linear):]))
    cuts: dict[tuple[int, int], tuple[Cuts, Cuts]] = {}
    for place in ranked:
        cut = cuts_for(found[place]["people"], rules)
        if cut is None:
            notes.append(_held_back(names, place, rules))
        else:
            cuts[place] = cut
    coarse = [place for place, cut in cuts.items() if tuple(len(one) - 1 for one in cut) != found[place]["people"].shape]
    if coarse:
        # every party has the same whole numbers, so all derive the same cuts
        again = yield [pair(columns=names, a=names[j], b=names[k], cuts_a=cuts[j, k][0], cuts_b=cuts[j, k][1]) for j, k in coarse]
        found |= dict(zip(coarse, again))
    result = []
    for j, k in pairs:
        linear_r = _pearson(sums, names, j, k, setting, params.confidence, notes) if sums is not None else None
        ranks = _spearman(found[j, k], names, (j, k), cuts[j, k], setting, params.confidence, notes) if (j, k) in cuts else None
        result.append(Pair(names[j], names[k], setting.size.n, linear_r, ranks))
    if any(one.spearman and not one.spearman.exact for one in result):
        notes.append("Spearman correlations where `exact` is false are on classes of values (registered cut points, merged by the release "
                     "rules): patients of one class count as ties, which draws the coefficient towards 0 where classes are few")
    return Correlation(size=setting.size, columns=names, pairs=tuple(result), method=params.method, confidence=params.confidence,
                       notes=tuple(notes), methods=_methods(params))


def _methods(params: CorrelationParams) -> str:
    names = "Pearson and Spearman" if params.method == "both" else params.method.capitalize()
    return f"{names} correlations with {params.confidence:.0%} intervals by Fisher's z and tests by Student's t."


def _held_back(names: Sequence[str], place: tuple[int, int], rules: Rules) -> str:
    return (f'Spearman of "{names[place[0]]}" and "{names[place[1]]}" not released: merged until each cell of their table has nobody or '
            f"{rules.min_cell} people from {rules.min_registries} registries, fewer than {FEWEST_CLASSES} classes are left "
            "(rules min_cell, min_registries); ask for a larger cohort, or use Pearson")


# -- Pearson -----------------------------------------------------------------------------------------------------------------


def _pearson(sums: Sums, names: Sequence[str], j: int, k: int, setting: Setting, confidence: float, notes: list[str]) -> Coefficient | None:
    """Pearson's r, if the tables that it gives away are safe. Altman (1991), sections 11.3 and 11.7."""
    implied = [block for block in (f"levels{j}", f"levels{k}", f"levels{j},{k}") if block in sums]
    label = f'Pearson of "{names[j]}" and "{names[k]}"'
    if not all(may_imply(sums[block], sums[block + INDICATORS], setting.rules) for block in implied):
        notes.append(f"{label} not released: it would give away a cell with fewer than {setting.rules.min_cell} people (rule min_cell); "
                     "leave out the column with rare levels, or ask for a larger cohort")
        return None
    n = int(sums["n"])
    a, b = setting.dictionary[names[j]], setting.dictionary[names[k]]
    whole = a.steps is not None and b.steps is not None
    x, xx, y, yy = (sums[f"{block}{i}"].item() for i in (j, k) for block in ("x", "xx"))
    if not whole:       # as shares of the range, like their product
        x, xx = (x / a.steps, xx / a.steps**2) if a.steps is not None else (x, xx)
        y, yy = (y / b.steps, yy / b.steps**2) if b.steps is not None else (y, yy)
    xy = sums[f"xy{j},{k}"].item()
    # whole numbers: exact however far the means lie from the lower ends
    left, right, both = n * xx - x * x, n * yy - y * y, n * xy - x * y
    least, rest = (0.0 if one.steps is not None else LEAST_VARIANCE * n * n for one in (a, b))
    if n < 3 or not left > least or not right > rest:
        notes.append(f"{label} is not defined: it needs three patients and values that vary")
        return None
    r = min(1.0, max(-1.0, both / math.sqrt(left) / math.sqrt(right)))
    t, p = t_test(r, n)
    return Coefficient(r, *fisher_interval(r, n, 1 / (n - 3) if n > 3 else None, confidence), t, n - 2, p)


def t_test(r: float, n: int) -> tuple[float | None, float]:
    """Student's t of a correlation with n - 2 degrees of freedom, and its p."""
    if abs(r) == 1:
        return None, 0.0
    t = r * math.sqrt((n - 2) / ((1 - r) * (1 + r)))
    return t, p_student(t, n - 2)


def fisher_interval(r: float, n: int, variance: float | None, confidence: float) -> tuple[float | None, float | None]:
    """tanh(atanh(r) +- z sqrt(variance)). Fisher (1921), Metron 1:3-32; the variance is 1 / (n - 3) for Pearson's r."""
    if variance is None:
        return None, None
    if abs(r) == 1:
        return r, r
    half = z_of(confidence) * math.sqrt(variance)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


# -- Spearman ----------------------------------------------------------------------------------------------------------------


def _may_rank(dictionary: Dictionary, a: str, b: str, notes: list[str]) -> bool:
    for name in (a, b):
        variable = dictionary[name]
        if variable.type != "boolean" and variable.cuts is None and (variable.steps is None or variable.steps >= MOST_BINS):
            notes.append(f'no Spearman of "{a}" and "{b}": "{name}" has no cut points; add "cut_points" to it in the dictionary')
            return False
    cells = len(dictionary.bins(a)) * len(dictionary.bins(b))
    if cells > MOST_TABLE:
        notes.append(f'no Spearman of "{a}" and "{b}": their table has {cells} cells, at most {MOST_TABLE} are counted; '
                     "add coarser cut points in the dictionary")
        return False
    return True


def _spearman(totals: Sums, names: Sequence[str], place: tuple[int, int], cuts: tuple[Cuts, Cuts], setting: Setting, confidence: float,
              notes: list[str]) -> Spearman | None:
    table, there = totals["people"], totals["people" + INDICATORS]
    if not may_imply(table, there, setting.rules):      # enough people, too few registries: now that these are known, merge on
        further = cuts_for(table, setting.rules, there)
        if further is None:
            notes.append(_held_back(names, place, setting.rules))
            return None
        table = merged_table(table, *further)
        cuts = [cuts[0][k] for k in further[0]], [cuts[1][k] for k in further[1]]
    n, rho = int(table.sum()), rank_correlation(table)
    label = f'Spearman of "{names[place[0]]}" and "{names[place[1]]}"'
    if n < 3 or rho is None:
        notes.append(f"{label} is not defined: it needs three patients and values that vary")
        return None
    used = [np.flatnonzero(table.sum(axis=1 - axis)) for axis in (0, 1)]
    exact = all(_single(ends_of_bins(setting.dictionary, names[place[axis]]), cuts[axis], used[axis]) for axis in (0, 1))
    classes = (len(used[0]), len(used[1]))
    t, p = t_test(rho, n)
    room = n - 3 if n > 3 else None
    return Spearman(rho, *fisher_interval(rho, n, 1 / room if room else None, confidence),
                    *fisher_interval(rho, n, (1 + rho * rho / 2) / room if room else None, confidence), t, n - 2, p, classes, exact)


def _single(ends: Sequence[tuple[float, float]], cuts: Cuts, used: np.ndarray) -> bool:
    return all(ends[cuts[k]][0] == ends[cuts[k + 1] - 1][1] for k in used)
