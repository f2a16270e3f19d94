"""What registries hold, and how a cohort becomes rows: the same recipe at everybody, the rows at the registry only.

How this works. A consortium holds one of two kinds of data, and its `Codebook` says which:
- one row per patient in one table: the dictionary describes its columns, and the cohort is everybody in it;
- the five tables of MS (`ms.tables`): a cohort is a tree (`ms.cohort`) that is compiled into a recipe with a dictionary of its own.
Codebook and tree are public; `Held` and the rows derived from it never leave a registry. The hash of a recipe names all that decides
which rows come out of it, so that a registry that would read the tree differently refuses instead of answering something else.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..data.cells import Form
from ..data.dictionary import Dictionary
from ..data.forms import Undeclared, stop
from ..data.rows import Rows, load
from ..errors import InputError, QuestionError

if TYPE_CHECKING:
    from ..ms.cohort import Recipe as MsRecipe
    from ..ms.tables.dmt import Treatments
    from ..ms.tables.registry import Registry

TABLES = ("patients", "visits", "relapses", "treatments", "mri")
AT_RISK = ": at risk"    # ends the step of the flow that belongs to one outcome
AS_RECORDED = ("sex",)  # categories of patients that a cohort takes as they are
MOST_DERIVED = 4        # cohorts whose rows a registry keeps in memory


class Recipe(Protocol):
    """How rows come about. dictionary : of the rows. steps : names of the flow's counts, in order. hash : empty for whole tables.

    conditional : columns that are known only of those to whom something happened, with the column that says of whom it is known whether
    ("" : of everybody).
    """

    @property
    def dictionary(self) -> Dictionary: ...
    @property
    def steps(self) -> tuple[str, ...]: ...
    @property
    def hash(self) -> str: ...
    @property
    def conditional(self) -> Mapping[str, str]: ...
    def sentence(self) -> str: ...
    def to_dict(self) -> Any: ...


@dataclass(frozen=True)
class Whole:
    """The recipe of a table that has one row per patient already: everybody in it."""

    dictionary: Dictionary
    steps: tuple[str, ...] = ()
    hash: str = ""
    conditional: Mapping[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        return ""

    def to_dict(self) -> None:
        return None


@dataclass(frozen=True)
class Derivation:
    """The recipe of a cohort on the tables of MS."""

    recipe: MsRecipe
    steps: tuple[str, ...]

    @property
    def dictionary(self) -> Dictionary:
        return self.recipe.dictionary

    @property
    def hash(self) -> str:
        return self.recipe.hash

    @property
    def conditional(self) -> Mapping[str, str]:
        return self.recipe.conditional

    def sentence(self) -> str:
        return self.recipe.describe()

    def to_dict(self) -> Any:
        return self.recipe.to_dict()


@dataclass(frozen=True)
class Codebook:
    """What everybody knows of the data. treatments : the list that DMT names are read with; None where tables have one row per patient."""

    dictionary: Dictionary
    treatments: Treatments | None = None

    def recipe(self, cohort: Any = None) -> Whole | Derivation:
        """The recipe of a cohort. cohort : a tree (see `ms.cohort.tree.Tree`), or None for everybody in tables of one row per patient.

        Raises QuestionError, also for a cohort of the other kind.
        """
        if self.treatments is None:
            if cohort is not None:
                raise QuestionError("this federation holds one row per patient: a cohort is a filter, it has no index event",
                                    hint="give the conditions only, such as [(\"age\", \">=\", 18)]")
            return Whole(self.dictionary)
        if cohort is None:
            raise QuestionError("this federation holds visits, relapses and treatments: a cohort needs an index event",
                                hint='such as {"index": {"event": "dmt_start"}, "covariates": ["age", "edss"], "outcomes": [...]}')
        from ..ms import cohort as compiler

        recipe = compiler.compile(cohort, codebook=self.dictionary, treatment_list=self.treatments)
        return Derivation(recipe, _steps(recipe, _no_tables(self)))


@dataclass(frozen=True)
class Held:
    """The tables of MS at one registry. recorded : those that it keeps, even if they have no rows."""

    registry: Registry
    recorded: frozenset[str]

    @property
    def n(self) -> int:
        return len(self.registry.ids)

    def __repr__(self) -> str:      # a notebook must not print patients
        return f"Held({self.registry})"


@dataclass
class Household:
    """One registry's data and the rows derived from it. Rows are kept by the hash of their recipe: tables and data cut are frozen."""

    data: Rows | Held
    _kept: OrderedDict[str, Rows] = field(default_factory=OrderedDict, repr=False)

    @property
    def n(self) -> int:
        """Patients, an upper bound of those of any cohort."""
        return self.data.people() if isinstance(self.data, Rows) else self.data.n

    def rows(self, recipe: Whole | Derivation) -> Rows:
        """The rows of a cohort at this registry."""
        if isinstance(self.data, Rows):
            return self.data
        assert isinstance(recipe, Derivation)
        if recipe.hash not in self._kept:
            derived = recipe.recipe.derive(self.data.registry, recorded=self.data.recorded)
            rows = derived.rows
            came = dict(derived.flow)
            flow = tuple(came[step] for step in recipe.steps)
            self._kept[recipe.hash] = Rows(rows.dictionary, rows.n, rows.held, derived.patient_id, flow, self._occupied(rows))
            while len(self._kept) > MOST_DERIVED:
                self._kept.popitem(last=False)
        self._kept.move_to_end(recipe.hash)
        return self._kept[recipe.hash]


    def _occupied(self, rows: Rows) -> dict[str, np.ndarray]:
        """Levels that occur among all patients of this registry, for categories that a cohort takes as they are (sex)."""
        assert isinstance(self.data, Held)
        patients = self.data.registry.held["patients"]
        found = {}
        for variable in rows.dictionary.variables:
            if variable.type == "category" and variable.name in AS_RECORDED:
                found[variable.name] = np.isin(np.arange(len(variable.labels or ())), patients[variable.name])
        return found


def is_ms(table: Any) -> bool:
    """Whether this is a registry's five tables: a folder that holds visits, a mapping of tables, or tables that were loaded already."""
    if isinstance(table, (str, Path)):
        return Path(table).is_dir()
    if isinstance(table, Mapping):
        return bool(table) and set(table) <= set(TABLES)
    return hasattr(table, "treatment_list")


def read(table: Any, codebook: Codebook, *, data_cut: str | None = None, who: str = "", form: Form | None = None
         ) -> tuple[Household, Findings]:
    """Load a registry's data. table : see `tables.columns_of`; for MS a folder, a mapping of tables, or an `registry.Registry`, which is
    taken as it is. data_cut : date after which nothing can have happened (YYYY-MM-DD), for cleaning. form : how the files are written.

    Raises InputError for data that cannot be used at all, or is written in a form that was not declared.
    """
    household, report = survey(table, codebook, data_cut=data_cut, who=who, form=form)
    check(report, who=who, form=form)
    return household, report


def check(report: Findings, *, who: str = "", form: Form | None = None) -> None:
    """Raises InputError where more of a column than may be lost is written in a form that was not declared (see `forms`)."""
    stop(report.undeclared, form or Form(), who)


def survey(table: Any, codebook: Codebook, *, data_cut: str | None = None, who: str = "", form: Form | None = None
           ) -> tuple[Household, Findings]:
    """As `read`, but forms that were not declared are in the report only."""
    if codebook.treatments is None:
        rows, report = load(table, codebook.dictionary, who=who, form=form)
        return Household(rows), report
    from ..ms import tables as ms_tables
    from ..ms.tables import cleaning
    from ..ms.tables.registry import Registry

    if isinstance(table, Registry):
        return Household(Held(table, frozenset(name for name in TABLES if table.held[name].n))), Several(())
    raw, found = ms_tables.load(table, forms=form, codebook=codebook.dictionary, treatment_list=codebook.treatments)
    if raw.refused:
        raise InputError(f"{who}: {'; '.join(str(one) for one in found.findings if one.effect == 'refused')}".removeprefix(": "),
                         hint="correct the file; the other tables are not used without it")
    clean, cleaned = cleaning.clean(raw, data_cut=data_cut)
    return Household(Held(clean, frozenset(found.read))), Several((found, cleaned))


class Findings(Protocol):
    """What loading found, for the eyes of the registry only."""

    @property
    def ok(self) -> bool: ...
    @property
    def undeclared(self) -> tuple[Undeclared, ...]: ...
    def lines(self) -> list[str]: ...


@dataclass(frozen=True)
class Several:
    """The report of loading, then that of cleaning."""

    reports: Sequence[Any]

    @property
    def ok(self) -> bool:
        return all(getattr(one, "ok", True) for one in self.reports)

    @property
    def undeclared(self) -> tuple[Undeclared, ...]:
        return tuple(line for one in self.reports for line in getattr(one, "undeclared", ()))

    def lines(self) -> list[str]:
        """What was found, first; then rows, columns, and rules that found nothing."""
        split = [one.lines() for one in self.reports]
        found = [one.found() for one in self.reports]
        return [line for part in found for line in part] + [line for part, first in zip(split, found) for line in part[len(first):]]


def load_treatments(path: str | Path | None) -> Treatments:
    """A list of treatments from a file, the shipped one without."""
    from ..ms.tables import dmt

    return dmt.Treatments.load(path) if path else dmt.shipped()


def treatments_digest(treatments: Treatments) -> str:
    """SHA-256 of a list of treatments; the roster pins it."""
    import hashlib

    import msgspec

    text = json.dumps(msgspec.to_builtins(treatments), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _steps(recipe: MsRecipe, nobody: Registry) -> tuple[str, ...]:
    """The steps of the flow that may leave: each holds patients of an earlier one, so that two of them give away their difference and
    nothing else. How an outcome ended is asked of the analyses, under the rules for tables; episodes are not people."""
    steps = [step for step, _ in recipe.derive(nobody, recorded=TABLES).flow]
    last = max(k for k, step in enumerate(steps) if step.endswith("in the cohort"))
    risk = [] if recipe.episodes else [f"{one.name}{AT_RISK}" for one in recipe.tree.outcomes]
    return tuple(step for k, step in enumerate(steps) if (k <= last and not step.startswith("episode")) or step in risk)


def _no_tables(codebook: Codebook) -> Registry:
    """Tables of nobody, from which the names of the flow's steps are read."""
    from ..ms import tables as ms_tables
    from ..ms.tables.registry import COLUMNS

    empty: dict[str, dict[str, list[Any]]] = {name: {column.rstrip("*+!"): [] for column in columns} for name, columns in COLUMNS.items()}
    registry, _ = ms_tables.load(empty, codebook=codebook.dictionary, treatment_list=codebook.treatments)
    return registry
