"""The lives of a registry's patients month by month: relapses, EDSS, course, treatment, visits, images, death.

How this works: everybody starts at onset and takes one step of a month at a time, all patients at once; patients are ordered by how long
they will be followed, so that those still there are the first rows. In each month come, in this order,

1. the relapse, at a rate by age, EDSS, course, sex, treatment, registry and the patient's frailty; it adds a step to EDSS that is gone,
   or stays in part, some months later;
2. the progression of EDSS by the rates between integer parts (British Columbia), forward ones times
   the patient's hazard;
3. the change of course (RRMS to SPMS), and death;
4. the visit, if it is due: the rater sees EDSS with noise and the relapses of the last year, and may start, change or stop a treatment.

Patients differ in how fast they worsen (`People.worsens`). That shows in what is recorded (EDSS at
onset, lesions, SDMT, walking, hands, what relapses leave), so that it can be foretold, and matters
less as years go by.

Confounding by indication is in step 4: what the neurologist sees decides on treatment, and it also foretells the future.
All draws are by patient, purpose and month (`draws`), so a run with a forced treatment (`Forced`) is the same world with other drugs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from . import draws
from .parameters import Parameters
from .people import (
    DAYS,
    EPOCH_YEAR,
    PPMS,
    RRMS,
    SPMS,
    T2_FIRST,
    T2_FRAIL,
    People,
    Site,
    trait,
)

MONTH = DAYS / 12       # days of a step
NONE, LOW, MODERATE, HIGH = range(4)
NEVER = -1e9            # a day before all others
(RELAPSE, RELAPSE_DAY, RELAPSE_STEP, RECOVERS, RECOVERY_TIME, RESIDUAL, PROGRESS, WHERE_TO, HALF, CONVERT, DEATH, DEATH_DAY, CALL, GAP,
 NOISE, NOISE_SIDE, START, CLASS, DRUG, SWITCH, STOP, GO_ON, REASON, IMAGE, NEW_T2, GD) = range(40, 66)
INEFFICACY = 0          # the first reason to stop; the others follow as in `stop_reasons`
MOST_RELAPSES = 3       # that count for a decision


@dataclass(frozen=True)
class Forced:
    """The first treatment is of this class (0: none, from the day it would have started), and stays so if `stays`."""

    treatment: int
    stays: bool = True


@dataclass(frozen=True)
class Course:
    """What happened, as columns; `who` is the place of the patient, days count from onset. Nothing in it is censored by a table.

    visits : who, day, edss (as rated), true_edss, course, rate_relapses and rate_progression (true yearly rates at the visit).
    relapses : who, day, step (half steps of EDSS), lasting (those that stay). treatments : who, day, drug (-1: stop), reason (of ending
    the one before, -1: there was none). mri : who, day, t2, new_t2, gd. indexed : day of the first decision to treat, NaN without;
    died : day of death, NaN without; converted : day of conversion to SPMS, NaN without.
    """

    visits: dict[str, np.ndarray]
    relapses: dict[str, np.ndarray]
    treatments: dict[str, np.ndarray]
    mri: dict[str, np.ndarray]
    indexed: np.ndarray
    died: np.ndarray
    converted: np.ndarray


def live(group: People, house: Site, p: Parameters, forced: Forced | None = None) -> Course:
    """The lives of these patients until the end of their observation, see `Course`."""
    order = np.argsort(-group.end, kind="stable")
    walk = _Walk(group.where(order), house, p, forced)
    months = np.ceil((group.end[order] + 1) / MONTH).astype(np.int64)
    last = int(months.max(initial=0))
    here = len(months) - np.searchsorted(months[::-1], np.arange(last), side="right")
    for month in range(last):
        walk.step(month, int(here[month]))
    return walk.course(order)


class _Walk:
    """The state of all patients, and what has happened so far."""

    def __init__(self, group: People, house: Site, p: Parameters, forced: Forced | None) -> None:
        n = len(group)
        self.group, self.house, self.p, self.forced = group, house, p, forced
        self.base = group.half_steps.copy()             # EDSS without the present relapse, in half steps
        self.extra, self.lasting = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.recovers_in = np.full(n, -1)
        self.relapsed = np.full((n, 4), NEVER)          # days of the last relapses, latest first
        self.kind = np.where(group.progressive, PPMS, RRMS)
        self.alive = np.ones(n, dtype=bool)
        self.died, self.converted, self.indexed = (np.full(n, np.nan) for _ in range(3))
        self.now, self.before, self.since = np.zeros(n, np.int64), np.zeros(n, np.int64), np.full(n, -1000)
        self.drug, self.edss_at_start, self.started = np.full(n, -1), np.zeros(n), np.full(n, NEVER)
        self.log_gap = np.log(p["visit_gap"]["median"]) + house.log_gap + group.log_gap
        self.due = np.where(group.entry < 60.0, group.entry, 60.0)
        self.call = np.full(n, np.inf)                  # the visit that a relapse asks for
        image = p["mri"]
        self.imaged, self.activity = np.full(n, NEVER), np.zeros(n)
        self.shows = p["frailty_shows"]
        self.t2_first = special.ndtr(trait(group.key, group.worsens, T2_FIRST, self.shows["t2"]))
        self.t2_frail = draws.gamma(group.key, T2_FRAIL, image["new_t2_shape"]) / image["new_t2_shape"]
        self.rows: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in ("visits", "relapses", "treatments", "mri")}
        self._tables()

    def _tables(self) -> None:
        """Parameters as arrays, by half step of EDSS or by class."""
        p, rates = self.p, np.array(self.p["edss_yearly"])
        whole = np.arange(21) // 2
        whole[-1] = 9
        forward, backward = p["edss_forward"] * np.triu(rates, 1), p["edss_backward"] * np.tril(rates, -1)
        forward[:6, 6:] *= p["edss_to_six"]
        self.forward, self.backward = forward.sum(1)[whole] / 12, backward.sum(1)[whole] / 12
        self.to_forward, self.to_backward = forward, backward
        by_edss = np.array(p["relapse_by_edss"])
        self.rate = p["relapse_rate"]["rate"] * (by_edss / by_edss[0])[whole] * np.exp(self.house.log_relapses) / 12
        self.course_rate = np.array([p["relapse_course"][one] for one in ("RRMS", "SPMS", "PPMS")])
        self.spms = (p["spms_scale"] * np.array(p["spms"]) / 12)[whole]
        death = p["death"]
        self.death = (death["rate"] * np.array(p["death_by_edss"]) / 12)[whole]
        self.log_effects = [np.log(p[name]) for name in ("effect_relapses", "effect_progression", "effect_new_t2")]
        self.floor = np.array([-np.inf, np.log(p["effect_progressive_course"]), np.log(p["effect_progressive_course"])])
        female, group = self.group.female, self.group
        self.relapse_risk = group.frail_relapse * np.where(female, p["relapse_female"], 1.0)
        by_sex = np.where(female | group.progressive, 1.0, p["edss_male"])
        self.edss_risk = np.exp(self.house.log_progression) * by_sex
        self.drug_class = np.array([p["classes"].index(one["class"]) for one in p["drugs"]])
        self.drug_since = np.array([one["since"] for one in p["drugs"]])

    # -- a month --------------------------------------------------------------------------------------------------------------

    def step(self, month: int, m: int) -> None:
        """One month of the first m patients."""
        recovered = np.flatnonzero(self.recovers_in[:m] == month)
        self.base[recovered] = np.minimum(self.base[recovered] + self.lasting[recovered], 19)
        self.extra[recovered] = 0
        age = self.group.age[:m] + (month + 0.5) / 12
        since = np.clip((month - self.since[:m]) / self.p["effect_delay"], 0.0, 1.0)
        relapses, progression, t2 = (table[self.before[:m]] * (1 - since) + table[self.now[:m]] * since for table in self.log_effects)
        progression = np.maximum(progression, np.minimum(self.floor[self.kind[:m]], 0.0))
        self.rate_now = self._relapse_rate(age, relapses, m)
        self.hazard_now = self._progression_hazard(month, age, progression, m)
        self.activity[:m] += np.exp(t2 + self.p["mri"]["age"] * (age - 35)) / 12
        self._relapse(month, m)
        self._progress(month, m)
        self._convert_and_die(month, m, age)
        self._visit(month, m, age)

    def _relapse_rate(self, age: np.ndarray, log_effect: np.ndarray, m: int) -> np.ndarray:
        """Relapses per month."""
        shape = self.p["relapse_rate"]
        by_age = shape["slope"] * (np.maximum(age, shape["youngest"]) - shape["age"])
        return self.rate[self.base[:m]] * self.course_rate[self.kind[:m]] * self.relapse_risk[:m] * np.exp(by_age + log_effect)

    def _progression_hazard(self, month: int, age: np.ndarray, log_effect: np.ndarray, m: int
                            ) -> np.ndarray:
        """Hazard of progression, relative to the matrix."""
        shape = self.p["edss_age"]
        course = np.where(self.kind[:m] == RRMS, 1.0, self.p["edss_progressive_course"])
        frailty = self.p["edss_frailty"]
        sd = frailty["sd"] * 0.5 ** (month / 12 / frailty["halves_in"])
        lasting = sd * self.group.worsens[:m] - sd ** 2 / 2        # lognormal with mean 1
        by_age = shape["slope"] * (age - shape["centre"])
        return self.edss_risk[:m] * course * np.exp(lasting + by_age + log_effect)

    def _relapse(self, month: int, m: int) -> None:
        who = np.flatnonzero((draws.uniform(self.group.key[:m], RELAPSE, month) < -np.expm1(-self.rate_now)) & self.alive[:m])
        day = np.floor(MONTH * (month + draws.uniform(self.group.key[who], RELAPSE_DAY, month)))
        apart = day >= self.relapsed[who, 0] + 30       # sooner it is the same relapse
        who, day = who[apart], day[apart]
        key, p = self.group.key[who], self.p
        step = 1 + draws.category(draws.uniform(key, RELAPSE_STEP, month), np.array(list(p["relapse_step"].values())))
        heals = -trait(key, self.group.worsens[who], RECOVERS, self.shows["recovery"], month)
        lasting = np.where(heals > -special.ndtri(p["relapse_recovers"]), 0,
                           np.ceil(step * draws.uniform(key, RESIDUAL, month))).astype(np.int64)
        # a second relapse before the first is over: what would have stayed of the first stays now
        self.base[who] = np.minimum(self.base[who] + np.where(self.extra[who] > 0, self.lasting[who], 0), 19)
        self.extra[who], self.lasting[who] = step, lasting
        months = np.floor(p["relapse_recovery_months"] * draws.uniform(key, RECOVERY_TIME, month)).astype(np.int64)
        self.recovers_in[who] = month + 1 + months
        self.relapsed[who, 1:] = self.relapsed[who, :-1]
        self.relapsed[who, 0] = day
        asks, u = p["relapse_visit"], draws.uniform(key, CALL, month)
        comes = u < asks["share"]
        self.call[who] = np.where(comes, day + asks["from"] + (asks["to"] - asks["from"]) * u / asks["share"], np.inf)
        self.due[who] = np.where(self.due[who] > day, np.minimum(self.due[who], self.call[who]), self.due[who])
        self.rows["relapses"].append((who, day, step, lasting))

    def _progress(self, month: int, m: int) -> None:
        base = self.base[:m]
        up, down = self.forward[base] * self.hazard_now, self.backward[base]
        u = draws.uniform(self.group.key[:m], PROGRESS, month)
        who = np.flatnonzero((u < -np.expm1(-up - down)) & self.alive[:m])
        whole = np.minimum(base[who] // 2, 9)
        rises = draws.uniform(self.group.key[who], HALF, month) < up[who] / (up[who] + down[who])
        to = draws.category(draws.uniform(self.group.key[who], WHERE_TO, month),
                            np.where(rises[:, None], self.to_forward[whole], self.to_backward[whole])) if len(who) else whole
        half = (u[who] * 1e6 % 1 < 0.5) & (to > 0)      # digits of u that nothing else has used
        self.base[who] = 2 * to + half

    def _convert_and_die(self, month: int, m: int, age: np.ndarray) -> None:
        key, base, shape = self.group.key[:m], self.base[:m], self.p["death"]
        turns = (draws.uniform(key, CONVERT, month) < self.spms[base]) & (self.kind[:m] == RRMS) & self.alive[:m]
        self.kind[:m][turns] = SPMS
        self.converted[:m][turns] = (month + 0.5) * MONTH
        hazard = self.death[base] * np.exp2((age - shape["age"]) / shape["doubling"])
        dies = np.flatnonzero((draws.uniform(key, DEATH, month) < -np.expm1(-hazard)) & self.alive[:m])
        self.alive[dies] = False
        self.died[dies] = np.floor(MONTH * (month + draws.uniform(self.group.key[dies], DEATH_DAY, month)))

    # -- a visit --------------------------------------------------------------------------------------------------------------

    def _visit(self, month: int, m: int, age: np.ndarray) -> None:
        died_now = (self.died[:m] >= MONTH * month) & (self.due[:m] < self.died[:m])
        who = np.flatnonzero((self.due[:m] < MONTH * (month + 1)) & (self.alive[:m] | died_now))
        if not len(who):
            return
        key, day = self.group.key[who], np.floor(self.due[who])
        extra = np.where(self.relapsed[who, 0] <= day, self.extra[who], 0)
        true = _valid(np.minimum(self.base[who] + extra, 19))
        side = np.where(draws.uniform(key, NOISE_SIDE, month) < 0.5, -1, 1)
        noise = np.where(draws.uniform(key, NOISE, month) < self.p["rater_noise"], side, 0)
        rated = _valid(np.clip(true + noise, 0, 19), -side)
        self.rows["visits"].append((who, day, rated / 2, true / 2, self.kind[who], 12 * self.rate_now[who],
                                    12 * (self.forward[self.base[who]] * self.hazard_now[who])))
        self._image(who, key, day, month)
        self._treat(who, key, day, month, rated / 2, age[who])
        shape = self.p["visit_gap"]
        gap = np.maximum(shape["shortest"], np.exp(self.log_gap[who] + shape["sigma"] * draws.normal(key, GAP, month)))
        due = self.due[who] + gap
        due = np.where(self.call[who] > self.due[who], np.minimum(due, np.maximum(self.call[who], self.due[who] + 7)), due)
        entry = self.group.entry[who]
        self.due[who] = np.where((self.due[who] < entry) & (due > entry), entry, due)       # the first visit at the registry

    def _image(self, who: np.ndarray, key: np.ndarray, day: np.ndarray, month: int) -> None:
        p = self.p["mri"]
        seen = (day - self.imaged[who] >= p["shortest_gap"]) & (draws.uniform(key, IMAGE, month) < self.house.mri)
        who, key, day = who[seen], key[seen], day[seen]
        first = self.imaged[who] == NEVER
        new = _poisson(draws.uniform(key, NEW_T2, month), p["new_t2"] * self.t2_frail[who] * self.activity[who])
        years = (month + 0.5) / 12
        level = p["t2_mean"] + p["t2_per_year"] * years
        t2 = draws.negative_binomial(self.t2_first[who], np.full(len(who), level), p["t2_shape"])
        years_between = np.maximum((day - np.maximum(self.imaged[who], 0)) / DAYS, 0.1)
        recent = self.activity[who] / years_between
        gd = draws.negative_binomial(draws.uniform(key, GD, month), p["gd"] * recent, p["gd_shape"])
        self.imaged[who], self.activity[who] = day, 0.0
        self.rows["mri"].append((who, day, t2, np.where(first, np.nan, new), gd))

    def _treat(self, who: np.ndarray, key: np.ndarray, day: np.ndarray, month: int, edss: np.ndarray, age: np.ndarray) -> None:
        """What the neurologist does with what was seen."""
        p, year = self.p, EPOCH_YEAR + (self.group.onset[who] + day) / DAYS
        year_ago = (self.relapsed[who] <= day[:, None]) & (self.relapsed[who] > day[:, None] - DAYS)
        relapses = np.minimum(year_ago.sum(1), MOST_RELAPSES)
        on, kind, held = self.now[who] > NONE, self.kind[who], np.zeros(len(who), dtype=bool)
        if self.forced is not None and self.forced.stays:
            held = ~np.isnan(self.indexed[who])
        s = p["start"]
        odds = (s["intercept"] + self.house.habit + s["relapse"] * relapses + s["edss"] * (edss - 2) + s["age"] * (age - 40)
                + s["year"] * (year - 2010) + np.array([0.0, s["SPMS"], s["PPMS"]])[kind]
                + np.where(self.started[who] > NEVER, s["previous"], 0.0))
        starts = ~on & ~held & (draws.uniform(key, START, month) < special.expit(odds)) & (edss < s["worst_edss"])
        starts &= (year >= p["class_since"][LOW]) & (day >= self.group.diagnosed[who])
        w = p["switch"]
        on_drug = (year_ago & (self.relapsed[who] > self.started[who][:, None])).sum(1)
        odds = w["intercept"] + w["relapse"] * on_drug + w["worse"] * np.maximum(edss - self.edss_at_start[who], 0)
        switches = on & ~held & (draws.uniform(key, SWITCH, month) < special.expit(odds))
        stops = on & ~held & ~switches & (draws.uniform(key, STOP, month) < p["stop"]["each_visit"])
        goes_on = stops & (draws.uniform(key, GO_ON, month) < p["stop"]["other_drug"])
        chosen = self._choose(draws.uniform(key, CLASS, month), relapses, edss, age, year, np.where(switches, self.now[who], NONE))
        first = starts & np.isnan(self.indexed[who])
        self.indexed[who[first]] = day[first]
        if self.forced is not None:
            chosen = np.where(first, self.forced.treatment, chosen)
        chosen = np.where(stops & ~goes_on, NONE, chosen)
        reasons = 1 + draws.category(draws.uniform(key, REASON, month), np.array(list(p["stop_reasons"].values())))
        reason = np.where(switches, INEFFICACY, np.where(stops, reasons, -1))
        acts = (starts & (chosen > NONE)) | switches | stops
        self._change(who[acts], day[acts], month, chosen[acts], reason[acts], edss[acts], year[acts])

    def _choose(self, u: np.ndarray, relapses: np.ndarray, edss: np.ndarray, age: np.ndarray, year: np.ndarray,
                present: np.ndarray) -> np.ndarray:
        """The class of treatment: multinomial logit against low, among those that exist in that year."""
        p = self.p
        score = np.zeros((len(u), 3))
        for k, name in ((1, "moderate"), (2, "high")):
            c = p["choice"][name]
            score[:, k] = (c["intercept"] + c["relapse"] * relapses + c["edss"] * (edss - 2) + c["age"] * (age - 40)
                           + c["year"] * (year - 2012))
        score += self.house.classes + p["switch"]["stronger"] * ((present[:, None] > NONE) & (np.arange(1, 4) > present[:, None]))
        exists = year[:, None] >= np.array(p["class_since"])[1:]
        return 1 + draws.category(u, np.where(exists, np.exp(score), np.where(np.arange(3) == 0, 1e-9, 0.0)))

    def _change(self, who: np.ndarray, day: np.ndarray, month: int, chosen: np.ndarray, reason: np.ndarray, edss: np.ndarray,
                year: np.ndarray) -> None:
        """Start, change or stop treatments."""
        if not len(who):
            return
        fits = (self.drug_class == chosen[:, None]) & (np.arange(len(self.drug_class)) != self.drug[who][:, None])
        exists = self.drug_since <= year[:, None]
        weight = self.house.drugs * fits * np.where(exists, 1.0, 1e-6)      # a forced class may be older than its drugs
        drug = np.where(chosen > NONE, draws.category(draws.uniform(self.group.key[who], DRUG, month), weight), -1)
        self.before[who] = np.where(self.since[who] < month, self.now[who], self.before[who])
        self.now[who], self.since[who], self.drug[who] = chosen, month, drug
        self.edss_at_start[who] = edss
        self.started[who] = day
        self.rows["treatments"].append((who, day, drug, reason))

    # -- the end --------------------------------------------------------------------------------------------------------------

    def course(self, order: np.ndarray) -> Course:
        """What happened, patients in their own order again."""
        names = {"visits": ("who", "day", "edss", "true_edss", "course", "rate_relapses", "rate_progression"),
                 "relapses": ("who", "day", "step", "lasting"), "treatments": ("who", "day", "drug", "reason"),
                 "mri": ("who", "day", "t2", "new_t2", "gd")}
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        tables: dict[str, Any] = {name: self._table(self.rows[name], columns, order) for name, columns in names.items()}
        return Course(**tables, indexed=self.indexed[place], died=self.died[place], converted=self.converted[place])

    @staticmethod
    def _table(rows: list[tuple[np.ndarray, ...]], columns: tuple[str, ...], order: np.ndarray) -> dict[str, np.ndarray]:
        found = [np.concatenate(column) for column in zip(*rows)] if rows else [np.empty(0, np.int64) for _ in columns]
        found[0] = order[found[0]]
        by = np.lexsort((found[1], found[0]))
        return {name: column[by] for name, column in zip(columns, found)}


def _valid(half_steps: np.ndarray, side: np.ndarray | int = 1) -> np.ndarray:
    """EDSS 0.5 does not exist: 1.0 instead, or 0 for side < 0."""
    return np.where(half_steps == 1, np.where(np.asarray(side) < 0, 0, 2), half_steps)


def _poisson(u: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Poisson counts by inversion; at most `draws.MOST`."""
    mean = np.maximum(mean, 1e-12)
    return np.where(u <= np.exp(-mean), 0, np.clip(np.ceil(special.pdtrik(u, mean)), 0, draws.MOST)).astype(np.int64)
