"""cox in a federation: splits and empty registries, the seal, release rules, and what it says when a model cannot be fitted."""

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.regression.cox import fit as cox_fit
from fedstats.analyses.regression.cox import rounds as cox_rounds
from fedstats.errors import NotConverged, QuestionError, Refused

from .helpers import OPEN_RULES, split
from .test_cox import CGD, RANDOM, episode_tables, random_cohort, random_frame

FORMULA = "Surv(days, event) ~ age + sex + edss"


def numbers(result):
    return [value for one in result.coefficients for value in (one.coef, one.se, one.se_robust)] + [result.loglik]


# -- splits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strata", [(), ("sex",)])
def test_any_split_gives_the_same_fit(strata):
    """Two registries or seven, one of them empty and one without events: the same numbers to the last printed digit."""
    frame = random_frame()
    where = np.where(frame["event"], np.arange(len(frame)) % 6, np.arange(len(frame)) % 7)
    tables = split(frame, where) | {"empty": frame.iloc[:0]}
    terms = ["age", "edss"] if strata else ["age", "edss", "sex"]
    there = fedstats.pooled(tables, dictionary=Dictionary.from_dict(RANDOM)).cohort().cox(
        time="days", event="event", covariates=terms, strata=strata)
    here = random_cohort(frame, 2).cox(time="days", event="event", covariates=terms, strata=strata)

    assert numbers(there) == pytest.approx(numbers(here), rel=1e-10)
    assert there.concordance == here.concordance


def test_a_registry_without_events_or_patients_is_right_as_a_stratum():
    """strata(registry): who has no event adds nothing; leaving such registries out changes nothing."""
    frame = random_frame()
    quiet = frame[~frame["event"]].head(20)
    tables = split(frame, np.arange(len(frame)) % 3)
    more = tables | {"quiet": quiet, "empty": frame.iloc[:0]}
    found = [fedstats.pooled(one, dictionary=Dictionary.from_dict(RANDOM)).cohort().cox(FORMULA + " + strata(registry)")
             for one in (tables, more)]

    assert numbers(found[1]) == pytest.approx(numbers(found[0]), rel=1e-10)


@pytest.mark.parametrize("formula", [FORMULA, "Surv(days, event) ~ age + ns(edss, 3) + strata(registry)"])
def test_under_the_seal_the_digits_are_the_same(formula):
    """simulate: the real conversation and the real seal."""
    tables = split(random_frame(), np.arange(300) % 3)
    source = {**RANDOM, "variables": [{**one, "cut_points": {"from": 0, "to": 3650, "step": 50}} if one["name"] == "days" else one
                                      for one in RANDOM["variables"]]}
    found = [world(tables, dictionary=Dictionary.from_dict(source), rules=OPEN_RULES).cohort().cox(formula).to_dict()
             for world in (fedstats.pooled, fedstats.simulate)]

    for result in found:
        del result["released"], result["query"]
    assert found[0] == found[1]


def test_a_result_survives_a_journey():
    """Written as JSON and read again, a result still predicts."""
    result = random_cohort(random_frame()).cox(FORMULA)
    again = fedstats.query.analysis.read_result(result.to_dict())

    assert again == result
    new = {"age": [40, 60], "sex": ["F", "M"], "edss": [2.0, 6.5]}
    assert again.predict_partial_hazard(new) == result.predict_partial_hazard(new)


def test_the_start_from_the_registries_own_fits_saves_rounds(monkeypatch):
    """Averaged over five data sets, starting at the average of the registries' own fits takes fewer rounds than starting at zero."""
    def rounds():
        return [random_cohort(random_frame(600, seed)).cox(FORMULA).cost.rounds for seed in range(5)]

    with_start = rounds()
    monkeypatch.setattr(cox_rounds, "start_of", lambda totals, frame: (0.0,) * len(frame))

    assert np.mean(with_start) < np.mean(rounds())


def test_curves_have_intervals_that_hold_them_and_fall():
    """An adjusted curve is a survival curve: from 1 downwards, inside its interval; a worse patient lies below."""
    result = random_cohort(random_frame()).cox(FORMULA)
    well, ill = result.survival_curves({"age": [30, 60], "sex": ["F", "F"], "edss": [1.0, 6.0]})

    for curve in (well, ill):
        assert (np.diff(curve.survival) <= 0).all() and 0 < curve.survival[-1] <= curve.survival[0] <= 1
        assert all(low <= s <= high for low, s, high in zip(curve.low, curve.survival, curve.high))
    assert (np.array(ill.survival) < np.array(well.survival)).all()


def test_formula_and_plain_arguments_ask_the_same():
    """A formula is only another way to write the same question."""
    question = random_cohort(random_frame()).question
    here = question.cox("Surv(days, event) ~ age + C(edss) + age:sex + strata(registry) + offset(off)", ties="breslow")
    there = question.cox(time="days", event="event", covariates=["age", "C(edss)", "age:sex"], strata="registry", offset="off",
                         ties="breslow")

    assert here == there


# -- what cannot be asked, and what cannot be fitted ------------------------------------------------------------------------


@pytest.mark.parametrize(("formula", "keywords", "says"), [
    ("days ~ age", {}, "Surv"), ("Surv(days, event) ~ 1", {}, "covariate"), ("Surv(days, event) ~ age + days", {}, "different columns"),
    (FORMULA, {"ties": "exact"}, "ties"), (FORMULA, {"transforms": "sqrt"}, "transforms"), (FORMULA, {"ridge": -1}, "ridge"),
    (FORMULA, {"weights": "sex"}, "weights"), (FORMULA + " + cluster(sex)", {}, "clustered"),
    (FORMULA, {"horizons": 4000}, "horizon"), ("Surv(age, event) ~ registry", {}, "registry"), ("Surv(days, sex) ~ age", {}, "event"),
    (FORMULA, {"time": "days"}, "not both"), (None, {"covariates": ["age"]}, "time and event"), (None, {}, "formula")])
def test_a_wrong_question_says_what_is_wanted(formula, keywords, says):
    """Mistakes end before anything is asked, with a sentence."""
    with pytest.raises(QuestionError, match=says):
        random_cohort(random_frame()).cox(formula, **keywords)


def test_a_fine_grid_with_many_columns_names_the_way_out():
    """Too many sealed numbers: a coarser grid or strata(registry)."""
    wide = {**RANDOM, "variables": [*(one for one in RANDOM["variables"] if one["name"] != "days"),
                                    {"name": "days", "type": "integer", "range": [0, 15000]}]}
    cohort = fedstats.pooled(split(random_frame(), np.arange(300) % 3), dictionary=Dictionary.from_dict(wide)).cohort()

    with pytest.raises(QuestionError, match="sealed numbers") as found:
        cohort.cox("Surv(days, event) ~ C(edss) + strata(w)")
    assert "coarser grid" in found.value.hint and "strata(registry)" in found.value.hint


def test_a_level_without_events_is_named():
    """Nobody with EDSS 6 or more has an event: no finite coefficient, unless a penalty keeps it finite."""
    frame = random_frame()
    frame["high"] = frame["edss"] >= 6
    frame.loc[frame["high"], "event"] = False
    source = {**RANDOM, "variables": [*RANDOM["variables"], {"name": "high", "type": "category", "levels": ["false", "true"]}]}
    cohort = fedstats.pooled(split(frame, np.arange(300) % 3), dictionary=Dictionary.from_dict(source)).cohort()

    with pytest.raises(NotConverged, match=r"high\[true\]") as found:
        cohort.cox("Surv(days, event) ~ age + high")
    assert "ridge" in found.value.hint
    assert cohort.cox("Surv(days, event) ~ age + high", ridge=1.0)["high[true]"].coef < 0


def test_a_monotone_likelihood_is_told_from_a_slow_fit():
    """Whoever has the event has the highest value of a number among those at risk: its coefficient grows without limit."""
    n = 200
    frame = pd.DataFrame({"days": np.arange(n) + 1, "event": True, "edss": np.where(np.arange(n) < 100, 8.0, 2.0),
                          "age": 20 + np.arange(n) % 50, "sex": "F"})

    for strata in ("", " + strata(registry)"):
        with pytest.raises(NotConverged, match="edss"):
            random_cohort(frame).cox("Surv(days, event) ~ age + edss" + strata)


@pytest.mark.parametrize("high", [100, 1000, 10_000])
def test_a_wide_range_in_the_dictionary_costs_no_digits(high):
    """EDSS up to 10 000 in the dictionary, up to 7 in fact: the same numbers."""
    source = {**RANDOM, "variables": [{**one, "range": [0, high]} if one["name"] == "edss" else one for one in RANDOM["variables"]]}
    tables = split(random_frame(), np.arange(300) % 3)
    found = fedstats.pooled(tables, dictionary=Dictionary.from_dict(source)).cohort().cox(FORMULA)

    assert numbers(found) == pytest.approx(numbers(random_cohort(random_frame()).cox(FORMULA)), rel=1e-8)


def test_a_range_that_is_far_too_wide_costs_no_digit():
    """EDSS up to a million: the first totals tell which part of that is used."""
    source = {**RANDOM, "variables": [{**one, "range": [0, 1_000_000]} if one["name"] == "edss" else one for one in RANDOM["variables"]]}
    tables = split(random_frame(), np.arange(300) % 3)

    found = fedstats.pooled(tables, dictionary=Dictionary.from_dict(source)).cohort().cox(FORMULA)

    assert numbers(found) == pytest.approx(numbers(random_cohort(random_frame()).cox(FORMULA)), rel=1e-8)


def test_columns_that_say_the_same_are_named():
    """A variable and its copy: the second one is named."""
    frame = random_frame()
    frame["again"] = 2 * frame["edss"] + 1
    source = {**RANDOM, "variables": [*RANDOM["variables"], {"name": "again", "type": "number", "range": [0, 30]}]}
    cohort = fedstats.pooled(split(frame, np.arange(300) % 3), dictionary=Dictionary.from_dict(source)).cohort()

    for strata in ("", " + strata(registry)"):
        with pytest.raises(QuestionError, match='"again" carries no information'):
            cohort.cox("Surv(days, event) ~ edss + again" + strata)


def test_a_column_without_variance_is_named():
    """Everybody is 40."""
    frame = random_frame()
    frame["age"] = 40

    with pytest.raises(QuestionError, match='"age" is the same for everybody'):
        random_cohort(frame).cox("Surv(days, event) ~ age + edss")


def test_levels_that_nobody_has_are_left_out():
    """A level of the dictionary without patients is dropped, as R drops it, and the result says so."""
    source = {**RANDOM, "variables": [{**one, "levels": ["M", "F", "X"]} if one["name"] == "sex" else one for one in RANDOM["variables"]]}
    frame = random_frame()
    cohort = fedstats.pooled(split(frame, np.arange(300) % 3), dictionary=Dictionary.from_dict(source)).cohort()
    result, usual = cohort.cox(FORMULA), random_cohort(frame).cox(FORMULA)

    assert result.dropped == ("sex[X]",) and any("sex[X]" in note for note in result.notes)
    assert numbers(result) == pytest.approx(numbers(usual), rel=1e-10)
    assert result.predict_partial_hazard({"age": 40, "sex": "F", "edss": 2}) == pytest.approx(
        usual.predict_partial_hazard({"age": 40, "sex": "F", "edss": 2}))


def test_rounds_that_do_not_suffice_name_the_term():
    """max_rounds = 1 is too few."""
    with pytest.raises(NotConverged, match="did not settle in 1 rounds"):
        random_cohort(random_frame()).cox(FORMULA, max_rounds=1)


def test_new_patients_must_be_readable():
    """A value outside the dictionary, or a missing covariate, is refused with the list of covariates."""
    result = random_cohort(random_frame()).cox(FORMULA)

    for new in ({"age": 40, "edss": 2.0}, {"age": 400, "edss": 2.0, "sex": "F"}):
        with pytest.raises(QuestionError):
            result.predict_partial_hazard(new)
    with pytest.raises(QuestionError, match="no baseline"):
        random_cohort(random_frame()).cox(FORMULA + " + strata(registry)").predict_survival_function({"age": 40, "edss": 2, "sex": "F"})


# -- release rules ----------------------------------------------------------------------------------------------------------


def ruled(frame, **changes):
    return random_cohort(frame, rules=Rules(**changes))


def test_under_the_rules_a_baseline_is_shown_where_enough_happened():
    """Every interval between two shown times holds at least ten events; the curve ends while ten are at risk."""
    frame = random_frame(1500)
    (baseline,) = ruled(frame).cox(FORMULA).baseline
    ends = np.array(baseline.times)
    events = np.histogram(frame.loc[frame["event"], "days"], np.concatenate([[-1], ends]) + 0.5)[0]

    assert len(ends) > 5 and (events >= 10).all()
    assert (frame["days"] >= ends[-1]).sum() >= 10


def test_too_many_parameters_or_small_levels_are_refused():
    """Ten events per coefficient; every level of a factor at least ten people."""
    with pytest.raises(Refused, match="parameters"):
        ruled(random_frame(90)).cox("Surv(days, event) ~ age + edss + sex + w + off + I(age**2) + I(edss**2) + age:edss")
    with pytest.raises(Refused):
        ruled(random_frame(300)).cox("Surv(days, event) ~ C(edss)")


def test_all_events_count_however_few_patients_have_none():
    """370 of 400 patients with the event are enough for four coefficients; those without it still make no small cell."""
    frame = random_frame(400)
    frame["event"] = np.arange(400) >= 30
    frame["sex"] = np.where(np.arange(400) % 2, "F", "M")

    assert ruled(frame).cox("Surv(days, event) ~ age + off + I(off**2) + sex", baseline=False, concordance=False).events > 300
    frame.loc[:24, "sex"] = "M"
    with pytest.raises(Refused, match=r"level|singles out"):
        ruled(frame).cox("Surv(days, event) ~ age + off + I(off**2) + sex", baseline=False, concordance=False)


def test_one_patient_cannot_be_a_coefficient():
    """A patient with too much leverage is refused, and not named."""
    frame = random_frame(300)
    frame["off"] = 0.0
    frame.loc[7, ["off", "event"]] = [1.0, True]

    with pytest.raises(Refused) as found:
        ruled(frame).cox("Surv(days, event) ~ age + off")
    assert "one patient" in str(found.value) or "singles out" in str(found.value)


def test_several_rows_per_patient_count_as_one_patient_under_the_rules():
    """(start, stop] rows of repeated infections: people are counted, errors are clustered, the seal carries it."""
    rules = Rules(min_cell=5, min_cohort=20, min_registries=2, rounding=False)
    dictionary = Dictionary.from_dict({**CGD, "most_rows": 10})
    found = [world(episode_tables(), dictionary=dictionary, rules=rules).cohort().cox("Surv(tstart, tstop, status) ~ treat", transforms=[])
             for world in (fedstats.pooled, fedstats.simulate)]

    assert found[0].n == 128 and found[0].rows == 203 and found[0].se_used == "robust"
    assert numbers(found[0]) == numbers(found[1]) and found[0].concordance == found[1].concordance


def test_released_numbers_are_rounded_and_say_so():
    """Four significant digits under the rules; predictions still come from the released numbers."""
    result = ruled(random_frame(900)).cox(FORMULA)

    assert all(one.coef == float(f"{one.coef:.4g}") for one in result.coefficients)
    assert 0 < result.predict_survival_function({"age": 40, "edss": 2, "sex": "F"}).iloc[-1, 0] < 1


def test_what_a_fit_will_ask_is_told_beforehand():
    """explain: the rounds of a usual fit, with the numbers that it seals, without asking anybody."""
    fed = fedstats.pooled(split(random_frame(), np.arange(300) % 3), dictionary=Dictionary.from_dict(RANDOM))
    told = fed.explain(fed.cohort().question.cox(FORMULA))
    cost = fed.cohort().cox(FORMULA).cost

    assert abs(told.rounds - 1 - cost.rounds) <= 2
    assert 0.5 < told.values / cost.numbers < 2


# -- the joint half's own parts ---------------------------------------------------------------------------------------------


def test_a_step_that_goes_too_far_is_halved():
    """Newton's method on a function that it overshoots still ends at the maximum."""
    from fedstats.analyses.regression.cox.likelihood import Point
    from fedstats.sums.statistic import Ask

    def read(totals, beta, _):      # -sqrt(1 + b^2) with b = beta - 3: from b = 2 a full step goes to -8
        b = beta[0] - 3.0
        root = (1 + b * b) ** 0.5
        return Point(-root, np.array([-b / root]), np.array([[1 / root**3]])), None

    reader = cox_fit.Reader(lambda beta, _: [Ask("size/1")], read)
    steps = cox_fit.newton(reader, (5.0,), (0.0,), ((0.0, 1.0, -1.0, 1.0),), (1.0,), ("x",), 50)
    asks = next(steps)
    try:
        while True:
            asks = steps.send([{}] * len(asks))
    except StopIteration as done:
        fit = done.value

    assert fit.beta[0] == pytest.approx(3.0, abs=1e-9)
    assert fit.evaluations > 5
