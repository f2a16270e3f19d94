"""Noise on the sums over leaves of drawn trees: distributed discrete Gaussian, accounted as zero-concentrated differential privacy.

How this works. A patient is in one leaf of each tree and adds at most 1 to its gradient and 1/4 to its hessian (log-loss without weights).
Every registry adds whole-number Gaussian noise of its own to every sum before it is sealed, so that nobody ever sees a total without
noise. Each registry's share is such that the noise of all others already suffices: a registry that takes its own noise off what it
opens learns no more than is accounted for. The sampler is OpenDP's, exact and from the operating system's randomness.

Covered are these sums and nothing else: how many patients there are, and with the outcome, the starting score, which splits are taken
back, and the fit come from exact totals under the release rules, and the guarantee takes them as known.

Kairouz, Liu & Steinke (2021), ICML, for the sum of discrete Gaussians: at scales of thousands of units its distance from one discrete
Gaussian is below 1e-100. Bun & Steinke (2016), TCC, for zCDP. Maddock et al. (2022), CCS, section 4, for boosting with it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import InputError
from ...sums import steady

DELTA = 1e-5                    # at which the budget is also told as (epsilon, delta)
SENSITIVITY_SQUARED = 1.0 + 1.0 / 16.0      # of one tree's sums: |g| <= 1 and h <= 1/4 of one patient
ROUNDING = 1.0 + 2.0**-10       # by how much rounding gradients to whole numbers of at most 2^-12 can widen that
REACH = 12.0                    # noise beyond so many standard deviations is cut off; its chance is below 1e-30


def noise_sd(rho: float, trees: int) -> float:
    """The standard deviation that the noise on a sum must have, in units of the gradient, for rho-zCDP over all trees."""
    return math.sqrt(trees * SENSITIVITY_SQUARED / (2.0 * rho)) * ROUNDING


def share_of_registry(sd: float, registries: int) -> float:
    """The standard deviation of one registry's noise: all registries but one reach `sd` together."""
    return sd / math.sqrt(max(1, registries - 1))


def epsilon(rho: float) -> float:
    """epsilon at DELTA: rho + 2 sqrt(rho log(1 / delta)). Bun & Steinke (2016), proposition 1.3."""
    return rho + 2.0 * math.sqrt(rho * -steady.log(DELTA))


def noisy(sums: np.ndarray, scale: float) -> np.ndarray:
    """Whole numbers with noise. scale : standard deviation in units of `sums`; 0 for none. Raises InputError without the library."""
    if not scale:
        return sums
    drawn = np.array(_measurement(scale)([0] * sums.size), dtype=np.int64)
    most = int(REACH * scale)
    return sums + np.clip(drawn, -most, most).reshape(sums.shape)


@lru_cache(maxsize=16)
def _measurement(scale: float) -> Any:
    try:
        import opendp.prelude as library  # late: only noise needs it
    except ImportError:
        raise InputError("opendp is not installed here: noise cannot be drawn", hint='install the extra "noise"') from None
    library.enable_features("contrib")
    space = library.vector_domain(library.atom_domain(T="i64")), library.l2_distance(T="f64")
    return library.m.make_gaussian(*space, scale=scale)
