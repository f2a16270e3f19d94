"""Numbers as exact integers modulo a few primes, so that sums over registries lose nothing.

How this works. A value is multiplied by 2**exponent and rounded once, half to even, to an integer. Of that integer only the
remainders modulo one, two or three 40-bit primes are kept ("residues"), because the cipher underneath adds numbers modulo such a
prime. Residues of different registries are added prime by prime; the Chinese remainder theorem then gives back the total, taken
as the representative nearest to zero, so negatives need no special case. The total is right as long as its size stays below
half the product M of the primes: a `Scale` is only ever made with the proof that it does.

Small whole numbers share a residue: with totals below 2**(w-1) in size, 40 // w of them are put beside each other, each in w bits of
one number below half the prime. They add without touching each other, and come apart from the lowest up, negative ones included.

Nothing is clipped and nothing wraps silently: what does not fit is a `RangeError` before anything is sent.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import floor, inf, isfinite, nextafter, prod

import numpy as np

from fedstats.errors import RangeError

# The largest, second, and so on of the primes below 2**40 that are 1 modulo 8192 = 2 * 4096 (the cipher packs 4096 numbers into
# one ciphertext only for such primes). Found by walking down from 2**40 in steps of 8192 and testing with Miller-Rabin; the two
# first are those of the protocol, the third is the next one below.
PRIMES = (1099511480321, 1099511390209, 1099511259137)

SLOT_BITS = 40  # bits that whole numbers sharing one residue may take together: see `Scale.per_slot`
MANTISSA = 53  # bits of a double's mantissa: one patient's share is never resolved finer than a double can hold it
LARGEST_EXPONENT = 1000  # keeps 2**exponent a finite double
RELATIVE_RESOLUTION = 1e-12  # wanted absolute error of a total, in units of the bound of one patient, unless told otherwise


@dataclass(frozen=True)
class Scale:
    """How a number is held: value * 2**exponent, modulo the product of the first `primes` of `PRIMES`.

    per_slot : how many whole numbers share one residue, each in 40 // per_slot bits; their totals are below half of that in size.
    """

    exponent: int
    primes: int
    per_slot: int = 1

    def __post_init__(self) -> None:
        if not (type(self.exponent) is int and abs(self.exponent) <= LARGEST_EXPONENT):
            raise RangeError(f"exponent must be a whole number within +-{LARGEST_EXPONENT}")
        if not (type(self.primes) is int and 1 <= self.primes <= len(PRIMES)):
            raise RangeError(f"number of primes must be 1 to {len(PRIMES)}")
        if not (type(self.per_slot) is int and 1 <= self.per_slot <= SLOT_BITS):
            raise RangeError(f"1 to {SLOT_BITS} numbers share a residue")
        if self.per_slot > 1 and (self.primes, self.exponent) != (1, 0):
            raise RangeError("only whole numbers of one prime can share a residue")

    @property
    def width(self) -> int:
        """Bits of each of the numbers that share a residue."""
        return SLOT_BITS // self.per_slot

    def slots(self, n: int) -> int:
        """Residues per prime that n numbers take."""
        return -(-n // self.per_slot)

    @property
    def modulus(self) -> int:
        """M, the product of the primes."""
        return prod(PRIMES[: self.primes])


def integer_scale(bound: int, patients: int, registries: int) -> Scale:
    """The scale for whole numbers: exponent 0, and the fewest primes that hold bound * patients with its sign; in one prime, as many
    numbers per residue as fit.

    L numbers of w bits, each at most 2**(w-1) - 1 in size, make one of at most (2**(w-1) - 1) (2**(wL) - 1) / (2**w - 1). With
    w L <= 40 and w <= 20 that is at most 2**39 - 2**19 + 2**20 / 2**20, below half of the first prime, 2**39 - 73728.

    bound : the most one patient adds to one entry; patients : over all registries.
    registries is not needed, since whole numbers are not rounded; it is there so that both scales are made alike.
    Raises RangeError if three primes are not enough.
    """
    _check(bound, patients, registries)
    total = operator.index(bound) * int(patients)  # Python ints: numpy's would overflow
    for primes in range(1, len(PRIMES) + 1):
        if 2 * total < Scale(0, primes).modulus:
            return Scale(0, primes, max(SLOT_BITS // (total.bit_length() + 1), 1) if primes == 1 else 1)
    raise RangeError(
        f"totals up to {bound} per patient and {patients} patients do not fit three primes (about 119 bits)",
        hint="use a larger step, so that the numbers get smaller",
    )


def real_scale(bound: float, patients: int, registries: int, resolution: float | None = None) -> Scale:
    """The scale for real numbers: two primes, or three if two cannot give the wanted resolution.

    bound : the most one patient adds to one entry (absolute value); patients : over all registries.
    resolution : largest absolute error wanted for a total; by default 1e-12 of the bound.
    The exponent is as large as fits bound * patients * 2**exponent + registries < M / 2 (every registry rounds once), but never so
    large that one patient's bound takes more than the 53 bits of a double: finer steps would carry no information.
    Raises RangeError if the resolution cannot be had.
    """
    _check(bound, patients, registries)
    if resolution is not None and not (isfinite(resolution) and resolution > 0):
        raise RangeError(f"a resolution must be above 0 and finite, not {resolution!r}")
    exact, patients, registries = _fraction(bound), int(patients), int(registries)
    wanted = exact * _fraction(RELATIVE_RESOLUTION) if resolution is None else _fraction(resolution)
    for primes in (2, 3):
        room = Fraction(Scale(0, primes).modulus, 2) - registries
        fits = _floor_log2(room / (exact * max(patients, 1)), strict=True)
        exponent = min(fits, MANTISSA - _ceil_log2(exact), LARGEST_EXPONENT)
        # each registry is off by half a unit at most
        if exponent >= -LARGEST_EXPONENT and Fraction(registries, 2) / Fraction(2) ** exponent <= wanted:
            return Scale(exponent, primes)
    raise RangeError(
        f"sums of {patients} values up to {bound:g} cannot be carried to within {float(wanted):g}",
        hint="ask for a coarser resolution, or rescale the variable",
    )


def encode(values: np.ndarray, scale: Scale, limit: float | int | np.ndarray) -> list[np.ndarray]:
    """Residues of value * 2**exponent, rounded once, half to even, exactly.

    values : int64 or float64, or an object array of Python ints; any shape, taken flat.
    limit : the largest absolute value allowed, a number or an array like values.
    Returns one uint64 array per prime, each with `scale.slots(number of values)` residues.
    Raises RangeError if a value is beyond its limit or not finite. Nothing is clipped.
    """
    flat = np.asarray(values).reshape(-1)
    if scale.per_slot > 1:
        return [_encode_shared(flat, scale, limit)]
    if flat.dtype.kind == "u" or flat.dtype.kind == "O":
        return _encode_exact(flat.astype(object), scale, limit)
    if flat.dtype.kind in "ib":
        flat = flat.astype(np.int64)
        _refuse(_beyond_integer(flat, limit))
        if scale.exponent:
            return _encode_exact(flat.astype(object), scale, limit)
        return [np.mod(flat, prime).astype(np.uint64) for prime in PRIMES[: scale.primes]]
    if flat.dtype.kind != "f" or flat.dtype.itemsize > 8:
        raise RangeError(f"values must be whole or real numbers, not {flat.dtype}")
    flat = flat.astype(np.float64)
    _refuse(~(np.abs(flat) <= _float_limit(limit)))  # NaN compares false, so it is refused too
    return _encode_float(flat, scale)


def decode(residues: Sequence[np.ndarray], scale: Scale, n: int | None = None) -> np.ndarray:
    """The integers nearest to zero with these residues: int64 for one prime, else an object array of Python ints.

    residues : one uint64 array per prime, each entry below its prime. n : how many numbers, where several share a residue; RangeError
    if there is anything beside them.
    Garner (1959): digits in mixed radix, so that only the last step needs big integers.
    """
    if len(residues) != scale.primes:
        raise RangeError(f"expected residues for {scale.primes} primes, got {len(residues)}")
    if scale.primes == 1:
        lone = residues[0].astype(np.int64)
        lone = np.where(lone > PRIMES[0] // 2, lone - PRIMES[0], lone)
        return _apart(lone, scale, n) if scale.per_slot > 1 else lone
    total, radix = residues[0].astype(object), PRIMES[0]
    for k in range(1, scale.primes):
        prime = PRIMES[k]
        inverse = np.uint64(pow(radix, -1, prime))
        so_far = (total % prime).astype(np.uint64)
        digit = multiply(subtract(residues[k], so_far, prime), inverse, prime)
        total = total + digit.astype(object) * radix
        radix *= prime
    return np.where(total > radix // 2, total - radix, total).astype(object)


def to_float(integers: np.ndarray, scale: Scale) -> np.ndarray:
    """integer / 2**exponent, correctly rounded to the nearest double. Returns float64 of the same shape."""
    flat = np.asarray(integers).reshape(-1)
    up, down = 2 ** max(-scale.exponent, 0), 2 ** max(scale.exponent, 0)
    # Python divides big integers with one correct rounding; numpy would round to double first and then divide
    return np.array([int(x) * up / down for x in flat.tolist()], dtype=np.float64).reshape(np.shape(integers))


def decode_float(residues: Sequence[np.ndarray], scale: Scale) -> np.ndarray:
    """`to_float(decode(residues, scale), scale)`, all at once where that is exact: for one prime and two. float64."""
    if scale.primes > 2 or not -LARGEST_EXPONENT < scale.exponent < 900:     # 2**-900 is far from where doubles lose digits
        return to_float(decode(residues, scale), scale)
    if scale.primes == 1:
        return np.ldexp(decode(residues, scale).astype(np.float64), -scale.exponent)
    # total = first + digit * prime as high * 2**40 + low: both are doubles, so that their sum is rounded once
    low, digit = residues[0].astype(np.int64), _second_digit(residues)
    low -= digit * (2**SLOT_BITS - PRIMES[0])       # below 2**58 in size
    high = digit + (low >> SLOT_BITS)
    low &= 2**SLOT_BITS - 1
    half_high, half_low = divmod(scale.modulus // 2, 2**SLOT_BITS)
    whole_high, whole_low = divmod(scale.modulus, 2**SLOT_BITS)
    negative = (high > half_high) | ((high == half_high) & (low > half_low))
    high, low = high - negative * whole_high, low - negative * whole_low
    return np.ldexp(np.ldexp(high.astype(np.float64), SLOT_BITS) + low, -scale.exponent)


def _second_digit(residues: Sequence[np.ndarray]) -> np.ndarray:
    """Garner's digit of the second prime: total = first residue + digit * first prime."""
    prime = PRIMES[1]
    inverse = np.uint64(pow(PRIMES[0], -1, prime))
    return multiply(subtract(residues[1], residues[0] % np.uint64(prime), prime), inverse, prime).astype(np.int64)


def add(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """(a + b) mod prime for residues in uint64."""
    return _reduce_once(a + b, prime)


def subtract(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """(a - b) mod prime for residues in uint64."""
    return _reduce_once(a + (np.uint64(prime) - b), prime)


def multiply(a: np.ndarray, b: np.ndarray | np.uint64, prime: int) -> np.ndarray:
    """(a * b) mod prime for residues below 2**40: b in two halves of 20 bits, so that no product leaves 64 bits."""
    p, half, low = np.uint64(prime), np.uint64(20), np.uint64((1 << 20) - 1)
    high = (a * (b >> half)) % p
    return ((high << half) + a * (b & low)) % p


def _reduce_once(x: np.ndarray, prime: int) -> np.ndarray:
    # x < 2 * prime; below the prime the subtraction wraps to something huge, so the smaller of the two is the remainder
    return np.minimum(x, x - np.uint64(prime))


def _encode_shared(values: np.ndarray, scale: Scale, limit: float | int | np.ndarray) -> np.ndarray:
    """Residues of whole numbers that share them."""
    if values.dtype.kind not in "biu":
        raise RangeError("only whole numbers can share a residue")
    if values.dtype.kind == "u":
        _refuse(values > np.uint64(np.iinfo(np.int64).max))
    flat = values.astype(np.int64)
    _refuse(_beyond_integer(flat, limit) | (np.abs(flat) >= 1 << (scale.width - 1)))
    beside = np.zeros(scale.slots(len(flat)) * scale.per_slot, dtype=np.int64)
    beside[: len(flat)] = flat
    together = (beside.reshape(-1, scale.per_slot) << (scale.width * np.arange(scale.per_slot))).sum(axis=1)
    return np.mod(together, PRIMES[0]).astype(np.uint64)


def _apart(together: np.ndarray, scale: Scale, n: int | None) -> np.ndarray:
    """The first n numbers that share integers, the lowest bits first; each is the one nearest to zero with its bits."""
    found, half = np.empty((len(together), scale.per_slot), dtype=np.int64), 1 << (scale.width - 1)
    for k in range(scale.per_slot):
        found[:, k] = ((together + half) & ((1 << scale.width) - 1)) - half
        together = (together - found[:, k]) >> scale.width
    if together.any() or found.reshape(-1)[n:].any():
        raise RangeError("there is more in a residue than the numbers that share it")
    return found.reshape(-1)[:n]


def _encode_float(values: np.ndarray, scale: Scale) -> list[np.ndarray]:
    """The residues of finite doubles, from mantissa and exponent; no double ever stands for a larger integer."""
    fraction, power = np.frexp(values)
    mantissa = np.ldexp(fraction, MANTISSA).astype(np.int64)  # exact: |fraction| < 1
    shift = power.astype(np.int64) - MANTISSA + scale.exponent
    whole = np.where(shift >= 0, mantissa, _halve_to_even(mantissa, np.maximum(-shift, 0)))
    shift = np.where(mantissa == 0, 0, np.maximum(shift, 0))
    residues = []
    for prime in PRIMES[: scale.primes]:
        residue = np.mod(whole, prime).astype(np.uint64)
        if shift.any():
            residue = multiply(residue, _powers_of_two(prime)[shift], prime)
        residues.append(residue)
    return residues


def _halve_to_even(mantissa: np.ndarray, halvings: np.ndarray) -> np.ndarray:
    """mantissa / 2**halvings rounded half to even. |mantissa| < 2**53, so 54 halvings or more leave less than a half: 0."""
    k = np.minimum(halvings, MANTISSA + 1)
    down = mantissa >> k  # towards minus infinity
    rest, half = mantissa - (down << k), (np.int64(1) << k) >> 1
    up = (rest > half) | ((rest == half) & (down & 1 == 1) & (k > 0))
    return down + (up & (k > 0))


@cache
def _powers_of_two(prime: int) -> np.ndarray:
    """2**k mod prime for every shift a double and an allowed exponent can need."""
    powers = [1]
    for _ in range(1024 + LARGEST_EXPONENT):
        powers.append(2 * powers[-1] % prime)
    return np.array(powers, dtype=np.uint64)


def _encode_exact(values: np.ndarray, scale: Scale, limit: float | int | np.ndarray) -> list[np.ndarray]:
    """The residues of Python ints, one by one: slow, for numbers that fit nothing else."""
    limits = np.broadcast_to(np.asarray(limit, dtype=object).reshape(-1), values.shape)
    try:
        whole = [operator.index(x) for x in values]
    except TypeError:
        raise RangeError("an object array may hold whole numbers only") from None
    _refuse(np.array([not abs(x) <= most for x, most in zip(whole, limits)], dtype=bool))
    scaled = [round(Fraction(x) * Fraction(2) ** scale.exponent) for x in whole]  # round() is half to even, exactly
    return [np.array([x % prime for x in scaled], dtype=np.uint64) for prime in PRIMES[: scale.primes]]


def _beyond_integer(values: np.ndarray, limit: float | int | np.ndarray) -> np.ndarray:
    """Which int64 values are beyond their limit, compared as integers: as doubles 2**53 + 1 would pass for 2**53."""
    top = np.iinfo(np.int64).max

    def whole(most: float) -> int:
        return top if most >= top else floor(most) if most >= 0 else -1  # NaN lands on -1: everything is beyond it

    caps = np.array([whole(x) for x in np.asarray(limit).reshape(-1).tolist()], dtype=np.int64)
    return np.broadcast_to((values > caps) | (values < -caps) | (caps < 0), values.shape)


def _float_limit(limit: float | int | np.ndarray) -> np.ndarray | float:
    """The limit as doubles, never above what was said."""
    if isinstance(limit, int) and isfinite(limit):
        try:
            return float(limit) if float(limit) <= limit else nextafter(float(limit), -inf)
        except OverflowError:
            return inf if limit > 0 else -inf
    return np.asarray(limit, dtype=np.float64).reshape(-1) if np.ndim(limit) else float(limit)


def _refuse(beyond: np.ndarray) -> None:
    if beyond.any():
        # the place, never the value: this text may be logged
        raise RangeError(f"value at entry {int(np.argmax(beyond))} is beyond its bound")


def _check(bound: float, patients: int, registries: int) -> None:
    if not (isfinite(bound) and bound > 0):
        raise RangeError(f"the bound of one patient must be above 0 and finite, not {bound!r}")
    if patients < 0 or registries < 1:
        raise RangeError(f"need 0 patients or more and at least one registry, not {patients} and {registries}")


def _fraction(x: float) -> Fraction:
    # numpy's integers would stay inside the fraction and overflow there
    return Fraction(int(x)) if isinstance(x, int | np.integer) else Fraction(float(x))


def _ceil_log2(x: Fraction) -> int:
    """The smallest k with x <= 2**k."""
    return -_floor_log2(1 / x)


def _floor_log2(x: Fraction, *, strict: bool = False) -> int:
    """The largest k with 2**k <= x (strict: 2**k < x)."""
    k = x.numerator.bit_length() - x.denominator.bit_length() + 1
    while Fraction(2) ** k > x or (strict and Fraction(2) ** k == x):
        k -= 1
    return k
