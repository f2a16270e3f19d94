"""What a result tells, declared as data before any patient is looked at: the vocabulary that the release rules read.

How this works. Every analysis says what its result will tell, from its parameters and the dictionary
(`Params.shows`), in the few words of this file: a table of people, an average, a curve, a fitted model,
trees, a table of scores. What the rules make of that stands in `overlaps`, `differences` and `linked`;
they read these declarations and nothing else, and know no analysis. So a new analysis, or an old one
under another name, is compared with every other as soon as it says what it shows; none can be registered
without saying it.

A result may show nothing that is not declared (`tests/test_declared_releases.py` tries every analysis).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
import numpy as np

from ..data.dictionary import MOST_GROUPS, Dictionary
from ..data.rows import Rows
from ..data.variable import Variable
from ..errors import QuestionError
from .rules import FEW_LEVELS

COUNTED_STEPS = 200     # of the dictionary: numbers of fewer are counted per value beside their sums
DECLARED_STEPS = 30     # up to which a number that may turn out to have few values is declared as one

# How a result hides small cells. Two tables with common variables may stand in one query only if they
# hide alike, see `linked`.
#   cells  : of the whole table, with complementary cells and margins
#   levels : cells of a table whose margins are known, as in a Table 1
#   groups : whole groups, with all that is said of them
#   merged : nothing; neighbouring bins of one column are joined instead
#   bands  : the same, joined within bands of another column
Hiding = Literal["cells", "levels", "groups", "merged", "bands"]


# -- who ----------------------------------------------------------------------------------------------


class Loss(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """Rows that an analysis loses on the way, though all their columns are known.

    why : "weightless", columns (weight,), where it is 0; "late", columns (entry, exit), where the row
    is not under observation before it ends.
    """

    why: Literal["weightless", "late"]
    columns: tuple[str, ...]

    def keeps(self, rows: Rows) -> np.ndarray:
        """Which rows stay, boolean of shape (n,). A missing value keeps nobody."""
        if self.why == "weightless":
            return rows.values(self.columns[0]) > 0
        entry, leaves = (rows.values(name) for name in self.columns)
        return entry < leaves


class Population(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """Which patients of the cohort a result is about: two populations are comparable sets of patients,
    whatever the analysis.

    known : columns that must be known, sorted. lost : rows lost on the way. weights : what the patients
    count for, as canonical JSON (see `weights_text`); "" where each counts once.
    """

    known: tuple[str, ...] = ()
    lost: tuple[Loss, ...] = ()
    weights: str = ""

    @staticmethod
    def of(columns: Iterable[str], lost: Iterable[Loss] = (), weights: Any = None) -> Population:
        return Population(tuple(sorted(set(columns))), tuple(lost), weights_text(weights))

    @property
    def people(self) -> Population:
        """The same patients, each counting once."""
        return msgspec.structs.replace(self, weights="")

    def inside(self, rows: Rows) -> np.ndarray:
        """Which rows belong to it, boolean of shape (n,)."""
        here = np.ones(rows.n, dtype=bool)
        for name in self.known:
            here &= rows.present(name)
        for loss in self.lost:
            here &= loss.keeps(rows)
        return here


def weights_text(weights: Any) -> str:
    """Weights as canonical text, so that two questions can be seen to weigh alike. weights : a column's
    name, inverse probabilities, or None."""
    if weights is None:
        return ""
    return msgspec.json.encode(msgspec.to_builtins(weights), order="deterministic").decode()


# -- by what ------------------------------------------------------------------------------------------


class Axis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """What a result tells patients apart by.

    column : its registered bins or levels. unknown : who has no value is a group too.
    some : a number of events, of which only those with none and those with some are told apart.
    several : a number of few values, of which those at its lower end, those one step above it and the
    others are told apart (none, one, several): what its mean and SD may give away.
    time, until : an event by a time: who had it by then, who had not, and who was censored before.
    """

    column: str
    unknown: bool = False
    some: bool = False
    several: bool = False
    time: str = ""
    until: float = 0.0

    @property
    def plain(self) -> bool:
        """Whether its groups are those of the column itself."""
        return not self.some and not self.several and not self.time


def axis(dictionary: Dictionary, name: str, *, unknown: bool = False) -> tuple[Axis, ...]:
    """The axis of a column that patients are divided by; none where it has no groups to tell apart, as
    the reserved word "registry"."""
    if name not in dictionary.names:
        return ()
    try:
        several = len(dictionary.bins(name, most=MOST_GROUPS)) > 1
    except QuestionError:
        return ()
    return (Axis(name, unknown=unknown),) if several else ()


def axes(dictionary: Dictionary, names: Iterable[str], *, unknown: bool = False) -> tuple[Axis, ...]:
    """The axes of several columns that patients are divided by."""
    return tuple(one for name in names for one in axis(dictionary, name, unknown=unknown))


def by_times(event: str, time: str, ends: Iterable[float]) -> tuple[Axis, ...]:
    """An event by each of some times that a question itself chose."""
    return tuple(Axis(event, time=time, until=float(end)) for end in ends)


def tells(variable: Variable) -> bool:
    """Whether a mean or a coefficient of this variable is a table of people in disguise: yes or no,
    levels, and numbers of few steps."""
    return variable.type in ("boolean", "category") or few_levels(variable)


def few_levels(variable: Variable) -> bool:
    """Whether mean and SD of this variable are a table of people in disguise (DISCLOSURE, implied tables)."""
    return variable.steps is not None and variable.steps < FEW_LEVELS


def counted(variable: Variable) -> bool:
    """Whether people are counted per value of this variable wherever its mean and SD are asked for, as
    it may turn out to have few values (`few_valued`)."""
    return variable.steps is not None and variable.steps < COUNTED_STEPS


def classes(dictionary: Dictionary, names: Iterable[str]) -> tuple[Axis, ...]:
    """The groups that averages and coefficients of these columns give away."""
    return tuple(one for name in dict.fromkeys(names) if tells(dictionary[name])
                 for one in axis(dictionary, name))


def moment_classes(dictionary: Dictionary, names: Iterable[str]) -> tuple[Axis, ...]:
    """The groups that mean and SD of these columns give away, or may: of a number whose values may turn
    out to be few, none, one and several."""
    names = tuple(dict.fromkeys(names))
    return (*classes(dictionary, names), *(Axis(name, several=True) for name in names if may_be_few(dictionary[name])))


def may_be_few(variable: Variable) -> bool:
    """Whether the dictionary leaves open if this number has few values."""
    return not tells(variable) and variable.is_numeric and variable.steps is not None and variable.steps <= DECLARED_STEPS


# -- what ---------------------------------------------------------------------------------------------


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that a result tells about a population."""

    of: Population

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Everything it tells patients apart by."""
        raise NotImplementedError

    @property
    def jointly(self) -> tuple[Axis, ...]:
        """Those of its axes of which it tells the combinations."""
        return self.axes

    def tables(self) -> tuple[Tabled, ...]:
        """The tables of people that it hides cells of in its own way; none where it hides nothing or is
        refused as a whole."""
        return ()


class Tabled(msgspec.Struct, frozen=True):
    """A table that a result shows: its variables, and how it hides small cells. merged : the column
    whose neighbouring bins are joined. implied : the number of which only moments are shown, a table in
    disguise where its values are few."""

    names: frozenset[str]
    hides: Hiding
    merged: str = ""
    implied: str = ""


class People(Declared, frozen=True, tag="people"):
    """A table of people. merged : the column whose neighbouring bins are joined until they may be shown."""

    by: tuple[Axis, ...]
    hides: Hiding = "cells"
    merged: str = ""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.by

    def tables(self) -> tuple[Tabled, ...]:
        names = frozenset({one.column for one in self.by} | ({self.merged} if self.merged else set()))
        return (Tabled(names, self.hides, self.merged),) if names else ()


class Average(Declared, frozen=True, tag="average"):
    """Numbers to which many contribute, one per group of `by`: means, moments, rates, correlations.

    what : the columns averaged. classes : groups that the average gives away, as the mean of a yes or no
    gives their number.
    """

    what: tuple[str, ...]
    by: tuple[Axis, ...] = ()
    classes: tuple[Axis, ...] = ()
    hides: Hiding = "groups"

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys((*self.by, *self.classes)))

    def tables(self) -> tuple[Tabled, ...]:
        by = frozenset(one.column for one in self.by)
        told = [one for one in self.classes if not one.several]
        names = {by | {one.column} for one in told} if by or self.hides == "levels" else set()
        names |= {by} if by else set()
        return (*(Tabled(one, self.hides) for one in sorted(names, key=sorted)),
                *(Tabled(by | {one.column}, self.hides, implied=one.column) for one in self.classes if one.several))


class SurvivalCurve(Declared, frozen=True, tag="curve"):
    """Events and people at risk over time, per group of `by`, or statistics of these (a log-rank test)."""

    time: str
    event: tuple[Axis, ...]
    by: tuple[Axis, ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys((*self.event, *self.by)))

    def tables(self) -> tuple[Tabled, ...]:
        by = frozenset(one.column for one in self.by)
        names = {by, *(by | {one.column} for one in self.event)} if by else set()
        return tuple(Tabled(one, "groups") for one in sorted(names, key=sorted))


class Regression(Declared, frozen=True, tag="fit"):
    """A fitted model: its coefficients give away every table of two of its factors. It is refused as a
    whole where one of these is small, so it hides nothing.

    design : groups of covariates and strata. outcome : groups of the outcome, events by chosen times
    among them.
    """

    design: tuple[Axis, ...]
    outcome: tuple[Axis, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys((*self.design, *self.outcome)))


class Trees(Declared, frozen=True, tag="trees"):
    """Trees whose leaves are boxes of covariates. No two axes are told jointly except inside leaves,
    which have rules of their own; two questions must not grow different trees on the same covariates.

    settings : everything that decides which trees are grown, as text.
    """

    covariates: tuple[str, ...]
    groups: tuple[Axis, ...]
    settings: str

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.groups

    @property
    def jointly(self) -> tuple[Axis, ...]:
        return ()


class ScoreBins(Declared, frozen=True, tag="bins"):
    """People by score and outcome, overall or by groups: what is said of a score's performance. score : the
    covariates that it is made of."""

    score: tuple[str, ...]
    outcome: tuple[Axis, ...]
    by: tuple[Axis, ...] = ()

    @property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(dict.fromkeys((*self.outcome, *self.by)))

    def tables(self) -> tuple[Tabled, ...]:
        by = frozenset(one.column for one in self.by)
        names = [by | {one.column} for one in self.outcome] if by else []
        return tuple(Tabled(one, "groups") for one in sorted(names, key=sorted))


class Support(Declared, frozen=True, tag="support"):
    """Where enough patients lay, by one covariate and by two together, and where fewer did: no number of them.

    Nobody and a few read alike, so that it tells no cell apart from an empty one."""

    covariates: tuple[str, ...]

    @property
    def axes(self) -> tuple[Axis, ...]:
        return ()


def population_of(shown: Iterable[Declared]) -> Population:
    """The one population that all declarations of a question are about."""
    (found,) = {one.of for one in shown}
    return found
