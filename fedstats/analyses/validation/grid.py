"""The public grids on which it is counted which patients a model has seen: cells of one covariate, and of the distance between two.

How this works. Cells are the registered bins, and, since the outer ones often reach to the end of the range (70 years or more), as many
more of the neighbouring width beyond them. So they follow from the dictionary alone and nobody can slide them. A category has its levels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...data.variable import ON_STEP, Variable
from ...errors import QuestionError

MOST_CELLS = 64             # of one covariate; of finer bins every second, third ... edge is one
MOST_BEYOND = 24            # cells beyond the outermost registered cut, on each side


def edges_of(dictionary: Dictionary, name: str) -> tuple[float, ...] | None:
    """Where cells of a covariate begin, and the end of the last one; None for levels. Increasing doubles."""
    variable = dictionary[name]
    if variable.labels is not None:
        return None
    try:
        edges = dictionary.bins(name).edges
    except QuestionError:       # drawn trees need no cut points
        edges = None
    edges = edges or (variable.low, variable.high)
    inner = [one for one in edges if variable.low < one < variable.high]
    if not inner:
        return _evenly(variable.low, variable.high)
    below = _beyond(inner[0], inner[min(1, len(inner) - 1)] - inner[0] or inner[0] - variable.low, variable.low)
    above = _beyond(inner[-1], inner[-1] - inner[-min(2, len(inner))] or variable.high - inner[-1], variable.high)
    found = [*reversed(below), *inner, *above]
    return tuple(_thinned(found))


def _evenly(low: float, high: float) -> tuple[float, ...]:
    return tuple(low + (high - low) * k / MOST_BEYOND for k in range(MOST_BEYOND)) + (high,)


def _beyond(start: float, width: float, end: float) -> list[float]:
    """Edges from a cut outwards to the end of the range, in steps of a width, or of twice, three times it where they were too many."""
    reach = abs(end - start)
    width = width * max(1, math.ceil(reach / width / MOST_BEYOND - ON_STEP))
    count = math.ceil(reach / width - ON_STEP)
    sign = 1.0 if end > start else -1.0
    return [start + sign * width * k for k in range(1, count)] + [end]


def _thinned(edges: Sequence[float]) -> list[float]:
    every = -(-(len(edges) - 1) // MOST_CELLS)
    kept = list(edges[:-1:every])
    return [*kept, edges[-1]]


def cells_of(dictionary: Dictionary, name: str) -> int:
    """How many cells a covariate has, without the one of those missing."""
    edges = edges_of(dictionary, name)
    return len(dictionary[name].labels or ()) if edges is None else len(edges) - 1


def place_in(edges: Sequence[float], values: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """The cell of each value, int64; -1 for NaN. The last cell holds its upper end; beyond the ends values are in the outer cells."""
    found = np.searchsorted(np.asarray(edges[1:-1]) - slack, values, side="right")
    return np.where(np.isnan(values), -1, found)


def places(rows: Rows, name: str) -> np.ndarray:
    """The cell of each row's value, -1 where missing."""
    edges = edges_of(rows.dictionary, name)
    if edges is None:
        return rows.steps(name)
    return place_in(edges, rows.values(name), ON_STEP * (rows.dictionary[name].unit_step or 0.0))


def alike(dictionary: Dictionary, covariates: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of numbers in the same unit, the one with the wider range first: of these the distance tells whether both can be true."""
    numbers = [dictionary[name] for name in covariates if dictionary[name].is_numeric and dictionary[name].unit]
    pairs = [(a, b) for a, b in itertools.combinations(numbers, 2) if a.unit == b.unit]
    return [(a.name, b.name) if _reach(a) >= _reach(b) else (b.name, a.name) for a, b in pairs]


def distance_edges(dictionary: Dictionary, first: str, second: str) -> tuple[float, ...]:
    """The cells of first - second, of the width that most bins of either have, whichever is finer; a border lies at 0."""
    a, b = dictionary[first], dictionary[second]
    low, high = a.low - b.high, a.high - b.low
    width = min(_usual_width(dictionary, first), _usual_width(dictionary, second))
    width *= max(1, math.ceil((high - low) / width / MOST_CELLS))
    return tuple(width * k for k in range(math.floor(low / width), math.ceil(high / width) + 1))


def _usual_width(dictionary: Dictionary, name: str) -> float:
    edges = edges_of(dictionary, name)
    assert edges is not None
    widths = sorted(b - a for a, b in itertools.pairwise(edges))
    return widths[len(widths) // 2]


def _reach(variable: Variable) -> float:
    return variable.high - variable.low
