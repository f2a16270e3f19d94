"""Rows: one registry's patients as typed columns.

A table is loaded against the dictionary once; what breaks a rule becomes missing and is counted by rule, never shown. After
that every column is either whole steps (int64, -1 = missing) or doubles (NaN = missing), and local halves need no more checks.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .dictionary import Dictionary
from .errors import InputError
from .tables import columns_of
from .variable import EPOCH, FALSE, ON_STEP, TRUE, Variable, level_text

ROUNDED = 2.0**-46           # of the ends of a range: a number without a step may lie so far beyond them by rounding
EMPTY = ("", "na", "nan", "null", "none", "n/a", ".", "nat", "<na>")


@dataclass(frozen=True)
class Rows:
    """Patients of one registry: one row each, or several where the dictionary says so (`most_rows`).

    n : number of rows.
    held : whole steps above the variable's lower end (levels: the position), int64, -1 where missing; or, for numbers without a
        step, doubles, NaN where missing.
    ids : the patient of each row, as the registry names it, or None where the table has no such column. Never leaves the registry.
    flow : how many of the registry's patients came through each step to these rows, in the order of the recipe's steps.
    """

    dictionary: Dictionary
    n: int
    held: Mapping[str, np.ndarray]
    ids: np.ndarray | None = None
    flow: tuple[int, ...] = ()

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
                    None if self.ids is None else self.ids[keep], self.flow)

    def complete(self, names: Iterable[str]) -> Rows:
        """The rows in which all these variables are known: complete cases."""
        keep = np.ones(self.n, dtype=bool)
        for name in names:
            keep &= self.present(name)
        return self.where(keep)

    def _column(self, name: str) -> np.ndarray:
        self.dictionary[name]           # an unknown name is the question's fault
        try:
            return self.held[name]
        except KeyError:
            # a variable that this registry does not record: missing for everybody
            return np.full(self.n, -1 if self.dictionary[name].unit_step is not None else np.nan,
                           dtype=np.int64 if self.dictionary[name].unit_step is not None else float)


@dataclass(frozen=True)
class LoadReport:
    """What loading found, for the eyes of the registry only: counts per column and rule, never a value."""

    rows: int
    violations: Mapping[tuple[str, str], int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.violations and not self.absent

    def lines(self) -> list[str]:
        """The report as sentences."""
        out = [f"{self.rows} rows read"]
        out += [f'column "{name}": {count} values set to missing: {rule}' for (name, rule), count in self.violations.items()]
        out += [f'column "{name}" is not in the table: missing for everybody' for name in self.absent]
        out += [f'column "{name}" is not in the dictionary: ignored' for name in self.ignored]
        return out


def load(table: Any, dictionary: Dictionary, *, who: str = "") -> tuple[Rows, LoadReport]:
    """Read a table against the dictionary.

    table : see `tables.columns_of`; one row per patient. If it has the dictionary's `patient_id` column, no id may repeat more often
        than the dictionary's `most_rows`, which is 1 unless it says otherwise.
    Returns the rows and the report of every violation. Raises InputError if the table has more rows per patient, or shares no
    column with the dictionary.
    """
    columns = columns_of(table)
    n = len(next(iter(columns.values()))) if columns else 0
    label = f"table of {who}" if who else "table"
    if columns and not any(name in columns for name in dictionary.names):
        raise InputError(f"{label}: no column is in the dictionary \"{dictionary.name}\"",
                         hint="check the column names: they are compared exactly, capitals included")
    ids = _ids(columns, dictionary, label)
    held: dict[str, np.ndarray] = {}
    violations: dict[tuple[str, str], int] = {}
    missing: dict[str, int] = {}
    for variable in dictionary.variables:
        if variable.name not in columns:
            continue
        held[variable.name], broken = read_column(variable, columns[variable.name])
        violations |= {(variable.name, rule): count for rule, count in broken.items() if count}
        column = held[variable.name]
        missing[variable.name] = int((column < 0).sum() if column.dtype == np.int64 else np.isnan(column).sum())
    report = LoadReport(n, violations, missing, tuple(name for name in dictionary.names if name not in columns),
                        tuple(name for name in columns if name not in dictionary and name != dictionary.patient_id))
    return Rows(dictionary, n, held, ids), report


def _ids(columns: Mapping[str, np.ndarray], dictionary: Dictionary, label: str) -> np.ndarray | None:
    """The column of patients, checked for patients with too many rows."""
    if dictionary.patient_id not in columns:
        if dictionary.most_rows > 1 and columns:
            raise InputError(f'{label}: there is no column "{dictionary.patient_id}"',
                             hint="a table with several rows per patient needs it: people are counted, not rows")
        return None
    ids = np.array([level_text(one) for one in columns[dictionary.patient_id].tolist()], dtype=object)
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


def read_column(variable: Variable, raw: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """One column against its line of the dictionary -> (held values, violations by rule)."""
    if variable.labels is not None:
        return _read_levels(variable, raw)
    numbers, unread = _dates(raw) if variable.type == "date" else _numbers(raw, variable.missing)
    known = ~np.isnan(numbers)
    # 10 years as the difference of two dates in years may be a hair more than 10
    slack = ON_STEP * variable.unit_step if variable.unit_step else ROUNDED * max(abs(variable.low), abs(variable.high))
    with np.errstate(invalid="ignore"):
        outside = known & ((numbers < variable.low - slack) | (numbers > variable.high + slack))
    broken = {"not a date" if variable.type == "date" else "not a number": unread,
              f"outside {_range_text(variable)}": int(outside.sum())}
    numbers = np.where(outside, np.nan, numbers)
    if variable.unit_step is None:
        return np.clip(numbers, variable.low, variable.high), broken
    exact = (numbers - variable.low) / variable.unit_step
    with np.errstate(invalid="ignore"):
        whole = np.rint(exact)
        off = np.abs(exact - whole) > ON_STEP
    broken[f"not a multiple of {variable.unit_step:g}"] = int(off.sum())
    steps = np.where(np.isnan(whole) | off, -1, whole).astype(np.int64)
    if variable.levels is not None:         # an integer with a list of allowed values
        allowed = np.isin(steps, [round(float(level) - variable.low) for level in variable.levels])
        broken["not a level"] = int((~allowed & (steps >= 0)).sum())
        steps = np.where(allowed, steps, -1)
    return steps, broken


def _read_levels(variable: Variable, raw: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    labels = variable.labels or ()
    places = {label: k for k, label in enumerate(labels)}
    if variable.type == "boolean":
        places = dict.fromkeys(TRUE, 1) | dict.fromkeys(FALSE, 0)
    blank = {level_text(code) for code in variable.missing}
    distinct, inverse = np.unique(np.array([_cell(cell) for cell in raw.tolist()], dtype=object).astype(str), return_inverse=True)
    codes, unknown = np.empty(len(distinct), dtype=np.int64), np.zeros(len(distinct), dtype=bool)
    for k, text in enumerate(distinct):
        key = text.lower() if variable.type == "boolean" else text
        # a column of whole numbers with gaps is written "1.0", "2.0" by many programs
        codes[k] = places.get(key, places.get(key.removesuffix(".0"), -1))
        if text in blank or text.removesuffix(".0") in blank:
            codes[k] = -1
        elif codes[k] < 0:
            unknown[k] = text.lower() not in EMPTY
    if len(distinct) == 0:
        return np.empty(0, dtype=np.int64), {}
    return codes[inverse], {"not a level": int(unknown[inverse].sum())}


def _cell(cell: Any) -> str:
    return "" if cell is None else level_text(cell)


def _numbers(raw: np.ndarray, blanks: Sequence[Any]) -> tuple[np.ndarray, int]:
    """Numbers and how many cells could not be read as one."""
    unread = 0
    if raw.dtype.kind in "iufb":
        numbers = raw.astype(float)
    else:
        numbers = np.full(len(raw), np.nan)
        for k, cell in enumerate(raw.tolist()):
            if cell is None:
                continue
            try:
                numbers[k] = float(cell)
            except (TypeError, ValueError):
                unread += str(cell).strip().lower() not in EMPTY
    for blank in blanks:
        try:
            numbers[numbers == float(blank)] = np.nan
        except (TypeError, ValueError):
            unread -= int(sum(str(cell).strip() == str(blank) for cell in raw.tolist()))
    infinite = np.isinf(numbers)
    return np.where(infinite, np.nan, numbers), unread + int(infinite.sum())


def _dates(raw: np.ndarray) -> tuple[np.ndarray, int]:
    """Days since 1970-01-01 and how many cells could not be read as a date."""
    if raw.dtype.kind == "M":
        days = raw.astype("datetime64[D]")
        return np.where(np.isnat(days), np.nan, days.astype(np.int64).astype(float)), 0
    import datetime

    numbers, unread = np.full(len(raw), np.nan), 0
    for k, cell in enumerate(raw.tolist()):
        if cell is None or str(cell).strip().lower() in EMPTY:
            continue
        try:
            numbers[k] = (datetime.date.fromisoformat(str(cell).strip()[:10]) - EPOCH).days
        except ValueError:
            unread += 1
    return numbers, unread


def _range_text(variable: Variable) -> str:
    from .variable import value_text

    return f"{value_text(variable, variable.low)} to {value_text(variable, variable.high)}"
