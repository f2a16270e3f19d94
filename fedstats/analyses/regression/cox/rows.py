"""A registry's rows in cells, one cell per stratum and time: what all local halves of Cox regression start from.

How this works. A row is at risk in the cells after the one where it enters, up to the one where it leaves ((start, stop]; a time falls
at the next grid point, as in a life table). Sums over the rows that leave in a cell are added up from the last cell to the first; those
that enter in a cell or later are taken off. Rows that enter and leave in one cell are never at risk: on a grid these are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fedstats.data.rows import Rows

from ...shared.common import group_of, groups
from ...survival.life_table import NEAR_ZERO, bin_of, same_times, times_of
from .model import Model

NEVER = -1                      # the cell where somebody enters who was there from the start


@dataclass(frozen=True)
class Sorted:
    """Rows that are ever at risk, sorted by stratum and the cell where they leave.

    x : columns, shape (n, p). weight, offset, died : shape (n,). stratum : shape (n,). leaves : the cell of the time, within the
    stratum; enters : the cell after which they are at risk, or None. person : number of the patient of each row, or None.
    times : number of cells per stratum. strata : number of strata. lost : events that the grid leaves out.
    """

    x: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    died: np.ndarray
    stratum: np.ndarray
    leaves: np.ndarray
    enters: np.ndarray | None
    person: np.ndarray | None
    times: int
    strata: int
    lost: int

    @property
    def n(self) -> int:
        return len(self.weight)

    def z(self, frame: np.ndarray | None = None) -> np.ndarray:
        """1 and the columns, in a frame, shape (n, p + 1). frame : shift and scale of each column, shape (p, 2 or more).

        The last one is remembered: all asks of a fit have the same.
        """
        shift, scale = (0.0, 1.0) if frame is None else (frame[:, 0], frame[:, 1])
        key = None if frame is None else frame.tobytes()
        if self.__dict__.get("_framed", (0,))[0] != key:
            found = np.ones((self.n, 1 + self.x.shape[1]))
            np.subtract(self.x, shift, out=found[:, 1:])
            found[:, 1:] /= scale
            self.__dict__["_framed"] = key, found
        return np.asarray(self.__dict__["_framed"][1])

    def ratio(self, z: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """weight times exp(eta) of each row."""
        return self.weight * np.exp(z[:, 1:] @ beta + self.offset)

    @functools.cached_property
    def by_exit(self) -> np.ndarray:
        return self.stratum * self.times + self.leaves

    @functools.cached_property
    def by_entry(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that enter late, sorted by cell of entry, and these cells."""
        assert self.enters is not None
        late = np.flatnonzero(self.enters > NEVER)
        cell = self.stratum[late] * self.times + self.enters[late]
        order = np.argsort(cell, kind="stable")
        return late[order], cell[order]

    def cell_sums(self, z: np.ndarray, ratio: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Sums of ratio z per cell, shape (strata, times, p + 1); rows are sorted by cell."""
        found = np.zeros((self.strata * self.times, z.shape[1]))
        if len(cell):
            used, start = np.unique(cell, return_index=True)
            found[used] = np.add.reduceat(z * ratio[:, None], start, axis=0)
        return found.reshape(self.strata, self.times, -1)

    def risk(self, z: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Sums of ratio z over all rows at risk in each cell, shape (strata, times, p + 1)."""
        found = from_the_end(self.cell_sums(z, ratio, self.by_exit))
        if self.enters is not None:
            late, cell = self.by_entry
            found -= from_the_end(self.cell_sums(z[late], ratio[late], cell))
        return found

    def tied(self, z: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Sums of ratio z over the rows with an event in each cell."""
        return self.cell_sums(z[self.died], ratio[self.died], self.by_exit[self.died])

    def exposure(self, place: Sequence[int] | np.ndarray, values: Any, spared: Any) -> np.ndarray:
        """What each row is exposed to: the sum of values over the cells in which it is at risk, less what is spared in the cell of its
        event. place : of the cells, shape (cells,). values, spared : shape (cells, ...). Returns shape (n, ...)."""
        def spread(those: Any) -> np.ndarray:
            those = np.asarray(those, dtype=float)
            found = np.zeros((self.strata * self.times, *those.shape[1:]))
            found[np.asarray(place, dtype=np.int64)] = those
            return found

        cells = spread(values)
        cells = cells.reshape(self.strata, self.times, *cells.shape[1:])
        before = np.concatenate([np.zeros_like(cells[:, :1]), np.cumsum(cells, axis=1)], axis=1)
        found = before[self.stratum, self.leaves + 1] - before[self.stratum, self.enters + 1 if self.enters is not None else 0]
        found[self.died] -= spread(spared)[self.by_exit[self.died]]
        return np.asarray(found)

    def people(self, keep: np.ndarray) -> np.ndarray:
        """People per cell where a row of theirs leaves, shape (strata, times)."""
        if self.person is None:
            return self.count(keep)
        cell = np.unique(np.stack([self.by_exit[keep], self.person[keep]]), axis=1)[0]
        return np.bincount(cell, minlength=self.strata * self.times).reshape(self.strata, self.times)

    def event_sums(self, z: np.ndarray) -> np.ndarray:
        """Weighted sums of the columns of the events of each cell, shape (strata * times, p)."""
        found = [self.count(self.died, self.weight * column).ravel() for column in z[:, 1:].T]
        return np.stack(found, axis=-1) if found else np.zeros((self.strata * self.times, 0))

    def count(self, keep: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
        """Rows per cell where they leave (or weights of rows), shape (strata, times)."""
        return np.bincount(self.by_exit[keep], None if of is None else of[keep],
                           minlength=self.strata * self.times).reshape(self.strata, self.times)


def from_the_end(sums: np.ndarray) -> np.ndarray:
    """Sums over this cell and all later ones of its stratum; cells are the second axis."""
    return np.cumsum(sums[:, ::-1], axis=1)[:, ::-1]


def sort(x: np.ndarray, weight: np.ndarray, offset: np.ndarray, died: np.ndarray, stratum: np.ndarray, leaves: np.ndarray,
         enters: np.ndarray | None, person: np.ndarray | None, times: int, strata: int) -> Sorted:
    """Rows sorted; those that are never at risk are left out."""
    keep = (leaves >= 0) & (weight > 0)
    if enters is not None:
        keep &= enters < leaves
    lost = int((died & ~keep & (weight > 0)).sum())
    order = np.flatnonzero(keep)[np.argsort((stratum * times + leaves)[keep], kind="stable")]

    def pick(one: np.ndarray | None) -> Any:
        return None if one is None else one[order]

    return Sorted(pick(x), pick(weight), pick(offset), pick(died), pick(stratum), pick(leaves), pick(enters), pick(person), times, strata,
                  lost)


# -- from a registry's table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cases:
    """Complete cases as plain columns, in the order of the table; `offset` about the middle of its range. high : the largest time that
    there may be."""

    x: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    time: np.ndarray
    event: np.ndarray
    entry: np.ndarray | None
    stratum: np.ndarray
    strata: int
    person: np.ndarray | None
    high: float

    def where(self, keep: np.ndarray) -> Cases:
        """Some of the rows."""
        return Cases(*(one[keep] if isinstance(one, np.ndarray) else one for one in (getattr(self, part.name) for part in fields(self))))

    def cells(self, times: np.ndarray) -> Sorted:
        """The rows in the cells of a grid: a time falls at the next grid point; beyond the last one nothing happens."""
        leaves = bin_of(self.time, times)
        died = self.event & (leaves < len(times))
        # who enters at time 0 was there from the start: nothing happens before
        enters = None if self.entry is None else np.where(self.entry <= NEAR_ZERO * self.high, NEVER, bin_of(self.entry, times))
        return sort(self.x, self.weight, self.offset, died, self.stratum, np.minimum(leaves, len(times) - 1), enters, self.person,
                    len(times), self.strata)

    @functools.cached_property
    def own_times(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The times at which an event happened here, and times and entries of all rows, ties mended (`same_times`)."""
        time, entry = same_times(self.high, self.time, self.entry)
        return np.unique(time[self.event]), time, entry

    def own_cells(self) -> Sorted:
        """The rows in cells of their own: one per time at which an event happened here."""
        times, time, entry = self.own_times

        def last(values: np.ndarray) -> np.ndarray:
            return np.searchsorted(times, values, side="right") - 1

        return sort(self.x, self.weight, self.offset, self.event, self.stratum, last(time),
                    None if entry is None else last(entry), self.person, max(len(times), 1), self.strata)


def cases_of(rows: Rows, model: Model) -> Cases:
    """A registry's complete cases."""
    dictionary = rows.dictionary
    cases = rows.complete(model.columns)
    stratum = np.zeros(cases.n, dtype=np.int64)
    for name in model.levels:
        stratum = stratum * len(groups(dictionary, name)) + group_of(cases, name)
    offset = np.zeros(cases.n)
    column = model.offset_column(dictionary)
    if column is not None:
        offset = column.values(cases)[0] - (column.low[0] + column.high[0]) / 2
    weighting = model.weighting(dictionary)
    weight = weighting.values(cases) if weighting is not None else np.ones(cases.n)
    return Cases(model.design(dictionary).matrix(cases), weight, offset, cases.values(model.time), cases.steps(model.event) == 1,
                 cases.values(model.entry) if model.entry else None, stratum, model.strata_count(dictionary), cases.person,
                 dictionary[model.time].high)


MOST_KEPT = 2                   # models whose sorted rows are kept with a registry's rows, from round to round


def kept(rows: Rows, model: Model) -> tuple[Cases, Sorted]:
    """A registry's complete cases, and the same in the cells of the grid (in cells of its own where registries are strata).

    They stay with the rows from round to round, and go with them.
    """
    held: dict[Model, tuple[Cases, Sorted]] = rows.__dict__.setdefault("cox", {})
    if model not in held:
        while len(held) >= MOST_KEPT:
            held.pop(next(iter(held)))
        cases = cases_of(rows, model)
        held[model] = cases, cases.own_cells() if model.by_registry else cases.cells(times_of(rows.dictionary, model.time))
    return held[model]
