"""Spreads that are far smaller than the range of the dictionary: no digit is lost, and no further round is spent where one is enough."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import fedstats
from fedstats.analyses.shared import centred
from fedstats.analyses.shared.centred import Pass
from fedstats.errors import Internal, QuestionError, RangeError


def exact_sd(values):
    """With fractions, so that nothing is rounded before the root."""
    exact = [Fraction(one) for one in values.tolist()]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((one - mean) ** 2 for one in exact) / (len(exact) - 1))


def cohort(frame, ranges, world=fedstats.pooled, **more):
    variables = [{"name": name, "type": "number", "range": list(ends)} for name, ends in ranges.items()]
    if "arm" in frame:
        variables.append({"name": "arm", "type": "category", "levels": ["a", "b", "c"]})
    tables = {f"r{k}": frame[frame.index % 3 == k].reset_index(drop=True) for k in range(3)}
    return world(tables, dictionary={"name": "wide", "variables": variables}, **more).cohort()


@pytest.mark.parametrize(("low", "high", "mean", "sd"), [
    (0, 2e6, 1e6, 0.001), (0, 2e6, 1e6, 0.01), (0, 1e6, 1, 0.1), (0, 1e6, 1, 0.01), (0, 1e6, 5e5, 1), (0, 1e4, 10, 0.5),
    (-1e9, 1e10, 1e9, 1), (0, 1e16, 1, 0.1), (-1e12, 1e12, 0, 1e-3), (0, 1e-3, 5e-4, 1e-12), (1e9, 1e9 + 100, 1e9 + 50, 0.01)])
def test_the_sd_keeps_its_digits_in_any_range(low, high, mean, sd):
    """Mean and SD equal those of exact fractions to 1e-9, however wide the range."""
    values = np.random.default_rng(1).normal(mean, sd, 300)
    found = cohort(pd.DataFrame({"v": values}), {"v": (low, high)}).summary(["v"])["v"]

    assert found.sd == pytest.approx(exact_sd(values), rel=1e-9)
    assert abs(found.mean - values.mean()) <= 1e-9 * sd + np.spacing(abs(mean))


@pytest.mark.parametrize(("value", "high"), [(5.0, 1e4), (0.1, 1e9), (0.0, 10.0), (123456.789, 2e6), (1.0, 1.0e16)])
def test_a_constant_column_has_sd_zero(value, high):
    """Nobody deviates: the SD is 0, not the rest of a rounding."""
    found = cohort(pd.DataFrame({"v": np.full(99, value)}), {"v": (0, high)}).summary(["v"])["v"]

    assert (found.mean, found.sd) == (value, 0.0)


def test_sealed_and_pooled_are_the_same_in_a_wide_range():
    """Not a digit of difference under the seal."""
    frame = pd.DataFrame({"v": np.random.default_rng(2).normal(1e9, 1, 300), "w": np.random.default_rng(3).normal(5, 0.1, 300)})
    ranges = {"v": (0, 2e9), "w": (0, 1e7)}
    here, there = (cohort(frame, ranges, world).summary(["v", "w"]) for world in (fedstats.pooled, fedstats.simulate))

    pooled = cohort(frame, ranges, rules=fedstats.Rules()).summary(["v", "w"])
    assert pooled.columns == there.columns
    assert here["v"].sd == pytest.approx(there["v"].sd, rel=1e-3)


def test_tests_of_means_keep_their_digits():
    """t, F and Cohen's d of 1e9 + x are those of x."""
    rng = np.random.default_rng(4)
    arm = np.array(list("ab"))[rng.integers(0, 2, 300)]
    x = (rng.integers(0, 2**20, 300) / 2**20 + 0.1 * (arm == "b")).round(6)
    v = 1e9 + x
    exact = v - 1e9
    frame = pd.DataFrame({"v": v, "arm": arm})
    result = cohort(frame, {"v": (0, 2e9)}).compare("v", by="arm")
    a, b = exact[arm == "a"], exact[arm == "b"]

    assert result.welch.t == pytest.approx(stats.ttest_ind(a, b, equal_var=False).statistic, rel=1e-9)
    assert result.student.t == pytest.approx(stats.ttest_ind(a, b).statistic, rel=1e-9)
    assert result.anova.f == pytest.approx(stats.f_oneway(a, b).statistic, rel=1e-9)
    assert result.welch_anova.f == pytest.approx(stats.ttest_ind(a, b, equal_var=False).statistic ** 2, rel=1e-9)
    table = cohort(frame, {"v": (0, 2e9)}).table_one(["v"], by="arm")
    one = table.characteristics[0]
    assert one.smd == pytest.approx(abs(a.mean() - b.mean()) / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2), rel=1e-9)
    assert one.means[0].sd == pytest.approx(exact_sd(v), rel=1e-9)
    assert one.p == pytest.approx(result.welch.p, rel=1e-9)


@pytest.mark.parametrize(("offset", "high"), [(0.0, 10.0), (1e6, 2e6), (1e9, 2e9), (3.0, 1e9)])
def test_correlations_keep_their_digits(offset, high):
    """Pearson's r of columns far from the ends of their range, and with a column of whole steps, is that of the values about 0."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2**12, 240) / 2**12
    y = x + rng.integers(0, 2**12, 240) / 2**12
    years = np.floor(20 + 30 * x + 5 * rng.random(240)).astype(int)
    frame = pd.DataFrame({"x": offset + x, "y": offset + y, "years": years})
    variables = [{"name": name, "type": "number", "range": [-high, high]} for name in ("x", "y")]
    variables.append({"name": "years", "type": "integer", "range": [0, 10**7]})
    tables = {f"r{k}": frame[frame.index % 3 == k].reset_index(drop=True) for k in range(3)}
    result = fedstats.pooled(tables, dictionary={"name": "wide", "variables": variables}).cohort().correlation(["x", "y", "years"],
                                                                                                             method="pearson")

    assert result["x", "y"].pearson.r == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
    assert result["x", "years"].pearson.r == pytest.approx(np.corrcoef(x, years)[0, 1], rel=1e-9)


def test_an_ordinary_column_takes_one_round(monkeypatch):
    """No registry is asked twice where the first sums are good: age, brain volume, a laboratory value."""
    def never(**_):
        raise AssertionError("asked again")

    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"age": rng.normal(40, 10, 300), "volume": rng.normal(1400, 100, 300), "d": rng.normal(60, 20, 300),
                          "far": rng.normal(1e6, 1, 300)})
    c = cohort(frame, {"age": (0, 120), "volume": (500, 2500), "d": (-100, 1000), "far": (0, 2e6)})
    monkeypatch.setattr(centred, "deviations", never)

    c.summary(["age", "volume", "d"])
    c.table_one(["age", "volume", "d"])
    with pytest.raises(Internal):       # the column that is asked again
        c.summary(["far"])


def test_the_bound_of_the_error_holds():
    """What a pass says of its error is never too small: held against exact fractions over many spreads."""
    rng = np.random.default_rng(7)
    for spread in 10.0 ** -rng.uniform(0, 9, 60):
        x = np.clip(rng.uniform(0.2, 0.8) + spread * rng.normal(size=200), 0, 1)
        total, squares = math.fsum(x.tolist()), math.fsum((x * x).tolist())
        rounded = [round(one * 2**52) / 2**52 for one in (total, squares)]
        here = Pass(200, 0.0, 1.0, *rounded, 3)
        exact = float(sum(Fraction(one) ** 2 for one in x.tolist()) - sum(map(Fraction, x.tolist())) ** 2 / 200)

        assert abs(here.squares - exact) <= here.error
        assert here.good == (here.error <= 1e-9 * here.squares)
        assert here.error <= 1e-9 * here.squares or spread < 1e-3


def test_a_range_beyond_all_passes_is_refused():
    """Where no number of passes helps, the question is refused with the remedy."""
    frame = pd.DataFrame({"v": np.random.default_rng(8).normal(1, 0.1, 300), "w": np.arange(300.0)})
    c = cohort(frame, {"v": (-1e300, 1e300), "w": (0, 300)})

    for ask in (lambda: c.summary(["v"]), lambda: c.correlation(["w", "v"], method="pearson")):
        with pytest.raises(QuestionError, match='"v" lie so close together') as caught:
            ask()
        assert "step" in caught.value.hint


def model_cohort(x, y, z, x_range, y_range, world=fedstats.pooled, **more):
    frame = pd.DataFrame({"x": x, "y": y, "z": z, "e": y > np.median(y)})
    variables = [{"name": "x", "type": "number", "range": list(x_range)}, {"name": "y", "type": "number", "range": list(y_range)},
                 {"name": "z", "type": "integer", "range": [0, 1]}, {"name": "e", "type": "boolean"}]
    tables = {f"r{k}": frame[frame.index % 3 == k].reset_index(drop=True) for k in range(3)}
    return world(tables, dictionary={"name": "wide", "variables": variables}, **more).cohort()


@pytest.fixture(scope="module")
def exact_columns():
    """Columns whose values keep all their bits when 2^20 or 2^30 is added to them."""
    rng = np.random.default_rng(9)
    x, noise = np.round(rng.normal(size=(2, 330)) * 2**18) / 2**18
    z = rng.integers(0, 2, 330)
    return x, np.round((x / 2 + z / 4 + noise) * 2**18) / 2**18, z


@pytest.mark.parametrize(("shift", "high"), [(0.0, 1e4), (2.0**20, 2e6), (2.0**30, 2e9), (8.0, 1e7)])
def test_linear_models_keep_their_digits(shift, high, exact_columns):
    """Slopes, their errors and sigma of columns far from the ends of their range are those of the columns about 0."""
    x, y, z = exact_columns
    near = model_cohort(x, y, z, (-8, 8), (-8, 8)).glm("y ~ x + z")
    X = np.column_stack([np.ones(330), x, z])
    slope, rss = np.linalg.lstsq(X, y, rcond=None)[:2]
    far = model_cohort(x + shift, y + shift, z, (-high, high), (-high, high)).glm("y ~ x + z")

    assert [one.coef for one in far.coefficients[1:]] == pytest.approx(slope[1:].tolist(), rel=1e-9)
    assert [one.se for one in far.coefficients[1:]] == pytest.approx([one.se for one in near.coefficients[1:]], rel=1e-9)
    assert far.dispersion == pytest.approx(rss[0] / 327, rel=1e-9)
    assert far.coefficients[0].coef == pytest.approx(slope[0] + shift * (1 - slope[1]), rel=1e-9)
    assert far.log_likelihood == pytest.approx(near.log_likelihood, rel=1e-9)


@pytest.mark.parametrize(("shift", "high"), [(0.0, 1e4), (2.0**20, 2e6), (2.0**30, 2e9), (8.0, 1e7)])
def test_logistic_models_keep_their_digits(shift, high, exact_columns):
    """The same for a logistic model, of which a range far too wide was refused."""
    x, y, z = exact_columns
    near = model_cohort(x, y, z, (-8, 8), (-8, 8)).glm("e ~ x + z", family="binomial")
    far = model_cohort(x + shift, y, z, (-high, high), (-8, 8)).glm("e ~ x + z", family="binomial")

    assert [one.coef for one in far.coefficients[1:]] == pytest.approx([one.coef for one in near.coefficients[1:]], rel=1e-9)
    assert [one.se for one in far.coefficients[1:]] == pytest.approx([one.se for one in near.coefficients[1:]], rel=1e-9)


def test_a_sealed_model_of_a_wide_column_is_the_pooled_one(exact_columns):
    """Range and scale are found alike under the seal."""
    x, y, z = exact_columns
    pooled, sealed = (model_cohort(x + 2.0**20, y, z, (0, 2e6), (-8, 8), world, rules=fedstats.Rules()).glm("y ~ x + z")
                      for world in (fedstats.pooled, fedstats.simulate))

    assert pooled.coefficients == sealed.coefficients


# -- models that are no regressions of one number
# --------------------------------------------------------------------------------------


def patients_twice(shift, scale, episodes=1, n=420):
    """x and z are the same covariate: z in its own range, x shifted and scaled into a wide one."""
    rng = np.random.default_rng(11)
    z = np.round(rng.normal(0, 1, n * episodes) * 2**12) / 2**12        # exact in x as well
    days = np.ceil(rng.exponential(300 * np.exp(-0.5 * z))).clip(1, 1500).astype(int)
    phase = np.digitize(z + rng.logistic(0, 1, len(z)), [-1, 1])
    return pd.DataFrame({
        "patient_id": np.repeat([f"p{k}" for k in range(n)], episodes), "z": z, "x": shift + scale * z,
        "days": days, "event": rng.random(len(z)) < 0.7, "phase": np.array(["a", "b", "c"])[phase],
        "arm": rng.choice(["u", "v"], len(z)), "y": np.round(2 + 0.5 * z + rng.normal(0, 1, len(z)), 3)})


def twice(frame, high, world=fedstats.pooled, most_rows=1, **more):
    book = {"name": "twice", "most_rows": most_rows, "variables": [
        {"name": "z", "type": "number", "range": [-10, 10]}, {"name": "x", "type": "number", "range": [-high, high]},
        {"name": "days", "type": "integer", "range": [0, 1500], "cut_points": {"from": 0, "to": 1500, "step": 30}},
        {"name": "event", "type": "boolean"}, {"name": "phase", "type": "category", "levels": ["a", "b", "c"]},
        {"name": "arm", "type": "category", "levels": ["u", "v"]}, {"name": "y", "type": "number", "range": [-100, 100]}]}
    who = frame["patient_id"].str[1:].astype(int) % 3
    return world({f"r{k}": frame[who == k] for k in range(3)}, dictionary=book, **more).cohort()


MODELS = {
    "cox": lambda c, x: c.cox(f"Surv(days, event) ~ {x} + arm"),
    "by registry": lambda c, x: c.cox(f"Surv(days, event) ~ {x} + arm + strata(registry)"),
    "piecewise": lambda c, x: c.piecewise(f"Surv(days, event) ~ {x} + arm", cuts=[210, 600]),
    "ordinal": lambda c, x: c.ordinal(f"phase ~ {x} + arm"),
    "probit": lambda c, x: c.ordinal(f"phase ~ {x} + arm", link="probit"),
    "multinomial": lambda c, x: c.multinomial(f"phase ~ {x} + arm"),
    "line": lambda c, x: c.glm(f"y ~ {x} + arm"),
    "clustered": lambda c, x: c.glm(f"event ~ {x} + arm", family="binomial", se="HC0"),
}


def slopes(found):
    """Coefficients and errors, and those of the covariate apart: they change with its scale."""
    mine = [one for one in found.coefficients if one.term[0] in "xz"]
    others = [one for one in found.coefficients if one.term.startswith("arm")]

    def numbers(some):
        return np.array([(one.coef, one.se, one.se_robust or one.se) for one in some])

    return numbers(mine), numbers(others)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("shift", "scale", "high"), [(0.0, 1.0, 1e3), (4.0, 1.0, 1e4), (2.0**19, 1.0, 1e6), (64.0, 16.0, 2.0**30)])
def test_every_model_keeps_its_digits_in_a_wide_range(name, shift, scale, high):
    """A covariate in a range of thousands to billions of its SD: the model of the same covariate in
    its own range, to 1e-9, where it used not to settle or to be refused."""
    c = twice(patients_twice(shift, scale), high)
    (wide, others), (own, same) = (slopes(MODELS[name](c, x)) for x in "xz")

    assert wide * scale == pytest.approx(own, rel=1e-9)
    assert others == pytest.approx(same, rel=1e-9)


@pytest.mark.parametrize("name", ["cox", "by registry", "piecewise", "line", "clustered", "ordinal"])
def test_several_rows_per_patient_in_a_wide_range(name):
    """Three episodes of each patient: the rows are counted, not the patients."""
    c = twice(patients_twice(2.0**19, 1.0, episodes=3, n=150), 1e6, most_rows=3)
    (wide, others), (own, same) = (slopes(MODELS[name](c, x)) for x in "xz")

    assert wide == pytest.approx(own, rel=1e-9)
    assert others == pytest.approx(same, rel=1e-9)


@pytest.mark.parametrize("name", ["cox", "ordinal"])
def test_a_sealed_model_of_levels_or_times_in_a_wide_range(name):
    """Under the seal and the default rules: the digits that are released are those of its own range."""
    c = twice(patients_twice(4.0, 1.0), 1e6, fedstats.simulate, rules=fedstats.Rules(show_zeros=True))
    (wide, _), (own, _) = (slopes(MODELS[name](c, x)) for x in "xz")

    assert wide == pytest.approx(own, rel=1e-9)


def test_a_covariate_in_its_own_range_takes_no_further_round():
    """The spread comes beside the first sums."""
    frame = patients_twice(0.0, 1.0)
    rounds = {high: twice(frame, high).piecewise("Surv(days, event) ~ x", cuts=[210]).cost.rounds for high in (10.0, 1e6)}

    assert rounds[10.0] < rounds[1e6]


def test_whole_numbers_whose_squares_need_more_than_62_bits():
    """Refused with the remedy; and the remedy gives the digits."""
    values = np.random.default_rng(1).integers(5_000_000_000, 5_000_000_010, 300)
    frame = pd.DataFrame({"v": values})
    tables = {f"r{k}": frame[frame.index % 3 == k] for k in range(3)}
    entry = {"name": "v", "type": "integer", "range": [0, 10**10]}
    with pytest.raises(RangeError) as refused:
        fedstats.pooled(tables, dictionary={"name": "whole", "variables": [entry]}).cohort().summary("v")
    found = cohort(frame.astype(float), {"v": (0, 1e10)}).summary("v")["v"]

    assert "make it a number without a step" in refused.value.hint
    assert found.sd == pytest.approx(exact_sd(values), rel=1e-9)
