"""What a registry keeps in memory while trees grow: binned rows, margins, gradients. A pure function made fast.

How this works. Every local half of boosting is a function of the rows and of what the ask says, the trees so far included. To compute
all margins anew for each level would be wasteful, so what was computed for the same rows, the same target and the same trees is kept:
`cases_of` finds it again by the identity of the rows (a weak reference) and the content of the ask. Nothing depends on its being found.

A discrete-time hazard has one row per patient and interval at risk: those of a patient are expanded here, and the interval's end
becomes a feature, the last one.
"""

from __future__ import annotations

import base64
import hashlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import msgspec
import numpy as np

from ...data.rows import Rows
from ...errors import InputError
from ..survival.life_table import bin_of
from .bins import Feature
from .kernels import walk
from .objectives import COX, HAZARD, LOGISTIC, POISSON_STEP, SQUARED, gradients
from .trees import LEAF, Bins, Growing

KEPT = 16                   # models per table: the questions of one query that advance side by side
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)      # splitmix64, Steele, Lea & Flood (2014), OOPSLA
INTERCEPT_PATIENTS = 10.0   # a registry's own intercept is drawn to the common one with the weight of so many patients
INTERCEPT_LIMIT = 4.0       # and stays within so much of it: gradients must be bounded before any row is seen
RECORD = np.dtype([("left", "<i4"), ("right", "<i4"), ("feature", "<i4"), ("cut", "<i4"), ("default_left", "u1"), ("value", "<f4")])


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is learned, as every ask of a model names it.

    outcome : for survival and hazards, the event. ends : of the grid intervals of `time`. positive : weight of rows with the event.
    start : margin before the first tree, float32. held : share of patients kept apart for early stopping. rate : share of the others
    that each tree sees. intercepts : whether each registry adds its own. batch : so many trees in turn see the same margins and share.
    """

    objective: str
    outcome: str
    time: str | None = None
    ends: tuple[float, ...] = ()
    weights: str | None = None
    positive: float = 1.0
    step: float = POISSON_STEP
    bits: int = 20
    start: float = 0.0
    seed: int = 0
    held: float = 0.0
    rate: float = 1.0
    intercepts: bool = False
    batch: int = 1

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(name for name in (self.outcome, self.time, self.weights) if name)

    @property
    def repeats(self) -> int:
        """The most rows that a patient becomes."""
        return len(self.ends) if self.objective == HAZARD else 1


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stays the same in all asks of a model: the target, and the features with their bins. It stands in them as one text, since
    every registry walks through every ask several times per round."""

    target: Target
    features: tuple[Feature, ...] = ()

    @property
    def text(self) -> str:
        return msgspec.json.encode(self).decode()


@lru_cache(maxsize=64)
def read_model(text: str) -> Model:
    """The model that a text describes. Raises InputError for what is none."""
    try:
        return msgspec.json.decode(text, type=Model)
    except msgspec.MsgspecError as error:
        raise InputError(f"the description of a model cannot be read: {error}") from None


# -- trees as they stand in an ask --------------------------------------------------------------------------------------------


def tree_text(growing: Growing, leaves: dict[int, float] | None = None) -> str:
    """A tree as a short text: the records of its nodes, base 64. leaves : values; while it grows there are none."""
    table = np.zeros(len(growing.nodes), dtype=RECORD)
    for k, node in enumerate(growing.nodes):
        table[k]["left"], table[k]["right"] = node.left, node.right
        if node.split is not None:
            table[k]["feature"], table[k]["cut"], table[k]["default_left"] = node.split.feature, node.split.cut, node.split.default_left
        elif leaves is not None:
            table[k]["value"] = leaves[k]
    return base64.b64encode(table.tobytes()).decode("ascii")


def full_tree(depth: int) -> str:
    """The text of a tree all of whose nodes are split, down to this depth: for saying beforehand what a training run asks."""
    table = np.zeros(2**(depth + 1) - 1, dtype=RECORD)
    inner = np.arange(len(table)) < 2**depth - 1
    places = np.arange(len(table))
    table["left"], table["right"] = np.where(inner, 2 * places + 1, LEAF), np.where(inner, 2 * places + 2, LEAF)
    return base64.b64encode(table.tobytes()).decode("ascii")


def read_tree(text: str) -> np.ndarray:
    """The records of a tree. Raises InputError for what is none: children must come after their parent."""
    try:
        table = np.frombuffer(base64.b64decode(text, validate=True), dtype=RECORD)
    except ValueError:
        raise InputError("a tree of the model cannot be read") from None
    inner = np.flatnonzero(table["left"] != LEAF)
    both = np.stack([table["left"][inner], table["right"][inner]]) if len(inner) else np.zeros((2, 0), dtype=int)
    if not len(table) or (both <= inner).any() or (both >= len(table)).any():
        raise InputError("a tree of the model cannot be read")
    return table


# -- one registry's rows ---------------------------------------------------------------------------------------------------------


@dataclass
class Cases:
    """The complete cases of one target, binned.

    keys : 64 bits for the patient of each row of the table. person : the table's row of each row here (person-periods are several).
    patient : the patient of each row of the table, where these are several rows. y, weight : of each row. interval : of each row of the
    table, where time counts.
    places : int32, shape (rows, features): the bin among all bins of all features, `bins.size` where missing.
    """

    target: Target
    bins: Bins
    keys: np.ndarray
    person: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    interval: np.ndarray
    places: np.ndarray
    start: np.ndarray
    patient: np.ndarray | None = None
    margins: tuple[tuple[str, ...], np.ndarray] | None = None
    rounded: tuple[tuple, np.ndarray] | None = None
    counted: dict[bool, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Rows, target: Target, features: Sequence[Feature]) -> Cases:
        cases = rows.complete(target.needs)
        y = cases.values(target.outcome)
        weight = cases.values(target.weights) if target.weights else np.ones(cases.n)
        person, interval = np.arange(cases.n), np.zeros(cases.n, dtype=np.int64)
        if target.time:
            interval, happened = intervals_of(cases, target)
            y = happened.astype(float)
        if target.objective == HAZARD:
            person, y = _periods(interval, y)
            weight = weight[person]
        if target.objective in (LOGISTIC, HAZARD):
            weight = np.where(y == 1, weight * target.positive, weight)
        bins = Bins.of(range(len(features)), [one.bins for one in features])
        places = np.empty((len(person), len(features)), dtype=np.int32)
        for k, feature in enumerate(features):
            if target.objective == HAZARD and feature.variable == target.time:
                first = np.concatenate([[0], np.flatnonzero(np.diff(person)) + 1]) if len(person) else np.zeros(0, dtype=np.int64)
                turn = np.arange(len(person)) - np.repeat(first, np.diff([*first, len(person)]))
                ends = np.array(target.ends, dtype=np.float32)[turn]
                found = np.searchsorted(np.array(feature.thresholds, dtype=np.float32), ends, side="right")
            else:
                found = feature.places(cases)[person]
            places[:, k] = np.where(found < 0, bins.size, bins.first[k] + found)
        start = np.full(len(person), target.start, dtype=np.float32)
        if target.intercepts:
            start += np.float32(own_intercept(target, y, weight))
        return cls(target, bins, cases.keys, person, y, weight, interval, places, start, cases.person)

    def margin(self, trees: Sequence[str]) -> np.ndarray:
        """The sum of the starting score and the trees' leaves, added in float32, tree by tree, as xgboost does."""
        wanted = tuple(trees)
        known, margin = self.margins if self.margins is not None and wanted[:len(self.margins[0])] == self.margins[0] else ((), self.start)
        for text in wanted[len(known):]:
            table = read_tree(text)
            margin = margin + table["value"][self.nodes_of(table)]
        self.margins = (wanted, margin)
        return margin

    def nodes_of(self, table: np.ndarray) -> np.ndarray:
        """The node of a tree in which each row ends, int64, shape (rows,)."""
        first = np.array([*self.bins.first, 0])
        below = (first[table["feature"]] + table["cut"]).astype(np.int32)       # the first bin that goes right
        return walk(self.places, table["left"], table["right"], table["feature"], below, table["default_left"], self.bins.size)

    def seen(self, tree: int) -> np.ndarray:
        """Whether each row is in the sample of this tree, boolean, shape (rows,)."""
        target = self.target
        keep = ~self.held()
        if target.rate < 1:
            keep &= drawn(self.keys, target.seed, f"tree {tree - tree % target.batch}", target.rate)[self.person]
        return keep

    def held(self) -> np.ndarray:
        """Whether each row is kept apart for early stopping."""
        return drawn(self.keys, self.target.seed, "held out", self.target.held)[self.person]

    def classes(self, two: bool) -> np.ndarray:
        """1 for the row in which a patient is counted, 0 for the others, int64, shape (rows, 1 or 2): without and with the outcome,
        where there are two classes. A patient with several rows is counted once, in the first row with the outcome, else in the last:
        so the counts of nodes add up to those of their parent, and are at most the people there."""
        if two not in self.counted:
            self.counted[two] = self._classes(two)
        return self.counted[two]

    def _classes(self, two: bool) -> np.ndarray:
        who = self.person if self.patient is None else self.patient[self.person]
        place, event = np.arange(len(who)), self.y == 1 if two else np.zeros(len(who), dtype=bool)
        count = int(who.max(initial=-1)) + 1
        counted, first = np.full(count, -1), np.full(count, len(who))
        np.maximum.at(counted, who, place)
        np.minimum.at(first, who[event], place[event])
        counted = np.where(first < len(who), first, counted)
        chosen = np.zeros(len(who), dtype=bool)
        chosen[counted[counted >= 0]] = True
        return np.stack([chosen & ~event, chosen & event] if two else [chosen], axis=1).astype(np.int64)

    def gradients(self, trees: Sequence[str], unit: float, hazard: Sequence[Sequence[float]] | None,
                  people: np.ndarray | None = None) -> np.ndarray:
        """Gradient and hessian of each row as whole numbers of `unit`, int64, shape (rows, 2 or more). people : further columns."""
        state = tuple(trees), unit, hazard, people is None
        if self.rounded is None or self.rounded[0] != state:
            own = None
            if hazard is not None:
                once, twice = (np.array(one)[self.interval] if self.interval.size else np.zeros(0) for one in hazard[:2])
                own = once, twice, hazard[2][0]
            pair = gradients(self.target.objective, self.margin(trees), self.y, self.weight, step=self.target.step, hazard=own)
            # the last only: a tree is finished before the next begins
            both = np.rint(np.stack(pair, axis=1) / unit).astype(np.int64)
            self.rounded = state, both if people is None else np.concatenate([both, people], axis=1)
        return self.rounded[1]


def drawn(keys: np.ndarray, seed: int, label: str, share: float) -> np.ndarray:
    """Whether each patient is among a share of all, by a hash of seed, label and patient: wherever the patient's row is."""
    if share <= 0 or share >= 1:
        return np.full(len(keys), share >= 1)
    salt = int.from_bytes(hashlib.sha256(f"fedstats boosting {seed} {label}".encode()).digest()[:8], "big")
    with np.errstate(over="ignore"):
        z = keys.astype(np.uint64) ^ np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX[0])
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX[1])
        z = z ^ (z >> np.uint64(31))
    return z < np.uint64(int(share * 2.0**64))


def intervals_of(cases: Rows, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """The grid interval in which each patient leaves, from 0, and whether with the event. As in life tables: events come before those
    censored in the same interval; time beyond the grid is censored at its end, the time 0 belongs to the first interval."""
    times = np.array([0.0, *target.ends])
    place = bin_of(cases.values(str(target.time)), times)
    happened = (cases.steps(target.outcome) == 1) & (place < len(times))
    return np.clip(place, 1, len(times) - 1) - 1, happened


def _periods(interval: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Person-period rows: the patient of each, and whether the event happens in it."""
    length = interval + 1
    person = np.repeat(np.arange(len(interval)), length)
    event = np.zeros(len(person))
    event[np.cumsum(length)[y == 1] - 1] = 1.0
    return person, event


def own_intercept(target: Target, y: np.ndarray, weight: np.ndarray) -> float:
    """A registry's distance from the common starting score on the scale of the margin, shrunk towards 0 and bounded."""
    total = float(weight.sum()) + INTERCEPT_PATIENTS
    if target.objective == SQUARED:
        return float((weight * (y - target.start)).sum()) / total
    common = 1 / (1 + np.exp(-target.start)) if target.objective in (LOGISTIC, HAZARD) else np.exp(target.start)
    rate = (float((weight * y).sum()) + INTERCEPT_PATIENTS * common) / total
    ratio = np.log(rate / common)
    if target.objective in (LOGISTIC, HAZARD):
        ratio -= np.log((1 - rate) / (1 - common))
    return float(np.clip(ratio, -INTERCEPT_LIMIT, INTERCEPT_LIMIT)) if target.objective != COX else 0.0


# -- found again ------------------------------------------------------------------------------------------------------------------

_KEPT: dict[int, tuple[weakref.ref, dict[str, Cases]]] = {}


def cases_of(rows: Rows, model: str) -> Cases:
    """The cases of these rows for this model, from memory if they were asked about before."""
    known = _KEPT.get(id(rows))
    if known is None or known[0]() is not rows:
        place = id(rows)
        known = (weakref.ref(rows, lambda gone: _forget(place, gone)), {})
        _KEPT[place] = known
    found = known[1].get(model)
    if found is None:
        wanted = read_model(model)
        found = Cases.of(rows, wanted.target, wanted.features)
        while len(known[1]) >= KEPT:
            known[1].pop(next(iter(known[1])))
        known[1][model] = found
    return found


def _forget(place: int, gone: weakref.ref) -> None:
    if place in _KEPT and _KEPT[place][0] is gone:
        del _KEPT[place]
