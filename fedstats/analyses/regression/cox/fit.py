"""Newton's method for a Cox model, on totals: which asks, when to stop, and what to say when it does not settle.

How this works. At every beta one round brings the log likelihood, the score and the information; the next beta follows by a
Newton step. Where the likelihood went down, the step is halved. The first round may also bring the likelihood at beta = 0, which
the tests need. On the grid the information rests on the hazards of the round before (`likelihood.information_near`): the better, the
shorter the steps have become, and the last one is taken with its own hazards (`settled`). A step below 1e-8 standard errors is the
last one: what it leaves is below 1e-16 of them.
All of this decides what is asked next, so it is steady arithmetic (see `steady`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedstats.errors import NotConverged, QuestionError
from fedstats.sums import steady
from fedstats.sums.statistic import Ask, Sums

from ..newton import penalised
from .likelihood import Cells, Point
from .risk import USED_PARTS

LAST_STEP = 1e-8            # standard errors
LEVEL = 1e-9                # relative: the log likelihood may lose so much by rounding without being called worse
LARGEST_SPAN, ROOM = 25.0, 5.0      # of a linear predictor over all values in use: exp(25) is 10^10; and a little further on the way
MOST_HALVINGS = 10
FLAT_GAIN, LONG_STEP = 1e-3, 0.3    # the likelihood hardly rises though log hazards still move: it has no maximum
LARGEST_EFFECT = 10.0       # of a column on the log hazard, over the values that people have
DEVIATIONS = 4.0            # standard deviations from the mean within which nearly all values of a column are
NO_VARIANCE = 1e-12         # of the square of half the range

Asks = Generator[list[Ask], list[Sums], "Fit"]


@dataclass(frozen=True)
class Known:
    """An evaluation that lies behind: its cells, and where that was."""

    beta: Sequence[float]
    cells: Cells


@dataclass(frozen=True)
class Reader:
    """How a model is evaluated. ask : at a beta, given an evaluation before it. read : what the totals say, given the same.
    null : that at 0, where it is known beforehand."""

    ask: Callable[[Sequence[float], Known | None], list[Ask]]
    read: Callable[[list[Sums], Sequence[float], Known | None], tuple[Point, Cells | None]]
    null: Known | None = None


@dataclass(frozen=True)
class Fit:
    """Where a fit ended: the coefficients of the columns in their frame, and the likelihood `at` one step before, as good as there.
    null : at 0."""

    beta: tuple[float, ...]
    at: tuple[float, ...]
    point: Point
    cells: Cells | None
    null: Point
    evaluations: int


def newton(reader: Reader, start: Sequence[float], penalty: Sequence[float], frame: Sequence[Sequence[float]],
           reach: Sequence[float], names: Sequence[str], max_rounds: int) -> Asks:
    """Drive a fit. penalty : minus half of it times beta squared is added to the log likelihood, per column. frame : of the
    columns, see `risk`. reach : how far from the middle each column's values usually are, at most 1 (`reaches`).

    Raises NotConverged, or QuestionError for columns that carry the same information, naming the term.
    """
    p, zero, halved = len(start), (0.0,) * len(start), 0
    beta, before, step, null, known = tuple(start), None, zero, None, reader.null
    for turn in range(1, max_rounds + 1):
        asks = reader.ask(beta, known)
        totals = yield asks + (reader.ask(zero, reader.null) if turn == 1 and any(beta) else [])
        here, cells = _read(reader, totals[:len(asks)], beta, known)
        if turn == 1:
            null, null_cells = _read(reader, totals[len(asks):], zero, reader.null) if any(beta) else (here, cells)
            if _value(here, beta, penalty) < null.loglik:
                beta, here, cells = zero, null, null_cells      # the start is worse than none
        elif before is not None and _value(here, beta, penalty) < before[1] - LEVEL * (1.0 + abs(before[1])):
            halved += 1
            if halved > MOST_HALVINGS:
                raise NotConverged("the likelihood of the model does not rise any more, and is not at its maximum",
                                   hint="leave out terms that carry almost the same information, or add a ridge penalty")
            beta = tuple((a + b) / 2 for a, b in zip(beta, before[0]))
            continue
        halved, value, known = 0, _value(here, beta, penalty), None if cells is None else Known(beta, cells)
        try:
            step, length = newton_step(here, beta, penalty)
        except steady.Singular as error:
            raise _outgrown(beta, reach, names) if span(beta, frame) > LARGEST_SPAN / 2 else collinear(names[error.column]) from None
        if length <= LAST_STEP:
            assert null is not None
            return Fit(tuple(b + s for b, s in zip(beta, step)), beta, here, cells, null, turn)
        far = max(range(p), key=lambda j: (abs(step[j]) * reach[j], -j))
        if before is not None and value - before[1] < FLAT_GAIN and abs(step[far]) * reach[far] > LONG_STEP:
            raise _separated(names[far])
        if span(beta, frame) > LARGEST_SPAN:
            raise _outgrown(beta, reach, names)
        before, beta = (beta, value), tuple(b + s for b, s in zip(beta, step))
        while span(beta, frame) > LARGEST_SPAN + ROOM:
            beta = tuple((a + b) / 2 for a, b in zip(beta, before[0]))
    far = max(range(p), key=lambda j: (abs(step[j]), -j))
    raise NotConverged(f'the model did not settle in {max_rounds} rounds; "{names[far]}" still moves',
                       hint="leave out terms that carry almost the same information, or ask for more with max_rounds")


def settled(fit: Fit, information: np.ndarray, penalty: Sequence[float]) -> Fit:
    """The fit with the information where it ended, if that was only nearly known on the way, and the last step with it. Raises Singular."""
    point = replace(fit.point, information=information)
    step, _ = newton_step(point, fit.at, penalty)
    return replace(fit, beta=tuple(b + s for b, s in zip(fit.at, step)), point=point)


def _read(reader: Reader, totals: list[Sums], beta: Sequence[float], known: Known | None) -> tuple[Point, Cells | None]:
    """The likelihood at beta; minus infinity where the risk sums are too small beside their bound to be carried at all."""
    try:
        return reader.read(totals, beta, known)
    except ValueError:      # the logarithm of a risk that came out as 0
        return Point(-math.inf, np.zeros(len(beta)), np.zeros((len(beta), len(beta)))), None


def span(beta: Sequence[float], frame: Sequence[Sequence[float]]) -> float:
    """The largest linear predictor that a patient may have, in absolute value."""
    return math.fsum([abs(b) * max(-low, high) for b, (_, _, low, high) in zip(beta, frame)])


def _value(here: Point, beta: Sequence[float], penalty: Sequence[float]) -> float:
    """The penalised log likelihood."""
    loss = 0.0
    for b, w in zip(beta, penalty):
        loss += w * b * b
    return here.loglik - loss / 2


def newton_step(here: Point, beta: Sequence[float], penalty: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """The Newton step, and its length in standard errors (the square root of the decrement). Raises Singular."""
    score = [u - w * b for u, w, b in zip(here.score.tolist(), penalty, beta)]
    step = steady.solve(penalised(here.information, penalty), score).tolist()
    return tuple(step), math.sqrt(max(steady.dot(step, score), 0.0))


def collinear(name: str) -> QuestionError:
    return QuestionError(f'"{name}" carries no information beside the other terms and strata: its coefficient cannot be estimated',
                         hint=f'leave out "{name}", or a term that it follows from, or add a ridge penalty')


def _separated(name: str) -> NotConverged:
    return NotConverged(f'the coefficient of "{name}" grows without limit: its level, or its highest or lowest values, have all of the '
                        "events or none (monotone likelihood)",
                        hint=f'join levels of "{name}", leave it out, or add a ridge penalty (ridge=1)')


def _outgrown(beta: Sequence[float], reach: Sequence[float], names: Sequence[str]) -> NotConverged | QuestionError:
    """What to say of coefficients that have become too large: of the largest one."""
    far = max(range(len(beta)), key=lambda j: (abs(beta[j]), -j))
    return _separated(names[far]) if abs(beta[far]) * reach[far] > LARGEST_EFFECT else _too_wide(names[far])


def _too_wide(name: str) -> QuestionError:
    return QuestionError(f'the range of "{name}" in the dictionary is so wide that hazards might differ by more than exp({LARGEST_SPAN:g})',
                         hint=f'give what "{name}" is made of a narrower range in the dictionary, or take its logarithm')


def frame_of(totals: Sums) -> tuple[tuple[float, float, float, float], ...]:
    """The frame of the columns (see `risk`): mean, half the width of what is used, and its ends as seen from there."""
    found = []
    w = float(totals["w"]) or 1.0
    for x, used in zip(totals["x"].tolist(), totals["used"].tolist()):
        parts = [k for k, count in enumerate(used) if count] or [0, USED_PARTS - 1]
        low, high = 2.0 * parts[0] / USED_PARTS - 1.0, 2.0 * (parts[-1] + 1) / USED_PARTS - 1.0
        shift, scale = min(max(x / w, low), high), (high - low) / 2
        found.append((shift, scale, (low - shift) / scale, (high - shift) / scale))
    return tuple(found)


def reaches(totals: Sums, frame: Sequence[Sequence[float]], low: Sequence[float], high: Sequence[float]) -> tuple[float, ...]:
    """How far from the middle the values of each column in its frame are: as far as can be for 0 and 1, else some standard deviations."""
    w = float(totals["w"]) or 1.0
    square = steady.unpack(totals["xx"], len(frame))
    found = []
    for j, (shift, scale, _, _) in enumerate(frame):
        variance = max(float(square[j, j]) / w - shift * shift, 0.0)
        found.append(1.0 if (low[j], high[j]) == (0.0, 1.0) else min(1.0, DEVIATIONS * math.sqrt(variance) / scale))
    return tuple(found)


def check_columns(totals: Sums, low: Sequence[float], high: Sequence[float], names: Sequence[str], ridge: bool) -> None:
    """Whether every column varies, and every level has some of the events, but not all. Raises QuestionError or NotConverged."""
    w, x, events, events_x = float(totals["w"]), totals["x"].tolist(), float(totals["events_w"]), totals["events_x"].tolist()
    square = steady.unpack(totals["xx"], len(x))
    for j, name in enumerate(names):
        mean = x[j] / w
        if not float(square[j, j]) / w - mean * mean > NO_VARIANCE:
            raise QuestionError(f'"{name}" is the same for everybody, or nearly so for the range that the dictionary gives it: its '
                                "coefficient cannot be estimated", hint=f'leave out "{name}", or give it a narrower range')
        # a level's indicator is -1 or 1 on the scale of the fit
        is_level = (low[j], high[j]) == (0.0, 1.0)
        if is_level and not ridge and not NO_VARIANCE * events < (events_x[j] / events + 1) / 2 < 1 - NO_VARIANCE:
            raise NotConverged(f'"{name}" has none of the events, or all of them: its coefficient has no finite estimate',
                               hint="join levels, leave the term out, or add a ridge penalty (ridge=1)")


def start_of(totals: Sums, frame: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The average of the registries' own fits, weighted by their information, in the frame; zeros where it cannot be had."""
    p = len(frame)
    if not int(totals["fits"]):
        return (0.0,) * p
    try:
        found = steady.solve(steady.unpack(totals["information"], p), totals["weighted"]).tolist()
    except steady.Singular:
        return (0.0,) * p
    start = tuple(b * scale for b, (_, scale, _, _) in zip(found, frame))
    return start if span(start, frame) <= LARGEST_SPAN else (0.0,) * p
