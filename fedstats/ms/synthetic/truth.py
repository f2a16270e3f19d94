"""The truth that estimates from synthetic registries are judged against: the same people started on treatment A, and on treatment B.

How this works: everybody who would start a first treatment while observed is followed from that visit twice, in two runs of the same
world (same people, same luck, same visits and raters as far as the treatment leaves them alone) in which the first treatment is of class
A or of class B. Outcomes are computed from the tables of the two runs like from any registry, with `definitions`. The true effect of an
estimand is the contrast of the runs. It is not the multiplier in the parameters: outcomes are confirmed, noisy and partly due to
relapses, hazard ratios are not collapsible, and a treatment needs its time to work.

Two strategies: `stays` (started and never changed, what a per-protocol analysis is after) and not (started, then changed as in life).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ...errors import InputError
from ..outcomes.definitions import definition
from .course import Forced
from .generator import Synthetic, name, registry
from .parameters import Parameters, parameters
from .people import DAYS

OUTCOME = "cdw24"
HORIZONS = (2.0, 5.0)       # years
FIRST_DAY = "1900-01-01"     # before everybody
CLASSES = ("low", "moderate", "high")
COMPARED = (("low", "moderate"), ("low", "high"), ("moderate", "high"))     # pairs of classes in a file of truth
RUNS = 2 * len(CLASSES)     # that `truths` makes: each class, kept and changed
STEPS = 30                  # of Newton's method, far more than it needs
SMALL_STEP = 1e-10          # of the log hazard ratio


class Effect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Effects of treatment b against a up to a horizon; see `truth`. None: nobody to tell from."""

    risk_a: float | None
    risk_b: float | None
    risk_difference: float | None
    risk_ratio: float | None
    hazard_ratio: float | None
    log_hazard_ratio_se: float | None
    relapse_rate_a: float | None
    relapse_rate_b: float | None
    relapse_rate_ratio: float | None
    new_t2_a: float | None
    new_t2_b: float | None
    new_t2_ratio: float | None


class SiteEffect(Effect, frozen=True, kw_only=True):
    """Effects in one registry, up to the longest horizon."""

    patients: int


class Estimand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `truth` says of a pair of classes. horizons : by years; built_in : multipliers of the parameters, which are not the truth.

    true_hazards : mean yearly rates by class, of relapses and of progression.
    """

    estimand: str
    a: str
    b: str
    stays: bool
    outcome: str
    since: str
    patients: int
    built_in: dict[str, float]
    horizons: dict[str, Effect]
    true_hazards: dict[str, dict[str, float | None]]
    sites: dict[str, SiteEffect]


class TruthFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """truth.json of a folder of synthetic registries. registries : patients of each; planted : deliberate faults by table and column."""

    format: Literal["fedstats truth"]
    version: Literal[1]
    seed: int
    data_cut: str
    registries: dict[str, int]
    planted: dict[str, dict[str, int]]
    estimands: list[Estimand]


def truth(seed: int = 1, *, a: str = "low", b: str = "high", sizes: Sequence[int | None] = (None,) * 8, stays: bool = True,
          outcome: str = "cdw24", horizons: Sequence[float] = HORIZONS, since: str = FIRST_DAY,
          p: Parameters | None = None) -> dict[str, Any]:
    """True effects of starting b instead of a (classes: none, low, moderate, high) in the registries of a seed.

    Population: all who start a first treatment after entry and from the date `since` on, whatever they got. For each horizon in years:
    risk of the outcome by a and by b (Kaplan-Meier; loss is the same in both and tells nothing), their difference and ratio, the hazard
    ratio of a Cox model with the arm alone and the standard error of its log (arms as if independent, so too large), relapse rates and
    their ratio, new T2 lesions per image and their ratio. Also the multipliers built in, the mean true hazards, and the effects of
    each registry.
    """
    p = parameters() if p is None else p
    for one in (a, b):
        if one not in p["classes"]:
            raise InputError(f'"{one}" is no class of treatment', hint="classes are " + ", ".join(p["classes"]))
    arms = {one: _arms(seed, one, sizes, stays, outcome, since, p) for one in {a, b}}
    return _compared(seed, a, b, arms, stays, outcome, since, horizons, p)


def truths(seed: int, sizes: Sequence[int | None], *, p: Parameters | None = None, told: Callable[[str], None] = lambda what: None
           ) -> list[Estimand]:
    """The truth about every pair of `COMPARED`, for treatments that are kept and for those changed as in life; outcome cdw24.

    told : called with what comes next, once for each of `RUNS` runs.
    """
    p = parameters() if p is None else p
    found = []
    for stays in (True, False):
        arms = {}
        for one in CLASSES:
            told(f"everybody on {one} efficacy, {_strategy(stays)}")
            arms[one] = _arms(seed, one, sizes, stays, OUTCOME, FIRST_DAY, p)
        found += [_compared(seed, a, b, arms, stays, OUTCOME, FIRST_DAY, HORIZONS, p) for a, b in COMPARED]
    # through JSON: not a number becomes null
    return msgspec.json.decode(msgspec.json.encode([{name: value for name, value in one.items() if name != "seed"} for one in found]),
                               type=list[Estimand])


def _arms(seed: int, treatment: str, sizes: Sequence[int | None], stays: bool, outcome: str, since: str, p: Parameters
          ) -> list[dict[str, Any]]:
    """Everybody's outcomes by registry if all started this class."""
    forced = Forced(p["classes"].index(treatment), stays)
    return [_arm(registry(seed, k, n, p=p, forced=forced), outcome, since) for k, n in enumerate(sizes)]


def _strategy(stays: bool) -> str:
    return "kept" if stays else "then changed as in life"


def _compared(seed: int, a: str, b: str, arms: Mapping[str, list[dict[str, Any]]], stays: bool, outcome: str, since: str,
              horizons: Sequence[float], p: Parameters) -> dict[str, Any]:
    first, second = (_together(arms[one]) for one in (a, b))
    k_a, k_b = p["classes"].index(a), p["classes"].index(b)
    built_in = {effect: p[effect][k_b] / p[effect][k_a] for effect in ("effect_relapses", "effect_progression", "effect_new_t2")}
    sites = {}
    for k, (here, there) in enumerate(zip(arms[a], arms[b])):
        if here["time"].size:
            sites[name(k)] = {"patients": int(here["time"].size)} | _contrast(here, there, max(horizons))
    return {"estimand": f"{outcome}, first treatment {b} against {a}, {_strategy(stays)}, all who start one from {since} on",
            "a": a, "b": b, "stays": stays, "outcome": outcome, "since": since,
            "seed": seed, "patients": len(first["time"]), "built_in": built_in,
            "horizons": {f"{horizon:g}": _contrast(first, second, horizon) for horizon in horizons},
            "true_hazards": {a: first["hazards"], b: second["hazards"]}, "sites": sites}


def cohort(one: Synthetic, *, since: str = FIRST_DAY) -> tuple[np.ndarray, np.ndarray]:
    """Who started a first treatment while observed, from a date on: places in `people`, days of the start.

    Where none is forced: the day on which they would have started.
    """
    until = np.fmin(one.people.end, one.course.died)
    there = np.flatnonzero((one.course.indexed >= one.people.entry) & (one.course.indexed < until))
    start = (one.people.onset[there] + one.course.indexed[there]).astype(np.int64).astype("datetime64[D]")
    late = start >= np.datetime64(since)
    return there[late], start[late]


def hazard_ratio(time: np.ndarray, event: np.ndarray, arm: np.ndarray) -> tuple[float, float]:
    """Cox's model with one covariate of 0 and 1 (Breslow's ties): the hazard ratio, and the standard error of its log."""
    grid, place = np.unique(time, return_inverse=True)
    died = np.bincount(place, weights=event)
    leaves = np.array([np.bincount(place, weights=arm == k, minlength=len(grid)) for k in (0, 1)])
    at_risk = leaves[:, ::-1].cumsum(1)[:, ::-1]
    found = float(event[arm == 1].sum())
    if not 0 < found < event.sum():
        return float("nan"), float("nan")
    beta = 0.0
    for _ in range(STEPS):
        share = at_risk[1] * np.exp(beta) / np.maximum(at_risk[0] + at_risk[1] * np.exp(beta), 1e-300)
        information = float((died * share * (1 - share)).sum())
        step = (found - float((died * share).sum())) / information
        beta += float(np.clip(step, -1, 1))
        if abs(step) < SMALL_STEP:
            break
    return float(np.exp(beta)), information ** -0.5


def risk(time: np.ndarray, event: np.ndarray, until: float) -> float:
    """1 - Kaplan-Meier at a time."""
    grid, place = np.unique(time, return_inverse=True)
    died = np.bincount(place, weights=event)
    at_risk = np.bincount(place)[::-1].cumsum()[::-1]
    return float(1 - np.prod(1 - (died / at_risk)[grid <= until]))


def _arm(one: Synthetic, outcome: str, since: str) -> dict[str, Any]:
    """What the tables say of the cohort, by patient: time, event; relapses, images and new lesions as (patient, days since the start)."""
    there, start = cohort(one, since=since)
    ids = np.array([f"{one.name}-{k + 1:06d}" for k in there.tolist()], dtype=object)
    began = dict(zip(ids.tolist(), start))
    found = definition(outcome).find(_of(one, "visits", began), _of(one, "relapses", began), deaths=_deaths(one, began),
                                     origin={"patient_id": ids, "origin_date": start})
    use = found["at_risk"].astype(bool)
    event = (found["nevent"] > 0)[use]
    life, until = one.course, np.fmin(one.people.end, one.course.died)[there] - one.course.indexed[there]
    begins = np.full(len(one.people), np.nan)
    begins[there] = one.course.indexed[there]

    def after(table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        day, limit = table["day"] - begins[table["who"]], np.fmin(one.people.end, life.died)[table["who"]] - begins[table["who"]]
        return day, (day > 0) & (day <= limit)

    relapses, known = after(life.relapses)
    images, seen = after(life.mri)
    seen &= ~np.isnan(life.mri["new_t2"])
    visits, rated = after(life.visits)
    return {"time": found["time2event"][use].astype(float), "event": event, "follow_up": until, "relapses": relapses[known],
            "images": images[seen], "new_t2": life.mri["new_t2"][seen],
            "rates": np.stack([visits[rated], life.visits["rate_relapses"][rated], life.visits["rate_progression"][rated]])}


def _of(one: Synthetic, table: str, wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    """The rows of these patients."""
    rows = one.tables[table]
    keep = np.array([patient in wanted for patient in rows["patient_id"].tolist()], dtype=bool)
    return {column: rows[column][keep] for column in rows}


def _deaths(one: Synthetic, wanted: dict[str, Any]) -> dict[str, np.ndarray]:
    rows = _of(one, "patients", wanted)
    dead = ~np.isnat(rows["death_date"])
    return {"patient_id": rows["patient_id"][dead], "death_date": rows["death_date"][dead]}


def _together(arms: list[dict[str, Any]]) -> dict[str, Any]:
    joined = {name: np.concatenate([one[name] for one in arms], axis=-1) for name in arms[0]}
    rates = joined["rates"]
    return joined | {"hazards": {"relapses_per_year": _mean(rates[1]), "progression_per_year": _mean(rates[2])}}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _contrast(a: dict[str, Any], b: dict[str, Any], years: float) -> dict[str, float]:
    """The effects of b against a up to a horizon."""
    days = years * DAYS
    time, event = np.concatenate([a["time"], b["time"]]), np.concatenate([a["event"], b["event"]])
    arm = np.repeat([0, 1], [len(a["time"]), len(b["time"])])
    ratio, error = hazard_ratio(np.minimum(time, days), event & (time <= days), arm)
    risks = [risk(one["time"], one["event"], days) for one in (a, b)]
    rates = [float((one["relapses"] <= days).sum() / max(np.minimum(one["follow_up"], days).sum() / DAYS, 1e-9)) for one in (a, b)]
    lesions = [_mean(one["new_t2"][one["images"] <= days]) for one in (a, b)]
    return {"risk_a": risks[0], "risk_b": risks[1], "risk_difference": risks[1] - risks[0], "risk_ratio": _ratio(risks),
            "hazard_ratio": ratio, "log_hazard_ratio_se": error, "relapse_rate_a": rates[0], "relapse_rate_b": rates[1],
            "relapse_rate_ratio": _ratio(rates), "new_t2_a": lesions[0], "new_t2_b": lesions[1], "new_t2_ratio": _ratio(lesions)}


def _ratio(pair: list[float]) -> float:
    return pair[1] / pair[0] if pair[0] > 0 else float("nan")
