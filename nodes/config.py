"""A node's settings: one small TOML file that an operator writes and reads (`fedstats node init` makes it)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedstats.data.cells import Form
from fedstats.data.reading import read_toml
from fedstats.disclosure import Rules
from fedstats.errors import InputError

LONGEST_CUT = 64  # characters, as a message holds them (see `fedstats.wire.messages.Name`)


class Minima(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Stricter minima of this house; those of the consortium apply in any case."""

    min_cell: int = 1
    min_cohort: int = 1
    min_registries: int = 1

    def rules(self) -> Rules:
        return Rules(min_cell=self.min_cell, min_cohort=self.min_cohort, min_registries=self.min_registries, show_zeros=True,
                     rounding=False)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """consortium, key, data, journal : paths, relative to this file. data_cut : name of the frozen data cut, such as its date.
    coordinator : another address to call, for a house behind its own gateway. analysts : who may ask; everybody if empty.
    form : how the files of the data are written, see `fedstats.cells.Form`."""

    consortium: str
    key: str
    data: str
    journal: str = "journal.sqlite"
    data_cut: str = "unnamed"
    coordinator: str = ""
    analysts: tuple[str, ...] = ()
    minima: Minima = Minima()
    form: Form = Form()
    round_seconds: float = 300.0


def load(path: str | Path) -> Settings:
    """Read a node's settings; paths come back absolute. Raises InputError naming file and field."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"there are no node settings {path}", hint="make them with: fedstats node init")
    try:
        found = msgspec.convert(read_toml(path, "node settings"), Settings, strict=True)
    except msgspec.ValidationError as error:
        raise InputError(f"node settings {path}: {error}") from None
    except InputError as error:
        raise InputError(f"node settings {path}: {error.what}", hint=error.hint) from None
    _check(found, path)
    home = path.resolve().parent
    absolute = {name: str(home / getattr(found, name)) for name in ("consortium", "key", "data", "journal")}
    return msgspec.structs.replace(found, **absolute)


def _check(found: Settings, path: Path) -> None:
    """What would only show at the first query, at everybody. Raises InputError."""
    if not (1 <= len(found.data_cut) <= LONGEST_CUT and found.data_cut.isprintable()):
        raise InputError(
            f"node settings {path}: data_cut is a name of 1 to {LONGEST_CUT} printable characters",
            hint="such as the date of the data cut",
        )
    if not 1.0 <= found.round_seconds < float("inf"):
        raise InputError(f"node settings {path}: round_seconds must be at least 1")
