"""What a query would mean, said before it is asked: rounds, sizes, who sees what, which rules apply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..analysis import Question
from ..dictionary import Dictionary
from ..disclosure import Rules
from ..driver import check_questions
from ..driver import size as size_ask


@dataclass(frozen=True)
class Explanation:
    """The words of `explain`. rounds, values, up_bytes : known before asking; values and bytes are per registry."""

    questions: tuple[str, ...]
    cohort: str
    rounds: int
    values: int
    up_bytes: int
    columns: tuple[str, ...]
    who_sees_what: tuple[tuple[str, str], ...]
    rules: str

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __str__(self) -> str:
        lines = ["questions: " + "; ".join(self.questions), f"cohort: {self.cohort}", "columns read: " + ", ".join(self.columns),
                 f"rounds: {self.rounds}; sealed numbers per registry: {self.values}; sent per registry: {self.up_bytes} bytes",
                 f"rules: {self.rules}"]
        return "\n".join(lines + [f"  {who}: {what}" for who, what in self.who_sees_what])


def explain(questions: Sequence[Question], where: Any, dictionary: Dictionary, rules: Rules, registries: int) -> Explanation:
    """See `Federation.explain`. The rounds after the first are counted by driving the joint halves with empty totals."""
    from ..analysis import ANALYSES, Setting, Size
    from ..disclosure import NO_RULES
    from ..rows import Rows, filter_columns
    from ..statistic import answer
    from .worlds import frame_bytes

    params = check_questions(questions, dictionary)
    nobody = Rows(dictionary, 0, {})
    sets = [list(one.columns()) for one in params]
    steps = [[size_ask(sets=sets)]]
    setting = Setting(dictionary, NO_RULES, registries, Size(0))
    for k, question in enumerate(questions):
        joint = ANALYSES[question.analysis].joint(params[k], setting)
        asks, depth = next(joint), 1
        while True:
            if len(steps) <= depth:
                steps.append([])
            steps[depth] += asks
            depth += 1
            try:
                asks = joint.send([answer(ask, nobody) for ask in asks])
            except Exception:
                break
    values = sum(block.size for asks in steps for ask in asks for block in ask.layout(dictionary).values())
    return Explanation(
        tuple(str(question) for question in questions), str(where) if where else "all patients", len(steps), values,
        sum(frame_bytes(asks, dictionary, registries) for asks in steps),
        tuple(dict.fromkeys([*filter_columns(where), *(name for one in params for name in one.columns())])),
        (("each registry", "its own rows; totals over all registries, in memory only; the result"),
         ("the coordinator", "sizes and times of messages, the number of rounds, the form of the question; never a number"),
         ("you", "the released result only")),
        rules.sentence())
