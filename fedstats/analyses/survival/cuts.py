"""Which intervals of a life table may be shown (DISCLOSURE, survival curves).

How the release rules work here (DISCLOSURE, survival curves; Huth et al. 2023 for the subtraction attacks):
1. Counts are taken on the registered grid. Neighbouring intervals are merged until each holds nobody or at least k events, and
   nobody or at least k censored, from enough registries; the curve ends where what remains is nobody or at least k people.
2. Everybody together is cut first, whatever the question. A question by groups may cut only where everybody is cut, and at the
   same places for all its groups: so groups and everybody, asked one after the other, never differ by a small number of people.
3. Larger groups may then be cut more finely: inside the common intervals, as long as the groups that are not cut there hold,
   taken together, nobody or at least k. Subtracting all finer groups from everybody gives that pool and no single group.
   (A group cut finely on its own would give away the other one of two groups.)
4. An interval where nobody leaves is never shown on its own: it would date the first event after it.
5. How many registries stand behind a merged interval is counted in a second round, on the intervals found in the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.variable import ON_STEP
from ...disclosure import Rules, safe
from ...disclosure.suppression import Shown, show_table
from ...errors import QuestionError
from ...query.analysis import Setting
from ...sums.statistic import INDICATORS, Ask, Sums
from ..shared.common import groups
from .life_table import life_table, margins_of, times_of

Ends = tuple[int, ...]      # where ranges of bins end, exclusive, increasing: (3, 7) are the bins 0..2 and 3..6


@dataclass(frozen=True)
class Line:
    """One group over the bins, for the release rules only.

    before : events and censored before each bin, shape (2, bins + 1). seen : what is known about the registries behind it:
    pairs (ends, registries with events and with censored in each range, shape (2, ranges)).
    """

    before: np.ndarray
    seen: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def people(self) -> int:
        return int(self.before[:, -1].sum())

    def registries(self, start: int, stop: int) -> np.ndarray:
        """At least so many registries have events, and censored, in the bins start..stop-1: shape (2,)."""
        found = np.zeros(2, dtype=np.int64)
        for ends, counted in self.seen:
            first = np.searchsorted(np.concatenate([[0], ends[:-1]]), start)
            last = np.searchsorted(ends, stop, side="right")
            found = np.maximum(found, counted[:, first:last].max(axis=1, initial=0))
        return found


def pool(lines: Sequence[Line]) -> Line:
    """Several groups taken together; its registries are at least those of any of them."""
    seen = tuple((same[0][0], np.maximum.reduce([counted for _, counted in same])) for same in zip(*(line.seen for line in lines)))
    return Line(np.sum([line.before for line in lines], axis=0), seen)


def _merge(lines: Sequence[Line], base: Sequence[int], start: int, stop: int, rules: Rules, *, tail: bool) -> list[int]:
    """Merge the ranges that end at `base` from the left until each is safe for all lines.

    tail : what is left over at the end stays unshown if it is nobody or at least the smallest cell in every line, and would be
    safe to derive from totals known elsewhere (else the last range joins it). Without tail it joins the last range, for a whole
    that is known to be safe.
    """
    before = np.stack([line.before for line in lines])

    def is_safe(here: int, end: int) -> bool:
        count = before[:, :, end] - before[:, :, here]
        if not count.any() or ((count > 0) & (count < rules.min_cell)).any():
            return False
        if rules.min_registries <= 1:
            return True
        return all((line.registries(here, end)[some > 0] >= rules.min_registries).all() for line, some in zip(lines, count))

    def may_remain(end: int) -> bool:
        for line, counts in zip(lines, before):
            rest, whole = counts[:, stop] - counts[:, end], counts[:, -1]
            if not rest.any():
                continue
            if rest.sum() < rules.min_cell or line.registries(end, stop).max() < rules.min_registries:
                return False
            # where a table of the event by group may be shown, its totals less the curve's give the events of the rest
            if all(safe(int(one), rules) for one in whole) and not all(safe(int(one), rules) for one in rest):
                return False
        return True

    found: list[int] = []
    here = start
    for end in base:
        if start < end <= stop and is_safe(here, end):
            found.append(end)
            here = end
    if tail:
        while found and not may_remain(found[-1]):
            found.pop()
    elif here < stop:
        while found:
            found.pop()
            if is_safe(found[-1] if found else start, stop):
                break
        found.append(stop)
    return found


@dataclass(frozen=True)
class Cut:
    """What may be shown of one margin: which groups, the ranges common to all, and each group's own (finer) ranges."""

    shown: np.ndarray
    common: Ends
    own: tuple[Ends, ...]


@dataclass(frozen=True)
class LifeTables:
    """Totals of a life table with everything that the release rules need.

    times : of the bins. people, events, censored : per margin; shape (groups,) and (groups, bins). cuts : per margin.
    """

    times: np.ndarray
    people: tuple[np.ndarray, ...]
    events: tuple[np.ndarray, ...]
    censored: tuple[np.ndarray, ...]
    cuts: tuple[Cut, ...]


def life_tables(setting: Setting, *, time: str, event: str, by: Sequence[str] = (), missing: bool = False
                ) -> Generator[list[Ask], list[Sums], LifeTables]:
    """Ask for the life tables and find out what may be shown: one round, two where several registries must contribute."""
    params = {"time": time, "event": event, "by": list(by), "missing": missing}
    (totals,) = yield [life_table(**params)]
    rules, count = setting.rules, len(margins_of(by))
    bins = totals["events0"].shape[1]
    shape = tuple(len(groups(setting.dictionary, name, missing)) for name in by)
    rounds: list[tuple[list[Ends], Sums]] = [([tuple(range(1, bins + 1))] * count, totals)]
    vacant = [setting.nobody(name, missing) for name in by]
    cuts = _cuts(rounds, shape, msgspec.structs.replace(rules, min_registries=1), None, vacant)
    if rules.min_registries > 1:
        plans = _plans(cuts, bins)
        rounds += zip(plans, (yield [life_table(**params, ends=[list(one) for one in plan]) for plan in plans]))
        cuts = _cuts(rounds, shape, rules, cuts, vacant)
    return LifeTables(times_of(setting.dictionary, time), tuple(totals[f"people{m}"] for m in range(count)),
                      tuple(totals[f"events{m}"] for m in range(count)), tuple(totals[f"censored{m}"] for m in range(count)), cuts)


def _plans(cuts: Sequence[Cut], bins: int) -> list[list[Ends]]:
    """The different ways in which the margins are cut, as few sets of ends (one per margin) as hold them all."""
    ways = [list(dict.fromkeys(tuple(sorted({*ends, bins})) for ends in (cut.common, *cut.own))) for cut in cuts]
    return [[way[min(k, len(way) - 1)] for way in ways] for k in range(max(len(way) for way in ways))]


def _lines_of(rounds: Sequence[tuple[Sequence[Ends], Sums]], m: int) -> list[Line]:
    """The lines of one margin, with all that the rounds have counted."""
    totals = rounds[0][1]
    left = np.stack([totals[f"events{m}"], totals[f"censored{m}"]], axis=1)
    before = np.concatenate([np.zeros((*left.shape[:2], 1), dtype=np.int64), np.cumsum(left, axis=2)], axis=2)
    return [Line(before[g], tuple((np.array(ends[m]), np.stack([sums[f"events{m}{INDICATORS}"][g], sums[f"censored{m}{INDICATORS}"][g]]))
                                  for ends, sums in rounds)) for g in range(len(before))]


def _cuts(rounds: Sequence[tuple[Sequence[Ends], Sums]], shape: tuple[int, ...], rules: Rules, first: Sequence[Cut] | None,
          vacant: Sequence[np.ndarray]) -> tuple[Cut, ...]:
    """One cut per margin, each at places where the margins above it are cut too. first : what an earlier round allowed. vacant : per
    grouping variable, groups that nobody in the whole data-cut is in."""
    bins, totals = rounds[0][1]["events0"].shape[1], rounds[0][1]
    margins = len(margins_of("x" * len(shape)))
    if rules.min_cell <= 1 and rules.min_registries <= 1:
        every = tuple(range(1, bins + 1))
        return tuple(Cut(np.ones(len(totals[f"people{m}"]), dtype=bool), every, (every,) * len(totals[f"people{m}"]))
                     for m in range(margins))
    base: Ends = first[0].common if first else tuple(range(1, bins + 1))
    everybody = tuple(_merge(_lines_of(rounds, 0), base, 0, bins, rules, tail=True))
    found = [Cut(np.ones(1, dtype=bool), everybody, (everybody,))]
    for m in range(1, 1 + len(shape)):
        sizes = show_table(totals[f"people{m}"], totals[f"people{m}{INDICATORS}"], rules, vacant=[vacant[m - 1]])
        shown = sizes.cells != Shown.HIDDEN
        found.append(_cut_groups(_lines_of(rounds, m), shown, everybody, bins, rules, first[m] if first else None))
    if len(shape) == 2:
        found.append(_cut_cells(_lines_of(rounds, 3), totals, shape, found, bins, rules, first[3] if first else None))
    return tuple(found)


def _within(ends: Ends, allowed: Sequence[Ends]) -> Ends:
    keep = set(itertools.chain.from_iterable(allowed))
    return tuple(end for end in ends if end in keep)


def _cut_groups(lines: Sequence[Line], shown: np.ndarray, base: Ends, bins: int, rules: Rules, first: Cut | None) -> Cut:
    """The common ranges of all shown groups (hidden ones count as one group), then finer ones for the larger groups."""
    seen = [line for line, one in zip(lines, shown) if one]
    rest = [line for line, one in zip(lines, shown) if not one and line.people]
    if not seen:
        return Cut(shown, (), ((),) * len(lines))
    common = tuple(_merge([*seen, *([pool(rest)] if rest else [])], _within(base, [first.common]) if first else base, 0, bins,
                          rules, tail=True))
    own = dict.fromkeys(np.flatnonzero(shown).tolist(), common)
    fine = _within(base, first.own) if first else base
    current, open_to = common, sorted(own, key=lambda g: (lines[g].people, g))
    while len(open_to) > (take := 1 if rest else 2):
        rest += [lines[g] for g in open_to[:take]]
        open_to = open_to[take:]
        together = [*(lines[g] for g in open_to), pool(rest)]
        inside = [_merge(together, fine, a, b, rules, tail=False) for a, b in zip((0, *current), current)]
        after = _merge(together, fine, current[-1] if current else 0, bins, rules, tail=True)
        current = (*itertools.chain.from_iterable(inside), *after)
        own |= dict.fromkeys(open_to, current)
    return Cut(shown, common, tuple(own.get(g, ()) for g in range(len(lines))))


def _cut_cells(lines: Sequence[Line], totals: Sums, shape: tuple[int, ...], above: Sequence[Cut], bins: int, rules: Rules,
               first: Cut | None) -> Cut:
    """Groups by strata: only strata in which every shown group may be shown; what is left of each group counts as one line.

    The smallest strata are left out as long as they allow no interval at all.
    """
    table = show_table(totals["people3"].reshape(shape), totals["people3" + INDICATORS].reshape(shape), rules)
    groups_shown = above[1].shown
    strata = (table.cells[groups_shown] != Shown.HIDDEN).all(axis=0) & above[2].shown
    base = tuple(sorted(set(above[1].common) & set(above[2].common)))
    base = _within(base, [first.common]) if first else base
    sizes = totals["people2"].tolist()
    while True:
        shown = (groups_shown[:, None] & strata[None, :]).ravel()
        if not shown.any():
            return Cut(shown, (), ((),) * len(lines))
        rest = [[lines[g * shape[1] + s] for s in range(shape[1]) if not shown[g * shape[1] + s]] for g in range(shape[0])]
        rows = [line for line, one in zip(lines, shown) if one] + [pool(some) for some in rest if some]
        common = tuple(_merge(rows, base, 0, bins, rules, tail=True))
        if common:
            return Cut(shown, common, tuple(common if one else () for one in shown))
        strata[min(np.flatnonzero(strata), key=lambda s: (sizes[s], s))] = False


def check_step(dictionary: Dictionary, time: str, step: float) -> None:
    """Whether a coarser grid lies on the registered one. Raises QuestionError."""
    grid = np.array(dictionary.grid(time))
    if not 0 < step <= grid[-1]:
        raise QuestionError(f"grid must lie between 0 and the last cut point {grid[-1]:g}: {step:g} was given")
    wanted = step * np.arange(1, int(grid[-1] / step + ON_STEP) + 1)
    gap = np.abs(grid[np.clip(np.searchsorted(grid, wanted - ON_STEP * step), 0, len(grid) - 1)] - wanted)
    if (gap > ON_STEP * step).any():
        off = float(wanted[np.argmax(gap > ON_STEP * step)])
        raise QuestionError(f'grid {step:g}: {off:g} is not on the registered grid of "{time}"',
                            hint=f'use a multiple of the step of "{time}" in the dictionary')
