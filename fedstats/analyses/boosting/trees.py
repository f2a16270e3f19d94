"""Growing one regression tree from integer histograms: the split rule of xgboost, and nothing else.

How this works. The gradient and hessian of every row are whole numbers (`objectives`), so every sum below is exact, whatever
the number of registries and their order. A histogram of a node holds the sums of both over the rows of each bin of each feature; what
is missing is the node's total less the sum of its bins; a sibling is the parent less the child that was asked. Only + - * / on whole
numbers and IEEE floats decide, elementwise: so every machine decides the same.

The rule is that of xgboost 3.2, tree_method "hist", evaluated in the same order and in the same 32-bit floats, so that the trees are
the ones it would grow on the pooled table with the same bins:
1. The bins of a feature are scanned upwards, missing values going right, and, if there are any, downwards with missing values left.
2. A split needs both hessians to reach min_child_weight, and a gain that is strictly greater than any before it: the first bin, the
   upward scan and the lower feature win ties. It must exceed 1e-6 and reach gamma.
3. Nodes are numbered level by level. A leaf is -G / (H + lambda), soft-thresholded by alpha, boxed by max_delta_step and the monotone
   bounds, times the learning rate.

Chen & Guestrin (2016), XGBoost: a scalable tree boosting system, KDD, equations 6 and 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

SMALLEST_GAIN = np.float32(1e-6)        # kRtEps of xgboost
LARGEST = float(np.finfo(np.float32).max)
LEAF = -1
MOST_AT_ONCE = 2**13        # candidates whose gains are worked out in one go: their arrays stay in the processor's cache

f32 = np.float32


@dataclass(frozen=True)
class TreeSettings:
    """How trees are grown; names as in xgboost. monotone : +1, 0 or -1 per feature. min_people : of a child,
    where people are counted: in all, and with and without the outcome unless there are none. min_open : of both siblings,
    for either to be opened: the histogram of one gives that of the other."""

    max_depth: int = 4
    learning_rate: float = 0.1
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    gamma: float = 0.0
    min_child_weight: float = 1.0
    max_delta_step: float = 0.0
    monotone: tuple[int, ...] = ()
    min_people: int = 0
    min_open: int = 0

    @property
    def constrained(self) -> bool:
        return any(self.monotone)

    @property
    def weights_matter(self) -> bool:
        """Whether a gain depends on the boxed weight, not on the sums alone."""
        return self.constrained or self.max_delta_step != 0


@dataclass(frozen=True)
class Bins:
    """The columns of a histogram: feature k of the model, `features[k]`, has the bins first[k] .. first[k + 1] - 1."""

    features: tuple[int, ...]
    first: tuple[int, ...]

    @classmethod
    def of(cls, features: Sequence[int], counts: Sequence[int]) -> Bins:
        first = [0]
        for count in counts:
            first.append(first[-1] + count)
        return cls(tuple(features), tuple(first))

    @property
    def size(self) -> int:
        return self.first[-1]


@dataclass(frozen=True)
class Split:
    """Rows whose bin is below `cut` go left (`cut` counts bins of the feature), missing ones left if `default_left`."""

    feature: int
    cut: int
    default_left: bool
    gain: np.float32
    left: tuple[int, ...]
    right: tuple[int, ...]


@dataclass
class Node:
    """One node while the tree grows. sums : gradient and hessian, whole numbers, and people by outcome where they are counted.
    gain : the node's own, before any split."""

    parent: int
    depth: int
    sums: tuple[int, ...]
    weight: np.float32
    gain: np.float32
    lower: np.float32 = field(default_factory=lambda: f32(-LARGEST))
    upper: np.float32 = field(default_factory=lambda: f32(LARGEST))
    split: Split | None = None
    left: int = LEAF
    right: int = LEAF


class Growing:
    """A tree being grown, level by level: `asked` names the nodes whose histograms are wanted next, `grow` takes them in."""

    def __init__(self, total: tuple[int, ...], unit: float, bins: Bins, settings: TreeSettings) -> None:
        """total : gradient and hessian of all rows, as whole numbers of `unit`, a power of two; and people by outcome where they are
        counted."""
        self.unit, self.bins, self.settings = unit, bins, settings
        no_bounds = f32(-LARGEST), f32(LARGEST)
        weight = _weight(*self._floats(total), settings, *no_bounds)
        self.nodes = [Node(LEAF, 0, total, weight, _gain(*self._floats(total), weight, settings))]
        self.histograms: dict[int, np.ndarray] = {}
        self.open = [0] if settings.max_depth > 0 and self._splittable(0) else []

    @property
    def asked(self) -> list[int]:
        """Of each pair of open siblings the one with the smaller hessian, ties left; the root alone; in the order of nodes."""
        found = []
        for k in self.open:
            if k == 0:
                found.append(0)
                continue
            parent = self.nodes[self.nodes[k].parent]
            small = parent.left if self.nodes[parent.left].sums[1] <= self.nodes[parent.right].sums[1] else parent.right
            if small not in found:
                found.append(small)
        return found

    def grow(self, histograms: Mapping[int, np.ndarray]) -> None:
        """Split the open nodes. histograms : by asked node, int64, shape (bins, channels): gradient, hessian, and people by outcome."""
        known: dict[int, np.ndarray] = dict(histograms)
        for small in histograms:
            if small:
                parent = self.nodes[self.nodes[small].parent]
                known[parent.left + parent.right - small] = self.histograms[self.nodes[small].parent] - histograms[small]
        kept = {k: known[k] for k in self.open}
        splits = best_splits(list(kept.values()), [self.nodes[k] for k in self.open], self.unit, self.bins, self.settings)
        below = self._divide([(k, split) for k, split in zip(self.open, splits) if split is not None])
        self.histograms = kept
        self.open = [k for k in below if self.nodes[k].depth < self.settings.max_depth and self._splittable(k) and self._may_open(k)]

    def _divide(self, splits: Sequence[tuple[int, Split]]) -> list[int]:
        """Give nodes their splits and children; the children."""
        settings, first = self.settings, len(self.nodes)
        parents = [(k, sums) for k, split in splits for sums in (split.left, split.right)]
        # as xgboost: a child's weight and gain are boxed by its parent's bounds
        lower, upper = (np.array([getattr(self.nodes[k], name) for k, _ in parents], dtype=f32) for name in ("lower", "upper"))
        G, H = (np.array([sums[channel] for _, sums in parents], dtype=np.int64) * self.unit for channel in (0, 1))
        weights = _weights(G, H, settings, lower, upper)
        gains = _gains_of(G, H, weights, settings)
        for (k, sums), weight, gain in zip(parents, weights, gains):
            node = self.nodes[k]
            self.nodes.append(Node(k, node.depth + 1, sums, weight, gain, node.lower, node.upper))
        for place, (k, split) in enumerate(splits):
            node = self.nodes[k]
            node.split, node.left, node.right = split, first + 2 * place, first + 2 * place + 1
            self._bound(node)
        return list(range(first, len(self.nodes)))

    def _bound(self, node: Node) -> None:
        """Under a monotone constraint the children's weights are bounded by the middle between them."""
        way = self.settings.monotone[node.split.feature] if self.settings.monotone and node.split else 0
        if not way:
            return
        left, right = self.nodes[node.left], self.nodes[node.right]
        middle = (left.weight + right.weight) / f32(2)
        if way > 0:
            left.upper = right.lower = middle
        else:
            left.lower = right.upper = middle

    def renumber(self) -> None:
        """Number the nodes that are left level by level, after splits were taken back."""
        order = [0]
        for k in order:
            if self.nodes[k].split is not None:
                order += [self.nodes[k].left, self.nodes[k].right]
        place = {k: new for new, k in enumerate(order)} | {LEAF: LEAF}
        self.nodes = [self.nodes[k] for k in order]
        for node in self.nodes:
            node.parent, node.left, node.right = place[node.parent], place[node.left], place[node.right]

    def weight_of(self, sums: tuple[int, ...]) -> np.float32:
        """The weight of a leaf with these sums, without monotone bounds."""
        return _weight(*self._floats(sums), self.settings, f32(-LARGEST), f32(LARGEST))

    def _floats(self, sums: tuple[int, ...]) -> tuple[float, float]:
        return sums[0] * self.unit, sums[1] * self.unit

    def _may_open(self, k: int) -> bool:
        parent = self.nodes[self.nodes[k].parent]
        return all(sum(self.nodes[one].sums[2:]) >= self.settings.min_open for one in (parent.left, parent.right))

    def _splittable(self, k: int) -> bool:
        """Whether both halves could reach min_child_weight: what cannot is not asked about."""
        least = float(f32(self.settings.min_child_weight))
        return self.nodes[k].sums[1] * self.unit >= 2 * least and self.nodes[k].sums[1] > 0


def best_splits(histograms: Sequence[np.ndarray], nodes: Sequence[Node], unit: float, bins: Bins, settings: TreeSettings
                ) -> list[Split | None]:
    """The best split of each node, None where none is good enough. histograms : int64, each of shape (bins, channels)."""
    at_once = max(1, MOST_AT_ONCE // max(1, bins.size))
    found: list[Split | None] = []
    for start in range(0, len(nodes), at_once):
        several = np.stack([one.T for one in histograms[start:start + at_once]], axis=1)
        found += _best_splits(several, nodes[start:start + at_once], unit, bins, settings)
    return found


def _best_splits(histogram: np.ndarray, nodes: Sequence[Node], unit: float, bins: Bins, settings: TreeSettings) -> list[Split | None]:
    """histogram : shape (channels, nodes, bins)."""
    first = np.asarray(bins.first)
    lengths = first[1:] - first[:-1]
    total = np.array([node.sums for node in nodes], dtype=np.int64).T[:, :, None]
    running = np.zeros((*histogram.shape[:2], bins.size + 1), dtype=np.int64)
    np.cumsum(histogram, axis=2, out=running[..., 1:])      # whole numbers: exact in any order
    before, upto = running[..., first[:-1]], running[..., first[1:]]
    up = running[..., 1:] - np.repeat(before, lengths, axis=2)      # left side of a split above each bin, missing right
    lacking = total - (upto - before)                       # all that is missing, per feature
    gaps = (lacking != 0)[:2].any(axis=0)
    way = np.repeat(np.array([settings.monotone[k] if settings.monotone else 0 for k in bins.features], dtype=int), lengths)
    limits = _Limits.of(nodes)
    gains_up = _gains(up, total - up, unit, limits, settings, way)
    gains_down, left = np.full_like(gains_up, -np.inf), up
    if gaps.any():
        left = up - histogram + np.repeat(lacking, lengths, axis=2)     # left side of a split below each bin, missing left
        gains_down = np.where(np.repeat(gaps, lengths, axis=1), _gains(left, total - left, unit, limits, settings, way), f32(-np.inf))
    best = np.maximum(gains_up.max(axis=1, initial=f32(-np.inf)), gains_down.max(axis=1, initial=f32(-np.inf)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    found: list[Split | None] = []
    for m, node in enumerate(nodes):
        if not best[m] > SMALLEST_GAIN or best[m] < f32(settings.gamma) or not np.isfinite(best[m]):
            found.append(None)
            continue
        places_up, places_down = np.flatnonzero(gains_up[m] == best[m]), np.flatnonzero(gains_down[m] == best[m])
        ups, downs = owner[places_up], owner[places_down]
        if len(ups) and (not len(downs) or ups[0] <= downs[0]):
            k, place, left_first = int(ups[0]), int(places_up[0]), False
            cut, side = place - bins.first[k] + 1, up[:, m, place]
        else:
            k, left_first = int(downs[0]), True
            place = int(places_down[downs == k][-1])        # scanned downwards: the highest bin comes first
            cut, side = place - bins.first[k], left[:, m, place]
        share = tuple(side.tolist())
        found.append(Split(bins.features[k], cut, left_first, best[m], share, tuple(a - b for a, b in zip(node.sums, share))))
    return found


@dataclass(frozen=True)
class _Limits:
    """Of several nodes, float32, shape (nodes, 1): their own gain, and between which weights those of their children lie."""

    gain: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> _Limits:
        return cls(*(np.array([getattr(node, name) for node in nodes], dtype=f32)[:, None] for name in ("gain", "lower", "upper")))


def _gains(left: np.ndarray, right: np.ndarray, unit: float, limits: _Limits, settings: TreeSettings, way: np.ndarray) -> np.ndarray:
    """loss_chg of xgboost for every candidate, float32, shape (nodes, bins); -inf where a side is too light or the constraint is
    broken. left, right : shape (channels, nodes, bins)."""
    least, unweighted = float(f32(settings.min_child_weight)), np.zeros((), dtype=f32)
    sides = []
    for sums in (left, right):
        G, H = sums[0] * unit, sums[1] * unit       # exact: whole numbers below 2^53 times a power of two
        weight = _weights(G, H, settings, limits.lower, limits.upper) if settings.weights_matter else unweighted
        sides.append((H, weight, _gains_of(G, H, weight, settings)))
    (hl, wl, gl), (hr, wr, gr) = sides
    fits = (hl >= least) & (hr >= least)
    if settings.constrained:
        fits &= np.where(way > 0, wl <= wr, np.where(way < 0, wl >= wr, True))
    if settings.min_people:
        fits &= _enough(left[2:], settings.min_people) & _enough(right[2:], settings.min_people)
    return np.where(fits, (gl + gr) - limits.gain, f32(-np.inf))


def _enough(cells: np.ndarray, least: int) -> np.ndarray:
    """Whether each cell of people by outcome, shape (classes, nodes, bins), holds enough in all, and none or enough of each class."""
    everybody = cells[0] if len(cells) == 1 else cells[0] + cells[1]
    found = everybody >= least
    for one in cells:
        found &= (one == 0) | (one >= least)
    return found


def _weights(G: np.ndarray, H: np.ndarray, settings: TreeSettings, lower: np.ndarray | np.float32, upper: np.ndarray | np.float32
             ) -> np.ndarray:
    """CalcWeight of xgboost, in doubles, then boxed as float32."""
    with np.errstate(divide="ignore", invalid="ignore"):
        step = -_soft(G, settings) / (H + float(f32(settings.reg_lambda)))
    most = float(f32(settings.max_delta_step))
    if most:
        step = np.where(np.abs(step) > most, np.copysign(most, step), step)
    weight = np.where((float(f32(settings.min_child_weight)) > H) | (H <= 0), 0.0, step).astype(f32)
    if settings.constrained:
        weight = np.where(weight < lower, lower, np.where(weight > upper, upper, weight))
    return weight


def _gains_of(G: np.ndarray, H: np.ndarray, weight: np.ndarray, settings: TreeSettings) -> np.ndarray:
    """CalcGainGivenWeight of xgboost: each operand rounded to float32 where it does so."""
    penalty = float(f32(settings.reg_lambda))
    with np.errstate(divide="ignore", invalid="ignore"):
        if not settings.weights_matter:
            soft = _soft(G, settings)
            found = (soft * soft).astype(f32) / (H + penalty).astype(f32)
        else:
            G32, H32 = G.astype(f32), H.astype(f32)
            found = -((f32(2) * G32) * weight + (H32 + f32(penalty)) * (weight * weight))
    return np.where(H <= 0, f32(0), found).astype(f32)


def _soft(G: np.ndarray, settings: TreeSettings) -> np.ndarray:
    alpha = float(f32(settings.reg_alpha))
    return np.where(alpha < G, G - alpha, np.where(-alpha > G, G + alpha, 0.0)) if alpha else G


def _weight(G: float, H: float, settings: TreeSettings, lower: np.float32, upper: np.float32) -> np.float32:
    return f32(_weights(np.array([G]), np.array([H]), settings, lower, upper)[0])


def _gain(G: float, H: float, weight: np.float32, settings: TreeSettings) -> np.float32:
    return f32(_gains_of(np.array([G]), np.array([H]), np.array([weight]), settings)[0])
