"""One training run: which asks follow from which totals. The same at every registry, so whole numbers and steady arithmetic only.

How a run goes is told in `boosting`; how one tree grows, in `trees`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np

from ...disclosure import intervals, may_count, may_imply
from ...errors import Refused
from ...query.analysis import Joint, Setting
from ...sums.statistic import INDICATORS, Ask, Sums, plain
from ..shared.scores import EDGES, auc, auc_slack
from . import sums as ask
from .bins import Feature, columns, merged
from .booster import names_for_xgboost
from .cases import INTERCEPT_LIMIT, Model, full_tree, tree_text
from .model import Column, RiskModel, Tree
from .objectives import COX, HAZARD, LOGISTIC, POISSON, SQUARED, Spread, bound, cumulative, loss_bound, starting_score
from .params import BoostParams
from .rules import Floors, check_floors, covers, floors, leaf_values, merge_leaves
from .trees import LARGEST, LEAF, Bins, Growing, TreeSettings

Totals = Generator[list[Ask], list[Sums], Any]
METRIC = {LOGISTIC: "log_loss", HAZARD: "log_loss", SQUARED: "mean_squared_error", POISSON: "poisson_loss"}
LOOSE = 2.0                 # how much wider than the margins their bound may get where gradients grow with exp(margin): 3 of 24 bits
SMALLEST_WEIGHT = 1.0       # min_child_weight where nobody names one: xgboost's default


@dataclass
class Fit:
    """What a training run has found so far. texts : the trees as asks carry them. leaves : their values."""

    texts: list[str]
    leaves: list[list[float]]
    grown: list[Growing]
    merged: int = 0         # splits taken back at the end


class Stopping:
    """Early stopping: which number of trees had the smallest loss on those held out. patience : trees without a better one."""

    def __init__(self, patience: int | None) -> None:
        self.patience, self.best, self.best_at, self.last, self.stopped = patience or 0, float("inf"), 0, 0, False

    def judge(self, trees: int, loss: float) -> bool:
        """Whether to stop, now that the model of so many trees has this loss."""
        self.last = trees
        if loss < self.best:
            self.best, self.best_at = loss, trees
        else:
            self.stopped = trees - self.best_at >= self.patience
        return self.stopped

    def best_of(self, fit: Fit) -> Fit:
        """The trees that stay. Those that came after the last judgement stay while the loss was still falling."""
        if self.best_at == self.last and not self.stopped:
            return fit
        return Fit(fit.texts[:self.best_at], fit.leaves[:self.best_at], fit.grown[:self.best_at], fit.merged)


class Training:
    """One training run, the same at every registry."""

    def __init__(self, params: BoostParams, setting: Setting) -> None:
        self.params, self.setting, self.rules = params, setting, setting.rules
        self.target = params.target(setting.dictionary, setting.size.n)
        weighted = params.weights is not None or params.scale_pos_weight != 1
        self.floors: Floors | None = floors(self.rules, params.objective, setting.size.n, weighted)
        if self.floors is not None:
            check_floors(self.floors, bins=params.bins, depth=params.max_depth, rounds=params.rounds or 1, child=params.min_child_weight,
                         k=self.rules.min_cell)
        if self.rules.min_cell > 1 and 0 < params.validation * setting.size.n < 2 * self.rules.min_cohort:
            raise Refused(f"fewer than {2 * self.rules.min_cohort} patients would be held out (rule min_cohort)",
                          hint="hold out a larger share, or nobody")
        self.rounds = params.rounds or 1
        self.most_y = setting.dictionary[params.outcome].ends
        self.most_weight = ask.most_weight(setting.dictionary, self.target)
        self.features: tuple[Feature, ...] = ()
        self.events: int | None = None

    def run(self) -> Joint:
        yield from self.begin()
        fit = yield from self._trees()
        model = yield from self.finish(fit)
        return model

    def begin(self) -> Totals:
        """Starting score, grid and bins."""
        (totals,) = yield [ask.start(model=Model(self.target).text, covariates=list(self.counted))]
        self._begin(totals)
        self.settings = self._prepare()

    def one_tree(self, fit: Fit, t: int) -> Totals:
        """The fit with tree t."""
        unit, hazard = yield from self._unit(fit)
        growing, _ = yield from self._grow(fit, t, self.settings, unit, hazard, 0)
        return self._with_tree(fit, growing)

    def finish(self, fit: Fit) -> Joint:
        """The model: leaves that are too small merged, and how good it is on its own patients."""
        fit = yield from self._check_leaves(fit)
        metrics, notes = yield from self._scores(fit)
        return self._model(fit, metrics, [*notes, *self._notes()])

    @property
    def counted(self) -> tuple[str, ...]:
        """The covariates whose bins are cut from counts of people."""
        return self.params.covariates

    # -- the start -------------------------------------------------------------------------------------------------------------

    def _begin(self, totals: Sums) -> None:
        """Starting score, grid and bins from the first totals. Raises Refused where there are too few with or without the outcome."""
        params, rules = self.params, self.rules
        if ask.two_classes(self.target):
            self.events = int(totals["events"])
            there = int(totals["events" + INDICATORS])
            if rules.min_cell > 1 and not (may_count(self.events, rules, there) and may_count(self.setting.size.n - self.events, rules)):
                raise Refused(f"fewer than {rules.min_cell} patients with the outcome, or without it, or from fewer than "
                              f"{rules.min_registries} registries (rules min_cell, min_registries)", hint="take a more frequent outcome")
        share, weight = int(totals["weighted"]), int(totals["weight"])
        low, high = (0.0, 1.0) if ask.two_classes(self.target) else self.most_y
        score, margin = starting_score(params.objective, low * weight + (high - low) * share, float(weight))
        if params.base_score is not None and params.objective != COX:
            score, margin = starting_score(params.objective, params.base_score, 1.0)
        elif rules.rounding:
            score, margin = starting_score(params.objective, float(f"{score:.4g}"), 1.0)
        self.base_score = score
        self.target = msgspec.structs.replace(self.target, start=margin)
        self._bins(totals)

    def _bins(self, totals: Sums) -> None:
        params, rules = self.params, self.rules
        self.model_columns = list(columns(self.setting.dictionary, params.covariates))
        found = self._cut(totals)
        if self.target.time and rules.min_cell > 1:
            ends = self._merged_ends(totals)
            if self.target.objective == COX:
                self.target = msgspec.structs.replace(self.target, ends=ends)
        else:
            ends = self.target.ends
        if self.target.objective == HAZARD:
            inner = [self.target.ends[self.target.ends.index(end) + 1] for end in ends[:-1]]
            name = names_for_xgboost([*(one.name for one in self.model_columns), str(params.time)])[-1]
            clock = Feature(name, str(params.time), None, tuple(float(np.float32(one)) for one in inner))
            self.model_columns.append(clock)
            found.append(clock)
        if not found:
            raise Refused(f"no covariate can be cut so that both sides hold {rules.min_cell} people (rule min_cell)" if rules.min_cell > 1
                          else "no covariate varies", hint="take other covariates, or add cut points in the dictionary")
        self.features = tuple(found)
        place = {feature.name: k for k, feature in enumerate(self.model_columns)}
        self.column_of = [place[feature.name] for feature in found]

    def _cut(self, totals: Sums) -> list[Feature]:
        """The features with their bins merged; those that cannot be cut are left out."""
        found = [merged(feature, totals[f"people{k}"], totals[f"people{k}{INDICATORS}"], self.params.bins, self.rules)
                 for k, feature in enumerate(self.model_columns)]
        return [one for one in found if one is not None]

    def _merged_ends(self, totals: Sums) -> tuple[float, ...]:
        """The grid with neighbouring intervals merged until none or enough leave in each, with and without the event."""
        events, leave = totals["events_in"], totals["leave"]
        spans = intervals(np.stack([events, leave - events]), np.stack([totals["events_in" + INDICATORS], totals["leave" + INDICATORS]]),
                          self.rules)
        ends = [self.target.ends[stop - 1] for _, stop in spans]
        return tuple(ends) if ends else (self.target.ends[-1],)

    # -- the trees ---------------------------------------------------------------------------------------------------------------

    def _settings(self) -> TreeSettings:
        p, wanted = self.params, self.params.monotone
        child = p.min_child_weight
        if child is None:
            child = max(SMALLEST_WEIGHT, self.floors.child if self.floors else 0.0)
        way = tuple(wanted.get(one.name, wanted.get(one.variable, 0)) for one in self.features)
        return TreeSettings(p.max_depth, p.learning_rate, p.reg_lambda, p.reg_alpha, p.gamma, child, p.step, way if any(way) else (),
                            self.floors.people if self.floors else 0, self.floors.opened if self.floors else 0)

    def _prepare(self) -> TreeSettings:
        """What all trees share: the settings, the model's text, and between which values margins lie."""
        self.known = {"model": Model(self.target, self.features).text}
        start, own = self.target.start, 0.0
        if self.target.intercepts:
            own = INTERCEPT_LIMIT if self.params.objective != SQUARED else self.most_y[1] - self.most_y[0]
        self.unmeasured = Spread(start - own, start + own)
        self.measured = (0, self.unmeasured)
        self.allowed = self.unmeasured.width + (self.most_y[1] - self.most_y[0] if self.params.objective == SQUARED else LOOSE)
        return self._settings()

    def _trees(self) -> Totals:
        fit, stopping = Fit([], [], []), Stopping(self.params.early_stopping)
        for t in range(self.rounds):
            unit, hazard = yield from self._unit(fit)
            growing, held = yield from self._grow(fit, t, self.settings, unit, hazard, t if self.params.early_stopping else 0)
            if held is not None and stopping.judge(t, held):
                break
            fit = self._with_tree(fit, growing)
        return stopping.best_of(fit)

    def _unit(self, fit: Fit) -> Totals:
        """The unit of this tree's gradients, a power of two; for Cox after one round that sums the risk sets."""
        yield from self._narrow(fit)
        spread, hazard, last = self._spread(fit), None, 0.0
        if self.params.objective == COX:
            (totals,) = yield [ask.risk(**self.known, trees=fit.texts, shift=spread.high)]
            leaving = [int(one) for one in totals["risk"]]
            at_risk = [total * 2.0**-ask.RISK_BITS for total in accumulate(reversed(leaving))][::-1]
            once, twice = cumulative([int(one) for one in totals["deaths"]], at_risk)
            hazard, last = [once, twice, [spread.high]], once[-1]
        most = bound(self.params.objective, spread, self.most_y, self.most_weight, step=self.params.step or 0.0, last=last)
        return most * 2.0**-self.target.bits, hazard

    def _spread(self, fit: Fit) -> Spread:
        at, known = self.measured if self.measured[0] <= len(fit.leaves) else (0, self.unmeasured)
        return Spread.of(known.low, known.high, fit.leaves[at:])

    def _narrow(self, fit: Fit) -> Totals:
        """Where the extreme leaves of many trees add up to far more than any patient has, count in which cells of the margin patients
        are: the unit of the gradients follows from the bound, and would get too coarse. The log-loss has bounded gradients anyway."""
        spread = self._spread(fit)
        if self.params.objective in (LOGISTIC, HAZARD) or spread.width <= self.allowed:
            return
        (totals,) = yield [ask.reach(**self.known, trees=fit.texts, edges=spread.edges)]
        spread = spread.narrowed(totals["people"].tolist())
        self.measured = (len(fit.leaves), spread)
        self.allowed = 2 * spread.width if self.params.objective == SQUARED else spread.width + LOOSE

    def _grow(self, fit: Fit, t: int, settings: TreeSettings, unit: float, hazard: Any, held: int) -> Totals:
        """One tree, level by level; beside its first level the loss of the model so far on those held out."""
        used = self._columns_of_tree(t)
        bins = Bins.of(used, [self.features[k].bins for k in used])
        same = {**self.known, "trees": fit.texts, "unit": unit, "people": settings.min_people > 0, "hazard": hazard,
                "used": used if len(used) < len(self.features) else None}
        root = Growing((0, 0), unit, bins, settings)
        asks = [ask.histograms(**same, tree=tree_text(root), nodes=[0])]
        if held:
            asks.append(self.loss_ask(fit, held=True))
        totals = yield asks
        total = tuple(totals[0]["total"].tolist()) + (tuple(totals[0]["everybody"].tolist()) if settings.min_people else ())
        growing = Growing(total, unit, bins, settings)
        if not self.setting.size.n:         # nobody: `explain` wants to know the most that would be asked
            for level in range(1, settings.max_depth):
                nodes = list(range(2**level - 1, 2**(level + 1) - 1, 2))
                yield [ask.histograms(**same, tree=full_tree(level), nodes=nodes)]
        if growing.open:
            growing.grow({0: _with_people(totals[0], settings)[0]})
        while growing.open:
            asked = growing.asked
            (found,) = yield [ask.histograms(**same, tree=tree_text(growing), nodes=asked)]
            growing.grow(dict(zip(asked, _with_people(found, settings))))
        return growing, self._mean_loss(totals[1], fit) if held else None

    def _columns_of_tree(self, t: int) -> list[int]:
        """The features that a tree may use: a share of them, drawn by hashing seed, tree and place."""
        count = len(self.features)
        if self.params.colsample >= 1:
            return list(range(count))
        order = sorted(range(count), key=lambda k: hashlib.sha256(f"fedstats columns {self.params.seed} {t} {k}".encode()).digest())
        return sorted(order[:max(1, int(self.params.colsample * count))])

    def _with_tree(self, fit: Fit, growing: Growing) -> Fit:
        values = leaf_values(growing, self.rules)
        growing.histograms = {}
        return Fit([*fit.texts, tree_text(growing, values)], [*fit.leaves, list(values.values())], [*fit.grown, growing], fit.merged)

    def _check_leaves(self, fit: Fit) -> Totals:
        """Under rules, one look at all leaves: those with people of too few registries are merged with their siblings."""
        if self.rules.min_cell <= 1 or not fit.texts:
            return fit
        (totals,) = yield [ask.leaves(**self.known, trees=fit.texts)]
        found, place = Fit([], [], []), 0
        for growing, values in zip(fit.grown, fit.leaves):
            own = slice(place, place + len(values))
            found.merged += merge_leaves(growing, totals["people"][own], totals["people" + INDICATORS][own], self.rules)
            found, place = self._with_tree(found, growing), own.stop
        return found

    # -- the end -------------------------------------------------------------------------------------------------------------------

    def loss_ask(self, fit: Fit, *, held: bool, edges: Sequence[float] = ()) -> Ask:
        unit = loss_bound(self.params.objective, self._spread(fit), self.most_y) * 2.0**-ask.LOSS_BITS
        return ask.scores(**self.known, trees=fit.texts, unit=unit, held=held, edges=list(edges))

    def loss_of(self, totals: Sums, fit: Fit) -> tuple[float, float]:
        """The sum of weighted losses, and of weights."""
        unit = loss_bound(self.params.objective, self._spread(fit), self.most_y) * 2.0**-ask.LOSS_BITS
        return int(totals["loss"]) * unit, int(totals["weight"]) * 2.0**-ask.WEIGHT_BITS

    def _mean_loss(self, totals: Sums, fit: Fit) -> float:
        loss, weight = self.loss_of(totals, fit)
        return loss / weight if weight else 0.0

    def _scores(self, fit: Fit) -> Totals:
        metrics: dict[str, float] = {}
        notes = [f"{fit.merged} splits were taken back because a leaf held fewer than {self.rules.min_cell} people with or without the "
                 "outcome, or people of too few registries (rules min_cell, min_registries)"] if fit.merged else []
        name = METRIC.get(self.params.objective)
        if name is None:
            return metrics, notes
        self.measured = (0, self.unmeasured)        # trees may have been left out or merged since
        yield from self._narrow(fit)
        edges = EDGES if self.params.objective == LOGISTIC else ()
        totals = yield [self.loss_ask(fit, held=held, edges=edges) for held in ((False, True) if self.target.held else (False,))]
        for prefix, found in zip(("", "held_"), totals):
            metrics[prefix + name] = self._mean_loss(found, fit)
            # one number over everybody, as in a validation: those with and those without the outcome must be enough
            if edges and may_imply(found["classes"], found["classes" + INDICATORS], self.rules) and found["classes"].all():
                metrics[prefix + "auc"] = auc(*found["people"])
                # few trees have scores in few bins: 0.5 would be told of a model that tells patients apart
                metrics[prefix + "auc_slack"] = auc_slack(*found["people"])
        return metrics, notes

    def _model(self, fit: Fit, metrics: dict[str, float], notes: list[str]) -> RiskModel:
        params, dictionary = self.params, self.setting.dictionary
        cut = {feature.name: feature for feature in self.features}
        found = [Column(one.name, one.variable, one.level, cut[one.name].bins if one.name in cut else 0,
                        cut[one.name].fold if one.name in cut else False) for one in self.model_columns]
        given = plain(msgspec.to_builtins(params))      # lists, as they come back from the wire
        given |= {"min_child_weight": self._settings().min_child_weight, "max_delta_step": params.step, "bits": self.target.bits,
                  "batch": self.target.batch}
        return RiskModel(
            size=self.setting.size, outcome=params.outcome, objective=params.objective, covariates=params.covariates, columns=tuple(found),
            trees=tuple(self._released(growing, leaves) for growing, leaves in zip(fit.grown, fit.leaves)), base_score=self.base_score,
            base_margin=self.target.start, variables=tuple(dictionary[name] for name in params.covariates), time=params.time,
            ends=self.target.ends if params.objective == HAZARD else (), events=self.events, metrics=metrics, parameters=given,
            notes=tuple(notes), methods=self._methods(len(fit.grown)))

    def _released(self, growing: Growing, leaves: list[float]) -> Tree:
        """A tree as it may leave: thresholds, directions, leaves and rounded covers, without hessians and gains."""
        nodes, values = growing.nodes, iter(leaves)
        threshold = []
        for node in nodes:
            cuts = self.features[node.split.feature].thresholds if node.split else ()
            # missing against all the rest is written as a threshold that no value reaches: the true one would be the maximum
            threshold.append(0.0 if not node.split else -LARGEST if node.split.cut == 0 else cuts[node.split.cut - 1]
                             if node.split.cut <= len(cuts) else LARGEST)
        return Tree(
            tuple(node.left for node in nodes), tuple(node.right for node in nodes),
            tuple(self.column_of[node.split.feature] if node.split else 0 for node in nodes), tuple(threshold),
            tuple(bool(node.split and (node.split.default_left or self.features[node.split.feature].fold)) for node in nodes),
            tuple(next(values) if node.left == LEAF else 0.0 for node in nodes), tuple(covers(growing, self.rules, self.params.objective)))

    def _methods(self, trees: int) -> str:
        p = self.params
        kind = {HAZARD: "a discrete-time hazard model (logistic, person-periods on the registered grid)",
                COX: "Cox partial likelihood with Breslow ties on the registered grid"}.get(p.objective, p.objective)
        return (f"Gradient boosted trees ({kind}) {self._growth()}, {trees} trees of depth {p.max_depth}, "
                f"learning rate {p.learning_rate:g}, at most {p.bins} bins per covariate at registered cut points; missing values have a "
                "learned direction.")

    def _notes(self) -> list[str]:
        return []

    def _growth(self) -> str:
        return "grown from histograms summed over registries"


def _with_people(totals: Sums, settings: TreeSettings) -> list[np.ndarray]:
    """Histograms of the asked nodes, each of shape (bins, channels): gradient, hessian, and people by outcome where they are counted."""
    if not settings.min_people:
        return list(totals["sums"])
    return list(np.concatenate([totals["sums"], totals["people"]], axis=2))
