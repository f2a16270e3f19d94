"""Numbers of few values: their mean and SD are a table of people in disguise.

How this works. Relapses of a group are 0, 1 or 2 for nearly everybody. Then n, mean and SD are three
equations for how many have each: the table of rare values follows, to the last person. What decides is
not the range of the dictionary but where the values of this group lie: a number has few values where
fewer than `FEW_STEPS` steps of the dictionary lie within mean +- 2 SD. It is told from the totals, in
whole numbers of any size, so that every registry comes to the same end.

Of such a number either everything is shown, if the whole table of its values could be; or its mean alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FEW_STEPS = 8           # RELEASE, few-valued numbers: a starting value, the audit may move it
SPREAD = 2              # SDs on both sides of the mean within which steps are counted


def few_valued(n: int, x: int, xx: int, steps: int) -> bool:
    """Whether a number has few values in a group.

    n : people. x, xx : sum and sum of squares of whole steps above the lower end. steps : how many the
    dictionary allows.
    """
    if n < 2:
        return True
    # |value - x / n| <= 2 SD, both sides squared and multiplied by n^2 (n - 1): whole numbers
    reach = SPREAD * SPREAD * n * (n * xx - x * x)
    middle = min(max((2 * x + n) // (2 * n), 0), steps)

    def inside(value: int) -> bool:
        return 0 <= value <= steps and (n - 1) * (n * value - x) ** 2 <= reach

    first = next((k for k in range(middle, middle - FEW_STEPS - 1, -1) if not inside(k - 1)), middle - FEW_STEPS)
    last = next((k for k in range(middle, middle + FEW_STEPS + 1) if not inside(k + 1)), middle + FEW_STEPS)
    return last - first < FEW_STEPS


def few_in(counts: Any) -> bool:
    """Whether values that are counted are few. counts : people per value, in order, at equal distances."""
    people = [int(one) for one in np.asarray(counts).ravel()]
    return few_valued(sum(people), sum(k * one for k, one in enumerate(people)),
                      sum(k * k * one for k, one in enumerate(people)), len(people) - 1)
