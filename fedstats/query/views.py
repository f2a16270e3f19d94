"""How a result wants to be seen, as plain data: tables and pictures that `show.py` turns into frames, text, HTML and figures.

Analyses describe; nothing here or there imports pandas or matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

THIN = "\u202f"             # narrow no-break space between thousands, for HTML and pictures; terminals get a plain space


def count_text(value: int) -> str:
    """People, with a space between thousands: 1 542."""
    return f"{value:,}".replace(",", THIN)


@dataclass(frozen=True)
class Table:
    """A table of plain values; None is a number that was not released, NaN one that does not apply.

    columns : names. rows : one tuple per row. index : how many leading columns name the row. Readers see two neighbouring
    columns of doubles called `..low`/`..high` (or `..lower`/`..upper`) as one interval, and columns `p`, `p_..`, `.._p` as p
    values. Whole numbers are counts. A note that quotes a row's name and says "(rule ...)" is the reason for the gaps of that row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    index: int = 1
    title: str = ""


@dataclass(frozen=True)
class Curve:
    """A step function with an optional band: x increasing; y, low, high of the same length, None = not released."""

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A figure: `steps` and `bounds` (curves), `bars` (x labels, one series per group), `points` (estimate with interval), `heat` (matrix).

    steps : `curves`; y runs from 0 to 1 where it can, unless it is called "density".
    bounds : curves known at their places only, with intervals; between two places they lie between their values.
    bars : `labels` along x, one series per group. x says what the labels are, y what the values are.
    points : `labels`, and series in threes (estimate, low, high); x and y as for bars. A "ratio" gets a logarithmic axis.
    heat : one series per row, named, and `columns`.
    marks : places of reference lines. y_range : instead of the range of the values; of the colours for heat.
    below : a table drawn under the picture, such as numbers at risk, as (label, values at `below_at`).
    """

    kind: Literal["steps", "bounds", "bars", "points", "heat"]
    title: str
    x: str = ""
    y: str = ""
    curves: tuple[Curve, ...] = ()
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, tuple[float | None, ...]], ...] = ()
    columns: tuple[str, ...] = ()
    below_at: tuple[float, ...] = ()
    below: tuple[tuple[str, tuple[int | None, ...]], ...] = ()
    y_range: tuple[float, float] | None = None
    marks: tuple[float, ...] = field(default=())
