"""fedstats consortium: the file that says who takes part, under which keys and rules, and who has accepted it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .epochs import accepted, changes, copy_path, epoch_path
from .keys import read_public
from .manners import Json, confirm, machine, note, plain_group, table, warn, writing

if TYPE_CHECKING:
    from ..wire.roster import Consortium

app = plain_group("Who takes part, under which keys and rules.")
ROLES = ("registry", "analyst", "coordinator")
File = Annotated[Path, typer.Argument(help="The consortium file (TOML).")]


@app.command()
def create(file: File,
           name: Annotated[str, typer.Option(help="Name of the consortium.")],
           dictionary: Annotated[Path | None, typer.Option(help="The dictionary (JSON or TOML); its hash is pinned.")] = None,
           ms: Annotated[bool, typer.Option("--ms", help="Registries hold the five tables of MS; the dictionary of fedstats is written "
                                            "beside the file, unless another is given.")] = False,
           treatments: Annotated[Path | None, typer.Option(help="With --ms: another list of treatments than the one that comes with "
                                                           "fedstats; its hash is pinned.")] = None,
           min_cell: Annotated[int, typer.Option(help="Smallest number of people in a released cell.", min=1)] = 10,
           min_cohort: Annotated[int, typer.Option(help="Smallest number of patients a question may be about.", min=1)] = 50,
           min_registries: Annotated[int, typer.Option(help="Fewest registries behind a released cell.", min=1)] = 3,
           rounding: Annotated[bool, typer.Option("--rounding/--no-rounding", help="Round what is released (4 digits).")] = True,
           show_zeros: Annotated[bool, typer.Option("--show-zeros", help="Show empty cells as 0.")] = False,
           max_patients: Annotated[int, typer.Option(help="Most patients that one registry may hold.", min=1)] = 1_000_000) -> None:
    """Begin a consortium file, without members yet.

    \b
    Examples:  fedstats consortium create ms.toml --name "MS Europe" --ms --min-cell 10
               fedstats consortium create hearts.toml --name Hearts --dictionary dict.json
    """
    from ..data.dictionary import Dictionary
    from ..disclosure import Rules
    from ..errors import InputError
    from ..query.population import load_treatments, treatments_digest
    from ..wire.roster import Consortium

    if dictionary is None and not ms:
        raise InputError("a consortium needs a --dictionary, or --ms", hint="fedstats dictionary draft FILE.csv proposes one")
    if treatments and not ms:
        raise InputError("--treatments goes with --ms")
    if dictionary is None:
        dictionary = _shipped(file)

    rules = Rules(min_cell=min_cell, min_cohort=min_cohort, min_registries=min_registries, show_zeros=show_zeros, rounding=rounding)
    pinned = {"tables": "ms", "treatments": _relative(treatments, file) if treatments else "",
              "treatments_sha256": treatments_digest(load_treatments(treatments))} if ms else {}
    roster = Consortium(name=name, epoch=1, dictionary=_relative(dictionary, file), dictionary_sha256=Dictionary.load(dictionary).digest,
                        rules=rules, max_patients_per_registry=max_patients, **pinned)  # type: ignore[arg-type]
    with writing(file, replace=False) as part:
        roster.save(part)
    if rules.relaxed:
        warn(f"over the network these rules apply instead: {roster.effective_rules.sentence()}")
    note(f"{file} written; next: fedstats consortium add {file} --role registry --public ...")


def _relative(path: Path, file: Path) -> str:
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()


def _shipped(file: Path) -> Path:
    """A copy of the MS dictionary beside the consortium file, for people to read and to hand on."""
    import json

    from ..errors import InputError
    from ..ms.tables.registry import dictionary

    path = file.with_name("dictionary.json")
    text = json.dumps(dictionary().to_dict(), indent=1, ensure_ascii=False) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(f"{path} is there already, and is another dictionary", hint=f"use it with --dictionary {path}, or move it away")
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


@app.command()
def add(file: File,
        role: Annotated[str, typer.Option(help="registry, analyst or coordinator.")],
        public: Annotated[str, typer.Option(help="The member's public line, or a file that holds it.")] = "",
        key: Annotated[Path | None, typer.Option(help="A key file; only its public half is used.")] = None,
        address: Annotated[list[str] | None, typer.Option(help="URL of a coordinator; may be repeated.")] = None) -> None:
    """Add a member.

    The epoch goes up by one, so every party has to accept the file again.

    \b
    Examples:  fedstats consortium add ms.toml --role registry --public lyon.pub
               fedstats consortium add ms.toml --role coordinator --key hub.key --address https://hub.example.org:8443
    """
    import msgspec

    from ..crypto.identity import PublicIdentity
    from ..errors import InputError
    from ..wire.roster import Consortium, member_of

    if role not in ROLES:
        raise InputError(f'"{role}" is not a role', hint="roles are: " + ", ".join(ROLES))
    if bool(public) == (key is not None):
        raise InputError("give the member's --public line, or its --key file")
    if bool(address) != (role == "coordinator"):
        raise InputError("a coordinator needs an --address" if not address else "only a coordinator has an --address",
                         hint="such as --address https://hub.example.org:8443")
    roster = Consortium.load(file)
    if key is not None or Path(public).is_file():
        identity = read_public(key or Path(public))
    elif " " not in public.strip():
        raise InputError(f"{public} is neither a file nor a public line", hint="fedstats keys new NAME > NAME.pub makes such a file")
    else:
        identity = PublicIdentity.from_text(public)
    more = msgspec.structs.replace(roster, epoch=roster.epoch + 1,
                                   members=(*roster.members, member_of(identity, role, tuple(address or ()))))  # type: ignore[arg-type]
    more.check()
    with writing(file) as part:
        more.save(part)
    note(f"{identity.name} added as {role}, fingerprint {identity.fingerprint}; epoch {more.epoch}")


@app.command()
def remove(file: File, name: Annotated[str, typer.Argument(help="Name of the member, see fedstats consortium show.")],
           yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove a member: a registry that leaves, a key that was lost.

    The epoch goes up by one, so every party has to accept the file again. What was signed in an earlier epoch is checked with that epoch's
    file, of which every party that accepts keeps a copy beside its key.

    \b
    Example:  fedstats consortium remove ms.toml lyon
    """
    import msgspec

    from ..wire.roster import Consortium

    roster = Consortium.load(file)
    role = _role(roster, name, hint="members are: " + ", ".join(member.public.name for member in roster.members))
    confirm(f"Remove {role} {name} from {roster.name}, epoch {roster.epoch}?", yes, hint="add --yes")
    less = msgspec.structs.replace(roster, epoch=roster.epoch + 1,
                                   members=tuple(member for member in roster.members if member.public.name != name))
    with writing(file) as part:
        less.save(part)
    if role == "registry" and len(less.names("registry")) < less.fewest_registries:
        warn(f"{len(less.names('registry'))} registries are left: a question needs at least {less.fewest_registries}")
    note(f"{name} removed; epoch {less.epoch}; every party has to accept it: fedstats consortium accept {file} --key ...")


@app.command()
def accept(file: File,
           key: Annotated[Path, typer.Option(help="The key of the party that accepts.")],
           yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprint has been compared.")] = False) -> None:
    """Accept the file for one party.

    From now on it works with exactly this one. Shows what changed and asks first. Compare the fingerprint with the other parties over a
    channel that you trust.

    \b
    Example:  fedstats consortium accept ms.toml --key lyon.key
    """
    from ..crypto.identity import Identity
    from ..wire import roster as rosters

    roster, me = rosters.Consortium.load(file), Identity.load(key)
    role = _role(roster, me.name)
    if role != "coordinator":
        roster.load_dictionary(file)
    print(f"{roster.name}, epoch {roster.epoch}\nfingerprint: {roster.fingerprint}\n{me.name} takes part as {role}")
    before = accepted(key)
    for line in changes(before, roster):
        print(f"  {line}")
    confirm("Accept?", yes)
    if before is not None and before.epoch != roster.epoch:
        with writing(epoch_path(key, before)) as part:
            before.save(part)
        note(f"epoch {before.epoch} is kept as {epoch_path(key, before)}: receipts of that time are checked with it")
    with writing(copy_path(key)) as part:
        roster.save(part)
    rosters.accept(roster, key)
    note(f"accepted for {me.name}")


@app.command()
def show(file: File, json: Json = False) -> None:
    """Print members, rules and the fingerprint.

    \b
    Example:  fedstats consortium show ms.toml
    """
    from ..wire.roster import Consortium

    roster = Consortium.load(file)
    people = [(member.public, member) for member in roster.members]
    if json:
        machine({"name": roster.name, "epoch": roster.epoch, "fingerprint": roster.fingerprint, "sha256": roster.digest.hex(),
                 "dictionary": roster.dictionary, "dictionary_sha256": roster.dictionary_sha256, "rules": _rules(roster),
                 "members": [{"name": public.name, "role": member.role, "fingerprint": public.fingerprint,
                              "addresses": list(member.addresses)} for public, member in people]})
        return
    print(f"{roster.name}, epoch {roster.epoch}\nfingerprint: {roster.fingerprint}\ndictionary:  {roster.dictionary} "
          f"(sha256 {roster.dictionary_sha256[:16]}...)\nrules:       {roster.effective_rules.sentence()}\n"
          f"             at most {roster.max_patients_per_registry} patients per registry\n")
    table(("member", "role", "fingerprint", "address"),
          [(public.name, member.role, public.fingerprint, " ".join(member.addresses)) for public, member in people])
    missing = [role for role in ROLES if not roster.names(role)]      # type: ignore[arg-type]
    if missing:
        print("\nstill to be added: " + ", ".join(missing))


def _role(roster: Consortium, name: str, *, hint: str = "the consortium adds it with: fedstats consortium add") -> str:
    from ..errors import InputError

    known = {role: roster.names(role) for role in ROLES}      # type: ignore[arg-type]
    for role, names in known.items():
        if name in names:
            return role
    raise InputError(f"{name} is not a member of {roster.name}", hint=hint)


def _rules(roster: Consortium) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(roster.effective_rules)
