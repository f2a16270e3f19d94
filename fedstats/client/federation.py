"""The analyst's side: federations, cohorts, questions. Three worlds, the same digits.

`pooled`, `simulate` and `connect` differ by one thing only: how the asks of a query become totals (a `World`). Cohort
methods (`cohort.summary(...)`) are made from the list of analyses, so a new analysis needs no line here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import analyses  # noqa: F401  (registers the analyses)
from ..analysis import ANALYSES, Failed, Question, Result, question_of
from ..dictionary import Dictionary
from ..disclosure import NO_RULES, Rules
from ..errors import InputError, QuestionError
from ..filters import check_filter, filter_columns, normal_filter
from ..rows import LoadReport, Rows, load
from . import explain as _explain

Tables = Mapping[str, Any]
Progress = Callable[[str, int, int], None]


class World(Protocol):
    """How a query is carried out."""

    dictionary: Dictionary
    rules: Rules
    registries: tuple[str, ...]

    def run(self, questions: Sequence[Question], where: Any, **options: Any) -> list[Result]: ...


class Federation:
    """Several registries that answer questions together.

    `cohort(where=...)` selects patients; `ask(q1, q2, ...)` asks several questions in the same rounds; `explain(q)` says
    before asking what each party will see.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def __repr__(self) -> str:
        return f"Federation({len(self.registries)} registries, {len(self.dictionary.variables)} variables, {self.rules.sentence()})"

    @property
    def dictionary(self) -> Dictionary:
        return self._world.dictionary

    @property
    def rules(self) -> Rules:
        return self._world.rules

    @property
    def registries(self) -> tuple[str, ...]:
        return self._world.registries

    @property
    def reports(self) -> Mapping[str, LoadReport]:
        """What loading found at each registry; for `pooled` and `simulate` only, over the network it stays there."""
        return getattr(self._world, "reports", {})

    def cohort(self, where: Any = None) -> Cohort:
        """Patients that satisfy a filter, all of them without one.

        where : list of (variable, op, value), all of which hold, or a tree of {"all" | "any" | "not": ...}.
        Raises QuestionError for unknown variables and for values that are not registered cut points.
        """
        return Cohort(self, where)

    def ask(self, *questions: CohortQuestion, purpose: str = "", **options: Any) -> list[Result]:
        """Ask several questions of one cohort in the same rounds. Returns one result per question, a `Failed` where one of
        several could not be answered."""
        if not questions:
            raise QuestionError("ask at least one question")
        for one in questions:
            if not isinstance(one, CohortQuestion):
                raise QuestionError("fed.ask takes questions made by cohort.question.<analysis>(...)")
        cohorts = {repr(one.where): one.where for one in questions}
        if len(cohorts) > 1:
            raise QuestionError("questions asked together must be about one cohort", hint="ask each cohort's questions on their own")
        return self._world.run([one.question for one in questions], questions[0].where, purpose=purpose, **options)

    def explain(self, *questions: CohortQuestion) -> _explain.Explanation:
        """What asking would mean: who sees what, how many rounds and bytes, which rules apply. Asks nobody."""
        return _explain.explain([one.question for one in questions], questions[0].where, self.dictionary, self.rules,
                                len(self.registries))

    def receipt(self, result: Result) -> Any:
        """What a result of `connect` rests on: the signed query, admissions, verdicts and releases; None in other worlds."""
        return getattr(self._world, "receipts", {}).get(result.query)

    def close(self) -> None:
        """Let go of connections, if there are any."""
        getattr(self._world, "close", lambda: None)()

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class CohortQuestion:
    """A question about a cohort, not asked yet. `question` is its frozen, JSON-ready form, `where` the cohort's filter."""

    def __init__(self, question: Question, where: Any) -> None:
        self.question, self.where = question, where

    def __repr__(self) -> str:
        return f"{self.question} where {self.where}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CohortQuestion) and (self.question, self.where) == (other.question, other.where)

    def __hash__(self) -> int:
        return hash(repr(self))

    def to_dict(self) -> dict[str, Any]:
        return {"analysis": self.question.analysis, "params": self.question.params, "where": self.where}


class Questions:
    """`cohort.question.<analysis>(...)`: the same calls as on the cohort, giving questions instead of results."""

    def __init__(self, where: Any, dictionary: Dictionary) -> None:
        self._where, self._dictionary = where, dictionary

    if TYPE_CHECKING:       # one method per analysis is installed below

        def __getattr__(self, name: str) -> Callable[..., CohortQuestion]: ...

    def _make(self, name: str, *args: Any, **kwargs: Any) -> CohortQuestion:
        question = question_of(name, *args, **kwargs)
        params = question.read()
        for column in params.columns():
            self._dictionary[column]
        params.check(self._dictionary)
        return CohortQuestion(question, self._where)


class Cohort:
    """Patients that satisfy a filter. Every analysis is a method: `cohort.summary(["age"])` asks at once."""

    def __init__(self, federation: Federation, where: Any = None) -> None:
        self.where = normal_filter(where)
        check_filter(self.where, federation.dictionary)
        self._federation = federation

    if TYPE_CHECKING:       # one method per analysis is installed below

        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    def __repr__(self) -> str:
        return f"Cohort(where={self.where})"

    @property
    def columns(self) -> tuple[str, ...]:
        """The variables that the filter names."""
        return filter_columns(self.where)

    @property
    def question(self) -> Questions:
        """The same methods, giving a question instead of asking it."""
        return Questions(self.where, self._federation.dictionary)

    def _ask(self, name: str, *args: Any, **kwargs: Any) -> Result:
        question = self.question._make(name, *args, **kwargs)
        (result,) = self._federation.ask(question)
        if isinstance(result, Failed):
            raise result.error()
        return result


def _install() -> None:
    """One method per analysis, on cohorts and on questions, with the signature and the words of the analysis."""
    for member in ANALYSES.values():
        short = member.name.partition("/")[0]

        def make(owner: type, how: str, name: str = short, call: Any = member.call, text: str | None = member.joint.__doc__) -> None:
            def method(self: Any, *args: Any, **kwargs: Any) -> Any:
                return getattr(self, how)(name, *args, **kwargs)

            functools.update_wrapper(method, call, assigned=(), updated=())
            signature = inspect.signature(call)
            me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
            method.__signature__ = signature.replace(parameters=[me, *signature.parameters.values()])  # type: ignore[attr-defined]
            method.__name__, method.__qualname__, method.__doc__ = name, f"{owner.__name__}.{name}", text
            setattr(owner, name, method)

        make(Cohort, "_ask")
        make(Questions, "_make")


_install()


def load_tables(tables: Tables, dictionary: Dictionary | Mapping[str, Any] | str | Path
                ) -> tuple[Dictionary, dict[str, Rows], dict[str, LoadReport]]:
    """The rows of every registry. tables : {registry name: table, see `tables.columns_of`}. Raises InputError naming the registry."""
    if not isinstance(dictionary, Dictionary):
        dictionary = Dictionary.from_dict(dictionary) if isinstance(dictionary, Mapping) else Dictionary.load(dictionary)
    if not isinstance(tables, Mapping) or not tables:
        raise InputError("tables must be a dict of registry name to table", hint='{"lyon": "lyon.csv", "turin": frame}')
    rows, reports = {}, {}
    for name, table in tables.items():
        rows[str(name)], reports[str(name)] = load(table, dictionary, who=str(name))
    return dictionary, rows, reports


def pooled(tables: Tables, *, dictionary: Dictionary | Mapping[str, Any] | str | Path, rules: Rules | None = None) -> Federation:
    """All registries in one process, without a seal: the pooled analysis, for method work and comparison.

    tables : {registry name: table}. rules : release rules; none unless given.
    """
    from .worlds import Pooled

    return Federation(Pooled(*load_tables(tables, dictionary), rules or NO_RULES))


def simulate(tables: Tables, *, dictionary: Dictionary | Mapping[str, Any] | str | Path, rules: Rules | None = None,
             seed: int = 0) -> Federation:
    """All parties in one process and one thread: the real conversation and the real seal, with injected clock and randomness.

    rules : as in `Rules`; may be relaxed for tests, and results then say so. seed : of the randomness; never used by `connect`.
    """
    from .worlds import Simulated

    return Federation(Simulated(*load_tables(tables, dictionary), rules or Rules(), seed=seed))


def connect(consortium: str | Path, *, key: str | Path, dictionary: Dictionary | str | Path | None = None,
            registries: Sequence[str] | None = None, progress: Progress | None = None, timeout: float = 600.0) -> Federation:
    """A consortium over the network.

    consortium : path of the consortium file that this analyst has accepted. key : path of the analyst's key.
    dictionary : the dictionary whose hash the consortium pins; by default the file that the consortium names.
    registries : which to ask, all by default, never fewer than the consortium's minimum. timeout : seconds to wait for answers.
    """
    from .worlds import Connected

    return Federation(Connected.open(consortium, key=key, dictionary=dictionary, registries=registries, progress=progress,
                                     timeout=timeout))
