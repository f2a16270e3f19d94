"""Honest evaluation of a risk model: cross-validation by patient over all registries, from sealed score histograms.

How this works. Patients are dealt into folds by a hash of seed and patient id. One model per fold is grown on all other patients, with the
settings of the model that will be released; all grow side by side in the same rounds (`folds`). Then every registry scores its patients
with the model that has not seen them and sends histograms. Folds are of patients, never of registries: leaving one registry out would
open its share by subtraction. Nothing of the fold models is released.

Asked together with `boost` (`fed.ask(c.question.boost(...), c.question.validation(...))`) both take the same rounds.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...disclosure import NO_RULES, safe
from ...errors import InputError, QuestionError, Refused
from ...query.analysis import Failed, Joint, Question, Setting, Size, abreast, analysis, together
from ...sums.statistic import INDICATORS, Ask, Sums, answer, plain
from ..boosting import CHOSEN, train
from ..boosting.choice import FOLDS, Choice, check_folds, choose
from ..boosting.model import RiskModel
from ..boosting.objectives import HAZARD
from ..shared.common import CONFIDENCE, groups
from ..shared.folds import fold_sizes, outside
from ..survival.life_table import life_table, on_grid
from . import sums as ask
from .classes import cut_classes, groups_shown, keep_classes
from .params import ValidationParams, call
from .performance import (
    Group,
    Metrics,
    Performance,
    classes_of,
    metrics_of,
    over_classes,
    recalibration_of,
    size_bands,
    slack_note,
    spread_of,
)
from .result import Validation
from .seen import Seen
from .seen import first_ask as seen_ask
from .seen import seen as patients_seen


@analysis("validation/1", params=ValidationParams, result=Validation, call=call)
def validation(params: ValidationParams, setting: Setting) -> Joint:
    """How good the risks of a boosted model are for patients it has not seen: cross-validation by patient over all registries.

    ROC-AUC and PR-AUC with intervals, Brier score, log-loss, calibration (observed/expected, intercept, slope, curve, ECE), net benefit,
    overall and by the levels of `by`, and the spread of the AUC between registries. With `time`, `event` and `horizons` patients are
    weighted by the inverse probability of being followed so far. Everything else as in `boost`.
    """
    if params.boost.objective == HAZARD and not params.horizons:
        raise QuestionError("a hazard is validated at horizons", hint="add horizons=(...), ends of its intervals")
    if params.horizons:
        params = msgspec.structs.replace(params, horizons=_on_grid(setting.dictionary, str(params.time), params.horizons))
    chosen = None
    if params.boost.rounds is None:     # side by side with the same choice of a `boost` that is asked with it
        (totals, seen), chosen = yield from abreast([_opening(params, setting), choose(params.boost, setting)])
        params = msgspec.structs.replace(params, boost=chosen.params)
    else:
        totals, seen = yield from _opening(params, setting)
    scorers = yield from _models(params, setting, totals, chosen)
    found = yield [ask.scores(scorer=one, by=list(params.by)) for one in scorers]
    notes: list[str] = []
    shown = _shown(params, setting, scorers, found, notes)
    ends = {k: cut_classes(found[k]["cells"][0, 0], found[k]["cells"][0, 1], setting.rules) for k in shown}
    cut = [k for k in shown if ends[k]]
    more = yield ([ask.score_classes(scorer=scorers[k], ends=list(ends[k])) for k in cut]
                  + [ask.score_spread(scorer=scorers[k], fewest=setting.rules.min_cell) for k in shown])
    classes = dict(zip(cut, more))
    performance = tuple(_performance(params, setting, scorers[k], found[k], shown[k], ends[k], classes.get(k), spread, notes)
                        for k, spread in zip(shown, more[len(cut):]))
    return Validation(size=setting.size, outcome=params.boost.outcome, objective=params.boost.objective, folds=params.folds,
                      performance=performance, sizes=size_bands(totals[1]), confidence=params.confidence, time=params.time,
                      unit=setting.dictionary[params.time].unit if params.time else "", seen=seen,
                      parameters=plain(msgspec.to_builtins(params.boost)), notes=tuple(notes), methods=_methods(params, chosen))


def _opening(params: ValidationParams, setting: Setting) -> Generator[list[Ask], list[Sums], tuple[list[Sums], Seen]]:
    """The first totals (sizes of folds and registries, follow-up), and which patients the model has seen."""
    covariates, needs = params.boost.covariates, params.boost.columns()
    first = [fold_sizes(columns=list(needs), seed=params.boost.seed, folds=params.folds),
             ask.registry_sizes(columns=list(params.columns()))]
    if params.horizons:
        first.append(life_table(time=params.time, event=params.event))
    totals = yield [*first, seen_ask(covariates, needs)]
    check_folds(totals[0], setting.rules, "use fewer folds, or widen the cohort")
    seen = yield from patients_seen(totals[-1], covariates, needs, setting.dictionary, setting.rules)
    return totals, seen


# -- the models of the folds ---------------------------------------------------------------------------------------------------------


def _on_grid(dictionary: Dictionary, time: str, horizons: Sequence[float]) -> tuple[float, ...]:
    """The times of the grid that horizons stand for."""
    found = [on_grid(dictionary.grid(time), one) for one in horizons]
    return tuple(one if one is not None else horizon for one, horizon in zip(found, horizons))


def _models(params: ValidationParams, setting: Setting, totals: Sequence[Sums], chosen: Choice | None
            ) -> Generator[list[Ask], list[Sums], list[dict[str, Any]]]:
    """The scorer of each horizon, with one model per fold, grown side by side."""
    seed, people = params.boost.seed, totals[0]["people"]
    halves = []
    for k in range(params.folds):
        others = Setting(setting.dictionary, setting.rules, setting.registries, Size(int(people.sum() - people[k])))
        grown = chosen.runs[k].finish(chosen.fits[k]) if chosen and params.folds == FOLDS else train(params.boost, others)
        halves.append((Question("boost/1"), outside(grown, seed, params.folds, k)))
    found = yield from together(halves)
    for one in found:
        if isinstance(one, Failed):
            raise one.error()
    models = tuple(ask.plain_model(one) for one in found if isinstance(one, RiskModel))
    if not params.horizons:
        return [msgspec.to_builtins(ask.Scorer(models, seed, params.boost.outcome, params.boost.columns()))]
    grid = setting.dictionary.grid(str(params.time))
    return [msgspec.to_builtins(ask.Scorer(models, seed, str(params.event), params.columns(),
                                           censoring(str(params.time), grid, totals[2], horizon))) for horizon in params.horizons]


def censoring(time: str, grid: Sequence[float], totals: Sums, horizon: float) -> ask.Censoring:
    """Weights 1 / G from the Kaplan-Meier curve of censoring on the registered grid: G just before an event, G at the horizon for those
    still observed. As in life tables, events come before those censored in the same interval. Graf et al. (1999), Stat Med 18:2529."""
    until = list(grid).index(horizon) + 1
    events, censored = totals["events0"][0].tolist(), totals["censored0"][0].tolist()
    left, G, weights = int(totals["people0"][0]), 1.0, []
    for d, c in zip(events[:until + 1], censored[:until + 1]):
        weights.append(G)
        rest = left - d
        G = G * ((rest - c) / rest) if rest else G
        left = rest - c
    if G * ask.LARGEST_WEIGHT < 1.0:
        raise Refused(f"fewer than one in {ask.LARGEST_WEIGHT:g} patients could be followed up to {horizon:g}",
                      hint="use an earlier horizon")
    whole = tuple(int(2.0**ask.WEIGHT_BITS / one + 0.5) for one in [*weights, G])
    return ask.Censoring(time, tuple(grid[:until]), whole)


# -- what may be shown -----------------------------------------------------------------------------------------------------------------


def _shown(params: ValidationParams, setting: Setting, scorers: Sequence[dict], found: Sequence[Sums], notes: list[str]
           ) -> dict[int, np.ndarray]:
    """Per horizon that may be shown, which groups may be. Decided on whole numbers only."""
    rules, members = setting.rules, _members(setting.dictionary, params.by)
    shown: dict[int, np.ndarray] = {}
    for k, totals in enumerate(found):
        people, there = totals["people"], totals["people" + INDICATORS]
        allowed = np.array([all(safe(int(one), rules) for one in row) for row in people])
        for earlier in shown:
            before = found[earlier]["people"]
            differ = np.array([all(safe(abs(int(a - b)), rules) for a, b in zip(*rows)) for rows in zip(people, before)])
            allowed &= differ | ~shown[earlier]
        own = groups_shown(people[:, :2], there[:, :2], totals["apart"], int(people[0].sum()), members, rules, allowed)
        if own[0]:
            shown[k] = own
        else:
            horizon = scorers[k]["censoring"]["ends"][-1] if scorers[k]["censoring"] else None
            notes.append(f"{'the outcome' if horizon is None else f'the horizon {horizon:g}'} is not released: fewer than {rules.min_cell} "
                         f"patients with or without it, or censored, there or between horizons, or fewer than {rules.min_registries} "
                         "registries (rules min_cell, min_registries)")
    if not shown:
        raise Refused(notes[0], hint="take a more frequent outcome, or widen the cohort")
    return shown


def _members(dictionary: Dictionary, by: Sequence[str]) -> list[list[int]]:
    """The places of each variable's groups; 0 is everybody."""
    found, place = [], 1
    for name in by:
        count = len(groups(dictionary, name, True))
        found.append(list(range(place, place + count)))
        place += count
    return found


def _performance(params: ValidationParams, setting: Setting, scorer: dict[str, Any], totals: Sums, shown: np.ndarray, ends: Sequence[int],
                 classes: Sums | None, spread: Sums, notes: list[str]) -> Performance:
    rules, place, found = setting.rules, 1, []
    for name in params.by:
        labels = groups(setting.dictionary, name, True)
        withheld = [label for k, label in enumerate(labels) if not shown[place + k] and totals["people"][place + k].any()]
        found += [Group(name, label, metrics_of(totals, place + k, params.confidence, rules) if shown[place + k] else Metrics())
                  for k, label in enumerate(labels) if shown[place + k] or label in withheld]
        if withheld:
            notes.append(f'"{name}": {", ".join(withheld)} not released: fewer than {rules.min_cell} with or without the outcome, too few '
                         "registries, or another group would follow by subtraction (rules min_cell, min_registries)")
        place += len(labels)
    horizon = scorer["censoring"]["ends"][-1] if scorer["censoring"] else None
    spans = keep_classes(ends, classes["people"], classes["people" + INDICATORS], rules) if classes is not None else ()
    shown_classes = classes_of(ends, spans, classes, params.confidence) if classes is not None else ()
    people, apart = totals["people"][0], spread_of(spread, rules)
    if apart is None:
        notes.append("no spread between registries: fewer than five of them have enough patients with and without the outcome")
    made = Performance(horizon, metrics_of(totals, 0, params.confidence, rules), tuple(found), shown_classes,
                       float(people[2] / people.sum()) if horizon is not None else None, spread=apart,
                       recalibration=recalibration_of(totals, rules))
    if made.overall.auc is not None:
        notes.append(slack_note(made))
    return msgspec.structs.replace(made, **over_classes(shown_classes))


def _methods(params: ValidationParams, chosen: Choice | None) -> str:
    weighted = ("Patients were weighted by the inverse probability of being followed up to their event or the horizon (Kaplan-Meier curve "
                "of censoring on the registered grid). ") if params.horizons else ""
    trees = f" {CHOSEN.format(folds=FOLDS)} The same patients so chose it: what this adds to the performance is small." if chosen else ""
    return (f"{params.folds}-fold cross-validation by patient: each patient's risk comes from a model grown without the patient's fold, by "
            f"the same method. Performance was computed from patients with and without the outcome in 512 bins of the logit of the risk, "
            f"summed over registries; ROC-AUC with DeLong's and PR-AUC with Boyd's {params.confidence:.0%} intervals on the logit scale. "
            f"{weighted}Calibration and net benefit are over merged risk classes.{trees}")


# -- at one registry, for its own eyes -------------------------------------------------------------------------------------------------


def performance_here(model: RiskModel, rows: Rows, *, time: str | None = None, event: str | None = None, horizons: Sequence[float] = (),
                     by: Sequence[str] = (), confidence: float = CONFIDENCE) -> tuple[Performance, ...]:
    """How good a released model is for the patients of one registry, computed in its own house: nothing is sent, no rule applies.

    The model may have been trained on these patients, which makes it look better than the cross-validated numbers.
    Raises InputError where nobody has the outcome, or nobody is known to be without it.
    """
    one = ask.Scorer((ask.plain_model(model),), 0, model.outcome, (model.outcome,))
    if not horizons:
        return (_here(one, rows, by, confidence),)
    table, grid = answer(life_table(time=time, event=event), rows), rows.dictionary.grid(str(time))
    horizons = _on_grid(rows.dictionary, str(time), horizons)
    timed = msgspec.structs.replace(one, outcome=str(event), needs=(str(time), str(event)))
    return tuple(_here(msgspec.structs.replace(timed, censoring=censoring(str(time), grid, table, horizon)), rows, by, confidence)
                 for horizon in horizons)


def _here(scorer: ask.Scorer, rows: Rows, by: Sequence[str], confidence: float) -> Performance:
    plain_scorer = msgspec.to_builtins(scorer)
    totals = answer(ask.scores(scorer=plain_scorer, by=list(by)), rows)
    people, labels = totals["people"], [(name, label) for name in by for label in groups(rows.dictionary, name, True)]
    if not people[0, :2].all():
        raise InputError("nobody here has the outcome, or nobody is known to be without it: there is nothing to compare")
    ends = cut_classes(totals["cells"][0, 0], totals["cells"][0, 1], NO_RULES)
    classes = classes_of(ends, [(k, k + 1) for k in range(len(ends))],
                         answer(ask.score_classes(scorer=plain_scorer, ends=list(ends)), rows), confidence)
    found = tuple(Group(name, label, metrics_of(totals, g, confidence, NO_RULES)) for g, (name, label) in enumerate(labels, 1)
                  if people[g, :2].all())
    lost = float(people[0, 2] / people[0].sum()) if scorer.horizon is not None else None
    made = Performance(scorer.horizon, metrics_of(totals, 0, confidence, NO_RULES), found, classes, lost)
    return msgspec.structs.replace(made, **over_classes(classes))
