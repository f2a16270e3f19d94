"""How good predicted risks are, as a result shows it: from the sums of `scores.sums`, after the release rules have spoken.

How this works. `people` and `cells` are whole counts and decide what is shown; where follow-up may end before the horizon every number
is computed from counts weighted by the inverse probability of being followed so far (Graf et al. 1999, Stat Med 18:2529-2545; Uno et al.
2007, JASA 102:527-537), and patients censored before the horizon count through those who were not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from ...disclosure import Rules
from ...disclosure.precision import Public
from ...sums.statistic import Sums
from ..regression.model_rules import EVENTS_PER_PARAMETER, FLOOR_EVENTS_PER_PARAMETER
from ..shared.common import at_most, z_of
from ..shared.scores import BINS, Estimate, auc_interval, auc_slack, precision_bounds, precision_interval, recalibrate, recalibration
from .classes import RiskClass, calibration_error, decomposition, risk_classes
from .sums import SIZE_BANDS, UNIT_BITS, WEIGHT_BITS

FEWEST_REGISTRIES = 5       # behind a spread between registries (fewer would tell one of them about the others)


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good the risks are in one group. None: not defined, or not released.

    n, events : patients whose outcome is known, and those with it. auc, pr_auc : areas under the ROC and the precision-recall curve, with
    intervals. auc_slack, pr_auc_slack : the most by which single patients' areas differ from those over bins. brier, log_loss : means.
    ratio : observed over expected events. intercept, slope : of a logistic recalibration; 0 and 1 are perfect.
    """

    n: int | None = None
    events: int | None = None
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    auc_slack: float | None = None
    pr_auc: float | None = None
    pr_auc_low: float | None = None
    pr_auc_high: float | None = None
    brier: float | None = None
    log_loss: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    intercept: float | None = None
    intercept_low: float | None = None
    intercept_high: float | None = None
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    pr_auc_slack: float | None = None


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The patients of one level of a variable."""

    variable: str
    level: str
    metrics: Metrics


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much the AUC differs between registries: their number, mean and standard deviation; `beyond_chance` is the part of the standard
    deviation that sampling does not explain (DerSimonian & Laird 1986, with equal weights)."""

    registries: int
    mean: float
    sd: float
    beyond_chance: float


class SizeBand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many registries have so many patients."""

    patients: str
    registries: int


class Recalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a predicted risk becomes the share that had the outcome: its logit becomes intercept + slope x. The (co)variances give the
    interval of the new logit."""

    intercept: float
    slope: float
    variance_intercept: float
    covariance: float
    variance_slope: float


class Performance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How good the risks are at one horizon; None: the outcome is a plain yes or no.

    censored : share whose follow-up ended before the horizon. brier_reference : of predicting everybody's mean risk. reliability,
    resolution, uncertainty, calibration_error : over the risk classes. recalibration : of everybody's risks; None where too few had the
    outcome.
    """

    horizon: Public[float | None]
    overall: Metrics
    groups: tuple[Group, ...] = ()
    classes: tuple[RiskClass, ...] = ()
    censored: float | None = None
    brier_reference: float | None = None
    reliability: float | None = None
    resolution: float | None = None
    uncertainty: float | None = None
    calibration_error: float | None = None
    spread: Spread | None = None
    recalibration: Recalibration | None = None


def metrics_of(totals: Sums, g: int, confidence: float, rules: Rules) -> Metrics:
    """The numbers of group g. totals : of `scores`. Assumes that the group may be shown."""
    people, cells = totals["people"][g], totals["cells"][g].astype(float)
    weighted = "weights" in totals
    counts = totals["weights"][g] / 2.0**WEIGHT_BITS if weighted else cells
    squares = totals["squares"][g] / 2.0**WEIGHT_BITS if weighted else None
    n0, n1 = int(people[0]), int(people[1])
    total = float(counts.sum())
    everybody = float(people.sum()) if weighted else float(n0 + n1)
    without, with_ = counts
    area = auc_interval(without, with_, confidence, squares=squares)
    precision = precision_interval(without, with_, confidence, cases=cells[1])
    least, most = precision_bounds(without, with_, weighted)
    expected, observed = float(totals["expected"][g]) * 2.0**-UNIT_BITS, float(with_.sum())
    z = z_of(confidence)
    half = z / math.sqrt(n1)
    ratio = observed / expected
    worth = effective(counts, squares)
    again = recalibrate(without * worth, with_ * worth, confidence) if min(n0, n1) >= 2 * _per_parameter(rules) else None
    intercept, slope = again or (None, None)
    return Metrics(n0 + n1, n1, *_three(area), auc_slack(without, with_), *_three(precision),
                   float(totals["brier"][g]) * 2.0**-UNIT_BITS / everybody, float(totals["loss"][g]) * 2.0**-UNIT_BITS / total,
                   ratio, ratio * math.exp(-half), ratio * math.exp(half), *_three(intercept), *_three(slope),
                   max(precision.value - least, most - precision.value, 0.0))


def slack_note(made: Performance) -> str:
    """How far the areas over bins may be from those of single patients, in any group that is shown."""
    shown = [one for one in (made.overall, *(group.metrics for group in made.groups)) if one.auc is not None]
    area, precision = (max((getattr(one, name) or 0.0 for one in shown), default=0.0) for name in ("auc_slack", "pr_auc_slack"))
    when = "" if made.horizon is None else f" by {made.horizon:g}"
    return (f"risks are counted in {BINS} intervals{when}: AUC of the risks themselves within {at_most(area):g}, PR AUC within "
            f"{at_most(precision):g}; for the recalibration they stand in the middle of their interval")


def recalibration_of(totals: Sums, rules: Rules) -> Recalibration | None:
    """The recalibration of everybody's risks, where as many have the outcome as two coefficients ask for."""
    n0, n1 = (int(one) for one in totals["people"][0][:2])
    if min(n0, n1) < 2 * _per_parameter(rules):
        return None
    weighted = "weights" in totals
    counts = totals["weights"][0] / 2.0**WEIGHT_BITS if weighted else totals["cells"][0].astype(float)
    worth = effective(counts, totals["squares"][0] / 2.0**WEIGHT_BITS if weighted else None)
    found = recalibration(counts[0] * worth, counts[1] * worth)
    return None if found is None else Recalibration(**vars(found))


def effective(counts: np.ndarray, squares: np.ndarray | None) -> float:
    """By how much weighted counts are shrunk so that they stand for as many patients as they are worth: sum w / sum w^2. Kish (1965)."""
    return 1.0 if squares is None else float(counts.sum() / squares.sum())


def _per_parameter(rules: Rules) -> int:
    k = rules.min_cell
    return EVENTS_PER_PARAMETER if k >= EVENTS_PER_PARAMETER else FLOOR_EVENTS_PER_PARAMETER if k >= FLOOR_EVENTS_PER_PARAMETER else 1


def _three(one: Estimate | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if one is None else (one.value, one.low, one.high)


def classes_of(ends: Sequence[int], spans: Sequence[tuple[int, int]], totals: Sums, confidence: float) -> tuple[RiskClass, ...]:
    """The risk classes. ends : of the asked classes in bins. spans : which of them are taken together. totals : of `score_classes`."""
    if not spans:
        return ()
    weights, squares, expected = (np.stack([totals[name][..., a:b].sum(axis=-1) for a, b in spans], axis=-1)
                                  for name in ("weights", "squares", "expected"))
    people = np.stack([totals["people"][:, a:b].sum(axis=1) for a, b in spans], axis=1)
    starts = [0 if a == 0 else ends[a - 1] for a, _ in spans]
    unit = 2.0**-WEIGHT_BITS
    return risk_classes(starts, people, weights * unit, squares * unit, expected * 2.0**-UNIT_BITS, BINS, confidence)


def over_classes(classes: Sequence[RiskClass]) -> dict[str, float]:
    """Fields of `Performance` that rest on the risk classes."""
    if not classes:
        return {}
    reliability, resolution, uncertainty = decomposition(classes)
    return {"reliability": reliability, "resolution": resolution, "uncertainty": uncertainty, "brier_reference": uncertainty,
            "calibration_error": calibration_error(classes)}


def size_bands(totals: Sums) -> tuple[SizeBand, ...]:
    """The bands in which registries lie. totals : of `registry_sizes`."""
    labels = [f"fewer than {SIZE_BANDS[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(SIZE_BANDS)), f"{SIZE_BANDS[-1]} or more"]
    return tuple(SizeBand(label, int(count)) for label, count in zip(labels, totals["registries"]) if count)


def spread_of(totals: Sums, rules: Rules) -> Spread | None:
    """The spread between registries, or None where too few of them have enough patients. totals : of `score_spread`."""
    count = int(totals["registries"])
    if count < (FEWEST_REGISTRIES if rules.min_cell > 1 else 2):
        return None
    total, squared, variance = (float(totals[name]) * 2.0**-UNIT_BITS for name in ("auc", "auc_squared", "variance"))
    mean = total / count
    between = max(0.0, (squared - count * mean * mean) / (count - 1))
    return Spread(count, mean, math.sqrt(between), math.sqrt(max(0.0, between - variance / count)))
