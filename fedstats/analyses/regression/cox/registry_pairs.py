"""Harrell's concordance where registries are strata: each counts the pairs of its own patients, by true times and by the risks themselves.

How this works. Of each event its registry counts those at risk then who leave later or without an event, with a lower risk and with the
same one; and of each row the events that it outlived in the same way. The first give the pairs, both together how much each patient
changes them (`concordance`); sums of squares and products of that are enough for the standard error, whatever C of all registries is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from .concordance import Concordance, by_person, index_of
from .model import as_frame, model_of
from .rows import Sorted, kept

CHUNK = 192                 # rows that are compared one by one


def _layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], others: int
            ) -> dict[str, Block]:
    weight = model_of(model).bounds(dictionary, [], [])[0]
    # of one row with all others
    most = weight * weight * steady.power_of_two(float(max(others, 1)))
    return {"pairs": Block((3,), most), "squares": Block((3,), steady.power_of_two(most * most * dictionary.most_rows))}


@statistic("cox_registry_pairs/1", layout=_layout, alone=True)
def cox_registry_pairs(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], others: int) -> dict:
    """Concordant, discordant and tied pairs within a registry (and stratum), by true times and risks; and over patients the sums of e^2,
    e v and v^2: v of the pairs that a patient is in, e of the concordant less half of all, ties a half each. others : rows of all
    registries, at least."""
    _, at = kept(rows, model_of(model))
    eta = at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset
    # equal rows give equal risks up to rounding: those count as tied
    level = np.unique(np.round(eta, 10), return_inverse=True)[1]
    found, won, every = np.zeros(3), np.zeros(at.n), np.zeros(at.n)
    for stratum in range(at.strata):
        mine = at.stratum == stratum
        died = mine & at.died
        below, same, everybody = _survivors(at, level, mine, died)
        found += np.array([below, everybody - below - same, same]) @ at.weight[died]
        won[died] += below + same / 2
        every[died] += everybody
        below, same, everybody = _outlived(at, level, mine, died)
        won[mine] += everybody - below - same / 2
        every[mine] += everybody
    excess, pairs = (by_person(at.person, one * at.weight) for one in (won - every / 2, every))
    return {"pairs": found, "squares": [excess @ excess, excess @ pairs, pairs @ pairs]}


def registry_concordance(totals: Mapping[str, np.ndarray]) -> Concordance | None:
    """C and its standard error from the totals of `cox_registry_pairs`; None where there is no pair."""
    found = index_of(totals["pairs"], 0, 0)
    if found is None:
        return None
    # won - C every = excess - (C - 1/2) every
    lean = found.c - 0.5
    ee, ev, vv = (float(one) for one in totals["squares"])
    variance = max(ee - 2 * lean * ev + lean * lean * vv, 0.0)
    return Concordance(found.c, 0.0, 0, 0, math.sqrt(variance) / float(np.sum(totals["pairs"])))


def _survivors(at: Sorted, level: np.ndarray, mine: np.ndarray, died: np.ndarray) -> np.ndarray:
    """Of each event those at risk then who leave later or without an event: with a lower risk, with the same, and all."""
    found = _after(2 * at.leaves[mine] + ~at.died[mine], level[mine], at.weight[mine], 2 * at.leaves[died], level[died])
    if at.enters is not None:       # who comes in at this time or later is not at risk
        found -= _after(at.enters[mine], level[mine], at.weight[mine], at.leaves[died] - 1, level[died])
    return found


def _outlived(at: Sorted, level: np.ndarray, mine: np.ndarray, died: np.ndarray) -> np.ndarray:
    """Of each row the events before it leaves, or when it leaves without one: with a lower risk, with the same, and all."""
    found = _after(-2 * at.leaves[died], level[died], at.weight[died], -2 * at.leaves[mine] - ~at.died[mine], level[mine])
    if at.enters is not None:       # not those up to its entry
        found -= _after(-at.leaves[died], level[died], at.weight[died], -at.enters[mine] - 1, level[mine])
    return found


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
