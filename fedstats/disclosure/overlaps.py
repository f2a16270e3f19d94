"""Groups of patients that the questions of one query show, and how many patients are in two of them.

How this works. A result tells how many patients have an outcome, or a level of a variable, or gives it
away as it shows means and coefficients: its declarations say which (`release`). Round 0 counts for each
pair of such groups how many patients are in both, over all questions of the query and over the patients
that each is about; once over everybody, and once within the groups of each variable that a question
tells them jointly with. What follows from these counts is decided in `differences` and `linked`, before
any question is answered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from ..data.dictionary import MOST_GROUPS, Dictionary
from ..data.rows import Rows
from ..errors import QuestionError
from ..sums import steady
from ..sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from .release import Axis, Declared, Population

UNKNOWN = "missing"         # the label of the group of those without a value
MOST_NUMBERS = 400_000      # of one query in round 0 for this: about 4 MB under the seal
AT_ONCE = 4096              # patients counted at a time: single precision is exact


class Grouping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, order=True):
    """One axis by which a question tells its population apart."""

    axis: Axis
    of: Population = Population()

    @property
    def column(self) -> str:
        return self.axis.column

    def labels(self, dictionary: Dictionary) -> tuple[str, ...]:
        if self.axis.some:
            return ("none", "some")
        if self.axis.several:
            return ("none", "one", "several")
        if self.axis.time:
            return ("without", "with", "censored")
        found = dictionary.bins(self.column, most=MOST_GROUPS).labels
        return found + ((UNKNOWN,) if self.axis.unknown else ())

    def places(self, rows: Rows) -> np.ndarray:
        """The group of each row, int64, shape (n,); -1 for those in none."""
        one = self.axis
        most = 1 if one.some else 2 if one.several else None
        place = rows.bins(one.column) if most is None else np.minimum(rows.steps(one.column), most)
        if one.time:
            later = rows.values(one.time) > one.until * (1 + 1e-12)
            place = np.where(later, 0, np.where(place == 1, 1, 2))
        if one.unknown:
            place = np.where(place < 0, len(rows.dictionary.bins(one.column)), place)
        return np.where(self.of.inside(rows), place, -1)


class Compared(msgspec.Struct, frozen=True):
    """What is compared with each other: groupings, over everybody (by : None) or within each group of a variable, and who shows what.

    shown : per question, in order, those of the groupings that it shows. every : what was counted, where
    that is more.
    """

    by: str | None
    shown: tuple[tuple[Grouping, ...], ...]

    every: tuple[Grouping, ...] = ()

    @property
    def groupings(self) -> list[Grouping]:
        """All that are counted, in the order in which they are asked for."""
        return list(self.every) or sorted({one for some in self.shown for one in some})

    def among(self, there: Sequence[object]) -> Compared:
        """The same counts, as if those questions had not been asked for which there is nothing in `there`."""
        shown = tuple(one if here else () for one, here in zip(self.shown, there))
        return msgspec.structs.replace(self, shown=shown, every=tuple(self.groupings))

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


def compared(questions: Sequence[Sequence[Declared]], dictionary: Dictionary) -> list[Compared]:
    """Everything that the questions of a query show beside each other; nothing where there is nothing to
    compare. questions : per question, what it declares.

    Raises QuestionError for too many groups.
    """
    shown = [groupings(one) for one in questions]
    found = [Compared(None, tuple(shown))]
    for by in sorted({one.column for some in shown for one in some if one.axis.plain}):
        found.append(Compared(by, tuple(tuple(sorted(set(_within(each, by)))) for each in questions)))
    found = [one for one in found if one.groupings and sum(map(len, one.shown)) > 1]
    if sum(block.size for one in found for block in one.ask.layout(dictionary).values()) > MOST_NUMBERS:
        raise QuestionError("these questions show too many groups of patients to be checked against each other",
                            hint="ask fewer of them at a time, or about the same columns")
    return found


def groupings(shown: Sequence[Declared]) -> tuple[Grouping, ...]:
    """What a question tells its patients apart by, on its own."""
    return tuple(sorted({Grouping(axis, one.of.people) for one in shown for axis in one.axes}))


def _within(shown: Sequence[Declared], by: str) -> Iterator[Grouping]:
    """What a question tells within the groups of one of its columns: whatever it declares jointly with it."""
    for one in shown:
        if any(axis.column == by and axis.plain for axis in one.jointly):
            yield from (Grouping(axis, one.of.people) for axis in one.jointly if axis.column != by)


# -- the local half --------------------------------------------------------------------------------------------------------------


def _layout(dictionary: Dictionary, *, groupings: Sequence[dict], by: str | None = None) -> dict[str, Block]:
    count = sum(len(one.labels(dictionary)) for one in msgspec.convert(groupings, list[Grouping]))
    strata = len(dictionary.bins(by, most=MOST_GROUPS)) + 1 if by else 1
    return {"people": Block((strata, count), counts=True), "both": Block((strata, count * (count + 1) // 2), integer=True)}


@statistic("overlaps/3", layout=_layout)
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
