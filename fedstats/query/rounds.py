"""One round: asks and their layouts -> the plan of the seal; one registry's sums -> the numbers to seal; totals back.

Flattening and unflattening of blocks happen here only, in the layout's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ..crypto import fixedpoint, seal
from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..errors import RangeError, Tampered
from ..sums.statistic import INDICATORS, LARGEST_INTEGER, Ask, Block, Sums, answer

SLACK = 1 + 1e-9        # a sum of doubles may exceed the exact bound by its rounding, which is far smaller


def plan(asks: Sequence[Ask], dictionary: Dictionary, patients: int, registries: int) -> seal.Plan:
    """The scales of a round, proved to fit before anything is computed.

    patients : people of the cohort over all registries (round 0: an upper bound). Raises RangeError naming the block that cannot be
    carried exactly.
    """
    segments = []
    for key, block in _blocks(asks, dictionary):
        shares = registries if key.endswith(INDICATORS) else _shares(block, dictionary, patients)
        try:
            if block.exact:
                if block.bound * shares >= LARGEST_INTEGER:
                    raise RangeError("the sum may exceed 62 bits")
                scale = fixedpoint.integer_scale(int(block.bound), shares, registries)
            else:
                scale = fixedpoint.real_scale(block.bound * SLACK, shares, registries)
        except RangeError as error:
            raise RangeError(f"{key} cannot be carried exactly for {patients} patients: {error.what}",
                             hint="give the column a narrower range or a larger step in the dictionary, or make it a number without "
                                  "a step") from None
        limit = float(block.bound) * shares * (1.0 if block.exact else SLACK)
        segments.append(seal.Segment(key, block.size, scale, limit, real=not block.exact))
    return seal.Plan(tuple(segments))


def values(asks: Sequence[Ask], rows: Rows) -> dict[str, np.ndarray]:
    """One registry's numbers of a round, flat, by segment name."""
    flat = {}
    for k, ask in enumerate(asks):
        for name, block in answer(ask, rows).items():
            flat[f"{k}/{ask.statistic}/{name}"] = block.ravel()
    return flat


def totals(integers: dict[str, np.ndarray], asks: Sequence[Ask], made: seal.Plan, dictionary: Dictionary,
           patients: int, registries: int) -> list[Sums]:
    """The totals of a round, ask by ask, as int64 or doubles; checked for plausibility.

    Raises Tampered for totals that no honest registries can have: people outside 0..N, sums beyond their bound.
    """
    found: list[Sums] = [{} for _ in asks]
    for segment, (k, name, block) in zip(made.segments, _places(asks, dictionary)):
        whole = integers[segment.name]
        if block.exact:
            high = registries if name.endswith(INDICATORS) else _shares(block, dictionary, patients) * int(block.bound)
            low = 0 if block.counts or name.endswith(INDICATORS) else -high
            # before they become int64: what a lying registry sends may not fit
            if whole.size and (whole.min() < low or whole.max() > high):
                raise Tampered("answer could not be verified")
            array = np.asarray(whole, dtype=np.int64)
        else:
            array = np.asarray(whole, dtype=np.float64)
            if array.size and np.abs(array).max() > block.bound * _shares(block, dictionary, patients) * SLACK:
                raise Tampered("answer could not be verified")
        found[k][name] = array.reshape(block.shape)
    for sums in found:
        for name, contributors in sums.items():
            people = sums[name.removesuffix(INDICATORS)]
            # a cell with people has contributing registries, never more than people, and an empty one has none
            if name.endswith(INDICATORS) and ((contributors > people) | ((contributors > 0) != (people > 0))).any():
                raise Tampered("answer could not be verified")
    return found


def pooled(asks: Sequence[Ask], many: Sequence[Rows], dictionary: Dictionary, patients: int) -> list[Sums]:
    """The totals over several registries' rows, through the same integers as under the seal, without the seal."""
    made = plan(asks, dictionary, patients, len(many))
    integers = seal.plain_total([values(asks, rows) for rows in many], made)
    return totals(integers, asks, made, dictionary, patients, len(many))


def digest(asks: Sequence[Ask]) -> bytes:
    """SHA-256 over the asks of a round: what every registry must have derived alike."""
    return hashlib.sha256(b"".join(ask.digest for ask in asks)).digest()


def _shares(block: Block, dictionary: Dictionary, patients: int) -> int:
    """How many rows may add to an entry: people are counted once, whatever the number of their rows."""
    return patients if block.counts else patients * dictionary.most_rows


def _places(asks: Sequence[Ask], dictionary: Dictionary) -> list[tuple[int, str, Block]]:
    return [(k, name, block) for k, ask in enumerate(asks) for name, block in ask.layout(dictionary).items()]


def _blocks(asks: Sequence[Ask], dictionary: Dictionary) -> list[tuple[str, Block]]:
    return [(f"{k}/{asks[k].statistic}/{name}", block) for k, name, block in _places(asks, dictionary)]
