"""Groups of patients that the questions of one query show, and how many patients are in two of them.

How this works. A result tells how many patients have an outcome, or a level of a variable, or gives it away as it shows means and
coefficients. Round 0 counts for each pair of such groups how many patients are in both, over all questions of the query and over the
complete cases of each; once over everybody, and once within the groups of each variable that questions divide patients by. What follows
from these counts is decided in `differences` and `linked`, before any question is answered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from . import steady
from .analyses._common import MISSING
from .analyses.boosting.objectives import HAZARD
from .analyses.boosting.params import BoostParams
from .analyses.histogram import HistogramParams
from .analyses.moments import few_levels
from .analyses.validation.params import ValidationParams
from .analysis import Params
from .dictionary import MOST_GROUPS, Dictionary
from .errors import QuestionError
from .rows import Rows
from .statistic import INDICATORS, Ask, Block, Sums, statistic

DIVIDING = ("variables", "by", "strata")            # fields of parameters that name variables which patients are divided by
NAMED = (*DIVIDING, "categorical")                  # and those that name variables whose groups are shown
MOST_NUMBERS = 400_000      # of one query in round 0 for this: about 4 MB under the seal
AT_ONCE = 4096              # patients counted at a time: single precision is exact


class Grouping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """One variable whose groups a question shows. needs : what must be known of a patient to be in it. missing : unknown is a group too.
    some : a number of events, of which those with none and those with some are told. time, until : an event by some time, of which those
    with it, those without and those censored before are told.
    """

    column: str
    needs: tuple[str, ...] = ()
    missing: bool = False
    some: bool = False
    time: str = ""
    until: float = 0.0

    def labels(self, dictionary: Dictionary) -> tuple[str, ...]:
        if self.some:
            return ("none", "some")
        if self.time:
            return ("without", "with", "censored")
        return dictionary.bins(self.column, most=MOST_GROUPS).labels + ((MISSING,) if self.missing else ())

    def places(self, rows: Rows) -> np.ndarray:
        """The group of each row, int64, shape (n,); -1 for those in none."""
        place = np.minimum(rows.steps(self.column), 1) if self.some else rows.bins(self.column)
        if self.time:
            later = rows.values(self.time) > self.until * (1 + 1e-12)
            place = np.where(later, 0, np.where(place == 1, 1, 2))
        if self.missing:
            place = np.where(place < 0, len(rows.dictionary.bins(self.column)), place)
        known = np.ones(rows.n, dtype=bool)
        for name in self.needs:
            known &= rows.present(name)
        return np.where(known, place, -1)


class Compared(msgspec.Struct, frozen=True):
    """What is compared with each other: groupings, over everybody (by : None) or within each group of a variable, and who shows what.

    shown : per question, in order, those of the groupings that it shows.
    """

    by: str | None
    shown: tuple[tuple[Grouping, ...], ...]

    @property
    def groupings(self) -> list[Grouping]:
        return sorted({one for some in self.shown for one in some})

    @property
    def ask(self) -> Ask:
        return overlaps(groupings=msgspec.to_builtins(self.groupings), by=self.by)

    def spans(self, dictionary: Dictionary) -> dict[Grouping, slice]:
        """Where the groups of each grouping lie among all groups."""
        sizes = [len(one.labels(dictionary)) for one in self.groupings]
        return {one: slice(end - size, end) for one, size, end in zip(self.groupings, sizes, itertools.accumulate(sizes))}

    def matrices(self, totals: Sums, dictionary: Dictionary) -> list[np.ndarray]:
        """Patients in both of two groups, int64, shape (groups, groups); one matrix, or one per group of `by` and one for unknown."""
        count = max(span.stop for span in self.spans(dictionary).values())
        return [steady.unpack(packed, count).astype(np.int64) for packed in totals["both"]]

    def counts(self, grouping: Grouping, totals: Sums, dictionary: Dictionary) -> tuple[np.ndarray, np.ndarray]:
        """Patients per group, and contributing registries; int64, shape (groups of `by` or one, groups of this grouping)."""
        span = self.spans(dictionary)[grouping]
        return totals["people"][:, span], totals["people" + INDICATORS][:, span]


def compared(params: Sequence[Params], dictionary: Dictionary) -> list[Compared]:
    """Everything that the questions of a query show beside each other; nothing where there is nothing to compare.

    Raises QuestionError for too many groups.
    """
    shown = [groupings(one, dictionary) for one in params]
    found = [Compared(None, tuple(shown))]
    for by in sorted({one.column for some in shown for one in some if not one.some and not one.time}):
        found.append(Compared(by, tuple(tuple(_divided(each, by, some)) for each, some in zip(params, shown))))
    found = [one for one in found if one.groupings and sum(map(len, one.shown)) > 1]
    if sum(block.size for one in found for block in one.ask.layout(dictionary).values()) > MOST_NUMBERS:
        raise QuestionError("these questions show too many groups of patients to be checked against each other",
                            hint="ask fewer of them at a time, or about the same columns")
    return found


def groupings(params: Params, dictionary: Dictionary) -> tuple[Grouping, ...]:
    """The variables whose groups a question shows, or gives away as it shows means and coefficients of them: yes or no, categories,
    numbers of few levels, and whatever it groups by."""
    grouped, needs = named(params, NAMED) & set(dictionary.names), tuple(sorted(set(params.columns())))
    grouped |= {params.column} if isinstance(params, HistogramParams) else set()
    found, several = set(), getattr(params, "by", None)
    for name in {*params.reads(), *grouped}:
        variable = dictionary[name]
        if name in grouped or variable.type in ("boolean", "category") or few_levels(variable):
            if _grouped(dictionary, name):
                unknown = getattr(params, "missing", False) or (isinstance(several, tuple) and name in several)
                found.add(Grouping(name, needs, missing=name not in needs and bool(unknown)))
        elif name == getattr(params, "events", None):
            found.add(Grouping(name, needs, some=True))
    timed = set(_by_time(params, needs, dictionary))
    if isinstance(params, (BoostParams, ValidationParams)):         # these tell of events by those times only
        found -= {Grouping(one.column, one.needs) for one in timed}
    return tuple(sorted(found | timed))


def _by_time(params: Params, needs: tuple[str, ...], dictionary: Dictionary) -> Iterator[Grouping]:
    """Events by the times that the question itself chose: horizons, cuts, the end of the last interval of a hazard."""
    time, event = getattr(params, "time", None), getattr(params, "event", None)
    times = [*(getattr(params, "horizons", None) or ()), *(getattr(params, "cuts", None) or ())]
    if isinstance(params, BoostParams) and params.objective == HAZARD:
        event, times = params.outcome, [params.target(dictionary, 1).ends[-1]]
    for one in times:
        yield Grouping(str(event), needs, time=str(time), until=float(one))


def _divided(params: Params, by: str, shown: Sequence[Grouping]) -> Iterator[Grouping]:
    """What a question shows within the groups of one of its variables. A model does so for all that it has: its coefficients are such
    tables. Where several variables divide everybody, each in turn, they do not divide each other."""
    dividing, several = named(params, DIVIDING), getattr(params, "by", None)
    for one in shown if by in {each.column for each in shown if not each.some and not each.time} else ():
        if isinstance(several, tuple):
            yield from (one,) if (by in several) != (one.column in several) else ()
        elif one.column != by and (hasattr(params, "terms") or {by, one.column} & dividing):
            yield one


def named(params: Params, fields: Iterable[str]) -> set[str]:
    """The variables that these fields of the parameters name."""
    found: set[str] = set()
    for field in fields:
        value = getattr(params, field, None) or ()
        found |= {value} if isinstance(value, str) else set(value)
    return found


def _grouped(dictionary: Dictionary, name: str) -> bool:
    try:
        return len(dictionary.bins(name, most=MOST_GROUPS)) > 1
    except QuestionError:
        return False


# -- the local half --------------------------------------------------------------------------------------------------------------


def _layout(dictionary: Dictionary, *, groupings: Sequence[dict], by: str | None = None) -> dict[str, Block]:
    count = sum(len(one.labels(dictionary)) for one in msgspec.convert(groupings, list[Grouping]))
    strata = len(dictionary.bins(by, most=MOST_GROUPS)) + 1 if by else 1
    return {"people": Block((strata, count), counts=True), "both": Block((strata, count * (count + 1) // 2), integer=True)}


@statistic("overlaps/1", layout=_layout)
def overlaps(rows: Rows, groupings: Sequence[dict], by: str | None = None) -> dict:
    """Patients in each group, and in both of two for all pairs of groups (the upper triangle of a matrix, packed); by group of `by` where
    it is given, unknown last. With several rows per patient: who has a row in the one and a row in the other."""
    read = msgspec.convert(groupings, list[Grouping])
    places = [one.places(rows) for one in read]
    sizes = [len(one.labels(rows.dictionary)) for one in read]
    strata = [np.ones(rows.n, dtype=bool)]
    if by is not None:
        stratum = rows.bins(by)
        strata = [stratum == place for place in (*range(len(rows.dictionary.bins(by))), -1)]
    found = [_both(None if rows.person is None else rows.person[here], [one[here] for one in places], sizes) for here in strata]
    return {"people": [np.diag(both) for both in found], "both": [steady.pack(both) for both in found]}


def _both(person: np.ndarray | None, places: Sequence[np.ndarray], sizes: Sequence[int]) -> np.ndarray:
    """Patients in both of two groups, shape (groups, groups)."""
    n = len(places[0])
    order = np.arange(n) if person is None else np.argsort(person, kind="stable")
    first = np.arange(n) if person is None else np.flatnonzero(np.diff(person[order], prepend=-1))
    ends, groups = np.append(first, n), [(place, k) for place, size in zip(places, sizes) for k in range(size)]
    both = np.zeros((len(groups), len(groups)))
    for start in range(0, len(first), AT_ONCE):
        stop = min(start + AT_ONCE, len(first))
        here = order[ends[start]:ends[stop]]
        inside = np.empty((len(groups), len(here)), dtype=np.float32)
        for row, (place, k) in zip(inside, groups):
            row[:] = place[here] == k
        if person is not None:
            inside = np.maximum.reduceat(inside, ends[start:stop] - ends[start], axis=1)
        both += inside @ inside.T
    return both
