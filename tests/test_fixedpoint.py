"""Fixed point: exact against Python's fractions; bounds at their very edge; nothing clipped."""

from fractions import Fraction
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedstats.crypto.fixedpoint import (
    PRIMES,
    Scale,
    add,
    decode,
    decode_float,
    encode,
    integer_scale,
    multiply,
    real_scale,
    subtract,
    to_float,
)
from fedstats.errors import RangeError

MILLION, REGISTRIES = 1_000_000, 64
SCALES = [Scale(53, 2), Scale(41, 2), Scale(0, 2), Scale(60, 3), Scale(-7, 2), Scale(10, 3)]


def centred(x: int, scale: Scale) -> int:
    M = scale.modulus
    return (x + M // 2) % M - M // 2


def is_prime(n: int) -> bool:
    """Miller-Rabin with the twelve bases that decide every n below 3.3e24 (Sorenson & Webster 2015)."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1

    def passes(base: int) -> bool:
        x = pow(base, odd, n)
        return x in (1, n - 1) or any((x := x * x % n) == n - 1 for _ in range(twos - 1))

    return all(passes(base) for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37))


def test_the_primes_are_the_three_largest_that_the_cipher_takes():
    """Prime, below 2**40, 1 modulo 8192, and no other such prime between them and 2**40."""
    found = [n for n in range(2**40 - 8191, PRIMES[-1] - 1, -8192) if is_prime(n)]

    assert tuple(found) == PRIMES


# ---- properties -----------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.sampled_from(SCALES))
def test_a_real_number_is_rounded_once_half_to_even(values, scale):
    """Python's fractions give the same integer for every double."""
    wanted = [round(Fraction(x) * Fraction(2) ** scale.exponent) for x in values]

    got = encode(np.array(values), scale, 1e9)

    for prime, residues in zip(PRIMES, got):
        assert residues.dtype == np.uint64
        assert residues.tolist() == [x % prime for x in wanted]


@settings(max_examples=100, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(SCALES))
def test_every_finite_double_has_exact_residues(x, scale):
    wanted = round(Fraction(x) * Fraction(2) ** scale.exponent)

    assert [int(r[0]) for r in encode(np.array([x]), scale, np.inf)] == [wanted % p for p in PRIMES[: scale.primes]]


@given(st.integers(-(2**20), 2**20), st.integers(1, 60))
def test_ties_go_to_the_even_neighbour(k, shift):
    """Half-way values, the only ones on which rounding rules differ."""
    x = Fraction(2 * k + 1, 2) / Fraction(2) ** (shift - 20)

    (got,) = encode(np.array([float(x)]), Scale(shift - 20, 1), np.inf)

    assert int(got[0]) == (k if k % 2 == 0 else k + 1) % PRIMES[0]


@settings(deadline=None)
@given(st.data(), st.sampled_from([1, 2, 3]))
def test_decoding_undoes_encoding_up_to_the_edge(data, primes):
    scale = Scale(0, primes)
    edge = (scale.modulus - 1) // 2
    values = data.draw(st.lists(st.integers(-edge, edge), min_size=1, max_size=10)) + [edge, -edge, 0, -1]

    got = decode(encode(np.array(values, dtype=object), scale, edge), scale)

    assert got.tolist() == values


@given(st.lists(st.integers(-(2**110), 2**110), min_size=1, max_size=10), st.sampled_from(SCALES))
def test_back_to_doubles_is_rounded_correctly(integers, scale):
    wanted = [float(Fraction(x) / Fraction(2) ** scale.exponent) for x in integers]

    assert to_float(np.array(integers, dtype=object), scale).tolist() == wanted


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, PRIMES[2] - 1)] * 2), min_size=1, max_size=20), st.sampled_from(PRIMES))
def test_residues_add_subtract_and_multiply_without_overflow(pairs, prime):
    a, b = (np.array(x, dtype=np.uint64) for x in zip(*pairs))

    assert add(a, b, prime).tolist() == [(x + y) % prime for x, y in pairs]
    assert subtract(a, b, prime).tolist() == [(x - y) % prime for x, y in pairs]
    assert multiply(a, b, prime).tolist() == [x * y % prime for x, y in pairs]


def test_int64_and_object_integers_have_the_same_residues():
    values = np.array([0, 1, -1, 2**53 + 1, -(2**53) - 1, 2**62, -(2**62)])
    for scale in (Scale(0, 2), Scale(3, 3), Scale(-1, 2)):
        for a, b in zip(encode(values, scale, 2**62), encode(values.astype(object), scale, 2**62)):
            assert np.array_equal(a, b)


# ---- bounds ---------------------------------------------------------------------------------------------------------------------


def test_a_million_patients_at_64_registries_are_as_exact_as_the_protocol_says():
    """Absolute error of a total: 4e-15 for bound 1, 1.5e-11 for bound e**8."""
    for bound, error in ((1.0, 4e-15), (float(np.exp(8)), 1.5e-11)):
        scale = real_scale(bound, MILLION, REGISTRIES)

        assert scale.primes == 2
        assert REGISTRIES / 2 / 2**scale.exponent < error


@pytest.mark.parametrize("bound", [1e-280, 1e-6, 0.3, 1.0, 3.5, 4096.0, float(np.exp(8)), 1e12, 1e200])
@pytest.mark.parametrize("patients", [1, 1000, MILLION, 10**12])
def test_a_real_scale_fits_and_cannot_be_finer(bound, patients):
    scale = real_scale(bound, patients, REGISTRIES)

    def fits(exponent):
        return Fraction(bound) * patients * Fraction(2) ** exponent + REGISTRIES < Fraction(scale.modulus, 2)

    assert fits(scale.exponent)
    assert not fits(scale.exponent + 1) or bound * 2.0 ** (scale.exponent + 1) > 2**53


def test_64_registries_at_their_bound_give_the_exact_total():
    """A million patients, each at the bound, all of one sign: the largest total that can be."""
    bound = float(np.exp(8))
    scale = real_scale(bound, MILLION, REGISTRIES)
    each = bound * (MILLION // REGISTRIES)
    for sign in (1, -1):
        residues = encode(np.array([sign * each]), scale, each)
        total = [residues[j] * np.uint64(0) for j in range(scale.primes)]
        for _ in range(REGISTRIES):
            total = [add(t, r, p) for t, r, p in zip(total, residues, PRIMES)]

        assert decode(total, scale)[0] == REGISTRIES * round(Fraction(sign * each) * 2**scale.exponent)


def test_whole_numbers_take_the_fewest_primes_that_hold_them():
    """The largest total that fits one, two, three primes; one more needs the next; beyond three it is refused."""
    edges = [(prod(PRIMES[:k]) - 1) // 2 for k in (1, 2, 3)]
    for k, edge in enumerate(edges, 1):
        assert integer_scale(edge, 1, 3) == Scale(0, k)
        assert integer_scale(1, edge, 3) == Scale(0, k)
        if k < 3:
            assert integer_scale(edge + 1, 1, 3) == Scale(0, k + 1)
    with pytest.raises(RangeError):
        integer_scale(edges[-1] + 1, 1, 3)


def test_three_primes_are_taken_only_for_a_resolution_that_two_cannot_give():
    assert real_scale(1.0, 10**9, 3).primes == 2
    assert real_scale(1.0, 10**9, 3, resolution=1e-15).primes == 3
    with pytest.raises(RangeError):
        real_scale(1.0, 10**9, 3, resolution=1e-17)  # finer than a double of one patient


@given(st.integers(2, 40), st.data())
def test_numbers_that_share_a_residue_add_without_touching_each_other(per_slot, data):
    scale = Scale(0, 1, per_slot)
    most = (1 << (scale.width - 1)) - 1
    total = np.array(data.draw(st.lists(st.integers(-most, most), max_size=50)), dtype=np.int64)
    share = np.array([data.draw(st.integers(min(x, 0), max(x, 0))) for x in total.tolist()], dtype=np.int64)
    residues = add(encode(share, scale, most)[0], encode(total - share, scale, most)[0], PRIMES[0])

    assert len(residues) == scale.slots(len(total))
    assert decode([residues], scale, len(total)).tolist() == total.tolist()


def test_nothing_hides_beside_the_numbers_that_share_a_residue():
    scale = Scale(0, 1, 3)
    for extra in (1 << 13, 1 << 39):
        (residues,) = encode(np.array([1, 2, 3, 4]), scale, 9)
        residues[-1] += np.uint64(extra)
        with pytest.raises(RangeError):
            decode([residues % np.uint64(PRIMES[0])], scale, 4)


@pytest.mark.parametrize("values", [np.array([1.0]), np.array([8]), np.array([-8]), np.array([2**63 + 1], dtype=np.uint64)])
def test_what_does_not_fit_its_part_of_a_residue_is_refused(values):
    with pytest.raises(RangeError):
        encode(values, Scale(0, 1, 10), 2**62)


@given(st.data(), st.sampled_from([Scale(0, 1), Scale(23, 1), Scale(-5, 1), *SCALES]))
def test_totals_become_the_same_doubles_all_at_once(data, scale):
    """Against Python's own division of big integers; near the ends of the range, near 0, and at ties."""
    edge = scale.modulus // 2
    some = st.one_of(st.integers(-edge, edge), st.integers(-(2**60), 2**60), st.integers(edge - 9, edge), st.integers(-edge, 9 - edge),
                     st.integers(0, 2**26).map(lambda x: (2**53 + x) * 2 + 1))
    total = [x for x in data.draw(st.lists(some, max_size=30)) if abs(x) <= edge]
    residues = [np.array([x % prime for x in total], dtype=np.uint64) for prime in PRIMES[: scale.primes]]
    wanted = to_float(decode(residues, scale), scale)

    assert decode_float(residues, scale).tolist() == wanted.tolist()


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan"), 1e-300])
def test_a_bound_must_be_a_positive_number_of_a_usable_size(bound):
    with pytest.raises(RangeError):
        real_scale(bound, 10, 3)


def test_numbers_from_numpy_make_the_same_scales():
    assert integer_scale(np.int64(2**40), np.int64(10**6), np.int64(64)) == integer_scale(2**40, 10**6, 64)
    for bound, kind in ((3.5, np.float64), (2**40, np.int64)):
        assert real_scale(kind(bound), np.int64(10**6), np.int64(64)) == real_scale(bound, 10**6, 64)


# ---- nothing clipped ------------------------------------------------------------------------------------------------------------

BEYOND = [
    (np.array([1.0, np.nextafter(2.0, 3.0)]), 2.0),
    (np.array([1.0, -np.nextafter(2.0, 3.0)]), 2.0),
    (np.array([1.0, np.nan]), 2.0),
    (np.array([1.0, np.inf]), 2.0),
    (np.array([1.0, -np.inf]), 1e300),
    (np.array([1.0, 1.0]), np.array([1.0, 0.5])),
    (np.array([1.0, 1.0]), float("nan")),
    (np.array([1, 2**53 + 1]), float(2**53)),
    (np.array([1, np.iinfo(np.int64).min]), 2**62),
    (np.array([1, 3]), np.array([1, 2])),
    (np.array([1, 3]), 2.999),
    (np.array([1, 2**80 + 1], dtype=object), 2**80),
    (np.array([1, 2], dtype=np.uint64), 1),
    (np.array([1.0, float(2**53 + 2)]), 2**53 + 1),
]


@pytest.mark.parametrize(("values", "limit"), BEYOND)
def test_one_beyond_the_bound_is_refused_and_its_value_not_told(values, limit):
    with pytest.raises(RangeError, match=r"^value at entry [01] is beyond its bound$"):
        encode(values, Scale(0, 2), limit)


def test_values_at_the_bound_pass_unchanged():
    assert decode(encode(np.array([2.0, -2.0]), Scale(20, 1), 2.0), Scale(20, 1)).tolist() == [2**21, -(2**21)]
    assert decode(encode(np.array([2**53 + 1]), Scale(0, 2), 2**53 + 1), Scale(0, 2)).tolist() == [2**53 + 1]


@pytest.mark.parametrize("values", [np.array(["1"]), np.array([1j]), np.array([1.5], dtype=object), np.array([None])])
def test_what_is_not_a_number_is_refused(values):
    with pytest.raises(RangeError):
        encode(values, Scale(0, 2), 10)


def test_no_entries_give_no_entries():
    for kind in (np.int64, np.float64, object):
        scale = Scale(5, 2)

        assert len(to_float(decode(encode(np.zeros(0, dtype=kind), scale, 1), scale), scale)) == 0


def test_one_prime_gives_int64_and_more_give_python_ints():
    one, two = Scale(0, 1), Scale(0, 2)

    assert decode(encode(np.array([-5]), one, 5), one).dtype == np.int64
    assert type(decode(encode(np.array([-5]), two, 5), two)[0]) is int
