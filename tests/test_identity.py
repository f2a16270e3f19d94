"""Identities: signatures, pair keys, sealed messages; every way to get them wrong."""

import os
import stat
from dataclasses import replace

import pytest

from fedstats.crypto.identity import Identity, OneTime, PublicIdentity, open_from, pair_key, seal_to
from fedstats.errors import InputError, Tampered

S = b"s" * 32
LOW_ORDER = [bytes(32), b"\x01" + bytes(31), bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")]


@pytest.fixture(scope="module")
def parties():
    return [(Identity.generate(name), OneTime.generate()) for name in ("lyon", "turin", "mallory")]


def key_between(a, b, s=S):
    (mine, my_once), (theirs, their_once) = a, b
    return pair_key(mine, my_once, theirs.public, their_once.public, s, mine.name, theirs.name)


# ---- identities -----------------------------------------------------------------------------------------------------------------


def test_a_public_identity_survives_its_text(parties):
    public = parties[0][0].public

    assert PublicIdentity.from_text(public.to_text() + "\n") == public
    assert public.check() is public


def test_the_fingerprint_is_short_and_differs(parties):
    prints = {identity.public.fingerprint for identity, _ in parties}

    assert len(prints) == 3
    assert all(len(p.split()) == 5 for p in prints)


def test_an_identity_survives_its_file_and_is_never_overwritten(tmp_path, parties):
    me, path = parties[0][0], tmp_path / "lyon.key"
    me.save(path)

    assert Identity.load(path).public == me.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(InputError, match="exists already"):
        me.save(path)


def test_a_key_file_that_others_may_read_gives_a_warning(tmp_path, parties):
    path = tmp_path / "lyon.key"
    parties[0][0].save(path)
    os.chmod(path, 0o644)

    with pytest.warns(UserWarning, match="chmod 600"):
        Identity.load(path)


@pytest.mark.parametrize("text", ["", "x", "fedstats-identity-1 lyon AAAA", "fedstats-identity-1 ../x " + "A" * 88, "\xff" * 10])
def test_a_bad_or_missing_key_file_is_an_input_error(tmp_path, text):
    path = tmp_path / "bad.key"
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError):
        Identity.load(path)
    with pytest.raises(InputError):
        Identity.load(tmp_path / "missing.key")


@pytest.mark.parametrize("change", [{"name": "other"}, {"sign_key": bytes(32)}, {"agree_key": b"x" * 32}, {"proof": bytes(64)}])
def test_a_changed_public_identity_is_found(parties, change):
    with pytest.raises(Tampered):
        replace(parties[0][0].public, **change).check()


def test_every_changed_letter_of_a_public_text_is_found(parties):
    text = parties[0][0].public.to_text()
    for k in range(0, len(text), 7):
        changed = text[:k] + ("A" if text[k] != "A" else "B") + text[k + 1 :]
        with pytest.raises((InputError, Tampered)):
            PublicIdentity.from_text(changed)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a\n", "../a", "é"])
def test_names_that_could_confuse_are_refused(name):
    with pytest.raises(InputError):
        Identity.generate(name)


def test_generation_draws_from_the_given_randomness():
    def same(n):
        return b"\x07" * n

    assert Identity.generate("lyon", same).public == Identity.generate("lyon", same).public


def test_secrets_do_not_show_themselves(parties):
    me, once = parties[0]

    assert repr(me) == "Identity('lyon', 2 secret keys of 32 bytes)"
    assert repr(once) == "OneTime(secret key of 32 bytes)"


# ---- signatures -----------------------------------------------------------------------------------------------------------------


def test_a_signature_holds_for_its_message_its_domain_and_its_signer_only(parties):
    me, other = parties[0][0], parties[1][0]
    signature = me.sign(b"message", b"admission")

    me.public.verify(signature, b"message", b"admission")
    for who, message, domain, given in [
        (me, b"messagf", b"admission", signature),
        (me, b"message", b"verdict", signature),
        (me, b"nmessage", b"admissio", signature),
        (other, b"message", b"admission", signature),
        (me, b"message", b"admission", signature[:-1]),
        (me, b"message", b"admission", b""),
    ]:
        with pytest.raises(Tampered):
            who.public.verify(given, message, domain)


# ---- pair keys ------------------------------------------------------------------------------------------------------------------


def test_both_registries_derive_the_same_pair_key(parties):
    a, b, _ = parties

    assert key_between(a, b) == key_between(b, a)
    assert len(key_between(a, b)) == 32


def test_a_pair_key_depends_on_session_parties_and_one_time_keys(parties):
    a, b, c = parties
    again = (a[0], OneTime.generate())
    keys = {key_between(a, b), key_between(a, b, b"t" * 32), key_between(a, c), key_between(again, b)}

    assert len(keys) == 4


def test_another_partys_key_under_ones_own_name_shuts_out_only_oneself(parties):
    """Mallory registers turin's agreement key: lyon's key with mallory is not its key with turin."""
    a, b, m = parties
    borrowed = replace(m[0].public, agree_key=b[0].public.agree_key)
    with_mallory = pair_key(a[0], a[1], borrowed, b[1].public, S, "lyon", "mallory")

    assert with_mallory != key_between(a, b)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_that_give_no_secret_are_refused(parties, point):
    (a, a_once), (b, b_once), _ = parties
    with pytest.raises(Tampered):
        pair_key(a, a_once, b.public, point, S, "lyon", "turin")
    with pytest.raises(Tampered):
        pair_key(a, a_once, replace(b.public, agree_key=point), b_once.public, S, "lyon", "turin")


def test_a_pair_key_needs_two_parties_under_their_own_names(parties):
    (a, a_once), (b, b_once), _ = parties
    for mine, theirs, public in [("lyon", "lyon", a.public), ("lyon", "x", b.public), ("x", "turin", b.public)]:
        with pytest.raises(InputError):
            pair_key(a, a_once, public, b_once.public, S, mine, theirs)


# ---- sealed messages ------------------------------------------------------------------------------------------------------------


def test_a_sealed_message_opens_for_its_recipient(parties):
    (a, a_once), (b, b_once), _ = parties
    for text in (b"", b"the keys", b"x" * 100_000):
        sealed = seal_to(a, a_once, b.public, b_once.public, b"context", text)

        assert open_from(b, b_once, a.public, a_once.public, b"context", sealed) == text


def test_a_sealed_message_opens_for_nobody_else_and_nowhere_else(parties):
    """Another recipient, sender, one-time key or context; reflected to its sender."""
    (a, a_once), (b, b_once), (m, m_once) = parties
    sealed = seal_to(a, a_once, b.public, b_once.public, b"context", b"the keys")
    for recipient, once, sender, sender_once, context in [
        (m, m_once, a, a_once, b"context"),
        (b, m_once, a, a_once, b"context"),
        (b, b_once, m, a_once, b"context"),
        (b, b_once, a, m_once, b"context"),
        (b, b_once, a, a_once, b"contexu"),
        (a, a_once, b, b_once, b"context"),
    ]:
        with pytest.raises(Tampered, match=r"^answer could not be verified$"):
            open_from(recipient, once, sender.public, sender_once.public, context, sealed)


def test_every_changed_or_missing_byte_of_a_sealed_message_is_found(parties):
    (a, a_once), (b, b_once), _ = parties
    sealed = seal_to(a, a_once, b.public, b_once.public, b"context", b"the keys")
    for k in range(len(sealed)):
        for bad in (sealed[:k], sealed[:k] + bytes([sealed[k] ^ 1]) + sealed[k + 1 :]):
            with pytest.raises(Tampered, match=r"^answer could not be verified$"):
                open_from(b, b_once, a.public, a_once.public, b"context", bad)
    with pytest.raises(Tampered):
        open_from(b, b_once, a.public, a_once.public, b"context", sealed + b"\0")
