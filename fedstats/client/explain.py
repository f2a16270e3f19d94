"""What a query would mean, said before it is asked: rounds, sizes, who sees what, which rules apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data.dictionary import Dictionary
from ..data.filters import filter_columns
from ..data.rows import Rows
from ..disclosure import NO_RULES, Rules
from ..errors import FedstatsError
from ..query.analysis import ANALYSES, Joint, Question, Setting, Size
from ..query.driver import check_questions, engine, first_asks
from ..query.population import Recipe
from ..sums.statistic import Ask, answer


@dataclass(frozen=True)
class Explanation:
    """The words of `explain`. rounds (round 0 included), values, up_bytes : known before asking, per
    registry; a question whose rounds depend on what the first ones show may need one more.
    at_most : whether these are the most there can be, as a number of trees is chosen on the way."""

    questions: tuple[str, ...]
    cohort: str
    rounds: int
    values: int
    up_bytes: int
    columns: tuple[str, ...]
    who_sees_what: tuple[tuple[str, str], ...]
    rules: str
    at_most: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __str__(self) -> str:
        most = "up to " if self.at_most else ""
        lines = ["questions: " + "; ".join(self.questions), f"cohort: {self.cohort}", "columns read: " + ", ".join(self.columns),
                 f"rounds: {most}{self.rounds}; sealed numbers per registry: {most}{self.values}; "
                 f"sent per registry: {most}{self.up_bytes} bytes",
                 f"rules: {self.rules}"]
        return "\n".join(lines + [f"  {who}: {what}" for who, what in self.who_sees_what])


def explain(questions: Sequence[Question], recipe: Recipe, where: Any, rules: Rules, registries: int) -> Explanation:
    """See `Federation.explain`. The rounds after the first are found by driving the joint halves with empty totals."""
    from .worlds import frame_bytes

    dictionary = recipe.dictionary
    params = check_questions(questions, dictionary)
    steps = [first_asks(engine(questions, params, recipe, rules), recipe)]
    for k, question in enumerate(questions):
        # rules may need a round more (who contributes to merged cells), or end early on nobody: the longer way is told
        joint = ANALYSES[question.analysis].joint
        ways = [_driven(joint(params[k], Setting(dictionary, one, registries, Size(0))), dictionary) for one in (NO_RULES, rules)]
        longest = max(ways, key=lambda way: len(way))
        for depth, asks in enumerate(longest, start=1):
            if len(steps) <= depth:
                steps.append([])
            steps[depth] += asks
    values = sum(block.size for asks in steps for ask in asks for block in ask.layout(dictionary).values())
    return Explanation(
        tuple(str(question) for question in questions), _cohort(recipe, where), len(steps), values,
        sum(frame_bytes(asks, dictionary, registries) for asks in steps),
        tuple(dict.fromkeys([*filter_columns(where), *(name for one in params for name in one.reads())])),
        (("each registry", "its own rows; totals over all registries, in memory only; the result"),
         ("the coordinator", "sizes and times of messages, the number of rounds, the form of the question; never a number"),
         ("you", "the released result only")),
        rules.sentence(), any(one.at_most() for one in params))


def _cohort(recipe: Recipe, where: Any) -> str:
    words = [recipe.sentence()] if recipe.hash else ["all patients"] if where == {"all": []} else []
    return " ".join(words + ([str(where)] if where != {"all": []} else []))


def _driven(joint: Joint, dictionary: Dictionary) -> list[list[Ask]]:
    """The asks of a joint half, round by round, as far as it goes when nobody is in any total."""
    nobody = Rows(dictionary, 0, {})
    rounds: list[list[Ask]] = []
    try:
        asks = next(joint)
        while True:
            rounds.append(asks)
            asks = joint.send([answer(ask, nobody) for ask in asks])
    except (StopIteration, FedstatsError, ArithmeticError, ValueError, IndexError):
        return rounds       # empty totals end most analyses early
