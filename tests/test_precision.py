"""A released number is the pooled number, to where one person's part begins: truth, digit by digit, and the steps themselves."""

import math
import typing

import msgspec
import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.analyses.shared.common import t_of, z_of
from fedstats.disclosure.precision import (
    BELOW_P,
    OnCurve,
    Precision,
    Public,
    PValue,
    StandardError,
    Statistic,
    Told,
    _kinds,
    error_digits,
    estimate_step,
    mean_step,
    p_told,
    rounded,
    sd_step,
    step_above,
    to_digits,
    to_step,
)
from fedstats.query.analysis import ANALYSES, Failed

from . import every

HALF = 0.5000001            # of a step, and what doubles lose


class Part(msgspec.Struct, frozen=True):
    p: PValue[float | None]
    edges: Public[tuple[float, ...]]
    chi2: Statistic[float]
    height: OnCurve[float]
    se: StandardError[float]
    done: Told[float]
    plain: float
    n: int = 123456


def test_fields_say_how_they_are_rounded():
    """Two digits for p and "below .001"; three for a statistic; decimals for curves; public things and whole numbers as they are."""
    x = 0.012345678
    part = Part(x, (x,), 10 * x, x, x, x, 10000 * x)
    assert rounded(part, 999) == Part(0.012, (x,), 0.123, 0.0123, 0.012, x, 123.5)
    assert rounded(part, 1000).se == 0.0123
    assert rounded(Part(0.0004, (), math.inf, 1.0, 0.0, x, math.nan), 10).p == BELOW_P < 0.001
    assert p_told(0.00104) == 0.001 and math.isnan(p_told(math.nan))


def test_steps_are_never_finer_than_one_person():
    """1, 2 or 5 times a power of ten, at most 2.5 times as coarse; what is rounded moves by half of one."""
    random = np.random.default_rng(1)
    for least, value in zip(10 ** random.uniform(-6, 4, 500), random.normal(0, 1000, 500)):
        step = step_above(least)
        assert least * (1 - 1e-9) <= step <= 2.5 * least and f"{step:.0e}"[0] in "125"
        assert abs(to_step(value, step) - value) <= HALF * step
    assert step_above(0.0) == 0.0 and to_step(1.23456, 0.0) == 1.23456 and step_above(0.002) == 0.002


def test_every_float_of_every_result_is_of_a_known_kind():
    """No field name decides; nothing else than the closed list of kinds can be declared."""
    for member in ANALYSES.values():
        assert all(isinstance(kind, Precision) for kind in _kinds(member.result).values())
        assert not hasattr(member.result, "verbatim") and not hasattr(member.result, "curves")
        hints = typing.get_type_hints(member.result, include_extras=True)
        if "confidence" in hints:
            assert _kinds(member.result)["confidence"] is Precision.PUBLIC


# -- truth ------------------------------------------------------------------------------------------------------

CALLS = {
    "summary": [(["age", "edss", "years", "relapses", "female"],)],
    "compare": [("age", "sex"), ("years", "ecog"), ("edss", "female"), ("relapses", "sex"), ("female", "sex")],
    "table_one": [(["age", "edss", "relapses", "years", "female", "ecog"], "sex")],
    "correlation": [(["age", "edss", "years", "relapses", "female"],)],
    "rates": [("relapses", "years", "sex"), ("event", "days", None)],
    "glm": [("edss ~ age + sex", "gaussian"), ("age ~ 1", "gaussian"), ("edss ~ sex", "gaussian"), ("event ~ age + sex + edss", "binomial"),
            ("relapses ~ age + sex", "poisson")],
    "cox": [("Surv(days, event) ~ age + sex",)],
}
KEYWORDS = {"compare": (None, "by"), "table_one": (None, "by"), "rates": ("events", "time", "by"), "glm": (None, "family")}


def ask(federation, name, arguments):
    cohort = federation.cohort()
    names = KEYWORDS.get(name, (None,))
    plain = [one for one, key in zip(arguments, names) if key is None]
    return getattr(cohort, name)(*plain, **{key: one for one, key in zip(arguments, names) if key})


def both(n, seed):
    table = every.random_rows(n, np.random.default_rng(seed))
    table["days"] = np.array([None if v is None else min(max(v, 1), 3630) for v in table["days"]], dtype=object)
    shares = {f"r{k}": {name: np.asarray(column, dtype=object)[k::4] for name, column in table.items()} for k in range(4)}
    return [fedstats.pooled(shares, dictionary=every.DICTIONARY, rules=rules) for rules in (Rules(), None)]


def step_of(exact, field, kind, n):
    """The step that a field is told in, and by how much more it may be off; None where other fields of its struct decide."""
    value = getattr(exact, field)
    digits = {Precision.STATISTIC: 3, Precision.NUMBER: 4, Precision.ERROR: error_digits(n)}.get(kind)
    if digits is not None and value:
        return 10.0 ** (math.floor(math.log10(abs(value))) + 1 - digits + 1)
    return 1e-4 if kind is Precision.CURVE else 0.0


def check_told(shown, exact, n, result):
    """What is rounded together: (estimate, standard error, limits), each within its own step."""
    kind = type(exact).__name__
    if kind in ("ColumnSummary", "Group", "Mean"):
        size = exact.n if kind != "Mean" else min(one for one in result.sizes if one)
        alone = shown.sd is None
        step = step_above(1 / size) if alone else mean_step(exact.sd, size)
        near(shown.mean, exact.mean, step)
        if not alone:
            near(shown.sd, exact.sd, sd_step(exact.sd, size))
            if kind != "Mean":
                limits(shown, exact, "mean", step, t_of(0.95, size - 1), size)
    elif kind == "TTest":
        a, b = (one for one in result.groups if one.n)
        step = max(estimate_step(exact.se), mean_step(a.sd, a.n), mean_step(b.sd, b.n))
        near(shown.difference, exact.difference, step)
        limits(shown, exact, "difference", step, t_of(0.95, exact.df), a.n + b.n)
    elif kind == "Coefficient" and hasattr(exact, "coef"):
        used = exact.se_robust or exact.se
        near(shown.coef, exact.coef, estimate_step(used))
        assert shown.se == to_digits(exact.se, error_digits(n))
        assert abs(shown.lower - exact.lower) <= 2 * estimate_step(used) + z_of(0.99) * abs(shown.se - exact.se)
        assert abs(shown.upper - exact.upper) <= 2 * estimate_step(used) + z_of(0.99) * abs(shown.se - exact.se)
        assert shown.z == to_digits(shown.coef / shown.se, 3)
    elif kind in ("Coefficient", "Spearman"):
        name = "r" if kind == "Coefficient" else "rho"
        step = step_above(1 / n)
        near(getattr(shown, name), getattr(exact, name), step)
        assert abs(shown.low - exact.low) <= 2 * step and abs(shown.high - exact.high) <= 2 * step


def near(shown, exact, step):
    assert abs(shown - exact) <= HALF * step + 1e-9 * abs(exact)


def limits(shown, exact, name, step, quantile, n):
    """A standard error of its digits, and limits made of what is told; where steps are coarse, wider by half of one."""
    if not exact.se:
        return
    assert shown.se == to_digits(exact.se, error_digits(n))
    half = quantile * shown.se + (step / 2 if 5 * step > exact.se else 0.0)
    for end, sign in (("low", -1), ("high", 1)):
        assert getattr(shown, end) == pytest.approx(getattr(shown, name) + sign * half, abs=step / 10)


def compare(shown, exact, n, result, seen):
    """Every number of a result beside that of the same tables without rules."""
    check_told(shown, exact, n, result)
    for field, kind in _kinds(type(exact)).items():
        one, other = getattr(shown, field), getattr(exact, field)
        if field in ("notes", "rules", "methods", "cost", "size"):
            continue
        if isinstance(other, msgspec.Struct) and kind is not Precision.PUBLIC:
            if one is not None:
                compare(one, other, n, result, seen)
        elif isinstance(other, tuple) and other and isinstance(other[0], msgspec.Struct) and kind is not Precision.PUBLIC:
            if field == "tests":        # the null model may be kept back
                other = [each for each in other if (each.name, each.term) in {(a.name, a.term) for a in one}]
            assert len(one) == len(other)
            for a, b in zip(one, other):
                compare(a, b, n, result, seen)
        elif isinstance(other, float) and one is not None and kind is not Precision.TOLD and math.isfinite(other):
            seen.append(field)
            if field in ("median", "q1", "q3"):         # the exception: within registered bins, at most an SD away
                assert abs(one - other) <= exact.sd
            elif kind is Precision.P_VALUE:
                assert one == p_told(other), field
            elif field == "z" and hasattr(exact, "coef"):
                pass                    # from what is told
            elif type(exact).__name__ == "Glm" and field in ("dispersion", "deviance", "null_deviance"):
                assert abs(one - other) <= 3 * abs(other) / n + 1e-3 * abs(other)
            else:
                near(one, other, step_of(exact, field, kind, n))
        elif isinstance(other, int) and not isinstance(other, bool) and one is not None:
            assert one == other, field


@pytest.mark.parametrize("n", [700, 2000, 5000])
@pytest.mark.parametrize("seed", [1, 2])
def test_truth_under_rules_is_the_pooled_number(n, seed):
    """Three sizes, two seeds: whatever is shown under default rules is what the tables say without, to the printed digits."""
    shut, open_to_all = both(n, seed)
    for name, many in CALLS.items():
        seen, answered = [], 0
        for arguments in many:
            try:
                shown = ask(shut, name, arguments)
            except fedstats.errors.Refused:
                continue
            assert not isinstance(shown, Failed)
            exact = ask(open_to_all, name, arguments)
            compare(shown, exact, shown.n, exact, seen)
            answered += 1
        assert answered and (seen or name == "summary"), name
