"""The tree of a cohort: index event, baseline, eligibility, covariates, outcomes, follow-up. Closed, JSON-ready, canonical.

Two trees that mean the same (covariates in another order, defaults written out) have one canonical form. What the parts mean is in
`index`, `covariates` and `outcomes`; `cohort.compile` puts them together.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from ...data.filters import normal_filter
from ...data.variable import EPOCH
from ...errors import QuestionError
from ..outcomes.definitions import definition
from ..tables.dmt import EFFICACY, Efficacy, Treatments
from .limits import check_date, check_days, check_horizon, check_rows

DEATH_EDSS, EDSS_STEP = 10.0, 0.5
DEFAULT_ROWS = 100          # of one patient: what one patient may add to a sum is bounded by it


class Onset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="onset"):
    """Time zero is the first symptom."""


class FirstVisit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="first_visit"):
    """Time zero is the first visit."""


class DmtStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="dmt_start"):
    """Time zero is the first start of one of these treatments. classes, dmts : which, any of them if both are empty.

    naive : it must be the patient's first treatment of all (new users); else earlier ones of other kinds are allowed.
    """

    classes: tuple[Efficacy, ...] = ()
    dmts: tuple[str, ...] = ()
    naive: bool = True


class OnDate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="date"):
    """Time zero is a calendar date, for patients who have been seen by then."""

    date: str


class EveryVisit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="every_visit"):
    """Every visit is a time zero of its own: a row is an episode, and a patient has several.

    gap_days : least days between two of them; most : of one patient, the earliest ones.
    """

    gap_days: int = 0
    most: int = DEFAULT_ROWS


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far back covariates look. now_days : for "the last value"; history_days : for mean, highest, lowest, slope. Both up to and
    including the day of time zero. Visits older than now_days are no reference of an outcome either."""

    now_days: int = 730
    history_days: int = 730


class Worsening(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="definition"):
    """A definition of `ms.outcomes.definitions`. censor : see `progression.worsening`."""

    definition: str
    version: int
    censor: Literal["last_visit", "last_confirmable"] = "last_visit"

    @property
    def name(self) -> str:
        return self.definition


class Milestone(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="milestone"):
    """A confirmed EDSS of at least `level`; patients who have it at time zero are not at risk. Version 1: `outcomes.MILESTONE`."""

    level: float
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        return f"edss{self.level:g}".replace(".", "_")


class Relapse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="relapse"):
    """The first onset of a relapse after time zero, and how many there were."""

    version: Literal[1] = 1

    @property
    def name(self) -> str:
        return "relapse"


class Death(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="death"):
    """Death of any cause, or EDSS 10."""

    version: Literal[1] = 1

    @property
    def name(self) -> str:
        return "death"


class Within(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="within"):
    """Whether an outcome of this cohort, by its name, came within so many years: true, false, or missing where nobody knows."""

    outcome: str
    years: float
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        return f"{self.outcome}_within_{self.years:g}y".replace(".", "_")


class Neda(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="neda3"):
    """No evidence of disease activity in three domains (relapses, 24-week confirmed worsening, MRI) for so many years: see `labels`.

    rebaseline_days : images up to this day after time zero are a new reference and no activity.
    """

    years: Literal[1, 2]
    rebaseline_days: Literal[0, 90, 180] = 0
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        return f"neda3_{self.years}y"


class FollowUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When observation ends, besides the last visit and death.

    treatment : ignore it; "switch": the start of another treatment; "switch_or_stop": or the end of the treatment of time zero, if it is
        not taken up again within grace_days. end_date : end of the study; max_days : longest follow-up.
    confirmation : "any": an event within follow-up may be confirmed after its end; "within": visits after its end do not count.
    """

    treatment: Literal["ignore", "switch", "switch_or_stop"] = "ignore"
    grace_days: int = 60
    end_date: str | None = None
    max_days: int | None = None
    confirmation: Literal["any", "within"] = "any"


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="intervals"):
    """Several (start, stop] rows of a patient, see `intervals`.

    time_varying : covariates that have in each the value at its start; the others keep that of time zero. most_rows : of one patient.
    """

    time_varying: tuple[str, ...]
    most_rows: int = DEFAULT_ROWS


Index = Onset | FirstVisit | DmtStart | OnDate | EveryVisit
Timed = Worsening | Milestone | Relapse | Death         # a time and an event
Label = Within | Neda                                   # one value
Outcome = Timed | Label


class Tree(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A cohort. eligibility : a filter (see `filters`) over covariates. rows : one of each time zero, or intervals."""

    index: Index
    covariates: tuple[str, ...]
    eligibility: Any = None
    baseline: Baseline = Baseline()
    outcomes: tuple[Outcome, ...] = ()
    follow_up: FollowUp = FollowUp()
    rows: Intervals | None = None


def read(source: Mapping[str, Any] | Tree, known: Sequence[str], treatment_list: Treatments) -> Tree:
    """A tree in its canonical form. known : names of covariates, in their order. Raises QuestionError naming the field and the remedy."""
    try:
        tree = msgspec.convert(msgspec.to_builtins(source), Tree, strict=True)
    except (msgspec.ValidationError, TypeError, RecursionError) as error:
        raise QuestionError(f"cohort: {error}", hint='a cohort is {"index": {"event": ...}, "covariates": [...], "outcomes": [...], ...}'
                            ) from None
    for name in tree.covariates:
        covariate(name, known, "covariates")
    outcomes = {one.name: one for one in tree.outcomes}
    if len(outcomes) < len(tree.outcomes):
        raise QuestionError("cohort: outcomes: one of them is listed twice", hint="leave it out once")
    for one in tree.outcomes:
        _check_outcome(one, outcomes)
    return Tree(_index(tree.index, treatment_list), tuple(name for name in known if name in tree.covariates),
                _whole(normal_filter(tree.eligibility)), _days(tree.baseline, "baseline", ("now_days", "history_days")),
                tuple(outcomes[name] for name in sorted(outcomes)), _follow_up(tree.follow_up), _rows(tree, known))


def covariate(name: str, known: Sequence[str], field: str) -> None:
    """Whether there is such a covariate."""
    if name not in known:
        raise QuestionError(f'cohort: {field}: there is no covariate "{name}"', hint="covariates are: " + ", ".join(known))


def conditions(tree: Any) -> list[Any]:
    """The parts of a canonical filter that must all hold, each a step of the flow."""
    parts = tree["all"] if isinstance(tree, dict) and "all" in tree else [tree]
    return list(parts)


def condition_text(node: Any) -> str:
    """A filter as words: age >= 18."""
    if isinstance(node, dict):
        (key, value), = node.items()
        if key == "not":
            return f"not ({condition_text(value)})"
        return {"all": " and ", "any": " or "}[key].join(f"({condition_text(part)})" if isinstance(part, dict) else condition_text(part)
                                                         for part in value)
    name, op, value = node
    if op == "missing":
        return f"{name} {'not known' if value else 'known'}"
    return f"{name} {op} {', '.join(map(str, value)) if isinstance(value, list) else value}"


# -- the parts -----------------------------------------------------------------------------------------------------------------


def _index(index: Index, treatment_list: Treatments) -> Index:
    if isinstance(index, OnDate):
        return OnDate(datetime.date.fromordinal(check_date(index.date, "index.date") + EPOCH.toordinal()).isoformat())
    if isinstance(index, EveryVisit):
        check_rows(index.most, "index.most")
        return _days(index, "index", ("gap_days",))
    if isinstance(index, DmtStart):
        codes = []
        for text in index.dmts:
            code = treatment_list.find(text)
            if code < 0:
                raise QuestionError(f'cohort: index.dmts: "{text}" is not in the list of treatments',
                                    hint="treatments are: " + ", ".join(treatment_list.names))
            codes.append(code)
        return DmtStart(tuple(one for one in EFFICACY if one in index.classes),
                        tuple(treatment_list.names[code] for code in sorted(set(codes))), index.naive)
    return index


def _check_outcome(one: Outcome, outcomes: Mapping[str, Outcome]) -> None:
    if isinstance(one, Within):
        check_horizon(one.years, f"outcomes: the horizon of {one.outcome}")
        if isinstance(outcomes.get(one.outcome), Label | None):
            timed = ", ".join(name for name, other in outcomes.items() if isinstance(other, Timed))
            raise QuestionError(f'cohort: outcomes: "{one.outcome}" within {one.years:g} years is not about an outcome of this cohort',
                                hint=f"list that outcome, too; here are {timed or 'none'}")
    if isinstance(one, Worsening):
        try:
            found = definition(one.definition)
        except Exception as error:
            raise QuestionError(f"cohort: outcomes: {error}", hint=getattr(error, "hint", "")) from None
        if found.version != one.version:
            raise QuestionError(f"cohort: outcomes: {one.definition} has version {found.version} here, not {one.version}",
                                hint=f'write "version": {found.version}, or use a release of the software that has the other one')
    if isinstance(one, Milestone) and (not EDSS_STEP < one.level < DEATH_EDSS or one.level / EDSS_STEP % 1):
        raise QuestionError(f"cohort: outcomes: the milestone {one.level:g} cannot be reached", hint="EDSS from 1 to 9.5 in steps of 0.5")


def _rows(tree: Tree, known: Sequence[str]) -> Intervals | None:
    if tree.rows is None:
        return None
    for name in tree.rows.time_varying:
        covariate(name, known, "rows.time_varying")
        if name not in tree.covariates:
            raise QuestionError(f'cohort: rows.time_varying: "{name}" is not among the covariates', hint="list it there, too")
    if isinstance(tree.index, EveryVisit):
        raise QuestionError("cohort: rows: intervals need one time zero per patient, and every visit is one", hint="choose another index")
    if not tree.outcomes or any(isinstance(one, Label) for one in tree.outcomes):
        raise QuestionError("cohort: rows: intervals end with an outcome that has a time", hint="list such outcomes, and no labels")
    check_rows(tree.rows.most_rows, "rows.most_rows")
    return Intervals(tuple(name for name in known if name in tree.rows.time_varying), tree.rows.most_rows)


def _follow_up(follow_up: FollowUp) -> FollowUp:
    if follow_up.end_date is not None:
        check_date(follow_up.end_date, "follow_up.end_date")
    if follow_up.max_days is not None:
        _days(follow_up, "follow_up", ("max_days",))
    return _days(follow_up, "follow_up", ("grace_days",))


def _days(part: Any, field: str, names: Sequence[str]) -> Any:
    for name in names:
        check_days(getattr(part, name), f"{field}.{name}")
    return part


def _whole(node: Any) -> Any:
    """18.0 as 18, so that one filter has one form."""
    if isinstance(node, dict):
        return {key: _whole(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_whole(one) for one in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node
