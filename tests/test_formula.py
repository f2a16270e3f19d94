"""Formulas: what they mean, and what a wrong one is told."""

import pytest

from fedstats.errors import QuestionError
from fedstats.formula import parse, parse_term, parse_terms
from fedstats.formula.terms import BSpline, Categorical, Interaction, Log, Natural, Polynomial, Power, Scale, Variable

AGE, SEX, DMT = Variable("age"), Variable("sex"), Categorical("dmt", "none")


def test_everything_that_a_formula_can_say():
    """One formula with all functions, read into the closed tree."""
    model = parse("Surv(time, event) ~ age + sex + ns(edss, 3) + C(dmt, Treatment('none')) + age:sex + strata(registry) "
                  "+ offset(log(years)) + bs(bmi, knots=[20, 25], degree=2) + poly(x, 2) + I(y**3) + log(z + 1) + cluster(id) "
                  "+ scale(w, center=40, by=10) + weights(iptw)"
                  " + ns(v, knots=[1.5], boundary=[0, 4])")

    assert model.response == ("time", "event") and model.survival
    assert model.terms == (AGE, SEX, Natural("edss", 3), DMT, BSpline("bmi", None, (20.0, 25.0), 2), Polynomial("x", 2), Power("y", 3),
                           Log("z", 1.0), Scale("w", 40.0, 10.0), Natural("v", None, (1.5,), (0.0, 4.0)), Interaction((AGE, SEX)))
    assert (model.strata, model.offset, model.cluster, model.weights) == (("registry",), Log("years"), "id", "iptw")


@pytest.mark.parametrize(("text", "terms"), [
    ("y ~ age*sex", (AGE, SEX, Interaction((AGE, SEX)))), ("y ~ age + age*sex", (AGE, SEX, Interaction((AGE, SEX)))),
    ("y ~ sex:age + age:sex", (Interaction((SEX, AGE)),)),
    ("y ~ (age + b):sex", (Interaction((AGE, SEX)), Interaction((Variable("b"), SEX)))),
    ("y ~ age + sex - age", (SEX,)), ("y ~ age:age", (AGE,)), ("y ~ `T2 lesions` + ph.ecog", (Variable("T2 lesions"), Variable("ph.ecog"))),
    ("y ~ C(dmt, 'none')", (DMT,)), ("y ~ 1", ()),
])
def test_operators_mean_what_they_mean_in_R(text, terms):
    assert parse(text).terms == terms and parse(text).intercept


@pytest.mark.parametrize("text", ["y ~ age - 1", "y ~ 0 + age", "y ~ age + 0"])
def test_the_intercept_can_be_taken_away(text):
    assert not parse(text).intercept and parse(text).terms == (AGE,)


def test_left_truncation_has_three_names():
    assert parse("Surv(start, stop, event) ~ age").response == ("start", "stop", "event")


def test_plain_arguments_need_no_formula():
    """Names, or pieces of a formula; an offset is one term."""
    assert parse_terms(["age", "age:sex", "sex"]).terms == (AGE, SEX, Interaction((AGE, SEX)))
    assert parse_terms("age").terms == (AGE,)
    assert parse_term("log(years)") == Log("years")
    with pytest.raises(QuestionError, match="not a covariate"):
        parse_terms(["strata(registry)"])
    with pytest.raises(QuestionError, match="one term"):
        parse_term("age + sex")


@pytest.mark.parametrize(("text", "what"), [
    ("y ~ age +", "name of a variable"), ("y ~ exp(age)", 'no function "exp"'), ("y ~ age ** 2", "inside I"), ("y ~ 3", "only 0 and 1"),
    ("y ~ age sex", '"sex" is not expected'), ("y $ age", "means nothing"), ("~ age", "name of a variable"), ("y ~ ((age)", "missing"),
    ("y ~ poly(x)", "degree"), ("y ~ ns(x, 2.5)", "whole number"), ("y ~ ns(x, wide=3)", "not expected"), ("y ~ I(x)", "power"),
    ("Surv(a) ~ age", "Surv takes"), ("y ~ offset(a) + offset(b)", "twice"), ("y ~ age - sex", "not there"), ("", "text"),
    ("y ~ " + "(" * 30 + "a" + ")" * 30, "too many brackets"), ("y ~ a" + "+a" * 4000, "more than"), ("y ~ C(x, Sum)", "Treatment"),
    ("y ~ __import__('os')", "no function"), ("y ~ ns(x, 3, 4)", "not expected"), ("y ~ a ~ b", "not expected"),
])
def test_a_wrong_formula_is_told_where_and_what(text, what):
    """The message shows the place, and nothing is ever evaluated."""
    with pytest.raises(QuestionError, match=what) as caught:
        parse(text)

    assert "⟨here⟩" in caught.value.what or "formula" in caught.value.what
