"""Values as other libraries hold them, turned into Python's own: whoever writes a dictionary, a
filter or a question takes numbers from numpy and pandas as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def native(value: Any) -> Any:
    """The same value without numpy: its numbers, texts and truth values as Python's, arrays as
    lists; inside dicts, lists and tuples too.

    Anything else stays as it is, to be judged by whoever takes it.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return [native(one) for one in value.tolist()]
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
