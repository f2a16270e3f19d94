"""The five tables of a registry: patients, visits, relapses, treatments, mri -> typed columns, and a report of what was wrong.

How this works: a column is read as its distinct cells (`tables.sheet`), each is judged once (`cells`), and the verdict is spread over
the rows. Nothing stops at the first fault and nothing disappears silently: every violation is counted by file, column and rule.

What a violation does: `refused` - the whole table cannot be used; `dropped` - the row is gone (its patient or its date cannot be
read, or an end date that is there cannot: such a treatment must not look as if it went on); `missing` - the cell is missing from
then on; `noted` - nothing was changed, but somebody should look (a stray quotation mark hides lines inside a cell). Rows read less
rows kept are the rows dropped, always. What is wrong *between* cells (a visit before birth, two EDSS on one day) is for `cleaning`.
Rows and cells of a patient that cannot be read leave a trace (`dropped`): what cannot be read has happened nevertheless.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...data import cells
from ...data import tables as door
from ...data.cells import Form, Judge
from ...data.dictionary import Dictionary
from ...data.forms import Undeclared, ragged, undeclared
from ...data.variable import EPOCH
from ...errors import InputError
from . import links, traces
from .dmt import NOT_DMT, TRIAL, UNKNOWN, Treatments, shipped
from .dropped import Dropped
from .registry import COLUMNS, DATED, WORDS, Effect, Finding, Registry, Report, Table, dictionary, missing, schema

__all__ = ["COLUMNS", "DATED", "WORDS", "Finding", "Form", "Registry", "Report", "Table", "dictionary", "load", "missing", "schema"]

TOLD = ("patient_id", "dmt_name", "atc", "birth_month")     # words of which it matters whether they can be read
INSTEAD = {"birth_year": "birth_month", "dmt_name": "atc"}      # one of them is enough
CAPITALS = "column is missing: there is one in other capitals"
NO_COLUMN, NO_FILE, BOTH = "column is missing", "table is not given", "found as .csv and as .parquet"
TWICE, DISAGREE = "patient listed twice, rows equal: one kept", "patient listed twice, rows disagree: none kept"
UNSORTED, UNLISTED = "row is earlier than the one before it: sorted", "treatment is not in the list"
CONFLICT = "name and ATC code are of different treatments"
YEAR_TAKEN = "date where a year is wanted: the year is taken"


def load(source: Any, *, forms: Form | Mapping[str, Form] | None = None, codebook: Dictionary | None = None,
         treatment_list: Treatments | None = None) -> tuple[Registry, Report]:
    """Read the tables of a registry.

    source : a folder with patients.csv (or .parquet), visits.csv, ..., or a mapping of table name to a path, data frame, Arrow table or
        dict of columns. Tables may be left out. forms : how the files write dates and numbers, for all or by table.
    codebook : ranges and levels, the shipped MS dictionary if None. treatment_list : the shipped list if None.

    Whatever is wrong with the tables is in the report. Raises InputError only for a call that makes no sense: no folder, a table or
    a form by a name that is none.
    """
    codebook, treatment_list = codebook or dictionary(), treatment_list or shipped()
    for column in (column.rstrip("*+!") for columns in COLUMNS.values() for column in columns):
        if column not in WORDS and column not in codebook:
            raise InputError(f'the dictionary "{codebook.name}" has no variable "{column}"',
                             hint="start from the shipped MS dictionary and narrow it")
    found, findings = _sources(source)
    if not found and all(one.rule == NO_FILE for one in findings):
        raise InputError("there is no table", hint="tables are: " + ", ".join(f"{name}.csv or {name}.parquet" for name in COLUMNS)
                         + _others(source))
    _check_tables(forms if isinstance(forms, Mapping) else forms.tables if forms else {})
    by_table = dict(forms) if isinstance(forms, Mapping) else {name: (forms or Form()).of(name) for name in COLUMNS}
    readers = {name: _Reader(name, found.get(name), by_table.get(name, Form()), codebook, treatment_list) for name in COLUMNS}
    for reader in readers.values():
        reader.read()
    given = {name for name in found if not readers[name].refused}
    if "patients" in given:
        known = frozenset(readers["patients"].ids)
        for name in given - {"patients"}:
            readers[name].undeclared += links.strangers(readers[name].file, readers[name].ids, known)
    names = sorted({one for reader in readers.values() for one in reader.ids})
    places = {one: k for k, one in enumerate(names)}
    held, listed = {}, np.full(len(names), "patients" not in given)
    dropped: dict[tuple[str, str], Dropped] = {}
    for name, reader in readers.items():
        table = reader.table(places)
        if name == "patients":
            table, seen = _one_row_each(table, len(names), reader)
            listed |= seen
        else:
            table = _in_order(table, reader)
        held[name] = table
        dropped |= reader.dropped(places)
    reports = [reader for name, reader in readers.items() if name in found]
    report = Report({one.name: one.rows_read for one in reports}, {one.name: one.rows_kept for one in reports},
                    (*findings, *(finding for one in readers.values() for finding in one.findings)),
                    tuple(pair for one in reports for pair in one.absent), tuple(pair for one in reports for pair in one.ignored),
                    tuple(one for reader in reports for one in reader.undeclared))
    ids = np.array(names, dtype=object)
    refused = frozenset(name for name, one in readers.items() if one.refused) | {one.file for one in findings if one.effect == "refused"}
    return Registry(ids, listed, held, codebook, treatment_list, refused, dropped), report


def _others(source: Any) -> str:
    """The tables that a folder has instead: exports of other systems."""
    if not isinstance(source, (str, Path)):
        return ""
    names = sorted(path.name for path in Path(source).iterdir() if path.suffix in (".csv", ".parquet"))[:5]
    return f"; there are {', '.join(names)} instead: what other systems export has to be written into these tables first" if names else ""


def _check_tables(names: Mapping[str, Any]) -> None:
    for name in names:
        if name not in COLUMNS:
            raise InputError(f'"{name}" is not a table', hint="tables are: " + ", ".join(COLUMNS))


def _sources(source: Any) -> tuple[dict[str, Any], list[Finding]]:
    findings: list[Finding] = []
    if isinstance(source, Mapping):
        _check_tables(source)
        found = {name: table for name, table in source.items() if table is not None}
    elif isinstance(source, (str, Path)):
        if not Path(source).is_dir():
            raise InputError(f"there is no folder {source}", hint="give the folder that holds patients.csv, visits.csv, ...")
        found = {}
        for name in COLUMNS:
            paths = [path for path in (Path(source) / f"{name}.csv", Path(source) / f"{name}.parquet") if path.exists()]
            if len(paths) == 1:
                found[name] = paths[0]
            elif paths:
                findings.append(Finding(name, "", BOTH, 1, "refused"))
    else:
        raise InputError(f"a folder or a mapping of tables was expected, not {type(source).__name__}")
    refused = {one.file for one in findings}
    return found, findings + [Finding(name, "", NO_FILE, 1, "noted") for name in COLUMNS if name not in found and name not in refused]


Spread = Mapping[str, tuple[np.ndarray, list[Any], list[str]]]      # by column: code of each row, values, rules


def _year(judge: Judge, form: Form) -> Judge:
    """A year of birth, also from a date of birth: the day is not kept."""
    def year(cell: Any) -> cells.Verdict:
        value, rule = judge(cell)
        day = cells.date(cell, form)[0] if rule == cells.NOT_NUMBER else None
        if not isinstance(day, float):
            return value, rule
        value, rule = judge(int(np.datetime64(int(day), "D").astype("datetime64[Y]").astype(int)) + EPOCH.year)
        return (value, rule) if value is None else (value, YEAR_TAKEN)
    return year


class _Reader:
    """Reads one table; afterwards it knows its rows and what was wrong."""

    def __init__(self, name: str, source: Any, form: Form, codebook: Dictionary, treatments: Treatments) -> None:
        self.name, self.source, self.form, self.codebook, self.treatments = name, source, form, codebook, treatments
        self.file = Path(source).name if isinstance(source, (str, Path)) else name
        self.findings: list[Finding] = []
        self.absent: list[tuple[str, str]] = []
        self.ignored: list[tuple[str, str]] = []
        self.undeclared: list[Undeclared] = []
        self.traces: dict[str, Dropped] = {}        # by column; patients by their place among the distinct cells
        self.rows_read = self.rows_kept = 0
        self.refused = False
        self.ids: list[str] = []            # of the rows kept
        self.columns: dict[str, np.ndarray] = {}
        self._who: list[Any] = []           # identifier of each distinct cell
        self._of = np.empty(0, dtype=np.int64)

    def read(self) -> None:
        sheet = self._sheet()
        keep = np.ones(sheet.rows, dtype=bool)
        held = {column.rstrip("*+!"): column[-1] if column[-1] in "*+!" else "" for column in COLUMNS[self.name]}
        spread: dict[str, tuple[np.ndarray, list[Any], list[str]]] = {}
        for column in held:
            if column in sheet.columns:
                spread[column] = (sheet.columns[column].codes, *cells.judged(sheet.columns[column], self._judge(column)))
                if column not in WORDS or column in TOLD:
                    variable = None if column in WORDS else self.codebook[column]
                    self.undeclared += undeclared(self.file, column, variable, sheet.columns[column], spread[column][2], self.form)
        if "patient_id" in spread:
            self.undeclared += links.without_patient(self.file, sheet.columns["patient_id"], spread)
        for column, need in held.items():           # first which rows stay
            if need and need in "*!" and column in spread:
                codes, values, rules = spread[column]
                if need == "*":
                    rules = [rule or (cells.NEEDED if value is None else "") for value, rule in zip(values, rules)]
                gone = np.array([value is None and rule != "" for value, rule in zip(values, rules)])
                self._count(column, codes[keep], [rule if bad else "" for rule, bad in zip(rules, gone.tolist())], "dropped")
                keep &= ~gone[codes]
        self.rows_kept = int(keep.sum())
        self.drugs = self._drugs(spread, sheet.rows) if self.name == "treatments" else np.empty(0, np.int16)
        self.traces = traces.of_file(self.name, sheet.columns, spread, keep, self.drugs, self.codebook)
        for column, need in held.items():
            if column in spread:
                codes, values, rules = spread[column]
                codes = codes if self.rows_kept == len(keep) else codes[keep]
                unread = [value is None for value in values]
                self._count(column, codes, [rule if bad else "" for bad, rule in zip(unread, rules)], "missing")
                self._count(column, codes, ["" if bad else rule for bad, rule in zip(unread, rules)], "noted")
                if need == "+" and INSTEAD.get(column, "") not in spread:
                    self._count(column, codes, [cells.NEEDED if bad and not rule else "" for bad, rule in zip(unread, rules)], "missing")
                self._hold(column, codes, values)
            else:
                self._hold(column, np.full(self.rows_kept, -1), [None])
        if self.name == "treatments":
            self._treatments(spread, keep)
        if self.name == "patients":
            self._birth()

    def table(self, places: Mapping[str, int]) -> Table:
        """The columns, patients numbered."""
        number = np.array([places.get(one, -1) for one in self._who] + [-1], dtype=np.int64)
        return Table(self.name, self.rows_kept, {"patient": number[self._of], **self.columns})

    def dropped(self, places: Mapping[str, int]) -> dict[tuple[str, str], Dropped]:
        """Traces of what could not be read, patients numbered."""
        number = np.array([places.get(one, -1) for one in self._who] + [-1], dtype=np.int64)
        return {(self.name, column): one.of_patients(number) for column, one in self.traces.items() if one.n}

    def note(self, column: str, rule: str, count: int, effect: Effect) -> None:
        if count:
            self.findings.append(Finding(self.file, column, rule, int(count), effect))

    def _sheet(self) -> door.Sheet:
        if self.source is None:
            return door.Sheet(0, {}, {})
        try:
            sheet = door.sheet(self.source, encoding=self.form.encoding)
        except InputError as error:
            self.note("", error.what + (f" ({error.hint})" if error.hint else ""), 1, "refused")
            self.refused = True
            return door.Sheet(0, {}, {})
        self.note("", door.RAGGED, sheet.lost.get(door.RAGGED, 0), "dropped")
        self.note("", door.INSIDE, sheet.lost.get(door.INSIDE, 0), "noted")
        self.rows_read = sheet.rows + sheet.lost.get(door.RAGGED, 0)
        self.undeclared += ragged(self.file, sheet.lost.get(door.RAGGED, 0), self.rows_read)
        wanted = [column.rstrip("*+!") for column in COLUMNS[self.name]]
        for column in COLUMNS[self.name]:
            name = column.rstrip("*+!")
            if name in sheet.columns or INSTEAD.get(name, "") in sheet.columns:
                continue
            rule = CAPITALS if any(other.lower() == name for other in sheet.columns) else NO_COLUMN
            if column[-1] == "*":
                self.note(name, rule, max(1, self.rows_read), "refused")
                self.refused = True
            elif column[-1] == "+" or rule == CAPITALS:
                self.note(name, rule, max(1, self.rows_read), "missing")
            elif name != "birth_month":
                self.absent.append((self.file, name))
        if self.refused:        # a file without its first line would have patients' cells for names: say none of them
            self.absent = []
            return door.Sheet(0, {}, {})
        self.ignored = [(self.file, name) for name in sheet.columns if name not in wanted]
        return sheet

    def _judge(self, column: str) -> Judge:
        if column in ("patient_id", "site_id"):
            return cells.identifier
        if column in WORDS:
            return cells.translated(cells.month if column == "birth_month" else cells.words, self.form.levels.get(column, {}))
        variable, form = self.codebook[column], self.form
        if variable.type == "date":
            found = cells.date_of(variable, form)
        elif variable.is_numeric:
            found = cells.number_of(variable, form)
            found = cells.whole(found) if variable.type == "integer" else found
            found = _year(found, form) if column == "birth_year" else found
        else:
            found = cells.level_of(variable)
        return cells.translated(found, form.levels.get(column, {}))

    def _count(self, column: str, codes: np.ndarray, rules: list[str], effect: Effect) -> None:
        if any(rules):
            for rule, count in cells.counted(codes, rules).items():
                self.note(column, rule, count, effect)

    def _hold(self, column: str, codes: np.ndarray, values: list[Any]) -> None:
        if column == "patient_id":
            self._who, self._of = values[:-1], codes
            used = np.zeros(len(values), dtype=bool)
            used[codes] = True
            self.ids = [value for value, here in zip(values, used.tolist()) if here and value is not None]
        elif column in ("dmt_name", "atc"):
            return
        elif column in WORDS and column != "birth_month":
            self.columns[column] = np.array(["" if value is None else value for value in values], dtype=object)[codes]
        elif column in DATED.values() and column == DATED.get(self.name):
            self.columns[column] = np.array([0 if value is None else value for value in values]).astype(np.int64)[codes]
        elif column != "birth_month" and self.codebook[column].labels is not None:
            self.columns[column] = np.array([-1 if value is None else value for value in values]).astype(np.int8)[codes]
        else:
            self.columns[column] = np.array([np.nan if value is None else value for value in values], dtype=float)[codes]

    def _drugs(self, spread: Spread, rows: int) -> np.ndarray:
        """The treatment of every row from its name, else from its ATC code; names win nothing over codes that contradict them."""
        found = [self._found(spread, column, rows) for column in ("dmt_name", "atc")]
        name, code = found
        clash = (name != UNKNOWN) & (code != UNKNOWN) & (name != code)
        return np.where(clash, UNKNOWN, np.where(name != UNKNOWN, name, code)).astype(np.int16)

    def _found(self, spread: Spread, column: str, rows: int) -> np.ndarray:
        if column not in spread:
            return np.full(rows, UNKNOWN, dtype=np.int16)
        codes, values, _ = spread[column]
        find = self.treatments.find if column == "dmt_name" else self.treatments.find_atc
        each = [UNKNOWN if value is None else find(value) for value in values]
        each = [TRIAL if code == NOT_DMT and self.treatments.exposes(value) else code for code, value in zip(each, values)]
        return np.array(each, dtype=np.int16)[codes]

    def _treatments(self, spread: Spread, keep: np.ndarray) -> None:
        """`dmt` and `efficacy`, and what was wrong with names and codes."""
        empty = {column: np.ones(self.rows_kept, dtype=bool) for column in ("dmt_name", "atc")}
        for column in empty:
            if column in spread:
                codes, values, _ = spread[column]
                empty[column] = np.array([value is None for value in values])[codes[keep]]
        name, code = (self._found(spread, column, len(keep))[keep] for column in ("dmt_name", "atc"))
        clash = (name != UNKNOWN) & (code != UNKNOWN) & (name != code)
        dmt = self.drugs[keep]
        self.note("dmt_name", CONFLICT, int(clash.sum()), "missing")
        self.note("dmt_name", UNLISTED, int(((dmt == UNKNOWN) & ~clash & ~empty["dmt_name"]).sum()), "missing")
        self.note("atc", UNLISTED, int(((code == UNKNOWN) & ~empty["atc"]).sum()), "noted" if "dmt_name" in spread else "missing")
        if "dmt_name" in spread and "atc" in spread:
            self.note("dmt_name", cells.NEEDED, int((empty["dmt_name"] & empty["atc"]).sum()), "missing")
        classes = np.array([self.treatments.efficacy(k) for k in range(len(self.treatments.names))] + [-1, -1, -1], dtype=np.int8)
        assert (UNKNOWN, NOT_DMT, TRIAL) == (-1, -2, -3)       # so that they find the three at the end
        self.columns |= {"dmt": dmt, "efficacy": classes[dmt]}

    def _birth(self) -> None:
        """The year from the month, where only the month is given."""
        month, year = self.columns["birth_month"], self.columns["birth_year"]
        days = np.where(np.isnan(month), 0, month).astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + EPOCH.year
        self.columns["birth_year"] = np.where(np.isnan(month), year, days)
        variable = self.codebook["birth_year"]
        with np.errstate(invalid="ignore"):
            odd = (self.columns["birth_year"] < variable.low) | (self.columns["birth_year"] > variable.high)
        self.note("birth_month", cells.outside(variable), int(odd.sum()), "missing")
        self.columns["birth_year"] = np.where(odd, np.nan, self.columns["birth_year"])
        self.columns["birth_month"] = np.where(odd, np.nan, month)


def _in_order(table: Table, reader: _Reader) -> Table:
    """Rows by patient and date, rows of one day as they stood."""
    patient, day = table["patient"], table[DATED[table.name]]
    if table.n < 2:
        return table
    same = np.argsort(patient, kind="stable")
    earlier = (np.diff(day[same]) < 0) & (np.diff(patient[same]) == 0)
    reader.note(DATED[table.name], UNSORTED, int(earlier.sum()), "noted")
    order = np.lexsort((day, patient))
    return table if (np.diff(order) == 1).all() else table.where(order)


def _one_row_each(table: Table, patients: int, reader: _Reader) -> tuple[Table, np.ndarray]:
    """One row per identifier, and which identifiers had one. A patient listed twice is kept if the rows are equal."""
    order = np.argsort(table["patient"], kind="stable")
    who = table["patient"][order]
    first = np.ones(len(who), dtype=bool)
    first[1:] = who[1:] != who[:-1]
    group = np.cumsum(first) - 1
    differs = np.zeros(len(who), dtype=bool)
    for column in table.columns.values():
        here = column[order]
        there = here[first][group]
        differs |= (here != there) & ~((here != here) & (there != there))
    torn = np.bincount(group, weights=differs, minlength=int(first.sum())) > 0
    kept = order[first][~torn]
    reader.note("patient_id", TWICE, int((~first & ~torn[group]).sum()), "dropped")
    reader.note("patient_id", DISAGREE, int(torn[group].sum()), "dropped")
    reader.rows_kept = len(kept)
    row = np.full(patients, -1)
    row[table["patient"][kept]] = kept
    columns = {}
    for name, column in table.columns.items():
        columns[name] = np.append(column, np.array([missing(column)], dtype=column.dtype))[row]
    return Table("patients", patients, {**columns, "patient": np.arange(patients)}), row >= 0
