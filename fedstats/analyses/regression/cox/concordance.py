"""Does a higher risk mean an earlier event? Harrell's concordance of a Cox model, with its standard error.

How this works. Of two patients of whom one is known to have had the event first, had he the higher risk? Pairs are counted from how many
of each interval of risk leave at each time. Pairs within one interval count half; by how much the result can be off is returned beside
it. How much C would change with a patient's weight (the infinitesimal jackknife) depends on nothing but where he leaves, so the counts
give the standard error too. Where there are weights, late entry or several rows per patient, one more round sends the counts back, and
each registry sums the squares over its own patients. Registries that are strata: see `registry_pairs`.

Harrell et al. (1982), JAMA 247:2543; ties and variance as in `concordance` of R's survival (Therneau & Atkinson, vignette "Concordance").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.sums.statistic import Block, statistic

from ...shared.common import at_most
from .model import as_frame, model_of
from .rows import NEVER, Sorted, kept

RISK_BINS = 256             # intervals of risk: Harrell's C to about 1 / 256 of the pairs
SPREAD = 4.0                # standard deviations of the risk, on either side of its mean, that the intervals cover
MOST_PAIRS = 2**16          # numbers sealed for the concordance: neighbouring times are joined beyond it


class Concordance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Harrell's C. off : C of the risks themselves, at all times of the grid, is within so much of this one: pairs in one interval of
    risk count half, unless all there have the same risk, and those in one run of times not at all.
    risk_bins, times : how finely risks and times were counted; 0 : exactly.
    se : standard error, over the patients, with the coefficients taken as known, as in R."""

    c: float
    off: float
    risk_bins: int
    times: int
    se: float | None = None


# -- from counts by time and interval of risk ----------------------------------------------------------------------------------


def pairs(events: np.ndarray, stay: np.ndarray, enter: np.ndarray | None = None) -> tuple[float, float, float]:
    """Concordant, discordant and tied pairs of one stratum.

    events, stay : who leaves with and without an event, shape (times, risks), risks increasing; enter : who comes in late.
    A pair: one with an event, and one at risk then who leaves later or without an event.
    """
    at_risk = _at_risk(events, stay, enter)
    below = np.cumsum(at_risk, axis=1) - at_risk
    above = at_risk.sum(axis=1, keepdims=True) - below - at_risk
    return float((events * below).sum()), float((events * above).sum()), float((events * at_risk).sum())


def _at_risk(events: np.ndarray, stay: np.ndarray, enter: np.ndarray | None) -> np.ndarray:
    """Who is at risk at each time and leaves later or without an event, shape (times, risks)."""
    def later(counts: np.ndarray) -> np.ndarray:
        return np.cumsum(counts[::-1], axis=0)[::-1]

    return later(events + stay) - events - (later(enter) if enter is not None else 0.0)


def _memberships(events: np.ndarray, stay: np.ndarray, enter: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """In how many pairs one more patient would be, as the one with the event and as the one who outlives it: each of shape
    (2, times, risks), the concordant ones first (ties a half), then all. Of who outlives: pairs with events up to that time."""
    at_risk, so_far = _at_risk(events, stay, enter), np.cumsum(events, axis=0)
    case = np.cumsum(at_risk, axis=1) - at_risk / 2
    control = so_far.sum(axis=1, keepdims=True) - np.cumsum(so_far, axis=1) + so_far / 2
    return (np.stack([case, np.broadcast_to(at_risk.sum(axis=1, keepdims=True), case.shape)]),
            np.stack([control, np.broadcast_to(so_far.sum(axis=1, keepdims=True), case.shape)]))


@np.errstate(invalid="ignore")
def influences(counts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How C changes with the weight of a row: what it adds for its event, and for what it outlived until it left (less the same until
    it entered); each of shape (strata, times, risks). counts : as totals of `cox_pairs`. NaN where there is no pair."""
    enter = counts.get("enter")
    tables = [(np.asarray(events, dtype=float), np.asarray(stay, dtype=float)) for events, stay in zip(counts["events"], counts["stay"])]
    found = [_memberships(events, stay, None if enter is None else np.asarray(enter[s], dtype=float))
             for s, (events, stay) in enumerate(tables)]
    # every pair has one event: its members are counted there
    won, every = np.sum([(events * case).sum(axis=(1, 2)) for (events, _), (case, _) in zip(tables, found)], axis=0)
    case, control = ((many[:, 0] - won / every * many[:, 1]) / every for many in (np.array(one) for one in zip(*found)))
    return case, control


def index_of(counted: Sequence[float] | np.ndarray, bins: int, times: int) -> Concordance | None:
    """C of concordant, discordant and tied pairs; None where there is none."""
    concordant, discordant, tied = (float(one) for one in counted)
    whole = concordant + discordant + tied
    if not whole > 0:
        return None
    return Concordance((concordant + tied / 2) / whole, at_most(tied / whole / 2) if bins else 0.0, bins, times)


def concordance_of(totals: Mapping[str, np.ndarray], joined: bool, squares: float | None = None, alike: np.ndarray | None = None
                   ) -> Concordance | None:
    """C from the totals of `cox_pairs`; None where there is no pair. joined : whether neighbouring times were counted as one.
    squares : the total of `cox_influence`, where the counts alone do not give it. alike : see `alike_in_bins`."""
    enter = totals.get("enter")
    strata = range(len(totals["events"]))
    counted = np.sum([pairs(totals["events"][s], totals["stay"][s], None if enter is None else enter[s]) for s in strata], axis=0)
    found = index_of(counted, RISK_BINS, totals["events"].shape[1])
    if found is None:
        return None
    if squares is None:
        case, control = influences(totals)
        before = np.concatenate([np.zeros_like(control[:, :1]), control[:, :-1]], axis=1)
        squares = float((totals["events"] * (case + before) ** 2).sum() + (totals["stay"] * control**2).sum())
    whole, off = float(counted.sum()), float(counted[2]) / 2
    if alike is not None:       # ties in truth, not only in an interval
        off -= sum(float((totals["events"][s] * _at_risk(totals["events"][s], totals["stay"][s], None if enter is None else enter[s])
                          )[:, alike[s]].sum()) for s in strata) / 2
    off = max(off, 0.0) / whole
    if joined:
        # of two who leave in one run of times it is not known who left first, nor who came in before the other left
        events, stay, late = (np.sum(totals[name], axis=-1) if name in totals else np.zeros(1) for name in ("events", "stay", "enter"))
        unknown = float(np.sum(events * (events / 2 + stay + late)))
        off += unknown / max(whole - unknown, 1.0)
    return msgspec.structs.replace(found, se=math.sqrt(squares), off=min(at_most(off), 1.0))


def alike_in_bins(totals: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether all who are in an interval of risk have the same risk, shape (strata, risks).

    totals, places : of `cox_pairs` and `cox_places`."""
    weight = np.sum([np.asarray(totals[name], dtype=float).sum(axis=1) for name in ("events", "stay")], axis=0)
    spread = places["square"] - np.divide(places["place"] ** 2, weight, out=np.zeros(weight.shape), where=weight > 0)
    return np.asarray(spread <= SAME_PLACE * (1.0 + weight))


SAME_PLACE = 1e-13          # squared distance within an interval of risk, in units of its width: what sums of squares are rounded to


# -- asked of rows -------------------------------------------------------------------------------------------------------------


def pair_ends(strata: int, times: int, kinds: int, also: Sequence[int] = ()) -> list[int]:
    """Where the runs of times end (exclusive) that are counted as one, so that not too many numbers are sealed.

    kinds : blocks that are sealed. also : places of the grid after which a run ends in any case.
    """
    run = -(-strata * times * RISK_BINS * kinds // MOST_PAIRS)
    return sorted({*range(run, times, run), *(place + 1 for place in also), times})


def risk_bins(at: Sorted, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float) -> np.ndarray:
    """The interval of risk of each row, shape (n,): the middle one starts at 0, the outer ones are open."""
    eta = at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset
    return np.clip(np.floor(eta / width) + RISK_BINS // 2, 0, RISK_BINS - 1).astype(np.int64)


def _runs(at: Sorted, ends: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
    """The run of times in which each row leaves, and the one after which it is at risk (`NEVER` before the first), or None."""
    run = np.asarray(ends)
    leaves = np.searchsorted(run, at.leaves, side="right")
    if at.enters is None:
        return leaves, None
    enters = np.where(at.enters > NEVER, np.searchsorted(run, at.enters, side="right"), NEVER)
    # who has the event in the run of his entry is at risk for nobody else's event in it
    return leaves, np.where(at.died, np.minimum(enters, leaves - 1), enters)


def _pairs_layout(dictionary: Dictionary, *, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float,
                  ends: Sequence[int]) -> dict[str, Block]:
    read = model_of(model)
    shape = (read.strata_count(dictionary), len(ends), RISK_BINS)
    weight = read.bounds(dictionary, [], [])[0]
    blocks = {"events": Block(shape, weight, integer=not read.weights), "stay": Block(shape, weight, integer=not read.weights)}
    return blocks | ({"enter": Block(shape, weight, integer=not read.weights)} if read.entry else {})


@statistic("cox_pairs/1", layout=_pairs_layout)
def cox_pairs(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float, ends: Sequence[int]) -> dict:
    """Rows (or weights) by stratum, time and interval of risk: who leaves with an event, who without, who comes in late.

    width : of an interval of the linear predictor; the middle one starts at 0, the outer ones are open.
    ends : where runs of times end that are counted as one (the last one is the number of times).
    """
    read = model_of(model)
    _, at = kept(rows, read)
    risk, shape = risk_bins(at, beta, frame, width), (at.strata, len(ends), RISK_BINS)
    leaves, enters = _runs(at, ends)

    def count(keep: np.ndarray, run: np.ndarray) -> np.ndarray:
        where = (at.stratum[keep] * len(ends) + run[keep]) * RISK_BINS + risk[keep]
        return np.bincount(where, at.weight[keep] if read.weights else None, minlength=math.prod(shape)).reshape(shape)

    found = {"events": count(at.died, leaves), "stay": count(~at.died, leaves)}
    if enters is not None:
        found["enter"] = count(enters > NEVER, enters)
    return found


def _places_layout(dictionary: Dictionary, *, model: Any, **_: Any) -> dict[str, Block]:
    read = model_of(model)
    shape, weight = (read.strata_count(dictionary), RISK_BINS), read.bounds(dictionary, [], [])[0]
    return {"place": Block(shape, weight), "square": Block(shape, weight)}


@statistic("cox_places/1", layout=_places_layout)
def cox_places(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float) -> dict:
    """Weighted sums, by stratum and interval of risk, of where in it (0 to 1) rows are, and of its square: these tell whether all have the
    same risk. width : see `cox_pairs`."""
    _, at = kept(rows, model_of(model))
    eta = (at.z(as_frame(frame))[:, 1:] @ np.asarray(beta, dtype=float) + at.offset) / width
    bins = risk_bins(at, beta, frame, width)
    place = eta + RISK_BINS // 2 - bins
    beyond = np.where(place > 1, place - 1, np.minimum(place, 0.0))     # the outer intervals are open
    place = np.where(beyond != 0, np.abs(beyond) / (1 + np.abs(beyond)), place)
    where, shape = at.stratum * RISK_BINS + bins, (at.strata, RISK_BINS)
    sums = (np.bincount(where, at.weight * one, minlength=math.prod(shape)).reshape(shape) for one in (place, place**2))
    return dict(zip(("place", "square"), sums))


def _influence_layout(dictionary: Dictionary, **_: Any) -> dict[str, Block]:
    # the pairs that a patient is in are no more than all pairs, or twice that if he is both members of some
    return {"squares": Block((), 4.0)}


@statistic("cox_influence/1", layout=_influence_layout)
def cox_influence(rows: Rows, model: Any, beta: Sequence[float], frame: Sequence[Sequence[float]], width: float, ends: Sequence[int],
                  counts: Mapping[str, Any]) -> dict:
    """The sum over patients of the squared change of C with their weight: its variance. counts : totals of `cox_pairs`, asked with the
    same width and ends."""
    _, at = kept(rows, model_of(model))
    risk, stratum = risk_bins(at, beta, frame, width), at.stratum
    leaves, enters = _runs(at, ends)
    case, control = (np.nan_to_num(one) for one in influences({name: np.asarray(one) for name, one in counts.items()}))

    def outlived(until: np.ndarray) -> np.ndarray:
        return np.where(until > NEVER, control[stratum, np.maximum(until, 0), risk], 0.0)

    found = np.where(at.died, case[stratum, leaves, risk] + outlived(leaves - 1), outlived(leaves))
    if enters is not None:
        found -= outlived(enters)
    change = by_person(at.person, found * at.weight)
    return {"squares": float(change @ change)}


def by_person(person: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Sums over the rows of each patient."""
    return values if person is None else np.bincount(person, values)
