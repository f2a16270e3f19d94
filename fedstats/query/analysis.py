"""An analysis: a question, a joint half that runs at every registry in lockstep, and a result.

How this works:
1. The analyst's parameters are a small frozen struct; `@analysis` registers it with its joint half and its result type.
2. The joint half is a generator. It yields lists of asks and is sent back the totals over all registries, with ordinary
   loops; it returns a frozen `Result` computed only from totals that the release rules have shown (DISCLOSURE, closure).
3. The driver `together` advances several joint halves side by side in the same rounds. It knows no statistic and no network:
   whoever calls it turns `list[Ask]` into `list[Sums]`. A joint half that fails becomes a `Failed` value; the others go on.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.native import listed, native
from ..data.variable import one_form
from ..disclosure import Rules
from ..disclosure.release import Declared, Population
from ..errors import FedstatsError, Problem, QuestionError, as_error, as_problem
from ..sums.statistic import Ask, Sums, plain
from .nonfinite import numbered, worded
from .views import Table

T = TypeVar("T")
Joint = Generator[list[Ask], list[Sums], "Result"]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=False):
    """The parameters of an analysis. Subclasses name the columns they need, for the count of complete cases.

    episodes : whether the analysis can be asked where patients have several rows; its blocks that count people must then do so.
    """

    episodes: ClassVar[bool] = False

    def columns(self) -> tuple[str, ...]:
        """The variables that must be known for a patient to count."""
        raise NotImplementedError

    def reads(self) -> tuple[str, ...]:
        """All variables that are looked at: more than `columns` where some may be missing."""
        return self.columns()

    def at_most(self) -> bool:
        """Whether more or fewer rounds are needed as the first ones show, and `explain` tells the
        most there can be."""
        return False

    def check(self, dictionary: Dictionary) -> None:
        """Whether this can be asked of this dictionary. Raises QuestionError."""

    def population(self) -> Population:
        """The patients that this is about."""
        return Population.of(self.columns())

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        """What the result will tell, all of it, before any data: see `release`. There is no default, as
        what is not declared is not compared with anything."""
        raise NotImplementedError


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question as it is sent: the analysis, by name and version, and its parameters."""

    analysis: str
    params: dict[str, Any] = {}

    def __str__(self) -> str:
        inside = ", ".join(f"{key}={_short(value)}" for key, value in self.params.items() if value not in (None, [], False))
        return f"{self.analysis.partition('/')[0]}({inside})"

    def read(self) -> Params:
        """The parameters, typed. Raises QuestionError if the analysis is unknown or a parameter is wrong."""
        return read_params(self)


def _short(value: Any) -> str:
    """A parameter in a line of text; of terms, which are trees, only the kind and the columns they name."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return f"[{', '.join(str(one.get('name') or one.get('term') or '...') for one in value)}]"
    return repr(value)


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of a cohort's flow: how many came through, None where that count, or its difference from another, names too few."""

    step: str
    n: int | None


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many patients a question is about.

    n : complete cases over the columns of the question.
    n_missing, missing, cohort : those left out, in all and by column, and the size of the cohort; None where these counts
        would single out fewer than the smallest cell.
    flow : from all patients of the registries to the cohort and its outcomes (CONSORT); empty for tables of one row per patient.
    """

    n: int
    n_missing: int | None = None
    cohort: int | None = None
    missing: dict[str, int | None] = {}
    flow: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What a joint half may know besides totals: the dictionary, the rules, how many registries, and the size (round 0).

    vacant : per category, which levels nobody has in the whole data-cut of any registry.
    """

    dictionary: Dictionary
    rules: Rules
    registries: int
    size: Size
    vacant: Mapping[str, np.ndarray] = field(default_factory=dict)

    def nobody(self, name: str | None, missing: bool = False) -> np.ndarray:
        """Which groups of a variable nobody has in the whole data-cut: there is nothing to hide in them.

        missing : unknown is a group too.
        """
        if name is None:
            return np.zeros(1, dtype=bool)
        found = self.vacant.get(name)
        if found is None:
            found = np.zeros(len(self.dictionary.bins(name)), dtype=bool)
        return np.append(found, False) if missing else found


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all results share. Numbers that the rules do not let out are None; `notes` says which rule and what to change.

    size : patients behind the result. registries : how many took part. rules : one sentence. methods : for a paper.
    query : id of the query, empty for `pooled`. released : "sealed", "simulated" or "pooled".
    """

    kind: ClassVar[str] = ""

    size: Size
    registries: int = 0
    rules: str = ""
    notes: tuple[str, ...] = ()
    methods: str = ""
    query: str = ""
    released: str = ""

    @property
    def n(self) -> int:
        return self.size.n

    @property
    def n_missing(self) -> int | None:
        return self.size.n_missing

    def told(self) -> Result:
        """The same with those numbers rounded that are rounded together, as an estimate with its interval; every other float is
        rounded as its field is declared (`disclosure.precision`)."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content; `Result.from_dict` reads it back. Numbers that are not finite stand
        as texts, see `nonfinite`."""
        return {"kind": kind_of(self)} | worded(msgspec.to_builtins(self))

    @staticmethod
    def from_dict(source: dict[str, Any]) -> Result:
        """The result that `to_dict` wrote. Raises QuestionError for an unknown kind."""
        return read_result(source)

    def frame(self) -> Any:
        """The result as a pandas DataFrame (index and columns: docstring of each result)."""
        from .. import show

        return show.frame(self)

    def framed(self, table: Table) -> Any:
        """One table that this result describes, as a pandas DataFrame."""
        from ..show.frames import frame_of

        return frame_of(table)

    def plot(self, **options: Any) -> Any:
        """The result as a matplotlib figure."""
        from .. import show

        return show.plot(self, **options)

    def _repr_html_(self) -> str:
        from .. import show

        return show.html(self)

    def __str__(self) -> str:
        from .. import show

        return show.text(self)


class Failed(Result, frozen=True, kw_only=True):
    """A question that ended in an error while others of the same query went on."""

    kind: ClassVar[str] = "failed"
    question: str
    problem: Problem

    def error(self) -> FedstatsError:
        return as_error(self.problem)


@dataclass(frozen=True)
class Analysis:
    """One line of the list of analyses."""

    name: str
    params: type[Params]
    result: type[Result]
    joint: Callable[[Any, Setting], Joint]
    call: Callable[..., Params]

    @property
    def usage(self) -> str:
        """How it is called: in its own words if it has some."""
        short = self.name.partition("/")[0]
        text = (self.call.__doc__ or "").strip().split("\n")[0]
        return text if text.startswith(f"{short}(") else f"{short}{inspect.signature(self.call)}".split(" ->")[0]


ASKED_ONCE = ("of_fold/1",)     # statistics that several questions of a query may ask alike


ANALYSES: dict[str, Analysis] = {}


def analysis(name: str, *, params: type[Params], result: type[Result], call: Callable[..., Params] | None = None) -> Callable:
    """Register a joint half. `call` turns the arguments of `cohort.<name>(...)` into parameters, the struct itself by default."""

    def register(joint: Callable[[Any, Setting], Joint]) -> Callable[[Any, Setting], Joint]:
        assert name not in ANALYSES, f"{name} is registered twice"
        assert params.shows is not Params.shows, f"{name} does not say what its result tells: give {params.__name__} a method shows"
        ANALYSES[name] = Analysis(name, params, result, joint, call or params)
        return joint

    return register


def names_of(columns: Any) -> tuple[str, ...]:
    """One column name or several, as a tuple without repeats. Raises QuestionError."""
    found = (columns,) if isinstance(columns, str) else tuple(columns or ())
    if not found or not all(isinstance(name, str) for name in found):
        raise QuestionError("at least one column name is wanted, as a text or a list of texts")
    found = tuple(map(one_form, found))
    if len(set(found)) != len(found):
        raise QuestionError(f'a column is named twice: {", ".join(found)}')
    return found


def question_of(name: str, *args: Any, **kwargs: Any) -> Question:
    """The question that `cohort.<short name>(*args, **kwargs)` asks. Raises QuestionError for wrong arguments."""
    member = _by_short_name(name)
    try:
        made = member.call(
            *map(_taken, args), **{name: _taken(one) for name, one in kwargs.items()}
        )
    except TypeError as error:
        text = str(error).rpartition("() ")[2]
        raise QuestionError(f"{name}: {text}", hint=member.usage) from None
    except (ValueError, OverflowError, AttributeError, LookupError):       # an argument of another kind than its place can take
        raise QuestionError(f"{name}: an argument cannot be read", hint=member.usage) from None
    question = Question(member.name, plain(msgspec.to_builtins(made)))
    question.read()
    return question


def _taken(value: Any) -> Any:
    """An argument as a call takes it: a column of a frame as a list, numpy's values as Python's."""
    return listed(value) if hasattr(value, "tolist") else native(value)


def read_params(question: Question) -> Params:
    member = ANALYSES.get(question.analysis)
    if member is None:
        raise QuestionError(f'there is no analysis "{question.analysis}" in this version', hint="there are: " + ", ".join(ANALYSES))
    try:
        return msgspec.convert(question.params, member.params, strict=True)
    except msgspec.ValidationError as error:
        raise QuestionError(f"{question.analysis}: {error}", hint=member.usage) from None


def kind_of(result: Result) -> str:
    return result.kind or type(result).__name__.lower()


def read_result(source: dict[str, Any]) -> Result:
    kinds: dict[str, type[Result]] = {"failed": Failed} | {member.result.kind: member.result for member in ANALYSES.values()}
    content = dict(source)
    kind = content.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise QuestionError(f'there is no result of kind "{kind}" in this version')
    try:
        return msgspec.convert(numbered(content, kinds[kind]), kinds[kind], strict=True)
    except msgspec.ValidationError as error:
        raise QuestionError(f"a result of kind {kind} cannot be read: {error}") from None


def together(halves: Sequence[tuple[Question, Joint]], faults: list[str] | None = None
             ) -> Generator[list[Ask], list[Sums], list[Result | Failed]]:
    """Drive several joint halves side by side, see `abreast`; one that raises becomes a `Failed`
    value and the others go on.

    So does one with a fault of the software: every registry runs the same half on the same totals
    and comes to the same fault, so all leave it out of the rounds that follow. A registry that runs
    out of memory is on its own: its query ends. faults : takes a line for each.
    """

    def caught(question: Question, joint: Joint) -> Generator[list[Ask], list[Sums], Result | Failed]:
        try:
            return (yield from joint)
        except MemoryError:
            raise
        except Exception as error:
            if faults is not None and not isinstance(error, FedstatsError):
                faults.append(_fault(question, error))
            return Failed(
                size=Size(0),
                question=str(question),
                problem=as_problem(error, getattr(error, "who", "")),
            )

    return (yield from abreast([caught(question, joint) for question, joint in halves]))


def _fault(question: Question, error: Exception) -> str:
    """A fault in a line for the log: its kind and where it arose. Not its text, which may quote
    data."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{question.analysis}: {type(error).__name__} in {place.name}, line {place.lineno}"


def abreast(many: Sequence[Generator[list[Ask], list[Sums], T]]) -> Generator[list[Ask], list[Sums], list[T]]:
    """Drive several generators in the same rounds: yields all open asks of a round, is sent their totals, returns their ends in order.

    Finished ones drop out of the later rounds; the first error ends all. What two of them ask about a fold is asked once: a model whose
    number of trees is chosen and its validation grow the same fold models.
    """
    ends: list[Any] = [None] * len(many)
    waiting: dict[int, list[Ask]] = {}

    def turn(k: int, totals: list[Sums] | None) -> None:
        try:
            waiting[k] = next(many[k]) if totals is None else many[k].send(totals)
        except StopIteration as done:
            waiting.pop(k, None)
            ends[k] = done.value

    for k in range(len(many)):
        turn(k, None)
    while waiting:
        order = sorted(waiting)
        asked = [ask for k in order for ask in waiting[k]]
        first = _places([ask.digest if ask.statistic in ASKED_ONCE else None for ask in asked])
        once = [k for k, place in enumerate(first) if place == k]
        answers = dict(zip(once, (yield [asked[k] for k in once])))
        totals, place = [answers[k] for k in first], 0
        for k in order:
            count = len(waiting[k])
            turn(k, totals[place:place + count])
            place += count
    return ends


def _places(digests: Sequence[bytes | None]) -> list[int]:
    """For each ask, the place of the first one like it."""
    first: dict[bytes, int] = {}
    return [k if digest is None else first.setdefault(digest, k) for k, digest in enumerate(digests)]


def _by_short_name(name: str) -> Analysis:
    for member in ANALYSES.values():
        if member.name.partition("/")[0] == name:
            return member
    raise QuestionError(f'there is no analysis "{name}"', hint="there are: " + ", ".join(key.partition("/")[0] for key in ANALYSES))
