"""Newton's method in the joint half: the iteration that all likelihood models share, bit-identical at every registry.

How this works: the generator yields one ask per round, is sent its totals, and solves for the next coefficients with `steady`
only. A step that lowers the likelihood is halved. When a step has become small the next ask is the `last` one: it also
collects what inference needs; one more Newton step, computed from its totals without another round, ends the fit. (With
quadratic convergence a step of 1e-4 leaves an error of about 1e-8 before and 1e-16 after that last step.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ...crypto import seal
from ...data.dictionary import Dictionary
from ...errors import FedstatsError, NotConverged, QuestionError
from ...formula.terms import INTERCEPT
from ...query import rounds
from ...query.analysis import Setting
from ...sums import steady
from ...sums.statistic import Ask, Layout, Sums
from .coefficients import Cost

NEAR, SETTLED = 1e-4, 2e-8      # largest change of a scaled coefficient: before the last ask, and at it
LONGEST_STEP = 4.0              # of a scaled coefficient in one round
NOISE = 1e-9                    # of the log likelihood: a drop below it is rounding
MOST_ROUNDS = 25
USUAL_STEPS = 4                 # of a fit that starts from the registries' own fits
RUNS_AWAY = 8.0                 # a scaled coefficient beyond it that still moves is taken to grow without limit

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """The totals of one round as Newton's method needs them.

    likelihood, score : at the current point. matrices : negative Hessians, best first; the first that is positive definite is used.
    """

    likelihood: float
    score: Sequence[float]
    matrices: Sequence[np.ndarray]


class Watch:
    """Asks that go beside those of an iteration and tell how far its bounds may be drawn in. Keeps what it heard."""

    def asks(self, point: Sequence[float]) -> list[Ask]:
        """What to ask about a point; nothing where nothing is to be watched."""
        return []

    def heard(self, point: Sequence[float], totals: Sequence[Sums]) -> None:
        """Take note of the answers."""


NOTHING = Watch()


@dataclass(frozen=True)
class Problem:
    """What is to be maximised.

    names : of the parameters. ask(point, last) : the question of a round. read(point, totals) : what the answer says.
    feasible(point) : whether the point may be asked about. penalty : ridge per parameter, 0.5 * penalty * x^2 is taken away.
    beside(point, matrix) : what to ask beside the last ask; matrix is the latest expected information. watch : what to ask beside the
    others, and before the first.
    """

    names: Sequence[str]
    ask: Callable[[Sequence[float], bool], Ask]
    read: Callable[[Sequence[float], Sums], Reading]
    dictionary: Dictionary
    penalty: Sequence[float] = ()
    feasible: Callable[[Sequence[float]], bool] = lambda point: True
    linear: bool = False        # the start is exact: ask at once for everything
    beside: Callable[[Sequence[float], np.ndarray], list[Ask]] | None = None
    watch: Watch = NOTHING


@dataclass(frozen=True)
class Fit:
    """Where the iteration ended. point : final. at : where the last totals were taken. totals, reading, layout : of the last ask.
    rounds : Newton steps. beside : totals of what was asked beside the last ask."""

    point: tuple[float, ...]
    at: tuple[float, ...]
    totals: Sums
    reading: Reading
    layout: Layout
    rounds: int
    beside: tuple[Sums, ...] = ()


def settle(problem: Problem, start: Sequence[float], *, matrix: np.ndarray | None = None, most_rounds: int = MOST_ROUNDS
           ) -> Generator[list[Ask], list[Sums], Fit]:
    """Maximise the likelihood from a start. matrix : the information there, if it is known.

    Raises NotConverged or QuestionError naming the parameter and the remedy.
    """
    point, last = [float(one) for one in start], problem.linear or not len(start)
    penalty = list(problem.penalty) or [0.0] * len(point)
    best: tuple[list[float], float] | None = None
    step: list[float] = [0.0] * len(point)
    first = problem.watch.asks(point)
    if first:
        problem.watch.heard(point, (yield first))
    for done in range(1, most_rounds + 1):
        ask = problem.ask(point, last)
        try:
            layout = ask.layout(problem.dictionary)     # whether its sums can be carried at all
        except QuestionError:
            if done == 1:
                raise
            raise _ran_away(problem, point, step, done) from None
        more = problem.beside(point, matrix) if last and problem.beside is not None and matrix is not None else []
        watching = [] if last else problem.watch.asks(point)
        totals, *others = yield [ask, *watching, *more]
        problem.watch.heard(point, others[:len(watching)])
        beside = others[len(watching):]
        reading = problem.read(point, totals)
        matrix = reading.matrices[-1]
        value = reading.likelihood
        for x, weight in zip(point, penalty):
            value -= 0.5 * weight * x * x
        if best is not None and value < best[1] - NOISE * (1 + abs(best[1])):
            point, last = [(a + b) / 2 for a, b in zip(best[0], point)], False
            continue
        step = _step(problem, reading, point, penalty, done)
        size = max((abs(one) for one in step), default=0.0)
        if last and size <= SETTLED:
            return Fit(tuple(a + b for a, b in zip(point, step)), tuple(point), totals, reading, layout, done, tuple(beside))
        best = (point, value)
        factor = LONGEST_STEP / size if size > LONGEST_STEP else 1.0
        following = [a + factor * b for a, b in zip(point, step)]
        while not problem.feasible(following) and factor > 1e-6:
            factor /= 2
            following = [a + factor * b for a, b in zip(point, step)]
        point, last = following, size <= NEAR
    raise _ran_away(problem, point, step, most_rounds)


def _step(problem: Problem, reading: Reading, point: Sequence[float], penalty: Sequence[float], done: int) -> list[float]:
    """The Newton step from the first matrix that can be solved."""
    score = [g - weight * x for g, weight, x in zip(reading.score, penalty, point)]
    if not score:
        return []
    for k, matrix in enumerate(reading.matrices):
        try:
            return steady.solve(penalised(matrix, penalty), score).tolist()
        except steady.Singular as error:
            if k < len(reading.matrices) - 1:
                continue
            if max(abs(x) for x in point) > RUNS_AWAY:
                raise _ran_away(problem, point, score, done) from None
            raise collinear(problem.names[error.column]) from None
    raise AssertionError("a reading has a matrix")


def penalised(matrix: np.ndarray, penalty: Sequence[float]) -> np.ndarray:
    """The information with a ridge penalty per parameter."""
    found = np.array(matrix)
    for k, weight in enumerate(penalty):
        found[k, k] += weight
    return found


def inverse_of(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The inverse of an information matrix, after the last round. Raises QuestionError naming the
    column that follows from others."""
    try:
        return np.asarray(np.linalg.inv(matrix))
    except np.linalg.LinAlgError:
        try:
            return steady.inverse(matrix)
        except steady.Singular as error:
            raise collinear(names[error.column]) from None


def collinear(name: str) -> FedstatsError:
    return QuestionError(f'"{name}" carries no information beside the terms before it: it is the same for everybody, or a combination '
                         "of them", hint=f'leave out "{name}", or widen the cohort; ridge=1 would share the effect out')


def _ran_away(problem: Problem, point: Sequence[float], step: Sequence[float], done: int) -> FedstatsError:
    """Which parameter did not settle: the one that went furthest if it went far, else the one that still moves most."""
    # an intercept runs away when the reference levels of the others have no events: then it is one
    # of these that is to be looked at
    others = [
        k
        for k, name in enumerate(problem.names)
        if name != INTERCEPT and 2 * abs(point[k]) > RUNS_AWAY
    ]
    far = max(others or range(len(point)), key=lambda k: abs(point[k]))
    name = problem.names[far]
    if abs(point[far]) > (RUNS_AWAY / 2 if others else RUNS_AWAY):
        return NotConverged(
            f'the coefficient of "{name}" grows without limit: this term separates those with and without the event, or '
            "has a level (its reference may be one) in which the outcome is always the same",
            hint=f'leave out "{name}", join its levels, or hold coefficients back with ridge=1',
        )
    name = problem.names[max(range(len(step)), key=lambda k: abs(step[k]))] if len(step) else name
    return NotConverged(f'the model did not settle in {done} rounds; "{name}" still moves',
                        hint="often two terms carry the same information: leave one out, or use ridge=1")


def metered(joint: Generator[list[Ask], list[Sums], T], setting: Setting) -> Generator[list[Ask], list[Sums], tuple[T, Cost]]:
    """Drive a generator and count what it takes: rounds, numbers, and the bytes that a registry sends if nothing else is asked."""
    spent = [0, 0, 0]
    try:
        asks = next(joint)
        while True:
            spent[0] += 1
            spent[1] += sum(block.size for ask in asks for block in ask.layout(setting.dictionary).values())
            spent[2] += seal.share_size(rounds.plan(asks, setting.dictionary, max(setting.size.n, 1), setting.registries).chunks)
            asks = joint.send((yield asks))
    except StopIteration as done:
        return done.value, Cost(*spent)


def usual_course(first: list[Ask], step: Callable[[bool], list[Ask]]) -> Generator[list[Ask], list[Sums], None]:
    """What `explain` is told, which drives a joint half with nobody in it: the first round, then the usual number of steps.

    No query comes here: one about nobody does not pass the gate.
    """
    yield first
    for k in range(USUAL_STEPS):
        yield step(k == USUAL_STEPS - 1)
    raise QuestionError("nobody is in this model", hint="widen the filter")
