"""Cleaning: what a registry's tables cannot mean, rule by rule. Each rule has a name, a sentence and a source, and can be switched off.

How this works: the rules run in the order of `RULES`, each on what the ones before it left, and each counts what it changed. A rule
looks at one patient at a time: cleaning a registry and cleaning its halves give the same rows, so that pooled and federated answers
agree (limits such as "15 standard deviations" depend on who else is in the registry, and are not among them).

Dates are compared as early as they may be: an onset known to the year began on 1 January, a patient born in a year was born on its
first day; so nothing is dropped because a date was rounded.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ..dictionary import EPOCH, ON_STEP
from ..errors import InputError
from .dmt import NOT_DMT, UNKNOWN
from .tables import DATED, Registry, Table, missing

DE_BROUWER = "De Brouwer et al. 2021, code msbase2020 (data_preprocessing.py)"
EDSS_VALUES = "columns of the global MSSS and ARMSS tables (R package ms.sev): 0, 1, 1.5, ... 9.5"
OWN = "fedstats; follows from what the columns mean, no published source"
RELAPSE_GAP = 30            # days from one onset to the next; the customary definition of a new relapse, source not verified
EDSS_HALF, EDSS_DEAD, EDSS_STEP = 0.5, 10.0, 0.5
TEXTS_OF_ROW = ("visit_id", "dose")     # may differ between two entries of the same thing


@dataclass(frozen=True)
class Rule:
    """One rule. apply : (registry, data cut in days or None) -> (registry, how many rows or cells it changed)."""

    name: str
    table: str
    sentence: str
    source: str
    apply: Callable[[Registry, float | None], tuple[Registry, int]]
    needs_cut: bool = False


class Cleaned(msgspec.Struct, frozen=True):
    """One line of a cleaning report. count : rows or cells changed; None where the rule did not run, and `why` says why not."""

    rule: str
    table: str
    sentence: str
    source: str
    count: int | None
    why: str = ""

    def __str__(self) -> str:
        return f"{self.rule} ({self.table}): {self.sentence}: " + (f"not applied, {self.why}" if self.count is None else str(self.count))


class CleaningReport(msgspec.Struct, frozen=True):
    """What cleaning changed, rule by rule in the order applied; for the eyes of the registry only."""

    before: dict[str, int]
    after: dict[str, int]
    rules: tuple[Cleaned, ...]
    data_cut: str | None = None

    def count(self, rule: str) -> int:
        """How much a rule changed; 0 if it did not run."""
        return next(one.count or 0 for one in self.rules if one.rule == rule)

    def lines(self) -> list[str]:
        """The report as sentences."""
        return [f"{name}: {self.before[name]} rows before cleaning, {self.after[name]} after" for name in self.before] + [str(one) for one in self.rules]

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


def clean(registry: Registry, *, data_cut: datetime.date | str | None, without: Collection[str] = ()) -> tuple[Registry, CleaningReport]:
    """Apply the rules.

    data_cut : the last day that the data can know of, a date or YYYY-MM-DD; with None the rules about the future do not run, and the
        report says so. without : names of rules to leave out. Tables that were refused are left alone.
    Returns the cleaned registry and the report. Raises InputError for a rule or a date that is none.
    """
    known = [rule.name for rule in RULES]
    if odd := [name for name in without if name not in known]:
        raise InputError(f'"{odd[0]}" is not a cleaning rule', hint="rules are: " + ", ".join(known))
    cut = None if data_cut is None else _days(data_cut)
    before = {name: table.n for name, table in registry.held.items()}
    lines = []
    for rule in RULES:
        why = "switched off" if rule.name in without else "no data cut given" if rule.needs_cut and cut is None else ""
        if not why and (rule.table in registry.refused or ("patients" in registry.refused and rule.table != "patients" and rule.name in NEED_PATIENTS)):
            why = "its table could not be used"
        count = None
        if not why:
            registry, count = rule.apply(registry, cut)
        lines.append(Cleaned(rule.name, rule.table, rule.sentence, rule.source, count, why))
    after = {name: table.n for name, table in registry.held.items()}
    return registry, CleaningReport(before, after, tuple(lines), None if cut is None else str(EPOCH + datetime.timedelta(days=int(cut))))


def _days(date: datetime.date | str) -> float:
    try:
        found = date if isinstance(date, datetime.date) else datetime.date.fromisoformat(date)
        return float((datetime.date(found.year, found.month, found.day) - EPOCH).days)
    except (TypeError, ValueError):
        raise InputError("the data cut is a date as YYYY-MM-DD") from None


# -- what the rules compare with ---------------------------------------------------------------------------------------------


def first_day_of_life(patients: Table) -> np.ndarray:
    """The earliest day on which each patient may have been born, days since 1970-01-01; NaN where not known."""
    return np.where(np.isnan(patients["birth_month"]), _new_year(patients["birth_year"]), patients["birth_month"])


def earliest_onset(patients: Table, precisions: tuple[str, ...] = ("day", "month", "year")) -> np.ndarray:
    """The earliest day of the first symptoms, given how exactly the date is known; NaN where not known."""
    onset, precision = patients["onset_date"], patients["onset_date_precision"]
    dates = np.where(np.isnan(onset), 0, onset).astype("datetime64[D]")
    found = onset.copy()
    for unit, level in (("M", precisions.index("month")), ("Y", precisions.index("year"))):
        start = dates.astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(float)
        found = np.where((precision == level) & ~np.isnan(onset), start, found)
    return found


def _new_year(year: np.ndarray) -> np.ndarray:
    known = np.where(np.isnan(year), EPOCH.year, year).astype(np.int64)
    return np.where(np.isnan(year), np.nan, (known - EPOCH.year).astype("datetime64[Y]").astype("datetime64[D]").astype(float))


def _onset(registry: Registry) -> np.ndarray:
    return earliest_onset(registry.patients, registry.dictionary["onset_date_precision"].labels or ())


# -- kinds of rules ------------------------------------------------------------------------------------------------------------


def _drop(name: str, wrong: Callable[[Registry, Table, float | None], np.ndarray]) -> Callable[[Registry, float | None], tuple[Registry, int]]:
    """Rows that are gone. wrong : boolean, shape (rows,)."""
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = registry.table(name)
        bad = wrong(registry, table, cut)
        return registry.with_table(table.where(~bad)), int(bad.sum())
    return apply


def _blank(name: str, column: str, wrong: Callable[[Registry, Table, float | None], np.ndarray]) -> Callable[[Registry, float | None], tuple[Registry, int]]:
    """Cells that are missing from then on."""
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = registry.table(name)
        bad = wrong(registry, table, cut)
        values = table[column]
        return registry.with_table(table.changed(**{column: np.where(bad, missing(values), values).astype(values.dtype)})), int(bad.sum())
    return apply


def _in_future(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] > cut


def _before_birth(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] < first_day_of_life(registry.patients)[table["patient"]]


def _before_onset(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] < _onset(registry)[table["patient"]]


def _after_death(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] > registry.patients["death_date"][table["patient"]]


def _later(column: str) -> Callable[[Registry, Table, float | None], np.ndarray]:
    return lambda registry, table, cut: table[column] > cut


def _unlisted(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    gone = sum(int((~registry.listed[table["patient"]]).sum()) for name, table in registry.held.items() if name != "patients")
    return registry.only(registry.listed), gone


def _seen_again(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    """EDSS 10 before the patient's last visit."""
    last = np.ones(table.n, dtype=bool)
    last[:-1] = (table["patient"][1:] != table["patient"][:-1]) | (table["visit_date"][1:] == table["visit_date"][:-1])
    return (table["edss"] == EDSS_DEAD) & ~last


def _off_grid(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    exact = table["edss"] / EDSS_STEP
    return np.abs(exact - np.rint(exact)) > ON_STEP


# -- one thing entered twice -----------------------------------------------------------------------------------------------------


def _groups(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that share all keys and stand together -> (which row begins a group, the group of each row)."""
    first = np.ones(len(keys[0]), dtype=bool)
    first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return first, np.cumsum(first) - 1


def _spread(values: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest known value of each group; NaN where none is known."""
    starts = np.flatnonzero(first)
    return np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)


def _known(column: np.ndarray) -> np.ndarray:
    """A column of numbers or levels as doubles, NaN where missing."""
    return column if column.dtype.kind == "f" else np.where(column < 0, np.nan, column.astype(float))


def _edss_disagrees(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    if not table.n:
        return np.zeros(0, dtype=bool)
    first, group = _groups(table["patient"], table["visit_date"])
    low, high = _spread(table["edss"], first)
    return (high > low)[group]


def _cells_disagree(name: str, *keys: str) -> Callable[[Registry, float | None], tuple[Registry, int]]:
    """Entries of one thing that differ in a cell: the cell becomes missing in all of them. Counts the things."""
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = _together(registry.table(name), keys)
        if not table.n:
            return registry, 0
        first, group = _groups(table["patient"], *(table[key] for key in keys))
        if first.all():
            return registry, 0
        changed, torn = {}, np.zeros(int(first.sum()), dtype=bool)
        for column, values in table.columns.items():
            if column in ("patient", *keys) or column in TEXTS_OF_ROW:
                continue
            if values.dtype == object:
                _, number = np.unique(values.astype(str), return_inverse=True)
                low, high = _spread(np.where(values == "", np.nan, number), first)
            else:
                low, high = _spread(_known(values), first)
            differs = high > low
            if differs.any():
                torn |= differs
                changed[column] = np.where(differs[group], missing(values), values).astype(values.dtype)
        return registry.with_table(table.changed(**changed)), int(torn.sum())
    return apply


def _merge(name: str, *keys: str) -> Callable[[Registry, float | None], tuple[Registry, int]]:
    """Entries of one thing become one row: its first, filled in from the others. Entries that differ stay; counts the rows that went."""
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = _together(registry.table(name), keys)
        if not table.n:
            return registry, 0
        first, group = _groups(table["patient"], *(table[key] for key in keys))
        if first.all():
            return registry, 0
        size = np.bincount(group)
        some = (size > 1)[group]        # only these rows need work
        inner, _ = _groups(group[some])
        torn, filled = np.zeros(int((size > 1).sum()), dtype=bool), {}
        for column, values in table.columns.items():
            part = values[some]
            if column in ("patient", *keys):
                continue
            if values.dtype == object:
                texts, number = np.unique(part.astype(str), return_inverse=True)
                low, high = _spread(np.where(part == "", np.nan, number), inner)
                if column in TEXTS_OF_ROW:
                    filled[column] = part[inner]
                    continue
                filled[column] = np.append(texts.astype(object), "")[np.where(np.isnan(low), -1, low).astype(np.int64)]
            else:
                low, high = _spread(_known(part), inner)
                filled[column] = np.where(np.isnan(low), missing(values), low).astype(values.dtype)
            torn |= high > low
        kept = np.flatnonzero(some)[inner][~torn]
        keep = first | np.isin(group, group[some][inner][torn])
        columns = dict(table.columns)
        for column, values in filled.items():
            columns[column] = columns[column].copy()
            columns[column][kept] = values[~torn]
        return registry.with_table(Table(name, table.n, columns).where(keep)), int((~keep).sum())
    return apply


def _together(table: Table, keys: tuple[str, ...]) -> Table:
    """Rows of one thing side by side; the order of days stays (keys begin with the date)."""
    if len(keys) == 1:
        return table
    order = np.lexsort([table[key] for key in reversed(keys)] + [table["patient"]])
    return table.where(order)


def _too_soon(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    """Onsets within `RELAPSE_GAP` days of the last onset that counted."""
    patient, day = table["patient"], table["relapse_onset_date"]
    close = np.zeros(table.n, dtype=bool)
    if table.n > 1:
        close[1:] = (np.diff(patient) == 0) & (np.diff(day) < RELAPSE_GAP)
    gone = np.zeros(table.n, dtype=bool)
    counted = 0
    # only runs of near onsets need the loop: the first of a run always counts
    for k in np.flatnonzero(close).tolist():
        if not close[k - 1]:
            counted = k - 1
        if day[k] - day[counted] < RELAPSE_GAP:
            gone[k] = True
        else:
            counted = k
    return gone


# -- treatments ----------------------------------------------------------------------------------------------------------------


def _same_start(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    if not table.n:
        return np.zeros(0, dtype=bool)
    first, group = _groups(table["patient"], table["start_date"])
    low, high = _spread(table["dmt"].astype(float), first)
    return (high > low)[group]


def _one_course(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    """Courses of one treatment that overlap, or that were entered twice, become one."""
    table = registry.treatments
    if table.n < 2:
        return registry, 0
    order = np.lexsort((table["start_date"], table["dmt"], table["patient"]))
    rows = table.where(order)
    known, _ = _groups(rows["patient"], rows["dmt"])
    end = np.where(np.isnan(rows["end_date"]), np.inf, rows["end_date"])
    # the furthest end so far within a patient's courses of one treatment: offsets keep groups apart
    latest = _running_max(end, known)
    begins = known.copy()
    begins[1:] |= rows["start_date"][1:] > latest[:-1]
    begins |= rows["dmt"] < 0           # two unknown drugs are not one
    if begins.all():
        return registry, 0
    starts = np.flatnonzero(begins)
    longest = np.maximum.reduceat(end, starts)
    group = np.cumsum(begins) - 1
    # what is said about the end (why it stopped) comes from the row that ends last
    place = np.lexsort((np.arange(rows.n), end, group))
    last = place[np.append(starts[1:], rows.n) - 1]
    kept = rows.where(starts).changed(end_date=np.where(np.isinf(longest), np.nan, longest), stop_reason=rows["stop_reason"][last])
    again = np.lexsort((kept["start_date"], kept["patient"]))
    return registry.with_table(kept.where(again)), table.n - kept.n


def _running_max(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The largest value so far within each group."""
    found = values.copy()
    step = 1
    group = np.cumsum(first)
    while step < len(values):       # doubling: after k steps each entry knows the 2**k before it
        same = group[step:] == group[:-step]
        if not same.any():
            break
        found[step:] = np.where(same, np.maximum(found[step:], found[:-step]), found[step:])
        step *= 2
    return found


def _overlap(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    table = registry.treatments
    if table.n < 2:
        return registry, 0
    until = np.full(table.n, np.inf)
    until[:-1] = np.where(table["patient"][1:] == table["patient"][:-1], table["start_date"][1:], np.inf)
    end = np.where(np.isnan(table["end_date"]), np.inf, table["end_date"])
    over = (end > until) & (until > table["start_date"])
    return registry.with_table(table.changed(end_date=np.where(over, until, table["end_date"]))), int(over.sum())


def _ends_at(limit: Callable[[Registry, Table, float | None], np.ndarray]) -> Callable[[Registry, float | None], tuple[Registry, int]]:
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = registry.treatments
        until = limit(registry, table, cut)
        late = (table["end_date"] > until) | (np.isnan(table["end_date"]) & ~np.isnan(until))
        return registry.with_table(table.changed(end_date=np.where(late, until, table["end_date"]))), int(late.sum())
    return apply


# -- the rules ------------------------------------------------------------------------------------------------------------------


def _patient_rules() -> list[Rule]:
    def born(registry: Registry, patients: Table) -> np.ndarray:
        return first_day_of_life(patients)

    rules = [
        Rule("unknown_patient", "patients", "rows of patients whom the table of patients does not have are dropped", OWN, _unlisted),
        Rule("death_in_future", "patients", "dates of death after the data cut are missing", OWN, _blank("patients", "death_date", _later("death_date")), True),
        Rule("onset_in_future", "patients", "dates of onset after the data cut are missing", OWN, _blank(
            "patients", "onset_date", lambda registry, table, cut: _onset(registry) > cut), True),
        Rule("onset_before_birth", "patients", "dates of onset before birth are missing", OWN, _blank(
            "patients", "onset_date", lambda registry, table, cut: table["onset_date"] < born(registry, table))),
        Rule("death_before_birth", "patients", "dates of death before birth are missing", OWN, _blank(
            "patients", "death_date", lambda registry, table, cut: table["death_date"] < born(registry, table))),
        Rule("death_before_onset", "patients", "dates of death before onset are missing", OWN, _blank(
            "patients", "death_date", lambda registry, table, cut: table["death_date"] < _onset(registry))),
        Rule("progression_before_onset", "patients", "beginnings of progression before onset are missing", OWN, _blank(
            "patients", "progression_onset_date", lambda registry, table, cut: table["progression_onset_date"] < _onset(registry))),
        Rule("diagnosis_before_onset", "patients", "dates of diagnosis before onset are missing", OWN, _blank(
            "patients", "diagnosis_date", lambda registry, table, cut: table["diagnosis_date"] < _onset(registry))),
    ]
    for column, words in (("diagnosis_date", "dates of diagnosis"), ("progression_onset_date", "beginnings of progression"),
                          ("entry_date", "dates of entry"), ("last_contact_date", "dates of last contact")):
        rules.append(Rule(column.removesuffix("_date") + "_in_future", "patients", f"{words} after the data cut are missing", OWN,
                          _blank("patients", column, _later(column)), True))
    return rules


def _date_rules(table: str, one: str, words: str) -> list[Rule]:
    """What holds for everything that has a date."""
    found = [Rule(f"{one}_in_future", table, f"{words} after the data cut are dropped", DE_BROUWER if table == "visits" else OWN, _drop(table, _in_future), True),
             Rule(f"{one}_before_birth", table, f"{words} before birth are dropped", OWN, _drop(table, _before_birth)),
             Rule(f"{one}_after_death", table, f"{words} after death are dropped", OWN, _drop(table, _after_death))]
    if table != "mri":      # an incidental finding may come first
        found.insert(2, Rule(f"{one}_before_onset", table, f"{words} before the onset of the disease are dropped",
                             DE_BROUWER if table == "visits" else OWN, _drop(table, _before_onset)))
    return found


RULES: tuple[Rule, ...] = (
    *_patient_rules(),
    Rule("edss_half", "visits", "EDSS 0.5 does not exist: missing", EDSS_VALUES, _blank("visits", "edss", lambda registry, table, cut: table["edss"] == EDSS_HALF)),
    Rule("edss_off_grid", "visits", "EDSS that is no multiple of 0.5 is missing", EDSS_VALUES, _blank("visits", "edss", _off_grid)),
    *_date_rules("visits", "visit", "visits"),
    Rule("visit_edss_disagrees", "visits", "visits of one day with different EDSS are all dropped", DE_BROUWER, _drop("visits", _edss_disagrees)),
    Rule("visit_cells_disagree", "visits", "what visits of one day say differently (other than EDSS) is missing", OWN, _cells_disagree("visits", "visit_date")),
    Rule("visit_repeated", "visits", "visits of one day that do not contradict each other become one", DE_BROUWER, _merge("visits", "visit_date")),
    Rule("edss_ten_seen_again", "visits", "EDSS 10 (death due to MS) of a patient with a later visit is missing", OWN, _blank("visits", "edss", _seen_again)),
    *_date_rules("relapses", "relapse", "relapses"),
    Rule("relapse_cells_disagree", "relapses", "what entries of a relapse with one onset say differently is missing", OWN,
         _cells_disagree("relapses", "relapse_onset_date")),
    Rule("relapse_repeated", "relapses", "entries of a relapse with one onset become one", OWN, _merge("relapses", "relapse_onset_date")),
    Rule("relapse_within_30_days", "relapses", f"onsets less than {RELAPSE_GAP} days after the last one that counted are dropped",
         "customary definition of a new relapse; source not verified", _drop("relapses", _too_soon)),
    Rule("not_a_dmt", "treatments", "what is no disease-modifying treatment (steroids, vitamins, trial drugs) is dropped", DE_BROUWER,
         _drop("treatments", lambda registry, table, cut: table["dmt"] == NOT_DMT)),
    Rule("unknown_dmt", "treatments", "treatments that are not in the list are dropped", DE_BROUWER,
         _drop("treatments", lambda registry, table, cut: table["dmt"] == UNKNOWN)),
    *_date_rules("treatments", "treatment", "treatments that start"),
    Rule("treatment_end_before_start", "treatments", "treatments that end before they start are dropped", OWN,
         _drop("treatments", lambda registry, table, cut: table["end_date"] < table["start_date"])),
    Rule("treatment_of_no_days", "treatments", "treatments that end on the day they start are dropped", DE_BROUWER,
         _drop("treatments", lambda registry, table, cut: table["end_date"] == table["start_date"])),
    Rule("treatment_end_in_future", "treatments", "treatments that end after the data cut go on", OWN, _blank("treatments", "end_date", _later("end_date")), True),
    Rule("treatment_ends_at_death", "treatments", "treatments that go on after death end on that day", OWN,
         _ends_at(lambda registry, table, cut: registry.patients["death_date"][table["patient"]])),
    Rule("treatment_same_drug", "treatments", "overlapping courses of one treatment become one", OWN, _one_course),
    Rule("treatment_same_start", "treatments", "different treatments that start on one day are all dropped", OWN, _drop("treatments", _same_start)),
    Rule("treatment_overlap", "treatments", "a treatment ends when the next one starts", DE_BROUWER + ": no overlaps; how they are resolved is ours", _overlap),
    *_date_rules("mri", "mri", "images"),
    Rule("mri_cells_disagree", "mri", "what images of one region and day say differently is missing", OWN, _cells_disagree("mri", "mri_date", "region")),
    Rule("mri_repeated", "mri", "images of one region and day become one", OWN, _merge("mri", "mri_date", "region")),
)

NEED_PATIENTS = {rule.name for rule in RULES if rule.name.endswith(("_before_birth", "_before_onset", "_after_death", "_at_death"))}
