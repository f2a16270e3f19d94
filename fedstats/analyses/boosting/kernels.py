"""The loops over rows: sums of gradients per node and bin, and the way of each row through a tree. Compiled by numba where it is installed.

Whole numbers throughout, so the order of rows does not matter. Without numba the same numbers come from numpy, some eight times slower.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np


def _add_up(places: Any, slot: Any, values: Any, sums: Any) -> None:
    """sums[slot of the row, bin, channel] += value, for all features; slot -1: the row is in no asked node.

    Two channels alone are written out: twice as fast as a loop over them.
    """
    for row in range(places.shape[0]):
        node = slot[row]
        if node < 0:
            continue
        if values.shape[1] == 2:
            gradient, hessian = values[row, 0], values[row, 1]
            for k in range(places.shape[1]):
                bin_ = places[row, k]
                sums[node, bin_, 0] += gradient
                sums[node, bin_, 1] += hessian
        else:
            for k in range(places.shape[1]):
                bin_ = places[row, k]
                for channel in range(values.shape[1]):
                    sums[node, bin_, channel] += values[row, channel]


def _walk(places: Any, left: Any, right: Any, feature: Any, below: Any, missing_left: Any, size: Any, found: Any) -> None:
    """found[row] = the leaf of the row: left if its bin is below `below`, missing values (bin `size`) where they go."""
    for row in range(places.shape[0]):
        node = 0
        while left[node] >= 0:
            place = places[row, feature[node]]
            if place == size:
                node = left[node] if missing_left[node] else right[node]
            else:
                node = left[node] if place < below[node] else right[node]
        found[row] = node


@cache
def compiled(loop: Any) -> Any:
    """A loop as machine code, compiled at the first call and cached beside the file where that can be written; None without numba."""
    try:
        from numba import njit  # late: half a second that only training needs
    except ImportError:
        return None
    try:
        return njit(cache=True, nogil=True)(loop)
    except RuntimeError:
        return njit(nogil=True)(loop)


def histograms(places: np.ndarray, slot: np.ndarray, values: np.ndarray, nodes: int, bins: int) -> np.ndarray:
    """Sums per node, bin and channel, int64, shape (nodes, bins, channels).

    places : int32, shape (rows, features), the bin among all bins; `bins` itself where missing. slot : int32, -1 outside.
    values : int64, shape (rows, channels).
    """
    fast = compiled(_add_up)
    if fast is not None:
        sums = np.zeros((nodes, bins + 1, values.shape[1]), dtype=np.int64)
        fast(places, slot, values, sums)
        return sums[:, :bins]
    inside = slot >= 0
    flat = (slot[inside, None].astype(np.int64) * (bins + 1) + places[inside]).T
    found = np.zeros((nodes * (bins + 1), values.shape[1]), dtype=np.int64)
    for channel in range(values.shape[1]):
        # doubles below 2^53 add whole numbers exactly
        weight = values[inside, channel].astype(float)
        for column in flat:
            found[:, channel] += np.bincount(column, weight, minlength=len(found)).astype(np.int64)
    return found.reshape(nodes, bins + 1, -1)[:, :bins]


def walk(places: np.ndarray, left: np.ndarray, right: np.ndarray, feature: np.ndarray, below: np.ndarray, missing_left: np.ndarray,
         size: int) -> np.ndarray:
    """The node of a tree in which each row ends, int64, shape (rows,). left, right, feature, below, missing_left : per node."""
    found = np.zeros(len(places), dtype=np.int64)
    fast = compiled(_walk)
    if fast is not None:
        columns = (np.ascontiguousarray(one) for one in (left, right, feature, below, missing_left))
        fast(places, *columns, size, found)
        return found
    moving = np.flatnonzero(left[found] >= 0)
    while len(moving):
        here = found[moving]
        place = places[moving, feature[here]]
        goes_left = np.where(place == size, missing_left[here] == 1, place < below[here])
        found[moving] = np.where(goes_left, left[here], right[here])
        moving = moving[left[found[moving]] >= 0]
    return found
