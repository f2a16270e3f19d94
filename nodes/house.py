"""One registry's house: its data, loaded once, and its own rules about who may ask what.

What the house decides comes on top of the shared rules and never depends on rows. Richer policy files have a place here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedstats.data.rows import Rows
from fedstats.data.variable import iso_date
from fedstats.disclosure import Rules
from fedstats.errors import InputError, Refused
from fedstats.query.analysis import Result
from fedstats.query.population import Codebook, read
from fedstats.wire.messages import Query
from fedstats.wire.roster import Consortium

from .config import Settings


class RegistryHouse:
    """See `fedstats.wire.conversation.House`. Raises InputError if the table does not fit the dictionary at all."""

    def __init__(self, settings: Settings, consortium: Consortium, name: str) -> None:
        self.codebook: Codebook = consortium.load_codebook(settings.consortium)
        self.minima: Rules = settings.minima.rules()
        self.data_cut = settings.data_cut
        self.name, self._analysts = name, settings.analysts
        cut = _date(settings.data_cut) if consortium.tables == "ms" else None
        self._data, self.report = read(Path(settings.data), self.codebook, data_cut=cut, who=name, form=settings.form)

    def rows(self, recipe: Any) -> Rows:
        return self._data.rows(recipe)

    def admit(self, query: Query) -> None:
        if self._analysts and query.analyst not in self._analysts:
            raise Refused(f"{query.analyst} may not ask this registry", who=self.name,
                          hint='the registry can add the name to "analysts" in its node.toml')

    def approve(self, query: Query, results: list[Result]) -> None:
        """Every result that passed the shared rules may leave."""


def _date(text: str) -> str:
    """The data cut of MS tables is a date: nothing in them can have happened after it."""
    if iso_date(text) is None:
        raise InputError(f'data_cut is "{text}": for tables of MS it is the date of the cut', hint="write it as 2026-06-30")
    return text
