"""Values as other libraries hold them, turned into Python's own: whoever writes a dictionary, a
filter, a question or a few new patients takes numbers from numpy and pandas as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import QuestionError


def native(value: Any) -> Any:
    """The same value without numpy: its numbers, texts and truth values as Python's, arrays as
    lists; inside dicts, lists and tuples too.

    Anything else stays as it is, to be judged by whoever takes it.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [native(one) for one in value.tolist()] if value.ndim else native(value[()])
    if isinstance(value, Mapping):
        return {native(name): native(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(native(one) for one in value)
    return value


def listed(value: Any) -> Any:
    """What holds several values, a column of a frame say, as a list; anything else as it is."""
    if isinstance(value, (list, tuple, set, frozenset, range)) or (
        hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1
    ):
        return [native(one) for one in (value.tolist() if hasattr(value, "tolist") else value)]
    return native(value)


def table_of(given: Any) -> Any:
    """A few rows as they are written by hand, as columns; any other table as it is.

    given : a dict of one value or a list of values per column, where a single value stands for all
        rows and an empty list is nobody; one row of a data frame; a list of dicts, one per row.
    Raises QuestionError for columns of different lengths.
    """
    if hasattr(given, "to_dict") and getattr(given, "ndim", 0) == 1:
        given = given.to_dict()
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, Mapping) for one in given):
        names = dict.fromkeys(name for one in given for name in one)
        given = {name: [one.get(name) for one in given] for name in names}
    if not isinstance(given, Mapping):
        return given
    found = {str(name): listed(value) for name, value in given.items()}
    lengths = {len(one) for one in found.values() if isinstance(one, list)}
    if len(lengths) > 1:
        raise QuestionError(
            "new patients have columns of different lengths",
            hint="give one value, or a list as long as the others",
        )
    n = lengths.pop() if lengths else 1
    return {
        name: np.asarray(one if isinstance(one, list) else [one] * n, dtype=None if n else object)
        for name, one in found.items()
    }
