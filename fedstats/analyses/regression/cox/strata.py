"""What a registry works out on its own rows: its part of a Cox model where registries are strata, and a first guess.

How this works. With `strata(registry)` a registry's patients are compared with one another only. So it has its own cells, one per
time at which an event happened there (true times, no grid), and its own baseline; the log likelihood, score and information of its
stratum add up over registries, and nothing else leaves it. In the same way each registry may fit the model on its own: the
average of these fits, weighted by their information, is where the fit of all starts.

These are sums over registries, not over patients (`alone`): a registry takes all its rows at once.
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

from .curvature import hazards_of, second
from .likelihood import Cells, Point, cells_of, information, point
from .model import as_frame, model_of
from .residuals import baseline_of, residuals, squares, squares_blocks
from .rows import Sorted, kept

LOG_SPAN = 1024.0           # |log S0| of a registry beyond |eta|: log of patients and of weights, generously
LOCAL_ROUNDS, LOCAL_STEP = 20, 1e-4     # a local fit is a first guess only: steps in standard errors
KNOWN = 1e-9                # per event: the least variance of a column about which a registry knows something
LOCAL_LARGEST = 10.0        # a column whose values change the log hazard by more than twice that separates: the fit is left out


def cells_at(at: Sorted, beta: np.ndarray, frame: np.ndarray, efron: bool) -> tuple[Cells, np.ndarray, np.ndarray]:
    """The likelihood's cells of one registry's rows at a beta, with the rows' columns and ratios."""
    z = at.z(frame)
    ratio = at.ratio(z, beta)
    flat = (at.strata * at.times, -1)
    tied = at.tied(z, ratio).reshape(flat) if efron else None
    return (cells_of(at.count(at.died).ravel(), at.count(at.died, at.weight).ravel(), at.risk(z, ratio).reshape(flat), tied), z, ratio)


def point_at(at: Sorted, beta: np.ndarray, frame: np.ndarray, efron: bool) -> Point:
    cells, z, ratio = cells_at(at, beta, frame, efron)
    weight = at.weight[at.died]
    return point(cells, beta, (z[at.died, 1:] * weight[:, None]).sum(axis=0), float((weight * at.offset[at.died]).sum()),
                 information(cells, second(at, z, ratio, **hazards_of(cells))))


# -- registries as strata -------------------------------------------------------------------------------------------------------


def _registry_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], efron: bool = True
                     ) -> dict[str, Block]:
    weight, eta, _ = model_of(model).bounds(dictionary, beta, frame)
    p = len(beta)
    # within [-1, 1] no variance exceeds 1, and no event is further than 2 from a mean
    return {"loglik": Block((), steady.power_of_two(weight * (2.0 * eta + LOG_SPAN))), "score": Block((p,), 2.0 * weight),
            "information": Block((p * (p + 1) // 2,), 2.0 * weight)}


@statistic("cox_registry/1", layout=_registry_layout, alone=True)
def cox_registry(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], efron: bool = True) -> dict:
    """The log partial likelihood, score and information of a registry as a stratum (or several) of its own, on true times."""
    _, at = kept(rows, model_of(model))
    found = point_at(at, np.asarray(beta, dtype=float), as_frame(frame), efron)
    return {"loglik": found.loglik, "score": found.score, "information": steady.pack(found.information)}


def _registry_squares_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]],
                             covariance: Sequence[float], efron: bool = True) -> dict[str, Block]:
    weight = model_of(model).bounds(dictionary, beta, frame)[0]
    return squares_blocks(weight, 1.0, math.inf, dictionary.most_rows, len(beta))


@statistic("cox_registry_residuals/1", layout=_registry_squares_layout, alone=True)
def cox_registry_residuals(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], covariance: Sequence[float],
                           efron: bool = True) -> dict:
    """As `residuals`, each registry being a stratum with its own baseline."""
    _, at = kept(rows, model_of(model))
    cells, z, ratio = cells_at(at, np.asarray(beta, dtype=float), as_frame(frame), efron)
    return squares(at.person, *residuals(at, z, ratio, baseline_of(cells)), covariance)


# -- where to start -----------------------------------------------------------------------------------------------------------------


def _start_layout(dictionary: Dictionary, *, model: Any, efron: bool = True) -> dict[str, Block]:
    read = model_of(model)
    p, weight = len(read.design(dictionary)), read.bounds(dictionary, [], [])[0]
    return {"fits": Block(integer=True), "information": Block((p * (p + 1) // 2,), 2.0 * weight),
            "weighted": Block((p,), steady.power_of_two(2.0 * weight * max(p, 1) * LOCAL_LARGEST))}


@statistic("cox_start/1", layout=_start_layout, alone=True)
def cox_start(rows: Rows, model: Any, efron: bool = True) -> dict:
    """A registry's own fit: its information, and the information times its coefficients; zeros where there is none to be had."""
    read = model_of(model)
    _, at = kept(rows, read)
    found = own_fit(at, efron)
    p = at.x.shape[1]
    if found is None:
        return {"fits": 0, "information": np.zeros(p * (p + 1) // 2), "weighted": np.zeros(p)}
    beta, information = found
    return {"fits": 1, "information": steady.pack(information), "weighted": information @ beta}


def own_fit(at: Sorted, efron: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients of the scaled columns and their information from one registry alone; None where its fit does not settle."""
    events, p = at.died.sum(), at.x.shape[1]
    if events <= 1:
        return None
    half = np.ptp(at.x, axis=0) / 2
    scale = np.where(half > 0, half, 1.0)
    frame, beta = np.column_stack([at.x.mean(axis=0), scale]), np.zeros(p)
    for _ in range(LOCAL_ROUNDS):
        here = point_at(at, beta, frame, efron)
        # levels that nobody has here tell nothing and are left where they are
        known = np.diag(here.information) > KNOWN * events
        if events <= known.sum() or not known.any():
            return None
        try:
            step = np.zeros(p)
            step[known] = steady.solve(here.information[np.ix_(known, known)], here.score[known])
        except ArithmeticError:
            return None
        beta = beta + step
        if not np.abs(beta).max() <= LOCAL_LARGEST:
            return None
        if step @ here.information @ step <= LOCAL_STEP**2:
            return beta / scale, here.information * np.outer(known * scale, known * scale)
    return None
