"""Kaplan-Meier: survival over time by group, with median, quartiles, restricted mean and median follow-up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import msgspec
import numpy as np

from ..analysis import Joint, Params, Result, Setting, analysis
from ..dictionary import Dictionary
from ..errors import QuestionError
from ..variable import value_text
from ..views import Curve, Picture, Table
from ._common import CONFIDENCE, at_most, check_confidence, groups, z_of
from .survival import SAME_TIME, at_risk, beyond_note, check_survival, on_grid
from .survival_cuts import Ends, LifeTables, check_step, coarser, life_tables

ConfType = Literal["log-log", "log", "plain"]
QUARTILES = (0.25, 0.5, 0.75)
SAME = 1.5e-8               # sqrt of the machine precision: when a curve counts as exactly at a height, as in R's quantile()
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

    def check(self, dictionary: Dictionary) -> None:
        check_survival(dictionary, self.time, self.event, (self.by,) if self.by else (), self.missing)
        check_confidence(self.confidence)
        last = dictionary.grid(self.time)[-1]
        if self.tau is not None and not 0 < self.tau <= last * (1 + SAME_TIME):
            raise QuestionError(f'tau must lie between 0 and the last cut point of "{self.time}", {last:g}: {self.tau:g} was given')
        if self.grid is not None:
            check_step(dictionary, self.time, self.grid)


class Quantile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time by which the share p has had the event; None where the curve, or its band, does not come down so far."""

    p: float
    time: float | None
    time_low: float | None
    time_high: float | None


class At(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group at one time; `at_risk` is the number at the start of the step that holds the time. None: not released."""

    group: str
    time: float
    at_risk: int | None
    survival: float | None
    se: float | None
    low: float | None
    high: float | None
    cumulative_hazard: float | None
    cumulative_hazard_se: float | None


class GroupCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The curve of one group. All tuples have one entry per shown time; the first time is 0.

    n : patients, None if the group is not released (then the tuples are empty). total_events : up to the last shown time.
    remaining : under observation after the last shown time. at_risk : just after the previous time. events, censored :
    between the previous time (excluded) and this one; those at time 0 stand at the first time at which they may be shown.
    se : Greenwood, of S. cumulative_hazard : Nelson-Aalen. rmst : restricted mean to `tau` of the result. follow_up : median
    follow-up by reverse Kaplan-Meier.
    """

    group: str
    n: int | None
    total_events: int | None = None
    remaining: int | None = None
    times: tuple[float, ...] = ()
    at_risk: tuple[int, ...] = ()
    events: tuple[int, ...] = ()
    censored: tuple[int, ...] = ()
    survival: tuple[float, ...] = ()
    se: tuple[float | None, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    cumulative_hazard: tuple[float, ...] = ()
    cumulative_hazard_se: tuple[float, ...] = ()
    quantiles: tuple[Quantile, ...] = ()
    rmst: float | None = None
    rmst_se: float | None = None
    rmst_low: float | None = None
    rmst_high: float | None = None
    follow_up: Quantile | None = None

    @property
    def median(self) -> Quantile | None:
        return next((one for one in self.quantiles if one.p == 0.5), None)

    def at(self, time: float) -> At:
        """The curve at one time, carried forward; None beyond the last shown time while patients remain."""
        place = int(np.searchsorted(np.array(self.times) * (1 + 1e-12), time, side="left"))
        later = place >= len(self.times)
        if not self.times or time < 0 or (later and self.remaining):
            return At(self.group, time, *(None,) * 7)
        k = place if not later and self.times[place] <= time * (1 + 1e-12) else place - 1
        return At(self.group, time, 0 if later else self.at_risk[place], self.survival[k], self.se[k], self.low[k], self.high[k],
                  self.cumulative_hazard[k], self.cumulative_hazard_se[k])


class KaplanMeier(Result, frozen=True, kw_only=True):
    """Frame: one row per group and shown time (index: group, time), columns at_risk, events, censored, survival, se, ci_low,
    ci_high, cumulative_hazard, cumulative_hazard_se. `at(times)` reads the curves off."""

    kind: ClassVar[str] = "kaplan_meier"
    verbatim: ClassVar[frozenset[str]] = frozenset({"confidence", "times", "tau", "p", "time", "time_low", "time_high"})
    curves: ClassVar[frozenset[str]] = frozenset({"survival", "low", "high"})

    time: str
    event: str
    by: str | None
    unit: str
    groups: tuple[GroupCurve, ...]
    tau: float | None
    confidence: float
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
        return Picture("steps", f"Kaplan-Meier with {self.confidence:.0%} band", x=f"{self.time} ({self.unit})" if self.unit else self.time,
                       y="survival", curves=tuple(Curve(g.group, (0.0, *g.times), (1.0, *g.survival), (1.0, *g.low), (1.0, *g.high))
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
    """Survival by group on the registered grid: curve with band, quartiles, restricted mean, median follow-up.

    Everything is computed from the counts of the shown intervals.
    """
    by = (params.by,) if params.by else ()
    tables = yield from life_tables(setting, time=params.time, event=params.event, by=by, missing=params.missing)
    labels = groups(setting.dictionary, params.by, params.missing) if params.by else ("all",)
    variable = setting.dictionary[params.time]
    steps = {g: _steps(tables, len(by), g, params.grid) for g in np.flatnonzero(tables.cuts[len(by)].shown).tolist()}
    lasts = [float(one.times[-1]) for one in steps.values() if one is not None and one.people]
    tau = min(lasts, default=None)
    if params.tau is not None:      # 2.1 stands for 3 * 0.7
        known = on_grid(setting.dictionary.grid(params.time), params.tau)
        tau = known if known is not None else params.tau
    curves, notes = [], list(beyond_note(setting.dictionary, params.time))
    for g, label in enumerate(labels):
        one = steps.get(g)
        if one is None:
            n = int(tables.people[len(by)][g]) if g in steps else None
            curves.append(GroupCurve(label, n))
            why = "too few events or censored" if g in steps else "too few patients, or another group would follow by subtraction"
            notes.append(f'curve of "{label}" not released: {why} (rule min_cell {setting.rules.min_cell}); join small groups')
            continue
        curves.append(_curve(label, one, tau, params))
        if one.remaining:
            notes.append(f'curve of "{label}" ends at {value_text(variable, one.times[-1])}: later numbers are small '
                         f"(rule min_cell {setting.rules.min_cell})")
            if tau is not None and tau > one.times[-1]:
                notes.append(f'restricted mean of "{label}" not released: its curve ends before tau = {tau:g}; use a smaller tau')
        notes += _of_merging(label, one, tau, variable.unit)
    k = setting.rules.min_cell
    if k > 1 or setting.rules.min_registries > 1:
        notes.append(f"intervals of the grid are merged until each holds nobody or at least {k} events and nobody or at least {k} censored "
                     f"(rule min_cell {k}); all count as at risk to the end of theirs, so that curves are too high rather than too low")
    notes.append("times are rounded up to the end of their interval: times read off the curve, such as the median, can be late by "
                 "up to one step")
    return KaplanMeier(size=setting.size, time=params.time, event=params.event, by=params.by, unit=variable.unit, groups=tuple(curves),
                       tau=tau, confidence=params.confidence, conf_type=params.conf_type, notes=tuple(notes),
                       methods=f"Kaplan-Meier curves on the registered time grid with Greenwood {params.confidence:.0%} intervals "
                               f"({params.conf_type}), Brookmeyer-Crowley intervals of quantiles, Nelson-Aalen cumulative hazard and "
                               "reverse Kaplan-Meier follow-up.")


# -- the curve -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """Shown counts of one group: times with events and censored at each, patients at risk before each, and who remains."""

    times: np.ndarray
    events: np.ndarray
    censored: np.ndarray
    people: int
    early: np.ndarray       # by how much sooner than in its interval of the grid somebody may have left, as intervals were merged

    @property
    def remaining(self) -> int:
        return self.people - int((self.events + self.censored).sum())

    @property
    def at_risk(self) -> np.ndarray:
        return self.remaining + at_risk(self.events + self.censored)


def _steps(tables: LifeTables, m: int, g: int, step: float | None) -> Steps | None:
    """The shown steps of group g: time 0, then the ends of its intervals at which somebody left."""
    ends: Ends = coarser(tables.cuts[m].own[g], tables.times, step)
    people = int(tables.people[m][g])
    if not ends:
        return None
    spans = list(zip((0, *ends), ends))
    events, censored = (np.array([counts[g, a:b].sum() for a, b in spans]) for counts in (tables.events[m], tables.censored[m]))
    if ends[0] != 1:        # those who leave at time 0 are part of a longer interval
        spans, events, censored = [(0, 1), *spans], np.concatenate([[0], events]), np.concatenate([[0], censored])
    keep = (events + censored) > 0
    keep[0] = True
    keep[-1] |= people > (events + censored).sum()      # followed to there, though nobody left
    first, last = np.array(spans).T
    times, soonest = tables.times[last - 1], tables.times[first]
    if step:                                            # on the grid that was asked for
        soonest = np.minimum(np.ceil(soonest / step * (1 - 1e-12)) * step, times)
    return Steps(times[keep], events[keep], censored[keep], people, (times - soonest)[keep])


def _curve(label: str, steps: Steps, tau: float | None, params: KaplanMeierParams) -> GroupCurve:
    z = z_of(params.confidence)
    survival, hazard_sum = product_limit(steps.events, steps.at_risk)
    low, high = band(survival, np.sqrt(hazard_sum), z, params.conf_type)
    ratio = np.divide(steps.events, steps.at_risk, out=np.zeros(len(steps.times)), where=steps.at_risk > 0)
    over = np.divide(ratio, steps.at_risk, out=np.zeros(len(steps.times)), where=steps.at_risk > 0)
    quantiles = tuple(quantile(p, steps.times, survival, low, high) for p in QUARTILES)
    reverse, reverse_sum = product_limit(steps.censored, steps.at_risk)
    mean, mean_se = (None, None)
    if tau is not None and (tau <= steps.times[-1] or not steps.remaining):
        mean, mean_se = restricted_mean(steps, survival, tau)
        if excess(steps, tau) > mean_se:
            mean, mean_se = None, None
    with np.errstate(invalid="ignore"):
        se = survival * np.sqrt(hazard_sum)
    return GroupCurve(
        label, steps.people, int(steps.events.sum()), steps.remaining, tuple(steps.times.tolist()), tuple(steps.at_risk.tolist()),
        tuple(steps.events.tolist()), tuple(steps.censored.tolist()), tuple(survival.tolist()), _known(se), _known(low), _known(high),
        tuple(np.cumsum(ratio).tolist()), tuple(np.sqrt(np.cumsum(over)).tolist()), quantiles, mean, mean_se,
        mean - z * mean_se if mean is not None and mean_se is not None else None,
        mean + z * mean_se if mean is not None and mean_se is not None else None,
        quantile(0.5, steps.times, reverse, *band(reverse, np.sqrt(reverse_sum), z, params.conf_type)))


def _of_merging(label: str, steps: Steps, tau: float | None, unit: str) -> Iterator[str]:
    """How far merged intervals may have moved a curve and its restricted mean."""
    survival, _ = product_limit(steps.events, steps.at_risk)
    if (gap := float((survival - lowest(steps)).max())) > 0:
        yield f'merged intervals may make the curve of "{label}" too high, by at most {at_most(gap):g}'
    if (late := lateness(steps, survival)) > 0:
        yield f'times read off the curve of "{label}" (median, quartiles) may be late by up to {at_most(late):g} {unit}'.rstrip()
    if tau is None or (tau > steps.times[-1] and steps.remaining):
        return
    if (more := excess(steps, tau)) > restricted_mean(steps, survival, tau)[1]:
        yield (f'restricted mean of "{label}" not released: intervals were merged so widely that it would be too large by up to '
               f"{at_most(more):g} "
               f"{unit}".rstrip() + ", more than its standard error")
    elif more > 0:
        yield f'the restricted mean of "{label}" may be too large, by up to {at_most(more):g} {unit}'.rstrip()


def lowest(steps: Steps) -> np.ndarray:
    """The lowest S that the finer grid could have: in each merged interval the censored leave before the first event."""
    n = steps.at_risk - np.where(steps.early > 0, steps.censored, 0)
    return product_limit(np.minimum(steps.events, n), n)[0]


def lateness(steps: Steps, survival: np.ndarray) -> float:
    """By how much a quartile may be later than on the finer grid: there the lowest S may fall as soon as its interval begins."""
    found, low = [0.0], lowest(steps)
    for p in QUARTILES:
        shown, reached = _crossing(1 - p, steps.times, survival), np.flatnonzero(low <= 1 - p + SAME)
        if shown is not None:
            found.append(shown - float((steps.times - steps.early)[reached[0]]))
    return max(found)


def excess(steps: Steps, tau: float) -> float:
    """By how much the area under S up to tau may be larger than on the finer grid: in each merged interval all leave at its beginning."""
    survival, _ = product_limit(steps.events, steps.at_risk)
    return max(_area(steps.times, survival, tau) - _area(steps.times - steps.early, lowest(steps), tau), 0.0)


def _area(times: np.ndarray, survival: np.ndarray, tau: float) -> float:
    keep = times <= tau
    return float((np.diff([0.0, *times[keep], tau]) * np.array([1.0, *survival[keep]])).sum())


def _known(values: np.ndarray) -> tuple[float | None, ...]:
    return tuple(value if math.isfinite(value) else None for value in values.tolist())


def product_limit(events: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S(t) and Greenwood's sum of d / (n (n - d)), the variance of log S; infinite once S is 0.

    Kaplan & Meier (1958), JASA 53:457-481; Greenwood (1926). Klein & Moeschberger (2003), section 4.2.
    """
    n = np.maximum(n, 1)
    with np.errstate(divide="ignore"):
        return np.cumprod((n - events) / n), np.cumsum(np.divide(events, n * (n - events), dtype=float))


def band(survival: np.ndarray, se_log: np.ndarray, z: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise limits of S; NaN where S is 0. Klein & Moeschberger (2003), section 4.3; the limits R's survfit prints."""
    with np.errstate(all="ignore"):
        if kind == "plain":
            low, high = survival - z * survival * se_log, survival + z * survival * se_log
        elif kind == "log":
            low, high = survival * np.exp(-z * se_log), survival * np.exp(z * se_log)
        else:
            half = z * se_log / np.log(survival)
            low, high = survival ** np.exp(-half), survival ** np.exp(half)
    low, high = np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)
    known = survival > 0
    certain = se_log == 0           # nobody has had the event yet
    return (np.where(certain, survival, np.where(known, low, np.nan)), np.where(certain, survival, np.where(known, high, np.nan)))


def quantile(p: float, times: np.ndarray, survival: np.ndarray, low: np.ndarray, high: np.ndarray) -> Quantile:
    """The time at which S falls to 1 - p, with the times at which the limits of its band do.

    Where S is exactly 1 - p over an interval, its middle. Brookmeyer & Crowley (1982), Biometrics 38:29-41.
    """
    return Quantile(p, *(_crossing(1 - p, times, curve) for curve in (survival, low, high)))


def _crossing(height: float, times: np.ndarray, curve: np.ndarray) -> float | None:
    times, curve = times[~np.isnan(curve)], curve[~np.isnan(curve)]
    reached, below = np.flatnonzero(curve <= height + SAME), np.flatnonzero(curve < height - SAME)
    if not len(reached):
        return None
    return float((times[reached[0]] + times[below[0] if len(below) else -1]) / 2) if abs(curve[reached[0]] - height) <= SAME \
        else float(times[reached[0]])


def restricted_mean(steps: Steps, survival: np.ndarray, tau: float) -> tuple[float, float]:
    """Area under S up to tau, and its standard error.

    The variance is the sum of (area beyond t)^2 d / (n (n - d)) over event times, without n / (n - 1), as R's survfit.
    Klein & Moeschberger (2003), section 4.5.
    """
    keep = steps.times <= tau
    times, n, d = steps.times[keep], steps.at_risk[keep].astype(float), steps.events[keep]
    area = np.diff([0.0, *times, tau]) * np.array([1.0, *survival[keep]])
    beyond = at_risk(area)[1:]
    jump = np.divide(d, n * (n - d), out=np.zeros(len(n)), where=n > d)
    return float(area.sum()), math.sqrt(float((beyond**2 * jump).sum()))
