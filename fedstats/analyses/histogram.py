"""Histogram: people per registered bin, neighbouring bins merged until each may be shown.

The local half, people per bin and group, is shared with quantiles and the rank tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np

from ..data.dictionary import Bins, Dictionary
from ..data.rows import Rows
from ..disclosure import Rules, intervals, merged
from ..disclosure.precision import Public
from ..disclosure.release import Declared, People, axes
from ..disclosure.suppression import show_table
from ..query.analysis import Joint, Params, Result, Setting, analysis
from ..query.views import Curve, Picture, Table
from ..sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from .shared.common import check_ordered, count_cells, group_of, groups, quoted, range_label

EVERYBODY = "all"       # the label of the one group of a question without `by`


def _layout(dictionary: Dictionary, *, columns: Sequence[str], by: str | None = None, missing: bool = False) -> dict[str, Block]:
    g = len(groups(dictionary, by, missing)) if by else 1
    blocks = {"n": Block((g,), counts=True)}
    return blocks | {f"people{k}": Block((g, len(dictionary.bins(name))), counts=True) for k, name in enumerate(columns)}


@statistic("binned/1", layout=_layout)
def binned(rows: Rows, columns: Sequence[str], by: str | None = None, missing: bool = False) -> dict:
    """Per group: people, and people per registered bin of each column, over complete cases."""
    cases = rows.complete([*columns, *([by] if by and not missing else [])])
    group = group_of(cases, by, missing) if by else np.zeros(cases.n, dtype=np.int64)
    g = len(groups(rows.dictionary, by, missing)) if by else 1
    return {"n": np.bincount(group, minlength=g)} | {
        f"people{k}": count_cells((g, len(rows.dictionary.bins(name))), (group, cases.bins(name))) for k, name in enumerate(columns)}


class HistogramParams(Params, frozen=True):
    """column : a number, integer, date or boolean with bins. by : groups side by side. missing : whether unknown is a group."""

    column: str
    by: str | None = None
    missing: bool = False

    def columns(self) -> tuple[str, ...]:
        return (self.column, self.by) if self.by and not self.missing else (self.column,)

    def shows(self, dictionary: Dictionary) -> tuple[Declared, ...]:
        by = axes(dictionary, (self.by,), unknown=self.missing) if self.by else ()
        return (People(self.population(), (*axes(dictionary, (self.column,)), *by), hides="merged", merged=self.column),)

    def check(self, dictionary: Dictionary) -> None:
        check_ordered(dictionary, self.column)
        if self.by:
            groups(dictionary, self.by, self.missing)


class HistogramBin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bin of one group. start, stop : its edges in the variable's unit (dates: days since 1970-01-01), [start, stop), the
    last one closed; None for booleans. count : people. share : of the group. density : share per unit."""

    group: str
    bin: str
    start: Public[float | None]
    stop: Public[float | None]
    count: int
    share: float | None
    density: float | None


class HistogramGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One group and its people; None: not released, and it has no bins then."""

    group: str
    n: int | None


class Histogram(Result, frozen=True, kw_only=True):
    """Frame: one row per group and bin (index `group`, `bin`), columns start, stop, n, share, density. All groups have the
    same bins. Without `by` the one group is "all"."""

    kind: ClassVar[str] = "histogram"

    column: str
    unit: str
    by: str | None
    groups: tuple[HistogramGroup, ...]
    bins: tuple[HistogramBin, ...]
    registered: int     # bins in the dictionary, before merging

    def tables(self) -> tuple[Table, ...]:
        rows = tuple((b.group, b.bin, b.start, b.stop, b.count, b.share, b.density) for b in self.bins)
        found = (Table(("group", "bin", "start", "stop", "n", "share", "density"), rows, index=2, title=self.column),)
        return found + ((Table(("group", "n"), tuple((g.group, g.n) for g in self.groups), title="Groups"),) if self.by else ())

    def picture(self) -> Picture:
        axis = f"{self.column} ({self.unit})" if self.unit else self.column
        shown = [(g.group, [b for b in self.bins if b.group == g.group]) for g in self.groups]
        shown = [(name, bins) for name, bins in shown if bins]
        if all(b.start is not None for b in self.bins):
            curves = tuple(Curve(name, tuple(b.start or 0.0 for b in bins) + (bins[-1].stop or 0.0,),
                                 tuple(b.density for b in bins) + (0.0,)) for name, bins in shown)
            return Picture("steps", self.column, x=axis, y="density", curves=curves)
        labels = tuple(b.bin for b in shown[0][1])
        return Picture("bars", self.column, x=axis, y="patients", labels=labels,
                       series=tuple((name, tuple(b.count for b in bins)) for name, bins in shown))


def _call(column: str, *, by: str | None = None, missing: bool = False) -> HistogramParams:
    """histogram(column, by=None, missing=False)"""
    return HistogramParams(column, by, missing)


@analysis("histogram/1", params=HistogramParams, result=Histogram, call=_call)
def histogram(params: HistogramParams, setting: Setting) -> Joint:
    """People per registered bin, merged over neighbours until each bin of each group is safe to show; the same bins for all groups.

    What is left of the cohort beside the shown groups is merged with them, and groups are cut only where a histogram of everybody is cut:
    so one asked beside another gives nothing away. Density is the share of the group per unit of the column. Scott (2015), Multivariate
    Density Estimation, section 3.1.
    """
    asks = [binned(columns=[params.column], by=params.by, missing=params.missing)] if params.by else []
    *divided, everybody = yield [*asks, undivided(params.column, params.by, params.missing)]
    totals = divided[0] if divided else everybody
    names = groups(setting.dictionary, params.by, params.missing) if params.by else (EVERYBODY,)
    nobody = setting.nobody(params.by, params.missing)
    sizes = show_table(totals["n"], totals["n" + INDICATORS], setting.rules, vacant=[nobody]).cells if params.by else totals["n"]
    there = ~(nobody & (totals["n"] == 0))
    kept = np.flatnonzero((sizes >= 0) & there)
    counts = totals["people0"][kept]
    ranges = cut_alike(everybody, *_with_rest({name: block[there] for name, block in totals.items()}, sizes[there] < 0),
                       setting.rules) if len(kept) else ()
    bins = setting.dictionary.bins(params.column)
    notes = []
    if (sizes < 0).any():
        notes.append(f"{quoted(names, sizes < 0)} suppressed (rule min_cell {setting.rules.min_cell}, with complementary suppression): "
                     "join small levels in the dictionary")
    if not ranges:
        notes.append(f"no bin can be shown: each needs {setting.rules.min_cell} people from {setting.rules.min_registries} "
                     "registries in every group (rules min_cell, min_registries); use coarser cut points, or drop `by`")
    elif len(ranges) < len(bins):
        notes.append(f"{len(bins)} registered bins are merged into {len(ranges)} so that each holds at least "
                     f"{setting.rules.min_cell} people (rule min_cell)")
    cells = merged(counts, ranges)
    found = [_bin(names[g], bins, a, b, int(cells[row, k]), int(sizes[g]))
             for row, g in enumerate(kept) for k, (a, b) in enumerate(ranges)]
    return Histogram(size=setting.size, column=params.column, unit=setting.dictionary[params.column].unit, by=params.by,
                     groups=tuple(HistogramGroup(name, int(n) if n >= 0 else None) for name, n in zip(names, sizes)),
                     bins=tuple(found), registered=len(bins), notes=tuple(notes),
                     methods="Histogram over the cut points of the consortium's dictionary"
                             + (", neighbouring bins merged by the release rules." if len(ranges) < len(bins) else "."))


def _with_rest(totals: Sums, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """People per bin and contributing registries: one row per shown group, and one row for all hidden groups together."""
    counts, contributors = totals["people0"], totals["people0" + INDICATORS]
    if not hidden.any():
        return counts, contributors
    return (np.vstack([counts[~hidden], counts[hidden].sum(axis=0)]),
            np.vstack([contributors[~hidden], contributors[hidden].max(axis=0)]))


def undivided(column: str, by: str | None, missing: bool) -> Ask:
    """People per bin of everybody whom the question with these groups is about."""
    return binned(columns=[column] if by is None or missing else [column, by])


def cut_alike(everybody: Sums, counts: np.ndarray, contributors: np.ndarray, rules: Rules) -> tuple[tuple[int, int], ...]:
    """Ranges of bins that may be shown for each of these groups, cut only where everybody is cut.

    everybody : totals of `undivided`. counts, contributors : shape (groups, bins).
    """
    zeros = not rules.hides_zeros
    whole = intervals(everybody["people0"], everybody["people0" + INDICATORS], rules, zeros=zeros)
    there = _most(contributors, whole)
    return tuple((whole[a][0], whole[b - 1][1]) for a, b in intervals(merged(counts, whole), there, rules, zeros=zeros))


def _most(contributors: np.ndarray, ranges: Sequence[tuple[int, int]]) -> np.ndarray:
    """At least so many registries have people in each range."""
    return np.stack([contributors[:, a:b].max(axis=1) for a, b in ranges], axis=1) if ranges else contributors[:, :0]


def _bin(group: str, bins: Bins, a: int, b: int, count: int, n: int) -> HistogramBin:
    start, stop = (bins.edges[a], bins.edges[b]) if bins.edges is not None else (None, None)
    share = count / n if n else None
    density = share / (stop - start) if share is not None and start is not None and stop is not None else None
    return HistogramBin(group, range_label(bins, a, b), start, stop, count, share, density)
