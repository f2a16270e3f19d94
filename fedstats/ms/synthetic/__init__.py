"""Synthetic registries, calibrated to published numbers, and the true effects in them.

generator   a seed -> registries               parameters   the numbers behind them, with sources
people      who they are                       course       what happens to them
tables      what is written down of it         truth        effects from counterfactual runs
report      how near to published numbers      draws        random numbers by person and purpose
"""


from .generator import DATA_CUT, LONGEST_RUN, NAMES, Synthetic, name, registries, registry, steps, write

__all__ = [
    "DATA_CUT",
    "LONGEST_RUN",
    "NAMES",
    "Synthetic",
    "name",
    "registries",
    "registry",
    "steps",
    "write",
]
