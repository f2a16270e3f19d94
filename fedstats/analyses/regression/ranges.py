"""Narrower ranges for the covariates of models, where that of the dictionary is far wider than what
patients have.

How this works. Models run on columns that are scaled by their range, and sums are carried to 53
bits of the most that a patient could add. Of values within a few units of a range of a million
nothing is left. So the first round of a model also brings the spread of such columns
(`spread_of`); where it is lost in the range, `narrower` proves a range that holds all values, the
model takes that in place of the dictionary's, and its first sums are asked again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...formula.terms import Log, Polynomial, Power, Term, Variable, factors_of
from ...sums.statistic import Block, Sums, statistic

MANY_STEPS = 1000           # fewer would lose digits only where nearly everybody has the same value
PARTS = 64                  # of a narrower range: how finely is known what is used of it

Ranges = Sequence[tuple[str, float, float]]


@functools.lru_cache(maxsize=64)
def narrowed(dictionary: Dictionary, ranges: tuple[tuple[str, float, float], ...]) -> Dictionary:
    """A dictionary in which some variables have narrower ranges: those that all values were found
    to lie in."""
    narrow = {name: (low, high) for name, low, high in ranges}
    variables = tuple(
        msgspec.structs.replace(one, range=narrow[one.name]) if one.name in narrow else one
        for one in dictionary.variables
    )
    return msgspec.structs.replace(dictionary, variables=variables)


def far_reaching(
    terms: Sequence[Term], dictionary: Dictionary, also: Iterable[str] = ()
) -> list[str]:
    """Numbers that a model scales by their range, without a step or with many, whose range means
    nothing beside that. also : such numbers that are no terms, an outcome say."""
    factors = [factor for term in terms for factor in factors_of(term)]
    fixed = {
        one.name for one in factors if not isinstance(one, (Variable, Power, Polynomial, Log))
    }
    names = dict.fromkeys([*also, *(one.name for one in factors)])
    return [name for name in names if name not in fixed and _many_steps(dictionary, name)]


def _many_steps(dictionary: Dictionary, name: str) -> bool:
    variable = dictionary[name]
    if not variable.is_numeric or variable.levels:
        return False
    return (variable.steps or MANY_STEPS) >= MANY_STEPS


def as_ranges(found: dict[str, list[float]]) -> tuple[tuple[str, float, float], ...]:
    """Ranges by name as asks carry them."""
    return tuple((name, low, high) for name, (low, high) in sorted(found.items()))


def as_tuples(ranges: Sequence[Sequence[Any]]) -> tuple[tuple[str, float, float], ...]:
    """Ranges as they come in an ask, for `narrowed`."""
    return tuple((str(name), float(low), float(high)) for name, low, high in ranges)


# -- what is used of a narrower range
# ----------------------------------------------------------------------------------------


def _layout(
    dictionary: Dictionary, *, columns: Sequence[str], ranges: Ranges, **_: Any
) -> dict[str, Block]:
    return {"used": Block((len(ranges), PARTS), integer=True)}


@statistic("range_parts/1", layout=_layout)
def range_parts(rows: Rows, columns: Sequence[str], ranges: Ranges) -> dict:
    """How many rows lie in each 64th of narrower ranges, complete cases of `columns`."""
    cases = rows.complete(columns)
    found = np.zeros((len(ranges), PARTS), dtype=np.int64)
    for k, (name, low, high) in enumerate(ranges):
        place = np.floor((cases.values(name) - low) * (PARTS / (high - low)))
        found[k] = np.bincount(np.clip(place, 0, PARTS - 1).astype(np.int64), minlength=PARTS)
    return {"used": found}


def trimmed(ranges: Ranges, totals: Sums) -> tuple[tuple[str, float, float], ...]:
    """The ranges without the parts at their ends that nobody has. totals : of `range_parts`."""
    found = []
    for (name, low, high), used in zip(ranges, totals["used"].tolist()):
        there = [k for k, count in enumerate(used) if count] or [0, PARTS - 1]
        # a part more on both sides, for the rounding of a place
        first, last = max(there[0] - 1, 0), min(there[-1] + 2, PARTS)
        part = (high - low) / PARTS
        found.append((name, low + first * part, low + last * part if last < PARTS else high))
    return tuple(found)
