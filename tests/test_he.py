"""The outer seal: adds exactly, opens for its key only, and takes nothing but what it would write itself."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fedstats.crypto import frames, he, sealformat, sealmemory
from fedstats.crypto.adding import Adder
from fedstats.crypto.fixedpoint import PRIMES
from fedstats.crypto.frames import SHARE, TOTAL
from fedstats.errors import Internal, MessageError, RangeError, Tampered

N = 5000  # two ciphertexts


@pytest.fixture(scope="module")
def pair():
    return he.generate()


@pytest.fixture(scope="module")
def keys(pair):
    return he.load(bytes(pair))


def residues(j, n=N, seed=0):
    return np.random.default_rng(seed).integers(0, PRIMES[j], n, dtype=np.uint64)


def total_of(j, *shares):
    """What the coordinator makes of shares."""
    adder = Adder(j, (len(shares[0]) - frames.FRAME.size - 32) // SHARE.size)
    for share in shares:
        adder.add(share)
    return adder.total()


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

    assert np.array_equal(he.decrypt(he.load(pair), j, total_of(j, he.encrypt(keys, j, x)), n), x)


def test_two_thousand_additions_are_exact(keys):
    frame, adder = he.encrypt(keys, 0, residues(0, 4096)), Adder(0, 1)
    for _ in range(2000):
        adder.add(frame)

    assert he.decrypt(keys, 0, adder.total(), 4096).tolist() == [2000 * x % PRIMES[0] for x in residues(0, 4096).tolist()]


def test_the_total_is_the_sum_of_both_polynomials(keys):
    """SEAL's additions are those of whole numbers modulo q1 and q2, of the first polynomials as they were sent and of the drawn ones."""
    ring = keys.opened(0).ring
    shares = [he.encrypt(keys, 0, residues(0, 4096, seed)) for seed in (1, 2, 3)]
    sent = [next(frames.ciphertexts(SHARE, share, 1, 0)) for share in shares]
    whole = [sealmemory.numbers_of(ring, sealmemory.expanded(ring, *one)) for one in sent]
    total, _ = next(frames.ciphertexts(TOTAL, total_of(0, *shares), 1, 0))

    assert all(np.array_equal(one[0], numbers) for one, (numbers, _) in zip(whole, sent))
    assert np.array_equal(total, sum(whole) % frames.moduli(total.shape))


def test_the_drawn_polynomial_is_random(keys):
    """Other in every ciphertext, even of one vector, and uniform: of 8192 numbers, tenths of the range hold a tenth each."""
    from scipy.stats import chisquare

    ring = keys.opened(0).ring
    drawn = [sealmemory.numbers_of(ring, sealmemory.expanded(ring, *one))[1]
             for one in frames.ciphertexts(SHARE, he.encrypt(keys, 0, np.zeros(8192, dtype=np.uint64)), 2, 0)]
    tenths = [np.bincount((10 * one // frames.moduli(one.shape)).astype(int).ravel(), minlength=10) for one in drawn]

    assert not np.any(drawn[0] == drawn[1])
    assert all(chisquare(one).pvalue > 1e-6 for one in tenths)


@pytest.mark.parametrize("prime", PRIMES)
def test_the_parameters_are_those_of_the_parameter_set(prime, tmp_path):
    """Degree, moduli and prime that SEAL holds; the moduli that it derives from their bits; 128 bits of security at the least."""
    from tenseal import sealapi

    context = sealmemory.ring(prime).context
    held = context.key_context_data().parms()
    held.save(str(tmp_path / "parameters"))

    assert tuple(m.value() for m in held.coeff_modulus()) == frames.MODULI
    assert all(held.coeff_modulus()[k].is_prime() and m % (2 * frames.DEGREE) == 1 for k, m in enumerate(frames.MODULI))
    assert context.first_parms_id() == context.key_parms_id()       # none is set aside
    assert (held.scheme(), held.poly_modulus_degree()) == (sealapi.SCHEME_TYPE.BFV, frames.DEGREE)
    assert held.plain_modulus().value() == prime
    assert context.first_context_data().qualifiers().sec_level == sealapi.SEC_LEVEL_TYPE.TC128
    ours = sealformat.parameters(frames.DEGREE, frames.MODULI, prime, sealmemory.ring(prime).version)
    assert sealformat.own((tmp_path / "parameters").read_bytes()) == sealformat.own(ours)


def test_parameters_that_are_not_safe_are_refused(monkeypatch):
    """Larger moduli of the same form would have fewer than 128 bits of security."""
    from tenseal import sealapi

    larger = tuple(m.value() for m in sealapi.CoeffModulus.Create(frames.DEGREE, [55, 55]))     # together 110 of 109 allowed
    monkeypatch.setattr(sealmemory, "MODULI", larger)
    with pytest.raises(Internal, match="refuses the parameters"):
        sealmemory.ring.__wrapped__(PRIMES[0])


@pytest.fixture
def without_memory_files(monkeypatch):
    """A system such as macOS or Windows."""
    monkeypatch.setattr(sealmemory, "has_memory_files", lambda: False)


@pytest.mark.parametrize("j", [0, 1, 2])
def test_systems_without_memory_files_say_and_read_the_same(keys, pair, without_memory_files, j):
    """Keys made here open there, and the other way round; vectors likewise, sums included."""
    there = he.load(pair)
    total = total_of(j, he.encrypt(there, j, residues(j)), he.encrypt(keys, j, residues(j)))

    assert type(there.opened(j)) is type(keys.opened(j))
    for both in (there, keys):
        assert he.decrypt(both, j, total, N).tolist() == [2 * x % PRIMES[j] for x in residues(j).tolist()]


def test_keys_made_without_memory_files_are_keys(without_memory_files, monkeypatch):
    made = he.generate()
    frame = total_of(1, he.encrypt(he.load(made), 1, residues(1)))
    monkeypatch.undo()

    assert np.array_equal(he.decrypt(he.load(made), 1, frame, N), residues(1))


def test_without_memory_files_no_key_comes_near_a_file(without_memory_files, monkeypatch):
    """What passes through temporary files, in making, loading and using a key, is not the key: no run of its numbers, in any form."""
    seen, honest = [], sealmemory.public_file

    @contextmanager
    def noted(content=b""):
        with honest(content) as path:
            yield path
            seen.append(content + Path(path).read_bytes())

    monkeypatch.setattr(sealmemory, "public_file", noted)
    made = he.generate()
    keys = he.load(made)
    numbers = keys._secret.copy()
    he.decrypt(keys, 1, total_of(1, he.encrypt(keys, 1, residues(1))), N)

    runs = [numbers.astype("<u8").tobytes()[8 * k : 8 * k + 64] for k in (0, 100, 5000)]
    assert len(seen) >= 6
    assert not any(run in sealformat.own(one) or run in one for one in seen for run in runs if len(one) > 16)


def test_without_memory_files_wrong_keys_are_refused_too(without_memory_files):
    test_a_zero_key_is_refused()


@pytest.mark.skipif(not sealmemory.has_memory_files(), reason="this system has no files that live in memory only")
def test_a_memory_file_is_on_no_disk_and_overwritten_at_the_end():
    """Whoever still holds it open afterwards reads zeros."""
    with sealmemory.memory_file(b"secret key") as path:
        assert os.readlink(path).startswith("/memfd:")
        left = os.open(path, os.O_RDONLY)

    assert os.pread(left, 100, 0) == bytes(10)
    os.close(left)


@pytest.mark.skipif(not sealmemory.has_memory_files(), reason="this system has no files that live in memory only")
def test_adding_needs_no_more_files(keys, monkeypatch):
    """Somebody has taken every file descriptor there was: a total that has been begun is finished all the same."""
    share = he.encrypt(keys, 0, residues(0))
    adder = Adder(0, 2)
    adder.add(share)

    def none_left(name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", none_left)
    adder.add(share)
    total = adder.total()
    monkeypatch.undo()
    assert he.decrypt(keys, 0, total, N).tolist() == [2 * x % PRIMES[0] for x in residues(0).tolist()]


@pytest.mark.skipif(not sealmemory.has_memory_files(), reason="this system has no files that live in memory only")
def test_a_forked_process_uses_none_of_its_parents_files(keys):
    """They would be the same files: each would read what the other wrote."""
    he.encrypt(keys, 0, residues(0))
    assert sealmemory._spare
    if (child := os.fork()) == 0:
        os._exit(len(sealmemory._spare))
    assert os.waitpid(child, 0)[1] == 0


def test_threads_do_not_get_into_each_others_way(pair):
    """Eight threads, each with its own vector, on keys that all of them open first."""
    shared = he.load(pair)

    def comes_back(seed):
        x = residues(seed % 2, 4096, seed)
        return np.array_equal(he.decrypt(shared, seed % 2, total_of(seed % 2, he.encrypt(shared, seed % 2, x)), 4096), x)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(comes_back, range(16)))


def test_frames_have_a_size_known_before(keys):
    """A share has 8.5 bytes per value and a seed of 64 per ciphertext, a total 17 bytes per value."""
    share = he.encrypt(keys, 0, residues(0))

    assert len(share) == frames.frame_size(SHARE, 2) == 46 + 2 * (8.5 * 4096 + 64)
    assert len(total_of(0, share)) == frames.frame_size(TOTAL, 2) == 46 + 2 * 17 * 4096


def test_the_same_vector_is_never_encrypted_alike(keys):
    assert he.encrypt(keys, 0, residues(0)) != he.encrypt(keys, 0, residues(0))


def test_adding_needs_no_code_that_opens():
    """A fresh interpreter adds two shares and holds the total; the file that makes and uses keys is not loaded for it."""
    share = "frames.frame_of(frames.SHARE, 0, [bytes(frames.SHARE.size)])"
    program = (
        f"import sys; from fedstats.crypto import adding, frames; a = adding.Adder(0, 1); a.add({share}); a.add({share}); a.total();"
        "sys.exit('fedstats.crypto.he' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_key_is_one_polynomial(pair):
    """No public, Galois or relinearisation keys; one for all primes."""
    assert len(pair) == 69 + 4.25 * 2 * 4096


def test_secrets_do_not_show_themselves(pair, keys):
    assert repr(pair) == str(pair) == f"SecretKey({len(pair)} bytes)"
    assert repr(keys) == "Keys(burnt=False)"


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


def test_a_key_is_for_its_own_query(keys):
    """Another query's key opens to noise; a frame of another prime is not taken, nor is a share as a total or a total as a share."""
    share = he.encrypt(keys, 0, residues(0))
    frame = total_of(0, share)

    assert not np.array_equal(he.decrypt(he.load(he.generate()), 0, frame, N), residues(0))
    for bad in (lambda: he.decrypt(keys, 1, frame, N), lambda: he.decrypt(keys, 0, share, N), lambda: Adder(0, 2).add(frame)):
        with pytest.raises(MessageError):
            bad()
    with pytest.raises(RangeError):
        keys.opened(3)


def test_burnt_keys_open_nothing(pair):
    keys = he.load(pair)
    frame = total_of(0, he.encrypt(keys, 0, residues(0)))
    held = keys._secret
    keys.burn()

    assert repr(keys) == "Keys(burnt=True)"
    assert held.size and not held.any()
    with pytest.raises(Tampered):
        he.decrypt(keys, 0, frame, N)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[:-1],
        lambda frame: frame + b"\0",
        lambda frame: frame[: -SHARE.size],
        lambda frame: frame + frame[-SHARE.size :],
        lambda frame: b"",
        lambda frame: os.urandom(len(frame)),
        lambda frame: bytes(len(frame)),
        lambda frame: bytearray(frame),
    ],
)
def test_frames_of_another_size_or_kind_are_not_messages(keys, change):
    frame = he.encrypt(keys, 0, residues(0))
    with pytest.raises(MessageError):
        frames.check_frame(SHARE, change(frame), 2, 0)


def test_a_frame_cut_or_changed_at_any_byte_of_its_head_is_not_a_message(keys):
    frame = he.encrypt(keys, 0, residues(0))
    for k in range(frames.FRAME.size + 32 + 8):
        for bad in (frame[:k], frame[:k] + bytes([frame[k] ^ 0x80]) + frame[k + 1 :]):
            with pytest.raises(MessageError):
                frames.check_frame(SHARE, bad, 2, 0)


def test_a_number_beyond_its_modulus_is_refused_even_with_a_good_digest(keys):
    """All high bits set in the body; then one number exactly at its modulus."""
    frame = he.encrypt(keys, 0, residues(0))
    head = frames.FRAME.size
    at_modulus = np.zeros(frames.POLYNOMIAL_SHAPE, dtype=np.uint64)
    at_modulus[1, 7] = frames.MODULI[1]
    bodies = [b"\xff" * (2 * SHARE.size), frame[head + 32 : head + 32 + SHARE.size] + frames.pack(at_modulus) + bytes(64)]

    for body in bodies:
        with pytest.raises(MessageError, match="outside its range"):
            frames.check_frame(SHARE, resealed(frame[: head + 32] + body, head), 2, 0)


def test_a_refused_frame_leaves_the_total_as_it_was(keys):
    good, adder = he.encrypt(keys, 0, residues(0)), Adder(0, 2)
    bad = resealed(good[:-4096] + b"\xff" * 4032 + good[-64:], frames.FRAME.size)
    adder.add(good)
    with pytest.raises(MessageError):
        adder.add(bad)

    assert adder.count == 1
    assert np.array_equal(he.decrypt(keys, 0, adder.total(), N), residues(0))


def test_a_frame_of_zeros_is_a_sum_of_nothing(keys):
    """Well formed, so the cipher alone cannot tell: the tag must (see test_seal_attacks)."""
    assert not he.decrypt(keys, 0, Adder(0, 2).total(), N).any()


# ---- keys from outside ----------------------------------------------------------------------------------------------------------


def test_a_key_cut_or_changed_at_any_byte_of_its_head_is_refused(pair):
    for k in [*range(he.KEY.size + 32), len(pair) // 2, len(pair) - 1]:
        for bad in (bytes(pair[:k]), bytes(pair[:k]) + bytes([pair[k] ^ 1]) + bytes(pair[k + 1 :])):
            with pytest.raises(MessageError):
                he.load(bad)


def test_a_zero_key_is_refused():
    """It would encrypt in the clear; under one of the moduli alone as well. A number beyond its modulus is no key."""
    key = bytes(he.generate())
    start, half = he.KEY.size + 32, 4 * 4096
    for bad, error in (
        (key[:start] + bytes(frames.SECRET_BYTES), Tampered),
        (key[:start] + bytes(half) + key[start + half : start + 2 * half] + bytes(1024) + key[start + 2 * half + 1024 :], Tampered),
        (key[:start] + b"\xff" * frames.SECRET_BYTES, MessageError),
    ):
        with pytest.raises(error):
            he.load(resealed(bad, he.KEY.size))


def test_a_key_that_is_burnt_while_it_is_opened_is_not_used(pair, monkeypatch):
    """Another thread's burning comes between: what would encrypt in the clear is refused."""
    keys, honest = he.load(pair), sealmemory.secret_key

    def burning(ring, secret):
        keys.burn()
        return honest(ring, secret)

    monkeypatch.setattr(sealmemory, "secret_key", burning)
    with pytest.raises(Tampered):
        he.encrypt(keys, 0, residues(0))


def test_another_library_is_noticed_before_it_is_needed(monkeypatch):
    """One that draws other polynomials from a seed, and one that does not open what it closed."""
    monkeypatch.setattr(sealmemory, "DRAWN", "0" * 64)
    with pytest.raises(Internal, match="draws other polynomials"):
        sealmemory.ring.__wrapped__(PRIMES[0])
    monkeypatch.undo()
    he.rehearse()
    monkeypatch.setattr(he, "_decrypt", lambda opened, sealed: np.zeros(4096, dtype=np.uint64))
    with pytest.raises(Internal, match="does not open"):
        he.rehearse()


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
