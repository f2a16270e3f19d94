"""Does a higher risk mean an earlier event? Harrell's concordance of a Cox model.

How this works. Of two patients of whom one is known to have had the event first, had he the higher risk? Pairs are counted from how many
of each interval of risk leave at each time. Pairs within one interval count half; by how much the result can be off is returned beside
it. Registries that are strata count the pairs of their own patients, by the risks themselves.

Harrell et al. (1982), JAMA 247:2543; ties as in `concordance` of R.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ...dictionary import Dictionary
from ...rows import Rows
from ...statistic import Block, statistic
from .model import as_frame, model_of
from .rows import Sorted, kept

RISK_BINS = 256             # intervals of risk: Harrell's C to about 1 / 256 of the pairs
SPREAD = 4.0                # standard deviations of the risk, on either side of its mean, that the intervals cover
MOST_PAIRS = 2**16          # numbers sealed for the concordance: neighbouring times are joined beyond it
CHUNK = 512                 # rows that are compared one by one
PAIRS_PER_ROW = 2.0**24     # of one row with all others of its registry: 16 million patients


class Concordance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Harrell's C. off : C of the risks themselves, at all times of the grid, is within so much of this one: pairs in one interval of
    risk count half, those in one run of times not at all. risk_bins, times : how finely risks and times were counted; 0 : exactly."""

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


def risk_bins(at: Sorted, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float) -> np.ndarray:
    """The interval of risk of each row, shape (n,): the middle one starts at 0, the outer ones are open."""
    eta = at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset
    return np.clip(np.floor(eta / width) + RISK_BINS // 2, 0, RISK_BINS - 1).astype(np.int64)


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
    risk = risk_bins(at, beta, frame, width)
    run, shape = np.asarray(ends), (at.strata, len(ends), RISK_BINS)

    def count(keep: np.ndarray, cell: np.ndarray) -> np.ndarray:
        where = (at.stratum[keep] * len(ends) + np.searchsorted(run, cell[keep], side="right")) * RISK_BINS + risk[keep]
        return np.bincount(where, at.weight[keep] if read.weights else None, minlength=math.prod(shape)).reshape(shape)

    found = {"events": count(at.died, at.leaves), "stay": count(~at.died, at.leaves)}
    if at.enters is not None:
        found["enter"] = count(at.enters >= 0, at.enters)
    return found


def concordance_of(totals: Mapping[str, np.ndarray], joined: bool) -> Concordance | None:
    """C from the totals of `cox_pairs`; None where there is no pair. joined : whether neighbouring times were counted as one."""
    enter = totals.get("enter")
    strata = range(len(totals["events"]))
    counted = np.sum([pairs(totals["events"][s], totals["stay"][s], None if enter is None else enter[s]) for s in strata], axis=0)
    found = _concordance(counted, RISK_BINS, totals["events"].shape[1])
    if found is None or not joined:
        return found
    # of two who leave in one run of times it is not known who left first
    events, stay = totals["events"].sum(axis=-1), totals["stay"].sum(axis=-1)
    unknown, whole = float((events * (events / 2 + stay)).sum()), float(counted.sum())
    return msgspec.structs.replace(found, off=min(found.off + unknown / max(whole - unknown, 1.0), 1.0))


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


@statistic("cox_registry_pairs/1", layout=_registry_pairs_layout, alone=True)
def cox_registry_pairs(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]]) -> dict:
    """Concordant, discordant and tied pairs within a registry (and stratum), by true times and risks."""
    _, at = kept(rows, model_of(model))
    eta = at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset
    # equal rows give equal risks up to rounding: those count as tied
    level = np.unique(np.round(eta, 10), return_inverse=True)[1]
    return {"pairs": np.sum([_pairs_of(at, level, s) for s in range(at.strata)], axis=0)}


def _pairs_of(at: Sorted, level: np.ndarray, stratum: int) -> np.ndarray:
    """Concordant, discordant and tied pairs of one stratum: of each event those at risk then who leave later or without an event."""
    mine = at.stratum == stratum
    died, weight = mine & at.died, at.weight
    found = _after(2 * at.leaves[mine] + ~at.died[mine], level[mine], weight[mine], 2 * at.leaves[died], level[died])
    if at.enters is not None:       # who comes in at this time or later is not at risk
        found -= _after(at.enters[mine], level[mine], weight[mine], at.leaves[died] - 1, level[died])
    below, same, everybody = found
    return np.array([below, everybody - below - same, same]) @ weight[died]


def _after(key: np.ndarray, level: np.ndarray, weight: np.ndarray, query: np.ndarray, query_level: np.ndarray) -> np.ndarray:
    """Per query the weight of all with a larger key: with a lower level, with the same, and in all; shape (3, queries).

    Those with larger keys are a beginning of the list sorted by key: whole chunks of it are summed by level, the rest is compared.
    """
    order = np.argsort(-key, kind="stable")
    key, level, weight = key[order], level[order], weight[order]
    until = np.searchsorted(-key, -query, side="left")
    by_level = np.zeros(int(max(level.max(initial=0), query_level.max(initial=0))) + 2)
    found = np.zeros((3, len(query)))
    for start in range(0, len(key) + 1, CHUNK):
        here = np.flatnonzero(until // CHUNK == start // CHUNK)
        part = slice(start, min(start + CHUNK, len(key)))
        if len(here):
            up_to = np.cumsum(by_level)
            counts = (np.arange(part.start, part.stop) < until[here, None]) * weight[part]
            own = query_level[here]
            found[0, here] = up_to[own] - by_level[own] + (counts * (level[part] < own[:, None])).sum(axis=1)
            found[1, here] = by_level[own] + (counts * (level[part] == own[:, None])).sum(axis=1)
            found[2, here] = up_to[-1] + counts.sum(axis=1)
        by_level += np.bincount(level[part], weight[part], minlength=len(by_level))
    return found
