"""Kaplan-Meier: survival over time by group, with median, quartiles, restricted mean and median follow-up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import ClassVar, get_args

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.variable import Variable, value_text
from ...disclosure import Rules
from ...disclosure.precision import OnCurve, Public
from ...disclosure.release import Declared, SurvivalCurve, axes
from ...errors import QuestionError
from ...query.analysis import Joint, Params, Result, Setting, analysis
from ...query.views import Curve, Picture, Table
from ..shared.common import CONFIDENCE, check_confidence, groups, z_of
from .cuts import check_step, life_tables
from .life_table import SAME_TIME, beyond_note, check_survival, on_grid
from .product_limit import ConfType, Quantile
from .reporting import (
    Reported,
    at_reporting_times,
    common_end,
    follow_up_of,
    may_restrict,
    quantiles_of,
    reported,
    restricted,
    total_events,
)

TICKS = 6                   # times at which numbers at risk are printed under a picture


class KaplanMeierParams(Params, frozen=True):
    """time : follow-up, with a registered grid. event : boolean. by : a variable with groups; missing : unknown is a group too.

    conf_type : scale of the interval. tau : end of the restricted mean. grid : a coarser multiple of the registered grid.
    """

    time: str
    event: str
    by: str | None = None
    missing: bool = False
    confidence: float = CONFIDENCE
    conf_type: ConfType = "log-log"
    tau: float | None = None
    grid: float | None = None

    def columns(self) -> tuple[str, ...]:
        return (self.time, self.event, *((self.by,) if self.by and not self.missing else ()))

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        by = axes(dictionary, (self.by,), unknown=self.missing) if self.by else ()
        return (SurvivalCurve(self.population(), self.time, axes(dictionary, (self.event,)), by),)

    def check(self, dictionary: Dictionary) -> None:
        check_survival(dictionary, self.time, self.event, (self.by,) if self.by else (), self.missing)
        check_confidence(self.confidence)
        last = dictionary.grid(self.time)[-1]
        if self.tau is not None and not 0 < self.tau <= last * (1 + SAME_TIME):
            raise QuestionError(f'tau must lie between 0 and the last cut point of "{self.time}", {last:g}: {self.tau:g} was given')
        if self.grid is not None:
            check_step(dictionary, self.time, self.grid)


class At(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group at one time; `at_risk` is the number at the start of the step that holds the time. None: not released.

    lowest, highest : between which the survival lies; itself where it is exact.
    """

    group: str
    time: float
    at_risk: int | None
    survival: float | None
    se: float | None
    low: float | None
    high: float | None
    cumulative_hazard: float | None
    cumulative_hazard_se: float | None
    lowest: float | None = None
    highest: float | None = None


class GroupCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The curve of one group. All tuples have one entry per shown time; the first time is 0.

    n : patients, None if the group is not released (then the tuples are empty). total_events : of all, also after the last shown
    time, where a table of events by group may be shown; else up to that time.
    remaining : under observation after the last shown time. at_risk : just after the previous time. events, censored :
    between the previous time (excluded) and this one; those at time 0 stand at the first time at which they may be shown.
    se : Greenwood, of S. cumulative_hazard : Nelson-Aalen. rmst : restricted mean to `tau` of the result. follow_up : median
    follow-up by reverse Kaplan-Meier. since : the earliest time at which somebody counted at this one may have left; the same where the
    grid is not merged.
    """

    group: str
    n: int | None
    total_events: int | None = None
    remaining: int | None = None
    times: Public[tuple[float, ...]] = ()
    at_risk: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    censored: tuple[int, ...] = ()
    survival: OnCurve[tuple[float, ...]] = ()
    se: tuple[float | None, ...] = ()
    low: OnCurve[tuple[float | None, ...]] = ()
    high: OnCurve[tuple[float | None, ...]] = ()
    cumulative_hazard: tuple[float, ...] = ()
    cumulative_hazard_se: tuple[float | None, ...] = ()
    quantiles: tuple[Quantile, ...] = ()
    rmst: float | None = None
    rmst_se: float | None = None
    rmst_low: float | None = None
    rmst_high: float | None = None
    follow_up: Quantile | None = None
    since: Public[tuple[float, ...]] = ()

    @property
    def median(self) -> Quantile | None:
        return next((one for one in self.quantiles if one.p == 0.5), None)

    def at(self, time: float) -> At:
        """The curve at one time; None beyond the last shown time while patients remain. Between shown times
        it is carried forward where nobody can have left, else only bounded."""
        place = int(np.searchsorted(np.array(self.times) * (1 + 1e-12), time, side="left"))
        later = place >= len(self.times)
        if not self.times or time < 0 or (later and self.remaining):
            return At(self.group, time, *(None,) * 7)
        k = place if not later and self.times[place] <= time * (1 + 1e-12) else place - 1
        following = place if k < place else place + 1
        inside = k < place or place == 0        # at the start nobody has left, but who leaves at once may be counted later
        if not later and inside and following < len(self.times) and self.since[following] <= time * (1 + 1e-12):
            return At(self.group, time, *(None,) * 7, self.survival[following], self.survival[k] if k >= 0 else 1.0)
        return At(self.group, time, 0 if later else self.at_risk[place], self.survival[k], self.se[k], self.low[k], self.high[k],
                  self.cumulative_hazard[k], self.cumulative_hazard_se[k], self.survival[k], self.survival[k])


class KaplanMeier(Result, frozen=True, kw_only=True):
    """Frame: one row per group and shown time (index: group, time), columns at_risk, events, censored, survival, se, ci_low,
    ci_high, cumulative_hazard, cumulative_hazard_se. `at(times)` reads the curves off."""

    kind: ClassVar[str] = "kaplan_meier"

    time: str
    event: str
    by: str | None
    unit: str
    groups: tuple[GroupCurve, ...]
    tau: Public[float | None]
    confidence: Public[float]
    conf_type: str

    def __getitem__(self, group: str | int | float) -> GroupCurve:
        return {one.group: one for one in self.groups}[str(group)]

    def at(self, times: float | Iterable[float]) -> tuple[At, ...]:
        """Every group at these times."""
        wanted = (times,) if isinstance(times, (int, float)) else tuple(times)
        return tuple(group.at(float(time)) for group in self.groups for time in wanted)

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((g.group, t, g.at_risk[k], g.events[k], g.censored[k], g.survival[k], g.se[k], g.low[k], g.high[k],
                      g.cumulative_hazard[k], g.cumulative_hazard_se[k]) for g in self.groups for k, t in enumerate(g.times))
        curves = Table(("group", "time", "at_risk", "events", "censored", "survival", "se", "ci_low", "ci_high", "cumulative_hazard",
                        "cumulative_hazard_se"), rows, index=2, title="Kaplan-Meier")
        lines = []
        for g in self.groups:
            found = [value for q in (g.quantiles or (None,) * 3) for value in ((q.time, q.time_low, q.time_high) if q else (None,) * 3)]
            lines.append((g.group, g.n, g.total_events, *found, g.rmst, g.rmst_se, g.rmst_low, g.rmst_high,
                          g.follow_up.time if g.follow_up else None))
        names = [f"{name}{end}" for name in ("q25", "median", "q75") for end in ("", "_ci_low", "_ci_high")]
        return (curves, Table(("group", "n", "events", *names, "rmst", "rmst_se", "rmst_ci_low", "rmst_ci_high", "median_follow_up"),
                              tuple(lines), title=f"Survival times ({self.unit or 'units of time'})"))

    def picture(self) -> Picture:
        shown = [g for g in self.groups if g.times]
        end = max((g.times[-1] for g in shown), default=0.0)
        step = _nice(end / TICKS) if end else 1.0
        ends = sorted({t for g in shown for t in g.times})
        # merged intervals are few and long: people at risk are known at their ends only
        ticks = (0.0, *(t for t in ends if t)) if len(ends) <= TICKS else tuple(step * k for k in range(int(end / step + 1e-9) + 1))
        merged = any(since < time for g in shown for since, time in zip(g.since, g.times))
        start = (0.0,) if not merged else ()
        one = (1.0,) if not merged else ()
        return Picture("bounds" if merged else "steps", f"Kaplan-Meier with {self.confidence:.0%} {'intervals' if merged else 'band'}",
                       x=f"{self.time} ({self.unit})" if self.unit else self.time, y="survival",
                       curves=tuple(Curve(g.group, (*start, *g.times), (*one, *g.survival), (*one, *g.low), (*one, *g.high))
                                    for g in shown),
                       below_at=ticks, y_range=(0.0, 1.0),
                       below=tuple((g.group, tuple(_still_at_risk(g, t) for t in ticks)) for g in shown))


def _still_at_risk(group: GroupCurve, time: float) -> int | None:
    """People still at risk after the last shown time that is not later than this one."""
    left = int(np.searchsorted(np.array(group.times) * (1 - 1e-12), time, side="right"))
    return group.n if left == 0 else group.at_risk[left] if left < len(group.times) else group.remaining


def _nice(value: float) -> float:
    """The next round step: 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= value * (1 - 1e-9))


def _call(*, time: str, event: str, by: str | None = None, missing: bool = False, confidence: float = CONFIDENCE,
          conf_type: ConfType = "log-log", tau: float | None = None, grid: float | None = None) -> KaplanMeierParams:
    """kaplan_meier(time=, event=, by=None, missing=False, confidence=0.95, conf_type="log-log", tau=None, grid=None)"""
    if conf_type not in get_args(ConfType):
        raise QuestionError(f'conf_type "{conf_type}" is unknown', hint="one of " + ", ".join(get_args(ConfType)))
    return KaplanMeierParams(time, event, by, missing, confidence, conf_type, tau, grid)


@analysis("kaplan_meier/1", params=KaplanMeierParams, result=KaplanMeier, call=_call)
def kaplan_meier(params: KaplanMeierParams, setting: Setting) -> Joint:
    """Survival by group at its reporting times: with band, quartiles, restricted mean, median follow-up.

    Every number is that of the pooled table on the registered grid; the release rules decide where a
    curve may be told, never what it says there.
    """
    by = (params.by,) if params.by else ()
    tables = yield from life_tables(setting, time=params.time, event=params.event, by=by, missing=params.missing)
    labels = groups(setting.dictionary, params.by, params.missing) if params.by else ("all",)
    margin, rules = len(by), setting.rules
    told = {g: reported(tables, margin, g, params.grid) for g in np.flatnonzero(tables.cuts[margin].shown).tolist()}
    tau = common_end([one for one in told.values() if one is not None], rules)
    if params.tau is not None:      # 2.1 stands for 3 * 0.7
        known = on_grid(setting.dictionary.grid(params.time), params.tau)
        tau = known if known is not None else params.tau
    curves, notes = [], list(beyond_note(setting.dictionary, params.time))
    for g, label in enumerate(labels):
        one = told.get(g)
        if one is None:
            curves.append(GroupCurve(label, int(tables.people[margin][g]) if g in told else None))
            why = "too few events or censored" if g in told else "too few patients, or another group would follow by subtraction"
            notes.append(f'curve of "{label}" not released: {why} (rule min_cell {rules.min_cell}); join small groups')
            continue
        curves.append(_curve(label, one, tau, params, rules))
        notes += _of_curve(label, one, tau, setting.dictionary[params.time], rules)
    if any(one is not None and one.merged for one in told.values()):
        notes.append("survival is exact at the times shown, which lie so far apart that each interval holds nobody or at least "
                     f"{rules.min_cell} events and nobody or at least {rules.min_cell} censored (rule min_cell {rules.min_cell}); between "
                     "them it lies between its neighbours, and a quartile is told as the interval that holds it")
    notes.append("times are rounded up to the next point of the registered grid: times read off the curve, such as the median, can be "
                 "late by up to one step of it")
    return KaplanMeier(size=setting.size, time=params.time, event=params.event, by=params.by,
                       unit=setting.dictionary[params.time].unit, groups=tuple(curves),
                       tau=tau, confidence=params.confidence, conf_type=params.conf_type, notes=tuple(notes),
                       methods=f"Kaplan-Meier curves on the registered time grid with Greenwood {params.confidence:.0%} intervals "
                               f"({params.conf_type}), Brookmeyer-Crowley intervals of quantiles, Nelson-Aalen cumulative hazard and "
                               "reverse Kaplan-Meier follow-up.")


def _curve(label: str, where: Reported, tau: float | None, params: KaplanMeierParams, rules: Rules) -> GroupCurve:
    """Everything that is told of one group."""
    z, counts = z_of(params.confidence), where.counts
    at = at_reporting_times(where, z, params.conf_type, rules)
    events, censored = where.sums(counts.events), where.sums(counts.censored)
    left = np.concatenate([[0], np.cumsum(events + censored)[:-1]])
    mean, mean_se, mean_low, mean_high = None, None, None, None
    if tau is not None and not may_restrict(where, tau, rules):
        mean, mean_se, mean_low, mean_high = restricted(where, tau, z, rules)
    return GroupCurve(
        label, counts.people, total_events(where, rules), where.remaining, tuple(where.times.tolist()),
        tuple((counts.people - left).tolist()),
        tuple(events.tolist()), tuple(censored.tolist()), at.survival, at.se, at.low, at.high, at.cumulative_hazard,
        at.cumulative_hazard_se, quantiles_of(where, z, params.conf_type), mean, mean_se, mean_low, mean_high,
        follow_up_of(where, z, params.conf_type), tuple(where.since.tolist()))


def _of_curve(label: str, where: Reported, tau: float | None, variable: Variable, rules: Rules) -> Iterator[str]:
    """What is not told of one group, and why."""
    if where.remaining:
        yield (f'curve of "{label}" ends at {value_text(variable, where.times[-1])}: later numbers are small '
               f"(rule min_cell {rules.min_cell})")
    if tau is not None and (why := may_restrict(where, tau, rules)):
        times = ", ".join(value_text(variable, time) for time in where.times[1:])
        yield f'restricted mean of "{label}" not released: {why} (rule min_cell {rules.min_cell}); reporting times are {times}'
