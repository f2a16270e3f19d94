"""Questions as people write them, on the command line or in a file, and the list of what can be asked."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.reading import read_json, read_toml
from ..errors import InputError, QuestionError

if TYPE_CHECKING:
    from ..client.federation import Cohort, CohortQuestion


@dataclass(frozen=True)
class Asked:
    """One question as it was written: a name for the report, the analysis, its columns and its other arguments."""

    name: str
    analysis: str
    columns: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name, or the question in words."""
        words = [" ".join((self.analysis, *self.columns)), *(f"{name} {value}" for name, value in self.arguments.items())]
        return self.name or ", ".join(words)

    def question(self, cohort: Cohort) -> CohortQuestion:
        """Raises QuestionError that names what the analysis takes."""
        from ..query.analysis import ANALYSES

        short = {member.name.partition("/")[0]: member for member in ANALYSES.values()}
        if self.analysis not in short:
            import difflib

            close = difflib.get_close_matches(self.analysis, short, n=1)
            raise QuestionError(f'there is no analysis "{self.analysis}"',
                                hint=f'did you mean "{close[0]}"?' if close else "there are: " + ", ".join(sorted(short)))
        if tables := [one for one in self.columns if one not in cohort.dictionary and _is_there(one)]:
            raise QuestionError(f"{tables[0]} is a file, not a column",
                                hint="give a folder of tables after --simulate or --pooled, or each table as NAME=FILE")
        signature = inspect.signature(short[self.analysis].call)
        parameters = signature.parameters
        usage = short[self.analysis].usage
        for name in self.arguments:
            if name not in parameters:
                raise QuestionError(f'{self.analysis} takes no "{name}"', hint=usage)
        args = self._args(signature, usage)
        try:
            given = signature.bind_partial(*args, **self.arguments).arguments
        except TypeError:
            raise QuestionError(f"{self.analysis} takes fewer columns than these {len(self.columns)}", hint=usage) from None
        wanted = [one.name for one in parameters.values() if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
        missing = [name for name in wanted if name not in given]
        if missing:
            raise QuestionError(f"{self.analysis} needs {' and '.join(missing)}", hint=usage)
        return getattr(cohort.question, self.analysis)(*args, **self.arguments)

    def _args(self, signature: inspect.Signature, usage: str) -> tuple[Any, ...]:
        """The columns as the call takes them: by name only, one by one, as one list, or an outcome and a list of covariates."""
        first, *others = signature.parameters.values()
        if first.kind is first.KEYWORD_ONLY:
            if self.columns:
                raise QuestionError(f"{self.analysis} takes its columns by name", hint=usage)
            return ()
        if first.name in ("columns", "cols"):
            return (list(self.columns),)
        if others and others[0].name == "covariates" and others[0].kind is not first.KEYWORD_ONLY and len(self.columns) > 1:
            return (self.columns[0], list(self.columns[1:]))
        return self.columns


@dataclass(frozen=True)
class Sheet:
    """Several questions about one cohort. cohort : its tree, where registries hold tables of MS."""

    questions: tuple[Asked, ...]
    cohort: dict[str, Any] | None = None
    where: Any = ()
    purpose: str = ""
    title: str = ""


def read_sheet(path: Path) -> Sheet:
    """The questions of a file: title, purpose, cohort, where, and one [[question]] per question. Raises InputError naming the file."""
    source = read_toml(path, "questions")
    hint = "fedstats ask --help shows such a file"
    unknown = set(source) - {"title", "purpose", "cohort", "where", "question"}
    if unknown:
        raise InputError(f'questions {path}: "{min(unknown)}" is not known here', hint=hint)
    questions = source.get("question")
    if not isinstance(questions, list) or not questions:
        raise InputError(f"questions {path}: at least one [[question]] is wanted", hint=hint)
    found = []
    for k, one in enumerate(questions, 1):
        arguments = dict(one) if isinstance(one, dict) else {}
        name, analysis, columns = arguments.pop("name", ""), arguments.pop("analysis", ""), arguments.pop("columns", ())
        if not isinstance(analysis, str) or not analysis or not isinstance(name, str):
            raise InputError(f'questions {path}: question {k} needs an "analysis"', hint=hint)
        columns = (columns,) if isinstance(columns, str) else columns
        if not isinstance(columns, (list, tuple)) or not all(isinstance(one, str) for one in columns):
            raise InputError(f'questions {path}: question {k}: "columns" is a list of names', hint=hint)
        found.append(Asked(name, analysis, tuple(columns), arguments))
    for name in ("title", "purpose"):
        if not isinstance(source.get(name, ""), str):
            raise InputError(f'questions {path}: "{name}" is a text', hint="write it in quotes")
    if not isinstance(source.get("cohort", {}), dict):
        raise InputError(f"questions {path}: [cohort] is a tree", hint='such as index = {event = "dmt_start"}')
    where = source.get("where", ())
    return Sheet(tuple(found), source.get("cohort"), (where,) if isinstance(where, str) else where, source.get("purpose", ""),
                 source.get("title", ""))


def read_cohort(path: Path) -> dict[str, Any]:
    """A cohort's tree from a file, TOML or JSON: the tree itself, or a file of questions that has one. Raises InputError."""
    source = read_toml(path, "cohort") if path.suffix != ".json" else read_json(path, "cohort")
    found = source.get("cohort", source) if isinstance(source, dict) else source
    if not isinstance(found, dict) or "index" not in found:
        raise InputError(f"cohort {path} has no index event", hint='such as index = {event = "dmt_start"}')
    return found


def _is_there(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):       # no name that a file can have
        return False


def analyses() -> list[tuple[str, str]]:
    """All analyses as (call, first sentence of its words)."""
    from ..client import federation  # noqa: F401  (registers them)
    from ..query.analysis import ANALYSES

    return sorted((member.usage, " ".join((member.joint.__doc__ or "").split("\n\n")[0].split())) for member in ANALYSES.values())
