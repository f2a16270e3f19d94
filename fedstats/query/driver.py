"""A whole query as one generator: round 0, the gate, all joint halves side by side, rounding.

It yields the asks of each round and is sent back the totals over all registries. Every world runs this same generator:
`pooled` answers it from rows, the nodes from sealed totals (each its own copy, in lockstep), `explain` from zeros.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..disclosure import NO_RULES, Rules, gate, may_count, safe
from ..disclosure.engine import Engine, Names
from ..disclosure.precision import rounded
from ..disclosure.release import Declared, Population, population_of
from ..errors import QuestionError, as_error
from ..sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from ..version import __version__
from .analysis import (
    ANALYSES,
    Failed,
    Joint,
    Params,
    Question,
    Result,
    Setting,
    Size,
    Step,
    kind_of,
    read_result,
    together,
)
from .population import Recipe

Totals = list[Sums]
MOST_QUESTIONS = 50
ONE_REGISTRY = "Each patient is assumed to be in one registry only."


@statistic("flow/1", layout=lambda dictionary, *, steps: {"through": Block((len(steps),), counts=True)}, alone=True)
def flow(rows: Rows, steps: Sequence[str]) -> dict:
    """How many patients came through each step to the cohort. Adds up over registries: the steps before the cohort have no rows here."""
    return {"through": rows.flow or [0] * len(steps)}


def check_questions(questions: Sequence[Question], dictionary: Dictionary) -> list[Params]:
    """The typed parameters of all questions, or the QuestionError that says why they cannot be asked of this dictionary."""
    if not 1 <= len(questions) <= MOST_QUESTIONS:
        raise QuestionError(f"a query holds 1 to {MOST_QUESTIONS} questions, not {len(questions)}")
    found = []
    for question in questions:
        params = question.read()
        for name in params.columns():
            dictionary[name]
        if dictionary.most_rows > 1 and not params.episodes:
            raise QuestionError(f"{question.analysis.partition('/')[0]} takes one row per patient, and this cohort has up to "
                                f"{dictionary.most_rows}", hint="ask it of a cohort with one time zero per patient")
        params.check(dictionary)
        found.append(params)
    return found


def engine(questions: Sequence[Question], params: Sequence[Params], recipe: Recipe, rules: Rules) -> Engine:
    """What decides on these questions, from what each declares."""
    declared = tuple(one.shows(recipe.dictionary) for one in params)
    kinds = tuple(one.analysis.partition("/")[0] for one in questions)
    return Engine(declared, recipe.dictionary, rules, Names(kinds), _conditional(declared, recipe))


def _conditional(declared: Sequence[Sequence[Declared]], recipe: Recipe) -> dict[int, Population]:
    """For questions with a column that only some people can have (days until an event was confirmed),
    their population without that condition: {question: population}."""
    found, conditional = {}, recipe.conditional
    for k, one in enumerate(declared):
        known = population_of(one).known
        if set(known) & set(conditional):
            found[k] = Population.of(name for name in (conditional.get(each, each) for each in known) if name)
    return found


def first_asks(decides: Engine, recipe: Recipe) -> list[Ask]:
    """Round 0: the sizes, the flow where the recipe has one, and how the groups that the questions show overlap."""
    sizes, levels, *overlaps = decides.asks()
    return [sizes, levels, *([flow(steps=recipe.steps)] if recipe.steps else []), *overlaps]


def query(
    questions: Sequence[Question],
    recipe: Recipe,
    rules: Rules,
    registries: int,
    faults: list[str] | None = None,
) -> Generator[list[Ask], Totals, list[Result]]:
    """Drive all questions of one query; returns one result per question, a `Failed` where one could not be answered.

    recipe : see `population`. faults : takes a line for the log per fault of the software. Raises
    Refused if the cohort as a whole does not pass the gate: then no round but round 0 has been
    opened.
    """
    dictionary = recipe.dictionary
    params = check_questions(questions, dictionary)
    decides = engine(questions, params, recipe, rules)
    first, occupied, *overlapping = yield first_asks(decides, recipe)
    through = overlapping.pop(0) if recipe.steps else None
    vacant = decides.vacant(occupied)
    gate(int(first["cohort"]), int(first["cohort" + INDICATORS]), rules)
    sizes = _sizes(first, decides.populations[:len(params)], rules)
    sizes = [_in_order(one, each.columns()) for one, each in zip(sizes, params)]
    if through is not None:
        known = [int(first["cohort"]), *(one.n for one in sizes)]
        steps = _shown_flow(recipe.steps, through["through"], through["through" + INDICATORS], known, rules)
        sizes = [msgspec.structs.replace(one, flow=steps) for one in sizes]

    refusals = decides.verdicts(first, overlapping)

    def joint(k: int) -> Generator[list[Ask], Totals, Result]:
        if (refusal := refusals[k]) is not None:
            raise refusal
        setting = Setting(dictionary, rules, registries, sizes[k], vacant)
        result = yield from _laid_out(
            ANALYSES[questions[k].analysis].joint(params[k], setting), dictionary
        )
        return finish(result, rules, registries, recipe.sentence())

    results = yield from together(
        [(question, joint(k)) for k, question in enumerate(questions)], faults
    )
    if all(isinstance(result, Failed) for result in results) and len(results) == 1:
        raise as_error(results[0].problem)  # type: ignore[union-attr]
    return [
        finish(result, rules, registries) if isinstance(result, Failed) else result
        for result in results
    ]


def _laid_out(joint: Joint, dictionary: Dictionary) -> Joint:
    """The same joint half; an ask that cannot be carried, such as one with too many numbers, is its
    fault alone."""
    try:
        asks = next(joint)
        while True:
            for ask in asks:
                ask.layout(dictionary)
            asks = joint.send((yield asks))
    except StopIteration as done:
        return done.value


def _in_order(one: Size, columns: Sequence[str]) -> Size:
    """The columns with gaps in the order in which the question names them."""
    return msgspec.structs.replace(one, missing={name: one.missing[name] for name in columns})


def _sizes(first: Sums, populations: Sequence[Population], rules: Rules) -> list[Size]:
    """The size of each question. Counts of missing values are shown only if, over the whole query, each is safe: one column
    without gaps would otherwise give the cohort's size, and with it the small number missing in another."""
    sets = [one.known for one in populations]
    cohort, complete, present = int(first["cohort"]), first["complete"].tolist(), first["present"].tolist()
    known = {frozenset([name]): count for name, count in zip((name for columns in sets for name in columns), present)}
    shown = _gaps_are_safe(cohort, known | dict(zip(map(frozenset, sets), complete)), rules)
    found, place = [], 0
    for n, columns in zip(complete, sets):
        missing = {name: cohort - known if shown else None for name, known in zip(columns, present[place:])}
        found.append(Size(n, cohort - n if shown else None, cohort if shown else None, missing))
        place += len(columns)
    return found


def _gaps_are_safe(cohort: int, known: dict[frozenset[str], int], rules: Rules) -> bool:
    """Whether the numbers of missing values single out nobody: neither those who lack something, nor those who lack one thing
    and have another, nor those who lack both. known : patients who have all columns of a set.
    """
    for here, n in known.items():
        for there, m in known.items():
            both = known.get(here | there)
            if both is not None and not all(safe(count, rules) for count in (cohort - n, n - both, m - both, cohort - n - m + both)):
                return False
    return True


def _shown_flow(steps: Sequence[str], through: np.ndarray, contributors: np.ndarray, known: Sequence[int], rules: Rules
                ) -> tuple[Step, ...]:
    """The flow, without counts that single somebody out: each is shown only if it, and its difference from every number shown so far,
    is safe. known : numbers that the result shows anyway."""
    shown, found = list(known), []
    for step, count, registries in zip(steps, through.tolist(), contributors.tolist()):
        fine = may_count(count, rules, registries) and all(safe(abs(count - other), rules) for other in shown)
        shown += [count] if fine else []
        found.append(Step(step, count if fine else None))
    return tuple(found)


def finish(result: Result, rules: Rules, registries: int, cohort: str = "") -> Result:
    """The result as it may leave: rounded, with the rules and the assumptions it rests on. cohort : a sentence about it."""
    if rules.rounding:
        result = rounded(result.told(), result.n)
    content = msgspec.to_builtins(result)
    content |= {"kind": kind_of(result), "registries": registries, "rules": rules.sentence()}
    if not isinstance(result, Failed):
        notes = list(result.notes)
        if result.size.n_missing is None and rules != NO_RULES:
            notes.append(f"numbers of missing values are not shown: at least one is below {rules.min_cell} (rule min_cell)")
        content |= {"notes": [*notes, ONE_REGISTRY],
                    "methods": f"{result.methods} {cohort}{' ' if cohort else ''}Computed over {registries} registries with fedstats "
                               f"{__version__}; complete cases, n = {result.n}."}
    return read_result(content)

