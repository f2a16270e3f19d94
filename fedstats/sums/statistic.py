"""The one rule: a statistic is a function from rows to numbers that add up over patients.

    f(A ∪ B) = f(A) + f(B)

How this works:
1. A local half is a pure function `rows, **params -> {block: numbers}`, registered under a name that never changes its meaning
   (new meaning = new number: "moments/2"). No code ever travels, only the name and the parameters: an `Ask`.
2. Its layout says, without any rows, which blocks come back: shape, and the `bound`, the most that one patient may add to one
   entry. From the bound follow the fixed-point scale (overflow is impossible, proved before the round) and the sensitivity.
3. Where a registry must look at its own total once before it speaks (site strata), `finish` does so; what leaves adds up over
   registries, no longer over patients.
4. Next to every block that counts people goes a block of 0/1 indicators, "does this registry have anybody here", because a
   released cell needs several contributing registries (DISCLOSURE: minimum contributing registries).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..errors import InputError, RangeError

Sums = dict[str, np.ndarray]        # block name -> numbers of one registry, or their total
INDICATORS = "@registries"          # suffix of the block that counts contributing registries
LARGEST_INTEGER = 2**62             # sums of integer blocks are held in int64
MOST_VALUES = 4_000_000             # entries of one ask: 35 MB per prime under the seal, and 70 MB that come back


@dataclass(frozen=True)
class Block:
    """One named array of sums.

    shape : its shape.
    bound : the most that one patient may add to one entry, in absolute value; with several rows per patient, that one row may add.
    counts : it counts people: integers, bound 1, with indicators of contributing registries beside it.
    integer : its entries are whole numbers (sums of steps), carried exactly.
    """

    shape: tuple[int, ...] = ()
    bound: float = 1.0
    counts: bool = False
    integer: bool = False

    @property
    def exact(self) -> bool:
        return self.counts or self.integer

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


Layout = dict[str, Block]


@dataclass(frozen=True)
class Statistic:
    """Both ends of a registered local half: what it computes, and what shape that has."""

    name: str
    local: Callable[..., Mapping[str, Any]]
    layout: Callable[..., Layout]
    finish: Callable[..., Sums] | None = None
    alone: bool = False


STATISTICS: dict[str, Statistic] = {}


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """One question to all registries: the statistic's name and its parameters (plain JSON-ready values)."""

    statistic: str
    params: dict[str, Any] = {}

    def __str__(self) -> str:
        return self.statistic

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes; every registry must arrive at the same."""
        return hashlib.sha256(_canonical(self)).digest()

    def layout(self, dictionary: Dictionary) -> Layout:
        """The blocks that come back, indicators included, in order. Remembered: a round looks at it in several places."""
        before = self.__dict__.get("_laid_out")
        if before is None or before[0] is not dictionary:
            before = self.__dict__["_laid_out"] = (dictionary, self._blocks(dictionary))
        return before[1]

    def _blocks(self, dictionary: Dictionary) -> Layout:
        full: Layout = {}
        for name, block in _registered(self.statistic).layout(dictionary, **self.params).items():
            full[name] = block
            if block.counts:
                full[name + INDICATORS] = Block(block.shape, 1.0, integer=True)
        size = sum(block.size for block in full.values())
        if size > MOST_VALUES:
            raise InputError(f"{self.statistic} would need {size} numbers per registry: at most {MOST_VALUES}",
                             hint="use fewer columns, or coarser cut points")
        return full


def statistic(name: str, *, layout: Callable[..., Layout], finish: Callable[..., Sums] | None = None, alone: bool = False) -> Callable:
    """Register a local half under a name; the decorated function becomes the maker of its asks.

    layout(dictionary, **params) -> blocks that leave; finish(sums, dictionary=..., **params) -> sums. With `finish` the local
    half returns what that takes, in any shape, and the layout says what comes out of it.
    alone : the local half itself looks at all rows of its registry (own intercepts, a fit of its own), so that its answers add up
    over registries, not over patients.
    """

    def register(local: Callable[..., Mapping[str, Any]]) -> Callable[..., Ask]:
        if name in STATISTICS:
            raise AssertionError(f"{name} is registered twice: a name never changes its meaning")
        STATISTICS[name] = Statistic(name, local, layout, finish, alone)

        def ask(**params: Any) -> Ask:
            return Ask(name, plain(params))

        ask.__name__, ask.__doc__ = local.__name__, local.__doc__
        ask.local, ask.statistic = local, name      # type: ignore[attr-defined]
        return ask

    return register


def answer(ask: Ask, rows: Rows) -> Sums:
    """What one registry says to an ask: the local half on its rows, checked against the layout.

    Integers come back as int64, other blocks as doubles. Raises RangeError, naming the block, for a sum beyond its bound.
    """
    member, layout = _registered(ask.statistic), ask.layout(rows.dictionary)
    for name, block in layout.items():
        if block.exact and block.bound * max(rows.n, 1) >= LARGEST_INTEGER:
            raise RangeError(f'{ask.statistic}: the sum "{name}" may exceed 62 bits',
                             hint="give the column a narrower range or a larger step in the dictionary, or make it a number without a step")
    found = dict(member.local(rows, **ask.params))
    if member.finish is not None:
        found = dict(member.finish(found, dictionary=rows.dictionary, **ask.params))
    sums = {name: _as_block(found.pop(name), block, name, ask) for name, block in layout.items() if not name.endswith(INDICATORS)}
    assert not found, f"{ask.statistic} returned blocks that its layout does not name: {sorted(found)}"
    for name, block in layout.items():
        if block.counts:
            sums[name + INDICATORS] = (sums[name] > 0).astype(np.int64)
        elif not name.endswith(INDICATORS) and rows.n:
            limit = block.bound * rows.n
            if np.abs(sums[name]).max(initial=0) > limit * (1 + 1e-12) + 1e-300:
                raise RangeError(f'{ask.statistic}: a sum in "{name}" is beyond its bound',
                                 hint="a value lies outside the range of the dictionary: load the table again and read the report")
    return {name: sums[name] for name in layout}


def add(many: Iterable[Sums]) -> Sums:
    """The total of several registries' sums, block by block. For tests and plain arithmetic: the seal adds on its own."""
    total: Sums = {}
    for sums in many:
        total = {name: total[name] + block for name, block in sums.items()} if total else dict(sums)
    return total


def plain(value: Any) -> Any:
    """A parameter as JSON-ready data: tuples become lists, numpy scalars Python numbers. NaN and infinities are refused."""
    if type(value) is float and math.isfinite(value):       # first, since long lists are made of these
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in sorted(value.items())}
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError("a parameter is not a finite number")
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise InputError(f"a parameter of type {type(value).__name__} cannot be sent")


def _as_block(found: Any, block: Block, name: str, ask: Ask) -> np.ndarray:
    array = np.asarray(found)
    if array.shape != block.shape:
        raise AssertionError(f"{ask.statistic}: block {name} has shape {array.shape}, its layout says {block.shape}")
    if not block.exact:
        return array.astype(float)
    whole = array.astype(np.int64)
    if array.dtype.kind == "f" and not (whole == array).all():
        raise AssertionError(f"{ask.statistic}: block {name} is declared whole and is not")
    return whole


def _canonical(ask: Ask) -> bytes:
    return msgspec.msgpack.encode([ask.statistic, ask.params], order="deterministic")


def _registered(name: str) -> Statistic:
    try:
        return STATISTICS[name]
    except KeyError:
        raise InputError(f'there is no statistic "{name}" in this version', hint="update fedstats, or ask the others to") from None
