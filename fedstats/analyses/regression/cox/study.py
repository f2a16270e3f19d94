"""A Cox model on its way: what the first round has found, and what later asks and the result read off it. Steady arithmetic throughout."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from fedstats.disclosure import NO_RULES
from fedstats.errors import QuestionError
from fedstats.formula.terms import Design
from fedstats.query.analysis import Setting
from fedstats.sums import steady
from fedstats.sums.statistic import Sums

from ...survival.life_table import at_risk, times_of
from .concordance import RISK_BINS, SPREAD, pair_ends
from .fit import Fit, Reader, frame_of
from .grid import Grid, grid_cells, reframed
from .hazards import transformed
from .horizons import Ranked, ranked
from .likelihood import Point
from .model import Model
from .params import CoxParams
from .strata import cox_registry
from .times import Ends, first_runs


@dataclass(frozen=True)
class First:
    """Totals of the first round: of all rows, of the registries' own fits, of events by time, and the risk sums at 0 (grid). model :
    that they were asked about."""

    model: Model
    totals: Sums
    guess: Sums
    events: Sums | None = None
    at_zero: Sums | None = None


@dataclass
class Study:
    """A model on its way: what the first round has found. All of it is steady: it shapes later asks. at_zero : risk sums at 0, of the
    columns in their frame."""

    params: CoxParams
    setting: Setting
    model: Model
    design: Design
    totals: Sums
    events: Sums | None
    at_zero: Sums | None
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

    @functools.cached_property
    def on_grid(self) -> Grid:
        """The likelihood on the grid."""
        assert self.events is not None and self.at_zero is not None
        counts, weight = self.events["events"].ravel(), self.weight
        asked = {name: value for name, value in self.asked(()).items() if name != "beta"}
        try:
            null = grid_cells(counts, weight, self.at_zero)
        except ValueError:      # the logarithm of a risk that came out as 0
            raise QuestionError("weights and offset may reach so far that the risk of most patients is nothing beside it",
                                hint="give what they are made of narrower ranges in the dictionary") from None
        return Grid(counts, weight, steady.total(self.x), float(self.events["offset"]) if self.model.offset else 0.0, self.params.efron,
                    null, asked)

    def reader(self) -> Reader:
        if self.grid:
            return self.on_grid.reader
        p, efron = len(self.design), self.params.efron
        return Reader(lambda beta, _: [cox_registry(**self.asked(beta), efron=efron)], lambda totals, *_: (
            Point(float(totals[0]["loglik"]), totals[0]["score"], steady.unpack(totals[0]["information"], p)), None))


def study_of(params: CoxParams, setting: Setting, drop: tuple[str, ...], first: First) -> tuple[Study, Sums]:
    """The model without the levels that nobody has, and the registries' own fits; columns are in their frame from here on."""
    full = first.model.design(setting.dictionary)
    model = msgspec.structs.replace(first.model, drop=drop)
    design, totals, guess, events, at_zero = model.design(setting.dictionary), first.totals, first.guess, first.events, first.at_zero
    if setting.size.n and (int(totals["events"]) == 0 or not len(design)):
        raise QuestionError(f'nobody has the event "{params.event}"' if len(design) else "no covariate varies",
                            hint="widen the cohort, or choose another event")
    keep = [j for j, name in enumerate(full.names) if name not in drop]
    pairs = [k for k, (i, j) in enumerate(zip(*np.triu_indices(len(full)))) if i in keep and j in keep]
    totals = totals | {"x": totals["x"][keep], "xx": totals["xx"][pairs], "events_x": totals["events_x"][keep],
                       "used": totals["used"][keep]}
    guess = guess | {"information": guess["information"][pairs], "weighted": guess["weighted"][keep]}
    frame = frame_of(totals)
    if at_zero is not None and events is not None:
        if params.efron and "tied" not in at_zero:
            weight = events["weight" if model.weights else "events"].astype(float)
            at_zero = at_zero | {"tied": np.concatenate([weight[..., None], events["x"]], axis=-1)}
        at_zero = reframed(at_zero, keep, *(np.array([one[k] for one in frame]) for k in (0, 1)))
    if events is not None:
        events = events | {"x": events["x"][..., keep]}
    penalty = tuple(params.ridge / (half * half * scale * scale) for half, (_, scale, _, _) in zip(design.half, frame))
    return Study(params, setting, model, design, totals, events, at_zero, frame, penalty), guess


# -- at the fit -----------------------------------------------------------------------------------------------------------------


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


def hazard_times(study: Study, fit: Fit) -> list[np.ndarray]:
    """g at every cell with events, about its mean over the events and within [-1, 1], for each transform of time."""
    assert fit.cells is not None
    found, d, strata = [], fit.cells.d, study.model.strata_count(study.setting.dictionary)
    for transform in study.params.transforms:
        g = np.tile(grid_transform(study, transform), strata)[fit.cells.place]
        mean = steady.dot(d.tolist(), g.tolist()) / max(math.fsum(d.tolist()), 1.0)
        found.append((g - mean) / ((max(g.tolist(), default=0.0) - min(g.tolist(), default=0.0)) or 1.0))
    return found


def by_risk_at(study: Study, fit: Fit, last: dict[str, Sums], time: float) -> tuple[int, int, Ranked]:
    """The place of a horizon on the grid and among the runs of times, and who leaves when in the order of the risk by then."""
    assert fit.cells is not None
    times, strata = times_of(study.setting.dictionary, study.params.time), study.model.strata_count(study.setting.dictionary)
    place = int(np.abs(times - time).argmin())
    stratum, when, hazard = fit.cells.place // len(times), fit.cells.place % len(times), fit.cells.hazard
    hazards = [math.fsum(hazard[(stratum == s) & (when <= place)].tolist()) for s in range(strata)]
    return place, study.ends.index(place + 1), ranked(last["pairs"], hazards, width(study, fit.at))
