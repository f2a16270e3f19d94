"""Table 1: the characteristics of the patients, overall and by group, as the first table of a paper prints them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import ClassVar

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..data.variable import Variable
from ..disclosure import Rules, intervals, may_count, merged
from ..disclosure.precision import PValue, Statistic
from ..disclosure.precision import Told as Given
from ..disclosure.release import Average, Declared, People, axes, moment_classes
from ..disclosure.suppression import Shown, show_table
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis, names_of
from ..query.views import Picture, Table, count_text
from ..sums.statistic import INDICATORS, STATISTICS, Block, Sums, statistic
from .compare import welch_p
from .quantiles import in_single_bins, may_ask, quantile_of
from .shared.centred import settled_moments
from .shared.common import CONFIDENCE, count_cells, ends_of_bins, group_of, groups, p_chi2, smaller_levels
from .shared.implied import silent
from .shared.moments import Moments, moments
from .shared.telling import told_mean

ALL = "all"                     # the label of the column of everybody
MOST_MEDIAN_BINS = 5_000        # a number with more steps than that and no cut points gets no median
NO_QUARTILES: tuple[float | None, float | None, float | None, bool] = (None, None, None, False)
QUARTILES = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
MOST_BLUR = 1.0                 # SDs: a quartile is released only if the bin it lies in is not wider
FLAT = 1e-9                     # relative: directions of the covariance of shares below it carry no difference


# -- the local half ------------------------------------------------------------------------------------------------------------


def _has_median(dictionary: Dictionary, name: str) -> bool:
    variable = dictionary[name]
    return variable.cuts is not None or (variable.steps is not None and variable.steps < MOST_MEDIAN_BINS)


def _layout(dictionary: Dictionary, *, numbers: Sequence[str], levels: Sequence[str], by: str | None = None, missing: bool = False
            ) -> dict[str, Block]:
    g = len(groups(dictionary, by, missing)) if by else 1
    blocks = dict(STATISTICS["moments/2"].layout(dictionary, columns=numbers, by=by, missing=missing))
    for k, name in enumerate(numbers):
        if _has_median(dictionary, name):
            size = len(dictionary.bins(name))
            blocks |= {f"bins{k}": Block((g, size), counts=True), f"all_bins{k}": Block((size,), counts=True)}
    for k, name in enumerate(levels):
        size = len(groups(dictionary, name))
        blocks |= {f"cells{k}": Block((g, size), counts=True), f"all{k}": Block((size,), counts=True)}
    return blocks


@statistic("table_one/2", layout=_layout)
def characteristics(rows: Rows, numbers: Sequence[str], levels: Sequence[str], by: str | None = None, missing: bool = False) -> dict:
    """Per group: people, sums and squares of numbers and people per bin of them, people per level; complete cases over all."""
    cases = rows.complete([*numbers, *levels, *([by] if by and not missing else [])])
    sums = dict(moments.local(cases, columns=numbers, by=by, missing=missing))
    group = group_of(cases, by, missing) if by else np.zeros(cases.n, dtype=np.int64)
    g = len(sums["n"])
    for k, name in enumerate(numbers):
        if _has_median(rows.dictionary, name):
            sums[f"bins{k}"] = count_cells((g, len(rows.dictionary.bins(name))), (group, cases.bins(name)))
            sums[f"all_bins{k}"] = sums[f"bins{k}"].sum(axis=0)
    for k, name in enumerate(levels):
        sums[f"cells{k}"] = count_cells((g, len(groups(rows.dictionary, name))), (group, group_of(cases, name)))
        sums[f"all{k}"] = sums[f"cells{k}"].sum(axis=0)
    return sums


# -- question and result -------------------------------------------------------------------------------------------------------


class TableOneParams(Params, frozen=True):
    """cols : the characteristics, in the order of the table. by : the groups side by side.

    categorical : numbers and integers to be shown level by level; booleans, categories and dates always are.
    """

    cols: tuple[str, ...]
    by: str | None = None
    categorical: tuple[str, ...] = ()
    missing: bool = False

    def columns(self) -> tuple[str, ...]:
        return (*self.cols, self.by) if self.by and not self.missing else self.cols

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        of, levels = self.population(), self.levels(dictionary)
        by = axes(dictionary, (self.by,), unknown=self.missing) if self.by else ()
        return tuple(People(of, (*axes(dictionary, (name,)), *by), hides="levels") if name in levels
                     else Average(of, (name,), by, moment_classes(dictionary, (name,)), hides="levels") for name in self.cols)

    def check(self, dictionary: Dictionary) -> None:
        names_of(self.cols)
        if self.by in self.cols:
            raise QuestionError(f'"{self.by}" is both a characteristic and the grouping variable', hint="leave it out of cols")
        for name in self.categorical:
            if name not in self.cols:
                raise QuestionError(f'categorical names "{name}", which is not among cols')
        if self.by:
            groups(dictionary, self.by, self.missing)
        for name in self.levels(dictionary):
            groups(dictionary, name)

    def numbers(self, dictionary: Dictionary) -> list[str]:
        return [name for name in self.cols if dictionary[name].is_numeric and name not in self.categorical]

    def levels(self, dictionary: Dictionary) -> list[str]:
        return [name for name in self.cols if name not in self.numbers(dictionary)]


class Mean(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number in one column of the table; where its values are few the mean may stand alone. None: not released.

    Median and quartiles come from registered bins: `exact` if each holds one value."""

    mean: Given[float | None] = None
    sd: Given[float | None] = None
    median: float | None = None
    q1: float | None = None
    q3: float | None = None
    exact: bool = False


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """People at one level in one column of the table; `share` is of that column (0 to 1)."""

    count: int | None = None
    share: float | None = None


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of a characteristic: one cell per column of the table."""

    level: str
    cells: tuple[Share, ...]


class Characteristic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One characteristic: `means` for a number, `levels` for the rest, one entry per column of the table.

    smd : standardised mean difference, the largest over pairs of groups, never negative. test, p : "Welch" or "chi-squared".
    """

    column: str
    unit: str
    means: tuple[Mean, ...] = ()
    levels: tuple[Level, ...] = ()
    smd: Statistic[float | None] = None
    test: str = ""
    p: PValue[float | None] = None


class TableOne(Result, frozen=True, kw_only=True):
    """Frame: the table as people print it (index `characteristic`), one column per group, then SMD and p. A second table has
    the raw numbers, one row per characteristic, level and column. `result["age"]` is one characteristic."""

    kind: ClassVar[str] = "table_one"

    by: str | None
    columns: tuple[str, ...]
    sizes: tuple[int | None, ...]
    characteristics: tuple[Characteristic, ...]

    def __getitem__(self, name: str) -> Characteristic:
        return {one.column: one for one in self.characteristics}[name]

    def tables(self) -> tuple[Table, ...]:
        return (self.printed(), self.raw())

    def printed(self) -> Table:
        """The table of a paper: "62.4 (9.1)", "126 (59.4%)"."""
        rows: list[tuple[str | None, ...]] = [("n", *(None if n is None else count_text(n) for n in self.sizes))]
        for one in self.characteristics:
            unit = f", {one.unit}" if one.unit else ""
            if one.means:
                rows.append((f"{one.column}{unit}: mean (SD)", *(_mean_text(m) for m in one.means)))
                if any(_median_text(m) for m in one.means):
                    rows.append((f"{one.column}{unit}: median [Q1, Q3]", *(_median_text(m) for m in one.means)))
            else:
                rows += [
                    (f"{one.column} = {level.level}", *map(_share_text, level.cells, self.sizes))
                    for level in one.levels
                ]
        names = tuple(name if name != ALL or not self.by else "overall" for name in self.columns)
        if not self.by:
            return Table(("characteristic", *names), tuple(rows), title="Table 1")
        first = {f"{one.column}{f', {one.unit}' if one.unit else ''}: mean (SD)" if one.means
                 else f"{one.column} = {one.levels[0].level}": one for one in self.characteristics}
        ends = [_test_texts(first[str(row[0])]) if row[0] in first else ("", "") for row in rows]
        return Table(("characteristic", *names, "SMD", "p"), tuple((*row, *end) for row, end in zip(rows, ends)), title="Table 1")

    def raw(self) -> Table:
        rows: list[tuple[object, ...]] = []
        for one in self.characteristics:
            for k, name in enumerate(self.columns):
                n = self.sizes[k]
                if one.means:
                    m = one.means[k]
                    rows.append((one.column, "", name, n, math.nan, math.nan, m.mean, m.sd, m.median, m.q1, m.q3, one.smd, one.p))
                rows += [(one.column, level.level, name, n, level.cells[k].count, level.cells[k].share, *(math.nan,) * 5, one.smd, one.p)
                         for level in one.levels]
        return Table(("characteristic", "level", "group", "n", "count", "share", "mean", "sd", "median", "q1", "q3", "smd", "p"),
                     tuple(rows), index=3, title="Numbers of Table 1")

    def picture(self) -> Picture:
        if self.by:
            return Picture("points", f"Standardised differences between groups of {self.by}", x="standardised mean difference",
                           labels=tuple(one.column for one in self.characteristics),
                           series=(("smd", tuple(one.smd for one in self.characteristics)),))
        shares = [(f"{one.column} = {level.level}", level.cells[0].share) for one in self.characteristics for level in one.levels]
        if not shares:
            means = [(one.column, one.means[0]) for one in self.characteristics]
            spans = tuple((m.mean, m.sd) if m.mean is not None and m.sd is not None else (None, None) for _, m in means)
            return Picture("points", "Mean with SD", labels=tuple(label for label, _ in means),
                           series=(("mean", tuple(m.mean for _, m in means)),
                                   ("low", tuple(None if a is None or b is None else a - b for a, b in spans)),
                                   ("high", tuple(None if a is None or b is None else a + b for a, b in spans))))
        return Picture("bars", "Share of patients", y="share", labels=tuple(label for label, _ in shares),
                       series=((ALL, tuple(share for _, share in shares)),))


def _mean_text(found: Mean) -> str | None:
    """Two significant digits of the SD, and as many decimals for the mean; of a mean alone three digits."""
    if found.mean is None:
        return None
    if found.sd is None:
        return f"{found.mean:.3g}"
    decimals = min(max(1 - math.floor(math.log10(found.sd)), 0), 6) if found.sd else 1
    return f"{found.mean:.{decimals}f} ({found.sd:.{decimals}f})"


def _median_text(found: Mean) -> str | None:
    three = (found.median, found.q1, found.q3)
    if set(three) == {None}:
        return None
    median, q1, q3 = ("-" if one is None else f"{one:.4g}" for one in three)
    return f"{median} [{q1}, {q3}]"


def _share_text(found: Share, size: int | None) -> str | None:
    """Count and percentage, from the counts: a share that has been rounded would be rounded twice.
    size : of the column."""
    if found.count is None:
        return None
    share = found.count / size if size else found.share
    return count_text(found.count) + (f" ({100 * share:.1f}%)" if share is not None else "")


def _test_texts(one: Characteristic) -> tuple[str | None, str | None]:
    """Difference and p; a dash where they are not defined, None where they are not released."""
    if not one.test:
        return None, None
    smd = "-" if one.smd is None else f"{one.smd:.3f}"
    return smd, "-" if one.p is None else "<0.001" if one.p < 0.001 else f"{one.p:.3f}"


# -- the analysis --------------------------------------------------------------------------------------------------------------


def _call(cols: str | Iterable[str], by: str | None = None, *, categorical: str | Iterable[str] = (), missing: bool = False
          ) -> TableOneParams:
    """table_one(cols, by=None, categorical=(), missing=False)"""
    named = (categorical,) if isinstance(categorical, str) else tuple(categorical)
    return TableOneParams(names_of(cols), by, named, missing)


@analysis("table_one/1", params=TableOneParams, result=TableOne, call=_call)
def table_one(params: TableOneParams, setting: Setting) -> Joint:
    """Mean, SD, median and quartiles of numbers, counts and shares of levels, overall and by group, over the same complete
    cases; standardised differences and p values.

    Differences and tests of a characteristic are released only if its whole table is shown.
    """
    dictionary, rules = setting.dictionary, setting.rules
    numbers, levels = params.numbers(dictionary), params.levels(dictionary)
    (totals,) = yield [characteristics(numbers=numbers, levels=levels, by=params.by, missing=params.missing)]
    labels = groups(dictionary, params.by, params.missing) if params.by else ()
    nobody = setting.nobody(params.by, params.missing)
    shown = show_table(totals["n"], totals["n" + INDICATORS], rules, vacant=[nobody]).cells != Shown.HIDDEN
    notes = []
    if not shown.all():
        notes.append(f"{int((~shown).sum())} groups, and the overall column beside them, are suppressed (rule min_cell {rules.min_cell}, "
                     "with complementary suppression); join small groups")
    settled = yield from settled_moments(totals, numbers, setting, needs=(*numbers, *levels), by=params.by, missing=params.missing,
                                         wanted=np.tile(shown, (len(numbers), 1)))
    found = {name: _number(totals, k, name, setting, shown, notes, labels, [settled[k, g] for g in range(len(shown))])
             for k, name in enumerate(numbers)}
    found |= {name: _levels(totals, k, name, setting, shown, notes, bool(labels), nobody) for k, name in enumerate(levels)}
    sizes = (int(totals["n"].sum()), *((int(n) if one else None for n, one in zip(totals["n"], shown)) if labels else ()))
    return TableOne(size=setting.size, by=params.by, columns=(ALL, *labels), sizes=sizes,
                    characteristics=tuple(found[name] for name in params.cols), notes=tuple(notes),
                    methods="Numbers are mean (SD) and, from counts at registered cut points, median [quartiles]; levels are n (%)."
                            + (" Groups are compared by standardised mean differences (Austin 2009; Yang & Dalton 2012; the largest "
                               "over pairs of groups), Welch's test and the chi-squared test." if labels else ""))


def _together(many: Sequence[Moments]) -> Moments:
    """Mean and squares over several groups. Chan, Golub & LeVeque (1983), Am Stat 37:242-247."""
    n = sum(m.n for m in many)
    if n == 0:
        return Moments(0, math.nan, 0.0)
    some = [m for m in many if m.n]
    first = some[0]
    mean = math.fsum(m.n * m.above(first) for m in some) / n
    return Moments(n, first.mean + mean, math.fsum([m.squares for m in some] + [m.n * (m.above(first) - mean) ** 2 for m in some]))


def _number(totals: Sums, k: int, name: str, setting: Setting, shown: np.ndarray, notes: list[str], names: Sequence[str],
            known: Sequence[Moments]) -> Characteristic:
    """One number: which means may be shown, and from the shown ones the difference and the test."""
    rules, variable, by = setting.rules, setting.dictionary[name], bool(names)
    kept = silent(totals, k, variable, ~shown, rules)
    notes += kept.notes(name, names, shown, rules)
    everybody = _together(known) if not kept.means.any() and may_count(sum(m.n for m in known), rules) else None
    columns = [everybody, *((None if hide else m for m, hide in zip(known, kept.means)) if by else ())]
    spreads = [not kept.spreads.any() and _whole(totals, k, variable, rules), *(~kept.spreads if by else ())]
    quartiles = [NO_QUARTILES] * len(columns)
    if _has_median(setting.dictionary, name):
        quartiles = _quartiles(totals, k, name, setting, columns)
        if any(m is not None and m.n and None in spread for m, spread in zip(columns, quartiles)):
            notes.append(f'medians or quartiles of "{name}" are not released where the bins around them had to be merged, or are '
                         f"too wide (rule min_cell {rules.min_cell}, or cut points too coarse)")
        if any(set(spread[:3]) != {None} and not spread[3] for spread in quartiles):
            notes.append(f'medians of "{name}" are interpolated within registered bins')
    means = tuple(Mean() if m is None or m.n == 0 else _mean(m, variable, rules, bool(spread), three)
                  for m, spread, three in zip(columns, spreads, quartiles))
    occupied = [m for m in known if m.n]
    if not by or kept.spreads.any() or len(occupied) < 2:
        return Characteristic(name, variable.unit, means)
    if apart(occupied):
        notes.append(
            f'the standardised difference of "{name}" is infinite: two groups have one value each, and not the same'
        )
    return Characteristic(
        name, variable.unit, means, (), smd_of_means(occupied), "Welch", welch_p(occupied)
    )


def _whole(totals: Sums, k: int, variable: Variable, rules: Rules) -> bool:
    """Whether the SD of everybody may be told, that of every group being told."""
    people = {name: totals[name].sum(axis=0, keepdims=True) for name in ("n", f"x{k}", f"xx{k}")}
    for name in (f"levels{k}", f"ends{k}"):
        if name in totals:
            people |= {name: totals[name].sum(axis=0, keepdims=True),
                       name + INDICATORS: totals[name + INDICATORS].max(axis=0, keepdims=True)}
    return not silent(people, k, variable, np.zeros(1, dtype=bool), rules).spreads[0]


def _mean(found: Moments, variable: Variable, rules: Rules, spread: bool, quartiles: tuple[float | None, float | None, float | None, bool]
          ) -> Mean:
    told = told_mean(found, variable, rules, CONFIDENCE, spread=spread)
    return Mean(told.value, told.sd, *quartiles)


def _quartiles(totals: Sums, k: int, name: str, setting: Setting, columns: Sequence[Moments | None]
               ) -> list[tuple[float | None, float | None, float | None, bool]]:
    """Median, quartiles and whether they are exact, per column of the table, each from bins merged until they may be shown.

    None for those in bins that had to be merged, or in one wider than the spread of the values: a place in there would be
    a guess.
    """
    ends, found = ends_of_bins(setting.dictionary, name), []
    lines = zip(np.vstack([totals[f"all_bins{k}"], totals[f"bins{k}"]]),
                np.vstack([totals[f"all_bins{k}{INDICATORS}"], totals[f"bins{k}{INDICATORS}"]]))
    for shown, (counts, contributors) in zip(columns, lines):
        found.append(NO_QUARTILES)
        if shown is None or not all(may_ask(shown.n, q, setting.rules) for q in QUARTILES):
            continue
        ranges = intervals(counts, contributors, setting.rules, zeros=not setting.rules.hides_zeros)
        bins = [(ends[a][0], ends[b - 1][1]) for a, b in ranges]
        if not bins:
            continue
        counted, most = merged(counts, ranges).tolist(), MOST_BLUR * (shown.sd or 0.0)
        three = [quantile_of(counted, bins, q) for q in QUARTILES]
        told = [
            in_single_bins(counted, ranges, q) and high - low <= most
            for q, (_, low, high) in zip(QUARTILES, three)
        ]
        q1, median, q3 = (value if one else None for (value, _, _), one in zip(three, told))
        exact = all(low == high for (_, low, high), one in zip(three, told) if one)
        found[-1] = (median, q1, q3, exact and any(told))
    return found


def pooled_rest(counts: np.ndarray, contributors: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of shown groups, then the hidden ones as one row: what remains for a reader who knows the totals.

    Returns counts, contributors and the places of the shown groups.
    """
    places, hidden = np.flatnonzero(shown), ~shown
    if not hidden.any():
        return counts, contributors, places
    return (np.vstack([counts[shown], counts[hidden].sum(axis=0)]), np.vstack([contributors[shown], contributors[hidden].max(axis=0)]),
            places)


def _levels(totals: Sums, k: int, name: str, setting: Setting, shown: np.ndarray, notes: list[str], by: bool,
            nobody: np.ndarray) -> Characteristic:
    """One characteristic with levels: its table goes through the rules with the sizes of groups and levels known. nobody : groups that
    nobody in the whole data-cut is in."""
    rules, labels = setting.rules, groups(setting.dictionary, name)
    cells = suppressed(totals[f"cells{k}"], totals[f"cells{k}{INDICATORS}"], totals[f"all{k}"], totals[f"all{k}{INDICATORS}"], shown, by,
                       rules, (nobody, setting.nobody(name)))
    if (cells[shown] == Shown.HIDDEN).any():
        notes.append(f'{int((cells[shown] == Shown.HIDDEN).sum())} cells of "{name}" are suppressed (rule min_cell {rules.min_cell}, with '
                     f"complementary suppression); {smaller_levels(rules)}")
    everybody = np.where((cells == Shown.HIDDEN).any(axis=0), Shown.HIDDEN, cells.sum(axis=0))
    table = np.vstack([everybody, *([cells] if by else [])])
    sizes = [int(totals["n"].sum()), *totals["n"].tolist()]
    levels = tuple(Level(label, tuple(_share(int(table[row, place]), sizes[row]) for row in range(len(table))))
                   for place, label in enumerate(labels))
    if not by or (cells == Shown.HIDDEN).any():
        return Characteristic(name, setting.dictionary[name].unit, (), levels)
    if share_no_level(cells):
        notes.append(
            f'the standardised difference of "{name}" is infinite: two groups have no level in common'
        )
    return Characteristic(name, setting.dictionary[name].unit, (), levels, smd_of_shares(cells), "chi-squared", independence(cells))


def _share(count: int, n: int) -> Share:
    return Share() if count == Shown.HIDDEN else Share(count, count / n if n else None)


def suppressed(counts: np.ndarray, contributors: np.ndarray, totals: np.ndarray, total_contributors: np.ndarray, shown: np.ndarray,
               by: bool, rules: Rules, vacant: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The table group x level after suppression, -1 where suppressed. vacant : groups, and levels, that nobody in the data-cut has.

    Sizes of groups stand in the head of the table and sizes of levels in the table of everybody, so both count as known where
    they may be shown; of hidden groups only their sum is known.
    """
    lines = show_table(totals, total_contributors, rules, vacant=[vacant[1]]).cells
    if not by:
        return lines[None, :]
    rows, there, places = pooled_rest(counts, contributors, shown)
    empty = np.append(vacant[0][places], np.zeros(len(rows) - len(places), dtype=bool))
    found = show_table(rows, there, rules, margins_hidden=(np.zeros(len(rows), dtype=bool), lines == Shown.HIDDEN),
                       vacant=[empty, vacant[1]])
    cells = np.full(counts.shape, Shown.HIDDEN, dtype=np.int64)
    cells[places] = found.cells[:len(places)]
    return cells


# -- differences and tests -----------------------------------------------------------------------------------------------------


def apart(known: Sequence[Moments]) -> bool:
    """Whether two groups of several people have one value each, and not the same."""
    one_value = [m for m in known if m.variance == 0]
    return any(m.above(one_value[0]) for m in one_value[1:])


def smd_of_means(known: Sequence[Moments]) -> float | None:
    """The largest |m1 - m2| / sqrt((s1^2 + s2^2) / 2) over pairs of groups. Austin (2009), Stat Med 28:3083-3107."""
    found = []
    if apart(known):
        return None         # infinite
    for a, b in itertools.combinations(known, 2):
        if a.variance is None or b.variance is None:
            return None
        spread = math.sqrt((a.variance + b.variance) / 2)
        found.append(abs(a.above(b)) / spread if spread else 0.0)
    return max(found, default=None)


def smd_of_shares(table: np.ndarray) -> float | None:
    """The largest sqrt((p1 - p2)' S^-1 (p1 - p2)) over pairs of groups, all levels but the first, S the mean of their multinomial
    covariances. Two levels: |p1 - p2| / sqrt((p1 (1 - p1) + p2 (1 - p2)) / 2).

    None where it is infinite: two groups that share no level are told apart for certain. S is
    singular then, and a generalised inverse would see only what lies across from the difference.
    Yang & Dalton (2012), SAS Global Forum 335-2012.
    """
    table = table[table.sum(axis=1) > 0]
    if len(table) < 2 or share_no_level(table):
        return None
    found = []
    for a, b in itertools.combinations(table / table.sum(axis=1, keepdims=True), 2):
        keep = np.flatnonzero(a + b)[1:]
        a, b = a[keep], b[keep]
        spread = (np.diag(a) - np.outer(a, a) + np.diag(b) - np.outer(b, b)) / 2
        if not spread.any():        # both have one level, and it is the same
            found.append(0.0)
            continue
        found.append(math.sqrt(float((a - b) @ np.linalg.pinv(spread, rcond=FLAT, hermitian=True) @ (a - b))))
    return max(found)


def share_no_level(table: np.ndarray) -> bool:
    """Whether two groups of people have no level in common. table : people, shape (groups,
    levels)."""
    there = (table[table.sum(axis=1) > 0] > 0).astype(int)
    return bool((there @ there.T == 0).any())


def independence(table: np.ndarray) -> float | None:
    """p value of Pearson's chi-squared test without continuity correction, over levels and groups that occur."""
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if min(table.shape) < 2:
        return None
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return p_chi2(float(((table - expected) ** 2 / expected).sum()), (table.shape[0] - 1) * (table.shape[1] - 1))
