"""The likelihood on the registered grid, from totals: how it is evaluated at a beta, at 0, and where the fit has ended.

How this works. Each evaluation brings the sums of w exp(eta) and w exp(eta) x at every time, from which log likelihood, score and hazards
follow. The information needs hazards beforehand (`curvature`): those of the evaluation before. The first round brings the sums at 0, so
that there hazards are known from the start. At the fit the information is asked with its own hazards, and weighted by functions of time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedstats.sums.statistic import Ask, Sums

from .curvature import cox_curvature, hazards_of
from .fit import Known, Reader
from .likelihood import Cells, Point, carried, cells_of, information, information_near, point
from .risk import cox_risk

RUNS = 8                    # of times, in which hazards of two evaluations are taken as in proportion


@dataclass(frozen=True)
class Grid:
    """What the first round told of the events of each cell, flat. counts, weight : of the events, shape (cells,). x : weighted sum of their
    columns, shape (p,); offset : that of their offsets. null : the cells at 0. asked : what all asks carry: model and frame.
    """

    counts: np.ndarray
    weight: np.ndarray
    x: np.ndarray
    offset: float
    efron: bool
    null: Cells
    asked: dict[str, Any]

    @property
    def reader(self) -> Reader:
        return Reader(self.ask, self.read, Known((0.0,) * len(self.x), self.null))

    @functools.cached_property
    def ends(self) -> list[int]:
        """Where runs of cells with events end, exclusive, each with about as many events."""
        so_far = np.cumsum(self.counts[self.null.place])
        total = int(so_far[-1]) if len(so_far) else 0
        return sorted({int(np.searchsorted(so_far, total * k // RUNS)) + 1 for k in range(1, RUNS)} - {len(so_far)}) + [len(so_far)]

    def ask(self, beta: Sequence[float], before: Known | None) -> list[Ask]:
        """At 0 the risk sums, and with them the hazards, are known."""
        if not any(beta):
            return [self.ask_settled(beta, self.null)]
        assert before is not None
        asked = self.asked | {"beta": list(beta)}
        return [cox_curvature(**asked, **hazards_of(before.cells, _far(beta, before)), ends=self.ends), cox_risk(**asked, efron=self.efron)]

    def read(self, totals: list[Sums], beta: Sequence[float], before: Known | None) -> tuple[Point, Cells | None]:
        here, second, cells = np.array(beta), totals[0]["second"], self.null
        if not any(beta):
            return point(cells, here, self.x, self.offset, information(cells, second[0])), cells
        assert before is not None
        cells, hazards = grid_cells(self.counts, self.weight, totals[1]), carried(before.cells, _far(beta, before))
        return point(cells, here, self.x, self.offset, information_near(cells, second, hazards, self.ends)), cells

    def ask_settled(self, beta: Sequence[float], cells: Cells, g: Sequence[np.ndarray] = ()) -> Ask:
        """The information at beta, whose cells are known, and the same with functions of time g at every cell with events, in [-1, 1]."""
        return cox_curvature(**self.asked, beta=list(beta), **hazards_of(cells), ends=[len(cells.place)], g=[one.tolist() for one in g],
                             settled=True)


def _far(beta: Sequence[float], before: Known) -> list[float]:
    return [a - b for a, b in zip(beta, before.beta)]


def grid_cells(counts: np.ndarray, weight: np.ndarray, sums: Sums) -> Cells:
    """The cells of totals of `cox_risk`."""
    flat = (len(counts), -1)
    return cells_of(counts, weight, sums["risk"].reshape(flat), sums["tied"].reshape(flat) if "tied" in sums else None)


def reframed(sums: Sums, keep: Sequence[int], shift: np.ndarray, scale: np.ndarray) -> Sums:
    """Risk sums of the columns as they are -> of some of them in a frame. Elementwise."""
    found = {}
    for name, block in sums.items():
        one, x = block[..., :1], block[..., 1:][..., list(keep)]
        found[name] = np.concatenate([one, (x - one * shift) / scale], axis=-1)
    return found
