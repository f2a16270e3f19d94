"""Rows: one registry's patients as typed columns.

A table is loaded against the dictionary once, its cells judged by `cells`; what breaks a rule becomes missing and is
counted by rule, never shown. After that every column is either whole steps (int64, -1 = missing) or doubles
(NaN = missing), and local halves need no more checks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import InputError
from . import cells, forms
from .cells import Form
from .dictionary import Dictionary
from .forms import Undeclared
from .tables import Cells, sheet
from .variable import ON_STEP, Variable, level_text


@dataclass(frozen=True)
class Rows:
    """Patients of one registry: one row each, or several where the dictionary says so (`most_rows`).

    n : number of rows.
    held : whole steps above the variable's lower end (levels: the position), int64, -1 where missing; or, for numbers without a
        step, doubles, NaN where missing.
    ids : the patient of each row, as the registry names it, or None where the table has no such column. Never leaves the registry.
    flow : how many of the registry's patients came through each step to these rows, in the order of the recipe's steps.
    occupied : per category, which of its levels somebody in the whole data-cut of this registry has, boolean; a column that is
        not here may have all.
    """

    dictionary: Dictionary
    n: int
    held: Mapping[str, np.ndarray]
    ids: np.ndarray | None = None
    flow: tuple[int, ...] = ()
    occupied: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:      # a notebook must not print patients
        return f"Rows({self.n} rows, {len(self.held)} columns)"

    @cached_property
    def keys(self) -> np.ndarray:
        """64 bits for the patient of each row, uint64, shape (n,): what folds and subsamples are drawn from, so that they do not depend
        on the registry or the row where a patient is. Without ids, row numbers stand in for them."""
        if self.ids is None:
            return np.arange(self.n, dtype=np.uint64)
        digests = (hashlib.blake2b(level_text(one).encode(), digest_size=8).digest() for one in self.ids.tolist())
        return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)

    @cached_property
    def person(self) -> np.ndarray | None:
        """The patient of each row as a number from 0, int64, shape (n,); None where each row is a patient."""
        if self.dictionary.most_rows == 1 or self.ids is None:
            return None
        return np.unique(self.keys, return_inverse=True)[1].astype(np.int64)

    def people(self, keep: np.ndarray | None = None) -> int:
        """How many patients have a row, or a row among those of `keep` (boolean, shape (n,))."""
        if self.person is None:
            return self.n if keep is None else int(keep.sum())
        return len(np.unique(self.person if keep is None else self.person[keep]))

    def present(self, name: str) -> np.ndarray:
        """Whether the value is known, shape (n,)."""
        column = self._column(name)
        return column >= 0 if column.dtype == np.int64 else ~np.isnan(column)

    def steps(self, name: str) -> np.ndarray:
        """Whole steps above the lower end, int64, shape (n,); -1 where missing."""
        column = self._column(name)
        assert column.dtype == np.int64, f"{name} has no step"
        return column

    def values(self, name: str) -> np.ndarray:
        """The values as doubles, shape (n,); NaN where missing. Levels give their position, dates days since 1970-01-01."""
        column, variable = self._column(name), self.dictionary[name]
        if column.dtype != np.int64:
            return column
        assert variable.unit_step is not None
        return np.where(column >= 0, variable.low + column * variable.unit_step, np.nan)

    def bins(self, name: str) -> np.ndarray:
        """The bin of each patient (see `Dictionary.bins`), int64, shape (n,); -1 where missing."""
        bins = self.dictionary.bins(name)
        if bins.atoms:
            return self.steps(name)
        assert bins.edges is not None
        values = self.values(name)
        # a value a hair below its edge (0.1 * 3) belongs above it: bins of a stepped variable are cut between its steps
        slack = ON_STEP * (self.dictionary[name].unit_step or 0.0)
        found = np.searchsorted(np.asarray(bins.edges) - slack, values, side="right") - 1
        return np.where(np.isnan(values), -1, np.clip(found, 0, len(bins) - 1))

    def where(self, keep: np.ndarray) -> Rows:
        """Some of the rows. keep : boolean, shape (n,)."""
        if keep.all():
            return self
        return Rows(self.dictionary, int(keep.sum()), {name: column[keep] for name, column in self.held.items()},
                    None if self.ids is None else self.ids[keep], self.flow, self.occupied)

    def complete(self, names: Iterable[str]) -> Rows:
        """The rows in which all these variables are known: complete cases."""
        keep = np.ones(self.n, dtype=bool)
        for name in names:
            keep &= self.present(name)
        return self.where(keep)

    def _column(self, name: str) -> np.ndarray:
        variable = self.dictionary[name]           # an unknown name is the question's fault
        try:
            return self.held[variable.name]
        except KeyError:
            # a variable that this registry does not record: missing for everybody
            return np.full(self.n, -1 if variable.unit_step is not None else np.nan,
                           dtype=np.int64 if variable.unit_step is not None else float)


@dataclass(frozen=True)
class LoadReport:
    """What loading found, for the eyes of the registry only: counts per column and rule, never a value.

    violations : values set to missing. noted : values kept, but not as they stood. undeclared : forms
    that were not declared, see `forms`. missing : values. absent, ignored : columns.
    """

    rows: int
    violations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    noted: Mapping[tuple[str, str], int] = field(default_factory=dict)
    undeclared: tuple[Undeclared, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.violations and not self.absent

    def lines(self) -> list[str]:
        """The report as sentences, findings first."""
        out = [str(one) for one in self.undeclared]
        out += [f'column "{name}": {count} values set to missing: {rule}' for (name, rule), count in self.violations.items()]
        out += [f'column "{name}": {count} values noted: {rule}' for (name, rule), count in self.noted.items()]
        out += [f"{self.rows} rows read"]
        out += [f'column "{name}" is not in the table: missing for everybody' for name in self.absent]
        out += [f'column "{name}" is not in the dictionary: ignored' for name in self.ignored]
        return out


def load(table: Any, dictionary: Dictionary, *, who: str = "", form: Form | None = None) -> tuple[Rows, LoadReport]:
    """Read a table against the dictionary.

    table : see `tables.columns_of`; one row per patient. If it has the dictionary's `patient_id` column, no id may repeat more often
        than the dictionary's `most_rows`, which is 1 unless it says otherwise.
    form : how the table writes dates, numbers and levels.
    Returns the rows and the report of every violation. Raises InputError if the table has more rows per patient, or shares no
    column with the dictionary.
    """
    form = form or Form()
    found = sheet(table, encoding=form.encoding, whole=True)
    columns, label = found.columns, f"table of {who}" if who else "table"
    if columns and not any(name in columns for name in dictionary.names):
        raise InputError(f"{label}: no column is in the dictionary \"{dictionary.name}\"",
                         hint="check the column names: they are compared exactly, capitals included")
    ids = _ids(columns, dictionary, label)
    held: dict[str, np.ndarray] = {}
    violations: dict[tuple[str, str], int] = {}
    noted: dict[tuple[str, str], int] = {}
    undeclared: list[Undeclared] = []
    for variable in dictionary.variables:
        if variable.name not in columns:
            continue
        one = read_column(variable, columns[variable.name], form)
        held[variable.name] = one.held
        violations |= {(variable.name, rule): count for rule, count in one.broken.items() if count}
        noted |= {(variable.name, rule): count for rule, count in one.noted.items()}
        undeclared += one.undeclared
    missing = {name: int((column < 0).sum() if column.dtype == np.int64 else np.isnan(column).sum()) for name, column in held.items()}
    report = LoadReport(found.rows, violations, missing, tuple(name for name in dictionary.names if name not in columns),
                        tuple(name for name in columns if name not in dictionary and name != dictionary.patient_id), noted,
                        tuple(undeclared))
    return Rows(dictionary, found.rows, held, ids, occupied=levels_of(held, dictionary)), report


def levels_of(held: Mapping[str, np.ndarray], dictionary: Dictionary) -> dict[str, np.ndarray]:
    """Per category, which of its levels occur. held : positions of levels, -1 where missing."""
    named = [name for name in held if dictionary[name].type == "category"]
    return {name: np.isin(np.arange(len(dictionary[name].labels or ())), held[name]) for name in named}


def _ids(columns: Mapping[str, Cells], dictionary: Dictionary, label: str) -> np.ndarray | None:
    """The column of patients, checked for patients with too many rows."""
    if dictionary.patient_id not in columns:
        if dictionary.most_rows > 1 and columns:
            raise InputError(f'{label}: there is no column "{dictionary.patient_id}"',
                             hint="a table with several rows per patient needs it: people are counted, not rows")
        return None
    column = columns[dictionary.patient_id]
    ids = np.array([*map(level_text, column.distinct), level_text(None)], dtype=object)[column.codes]
    check_rows_per_patient(ids, dictionary, label)
    return ids


def check_rows_per_patient(ids: np.ndarray, dictionary: Dictionary, label: str) -> None:
    """Raises InputError if a patient has more rows than the dictionary's `most_rows`."""
    most = max(Counter(ids.tolist()).values(), default=0)
    if most > dictionary.most_rows == 1:
        raise InputError(f'{label}: the column "{dictionary.patient_id}" repeats: one row per patient is expected',
                         hint='summarise visits to one row per patient first, or say "most_rows" in the dictionary')
    if most > dictionary.most_rows:
        raise InputError(f"{label}: a patient has more rows than the dictionary's most_rows, {dictionary.most_rows}",
                         hint='raise "most_rows" in the dictionary')


@dataclass(frozen=True)
class Read:
    """One column. held : see `Rows`. broken, noted : rows by rule. undeclared : see `forms`."""

    held: np.ndarray
    broken: Mapping[str, int]
    noted: Mapping[str, int]
    undeclared: list[Undeclared]


def read_column(variable: Variable, column: Cells, form: Form) -> Read:
    """One column against its line of the dictionary."""
    plain = variable if variable.name not in form.levels else None
    values, rules = cells.judged(column, _judge(variable, form), plain)
    lost = [value is None for value in values]
    broken = cells.counted(column.codes, [rule if gone else "" for rule, gone in zip(rules, lost)])
    noted = cells.counted(column.codes, ["" if gone else rule for rule, gone in zip(rules, lost)])
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)[column.codes]
    undeclared = forms.undeclared("", variable.name, variable, column, rules, form)
    if variable.unit_step is None:
        # 10 years as the difference of two dates in years may be a hair more than 10
        return Read(np.clip(numbers, variable.low, variable.high), broken, noted, undeclared)
    steps, off = _whole_steps(variable, numbers)
    return Read(steps, broken | off, noted, undeclared)


def _judge(variable: Variable, form: Form) -> cells.Judge:
    if variable.labels is not None:
        found = cells.level_of(variable)
    else:
        found = cells.date_of(variable, form) if variable.type == "date" else cells.number_of(variable, form)
    return cells.translated(found, form.levels.get(variable.name, {}))


def _whole_steps(variable: Variable, numbers: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Numbers as whole steps above the lower end, -1 where missing, and how many were none."""
    if variable.labels is not None:
        return np.where(np.isnan(numbers), -1, numbers).astype(np.int64), {}
    exact = (numbers - variable.low) / (variable.unit_step or 1.0)
    with np.errstate(invalid="ignore"):
        whole = np.rint(exact)
        off = np.abs(exact - whole) > ON_STEP
    broken = {f"not a multiple of {variable.unit_step:g}": int(off.sum())}
    steps = np.where(np.isnan(whole) | off, -1, whole).astype(np.int64)
    if variable.levels is not None:         # an integer with a list of allowed values
        allowed = np.isin(steps, [round(float(level) - variable.low) for level in variable.levels])
        broken[cells.NOT_LEVEL] = int((~allowed & (steps >= 0)).sum())
        steps = np.where(allowed, steps, -1)
    return steps, broken
