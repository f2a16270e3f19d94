"""What a registry's five tables are: their columns, their typed form in memory, the report of loading them, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.forms import Undeclared
from ...data.variable import Variable
from ...errors import InputError
from .dmt import Treatments
from .dropped import NOTHING, Dropped, Key, joined

# "*": a row is nothing without it; "+": should be there; "!": if it is there, it must be readable.
COLUMNS: dict[str, tuple[str, ...]] = {
    "patients": ("patient_id*", "site_id+", "sex+", "birth_year+", "birth_month", "onset_date", "onset_date_precision", "diagnosis_date",
                 "onset_course", "course_current", "progression_onset_date", "onset_optic", "onset_brainstem", "onset_spinal",
                 "onset_supratentorial", "csf_ocb", "ever_smoker", "entry_date+", "last_contact_date", "death_date", "exit_reason"),
    "visits": ("patient_id*", "visit_id", "visit_date*", "edss", "fs_pyramidal", "fs_cerebellar", "fs_brainstem", "fs_sensory",
               "fs_bowel_bladder", "fs_visual", "fs_cerebral", "fs_ambulation", "course_at_visit", "sdmt", "t25fw_s", "nhpt_dom_s",
               "nhpt_nondom_s", "relapse_at_visit", "assessor_certified"),
    "relapses": ("patient_id*", "relapse_onset_date*", "duration_days", "severity", "steroids", "recovery", "fs_affected", "confirmed"),
    "treatments": ("patient_id*", "dmt_name+", "atc", "start_date*", "end_date!", "stop_reason", "dose"),
    "mri": ("patient_id*", "mri_date*", "region", "t2_lesion_count", "t2_lesion_band", "t2_volume_ml", "new_t2_count", "gd_lesion_count",
            "t1_hypointense_count", "nbv_ml", "field_strength_t", "reference_mri_date"),
}
DATED = {"visits": "visit_date", "relapses": "relapse_onset_date", "treatments": "start_date", "mri": "mri_date"}
WORDS = {       # columns that are no variables of the dictionary
    "patient_id": "identifier of the patient within the registry", "site_id": "identifier of the centre",
    "visit_id": "identifier of the visit",
    "birth_month": "month of birth as YYYY-MM, instead of birth_year", "fs_affected": "functional systems, separated by ;",
    "dmt_name": "generic name, brand or listed spelling of the treatment", "atc": "ATC code, current or earlier", "dose": "dose as text",
}

Effect = Literal["refused", "dropped", "missing", "noted"]
EFFECTS: tuple[Effect, ...] = ("refused", "dropped", "missing", "noted")
SAYS: dict[str, str] = {"refused": "table refused", "dropped": "rows dropped", "missing": "cells set to missing", "noted": "noted"}


@lru_cache(maxsize=1)
def dictionary() -> Dictionary:
    """The MS dictionary that comes with fedstats."""
    return Dictionary.load(Path(__file__).with_name("dictionary.json"))


class Finding(msgspec.Struct, frozen=True):
    """One line of a report: how often a rule was broken in a column of a file, and what came of it. Never a value."""

    file: str
    column: str
    rule: str
    count: int
    effect: Effect

    def __str__(self) -> str:
        where = f'{self.file}, column "{self.column}"' if self.column else self.file
        return f"{where}: {self.rule}: {self.count} ({SAYS[self.effect]})"


class Report(msgspec.Struct, frozen=True):
    """What loading found, for the eyes of the registry only.

    read, kept : rows by table. findings : violations. absent : optional columns that a file does not have. ignored : columns that
    are in no list, and what becomes of them: nothing.
    undeclared : forms that were not declared, see `forms`.
    """

    read: dict[str, int]
    kept: dict[str, int]
    findings: tuple[Finding, ...]
    absent: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    undeclared: tuple[Undeclared, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was refused, dropped or set to missing."""
        return all(one.effect == "noted" for one in self.findings)

    def count(self, rule: str, *, column: str | None = None) -> int:
        """How often a rule was broken, in all files or in one column."""
        return sum(one.count for one in self.findings if one.rule == rule and column in (None, one.column))

    def lines(self) -> list[str]:
        """The report as sentences, findings first."""
        out = self.found() + [f"{name}: {self.read[name]} rows read, {self.kept[name]} kept" for name in self.read]
        out += [f'{file}: no column "{column}": missing for everybody' for file, column in self.absent]
        return out + [f'{file}: column "{column}" is not in the list of columns: ignored' for file, column in self.ignored]

    def found(self) -> list[str]:
        """The findings as sentences, the gravest first."""
        out = [str(one) for one in self.undeclared]
        return out + [str(one) for one in sorted(self.findings, key=lambda one: EFFECTS.index(one.effect))]

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


@dataclass(frozen=True)
class Table:
    """Rows of one table in the order of patient and date.

    columns, each of shape (n,): `patient` int64, the place in `Registry.ids`; the table's own date int64, days since 1970-01-01;
    other dates, integers and numbers float64, NaN = missing; booleans and categories int8, the level's place, -1 = missing; texts
    as objects, "" = missing. treatments: `dmt` int16, the place in `Treatments.names`, -1 unknown, -2 no such treatment, -3
    none either, but one that may change the disease (a drug under trial); `efficacy` int8, the place in `dmt.EFFICACY`, -1 unknown.
    patients: one row per id, `birth_month` days of its first day.
    """

    name: str
    n: int
    columns: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __repr__(self) -> str:      # a notebook must not print patients
        return f"Table({self.name}, {self.n} rows)"

    def where(self, keep: np.ndarray) -> Table:
        """Some of the rows. keep : boolean (n,), or places in the wanted order."""
        if keep.dtype == bool and keep.all():
            return self
        n = int(keep.sum()) if keep.dtype == bool else len(keep)
        return Table(self.name, n, {name: column[keep] for name, column in self.columns.items()})

    def changed(self, **columns: np.ndarray) -> Table:
        """The table with other columns in place of these."""
        return Table(self.name, self.n, {**self.columns, **columns})


@dataclass(frozen=True)
class Registry:
    """The tables of one registry. A table that was refused raises InputError when it is asked for; one not given has no rows.

    ids : patients' identifiers, increasing, shape (patients,); row k of `patients` is patient k. listed : boolean, same shape,
    whether the table of patients has them (everybody if it was not given). dropped : see `dropped`.
    """

    ids: np.ndarray
    listed: np.ndarray
    held: Mapping[str, Table]
    dictionary: Dictionary
    treatment_list: Treatments
    refused: frozenset[str] = field(default_factory=frozenset)
    dropped: Mapping[Key, Dropped] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = ", ".join(f"{table.n} {name}" for name, table in self.held.items() if name != "patients")
        return f"Registry({len(self.ids)} patients, {rows})"

    def table(self, name: str) -> Table:
        if name in self.refused:
            raise InputError(f"the table {name} could not be used", hint="the report of loading says why")
        return self.held[name]

    @property
    def patients(self) -> Table:
        return self.table("patients")

    @property
    def visits(self) -> Table:
        return self.table("visits")

    @property
    def relapses(self) -> Table:
        return self.table("relapses")

    @property
    def treatments(self) -> Table:
        return self.table("treatments")

    @property
    def mri(self) -> Table:
        return self.table("mri")

    def columns(self, name: str) -> dict[str, np.ndarray]:
        """A table with `patient_id` and with dates as numpy dates, for whatever takes a dict of columns (`ms.outcomes.progression`)."""
        table = self.table(name)
        found = {"patient_id": self.ids[table["patient"]]}
        for column, values in table.columns.items():
            if column in self.dictionary and self.dictionary[column].type == "date":
                known = ~np.isnan(values)
                found[column] = np.where(known, np.where(known, values, 0).astype(np.int64).astype("datetime64[D]"), np.datetime64("NaT"))
            elif column != "patient":
                found[column] = values
        return found

    def with_table(self, table: Table) -> Registry:
        return replace(self, held={**self.held, table.name: table})

    def with_dropped(self, table: str, column: str, more: Dropped) -> Registry:
        """With traces of rows (column "") or cells that are not in the tables any more."""
        if not more.n:
            return self
        key = (table, column)
        return replace(self, dropped={**self.dropped, key: joined([self.dropped.get(key, NOTHING), more])})

    def only(self, keep: np.ndarray) -> Registry:
        """Some of the patients, with all their rows. keep : boolean, shape (patients,)."""
        if keep.all():
            return self
        place = np.where(keep, np.cumsum(keep) - 1, -1)
        held = {}
        for name, table in self.held.items():
            rows = table.where(keep if name == "patients" else keep[table["patient"]])
            held[name] = rows.changed(patient=place[rows["patient"]])
        dropped = {key: one.of_patients(place) for key, one in self.dropped.items()}
        return replace(self, ids=self.ids[keep], listed=self.listed[keep], held=held, dropped=dropped)


def missing(column: np.ndarray) -> Any:
    """What stands for "not known" in a column of this kind."""
    return "" if column.dtype == object else np.nan if column.dtype.kind == "f" else -1


# -- the form of the tables, for other programs ------------------------------------------------------------------------------


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a table as a list of rows, see `COLUMNS` and dictionary.json."""
    rows = {column.rstrip("*+!"): _cell_schema(column) for column in COLUMNS[name]}
    needed = [column.rstrip("*+!") for column in COLUMNS[name] if column[-1] == "*"]
    return {"type": "array", "items": {"type": "object", "properties": rows, "required": needed}}


def _cell_schema(column: str) -> dict[str, Any]:
    name, key = column.rstrip("*+!"), column[-1] == "*"
    if name in WORDS:
        found: dict[str, Any] = {"type": "string", "description": WORDS[name]}
        found |= {"minLength": 1} if key else {"pattern": "^[0-9]{4}-[0-9]{2}$"} if name == "birth_month" else {}
    else:
        found = _variable_schema(dictionary()[name])
    if key:
        return found
    if "enum" in found:
        return {**found, "enum": [*found["enum"], None]}
    return {**found, "type": [found["type"], "null"]}


def _variable_schema(variable: Variable) -> dict[str, Any]:
    about = variable.description + (f" ({variable.unit})" if variable.unit else "")
    if variable.type == "category":
        return {"enum": list(variable.labels or ()), "description": about}
    if variable.type == "boolean":
        return {"type": "boolean", "description": about}
    if variable.type == "date":
        return {"type": "string", "format": "date", "description": about}
    found: dict[str, Any] = {"type": variable.type, "minimum": variable.low, "maximum": variable.high, "description": about}
    if variable.name == "edss":
        found["not"] = {"const": 0.5}
    return found | ({"multipleOf": variable.step} if variable.step else {})
