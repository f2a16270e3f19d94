"""How many trees: chosen by cross-validation under the seal, where nobody names a number.

How this works. Patients are dealt into folds by a hash; a model of each fold is grown on all others, all side by side in the same rounds,
and every few trees the loss on the patients that each has not seen is summed. Fewer trees than are right leave risks too close together;
more learn the patients instead of the disease, and risks are too far apart. So for a yes or no growth ends where the risks of patients
not seen are spread as they should be, at a calibration slope of 1: near there the held-out loss is smallest too, but flat, and its
minimum is a matter of chance. For numbers the smallest loss decides, once it has not fallen for a while. Rules allow one leaf for every
five patients, so where patients are few the steps are longer.

Nothing of the fold models is released. What they say of those they have not seen also tells whether the model knows anything: one that
tells those with the outcome from those without no better than chance is not released, unless that is asked for (`release_anyway`).

Friedman (2001), Annals of Statistics 29:1189-1232, section 5, for small steps and a number of them from held-out patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ...disclosure import Rules
from ...errors import Refused
from ...query.analysis import Setting, Size, abreast
from ...sums import steady
from ...sums.statistic import INDICATORS, Ask, Sums
from ..shared.common import CONFIDENCE
from ..shared.folds import fold_sizes, of_fold, outside
from ..shared.scores import BINS, CENTRES, EDGES, auc_interval, recalibrate
from .objectives import HAZARD, LOGISTIC
from .params import BoostParams
from .rules import MOST_LEVELS, PATIENTS_PER_LEAF
from .training import Fit, Stopping, Training

FOLDS = 5
MOST_TREES = 500            # that are tried
EVERY = 5                   # trees between two looks at the held-out loss: one more round each
PATIENCE = 30               # trees without a smaller loss, after which growth ends
JOURNEY = 5.0               # trees times learning rate that must be possible: less would end before the loss does
LARGEST_STEP = 0.3          # learning rate at most, however few trees rules allow
NEWTON_STEPS, SETTLED, FARTHEST, SINGULAR = 30, 1e-8, 500.0, 1e-10
NOT_RELEASED = "release_anyway=True releases it nevertheless"

Totals = Generator[list[Ask], list[Sums], Any]


@dataclass
class Choice:
    """What was chosen. params : with the number of trees and the learning rate. runs, fits : of the folds, with so many trees.
    people : patients per fold. cells : of those held out, people without and with the outcome per bin of the margin, where that counts."""

    params: BoostParams
    runs: list[Training]
    fits: list[Fit]
    people: list[int]
    cells: np.ndarray | None = None


def choose(params: BoostParams, setting: Setting) -> Totals:
    """Choose the number of trees. Raises Refused where a fold would hold too few, and where no tree makes the loss smaller."""
    (sizes,) = yield [fold_sizes(columns=list(params.columns()), seed=params.seed, folds=FOLDS)]
    people = [int(one) for one in sizes["people"]]
    if setting.size.n:      # nobody: `explain` wants to know what would be asked
        check_folds(sizes, setting.rules, "say how many trees: rounds=..., or widen the cohort")
    most = most_trees(setting.rules, params.max_depth, sum(people))
    params = msgspec.structs.replace(params, rounds=most, learning_rate=step(params.learning_rate, most))
    runs = [Training(params, _without(setting, sum(people) - one)) for one in people]
    yield from _side_by_side(params, [run.begin() for run in runs])
    fits, best = yield from (_grow if setting.size.n else _at_most)(params, runs, most)
    if best == 0:
        if not params.release_anyway:
            raise Refused("no tree makes the risks of patients whom it has not seen better than the mean of all: these covariates tell "
                          "nothing about the outcome here", hint=f"take other covariates, or widen the cohort; {NOT_RELEASED}")
        best = 1
    fits = [_first(fit, best) for fit in fits]
    chosen = Choice(msgspec.structs.replace(params, rounds=max(best, 1)), runs, fits, people)
    if params.objective in (LOGISTIC, HAZARD) and setting.size.n:
        _, chosen.cells = yield from _held(params, runs, fits)
    return chosen


def check_folds(totals: Sums, rules: Rules, hint: str) -> None:
    """Each fold must be a cohort of its own: the totals of two folds' models differ by its patients. totals : of `fold_sizes`."""
    least, people, there = max(rules.min_cohort, rules.min_cell), totals["people"], totals["people" + INDICATORS]
    if int(people.min()) < (least if rules.min_cell > 1 else 1) or int(there.min()) < rules.min_registries:
        raise Refused(f"a fold would hold fewer than {least} patients, or patients of fewer than {rules.min_registries} registries "
                      "(rules min_cohort, min_registries)", hint=hint)


def most_trees(rules: Rules, depth: int, n: int) -> int:
    """So many trees of this depth may be released about n patients."""
    if rules.min_cell <= 1 or not n:
        return MOST_TREES
    return max(1, min(MOST_TREES, n // (PATIENTS_PER_LEAF * 2**depth), MOST_LEVELS // depth))


def step(rate: float, most: int) -> float:
    """The learning rate: longer where few trees are allowed."""
    return max(rate, min(LARGEST_STEP, JOURNEY / most))


def check_knows(chosen: Choice, params: BoostParams) -> None:
    """Whether the model tells those with the outcome from those without, by the patients whom its fold models had not seen. After the last
    ask only: a logarithm decides. Raises Refused."""
    if chosen.cells is None or params.release_anyway:
        return
    without, with_ = chosen.cells
    if not (without.sum() and with_.sum()):
        return
    area, again = auc_interval(without, with_, CONFIDENCE), recalibrate(without, with_, CONFIDENCE)
    if (area.low or 0.0) <= 0.5 or again is None or (again[1].low or 0.0) <= 0:
        raise Refused("the model cannot be told from one that knows nothing: in patients whom it had not seen, those with the outcome "
                      "had no higher risks than the others, beyond chance", hint=f"take other covariates, or widen the cohort; "
                      f"{NOT_RELEASED}")


# -- growing side by side -----------------------------------------------------------------------------------------------------------


def _without(setting: Setting, n: int) -> Setting:
    return Setting(setting.dictionary, setting.rules, setting.registries, Size(n))


def _side_by_side(params: BoostParams, halves: Sequence[Totals]) -> Totals:
    """Each of the halves on the patients outside of its fold."""
    found = yield from abreast([outside(half, params.seed, FOLDS, k) for k, half in enumerate(halves)])
    return found


def _grow(params: BoostParams, runs: Sequence[Training], most: int) -> Totals:
    """The fold models, and the number of trees that is right for those held out; 0 where none makes their loss smaller."""
    fits, stopping, spread = [Fit([], [], []) for _ in runs], Stopping(PATIENCE), Spread()
    for t in range(most + 1):
        if _looks(t, most):
            loss, cells = yield from _held(params, runs, fits)
            stopped = stopping.judge(t, loss)
            if spread.judge(t, cells) or stopped:
                break
        if t < most:
            fits = yield from _side_by_side(params, [run.one_tree(fit, t) for run, fit in zip(runs, fits)])
    best = stopping.best_at
    return fits, spread.best_at if best and spread.best_at else best


def _at_most(params: BoostParams, runs: Sequence[Training], most: int) -> Totals:
    """The same of nobody: all trees that may be grown, as `explain` tells the most that would be asked.

    Every tree asks for as much as the first, so that is asked again.
    """
    fits = [Fit([], [], []) for _ in runs]
    rounds: list[list[Ask]] = []
    for t in range(most + 1):
        if _looks(t, most):
            yield from _held(params, runs, fits)
        if t == 0:
            first = _side_by_side(params, [run.one_tree(fit, t) for run, fit in zip(runs, fits)])
            fits = yield from _kept(first, rounds)
        elif t < most:
            for asks in rounds:  # noqa: UP028  (a list cannot be sent totals)
                yield asks
    return fits, most


def _kept(half: Totals, rounds: list[list[Ask]]) -> Totals:
    """What a joint half returns; its asks are added to `rounds`."""
    totals = None
    while True:
        try:
            asks = next(half) if totals is None else half.send(totals)
        except StopIteration as end:
            return end.value
        rounds.append(asks)
        totals = yield asks


def _looks(trees: int, most: int) -> bool:
    """Whether the loss of so many trees is looked at."""
    return trees % EVERY == 0 or trees in (1, most)


class Spread:
    """The number of trees at which the calibration slope comes nearest to 1, from above, as trees are added."""

    def __init__(self) -> None:
        self.best_at, self.nearest = 0, math.inf

    def judge(self, trees: int, cells: np.ndarray | None) -> bool:
        """Whether to stop, now that the model of so many trees has these people without and with the outcome per bin."""
        slope = None if cells is None or not trees else slope_of(cells[0].tolist(), cells[1].tolist())
        if slope is None:
            return False
        if abs(slope - 1.0) < self.nearest:
            self.best_at, self.nearest = trees, abs(slope - 1.0)
        return slope <= 1.0


def slope_of(without: Sequence[int], with_: Sequence[int]) -> float | None:
    """The calibration slope: see `scores.recalibrate`. In steady arithmetic, as it decides whether one more tree is asked for. None where
    all margins lie in one bin, or no finite answer exists."""
    there = [(x, float(b), float(a + b)) for x, a, b in zip(CENTRES.tolist(), without, with_) if a + b]
    intercept, slope = 0.0, 1.0
    for _ in range(NEWTON_STEPS):
        p = [1.0 / (1.0 + steady.exp(min(FARTHEST, -(intercept + slope * x)))) for x, _, _ in there]
        w = [n * one * (1.0 - one) for one, (_, _, n) in zip(p, there)]
        left = [y - n * one for one, (_, y, n) in zip(p, there)]
        first = [v * x for v, (x, _, _) in zip(w, there)]
        sums = [math.fsum(w), math.fsum(first), math.fsum(v * x for v, (x, _, _) in zip(first, there))]
        score = [math.fsum(left), math.fsum(v * x for v, (x, _, _) in zip(left, there))]
        determinant = sums[0] * sums[2] - sums[1] * sums[1]
        if not determinant > SINGULAR * sums[0] * sums[2]:
            return None
        moved = ((sums[2] * score[0] - sums[1] * score[1]) / determinant, (sums[0] * score[1] - sums[1] * score[0]) / determinant)
        intercept, slope = intercept + moved[0], slope + moved[1]
        if abs(intercept) + abs(slope) > FARTHEST:
            return None
        if abs(moved[0]) + abs(moved[1]) < SETTLED:
            return slope
    return None


def _held(params: BoostParams, runs: Sequence[Training], fits: Sequence[Fit]) -> Totals:
    """The mean loss on those held out, and for a yes or no people without and with it per bin of the margin."""
    edges = EDGES if params.objective in (LOGISTIC, HAZARD) else ()
    totals = yield [_inside(params, k, run.loss_ask(fit, held=False, edges=edges)) for k, (run, fit) in enumerate(zip(runs, fits))]
    parts = [run.loss_of(found, fit) for run, fit, found in zip(runs, fits, totals)]
    loss = math.fsum(one for one, _ in parts) / (math.fsum(weight for _, weight in parts) or 1.0)
    return loss, np.sum([one["people"] for one in totals], axis=0).reshape(2, BINS) if edges else None


def _inside(params: BoostParams, fold: int, one: Ask) -> Ask:
    make: Callable[..., Ask] = of_fold
    return make(seed=params.seed, folds=FOLDS, fold=fold, inside=True, statistic=one.statistic, params=one.params)


def _first(fit: Fit, trees: int) -> Fit:
    return Fit(fit.texts[:trees], fit.leaves[:trees], fit.grown[:trees], fit.merged)
