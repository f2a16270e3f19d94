"""How a result wants to be seen, as plain data: tables and pictures that `show.py` turns into frames, text, HTML and figures.

Analyses describe; nothing here or there imports pandas or matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Table:
    """A table of plain values; None is a number that was not released.

    columns : names. rows : one tuple per row. index : how many leading columns name the row.
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
    """A figure: `steps` (curves), `bars` (x labels, one series per group), `points` (estimate with interval), `heat` (matrix).

    below : a table drawn under the picture, such as numbers at risk, as (label, values at `below_at`).
    """

    kind: Literal["steps", "bars", "points", "heat"]
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
