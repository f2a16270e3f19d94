"""The parameters of a boosted model: what may be asked, and how each is checked against the dictionary."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from ...data.dictionary import Dictionary
from ...data.variable import Variable
from ...disclosure.release import Declared, Population, Trees, by_times, classes
from ...errors import QuestionError
from ...query.analysis import Params
from ..survival.life_table import check_survival, on_grid
from .bins import columns
from .cases import Target
from .objectives import COX, FEWEST_BITS, HAZARD, LOGISTIC, OBJECTIVES, POISSON, POISSON_STEP, SQUARED, usual_bits

MOST_ROUNDS, DEEPEST, MOST_BINS, MOST_COVARIATES = 5_000, 10, 256, 200
MOST_BITS = 30              # of a gradient: sums of 2^23 rows stay below 2^53
MOST_INTERVALS = 60         # rows that one patient becomes in a discrete-time hazard
USUAL_INTERVALS = 12        # of a discrete-time hazard, where nobody names them
MOST_GRID = 2_000           # intervals of a Cox model's grid
BEST, RANDOM = "best", "random"     # how splits are found
USUAL_BATCH, MOST_BATCH = 10, 1_000     # random trees that are learned in one round
FULL_STEP = 1.0 + 1e-9      # of a batch: the average of Newton steps over its trees; the excess is for 10 times 0.1 and the like


class BoostParams(Params, frozen=True):
    """See `boost`; None stands for a default that depends on objective and rules; of `rounds`, for a number chosen by cross-validation.

    A question that names no rounds at all is one of before that was possible: it means 100.
    """

    episodes: ClassVar[bool] = True

    outcome: str
    covariates: tuple[str, ...]
    objective: str = LOGISTIC
    time: str | None = None
    rounds: int | None = 100
    max_depth: int = 4
    learning_rate: float = 0.1
    bins: int = 16
    min_child_weight: float | None = None
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    gamma: float = 0.0
    max_delta_step: float | None = None
    subsample: float = 1.0
    colsample: float = 1.0
    seed: int = 0
    weights: str | None = None
    scale_pos_weight: float = 1.0
    monotone: dict[str, int] = msgspec.field(default_factory=dict)
    validation: float = 0.0
    early_stopping: int | None = None
    intervals: tuple[float, ...] | None = None
    intercepts: bool = False
    base_score: float | None = None
    bits: int | None = None
    splits: str = BEST
    batch: int | None = None
    rho: float | None = None
    release_anyway: bool = False

    @property
    def trees_per_round(self) -> int:
        """Trees that are learned from the same margins: one where splits are searched, up to 10 where they are drawn, fewer where
        their steps would add up to more than one."""
        if self.splits != RANDOM:
            return 1
        return self.batch or max(1, min(USUAL_BATCH, self.rounds or USUAL_BATCH, int(FULL_STEP / self.learning_rate)))

    @property
    def step(self) -> float:
        """max_delta_step: xgboost's default is 0.7 for counts, none otherwise."""
        if self.max_delta_step is not None:
            return self.max_delta_step
        return POISSON_STEP if self.objective == POISSON else 0.0

    def columns(self) -> tuple[str, ...]:
        """Outcome, time and weight must be known; covariates may be missing."""
        return tuple(name for name in (self.outcome, self.time, self.weights) if name)

    def reads(self) -> tuple[str, ...]:
        return (*self.columns(), *self.covariates)

    def at_most(self) -> bool:
        return self.rounds is None or self.early_stopping is not None

    def target(self, dictionary: Dictionary, n: int) -> Target:
        """n : patients."""
        ends = _ends(self, dictionary)
        bits = self.bits or usual_bits(self.objective, n * dictionary.most_rows * (len(ends) if self.objective == HAZARD else 1))
        return Target(self.objective, self.outcome, self.time, ends, self.weights, self.scale_pos_weight, self.step,
                      bits, 0.0, self.seed, self.validation, self.subsample, self.intercepts, self.trees_per_round)

    def population(self) -> Population:
        return Population.of(self.columns(), weights=self.weights)

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        if self.objective == HAZARD and self.time:
            outcome = by_times(self.outcome, self.time, self.target(dictionary, 1).ends[-1:])
        else:
            outcome = classes(dictionary, (self.outcome,))
        others = [name for name in self.reads() if name != self.outcome]
        settings = msgspec.json.encode(self, order="deterministic").decode()
        return (Trees(self.population(), self.covariates, (*outcome, *classes(dictionary, others)), settings),)

    def check(self, dictionary: Dictionary) -> None:
        _check_objective(self, dictionary)
        _ends(self, dictionary)
        _check_numbers(self)
        _check_splits(self)
        _check_noise(self, dictionary)
        if self.rounds is None and not chooses(self.objective, self.splits, self.early_stopping):
            raise QuestionError("this model's number of trees cannot be chosen by cross-validation", hint="say rounds=100")
        if not self.covariates or len(self.covariates) > MOST_COVARIATES:
            raise QuestionError(f"a model takes 1 to {MOST_COVARIATES} covariates, not {len(self.covariates)}")
        if set(self.covariates) & set(self.columns()) or len(set(self.covariates)) < len(self.covariates):
            raise QuestionError("a covariate is named twice, or is also the outcome, the time or the weight",
                                hint="leave it out of the covariates")
        names = {one.name: one for one in columns(dictionary, self.covariates)}
        for name, way in self.monotone.items():
            if way not in (-1, 0, 1) or (name not in names and name not in self.covariates):
                raise QuestionError(f'monotone: "{name}" with {way} is no covariate with -1, 0 or 1', hint='such as monotone={"edss": 1}')
            if name in self.covariates and dictionary[name].type == "category":
                raise QuestionError(f'monotone: "{name}" is a category: its levels have no order',
                                    hint="name one level's column, such as " + ", ".join(one for one in list(names)[:3]))
        if self.weights:
            weight = dictionary.numeric(self.weights)
            if weight.low < 0 or not weight.high > 0:
                raise QuestionError(f'"{self.weights}" may be negative: a weight is at least 0', hint="set its range in the dictionary")


def chooses(objective: str, splits: str, early_stopping: int | None) -> bool:
    """Whether the number of trees can be chosen by cross-validation: there is a loss that adds up over patients (a partial likelihood
    does not), splits are searched, and nobody asked for another way of stopping."""
    return objective != COX and splits == BEST and not early_stopping


def _check_objective(params: BoostParams, dictionary: Dictionary) -> None:
    if params.objective not in OBJECTIVES:
        raise QuestionError(f'there is no objective "{params.objective}"', hint="objectives are: " + ", ".join(OBJECTIVES))
    outcome = dictionary[params.outcome]
    if params.objective in (COX, HAZARD):
        if not params.time:
            raise QuestionError(f"{params.objective} needs a follow-up time", hint='add time="...", a number with cut points')
        check_survival(dictionary, params.time, params.outcome, ())
        if params.objective == COX and (params.weights or params.scale_pos_weight != 1 or params.early_stopping or params.intercepts):
            raise QuestionError("survival:cox takes no weights, intercepts or early stopping here", hint=f'use objective="{HAZARD}"')
        if params.intervals is not None and params.objective == COX:
            raise QuestionError("intervals are for hazard:logistic", hint="survival:cox uses the registered grid of the time")
        return
    if params.time or params.intervals is not None:
        raise QuestionError(f"{params.objective} has no follow-up time", hint=f'use objective="{HAZARD}" or "{COX}"')
    if params.objective == LOGISTIC and not _is_yes_or_no(outcome):
        raise QuestionError(f'"{outcome.name}" is of type {outcome.type}: {LOGISTIC} predicts a boolean, or 0 and 1',
                            hint='for a number use objective="reg:squarederror"')
    if params.objective in (SQUARED, POISSON):
        dictionary.numeric(params.outcome)
        if params.objective == POISSON and outcome.low < 0:
            raise QuestionError(f'"{outcome.name}" may be negative: {POISSON} predicts counts')
    if params.scale_pos_weight != 1 and params.objective != LOGISTIC:
        raise QuestionError("scale_pos_weight is for binary:logistic")


def _check_numbers(params: BoostParams) -> None:
    for name, low, high in (("rounds", 1, MOST_ROUNDS), ("max_depth", 1, DEEPEST), ("bins", 2, MOST_BINS), ("learning_rate", 1e-6, 1.0),
                            ("reg_lambda", 0, 1e6), ("reg_alpha", 0, 1e6), ("gamma", 0, 1e6), ("min_child_weight", 0, 1e9),
                            ("max_delta_step", 0, 1e6), ("subsample", 0.01, 1), ("colsample", 0.01, 1), ("validation", 0, 0.5),
                            ("early_stopping", 1, MOST_ROUNDS), ("scale_pos_weight", 1e-6, 1e6), ("bits", 4, MOST_BITS),
                            ("seed", 0, 2**53), ("batch", 1, MOST_BATCH), ("rho", 1e-4, 100)):
        value = getattr(params, name)
        if value is not None and not low <= value <= high:
            raise QuestionError(f"{name} is {value:g}: it lies between {low:g} and {high:g}")
    if params.early_stopping and not params.validation:
        raise QuestionError("early stopping needs patients that are held out", hint="add validation=0.2")
    if params.base_score is not None and params.objective in (LOGISTIC, HAZARD) and not 0 < params.base_score < 1:
        raise QuestionError("base_score is a probability here: between 0 and 1")


def _check_splits(params: BoostParams) -> None:
    if params.splits not in (BEST, RANDOM):
        raise QuestionError(f'splits is "{params.splits}": they are "{BEST}", searched in histograms, or "{RANDOM}", drawn beforehand')
    if params.splits == BEST:
        if params.batch not in (None, 1):
            raise QuestionError("trees are learned in batches only where their splits are known beforehand",
                                hint=f'add splits="{RANDOM}", or leave out batch')
        return
    if params.batch and params.batch * params.learning_rate > FULL_STEP:
        raise QuestionError(f"batch times learning_rate is {params.batch * params.learning_rate:g}: the trees of a batch see the same "
                            "margins and together may take one full step", hint="make it at most 1")
    if params.monotone or params.gamma:
        raise QuestionError("random splits are not chosen by their gain: there is no gamma and no monotone",
                            hint=f'leave these out, or use splits="{BEST}"')


def _check_noise(params: BoostParams, dictionary: Dictionary) -> None:
    if params.rho is None:
        return
    if params.splits != RANDOM or params.objective != LOGISTIC:
        raise QuestionError(f'noise is for {LOGISTIC} with splits="{RANDOM}"', hint="leave out rho")
    if params.weights or params.scale_pos_weight != 1 or dictionary.most_rows > 1:
        raise QuestionError("noise is for patients who all count once, in one row", hint="leave out weights and scale_pos_weight, or rho")
    if params.intercepts:
        raise QuestionError("a registry's own intercept has no noise: each of its patients would move the gradients of all others",
                            hint="leave out intercepts, or rho")
    if params.early_stopping:
        raise QuestionError("with noise the number of trees is fixed beforehand: each costs a share of the budget",
                            hint="leave out early_stopping, or rho")
    if params.bits is not None and params.bits < FEWEST_BITS:
        raise QuestionError(f"noise needs gradients of at least {FEWEST_BITS} bits", hint="leave out bits")


def _is_yes_or_no(variable: Variable) -> bool:
    return variable.type == "boolean" or (variable.is_numeric and variable.ends == (0.0, 1.0) and variable.steps == 1)


def _ends(params: BoostParams, dictionary: Dictionary) -> tuple[float, ...]:
    """The ends of the grid intervals: the whole registered grid for Cox; for hazards those named, or up to 12 of it."""
    if not params.time:
        return ()
    grid = dictionary.grid(params.time)
    if params.objective == COX:
        if len(grid) > MOST_GRID:
            raise QuestionError(f'"{params.time}" has a grid of {len(grid)} intervals: at most {MOST_GRID} here',
                                hint=f'add coarser cut points to "{params.time}" in the dictionary')
        return grid
    if params.intervals is None:
        return grid[-(-len(grid) // USUAL_INTERVALS) - 1::-(-len(grid) // USUAL_INTERVALS)]
    if not 1 <= len(params.intervals) <= MOST_INTERVALS or any(a >= b for a, b in zip(params.intervals, params.intervals[1:])):
        raise QuestionError(f"intervals are 1 to {MOST_INTERVALS} increasing times")
    ends = [on_grid(grid, end) for end in params.intervals]
    for end, known in zip(params.intervals, ends):
        if known is None:
            raise QuestionError(f'{end:g} is not on the registered grid of "{params.time}"',
                                hint="the grid is " + ", ".join(f"{one:g}" for one in grid[:12]) + (", ..." if len(grid) > 12 else ""))
    return tuple(end for end in ends if end is not None)
