"""The parameters of a validation: what may be asked, and how it is checked against the dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...data.dictionary import Dictionary
from ...disclosure.release import Declared, ScoreBins, Support, axis, by_times, classes
from ...errors import QuestionError
from ...query.analysis import Params, names_of
from ..boosting import _call as boost_params
from ..boosting.objectives import HAZARD, LOGISTIC
from ..boosting.params import BoostParams
from ..shared.common import CONFIDENCE, check_confidence, groups
from ..shared.folds import MOST_FOLDS
from ..survival.life_table import check_survival, on_grid

FOLDS = 5
MOST_HORIZONS, MOST_VARIABLES, MOST_LEVELS = 5, 8, 16


class ValidationParams(Params, frozen=True):
    """boost : the model. by : variables whose levels are reported apart. time, event, horizons : weigh by follow-up up to these times."""

    boost: BoostParams
    folds: int = FOLDS
    by: tuple[str, ...] = ()
    time: str | None = None
    event: str | None = None
    horizons: tuple[float, ...] = ()
    confidence: float = CONFIDENCE

    def columns(self) -> tuple[str, ...]:
        """The outcome, or follow-up and event, must be known."""
        return (self.time, self.event) if self.time and self.event else self.boost.columns()

    def at_most(self) -> bool:
        return self.boost.at_most()

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        of = self.population()
        if self.horizons and self.time and self.event:
            outcome = by_times(self.event, self.time, self.horizons)        # it tells of events by these only
        else:
            outcome = classes(dictionary, self.columns())
        each = [axis(dictionary, name, unknown=name not in of.known) for name in self.by] or [()]
        score = self.boost.covariates
        return (Support(of, score), *(ScoreBins(of, score, outcome, by) for by in each))

    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.columns(), *self.boost.reads(), *self.by)))

    def check(self, dictionary: Dictionary) -> None:
        self.boost.check(dictionary)
        check_confidence(self.confidence)
        if self.boost.objective not in (LOGISTIC, HAZARD):
            raise QuestionError(f"validation is for risks: {self.boost.objective} gives none",
                                hint=f'use objective="{LOGISTIC}" or "{HAZARD}"')
        if not 2 <= self.folds <= MOST_FOLDS:
            raise QuestionError(f"folds is {self.folds}: from 2 to {MOST_FOLDS}")
        if len(self.by) > MOST_VARIABLES or len(set(self.by)) < len(self.by):
            raise QuestionError(f"by names at most {MOST_VARIABLES} different variables")
        for name in self.by:
            if len(groups(dictionary, name)) > MOST_LEVELS:
                raise QuestionError(f'"{name}" has {len(groups(dictionary, name))} groups: at most {MOST_LEVELS} here',
                                    hint=f'use a variable with fewer, or coarser cut points for "{name}" in the dictionary')
        if not self.horizons:
            return
        if not self.time or not self.event:
            raise QuestionError("horizons need a follow-up time and an event", hint='add time="..." and event="..."')
        check_survival(dictionary, self.time, self.event, ())
        grid = self.boost.target(dictionary, 1).ends if self.boost.objective == HAZARD else dictionary.grid(self.time)
        if not 1 <= len(self.horizons) <= MOST_HORIZONS or list(self.horizons) != sorted(set(self.horizons)):
            raise QuestionError(f"horizons are 1 to {MOST_HORIZONS} increasing times")
        for one in self.horizons:
            if on_grid(grid, one) is None:
                raise QuestionError(f'{one:g} is not a time at which "{self.time}" is cut here',
                                    hint="times are: " + ", ".join(f"{end:g}" for end in grid[:24]))
        if self.boost.objective == LOGISTIC and len(self.horizons) > 1:
            raise QuestionError(f"a model of {LOGISTIC} gives the risk at one horizon", hint=f'use objective="{HAZARD}" for several')


def call(outcome: str, covariates: Sequence[str] | str, *, folds: int = FOLDS, by: Sequence[str] | str = (), time: str | None = None,
         event: str | None = None, horizons: Sequence[float] | float = (), confidence: float = CONFIDENCE, **training: Any
         ) -> ValidationParams:
    """validation("worse", ["age", "edss"], folds=5, by=["sex"], time=None, event=None, horizons=(), ...as boost)"""
    if training.get("objective") == HAZARD:
        training["time"], event = time, event or outcome
    made = boost_params(outcome, covariates, **training)
    wanted = (float(horizons),) if isinstance(horizons, (int, float)) else tuple(float(one) for one in horizons)
    if made.objective == HAZARD and not wanted and made.intervals:
        wanted = made.intervals[-1:]
    return ValidationParams(made, folds, names_of(by) if by else (), time, event, wanted, confidence)
