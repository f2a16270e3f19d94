"""What the cleaning rules do: which rows are wrong (faults), and what becomes of them (steps). Arrays, one registry at a time.

Rows of a table come by patient and date (`registry.Table`). Nothing here looks across patients. What is taken away although it
happened leaves a trace (`dropped`); how it may have been is a `Trace`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...data.variable import EPOCH, ON_STEP
from .dmt import NOT_DMT
from .dropped import NEVER, ROW, Dropped
from .registry import DATED, Registry, Table, missing

RELAPSE_GAP = 30            # days from one onset to the next; the customary definition of a new relapse, source not verified
EDSS_HALF, EDSS_DEAD, EDSS_STEP = 0.5, 10.0, 0.5
INFUSION, LATE = 1, 2       # days that an infusion is written down with, at most; times the interval: extended dosing
TEXTS_OF_ROW = ("visit_id", "dose")     # may differ between two entries of the same thing

Fault = Callable[[Registry, Table, "float | None"], np.ndarray]               # (registry, table, data cut) -> boolean, shape (rows,)
Step = Callable[[Registry, "float | None"], tuple[Registry, int]]             # (registry, data cut) -> (registry, how many changed)
Trace = Callable[[Table], Dropped]                                            # what rows leave behind that are taken away


# -- what the rules compare with ---------------------------------------------------------------------------------------------


def first_day_of_life(patients: Table) -> np.ndarray:
    """The earliest day on which each patient may have been born, days since 1970-01-01; NaN where not known."""
    return np.where(np.isnan(patients["birth_month"]), _new_year(patients["birth_year"]), patients["birth_month"])


def earliest_onset(patients: Table, precisions: tuple[str, ...] = ("day", "month", "year")) -> np.ndarray:
    """The earliest day of the first symptoms, given how exactly the date is known; NaN where not known."""
    onset, precision = patients["onset_date"], patients["onset_date_precision"]
    dates = np.where(np.isnan(onset), 0, onset).astype("datetime64[D]")
    found = onset.copy()
    for unit, level in (("M", "month"), ("Y", "year")):
        if level in precisions:
            start = dates.astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(float)
            found = np.where((precision == precisions.index(level)) & ~np.isnan(onset), start, found)
    return found


def _new_year(year: np.ndarray) -> np.ndarray:
    known = np.where(np.isnan(year), EPOCH.year, year).astype(np.int64)
    return np.where(np.isnan(year), np.nan, (known - EPOCH.year).astype("datetime64[Y]").astype("datetime64[D]").astype(float))


def born(registry: Registry) -> np.ndarray:
    """`first_day_of_life` of each patient."""
    return first_day_of_life(registry.patients)


def onset(registry: Registry) -> np.ndarray:
    """`earliest_onset` of each patient."""
    return earliest_onset(registry.patients, registry.dictionary["onset_date_precision"].labels or ())


# -- kinds of rules ------------------------------------------------------------------------------------------------------------


def drop(name: str, wrong: Fault, trace: Trace | None) -> Step:
    """Rows that are gone. wrong : boolean, shape (rows,). trace : None where nothing happened, or other rows say it."""
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = registry.table(name)
        bad = wrong(registry, table, cut)
        if trace is not None and bad.any():
            registry = registry.with_dropped(name, ROW, trace(table.where(bad)))
        return registry.with_table(table.where(~bad)), int(bad.sum())
    return apply


def drop_dead(name: str) -> Step:
    """Rows after death are gone, and the day of death is not known any more: one of the two is wrong."""
    take = drop(name, after_death, that_day)

    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = registry.table(name)
        who = np.unique(table["patient"][after_death(registry, table, cut)])
        found, count = take(registry, cut)
        return found.with_dropped("patients", "death_date", Dropped.of(who, registry.patients["death_date"][who], np.inf)), count
    return apply


# -- what rows leave behind ----------------------------------------------------------------------------------------------------


def that_day(table: Table) -> Dropped:
    """It was on its day; a treatment lasted as it says."""
    return _trace(table, table[DATED[table.name]], table[DATED[table.name]])


def some_day(table: Table) -> Dropped:
    """The day is wrong, and nobody knows which it was."""
    return _trace(table, np.full(table.n, NEVER), np.full(table.n, np.inf))


def a_drug(table: Table) -> Dropped:
    """Treatments that may have modified the disease; steroids and vitamins do not."""
    return that_day(table.where(table["dmt"] != NOT_DMT))


def either_day(table: Table) -> Dropped:
    """A treatment whose end is before its start: one of the two days is wrong."""
    return _trace(table, table["end_date"], table["start_date"], np.inf)


def ahead(table: Table) -> Dropped:
    """After the data cut; a treatment that ended before it started began on another day, before its end."""
    if table.name != "treatments":
        return that_day(table)
    start, end = table["start_date"], table["end_date"]
    with np.errstate(invalid="ignore"):
        over = end < start
    return _trace(table, np.where(over, NEVER, start), np.where(over, end, start))


def _trace(table: Table, first: np.ndarray, last: np.ndarray, until: np.ndarray | float | None = None) -> Dropped:
    if table.name != "treatments":
        return Dropped.of(table["patient"], first, last)
    until = np.maximum(table["end_date"], last + 1) if until is None else until         # of one day: that day
    return Dropped.of(table["patient"], first, last, until, np.maximum(table["dmt"], -1))


def blank(name: str, column: str, wrong: Fault) -> Step:
    """Cells that are missing from then on. A measurement was made and a death happened; a treatment whose end lies ahead goes on."""
    def apply(registry: Registry, cut: float | None) -> tuple[Registry, int]:
        table = registry.table(name)
        bad = wrong(registry, table, cut)
        values = table[column]
        if bad.any() and column != "end_date" and (name in DATED or column == "death_date"):
            who = table["patient"][bad]
            day = table[DATED[name]][bad] if name in DATED else NEVER
            registry = registry.with_dropped(name, column, Dropped.of(who, day))
        return registry.with_table(table.changed(**{column: np.where(bad, missing(values), values).astype(values.dtype)})), int(bad.sum())
    return apply


def in_future(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] > cut


def before_birth(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] < first_day_of_life(registry.patients)[table["patient"]]


def before_onset(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] < onset(registry)[table["patient"]]


def after_death(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table[DATED[table.name]] > registry.patients["death_date"][table["patient"]]


def later(column: str) -> Fault:
    return lambda registry, table, cut: table[column] > cut


def onset_later(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return onset(registry) > cut


def half(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table["edss"] == EDSS_HALF


def is_code(*codes: int) -> Fault:
    return lambda registry, table, cut: np.isin(table["dmt"], codes)


def ends_early(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table["end_date"] < table["start_date"]


def no_days(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    return table["end_date"] == table["start_date"]


def unlisted(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    gone = sum(int((~registry.listed[table["patient"]]).sum()) for name, table in registry.held.items() if name != "patients")
    return registry.only(registry.listed), gone


def seen_again(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    """EDSS 10 before the patient's last visit."""
    last = np.zeros(len(registry.ids), dtype=np.int64)
    last[table["patient"]] = table["visit_date"]        # in the order of dates: the last one stays
    return (table["edss"] == EDSS_DEAD) & (table["visit_date"] < last[table["patient"]])


def off_grid(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
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


def edss_disagrees(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    if not table.n:
        return np.zeros(0, dtype=bool)
    first, group = _groups(table["patient"], table["visit_date"])
    low, high = _spread(table["edss"], first)
    return (high > low)[group]


def cells_disagree(name: str, *keys: str, but: tuple[str, ...] = ()) -> Step:
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
            if column in ("patient", *keys, *but, *TEXTS_OF_ROW):
                continue
            if values.dtype == object:
                _, number = np.unique(values.astype(str), return_inverse=True)
                low, high = _spread(np.where(values == "", np.nan, number), first)
            else:
                low, high = _spread(_known(values), first)
            differs = high > low
            if differs.any():
                torn |= differs
                if name in DATED:
                    places = np.flatnonzero(first)[differs]
                    registry = registry.with_dropped(name, column, Dropped.of(table["patient"][places], table[DATED[name]][places]))
                changed[column] = np.where(differs[group], missing(values), values).astype(values.dtype)
        return registry.with_table(table.changed(**changed)), int(torn.sum())
    return apply


def merge(name: str, *keys: str) -> Step:
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


def too_soon(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
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


def infusions(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    """Infusions and courses that are written down one by one last until the next one of the drug, if it is not `LATE` times as
    late as it should be, else as long as one counts; a course lasts until another treatment begins. Counts them."""
    table, treatments = registry.treatments, registry.treatment_list.treatments
    every, course = (np.array([*(getattr(one, name) for one in treatments), 0, 0, 0], dtype=float)[table["dmt"]]
                     for name in ("infusion_days", "course_days"))
    lasted = table["end_date"] - table["start_date"]
    lasting = (course > 0) & (lasted >= 0) & (lasted <= course)
    infusion = (every > 0) & (lasted >= 0) & (lasted <= INFUSION)
    if not (lasting | infusion).any():
        return registry, 0
    again = _next_of_drug(table)
    soon = again - table["start_date"] <= LATE * every
    end = np.where(infusion, np.where(soon, again, table["start_date"] + every), table["end_date"])
    return registry.with_table(table.changed(end_date=np.where(lasting, np.nan, end))), int((lasting | infusion).sum())


def _next_of_drug(table: Table) -> np.ndarray:
    """The patient's next start of the same drug, infinite without one; another drug in between is a switch."""
    found = np.full(table.n, np.inf)
    same = (table["patient"][1:] == table["patient"][:-1]) & (table["dmt"][1:] == table["dmt"][:-1])
    found[:-1] = np.where(same, table["start_date"][1:], np.inf)
    return found


def same_start(registry: Registry, table: Table, cut: float | None) -> np.ndarray:
    if not table.n:
        return np.zeros(0, dtype=bool)
    first, group = _groups(table["patient"], table["start_date"])
    low, high = _spread(table["dmt"].astype(float), first)
    return (high > low)[group]


def one_course(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    """Courses of one treatment, one after the other, become one where the next begins before the last has ended."""
    table = registry.treatments
    if table.n < 2:
        return registry, 0
    # only neighbours: a course of another drug in between is a switch and back, whatever the first end date says
    run, _ = _groups(table["patient"], table["dmt"])
    end = np.where(np.isnan(table["end_date"]), np.inf, table["end_date"])
    latest = _running_max(end, run)
    begins = run | (table["dmt"] < 0)           # two unknown drugs are not one
    begins[1:] |= table["start_date"][1:] > latest[:-1]
    if begins.all():
        return registry, 0
    starts, group = np.flatnonzero(begins), np.cumsum(begins) - 1
    longest = np.maximum.reduceat(end, starts)
    # why it stopped is said by the row that ends last
    last = np.lexsort((end, group))[np.append(starts[1:], table.n) - 1]
    kept = table.where(starts).changed(end_date=np.where(np.isinf(longest), np.nan, longest), stop_reason=table["stop_reason"][last])
    return registry.with_table(kept), table.n - kept.n


def _running_max(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The largest value so far within each group. first : which entry begins a group."""
    found, group, step = values.copy(), np.cumsum(first), 1
    while step < len(values):       # doubling: after k steps each entry knows the 2**k before it
        same = group[step:] == group[:-step]
        if not same.any():
            break
        found[step:] = np.where(same, np.maximum(found[step:], found[:-step]), found[step:])
        step *= 2
    return found


def overlap(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    table = registry.treatments
    if table.n < 2:
        return registry, 0
    until = np.full(table.n, np.inf)
    until[:-1] = np.where(table["patient"][1:] == table["patient"][:-1], table["start_date"][1:], np.inf)
    end = np.where(np.isnan(table["end_date"]), np.inf, table["end_date"])
    over = (end > until) & (until > table["start_date"])
    # who says that the first went on after the next one may be right once that has ended
    said = over & np.isfinite(end)
    trace = Dropped.of(table["patient"][said], table["start_date"][said], table["start_date"][said], end[said], table["dmt"][said])
    registry = registry.with_dropped("treatments", "end_date", trace)
    return registry.with_table(table.changed(end_date=np.where(over, until, table["end_date"]))), int(over.sum())


def ends_at_death(registry: Registry, cut: float | None) -> tuple[Registry, int]:
    table = registry.treatments
    death = registry.patients["death_date"][table["patient"]]
    late = (table["end_date"] > death) | (np.isnan(table["end_date"]) & ~np.isnan(death))
    return registry.with_table(table.changed(end_date=np.where(late, death, table["end_date"]))), int(late.sum())
