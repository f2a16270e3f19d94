"""New patients, to whom a fitted model is applied: a table, or a dict of one value or a list of
values per column.

How this works. A prediction may be asked for what no patient has, such as the mean age: a variable
that the model takes as a number is read without its step, within its range. Levels and dates are
read as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.native import listed
from ...data.rows import LoadReport, Rows, load
from ...data.variable import Variable
from ...errors import QuestionError
from ...formula.terms import Term, factors_of, is_categorical


def new_patients(
    new: Any, codebook: Sequence[Variable], terms: Sequence[Term]
) -> tuple[Rows, LoadReport]:
    """New patients as rows. new : a table as `tables.columns_of` reads it, or a dict of values.
    terms : of the model, offset included.

    Raises QuestionError for values that do not make a table.
    """
    known = Dictionary("new patients", tuple(codebook))
    levels = {one.name for term in terms for one in factors_of(term) if is_categorical(one, known)}
    loose = Dictionary(
        "new patients", tuple(one if one.name in levels else _without_step(one) for one in codebook)
    )
    return load(_columns(new) if isinstance(new, Mapping) else new, loose, who="new patients")


def _without_step(variable: Variable) -> Variable:
    if not variable.is_numeric or variable.unit_step is None:
        return variable
    return msgspec.structs.replace(
        variable, type="number", range=variable.ends, levels=None, step=None
    )


def _columns(new: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns of one length: a single value stands for all patients. An empty list is nobody."""
    found = {str(name): listed(value) for name, value in new.items()}
    lengths = {len(one) for one in found.values() if isinstance(one, list)}
    if len(lengths) > 1:
        raise QuestionError(
            "new patients have columns of different lengths",
            hint="give one value, or a list as long as the others",
        )
    n = lengths.pop() if lengths else 1
    return {
        name: np.asarray(one if isinstance(one, list) else [one] * n, dtype=None if n else object)
        for name, one in found.items()
    }
