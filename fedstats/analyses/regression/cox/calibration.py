"""Are predicted risks right? Groups of patients by predicted risk: what was predicted by a horizon, and what happened.

How this works. The counts by time and risk that the concordance needs anyway make groups of about a tenth of the patients,
joined until each has enough who had the event by then, enough who had not, and nobody or enough who left before. One more round counts
these people of every group with the registries behind them; only if all pass is anything shown. Observed is 1 - Kaplan-Meier of the group
with a log-log interval, predicted the mean risk, risks taken at the middle of their interval. One horizon only, the last one: groups of
two horizons would cut each other into small cells.

Crowson, Atkinson & Therneau (2016), Stat Methods Med Res 25:1692, section 3; Harrell (2015), Regression Modeling Strategies, section 18.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.disclosure import NO_RULES, Rules, safe
from fedstats.sums.statistic import INDICATORS, Block, Sums, statistic

from ...shared.common import z_of
from .concordance import risk_bins
from .model import model_of
from .rows import kept

GROUPS = 10                     # of about the same size, before they are joined


class RiskGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Patients of similar predicted risk. predicted : mean risk of the event by the horizon. observed : 1 - Kaplan-Meier, with its
    interval."""

    patients: int
    predicted: float
    observed: float
    lower: float
    upper: float


def _layout(dictionary: Dictionary, *, model: Any, groups: Sequence[Sequence[int]], **_: Any) -> dict[str, Block]:
    return {"people": Block((1 + max(map(max, groups)), 3), counts=True)}


@statistic("cox_groups/1", layout=_layout)
def cox_groups(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float,
               groups: Sequence[Sequence[int]], place: int) -> dict:
    """People per group of risk: with the event by a place of the grid, gone without it by then, still there afterwards. width : see
    `cox_pairs`; groups : the group of each interval of risk, per stratum."""
    _, at = kept(rows, model_of(model))
    group = np.asarray(groups, dtype=np.int64)[at.stratum, risk_bins(at, beta, frame, width)]
    what, count = np.where(at.leaves > place, 2, np.where(at.died, 0, 1)), 1 + max(map(max, groups))
    return {"people": np.bincount(group * 3 + what, minlength=3 * count).reshape(count, 3)}


def group_ends(pairs: Mapping[str, np.ndarray], last: int, rules: Rules) -> list[int]:
    """Where groups of cells end, exclusive; empty where there are none. pairs : counts in the order of risk, shape (times, cells), see
    `horizons.ranked`; last : place of the horizon among the times. Whole numbers only."""
    cells = np.array([pairs["events"][:last + 1].sum(axis=0), pairs["stay"][:last + 1].sum(axis=0),
                      (pairs["events"] + pairs["stay"])[last + 1:].sum(axis=0)]).astype(np.int64).T
    least, ends, here = int(cells.sum()) // GROUPS, [], np.zeros(3, dtype=np.int64)
    for cell, more in enumerate(cells):
        here = here + more
        if here.sum() >= least and _enough(here, rules):
            ends.append(cell + 1)
            here = np.zeros(3, dtype=np.int64)
    if not ends:
        return []
    # who is left over joins the last group, and that one the group before until it is large enough
    ends[-1] = len(cells)
    while ends and not _enough(cells[ends[-2] if len(ends) > 1 else 0:].sum(axis=0), rules):
        ends = [*ends[:-2], len(cells)] if len(ends) > 1 else []
    return ends


def _enough(people: np.ndarray, rules: Rules) -> bool:
    event, gone, stayed = people.tolist()
    least = max(rules.min_cell, 1)
    return event >= least and stayed >= least and safe(gone, rules)


def calibration(pairs: Mapping[str, np.ndarray], last: int, ends: Sequence[int], risk: np.ndarray, counted: Sums, rules: Rules,
                confidence: float) -> tuple[RiskGroup, ...]:
    """The groups, none where one of them may not be shown. pairs, ends : see `group_ends`. risk : predicted by the horizon, per cell;
    counted : totals of `cox_groups`."""
    people, registries = counted["people"], counted["people" + INDICATORS]
    if rules != NO_RULES and not all(_enough(row, rules) for row in people):
        return ()
    if rules != NO_RULES and (registries[people > 0] < rules.min_registries).any():
        return ()
    found, start = [], 0
    for end, row in zip(ends, people):
        events, stay = (np.asarray(pairs[name], dtype=float)[:, start:end] for name in ("events", "stay"))
        weight = (events + stay).sum(axis=0)
        survival, lower, upper = _survival(events.sum(axis=1), stay.sum(axis=1), last, z_of(confidence))
        found.append(RiskGroup(int(row.sum()), float(weight @ risk[start:end] / weight.sum()), 1 - survival, 1 - upper, 1 - lower))
        start = end
    return tuple(found)


def _survival(events: np.ndarray, stay: np.ndarray, last: int, z: float) -> tuple[float, float, float]:
    """Kaplan-Meier after the time `last`, with a log-log interval (Greenwood's variance)."""
    at_risk = np.cumsum((events + stay)[::-1])[::-1][:last + 1]
    d = events[:last + 1]
    used = d > 0
    survival = float(np.prod(1 - d[used] / at_risk[used]))
    left = at_risk - d
    if not 0 < survival < 1 or not (left[used] > 0).all():
        return survival, survival, survival
    error = z * math.sqrt(float((d[used] / (at_risk[used] * left[used])).sum())) / abs(math.log(survival))
    return survival, survival ** math.exp(error), survival ** math.exp(-error)
