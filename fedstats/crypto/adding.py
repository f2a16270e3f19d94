"""Adding what registries sent: all of the cipher that the coordinator needs. Public parameters, no key.

A share carries the seed of its second polynomial (see `frames`); SEAL draws the polynomial again and adds. SEAL is handed nothing but
numbers that were checked, behind the head that it writes itself for these parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedstats.crypto import sealmemory
from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.frames import CIPHERTEXT_SHAPE, SHARE, TOTAL, check_frame, ciphertexts, frame_of, frame_size, pack


def prepare() -> None:
    """Make now what is made once per process, so that the first question need not wait for it. Internal if this SEAL will not do."""
    for prime in PRIMES:
        sealmemory.ring(prime)


class Adder:
    """A running total of shares, 32 bytes per value however many are added. Holds no key and reads nothing. SEAL keeps the memory of the
    largest totals there ever were for the next ones."""

    def __init__(self, prime_index: int, chunks: int) -> None:
        frame_size(TOTAL, chunks)  # the number may come from a message: refused before memory is taken for it
        self.prime_index, self.chunks, self.count = prime_index, chunks, 0
        self._totals: list[Any] = []

    def add(self, frame: bytes, *, checked: bool = False) -> None:
        """Adds a share; raises MessageError, and leaves the total as it was, if the frame is not well formed.

        checked : the caller has just called `check_frame` with this frame.
        """
        if not checked:
            check_frame(SHARE, frame, self.chunks, self.prime_index)
        ring = sealmemory.ring(PRIMES[self.prime_index])
        shares = (sealmemory.expanded(ring, *one) for one in ciphertexts(SHARE, frame, self.chunks, self.prime_index, checked=True))
        if not self.count:
            self._totals = [*shares]
        else:
            for total, share in zip(self._totals, shares):
                ring.evaluator.add_inplace(total, share)
        self.count += 1

    def total(self) -> bytes:
        """The frame of the sum so far."""
        ring = sealmemory.ring(PRIMES[self.prime_index])
        numbers = [sealmemory.numbers_of(ring, one) for one in self._totals]
        return frame_of(TOTAL, self.prime_index, [pack(one) for one in numbers or self.chunks * [np.zeros(CIPHERTEXT_SHAPE, np.uint64)]])
