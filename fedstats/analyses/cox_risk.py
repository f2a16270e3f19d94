"""Risk sums: at every time the sums of exp(eta), x exp(eta) and x x' exp(eta) over all who are at risk. The local half of Cox.

How this works. Rows are put in cells, one per stratum and time of the registered grid: a row is at risk in the cells after the one
where it enters, up to the one where it leaves ((start, stop]; a time falls at the next grid point, as in a life table). Sums over
the rows that leave in a cell are added up from the last cell to the first; those that enter in a cell or later are taken off.
Rows that enter and leave in one cell are never at risk: on a grid these are left out.

Columns lie in [-1, 1] by the dictionary (see `terms`). The first round counts which 256ths of that are used at all; from then on an
ask carries a `frame`, per column [shift, scale, low, high]: the mean and half the width of what is used, and the least and largest
value that (column - shift) / scale can have. So bounds are near what patients have, whatever the dictionary would allow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from .. import steady
from ..dictionary import RESERVED, Dictionary
from ..errors import QuestionError
from ..rows import Rows
from ..statistic import Block, statistic
from ..terms import Columns, Design, Term, single, variables_of
from ._common import group_of, groups
from .cox_likelihood import moments_size
from .survival import bin_of, times_of

NATS = 1.4426950408889634       # 1 / log 2: powers of two in a unit of eta
LARGEST_ETA = 60.0              # of a linear predictor: beyond it sums of exp(eta) hold nothing but one patient
USED_PARTS = 256            # of a column's range: how finely is known what is used of it; a power of two
NEVER = -1                      # the cell where somebody enters who was there from the start


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a Cox model is about, as every ask of it carries it.

    time : where a row leaves. event : whether with an event. entry : after which it is at risk. terms : the covariates.
    strata : variables with a baseline hazard per level. weights : a variable. offset : a term with coefficient 1.
    drop : columns that are left out, as nobody has the level.
    """

    time: str
    event: str
    terms: tuple[Term, ...]
    entry: str | None = None
    strata: tuple[str, ...] = ()
    weights: str | None = None
    offset: Term | None = None
    drop: tuple[str, ...] = ()

    @property
    def levels(self) -> tuple[str, ...]:
        """The strata that are variables."""
        return tuple(name for name in self.strata if name != RESERVED)

    @property
    def by_registry(self) -> bool:
        return RESERVED in self.strata

    def design(self, dictionary: Dictionary) -> Design:
        return Design.of(self.terms, dictionary, intercept=False, drop=self.drop)

    def offset_column(self, dictionary: Dictionary) -> Columns | None:
        return None if self.offset is None else single(self.offset, dictionary)

    @property
    def columns(self) -> tuple[str, ...]:
        """All variables that must be known."""
        names = [self.time, self.event, *([self.entry] if self.entry else []), *self.levels, *([self.weights] if self.weights else [])]
        return tuple(dict.fromkeys([*names, *variables_of((*self.terms, *((self.offset,) if self.offset else ())))]))

    def strata_count(self, dictionary: Dictionary) -> int:
        return math.prod(len(groups(dictionary, name)) for name in self.levels)

    def bounds(self, dictionary: Dictionary, beta: Sequence[float], frame: Sequence[Sequence[float]]) -> tuple[float, float, float]:
        """The largest weight, the largest |eta| and the largest weight times exp(eta) that a row can have, as powers of two."""
        weight = steady.power_of_two(dictionary[self.weights].high) if self.weights else 1.0
        offset = self.offset_column(dictionary)
        half = (offset.high[0] - offset.low[0]) / 2 if offset else 0.0
        top = math.fsum([max(b * low, b * high) for b, (_, _, low, high) in zip(beta, frame)]) + half
        eta = math.fsum([abs(b) * max(-low, high) for b, (_, _, low, high) in zip(beta, frame)]) + half
        if not eta <= LARGEST_ETA:
            raise QuestionError(f"the linear predictor may reach {eta:.3g} for values that the dictionary allows",
                                hint="give the covariates and the offset narrower ranges in the dictionary, or add a ridge penalty")
        return weight, eta, weight * math.ldexp(1.0, math.ceil(top * NATS))


@functools.lru_cache(maxsize=64)
def _read(raw: bytes) -> Model:
    return msgspec.json.decode(raw, type=Model)


def model_of(model: Any) -> Model:
    """The model that an ask carries as plain data."""
    return _read(msgspec.json.encode(model))


def as_frame(frame: Sequence[Sequence[float]]) -> np.ndarray:
    """The frame of an ask, shape (p, 4)."""
    return np.asarray(frame, dtype=float).reshape(-1, 4)


# -- rows in cells --------------------------------------------------------------------------------------------------------------


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
        """1 and the columns, in a frame, shape (n, p + 1). frame : shift and scale of each column, shape (p, 2 or more)."""
        found = np.ones((self.n, 1 + self.x.shape[1]))
        if frame is None:
            found[:, 1:] = self.x
        else:
            np.subtract(self.x, frame[:, 0], out=found[:, 1:])
            found[:, 1:] /= frame[:, 1]
        return found

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
        """Packed sums of ratio z z' per cell, shape (strata, times, moments); rows are sorted by cell."""
        found = np.zeros((self.strata * self.times, z.shape[1], z.shape[1]))
        weighted = z * ratio[:, None]
        used, start = np.unique(cell, return_index=True)
        for k, a, b in zip(used.tolist(), start.tolist(), [*start[1:].tolist(), len(cell)]):
            found[k] = z[a:b].T @ weighted[a:b]
        i, j = np.triu_indices(z.shape[1])
        return found[:, i, j].reshape(self.strata, self.times, -1)

    def risk(self, z: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Packed sums over all rows at risk in each cell, shape (strata, times, moments)."""
        found = from_the_end(self.cell_sums(z, ratio, self.by_exit))
        if self.enters is not None:
            late, cell = self.by_entry
            found -= from_the_end(self.cell_sums(z[late], ratio[late], cell))
        return found

    def tied(self, z: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Packed sums over the rows with an event in each cell."""
        return self.cell_sums(z[self.died], ratio[self.died], self.by_exit[self.died])

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


# -- from a registry's table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cases:
    """Complete cases as plain columns, in the order of the table; `offset` about the middle of its range."""

    x: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    time: np.ndarray
    event: np.ndarray
    entry: np.ndarray | None
    stratum: np.ndarray
    strata: int
    person: np.ndarray | None

    def cells(self, times: np.ndarray) -> Sorted:
        """The rows in the cells of a grid: a time falls at the next grid point; beyond the last one nothing happens."""
        leaves = bin_of(self.time, times)
        died = self.event & (leaves < len(times))
        # who enters at time 0 was there from the start: nothing happens before
        enters = None if self.entry is None else np.where(self.entry <= 0, NEVER, bin_of(self.entry, times))
        return sort(self.x, self.weight, self.offset, died, self.stratum, np.minimum(leaves, len(times) - 1), enters, self.person,
                    len(times), self.strata)

    def own_cells(self) -> Sorted:
        """The rows in cells of their own: one per time at which an event happened here."""
        times = np.unique(self.time[self.event])

        def last(values: np.ndarray) -> np.ndarray:
            return np.searchsorted(times, values, side="right") - 1

        return sort(self.x, self.weight, self.offset, self.event, self.stratum, last(self.time),
                    None if self.entry is None else last(self.entry), self.person, max(len(times), 1), self.strata)


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
    weight = cases.values(model.weights) if model.weights else np.ones(cases.n)
    return Cases(model.design(dictionary).matrix(cases), weight, offset, cases.values(model.time), cases.steps(model.event) == 1,
                 cases.values(model.entry) if model.entry else None, stratum, model.strata_count(dictionary), cases.person)


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


# -- what happened, once ------------------------------------------------------------------------------------------------------------


def _totals_layout(dictionary: Dictionary, *, model: Any) -> dict[str, Block]:
    read = model_of(model)
    p = len(read.design(dictionary))
    weight = read.bounds(dictionary, [], [])[0]
    return {"rows": Block(integer=True), "events": Block(integer=True), "lost": Block(integer=True), "w": Block((), weight),
            "x": Block((p,), weight), "xx": Block((p * (p + 1) // 2,), weight), "events_w": Block((), weight),
            "events_x": Block((p,), weight), "used": Block((p, USED_PARTS), integer=True)}


@statistic("cox_totals/1", layout=_totals_layout)
def cox_totals(rows: Rows, model: Any) -> dict:
    """Rows, events among them, events that the grid leaves out; the weighted sums of 1, x and x x' over all rows, and of 1 and x over
    the events that count; how many rows lie in each 256th of [-1, 1], per column."""
    cases, at = kept(rows, model_of(model))
    weighted = cases.x * cases.weight[:, None]
    part = np.minimum((cases.x + 1.0) * (USED_PARTS / 2), USED_PARTS - 1).astype(np.int64)
    used = np.array([np.bincount(column, minlength=USED_PARTS) for column in part.T]).reshape(-1, USED_PARTS)
    return {"rows": len(cases.time), "events": at.died.sum(), "lost": at.lost, "used": used, "w": cases.weight.sum(),
            "x": weighted.sum(axis=0), "xx": steady.pack(cases.x.T @ weighted), "events_w": at.weight[at.died].sum(),
            "events_x": at.event_sums(at.z()).sum(axis=0)}


def _events_layout(dictionary: Dictionary, *, model: Any) -> dict[str, Block]:
    read = model_of(model)
    p, shape = len(read.design(dictionary)), (read.strata_count(dictionary), len(times_of(dictionary, read.time)))
    weight = read.bounds(dictionary, [], [])[0]
    offset = read.offset_column(dictionary)
    blocks = {"events": Block(shape, integer=True), "x": Block((*shape, p), weight), "leaving": Block(shape, integer=True),
              "with_event": Block(shape, counts=True), "without": Block(shape, counts=True)}
    if read.weights:
        blocks["weight"] = Block(shape, weight)
    if read.entry:
        blocks["entering"] = Block(shape, integer=True)
    if offset:
        blocks["offset"] = Block((), steady.power_of_two(weight * ((offset.high[0] - offset.low[0]) / 2 or 1.0)))
    return blocks


@statistic("cox_events/1", layout=_events_layout)
def cox_events(rows: Rows, model: Any) -> dict:
    """Per stratum and time of the grid: events, their weight, the weighted sum of their covariates; rows that leave, and that enter
    late; people who leave with and without an event. And the weighted sum of the offsets of all events."""
    read = model_of(model)
    _, at = kept(rows, read)
    cells, died = at.strata * at.times, at.died
    shape = (at.strata, at.times)
    x = at.event_sums(at.z())
    sums: dict = {"events": at.count(died), "x": x.reshape(*shape, -1), "leaving": at.count(np.ones(at.n, dtype=bool)),
                  "with_event": at.people(died), "without": at.people(~died)}
    if read.weights:
        sums["weight"] = at.count(died, at.weight)
    if read.entry:
        sums["entering"] = np.bincount(at.by_entry[1], minlength=cells).reshape(shape)
    if read.offset:
        sums["offset"] = (at.weight * at.offset)[died].sum()
    return sums


# -- risk sums at a beta -------------------------------------------------------------------------------------------------------------


def _risk_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], efron: bool = True
                 ) -> dict[str, Block]:
    read = model_of(model)
    shape = (read.strata_count(dictionary), len(times_of(dictionary, read.time)), moments_size(len(beta)))
    # in its frame a column may reach 2, its square 4
    bound = 4.0 * read.bounds(dictionary, beta, frame)[2]
    return {"risk": Block(shape, bound)} | ({"tied": Block(shape, bound)} if efron else {})


@statistic("cox_risk/1", layout=_risk_layout)
def cox_risk(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], efron: bool = True) -> dict:
    """Per stratum and time of the grid the packed sums of w exp(eta) (1, x)(1, x)' over all at risk, and over the tied events (Efron).

    beta : of the columns in the frame.
    """
    _, at = kept(rows, model_of(model))
    z = at.z(as_frame(frame))
    ratio = at.ratio(z, np.asarray(beta, dtype=float))
    return {"risk": at.risk(z, ratio)} | ({"tied": at.tied(z, ratio)} if efron else {})
