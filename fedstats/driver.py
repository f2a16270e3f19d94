"""A whole query as one generator: round 0, the gate, all joint halves side by side, rounding.

It yields the asks of each round and is sent back the totals over all registries. Every world runs this same generator:
`pooled` answers it from rows, the nodes from sealed totals (each its own copy, in lockstep), `explain` from zeros.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence

import msgspec
import numpy as np

from . import __version__
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
from .dictionary import Dictionary
from .differences import trouble
from .disclosure import NO_RULES, Rules, gate, may_count, rounded, safe
from .errors import QuestionError, Refused, as_error
from .linked import grown_again, linked
from .overlaps import Compared, compared
from .population import Recipe
from .rows import Rows
from .statistic import INDICATORS, Ask, Block, Sums, statistic

Totals = list[Sums]
MOST_QUESTIONS = 50
ONE_REGISTRY = "Each patient is assumed to be in one registry only."


def _size_layout(dictionary: Dictionary, *, sets: Sequence[Sequence[str]]) -> dict[str, Block]:
    return {"cohort": Block(counts=True), "complete": Block((len(sets),), counts=True),
            "present": Block((sum(len(columns) for columns in sets),), counts=True),
            "apart": Block((len(sets), len(sets)), counts=True)}


@statistic("size/1", layout=_size_layout)
def size(rows: Rows, sets: Sequence[Sequence[str]]) -> dict:
    """Patients of the cohort; per set of columns those who have all of them; per column those who have it; per pair of sets
    those who have all of one but not of the other. With several rows per patient: who has such a row."""
    has = [np.logical_and.reduce([rows.present(name) for name in columns], axis=0) & np.ones(rows.n, dtype=bool) for columns in sets]
    return {"cohort": rows.people(), "complete": [rows.people(one) for one in has],
            "apart": [[rows.people(a ^ b) for b in has] for a in has],
            "present": [rows.people(rows.present(name)) for columns in sets for name in columns]}


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


def first_asks(params: Sequence[Params], recipe: Recipe) -> list[Ask]:
    """Round 0: the sizes, the flow where the recipe has one, and how the groups that the questions show overlap."""
    steps = [flow(steps=recipe.steps)] if recipe.steps else []
    return [size(sets=_sets(params, recipe)[0]), *steps, *(one.ask for one in compared(params, recipe.dictionary))]


def _sets(params: Sequence[Params], recipe: Recipe) -> tuple[list[list[str]], dict[int, int]]:
    """The columns of each question; then, for those that have a column which only some people can have (days until an event was
    confirmed), the columns without that condition. And which of these belongs to which question: {question: place}."""
    sets = [list(one.columns()) for one in params]
    plain, conditional = {}, recipe.conditional
    for k, columns in enumerate(tuple(sets)):
        if set(columns) & set(conditional):
            plain[k] = len(sets)
            sets.append(list(dict.fromkeys(name for name in (conditional.get(one, one) for one in columns) if name)))
    return sets, plain


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
    sets, plain = _sets(params, recipe)
    first, *more = yield first_asks(params, recipe)
    through = more.pop(0) if recipe.steps else None
    gate(int(first["cohort"]), int(first["cohort" + INDICATORS]), rules)
    sizes = _sizes(first, sets[:len(params)], rules)
    if through is not None:
        known = [int(first["cohort"]), *(one.n for one in sizes)]
        steps = _shown_flow(recipe.steps, through["through"], through["through" + INDICATORS], known, rules)
        sizes = [msgspec.structs.replace(one, flow=steps) for one in sizes]
    overlapping = list(zip(compared(params, dictionary), more))

    def joint(k: int) -> Generator[list[Ask], Totals, Result]:
        _check_apart(k, sets, first["apart"], rules, questions)
        _check_corners(k, sets, first["complete"], rules, questions)
        if k in plain and not safe(int(first["apart"][k, plain[k]]), rules):
            raise Refused(f"{_called(k, questions)} is about those of whom something is known to have happened, and fewer than "
                          f"{rules.min_cell} patients are left out by that (rule min_cell)",
                          hint="widen the cohort, or leave that column out")
        gate(sizes[k].n, int(first["complete" + INDICATORS][k]), rules, what=_called(k, questions))
        _check_together(k, params, overlapping, dictionary, rules, questions)
        setting = Setting(dictionary, rules, registries, sizes[k])
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


def _sizes(first: Sums, sets: Sequence[Sequence[str]], rules: Rules) -> list[Size]:
    """The size of each question. Counts of missing values are shown only if, over the whole query, each is safe: one column
    without gaps would otherwise give the cohort's size, and with it the small number missing in another."""
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


def _called(k: int, questions: Sequence[Question]) -> str:
    """A question in an error, which stands beside the whole of it."""
    kind = questions[k].analysis.partition("/")[0]
    return f"question {k + 1} ({kind})" if len(questions) > 1 else f"this question ({kind})"


def _same_patients(sets: Sequence[Sequence[str]]) -> str:
    """How to ask several questions about the same patients: those of whom the columns are known that not all of them are about."""
    every = [set(columns) for columns in sets]
    apart = sorted({name for one in every for name in one if not all(name in other for other in every)})
    return (f", or ask all about patients of whom {', '.join(apart)} are known: where=[(\"{apart[0]}\", \"missing\", False), ...], "
            f"on the command line --where '{apart[0]} known'") if apart else ""


def _check_apart(k: int, sets: Sequence[Sequence[str]], apart: np.ndarray, rules: Rules, questions: Sequence[Question]) -> None:
    """Two questions of one query with a column in common must not be about sets of patients that differ by a few: their sums
    would give those few by subtraction. Raises Refused for the later one. (Between queries: the ledger's business.)"""
    for j in range(k):
        if set(sets[j]) & set(sets[k]) and not safe(int(apart[j, k]), rules):
            raise Refused(f"{_called(k, questions)} and {_called(j, questions)} are about complete cases that differ by fewer than "
                          f"{rules.min_cell} patients (rule min_cell): those would follow by subtraction",
                          hint="ask both about the same columns" + _same_patients((sets[j], sets[k])))


def _check_corners(k: int, sets: Sequence[Sequence[str]], complete: np.ndarray, rules: Rules, questions: Sequence[Question]) -> None:
    """Those who lack something in each of two or three sets of columns must not be a few, if sums over them follow from those over the
    sets, what the sets share and what they are together: f(a) - f(ab) - f(ac) + f(abc). Raises Refused for the question that would
    complete this. (Two sets at a time: `_check_apart`.)"""
    known = {frozenset(columns): int(n) for columns, n in zip(sets[:k + 1], complete.tolist())}
    mine = frozenset(sets[k])
    for base in known:
        larger = [one for one in known if one > base]
        pairs = [pair for pair in itertools.combinations(larger, 2) if pair[0] | pair[1] in known]
        triples = [(*pair, one) for pair in pairs for one in larger
                   if one not in pair and all(one | other in known for other in (*pair, pair[0] | pair[1]))]
        for corner in (*pairs, *triples):
            signed = [(base.union(*some), (-1) ** m) for m in range(len(corner) + 1) for some in itertools.combinations(corner, m)]
            if any(one == mine for one, _ in signed) and not safe(abs(sum(sign * known[one] for one, sign in signed)), rules):
                raise Refused(f"together with the questions before it, {_called(k, questions)} would give the sums over fewer than "
                              f"{rules.min_cell} patients who lack several columns (rule min_cell)",
                              hint="ask all about the same columns" + _same_patients(sets[:k + 1]))


def _check_together(k: int, params: Sequence[Params], overlapping: Sequence[tuple[Compared, Sums]], dictionary: Dictionary, rules: Rules,
                    questions: Sequence[Question]) -> None:
    """What a question shows must not, with the questions before it, leave a few patients over (`differences`), nor give back what a table
    or a tree hides (`linked`). Raises Refused."""
    if (groups := trouble(k, overlapping, dictionary, rules)) is not None:
        raise Refused(f"{_called(k, questions)}: {groups} have groups of patients that differ by fewer than {rules.min_cell}, and those "
                      "would follow by subtraction (rule min_cell)",
                      hint="leave one of them out" + _same_patients([one.columns() for one in params]))
    if (names := linked(k, params, overlapping, dictionary, rules)) is not None:
        raise Refused(f"{_called(k, questions)}: a question before it shows {names} too, and two tables of them could give back what each "
                      f"hides: cells of fewer than {rules.min_cell} patients (rule min_cell)",
                      hint="ask for the larger table only, which holds the smaller one, or join small levels")
    if rules.min_cell > 1 and (names := grown_again(k, params)) is not None:
        raise Refused(f"{_called(k, questions)}: a question before it grows trees on {names} too, and leaves of two models may differ by "
                      f"fewer than {rules.min_cell} patients (rule min_cell)",
                      hint="ask for one model; compare settings by validation, which releases no trees")


def finish(result: Result, rules: Rules, registries: int, cohort: str = "") -> Result:
    """The result as it may leave: rounded, with the rules and the assumptions it rests on. cohort : a sentence about it."""
    kind = type(result)
    content = msgspec.to_builtins(result)
    if rules.rounding:
        content = rounded(content, verbatim=getattr(kind, "verbatim", frozenset()), curves=getattr(kind, "curves", frozenset()))
    content |= {"kind": kind_of(result), "registries": registries, "rules": rules.sentence()}
    if not isinstance(result, Failed):
        notes = list(result.notes)
        if result.size.n_missing is None and rules != NO_RULES:
            notes.append(f"numbers of missing values are not shown: at least one is below {rules.min_cell} (rule min_cell)")
        content |= {"notes": [*notes, ONE_REGISTRY],
                    "methods": f"{result.methods} {cohort}{' ' if cohort else ''}Computed over {registries} registries with fedstats "
                               f"{__version__}; complete cases, n = {result.n}."}
    return read_result(content)

