"""At which times the baseline of a Cox model may be shown (DISCLOSURE, survival curves).

How this works. Between two shown times at least the smallest cell of patients have the event, nobody or at least the smallest cell
leave without it, from enough registries; and enough patients are still at risk at the later one. Times are joined from the left
on the counts of the first round; how many registries stand behind a run of times is counted in the last round, and runs from too
few of them are joined further. What lies beyond the last shown time is not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.disclosure import NO_RULES, Rules
from fedstats.sums.statistic import INDICATORS, Block, Sums, statistic

from ...survival.life_table import at_risk
from .model import model_of
from .rows import kept

Ends = tuple[int, ...]      # where runs of times end, exclusive, increasing


def _layout(dictionary: Dictionary, *, model: Any, ends: Sequence[Sequence[int]]) -> dict[str, Block]:
    shape = (model_of(model).strata_count(dictionary), max(map(len, ends), default=0))
    return {"with_event": Block(shape, counts=True), "without": Block(shape, counts=True)}


@statistic("cox_runs/1", layout=_layout)
def cox_runs(rows: Rows, model: Any, ends: Sequence[Sequence[int]]) -> dict:
    """People who leave with and without an event, per stratum and run of times. ends : per stratum, where runs end; who leaves after
    the last one is not counted."""
    _, at = kept(rows, model_of(model))
    most = max(map(len, ends), default=0)
    run = np.full(at.n, most, dtype=np.int64)
    for stratum, own in enumerate(ends):
        mine = at.stratum == stratum
        found = np.searchsorted(np.asarray(own, dtype=np.int64), at.leaves[mine], side="right")
        run[mine] = np.where(found < len(own), found, most)

    def people(keep: np.ndarray) -> np.ndarray:
        keep = keep & (run < most)
        cell = at.stratum[keep] * most + run[keep]
        if at.person is not None and len(cell):
            cell = np.unique(np.stack([cell, at.person[keep]]), axis=1)[0]
        return np.bincount(cell, minlength=at.strata * most).reshape(at.strata, most)

    return {"with_event": people(at.died), "without": people(~at.died)}


def first_runs(events: Mapping[str, np.ndarray], rules: Rules) -> list[Ends]:
    """Runs of times that hold enough people, per stratum, whatever the registries behind them; from the totals of `cox_events`."""
    return [_joined(events["with_event"][s], events["without"][s], _staying(events, s), rules) for s in range(len(events["events"]))]


def shown_times(events: Mapping[str, np.ndarray], runs: Sequence[Ends], counted: Sums | None, stratum: int, rules: Rules) -> Ends:
    """Where runs end at which the baseline of a stratum may be shown. counted : totals of `cox_runs`."""
    if rules == NO_RULES:
        return tuple((np.flatnonzero(events["with_event"][stratum]) + 1).tolist())
    own = runs[stratum]
    if counted is None or not own:
        return ()
    # the totals again, and now the registries behind each run
    many = [counted[name + end][stratum][:len(own)] for end in ("", INDICATORS) for name in ("with_event", "without")]
    staying = _staying(events, stratum)[np.array(own) - 1]
    return tuple(own[end - 1] for end in _joined(many[0], many[1], staying, rules, many[2], many[3]))


def _staying(events: Mapping[str, np.ndarray], stratum: int) -> np.ndarray:
    """Rows at risk at each time."""
    late = at_risk(events["entering"][stratum]) if "entering" in events else 0
    return at_risk(events["leaving"][stratum]) - late


def _joined(with_event: np.ndarray, without: np.ndarray, staying: np.ndarray, rules: Rules, there: np.ndarray | None = None,
            elsewhere: np.ndarray | None = None) -> Ends:
    """Join from the left until a run is safe. there, elsewhere : registries that have somebody with, without the event in each part."""
    found, start, least = [], 0, rules.min_cell
    for end in range(1, len(with_event) + 1):
        here = slice(start, end)
        d, c = int(with_event[here].sum()), int(without[here].sum())
        enough = True
        if there is not None and elsewhere is not None:
            enough = there[here].max() >= rules.min_registries and (not c or elsewhere[here].max() >= rules.min_registries)
        if d >= least and (c == 0 or c >= least) and staying[end - 1] >= least and enough:
            found.append(end)
            start = end
    return tuple(found)
