"""The rounds of a Cox model: what is asked first, how the fit is driven, what is asked at the fit. Steady arithmetic throughout."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from ... import steady
from ...analysis import Setting, abreast
from ...disclosure import NO_RULES, Rules, safe
from ...errors import QuestionError, Refused
from ...statistic import Ask, Sums
from ...terms import Design
from .._model_rules import check_columns as empty_columns
from .._model_rules import (
    check_effective,
    check_informed,
    check_leverage,
    check_model,
    model_cells,
    model_informed,
    nobody_outlying,
    selecting,
)
from ..glm.fit import droppable
from ..survival import at_risk, times_of
from .calibration import GROUPS, cox_groups, group_ends
from .concordance import RISK_BINS, SPREAD, cox_pairs, cox_registry_pairs, pair_ends
from .fit import Fit, Reader, check_columns, frame_of, newton, penalised, reaches, start_of
from .hazards import cox_registry_slopes, transformed
from .likelihood import Cells, Point, cells_of, point
from .model import Model
from .params import CoxParams
from .residuals import baseline_of, cox_residuals
from .risk import cox_events, cox_risk, cox_totals
from .strata import cox_registry, cox_registry_residuals, cox_start
from .times import Ends, cox_runs, first_runs

USUAL_EVALUATIONS = 4       # of the likelihood, from a first guess that is not far off


@dataclass
class Study:
    """A model on its way: what the first round has found. All of it is steady: it shapes later asks."""

    params: CoxParams
    setting: Setting
    model: Model
    design: Design
    totals: Sums
    events: Sums | None
    frame: tuple[tuple[float, float, float, float], ...]
    penalty: tuple[float, ...]
    plain: Any = field(init=False)

    def __post_init__(self) -> None:
        self.plain = msgspec.to_builtins(self.model)

    @property
    def grid(self) -> bool:
        """Whether there is one baseline for all registries, on the grid."""
        return not self.model.by_registry

    @property
    def ends(self) -> list[int]:
        """The runs of times in which pairs are counted: they end at every horizon."""
        times = times_of(self.setting.dictionary, self.params.time)
        horizons = [int(np.searchsorted(times, one * (1 - 1e-9))) for one in self.params.horizons]
        return pair_ends(self.model.strata_count(self.setting.dictionary), len(times), 3 if self.model.entry else 2, horizons)

    @property
    def last_horizon(self) -> int:
        """The place of the last horizon among the runs of times."""
        grid = times_of(self.setting.dictionary, self.params.time)
        return self.ends.index(int(np.abs(grid - self.params.horizons[-1]).argmin()) + 1)

    def groups(self, last: dict[str, Sums]) -> list[int]:
        """Where groups of risk end whose calibration is wanted. last : totals at the fit."""
        if not self.params.calibration:
            return []
        return group_ends({name: counts[0] for name, counts in last["pairs"].items()}, self.last_horizon, self.setting.rules)

    @property
    def joined(self) -> bool:
        """Whether pairs are counted at fewer times than the grid has."""
        return len(self.ends) < len(times_of(self.setting.dictionary, self.params.time))

    @property
    def runs(self) -> list[Ends]:
        """Runs of times, per stratum, at whose ends the baseline may be shown if enough registries stand behind them."""
        if not (self.grid and self.params.baseline and self.events is not None) or self.setting.rules == NO_RULES:
            return []
        return first_runs(self.events, self.setting.rules)

    @property
    def names(self) -> tuple[str, ...]:
        return self.design.names

    @property
    def weight(self) -> np.ndarray:
        """The weight of the events of each cell, flat."""
        assert self.events is not None
        return self.events["weight" if self.model.weights else "events"].ravel().astype(float)

    @property
    def x(self) -> np.ndarray:
        """Weighted sums of the columns of the events of each cell, in the frame; shape (cells, p)."""
        assert self.events is not None
        return (self.events["x"].reshape(len(self.weight), -1) - self.weight[:, None] * self.shift) / self.scale

    @property
    def shift(self) -> np.ndarray:
        return np.array([one[0] for one in self.frame])

    @property
    def scale(self) -> np.ndarray:
        return np.array([one[1] for one in self.frame])

    def asked(self, beta: Sequence[float]) -> dict[str, Any]:
        return {"model": self.plain, "beta": list(beta), "frame": [list(one) for one in self.frame]}

    def reader(self) -> Reader:
        p, efron = len(self.design), self.params.efron
        if not self.grid:
            return Reader(lambda beta: cox_registry(**self.asked(beta), efron=efron), lambda totals, _: (
                Point(float(totals["loglik"]), totals["score"], steady.unpack(totals["information"], p)), None))
        assert self.events is not None
        counts, weight, x = self.events["events"].ravel(), self.weight, steady.total(self.x)
        offset = float(self.events["offset"]) if self.model.offset else 0.0

        def read(totals: Sums, beta: Sequence[float]) -> tuple[Point, Cells | None]:
            tied = totals["tied"].reshape(len(counts), -1) if efron else None
            cells = cells_of(counts, weight, totals["risk"].reshape(len(counts), -1), tied)
            return point(cells, np.array(beta), x, offset), cells

        return Reader(lambda beta: cox_risk(**self.asked(beta), efron=efron), read)


def ask_rounds(params: CoxParams, setting: Setting) -> Generator[list[Ask], list[Sums], tuple[Study, Fit, dict[str, Sums], dict[str, Fit]]]:
    """All rounds of a model; returns the model with what the first round found, the fit, the totals at the fit, and by term the fit
    without it (lr; in the same rounds)."""
    model, dictionary, rules = params.model, setting.dictionary, setting.rules
    plain, full = msgspec.to_builtins(model), model.design(dictionary)
    also = list(dict.fromkeys([*model.levels, *selecting(model.selectors, dictionary)]))
    keys = {"columns": list(model.columns), "terms": plain["terms"], "outcome": params.event, "weights": plain["weights"]}
    # without one baseline for all, times of the grid are only needed for ranks and the pooled curve
    on_grid = {**plain, "strata": list(model.levels)} if model.by_registry else plain
    needed = not model.by_registry or bool({"km", "rank"} & set(params.transforms))
    asks = [model_cells(**keys, also=also, intercept=False), cox_totals(model=plain), cox_start(model=plain, efron=params.efron)]
    asks += [cox_events(model=on_grid)] * needed + [model_informed(**keys, survival=True)] * model.by_registry
    first, totals, guess, *rest = yield asks
    cells = check_model(first, full, dictionary, params.terms, rules, parameters=len(full) - len(_empty(first)), also=also,
                        released=small(params, len(full)), survival=True)
    if model.by_registry:
        check_informed(rest.pop()["informed"], full.names, cells, rules)
    elif dictionary.most_rows == 1:
        _check_on_grid(int(cells.outcome[-1]) - int(totals["events"]), params, rules)
    if not setting.size.n:
        yield from _usual_rounds(_study(params, setting, (), totals, rest[0] if rest else None, guess)[0])
    empty, found = empty_columns(cells, full), (totals, rest[0] if rest else None, guess)
    study, guess = _study(params, setting, empty, *found)
    check_columns(study.totals, study.design.low, study.design.high, study.names, params.ridge > 0)
    without = {label: (*empty, *(study.names[k] for k in study.design.terms[label])) for label in _tested(study)}
    reduced = [_study(params, setting, drop, *found) for drop in without.values()]
    outlying = nobody_outlying(first, cells, rules, {"intercept": False, **{name: keys[name] for name in ("columns", "terms", "weights")}})
    _, fit, *others = yield from abreast([outlying, *(_fitted(*one) for one in [(study, guess), *reduced])])
    last = yield from _last_round(study, fit)
    check_carried(study, last["residuals"])
    groups = study.groups(last)
    if groups:
        place = int(np.searchsorted(times_of(dictionary, params.time), params.horizons[-1] * (1 - 1e-9)))
        (last["groups"],) = yield [cox_groups(**study.asked(fit.at), width=width(study, fit.at), ends=groups, place=place)]
    return study, fit, last, dict(zip(without, others))


def _fitted(study: Study, guess: Sums) -> Generator[list[Ask], list[Sums], Fit]:
    reach = reaches(study.totals, study.frame, study.design.low, study.design.high)
    return newton(study.reader(), start_of(guess, study.frame), study.penalty, study.frame, reach, study.names, study.params.max_rounds)


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
    for turn in range(USUAL_EVALUATIONS):
        (totals, *_) = yield [reader.ask(zero)] * (2 if turn == 0 else 1)
    nothing, cells = reader.read(totals, zero)
    yield from _last_round(study, Fit(zero, zero, nothing, cells, nothing, USUAL_EVALUATIONS))


def small(params: CoxParams, p: int) -> int:
    """How many numbers a result shows in any case, those that follow from others left out: coefficient, two errors, VIF and mean of
    each column; events, two likelihoods, score test, concordance and its bound; a test per term; checks. No covariances, no baselines.
    """
    return (5 * p + 6 + len(params.terms) * (1 + params.lr) + len(params.transforms) * (len(params.terms) + 1) + 3 * len(params.horizons)
            + 5 * GROUPS * params.calibration)


def _empty(first: Sums) -> np.ndarray:
    return np.flatnonzero(first["nonzero"].sum(axis=1) == 0)


def _study(params: CoxParams, setting: Setting, drop: tuple[str, ...], totals: Sums, events: Sums | None, guess: Sums
           ) -> tuple[Study, Sums]:
    """The model without the levels that nobody has; columns are in their frame from here on."""
    full = params.model.design(setting.dictionary)
    model = msgspec.structs.replace(params.model, drop=drop)
    design = model.design(setting.dictionary)
    if setting.size.n and (int(totals["events"]) == 0 or not len(design)):
        raise QuestionError(f'nobody has the event "{params.event}"' if len(design) else "no covariate varies",
                            hint="widen the cohort, or choose another event")
    keep = [j for j, name in enumerate(full.names) if name not in drop]
    pairs = [k for k, (i, j) in enumerate(zip(*np.triu_indices(len(full)))) if i in keep and j in keep]
    totals = totals | {"x": totals["x"][keep], "xx": totals["xx"][pairs], "events_x": totals["events_x"][keep],
                       "used": totals["used"][keep]}
    guess = guess | {"information": guess["information"][pairs], "weighted": guess["weighted"][keep]}
    if events is not None:
        events = events | {"x": events["x"][..., keep]}
    frame = frame_of(totals)
    penalty = tuple(params.ridge / (half * half * scale * scale) for half, (_, scale, _, _) in zip(design.half, frame))
    return Study(params, setting, model, design, totals, events, frame, penalty), guess


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
        asks["residuals"] = cox_residuals(**asked, baseline=msgspec.to_builtins(baseline_of(fit.cells)), covariance=covariance)
        if params.concordance:
            asks["pairs"] = cox_pairs(**asked, width=width(study, fit.at), ends=study.ends)
        if any(study.runs):
            asks["runs"] = cox_runs(model=study.plain, ends=study.runs)
    else:
        asks["residuals"] = cox_registry_residuals(**asked, covariance=covariance, efron=params.efron)
        if params.concordance:
            asks["pairs"] = cox_registry_pairs(**asked)
        if params.transforms:
            asks["slopes"] = cox_registry_slopes(**asked, transforms=_scaled_transforms(study), efron=params.efron)
    totals = yield list(asks.values())
    return dict(zip(asks, totals))


def width(study: Study, beta: Sequence[float]) -> float:
    """The width of an interval of the linear predictor: from its variance over all rows."""
    w, p = float(study.totals["w"]) or 1.0, len(beta)
    square, shift = steady.unpack(study.totals["xx"], p), [one[0] for one in study.frame]
    beta = [b / scale for b, (_, scale, _, _) in zip(beta, study.frame)]
    variance = math.fsum([beta[i] * beta[j] * (float(square[i, j]) / w - shift[i] * shift[j]) for i in range(p) for j in range(p)])
    return 2.0 * SPREAD * math.sqrt(max(variance, 1e-12)) / RISK_BINS


def grid_transform(study: Study, transform: str) -> np.ndarray:
    """g at every time of the registered grid, over all strata together."""
    assert study.events is not None
    totals, times = study.events, times_of(study.setting.dictionary, study.params.time)
    leaving = steady.total(totals["leaving"])
    n = at_risk(leaving) - (at_risk(steady.total(totals["entering"])) if "entering" in totals else 0.0)
    return transformed(transform, times, steady.total(totals["events"]), leaving, n)


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
