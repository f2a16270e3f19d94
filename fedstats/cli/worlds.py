"""Whom a question is put to: the options that all commands share which ask registries, and the federation that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .manners import FORM_HELP

if TYPE_CHECKING:
    from ..client.federation import Federation

SUFFIXES = (".csv", ".parquet")

ConsortiumFile = Annotated[Path | None, typer.Option(help="Ask over the network: the consortium file.")]
AnalystKey = Annotated[Path | None, typer.Option(help="The analyst's key.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the registries.", min=1)]
Pooled = Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Compute on this machine without a seal: name=file.csv, or a "
                                                  "folder of tables. No release rules unless --rules.")]
Simulated = Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="All parties in this process, with the real seal. The "
                                                     "default release rules unless --no-rules.")]
DictionaryFile = Annotated[Path | None, typer.Option(help="The dictionary, for --pooled and --simulate.")]
Forms = Annotated[list[str] | None, typer.Option("--form", metavar="LINE", help=f"For --pooled and --simulate. {FORM_HELP}")]
RulesOrNot = Annotated[bool | None, typer.Option("--rules/--no-rules", help="Apply the default release rules, or none (on this machine "
                                                 "only).")]


@dataclass(frozen=True)
class Whom:
    """What the options above were given. One of consortium, pooled and simulate is wanted."""

    consortium: Path | None = None
    key: Path | None = None
    timeout: float = 600.0
    pooled: Sequence[str] | None = None
    simulate: Sequence[str] | None = None
    dictionary: Path | None = None
    rules: bool | None = None
    form: Sequence[str] | None = None

    def federation(self, moved: Callable[[str, int, int], None]) -> Federation:
        """moved : is told of progress over the network. Raises InputError for no world, for several, and for files that are none."""
        given = sum(map(bool, (self.consortium, self.pooled, self.simulate)))
        if given > 1:
            raise InputError("--consortium, --pooled and --simulate are three ways to ask: give one of them")
        if not given:
            raise InputError("whom to ask? give --consortium and --key, or --pooled, or --simulate",
                             hint="--pooled and --simulate take name=file.csv (or a folder) and --dictionary")
        return self._network(moved) if self.consortium else self._machine()

    def _network(self, moved: Callable[[str, int, int], None]) -> Federation:
        import fedstats

        assert self.consortium is not None
        if self.key is None:
            raise InputError("--consortium needs the analyst's --key")
        if self.rules is not None:
            raise InputError("over the network the rules of the consortium apply", hint="leave --rules and --no-rules out")
        if self.form:
            raise InputError("over the network each registry says how its files are written", hint="leave --form out")
        return fedstats.connect(self.consortium, key=self.key, dictionary=self.dictionary, progress=moved, timeout=self.timeout)

    def _machine(self) -> Federation:
        import fedstats

        from ..data.forms import read_form
        from ..disclosure import NO_RULES

        tables = tables_of([*(self.pooled or self.simulate or ())])
        if self.dictionary is None and not all(path.is_dir() for path in tables.values()):
            raise InputError("--pooled and --simulate need a --dictionary", hint="fedstats dictionary draft FILE.csv proposes one")
        form = read_form(list(self.form or []))
        if self.pooled:
            return fedstats.pooled(tables, dictionary=self.dictionary, rules=fedstats.Rules() if self.rules else None, form=form)
        return fedstats.simulate(tables, dictionary=self.dictionary, rules=NO_RULES if self.rules is False else None, form=form)


def tables_of(texts: Sequence[str]) -> dict[str, Path]:
    """`name=file`, a file (named after itself) or a folder of tables, as {name: path}; the five tables of MS are one folder. Raises
    InputError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, place = text.partition("=")
        path = Path(place if sign else text)
        if not path.exists():
            raise InputError(f"there is no file {path}")
        files = [path]
        if path.is_dir() and not _holds_visits(path):
            files = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES or _holds_visits(one))
            if sign and files:
                raise InputError(f"{path} is a folder: its tables are named after themselves", hint=f"write {path} without {name}=")
        if not files:
            raise InputError(f"{path} holds no table", hint="tables are .csv or .parquet files, or folders with visits.csv and others")
        for file in files:
            label = name if sign else file.stem
            if label in found:
                raise InputError(f'two tables are named "{label}"', hint="write name=file.csv")
            found[label] = file
    return found


def _holds_visits(path: Path) -> bool:
    return any((path / f"visits{suffix}").is_file() for suffix in SUFFIXES)
