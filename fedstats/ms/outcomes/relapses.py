"""How many relapses somebody had, and how often: counts in a window of time, and the annualised relapse rate.

An onset within 30 days after that of the relapse before it belongs to that relapse (McDonald et al., Ann Neurol 2001;50:121: at least 30
days between the onsets of separate attacks). A rate is relapses per person-year: a ratio of sums, not the mean of the patients' own
ratios, which those dominate who were observed for a short time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SEPARATE_DAYS = 30      # between the onsets of two relapses
YEAR = 365.25           # days


@dataclass(frozen=True)
class Rate:
    """Relapses per person-year, and what it rests on. NaN without time under observation."""

    relapses: int
    person_years: float
    rate: float


def separate(patient: np.ndarray, day: np.ndarray, apart: int = SEPARATE_DAYS) -> np.ndarray:
    """Which onsets begin a relapse of their own: at least `apart` days after the onset of the relapse before, boolean, shape (n,).

    patient, day : onsets, in any order. Days are counted from the onset that began a relapse, not from the last onset within it.
    """
    order = np.lexsort((day, patient))
    own = np.zeros(len(day), dtype=bool)
    begun, who = 0, None
    for place in order.tolist():
        if patient[place] != who or day[place] - begun >= apart:
            own[place], begun, who = True, int(day[place]), patient[place]
    return own


def counts(patient: np.ndarray, day: np.ndarray, who: np.ndarray, start: np.ndarray, stop: np.ndarray, *,
           apart: int = SEPARATE_DAYS) -> np.ndarray:
    """Relapses of each of `who` with an onset after day `start` up to and including day `stop`, int64, shape (len(who),).

    patient, day : all onsets that are known, also earlier ones: one that lies before `start` may be what a later one belongs to.
    """
    own = separate(patient, day, apart)
    _, code = np.unique(np.concatenate([patient[own], who]), return_inverse=True)
    theirs, asked = code[:own.sum()], code[own.sum():]
    span = int(max((abs(part).max() for part in (day, start, stop) if len(part)), default=0)) * 2 + 2
    key = np.sort(theirs * span + day[own] + span // 2)
    return (np.searchsorted(key, asked * span + stop + span // 2, side="right")
            - np.searchsorted(key, asked * span + start + span // 2, side="right")).astype(np.int64)


def annualised_rate(relapses: np.ndarray, days: np.ndarray) -> Rate:
    """All relapses over all person-years. relapses : counted while observed; days : under observation, of the same patients."""
    total, years = int(np.sum(relapses)), float(np.sum(days)) / YEAR
    return Rate(total, years, total / years if years > 0 else float("nan"))
