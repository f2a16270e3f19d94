"""Log-rank: do survival curves differ between groups? Also stratified, also Peto-Peto."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from ..analysis import Joint, Params, Result, Setting, analysis
from ..dictionary import RESERVED, Dictionary
from ..disclosure import Rules
from ..errors import QuestionError
from ..rows import Rows
from ..statistic import INDICATORS, Block, Sums, statistic
from ..suppression import Shown, show_table
from ..views import Picture, Table
from ._common import groups, p_chi2
from .survival import beyond_note, check_survival, life_table, scores
from .survival_cuts import life_tables

Rho = Literal[0, 1]
NAMES = {0: "log-rank", 1: "Peto-Peto"}
FLAT = 1e-12            # of the largest eigenvalue: below it the covariance is flat (groups that are never at risk together)


# -- strata by registry: each registry finishes its own score --------------------------------------------------------------------


def _layout(dictionary: Dictionary, *, time: str, event: str, by: str, rho: int = 0, missing: bool = False) -> dict[str, Block]:
    g = len(groups(dictionary, by, missing))
    # observed, expected and every entry of the covariance are at most the number of events of the registry
    return {"people": Block((g,), counts=True), "events": Block((g,), counts=True), "observed": Block((g,)), "expected": Block((g,)),
            "variance": Block((g, g))}


def _finish(sums: Sums, *, dictionary: Dictionary, time: str, event: str, by: str, rho: int = 0, missing: bool = False) -> Sums:
    """The score of one registry as a stratum of its own; scores of registries add up."""
    observed, expected, variance = scores(sums["events1"], sums["censored1"], rho)
    return {"people": sums["people1"], "events": sums["events1"].sum(axis=1), "observed": observed, "expected": expected,
            "variance": variance}


@statistic("logrank_scores/1", layout=_layout, finish=_finish)
def logrank_scores(rows: Rows, time: str, event: str, by: str, rho: int = 0, missing: bool = False) -> Any:
    """Per group: people, events, weighted observed and expected events and the covariance of their difference, each registry
    being a stratum."""
    return life_table.local(rows, time=time, event=event, by=[by], missing=missing)


# -- the analysis ------------------------------------------------------------------------------------------------------------------


class LogrankParams(Params, frozen=True):
    """by : the groups that are compared. strata : compared within each level of this variable, or within each "registry".

    rho : weights S(t)^rho; 0 is the log-rank test, 1 Peto & Peto's modification of the Wilcoxon test.
    """

    time: str
    event: str
    by: str
    strata: str | None = None
    rho: Rho = 0
    missing: bool = False

    def columns(self) -> tuple[str, ...]:
        extra = () if self.missing else (self.by, *((self.strata,) if self.strata and self.strata != RESERVED else ()))
        return (self.time, self.event, *extra)

    def check(self, dictionary: Dictionary) -> None:
        by = (self.by, *((self.strata,) if self.strata and self.strata != RESERVED else ()))
        check_survival(dictionary, self.time, self.event, by, self.missing)


class GroupEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group: patients, weighted observed and expected events, variance of their difference. None: not released."""

    group: str
    n: int | None
    observed: float | None = None
    expected: float | None = None
    variance: float | None = None


class Logrank(Result, frozen=True, kw_only=True):
    """Frame: one row per group (index: group), columns n, observed, expected, ratio (observed / expected), variance. The test
    compares the groups of `compared`."""

    kind: ClassVar[str] = "logrank"
    verbatim: ClassVar[frozenset[str]] = frozenset({"until"})

    time: str
    event: str
    by: str
    strata: str | None
    rho: int
    groups: tuple[GroupEvents, ...]
    compared: tuple[str, ...]
    until: float | None
    chi2: float | None = None
    df: int | None = None
    p: float | None = None

    def __getitem__(self, group: str | int | float) -> GroupEvents:
        return {one.group: one for one in self.groups}[str(group)]

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((g.group, g.n, g.observed, g.expected, g.observed / g.expected if g.observed is not None and g.expected else None,
                      g.variance) for g in self.groups)
        return (Table(("group", "n", "observed", "expected", "ratio", "variance"), rows, title="Events by group"),
                Table(("test", "value", "df", "p"), ((NAMES[self.rho], self.chi2, self.df, self.p),), title="Test"))

    def picture(self) -> Picture:
        return Picture("bars", f"Observed and expected events by {self.by}", x=self.by, y="events",
                       labels=tuple(g.group for g in self.groups),
                       series=(("observed", tuple(g.observed for g in self.groups)), ("expected", tuple(g.expected for g in self.groups))))


def _call(*, time: str, event: str, by: str, strata: str | None = None, rho: int = 0, missing: bool = False) -> LogrankParams:
    """logrank(time=, event=, by=, strata=None, rho=0, missing=False)"""
    if rho not in NAMES:
        raise QuestionError(f"rho = {rho} is not offered", hint="rho is 0 (log-rank) or 1 (Peto-Peto)")
    return LogrankParams(time, event, by, strata, 1 if rho else 0, missing)


@analysis("logrank/1", params=LogrankParams, result=Logrank, call=_call)
def logrank(params: LogrankParams, setting: Setting) -> Joint:
    """Observed and expected events by group and the test of equal survival, over everybody or within strata.

    Computed from the intervals that all groups (and strata) may show in common; with strata="registry" every registry compares
    its own patients on its full grid and only the sums over registries leave it.
    """
    labels = groups(setting.dictionary, params.by, params.missing)
    notes = list(beyond_note(setting.dictionary, params.time))
    until: float | None = None
    if params.strata == RESERVED:
        (totals,) = yield [logrank_scores(time=params.time, event=params.event, by=params.by, rho=params.rho, missing=params.missing)]
        shown = _may_score(totals, setting.rules)
        n, o, e, v = totals["people"], totals["observed"], totals["expected"], totals["variance"]
        if not shown.all():
            # expected events of shown groups count the hidden ones too: their sum over all groups is the number of events
            shown[:] = False
    else:
        by = (params.by, *((params.strata,) if params.strata else ()))
        tables = yield from life_tables(setting, time=params.time, event=params.event, by=by, missing=params.missing)
        n, o, e, v, shown, last = _from_tables(tables, len(by), len(labels), params.rho)
        until = float(tables.times[last - 1]) if last else None
        notes += _notes(params, setting, tables, len(by))
        if setting.rules.hides_zeros:
            shown &= o > 0
    found = []
    for g, label in enumerate(labels):
        if not shown[g]:
            notes.append(f'"{label}" is not compared: too few patients or events, there or in a group that would follow by subtraction '
                         f"(rule min_cell {setting.rules.min_cell}); join small groups")
            found.append(GroupEvents(label, None))
        else:
            found.append(GroupEvents(label, int(n[g]), float(o[g]), float(e[g]), float(v[g, g])))
    compared = np.flatnonzero(shown)
    chi2, df = quadratic(o[compared] - e[compared], v[np.ix_(compared, compared)], e[compared])
    test: dict[str, Any] = {"chi2": chi2, "df": df, "p": p_chi2(chi2, df)} if df else {}
    within = f", stratified by {params.strata}" if params.strata else ""
    return Logrank(size=setting.size, time=params.time, event=params.event, by=params.by, strata=params.strata, rho=params.rho,
                   groups=tuple(found), compared=tuple(labels[g] for g in compared), until=until, notes=tuple(notes),
                   methods=f"{NAMES[params.rho][0].upper()}{NAMES[params.rho][1:]} test{within}, hypergeometric variance with "
                           "correction for ties, on the registered time grid.", **test)


def _may_score(totals: Sums, rules: Rules) -> np.ndarray:
    """Which groups have enough people, enough events and enough without event, and would not follow by subtraction."""
    table = np.stack([totals["events"], totals["people"] - totals["events"]], axis=1)
    # registries with people without event are not counted: for them only the number decides
    there = np.stack([totals["events" + INDICATORS], totals["people" + INDICATORS]], axis=1)
    if rules.min_cell <= 1 and rules.min_registries <= 1:
        return np.ones(len(table), dtype=bool)
    small = (table > 0) & ((table < rules.min_cell) | (there < rules.min_registries))
    people = show_table(totals["people"], totals["people" + INDICATORS], rules).cells != Shown.HIDDEN
    return people & ~small.any(axis=1) & (totals["events"] > 0)


def _from_tables(tables: Any, m: int, g: int, rho: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """People, observed, expected, covariance, which groups are shown, and where the last shown interval ends."""
    margin = 1 if m == 1 else 3
    cut = tables.cuts[margin]
    ends, shown = cut.common, cut.shown
    if not ends:            # nothing in common to all groups: those that share the same intervals, if any do
        shared = {own: cut.own.count(own) for own in cut.own if own}
        ends = max(shared, key=lambda own: (shared[own], own), default=())
        shown = np.array([own == ends and bool(own) for own in cut.own])
    shown = shown.reshape(g, -1)
    some = shown.any(axis=1)
    people, o, e, v = np.zeros(g, dtype=np.int64), np.zeros(g), np.zeros(g), np.zeros((g, g))
    for stratum in np.flatnonzero(shown.any(axis=0)):
        lines = np.flatnonzero(some) * shown.shape[1] + stratum
        events, censored = (_spans(counts[margin][lines], ends) for counts in (tables.events, tables.censored))
        remain = tables.people[margin][lines] - (events + censored).sum(axis=1)
        # those who remain after the last shown interval are at risk throughout
        observed, expected, variance = scores(np.column_stack([events, np.zeros_like(remain)]), np.column_stack([censored, remain]), rho)
        people[some] += tables.people[margin][lines]
        o[some] += observed
        e[some] += expected
        v[np.ix_(some, some)] += variance
    return people, o, e, v, some, ends[-1] if ends else 0


def _spans(counts: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    return np.stack([counts[:, a:b].sum(axis=1) for a, b in zip((0, *ends), ends)], axis=1)


def _notes(params: LogrankParams, setting: Setting, tables: Any, m: int) -> list[str]:
    rules, found = setting.rules, []
    if rules.min_cell > 1 or rules.min_registries > 1:
        found.append(f"computed from intervals merged until each group has nobody or at least {rules.min_cell} events and nobody or at "
                     f"least {rules.min_cell} censored in it (rule min_cell {rules.min_cell}): differences within an interval do not count")
    if m == 2 and params.strata:
        names = groups(setting.dictionary, params.strata, params.missing)
        strata = tables.cuts[3].shown.reshape(-1, len(names)).any(axis=0)
        if not strata.all() and strata.any():
            found.append("left out are the strata " + ", ".join(f"{params.strata} = {name}" for name, one in zip(names, strata) if not one)
                         + f": small cells (rule min_cell {rules.min_cell})")
    return found


def quadratic(excess: np.ndarray, variance: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    """(O - E)' V^- (O - E) and its degrees of freedom; 0 if there is no test.

    V is singular, as the differences sum to 0: its pseudo-inverse gives the same as leaving out any
    one group. The degrees of freedom are its rank: groups that are ever at risk, less one, and less
    one more for each set of groups that is never at risk beside the others. Klein & Moeschberger
    (2003), section 7.3.
    """
    keep = expected > 0
    some = variance[np.ix_(keep, keep)]
    if keep.sum() < 2 or not some.any():
        return 0.0, 0
    sizes = np.linalg.eigvalsh(some)
    return float(
        excess[keep] @ np.linalg.pinv(some, rcond=FLAT, hermitian=True) @ excess[keep]
    ), int((sizes > FLAT * sizes.max()).sum())
