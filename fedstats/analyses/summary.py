"""Summary: how many patients, mean, standard deviation, standard error and confidence interval of each column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.variable import Variable
from ..disclosure import may_count
from ..disclosure.precision import Public, Told
from ..disclosure.release import Average, Declared, moment_classes
from ..query.analysis import Joint, Params, Result, Setting, analysis, names_of
from ..query.views import Picture, Table
from ..sums.statistic import INDICATORS, Sums
from .shared.centred import settled_moments
from .shared.common import CONFIDENCE, check_confidence
from .shared.implied import Silent, silent
from .shared.moments import Moments, moments
from .shared.telling import told_mean


class SummaryParams(Params, frozen=True):
    """columns : numbers, integers or booleans. confidence : of the interval of the mean."""

    names: tuple[str, ...]
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return self.names

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        of = self.population()
        return tuple(Average(of, (name,), classes=moment_classes(dictionary, (name,))) for name in self.names)

    def check(self, dictionary: Dictionary) -> None:
        names_of(self.names)
        check_confidence(self.confidence)
        for name in self.names:
            dictionary.numeric(name)


class ColumnSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column, in its own unit; `low` and `high` are the Student interval of the mean. None: not released.

    Of a number whose values are few the mean may stand alone."""

    column: str
    unit: str
    n: int
    missing: int | None
    mean: Told[float | None]
    sd: Told[float | None]
    se: Told[float | None]
    low: Told[float | None]
    high: Told[float | None]


class Summary(Result, frozen=True, kw_only=True):
    """Frame: index `column`; columns n, missing, mean, sd, se, ci_low, ci_high, unit. `result["age"]` is one column."""

    kind: ClassVar[str] = "summary"

    columns: tuple[ColumnSummary, ...]
    confidence: Public[float]

    def __getitem__(self, name: str) -> ColumnSummary:
        return {one.column: one for one in self.columns}[name]

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((c.column, c.n, c.missing, c.mean, c.sd, c.se, c.low, c.high, c.unit) for c in self.columns)
        return (Table(("column", "n", "missing", "mean", "sd", "se", "ci_low", "ci_high", "unit"), rows, title="Summary"),)

    def picture(self) -> Picture:
        return Picture("points", f"Mean with {self.confidence:.0%} interval", labels=tuple(c.column for c in self.columns),
                       series=tuple((name, tuple(getattr(c, name) for c in self.columns)) for name in ("mean", "low", "high")))


def _call(columns: str | Iterable[str], *, confidence: float = CONFIDENCE) -> SummaryParams:
    """summary(columns, confidence=0.95)"""
    return SummaryParams(names_of(columns), confidence)


@analysis("summary/1", params=SummaryParams, result=Summary, call=_call)
def summary(params: SummaryParams, setting: Setting) -> Joint:
    """n, mean, SD, SE and Student interval of the mean, over complete cases.

    The mean of a yes or no is shown only if the table of its levels might be; of a number whose values are few the mean alone, unless
    the whole table of its values might be.
    """
    (totals,) = yield [moments(columns=params.names)]
    shown = may_count(int(totals["n"][0]), setting.rules, int(totals["n" + INDICATORS][0]))
    known = yield from settled_moments(totals, params.names, setting, wanted=np.full((len(params.names), 1), shown))
    return _result(params, setting, totals, shown, [known[k, 0] for k in range(len(params.names))])


def _result(params: SummaryParams, setting: Setting, totals: Sums, shown: bool, known: list[Moments]) -> Summary:
    columns, notes, everybody = [], [], np.ones(1, dtype=bool)
    for k, (name, found) in enumerate(zip(params.names, known)):
        variable, rules = setting.dictionary[name], setting.rules
        kept = silent(totals, k, variable, ~(everybody & shown), rules)
        notes += kept.notes(name, (), everybody, rules)
        columns.append(_column(name, variable, found, kept, setting, params.confidence))
    return Summary(size=setting.size, columns=tuple(columns), confidence=params.confidence, notes=tuple(notes),
                   methods=f"Means with standard deviations and Student {params.confidence:.0%} confidence intervals.")


def _column(name: str, variable: Variable, found: Moments, kept: Silent, setting: Setting, confidence: float) -> ColumnSummary:
    missing = setting.size.missing.get(name)
    if kept.means[0]:
        return ColumnSummary(name, variable.unit, found.n, missing, *(None,) * 5)
    told = told_mean(found, variable, setting.rules, confidence, spread=not kept.spreads[0])
    return ColumnSummary(name, variable.unit, found.n, missing, told.value, told.sd, told.se, told.low, told.high)
