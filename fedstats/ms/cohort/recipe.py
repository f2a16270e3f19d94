"""Cohorts: a closed tree, compiled once, derived at every registry into one row per patient or per landmark episode.

    recipe = cohort.compile({
        "index": {"event": "dmt_start"},
        "covariates": ["age", "sex", "edss", "relapses_12m", "dmt_class"],
        "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
        "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}],
        "follow_up": {"treatment": "switch_or_stop"}})
    rows, flow, *_ = recipe.derive(registry)      # a registry's tables, loaded (`tables`) and cleaned (`cleaning`)

How this works: `tree` reads the tree, `index` finds time zero, `covariates` looks back from it, the eligibility filter
(see `filters`) decides on what was seen, `outcomes` looks forward. `labels` says what had happened by a fixed horizon,
`intervals` cuts the time into (start, stop] rows, `limits` has the registered steps of dates and lengths of time. Who belongs
to a cohort, and every covariate, rest on records up to and including time zero (or the start of an interval); only outcomes look past it.
What was dropped from the tables although it happened (`dropped`) makes "not known" of whatever rests on its absence, never "no".
The same tree gives the same rows on every machine: whole numbers throughout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.dictionary import check as check_dictionary
from ...data.filters import check_filter, filter_columns, keep
from ...data.rows import Rows
from ...data.variable import Variable
from ...errors import InputError, QuestionError
from ..outcomes.definitions import definition
from ..tables.dmt import Treatments, shipped
from ..tables.registry import DATED, Registry
from ..tables.registry import dictionary as shipped_dictionary
from . import index as cohort_index
from . import intervals as cohort_intervals
from . import labels as cohort_labels
from . import tree as cohort_tree
from . import words as cohort_words
from .covariates import COVARIATES, View
from .index import Episodes
from .limits import day_of
from .outcomes import ENDS, MILESTONE, Ends, Found, ends, find, follow_up_days
from .records import Records
from .tree import (
    EveryVisit,
    Label,
    Milestone,
    Neda,
    OnDate,
    Outcome,
    Relapse,
    Timed,
    Tree,
    Within,
    Worsening,
    condition_text,
    conditions,
)

VERSION = 2             # of this recipe: what a tree means never changes under one number
COUNTED = "relapse_count"
IF_EVER = ("days_since_relapse", "days_on_dmt")     # covariates of those who had a relapse, who are treated
LONGEST_LAG = 1096      # days: three years
LAG_CUTS = (84, 112, 140, 168, 196, 224, 252, 308, 336, 364, 392, 448, 504, 560, 730)     # weeks of usual definitions and between


class Derived(NamedTuple):
    """What a tree gives at one registry. flow : (step, count), the same steps at every registry, for sums under the seal.

    patient_id : of each row, for folds and for counting people where a patient has several rows.
    outside : {column: rows whose value was out of the dictionary's range and is missing}. Both never leave the registry.
    """

    rows: Rows
    flow: list[tuple[str, int]]
    patient_id: np.ndarray
    outside: dict[str, int]

    def __repr__(self) -> str:      # a notebook must not print patients
        return f"Derived({self.rows}, {len(self.flow)} steps of the flow)"


@dataclass(frozen=True)
class Recipe:
    """A compiled cohort. tree : canonical; codebook, treatment_list : the ones that every registry must read its tables with."""

    tree: Tree
    codebook: Dictionary
    treatment_list: Treatments

    def __repr__(self) -> str:
        return f"Recipe({self.hash[:12]}, {len(self.dictionary.variables)} columns)"

    @property
    def episodes(self) -> bool:
        """Whether a patient may have several rows."""
        return self._landmarks or self.tree.rows is not None

    @property
    def _landmarks(self) -> bool:
        return isinstance(self.tree.index, EveryVisit)

    @property
    def most_rows(self) -> int:
        """The most rows that one patient may have."""
        if self.tree.rows is not None:
            return self.tree.rows.most_rows
        return self.tree.index.most if isinstance(self.tree.index, EveryVisit) else 1

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that decides which rows come out: tree, recipe version, definitions, codebook, list of treatments."""
        outcomes = {one.name: _settings(one) for one in self.tree.outcomes}
        content = {"cohort": self.to_dict(), "version": VERSION, "outcomes": outcomes, "dictionary": self.codebook.digest,
                   "treatments": msgspec.to_builtins(self.treatment_list)}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The canonical tree, JSON-ready."""
        return msgspec.json.decode(msgspec.json.encode(self.tree))

    @cached_property
    def dictionary(self) -> Dictionary:
        """The dictionary of the derived rows."""
        if self.tree.rows is not None:
            return self._dictionary(self.tree.covariates, self._interval_variables(), self.tree.rows.time_varying)
        return self._dictionary(self.tree.covariates, [*self._follow_up_variables(), *(v for one in self.tree.outcomes
                                                                                      for v in self._outcome_variables(one))])

    @property
    def longest_days(self) -> int:
        """The longest follow-up: what the tree says, at most to the end of the time grid. An event beyond it would be one that some
        analyses count and others do not, and a time beyond the dictionary's range would be missing because it is long."""
        last = int(self.codebook.grid("follow_up_days")[-1])
        return last if self.tree.follow_up.max_days is None else min(self.tree.follow_up.max_days, last)

    @property
    def conditional(self) -> dict[str, str]:
        """Columns that are known only of those to whom something happened: that they are known says so. With each the column that is
        known of everybody who was watched for it, "" where that is everybody."""
        lags = {f"{one.name}_lag_days": f"{one.name}_event" for one in self.tree.outcomes if isinstance(one, (Worsening, Milestone))}
        return {name: event for name, event in (dict.fromkeys(IF_EVER, "") | lags).items() if name in self.dictionary}

    @cached_property
    def baseline_dictionary(self) -> Dictionary:
        """The dictionary of all covariates, listed in the tree or named by the eligibility filter only."""
        named = set(self.tree.covariates) | set(filter_columns(self.tree.eligibility))
        return self._dictionary([name for name in COVARIATES if name in named], [])

    def _dictionary(self, covariates: Collection[str], more: list[Variable], varying: Collection[str] = ()) -> Dictionary:
        variables = [self._varying(name) if name in varying else
                     COVARIATES[name].variable(self.codebook, self.tree.baseline, self.tree.index) for name in covariates] + more
        found = Dictionary(name=f"cohort on {self.codebook.name}", variables=tuple(variables), patient_id=self.codebook.patient_id,
                           description="one row per episode or interval" if self.episodes else "one row per patient",
                           most_rows=self.most_rows)
        check_dictionary(found)
        return found

    def _varying(self, name: str) -> Variable:
        """A covariate whose time zero is the start of an interval: later than the index event, so that all levels are possible."""
        found = COVARIATES[name].variable(self.codebook, self.tree.baseline)
        return msgspec.structs.replace(found, description=f"{found.description}; time zero is the start of the interval")

    def _interval_variables(self) -> list[Variable]:
        days = self.codebook["follow_up_days"]
        times = [msgspec.structs.replace(days, name=name, description=f"days from time zero to the {end} of the interval")
                 for name, end in ((cohort_intervals.START, "start"), (cohort_intervals.STOP, "end"))]
        return times + [Variable(f"{one.name}_event", "boolean", description=f"{cohort_words.title(one)} at the end of the interval")
                        for one in self.tree.outcomes]

    def _follow_up_variables(self) -> list[Variable]:
        days = msgspec.structs.replace(self.codebook["follow_up_days"], description="days from time zero to the end of observation")
        return [days, Variable("follow_up_end", "category", levels=ENDS[1:-1], description="what ended observation")]

    def _outcome_variables(self, one: Outcome) -> list[Variable]:
        if isinstance(one, Within):
            return [Variable(one.name, "boolean", description=cohort_words.title(one))]
        if isinstance(one, Neda):
            return [Variable(one.name, "category", levels=cohort_labels.LEVELS, description=cohort_words.title(one))]
        days = msgspec.structs.replace(self.codebook["follow_up_days"], name=f"{one.name}_days",
                                       description=f"days from time zero to {cohort_words.title(one)}, or to the end of observation")
        found = [days, Variable(f"{one.name}_event", "boolean", description=f"{cohort_words.title(one)} was observed"),
                 Variable(f"{one.name}_end", "category", levels=ENDS, description=f"what ended the time to {cohort_words.title(one)}")]
        if isinstance(one, Relapse):
            found.append(msgspec.structs.replace(self.codebook[COUNTED], description="relapses in follow_up_days after time zero"))
        if isinstance(one, (Worsening, Milestone)):
            found.append(Variable(f"{one.name}_lag_days", "integer", range=(0, LONGEST_LAG), unit="days", cut_points=LAG_CUTS,
                                  description=f"days from {cohort_words.title(one)} to the visit that confirmed it"))
        return found

    # -- at a registry ---------------------------------------------------------------------------------------------------------

    def derive(self, registry: Registry, *, recorded: Collection[str] | None = None) -> Derived:
        """The rows of a registry, by patient and day, and how its patients came through.

        recorded : the tables that the registry keeps; by default those that have rows. What rests on a table it does not keep is missing,
            rather than "no relapse" or "no treatment".
        Raises InputError for tables read with another list of treatments, that were refused, or that do not have the index event.
        """
        if registry.treatment_list != self.treatment_list:
            raise InputError("the tables were read with another list of treatments than the cohort is compiled with",
                             hint="load them with the same treatment_list")
        names = recorded if recorded is not None else [name for name in DATED if registry.table(name).n]
        if odd := [name for name in names if name not in (*DATED, "patients")]:
            raise InputError(f'recorded: "{odd[0]}" is not a table', hint="tables are: " + ", ".join(DATED))
        records = Records(registry, frozenset({*names, "patients"}))
        flow = [("patients in the registry", records.patients)]
        zero = self._in_time(records, cohort_index.episodes(self.tree.index, records), flow)
        outside: dict[str, int] = {}
        held = self._baseline(records, zero, outside)
        zero, held = self._eligible(zero, held, flow)
        if self.tree.rows is not None:
            return self._intervals(records, zero, held, flow, outside)
        found = self._outcomes(records, zero, flow, outside)
        ids = registry.ids[zero.patient]
        rows = Rows(self.dictionary, len(zero.day), {name: one for name, one in (held | found).items() if name in self.dictionary}, ids)
        return Derived(rows, flow, ids, outside)

    def _in_time(self, records: Records, zero: Episodes, flow: list[tuple[str, int]]) -> Episodes:
        """Times zero of the living, before the end of the study."""
        flow.append(("with the index event", len(np.unique(zero.patient))))
        if (known := cohort_index.known(self.tree.index, records, zero)) is not None:
            step, stay = known
            zero = zero.where(stay)
            flow.append((step, len(np.unique(zero.patient))))
        zero = zero.where((records.died[zero.patient] > zero.day) & (records.may_have_died[zero.patient] >= zero.day))
        flow.append(("alive at time zero", len(np.unique(zero.patient))))
        if self.tree.follow_up.end_date is not None:
            zero = zero.where(zero.day < day_of(self.tree.follow_up.end_date, "follow_up.end_date"))
            flow.append(("time zero before the end of the study", len(np.unique(zero.patient))))
        if self._landmarks:
            flow.append(("episodes", len(zero.day)))
        return zero

    def _baseline(self, records: Records, zero: Episodes, outside: dict[str, int]) -> dict[str, np.ndarray]:
        view = View(records, zero.patient, zero.day, self.tree.baseline, self.codebook)
        held = {}
        for variable in self.baseline_dictionary.variables:
            one = COVARIATES[variable.name]
            kept = one.table in records.recorded
            held[variable.name] = hold(variable, one.values(view, variable) if kept else np.full(len(zero.day), np.nan), outside)
        return held

    def _eligible(self, zero: Episodes, held: dict[str, np.ndarray], flow: list[tuple[str, int]]
                  ) -> tuple[Episodes, dict[str, np.ndarray]]:
        """The filter, one condition after the other."""
        what = "episodes " if self._landmarks else ""
        stay = np.ones(len(zero.day), dtype=bool)
        rows = Rows(self.baseline_dictionary, len(zero.day), held)
        for condition in conditions(self.tree.eligibility):
            stay &= keep(condition, rows)
            flow.append((f"{what}eligible: {condition_text(condition)}", int(stay.sum())))
        flow.append((f"{what}in the cohort", int(stay.sum())))
        if self._landmarks:
            flow.append(("patients in the cohort", len(np.unique(zero.patient[stay]))))
        return zero.where(stay), {name: one[stay] for name, one in held.items()}

    def _outcomes(self, records: Records, zero: Episodes, flow: list[tuple[str, int]], outside: dict[str, int]) -> dict[str, np.ndarray]:
        ending = ends(self.tree.follow_up, records, zero, self.longest_days)
        days, why = follow_up_days(zero, ending)
        found = {"follow_up_days": days, "follow_up_end": why - 1}
        timed = {one.name: find(one, records, zero, ending, self.tree.baseline, self.tree.follow_up)
                 for one in self.tree.outcomes if isinstance(one, Timed)}
        for outcome in self.tree.outcomes:
            if isinstance(outcome, Label):
                found[outcome.name], steps = self._label(outcome, timed, records, zero, ending)
                flow += steps
                continue
            one = timed[outcome.name]
            found |= {f"{outcome.name}_days": one.days, f"{outcome.name}_event": one.event, f"{outcome.name}_end": one.end}
            if isinstance(outcome, Relapse):
                assert one.count is not None
                found[COUNTED] = one.count
            if one.lag is not None:
                found[f"{outcome.name}_lag_days"] = one.lag
            flow += one.flow(outcome)
        return {name: hold(self.dictionary[name], values, outside) for name, values in found.items()}

    def _intervals(self, records: Records, zero: Episodes, held: Mapping[str, np.ndarray], flow: list[tuple[str, int]],
                   outside: dict[str, int]) -> Derived:
        """(start, stop] rows. held : covariates at time zero."""
        assert self.tree.rows is not None
        ending = ends(self.tree.follow_up, records, zero, self.longest_days)
        found = {}
        for one in self.tree.outcomes:
            assert not isinstance(one, Label)
            found[one.name] = find(one, records, zero, ending, self.tree.baseline, self.tree.follow_up)
            flow += found[one.name].flow(one)
        rows = cohort_intervals.cut(records, zero, found, self.tree.rows.most_rows)
        view = View(records, zero.patient[rows.place], zero.day[rows.place] + rows.start, self.tree.baseline, self.codebook)
        values = {cohort_intervals.START: rows.start.astype(float), cohort_intervals.STOP: rows.stop.astype(float),
                  **{f"{name}_event": rows.event(one) for name, one in found.items()}}
        for name in self.tree.rows.time_varying:
            covariate = COVARIATES[name]
            kept = covariate.table in records.recorded
            values[name] = covariate.values(view, self.dictionary[name]) if kept else np.full(len(rows.place), np.nan)
        columns = {name: hold(self.dictionary[name], column, outside) for name, column in values.items()}
        fixed = {name: held[name][rows.place] for name in self.tree.covariates if name not in values}
        ids = records.registry.ids[zero.patient[rows.place]]
        return Derived(Rows(self.dictionary, len(rows.place), fixed | columns, ids), flow, ids, outside)

    def _label(self, label: Label, timed: Mapping[str, Found], records: Records, zero: Episodes, ending: Ends
               ) -> tuple[np.ndarray, list[tuple[str, int]]]:
        """A label, and its steps of the flow."""
        follow_up = self.tree.follow_up
        if isinstance(label, Within):
            (outcome,) = (one for one in self.tree.outcomes if one.name == label.outcome)
            assert not isinstance(outcome, Label)
            found = cohort_labels.within(outcome, timed[outcome.name], zero, ending, follow_up, label.years)
            return found, cohort_labels.counts(label.name, found, ("no", "yes"))
        worse = cohort_labels.NEDA_WORSENING
        event = timed.get(worse.name) or find(worse, records, zero, ending, self.tree.baseline, follow_up)
        known = cohort_labels.within(worse, event, zero, ending, follow_up, label.years)
        found = cohort_labels.neda(label, known, records, zero, ending)
        return found, cohort_labels.counts(label.name, found, cohort_labels.LEVELS)[:-1]

    # -- in words --------------------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """The cohort as sentences for a methods section."""
        return f"{cohort_words.describe(self.tree, self.longest_days)} Cohort {self.hash[:12]}, recipe version {VERSION}."

    def explain_columns(self) -> dict[str, str]:
        """{column: what it is}."""
        return {one.name: one.description for one in self.dictionary.variables}


def compile(tree: Mapping[str, Any] | Tree, *, codebook: Dictionary | None = None, treatment_list: Treatments | None = None) -> Recipe:
    """Read and check a tree.

    tree : see `tree.Tree` and the example above. codebook : ranges, levels and cut points, the shipped MS dictionary if None;
    treatment_list : the shipped list if None.
    Raises QuestionError naming the field and the remedy; InputError for a codebook without a needed variable.
    """
    treatment_list = treatment_list or shipped()
    recipe = Recipe(cohort_tree.read(tree, tuple(COVARIATES), treatment_list), codebook or shipped_dictionary(), treatment_list)
    for name in filter_columns(recipe.tree.eligibility):
        cohort_tree.covariate(name, tuple(COVARIATES), "eligibility")
    try:
        check_filter(recipe.tree.eligibility, recipe.baseline_dictionary)
    except QuestionError as error:
        raise QuestionError(f"cohort: eligibility: {error.what}", hint=error.hint) from None
    if recipe.tree.follow_up.max_days == 0:
        raise QuestionError("cohort: follow_up.max_days is 0", hint="at least one day, or leave it out")
    index, end = recipe.tree.index, recipe.tree.follow_up.end_date
    if isinstance(index, OnDate) and end and end <= index.date:
        raise QuestionError("cohort: follow_up.end_date is not after index.date", hint="let the study end after it begins")
    assert recipe.dictionary is not None        # its ranges and steps are checked
    return recipe


def hold(variable: Variable, values: np.ndarray, outside: dict[str, int]) -> np.ndarray:
    """A column as `Rows` holds it. values : whole steps counted from 0 (levels: positions), NaN missing.

    What is out of the range becomes missing, and is counted in `outside`.
    """
    if variable.unit_step is None:
        inside = (values >= variable.low) & (values <= variable.high)
        held = np.where(inside, values, np.nan).astype(float)
    else:
        assert variable.steps is not None
        steps = values - round(variable.low / variable.unit_step)
        inside = (steps >= 0) & (steps <= variable.steps)
        held = np.where(inside, steps, -1).astype(np.int64)
    if lost := int((~inside & ~np.isnan(values)).sum()):
        outside[variable.name] = lost
    return held


def _settings(one: Outcome) -> Any:
    """What the outcome's name and version stand for."""
    if isinstance(one, Worsening):
        return definition(one.definition).settings
    if isinstance(one, Neda):
        return definition(cohort_labels.NEDA_WORSENING.definition).settings
    return MILESTONE if isinstance(one, Milestone) else one.version
