"""Log-rank: do survival curves differ between groups? Also stratified, also Peto-Peto."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from ...data.dictionary import RESERVED, Dictionary
from ...data.rows import Rows
from ...disclosure import Rules
from ...disclosure.precision import Public, PValue, Statistic
from ...disclosure.release import Declared, SurvivalCurve, axes
from ...disclosure.suppression import Shown, show_table
from ...errors import QuestionError
from ...query.analysis import Joint, Params, Result, Setting, analysis
from ...query.views import Picture, Table
from ...sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from ..shared.common import groups, p_chi2, quoted
from .life_table import beyond_note, check_survival, life_table, margins_of, scores, times_of

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

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        by = axes(dictionary, (self.by, *((self.strata,) if self.strata else ())), unknown=self.missing)
        return (SurvivalCurve(self.population(), self.time, axes(dictionary, (self.event,)), by),)

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

    time: str
    event: str
    by: str
    strata: str | None
    rho: int
    groups: tuple[GroupEvents, ...]
    compared: tuple[str, ...]
    until: Public[float | None]
    chi2: Statistic[float | None] = None
    df: int | None = None
    p: PValue[float | None] = None

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

    Computed from all events on the registered grid: it is the score test of a model, an average of many,
    and like a model it is released as a whole or not at all. With strata="registry" every registry
    compares its own patients and only the sums over registries leave it.
    """
    labels = groups(setting.dictionary, params.by, params.missing)
    grid = times_of(setting.dictionary, params.time)
    notes = list(beyond_note(setting.dictionary, params.time))
    totals = yield from _scores_by_registry(params) if params.strata == RESERVED else _scores(params, len(labels), len(grid))
    may, e, v = _may_score(totals, setting.nobody(params.by, params.missing), setting.rules), totals["expected"], totals["variance"]
    shown = may.all()
    if not shown:
        names = quoted(labels, ~may)
        notes.append(f"not released: {names} has too few patients, or too few with or without the event (rule min_cell "
                     f"{setting.rules.min_cell}); join small groups, or leave them out with a filter")
    found = tuple(GroupEvents(label, int(n), float(observed), float(expected), float(variance)) if shown else GroupEvents(label, None)
                  for label, n, observed, expected, variance in zip(labels, totals["people"], totals["observed"], e, np.diag(v)))
    chi2, df = quadratic(totals["observed"] - e, v, e) if shown else (0.0, 0)
    test: dict[str, Any] = {"chi2": chi2, "df": df, "p": p_chi2(chi2, df)} if df else {}
    within = f", stratified by {params.strata}" if params.strata else ""
    return Logrank(size=setting.size, time=params.time, event=params.event, by=params.by, strata=params.strata, rho=params.rho,
                   groups=found, compared=labels if shown else (), until=float(grid[-1]),
                   notes=tuple(notes),
                   methods=f"{NAMES[params.rho][0].upper()}{NAMES[params.rho][1:]} test{within}, hypergeometric variance with "
                           "correction for ties, on the registered time grid.", **test)


def _scores_by_registry(params: LogrankParams) -> Generator[list[Ask], list[Sums], Sums]:
    """Scores of the registries, each a stratum of its own, added up."""
    (totals,) = yield [logrank_scores(time=params.time, event=params.event, by=params.by, rho=params.rho, missing=params.missing)]
    return totals


def _scores(params: LogrankParams, size: int, bins: int) -> Generator[list[Ask], list[Sums], Sums]:
    """The same blocks from the life tables of everybody: scores are added over strata. size, bins : groups, and bins of the grid."""
    by = (params.by, *((params.strata,) if params.strata else ()))
    about = {"time": params.time, "event": params.event, "by": list(by), "missing": params.missing}
    # the second has whole follow-up as one interval: registries that contribute to it are counted there
    fine, whole = yield [life_table(**about), life_table(**about, ends=[[bins]] * len(margins_of(by)))]
    cells = "3" if params.strata else "1"
    o, e, v = np.zeros(size), np.zeros(size), np.zeros((size, size))
    lines = np.arange(len(fine[f"people{cells}"])).reshape(size, -1)
    for stratum in lines.T:
        observed, expected, variance = scores(fine[f"events{cells}"][stratum], fine[f"censored{cells}"][stratum], params.rho)
        o, e, v = o + observed, e + expected, v + variance
    return {"people": whole["people1"], "people" + INDICATORS: whole["people1" + INDICATORS],
            "events": whole["events1"][:, 0], "events" + INDICATORS: whole["events1" + INDICATORS][:, 0],
            "observed": o, "expected": e, "variance": v}


def _may_score(totals: Sums, vacant: np.ndarray, rules: Rules) -> np.ndarray:
    """Which groups have enough people, enough events and enough without event, and would not follow by subtraction.

    A group that nobody is in is no group, where that may be seen. vacant : groups that nobody in the whole data-cut is in.
    """
    if rules.min_cell <= 1 and rules.min_registries <= 1:
        return np.ones(len(totals["people"]), dtype=bool)
    table = np.stack([totals["events"], totals["people"] - totals["events"]], axis=1)
    # registries with people without event are not counted: for them only the number decides
    there = np.stack([totals["events" + INDICATORS], totals["people" + INDICATORS]], axis=1)
    small = (table < rules.min_cell) | (there < rules.min_registries)
    nobody = (totals["people"] == 0) & (vacant | (not rules.hides_zeros))
    people = show_table(totals["people"], totals["people" + INDICATORS], rules, vacant=[vacant]).cells != Shown.HIDDEN
    return people & (~small.any(axis=1) | nobody)


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
