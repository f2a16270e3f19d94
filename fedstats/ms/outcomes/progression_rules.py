"""From the words of `worsening` to the plain numbers of the kernel, and every complaint about them.

Relapse distances are written as one number (days since the last relapse) or as a pair (since the last, until the next).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from .thresholds import Threshold

Tolerance = float | Sequence[float] | Mapping[float, float | Sequence[float]]
EVENTS = ("first_cdw", "first_cdi", "first_pira", "first_raw", "first", "multiple")      # in the order of the kernel's codes
BASELINES = ("fixed", "roving", "roving_impr", "roving_wors")
PROCEED = ("firstconf", "event")
REBASELINES = ("none", "change", "improvement", "worsening")
EXTREMES = ("none", "strict", "all")
PRECEDING = {"baseline": 0, "last": 1, "last_delta": 2, "last_lower": 2}                 # two names of the same visit
RELAPSE_INDEP: Mapping[str, Any] = {"prec": (0, 0), "event": (90, 30), "conf": (90, 30), "prec_type": "baseline"}
# Mueller et al., JAMA Neurol 2023;80:1232: no relapse 90 days before to 30 days after the event and its confirmation


def rules(rule: Threshold, *, event: str = "first_cdw", baseline: str = "fixed", conf_days: float | Sequence[float] = 84,
          conf_tol_days: Tolerance = (7, 730.5), require_sust_days: float = 0, check_intermediate: bool = True,
          relapse_to_bl: float | Sequence[float] = 30, relapse_to_event: float | Sequence[float] = 0,
          relapse_to_conf: float | Sequence[float] = 30, relapse_assoc: float | Sequence[float] = 90,
          relapse_indep: Mapping[str, Any] | None = None, proceed_from: str = "firstconf", relapse_rebl: bool = False,
          bl_geq: bool = False, sub_threshold_rebl: str = "none", skip_local_extrema: str = "none", impute_last_visit: float = 0,
          return_unconfirmed: bool = False) -> Any:
    """The kernel's Rules; raises InputError for a word or a number that means nothing."""
    from .kernels import Rules

    roving = choice("baseline", baseline, BASELINES)
    below = choice("sub_threshold_rebl", sub_threshold_rebl, REBASELINES)
    around, before = relapse_free(relapse_indep)
    bl, at_event, conf = (pair(*one) for one in (("relapse_to_bl", relapse_to_bl), ("relapse_to_event", relapse_to_event),
                                                 ("relapse_to_conf", relapse_to_conf)))
    assoc = pair("relapse_assoc", relapse_assoc)
    return Rules(
        worse=float(rule.worse), steps=rule.table, event=choice("event", event, EVENTS),
        windows=windows(conf_days, conf_tol_days), sustained=number("require_sust_days", require_sust_days),
        intermediate=bool(check_intermediate), reference_before=bl[0], reference_after=bl[1], event_before=at_event[0],
        event_after=at_event[1], conf_before=conf[0], conf_after=conf[1], assoc_before=assoc[0], assoc_after=assoc[1],
        around=around, before=before, moves_on_worse=roving in (1, 3), moves_on_better=roving in (1, 2),
        from_conf=choice("proceed_from", proceed_from, PROCEED) == 0, below_worse=below in (1, 3), below_better=below in (1, 2),
        never_lower=bool(bl_geq), relapse_rebl=bool(relapse_rebl), extremes=choice("skip_local_extrema", skip_local_extrema, EXTREMES),
        impute=latest_imputed(impute_last_visit), unconfirmed=bool(return_unconfirmed))


def choice(name: str, word: str, words: Sequence[str]) -> int:
    """The position of a word among those allowed."""
    if word not in words:
        raise InputError(f"{name} is {word!r}", hint="one of " + ", ".join(words))
    return list(words).index(word)


def number(name: str, value: Any) -> float:
    """A number of days, not negative; inf is one."""
    if isinstance(value, (bool, str)) or not np.isscalar(value) or not float(value) >= 0:      # type: ignore[arg-type]
        raise InputError(f"{name} is {value!r}", hint="a number of days, 0 or more, is wanted")
    return float(value)             # type: ignore[arg-type]


def pair(name: str, value: Any) -> tuple[float, float]:
    """(before, after) in days; one number is (number, 0), and 0 asks nothing."""
    if np.isscalar(value) or len(value) == 1:
        return number(name, value if np.isscalar(value) else value[0]), 0.0
    if len(value) != 2:
        raise InputError(f"{name} is {value!r}", hint="one number of days, or a pair (since the last relapse, until the next)")
    return number(name, value[0]), number(name, value[1])


def confirmation_days(conf_days: float | Sequence[float]) -> list[float]:
    """The confirmation periods as a list, as given."""
    return [number("conf_days", one) for one in np.atleast_1d(np.asarray(conf_days, float)).tolist()]


def windows(conf_days: float | Sequence[float], conf_tol_days: Tolerance) -> np.ndarray:
    """Days after the event within which a visit may confirm it: array (periods, 2), both ends included. Whole days of conf_days count."""
    days = confirmation_days(conf_days)
    if not days or len(set(days)) < len(days) or 0 in days:
        raise InputError(f"conf_days is {conf_days!r}", hint="one or several different numbers of days, 84 (12 weeks) for instance")
    found = []
    for one in days:
        left, right = _tolerance(conf_tol_days.get(one) if isinstance(conf_tol_days, Mapping) else conf_tol_days)
        found.append([math.floor(one) - left, math.floor(one) + right])
    return np.array(found)


def _tolerance(given: Any) -> tuple[float, float]:
    both = np.atleast_1d(np.asarray(given, float)).tolist() if given is not None else []
    if len(both) > 2 or not both:
        raise InputError(f"conf_tol_days is {given!r}",
                         hint="one number of days, or a pair (before, after), or one of these for each of conf_days in a dictionary")
    return number("conf_tol_days", both[0]), number("conf_tol_days", both[-1])


def relapse_free(given: Mapping[str, Any] | None) -> tuple[tuple[float, float, float, float, float, float], int]:
    """The six ends of the relapse-free intervals (NaN: up to the neighbouring checkpoint) and which visit "prec" means."""
    wanted = {**RELAPSE_INDEP, **(given or {})}
    if set(wanted) != set(RELAPSE_INDEP):
        unknown = sorted(set(wanted) - set(RELAPSE_INDEP))[0]
        raise InputError(f"relapse_indep has the key {unknown!r}", hint="keys are prec, event, conf, prec_type")
    if wanted["prec_type"] not in PRECEDING:
        raise InputError(f'prec_type of relapse_indep is {wanted["prec_type"]!r}', hint="baseline, last or last_delta")
    ends: list[float] = []
    for name in ("prec", "event", "conf"):
        if np.isscalar(wanted[name]) or len(wanted[name]) != 2:
            raise InputError(f"{name} of relapse_indep is {wanted[name]!r}", hint="a pair of days (before, after) is wanted")
        ends += [math.nan if one is None else number(f"{name} of relapse_indep", one) for one in wanted[name]]
    if math.isnan(ends[0]) or math.isnan(ends[5]):
        raise InputError("relapse_indep is open at its outer end",
                         hint="None may stand between two checkpoints only: not before prec, not after conf")
    p0, p1, e0, e1, c0, c1 = ends
    return (p0, p1, e0, e1, c0, c1), PRECEDING[wanted["prec_type"]]


def latest_imputed(impute_last_visit: float) -> float:
    """The last day at which an unconfirmed worsening at the last visit counts: never, always, or N days after time zero."""
    days = float(impute_last_visit)
    if not (days in (0, 1) or days > 1):
        raise InputError(f"impute_last_visit is {impute_last_visit!r}",
                         hint="0 (never), 1 (always) or a number of days; a probability between 0 and 1 would make the result random")
    return {0.0: -math.inf, 1.0: math.inf}.get(days, days)
