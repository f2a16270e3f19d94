"""The seal: sealed totals are the plain totals, one contribution alone is noise, and keys are for one use."""

import functools
import hashlib
from fractions import Fraction

import numpy as np
import pytest

from fedstats.crypto import he, seal
from fedstats.crypto.fixedpoint import PRIMES, Scale, integer_scale, real_scale
from fedstats.errors import InputError, MessageError, OutOfOrder, RangeError, Tampered

CONTEXT = hashlib.sha256(b"a transcript and a round").digest()
KEY = functools.cache(he.generate)    # one for all queries here


def parties(n, places=None):
    """Keys of n registries for one query."""
    places = places or list(range(n))

    def shared(i, j):
        return hashlib.sha256(b"%d and %d" % (min(i, j), max(i, j))).digest()

    others = {i: {j: shared(i, j) for j in places if j != i} for i in places}
    return [seal.SealKeys(he.load(KEY()), b"K" * 32, others[i], i, n) for i in places]


def small_plan(primes):
    """Counts and sums together, so that the primes' vectors differ in length; longer than one ciphertext."""
    scales = [Scale(0, 1), real_scale(1.0, 10**6, 64), Scale(60, 3)][:primes]
    return seal.Plan(tuple(seal.Segment(f"block {k}", 3000 - 999 * k, s, 1e6) for k, s in enumerate(scales)))


def some_values(plan, seed):
    rng = np.random.default_rng(seed)
    return {
        s.name: rng.integers(-(10**6), 10**6, s.length) if s.scale.exponent == 0 else rng.normal(size=s.length) * 1e4
        for s in plan.segments
    }


def added(sealed, plan):
    adding = seal.Adding(plan.chunks)
    for one in sealed:
        adding.add(one)
    return adding.total()


# ---- the total ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("registries", "primes"), [(3, 1), (3, 2), (3, 3), (6, 2), (5, 3)])
def test_the_sealed_total_is_the_plain_total_in_any_order(registries, primes):
    """Bit-identical integers and the same transcript digest at every registry."""
    plan, keys = small_plan(primes), parties(registries)
    values = [some_values(plan, seed) for seed in range(registries)]
    sealed = [seal.close(v, plan, k, CONTEXT) for v, k in zip(values, keys)]
    order = np.random.default_rng(registries).permutation(registries)

    opened = [seal.open_total(added([sealed[i] for i in order], plan), plan, k, CONTEXT) for k in keys]

    plain = seal.plain_total(values, plan)
    assert len({digest for _, digest in opened}) == 1
    for integers, _ in opened:
        assert list(integers) == list(plain)
        for name in plain:
            assert integers[name].dtype == plain[name].dtype
            assert np.array_equal(integers[name], plain[name])


def test_the_plain_total_is_the_sum_of_python_fractions():
    plan = small_plan(3)
    values = [some_values(plan, seed) for seed in range(4)]

    total = seal.plain_total(values, plan)

    for s in plan.segments:
        power = Fraction(2) ** s.scale.exponent
        columns = zip(*(v[s.name].tolist() for v in values))
        assert total[s.name].tolist() == [sum(round(Fraction(x) * power) for x in column) for column in columns]


def test_rosters_with_gaps_work():
    """A query names some registries of the roster; their places need not follow each other."""
    plan, keys = small_plan(1), parties(3, places=[1, 4, 9])
    sealed = [seal.close(some_values(plan, 1), plan, k, CONTEXT) for k in keys]

    assert np.array_equal(
        seal.open_total(added(sealed, plan), plan, keys[1], CONTEXT)[0]["block 0"], 3 * some_values(plan, 1)["block 0"]
    )


def test_a_million_patients_at_64_registries_at_their_bound():
    """Largest totals of either sign, without the seal (the same integers, see above)."""
    bound = float(np.exp(8))
    real, whole = real_scale(bound, 10**6, 64), integer_scale(1000, 10**6, 64)
    plan = seal.Plan((seal.Segment("sum", 2, real, bound * 10**6, real=True), seal.Segment("count", 2, whole, 1000 * 10**6)))
    each = {"sum": np.array([1.0, -1.0]) * bound * 15_625, "count": np.array([1, -1]) * 15_625_000}

    total = seal.plain_total([each] * 64, plan)

    assert total["count"].tolist() == [10**9, -(10**9)]
    exact = float(64 * Fraction(each["sum"][0]))
    assert np.abs(total["sum"] - [exact, -exact]).max() <= 1.5e-11 + np.spacing(exact)


@pytest.mark.parametrize("most", [1, 7, 100_000, 2**19 - 1, 2**19])
def test_small_counts_share_a_residue_and_stay_apart(most):
    """Totals at either end of their range beside each other, in three registries: exact, and in as few numbers as fit 40 bits."""
    scale, signs = integer_scale(1, most, 3), np.array([1, -1, -1, 1, 0, 1, 1, -1, -1] * 5)
    plan, keys = seal.Plan((seal.Segment("counts", len(signs), scale, most), seal.Segment("x", 2, Scale(0, 1), 10.0))), parties(3)
    shares = [most // 3, most // 3, most - 2 * (most // 3)]
    sealed = [seal.close({"counts": signs * share, "x": np.array([1, -1])}, plan, k, CONTEXT) for share, k in zip(shares, keys)]

    integers, _ = seal.open_total(added(sealed, plan), plan, keys[0], CONTEXT)

    assert scale.per_slot == {1: 20, 7: 10, 100_000: 2, 2**19 - 1: 2, 2**19: 1}[most]
    assert plan.lengths == (1 + -(-45 // scale.per_slot) + 2,)
    assert integers["counts"].tolist() == (signs * most).tolist() and integers["x"].tolist() == [3, -3]


def test_one_beyond_its_limit_is_refused_and_the_block_is_named():
    plan, (me, *_) = small_plan(2), parties(3)
    for name, value in (("block 0", 10**6 + 1), ("block 1", np.nextafter(1e6, 2e6)), ("block 1", np.nan)):
        values = some_values(plan, 1)
        values[name][7] = value
        with pytest.raises(RangeError, match=rf'^block "{name}": value at entry 7 is beyond its bound$'):
            seal.close(values, plan, me, CONTEXT)


def test_a_round_may_be_empty():
    for plan in (seal.Plan(()), seal.Plan((seal.Segment("none", 0, Scale(0, 1), 1.0),))):
        keys = parties(3)
        sealed = [seal.close({s.name: np.zeros(0) for s in plan.segments}, plan, k, CONTEXT) for k in keys]

        assert all(len(x) == 0 for x in seal.open_total(added(sealed, plan), plan, keys[0], CONTEXT)[0].values())


# ---- the plan -------------------------------------------------------------------------------------------------------------------


def test_sizes_are_known_before_anything_is_computed():
    plan = small_plan(3)
    sealed = seal.close(some_values(plan, 1), plan, parties(3)[0], CONTEXT)

    assert plan.lengths == (3000 + 2001 + 1002 + 1, 2001 + 1002 + 1, 1002 + 1)
    assert plan.chunks == (2, 1, 1)
    assert len(sealed) == seal.share_size((2, 1, 1))
    assert len(added([sealed, sealed], plan)) == seal.total_size((2, 1, 1))


def test_a_vector_that_fills_its_ciphertext_leaves_room_for_the_tag():
    for length, chunks in ((4095, 1), (4096, 2)):
        plan = seal.Plan((seal.Segment("x", length, Scale(0, 1), 10.0),))
        keys, x = parties(3), {"x": np.arange(length) % 10}
        total = added([seal.close(x, plan, k, CONTEXT) for k in keys], plan)

        assert plan.chunks == (chunks,)
        assert np.array_equal(seal.open_total(total, plan, keys[0], CONTEXT)[0]["x"], 3 * x["x"])


def test_every_detail_of_a_plan_changes_its_digest():
    base = seal.Segment("x", 3, Scale(0, 2), 10.0)
    others = [
        (seal.Segment("y", 3, Scale(0, 2), 10.0),),
        (seal.Segment("x", 4, Scale(0, 2), 10.0),),
        (seal.Segment("x", 3, Scale(1, 2), 10.0),),
        (seal.Segment("x", 3, Scale(0, 1), 10.0),),
        (seal.Segment("x", 3, Scale(0, 2), 11.0),),
        (seal.Segment("x", 3, Scale(0, 2), 10.0, real=True),),
        (seal.Segment("x", 3, Scale(0, 1, 2), 10.0),),
        (base, seal.Segment("y", 0, Scale(0, 2), 10.0)),
        (),
    ]

    assert len({seal.Plan(s).layout_digest() for s in [(base,), *others]}) == 10


def test_the_blocks_must_be_those_of_the_plan():
    plan, (me, *_) = small_plan(1), parties(3)
    for wrong in ({}, {"block 0": np.zeros(2999)}, {"block 0": np.zeros(3000), "more": np.zeros(1)}):
        with pytest.raises(InputError):
            seal.close(wrong, plan, me, CONTEXT)
    with pytest.raises(InputError, match="same name"):
        seal.Plan((plan.segments[0], plan.segments[0]))


# ---- keys -----------------------------------------------------------------------------------------------------------------------


def test_one_set_of_masks_is_for_one_vector():
    """Sealing a second time for the same round would show the difference; another round or plan is another set."""
    plan, (me, *_) = small_plan(1), parties(3)
    seal.close(some_values(plan, 1), plan, me, CONTEXT)
    with pytest.raises(OutOfOrder):
        seal.close(some_values(plan, 2), plan, me, CONTEXT)

    seal.close(some_values(plan, 2), plan, me, b"\1" * 32)


def test_a_value_that_was_refused_does_not_use_up_the_round():
    plan, (me, *_) = small_plan(1), parties(3)
    with pytest.raises(RangeError):
        seal.close({"block 0": np.full(3000, 10**7)}, plan, me, CONTEXT)

    seal.close(some_values(plan, 1), plan, me, CONTEXT)


def test_a_seal_needs_three_registries_and_a_key_with_each():
    keys, (pair, K) = he.load(KEY()), ({1: b"a" * 32}, b"K" * 32)
    for pairs, index, n in ((pair, 0, 2), (pair, 0, 3), ({0: b"a" * 32, 1: b"b" * 32}, 0, 3)):
        with pytest.raises(InputError):
            seal.SealKeys(keys, K, pairs, index, n)


def test_secrets_do_not_show_themselves_and_burnt_keys_are_gone():
    (me, *_) = parties(3)
    assert repr(me) == "SealKeys(burnt=False, index=0, registries=3)"
    me.burn()

    assert repr(me) == "SealKeys(burnt=True, index=0, registries=3)"
    with pytest.raises(Tampered):
        seal.close(some_values(small_plan(1), 1), small_plan(1), me, CONTEXT)


def test_a_context_has_32_bytes():
    with pytest.raises(InputError):
        seal.close(some_values(small_plan(1), 1), small_plan(1), parties(3)[0], b"short")


# ---- one registry alone ---------------------------------------------------------------------------------------------------------

CLASSES, DRAWS = 64, 4096 * 8


def uniform_distance(x, prime):
    """Chi-square over equal classes in standard deviations from its mean: a few for uniform numbers, hundreds for others."""
    counts = np.bincount((x * np.uint64(CLASSES) // np.uint64(prime)).astype(int), minlength=CLASSES)
    statistic = ((counts - len(x) / CLASSES) ** 2 / (len(x) / CLASSES)).sum()
    return abs(statistic - (CLASSES - 1)) / np.sqrt(2 * (CLASSES - 1))


@pytest.mark.parametrize("primes", [1, 2])
def test_one_registrys_opened_contribution_is_uniform_noise(primes):
    """Against everybody else but one: all ciphertexts, K, the BFV key, and the pair keys of all registries except two.

    Registries 2, 3 and 4 conspire and know their own pair keys with 0 and with 1, so they take off those masks. What is left of
    registry 0's vector is uniform; the control, with the last mask off as well, is not.
    """
    length = DRAWS - 1
    plan = seal.Plan((seal.Segment("x", length, Scale(0, primes), 100.0),))
    me, *_ = parties(5)
    alone = added([seal.close({"x": np.arange(length) % 7}, plan, me, CONTEXT)], plan)
    bound = seal._round(plan, me, CONTEXT)
    for j, frame in enumerate(seal._frames(seal.TOTAL, alone, plan.chunks)):
        left = he.decrypt(me.he, j, frame, DRAWS)
        for conspirator in (2, 3, 4):
            left = seal.fixedpoint.subtract(
                left, seal.masks.pair_mask(0, {conspirator: me.pair_keys[conspirator]}, bound, j, DRAWS), PRIMES[j]
            )
        bare = seal.fixedpoint.subtract(left, seal.masks.pair_mask(0, {1: me.pair_keys[1]}, bound, j, DRAWS), PRIMES[j])

        assert uniform_distance(left, PRIMES[j]) < 6
        assert uniform_distance(bare, PRIMES[j]) > 100
        assert np.array_equal(bare[:length], np.arange(length) % 7)


def test_a_contribution_alone_does_not_open():
    plan, keys = small_plan(1), parties(3)
    one = seal.close(some_values(plan, 1), plan, keys[0], CONTEXT)
    with pytest.raises(Tampered):
        seal.open_total(added([one], plan), plan, keys[1], CONTEXT)


def test_a_registry_cannot_use_the_padding_as_a_channel(monkeypatch):
    """Its own tag covers what it hides there, so the tag is right; the total is refused all the same."""
    plan, keys = small_plan(1), parties(3)
    sealed = [seal.close(some_values(plan, i), plan, k, CONTEXT) for i, k in enumerate(keys[1:])]
    honest = seal._encode

    def hiding(values, plan):
        vectors = honest(values, plan)
        vectors[0][plan.lengths[0] + 3] = 42
        return vectors

    monkeypatch.setattr(seal, "_encode", hiding)
    sealed.append(seal.close(some_values(plan, 9), plan, keys[0], CONTEXT))
    with pytest.raises(Tampered):
        seal.open_total(added(sealed, plan), plan, keys[1], CONTEXT)


def test_a_malformed_message_is_not_added():
    plan, keys = small_plan(2), parties(3)
    sealed = [seal.close(some_values(plan, i), plan, k, CONTEXT) for i, k in enumerate(keys)]
    adding = seal.Adding(plan.chunks)
    for one in sealed:
        with pytest.raises(MessageError):
            adding.add(one[:-1] + bytes([one[-1] ^ 1]))  # the last prime's frame: the first prime must not be added either
        adding.add(one)

    seal.open_total(adding.total(), plan, keys[0], CONTEXT)
