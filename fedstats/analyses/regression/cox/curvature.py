"""The information of a Cox model from one sum over rows, once the hazards are known: no sums of squares at every time.

How this works. A row's part in the sums of squares of all the times at which it is at risk is x x' times w exp(eta) times the hazard that
it is exposed to, less what it is spared in ties: the events that it is expected to add. The joint half knows the hazards from the sums of
an earlier round and sends them back; p (p + 1) / 2 numbers come, however fine the grid. During a fit these are the hazards of the round
before, carried to the new coefficients, in a few runs of times (`likelihood.information_near`), at the fit its own. Weighted by functions
of time besides, they serve the test of proportional hazards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from .likelihood import Cells, carried
from .model import as_frame, model_of
from .residuals import LARGEST_RESIDUAL
from .rows import Sorted, kept


def hazards_of(cells: Cells, by: Sequence[float] = ()) -> dict[str, Any]:
    """What `cox_curvature` is told of a baseline. by : how far the beta that it is asked at lies from that of the cells (`carried`)."""
    hazard, spared = carried(cells, by)
    return {"place": cells.place.tolist(), "hazard": hazard.tolist(), "spared": spared.tolist()}


def second(at: Sorted, z: np.ndarray, ratio: np.ndarray, place: Any, hazard: Any, spared: Any) -> np.ndarray:
    """The packed sum over rows of x x' times ratio times the hazard that each is exposed to, shape (p (p + 1) / 2,)."""
    weighted = z[:, 1:] * (ratio * at.exposure(place, hazard, spared))[:, None]
    return steady.pack(z[:, 1:].T @ weighted)


def second_by_run(at: Sorted, z: np.ndarray, ratio: np.ndarray, place: Any, hazard: Any, spared: Any, ends: Sequence[int]) -> np.ndarray:
    """The same for the hazard in each run of cells, shape (runs, p (p + 1) / 2). ends : of the runs, exclusive."""
    place, hazard = np.asarray(place, dtype=np.int64), np.asarray(hazard, dtype=float)
    until, less = np.searchsorted(place, at.by_exit, side="right"), np.zeros(at.strata * at.times)
    less[place] = spared
    less = np.where(at.died, less[at.by_exit], 0.0)
    found = _up_to(at, slice(None), until, less, z, ratio, place, hazard, ends)
    if at.enters is not None:
        late, cell = at.by_entry
        found -= _up_to(at, late, np.searchsorted(place, cell, side="right"), np.zeros(len(late)), z, ratio, place, hazard, ends)
    return found


def _up_to(at: Sorted, rows: Any, until: np.ndarray, less: np.ndarray, z: np.ndarray, ratio: np.ndarray, place: np.ndarray,
           hazard: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """Of rows in the order of `until`, how many cells with events there are up to where each leaves, in its stratum and those before.
    less : what each is spared in the last of them.

    Who leaves in a later run of the same stratum is exposed to the whole hazard of this one: one matrix per run for those, and one for
    those who leave in it. Runs are cut where strata begin.
    """
    first = np.searchsorted(place, np.arange(at.strata + 1) * at.times)
    parts = sorted({*ends, *first[1:].tolist()} - {0})
    start, so_far = np.array([0, *parts[:-1]]), np.concatenate([[0.0], np.cumsum(hazard)])
    x, ratio, stratum = z[rows, 1:], ratio[rows], at.stratum[rows]
    part = np.where(until > first[stratum], np.searchsorted(parts, until, side="left"), -1)
    exposed = so_far[until] - so_far[start[part]] - less
    found = np.zeros((len(ends), x.shape[1], x.shape[1]))
    edges = np.flatnonzero(np.diff(part, prepend=-2, append=-2))
    run = np.searchsorted(np.asarray(ends), start, side="right")
    for a, b in zip(edges[:-1].tolist(), edges[1:].tolist()):
        here = int(part[a])
        if here < 0:
            continue
        found[run[here]] += x[a:b].T @ (x[a:b] * (ratio[a:b] * exposed[a:b])[:, None])
        later = x[a:b].T @ (x[a:b] * ratio[a:b, None])
        for before in range(here - 1, -1, -1):
            if start[before] < first[stratum[a]]:
                break
            found[run[before]] += later * (so_far[parts[before]] - so_far[start[before]])
    i, j = np.triu_indices(x.shape[1])
    return found[:, i, j]


def _layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], place: Sequence[int],
            hazard: Sequence[float], spared: Sequence[float], ends: Sequence[int], g: Sequence[Sequence[float]] = (), settled: bool = False
            ) -> dict[str, Block]:
    weight, _, ratio = model_of(model).bounds(dictionary, beta, frame)
    p, most = len(beta), max(ratio * math.fsum(hazard), weight)
    # at the fit all rows together are expected to add the events that there were
    most = min(most, LARGEST_RESIDUAL * weight) if settled else most
    # in its frame a column may reach 2, its square 4
    return {"second": Block((len(ends) + 2 * len(g), p * (p + 1) // 2), steady.power_of_two(4.0 * most))}


@statistic("cox_curvature/1", layout=_layout)
def cox_curvature(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], place: Sequence[int],
                  hazard: Sequence[float], spared: Sequence[float], ends: Sequence[int], g: Sequence[Sequence[float]] = (),
                  settled: bool = False) -> dict:
    """The packed sum over rows of x x' times the events that each is expected to add in each run of cells; then for each g the same over
    all cells with hazards times g, and times its square.

    place, hazard, spared : of the cells with events, as in `residuals`. ends : of the runs among these, exclusive. g : functions of time
    in [-1, 1], at these cells. settled : the hazards are those of this beta.
    """
    _, at = kept(rows, model_of(model))
    z = at.z(as_frame(frame))
    ratio = at.ratio(z, np.asarray(beta, dtype=float))
    times = [np.asarray(one) ** power for one in g for power in (1, 2)]
    return {"second": np.array([*second_by_run(at, z, ratio, place, hazard, spared, ends),
                                *(second(at, z, ratio, place, one * hazard, one * spared) for one in times)])}
