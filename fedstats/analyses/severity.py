"""Severity: where a patient's EDSS ranks among patients with the disease for as long (MSSS), or of the same age (ARMSS).

How this works: registries count people per EDSS and year; the ranks come from the summed counts, so that the table is that of all patients
together although nobody has them all. A score at year i ranks among patients of the years i - 2 to i + 2. Two such tables a year apart
give away the years at their ends, so yearly tables are computed only where every year and EDSS may be shown on its own; else the years are
cut into bands of five, each ranked in itself, and neighbouring scores of EDSS are merged until each cell of a band may be shown.

Roxburgh et al., Neurology 2005;64:1144 (MSSS); Manouchehrinia et al., Mult Scler 2017;23:1938 (ARMSS). The tables published with them rest
on other patients, and are not shipped here.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..disclosure import Rules, intervals, merged, safe
from ..disclosure.precision import OnCurve, Public
from ..disclosure.release import Average, Declared, People, axes
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis
from ..query.views import Table
from ..sums.statistic import INDICATORS, Block, statistic
from .shared.common import at_most, count_cells

Score = Literal["msss", "armss"]

EDSS_STEP, DEATH = 0.5, 10.0
LEVELS = (0.0, *(k * EDSS_STEP for k in range(2, 20)))      # 0.5 does not exist, 10 is death
NEIGHBOURS = 2                      # years on both sides
TOP = 10.0                          # of the scores
YEARS = {"msss": (1, 30), "armss": (18, 75)}    # that are scored; a duration of 30 years or more is in year 30
TIMES = {"msss": "disease_duration", "armss": "age"}


def _counted(score: str) -> tuple[int, int]:
    """The first and the last year that is counted: neighbours of the outermost ages count, durations end where they end."""
    first, last = YEARS[score]
    return (first, last) if score == "msss" else (first - NEIGHBOURS, last + NEIGHBOURS)


def _layout(dictionary: Dictionary, *, score: str, edss: str, time: str) -> dict[str, Block]:
    first, last = _counted(score)
    return {"people": Block((last - first + 1, len(LEVELS)), counts=True)}


@statistic("severity/1", layout=_layout)
def severity_counts(rows: Rows, score: str, edss: str, time: str) -> dict:
    """People per year of disease (year k: from k - 1 to k years) or of age, and EDSS."""
    cases = rows.complete([edss, time])
    first, last = _counted(score)
    level, year = _level_of(cases.values(edss)), _year_of(cases.values(time), score)
    keep = (level >= 0) & (year >= first) & (year <= last)
    return {"people": count_cells((last - first + 1, len(LEVELS)), (year[keep] - first, level[keep]))}


def _level_of(edss: np.ndarray) -> np.ndarray:
    """The place of a score among LEVELS, -1 where it is none."""
    half = np.rint(np.nan_to_num(edss, nan=-1.0) / EDSS_STEP).astype(np.int64)
    return np.where(half == 0, 0, np.where((half > 1) & (half < DEATH / EDSS_STEP), half - 1, -1))


def _year_of(time: np.ndarray, score: str) -> np.ndarray:
    """Year of disease, 1 for the first and 30 for all from the 30th on; or completed years of age."""
    whole = np.floor(np.nan_to_num(time, nan=-1.0)).astype(np.int64)
    return np.where(whole < 0, -1, np.minimum(whole + 1, YEARS["msss"][1])) if score == "msss" else whole


class SeverityParams(Params, frozen=True):
    """score : msss or armss. edss : the column of EDSS; time : of disease duration in years (msss) or age (armss)."""

    score: Score
    edss: str = "edss"
    time: str = ""

    def columns(self) -> tuple[str, ...]:
        return self.edss, self.time or TIMES[self.score]

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        of = self.population()
        return (People(of, axes(dictionary, (self.edss,)), hides="bands", merged=self.edss), Average(of, self.columns()))

    def check(self, dictionary: Dictionary) -> None:
        for name in self.columns():
            if dictionary[name].type not in ("number", "integer"):
                raise QuestionError(f'"{name}" is not a number', hint="name the columns of EDSS and of years: edss=..., time=...")
        if dictionary[self.edss].low != 0 or dictionary[self.edss].high > DEATH:
            raise QuestionError(f'"{self.edss}" is no EDSS: its range is not 0 to 10', hint="name the column of EDSS: edss=...")


class SeverityCell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score of patients in these years (both included) with EDSS from low to high (both included)."""

    first_year: Public[float]
    last_year: Public[float]
    low: Public[float]
    high: Public[float]
    score: OnCurve[float]


class Severity(Result, frozen=True, kw_only=True):
    """Frame: one row per range of years and of EDSS (index `first_year`, `last_year`, `low`, `high`), column score."""

    kind: ClassVar[str] = "severity"

    score: Score
    cells: tuple[SeverityCell, ...]

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((one.first_year, one.last_year, one.low, one.high, one.score) for one in self.cells)
        return (Table(("first_year", "last_year", "low", "high", "score"), rows, index=4, title=self.score.upper()),)

    def apply(self, edss: np.ndarray, time: np.ndarray) -> np.ndarray:
        """The scores of patients. edss, time : as asked for, arrays of one shape, NaN where not known. NaN where the table has no score."""
        edss, year = np.asarray(edss, float), _year_of(np.asarray(time, float), self.score)
        found = np.full(edss.shape, np.nan)
        for one in self.cells:
            inside = (year >= one.first_year) & (year <= one.last_year) & (edss >= one.low) & (edss <= one.high) & (_level_of(edss) >= 0)
            found[inside] = one.score
        return found


def _call(score: Score = "msss", *, edss: str = "edss", time: str = "") -> SeverityParams:
    """severity(score="msss", edss="edss", time="disease_duration" or "age")"""
    return SeverityParams(score, edss, time)


@analysis("severity/1", params=SeverityParams, result=Severity, call=_call)
def severity(params: SeverityParams, setting: Setting) -> Joint:
    """MSSS or ARMSS of these patients: mean rank of each EDSS, times 10 / (n + 1), within years or bands of years."""
    edss, time = params.columns()
    (totals,) = yield [severity_counts(score=params.score, edss=edss, time=time)]
    counts, contributors = totals["people"].astype(np.int64), totals["people" + INDICATORS]
    first, last = YEARS[params.score]
    offset = first - _counted(params.score)[0]
    rest = setting.size.n - int(counts.sum())
    yearly = _all_shown(counts, contributors, setting.rules) and safe(rest, setting.rules)
    shown: dict[tuple[int, int], tuple[np.ndarray, tuple[tuple[int, int], ...]]] = {}
    for start, stop in [(y, y) for y in range(first, last + 1)] if yearly else _bands(first, last):
        low, high = (start - NEIGHBOURS, stop + NEIGHBOURS) if yearly else (start, stop)
        rows = slice(max(low - first + offset, 0), high - first + offset + 1)
        people, there = counts[rows].sum(axis=0), contributors[rows].max(axis=0)
        if ranges := _ranges(people, there, setting.rules, yearly):
            shown[start, stop] = merged(people, ranges), ranges
    if not yearly:
        _with_rest(shown, setting.size.n, setting.rules)
    cells = [cell for (start, stop), (people, ranges) in shown.items() for cell in _ranked(start, stop, people, ranges)]
    notes = [] if yearly else [
        f"years are in bands of {2 * NEIGHBOURS + 1}, each ranked in itself, and neighbouring scores are merged so that each cell "
        f"holds at least {setting.rules.min_cell} people (rule min_cell)"]
    joined = [(int(count), int(people.sum())) for people, ranges in shown.values() for (a, b), count in zip(ranges, people.tolist())
              if b - a > 1]
    if joined:      # a single EDSS may rank anywhere within those it is merged with
        far = max((TOP * (count - 1) / 2 / (n + 1) for count, n in joined if count), default=0.0)
        notes.append("the score of a merged range differs from that of one EDSS in it, ranked in the same band, by at most "
                     f"{at_most(far):g}")
    if not yearly and (hidden := len(_bands(first, last)) - len(shown)):
        notes.append(f"{hidden} bands of years are not shown: they, or what would be left of everybody, hold too few people "
                     "(rules min_cell, min_registries)")
    title = "Multiple Sclerosis Severity Score (Roxburgh et al., Neurology 2005;64:1144)" if params.score == "msss" else \
        "Age Related Multiple Sclerosis Severity score (Manouchehrinia et al., Mult Scler 2017;23:1938)"
    how = f"{NEIGHBOURS} years to both sides" if yearly else f"bands of {2 * NEIGHBOURS + 1} years"
    return Severity(size=setting.size, score=params.score, cells=tuple(cells), notes=tuple(notes),
                    methods=f"{title} from the ranks of these patients' EDSS within {how}, times {TOP:g} / (n + 1).")


def _bands(first: int, last: int) -> list[tuple[int, int]]:
    """Consecutive bands of a year and its neighbours; a short one at the end joins the one before."""
    width = 2 * NEIGHBOURS + 1
    starts = range(first, last + 2 - width, width)
    return [(start, last if start == starts[-1] else start + width - 1) for start in starts]


def _all_shown(counts: np.ndarray, contributors: np.ndarray, rules: Rules) -> bool:
    """Whether every year and EDSS could be shown on its own, as tables of overlapping years give them away."""
    enough = (counts >= rules.min_cell) & (contributors >= rules.min_registries)
    return bool((enough | ((counts == 0) & (not rules.hides_zeros))).all())


def _ranges(people: np.ndarray, there: np.ndarray, rules: Rules, yearly: bool) -> tuple[tuple[int, int], ...]:
    if not people.sum():
        return ()
    if yearly:
        return tuple((k, k + 1) for k in range(len(people)))
    return intervals(people, there, rules, zeros=not rules.hides_zeros)


def _with_rest(shown: dict[tuple[int, int], tuple[np.ndarray, tuple[tuple[int, int], ...]]], n: int, rules: Rules) -> None:
    """Take bands away, the smallest first, until those who are in none of them are nobody or enough: the number of all is known."""
    while shown and not safe(n - sum(int(people.sum()) for people, _ in shown.values()), rules):
        del shown[min(shown, key=lambda band: (int(shown[band][0].sum()), band))]


def _ranked(start: int, stop: int, people: np.ndarray, ranges: tuple[tuple[int, int], ...]) -> list[SeverityCell]:
    """Mean ranks, ties shared: those below, and half of those at the level. Empty levels have no score."""
    n, below, cells = int(people.sum()), 0, []
    for (a, b), count in zip(ranges, people.tolist()):
        if count:
            cells.append(SeverityCell(start, stop, LEVELS[a], LEVELS[b - 1], TOP * (below + (count + 1) / 2) / (n + 1)))
        below += count
    return cells
