"""What Cox regression asks of rows on the grid: totals and events in the first round, risk sums at every beta.

Risk sums are, at every time, the sums of w exp(eta) times 1 and x over all who are at risk; with Efron's method also over
the tied events. See `rows` for who is at risk when, `model` for the frame of the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums import steady
from fedstats.sums.statistic import Block, statistic

from ...survival.life_table import times_of
from .model import as_frame, model_of
from .rows import kept

USED_PARTS = 256            # of a column's range: how finely is known what is used of it; a power of two


def _totals_layout(dictionary: Dictionary, *, model: Any) -> dict[str, Block]:
    read = model_of(model)
    p = len(read.design(dictionary))
    weight = read.bounds(dictionary, [], [])[0]
    return {"rows": Block(integer=True), "events": Block(integer=True), "lost": Block(integer=True), "w": Block((), weight),
            "x": Block((p,), weight), "xx": Block((p * (p + 1) // 2,), weight), "events_w": Block((), weight),
            "events_ww": Block((), weight * weight), "events_x": Block((p,), weight), "used": Block((p, USED_PARTS), integer=True)}


@statistic("cox_totals/2", layout=_totals_layout)
def cox_totals(rows: Rows, model: Any) -> dict:
    """Rows of a weight above 0, events among them, events that the grid leaves out; the weighted
    sums of 1, x and x x' over all rows, and of 1 and x over the events that count; the sum of the
    squared weights of these; how many rows lie in each 256th of [-1, 1], per column."""
    cases, at = kept(rows, model_of(model))
    weighted = cases.x * cases.weight[:, None]
    return {
        "rows": (cases.weight > 0).sum(),
        "events": at.died.sum(),
        "lost": at.lost,
        "used": used_parts(cases.x),
        "w": cases.weight.sum(),
        "x": weighted.sum(axis=0),
        "xx": steady.pack(cases.x.T @ weighted),
        "events_w": at.weight[at.died].sum(),
        "events_ww": (at.weight[at.died] ** 2).sum(),
        "events_x": at.event_sums(at.z()).sum(axis=0),
    }


def used_parts(x: np.ndarray) -> np.ndarray:
    """How many rows lie in each 256th of [-1, 1], per column: shape (p, 256)."""
    part = np.minimum((x + 1.0) * (USED_PARTS / 2), USED_PARTS - 1).astype(np.int64)
    return np.array([np.bincount(column, minlength=USED_PARTS) for column in part.T]).reshape(-1, USED_PARTS)


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


def _risk_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], efron: bool = True
                 ) -> dict[str, Block]:
    read = model_of(model)
    shape = (read.strata_count(dictionary), len(times_of(dictionary, read.time)), 1 + len(beta))
    # in its frame a column may reach 2
    bound = 2.0 * read.bounds(dictionary, beta, frame)[2]
    return {"risk": Block(shape, bound)} | ({"tied": Block(shape, bound)} if efron else {})


@statistic("cox_risk/1", layout=_risk_layout)
def cox_risk(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], efron: bool = True) -> dict:
    """Per stratum and time of the grid the sums of w exp(eta) times 1 and x over all at risk, and over the tied events (Efron).

    beta : of the columns in the frame.
    """
    _, at = kept(rows, model_of(model))
    z = at.z(as_frame(frame))
    ratio = at.ratio(z, np.asarray(beta, dtype=float))
    return {"risk": at.risk(z, ratio)} | ({"tied": at.tied(z, ratio)} if efron else {})
