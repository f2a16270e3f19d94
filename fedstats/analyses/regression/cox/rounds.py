"""The rounds of a Cox model: what is asked first, how the fit is driven, what is asked at the fit. Steady arithmetic throughout."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.disclosure import NO_RULES, Rules, safe
from fedstats.errors import Refused
from fedstats.query.analysis import Setting, abreast
from fedstats.sums import steady
from fedstats.sums.statistic import Ask, Sums

from ...shared.centred import narrower, spread_of
from ..glm.fit import droppable
from ..model_cells import model_cells, selecting
from ..model_rules import check_columns as empty_columns
from ..model_rules import (
    check_effective,
    check_informed,
    check_leverage,
    check_model,
    model_informed,
    nobody_outlying,
)
from ..newton import penalised
from ..ranges import as_ranges, far_reaching
from .calibration import GROUPS, cox_groups, group_ends
from .concordance import cox_influence, cox_pairs, cox_places
from .fit import Fit, check_columns, collinear, newton, reaches, settled, start_of
from .hazards import cox_registry_slopes
from .likelihood import information
from .model import Model
from .params import CoxParams
from .registry_pairs import cox_registry_pairs
from .residuals import baseline_of, cox_residuals
from .risk import cox_events, cox_risk, cox_totals
from .strata import cox_registry_residuals, cox_start
from .study import First, Study, by_risk_at, grid_transform, hazard_times, study_of, width
from .times import cox_runs

USUAL_EVALUATIONS = 4       # of the likelihood, from a first guess that is not far off


def ask_rounds(params: CoxParams, setting: Setting) -> Generator[list[Ask], list[Sums], tuple[Study, Fit, dict[str, Sums], dict[str, Fit]]]:
    """All rounds of a model; returns the model with what the first round found, the fit, the totals at the fit, and by term the fit
    without it (lr; in the same rounds)."""
    model, dictionary, rules = params.model, setting.dictionary, setting.rules
    plain, full = msgspec.to_builtins(model), model.design(dictionary)
    also = list(dict.fromkeys([*model.levels, *selecting(model.selectors, dictionary)]))
    keys = {"columns": list(model.columns), "terms": plain["terms"], "outcome": params.event, "weights": plain["weights"]}
    wide = far_reaching(params.terms, dictionary)
    asks = [model_cells(**keys, also=also, intercept=False), *_first_asks(params, model, dictionary)]
    asks += [model_informed(**keys, survival=True)] * model.by_registry
    asks += [spread_of(wide, model.columns, dictionary)] if wide else []
    first, *sums = yield asks
    spreads = sums.pop() if wide else None
    informed = sums.pop() if model.by_registry else None
    cells = check_model(first, full, dictionary, params.terms, rules, parameters=len(full) - len(_empty(first)), also=also,
                        released=small(params, len(full)), survival=True, weights=plain["weights"], ridge=params.ridge)
    if informed is not None:
        check_informed(informed["informed"], full.names, cells, rules)
    elif dictionary.most_rows == 1:
        _check_on_grid(int(cells.outcome[-1]) - int(sums[0]["events"]), params, rules)
    found = First(model, *sums)
    if not setting.size.n:
        yield from _usual_rounds(study_of(params, setting, (), found)[0])
    ranges = (yield from narrower(spreads, wide, model.columns, setting)) if spreads is not None else {}
    if ranges:      # what was scaled by the ranges of the dictionary has lost digits
        model = msgspec.structs.replace(model, ranges=as_ranges(ranges))
        found = First(model, *(yield _first_asks(params, model, dictionary)))
    empty = empty_columns(cells, full)
    study, guess = study_of(params, setting, empty, found)
    check_columns(study.totals, study.design.low, study.design.high, study.names, params.ridge > 0)
    without = {label: (*empty, *(study.names[k] for k in study.design.terms[label])) for label in _tested(study)}
    reduced = [study_of(params, setting, drop, found) for drop in without.values()]
    outlying = nobody_outlying(first, cells, rules, {"intercept": False, **{name: keys[name] for name in ("columns", "terms", "weights")}})
    _, fit, *others = yield from abreast([outlying, *(_fitted(*one) for one in [(study, guess), *reduced])])
    last = yield from _last_round(study, fit)
    check_carried(study, last["residuals"])
    if study.grid:
        fit = _settled(study, fit, last["curvature"]["second"][0])
    further = _further(study, fit, last)
    if further:
        last |= dict(zip(further, (yield list(further.values()))))
    return study, fit, last, dict(zip(without, others))


def _first_asks(params: CoxParams, model: Model, dictionary: Dictionary) -> list[Ask]:
    """What `First` holds. Without one baseline for all, times of the grid are only needed for ranks and the pooled curve."""
    plain, p = msgspec.to_builtins(model), len(model.design(dictionary))
    asks = [cox_totals(model=plain), cox_start(model=plain, efron=params.efron)]
    if model.by_registry:
        wanted = bool({"km", "rank"} & set(params.transforms))
        return asks + [cox_events(model={**plain, "strata": list(model.levels)})] * wanted
    # of the events at 0 no more is known than `cox_events` tells, unless there is an offset
    at_zero = cox_risk(model=plain, beta=[0.0] * p, frame=[[0.0, 1.0, -1.0, 1.0]] * p, efron=params.efron and params.offset is not None)
    return [*asks, cox_events(model=plain), at_zero]


def _fitted(study: Study, guess: Sums) -> Generator[list[Ask], list[Sums], Fit]:
    reach = reaches(study.totals, study.frame, study.design.low, study.design.high)
    return newton(study.reader(), start_of(guess, study.frame), study.penalty, study.frame, reach, study.names, study.params.max_rounds)


def _settled(study: Study, fit: Fit, second: np.ndarray) -> Fit:
    """The fit with the information of its own hazards."""
    assert fit.cells is not None
    try:
        return settled(fit, information(fit.cells, second), study.penalty)
    except steady.Singular as error:
        raise collinear(study.names[error.column]) from None


def _tested(study: Study) -> list[str]:
    """Terms that a likelihood ratio test leaves out; a model of one term is compared with none."""
    terms = study.design.terms
    return [label for label in droppable(study.params.terms) if label in terms and len(terms) > 1] if study.params.lr else []


def _check_on_grid(elsewhere: int, params: CoxParams, rules: Rules) -> None:
    """elsewhere : events that the grid leaves out. The number of all events is known from other questions. Raises Refused."""
    if rules != NO_RULES and not safe(elsewhere, rules):
        raise Refused(f"fewer than {rules.min_cell} patients have the event where the grid of \"{params.time}\" does not count it (rule "
                      "min_cell): they would follow from the number of events", hint="let the cut points in the dictionary reach further")


def check_carried(study: Study, at_fit: Sums) -> None:
    """Whether no patient, nor a few whom weights or an offset choose, carries the fit: among those with the event, and by the events that
    everybody was expected to add. Raises Refused."""
    rules, p = study.setting.rules, len(study.design)
    check_leverage(int(at_fit["objections"]), rules)
    check_effective(float(study.totals["events_w"]), float(study.totals["events_ww"]), p, rules)
    check_effective(float(at_fit["working"]), float(at_fit["working_squares"]), p, rules)


def _usual_rounds(study: Study) -> Generator[list[Ask], list[Sums], None]:
    """What a fit usually asks, with nobody in any total: for whoever wants to know beforehand."""
    reader, zero = study.reader(), (0.0,) * len(study.design)
    somewhere = (2.0**-20, *zero[1:])       # not 0, of which the grid knows more beforehand
    for turn in range(USUAL_EVALUATIONS):
        asks = reader.ask(somewhere, reader.null)
        totals = yield asks + (reader.ask(zero, reader.null) if turn == 0 else [])
    nothing, cells = reader.read(totals[:len(asks)], somewhere, reader.null)
    fit = Fit(zero, somewhere, nothing, cells, nothing, USUAL_EVALUATIONS)
    last = yield from _last_round(study, fit)
    further = _further(study, fit, last)
    if further:
        yield list(further.values())


def small(params: CoxParams, p: int) -> int:
    """How many numbers a result shows in any case, those that follow from others left out: coefficient, two errors, VIF and mean of
    each column; events, two likelihoods, score test, concordance with its bound and error; a test per term; checks. No covariances, no
    baselines. Of a horizon: AUC and Brier score with their bounds, and the score without covariates.
    """
    return (5 * p + 7 + len(params.terms) * (1 + params.lr) + len(params.transforms) * (len(params.terms) + 1) + 5 * len(params.horizons)
            + (5 * GROUPS + 1) * params.calibration)


def _empty(first: Sums) -> np.ndarray:
    return np.flatnonzero(first["nonzero"].sum(axis=1) == 0)


def _last_round(study: Study, fit: Fit) -> Generator[list[Ask], list[Sums], dict[str, Sums]]:
    """What is asked at the fit: residuals, pairs, and from registries that are strata the slopes over time."""
    params, asked = study.params, study.asked(fit.at)
    try:
        covariance = steady.pack(steady.inverse(penalised(fit.point.information, study.penalty))).tolist()
    except steady.Singular:     # the last step could still be taken
        covariance = [0.0] * (len(study.design) * (len(study.design) + 1) // 2)
    asks: dict[str, Ask] = {}
    if study.grid:
        assert fit.cells is not None
        asks["curvature"] = study.on_grid.ask_settled(fit.at, fit.cells, hazard_times(study, fit))
        asks["residuals"] = cox_residuals(**asked, baseline=msgspec.to_builtins(baseline_of(fit.cells)), covariance=covariance)
        if params.concordance:
            asks["pairs"] = cox_pairs(**asked, width=width(study, fit.at), ends=study.ends)
            asks["places"] = cox_places(**asked, width=width(study, fit.at))
        if any(study.runs):
            asks["runs"] = cox_runs(model=study.plain, ends=study.runs)
    else:
        asks["residuals"] = cox_registry_residuals(**asked, covariance=covariance, efron=params.efron)
        if params.concordance:
            asks["pairs"] = cox_registry_pairs(**asked, others=int(study.totals["rows"]))
        if params.transforms:
            asks["slopes"] = cox_registry_slopes(**asked, transforms=_scaled_transforms(study), efron=params.efron)
    totals = yield list(asks.values())
    return dict(zip(asks, totals))


def _further(study: Study, fit: Fit, last: dict[str, Sums]) -> dict[str, Ask]:
    """What is asked once the pairs are known: people of groups of risk, and the error of C where the counts alone do not give it."""
    params, model = study.params, study.model
    asks: dict[str, Ask] = {}
    if "pairs" in last and study.grid:
        around = study.asked(fit.at) | {"width": width(study, fit.at)}
        if params.calibration:
            place, run, by_risk = by_risk_at(study, fit, last, params.horizons[-1])
            ends = group_ends(by_risk.counts, run, study.setting.rules)
            groups = np.searchsorted(np.asarray(ends), by_risk.rank, side="right")
            if ends:
                asks["groups"] = cox_groups(**around, groups=groups.tolist(), place=place)
        if model.weights or model.entry or study.setting.dictionary.most_rows > 1:
            asks["influence"] = cox_influence(**around, ends=study.ends, counts=last["pairs"])
    return asks


def _scaled_transforms(study: Study) -> list[Any]:
    """How registries that are strata are told the transforms of time: see `cox_registry_slopes`."""
    found: list[Any] = []
    high = study.setting.dictionary[study.params.time].high
    for transform in study.params.transforms:
        if transform == "identity":
            found.append([0.0, high, None])
        elif transform == "log":
            found.append([steady.log(high), 1.0, "log"])
        else:
            scale = float(study.totals["rows"]) if transform == "rank" else 1.0
            found.append([0.0, scale, grid_transform(study, transform).tolist()])
    return found
