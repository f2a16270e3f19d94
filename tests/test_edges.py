"""Data at the edge: one row, nobody with the event, an exact line, one group. Every analysis
answers or says plainly why not, alike in all worlds; nothing but an error of the package ever comes
out, and a fault of one question leaves the others alone."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Rules
from fedstats.errors import FedstatsError, Internal, QuestionError
from fedstats.query.analysis import ANALYSES, Failed, Result
from fedstats.wire.analyst import alike

FREE = Rules(min_cell=1, min_cohort=1, min_registries=1, show_zeros=True, rounding=False)
BOOK = {
    "name": "edges",
    "variables": [
        {
            "name": "y",
            "type": "number",
            "range": [-100, 200],
            "cut_points": {"from": -100, "to": 200, "step": 10},
        },
        {"name": "amount", "type": "number", "range": [0.5, 100]},
        {"name": "relapses", "type": "integer", "range": [0, 50]},
        {"name": "event", "type": "boolean"},
        {"name": "x", "type": "integer", "range": [0, 100]},
        {"name": "arm", "type": "category", "levels": ["früh", "Schübe", "spät"]},
        {"name": "female", "type": "boolean"},
        {"name": "class", "type": "category", "levels": ["0", "1", "2", "weiß nicht"]},
        {
            "name": "days",
            "type": "integer",
            "range": [0, 1000],
            "unit": "days",
            "cut_points": {"from": 0, "to": 1000, "step": 100},
        },
        {"name": "w", "type": "number", "range": [0, 5]},
        {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
        {"name": "years", "type": "number", "range": [0, 60], "unit": "years"},
    ],
}


def patients(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "y": rng.normal(20, 10, n).round(3),
            "amount": (rng.gamma(3, 3, n) + 0.6).clip(0.5, 100).round(3),
            "relapses": rng.poisson(2, n),
            "event": rng.random(n) < 0.4,
            "x": rng.integers(20, 60, n),
            "arm": rng.choice(["früh", "Schübe", "spät"], n),
            "female": rng.random(n) < 0.5,
            "class": rng.choice(["0", "1", "2", "weiß nicht"], n),
            "days": rng.integers(1, 900, n),
            "w": rng.random(n) * 3 + 0.1,
            "edss": rng.integers(0, 13, n) / 2,
            "years": rng.random(n) * 30 + 1,
        }
    )


EDGES = {  # what is done to the patients
    "as they are": lambda d: {},
    "one outcome": lambda d: {
        "y": 2.0,
        "amount": 3.0,
        "relapses": 2,
        "event": True,
        "class": "1",
        "edss": 2.0,
    },
    "no event": lambda d: {
        "y": 0.0,
        "amount": 0.5,
        "relapses": 0,
        "event": False,
        "days": 100,
        "edss": 0.0,
    },
    "a line": lambda d: {
        "y": d["x"] / 2,
        "amount": np.exp(d["x"] / 30),
        "relapses": d["x"] // 10,
        "event": d["x"] > 40,
        "days": 10 * d["x"],
    },
    "one group": lambda d: {"arm": "Schübe", "female": True},
    "groups are constant": lambda d: {
        "y": 3.0 * (d["arm"] == "früh"),
        "edss": 1.0 + (d["arm"] == "früh"),
        "x": 10 * d["female"],
        "amount": 1.0 + d["female"],
        "relapses": 3 * d["female"],
    },
    "events in one group": lambda d: {
        "event": d["arm"] == "früh",
        "relapses": d["relapses"] * (d["arm"] == "früh"),
    },
    "at time 0": lambda d: {"days": 0, "years": 0.0, "event": True},
    "no weight": lambda d: {"w": 0.0},
    "all the same": lambda d: {name: d[name].iloc[0] for name in d},
}
QUESTIONS = [
    *[
        ("glm", f"{outcome} ~ {terms}", {"family": family, **more})
        for outcome, family in (
            ("y", "gaussian"),
            ("event", "binomial"),
            ("relapses", "poisson"),
            ("amount", "gamma"),
            ("relapses", "negativebinomial"),
            ("event", "quasibinomial"),
            ("relapses", "quasipoisson"),
        )
        for terms, more in (
            ("x", {"lr": True}),
            ("arm*female", {"se": "HC1"}),
            ("1", {}),
            ("x + strata(registry)", {"se": "HC0"}),
        )
    ],
    ("glm", "y ~ x", {"weights": "w"}),
    ("glm", "event ~ x", {"family": "binomial", "link": "cloglog"}),
    ("ordinal", "class ~ x + female", {}),
    ("ordinal", "class ~ x", {"link": "probit"}),
    ("multinomial", "class ~ x", {}),
    ("cox", "Surv(days, event) ~ x + female", {"lr": True}),
    ("cox", "Surv(days, event) ~ arm + strata(registry)", {}),
    ("cox", "Surv(days, event) ~ x", {"weights": "w"}),
    ("cox", "Surv(days, event) ~ x", {"horizons": [200, 500], "calibration": True}),
    ("piecewise", "Surv(days, event) ~ x", {"cuts": [200, 500]}),
    ("compare", "y", {"by": "arm"}),
    ("compare", "edss", {"by": "female"}),
    ("correlation", ["y", "x", "edss", "female"], {}),
    ("crosstab", ["arm", "female"], {}),
    ("rates", None, {"events": "relapses", "time": "days", "by": "arm"}),
    ("table_one", ["y", "edss", "class", "female"], {"by": "arm"}),
    ("summary", ["y", "edss"], {}),
    ("quantiles", ["y", "edss"], {}),
    ("histogram", "edss", {"by": "arm"}),
    ("kaplan_meier", None, {"time": "days", "event": "event", "by": "arm"}),
    ("logrank", None, {"time": "days", "event": "event", "by": "arm"}),
    ("severity", None, {"time": "years"}),
    ("boost", "event", {"covariates": ["x", "arm"], "rounds": 2, "max_depth": 2, "bins": 4}),
    (
        "validation",
        "event",
        {"covariates": ["x"], "folds": 2, "rounds": 2, "max_depth": 2, "bins": 4},
    ),
]


def federation(frame, world=fedstats.pooled, rules=FREE, book=BOOK):
    return world(
        {f"r{k}": frame.iloc[k::3].reset_index(drop=True) for k in range(3)},
        dictionary=book,
        rules=rules,
    )


def edge(name, n):
    frame = patients(n)
    return frame.assign(**EDGES[name](frame))


def answer(cohort, name, first, more):
    """What a question comes to: the plain content of a result that JSON carries, or the words of an
    error of the package."""
    try:
        found = getattr(cohort, name)(*([] if first is None else [first]), **more)
    except Internal as error:
        pytest.fail(f"{name}({first}, {more}) ends in a fault: {error.__cause__!r}")
    except FedstatsError as error:
        return error.code, error.what, error.hint
    content = found.to_dict()
    text = json.dumps(content, allow_nan=False)

    assert json.dumps(Result.from_dict(json.loads(text)).to_dict()) == text and str(found)
    return {key: one for key, one in content.items() if key not in ("query", "released")}


@pytest.mark.slow
@pytest.mark.parametrize("rules", [FREE, Rules()], ids=["free", "default"])
@pytest.mark.parametrize("n", [1, 4, 60])
@pytest.mark.parametrize("name", EDGES)
def test_every_analysis_answers_or_says_why_not(name, n, rules):
    """Nothing but results that JSON carries and errors of the package."""
    cohort = federation(edge(name, n), rules=rules).cohort()
    for question in QUESTIONS:
        answer(cohort, *question)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("one outcome", 40),
        ("a line", 40),
        ("groups are constant", 40),
        ("as they are", 2),
        ("no event", 9),
    ],
)
def test_the_sealed_answer_at_an_edge_is_the_pooled_one(name, n):
    """Numbers, what is not a number, and errors: under the seal as in one process."""
    here, there = (
        federation(edge(name, n), world).cohort() for world in (fedstats.pooled, fedstats.simulate)
    )
    for question in [*QUESTIONS[::4], *QUESTIONS[-12:-3]]:
        a, b = answer(here, *question), answer(there, *question)

        assert a == b or alike(json.loads(json.dumps(a)), json.loads(json.dumps(b))), question


# -- perfect fits
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate])
@pytest.mark.parametrize("se", ["model", "HC0"])
def test_a_constant_outcome_and_an_exact_line_are_answered(world, se):
    """As R's lm: sigma 0, the coefficients of the line; of a slope of 0 with error 0 there is no
    test."""
    for outcome, slope in ((lambda d: 2.0, 0.0), (lambda d: d["x"] / 2 - 3, 0.5)):
        frame = patients(390)
        frame["y"] = outcome(frame)
        found = (
            federation(frame, world, Rules(rounding=False))
            .cohort()
            .glm("y ~ x + female", se=se, lr=True)
        )
        x = found["x"]

        assert x.coef == pytest.approx(slope, abs=1e-12) and (x.se, x.lower, x.upper) == (
            0.0,
            x.coef,
            x.coef,
        )
        assert (x.z, x.p) == (math.inf, 0.0) if slope else math.isnan(x.z) and math.isnan(x.p)
        assert (found.dispersion, found.deviance, found.log_likelihood, found.aic) == (
            0.0,
            0.0,
            math.inf,
            -math.inf,
        )
        assert any("perfect fit" in note for note in found.notes) and x.exp_coef is None
        wald = next(one for one in found.tests if (one.name, one.term) == ("wald", "x"))
        assert wald.chi2 == math.inf if slope else math.isnan(wald.chi2)


@pytest.mark.parametrize(
    ("family", "outcome"),
    [("gamma", "amount"), ("quasipoisson", "relapses"), ("poisson", "relapses")],
)
def test_a_constant_positive_outcome_has_its_logarithm_as_intercept(family, outcome):
    frame = patients(90).assign(amount=3.0, relapses=3)
    found = federation(frame).cohort().glm(f"{outcome} ~ x", family=family, lr=True)

    assert found["(Intercept)"].coef == pytest.approx(math.log(3)) and found[
        "x"
    ].coef == pytest.approx(0, abs=1e-9)
    assert found.deviance == pytest.approx(0, abs=1e-12) and found[
        "(Intercept)"
    ].exp_coef == pytest.approx(3)
    assert found.dispersion == (1.0 if family == "poisson" else 0.0)


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate])
def test_as_many_coefficients_as_rows_leave_no_error_to_estimate(world):
    """Three rows, a line through two groups and a slope: the coefficients, and errors that are not
    numbers, as R's NaN."""
    frame = pd.DataFrame({"y": [1.0, 5.0, 4.0], "x": [20, 30, 40], "female": [False, True, False]})
    found = federation(frame, world).cohort().glm("y ~ x + female")

    assert (
        found.df_residual == 0
        and math.isnan(found.dispersion)
        and math.isnan(found["x"].se)
        and math.isnan(found["x"].p)
    )
    assert found["x"].coef == pytest.approx(0.15) and any(
        "as many coefficients as rows" in note for note in found.notes
    )


def test_a_spread_that_is_small_beside_the_range_is_no_perfect_fit():
    """Values of 0 to 100 in a range to 10^11: the first sums cannot carry their spread, the next ones do."""
    book = {
        "name": "wide",
        "variables": [{"name": "y", "type": "number", "range": [0, 1e11]}, BOOK["variables"][4]],
    }
    frame = patients(300)[["y", "x"]].abs()
    found = federation(frame, book=book).cohort().glm("y ~ x")
    X = np.column_stack([np.ones(300), frame["x"].to_numpy(float)])
    coef, squares, *_ = np.linalg.lstsq(X, frame["y"].to_numpy(float), rcond=None)

    assert found.params.to_numpy() == pytest.approx(coef, rel=1e-9)
    assert found.dispersion == pytest.approx(squares[0] / 298, rel=1e-9)


# -- numbers without end
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate])
def test_a_coefficient_above_709_is_read_in_every_world(world):
    """Brain volume in ml: an intercept of 1 400 and no ratio. A risk that rises steeply with a
    small share: an odds ratio without end."""
    rng = np.random.default_rng(1)
    share = rng.random(600) * 0.01
    frame = pd.DataFrame(
        {
            "volume": 1400 + rng.normal(0, 100, 600),
            "share": share,
            "event": rng.random(600) < 1 / (1 + np.exp(5 - 1000 * share)),
        }
    )
    book = {
        "name": "large",
        "variables": [
            {"name": "volume", "type": "number", "range": [500, 2500], "unit": "ml"},
            {"name": "share", "type": "number", "range": [0, 0.01]},
            {"name": "event", "type": "boolean"},
        ],
    }
    cohort = federation(frame, world, Rules(), book).cohort()
    linear, logistic = cohort.glm("volume ~ share"), cohort.glm("event ~ share", family="binomial")

    assert linear["(Intercept)"].coef > 709 and linear["(Intercept)"].exp_coef is None
    assert "exp(coef)" not in linear.summary and "coef" in linear.summary
    assert logistic["share"].coef > 709 and logistic["share"].exp_coef == math.inf
    assert "Infinity" in json.dumps(logistic.to_dict(), allow_nan=False) and "∞" in str(logistic)
    with pytest.raises(QuestionError, match="no logarithms of ratios"):
        assert linear.hazard_ratios_ is None


# -- faults
# -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate])
@pytest.mark.parametrize("after", [0, 1], ids=["before the first round", "after it"])
def test_a_fault_of_one_question_is_its_own(world, after, monkeypatch):
    """An error of the software in one joint half: that question failed, without a word of its text,
    and the others are answered."""
    honest = ANALYSES["summary/1"]

    def broken(params, setting):
        steps = honest.joint(params, setting)
        if after:
            yield next(steps)
        raise ZeroDivisionError("patient 4711")

    monkeypatch.setitem(ANALYSES, "summary/1", dataclasses.replace(honest, joint=broken))
    fed = federation(patients(300), world, Rules())
    ask = fed.cohort().question
    failed, *others = fed.ask(ask.summary(["x"]), ask.glm("y ~ x"), ask.compare("y", by="female"))

    assert (
        isinstance(failed, Failed)
        and failed.problem.code == "internal"
        and "4711" not in str(failed.to_dict())
    )
    assert [one.kind for one in others] == ["glm", "compare"]
    with pytest.raises(Internal) as caught:
        fed.cohort().summary(["x"])
    assert "4711" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("world", [fedstats.pooled, fedstats.simulate])
def test_a_fault_at_one_registry_ends_the_query_without_its_text(world, monkeypatch):
    """A local half that fails cannot be left out by the others, who do not know of it: the query
    ends for all, and can be asked again."""
    from fedstats.sums import statistic
    broken = [True]
    honest = statistic.STATISTICS["moments/2"]

    def local(rows, **params):
        if broken:
            broken.pop()
            raise KeyError("patient 4711")
        return honest.local(rows, **params)

    monkeypatch.setitem(statistic.STATISTICS, "moments/2", dataclasses.replace(honest, local=local))
    cohort = federation(patients(90), world, Rules()).cohort()
    with pytest.raises(Internal) as caught:
        cohort.summary(["x"])

    assert "4711" not in str(caught.value) and cohort.summary(["x"]).n == 90
