"""Rates: events per follow-up time, with exact intervals, and rate ratios between groups.

How this works: a rate gives away how many people of a group had an event and how many had none, so both must be safe to show,
and so must be what is withheld as a whole. Where one person may have several events, their number is checked too: 12 people
with 13 events are one person with two. Rates, ratios and the overall row are computed from what stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
from scipy import special

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..data.variable import Variable, level_text
from ..disclosure import Rules
from ..disclosure.precision import Public, PValue
from ..disclosure.release import Average, Axis, Declared, axes, classes, few_levels, tells
from ..disclosure.suppression import show_table
from ..errors import QuestionError
from ..query.analysis import Joint, Params, Result, Setting, analysis
from ..query.views import Picture, Table
from ..sums.statistic import INDICATORS, Block, Sums, statistic
from .shared.common import CONFIDENCE, check_confidence, count_cells, group_of, groups, integer_bound, p_normal, quoted, withheld, z_of
from .shared.moments import scaled, unit_of

OVERALL = "overall"
DAYS_PER_YEAR = 365.25
PER_YEAR = {"day": DAYS_PER_YEAR, "week": DAYS_PER_YEAR / 7, "month": 12.0, "year": 1.0}      # units of follow-up in a year
TIES = 1 + 1e-7             # probabilities that are equal up to rounding count as equal, as in R
MORE_THAN_ONE = 3           # classes of a count of events: none, one, several


def _event_classes(variable: Variable) -> int:
    """How finely people are counted by their events: every level of a few, else none, one, several."""
    return variable.steps + 1 if few_levels(variable) and variable.steps is not None else MORE_THAN_ONE


def _layout(dictionary: Dictionary, *, events: str, time: str, by: str | None = None, missing: bool = False) -> dict[str, Block]:
    g = len(groups(dictionary, by, missing)) if by else 1
    count, follow_up = dictionary.numeric(events), dictionary.numeric(time)
    whole = follow_up.unit_step is not None
    blocks = {"n": Block((g,), counts=True), "any": Block((g, 2), counts=True),
              "classes": Block((g, _event_classes(count)), counts=True),
              "events": Block((g,), integer_bound(count), integer=True),
              "time": Block((g,), integer_bound(follow_up) if whole else 1.0, integer=whole)}
    if few_levels(follow_up):
        assert follow_up.steps is not None
        blocks["times"] = Block((g, follow_up.steps + 1), counts=True)
    return blocks


@statistic("person_time/1", layout=_layout)
def person_time(rows: Rows, events: str, time: str, by: str | None = None, missing: bool = False) -> dict:
    """Per group: people, people without and with events, people by number of events, sum of events, sum of follow-up time.

    Time is summed in whole steps above its lower end, exactly; without a step as (t - lo) / (hi - lo). Where it has few levels,
    people per level are added.
    """
    cases = rows.complete([events, time, *([by] if by and not missing else [])])
    group = group_of(cases, by, missing) if by else np.zeros(cases.n, dtype=np.int64)
    g = len(groups(rows.dictionary, by, missing)) if by else 1
    count, classes = cases.steps(events), _event_classes(rows.dictionary[events])
    follow_up = rows.dictionary[time]
    whole = follow_up.unit_step is not None
    sums: dict = {"events": np.zeros(g, dtype=np.int64), "time": np.zeros(g, dtype=np.int64 if whole else float)}
    np.add.at(sums["events"], group, count)
    np.add.at(sums["time"], group, cases.steps(time) if whole else scaled(cases, time))
    if few_levels(follow_up):
        assert follow_up.steps is not None
        sums["times"] = count_cells((g, follow_up.steps + 1), (group, cases.steps(time)))
    return sums | {"n": np.bincount(group, minlength=g), "any": count_cells((g, 2), (group, np.minimum(count, 1))),
                   "classes": count_cells((g, classes), (group, np.minimum(count, classes - 1)))}


class RatesParams(Params, frozen=True):
    """events : a boolean, or an integer that counts them. time : follow-up, from 0 on. by : groups. per : units or person-years of
    the scaled rate. reference : the group that ratios are against, the first shown one by default."""

    events: str
    time: str
    by: str | None = None
    missing: bool = False
    per: float = 100
    reference: str | None = None
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        return (self.events, self.time, *((self.by,) if self.by and not self.missing else ()))

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        by = axes(dictionary, (self.by,), unknown=self.missing) if self.by else ()
        told = classes(dictionary, (self.events, self.time))
        if not tells(dictionary[self.events]):          # a count: how many had none is told
            told = (*told, Axis(self.events, some=True))
        return (Average(self.population(), (self.events, self.time), by, told),)

    def check(self, dictionary: Dictionary) -> None:
        check_confidence(self.confidence)
        events, time = dictionary[self.events], dictionary[self.time]
        if events.type not in ("boolean", "integer"):
            raise QuestionError(f'"{self.events}" is of type {events.type}: events are a boolean, or an integer that counts them')
        if events.low != 0:
            raise QuestionError(f'"{self.events}" starts at {events.low:g}: a number of events starts at 0',
                                hint=f'set the range of "{self.events}" to start at 0 in the dictionary')
        if not time.is_numeric or time.low < 0:
            raise QuestionError(f'"{self.time}" is not a follow-up time: a number or an integer from 0 on is wanted',
                                hint=f'set the range of "{self.time}" to start at 0 in the dictionary')
        if not self.per > 0:
            raise QuestionError(f"per must be above 0: {self.per:g} was given", hint="100 is usual: events per 100 person-years")
        names = groups(dictionary, self.by, self.missing) if self.by else ()
        if self.reference is not None and self.reference not in names:
            raise QuestionError(f'"{self.reference}" is not a group to compare with',
                                hint="groups are: " + ", ".join(names) if names else "name the groups with `by`")


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group. n : people. with_events : people with at least one. events, time : sums. rate : events per unit of time, `low`,
    `high` its exact interval, `wald_low`, `wald_high` that on the log scale (None without events). scaled... : per `per_unit` of
    the result. None: not released."""

    group: str
    n: int | None = None
    with_events: int | None = None
    events: int | None = None
    time: float | None = None
    rate: float | None = None
    low: float | None = None
    high: float | None = None
    wald_low: float | None = None
    wald_high: float | None = None
    scaled: float | None = None
    scaled_low: float | None = None
    scaled_high: float | None = None


class RateRatio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rate of a group over that of the reference. low, high, p : exact, given the total of events; wald_... : on the log scale.
    None for an infinite number, or where it needs events in both groups."""

    group: str
    reference: str
    ratio: float | None
    low: float | None
    high: float | None
    p: PValue[float | None]
    log_se: float | None
    wald_low: float | None
    wald_high: float | None
    wald_p: PValue[float | None]


class Rates(Result, frozen=True, kw_only=True):
    """Frame: one row per group (index `group`), columns n, with_events, events, time, person_years (where the follow-up is in days,
    weeks or months), rate, ci_low, ci_high (per `per_unit`), the row "overall" last where every group is shown. A second table has the
    rate ratios. `result["F"]` is one group."""

    kind: ClassVar[str] = "rates"

    events: str
    time: str
    by: str | None
    unit: str           # of `rate`: "1 per day"
    per: Public[float]
    per_unit: str       # of the scaled rates: "per 100 person-years"
    rates: tuple[Rate, ...]
    ratios: tuple[RateRatio, ...] = ()
    confidence: Public[float] = CONFIDENCE

    def __getitem__(self, group: str | int | bool) -> Rate:
        return {one.group: one for one in self.rates}[level_text(group)]

    def tables(self) -> tuple[Table, ...]:
        year = PER_YEAR.get(self.unit.removeprefix("per "), 1.0)
        rows = [(r.group, r.n, r.with_events, r.events, r.time, r.time and r.time / year, r.scaled, r.scaled_low, r.scaled_high)
                for r in self.rates]
        heads = ("group", "n", "with_events", "events", "time", "person_years", "rate", "ci_low", "ci_high")
        shown = [k for k, head in enumerate(heads) if head != "person_years" or year != 1.0]
        found = (Table(tuple(heads[k] for k in shown), tuple(tuple(row[k] for k in shown) for row in rows),
                       title=f"Events {self.per_unit}"),)
        if not self.ratios:
            return found
        ratios = tuple((r.group, r.reference, r.ratio, r.low, r.high, r.p) for r in self.ratios)
        return found + (Table(("group", "reference", "ratio", "ci_low", "ci_high", "p"), ratios, index=2, title="Rate ratios"),)

    def picture(self) -> Picture:
        return Picture("points", f"Rate with exact {self.confidence:.0%} interval", x=self.by or "", y=f"events {self.per_unit}",
                       labels=tuple(r.group for r in self.rates),
                       series=(("rate", tuple(r.scaled for r in self.rates)), ("low", tuple(r.scaled_low for r in self.rates)),
                               ("high", tuple(r.scaled_high for r in self.rates))))


def _call(*, events: str, time: str, by: str | None = None, missing: bool = False, per: float = 100,
          reference: str | int | bool | None = None, confidence: float = CONFIDENCE) -> RatesParams:
    """rates(events=, time=, by=None, missing=False, per=100, reference=None, confidence=0.95)"""
    return RatesParams(events, time, by, missing, float(per), None if reference is None else level_text(reference), confidence)


@analysis("rates/1", params=RatesParams, result=Rates, call=_call)
def rates(params: RatesParams, setting: Setting) -> Joint:
    """Incidence rates with Garwood's exact intervals, and rate ratios with conditional exact and Wald intervals.

    Per `per` person-years where the follow-up is in days, weeks, months or years, else per `per` units of it. Rothman, Greenland &
    Lash (2008), Modern Epidemiology, chapter 14.
    """
    (totals,) = yield [person_time(events=params.events, time=params.time, by=params.by, missing=params.missing)]
    names = groups(setting.dictionary, params.by, params.missing) if params.by else (OVERALL,)
    sizes, silent = _verdict(totals, setting.rules, setting.nobody(params.by, params.missing))
    variable = setting.dictionary[params.time]
    unit, years = _unit(variable)
    follow_up = _times(totals, variable)
    with_events, events = totals["any"][:, 1], totals["events"]
    factor, level = params.per * (years or 1.0), params.confidence
    found = [Rate(name, None if n < 0 else int(n)) if quiet else _rate(name, int(n), int(some), int(d), t, factor, level)
             for name, n, quiet, some, d, t in zip(names, sizes, silent, with_events, events, follow_up)]
    shown = [k for k in range(len(names)) if not silent[k]]
    notes = _notes(setting.rules, names, sizes, silent)
    ratios: list[RateRatio] = []
    if params.by:
        if not silent.any():
            n, some, d = (int(block.sum()) for block in (sizes, with_events, events))
            found.append(_rate(OVERALL, n, some, d, math.fsum(follow_up), factor, level))
        observed = [k for k in shown if follow_up[k] > 0]
        reference = names.index(params.reference) if params.reference else next(iter(observed), None)
        if reference in observed:
            ratios = [_ratio((names[k], names[reference]), int(events[k]), follow_up[k], int(events[reference]), follow_up[reference],
                             level) for k in observed if k != reference]
        elif reference is not None:
            notes.append(f'no rate ratios: the rate of the reference group "{names[reference]}" is not released; name another reference')
    return Rates(size=setting.size, events=params.events, time=params.time, by=params.by, unit=f"per {unit}", per=params.per,
                 per_unit=f"per {params.per:g} person-years" if years else f"per {params.per:g} x {unit}", rates=tuple(found),
                 ratios=tuple(ratios), confidence=params.confidence, notes=tuple(notes),
                 methods="Incidence rates with exact Poisson intervals"
                         + (", rate ratios with conditional exact intervals." if ratios else "."))


def _verdict(totals: Sums, rules: Rules, nobody: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes of groups, -1 where suppressed, and which groups' rates are not released.

    Withheld groups have, together, enough people with and without events; so the number of one of them stays uncertain by at
    least the smallest cell, also to a reader who knows all sizes and the overall rate. nobody : groups that nobody in the whole data-cut
    is in.
    """
    sizes = show_table(totals["n"], totals["n" + INDICATORS], rules, vacant=[nobody]).cells if len(totals["n"]) > 1 else totals["n"]
    silent = withheld(totals["any"], totals["any" + INDICATORS], sizes < 0, rules, shown=True, nobody=nobody)
    for block in ("classes", "times"):
        if block in totals:
            silent = withheld(totals[block], totals[block + INDICATORS], silent, rules, nobody=nobody)
    return sizes, silent


def _notes(rules: Rules, names: Sequence[str], sizes: np.ndarray, silent: np.ndarray) -> list[str]:
    if not silent.any():
        return []
    notes = [f"{quoted(names, sizes < 0)} suppressed (rule min_cell {rules.min_cell}, with complementary suppression); join small levels "
             "in the dictionary"] if (sizes < 0).any() else []
    if (silent & (sizes >= 0)).any():
        notes.append(f"rates of {quoted(names, silent & (sizes >= 0))} not released: fewer than {rules.min_cell} people without, with "
                     "or with several events, there or in what is withheld together (rule min_cell); join small groups, or ask for "
                     "a longer follow-up")
    return notes


def _unit(variable: Variable) -> tuple[str, float | None]:
    """The unit of follow-up in the singular, and how many of them make a year, if it is a unit of the calendar."""
    text = variable.unit.strip().lower()
    single = text[:-1] if text.endswith("s") else text
    return (single, PER_YEAR[single]) if single in PER_YEAR else (variable.unit or "unit", None)


def _times(totals: Sums, variable: Variable) -> list[float]:
    """Follow-up per group, in the unit of the variable."""
    return [variable.low * n + unit_of(variable) * t for n, t in zip(totals["n"].tolist(), totals["time"].tolist())]


def _rate(name: str, n: int, with_events: int, events: int, time: float, factor: float, confidence: float) -> Rate:
    if not time > 0:
        return Rate(name, n, with_events, events, time)
    rate, (low, high) = events / time, (limit / time for limit in garwood(events, confidence))
    spread = math.exp(z_of(confidence) / math.sqrt(events)) if events else None
    return Rate(name, n, with_events, events, time, rate, low, high, rate / spread if spread else None,
                rate * spread if spread else None, rate * factor, low * factor, high * factor)


def garwood(events: int, confidence: float) -> tuple[float, float]:
    """Exact interval of a Poisson mean. Garwood (1936), Biometrika 28:437-442."""
    tail = (1 - confidence) / 2
    return float(special.gammaincinv(events, tail)) if events else 0.0, float(special.gammainccinv(events + 1, tail))


def _ratio(names: tuple[str, str], x: int, t: float, x0: int, t0: float, confidence: float) -> RateRatio:
    """Rate x / t over x0 / t0. names : the group and the reference.

    Given x + x0, x is binomial: Przyborowski & Wilenski (1940), Biometrika 31:313-323; as R's poisson.test.
    """
    n, share, tail = x + x0, t / (t + t0), (1 - confidence) / 2
    if n == 0:
        return RateRatio(*names, None, None, None, None, None, None, None, None)
    # Clopper & Pearson (1934), Biometrika 26:404-413
    low = float(special.betaincinv(x, x0 + 1, tail)) if x else 0.0
    high = float(special.betaincinv(x + 1, x0, 1 - tail)) if x0 else 1.0
    exact = (None if x0 == 0 else x / t / (x0 / t0), low / (1 - low) * t0 / t, None if high == 1 else high / (1 - high) * t0 / t,
             binomial_p(x, n, share))
    if x == 0 or x0 == 0:
        return RateRatio(*names, *exact, None, None, None, None)
    ratio, se = x / t / (x0 / t0), math.sqrt(1 / x + 1 / x0)
    spread = math.exp(z_of(confidence) * se)
    return RateRatio(*names, *exact, se, ratio / spread, ratio * spread, p_normal(math.log(ratio) / se))


def binomial_p(x: int, n: int, share: float) -> float:
    """Two-sided exact p by the minimum-likelihood rule: all outcomes not more probable than the one seen, as R's binom.test."""
    k = np.arange(n + 1)
    log_p = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    probability = np.exp(log_p + special.xlogy(k, share) + special.xlog1py(n - k, -share))
    return float(min(1.0, probability[probability <= probability[x] * TIES].sum()))
