"""Labels: whether something happened by a fixed time after time zero, one value per row instead of a time and an event.

How this works: a label is known where it was seen to happen, and where it could not have been missed: observed to the horizon, and seen
so long after it that an event before it could have been confirmed. Whoever was lost earlier has no label, rather than a "no". Death ends
the matter: an outcome that had not happened before it will not. Where records were dropped that may say otherwise, nobody knows.
"""

from __future__ import annotations

import numpy as np

from ..outcomes.definitions import definition
from ..outcomes.progression_rules import confirmation_days
from .index import Episodes
from .outcomes import CONFIRMABLE, DEATH, EVENT, MILESTONE, Ends, Found
from .records import Records
from .tree import FollowUp, Milestone, Neda, Timed, Worsening

QUAD = 1461                     # days in four years
HALF_YEAR = 183                 # days: how old the image at the end of a period free of activity may be
NO, YES = 0.0, 1.0
LEVELS = ("not neda", "neda", "not evaluable")
ACTIVE, FREE, OPEN = range(len(LEVELS))
NEDA_WORSENING = Worsening("cdw24", 1)      # version 1 of NEDA-3


def horizon_days(years: float) -> int:
    """Whole days of so many years of 365.25 days."""
    return int(QUAD * years // 4)


def within(outcome: Timed, found: Found, zero: Episodes, ending: Ends, follow_up: FollowUp, years: float) -> np.ndarray:
    """1 where the outcome came within so many years, 0 where it did not, NaN where nobody knows; shape (episodes,).

    found : the outcome, as `outcomes.find` says. Not at risk: not known.
    """
    horizon = horizon_days(years)
    seen = np.minimum(ending.last_visit, ending.cut if follow_up.confirmation == "within" else np.inf) - zero.day
    came = (found.end == EVENT) & (found.days <= horizon)
    late = (found.end == EVENT) & (found.days > horizon)
    watched = (found.days >= horizon) & ((seen >= horizon + confirmation(outcome)) | (found.end == CONFIRMABLE))
    return np.where(came, YES, np.where(late | watched | (found.end == DEATH), NO, np.nan))


def confirmation(outcome: Timed) -> float:
    """Days after the horizon at which an event just before it is confirmed at the latest that its definition expects."""
    if isinstance(outcome, Worsening):
        return min(confirmation_days(definition(outcome.definition).settings["conf_days"]))
    return float(MILESTONE["conf_days"]) if isinstance(outcome, Milestone) else 0.0


def neda(label: Neda, worsening: np.ndarray, records: Records, zero: Episodes, ending: Ends) -> np.ndarray:
    """No evidence of disease activity in three domains, as a place in LEVELS; shape (episodes,).

    worsening : the label of NEDA_WORSENING at the same horizon. Activity in one domain is enough for "not neda", whatever else is missing;
    "neda" needs all three domains: observed to the horizon, worsening excluded, an image of the brain in the last half year before the
    horizon that says both new T2 and gadolinium-enhancing lesions, and none with lesions since the images of the new reference.

    Giovannoni et al., Mult Scler Relat Disord 2015;4:329 (the three domains; a new reference image some months after a start of treatment);
    PMC8353667 (NEDA-3 at two years).
    """
    horizon = horizon_days(label.years)
    observed = np.minimum(ending.last_visit, ending.cut) - zero.day >= horizon
    relapsed, relapse_known = np.zeros(len(zero.day), bool), np.zeros(len(zero.day), bool)
    if "relapses" in records.recorded:
        rows = records.relapses
        until = np.minimum(zero.day + horizon, ending.cut).astype(np.int64)
        relapsed = rows.upto(zero.patient, until) > rows.upto(zero.patient, zero.day)
        relapse_known = observed & ~records.dropped("relapses").begun(zero.patient, zero.day + 1, until)
    lesions, imaged = _images(label, records, zero, ending, horizon)
    active = relapsed | (worsening == YES) | lesions
    free = relapse_known & (worsening == NO) & imaged & observed
    return np.where(active, ACTIVE, np.where(free, FREE, OPEN)).astype(float)


def _images(label: Neda, records: Records, zero: Episodes, ending: Ends, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether an image showed new lesions, and whether one near the horizon could say that there were none."""
    nothing = np.zeros(len(zero.day), bool)
    if "mri" not in records.recorded:
        return nothing, nothing
    rows, columns = records.mri
    new, enhancing = columns["new_t2_count"].astype(float), columns["gd_lesion_count"].astype(float)
    until = np.minimum(zero.day + horizon, ending.cut).astype(np.int64)
    start = zero.day + label.rebaseline_days

    def some(which: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Is there such an image after one day and up to the horizon?"""
        total = np.concatenate([[0], np.cumsum(which)])
        return total[rows.upto(zero.patient, until)] > total[rows.upto(zero.patient, np.minimum(after, until))]

    known = ~np.isnan(new) & ~np.isnan(enhancing)
    lost = records.dropped("mri", "new_t2_count", "gd_lesion_count").begun(zero.patient, start + 1, until)
    return some((new > 0) | (enhancing > 0), start), some(known, np.maximum(zero.day + horizon - HALF_YEAR, start)) & ~lost


def counts(name: str, values: np.ndarray, levels: tuple[str, ...]) -> list[tuple[str, int]]:
    """Steps of the flow of a label. values : places in `levels`, NaN where not known."""
    steps = [(f"{name}: {level}", int((values == place).sum())) for place, level in enumerate(levels)]
    return [*steps, (f"{name}: not known", int(np.isnan(values).sum()))]
