"""Checks of a Cox model: are hazards proportional, and does a higher risk mean an earlier event?

How this works.
1. Proportional hazards: does adding x g(t) improve the fit? The score test at no such effect needs, per time, the scores of the
   events and the variances among those at risk, which the last risk sums hold already. Registries that are strata sum their own.
   g is 1 - KM just before the time ("km"), the mean rank among all times, censored ones included ("rank"), the time or its logarithm.
   Grambsch & Therneau (1994), Biometrika 81:515, in the form of cox.zph of R's survival since 3.0: the exact score test.
2. Concordance (Harrell): of two patients of whom one is known to have had the event first, had he the higher risk? Pairs are
   counted from how many of each interval of risk leave at each time. Pairs within one interval count half; so the result is off by
   at most half of their share, which is returned beside it.
   Harrell et al. (1982), JAMA 247:2543; ties as in `concordance` of R.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from .. import steady
from ..dictionary import Dictionary
from ..rows import Rows
from ..statistic import Block, statistic
from ._common import p_chi2
from .cox_likelihood import Cells
from .cox_risk import Sorted, as_frame, kept, model_of
from .cox_strata import cells_at
from .survival import bin_of, times_of

Transform = Literal["km", "rank", "identity", "log"]
RISK_BINS = 256             # intervals of risk: Harrell's C to about 1 / 256 of the pairs
SPREAD = 4.0                # standard deviations of the risk, on either side of its mean, that the intervals cover
MOST_PAIRS = 2**16          # numbers sealed for the concordance: neighbouring times are joined beyond it
LARGEST_TRANSFORM = 64.0    # of the times after scaling by the largest: |log t| of any time that matters


# -- proportional hazards ---------------------------------------------------------------------------------------------------------


class HazardTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score test of proportional hazards for one term, "GLOBAL" for all together."""

    transform: str
    term: str
    chi2: float
    df: int
    p: float


def transformed(transform: str, times: np.ndarray, events: np.ndarray, leaving: np.ndarray, at_risk: np.ndarray) -> np.ndarray:
    """g at each time of a grid. events, leaving, at_risk : rows, shape (times,). Steady, as registries may be asked with it."""
    if transform == "identity":
        return times
    if transform == "log":
        return np.array([steady.log(t) if t > 0 else -LARGEST_TRANSFORM for t in times.tolist()])
    if transform == "rank":
        found, before = [], 0
        for d in leaving.tolist():
            found.append(before + (d + 1) / 2)
            before += d
        return np.array(found)
    left, survival = [], 1.0
    for d, n in zip(events.tolist(), at_risk.tolist()):
        left.append(1.0 - survival)
        survival *= 1.0 - d / n if n else 1.0
    return np.array(left)


def slopes(cells: Cells, x: np.ndarray, g: np.ndarray) -> dict[str, np.ndarray]:
    """The score of x g(t), and the information with x and with itself, packed. x : weighted sum of the columns of the events of each
    cell, in the frame of the cells; g : of each cell."""
    return {"score": (g[:, None] * (x - cells.mean)).sum(axis=0), "cross": (g[:, None] * cells.variance).sum(axis=0),
            "square": (g[:, None] ** 2 * cells.variance).sum(axis=0)}


def hazard_tests(transform: str, sums: Mapping[str, np.ndarray], information: np.ndarray, terms: Mapping[str, Sequence[int]]
                 ) -> list[HazardTest]:
    """One test per term and one of all. information : of x at the fit, shape (p, p)."""
    p = len(information)
    cross, square = steady.unpack(sums["cross"], p), steady.unpack(sums["square"], p)
    whole = np.block([[information, cross], [cross, square]])
    found = []
    for label, places in [*terms.items(), ("GLOBAL", tuple(range(p)))]:
        keep = [*range(p), *(p + j for j in places)]
        u = np.concatenate([np.zeros(p), np.asarray(sums["score"])[list(places)]])
        try:
            chi2 = max(float(u @ np.linalg.solve(whole[np.ix_(keep, keep)], u)), 0.0)
        except np.linalg.LinAlgError:
            chi2 = math.nan
        if math.isfinite(chi2):
            found.append(HazardTest(transform, label, chi2, len(places), p_chi2(chi2, len(places))))
    return found


def _slopes_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]],
                   transforms: Sequence[Any], efron: bool = True) -> dict[str, Block]:
    weight, p = model_of(model).bounds(dictionary, beta, frame)[0], len(beta)
    bound = LARGEST_TRANSFORM * 2.0 * weight
    blocks: dict[str, Block] = {}
    for k in range(len(transforms)):
        blocks |= {f"score{k}": Block((p,), bound), f"cross{k}": Block((p * (p + 1) // 2,), bound),
                   f"square{k}": Block((p * (p + 1) // 2,), bound * LARGEST_TRANSFORM)}
    return blocks


@statistic("cox_registry_slopes/1", layout=_slopes_layout, alone=True)
def cox_registry_slopes(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], transforms: Sequence[Any],
                        efron: bool = True) -> dict:
    """What the test of proportional hazards needs, from a registry as a stratum of its own.

    transforms : for each, [a, b, table]: g(t) = (t - a) / b of the true time or, where a table is given, of its value at the
    interval of the registered grid that holds the time; "log" in place of the table stands for the logarithm of the time.
    """
    read = model_of(model)
    cases, at = kept(rows, read)
    cells, z, _ = cells_at(at, np.asarray(beta, dtype=float), as_frame(frame), efron)
    x = at.event_sums(z)[cells.place]
    times = np.unique(cases.time[cases.event])[cells.place % at.times] if len(cells.place) else np.zeros(0)
    found: dict[str, np.ndarray] = {}
    for k, (a, b, table) in enumerate(transforms):
        g = times
        if table == "log":
            g = np.log(np.maximum(times, math.ldexp(1.0, -60)))
        elif table is not None:
            grid = times_of(rows.dictionary, read.time)
            g = np.asarray(table, dtype=float)[np.minimum(bin_of(times, grid), len(grid) - 1)]
        g = np.clip((g - a) / b, -LARGEST_TRANSFORM, LARGEST_TRANSFORM)
        found |= {f"{name}{k}": sums for name, sums in slopes(cells, x, g).items()}
    return found


# -- concordance ------------------------------------------------------------------------------------------------------------------


class Concordance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Harrell's C. tied : the share of pairs within one interval of risk, which count half: C of the risks themselves is within
    `off` of this one. risk_bins, times : how finely risks and times were counted; 0 : not binned at all."""

    c: float
    off: float
    risk_bins: int
    times: int


def pairs(events: np.ndarray, stay: np.ndarray, enter: np.ndarray | None = None) -> tuple[float, float, float]:
    """Concordant, discordant and tied pairs of one stratum.

    events, stay : who leaves with and without an event, shape (times, risks), risks increasing; enter : who comes in late.
    A pair: one with an event, and one at risk then who leaves later or without an event.
    """
    def later(counts: np.ndarray) -> np.ndarray:
        return np.cumsum(counts[::-1], axis=0)[::-1]

    at_risk = later(events + stay) - events - (later(enter) if enter is not None else 0.0)
    below = np.cumsum(at_risk, axis=1) - at_risk
    above = at_risk.sum(axis=1, keepdims=True) - below - at_risk
    return float((events * below).sum()), float((events * above).sum()), float((events * at_risk).sum())


def pair_ends(strata: int, times: int, kinds: int, also: Sequence[int] = ()) -> list[int]:
    """Where the runs of times end (exclusive) that are counted as one, so that not too many numbers are sealed.

    kinds : blocks that are sealed. also : places of the grid after which a run ends in any case.
    """
    run = -(-strata * times * RISK_BINS * kinds // MOST_PAIRS)
    return sorted({*range(run, times, run), *(place + 1 for place in also), times})


def _pairs_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float,
                  ends: Sequence[int]) -> dict[str, Block]:
    read = model_of(model)
    shape = (read.strata_count(dictionary), len(ends), RISK_BINS)
    weight = read.bounds(dictionary, [], [])[0]
    blocks = {"events": Block(shape, weight, integer=not read.weights), "stay": Block(shape, weight, integer=not read.weights)}
    return blocks | ({"enter": Block(shape, weight, integer=not read.weights)} if read.entry else {})


@statistic("cox_pairs/1", layout=_pairs_layout)
def cox_pairs(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float, ends: Sequence[int]) -> dict:
    """Rows (or weights) by stratum, time and interval of risk: who leaves with an event, who without, who comes in late.

    width : of an interval of the linear predictor; the middle one starts at 0, the outer ones are open.
    ends : where runs of times end that are counted as one (the last one is the number of times).
    """
    read = model_of(model)
    _, at = kept(rows, read)
    eta = at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset
    risk = np.clip(np.floor(eta / width) + RISK_BINS // 2, 0, RISK_BINS - 1).astype(np.int64)
    run, shape = np.asarray(ends), (at.strata, len(ends), RISK_BINS)

    def count(keep: np.ndarray, cell: np.ndarray) -> np.ndarray:
        where = (at.stratum[keep] * len(ends) + np.searchsorted(run, cell[keep], side="right")) * RISK_BINS + risk[keep]
        return np.bincount(where, at.weight[keep] if read.weights else None, minlength=math.prod(shape)).reshape(shape)

    found = {"events": count(at.died, at.leaves), "stay": count(~at.died, at.leaves)}
    if at.enters is not None:
        found["enter"] = count(at.enters >= 0, at.enters)
    return found


def concordance_of(totals: Mapping[str, np.ndarray]) -> Concordance | None:
    """C from the totals of `cox_pairs`; None where there is no pair."""
    enter = totals.get("enter")
    strata = range(len(totals["events"]))
    counted = np.sum([pairs(totals["events"][s], totals["stay"][s], None if enter is None else enter[s]) for s in strata], axis=0)
    return _concordance(counted, RISK_BINS, totals["events"].shape[1])


def _concordance(counted: np.ndarray, bins: int, times: int) -> Concordance | None:
    concordant, discordant, tied = (float(one) for one in counted)
    whole = concordant + discordant + tied
    if not whole > 0:
        return None
    return Concordance((concordant + tied / 2) / whole, tied / whole / 2 if bins else 0.0, bins, times)


def registry_concordance(totals: Mapping[str, np.ndarray]) -> Concordance | None:
    return _concordance(totals["pairs"], 0, 0)


def _registry_pairs_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]]
                           ) -> dict[str, Block]:
    weight = model_of(model).bounds(dictionary, [], [])[0]
    return {"pairs": Block((3,), weight * weight * PAIRS_PER_ROW)}


PAIRS_PER_ROW = 2.0**24     # of one row with all others of its registry: 16 million patients


@statistic("cox_registry_pairs/1", layout=_registry_pairs_layout, alone=True)
def cox_registry_pairs(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]]) -> dict:
    """Concordant, discordant and tied pairs within a registry (and stratum), by true times and risks."""
    _, at = kept(rows, model_of(model))
    eta = at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset
    # equal rows give equal risks up to rounding: those count as tied
    level = np.unique(np.round(eta, 10), return_inverse=True)[1]
    return {"pairs": np.sum([_pairs_of(at, level, s) for s in range(at.strata)], axis=0)}


def _pairs_of(at: Sorted, level: np.ndarray, stratum: int) -> np.ndarray:
    """The pairs of one stratum, event time by event time, with a tree of counts by risk (Fenwick, 1994)."""
    size = int(level.max(initial=0)) + 1
    tree = np.zeros(size + 1)

    def put(k: int, weight: float) -> None:
        k += 1
        while k <= size:
            tree[k] += weight
            k += k & -k

    def up_to(k: int) -> float:
        found = 0.0
        while k > 0:
            found += tree[k]
            k -= k & -k
        return found

    mine = np.flatnonzero(at.stratum == stratum)
    counted, here = np.zeros(3), len(mine)
    inside = 0.0
    enters = at.enters if at.enters is not None else np.full(at.n, -1)
    gone = sorted(mine.tolist(), key=lambda i: -int(enters[i]))
    out = 0
    for cell in sorted(set(at.leaves[mine].tolist()), reverse=True):
        first = int(np.searchsorted(at.leaves[mine], cell))
        rows, here = mine[first:here].tolist(), first
        # those who come in at this time or later are not at risk now
        for i in [i for i in rows if not at.died[i]]:
            put(int(level[i]), float(at.weight[i]))
            inside += float(at.weight[i])
        while out < len(gone) and enters[gone[out]] >= cell:
            put(int(level[gone[out]]), -float(at.weight[gone[out]]))
            inside -= float(at.weight[gone[out]])
            out += 1
        for i in [i for i in rows if at.died[i]]:
            below, same = up_to(int(level[i])), up_to(int(level[i]) + 1)
            counted += float(at.weight[i]) * np.array([below, inside - same, same - below])
        for i in [i for i in rows if at.died[i]]:
            put(int(level[i]), float(at.weight[i]))
            inside += float(at.weight[i])
    return counted
