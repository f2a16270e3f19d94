"""Which question of a query would, by subtraction from those before it, give away a few patients.

How this works. Where everybody with outcome B has outcome A too (deaths and "death or worsening", relapse within one year and within two),
A's number less B's is the number of those with A alone, and what a model says of A less what it says of B is theirs. A question is refused
if, with those before it, fewer than the smallest cell follow:

1. a union of groups of one variable and a union of groups of another are the same but for a few patients, who are in one of them only
   (also the same variable over other complete cases: what is left over lacks something);
2. an outcome is made of two others, and those with both, or with neither of the two, are a few;
3. an outcome, or everybody, takes in several that exclude each other, and the rest is small;
4. an outcome is that exactly one of two others happened, and those with both are a few.

Counts of a few that no subtraction gives say nothing about anybody, and are let through.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from ..data.dictionary import Dictionary
from ..sums.statistic import Sums
from .overlaps import Compared, Grouping
from .rules import Rules

EVERY_UNION = 6             # levels up to which every union of them is looked at; beyond it single levels, and all but one
MOST_PARTS = 4              # outcomes that exclude each other, looked at together


def trouble(k: int, many: Sequence[tuple[Compared, Sums]], dictionary: Dictionary, rules: Rules) -> str | None:
    """In words, which groups of question k, with those of the questions up to it, leave a few over; None if none do.

    many : what is compared, with its totals. Whole numbers only: every registry comes to the same verdict.
    """
    if rules.min_cell <= 1:
        return None
    for one, totals in many:
        earlier = sorted({each for some in one.shown[:k + 1] for each in some})
        if not one.shown[k] or len(earlier) < 2:
            continue
        for both in one.matrices(totals, dictionary):
            counts = _Counts(both, one.spans(dictionary), rules.min_cell, dictionary.most_rows == 1)
            if (found := counts.trouble(one.shown[k], earlier)) is not None:
                return found + (f' within a group of "{one.by}"' if one.by else "")
    return None


class _Counts:
    """Patients in pairs of groups, of everybody or of one group. both : shape (groups, groups). spans : where each grouping lies in it.
    k : the smallest cell. single : whether each patient has one row, so that the groups of a grouping exclude each other."""

    def __init__(self, both: np.ndarray, spans: dict[Grouping, slice], k: int, single: bool) -> None:
        self.both, self.n, self.spans, self.k, self.single = both, np.diag(both), spans, k, single
        # the same of the groups as a reader may know them
        known = [_visible(self.n[span], k) if single else np.eye(span.stop - span.start, dtype=np.int64)[self.n[span] >= k]
                 for span in spans.values()]
        ends = np.cumsum([len(one) for one in known]).tolist()
        self.seen = {one: slice(end - len(parts), end) for one, parts, end in zip(spans, known, ends)}
        into = np.zeros((ends[-1], len(both)), dtype=np.int64)
        for span, seen, parts in zip(spans.values(), self.seen.values(), known):
            into[seen, span] = parts
        self.people, self.tables = into @ self.n, into @ both @ into.T

    def trouble(self, mine: Sequence[Grouping], earlier: Sequence[Grouping]) -> str | None:
        """In words, which of these groupings, with earlier ones, leave a few over."""
        for one in mine:
            for other in earlier:
                twice = other in mine and other <= one                  # seen the other way round
                own = one.axis.time and other.axis.time and other in mine         # a question looks after its own times
                if not twice and not own and self._leave_few(one, other):
                    same = "the same by another time" if other in mine else "the same in a question before it"
                    there = f'"{other.column}"' if one.column != other.column else same
                    return f'"{one.column}" and {there}'
        return self._made_of_others(mine, earlier) if self.single else None

    def _leave_few(self, a: Grouping, b: Grouping) -> bool:
        """Whether a union of groups of the one and a union of groups of the other differ by a few patients."""
        n, m, table = self.people[self.seen[a]], self.people[self.seen[b]], self.tables[self.seen[a], self.seen[b]]
        if not len(n) or not len(m):
            return False
        if not self.single:
            differ = n[:, None] + m - 2 * table
            return bool(((differ > 0) & (differ < self.k)).any())
        if len(n) > len(m):
            n, m, table = m, n, table.T
        some = _unions(len(n))
        met = some @ table
        most = 2 * met > m                      # of the other's groups those of which it has more than half: the nearest union
        differ = some @ n + np.where(most, m - 2 * met, 0).sum(axis=1)
        if a.column != b.column:                # all of both: the driver compares complete cases
            differ = differ[~(some.all(axis=1) & most.all(axis=1))]
        return bool(((differ > 0) & (differ < self.k)).any())

    def _made_of_others(self, mine: Sequence[Grouping], earlier: Sequence[Grouping]) -> str | None:
        """Whether a yes or no, or its contrary, is made of others up to a few."""
        binary = [one for one in earlier if self.spans[one].stop - self.spans[one].start == 2]
        sides = [(one, place) for one in binary for place in range(self.spans[one].start, self.spans[one].stop)
                 if self.n[place] >= self.k]
        for whole, w in sides:
            inside = [(one, p) for one, p in sides if one.column != whole.column and self.both[w, p] == self.n[p] < self.n[w]]
            if (found := self._left_over(int(self.n[w]), inside, mine, whole)) is not None:
                return found + f' and "{whole.column}"'
        for of in {one.of for one in binary}:
            here = [(one, p) for one, p in sides if one.of == of]
            everybody = next((int(self.n[self.spans[one]].sum()) for one in binary if one.of == of), 0)
            if (found := self._left_over(everybody, here, mine, None)) is not None:
                return found
        return self._exactly_one(sides, mine)

    def _exactly_one(self, sides: Sequence[tuple[Grouping, int]], mine: Sequence[Grouping]) -> str | None:
        """Whether some side holds who has exactly one of two others, and a few have both: the sizes of the
        two, less its own, are twice their number."""
        if not sides:
            return None
        places = [p for _, p in sides]
        n, both = self.n[places], self.both[np.ix_(places, places)]
        few = (both > 0) & (both < self.k)
        for w in range(len(sides)):
            alone = (n[:, None] - both == both[:, [w]]) & (n[None, :] - both == both[[w], :])      # a and not b is a and w
            for a, b in np.argwhere(few & alone & (both[:, [w]] + both[[w], :] == n[w])).tolist():
                parts = {sides[place][0] for place in (a, b, w)}
                if a < b and len(parts) == 3 and parts & set(mine):
                    return " and ".join(f'"{one.column}"' for one in sorted(parts))
        return None

    def _left_over(self, whole: int, inside: Sequence[tuple[Grouping, int]], mine: Sequence[Grouping],
                   of: Grouping | None) -> str | None:
        """In words, groups inside a whole of so many patients that leave a few of it over, or have a few in common and
        leave nobody over. of : the grouping that the whole belongs to; None for everybody."""
        for parts in self._families(inside):
            if len({one for one, _ in parts}) < len(parts) or not {of, *(one for one, _ in parts)} & set(mine):
                continue
            places = [p for _, p in parts]
            overlap = int(self.both[places[0], places[1]]) if len(parts) == 2 else 0
            rest = int(whole - self.n[places].sum() + overlap)
            if (overlap == 0 and 0 < rest < self.k) or (rest == 0 and 0 < overlap < self.k):
                return ", ".join(f'"{one.column}"' for one, _ in parts)
        return None

    def _families(self, inside: Sequence[tuple[Grouping, int]]) -> Iterator[tuple[tuple[Grouping, int], ...]]:
        """Pairs of groups, and up to `MOST_PARTS` that exclude each other."""
        yield from itertools.combinations(inside, 2)
        apart: list[tuple[tuple[Grouping, int], ...]] = [pair for pair in itertools.combinations(inside, 2)
                                                         if self.both[pair[0][1], pair[1][1]] == 0]
        for _ in range(MOST_PARTS - 2):
            apart = [(*family, one) for family in apart for one in inside
                     if one[1] > family[-1][1] and all(self.both[one[1], p] == 0 for _, p in family)]
            yield from apart


def _visible(n: np.ndarray, k: int) -> np.ndarray:
    """Groups as a reader may know them, 0/1 of shape (known, groups): those of fewer than k taken together, with the smallest others
    until they are enough; groups of nobody left out."""
    there = np.flatnonzero(n > 0)
    order = there[np.argsort(n[there], kind="stable")]
    few = int((n[order] < k).sum())
    while 0 < few < len(order) and n[order[:few]].sum() < k:
        few += 1
    parts = [[place] for place in order[few:]] + ([order[:few]] if few else [])
    found = np.zeros((len(parts), len(n)), dtype=np.int64)
    for row, part in enumerate(parts):
        found[row, part] = 1
    return found[(found @ n) >= k]


@cache
def _unions(levels: int) -> np.ndarray:
    """Unions of groups, 0/1 of shape (unions, levels): every one of a few, else single ones, all but one, and all."""
    if levels <= EVERY_UNION:
        return np.array(list(itertools.product((0, 1), repeat=levels)), dtype=np.int64)[1:]
    one = np.eye(levels, dtype=np.int64)
    return np.vstack([one, 1 - one, np.ones((1, levels), dtype=np.int64)])
