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
from ..data.variable import level_text
from ..disclosure import Rules
from ..disclosure.release import Average, Declared, axes, classes
from ..disclosure.suppression import show_table
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis
from ..query.views import Picture, Table
from ..sums.statistic import INDICATORS, Sums
from .histogram import binned
from .shared.centred import settled_moments
from .shared.common import CONFIDENCE, check_confidence, ends_of_bins, groups, p_chi2, p_f, p_normal, p_student, quoted, t_of, withheld
from .shared.moments import Moments, few_levels, moments

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
        return (Average(self.population(), (self.column,), by, classes(dictionary, (self.column,))),)

    def check(self, dictionary: Dictionary) -> None:
        check_confidence(self.confidence)
        dictionary.numeric(self.column)
        groups(dictionary, self.by, self.missing)
        if self.column == self.by:
            raise QuestionError(f'"{self.column}" cannot be compared between its own groups', hint="name another column in `by`")


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group: people, mean, SD, standard error, Student interval of the mean. None: not released."""

    group: str
    n: int | None
    mean: float | None = None
    sd: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None


class TTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Difference of two means, first group minus second, with its interval and test. t is None where nothing varies."""

    difference: float
    se: float
    low: float
    high: float
    t: float | None
    df: float
    p: float | None


class Anova(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One-way analysis of variance. Sums of squares and eta squared: None for Welch's form."""

    f: float
    df1: float
    df2: float
    p: float
    ss_between: float | None = None
    ss_within: float | None = None
    eta_squared: float | None = None


class Wilcoxon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wilcoxon rank sum test. w : Mann-Whitney U of the first group. variance : corrected for ties. p, p_continuity : normal
    approximation without and with continuity correction. hodges_lehmann : median of all pairwise differences, where the
    values are known exactly."""

    w: float
    expected: float
    variance: float
    z: float
    p: float
    p_continuity: float
    probability: float      # that a patient of the first group lies above one of the second, ties half
    hodges_lehmann: float | None


class Kruskal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kruskal-Wallis test, corrected for ties; `tie_factor` is the divisor of the uncorrected h."""

    h: float
    df: int
    p: float
    h_uncorrected: float
    tie_factor: float


class Comparison(Result, frozen=True, kw_only=True):
    """Frame: one row per group (index `group`), columns n, mean, sd, se, ci_low, ci_high; further tables have the tests,
    the difference of means and effect sizes.

    welch, student, cohens_d, wilcoxon : for two groups. anova, welch_anova, kruskal : for two or more. classes : registered
    classes of values that the rank tests used; exact_ranks : each of a single value, so that they equal those of the pooled rows.
    """

    kind: ClassVar[str] = "compare"
    verbatim: ClassVar[frozenset[str]] = frozenset({"confidence"})

    column: str
    unit: str
    by: str
    groups: tuple[Group, ...]
    welch: TTest | None = None
    student: TTest | None = None
    cohens_d: float | None = None
    anova: Anova | None = None
    welch_anova: Anova | None = None
    wilcoxon: Wilcoxon | None = None
    kruskal: Kruskal | None = None
    classes: int | None = None
    exact_ranks: bool = False
    confidence: float = CONFIDENCE

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

    Tests are released only if every group is shown.
    """
    dictionary, rules, names = setting.dictionary, setting.rules, groups(setting.dictionary, params.by, params.missing)
    variable, ranked = dictionary[params.column], _has_bins(dictionary, params.column)
    asks = [moments(columns=[params.column], by=params.by, missing=params.missing)]
    if ranked:
        asks.append(binned(columns=[params.column], by=params.by, missing=params.missing))
    totals, *more = yield asks
    nobody = setting.nobody(params.by, params.missing)
    sizes = show_table(totals["n"], totals["n" + INDICATORS], rules, vacant=[nobody]).cells
    silent = sizes < 0
    if few_levels(variable):
        silent = withheld(totals["levels0"], totals["levels0" + INDICATORS], silent, rules, nobody=nobody)
    settled = yield from settled_moments(totals, [params.column], setting, by=params.by, missing=params.missing, wanted=~silent[None, :])
    known = [settled[0, g] if not hidden else None for g, hidden in enumerate(silent)]
    notes = _notes(params, setting, names, sizes, silent)
    found: dict[str, Any] = {}
    if not silent.any():
        occupied = [m for m in known if m is not None and m.n > 0]
        found = _mean_tests(occupied, params.confidence, notes)
        if not ranked:
            notes.append(f'no rank tests: "{params.column}" has no levels, step or cut points; add "cut_points" to it in the dictionary')
        elif len(occupied) > 1:
            found |= _rank_tests(more[0], setting, params.column, notes)
    return Comparison(size=setting.size, column=params.column, unit=variable.unit, by=params.by, confidence=params.confidence,
                      groups=tuple(_group(*one, params.confidence) for one in zip(names, sizes, known)), notes=tuple(notes),
                      methods=_methods(found), **found)


def _has_bins(dictionary: Dictionary, name: str) -> bool:
    variable = dictionary[name]
    return variable.type == "boolean" or variable.cuts is not None or (variable.steps is not None and variable.steps < MOST_BINS)


def _notes(params: CompareParams, setting: Setting, names: Sequence[str], sizes: np.ndarray, silent: np.ndarray) -> list[str]:
    notes = []
    if (sizes < 0).any():
        notes.append(f"{quoted(names, sizes < 0)} suppressed (rule min_cell {setting.rules.min_cell}, with complementary suppression); "
                     "tests need all groups: join small levels in the dictionary")
    if (silent & (sizes >= 0)).any():
        notes.append(f"means of {quoted(names, silent & (sizes >= 0))}, and tests, not released: they would give away a level of "
                     f'"{params.column}" with fewer than {setting.rules.min_cell} people (rule min_cell); join small groups')
    return notes


def _group(name: str, size: int, known: Moments | None, confidence: float) -> Group:
    if size < 0:
        return Group(name, None)
    if known is None or known.n == 0:
        return Group(name, int(size))
    if known.se is None:
        return Group(name, known.n, known.mean)
    half = t_of(confidence, known.n - 1) * known.se
    return Group(name, known.n, known.mean, known.sd, known.se, known.mean - half, known.mean + half)


# -- tests of means ----------------------------------------------------------------------------------------------------------


def _mean_tests(known: Sequence[Moments], confidence: float, notes: list[str]) -> dict[str, Any]:
    """Tests of shown means. known : groups with people in them."""
    n, squares = sum(m.n for m in known), math.fsum(m.squares for m in known)
    if len(known) < 2 or n <= len(known) or squares == 0:
        notes.append("no tests: they need two groups with people, and values that vary within groups")
        return {}
    found: dict[str, Any] = {"anova": one_way(known)}
    if all(m.variance for m in known):
        found["welch_anova"] = welch_one_way(known)
    elif len(known) > 2 or not _varies(known):
        notes.append("no Welch tests: a group has one patient, or values that do not vary")
    if len(known) == 2:
        a, b = known
        pooled = squares / (n - 2)
        found["student"] = _t_test(a, b, pooled * (1 / a.n + 1 / b.n), n - 2, confidence)
        found["cohens_d"] = a.above(b) / math.sqrt(pooled)       # Cohen (1988), section 2.2
        if _varies(known):
            found["welch"] = _t_test(a, b, *_welch(a, b), confidence)
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


def _t_test(a: Moments, b: Moments, variance: float, df: float, confidence: float) -> TTest:
    difference, se = a.above(b), math.sqrt(variance)
    half = t_of(confidence, df) * se
    t = difference / se if se > 0 else None
    return TTest(difference, se, difference - half, difference + half, t, df, p_student(t, df) if t is not None else None)


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
