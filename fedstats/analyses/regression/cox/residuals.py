"""Score residuals of Cox and their sum of squares: the middle of the sandwich, clustered by patient.

How this works. The score is a sum over rows, once the baseline is known: what a row adds when its event is compared with the mean
of those at risk, less what it was expected to add in all the time it was at risk. The joint half sends the increments of the
baseline back (functions of totals); every registry adds up the residuals of each patient's rows and then their squares.
Tied events after Efron are exposed to part of their own time only, as in the residuals of R.

Lin & Wei (1989), JASA 84:1074; Therneau & Grambsch (2000), Modeling Survival Data, sections 4.6, 7.2 and 8.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from ..model_rules import LARGEST_LEVERAGE
from .likelihood import Cells
from .model import as_frame, model_of
from .rows import Sorted, kept

LARGEST_RESIDUAL = 256.0        # events' weights that a row is expected to add: a root mean square beyond it is refused as out of range


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The increments of the baseline at the cells with events, as an ask carries them; columns are in the ask's frame.

    place : of the cells. hazard, drift : sums over the tied events of 1 / S0 and of xbar / S0. spared_hazard, spared_drift : the part
    of these that the tied events themselves are not exposed to. mean : the mean of those at risk, over the tied events.
    """

    place: list[int]
    hazard: list[float]
    drift: list[list[float]]
    spared_hazard: list[float]
    spared_drift: list[list[float]]
    mean: list[list[float]]


def baseline_of(cells: Cells) -> Baseline:
    """What the likelihood says of the baseline. Elementwise, as it becomes part of an ask."""
    return Baseline(cells.place.tolist(), cells.hazard.tolist(), cells.drift.tolist(), cells.spared_hazard.tolist(),
                    cells.spared_drift.tolist(), (cells.mean / (cells.m * cells.d)[:, None]).tolist())


def residuals(at: Sorted, z: np.ndarray, ratio: np.ndarray, baseline: Baseline) -> tuple[np.ndarray, np.ndarray]:
    """The score residual of every row, shape (n, p), and the events that it is expected to add, shape (n,)."""
    p, cells = z.shape[1] - 1, len(baseline.place)
    drift, spared, means = (np.reshape(one, (cells, p)) for one in (baseline.drift, baseline.spared_drift, baseline.mean))
    exposed, expected = at.exposure(baseline.place, baseline.hazard, baseline.spared_hazard), at.exposure(baseline.place, drift, spared)
    mean = np.zeros((at.strata * at.times, p))
    mean[np.asarray(baseline.place, dtype=np.int64)] = means
    died = at.died
    found = (expected - z[:, 1:] * exposed[:, None]) * ratio[:, None]
    found[died] += (z[died, 1:] - mean[at.by_exit[died]]) * at.weight[died, None]
    return found, ratio * exposed


def squares(person: np.ndarray | None, residual: np.ndarray, expected: np.ndarray, covariance: Sequence[float]) -> dict[str, Any]:
    """The sum of u u' over patients, packed, u being the sum of the residuals of a patient's rows; how many patients object; and the sums
    of the expected events and of their squares, which tell how many patients carry the fit. person : of each row, see `Rows`.

    A patient's leverage is u' V u: the part of the information that is his (V its inverse, packed).
    """
    if person is not None and len(person):
        by_person = np.zeros((int(person.max()) + 1, residual.shape[1]))
        np.add.at(by_person, person, residual)
        residual, expected = by_person, np.bincount(person, expected)
    leverage = ((residual @ steady.unpack(covariance, residual.shape[1])) * residual).sum(axis=1)
    return {"objections": (leverage > LARGEST_LEVERAGE).sum(), "squares": steady.pack(residual.T @ residual),
            "working": expected.sum(), "working_squares": (expected**2).sum()}


def squares_blocks(weight: float, ratio: float, hazard: float, rows: int, p: int) -> dict[str, Block]:
    """The blocks of `squares`. hazard : the largest total of a baseline; rows : of one patient.

    An event is within 4 weights of the mean (|x| <= 2 in its frame), and a row is expected to add at most 4 ratio hazard.
    """
    one = min(4.0 * weight + 4.0 * ratio * hazard, LARGEST_RESIDUAL * weight)
    bound = steady.power_of_two(rows * one * one)
    return {"objections": Block(integer=True), "squares": Block((p * (p + 1) // 2,), bound), "working": Block((), bound),
            "working_squares": Block((), bound)}


def _layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], baseline: Any,
            covariance: Sequence[float]) -> dict[str, Block]:
    weight, _, ratio = model_of(model).bounds(dictionary, beta, frame)
    return squares_blocks(weight, ratio, math.fsum(baseline["hazard"]), dictionary.most_rows, len(beta))


@statistic("cox_residuals/1", layout=_layout)
def cox_residuals(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], baseline: Any,
                  covariance: Sequence[float]) -> dict:
    """The sum over patients of the squared score residuals at beta, given the baseline of everybody; how many patients have a leverage
    above 0.5; how many carry the fit (`squares`). covariance : of the coefficients, packed."""
    _, at = kept(rows, model_of(model))
    z = at.z(as_frame(frame))
    ratio = at.ratio(z, np.asarray(beta, dtype=float))
    return squares(at.person, *residuals(at, z, ratio, msgspec.convert(baseline, Baseline)), covariance)
