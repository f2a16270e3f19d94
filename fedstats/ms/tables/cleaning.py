"""Cleaning: what a registry's tables cannot mean, rule by rule. Each rule has a name, a sentence and a source, and can be switched off.

How this works: the rules run in the order of `RULES`, each on what the ones before it left, and each counts what it changed. A rule
looks at one patient at a time: cleaning a registry and cleaning its halves give the same rows, so that pooled and federated answers
agree (limits such as "15 standard deviations" depend on who else is in the registry, and are not among them).

What a rule takes away has happened, unless it says that it has not (a steroid is no such treatment; a second entry is no second
relapse): it leaves a trace in the registry (`dropped`), so that a patient whose treatment was dropped is not taken for untreated.

Dates are compared as early as they may be: an onset known to the year began on 1 January, a patient born in a year was born on its
first day; so nothing is dropped because a date was rounded.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from ...data.variable import EPOCH, iso_date
from ...errors import InputError
from . import cleaning_steps as step
from .dmt import NOT_DMT, TRIAL, UNKNOWN
from .registry import Registry

DE_BROUWER = "De Brouwer et al. 2021, code msbase2020 (data_preprocessing.py)"
EDSS_VALUES = "columns of the global MSSS and ARMSS tables (R package ms.sev): 0, 1, 1.5, ... 9.5"
OWN = "fedstats; follows from what the columns mean, no published source"


@dataclass(frozen=True)
class Rule:
    """One rule. apply : (registry, data cut in days or None) -> (registry, how many rows or cells it changed)."""

    name: str
    table: str
    sentence: str
    source: str
    apply: step.Step
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
        """The report as sentences: rules that changed something first, those that found nothing last."""
        out = self.found() + [f"{name}: {self.before[name]} rows before cleaning, {self.after[name]} after" for name in self.before]
        return out + [str(one) for one in self.rules if one.count == 0]

    def found(self) -> list[str]:
        """The rules that changed something, and those that did not run, as sentences."""
        return [str(one) for one in self.rules if one.count] + [str(one) for one in self.rules if one.count is None]

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
        tables = {rule.table, "patients"} if rule.name in NEED_PATIENTS else {rule.table}
        if not why and tables & registry.refused:
            why = "its table could not be used"
        count = None
        if not why:
            registry, count = rule.apply(registry, cut)
        lines.append(Cleaned(rule.name, rule.table, rule.sentence, rule.source, count, why))
    after = {name: table.n for name, table in registry.held.items()}
    return registry, CleaningReport(before, after, tuple(lines), None if cut is None else str(EPOCH + datetime.timedelta(days=int(cut))))


def _days(date: datetime.date | str) -> float:
    found = date if isinstance(date, datetime.date) else iso_date(date)
    if found is None:
        raise InputError("the data cut is a date as YYYY-MM-DD")
    return float((datetime.date(found.year, found.month, found.day) - EPOCH).days)


# -- the rules -----------------------------------------------------------------------------------------------------------------


def _drops(table: str, name: str, sentence: str, fault: step.Fault, source: str = OWN, *, needs_cut: bool = False,
           trace: step.Trace | None = step.that_day) -> Rule:
    """Rows that are dropped. trace : what they leave behind."""
    return Rule(name, table, sentence, source, step.drop(table, fault, trace), needs_cut)


def _blanks(table: str, column: str, name: str, sentence: str, fault: step.Fault, source: str = OWN, *, needs_cut: bool = False) -> Rule:
    """Cells that are missing from then on."""
    return Rule(name, table, sentence, source, step.blank(table, column, fault), needs_cut)


def _dated(table: str, one: str, words: str, source: str = OWN) -> list[Rule]:
    """What holds for everything that has a date."""
    found = [_drops(table, f"{one}_in_future", f"{words} after the data cut are dropped", step.in_future, source, needs_cut=True,
                    trace=step.ahead),
             _drops(table, f"{one}_before_birth", f"{words} before birth are dropped", step.before_birth, trace=step.some_day)]
    if table != "mri":      # an incidental finding may come before the first symptoms
        found.append(_drops(table, f"{one}_before_onset", f"{words} before onset are dropped", step.before_onset, source))
    return [*found, Rule(f"{one}_after_death", table, f"{words} after death are dropped", OWN, step.drop_dead(table))]


def _not_in_future(column: str, words: str) -> Rule:
    name = column.removesuffix("_date") + "_in_future"
    return _blanks("patients", column, name, f"{words} after the data cut are missing", step.later(column), needs_cut=True)


def _not_before(column: str, what: str, words: str, limit: Callable[[Registry], Any]) -> Rule:
    name = f"{column.removesuffix('_date')}_before_{what}"
    return _blanks("patients", column, name, f"{words} before {what} are missing", lambda mine, table, cut: table[column] < limit(mine))


RULES: tuple[Rule, ...] = (
    Rule("unknown_patient", "patients", "rows of patients whom the table of patients does not have are dropped", OWN, step.unlisted),
    _not_in_future("death_date", "dates of death"),
    _blanks("patients", "onset_date", "onset_in_future", "dates of onset after the data cut are missing", step.onset_later, needs_cut=True),
    _not_in_future("diagnosis_date", "dates of diagnosis"),
    _not_in_future("progression_onset_date", "beginnings of progression"),
    _not_in_future("entry_date", "dates of entry"),
    _not_in_future("last_contact_date", "dates of last contact"),
    _not_before("onset_date", "birth", "dates of onset", step.born),
    _not_before("death_date", "birth", "dates of death", step.born),
    _not_before("death_date", "onset", "dates of death", step.onset),
    _not_before("progression_onset_date", "onset", "beginnings of progression", step.onset),
    _not_before("diagnosis_date", "onset", "dates of diagnosis", step.onset),

    _blanks("visits", "edss", "edss_half", "EDSS 0.5 does not exist: missing", step.half, EDSS_VALUES),
    _blanks("visits", "edss", "edss_off_grid", "EDSS that is no multiple of 0.5 is missing", step.off_grid, EDSS_VALUES),
    *_dated("visits", "visit", "visits", DE_BROUWER),
    _drops("visits", "visit_edss_disagrees", "visits of one day with different EDSS are all dropped", step.edss_disagrees, DE_BROUWER),
    Rule("visit_cells_disagree", "visits", "what visits of one day say differently, other than EDSS, is missing", OWN,
         step.cells_disagree("visits", "visit_date", but=("edss",))),
    Rule("visit_repeated", "visits", "visits of one day that do not contradict each other become one", DE_BROUWER,
         step.merge("visits", "visit_date")),
    _blanks("visits", "edss", "edss_ten_seen_again", "EDSS 10 (death due to MS) before a later visit is missing", step.seen_again),

    *_dated("relapses", "relapse", "relapses"),
    Rule("relapse_cells_disagree", "relapses", "what entries of a relapse with one onset say differently is missing", OWN,
         step.cells_disagree("relapses", "relapse_onset_date")),
    Rule("relapse_repeated", "relapses", "entries of a relapse with one onset become one", OWN,
         step.merge("relapses", "relapse_onset_date")),
    _drops("relapses", "relapse_within_30_days", f"onsets less than {step.RELAPSE_GAP} days after the last one that counted are dropped",
           step.too_soon, "customary definition of a new relapse; source not verified", trace=None),

    _drops("treatments", "not_a_dmt", "what is no disease-modifying treatment (steroids, vitamins, trial drugs) is dropped",
           step.is_code(NOT_DMT, TRIAL), DE_BROUWER, trace=step.a_drug),
    _drops("treatments", "unknown_dmt", "treatments that are not in the list are dropped", step.is_code(UNKNOWN), DE_BROUWER),
    *_dated("treatments", "treatment", "treatments that start"),
    _drops("treatments", "treatment_end_before_start", "treatments that end before they start are dropped", step.ends_early,
           trace=step.either_day),
    Rule("treatment_infusions", "treatments", "infusions last until the next one is due, courses until another treatment starts",
         "infusion_days and course_days of the list of treatments", step.infusions),
    _drops("treatments", "treatment_of_no_days", "treatments that end on the day they start are dropped", step.no_days, DE_BROUWER),
    _blanks("treatments", "end_date", "treatment_end_in_future", "treatments that end after the data cut go on", step.later("end_date"),
            needs_cut=True),
    Rule("treatment_ends_at_death", "treatments", "treatments that go on after death end on that day", OWN, step.ends_at_death),
    _drops("treatments", "treatment_same_start", "different treatments that start on one day are all dropped", step.same_start),
    Rule("treatment_same_drug", "treatments", "courses of one treatment that overlap or touch become one", OWN, step.one_course),
    Rule("treatment_overlap", "treatments", "a treatment ends when the next one starts",
         f"{DE_BROUWER}: no overlaps; how they are resolved is ours", step.overlap),

    *_dated("mri", "mri", "images"),
    Rule("mri_cells_disagree", "mri", "what images of one region and day say differently is missing", OWN,
         step.cells_disagree("mri", "mri_date", "region")),
    Rule("mri_repeated", "mri", "images of one region and day become one", OWN, step.merge("mri", "mri_date", "region")),
)
NEED_PATIENTS = {rule.name for rule in RULES if rule.name.endswith(("_before_birth", "_before_onset", "_after_death", "_at_death"))}
