"""Are hazards proportional? Does adding x g(t) improve the fit of a Cox model?

How this works. The score test at no such effect needs, per time, the scores of the events and the variances among those at risk: from the
last risk sums and `curvature`. Registries that are strata sum their own. g is 1 - KM just before the time ("km"), the mean rank among
all times, censored ones included ("rank"), the time or its logarithm.

Grambsch & Therneau (1994), Biometrika 81:515, in the form of cox.zph of R's survival since 3.0: the exact score test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.disclosure.precision import PValue, Statistic
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from ...shared.common import p_chi2
from ...survival.life_table import bin_of, times_of
from .curvature import second
from .likelihood import Cells
from .model import as_frame, model_of
from .rows import kept
from .strata import cells_at

Transform = Literal["km", "rank", "identity", "log"]
LARGEST_TRANSFORM = 64.0    # of the times after scaling by the largest: |log t| of any time that matters


class HazardTest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score test of proportional hazards for one term, "GLOBAL" for all together."""

    transform: str
    term: str
    chi2: Statistic[float]
    df: int
    p: PValue[float]


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


def slopes(cells: Cells, x: np.ndarray, g: np.ndarray, cross: np.ndarray, square: np.ndarray) -> dict[str, np.ndarray]:
    """The score of x g(t), and the information with x and with itself, packed. x : weighted sum of the columns of the events of each
    cell, in the frame of the cells; g : of each cell. cross, square : `curvature.second` with hazards times g, and times g^2."""
    return {"score": (g[:, None] * (x - cells.mean)).sum(axis=0), "cross": cross - (g[:, None] * cells.square).sum(axis=0),
            "square": square - (g[:, None] ** 2 * cells.square).sum(axis=0)}


def hazard_tests(transform: str, sums: Mapping[str, np.ndarray], information: np.ndarray, terms: Mapping[str, Sequence[int]]
                 ) -> list[HazardTest]:
    """One test per term and one of all, without those that the events do not determine. information : of x at the fit, shape (p, p)."""
    p = len(information)
    cross, square = steady.unpack(sums["cross"], p), steady.unpack(sums["square"], p)
    whole = np.block([[information, cross], [cross, square]])
    found = []
    for label, places in [*terms.items(), ("GLOBAL", tuple(range(p)))]:
        keep = [*range(p), *(p + j for j in places)]
        u = np.concatenate([np.zeros(p), np.asarray(sums["score"])[list(places)]])
        try:
            chi2 = float(u @ steady.solve(whole[np.ix_(keep, keep)], u))
        except steady.Singular:     # a level whose few events are all at one time
            continue
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
    cells, z, ratio = cells_at(at, np.asarray(beta, dtype=float), as_frame(frame), efron)
    x = at.event_sums(z)[cells.place]
    times = cases.own_times[0][cells.place % at.times] if len(cells.place) else np.zeros(0)
    found: dict[str, np.ndarray] = {}
    for k, (a, b, table) in enumerate(transforms):
        g = times
        if table == "log":
            g = np.log(np.maximum(times, math.ldexp(1.0, -60)))
        elif table is not None:
            grid = times_of(rows.dictionary, read.time)
            g = np.asarray(table, dtype=float)[np.minimum(bin_of(times, grid), len(grid) - 1)]
        g = np.clip((g - a) / b, -LARGEST_TRANSFORM, LARGEST_TRANSFORM)
        weighted = [second(at, z, ratio, cells.place, of * cells.hazard, of * cells.spared_hazard) for of in (g, g**2)]
        found |= {f"{name}{k}": sums for name, sums in slopes(cells, x, g, *weighted).items()}
    return found
