"""Who signs and who can read: long-lived identities, one-time keys, and what two parties derive from them.

How this works. An identity is an Ed25519 key that signs and an X25519 key that agrees on secrets. For every query each party also
makes a one-time X25519 key. Two parties combine both kinds in all four ways; the secret is known only to them (static keys) and
stays secret when a long-lived key leaks later (one-time keys, forgotten after the query). HKDF-SHA256 turns it into a key, bound
to both names, all four public keys and the session.

What `proof` shows: the holder of the signing key vouches for this name and this agreement key. It does not show that they hold the
agreement key's secret: X25519 cannot sign, so that shows only when a message sealed to it is opened. Registering somebody else's
agreement key gains nothing: names and keys enter every derivation, so whoever does it shuts out only themselves.

X25519 and Ed25519 are classical: none of this is claimed to withstand a quantum computer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from struct import pack

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedstats.errors import InputError, Tampered

Random = Callable[[int], bytes]

KEY_BYTES, SIGNATURE_BYTES, NONCE_BYTES, TAG_BYTES = 32, 64, 12, 16
NOT_VERIFIED = "answer could not be verified"
PROOF, SIGNED = b"fedstats identity proof/1", b"fedstats signature/1"
PAIR, SEALED = b"fedstats pair key/1", b"fedstats sealed message/1"
PUBLIC_TEXT, SECRET_TEXT = "fedstats-public-1", "fedstats-identity-1"
FIELD = 2**255 - 19          # both curves are over the integers modulo this prime
PROBE = X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES)))     # a public number, not a secret: see `usable`
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class PublicIdentity:
    """What everybody may know of a party: its name, two public keys of 32 bytes, and the proof that ties them together."""

    name: str
    sign_key: bytes
    agree_key: bytes
    proof: bytes

    def check(self) -> PublicIdentity:
        """Itself, if name, keys and proof hold together; Tampered if not. See the module on what that shows."""
        _check_name(self.name)
        if (len(self.sign_key), len(self.agree_key), len(self.proof)) != (KEY_BYTES, KEY_BYTES, SIGNATURE_BYTES):
            raise Tampered("the keys of this identity could not be verified")
        if not (usable(self.agree_key) and usable_to_sign(self.sign_key)):
            raise Tampered(f'a key of "{self.name}" is of small order or not in its one spelling: it would keep no secret',
                           hint="make new keys with: fedstats keys new NAME")
        try:
            Ed25519PublicKey.from_public_bytes(self.sign_key).verify(self.proof, _vouched(self))
        except (InvalidSignature, ValueError):
            raise Tampered("the keys of this identity could not be verified") from None
        return self

    @property
    def fingerprint(self) -> str:
        """80 bits of SHA-256 over name and keys in groups of four, to be compared over the phone."""
        digest = hashlib.sha256(_vouched(self)).hexdigest()[:20]
        return " ".join(digest[k : k + 4] for k in range(0, len(digest), 4))

    def to_text(self) -> str:
        """One line: form, name, base64 of both keys and the proof."""
        return f"{PUBLIC_TEXT} {self.name} {_to_base64(self.sign_key + self.agree_key + self.proof)}"

    @classmethod
    def from_text(cls, text: str) -> PublicIdentity:
        """The checked identity of a line; InputError if it is not one, Tampered if its proof does not hold."""
        parts = text.strip().split(" ")
        if len(parts) != 3 or parts[0] != PUBLIC_TEXT:
            raise InputError("this is not a public identity", hint=f'it is one line that begins with "{PUBLIC_TEXT}"')
        data = _from_base64(parts[2], 2 * KEY_BYTES + SIGNATURE_BYTES)
        return cls(parts[1], data[:KEY_BYTES], data[KEY_BYTES : 2 * KEY_BYTES], data[2 * KEY_BYTES :]).check()

    def verify(self, signature: bytes, message: bytes, domain: bytes) -> None:
        """Returns if this party signed the message for this domain; Tampered if not."""
        try:
            Ed25519PublicKey.from_public_bytes(self.sign_key).verify(signature, _join(SIGNED, domain, message))
        except (InvalidSignature, ValueError, TypeError):
            raise Tampered(NOT_VERIFIED) from None


@dataclass(frozen=True, repr=False)
class Identity:
    """A party's name and both secret keys."""

    name: str
    sign_secret: Ed25519PrivateKey
    agree_secret: X25519PrivateKey

    @classmethod
    def generate(cls, name: str, random: Random = os.urandom) -> Identity:
        _check_name(name)
        return cls._from_bytes(name, random(KEY_BYTES), random(KEY_BYTES))

    @classmethod
    def _from_bytes(cls, name: str, sign: bytes, agree: bytes) -> Identity:
        return cls(name, Ed25519PrivateKey.from_private_bytes(sign), X25519PrivateKey.from_private_bytes(agree))

    @property
    def public(self) -> PublicIdentity:
        sign, agree = self.sign_secret.public_key().public_bytes_raw(), self.agree_secret.public_key().public_bytes_raw()
        bare = PublicIdentity(self.name, sign, agree, b"")
        return PublicIdentity(self.name, sign, agree, self.sign_secret.sign(_vouched(bare)))

    def sign(self, message: bytes, domain: bytes) -> bytes:
        """A signature of 64 bytes. domain : what kind of message it is; a signature for one kind is worth nothing for another."""
        return self.sign_secret.sign(_join(SIGNED, domain, message))

    def save(self, path: str | Path) -> None:
        """Writes the secret keys, readable by the owner only. InputError if the file exists: keys are never overwritten."""
        secrets = self.sign_secret.private_bytes_raw() + self.agree_secret.private_bytes_raw()
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise InputError(f"{path} exists already", hint="choose another file; keys are never overwritten") from None
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{SECRET_TEXT} {self.name} {_to_base64(secrets)}\n")
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: str | Path) -> Identity:
        """Reads what `save` wrote. InputError if it cannot; a UserWarning if others may read the file."""
        try:
            with open(path, "rb") as file:
                mode, data = os.fstat(file.fileno()).st_mode, file.read(4096)
        except OSError as error:
            hint = "make one with: fedstats keys new NAME"
            raise InputError(f"cannot read {path}: {error.strerror}", hint=hint) from None
        except ValueError:  # a zero byte
            raise InputError(f"cannot read {path}: this is no path") from None
        parts = data.decode("ascii", "replace").strip().split(" ")
        if parts[0] == PUBLIC_TEXT:
            raise InputError(f"{path} holds a public line, not the secret keys",
                             hint="give the file that fedstats keys new wrote with --out")
        if len(parts) != 3 or parts[0] != SECRET_TEXT:
            raise InputError(f"{path} is not an identity", hint="restore it from a backup, or make a new one and a new roster")
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            warnings.warn(f"{path} holds secret keys but others may read it: chmod 600", stacklevel=2)
        _check_name(parts[1])
        secrets = _from_base64(parts[2], 2 * KEY_BYTES)
        return cls._from_bytes(parts[1], secrets[:KEY_BYTES], secrets[KEY_BYTES:])

    def __repr__(self) -> str:
        return f"Identity({self.name!r}, 2 secret keys of {KEY_BYTES} bytes)"


@dataclass(frozen=True, repr=False)
class OneTime:
    """An X25519 key for one query, forgotten at its end."""

    secret: X25519PrivateKey

    @classmethod
    def generate(cls, random: Random = os.urandom) -> OneTime:
        return cls(X25519PrivateKey.from_private_bytes(random(KEY_BYTES)))

    @property
    def public(self) -> bytes:
        return self.secret.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"OneTime(secret key of {KEY_BYTES} bytes)"


def pair_key(
    my_static: Identity,
    my_onetime: OneTime,
    their_public: PublicIdentity,
    their_onetime: bytes,
    S: bytes,
    my_name: str,
    their_name: str,
) -> bytes:
    """The 32-byte key that two registries share for one query; both derive the same, whoever asks.

    S : hash of the query, the roster and all admissions. Raises Tampered for keys that give no secret.
    """
    if their_name != their_public.name or my_name != my_static.name or my_name == their_name:
        raise InputError("a pair key is between two different parties, under their own names")
    return _agree(my_static, my_onetime, their_public, their_onetime, PAIR, S, i_am_first=my_name < their_name)


def seal_to(
    sender: Identity,
    sender_onetime: OneTime,
    recipient: PublicIdentity,
    recipient_onetime: bytes,
    context: bytes,
    plaintext: bytes,
    random: Random = os.urandom,
) -> bytes:
    """A message that only this recipient can read and only this sender can have made: nonce, then ChaCha20-Poly1305 ciphertext.

    context : what the message belongs to (session, round, type); the recipient must name the same.
    """
    key = _agree(sender, sender_onetime, recipient, recipient_onetime, SEALED, context, i_am_first=True)
    nonce = random(NONCE_BYTES)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plaintext, _associated(context, sender.name, recipient.name))


def open_from(
    recipient: Identity, recipient_onetime: OneTime, sender: PublicIdentity, sender_onetime: bytes, context: bytes, sealed: bytes
) -> bytes:
    """The plaintext of `seal_to`; Tampered for anything else than this sender's message to this recipient in this context."""
    key = opening_key(recipient, recipient_onetime, sender, sender_onetime, context)
    return open_with(key, sender.name, recipient.name, context, sealed)


def opening_key(recipient: Identity, recipient_onetime: OneTime, sender: PublicIdentity, sender_onetime: bytes, context: bytes) -> bytes:
    """The key of what this sender sealed to this recipient in this context. It opens nothing else, so it may be shown with the message."""
    return _agree(recipient, recipient_onetime, sender, sender_onetime, SEALED, context, i_am_first=False)


def open_with(key: bytes, sender: str, recipient: str, context: bytes, sealed: bytes) -> bytes:
    """As `open_from`, for whoever has been shown the `opening_key`."""
    if not isinstance(sealed, bytes) or len(sealed) < NONCE_BYTES + TAG_BYTES or len(key) != KEY_BYTES:
        raise Tampered(NOT_VERIFIED)
    nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, _associated(context, sender, recipient))
    except InvalidTag:
        raise Tampered(NOT_VERIFIED) from None


def _agree(
    mine: Identity,
    my_onetime: OneTime,
    theirs: PublicIdentity,
    their_onetime: bytes,
    label: bytes,
    salt: bytes,
    *,
    i_am_first: bool,
) -> bytes:
    """HKDF-SHA256 over the four Diffie-Hellman secrets of (first's static, one-time) x (second's static, one-time).

    The context is hashed into the salt; label, both names and the four public keys are the info, first party first.
    """
    my_secrets, their_keys = (mine.agree_secret, my_onetime.secret), (theirs.agree_key, their_onetime)
    secrets = {(i, j): _shared(a, b) for i, a in enumerate(my_secrets) for j, b in enumerate(their_keys)}
    # the mixed products change places with the point of view: index them by (first's key, second's key)
    order = [(i, j) if i_am_first else (j, i) for i in (0, 1) for j in (0, 1)]
    me = (mine.name.encode(), mine.agree_secret.public_key().public_bytes_raw(), my_onetime.public)
    them = (theirs.name.encode(), theirs.agree_key, their_onetime)
    info = _join(label, *(me + them if i_am_first else them + me))
    hkdf = HKDF(hashes.SHA256(), KEY_BYTES, salt=hashlib.sha256(salt).digest(), info=info)
    return hkdf.derive(b"".join(secrets[pair] for pair in order))


def _shared(secret: X25519PrivateKey, public: bytes) -> bytes:
    """One Diffie-Hellman secret; Tampered for points of small order, which give zero whatever our secret is."""
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(public))
    except (ValueError, TypeError):
        raise Tampered(NOT_VERIFIED) from None
    if not any(shared):
        raise Tampered(NOT_VERIFIED)
    return shared


def usable(key: bytes) -> bool:
    """Whether 32 bytes are an X25519 key that keeps a secret: a point not of small order, in its one spelling.

    With a point of small order the shared secret is zero whatever the other side's key is, so everybody could read along.
    """
    if len(key) != KEY_BYTES or int.from_bytes(key, "little") >= FIELD:
        return False
    try:
        return any(PROBE.exchange(X25519PublicKey.from_public_bytes(key)))
    except ValueError:
        return False


def usable_to_sign(key: bytes) -> bool:
    """Whether 32 bytes are an Ed25519 key that only its owner can sign for: not of small order, in its one spelling.

    Under a point of small order anybody makes signatures that hold. The curve of Ed25519 is that of X25519 in other coordinates:
    u = (1 + y) / (1 - y) has the same order as y (RFC 7748, section 4.1).
    """
    y = int.from_bytes(key, "little") & (1 << 255) - 1
    if len(key) != KEY_BYTES or y >= FIELD or y == 1:
        return False
    u = (1 + y) * pow(1 - y, -1, FIELD) % FIELD
    return usable(u.to_bytes(KEY_BYTES, "little"))


def _vouched(identity: PublicIdentity) -> bytes:
    return _join(PROOF, identity.name.encode(), identity.sign_key, identity.agree_key)


def _associated(context: bytes, sender: str, recipient: str) -> bytes:
    return _join(SEALED, context, sender.encode(), recipient.encode())


def _join(*parts: bytes) -> bytes:
    """Parts with their lengths in front, so that no two lists of parts give the same bytes."""
    return b"".join(pack("<Q", len(part)) + part for part in parts)


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputError("a name has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter or digit")


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str, size: int) -> bytes:
    """Exactly so many bytes, in the one canonical spelling; InputError else."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != size or _to_base64(data) != text:
        raise InputError("the keys in this text are damaged", hint="copy the whole line again")
    return data
