"""One registry's house: its data, loaded once, and its own rules about who may ask what.

What the house decides comes on top of the shared rules and never depends on rows. Richer policy files have a place here.
"""

from __future__ import annotations

from pathlib import Path

from fedstats.analysis import Result
from fedstats.dictionary import Dictionary
from fedstats.disclosure import Rules
from fedstats.errors import Refused
from fedstats.rows import Rows, load
from fedstats.wire.messages import Query
from fedstats.wire.roster import Consortium

from .config import Settings


class RegistryHouse:
    """See `fedstats.wire.conversation.House`. Raises InputError if the table does not fit the dictionary at all."""

    def __init__(self, settings: Settings, consortium: Consortium, name: str) -> None:
        self.dictionary: Dictionary = consortium.load_dictionary(settings.consortium)
        self.minima: Rules = settings.minima.rules()
        self.data_cut = settings.data_cut
        self.name, self._analysts = name, settings.analysts
        self._table, self.report = load(Path(settings.data), self.dictionary, who=name)

    def rows(self) -> Rows:
        return self._table

    def admit(self, query: Query) -> None:
        if self._analysts and query.analyst not in self._analysts:
            raise Refused(f"{query.analyst} may not ask this registry", who=self.name,
                          hint='the registry can add the name to "analysts" in its node.toml')

    def approve(self, query: Query, results: list[Result]) -> None:
        """Every result that passed the shared rules may leave."""
