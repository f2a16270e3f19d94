"""The outer seal: adds exactly, opens for its key only, and takes nothing but what it would write itself."""

import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from fedstats.crypto import frames, he, sealformat
from fedstats.crypto.fixedpoint import PRIMES
from fedstats.errors import MessageError, RangeError, Tampered

N = 5000  # two ciphertexts


@pytest.fixture(scope="module")
def pair():
    return he.generate(3)


@pytest.fixture(scope="module")
def keys(pair):
    return he.load(bytes(pair))


def residues(j, n=N, seed=0):
    return np.random.default_rng(seed).integers(0, PRIMES[j], n, dtype=np.uint64)


def resealed(frame, head_size):
    """The same bytes with a digest that fits them: what somebody who knows the format would send."""
    head, body = frame[:head_size], frame[head_size + 32 :]
    return head + sha256(head + body).digest() + body


# ---- what it is for -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("j", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 4095, 4096, 4097])
def test_a_vector_comes_back_and_two_keys_holders_share_it(pair, keys, j, n):
    """One registry encrypts, another that loaded the same keys decrypts; the edges of the range included."""
    x = residues(j, n)
    x[0], x[-1] = PRIMES[j] - 1, PRIMES[j] // 2 + 1

    assert np.array_equal(he.decrypt(he.load(pair), j, he.encrypt(keys, j, x), n), x)


def test_two_thousand_additions_are_exact(keys):
    frame, adder = he.encrypt(keys, 0, residues(0, 4096)), frames.Adder(0, 1)
    for _ in range(2000):
        adder.add(frame)

    assert he.decrypt(keys, 0, adder.total(), 4096).tolist() == [2000 * x % PRIMES[0] for x in residues(0, 4096).tolist()]


def test_our_addition_is_the_one_of_seal(keys):
    """The same two ciphertexts added by tenseal and by numpy are the same numbers."""
    import tenseal

    context, head = keys.context(0), he._local(0).ciphertext_head
    sealed = [he.encrypt(keys, 0, residues(0, 4096, seed)) for seed in (1, 2)]

    def seal_vector(frame):
        (c,) = frames.ciphertexts(frame, 1, 0)
        sizes = sealformat.field_of(1, sealformat.varint(4096))
        stream = sealformat.stream(head + c.tobytes(), he._local(0).version)
        return tenseal.bfv_vector_from(context, sizes + sealformat.field_of(2, stream))

    theirs = dict(sealformat.fields((seal_vector(sealed[0]) + seal_vector(sealed[1])).serialize()))[2]
    adder = frames.Adder(0, 1)
    for frame in sealed:
        adder.add(frame)

    expected = sealformat.numbers_of(sealformat.own(theirs), head, frames.CIPHERTEXT_SHAPE)
    assert np.array_equal(expected, next(frames.ciphertexts(adder.total(), 1, 0)))


def test_the_moduli_are_those_that_seal_derives():
    """SEAL's own parameters hold degree, the three moduli and the prime as 64-bit words."""
    for j, prime in enumerate(PRIMES):
        body = sealformat.own(dict(sealformat.fields(he._local(j).parameters))[1])
        for number in (frames.DEGREE, *frames.MODULI, prime):
            assert number.to_bytes(8, "little") in body


def test_a_frame_has_seventeen_bytes_per_value_and_a_size_known_before(keys):
    assert len(he.encrypt(keys, 0, residues(0))) == frames.frame_size(2) == 46 + 2 * 17 * 4096


def test_the_same_vector_is_never_encrypted_alike(keys):
    assert he.encrypt(keys, 0, residues(0)) != he.encrypt(keys, 0, residues(0))


def test_whoever_adds_never_opens_tenseal():
    """A fresh interpreter adds two frames; the heavy library is not loaded."""
    program = (
        "import sys; from fedstats.crypto import frames; z = frames.Adder(0, 1).total(); a = frames.Adder(0, 1);"
        " a.add(z); a.add(z); a.total();"
        "sys.exit(any(name in sys.modules for name in ('tenseal', '_tenseal_cpp', 'pyarrow')))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_keys_travel_without_the_keys_that_nobody_needs(pair):
    """No Galois or relinearisation keys: fewer than 160 kB per prime."""
    assert len(pair) < 3 * 160_000


def test_secrets_do_not_show_themselves(pair, keys):
    assert repr(pair) == str(pair) == f"KeyPair({len(pair)} bytes)"
    assert repr(keys) == "Keys(3 primes)"


# ---- what it refuses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        np.array([PRIMES[0]], dtype=np.uint64),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array([-1]),
        np.array([1]),
        np.array([1.0]),
        np.array([True]),
        np.array([[1]], dtype=np.uint64),
        np.array([], dtype=np.uint64),
        np.array([1], dtype=object),
        [1],
    ],
)
def test_only_unsigned_residues_are_encrypted(keys, bad):
    with pytest.raises(RangeError):
        he.encrypt(keys, 0, bad)


def test_a_key_is_for_its_own_prime_and_query(keys):
    """Another query's key opens to noise; a frame of another prime is not taken."""
    frame = he.encrypt(keys, 0, residues(0))

    assert not np.array_equal(he.decrypt(he.load(he.generate(1)), 0, frame, N), residues(0))
    with pytest.raises(MessageError):
        he.decrypt(keys, 1, frame, N)
    with pytest.raises(RangeError):
        he.load(he.generate(1)).context(1)


def test_burnt_keys_open_nothing(pair):
    keys = he.load(pair)
    frame = he.encrypt(keys, 0, residues(0))
    keys.burn()

    assert repr(keys) == "Keys(burnt)"
    with pytest.raises(Tampered):
        he.decrypt(keys, 0, frame, N)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[:-1],
        lambda frame: frame + b"\0",
        lambda frame: frame[: -frames.CIPHERTEXT_BYTES],
        lambda frame: frame + frame[-frames.CIPHERTEXT_BYTES :],
        lambda frame: b"",
        lambda frame: os.urandom(len(frame)),
        lambda frame: bytes(len(frame)),
        lambda frame: bytearray(frame),
    ],
)
def test_frames_of_another_size_or_kind_are_not_messages(keys, change):
    frame = he.encrypt(keys, 0, residues(0))
    with pytest.raises(MessageError):
        frames.check_frame(change(frame), 2, 0)


def test_a_frame_cut_or_changed_at_any_byte_of_its_head_is_not_a_message(keys):
    frame = he.encrypt(keys, 0, residues(0))
    for k in range(frames.FRAME.size + 32 + 8):
        for bad in (frame[:k], frame[:k] + bytes([frame[k] ^ 0x80]) + frame[k + 1 :]):
            with pytest.raises(MessageError):
                frames.check_frame(bad, 2, 0)


def test_a_number_beyond_its_modulus_is_refused_even_with_a_good_digest(keys):
    """All high bits set in the body; then one number exactly at its modulus."""
    frame = he.encrypt(keys, 0, residues(0))
    head = frames.FRAME.size
    at_modulus = np.zeros(frames.CIPHERTEXT_SHAPE, dtype=np.uint64)
    at_modulus[1, 1, 7] = frames.MODULI[1]
    bodies = [b"\xff" * (2 * frames.CIPHERTEXT_BYTES), frame[head + 32 : head + 32 + frames.CIPHERTEXT_BYTES] + frames.pack(at_modulus)]

    for body in bodies:
        with pytest.raises(MessageError, match="outside its range"):
            frames.check_frame(resealed(frame[: head + 32] + body, head), 2, 0)


def test_a_refused_frame_leaves_the_total_as_it_was(keys):
    good, adder = he.encrypt(keys, 0, residues(0)), frames.Adder(0, 2)
    bad = resealed(good[:-4096] + b"\xff" * 4096, frames.FRAME.size)
    adder.add(good)
    with pytest.raises(MessageError):
        adder.add(bad)

    assert adder.count == 1
    assert np.array_equal(he.decrypt(keys, 0, adder.total(), N), residues(0))


def test_a_frame_of_zeros_is_a_sum_of_nothing(keys):
    """Well formed, so the cipher alone cannot tell: the tag must (see test_seal_attacks)."""
    assert not he.decrypt(keys, 0, frames.Adder(0, 2).total(), N).any()


# ---- keys from outside ----------------------------------------------------------------------------------------------------------


def test_keys_cut_or_changed_at_any_byte_of_their_head_are_refused(pair):
    for k in [*range(he.KEYS.size + 32), len(pair) // 2, len(pair) - 1]:
        for bad in (bytes(pair[:k]), bytes(pair[:k]) + bytes([pair[k] ^ 1]) + bytes(pair[k + 1 :])):
            with pytest.raises(MessageError):
                he.load(bad)


def test_keys_that_are_zero_or_do_not_fit_together_are_refused():
    """A zero public or secret key would encrypt in the clear; the public key of another pair would never open."""
    a, b = (bytes(he.generate(1)) for _ in range(2))
    start, public = he.KEYS.size + 32, frames.PUBLIC_BYTES
    one_poly = public // 2
    for bad in (
        a[:start] + bytes(public) + a[start + public :],
        a[: start + public] + bytes(frames.SECRET_BYTES),
        b[: start + public] + a[start + public :],
        a[:start] + os.urandom(one_poly // 17 * 16).ljust(one_poly, b"\0") + a[start + one_poly :],
    ):
        with pytest.raises((Tampered, MessageError)):
            he.load(resealed(bad, he.KEYS.size)).context(0)


def test_keys_of_other_parameters_are_refused(pair, monkeypatch):
    monkeypatch.setattr(he, "PARAMETER_SET", "bfv-8192-218-40/1")
    with pytest.raises(MessageError, match="bfv-8192"):
        he.load(pair)


def test_a_tenseal_context_is_not_a_key():
    """The library's own format, with whatever parameters, never reaches the library."""
    import tenseal

    context = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, 1032193)
    with pytest.raises(MessageError):
        he.load(context.serialize(save_secret_key=True))
