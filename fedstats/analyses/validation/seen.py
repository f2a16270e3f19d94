"""Which patients a model has seen: where one may ask it, and where it would only guess.

How this works. A tree says something about everybody: of a child with EDSS 9.5, and of a patient of whom nothing is known, as much as of
those that it was grown on. So it is counted which values its patients had, cell by cell of a public grid (`grid`): values of each
covariate, also missing ones; two covariates together; the distance between two that are measured in the same unit, such as age and
duration of disease; and how many were missing at once. What is released is where at least `FEWEST` of them lay, or the smallest cell of
the rules, from as many registries as the rules ask for; no count is.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ...data.dictionary import Dictionary
from ...data.rows import Rows
from ...disclosure import Rules
from ...sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from ..boosting.sums import people_per
from .grid import alike, cells_of, distance_edges, edges_of, place_in, places

FEWEST = 10                 # patients that must have been like this: fewer are no experience
MOST_PAIRED = 40            # covariates of which every two are looked at together
MOST_GROUPS = 5             # of a number beside another covariate
PER_CELL = 8                # times FEWEST: so many patients are there for one cell of two covariates, or its groups are wider


class Covered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the values of a covariate lay. spans : from, to; of numbers, the end belongs to it for the last one only. levels : of
    categories. missing : whether enough had it missing. cuts : between the groups that `Unseen` speaks of."""

    name: str
    spans: tuple[tuple[float, float], ...] = ()
    levels: tuple[str, ...] = ()
    missing: bool = False
    cuts: tuple[float, ...] = ()


class Distance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where first - second lay, of patients who had both."""

    first: str
    second: str
    spans: tuple[tuple[float, float], ...]


class Unseen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two covariates, and groups of both that too few patients were in: (group of first, group of second). A group is the place of a level,
    or of a number between the cuts; the last one is of those missing."""

    first: str
    second: str
    groups: tuple[tuple[int, int], ...]


class Seen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """fewest : patients behind each place. most_missing : so many covariates were missing at once. paired : whether every two covariates
    were looked at together (of more than 40 they were not)."""

    fewest: int
    covariates: tuple[Covered, ...]
    distances: tuple[Distance, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    most_missing: int = 0
    paired: bool = True


# -- local halves ------------------------------------------------------------------------------------------------------------------


def _cells_layout(dictionary: Dictionary, *, covariates: Sequence[str], needs: Sequence[str]) -> dict[str, Block]:
    blocks = {f"people{k}": Block((cells_of(dictionary, name) + 1,), counts=True) for k, name in enumerate(covariates)}
    for k, pair in enumerate(alike(dictionary, covariates)):
        blocks[f"apart{k}"] = Block((len(distance_edges(dictionary, *pair)) - 1,), counts=True)
    return blocks | {"gaps": Block((len(covariates) + 1,), counts=True)}


@statistic("covariates_seen/1", layout=_cells_layout)
def covariates_seen(rows: Rows, covariates: Sequence[str], needs: Sequence[str]) -> dict:
    """People per cell of each covariate, those missing last; per cell of the distance of two in the same unit; and by how many covariates
    they lack. Of patients whose outcome is known. needs : columns that must be."""
    known, found = rows.complete(needs), {}
    for k, name in enumerate(covariates):
        found[f"people{k}"] = _people(_or_last(places(known, name), cells_of(rows.dictionary, name)),
                                      cells_of(rows.dictionary, name) + 1, known)
    for k, (first, second) in enumerate(alike(rows.dictionary, covariates)):
        edges = distance_edges(rows.dictionary, first, second)
        place = place_in(edges, known.values(first) - known.values(second))
        found[f"apart{k}"] = _people(place, len(edges) - 1, known)
    lacking = sum((~known.present(name)).astype(np.int64) for name in covariates)
    return found | {"gaps": _people(np.asarray(lacking) + np.zeros(known.n, dtype=np.int64), len(covariates) + 1, known)}


def _people(place: np.ndarray, size: int, rows: Rows) -> np.ndarray:
    there = place >= 0
    return people_per(place[there], size, None if rows.person is None else rows.person[there])


def _or_last(place: np.ndarray, last: int) -> np.ndarray:
    return np.where(place < 0, last, place)


def _pairs_layout(dictionary: Dictionary, *, covariates: Sequence[str], cuts: Sequence[Sequence[float]], needs: Sequence[str]
                  ) -> dict[str, Block]:
    sizes = [group_count(dictionary, name, own) for name, own in zip(covariates, cuts)]
    return {f"both{k}": Block((a, b), counts=True) for k, (a, b) in enumerate(itertools.combinations(sizes, 2))}


@statistic("covariate_pairs/1", layout=_pairs_layout)
def covariate_pairs(rows: Rows, covariates: Sequence[str], cuts: Sequence[Sequence[float]], needs: Sequence[str]) -> dict:
    """People per pair of groups of every two covariates, those missing last; of patients whose outcome is known."""
    known = rows.complete(needs)
    groups = [_or_last(group_of(known, name, own), group_count(rows.dictionary, name, own) - 1) for name, own in zip(covariates, cuts)]
    sizes, found = [group_count(rows.dictionary, name, own) for name, own in zip(covariates, cuts)], {}
    for k, (i, j) in enumerate(itertools.combinations(range(len(sizes)), 2)):
        found[f"both{k}"] = _people(groups[i] * sizes[j] + groups[j], sizes[i] * sizes[j], known).reshape(sizes[i], sizes[j])
    return found


def group_of(rows: Rows, name: str, cuts: Sequence[float]) -> np.ndarray:
    """The group of each row's value, -1 where missing."""
    if rows.dictionary[name].labels is not None:
        return rows.steps(name)
    return place_in((0.0, *cuts, 0.0), rows.values(name))


def group_count(dictionary: Dictionary, name: str, cuts: Sequence[float]) -> int:
    """Groups of a covariate, those missing among them."""
    labels = dictionary[name].labels
    return (len(cuts) + 1 if labels is None else len(labels)) + 1


# -- joint half ------------------------------------------------------------------------------------------------------------------------


def first_ask(covariates: Sequence[str], needs: Sequence[str]) -> Ask:
    """What is asked beside other asks of the first round."""
    return covariates_seen(covariates=list(covariates), needs=list(needs))


def seen(totals: Sums, covariates: Sequence[str], needs: Sequence[str], dictionary: Dictionary, rules: Rules
         ) -> Generator[list[Ask], list[Sums], Seen]:
    """Which patients a model of these covariates has seen. totals : of `first_ask`. Asks one more round where pairs are looked at."""
    fewest = max(FEWEST, rules.min_cell)
    enough = [_enough(totals, f"people{k}", fewest, rules) for k in range(len(covariates))]
    cuts = [_cuts(totals[f"people{k}"], dictionary, name, fewest) for k, name in enumerate(covariates)]
    covered = tuple(_covered(dictionary, name, own, between) for name, own, between in zip(covariates, enough, cuts))
    distances = tuple(Distance(*pair, _spans(distance_edges(dictionary, *pair), _enough(totals, f"apart{k}", fewest, rules)))
                      for k, pair in enumerate(alike(dictionary, covariates)))
    gaps, there = totals["gaps"], totals["gaps" + INDICATORS]
    most = max((m for m in range(1, len(gaps)) if gaps[m:].sum() >= fewest and there[m:].max() >= rules.min_registries), default=0)
    found = Seen(fewest, covered, distances, most_missing=most, paired=len(covariates) <= MOST_PAIRED)
    if not found.paired or len(covariates) < 2:
        return found
    (both,) = yield [covariate_pairs(covariates=list(covariates), cuts=[list(one) for one in cuts], needs=list(needs))]
    pairs = itertools.combinations(covariates, 2)
    unseen = [Unseen(*pair, _few(both, f"both{k}", fewest, rules)) for k, pair in enumerate(pairs)]
    return msgspec.structs.replace(found, unseen=tuple(one for one in unseen if one.groups))


def _enough(totals: Mapping[str, Any], name: str, fewest: int, rules: Rules) -> list[bool]:
    return ((totals[name] >= fewest) & (totals[name + INDICATORS] >= rules.min_registries)).tolist()


def _few(totals: Sums, name: str, fewest: int, rules: Rules) -> tuple[tuple[int, int], ...]:
    few = (totals[name] < fewest) | (totals[name + INDICATORS] < rules.min_registries)
    return tuple((int(i), int(j)) for i, j in np.argwhere(few))


def _covered(dictionary: Dictionary, name: str, enough: Sequence[bool], cuts: Sequence[float]) -> Covered:
    edges, labels = edges_of(dictionary, name), dictionary[name].labels
    if edges is None:
        return Covered(name, levels=tuple(label for label, fine in zip(labels or (), enough) if fine), missing=enough[-1])
    return Covered(name, spans=_spans(edges, enough[:-1]), missing=enough[-1], cuts=tuple(cuts))


def _spans(edges: Sequence[float], enough: Sequence[bool]) -> tuple[tuple[float, float], ...]:
    """The cells in which enough were, neighbours taken together; a single cell between two such is bridged."""
    fine = [bool(one) or (0 < k < len(enough) - 1 and enough[k - 1] and enough[k + 1]) for k, one in enumerate(enough)]
    found: list[tuple[float, float]] = []
    for k, one in enumerate(fine):
        if one and found and found[-1][1] == edges[k]:
            found[-1] = (found[-1][0], edges[k + 1])
        elif one:
            found.append((edges[k], edges[k + 1]))
    return tuple(found)


def _cuts(people: np.ndarray, dictionary: Dictionary, name: str, fewest: int) -> list[float]:
    """Cuts between groups of about as many patients each: fewer and wider ones where there are few patients."""
    edges = edges_of(dictionary, name)
    if edges is None:
        return []
    counts = [int(one) for one in people[:-1]]
    n = sum(counts)
    groups = max((g for g in range(1, MOST_GROUPS + 1) if g == 1 or g * g * fewest * PER_CELL <= n), default=1)
    held = total = 0
    found: list[float] = []
    for k, count in enumerate(counts[:-1]):
        held, total = held + count, total + count
        if held * groups >= n and total < n and len(found) < groups - 1:
            found.append(edges[k + 1])
            held = 0
    return found
