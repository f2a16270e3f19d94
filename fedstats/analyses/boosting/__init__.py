"""Gradient boosting of trees over several registries: the trees that xgboost would grow on the pooled table with the same bins.

How this works. One round counts people per registered bin and gives the starting score; bins are merged from these counts. Then every
tree grows level by level: of each pair of sibling nodes the lighter one is asked for its histogram of whole-number gradients, one level
is one round, and every registry takes the same decisions from the same totals (`trees`). Under release rules histograms count
people by outcome too, and a last look at all leaves counts contributing registries (`rules`). With splits="random" there are
no histograms at all (`random`). The last round gives the model's fit from sealed sums. The analyst receives the finished model
(`model`) and nothing else.

Chen & Guestrin (2016), KDD; Cheng et al. (2021), SecureBoost, IEEE Intelligent Systems 36:87-98, for boosting on sums of histograms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ...query.analysis import Joint, Setting, analysis, names_of
from .choice import FOLDS, check_knows, choose
from .model import RiskModel
from .objectives import LOGISTIC
from .params import BEST, RANDOM, BoostParams, chooses
from .random import RandomTraining
from .rules import check_leaves
from .training import Training

USUAL_ROUNDS, USUAL_DEPTH, USUAL_RATE = 100, 4, 0.1     # where rounds are named, or cannot be chosen
CHOSEN_DEPTH, CHOSEN_RATE = 3, 0.05                     # where they are chosen: short steps, and leaves for many of them
CHOSEN = ("The number of trees was chosen by {folds}-fold cross-validation by patient, as the one whose risks are spread as they should "
          "be in patients whom the models had not seen (for numbers and counts: that with the smallest loss there).")


def _call(outcome: str, covariates: Sequence[str] | str, *, objective: str = LOGISTIC, time: str | None = None, rounds: int | None = None,
          max_depth: int | None = None, learning_rate: float | None = None, bins: int = 16,
          min_child_weight: float | None = None, reg_lambda: float = 1.0,
          reg_alpha: float = 0.0, gamma: float = 0.0, max_delta_step: float | None = None, subsample: float = 1.0, colsample: float = 1.0,
          seed: int = 0, weights: str | None = None, scale_pos_weight: float = 1.0, monotone: Mapping[str, int] | None = None,
          validation: float = 0.0, early_stopping: int | None = None, intervals: Sequence[float] | None = None, intercepts: bool = False,
          base_score: float | None = None, bits: int | None = None, splits: str = BEST, batch: int | None = None,
          rho: float | None = None, release_anyway: bool = False) -> BoostParams:
    """boost("worse", ["age", "edss"], objective="binary:logistic", rounds=100, max_depth=4, learning_rate=0.1, bins=16, ...)"""
    chosen = rounds is None and chooses(objective, splits, early_stopping)
    usual_depth, usual_rate = (CHOSEN_DEPTH, CHOSEN_RATE) if chosen else (USUAL_DEPTH, USUAL_RATE)
    rounds, max_depth = rounds if rounds or chosen else USUAL_ROUNDS, usual_depth if max_depth is None else max_depth
    learning_rate = usual_rate if learning_rate is None else learning_rate
    return BoostParams(
        outcome, names_of(covariates), objective, time, rounds, max_depth, float(learning_rate), bins,
        None if min_child_weight is None else float(min_child_weight), float(reg_lambda), float(reg_alpha), float(gamma),
        None if max_delta_step is None else float(max_delta_step), float(subsample), float(colsample), seed, weights,
        float(scale_pos_weight), dict(monotone or {}), float(validation), early_stopping,
        None if intervals is None else tuple(float(one) for one in intervals), intercepts,
        None if base_score is None else float(base_score), bits, splits, batch,
        None if rho is None else float(rho), release_anyway)


@analysis("boost/1", params=BoostParams, result=RiskModel, call=_call)
def boost(params: BoostParams, setting: Setting) -> Joint:
    """A risk model by gradient boosting: the trees xgboost would grow on the pooled table with the same bins, as an xgboost model.

    outcome : yes/no for binary:logistic (a probability), survival:cox and hazard:logistic (then with `time`; the latter gives absolute
    risks at registered times); a number for reg:squarederror and count:poisson. covariates may be missing; trees learn where missing
    values go. rounds : trees; where none are named, the number whose risks a cross-validation under the seal finds spread as they should
    be (for numbers: that with the smallest loss), of short steps, and a model that tells nothing about patients it has not seen
    is refused unless release_anyway. Names and
    meaning of rounds, max_depth, learning_rate, reg_lambda, reg_alpha, gamma, min_child_weight, max_delta_step,
    subsample, scale_pos_weight and monotone as in xgboost. bins : at most so many per covariate, cut at registered cut points.
    validation, early_stopping : hold out this share of patients, and stop after so many trees without a better loss there.
    intercepts : each registry adds its own starting score, which never leaves it. splits="random" opens less: splits are drawn from the
    seed, and only sums over leaves are opened, of `batch` trees in one round; as accurate only with more trees. rho : then also with
    noise on these sums, of so much zero-concentrated differential privacy over all trees (0.17 is epsilon 3 at delta 1e-5).
    Under release rules a model has at most one leaf for every 5 patients, unless its sums carry noise: rounds x 2^max_depth <= n / 5.
    Chen & Guestrin (2016), KDD.
    """
    chosen = None
    if params.rounds is None:
        chosen = yield from choose(params, setting)
        params = chosen.params
    run = _training(params, setting)
    if params.rho is None:      # noise is accounted for by itself
        check_leaves(setting.rules, rounds=run.rounds, depth=params.max_depth, n=setting.size.n)
    model = yield from run.run()
    if chosen is None:
        return model
    check_knows(chosen, params)
    return msgspec.structs.replace(model, methods=f"{model.methods} {CHOSEN.format(folds=FOLDS)}")


def train(params: BoostParams, setting: Setting) -> Joint:
    """The same for a model that nobody is shown, such as that of one fold of a validation."""
    model = yield from _training(params, setting).run()
    return model


def _training(params: BoostParams, setting: Setting) -> Training:
    return (RandomTraining if params.splits == RANDOM else Training)(params, setting)
