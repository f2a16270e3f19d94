"""The consortium file: who takes part, under which keys and shared rules. Trust comes from it, never from the coordinator.

Every party pins the hash of the roster that it accepted (`accept`, a small file beside its key). A new epoch is another roster:
it needs an operator's explicit yes at every party.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomli_w

from ..crypto.identity import Identity, PublicIdentity
from ..data.dictionary import Dictionary
from ..data.reading import read_toml
from ..disclosure import FLOORS, Rules, strictest
from ..errors import FedstatsError, InputError, Tampered
from ..query.population import Codebook, load_treatments, treatments_digest
from .messages import hashed

Role = Literal["registry", "analyst", "coordinator"]
FEWEST_REGISTRIES = 3


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One party: its public identity as text (see `crypto.identity`), what it may do, and, for a coordinator, its addresses."""

    role: Role
    identity: str
    addresses: tuple[str, ...] = ()

    @property
    def public(self) -> PublicIdentity:
        return PublicIdentity.from_text(self.identity).check()


class Consortium(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """The roster of one epoch. `dictionary` is the path of the codebook, relative to the file; its hash is what counts.

    tables : "rows", one row per patient, or "ms", the five tables of MS; then `treatments` is the path of the list of treatments that
    DMT names are read with, the one that comes with fedstats if empty, and its hash counts too.
    """

    name: str
    epoch: int
    dictionary: str
    dictionary_sha256: str
    tables: Literal["rows", "ms"] = "rows"
    treatments: str = ""
    treatments_sha256: str = ""
    rules: Rules = Rules()
    max_patients_per_registry: int = 1_000_000
    members: tuple[Member, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Consortium:
        """Read a consortium file. Raises InputError naming file and remedy."""
        try:
            found = msgspec.convert(read_toml(path, "consortium file"), cls, strict=True)
        except msgspec.ValidationError as error:
            raise InputError(f"consortium file {path}: {error}", hint="see schemas/consortium.json") from None
        try:
            found.check()
        except FedstatsError as error:
            raise InputError(f"consortium file {path}: {error.what}", hint=error.hint) from None
        return found

    def save(self, path: str | Path) -> None:
        Path(path).write_text(tomli_w.dumps(plain(self)), encoding="utf-8")

    def check(self) -> None:
        """Names and keys are unique and hold together. Raises InputError."""
        texts = (self.name, self.dictionary, self.dictionary_sha256, self.treatments, self.treatments_sha256, *self.addresses)
        if not all(text.isprintable() for text in texts):       # everybody's terminal shows them
            raise InputError("a name, a path or an address has a line break or another control character")
        names: set[str] = set()
        keys: set[bytes] = set()
        for member in self.members:
            try:
                public = member.public
            except FedstatsError as error:
                raise InputError(f"a member's identity cannot be verified: {error.what}") from None
            if wrong := [one for one in member.addresses if not one.startswith(("https://", "http://"))]:
                raise InputError(f'"{wrong[0]}" is not an address of a coordinator', hint="write it as https://hub.example.org:8443")
            if public.name in names:
                raise InputError(f'"{public.name}" is a member twice')
            if {public.sign_key, public.agree_key} & keys:
                raise InputError(f'"{public.name}" uses a key of another member', hint="every member makes its own: fedstats keys new")
            names.add(public.name)
            keys |= {public.sign_key, public.agree_key}
        if self.max_patients_per_registry < 1 or self.epoch < 1:
            raise InputError("epoch and max_patients_per_registry must be at least 1")

    @cached_property
    def digest(self) -> bytes:
        """Hash of everything that parties must agree on; paths are each party's own affair."""
        content = plain(self) | {"dictionary": "", "treatments": ""}
        return hashed(b"fedstats roster/1", msgspec.msgpack.encode(content, order="deterministic"))

    @property
    def fingerprint(self) -> str:
        """The roster's hash as people read it to each other."""
        return " ".join(self.digest.hex()[k:k + 4] for k in range(0, 32, 4))

    @cached_property
    def _people(self) -> dict[str, tuple[Member, PublicIdentity]]:
        return {(public := member.public).name: (member, public) for member in self.members}

    def public(self, name: str) -> PublicIdentity:
        """Raises Tampered for a name that is not in the roster: nobody else's bytes get any further."""
        try:
            return self._people[name][1]
        except KeyError:
            hint = "is this party a member, and have all accepted the same consortium file?"
            raise Tampered("the sender is not in the roster", hint=hint) from None

    def role(self, name: str) -> str:
        self.public(name)
        return self._people[name][0].role

    def names(self, role: Role) -> tuple[str, ...]:
        """Members of a role, in the roster's order."""
        return tuple(name for name, (member, _) in self._people.items() if member.role == role)

    @property
    def coordinators(self) -> tuple[tuple[str, str], ...]:
        """(name, address) for every address of every coordinator, in the roster's order."""
        return tuple((name, address) for name in self.names("coordinator")
                     for address in self._people[name][0].addresses)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(address for member in self.members if member.role == "coordinator" for address in member.addresses)

    @property
    def effective_rules(self) -> Rules:
        """The shared rules, never below the floors of the network."""
        return strictest([self.rules, FLOORS])

    @property
    def fewest_registries(self) -> int:
        """A query names at least so many: with two, each would see the other's numbers."""
        return max(FEWEST_REGISTRIES, self.effective_rules.min_registries)

    def load_codebook(self, path: str | Path, dictionary: Dictionary | str | Path | None = None) -> Codebook:
        """What everybody knows of the data, from the files beside the consortium file at `path`. dictionary : one from elsewhere.

        Raises InputError for files whose hash is not the roster's.
        """
        if dictionary is None:
            book = self.load_dictionary(path)
        else:
            book = dictionary if isinstance(dictionary, Dictionary) else Dictionary.load(dictionary)
            self.check_dictionary(book, "that was given")
        if self.tables == "rows":
            return Codebook(book)
        found = load_treatments(Path(path).parent / self.treatments if self.treatments else None)
        if treatments_digest(found) != self.treatments_sha256:
            raise InputError("the list of treatments is not the one of the consortium (its hash differs)",
                             hint="get the consortium's list, or its version of fedstats")
        return Codebook(book, found)

    def load_dictionary(self, path: str | Path) -> Dictionary:
        """The dictionary beside the consortium file at `path`. Raises InputError if its hash is not the roster's."""
        place = Path(path).parent / self.dictionary
        return self.check_dictionary(Dictionary.load(place), str(place))

    def check_dictionary(self, dictionary: Dictionary, place: str) -> Dictionary:
        if dictionary.digest != self.dictionary_sha256:
            raise InputError(f"the dictionary {place} is not the one of the consortium (its hash differs)",
                             hint="get the consortium's dictionary, or agree on a new epoch")
        return dictionary


def plain(consortium: Consortium) -> dict[str, Any]:
    return msgspec.to_builtins(consortium, builtin_types=())


def member_of(identity: Identity | PublicIdentity, role: Role, addresses: tuple[str, ...] = ()) -> Member:
    public = identity.public if isinstance(identity, Identity) else identity
    return Member(role, public.to_text(), addresses)


# -- pins --------------------------------------------------------------------------------------------------------------------


def pin_path(key: str | Path) -> Path:
    """Where the hash of the accepted roster is kept: beside the key."""
    return Path(f"{key}.accepted")


def accept(consortium: Consortium, key: str | Path) -> None:
    """Pin a roster: from now on this party works with exactly this one. Written whole or not at all."""
    path = pin_path(key)
    partial = path.with_name(path.name + ".part")
    partial.write_text(f"{consortium.digest.hex()} {consortium.epoch} {consortium.name}\n", encoding="utf-8")
    partial.replace(path)


def check_pin(consortium: Consortium, key: str | Path, file: str | Path) -> None:
    """Whether this is the roster that was accepted. Raises InputError with the command that accepts it."""
    hint = f"compare its fingerprint with the others, then: fedstats consortium accept {file} --key {key}"
    try:
        pinned = pin_path(key).read_text(encoding="utf-8").split(" ")[0]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"the consortium file {file} has not been accepted yet", hint=hint) from None
    if pinned != consortium.digest.hex():
        raise InputError(f"the consortium file {file} is not the one that was accepted: it has changed", hint=hint)
