"""The traces (`dropped`) of rows and cells of a file that cannot be read: whose they are, and when it may have been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...data.cells import PART, span
from ...data.dictionary import Dictionary
from ...data.tables import Cells
from .dmt import NOT_DMT
from .dropped import FOREVER, NEVER, ROW, Dropped
from .registry import DATED, WORDS

Spread = Mapping[
    str, tuple[np.ndarray, list[Any], list[str]]
]  # by column: code of each row, values, rules
MEASURED = ("visits", "mri")  # tables whose cells are measurements of a day
DIED = "death"  # the level of exit_reason


def of_file(
    name: str,
    raw: Mapping[str, Cells],
    spread: Spread,
    keep: np.ndarray,
    drugs: np.ndarray,
    codebook: Dictionary,
) -> dict[str, Dropped]:
    """Traces by column (`ROW` of whole rows); patients by the code of their cell, -1 where it cannot be read.

    raw : the cells. spread : their values and the rules that they break. keep : rows that stay, shape (rows,).
    drugs : of treatments, shape (rows,).
    """
    if "patient_id" not in spread:
        return {}
    if name == "patients":
        return {"death_date": _deaths(raw, spread, keep, codebook)}
    found = {ROW: _rows(name, raw, spread, ~keep, drugs)}
    if name in MEASURED:
        found |= {
            column: _cells(name, column, spread, keep)
            for column in spread
            if column not in WORDS and column != DATED[name]
        }
    return {column: one for column, one in found.items() if one.n}


def _who(spread: Spread, rows: np.ndarray) -> np.ndarray:
    codes, values, _ = spread["patient_id"]
    known = np.array([value is not None for value in values])
    return np.where(known[codes], codes, -1)[rows]


def _rows(
    name: str, raw: Mapping[str, Cells], spread: Spread, gone: np.ndarray, drugs: np.ndarray
) -> Dropped:
    """Rows that were dropped, if they say more than whose they are."""
    rows = np.flatnonzero(gone & says_something(spread))
    if not len(rows):
        return Dropped.of(np.zeros(0, np.int64))
    first, last = _days(DATED[name], raw, spread, rows)
    if name != "treatments":
        return Dropped.of(_who(spread, rows), first, last)
    _, ended = (
        _days("end_date", raw, spread, rows)
        if "end_date" in spread
        else (None, np.full(len(rows), FOREVER))
    )
    found = Dropped.of(_who(spread, rows), first, np.minimum(last, ended), ended, drugs[rows])
    return found.where(found.dmt != NOT_DMT)


def _cells(name: str, column: str, spread: Spread, keep: np.ndarray) -> Dropped:
    """Cells of kept rows that are missing because they cannot be read."""
    codes, values, rules = spread[column]
    lost = np.array([value is None and rule != "" for value, rule in zip(values, rules)])
    rows = np.flatnonzero(keep & lost[codes])
    day, days, _ = spread[DATED[name]]
    return Dropped.of(_who(spread, rows), _numbers(days)[day[rows]])


def _deaths(
    raw: Mapping[str, Cells], spread: Spread, keep: np.ndarray, codebook: Dictionary
) -> Dropped:
    """Deaths whose day cannot be read, or is not given: whoever left because of death is not alive."""
    rows = np.zeros(len(keep), dtype=bool)
    if "death_date" in spread:
        codes, values, rules = spread["death_date"]
        rows |= np.array([value is None and rule != "" for value, rule in zip(values, rules)])[
            codes
        ]
    if "exit_reason" in spread and DIED in (codebook["exit_reason"].labels or ()):
        codes, values, _ = spread["exit_reason"]
        died = (_numbers(values) == (codebook["exit_reason"].labels or ()).index(DIED))[codes]
        rows |= died & ~_known(spread, "death_date", len(keep))
    places = np.flatnonzero(rows & keep)
    first, last = (
        _days("death_date", raw, spread, places) if "death_date" in spread else (NEVER, FOREVER)
    )
    return Dropped.of(_who(spread, places), first, last)


def _days(
    column: str, raw: Mapping[str, Cells], spread: Spread, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and last day that the dates of some rows may mean; infinite where they say nothing."""
    codes, values, rules = spread[column]
    cells: Sequence[Any] = [*raw[column].distinct, None]
    spans = [
        (value, value) if value is not None else span(cell) if rule == PART else None
        for cell, value, rule in zip(cells, values, rules)
    ]
    both = np.array([one or (NEVER, FOREVER) for one in spans], dtype=float).reshape(-1, 2)
    return both[codes[rows], 0], both[codes[rows], 1]


def _numbers(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _known(spread: Spread, column: str, rows: int) -> np.ndarray:
    if column not in spread:
        return np.zeros(rows, dtype=bool)
    codes, values, _ = spread[column]
    return np.array([value is not None for value in values])[codes]


def says_something(spread: Spread) -> np.ndarray:
    """Rows with anything in them besides whose they are: a line that a form left empty is no relapse."""
    found = np.zeros(len(spread["patient_id"][0]), dtype=bool)
    for column, (codes, values, rules) in spread.items():
        if column not in ("patient_id", "visit_id"):
            found |= np.array(
                [value is not None or rule != "" for value, rule in zip(values, rules)]
            )[codes]
    return found
