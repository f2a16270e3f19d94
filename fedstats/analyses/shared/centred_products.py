"""Sums of products about means that are good to 1e-9: as `centred`, for the correlation of every pair of columns.

How this works. A pair of columns with steps is exact in the first pass. Of the others the first pass tells what it has lost; their columns
are summed again about their means, until the products are known as well as the squares that they are divided by.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...query.analysis import Setting
from ...sums.statistic import Ask, Block, Sums, statistic
from .centred import GOOD, MOST_PASSES, ROUNDING, Pass, largest, too_wide

Pair = tuple[int, int]


def _layout(dictionary: Dictionary, *, columns: Sequence[str], **_: object) -> dict[str, Block]:
    blocks: dict[str, Block] = {}
    for k in range(len(columns)):
        blocks |= {f"x{k}": Block(), f"xx{k}": Block(), f"differ{k}": Block(integer=True)}
    return blocks | {f"xy{j},{k}": Block() for j, k in itertools.combinations(range(len(columns)), 2)}


@statistic("centred_products/1", layout=_layout)
def centred_products(rows: Rows, columns: Sequence[str], needs: Sequence[str], origins: Sequence[float], units: Sequence[float]) -> dict:
    """Sums of the deviations of columns from an origin, in a unit, of their squares and of all products; people who deviate at all.

    needs : columns that must be known. origins, units : per column, in the unit of the variable."""
    cases, sums = rows.complete(needs), dict[str, Any]()
    far = [(cases.values(name) - origin) / unit for name, origin, unit in zip(columns, origins, units)]
    for k, x in enumerate(far):
        sums |= {f"x{k}": math.fsum(x.tolist()), f"xx{k}": math.fsum((x * x).tolist()), f"differ{k}": (x != 0).sum()}
    return sums | {f"xy{j},{k}": math.fsum((far[j] * far[k]).tolist()) for j, k in itertools.combinations(range(len(far)), 2)}


@dataclass(frozen=True)
class Product:
    """Of two columns the squared deviations of each and the product of the deviations, in any units: what a correlation needs."""

    left: float
    right: float
    both: float


def settled_products(sums: Sums, names: Sequence[str], setting: Setting, pairs: Sequence[Pair]
                     ) -> Generator[list[Ask], list[Sums], dict[Pair, Product]]:
    """The products of these pairs from the totals of `products`, with further rounds where these have lost digits.

    Raises QuestionError with the remedy.
    """
    n, registries = int(sums["n"]), setting.registries
    variables = [setting.dictionary[name] for name in names]
    found: dict[Pair, Product] = {}
    if not n:
        return {pair: Product(0.0, 0.0, 0.0) for pair in pairs}
    passes, exact = {}, {}
    for k, variable in enumerate(variables):
        x, xx, steps = sums[f"x{k}"].item(), sums[f"xx{k}"].item(), variable.steps
        if steps is not None:
            exact[k] = (n * xx - x * x) / (max(steps, 1) ** 2 * n)
            x, xx = x / max(steps, 1), xx / max(steps, 1) ** 2
        passes[k] = Pass(n, variable.low, variable.high - variable.low, x, xx, registries)
    open_to = []
    for j, k in pairs:
        xy = sums[f"xy{j},{k}"].item()
        if j in exact and k in exact:
            x, y = sums[f"x{j}"].item(), sums[f"x{k}"].item()
            found[j, k] = Product(n * sums[f"xx{j}"].item() - x * x, n * sums[f"xx{k}"].item() - y * y, n * xy - x * y)
            continue
        found[j, k] = Product(exact.get(j, passes[j].squares), exact.get(k, passes[k].squares), _product(passes[j], passes[k], xy))
        good = all(one in exact or passes[one].good for one in (j, k))
        if not (good and _is_good(passes[j], passes[k], found[j, k])):
            open_to.append((j, k))
    for _ in range(MOST_PASSES - 1):
        if not open_to:
            return found
        asked = sorted({k for pair in open_to for k in pair})
        around = [passes[k].next(largest(variables[k])) for k in asked]
        (sums,) = yield [centred_products(columns=[names[k] for k in asked], needs=list(names), origins=[one[0] for one in around],
                                          units=[one[1] for one in around])]
        constant = {k for i, k in enumerate(asked) if not int(sums[f"differ{i}"])}
        passes |= {k: Pass(n, *around[i], sums[f"x{i}"].item(), sums[f"xx{i}"].item(), registries) for i, k in enumerate(asked)}
        left = []
        for j, k in open_to:
            a, b = passes[j], passes[k]
            found[j, k] = Product(0.0 if j in constant else a.squares, 0.0 if k in constant else b.squares,
                                  _product(a, b, sums[f"xy{asked.index(j)},{asked.index(k)}"].item()))
            if not {j, k} & constant and not (a.good and b.good and _is_good(a, b, found[j, k])):
                left.append((j, k))
        open_to = left
    if open_to:
        raise too_wide(names[open_to[0][0] if not passes[open_to[0][0]].good else open_to[0][1]])
    return found


def _product(a: Pass, b: Pass, xy: float) -> float:
    return xy - a.x * b.x / a.n


def _is_good(a: Pass, b: Pass, found: Product) -> bool:
    """Whether the product is known as well as the squares. Its error: as `Pass.error`, with the products of both columns."""
    error = ROUNDING * (10.0 * math.sqrt(a.xx * b.xx) + 3.0 * a.registries
                        + 3.0 * (math.sqrt(a.squares * b.xx) + math.sqrt(b.squares * a.xx)))
    return error <= GOOD * math.sqrt(found.left * found.right)
