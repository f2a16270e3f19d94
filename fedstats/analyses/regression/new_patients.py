"""New patients, to whom a fitted model is applied: a table, or a few rows as `native.table_of` takes
them.

How this works. A prediction may be asked for what no patient has, such as the mean age: a variable
that the model takes as a number is read without its step, within its range. Levels and dates are
read as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...data.dictionary import Dictionary
from ...data.native import table_of
from ...data.rows import LoadReport, Rows, load
from ...data.variable import Variable
from ...formula.terms import Term, factors_of, is_categorical


def new_patients(
    new: Any, codebook: Sequence[Variable], terms: Sequence[Term]
) -> tuple[Rows, LoadReport]:
    """New patients as rows. new : a table as `tables.columns_of` reads it, or what `native.table_of` takes.
    terms : of the model, offset included.

    Raises QuestionError for values that do not make a table.
    """
    known = Dictionary("new patients", tuple(codebook))
    levels = {one.name for term in terms for one in factors_of(term) if is_categorical(one, known)}
    loose = Dictionary(
        "new patients", tuple(one if one.name in levels else _without_step(one) for one in codebook)
    )
    return load(table_of(new), loose, who="new patients")


def _without_step(variable: Variable) -> Variable:
    if not variable.is_numeric or variable.unit_step is None:
        return variable
    return msgspec.structs.replace(
        variable, type="number", range=variable.ends, levels=None, step=None
    )
