"""Cross-tabulation: people per combination of levels, with the tests of independence that a paper prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
from scipy import special

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..disclosure.precision import Public, PValue, Statistic
from ..disclosure.release import Declared, People, axes
from ..disclosure.suppression import MOST_CELLS, Shown, show_table
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis, names_of
from ..query.views import Picture, Table
from ..sums.statistic import INDICATORS, Block, statistic
from .shared.common import CONFIDENCE, check_confidence, count_cells, group_of, groups, p_chi2, smaller_levels, z_of

MOST_VARIABLES = 4


def _layout(dictionary: Dictionary, *, variables: Sequence[str], missing: bool = False) -> dict[str, Block]:
    shape = tuple(len(groups(dictionary, name, missing)) for name in variables)
    lines = {f"line{k}": Block((size,), counts=True) for k, size in enumerate(shape)} if len(shape) > 1 else {}
    return {"people": Block(shape, counts=True)} | lines


@statistic("counts/2", layout=_layout)
def counts(rows: Rows, variables: Sequence[str], missing: bool = False) -> dict:
    """People per cell of the table of these variables, over complete cases (or with a level "missing" for each); and, for several
    variables, per level of each."""
    cases = rows if missing else rows.complete(variables)
    shape = [len(groups(rows.dictionary, name, missing)) for name in variables]
    places = [group_of(cases, name, missing) for name in variables]
    lines = {f"line{k}": np.bincount(place, minlength=size) for k, (place, size) in enumerate(zip(places, shape))}
    return {"people": count_cells(shape, places)} | (lines if len(shape) > 1 else {})


class CrosstabParams(Params, frozen=True):
    """variables : two to four columns that have groups. missing : whether unknown is a level of its own."""

    variables: tuple[str, ...]
    missing: bool = False
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return () if self.missing else self.variables

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        return (People(self.population(), axes(dictionary, self.variables, unknown=self.missing)),)

    def check(self, dictionary: Dictionary) -> None:
        names_of(self.variables)
        check_confidence(self.confidence)
        if not 1 <= len(self.variables) <= MOST_VARIABLES:
            raise QuestionError(f"crosstab takes 1 to {MOST_VARIABLES} variables, not {len(self.variables)}")
        cells = math.prod(len(groups(dictionary, name, self.missing)) for name in self.variables)
        if cells > MOST_CELLS:
            raise QuestionError(f"this table would have {cells} cells: at most {MOST_CELLS}", hint="use coarser cut points")


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One cell. count, expected : people, seen and under independence. share : of its row, with Wilson interval."""

    levels: tuple[str, ...]
    count: int | None
    expected: float | None
    share: float | None
    low: float | None
    high: float | None


class Fisher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fisher's exact test of a 2x2 table: conditional maximum likelihood odds ratio with exact interval, two-sided p.
    None for an infinite limit."""

    odds_ratio: float | None
    low: float | None
    high: float | None
    p: PValue[float]


class Crosstab(Result, frozen=True, kw_only=True):
    """Frame: one row per combination of levels (index: the variables), columns n, expected, share, ci_low, ci_high.
    `wide()` is the table people print. Tests are None where a cell is suppressed."""

    kind: ClassVar[str] = "crosstab"

    variables: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    cells: tuple[Cell, ...]
    margins: tuple[tuple[int | None, ...], ...]
    total: int
    suppressed: int
    chi2: Statistic[float | None] = None
    df: int | None = None
    p: PValue[float | None] = None
    chi2_yates: Statistic[float | None] = None
    p_yates: PValue[float | None] = None
    cramers_v: Statistic[float | None] = None
    fisher: Fisher | None = None
    confidence: Public[float] = CONFIDENCE

    def array(self) -> np.ndarray:
        """The counts as an array of doubles, one dimension per variable, NaN where suppressed."""
        flat = [math.nan if cell.count is None else float(cell.count) for cell in self.cells]
        return np.array(flat).reshape([len(one) for one in self.levels])

    def wide(self) -> Table:
        """Rows: combinations of all but the last variable; columns: levels of the last; with totals where they are shown."""
        last, width = self.levels[-1], len(self.levels[-1])
        rows = []
        for start in range(0, len(self.cells), width):
            line = self.cells[start:start + width]
            total = (self.margins[0][start // width],) if len(self.levels) == 2 else ()
            rows.append((*line[0].levels[:-1], *(cell.count for cell in line), *total))
        if len(self.levels) == 2:
            rows.append(("total", *self.margins[1], self.total))
        names = (*self.variables[:-1], *last, *(("total",) if len(self.levels) == 2 else ()))
        return Table(names, tuple(rows), index=len(self.variables) - 1, title=" x ".join(self.variables))

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((*c.levels, c.count, c.expected, c.share, c.low, c.high) for c in self.cells)
        long = Table((*self.variables, "n", "expected", "share", "ci_low", "ci_high"), rows, index=len(self.variables),
                     title=" x ".join(self.variables))
        tests = (("chi-squared", self.chi2, self.df, self.p), ("chi-squared, Yates", self.chi2_yates, self.df, self.p_yates),
                 ("Cramer's V", self.cramers_v, None, None),
                 ("Fisher odds ratio", self.fisher.odds_ratio if self.fisher else None, None, self.fisher.p if self.fisher else None))
        return (long, Table(("test", "value", "df", "p"), tuple(row for row in tests if row[1] is not None), title="Tests"))

    def picture(self) -> Picture:
        width = len(self.levels[-1])
        labels = tuple(" / ".join(self.cells[k].levels[:-1]) or self.variables[0] for k in range(0, len(self.cells), width))
        series = tuple((level, tuple(self.cells[k + j].count for k in range(0, len(self.cells), width)))
                       for j, level in enumerate(self.levels[-1]))
        return Picture("bars", " x ".join(self.variables), x=", ".join(self.variables[:-1]), y="patients", labels=labels, series=series)


def _call(*variables: str, missing: bool = False, confidence: float = CONFIDENCE) -> CrosstabParams:
    """crosstab(a, b, ..., missing=False, confidence=0.95)"""
    found = variables[0] if len(variables) == 1 and not isinstance(variables[0], str) else variables
    return CrosstabParams(names_of(found), missing, confidence)


@analysis("crosstab/1", params=CrosstabParams, result=Crosstab, call=_call)
def crosstab(params: CrosstabParams, setting: Setting) -> Joint:
    """People per cell, expected counts, shares with Wilson intervals, chi-squared, Cramer's V, Fisher for 2x2.

    Tests are computed from the table that is shown, and only if no cell of it is suppressed: their statistics would give
    the suppressed cells back. Which margins are shown is decided for each variable alone, as all analyses decide on sizes of groups: a
    margin that this table hid beside a cell could be read off another question.
    """
    (totals,) = yield [counts(variables=params.variables, missing=params.missing)]
    levels = tuple(groups(setting.dictionary, name, params.missing) for name in params.variables)
    nobody = [setting.nobody(name, params.missing) for name in params.variables]
    lines = [show_table(totals[f"line{k}"], totals[f"line{k}{INDICATORS}"], setting.rules, vacant=[nobody[k]]).cells == Shown.HIDDEN
             for k in range(len(levels))] if len(levels) > 1 else None
    shown = show_table(totals["people"], totals["people" + INDICATORS], setting.rules, margins_hidden=lines, firm=False, vacant=nobody)
    notes = []
    if not shown.whole:
        notes.append(f"{shown.hidden} numbers are suppressed (rule min_cell {setting.rules.min_cell}, with complementary "
                     f"suppression); tests need the whole table: {smaller_levels(setting.rules)}, or leave a variable out")
    table = np.where(shown.cells < 0, -1, shown.cells)
    expected = _expected(shown.margins, shown.total) if len(levels) > 1 else np.full(table.shape, np.nan)
    cells = []
    for place in np.ndindex(table.shape):
        row_total = int(shown.margins[0][place[0]]) if len(levels) == 2 else shown.total
        count = None if table[place] < 0 else int(table[place])
        share = wilson(count, row_total, params.confidence) if count is not None and row_total > 0 else (None,) * 3
        cells.append(Cell(tuple(level[k] for level, k in zip(levels, place)), count,
                          None if np.isnan(expected[place]) else float(expected[place]), *share))
    margins = tuple(tuple(None if m < 0 else int(m) for m in margin) for margin in shown.margins)
    tests = _tests(table, params.confidence) if shown.whole and len(levels) > 1 else {}
    return Crosstab(size=setting.size, variables=params.variables, levels=levels, cells=tuple(cells), margins=margins,
                    total=shown.total, suppressed=shown.hidden, confidence=params.confidence, notes=tuple(notes),
                    methods="Cross-tabulation with Pearson's chi-squared test without continuity correction, Cramer's V"
                            + (", Fisher's exact test" if table.shape == (2, 2) else "") + " and Wilson intervals.", **tests)


def _expected(margins: Sequence[np.ndarray], total: int) -> np.ndarray:
    """Counts under mutual independence, from shown margins only; NaN where a margin is suppressed."""
    expected = np.array(float(total))
    for margin in margins:
        share = np.where(margin < 0, np.nan, margin / max(total, 1))
        expected = expected[..., None] * share
    return expected


def _tests(table: np.ndarray, confidence: float) -> dict[str, Any]:
    """Tests of (mutual) independence over levels that occur. Agresti (2013), Categorical Data Analysis, section 3.2."""
    for axis in range(table.ndim):
        others = tuple(a for a in range(table.ndim) if a != axis)
        table = np.compress(table.sum(axis=others) > 0, table, axis=axis)
    if min(table.shape, default=0) < 2:
        return {}
    total = int(table.sum())
    expected = _expected([table.sum(axis=tuple(a for a in range(table.ndim) if a != axis)) for axis in range(table.ndim)], total)
    chi2 = float(((table - expected) ** 2 / expected).sum())
    df = table.size - 1 - sum(size - 1 for size in table.shape)
    found: dict[str, Any] = {"chi2": chi2, "df": df, "p": p_chi2(chi2, df)}
    if table.ndim == 2:
        found["cramers_v"] = math.sqrt(chi2 / total / (min(table.shape) - 1))
    if table.shape == (2, 2):
        gap = np.abs(table - expected)
        yates = float(((gap - np.minimum(0.5, gap)) ** 2 / expected).sum())
        found |= {"chi2_yates": yates, "p_yates": p_chi2(yates, df), "fisher": fisher(table, confidence)}
    return found


def wilson(count: int, n: int, confidence: float) -> tuple[float, float, float]:
    """A share with its score interval, which ends at 0 where nobody has it, and at 1 where
    everybody has. Wilson (1927), JASA 22:209-212."""
    z, share = z_of(confidence), count / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return share, centre - half if count else 0.0, centre + half if count < n else 1.0


def fisher(table: np.ndarray, confidence: float) -> Fisher:
    """Fisher's exact test as R prints it: conditional ML odds ratio, exact interval, p summed over tables not more probable.

    Agresti (2013), sections 3.5 and 16.6.4.
    """
    (a, b), (c, d) = table.tolist()
    low, high = max(0, a + c - (c + d)), min(a + b, a + c)
    x = np.arange(low, high + 1)
    log_weight = (special.gammaln(a + b + 1) - special.gammaln(x + 1) - special.gammaln(a + b - x + 1)
                  + special.gammaln(c + d + 1) - special.gammaln(a + c - x + 1) - special.gammaln(c + d - a - c + x + 1))

    def distribution(log_odds: float) -> np.ndarray:
        weight = log_weight + log_odds * x
        weight = np.exp(weight - weight.max())
        return weight / weight.sum()

    def solve(gap: Any) -> float:
        from scipy.optimize import brentq

        # odds ratios beyond exp(+-60) do not occur in tables of people
        return math.exp(brentq(gap, -60.0, 60.0, xtol=1e-13, rtol=1e-14))

    null = distribution(0.0)
    here = null[a - low]
    p = float(min(1.0, null[null <= here * (1 + 1e-7)].sum()))      # 1e-7: ties up to rounding count, as in R
    tail = (1 - confidence) / 2
    odds = 0.0 if a == low else None if a == high else solve(lambda t: float((distribution(t) * x).sum()) - a)
    lower = 0.0 if a == low else solve(lambda t: float(distribution(t)[x >= a].sum()) - tail)
    upper = None if a == high else solve(lambda t: float(distribution(t)[x <= a].sum()) - tail)
    return Fisher(odds, lower, upper, p)
