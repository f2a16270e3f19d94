"""fedstats keys: every party makes its own identity and passes on its public line only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .manners import Json, machine, note, plain_group

if TYPE_CHECKING:
    from ..crypto.identity import PublicIdentity

app = plain_group("Make and show the keys of a party.")


@app.command()
def new(name: Annotated[str, typer.Argument(help="Name of the party, such as lyon: letters, digits, . _ -")],
        out: Annotated[Path | None, typer.Option("--out", help="File for the secret key; NAME.key by default.")] = None,
        json: Json = False) -> None:
    """Make an identity: the secret key goes to a file that only you can read, the public line to the screen.

    The public line is what the consortium needs. Read the fingerprint to each other over the phone.

    \b
    Example:  fedstats keys new lyon --out lyon.key > lyon.pub
    """
    from ..crypto.identity import Identity

    path = out or Path(f"{name}.key")
    identity = Identity.generate(name)
    identity.save(path)
    _show(identity.public, json)
    note(f"secret key written to {path}: it stays on this machine, with a backup in a safe place")


@app.command()
def show(file: Annotated[Path, typer.Argument(help="A key file, or a file with a public line.")], json: Json = False) -> None:
    """Print the public line and the fingerprint of a key.

    \b
    Example:  fedstats keys show lyon.key
    """
    _show(read_public(file), json)


def read_public(file: Path) -> PublicIdentity:
    """The public identity in a key file or a file with a public line. Raises InputError."""
    from ..crypto.identity import PUBLIC_TEXT, Identity, PublicIdentity
    from ..errors import InputError

    try:
        with file.open("rb") as stream:
            text = stream.read(4096).decode("ascii", "replace")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", hint="make a key with: fedstats keys new NAME") from None
    return PublicIdentity.from_text(text) if text.startswith(PUBLIC_TEXT) else Identity.load(file).public


def _show(public: PublicIdentity, json: bool) -> None:
    if json:
        machine({"name": public.name, "public": public.to_text(), "fingerprint": public.fingerprint})
        return
    print(public.to_text())
    note(f"fingerprint of {public.name}: {public.fingerprint}")
