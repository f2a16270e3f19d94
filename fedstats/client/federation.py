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

from .. import analyses  # noqa: F401  (analyses: registers them)
from ..data.cells import Form
from ..data.dictionary import Dictionary
from ..data.filters import check_filter, filter_columns, normal_filter
from ..data.forms import as_form
from ..disclosure import NO_RULES, Rules
from ..errors import InputError, QuestionError
from ..query import population
from ..query.analysis import ANALYSES, Failed, Question, Result, question_of
from ..query.driver import check_questions
from ..query.population import Codebook, Findings, Household
from . import explain as _explain

Tables = Mapping[str, Any]
FormLike = Form | Mapping[str, Any] | None
Book = Dictionary | Mapping[str, Any] | str | Path
Progress = Callable[[str, int, int], None]


class World(Protocol):
    """How a query is carried out."""

    codebook: Codebook
    rules: Rules
    registries: tuple[str, ...]

    def run(self, questions: Sequence[Question], recipe: Any, where: Any, **options: Any) -> list[Result]: ...


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
    def codebook(self) -> Codebook:
        """What everybody knows of the data."""
        return self._world.codebook

    @property
    def dictionary(self) -> Dictionary:
        """The dictionary of the registries' tables; with tables of MS each cohort has one of its own, `cohort.dictionary`."""
        return self.codebook.dictionary

    @property
    def rules(self) -> Rules:
        return self._world.rules

    @property
    def registries(self) -> tuple[str, ...]:
        return self._world.registries

    @property
    def reports(self) -> Mapping[str, Findings]:
        """What loading found at each registry; for `pooled` and `simulate` only, over the network it stays there."""
        return getattr(self._world, "reports", {})

    def cohort(self, tree: Any = None, *, where: Any = None) -> Cohort:
        """Patients to ask about.

        tree : with tables of MS the cohort itself, {"index": ..., "covariates": ..., "outcomes": ..., ...} (see `ms.cohort`). With one row
            per patient the filter may stand here.
        where : list of (variable, op, value), all of which hold, or a tree of {"all" | "any" | "not": ...}; everybody without.
        Raises QuestionError for unknown variables and for values that are not registered cut points.
        """
        if not (isinstance(tree, Mapping) and "index" in tree):
            if tree is not None and where is not None:
                raise QuestionError("two filters were given", hint="fed.cohort(where=[...])")
            tree, where = None, tree if where is None else where
        return Cohort(self, where, tree)

    def ask(self, *questions: CohortQuestion, purpose: str = "", **options: Any) -> list[Result]:
        """Ask several questions of one cohort in the same rounds. Returns one result per question, a `Failed` where one of
        several could not be answered."""
        if not questions:
            raise QuestionError("ask at least one question")
        for one in questions:
            if not isinstance(one, CohortQuestion):
                raise QuestionError("fed.ask takes questions made by cohort.question.<analysis>(...)",
                                    hint="fed.ask(*questions) for a list of them" if isinstance(one, (list, tuple)) else "")
        if len({(one.recipe.hash, repr(one.where)) for one in questions}) > 1:
            raise QuestionError("questions asked together must be about one cohort", hint="ask each cohort's questions on their own")
        first = questions[0]
        return self._world.run([one.question for one in questions], first.recipe, first.where, purpose=purpose, **options)

    def explain(self, *questions: CohortQuestion) -> _explain.Explanation:
        """What asking would mean: who sees what, how many rounds and bytes, which rules apply. Asks nobody."""
        first = questions[0]
        return _explain.explain([one.question for one in questions], first.recipe, first.where, self.rules, len(self.registries))

    def receipt(self, result: Result) -> Any:
        """What a result of `connect` rests on, as anybody can check it (`fedstats.receipt`); None in other worlds."""
        return getattr(self._world, "receipts", {}).get(result.query)

    def close(self) -> None:
        """Let go of connections, if there are any."""
        getattr(self._world, "close", lambda: None)()

    def __enter__(self) -> Federation:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class CohortQuestion:
    """A question about a cohort, not asked yet. `question` is its frozen, JSON-ready form; `recipe` and `where` are the cohort."""

    def __init__(self, question: Question, recipe: Any, where: Any) -> None:
        self.question, self.recipe, self.where = question, recipe, where

    def __repr__(self) -> str:
        return f"{self.question} where {self.where}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CohortQuestion) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(repr(self))

    def to_dict(self) -> dict[str, Any]:
        cohort = {"cohort": self.recipe.to_dict()} if self.recipe.hash else {}
        return {"analysis": self.question.analysis, "params": self.question.params, "where": self.where} | cohort


class Questions:
    """`cohort.question.<analysis>(...)`: the same calls as on the cohort, giving questions instead of results."""

    def __init__(self, recipe: Any, where: Any) -> None:
        self._recipe, self._where = recipe, where

    if TYPE_CHECKING:       # one method per analysis is installed below

        def __getattr__(self, name: str) -> Callable[..., CohortQuestion]: ...

    def _make(self, name: str, *args: Any, **kwargs: Any) -> CohortQuestion:
        question = question_of(name, *args, **kwargs)
        check_questions([question], self._recipe.dictionary)
        return CohortQuestion(question, self._recipe, self._where)


class Cohort:
    """Patients to ask about. Every analysis is a method: `cohort.summary(["age"])` asks at once."""

    def __init__(self, federation: Federation, where: Any = None, tree: Any = None) -> None:
        self.recipe = federation.codebook.recipe(tree)
        self.where = normal_filter(where)
        check_filter(self.where, self.dictionary)
        self._federation = federation

    if TYPE_CHECKING:       # one method per analysis is installed below

        def __getattr__(self, name: str) -> Callable[..., Any]: ...

    def __repr__(self) -> str:
        return f"Cohort({self.recipe.hash[:12]}{', ' if self.recipe.hash else ''}where={self.where})"

    @property
    def dictionary(self) -> Dictionary:
        """The columns that can be asked about."""
        return self.recipe.dictionary

    def describe(self) -> str:
        """The cohort in words, for a methods section."""
        return self.recipe.sentence()

    @property
    def columns(self) -> tuple[str, ...]:
        """The variables that the filter names."""
        return filter_columns(self.where)

    @property
    def question(self) -> Questions:
        """The same methods, giving a question instead of asking it."""
        return Questions(self.recipe, self.where)

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


def load_tables(tables: Tables, dictionary: Book | None, data_cut: str | None, form: FormLike = None
                ) -> tuple[Codebook, dict[str, Household], dict[str, Findings]]:
    """The data of every registry. tables : {registry name: table, see `tables.columns_of`, or tables of MS, see `population.is_ms`}.

    form : see `pooled`. Raises InputError naming the registry.
    """
    if not isinstance(tables, Mapping) or not tables:
        raise InputError("tables must be a dict of registry name to table", hint='{"lyon": "lyon.csv", "turin": frame}')
    for name, table in tables.items():
        if isinstance(table, (str, Path)) and not Path(table).exists():
            raise InputError(f"{name}: there is no file or folder {table}", hint="fedstats synthetic DIR writes folders to try things with")
    kinds = {population.is_ms(table) for table in tables.values()}
    if len(kinds) > 1:
        raise InputError("some registries have one table of patients and some the tables of MS", hint="give the same kind for all")
    codebook = _codebook(dictionary, kinds == {True}, next(iter(tables.values())))
    data, reports = {}, {}
    for name, table in tables.items():
        data[str(name)], reports[str(name)] = population.read(table, codebook, data_cut=data_cut, who=str(name),
                                                              form=_form_of(form, name, tables))
    return codebook, data, reports


def _form_of(form: FormLike, name: str, tables: Tables) -> Form:
    """The form of one registry's tables. form : one for all, or by registry."""
    if isinstance(form, Mapping) and form and set(form) <= set(tables):
        return as_form(form.get(name))
    return as_form(form)


def _codebook(dictionary: Book | None, ms: bool, first: Any) -> Codebook:
    if dictionary is None and not ms:
        raise InputError("tables of one row per patient need a dictionary", hint="fedstats dictionary draft FILE.csv proposes one")
    if dictionary is None:
        from ..ms.tables.registry import dictionary as shipped

        book = getattr(first, "dictionary", None) or shipped()
    elif isinstance(dictionary, Dictionary):
        book = dictionary
    else:
        book = Dictionary.from_dict(dictionary) if isinstance(dictionary, Mapping) else Dictionary.load(dictionary)
    return Codebook(book, (getattr(first, "treatment_list", None) or population.load_treatments(None)) if ms else None)


def pooled(tables: Tables, *, dictionary: Book | None = None, rules: Rules | None = None, data_cut: str | None = None,
           form: FormLike = None) -> Federation:
    """All registries in one process, without a seal: the pooled analysis, for method work and comparison.

    tables : {registry name: table}, one row per patient each; or {registry name: folder, or mapping, of the tables of MS}.
    dictionary : the one that comes with fedstats for tables of MS. rules : release rules; none unless given.
    data_cut : for tables of MS the date of the cut (YYYY-MM-DD), so that later dates are found.
    form : how the tables write numbers, dates and levels, such as {"decimal": ",", "dates": "d/m/y", "encoding": "cp1252",
        "levels": {"sex": {"w": "F", "m": "M"}}} (see `cells.Form`), or {registry name: form}. A form that is not declared is an
        error where it concerns more than a small share of a column.
    """
    from .worlds import Pooled

    return Federation(Pooled(*load_tables(tables, dictionary, data_cut, form), rules or NO_RULES))


def simulate(tables: Tables, *, dictionary: Book | None = None, rules: Rules | None = None, data_cut: str | None = None,
             seed: int = 0, form: FormLike = None) -> Federation:
    """All parties in one process and one thread: the real conversation and the real seal, with injected clock and randomness.

    tables, dictionary, data_cut, form : as for `pooled`. rules : as in `Rules`; may be relaxed for tests, and results then say so.
    seed : of the randomness; never used by `connect`.
    """
    from .worlds import Simulated

    return Federation(Simulated(*load_tables(tables, dictionary, data_cut, form), rules or Rules(), seed=seed))


def connect(consortium: str | Path, *, key: str | Path, dictionary: Dictionary | str | Path | None = None,
            registries: Sequence[str] | None = None, progress: Progress | None = None, timeout: float = 600.0) -> Federation:
    """A consortium over the network.

    consortium : path of the consortium file that this analyst has accepted. key : path of the analyst's key.
    dictionary : the dictionary whose hash the consortium pins; by default the file that the consortium names.
    registries : which to ask, all by default, never fewer than the consortium's minimum. timeout : seconds to wait for answers.
    """
    from .connected import Connected

    return Federation(Connected.open(consortium, key=key, dictionary=dictionary, registries=registries, progress=progress,
                                     timeout=timeout))
