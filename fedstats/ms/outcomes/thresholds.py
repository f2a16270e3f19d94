"""The smallest change of an outcome that counts as worsening or improvement: a table, not code.

`thresholds.json` is the table that ships; `thresholds=` of `worsening` takes another one of the same form. A change counts if it is
at least `points + share * reference`, and never more than `at_most` is asked; the row is the last one whose `from` is not above the
reference. The same row serves both directions: worsening and improvement.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError

HALF_STEPS = (5.5, 6.0)         # EDSS from which half a point counts: trials and MSprog, or MSBase
FIELDS = {"from", "points", "share", "at_most"}


@dataclass(frozen=True)
class Threshold:
    """How an outcome is read and which change counts. table : array (rows, 4); columns from, points, 1/share (inf: none), at most."""

    name: str
    title: str
    unit: str
    worse: int                  # +1: higher is worse, -1: lower is worse
    range: tuple[float, float]
    step: float | None
    table: np.ndarray
    source: str

    def smallest_change(self, reference: float) -> float:
        """The change that counts from this reference on."""
        row = self.table[max(int(np.searchsorted(self.table[:, 0], reference, "right")) - 1, 0)]
        return float(min(row[1] + reference / row[2], row[3]))

    def describe(self) -> str:
        """The rule in words: "1.5 points (from a reference of 0 on), 1 point (from 0.5 on), 0.5 points (from 5.5 on)"."""
        return ", ".join(_row_text(row, self) for row in self.table)


def outcomes() -> list[str]:
    """Outcomes that ship with thresholds."""
    return list(_shipped())


def threshold(outcome: str, *, half_step_from: float = 5.5, thresholds: Mapping[str, Any] | None = None) -> Threshold:
    """The rule of one outcome. thresholds : {"changes": [...]} and any other field of thresholds.json, in place of the shipped ones.

    Raises InputError for an outcome that does not ship unless `thresholds` says at least `worse` and `changes`.
    """
    if half_step_from not in HALF_STEPS:
        raise InputError(f"half_step_from is {half_step_from}", hint="5.5 (trials, MSprog) or 6.0 (MSBase)")
    given = dict(thresholds or {})
    fields = {**_shipped().get(outcome, {}), **given}
    if not {"worse", "changes"} <= set(fields):
        raise InputError(f'there are no thresholds for the outcome "{outcome}"', hint=f'outcomes are {", ".join(outcomes())}; '
                         'for another one give thresholds={"worse": "higher", "changes": [...]}')
    if fields["worse"] not in ("higher", "lower"):
        raise InputError(f'"worse" of {outcome} is {fields["worse"]!r}', hint='"higher" or "lower"')
    low, high = fields.get("range") or (-math.inf, math.inf)
    worse, table = 1 if fields["worse"] == "higher" else -1, _table(fields["changes"], outcome, half_step_from)
    return Threshold(outcome, str(fields.get("title", outcome)), str(fields.get("unit", "points")), worse, (float(low), float(high)),
                     fields.get("step"), table, str(fields.get("source", "")))


def _table(changes: Any, outcome: str, half_step_from: float) -> np.ndarray:
    rows = []
    for change in changes:
        if not isinstance(change, Mapping) or not set(change) <= FIELDS or not {"points", "share"} & set(change):
            raise InputError(f"thresholds of {outcome}: {change!r} is not a rule",
                             hint='write {"from": 0, "points": 1.5} or {"share": 0.2, "at_most": 4}')
        start = change.get("from", -math.inf)
        share = float(change.get("share", 0))
        rows.append([half_step_from if start == "half_step_from" else float(start), float(change.get("points", 0)),
                     1 / share if share else math.inf, float(change.get("at_most", math.inf))])
    table = np.array(rows, float)
    if not len(table) or (np.diff(table[:, 0]) <= 0).any() or (table[:, 1] < 0).any() or (table[:, 2:] <= 0).any():
        raise InputError(f"thresholds of {outcome} must be a list of positive changes with increasing from")
    return table


def _row_text(row: np.ndarray, rule: Threshold) -> str:
    start, points, part, most = row
    size = [f"{points:g} {rule.unit.removesuffix('s') if points == 1 else rule.unit}"] if points else []
    if np.isfinite(part):
        size.append(f"{100 / part:g} % of the reference")
    text = " plus ".join(size) + (f", {most:g} {rule.unit} at most" if np.isfinite(most) else "")
    if len(rule.table) == 1:
        return text
    return f"{text} (from {'a reference of ' if start == rule.table[0, 0] else ''}{start:g} on)"


@functools.cache
def _shipped() -> dict[str, dict[str, Any]]:
    return json.loads(Path(__file__).with_name("thresholds.json").read_text("utf-8"))
