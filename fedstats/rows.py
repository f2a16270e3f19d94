"""Rows: one registry's patients as typed columns, and the filters of a cohort.

A table is loaded against the dictionary once; what breaks a rule becomes missing and is counted by rule, never shown. After
that every column is either whole steps (int64, -1 = missing) or doubles (NaN = missing), and local halves need no more checks.

A cohort's filter is data: `{"all" | "any" | "not": ...}` over `[variable, op, value]`, op one of == != < <= > >= in missing;
a plain list means `all`; a missing value satisfies nothing but `missing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .dictionary import EPOCH, FALSE, ON_STEP, RESERVED, TRUE, Dictionary, Variable, level_text
from .errors import InputError, QuestionError
from .tables import columns_of

EMPTY = ("", "na", "nan", "null", "none", "n/a", ".", "nat", "<na>")
COMPARE = ("==", "!=", "<", "<=", ">", ">=")
DEEPEST = 12                # levels of nesting in a filter
MOST_CONDITIONS = 200


@dataclass(frozen=True)
class Rows:
    """Patients of one registry, one row each.

    steps : whole steps above the variable's lower end (levels: the position), int64, -1 where missing.
    reals : doubles for numbers without a step, NaN where missing.
    """

    dictionary: Dictionary
    n: int
    held: Mapping[str, np.ndarray]

    def __repr__(self) -> str:      # a notebook must not print patients
        return f"Rows({self.n} patients, {len(self.held)} columns)"

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
        """Some of the patients. keep : boolean, shape (n,)."""
        if keep.all():
            return self
        return Rows(self.dictionary, int(keep.sum()), {name: column[keep] for name, column in self.held.items()})

    def complete(self, names: Iterable[str]) -> Rows:
        """The patients for whom all these variables are known: complete cases."""
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

    table : see `tables.columns_of`; one row per patient. If it has the dictionary's `patient_id` column, no id may repeat.
    Returns the rows and the report of every violation. Raises InputError if the table is not one row per patient, or shares
    no column with the dictionary.
    """
    columns = columns_of(table)
    n = len(next(iter(columns.values()))) if columns else 0
    label = f"table of {who}" if who else "table"
    if columns and not any(name in columns for name in dictionary.names):
        raise InputError(f"{label}: no column is in the dictionary \"{dictionary.name}\"",
                         hint="check the column names: they are compared exactly, capitals included")
    if dictionary.patient_id in columns:
        ids = [level_text(one) for one in columns[dictionary.patient_id].tolist()]
        if len(set(ids)) != len(ids):
            raise InputError(f'{label}: the column "{dictionary.patient_id}" repeats: one row per patient is expected',
                             hint="summarise visits to one row per patient first")
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
    return Rows(dictionary, n, held), report


def read_column(variable: Variable, raw: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """One column against its line of the dictionary -> (held values, violations by rule)."""
    if variable.labels is not None:
        return _read_levels(variable, raw)
    numbers, unread = _dates(raw) if variable.type == "date" else _numbers(raw, variable.missing)
    known = ~np.isnan(numbers)
    slack = ON_STEP * (variable.unit_step or 0.0)
    with np.errstate(invalid="ignore"):
        outside = known & ((numbers < variable.low - slack) | (numbers > variable.high + slack))
    broken = {"not a date" if variable.type == "date" else "not a number": unread,
              f"outside {_range_text(variable)}": int(outside.sum())}
    numbers = np.where(outside, np.nan, numbers)
    if variable.unit_step is None:
        return numbers, broken
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
    from .dictionary import value_text

    return f"{value_text(variable, variable.low)} to {value_text(variable, variable.high)}"


# -- filters of a cohort -------------------------------------------------------------------------------------------------


def normal_filter(where: Any) -> Any:
    """A filter in its one canonical form, JSON-ready: lists, dicts and plain values only. Raises QuestionError."""
    budget = [MOST_CONDITIONS]

    def walk(node: Any, depth: int) -> Any:
        budget[0] -= 1
        if depth > DEEPEST or budget[0] < 0:
            raise QuestionError(f"the filter is too large: at most {DEEPEST} levels and {MOST_CONDITIONS} conditions")
        if isinstance(node, Mapping):
            if len(node) == 1 and (key := next(iter(node))) in ("all", "any"):
                return {key: [walk(child, depth + 1) for child in _children(node[key])]}
            if len(node) == 1 and "not" in node:
                return {"not": walk(node["not"], depth + 1)}
            if set(node) <= {"variable", "op", "value"} and {"variable", "op"} <= set(node):
                return _condition([node["variable"], node["op"], node.get("value")])
            raise QuestionError('a filter is {"all": [...]}, {"any": [...]}, {"not": ...} or [variable, op, value]')
        if isinstance(node, (list, tuple)):
            if node and isinstance(node[0], str):
                return _condition(node)
            return {"all": [walk(child, depth + 1) for child in node]}
        raise QuestionError('a condition is [variable, op, value], such as ["age", ">=", 18]')

    return walk([] if where is None else where, 0)


def _children(found: Any) -> Sequence[Any]:
    if not isinstance(found, (list, tuple)):
        raise QuestionError('"all" and "any" take a list')
    return found


def _condition(node: Sequence[Any]) -> list[Any]:
    if len(node) == 2 and node[1] == "missing":
        node = [*node, True]
    if len(node) != 3 or not isinstance(node[1], str):
        raise QuestionError('a condition is [variable, op, value], such as ["age", ">=", 18]')
    name, op, value = node
    if op not in (*COMPARE, "in", "missing"):
        raise QuestionError(f'"{op}" is not a comparison of filters', hint="one of == != < <= > >= in missing")
    if op == "in":
        if not isinstance(value, (list, tuple)) or not value:
            raise QuestionError(f'"{name}" in: a list of values is wanted')
        return [name, op, [_plain(one) for one in value]]
    if op == "missing":
        return [name, op, bool(True if value is None else value)]
    return [name, op, _plain(value)]


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()[:10]
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (str, int, float, bool)) or (isinstance(value, float) and not np.isfinite(value)):
        raise QuestionError("a filter compares with a text, a number or a date")
    return value


def filter_columns(tree: Any) -> tuple[str, ...]:
    """The variables that a (canonical) filter names, in order of appearance."""
    if isinstance(tree, dict):
        parts: list[Any] = tree.get("all") or tree.get("any") or [tree.get("not", [])]
        return tuple(dict.fromkeys(name for part in parts for name in filter_columns(part)))
    return (tree[0],) if tree else ()


def check_filter(tree: Any, dictionary: Dictionary) -> None:
    """Whether a canonical filter can be asked at all, found out on no rows. Raises QuestionError."""
    keep(tree, Rows(dictionary, 0, {}))


def keep(tree: Any, rows: Rows) -> np.ndarray:
    """Which patients a canonical filter keeps, boolean, shape (n,). Raises QuestionError for unregistered cut points."""
    if isinstance(tree, dict):
        if "not" in tree:
            return ~keep(tree["not"], rows) & _all_known(tree["not"], rows)
        parts = [keep(part, rows) for part in (tree["all"] if "all" in tree else tree["any"])]
        if not parts:
            return np.full(rows.n, "all" in tree)
        return np.logical_and.reduce(parts) if "all" in tree else np.logical_or.reduce(parts)
    name, op, value = tree
    if name == RESERVED:
        rows.dictionary[name]
    present = rows.present(name)
    if op == "missing":
        return ~present if value else present
    if op == "in":
        return np.logical_or.reduce([_compare(rows, name, "==", one) for one in value]) & present
    return _compare(rows, name, op, value) & present


def _all_known(tree: Any, rows: Rows) -> np.ndarray:
    """Null satisfies nothing but `missing`: the negation of a comparison does not hold for an unknown value either."""
    if isinstance(tree, dict):
        parts: list[Any] = [tree["not"]] if "not" in tree else tree.get("all") or tree.get("any") or []
        return np.logical_and.reduce([_all_known(part, rows) for part in parts]) if parts else np.ones(rows.n, dtype=bool)
    return np.ones(rows.n, dtype=bool) if tree[1] == "missing" else rows.present(tree[0])


def _compare(rows: Rows, name: str, op: str, value: Any) -> np.ndarray:
    variable = rows.dictionary[name]
    if variable.labels is not None:
        code = variable.code(value)
        if op not in ("==", "!="):
            raise QuestionError(f'"{name}" is of type {variable.type}: it can be compared with == != in missing only')
        return (rows.steps(name) == code) == (op == "==")
    wanted = variable.number(value)
    _check_cut(variable, op, wanted, value)
    slack = ON_STEP * (variable.unit_step or 0.0)
    values = rows.values(name)
    with np.errstate(invalid="ignore"):
        match op:
            case "<":
                return values < wanted - slack
            case "<=":
                return values <= wanted + slack
            case ">":
                return values > wanted + slack
            case ">=":
                return values >= wanted - slack
            case _:
                return (np.abs(values - wanted) <= slack) == (op == "==")


def _check_cut(variable: Variable, op: str, wanted: float, value: Any) -> None:
    """Filters cut at registered cut points only: `> 4` on whole numbers cuts at 5, `== 4` at 4 and at 5."""
    step = variable.unit_step or 0.0
    cuts = {"<": [wanted], ">=": [wanted], "<=": [wanted + step], ">": [wanted + step]}.get(op, [wanted, wanted + step])
    if op in ("==", "!=") and variable.unit_step is None:
        raise QuestionError(f'"{variable.name}" is a number without a step: it cannot be compared with {op}', hint="use < or >=")
    if all(variable.is_cut(cut) for cut in cuts):
        return
    if variable.cuts is None:
        raise QuestionError(f'"{variable.name}" is a number without cut points: it cannot be filtered on',
                            hint=f'add "cut_points" to "{variable.name}" in the dictionary')
    near = sorted(variable.cuts, key=lambda cut: abs(cut - cuts[0]))[:4]
    raise QuestionError(f'"{variable.name}" {op} {value} does not cut at a registered cut point',
                        hint="nearest cut points: " + ", ".join(f"{cut:g}" for cut in sorted(near))
                        + "; filters mean: < and >= at a cut point (<= and > one step below it)")
