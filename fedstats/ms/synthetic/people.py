"""Who is in a synthetic registry, and what its houses are like: everything that is settled before the first month of disease."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from . import draws
from .parameters import Parameters

DAYS = 365.25           # per year
EPOCH_YEAR = 1970.0     # day 0
RRMS, SPMS, PPMS = 0, 1, 2
COURSES = ("RRMS", "SPMS", "PPMS")
# purposes of draws, one number each (see `draws`); `course` and `tables` have others
(PROGRESSIVE, ONSET_AGE, SEX, DELAY, ENTRY, LOSS, LOSS_KIND, FRAIL_EDSS, FRAIL_RELAPSE, GAP_HABIT, FIRST_EDSS, FIRST_HALF, T2_FIRST,
 T2_FRAIL, DIAGNOSIS) = range(15)
(SITE_SIZE, SITE_EDSS, SITE_RELAPSES, SITE_GAP, SITE_HABIT, SITE_MRI, SITE_CLASSES) = range(0, 700, 100)


@dataclass(frozen=True)
class Site:
    """What is particular to a registry: logs of ratios and odds against the average one.

    classes : log odds of each class of treatment, drugs : weight of each drug. mri : share of images that are in the tables.
    """

    log_progression: float
    log_relapses: float
    log_gap: float
    habit: float
    mri: float
    classes: np.ndarray
    drugs: np.ndarray


@dataclass(frozen=True)
class People:
    """One entry per patient, shape (n,). Days count from onset; onset, in days since 1970-01-01, is whole.

    diagnosed : at the latest on the day of entry. Observed from `entry` to `end` (loss or data cut, death aside).
    left : 0 at the cut, else 1 + the kind of loss. half_steps : EDSS at onset, times 2.
    worsens : normal score of how fast EDSS rises; what is recorded shows it in part, see `trait`.
    """

    key: np.ndarray
    progressive: np.ndarray
    female: np.ndarray
    age: np.ndarray
    onset: np.ndarray
    diagnosed: np.ndarray
    entry: np.ndarray
    end: np.ndarray
    left: np.ndarray
    worsens: np.ndarray
    frail_relapse: np.ndarray
    log_gap: np.ndarray
    half_steps: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def where(self, order: np.ndarray) -> People:
        return People(*(getattr(self, name)[order] for name in self.__dataclass_fields__))


def size(seed: int, place: int, p: Parameters) -> int:
    """How many patients registry number `place` has: lognormal, within bounds."""
    shape = p["registry_size"]
    found = shape["median"] * np.exp(shape["sigma"] * float(draws.normal(_house(seed, place), SITE_SIZE)[0]))
    return int(np.clip(np.round(found), shape["low"], shape["high"]))


def site(seed: int, place: int, p: Parameters) -> Site:
    """The effects of registry number `place`."""
    house = _house(seed, place)

    def normal(purpose: int) -> float:
        return float(draws.normal(house, purpose)[0])

    def dirichlet(purpose: int, weights: np.ndarray) -> np.ndarray:
        found = np.array([float(draws.gamma(house, purpose + k, one)[0]) for k, one in enumerate(p["site_class_dirichlet"] * weights)])
        return found / found.sum()

    classes = dirichlet(SITE_CLASSES, np.ones(3))
    weights = np.array([drug["weight"] for drug in p["drugs"]])
    drugs = dirichlet(SITE_CLASSES + 10, weights)
    low, high = p["site_mri"]["low"], p["site_mri"]["high"]
    return Site(p["site_log_progression_sd"] * normal(SITE_EDSS), p["site_log_relapse_sd"] * normal(SITE_RELAPSES),
                p["site_log_gap_sd"] * normal(SITE_GAP), p["site_habit_sd"] * normal(SITE_HABIT),
                low + (high - low) * float(draws.uniform(house, SITE_MRI)[0]), np.log(3 * np.maximum(classes, 0.01)), drugs)


def people(seed: int, place: int, n: int, p: Parameters) -> People:
    """The patients of registry number `place`; the first k are the same for every n."""
    key = draws.keys(seed, place, n)
    progressive = draws.uniform(key, PROGRESSIVE) < p["progressive_onset"]
    u = draws.uniform(key, ONSET_AGE)
    age = np.where(progressive, _truncated(u, p["onset_age_progressive"]), _truncated(u, p["onset_age"]))
    female = draws.uniform(key, SEX) < np.where(progressive, p["female"]["progressive"], p["female"]["relapsing"])
    delay = np.minimum(p["entry_delay"]["scale"] * draws.gamma(key, DELAY, p["entry_delay"]["shape"]), p["entry_delay"]["longest"])
    years = p["entry_years"]
    enters = np.floor((years["from"] + (years["to"] - years["from"]) * draws.uniform(key, ENTRY) - EPOCH_YEAR) * DAYS)
    entry = np.floor(delay * DAYS) + 1
    late = p["diagnosis_delay"]
    diagnosed = np.minimum(np.floor(DAYS * late["median"] * np.exp(late["sigma"] * draws.normal(key, DIAGNOSIS))), entry)
    onset = enters - entry
    cut = float(np.datetime64(p["data_cut"]).astype(np.int64))
    lost = entry + np.ceil(-np.log(draws.uniform(key, LOSS)) / p["loss"] * DAYS)
    kind = draws.category(draws.uniform(key, LOSS_KIND), np.array(list(p["loss_kinds"].values())))
    gone = lost < cut - onset
    first = np.where(progressive[:, None], p["edss_onset"]["progressive"], p["edss_onset"]["relapsing"])
    later = p["edss_onset_age"] * (age - np.where(progressive, p["onset_age_progressive"]["mean"], p["onset_age"]["mean"]))
    active, rho = draws.normal(key, FRAIL_RELAPSE), p["frailty_correlation"]
    worsens = rho * active + np.sqrt(1 - rho ** 2) * draws.normal(key, FRAIL_EDSS)
    early = trait(key, worsens, FIRST_EDSS, p["frailty_shows"]["first_edss"])
    whole = draws.category(special.ndtr(early + later), first)
    half = (draws.uniform(key, FIRST_HALF) < 0.5) & (whole > 0)
    return People(key, progressive, female, age, onset, diagnosed, entry, np.where(gone, lost, cut - onset), np.where(gone, 1 + kind, 0),
                  worsens, _frailty(active, p["relapse_frailty_variance"]),
                  p["visit_gap_patient_sd"] * draws.normal(key, GAP_HABIT), (2 * whole + half).astype(np.int64))


def trait(key: np.ndarray, worsens: np.ndarray, purpose: int, correlation: float, time: int = 0
          ) -> np.ndarray:
    """What each patient has for life, or at a time: a normal score, correlated with `worsens`."""
    own = draws.normal(key, purpose, time)
    return correlation * worsens + np.sqrt(1 - correlation ** 2) * own


def _house(seed: int, place: int) -> np.ndarray:
    return draws.keys(seed, place, 1) ^ np.uint64(0x5555555555555555)       # not the key of the first patient


def _truncated(u: np.ndarray, shape: dict[str, float]) -> np.ndarray:
    """A normal variate between two bounds, by inversion."""
    low, high = (special.ndtr((shape[end] - shape["mean"]) / shape["sd"]) for end in ("low", "high"))
    return shape["mean"] + shape["sd"] * special.ndtri(low + u * (high - low))


def _frailty(score: np.ndarray, variance: float) -> np.ndarray:
    """Gamma variates of mean 1 with the rank of these normal scores."""
    return special.gammaincinv(1 / variance, special.ndtr(score)) * variance
