"""Compare: a number between groups: means with intervals, t-tests, analysis of variance, and rank tests from counts.

How this works: sizes of groups are a table of people, so groups that are too small are suppressed and take the tests with
them; the groups that stay keep their means. Tests of means are computed from the shown means and SDs alone; rank tests are
averages of all ranks, computed from the whole table level x group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..data.dictionary import MOST_BINS, Dictionary
from ..data.variable import Variable, level_text
from ..disclosure import Rules
from ..disclosure.precision import Public, PValue, Statistic, step_above, to_step
from ..disclosure.precision import Told as Given
from ..disclosure.release import Average, Declared, axes, moment_classes
from ..disclosure.suppression import show_table
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis
from ..query.views import Picture, Table
from ..sums.statistic import INDICATORS, Sums
from .histogram import binned
from .shared.centred import settled_moments
from .shared.common import CONFIDENCE, check_confidence, ends_of_bins, groups, p_chi2, p_f, p_normal, p_student, quoted, t_of
from .shared.implied import may_rank, silent
from .shared.moments import Moments, moments
from .shared.telling import told_difference, told_mean

MOST_PAIRS = 4_000_000      # pairs of classes that the Hodges-Lehmann estimate sorts: 64 MB


class CompareParams(Params, frozen=True):
    """column : a number, integer or boolean. by : the groups. missing : whether unknown is a group."""

    column: str
    by: str
    missing: bool = False
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return (self.column,) if self.missing else (self.column, self.by)

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        by = axes(dictionary, (self.by,), unknown=self.missing)
        return (Average(self.population(), (self.column,), by, moment_classes(dictionary, (self.column,))),)

    def check(self, dictionary: Dictionary) -> None:
        check_confidence(self.confidence)
        dictionary.numeric(self.column)
        groups(dictionary, self.by, self.missing)
        if self.column == self.by:
            raise QuestionError(f'"{self.column}" cannot be compared between its own groups', hint="name another column in `by`")


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group: people, mean, SD, standard error, Student interval of the mean. None: not released. Of a number whose values are few
    in this group the mean may stand alone."""

    group: str
    n: int | None
    mean: Given[float | None] = None
    sd: Given[float | None] = None
    se: Given[float | None] = None
    low: Given[float | None] = None
    high: Given[float | None] = None


class TTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Difference of two means, first group minus second, with its interval and test. t is None where nothing varies."""

    difference: Given[float]
    se: Given[float]
    low: Given[float]
    high: Given[float]
    t: Statistic[float | None]
    df: Statistic[float]
    p: PValue[float | None]


class Anova(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One-way analysis of variance. Sums of squares and eta squared: None for Welch's form."""

    f: Statistic[float]
    df1: Public[float]
    df2: Statistic[float]
    p: PValue[float]
    ss_between: Given[float | None] = None
    ss_within: Given[float | None] = None
    eta_squared: Statistic[float | None] = None


class Wilcoxon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wilcoxon rank sum test. w : Mann-Whitney U of the first group. variance : corrected for ties. p, p_continuity : normal
    approximation without and with continuity correction. hodges_lehmann : median of all pairwise differences, where the
    values are known exactly."""

    w: Statistic[float]
    expected: Given[float]      # of the sizes
    variance: Statistic[float]
    z: Statistic[float]
    p: PValue[float]
    p_continuity: PValue[float]
    probability: Statistic[float]      # that a patient of the first group lies above one of the second, ties half
    hodges_lehmann: float | None


class Kruskal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kruskal-Wallis test, corrected for ties; `tie_factor` is the divisor of the uncorrected h."""

    h: Statistic[float]
    df: int
    p: PValue[float]
    h_uncorrected: Statistic[float]
    tie_factor: Statistic[float]


class Comparison(Result, frozen=True, kw_only=True):
    """Frame: one row per group (index `group`), columns n, mean, sd, se, ci_low, ci_high; further tables have the tests,
    the difference of means and effect sizes.

    welch, student, cohens_d, wilcoxon : for two groups. anova, welch_anova, kruskal : for two or more. classes : registered
    classes of values that the rank tests used; exact_ranks : each of a single value, so that they equal those of the pooled rows.
    """

    kind: ClassVar[str] = "compare"

    column: str
    unit: str
    by: str
    groups: tuple[Group, ...]
    welch: TTest | None = None
    student: TTest | None = None
    cohens_d: Statistic[float | None] = None
    anova: Anova | None = None
    welch_anova: Anova | None = None
    wilcoxon: Wilcoxon | None = None
    kruskal: Kruskal | None = None
    classes: int | None = None
    exact_ranks: bool = False
    confidence: Public[float] = CONFIDENCE

    def __getitem__(self, group: str | int | bool) -> Group:
        return {one.group: one for one in self.groups}[level_text(group)]

    @property
    def eta_squared(self) -> float | None:
        return self.anova.eta_squared if self.anova else None

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((g.group, g.n, g.mean, g.sd, g.se, g.low, g.high) for g in self.groups)
        means = Table(("group", "n", "mean", "sd", "se", "ci_low", "ci_high"), rows, title=f"{self.column} by {self.by}")
        t_tests = [(name, test) for name, test in (("Welch t", self.welch), ("Student t", self.student)) if test]
        f_tests = [(name, test) for name, test in (("ANOVA F", self.anova), ("Welch F", self.welch_anova)) if test]
        tests: list[tuple[Any, ...]] = [(name, test.t, f"{test.df:.4g}", test.p) for name, test in t_tests]
        tests += [(name, test.f, f"{test.df1:g}, {test.df2:.4g}", test.p) for name, test in f_tests]
        if self.wilcoxon:
            tests += [("Wilcoxon W, continuity corrected", self.wilcoxon.w, "", self.wilcoxon.p_continuity),
                      ("Wilcoxon W, uncorrected", self.wilcoxon.w, "", self.wilcoxon.p)]
        if self.kruskal:
            tests.append(("Kruskal-Wallis H", self.kruskal.h, f"{self.kruskal.df}", self.kruskal.p))
        differences = tuple((name, test.difference, test.low, test.high) for name, test in t_tests)
        sizes = [("Cohen's d", self.cohens_d), ("eta squared", self.eta_squared),
                 ("median difference (Hodges-Lehmann)", self.wilcoxon.hodges_lehmann if self.wilcoxon else None)]
        found = (means, Table(("test", "value", "df", "p"), tuple(tests), title="Tests"),
                 Table(("interval", "difference", "ci_low", "ci_high"), differences, title="Difference of means"),
                 Table(("effect", "value"), tuple(one for one in sizes if one[1] is not None), title="Effect sizes"))
        return tuple(table for table in found if table.rows)

    def picture(self) -> Picture:
        return Picture("points", f"Mean with {self.confidence:.0%} interval", x=self.by,
                       y=f"{self.column} ({self.unit})" if self.unit else self.column, labels=tuple(g.group for g in self.groups),
                       series=tuple((name, tuple(getattr(g, name) for g in self.groups)) for name in ("mean", "low", "high")))


def _call(column: str, *, by: str, missing: bool = False, confidence: float = CONFIDENCE) -> CompareParams:
    """compare(column, by=, missing=False, confidence=0.95)"""
    return CompareParams(column, by, missing, confidence)


@analysis("compare/1", params=CompareParams, result=Comparison, call=_call)
def compare(params: CompareParams, setting: Setting) -> Joint:
    """n, mean, SD and interval per group; Welch and Student t for two groups, ANOVA and Welch's ANOVA, Wilcoxon and
    Kruskal-Wallis tests from counts at registered levels or cut points; Cohen's d and eta squared.

    Tests of means are released only if the SD of every group is shown; rank tests if every group is, and, where the values are few in
    one, the whole table might be.
    """
    dictionary, rules, names = setting.dictionary, setting.rules, groups(setting.dictionary, params.by, params.missing)
    variable, ranked = dictionary[params.column], _has_bins(dictionary, params.column)
    asks = [moments(columns=[params.column], by=params.by, missing=params.missing)]
    if ranked:
        asks.append(binned(columns=[params.column], by=params.by, missing=params.missing))
    totals, *more = yield asks
    nobody = setting.nobody(params.by, params.missing)
    sizes = show_table(totals["n"], totals["n" + INDICATORS], rules, vacant=[nobody]).cells
    kept = silent(totals, 0, variable, sizes < 0, rules)
    settled = yield from settled_moments(totals, [params.column], setting, by=params.by, missing=params.missing,
                                         wanted=~kept.means[None, :])
    known = [settled[0, g] if not hidden else None for g, hidden in enumerate(kept.means)]
    notes = [*_notes(setting, names, sizes), *kept.notes(params.column, names, sizes >= 0, rules)]
    found: dict[str, Any] = {}
    if not kept.spreads.any():
        occupied = [m for m in known if m is not None and m.n > 0]
        found = _mean_tests(occupied, params.confidence, notes, rules)
        if not ranked:
            notes.append(f'no rank tests: "{params.column}" has no levels, step or cut points; add "cut_points" to it in the dictionary')
        elif len(occupied) > 1:
            found |= _rank_tests(more[0], setting, params.column, notes)
    return Comparison(size=setting.size, column=params.column, unit=variable.unit, by=params.by, confidence=params.confidence,
                      groups=tuple(_group(*one, variable, rules, params.confidence) for one in zip(names, sizes, known, ~kept.spreads)),
                      notes=tuple(notes),
                      methods=_methods(found), **found)


def _has_bins(dictionary: Dictionary, name: str) -> bool:
    variable = dictionary[name]
    return variable.type == "boolean" or variable.cuts is not None or (variable.steps is not None and variable.steps < MOST_BINS)


def _notes(setting: Setting, names: Sequence[str], sizes: np.ndarray) -> list[str]:
    if not (sizes < 0).any():
        return []
    return [f"{quoted(names, sizes < 0)} suppressed (rule min_cell {setting.rules.min_cell}, with complementary suppression); "
            "tests need all groups: join small levels in the dictionary"]


def _group(name: str, size: int, known: Moments | None, spread: bool, variable: Variable, rules: Rules, confidence: float) -> Group:
    if size < 0:
        return Group(name, None)
    if known is None or known.n == 0:
        return Group(name, int(size))
    told = told_mean(known, variable, rules, confidence, spread=bool(spread))
    return Group(name, known.n, told.value, told.sd, told.se, told.low, told.high)


# -- tests of means ----------------------------------------------------------------------------------------------------------


def _mean_tests(known: Sequence[Moments], confidence: float, notes: list[str], rules: Rules) -> dict[str, Any]:
    """Tests of shown means. known : groups with people in them."""
    n, squares = sum(m.n for m in known), math.fsum(m.squares for m in known)
    if len(known) < 2 or n <= len(known) or squares == 0:
        notes.append("no tests: they need two groups with people, and values that vary within groups")
        return {}
    found: dict[str, Any] = {"anova": _told_squares(one_way(known), n, rules)}
    if all(m.variance for m in known):
        found["welch_anova"] = welch_one_way(known)
    elif len(known) > 2 or not _varies(known):
        notes.append("no Welch tests: a group has one patient, or values that do not vary")
    if len(known) == 2:
        a, b = known
        pooled = squares / (n - 2)
        found["student"] = _t_test(a, b, pooled * (1 / a.n + 1 / b.n), n - 2, confidence, rules)
        found["cohens_d"] = a.above(b) / math.sqrt(pooled)       # Cohen (1988), section 2.2
        if _varies(known):
            found["welch"] = _t_test(a, b, *_welch(a, b), confidence, rules)
    return found


def _varies(known: Sequence[Moments]) -> bool:
    """Whether Welch's t-test can be made: each group has a variance, and one of them is not 0, as
    R's t.test wants it."""
    return all(m.variance is not None for m in known) and any(m.variance for m in known)


def _welch(a: Moments, b: Moments) -> tuple[float, float]:
    """The variance of the difference of two means, and its degrees of freedom. Welch (1947),
    Biometrika 34:28-35."""
    u, v = (m.squares / (m.n - 1) / m.n for m in (a, b))
    return u + v, (u + v) ** 2 / (u * u / (a.n - 1) + v * v / (b.n - 1))


def welch_p(known: Sequence[Moments]) -> float | None:
    """The p value of Welch's test between groups of people; for two groups also where one of them
    does not vary. None where there is none."""
    if all(m.variance for m in known):
        return welch_one_way(known).p
    if len(known) != 2 or not _varies(known):
        return None
    variance, df = _welch(*known)
    return p_student(known[0].above(known[1]) / math.sqrt(variance), df)


def _t_test(a: Moments, b: Moments, variance: float, df: float, confidence: float, rules: Rules) -> TTest:
    difference, se = a.above(b), math.sqrt(variance)
    told = told_difference(a, b, se, t_of(confidence, df), rules)
    t = difference / se if se > 0 else None
    assert told.se is not None and told.low is not None and told.high is not None
    return TTest(told.value, told.se, told.low, told.high, t, df, p_student(t, df) if t is not None else None)


def _told_squares(found: Anova, n: int, rules: Rules) -> Anova:
    """Sums of squares to what one of n patients adds to them."""
    if not rules.rounding or found.ss_between is None or found.ss_within is None:
        return found
    step = step_above(found.ss_within / n)
    return msgspec.structs.replace(found, ss_between=to_step(found.ss_between, step), ss_within=to_step(found.ss_within, step))


def one_way(known: Sequence[Moments]) -> Anova:
    """One-way analysis of variance. Altman (1991), Practical Statistics for Medical Research, section 9.8."""
    n = sum(m.n for m in known)
    means = [m.above(known[0]) for m in known]      # about the first: means of a large size lose what lies between them
    grand = math.fsum(m.n * mean for m, mean in zip(known, means)) / n
    between, within = math.fsum(m.n * (x - grand) ** 2 for m, x in zip(known, means)), math.fsum(m.squares for m in known)
    df1, df2 = len(known) - 1, n - len(known)
    f = (between / df1) / (within / df2)
    return Anova(f, df1, df2, p_f(f, df1, df2), between, within, between / (between + within))


def welch_one_way(known: Sequence[Moments]) -> Anova:
    """One-way analysis without equal variances. Welch (1951), Biometrika 38:330-336."""
    weights = [m.n / m.variance for m in known if m.variance]
    k, total = len(known), math.fsum(weights)
    means = [m.above(known[0]) for m in known]
    mean = math.fsum(w * x for w, x in zip(weights, means)) / total
    spread = math.fsum((1 - w / total) ** 2 / (m.n - 1) for w, m in zip(weights, known)) / (k * k - 1)
    f = math.fsum(w * (x - mean) ** 2 for w, x in zip(weights, means)) / (k - 1) / (1 + 2 * (k - 2) * spread)
    df2 = 1 / (3 * spread)
    return Anova(f, k - 1, df2, p_f(f, k - 1, df2))


# -- rank tests --------------------------------------------------------------------------------------------------------------


def _rank_tests(totals: Sums, setting: Setting, column: str, notes: list[str]) -> dict[str, Any]:
    """Rank tests from the whole table of group by registered class: averages of all ranks, which no merging bends."""
    table = totals["people0"][totals["n"] > 0]
    used = np.flatnonzero(table.sum(axis=0))
    if len(used) < 2:
        notes.append("no rank tests: all values are the same, or in one class")
        return {}
    ends = ends_of_bins(setting.dictionary, column)
    exact = all(low == high for low, high in ends)
    if not may_rank(totals["people0"], totals["people0" + INDICATORS], exact, setting.rules):
        notes.append(f'no rank tests: where "{column}" falls into few classes in a group, ranks are a table of people, and one of these '
                     f"has fewer than {setting.rules.min_cell} (rule few values, min_cell {setting.rules.min_cell})")
        return {}
    if not exact:
        notes.append(f"rank tests are on {len(ends)} classes of values (registered cut points): patients of one class count as ties")
    found: dict[str, Any] = {"kruskal": kruskal_wallis(table), "classes": len(ends), "exact_ranks": exact}
    if len(table) == 2:
        values = [ends[k][0] for k in used] if exact and _may_shift(table, setting.rules) else None
        found["wilcoxon"] = rank_sum(table[:, used], values)
    return found


def _may_shift(table: np.ndarray, rules: Rules) -> bool:
    """Whether the median of all differences may be said: a quantile, from groups as large as quantiles need."""
    return rules.min_cell <= 1 or bool((table.sum(axis=1) >= 2 * rules.min_cell).all())


def mid_ranks(counts: np.ndarray) -> np.ndarray:
    """The mean rank of each class. counts : people per class, in order."""
    counts = np.asarray(counts, dtype=np.int64)
    return np.cumsum(counts) - (counts - 1) / 2


def _ties(counts: np.ndarray) -> float:
    """Sum over classes of t^3 - t, in whole numbers of any size."""
    return float(sum(t**3 - t for t in counts.tolist()))


def kruskal_wallis(table: np.ndarray) -> Kruskal:
    """H corrected for ties. table : people, shape (groups, classes). Hollander, Wolfe & Chicken (2014), section 6.1."""
    classes, sizes = table.sum(axis=0), table.sum(axis=1)
    n = int(sizes.sum())
    sums = table @ (mid_ranks(classes) - (n + 1) / 2)           # rank sums about their mean: nothing cancels
    h = 12 / (n * (n + 1)) * float((sums**2 / sizes).sum())
    factor = 1 - _ties(classes) / (float(n) ** 3 - n)
    df = len(table) - 1
    return Kruskal(h / factor, df, p_chi2(h / factor, df), h, factor)


def rank_sum(table: np.ndarray, values: Sequence[float] | None) -> Wilcoxon:
    """Wilcoxon-Mann-Whitney test. table : people, shape (2, classes). values : the value of each class, if it has one.

    Hollander, Wolfe & Chicken (2014), Nonparametric Statistical Methods, section 4.1; as R's wilcox.test(exact = FALSE).
    """
    a, b = (int(size) for size in table.sum(axis=1))
    n, classes = a + b, table.sum(axis=0)
    w = float(table[0] @ mid_ranks(classes)) - a * (a + 1) / 2
    expected = a * b / 2
    variance = a * b / 12 * (n + 1 - _ties(classes) / (n * (n - 1)))
    gap, sd = w - expected, math.sqrt(variance)
    corrected = (gap - math.copysign(0.5, gap)) / sd if gap else 0.0
    return Wilcoxon(w, expected, variance, gap / sd, p_normal(gap / sd), p_normal(corrected), w / (a * b),
                    hodges_lehmann(table, values) if values is not None and len(values) ** 2 <= MOST_PAIRS else None)


def hodges_lehmann(table: np.ndarray, values: Sequence[float]) -> float:
    """The median of all differences, a patient of the first group minus one of the second. Hollander, Wolfe & Chicken, section 4.2."""
    differences = np.subtract.outer(np.asarray(values), np.asarray(values)).ravel()
    pairs = np.multiply.outer(table[0], table[1]).ravel()
    order = np.argsort(differences, kind="stable")
    upto = np.cumsum(pairs[order])
    middle = [differences[order][np.searchsorted(upto, rank)] for rank in ((upto[-1] + 1) // 2, upto[-1] // 2 + 1)]
    return float(middle[0] + middle[1]) / 2


def _methods(found: dict[str, Any]) -> str:
    names = [("welch", "Welch's and Student's t-tests"), ("anova", "one-way analysis of variance"),
             ("welch_anova", "Welch's analysis of variance"),
             ("wilcoxon", "the Wilcoxon rank sum test (normal approximation, ties corrected)"),
             ("kruskal", "the Kruskal-Wallis test (ties corrected)")]
    used = [text for name, text in names if name in found]
    return "Means with Student confidence intervals" + (f"; groups compared by {', '.join(used)}." if used else ".")
