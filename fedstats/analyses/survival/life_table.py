"""Life tables: who had the event and who was censored, by group and time interval; the local half that survival analyses share.

Which intervals of a life table may be shown is in `cuts`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...data.variable import ON_STEP, value_text
from ...errors import QuestionError
from ...sums.statistic import Block, statistic
from ..shared.common import group_of, groups

# -- the local half ------------------------------------------------------------------------------------------------------------


def times_of(dictionary: Dictionary, time: str) -> np.ndarray:
    """The times of the bins: 0 (those who leave at once), then the registered grid; bin k holds (times[k-1], times[k]]."""
    return np.array([0.0, *dictionary.grid(time)])


def bin_of(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The bin of each time; len(times) beyond the last one.

    A value a hair above its grid point (0.1 * 3 on a grid of 0.1) falls on that point.
    """
    return np.searchsorted(times + ON_STEP * np.diff(times).min(), values, side="left")


# Durations computed from dates in years, months or weeks differ in their last bits where they are the same. Times that differ by less
# than this share of themselves are one time: the tolerance of R's survival (timefix), which takes it of the mean time. Of the time itself,
# and of the largest one that the dictionary allows near 0, it is the same at every registry.
SAME_TIME, NEAR_ZERO = 2.0**-26, 2.0**-40


def same_times(high: float, *columns: np.ndarray | None) -> tuple[Any, ...]:
    """Columns of times in which those that count as the same are the same number: the first of each run. high : the largest time that the
    dictionary allows. None stays None.

    Therneau, vignette "Roundoff error and tied times" of R's survival; its function aeqSurv.
    """
    known = np.unique(np.concatenate([column for column in columns if column is not None]))
    first = np.diff(known, prepend=-np.inf) > np.maximum(SAME_TIME * np.abs(known), NEAR_ZERO * high)
    starts = known[first]
    return tuple(None if column is None else starts[np.searchsorted(starts, column, side="right") - 1] for column in columns)


def on_grid(grid: Sequence[float], time: float) -> float | None:
    """The time of a grid that a number stands for, or None: 2.1 stands for 3 * 0.7."""
    near = min(grid, key=lambda one: abs(one - time))
    return near if abs(near - time) <= ON_STEP * min(b - a for a, b in itertools.pairwise((0.0, *grid))) else None


def margins_of(by: Sequence[str]) -> list[tuple[str, ...]]:
    """Everybody, each grouping variable, and their combinations: () ("a",) ("b",) ("a", "b")."""
    return [one for size in range(len(by) + 1) for one in itertools.combinations(by, size)]


def _lines(dictionary: Dictionary, margin: Sequence[str], missing: bool) -> int:
    return math.prod(len(groups(dictionary, name, missing)) for name in margin)


def _layout(dictionary: Dictionary, *, time: str, event: str, by: Sequence[str] = (), missing: bool = False,
            ends: Sequence[Sequence[int]] | None = None) -> dict[str, Block]:
    bins = len(times_of(dictionary, time))
    blocks: dict[str, Block] = {}
    for m, margin in enumerate(margins_of(by)):
        lines = _lines(dictionary, margin, missing)
        shape = (lines, bins if ends is None else len(ends[m]))
        blocks |= {f"people{m}": Block((lines,), counts=True), f"events{m}": Block(shape, counts=True),
                   f"censored{m}": Block(shape, counts=True)}
    return blocks


@statistic("life_table/1", layout=_layout)
def life_table(rows: Rows, time: str, event: str, by: Sequence[str] = (), missing: bool = False,
               ends: Sequence[Sequence[int]] | None = None) -> dict:
    """People, events and censored per group and time bin, for everybody and for each margin of the grouping variables.

    Complete cases. A time falls at the next grid point; what lies beyond the last one is censored there.
    ends : per margin, where merged ranges of bins end (the last one is the number of bins); none: the bins themselves.
    """
    cases = rows.complete([time, event, *(() if missing else by)])
    times = times_of(rows.dictionary, time)
    place = bin_of(cases.values(time), times)
    died = (cases.steps(event) == 1) & (place < len(times))
    place = np.minimum(place, len(times) - 1)
    codes = {name: group_of(cases, name, missing) for name in by}
    sums: dict = {}
    for m, margin in enumerate(margins_of(by)):
        lines, bins = _lines(rows.dictionary, margin, missing), len(times)
        line = np.zeros(cases.n, dtype=np.int64)
        for name in margin:
            line = line * len(groups(rows.dictionary, name, missing)) + codes[name]
        where = place
        if ends is not None:
            where, bins = np.searchsorted(np.asarray(ends[m]), place, side="right"), len(ends[m])
        cells = np.bincount(2 * (line * bins + where) + died, minlength=2 * lines * bins).reshape(lines, bins, 2)
        sums |= {f"people{m}": cells.sum(axis=(1, 2)), f"events{m}": cells[..., 1], f"censored{m}": cells[..., 0]}
    return sums


def check_survival(dictionary: Dictionary, time: str, event: str, by: Sequence[str], missing: bool = False) -> None:
    """Whether these columns make a life table. Raises QuestionError with the remedy."""
    dictionary.grid(time)
    check_event(dictionary, event)
    if len({time, event, *by}) != 2 + len(by):
        raise QuestionError("time, event and grouping variables must be different columns")
    for name in by:
        groups(dictionary, name, missing)


def check_event(dictionary: Dictionary, event: str) -> None:
    """Whether a variable says that something happened. Raises QuestionError with the remedy."""
    happened = dictionary[event]
    if happened.type != "boolean" and not (happened.is_numeric and happened.ends == (0.0, 1.0) and happened.steps == 1):
        raise QuestionError(f'"{event}" is of type {happened.type}: an event is a boolean (true: it happened), or 0 and 1',
                            hint=f'declare "{event}" as boolean in the dictionary, or derive a boolean column')


def at_risk(exits: np.ndarray) -> np.ndarray:
    """Patients still under observation just before each time.

    exits : array, shape (..., times); patients leaving (event or censored) at each time. Returns the same shape.

    Klein & Moeschberger (2003), Survival Analysis, section 4.2.
    """
    return np.cumsum(exits[..., ::-1], axis=-1)[..., ::-1]


def beyond_note(dictionary: Dictionary, time: str) -> tuple[str, ...]:
    """A sentence where the range of the time goes beyond its grid."""
    variable, last = dictionary[time], dictionary.grid(time)[-1]
    if variable.high <= last * (1 + SAME_TIME):
        return ()
    return (f"follow-up beyond {value_text(variable, last)} {variable.unit}".rstrip() + " is administratively censored there "
            "(how many is not shown)",)


# -- the log-rank score ---------------------------------------------------------------------------------------------------------


def scores(events: np.ndarray, censored: np.ndarray, rho: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted observed and expected events per group, and the covariance of their difference, in one stratum.

    events, censored : shape (groups, times). rho : 0 log-rank, 1 Peto-Peto, weights S(t-)^rho with the pooled Kaplan-Meier
    curve. The covariance is hypergeometric with the tie term (n - d) / (n - 1).
    Returns shapes (groups,), (groups,), (groups, groups).

    Fleming & Harrington (1991), Counting Processes and Survival Analysis, section 7.2; Klein & Moeschberger (2003), 7.3.
    """
    n = at_risk(events + censored).astype(float)
    d, N = events.sum(axis=0).astype(float), n.sum(axis=0)
    share = np.divide(n, N, out=np.zeros_like(n), where=N > 0)
    hazard = np.divide(d, N, out=np.zeros_like(d), where=N > 0)
    weight = np.concatenate([[1.0], np.cumprod(1 - hazard)[:-1]]) ** rho
    tied = np.divide(d * (N - d), N - 1, out=np.zeros_like(d), where=N > 1) * weight**2
    variance = np.diag((share * tied).sum(axis=1)) - (share * tied) @ share.T
    return (events * weight).sum(axis=1), (share * (d * weight)).sum(axis=1), variance
