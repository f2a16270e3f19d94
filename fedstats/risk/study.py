"""A study file: everything that decides how a risk model is trained and judged, in one TOML file.

    title = "Confirmed worsening within two years"
    purpose = "risk of worsening after a first treatment"
    outcome = "24-week confirmed worsening"          # in words, for the card; not needed on tables of MS

    [cohort]                                         # where registries hold tables of MS
    index = {event = "dmt_start"}
    covariates = ["age", "sex", "edss"]
    outcomes = [{kind = "definition", definition = "cdw24", version = 1}]

    [model]                                          # as in boost
    outcome = "cdw24_event"
    time = "cdw24_days"
    objective = "hazard:logistic"
    covariates = ["age", "sex", "edss"]
    intervals = [182, 364, 546, 728]

    [validation]                                     # as in validation
    folds = 5
    by = ["sex"]
    horizons = [364, 728]
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..analyses.boosting import _call as boost_call
from ..analyses.boosting.model import RiskModel
from ..analyses.shared.common import CONFIDENCE
from ..analyses.validation import performance_here
from ..analyses.validation.performance import Performance
from ..client.federation import Cohort, CohortQuestion
from ..data.filters import normal_filter
from ..data.reading import read_toml
from ..data.rows import Rows
from ..errors import InputError
from ..ms.cohort.tree import conditions

KEYS = ("title", "purpose", "intended_use", "outcome", "data_cut", "where", "cohort", "model", "validation")
OWN = ("folds", "by", "event", "horizons", "confidence")        # of [validation]; the rest is that of [model]


@dataclass(frozen=True)
class Study:
    """A study as it was written. cohort : tree of MS tables, or None. model, validation : arguments."""

    title: str
    purpose: str = ""
    intended_use: str = ""
    outcome: str = ""
    data_cut: str = ""
    where: Any = ()
    cohort: dict[str, Any] | None = None
    model: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)

    def questions(self, cohort: Cohort, *, release_anyway: bool = False) -> tuple[CohortQuestion, CohortQuestion]:
        """The model, and its validation with the same settings. release_anyway : also if it knows nothing. Raises QuestionError."""
        model, own = dict(self.model) | {"release_anyway": release_anyway}, dict(self.validation)
        outcome, covariates = model.pop("outcome"), model.pop("covariates")
        follow_up = own.pop("time", model.pop("time", None))
        hazard = {"time": follow_up} if follow_up and model.get("objective", "").startswith(("hazard", "survival")) else {}
        return (cohort.question.boost(outcome, covariates, **model, **hazard),
                cohort.question.validation(outcome, covariates, **model, **own, **({"time": follow_up} if follow_up else {})))


    def performance_here(self, rows: Rows, model: RiskModel) -> tuple[Performance, ...]:
        """How good a released model is for the rows of one registry; see `analyses.validation.performance_here`."""
        own, time = self.validation, self.validation.get("time", self.model.get("time"))
        wanted = own.get("horizons", ())
        horizons = [float(wanted)] if isinstance(wanted, (int, float)) else [float(one) for one in wanted]
        by = [own["by"]] if isinstance(own.get("by"), str) else list(own.get("by", ()))
        return performance_here(model, rows, time=time, event=own.get("event", self.model["outcome"]), horizons=horizons, by=by,
                                confidence=own.get("confidence", CONFIDENCE))


def read_study(path: str | Path) -> Study:
    """The study in a file. Raises InputError naming the file, the part and what is known there."""
    path = Path(path)
    source = read_toml(path, "study")
    model, own = _part(source, "model", path), _part(source, "validation", path)
    _known(source, KEYS, f"study {path}")
    _known(model, tuple(inspect.signature(boost_call).parameters), f"study {path}: [model]")
    _known(own, (*OWN, "time"), f"study {path}: [validation]")
    for name in ("outcome", "covariates"):
        if name not in model:
            raise InputError(f'study {path}: [model] needs "{name}"', hint='such as outcome = "cdw24_event", covariates = ["age", "edss"]')
    for name in ("title", "purpose", "intended_use", "outcome", "data_cut"):
        if not isinstance(source.get(name, ""), str):
            raise InputError(f'study {path}: "{name}" is a text', hint="write it in quotes")
    if not isinstance(source.get("cohort", {}), dict):
        raise InputError(f"study {path}: [cohort] is a tree", hint='such as index = {event = "dmt_start"}')
    where = source.get("where", ())
    return Study(source.get("title", path.stem), source.get("purpose", ""), source.get("intended_use", ""), source.get("outcome", ""),
                 source.get("data_cut", ""), (where,) if isinstance(where, str) else where, source.get("cohort"), model, own)


def outcome_sentence(cohort: Cohort, column: str) -> str:
    """What the outcome column means: the cohort's own words, or the dictionary's."""
    tree = getattr(getattr(cohort.recipe, "recipe", None), "tree", None)
    if tree is None:
        return _described(cohort, column)
    named = {one.name: one for one in tree.outcomes}
    fits = [name for name in named if column == name or column.startswith(f"{name}_")]
    if not fits:
        return _described(cohort, column)
    from ..ms.cohort import words as cohort_words

    one = named[max(fits, key=len)]
    base = getattr(one, "outcome", "")          # a label such as "within two years" rests on another outcome
    return " ".join(cohort_words.sentence(each, tree) for each in (named.get(base), one) if each is not None)


def eligible_of(cohort: Cohort) -> tuple[Any, ...]:
    """The conditions that a patient of the cohort fulfils, as filters: those of the tree, and those it was narrowed by."""
    return _eligible(cohort.recipe.to_dict(), cohort.where)


def eligible_of_query(query: Any) -> tuple[Any, ...]:
    """The same of a signed query."""
    return _eligible(query.cohort.tree if query.cohort is not None else None, query.where)


def _eligible(tree: Any, where: Any) -> tuple[Any, ...]:
    trees = [tree.get("eligibility") if isinstance(tree, dict) else None, where]
    return tuple(part for one in trees for part in conditions(normal_filter(one)) if part)


def _described(cohort: Cohort, column: str) -> str:
    description = cohort.dictionary[column].description
    return f'The column "{column}"{f": {description}" if description else ""}.'


def _part(source: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = source.get(name, {})
    if not isinstance(found, dict):
        raise InputError(f"study {path}: [{name}] is a table of settings", hint=f"write [{name}] on a line of its own")
    return found


def _known(found: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    import difflib

    for name in found:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            raise InputError(f'{where}: "{name}" is not known here', hint=f'did you mean "{close[0]}"?' if close else
                             "known are: " + ", ".join(names))


