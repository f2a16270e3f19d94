"""Risk classes and subgroups of a validation: what may be shown of a score histogram, and what is computed from what is shown.

How this works (closure). Whatever is a curve (calibration, net benefit, the reference distribution) is computed from one set of risk
classes only: neighbouring bins merged until each class holds about a tenth of the patients and, under release rules, the smallest cell of
patients with and without the outcome from enough registries. Single numbers over everybody or a subgroup (AUC, Brier score, ...) are means
over at least the smallest cell of both. A subgroup is shown only if that also holds for what is left over of its variable, and if it
differs from no other shown group, nor from its complement, by a few patients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from ...disclosure import Rules, intervals, safe
from ..shared.common import z_of
from ..shared.scores import edge_risk

MOST_CLASSES = 10       # as in the usual plot of deciles


class RiskClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Patients whose predicted risk lies in [risk_from, risk_to).

    n, events : patients whose outcome is known. share : of all patients, those censored counted through others. predicted : mean predicted
    risk. observed : share with the outcome, low and high its Wilson interval. net_benefit : of acting on every risk from `risk_from` on,
    per patient, in units of true positives; net_benefit_all : of acting on everybody at that threshold.
    """

    risk_from: float
    risk_to: float
    n: int
    events: int
    share: float
    predicted: float
    observed: float
    low: float
    high: float
    net_benefit: float
    net_benefit_all: float


def cut_classes(without: np.ndarray, with_: np.ndarray, rules: Rules, most: int = MOST_CLASSES) -> tuple[int, ...]:
    """Where classes of the bins end, increasing, the last at the number of bins; empty if not even one class may be shown.

    Each class holds about one `most`-th of the patients, and at least the smallest cell with and without the outcome. Whole numbers only.
    """
    n0, n1 = [int(one) for one in without], [int(one) for one in with_]
    left, room, found = sum(n0) + sum(n1), most, []
    a = b = 0
    for k, (x, y) in enumerate(zip(n0, n1)):
        a, b = a + x, b + y
        if room > 1 and a + b and (a + b) * room >= left and a >= rules.min_cell and b >= rules.min_cell:
            found.append(k + 1)
            left, room, a, b = left - a - b, room - 1, 0, 0
    if found and (a < rules.min_cell or b < rules.min_cell):
        found.pop()                 # the rest joins the last class
    elif a < rules.min_cell or b < rules.min_cell:
        return ()
    return (*found, len(n0))


def keep_classes(ends: Sequence[int], people: np.ndarray, contributors: np.ndarray, rules: Rules) -> tuple[tuple[int, int], ...]:
    """Ranges of classes that have enough registries too. people, contributors : shape (2, classes)."""
    if rules.min_cell <= 1 and rules.min_registries <= 1:
        return tuple((k, k + 1) for k in range(len(ends)))
    return intervals(people, contributors, rules, zeros=False)


def risk_classes(starts: Sequence[int], people: np.ndarray, weights: np.ndarray, squares: np.ndarray, expected: np.ndarray, bins: int,
                 confidence: float) -> tuple[RiskClass, ...]:
    """The shown classes. starts : first bin of each. people, weights : without and with the outcome, shape (2, classes). squares,
    expected : sums of squared weights and of weighted risks. Net benefit: Vickers & Elkin (2006), Med Decis Making 26:565-574."""
    having, total = float(weights[1].sum()), float(weights.sum())
    above0, above1 = (np.cumsum(one[::-1])[::-1] for one in weights)
    edges = [*(edge_risk(start) for start in starts), edge_risk(bins)]
    found = []
    for k in range(len(starts)):
        w, odds = float(weights[:, k].sum()), edges[k] / (1 - edges[k])
        observed = float(weights[1, k]) / w
        low, high = wilson(observed, w * w / float(squares[k]), confidence)
        found.append(RiskClass(edges[k], edges[k + 1], int(people[:, k].sum()), int(people[1, k]), w / total, float(expected[k]) / w,
                               observed, low, high, float(above1[k] - odds * above0[k]) / total,
                               (having - odds * (total - having)) / total))
    return tuple(found)


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval of a proportion of (effectively) n patients. Wilson (1927), JASA 22:209-212."""
    z = z_of(confidence)
    centre, half = n * share + z * z / 2, z * math.sqrt(n * share * (1 - share) + z * z / 4)
    # where nobody or everybody has it the interval ends there; rounding would leave 1e-17 of it
    return (max(0.0, (centre - half) / (n + z * z)) if share > 0 else 0.0), (
        min(1.0, (centre + half) / (n + z * z)) if share < 1 else 1.0
    )


def calibration_error(classes: Sequence[RiskClass]) -> float:
    """ECE: the mean distance between predicted and observed over the classes. Naeini, Cooper & Hauskrecht (2015), AAAI, section 4."""
    return sum(one.share * abs(one.predicted - one.observed) for one in classes)


def decomposition(classes: Sequence[RiskClass]) -> tuple[float, float, float]:
    """Reliability, resolution and uncertainty: Brier = reliability - resolution + uncertainty, up to what varies within classes.

    Murphy (1973), J Appl Meteorol 12:595-600.
    """
    mean = sum(one.share * one.observed for one in classes)
    reliability = sum(one.share * (one.predicted - one.observed) ** 2 for one in classes)
    resolution = sum(one.share * (one.observed - mean) ** 2 for one in classes)
    return reliability, resolution, mean * (1 - mean)


def percentile(risk: float, classes: Sequence[RiskClass]) -> float | None:
    """The share of the reference population with a lower risk, evenly spread within a class; None without classes."""
    if not classes:
        return None
    return min(1.0, sum(one.share * min(1.0, max(0.0, (risk - one.risk_from) / (one.risk_to - one.risk_from))) for one in classes))


# -- subgroups ---------------------------------------------------------------------------------------------------------------------


def groups_shown(cells: np.ndarray, contributors: np.ndarray, apart: np.ndarray, n: int, variables: Sequence[Sequence[int]],
                 rules: Rules, allowed: np.ndarray | None = None) -> np.ndarray:
    """Which groups may be shown, boolean, shape (groups,). Group 0 is everybody.

    cells, contributors : people without and with the outcome, and registries that have such, shape (groups, 2). apart : how many
    patients are in one of two groups but not in the other, shape (groups, groups), of n in all. variables : the groups that each
    variable divides everybody into. allowed : groups that nothing else speaks against. The decision rests on whole numbers only.
    """
    shown = np.array([_enough(cells[g], contributors[g], rules) for g in range(len(cells))])
    if allowed is not None:
        shown &= allowed
    if not shown[0]:
        return np.zeros(len(cells), dtype=bool)
    near: set[int] = set()
    while True:
        before = shown.copy()
        for members in variables:
            _hide_leftovers(shown, cells, contributors, members, near, rules)
        for g in range(1, len(cells)):
            for h in range(g):
                if shown[g] and shown[h] and not (safe(int(apart[g, h]), rules) and safe(n - int(apart[g, h]), rules)):
                    shown[g] = False
                    near.add(g)
        if (shown == before).all():
            return shown


def _enough(cell: np.ndarray, there: np.ndarray, rules: Rules) -> bool:
    return bool((cell >= max(1, rules.min_cell)).all() and (there >= rules.min_registries).all())


def _hide_leftovers(shown: np.ndarray, cells: np.ndarray, contributors: np.ndarray, members: Sequence[int], near: set[int], rules: Rules
                    ) -> None:
    """Hide further groups of one variable, smallest first, until what is hidden taken together is nobody or enough, and not a single
    group that must not be known because it is `near` another one."""
    while True:
        hidden = [g for g in members if not shown[g] and cells[g].any()]
        if not hidden:
            return
        if _enough(cells[hidden].sum(axis=0), contributors[hidden].max(axis=0), rules) and not (len(hidden) == 1 and hidden[0] in near):
            return
        others = [g for g in members if shown[g]]
        if not others:
            return
        shown[min(others, key=lambda g: (int(cells[g].sum()), g))] = False
