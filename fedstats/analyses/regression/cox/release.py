"""From the last totals of a Cox model to what is released of it: coefficients, tests, baseline under the rules, notes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.variable import value_text
from fedstats.disclosure import NO_RULES, safe
from fedstats.formula.weights import InverseProbability, weight_notes
from fedstats.sums import steady
from fedstats.sums.statistic import Sums

from ...shared.common import at_most, groups, p_chi2
from ...survival.life_table import SAME_TIME, beyond_note, times_of
from ..coefficients import Cost, Test, coefficients_of, lr_test, rows_of, vif_of, wald, wald_tests
from ..model_rules import SCALARS_PER_PATIENT
from ..newton import inverse_of, penalised
from .calibration import calibration, group_ends
from .concordance import Concordance, alike_in_bins, concordance_of
from .fit import Fit
from .hazards import HazardTest, hazard_tests, slopes
from .horizons import Horizon, horizon, predicted_off
from .model import Model
from .registry_pairs import registry_concordance
from .result import Baseline, Cox
from .rounds import small
from .study import Study, by_risk_at, hazard_times
from .times import shown_times

UNKNOWN = 0.5       # a concordance that may be off by so much says nothing


def release(study: Study, fit: Fit, last: dict[str, Sums], reduced: dict[str, Fit], cost: Cost) -> Cox:
    """The result. reduced : fits without a term. Nothing is asked any more: any arithmetic will do."""
    params, setting, design, p = study.params, study.setting, study.design, len(study.design)
    information = penalised(fit.point.information, study.penalty)
    inverse = inverse_of(information, design.names)
    scale = np.outer(study.scale, study.scale)
    beta, cov = design.unscale(np.array(fit.beta) / study.scale, inverse / scale)
    _, robust = design.unscale(fit.beta, inverse @ steady.unpack(last["residuals"]["squares"], p) @ inverse / scale)
    assert cov is not None and robust is not None
    several = setting.dictionary.most_rows > 1
    use_robust = params.robust if params.robust is not None else bool(params.weights) or several
    used = robust if use_robust else cov
    count = int(study.totals["events"])
    concordance = _concordance(study, last)
    spent, most = small(params, p), SCALARS_PER_PATIENT * setting.size.n
    free = setting.rules.min_cell <= 1
    whole = free or spent + p * (p + 1) <= most
    room = setting.size.n if free else int(most - spent - (p * (p + 1) if whole else 0)) // (2 + p if whole else 1)
    baselines, held_back = _baselines(study, fit, last.get("runs"), room, whole) if params.baseline and study.grid else ((), False)
    horizons = _horizons(study, fit, last) if params.horizons else ()
    needed = {*design.variables, *(study.model.columns if params.offset else ())}
    return Cox(
        size=setting.size, time=params.time, event=params.event, entry=params.entry, strata=params.strata, weights=params.weights,
        offset=params.offset, terms=params.terms, dropped=study.model.drop, ties=params.ties, ridge=params.ridge,
        codebook=tuple(one for one in setting.dictionary.variables if one.name in needed), rows=int(study.totals["rows"]), events=count,
        coefficients=coefficients_of(design.names, beta, cov, robust=robust, use_robust=use_robust, confidence=params.confidence,
                                     vif=vif_of(fit.point.information, False)),
        covariance=rows_of(cov) if whole else None, covariance_robust=rows_of(robust) if whole else None, confidence=params.confidence,
        se_used="robust" if use_robust else "model", tests=_tests(study, fit, reduced, beta, used), cost=cost,
        loglik=fit.point.loglik, loglik_null=fit.null.loglik, aic=-2 * fit.point.loglik + 2 * p,
        bic=-2 * fit.point.loglik + p * math.log(count),
        means=tuple(float(c + h * s) for c, h, s in zip(design.center, design.half, study.shift)),
        concordance=concordance, proportional_hazards=tuple(_hazard_tests(study, fit, last)), baseline=baselines, horizons=horizons,
        notes=_notes(study, several, held_back, whole, use_robust, concordance) + _of_bins(horizons) + _of_steps(study, baselines),
        methods=_methods(study, use_robust, several))


def _concordance(study: Study, last: dict[str, Sums]) -> Concordance | None:
    if "pairs" not in last:
        return None
    if not study.grid:
        return registry_concordance(last["pairs"])
    squares = float(last["influence"]["squares"]) if "influence" in last else None
    found = concordance_of(last["pairs"], study.joined, squares, alike_in_bins(last["pairs"], last["places"]))
    return None if found is None or found.off >= UNKNOWN else found


def _tests(study: Study, fit: Fit, reduced: dict[str, Fit], beta: np.ndarray, used: np.ndarray) -> tuple[Test, ...]:
    """Tests of the whole model and of each term. With a penalty the likelihood ratio and the score have no known distribution."""
    p = len(beta)
    chi2, df = wald(beta, used, range(p))
    whole = [Test("wald", "(model)", chi2, df, p_chi2(chi2, df))]
    if not study.params.ridge:
        try:
            score = float(fit.null.score @ np.linalg.solve(fit.null.information, fit.null.score))
        except np.linalg.LinAlgError:
            score = math.nan
        whole = [lr_test("(model)", fit.point.loglik, fit.null.loglik, p), *whole, Test("score", "(model)", score, p, p_chi2(score, p))]
    terms = study.design.terms
    ratios = [lr_test(label, fit.point.loglik, one.point.loglik, len(terms[label])) for label, one in reduced.items()]
    return (*whole, *wald_tests(beta, used, terms), *ratios)


def _hazard_tests(study: Study, fit: Fit, last: dict[str, Sums]) -> list[HazardTest]:
    found: list[HazardTest] = []
    times = hazard_times(study, fit) if study.grid else []
    for k, transform in enumerate(study.params.transforms):
        if study.grid:
            assert fit.cells is not None
            second = last["curvature"]["second"]
            sums = slopes(fit.cells, study.x[fit.cells.place], times[k], second[1 + 2 * k], second[2 + 2 * k])
        else:
            sums = {name: last["slopes"][f"{name}{k}"] for name in ("score", "cross", "square")}
        found += hazard_tests(transform, sums, fit.point.information, study.design.terms)
    return found


def _baselines(study: Study, fit: Fit, counted: Sums | None, room: int, whole: bool) -> tuple[tuple[Baseline, ...], bool]:
    """The baseline of every stratum at the times that may be shown, and whether some were held back.

    counted : totals of `cox_runs`. room : how many times may be shown in all, so that no more numbers are released than the rules allow
    for the cohort. whole : with what intervals of curves need.
    """
    assert fit.cells is not None and study.events is not None
    dictionary, cells, p = study.setting.dictionary, fit.cells, len(study.design)
    times, strata = times_of(dictionary, study.params.time), study.model.strata_count(dictionary)
    column = study.model.offset_column(dictionary)
    # offsets were taken from the middle of their range
    scale = math.exp(-(column.low[0] + column.high[0]) / 2) if column else 1.0
    sums = np.zeros((strata * len(times), 2 + p))
    sums[cells.place] = np.column_stack([cells.hazard * scale, cells.hazard_variance * scale**2, cells.drift * scale])
    sums = np.cumsum(sums.reshape(strata, len(times), -1), axis=1)
    half = np.array(study.design.half) * study.scale
    found, held_back = [], False
    room = max(room // strata, 0)
    for s, label in enumerate(_stratum_labels(study.model, dictionary)):
        ends = shown_times(study.events, study.runs, counted, s, study.setting.rules)
        if not ends or not room:
            held_back = held_back or bool(study.events["events"][s].any())
            continue
        ends = ends[::-1][::-(-len(ends) // room)][::-1]        # every so many, the last one always
        at = sums[s, np.array(ends) - 1]
        more = (tuple(at[:, 1].tolist()), tuple(tuple(row) for row in (at[:, 2:] * half).tolist())) if whole else ((), ())
        found.append(Baseline(label, tuple(times[np.array(ends) - 1].tolist()), tuple(at[:, 0].tolist()), *more))
    return tuple(found), held_back


def _horizons(study: Study, fit: Fit, last: dict[str, Sums]) -> tuple[Horizon, ...]:
    """Those horizons are shown between which, and after which, nobody or enough have the event and leave without it: the Brier score of
    a curve for everybody tells how many had the event by then."""
    assert study.events is not None
    times, rules = times_of(study.setting.dictionary, study.params.time), study.setting.rules
    found: dict[float, Horizon] = {}
    shown = [0, len(times)]
    for time in study.params.horizons:
        place = int(np.abs(times - time).argmin()) + 1
        spans = [slice(*sorted((place, other))) for other in shown]
        people = [int(study.events[name][:, span].sum()) for name in ("with_event", "without") for span in spans]
        if all(safe(count, rules) for count in people):
            found[time] = _horizon(study, fit, time, last)
            shown.append(place)
    return tuple(found.get(time, Horizon(time)) for time in study.params.horizons)


def _horizon(study: Study, fit: Fit, time: float, last: dict[str, Sums]) -> Horizon:
    """AUC and Brier score by one time of the grid; calibration by the last one."""
    rules = study.setting.rules
    _, run, by_risk = by_risk_at(study, fit, last, time)
    found = horizon(time, run, by_risk, rules, study.joined, alike_in_bins(last["pairs"], last["places"]))
    if "groups" not in last or time != study.params.horizons[-1]:
        return found
    ends = group_ends(by_risk.counts, run, rules)
    groups = calibration(by_risk.counts, run, ends, 1 - by_risk.survival, last["groups"], rules, study.params.confidence)
    if not groups:
        return found
    return msgspec.structs.replace(found, calibration=groups, predicted_off=at_most(predicted_off(by_risk, ends)))


def _stratum_labels(model: Model, dictionary: Dictionary) -> list[str]:
    labels = [""]
    for name in model.levels:
        labels = [f"{one}, {name}={level}".removeprefix(", ") for one in labels for level in groups(dictionary, name)]
    return labels if model.levels else ["baseline"]


def _notes(study: Study, several: bool, held_back: bool, whole: bool, use_robust: bool, concordance: Concordance | None) -> tuple[str, ...]:
    params, dictionary, rules = study.params, study.setting.dictionary, study.setting.rules
    notes: list[str] = []
    if study.grid:
        notes += beyond_note(dictionary, params.time)
        variable, times = dictionary[params.time], times_of(dictionary, params.time)
        if not (variable.unit_step and np.diff(times).max() <= variable.unit_step):
            notes.append("times are taken at the end of their interval of the registered grid: events within an interval count as tied; "
                         "strata(registry) uses true times")
        if int(study.totals["lost"]):
            notes.append(f'rows that begin and end within one interval of the grid of "{params.time}" are left out, with their events')
        if params.baseline and rules != NO_RULES:
            notes.append(f"the baseline hazard is shown at ends of intervals with at least {rules.min_cell} patients with events, while at "
                         f"least {rules.min_cell} are at risk (rule min_cell {rules.min_cell})")
        if held_back:
            notes.append(f"the baseline hazard of a stratum is not released: too few events, or more than one number per 10 patients "
                         f"(rules min_cell {rules.min_cell}, models)")
    elif params.baseline:
        notes.append("registries are strata: their baseline hazards are not released, so there are no survival curves")
    if not study.grid:
        notes.append("variance inflation factors are within registries, which are no term of them")
    if not whole:
        notes.append("the covariance of the coefficients, and with it intervals of curves, is not released: more than one number per 10 "
                     "patients (rule models)")
    if study.model.drop:
        notes.append("left out, as nobody has these levels: " + ", ".join(study.model.drop))
    if isinstance(params.weights, InverseProbability):
        notes.append("weights by inverse probability of treatment: " + (
            "robust standard errors take them as known, which makes intervals a little too wide" if use_robust else
            "model-based standard errors do not hold, use robust=True"))
    notes += weight_notes(params.weights)
    if params.ridge:
        notes.append(f"ridge penalty {params.ridge:g}: coefficients are drawn towards 0, and tests are approximate")
    if several:
        notes.append("robust standard errors add up the rows of each patient first")
    if params.concordance and concordance is None:
        notes.append("no concordance: too few pairs of rows are known to be in order at the times that are counted; strata(registry) "
                     "compares the patients of each registry on true times")
    if concordance is not None and concordance.risk_bins:
        notes.append(f"concordance: risks counted in {concordance.risk_bins} intervals at {concordance.times} times; that of the risks "
                     f"themselves, at all times of the grid, differs by at most {concordance.off:g}")
    return tuple(notes)


def _of_bins(horizons: Sequence[Horizon]) -> tuple[str, ...]:
    """How far numbers that rest on risks in intervals may be off."""
    found = [f"predicted risks of groups by {one.time:g} are within {one.predicted_off:g} of the means of the risks themselves"
             for one in horizons if one.predicted_off is not None]
    return (*found, *(f"risks are counted in intervals, for prediction by {one.time:g}: AUC within {one.auc_off:g}, Brier scores within "
                 f"{one.brier_off:g} of those of the risks themselves at all times of the grid" for one in horizons if one.auc is not None))


def _of_steps(study: Study, baselines: Sequence[Baseline]) -> tuple[str, ...]:
    """By how much a baseline rises between two shown times, where the events of some times in between are not shown."""
    if not baselines:
        return ()
    assert study.events is not None
    times, events = times_of(study.setting.dictionary, study.params.time), study.events["with_event"]
    labels, rises = _stratum_labels(study.model, study.setting.dictionary), list[float]()
    for one in baselines:
        at = np.searchsorted(times, np.array(one.times) * (1 - SAME_TIME))
        own = events[labels.index(one.stratum)]
        inside = [np.flatnonzero(own[a:b]).size for a, b in zip((0, *(at[:-1] + 1)), at)]
        rises += [rise for rise, some in zip(np.diff(one.hazard, prepend=0.0).tolist(), inside) if some]
    if not rises:
        return ()
    return (f"not every time with events is shown of the baseline: between two shown times the cumulative hazard is too low by at most "
            f"{at_most(max(rises)):g} (and survival too high by no more), of a patient at the means",)


def _methods(study: Study, use_robust: bool, several: bool) -> str:
    params, dictionary = study.params, study.setting.dictionary
    strata = f", stratified by {', '.join(params.strata)}" if params.strata else ""
    where = "on true times within registries"
    if study.grid:
        where = f"on the registered time grid to {value_text(dictionary[params.time], times_of(dictionary, params.time)[-1])}"
    errors = ("robust (Lin-Wei)" + (", clustered by patient" if several else "")) if use_robust else "model-based"
    return (f"Cox regression with {params.ties.capitalize()}'s method for ties{strata}, {where}; {errors} standard errors; proportional "
            "hazards by the score test of Grambsch and Therneau.")
