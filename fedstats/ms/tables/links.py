"""Whether rows find their patient: a treatment lost to another spelling looks as if never given.

How this works: rows of people whom the table of patients does not have are dropped by cleaning, and
rightly so: a registry may export some patients only. But "0123" and "123", "p7" and "P7" are most
likely one patient, of whom one program took the noughts away; and a row without a readable
identifier is anybody's. Nobody can say whose history has a gap then, so no trace (`dropped`) can be
left: above a small share of the rows it stops the loading, as a form that was not declared does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ...data.cells import blank
from ...data.forms import Undeclared
from ...data.tables import Cells
from .traces import Spread, says_something

NOBODY = "rows without an identifier of a patient"
SPELLING = "identifiers that the table of patients writes in another way"
STRANGERS = "no row is of anybody in the table of patients"
FEW = 10  # different identifiers; of fewer all may be of people who are left out
_NOUGHTS = re.compile(r"(?<![0-9])0+(?=[0-9])|\.0$|\s+")


def without_patient(file: str, raw: Cells, spread: Spread) -> list[Undeclared]:
    """Rows that say something, but not of whom. raw : the cells of the identifiers."""
    codes = spread["patient_id"][0]
    empty = np.array([cell is None or blank(cell) for cell in raw.distinct] + [True])
    says = says_something(spread)
    lost = int((empty[codes] & says).sum())
    if not lost:
        return []
    line = "fill the identifier in on every line, or take these lines out"
    return [Undeclared(file, "patient_id", NOBODY, lost / int(says.sum()), line)]


def strangers(file: str, ids: Sequence[str], patients: frozenset[str]) -> list[Undeclared]:
    """Rows of people whom the table of patients may have in another spelling. ids : of the rows."""
    unknown = [one for one in ids if one not in patients]
    if not unknown or not patients:
        return []
    if len(unknown) == len(ids) and len(set(ids)) >= FEW:
        line = "is it the same export, and the same kind of identifier?"
        return [Undeclared(file, "patient_id", STRANGERS, 1.0, line)]
    known = {folded(one) for one in patients}
    alike = {one for one in set(unknown) if folded(one) in known}
    count = sum(one in alike for one in unknown)
    if not count:
        return []
    line = "write them in one way in all tables: capitals, blanks, leading noughts"
    return [Undeclared(file, "patient_id", SPELLING, count / len(ids), line)]


def folded(identifier: str) -> str:
    """An identifier without what programs change: capitals, blanks, leading noughts, ".0"."""
    return _NOUGHTS.sub("", identifier.casefold())
