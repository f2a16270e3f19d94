"""Boosting that opens less: trees whose splits are drawn beforehand from a public seed, so that only sums over leaves are ever opened.

How this works. Which covariate a node cuts and where follows from the seed, the tree and the node by hashing, over the registered cut
points: everybody knows all trees before any row is read, and neither a histogram nor a count per bin is asked for. Under release rules one
round counts people of all leaves, by outcome, and leaves that hold too few are merged with their siblings before any gradient is asked
for. Then the gradients of a batch of trees are summed over their leaves in one round: trees of a batch see the same margins, and the sum
of their steps is at most one full Newton step, so that a batch cannot overshoot.

Geurts, Ernst & Wehenkel (2006), Machine Learning 63:3-42, for totally random trees; Maddock et al. (2022), Federated boosted decision
trees with differential privacy, CCS, sections 4.1 and 4.4, for boosting them in batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ...sums.statistic import INDICATORS, Ask, Sums
from . import sums as ask
from .bins import Feature
from .cases import tree_text
from .noise import DELTA, epsilon, noise_sd, share_of_registry
from .rules import merge_leaves
from .training import Fit, Stopping, Totals, Training
from .trees import LEAF, Bins, Growing, Node, Split, TreeSettings, f32

CLEAR = 2.0                 # standard deviations of noise by which a leaf's hessian must exceed 0
LEAVES_PER_ASK = 20_000     # of which people are counted in one ask: far fewer numbers than one ask may hold


class RandomTraining(Training):
    """A training run with splits drawn beforehand."""

    @property
    def counted(self) -> tuple[str, ...]:
        return ()       # people per bin of no covariate

    def _cut(self, totals: Sums) -> list[Feature]:
        return [thinned(feature, self.params.bins) for feature in self.model_columns]

    def _trees(self) -> Totals:
        settings, fit, batch = self.settings, Fit([], [], []), self.target.batch
        drawn = [random_tree(self.params.seed, t, self.features, self._columns_of_tree(t), settings) for t in range(self.rounds)]
        merged = yield from self._merge(drawn)
        stopping = Stopping(self.params.early_stopping)
        for t in range(0, len(drawn), batch):
            unit, hazard = yield from self._unit(fit)
            now = drawn[t:t + batch]
            asks = [self._ask(fit, now, unit, hazard)]
            held = bool(t and self.params.early_stopping)
            totals = yield asks + ([self.loss_ask(fit, held=True)] if held else [])
            if held and stopping.judge(t, self._mean_loss(totals[1], fit)):
                break
            place = 0
            for growing in now:
                place += fill(growing, totals[0]["sums"][place:].tolist(), unit)
                fit = self._with_tree(fit, growing)
        fit = stopping.best_of(fit)
        fit.merged = merged
        return fit

    def _ask(self, fit: Fit, batch: Sequence[Growing], unit: float, hazard: Any) -> Ask:
        same = {**self.known, "trees": fit.texts, "batch": [tree_text(one) for one in batch], "unit": unit}
        rho = self.params.rho
        if rho is None:
            return ask.leaf_sums(**same, hazard=hazard)
        scale = share_of_registry(noise_sd(rho, self.rounds), self.setting.registries) / unit
        return ask.noisy_leaf_sums(**same, scale=scale)

    def _settings(self) -> TreeSettings:
        found = super()._settings()
        if self.params.rho is None or self.params.min_child_weight is not None:
            return found
        # a leaf whose hessian could be noise gets no value
        sd = share_of_registry(noise_sd(self.params.rho, self.rounds), self.setting.registries) * math.sqrt(self.setting.registries)
        return replace(found, min_child_weight=max(found.min_child_weight, CLEAR * sd))

    def _notes(self) -> list[str]:
        rho = self.params.rho
        if rho is None:
            return []
        return [f"sums over leaves carry discrete Gaussian noise, of standard deviation {noise_sd(rho, self.rounds):.4g} also for "
                f"a registry that knows its own: {rho:g}-zCDP, so epsilon {epsilon(rho):.4g} at delta {DELTA:g}, for one patient more or "
                "less. Numbers of patients, the starting score, the splits taken back and the fit come from exact totals under the "
                "release rules: they are not covered, and the guarantee takes them as known"]

    def _merge(self, drawn: Sequence[Growing]) -> Totals:
        """Under rules, count people in the leaves and merge those that are too small; how many splits were taken back."""
        if self.rules.min_cell <= 1:
            return 0
        texts, sizes = [tree_text(one) for one in drawn], [sum(node.left == LEAF for node in one.nodes) for one in drawn]
        parts, size = [[0]], 0
        for t in range(1, len(drawn)):
            size += sizes[t - 1]
            if size + sizes[t] > LEAVES_PER_ASK:
                parts, size = [*parts, []], 0
            parts[-1].append(t)
        totals = yield [ask.leaves(**self.known, trees=[texts[t] for t in part], first=part[0]) for part in parts]
        if not self.setting.size.n:         # nobody: `explain` wants to know the most that would be asked
            return 0
        merged = 0
        for part, found in zip(parts, totals):
            place = 0
            for t in part:
                own = slice(place, place + sizes[t])
                merged += merge_leaves(drawn[t], found["people"][own], found["people" + INDICATORS][own], self.rules)
                place = own.stop
        return merged

    def _check_leaves(self, fit: Fit) -> Totals:
        return fit      # checked before the gradients were asked for
        yield

    def _growth(self) -> str:
        return (f"with random splits at registered cut points from a public seed, in batches of {self.target.batch}; only sums over leaves "
                "were opened")


def thinned(feature: Feature, most: int) -> Feature:
    """The feature with at most so many bins: candidate cuts evenly spread over their places."""
    cuts, count = feature.thresholds, most - 1
    if len(cuts) <= count:
        return feature
    return msgspec.structs.replace(feature, thresholds=tuple(cuts[(2 * k + 1) * len(cuts) // (2 * count)] for k in range(count)))


def random_tree(seed: int, t: int, features: Sequence[Feature], used: Sequence[int], settings: TreeSettings) -> Growing:
    """Tree t, all of whose splits are drawn: first the covariate, then one of its cuts that the nodes above leave open, then the side of
    missing values. used : the features it may cut."""
    growing = Growing((0, 0), 1.0, Bins.of(range(len(features)), [one.bins for one in features]), settings)
    nodes, reach = growing.nodes, {0: {k: (0, len(features[k].thresholds)) for k in used}}
    for k, node in enumerate(nodes):        # grows while it is walked: numbered level by level
        here = reach.pop(k)
        covariates: dict[str, list[tuple[int, int]]] = {}
        for feature, (low, high) in here.items():
            covariates.setdefault(features[feature].variable, []).extend((feature, cut) for cut in range(low + 1, high + 1))
        choices = [cuts for cuts in covariates.values() if cuts]
        if node.depth == settings.max_depth or not choices:
            continue
        draw = hashlib.sha256(f"fedstats splits {seed} {t} {k}".encode()).digest()
        cuts = choices[int.from_bytes(draw[:8], "big") % len(choices)]
        feature, cut = cuts[int.from_bytes(draw[8:16], "big") % len(cuts)]
        node.split, node.left, node.right = Split(feature, cut, bool(draw[16] & 1), f32(0), (0, 0), (0, 0)), len(nodes), len(nodes) + 1
        low, high = here[feature]
        reach[node.left], reach[node.right] = here | {feature: (low, cut - 1)}, here | {feature: (cut, high)}
        nodes += [Node(k, node.depth + 1, (0, 0), f32(0), f32(0)) for _ in range(2)]
    return growing


def fill(growing: Growing, sums: Sequence[Sequence[int]], unit: float) -> int:
    """Give the leaves their sums of gradients, in units of `unit`, and all nodes theirs. Returns how many leaves there are."""
    growing.unit, taken = unit, 0
    for node in growing.nodes:
        if node.left == LEAF:
            # with noise a hessian may come out below 0, where none is
            node.sums, taken = (int(sums[taken][0]), max(0, int(sums[taken][1]))), taken + 1
            node.weight = growing.weight_of(node.sums)
    for node in reversed(growing.nodes):        # children come after their parents
        if node.left != LEAF:
            left, right = growing.nodes[node.left].sums, growing.nodes[node.right].sums
            node.sums = left[0] + right[0], left[1] + right[1]
    return taken
