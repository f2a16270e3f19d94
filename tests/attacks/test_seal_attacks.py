"""What a coordinator, or whoever carries its bytes, can do to a total: delay it. Everything else is found, in one and the same
way."""

import hashlib
import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from fedstats.crypto import frames, he, seal, sealformat, sealmemory
from fedstats.crypto.fixedpoint import PRIMES, Scale
from fedstats.crypto.frames import SHARE, TOTAL
from fedstats.errors import FedstatsError, MessageError, RangeError, Tampered

from .forging import added, ciphertexts, encryption, joined, sum_of_totals, total_of

REGISTRIES, LENGTH = 4, 6000  # two ciphertexts per prime
ROUND_1, ROUND_2 = (hashlib.sha256(b"round %d" % r).digest() for r in (1, 2))
PLAN = seal.Plan((seal.Segment("counts", LENGTH // 2, Scale(0, 2), 1000.0), seal.Segment("sums", LENGTH // 2, Scale(40, 2), 1.0)))
SAME_SIZE = seal.Plan((seal.Segment("others", LENGTH, Scale(0, 2), 1000.0),))
TEXT = r"^answer could not be verified$"
FRAME_HEAD = frames.FRAME.size


class Stage:
    """One query of four registries: two rounds sealed, and a second query with keys of its own."""

    def __init__(self):
        self.pair, self.other_pair = he.generate(), he.generate()
        self.values = [
            {"counts": rng.integers(0, 1000, LENGTH // 2), "sums": rng.uniform(-1, 1, LENGTH // 2)}
            for rng in map(np.random.default_rng, range(REGISTRIES))
        ]
        self.first, self.second = self.sent(ROUND_1), self.sent(ROUND_2)
        self.elsewhere = self.sent(ROUND_1, self.other_pair, b"L" * 32)
        self.total, self.total_2 = self.sum(self.first), self.sum(self.second)

    def keys(self, index=0, pair=None, K=b"K" * 32):
        def shared(i, j):
            return hashlib.sha256(K + b"%d %d" % (min(i, j), max(i, j))).digest()

        others = {j: shared(index, j) for j in range(REGISTRIES) if j != index}
        return seal.SealKeys(he.load(pair or self.pair), K, others, index, REGISTRIES)

    def sent(self, context, pair=None, K=b"K" * 32):
        return [seal.close(v, PLAN, self.keys(i, pair, K), context) for i, v in enumerate(self.values)]

    @staticmethod
    def sum(sealed):
        return added(sealed, PLAN.chunks)


@pytest.fixture(scope="module")
def stage():
    return Stage()


def parts_of(total):
    return seal._frames(TOTAL, total, PLAN.chunks)


def changed(total, change, only=None):
    """The same bytes with a change applied to the list of ciphertexts of every prime, or of one."""
    return total_of([each if only not in (None, j) else change(each) for j, each in enumerate(ciphertexts(total, PLAN.chunks))])


def times(k):
    return lambda chunks: [c * np.uint64(k) % frames.moduli(c.shape) for c in chunks]


def encrypted(stage, *vectors):
    """What the coordinator would send if it had the key: fresh encryptions of vectors of its choice."""
    return encryption(he.load(stage.pair), vectors)


def with_added(stage, other):
    return sum_of_totals(stage.total, other, PLAN.chunks)


def zeros():
    return np.zeros(2 * frames.DEGREE, dtype=np.uint64)


def bump(at):
    x = zeros()
    x[at] = 1
    return x


def relabelled(frame, j):
    """A frame under another prime's name, its digest made to fit."""
    body = frame[FRAME_HEAD + frames.DIGEST :]
    return frames.frame_of(TOTAL, j, [body[: TOTAL.size], body[TOTAL.size :]])


ATTACKS = {
    "doubled": lambda s: with_added(s, s.total),
    "tripled": lambda s: changed(s.total, times(3)),
    "one prime doubled": lambda s: changed(s.total, times(2), only=1),
    "negated": lambda s: changed(s.total, lambda cs: [(frames.moduli(c.shape) - c) % frames.moduli(c.shape) for c in cs]),
    "nothing added": lambda s: seal.Adding(PLAN.chunks).total(),
    "fresh encryption of zeros": lambda s: encrypted(s, zeros(), zeros()),
    "one prime replaced by zeros": lambda s: joined([parts_of(s.total)[0], parts_of(encrypted(s, zeros(), zeros()))[1]]),
    "one registry dropped": lambda s: s.sum(s.first[1:]),
    "two registries dropped": lambda s: s.sum(s.first[2:]),
    "one registry alone": lambda s: s.sum(s.first[2:3]),
    "a share instead of a total": lambda s: s.first[2],
    "one registry twice": lambda s: s.sum([*s.first, s.first[1]]),
    "one registry twice instead of another": lambda s: s.sum([*s.first[1:], s.first[1]]),
    "total of another round": lambda s: s.total_2,
    "one registry's message of another round": lambda s: s.sum([*s.first[1:], s.second[0]]),
    "both rounds added": lambda s: with_added(s, s.total_2),
    "one prime of another round": lambda s: joined([parts_of(s.total)[0], parts_of(s.total_2)[1]]),
    "primes swapped": lambda s: joined([relabelled(f, j) for j, f in enumerate(reversed(parts_of(s.total)))]),
    "chunks swapped": lambda s: changed(s.total, lambda cs: cs[::-1]),
    "chunk repeated": lambda s: changed(s.total, lambda cs: [cs[0], cs[0]]),
    "first entry moved by one": lambda s: with_added(s, encrypted(s, bump(0), bump(0))),
    "an entry moved by one in one prime": lambda s: with_added(s, encrypted(s, bump(4500), zeros())),
    "the tag moved by one": lambda s: with_added(s, encrypted(s, bump(-1), zeros())),
    "a message in the padding": lambda s: with_added(s, encrypted(s, bump(LENGTH + 5), bump(LENGTH + 5))),
    "total of another query": lambda s: s.sum(s.elsewhere),
    "one registry's message of another query": lambda s: s.sum([*s.first[1:], s.elsewhere[0]]),
    "polynomials swapped": lambda s: changed(s.total, lambda cs: [c[::-1] for c in cs]),
    "second polynomial zero": lambda s: changed(s.total, lambda cs: [np.stack([c[0], c[1] * np.uint64(0)]) for c in cs]),
    "random numbers": lambda s: changed(
        s.total, lambda cs: [np.random.default_rng(5).integers(0, frames.moduli(c.shape), c.shape, dtype=np.uint64) for c in cs]
    ),
    "one byte short": lambda s: s.total[:-1],
    "one byte long": lambda s: s.total + b"\0",
    "empty": lambda s: b"",
    "random bytes": lambda s: os.urandom(len(s.total)),
}


def test_the_true_total_opens(stage):
    """The control of everything below."""
    integers, _ = seal.open_total(stage.total, PLAN, stage.keys(2), ROUND_1)

    assert np.array_equal(integers["counts"], sum(v["counts"] for v in stage.values))


@pytest.mark.parametrize("attack", ATTACKS)
def test_any_other_total_is_refused_with_one_text_and_burns_the_keys(stage, attack):
    keys = stage.keys()
    with pytest.raises(Tampered, match=TEXT) as caught:
        seal.open_total(ATTACKS[attack](stage), PLAN, keys, ROUND_1)

    assert caught.value.__cause__ is None
    assert caught.value.hint == ""
    assert keys.burnt
    with pytest.raises(Tampered, match=TEXT):  # nor does the true one open any more
        seal.open_total(stage.total, PLAN, keys, ROUND_1)


def test_another_round_transcript_plan_or_place_does_not_open(stage):
    """The right bytes under a wrong view of what they answer."""
    for plan, context in ((PLAN, ROUND_2), (SAME_SIZE, ROUND_1)):
        with pytest.raises(Tampered, match=TEXT):
            seal.open_total(stage.total, plan, stage.keys(), context)
    with pytest.raises(Tampered, match=TEXT):
        seal.open_total(stage.total, PLAN, stage.keys(K=b"L" * 32), ROUND_1)


def test_registries_that_saw_different_totals_end_in_noise(stage):
    """Whoever has another transcript closes the next round under other masks: the sum is noise for everybody."""
    astray = seal.close(stage.values[0], PLAN, stage.keys(0), hashlib.sha256(b"another round 2").digest())
    with pytest.raises(Tampered, match=TEXT):
        seal.open_total(stage.sum([astray, *stage.second[1:]]), PLAN, stage.keys(1), ROUND_2)


def test_a_linear_tag_alone_would_be_forged(stage):
    """Why the offsets are there: without them twice the total carries twice the tag, and zeros carry zero."""
    rng, prime = np.random.default_rng(3), PRIMES[0]
    x, r = (rng.integers(0, prime, 50, dtype=np.uint64) for _ in range(2))
    carried = seal.tag.tag(x, r, 0, prime)

    assert seal.tag.check(seal.fixedpoint.add(x, x, prime), 2 * carried, r, [0], prime)
    assert seal.tag.check(x * np.uint64(0), 0, r, [0], prime)


def test_one_bit_flipped_anywhere_is_found(stage):
    """A sample over a whole share and the whole total: as sent, and in the total with a digest that the attacker made to fit."""
    rng = np.random.default_rng(11)
    head, inner = seal.HEAD.size, FRAME_HEAD + frames.DIGEST
    for kind, good in ((SHARE, stage.first[1]), (TOTAL, stage.total)):
        frame_bytes = frames.frame_size(kind, 2)
        for at in [*range(head + inner), *rng.integers(0, len(good), 25).tolist()]:
            bad = bytearray(good)
            bad[at] ^= 1 << int(rng.integers(8))
            with pytest.raises(MessageError):
                seal.Adding(PLAN.chunks).add(bytes(bad)) if kind is SHARE else parts_checked(bytes(bad))
            j, inside = divmod(at - head, frame_bytes)
            if at < head or inside < inner:
                continue
            start = head + j * frame_bytes
            body = bytes(bad[start + inner : start + frame_bytes])
            bad[start + FRAME_HEAD : start + inner] = frames.digest_of(bytes(bad[start : start + FRAME_HEAD]), body)
            total = bytes(bad) if kind is TOTAL else with_share(stage, bytes(bad))
            if total is not None:
                with pytest.raises(Tampered, match=TEXT):
                    seal.open_total(total, PLAN, stage.keys(), ROUND_1)


def parts_checked(total):
    for j, frame in enumerate(parts_of(total)):
        frames.check_frame(TOTAL, frame, 2, j)


def with_share(stage, bad):
    """The total with a changed share in the place of the second; None if the coordinator sees that it is none."""
    try:
        return stage.sum([stage.first[0], bad, *stage.first[2:]])
    except MessageError:
        return None


# ---- hostile bytes --------------------------------------------------------------------------------------------------------------


def decoders(stage):
    """Everything that takes bytes from outside."""
    return {
        "adding": lambda data: seal.Adding(PLAN.chunks).add(data),
        "opening": lambda data: seal.open_total(data, PLAN, stage.keys(), ROUND_1),
        "share": lambda data: frames.check_frame(SHARE, data, 2, 0),
        "total": lambda data: frames.check_frame(TOTAL, data, 2, 0),
        "keys": he.load,
    }


def honest_for(stage, decoder):
    """What this decoder takes."""
    return {"adding": stage.first[0], "share": seal._frames(SHARE, stage.first[0], PLAN.chunks)[0], "total": parts_of(stage.total)[0],
            "keys": bytes(stage.pair)}.get(decoder, stage.total)


def bomb():
    """300 MB of zeros in 300 kB, made piece by piece so that making it takes no memory."""
    press = zlib.compressobj(9)
    return b"".join(press.compress(bytes(1_000_000)) for _ in range(300)) + press.flush()


def bombs(stage):
    """Small bytes that claim to be much, in SEAL's format, in ours, and in a compressed one."""
    import tenseal

    context, field = tenseal.context(tenseal.SCHEME_TYPE.BFV, 4096, PRIMES[0], [33, 34, 34]), sealmemory.field
    size = sealformat.SEAL_HEADER.size
    head = (sealformat.SEAL_MAGIC, size, *sealmemory.ring(PRIMES[0]).version, sealformat.ZLIB, 0, size + len(bomb()))
    seal_stream = sealformat.SEAL_HEADER.pack(*head) + bomb()
    size = seal.total_size(PLAN.chunks)
    return {
        "a context with all its keys": context.serialize(save_secret_key=True),
        "a vector of the library": tenseal.bfv_vector(context, [1]).serialize(),
        "a vector with a false size": field(1, b"\x80\x80\x80\x80\x08") + field(2, seal_stream),
        "a compressed ciphertext": field(1, b"\x80\x20") + field(2, seal_stream),
        "compressed, at the right size": (stage.total[: seal.HEAD.size] + seal_stream).ljust(size, b"\0")[:size],
        "four billion ciphertexts": frames.FRAME.pack(SHARE.magic, 1, 0, 2**32 - 1, 2**32 - 1) + bytes(32),
        "a key of zeros": he.KEY.pack(he.KEY_MAGIC, 1, bytes(32)) + bytes(32 + frames.SECRET_BYTES),
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "text": "nicht Bytes",
        "nothing": None,
        "a view": memoryview(stage.total),
    }


def memory_taken(action):
    """By how many kB an action raised the process's memory at its highest, the library underneath included.

    getrusage will not do: its mark remembers everything the process ever did, so what came before would hide the action.
    """
    def highest():
        return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])

    Path("/proc/self/clear_refs").write_text("5")  # Linux: the mark begins again at what is used now
    before = highest()
    action()
    return highest() - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory the way Linux does")
def test_bombs_are_refused_without_memory(stage):
    """Nobody takes more than a few times the size of an honest message; the control shows that a bomb would be seen."""
    hostile, most = bombs(stage), 10 * seal.total_size(PLAN.chunks) // 1024
    assert memory_taken(lambda: zlib.decompress(bomb())) > 250_000

    for name, decode in decoders(stage).items():
        decode(honest_for(stage, name))  # what is loaded once is not the bomb's doing
        for what, data in hostile.items():

            def refused(decode=decode, data=data):
                with pytest.raises((MessageError, Tampered)):
                    decode(data)

            assert memory_taken(refused) < most, (name, what)


@pytest.mark.parametrize("chunks", [(), (0,), (-1,), (10**9,), (1, 2**63), (1, 1, 1, 1), (1.0,), (True,), ("1",)])
def test_a_promise_of_impossible_sizes_is_refused_before_memory_is_taken(chunks):
    """The number of ciphertexts reaches the coordinator in a message."""
    with pytest.raises(RangeError):
        seal.Adding(chunks)


def test_messages_cut_anywhere_in_their_head_are_refused(stage):
    head = seal.HEAD.size + FRAME_HEAD + frames.DIGEST
    for name, decode in decoders(stage).items():
        honest = honest_for(stage, name)
        for k in range(0, head + 8, 1 if name != "opening" else 9):
            for bad in (honest[:k], honest[k + 1 :], honest[:k] + honest[k + 1 :]):
                with pytest.raises((MessageError, Tampered)):
                    decode(bad)


def test_random_changes_never_end_in_anything_but_our_errors(stage):
    """Sixty messages with a few random bytes changed, for every decoder."""
    rng = np.random.default_rng(2)
    for name, decode in decoders(stage).items():
        honest = honest_for(stage, name)
        for _ in range(60 if name != "opening" else 6):
            bad = np.frombuffer(honest, dtype=np.uint8).copy()
            at = rng.integers(0, min(len(bad), int(10 ** rng.uniform(1, 6))), int(rng.integers(1, 9)))
            bad[at] = bad[at] ^ rng.integers(1, 256, len(at)).astype(np.uint8)
            if bad.tobytes() != honest:
                with pytest.raises(FedstatsError):
                    decode(bad.tobytes())
