"""Totals made by somebody who knows the format: from numbers, from shares of their choice, from other totals."""

import numpy as np

from fedstats.crypto import frames, he, seal
from fedstats.crypto.frames import TOTAL


def joined(parts):
    """Frames of every prime behind the head of a sealed vector."""
    return seal.HEAD.pack(seal.MAGIC, seal.VERSION, len(parts)) + b"".join(parts)


def added(sealed, chunks):
    adding = seal.Adding(chunks)
    for one in sealed:
        adding.add(one)
    return adding.total()


def encryption(keys, vectors):
    """A total of vectors of one's choice, under a key."""
    share = joined([he.encrypt(keys, j, vector) for j, vector in enumerate(vectors)])
    return added([share], [len(vector) // frames.DEGREE for vector in vectors])


def ciphertexts(total, chunks):
    """The numbers of a total: per prime a list of ciphertexts."""
    parts = enumerate(seal._frames(TOTAL, total, tuple(chunks)))
    return [[numbers.copy() for numbers, _ in frames.ciphertexts(TOTAL, frame, chunks[j], j)] for j, frame in parts]


def total_of(numbers):
    """The total with these numbers."""
    return joined([frames.frame_of(TOTAL, j, [frames.pack(one) for one in each]) for j, each in enumerate(numbers)])


def sum_of_totals(a, b, chunks):
    """What somebody gets who adds two totals."""
    both = zip(ciphertexts(a, chunks), ciphertexts(b, chunks))
    return total_of([[(x + y) % frames.moduli(np.shape(x)) for x, y in zip(*each)] for each in both])
