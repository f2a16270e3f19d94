"""Means and differences of means as they are told: rounded to what one person moves, with intervals made of what is told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...data.variable import Variable
from ...disclosure import Rules
from ...disclosure.precision import error_digits, estimate_step, mean_step, sd_step, step_above, to_digits, to_step, widening
from .common import t_of
from .moments import Moments

FINER = 10              # limits are told to this part of the estimate's step: they are made of numbers that are told


@dataclass(frozen=True)
class Told:
    """An estimate, its SD, standard error and interval; None where not released or not defined."""

    value: float
    sd: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None


def told_mean(found: Moments, variable: Variable, rules: Rules, confidence: float, *, spread: bool = True) -> Told:
    """The mean of a group. spread : whether its SD may be told; else the mean stands alone."""
    unit = variable.unit_step or 0.0
    if not spread:      # in steps that the SD does not decide: the smallest that one person can move
        return Told(to_step(found.mean, step_above(unit / found.n)) if rules.rounding else found.mean)
    sd, se = found.sd, found.se
    if sd is None or se is None:
        return Told(to_digits(found.mean, 4) if rules.rounding else found.mean)
    quantile = t_of(confidence, found.n - 1)
    if not rules.rounding:
        return Told(found.mean, sd, se, found.mean - quantile * se, found.mean + quantile * se)
    step = mean_step(sd, found.n)
    return _around(to_step(found.mean, step), to_step(sd, sd_step(sd, found.n)), se, quantile, step, found.n)


def told_difference(a: Moments, b: Moments, se: float, quantile: float, rules: Rules) -> Told:
    """The difference of two means: no finer than either of them."""
    gap = a.above(b)
    if not rules.rounding:
        return Told(gap, None, se, gap - quantile * se, gap + quantile * se)
    step = max(estimate_step(se), *(mean_step(m.sd or 0.0, m.n) for m in (a, b)))
    return _around(to_step(gap, step), None, se, quantile, step, a.n + b.n)


def told_correlation(r: float, n: int, rules: Rules) -> tuple[float, float, float]:
    """A correlation of n patients, to what one of them moves; by how much its interval is wider for it, and in which step limits are
    told."""
    if not rules.rounding:
        return r, 0.0, 0.0
    step = step_above(1 / n)
    return to_step(r, step), widening(step, (1 - r * r) / math.sqrt(max(n - 1, 1))), step / FINER


def _around(value: float, sd: float | None, se: float, quantile: float, step: float, n: int) -> Told:
    se_told = to_digits(se, error_digits(n))
    half = quantile * se_told + widening(step, se)
    return Told(value, sd, se_told, to_step(value - half, step / FINER), to_step(value + half, step / FINER))
