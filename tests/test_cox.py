"""cox against R (survival 3.5-3) and lifelines: coefficients, errors, likelihoods, tests, baseline, concordance."""

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary

from .helpers import lung, lung_dictionary, reference, shared, split

CLOSE, LIKELY = 1e-7, 1e-8          # relative: coefficients and errors; log likelihoods
TRANSFORMS = ["km", "rank", "identity", "log"]
LUNG_TERMS = ["age", "sex", "ph.ecog"]
CGD_TERMS = ["treat", "age", "inherit", "steroids", "sex"]
WHOLE = ("loglik", "loglik_null", "aic", "bic")


# -- the data --------------------------------------------------------------------------------------------------------------------


def lung_cohort(by=None, **changes):
    """lung with sex as a number and weights 1 or 1.5; a registry per institution, or four."""
    frame = lung()
    frame["w"] = 1 + (frame["age"] > 60) * 0.5
    source = lung_dictionary(sex={"type": "integer", "levels": None, "range": [1, 2]}, **changes).to_dict()
    source["variables"] = [*source["variables"], {"name": "w", "type": "number", "range": [0, 2]}]
    inst = frame["inst"].to_numpy().astype(int)
    return fedstats.pooled(split(frame, inst if by == "inst" else inst % 4), dictionary=Dictionary.from_dict(source)).cohort()


def cgd_first():
    wide = pd.read_csv(shared("data", "survival_multicentre", "cgd0_wide.csv"))
    return pd.DataFrame({"center": wide["center"], "time": wide["etime1"].fillna(wide["futime"]), "event": wide["etime1"].notna(),
                         "treat": wide["treat"] == 1, "inherit": wide["inherit"] == 1, "steroids": wide["steroids"] == 1,
                         "sex": wide["sex"] == 1, "age": wide["age"]})


CGD = {"name": "cgd", "variables": [
    *({"name": name, "type": "boolean"} for name in ("event", "treat", "inherit", "steroids", "sex", "status")),
    {"name": "age", "type": "integer", "range": [0, 50], "unit": "years"},
    {"name": "time", "type": "integer", "range": [0, 450], "unit": "days"},
    {"name": "tstart", "type": "integer", "range": [0, 450], "unit": "days"},
    {"name": "tstop", "type": "integer", "range": [0, 450], "unit": "days"}]}


def cgd_cohort(by=None, grid=None):
    frame = cgd_first()
    variables = [{**one, **({"cut_points": {"from": 0, "to": 450, "step": grid}} if grid and one["name"] == "time" else {})}
                 for one in CGD["variables"]]
    centre = frame["center"].to_numpy()
    return fedstats.pooled(split(frame, centre if by == "center" else np.arange(len(frame)) % 3),
                           dictionary=Dictionary.from_dict({**CGD, "variables": variables})).cohort()


def episode_tables(by=None):
    """The counting process of cgd: several (start, stop] rows per patient."""
    frame = pd.read_csv(shared("data", "survival_multicentre", "cgd_counting_process.csv")).rename(columns={"id": "patient_id"})
    for name in ("treat", "inherit", "steroids", "status"):
        frame[name] = frame[name] == 1
    centre = frame["center"].to_numpy()
    where = centre if by == "center" else frame["patient_id"].to_numpy() % 3
    return split(frame.drop(columns="sex"), where)


def episodes(by=None):
    return fedstats.pooled(episode_tables(by), dictionary=Dictionary.from_dict({**CGD, "most_rows": 10})).cohort()


# -- held against R --------------------------------------------------------------------------------------------------------------


def check(result, file, model, setting, terms, *, robust="se_robust", tests=("lr", "wald", "score"), zph=True):
    """Every number that R and we both give."""
    def R(quantity, term="(model)"):
        return reference(file, model, setting, quantity, term)

    for term in terms:
        one = result[term]
        for mine, quantity in ((one.coef, "coef"), (one.se, "se"), *([(one.se_robust, robust)] if robust else [])):
            assert mine == pytest.approx(R(quantity, term), rel=CLOSE), (term, quantity)
    for quantity in WHOLE:
        assert getattr(result, quantity) == pytest.approx(R(quantity), rel=LIKELY), quantity
    whole = {one.name: one for one in result.tests if one.term == "(model)"}
    for name in tests:
        assert whole[name].chi2 == pytest.approx(R(f"{name}_chisq"), rel=CLOSE)
    assert result.events == R("nevent") and result.rows == R("n")
    if zph:
        for one in result.proportional_hazards:
            expected = R(f"zph_{one.transform}_chisq", "(model)" if one.term == "GLOBAL" else one.term)
            assert one.chi2 == pytest.approx(expected, rel=1e-6), (one.transform, one.term)


def check_curve(result, file, model, setting, profile, times, label="profile"):
    """Cumulative hazard of R's profile, its error and exp(-H) at some times."""
    (curve,) = result.survival_curves(profile)
    for time in times:
        k = int(np.searchsorted(curve.times, time, side="right")) - 1
        for mine, quantity in ((curve.cumulative_hazard, "cumhaz"), (curve.se, "cumhaz_se"), (curve.survival, "surv")):
            theirs = reference(file, model, setting, f"{quantity}_at_{time}", f"x={label}")
            assert mine[k] == pytest.approx(theirs, rel=CLOSE), (time, quantity)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_lung_on_true_days_equals_r(ties):
    """Survival of 212 patients: all that R prints, curve of a 60 year old man included."""
    result = lung_cohort().cox(time="time", event="event", covariates=LUNG_TERMS, ties=ties, transforms=TRANSFORMS)
    setting = f"ties={ties};scale=day;weights=none"

    check(result, "cox_lung", "cox_pooled", setting, LUNG_TERMS)
    check_curve(result, "cox_lung", "cox_pooled", setting, {"age": 60, "sex": 1, "ph.ecog": 1}, (90, 180, 365, 720))
    c = result.concordance
    assert abs(c.c - reference("cox_lung", "cox_pooled", setting, "concordance")) <= c.off < 0.05


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_lung_on_a_grid_of_thirty_days_equals_r_on_that_grid(ties):
    """A 30-day grid makes many ties: the same numbers as R on the same grid."""
    cohort = lung_cohort(time={"range": [0, 1110], "cut_points": {"from": 0, "to": 1110, "step": 30}})
    result = cohort.cox("Surv(time, event) ~ age + sex + ph.ecog", ties=ties, transforms=TRANSFORMS)

    setting = f"ties={ties};scale=grid30;weights=none"
    check(result, "cox_lung", "cox_pooled", setting, LUNG_TERMS)
    assert abs(result.concordance.c - reference("cox_lung", "cox_pooled", setting, "concordance")) <= result.concordance.off < 0.01
    assert any("grid" in note for note in result.notes)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_institutions_as_strata_equal_r(ties):
    """strata(registry): each of 18 institutions keeps its own baseline, on true days, to itself."""
    result = lung_cohort("inst").cox("Surv(time, event) ~ age + sex + ph.ecog + strata(registry)", ties=ties, transforms=TRANSFORMS)
    setting = f"ties={ties};scale=day;weights=none"

    check(result, "cox_lung", "cox_strata_inst", setting, LUNG_TERMS)
    assert result.concordance_index_ == pytest.approx(reference("cox_lung", "cox_strata_inst", setting, "concordance"), rel=1e-12)
    assert not result.baseline


@pytest.mark.parametrize("by", [None, "inst"])
def test_the_likelihood_ratio_test_of_a_term_is_that_of_two_fits(by):
    """lr=True fits the model without each term beside it, in as many rounds; an interaction keeps its main effects in."""
    cohort, formula = lung_cohort(by), "Surv(time, event) ~ age*sex + ph.ecog + wt.loss" + (" + strata(registry)" if by else "")
    whole = cohort.cox(formula, lr=True, transforms=[])
    found = {one.term: one for one in whole.tests if one.name == "lr"}
    plain = cohort.cox(formula, transforms=[])

    assert set(found) == {"(model)", "ph.ecog", "wt.loss", "age:sex"}
    assert whole.cost.rounds <= plain.cost.rounds + 1 and whole.coefficients == plain.coefficients
    reduced = cohort.cox(formula.replace("*", " + "), transforms=[])
    assert found["age:sex"].chi2 == pytest.approx(2 * (whole.loglik - reduced.loglik), rel=1e-7) and found["age:sex"].df == 1


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(("model", "by"), [("cox_pooled", None), ("cox_strata_inst", "inst")])
def test_weighted_models_equal_r(ties, model, by):
    """Case weights 1 and 1.5, pooled and with institutions as strata."""
    result = lung_cohort(by).cox(time="time", event="event", covariates=LUNG_TERMS, weights="w", ties=ties,
                                 strata=["registry"] if by else [], transforms=TRANSFORMS)

    setting = f"ties={ties};scale=day;weights=w"
    check(result, "cox_lung", model, setting, LUNG_TERMS, tests=("lr", "score"), zph=False)
    assert result.se_used == "robust"
    wald = next(one for one in result.tests if (one.name, one.term) == ("wald", "(model)"))
    assert wald.chi2 == pytest.approx(reference("cox_lung", model, setting, "wald_chisq_robust"), rel=CLOSE)
    assert abs(result.concordance.c - reference("cox_lung", model, setting, "concordance")) <= result.concordance.off + 1e-12


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("covariates", [4, 5])
@pytest.mark.parametrize("scale", ["day", "grid30"])
def test_first_infections_equal_r(ties, covariates, scale):
    """cgd, first infection, four or five covariates, true days and a 30-day grid."""
    terms = CGD_TERMS[:covariates]
    result = cgd_cohort(grid=30 if scale == "grid30" else None).cox(time="time", event="event", covariates=terms, ties=ties,
                                                                   transforms=TRANSFORMS)

    check(result, "cox_cgd_first_event", "cox_pooled", f"ties={ties};scale={scale};covariates={covariates}", terms,
          zph=covariates == 4)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(("model", "by"), [("ag_pooled", None), ("ag_strata_center", "center")])
def test_repeated_infections_equal_r(ties, model, by):
    """Andersen-Gill: (start, stop] rows, several per patient, errors clustered by patient."""
    terms = ["treat", "inherit", "steroids", "age"]
    result = episodes(by).cox(f"Surv(tstart, tstop, status) ~ {' + '.join(terms)}" + (" + strata(registry)" if by else ""), ties=ties,
                              transforms=TRANSFORMS, robust=False)

    check(result, "cox_counting_process", model, f"ties={ties}", terms, robust="se_robust_cluster_id", tests=("lr", "score"))
    if by is None:
        check_curve(result, "cox_counting_process", model, f"ties={ties}", {"treat": False, "inherit": True, "steroids": False, "age": 15},
                    (90, 180, 270, 365))


def delayed():
    """lung with made-up entries after the start (file order gives them), as in the reference."""
    frame = lung()
    frame["in2"] = 45 * (np.arange(len(frame)) % 5)
    return frame[frame["time"] > frame["in2"]]


def delayed_cohort(by=None):
    frame, source = delayed(), lung_dictionary(sex={"type": "integer", "levels": None, "range": [1, 2]}).to_dict()
    source["variables"] = [*source["variables"], {"name": "in2", "type": "integer", "range": [0, 180]}]
    inst = frame["inst"].to_numpy().astype(int)
    return fedstats.pooled(split(frame, inst if by else inst % 3), dictionary=Dictionary.from_dict(source)).cohort()


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(("model", "by"), [("cox_delayed_pooled", None), ("cox_delayed_strata_inst", "inst")])
def test_delayed_entry_equals_r(ties, model, by):
    """Left truncation: who enters on day t is not at risk on day t."""
    result = delayed_cohort(by).cox(time="time", event="event", entry="in2", covariates=LUNG_TERMS, strata=["registry"] if by else [],
                                    ties=ties, transforms=TRANSFORMS)

    check(result, "cox_counting_process", model, f"ties={ties}", LUNG_TERMS, robust=None, zph=by is None)
    theirs = reference("cox_counting_process", model, f"ties={ties}", "concordance")
    assert abs(result.concordance.c - theirs) <= result.concordance.off + 1e-12


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(("model", "by"), [("cox_agescale_pooled", None), ("cox_agescale_strata_inst", "inst")])
def test_age_as_the_time_scale_equals_r(ties, model, by):
    """From age at entry to age at death, in days; the grid holds every age at which somebody leaves."""
    frame = lung()
    frame["in1"] = frame["age"] * 365.25
    frame["out1"] = frame["in1"] + frame["time"]
    source = lung_dictionary(sex={"type": "integer", "levels": None, "range": [1, 2]}).to_dict()
    source["variables"] = [*source["variables"], *({"name": name, "type": "number", "range": [0, 36525], "step": 0.25, "cut_points": sorted(
        {*frame["in1"], *frame["out1"]})} for name in ("in1", "out1"))]
    inst = frame["inst"].to_numpy().astype(int)
    cohort = fedstats.pooled(split(frame, inst if by else inst % 3), dictionary=Dictionary.from_dict(source)).cohort()
    result = cohort.cox(time="out1", event="event", entry="in1", covariates=["sex", "ph.ecog"], ties=ties,
                        strata=["registry"] if by else [], transforms=["rank", "identity", "log"])

    check(result, "cox_counting_process", model, f"ties={ties}", ["sex", "ph.ecog"], robust=None, zph=by is None)


def test_the_second_reference_file_agrees():
    """The other table of R's results, with center as strata."""
    expected = pd.read_csv(shared("reference", "cox_R_survival_3.5-3.csv"))
    for ties in ("efron", "breslow"):
        for name, by in (("pooled", None), ("strata(site)", "center")):
            result = cgd_cohort(by).cox(time="time", event="event", covariates=["treat", "age", "inherit", "steroids"],
                                        strata=["registry"] if by else [], ties=ties)
            rows = expected[(expected.dataset == "cgd_first_event") & (expected.model == name) & (expected.ties == ties)]
            for row in rows.itertuples():
                assert result[row.term].coef == pytest.approx(row.beta, rel=CLOSE)
                assert result[row.term].se == pytest.approx(row.se, rel=CLOSE)
                assert result.loglik == pytest.approx(row.loglik, rel=LIKELY)
                assert abs(result.concordance.c - row.concordance) <= result.concordance.off + 1e-12


# -- held against lifelines ----------------------------------------------------------------------------------------------------------


def random_frame(n=300, seed=1):
    random = np.random.default_rng(seed)
    age, sex, edss = random.integers(18, 70, n), random.random(n) < 0.7, random.integers(0, 14, n) / 2
    hazard = np.exp(0.02 * (age - 40) + 0.5 * sex + 0.2 * edss) / 3000
    time = np.ceil(random.exponential(1 / hazard))
    censor = random.integers(200, 3600, n)
    return pd.DataFrame({"age": age, "sex": np.where(sex, "F", "M"), "edss": edss, "days": np.minimum(time, censor).astype(int),
                         "event": time <= censor, "w": random.integers(1, 4, n), "off": random.random(n)})


RANDOM = {"name": "random", "variables": [
    {"name": "age", "type": "integer", "range": [0, 100], "cut_points": {"from": 0, "to": 100, "step": 10}},
    {"name": "sex", "type": "category", "levels": ["M", "F"]},
    {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5}, {"name": "event", "type": "boolean"},
    {"name": "days", "type": "integer", "range": [0, 3650], "unit": "days"},
    {"name": "w", "type": "integer", "range": [0, 5]}, {"name": "off", "type": "number", "range": [0, 1]}]}


def random_cohort(frame, parts=3, **kwargs):
    return fedstats.pooled(split(frame, np.arange(len(frame)) % parts), dictionary=Dictionary.from_dict(RANDOM), **kwargs).cohort()


def test_strata_of_a_variable_equal_lifelines():
    """A baseline hazard per sex, integer weights."""
    lifelines = pytest.importorskip("lifelines")
    frame = random_frame()
    result = random_cohort(frame).cox("Surv(days, event) ~ age + edss + strata(sex)", weights="w", robust=False)
    theirs = lifelines.CoxPHFitter().fit(frame.drop(columns="off"), "days", "event", strata=["sex"], weights_col="w",
                                         fit_options={"precision": 1e-12})

    for name in ("age", "edss"):
        assert result[name].coef == pytest.approx(theirs.params_[name], rel=CLOSE)
        assert result[name].se == pytest.approx(theirs.standard_errors_[name], rel=CLOSE)
    assert result.loglik == pytest.approx(theirs.log_likelihood_, rel=LIKELY)


def test_names_and_tables_are_those_of_lifelines():
    """Who reads lifelines' summary reads this one: the same columns, index and attributes."""
    lifelines = pytest.importorskip("lifelines")
    frame = random_frame()
    frame["female"] = frame["sex"] == "F"
    result = random_cohort(frame).cox("Surv(days, event) ~ age + edss")
    theirs = lifelines.CoxPHFitter().fit(frame[["age", "edss", "days", "event"]], "days", "event", fit_options={"precision": 1e-12})

    assert list(result.summary.columns) == list(theirs.summary.columns)
    assert list(result.summary.index) == list(theirs.summary.index) and result.summary.index.name == theirs.summary.index.name
    for name in ("params_", "hazard_ratios_", "standard_errors_"):
        assert getattr(result, name).to_numpy() == pytest.approx(getattr(theirs, name).to_numpy(), rel=1e-6), name
    assert result.confidence_intervals_.to_numpy() == pytest.approx(theirs.confidence_intervals_.to_numpy(), rel=1e-6)
    assert result.concordance_index_ == pytest.approx(theirs.concordance_index_, abs=2 * result.concordance.off)
    ours, other = result.baseline_cumulative_hazard_, theirs.baseline_cumulative_hazard_
    assert ours.iloc[:, 0].to_numpy() == pytest.approx(other.loc[ours.index, "baseline cumulative hazard"].to_numpy(), rel=5e-3)
    new = frame[["age", "edss"]].head(3)
    mine = result.predict_survival_function(new)
    assert mine.to_numpy() == pytest.approx(theirs.predict_survival_function(new).loc[mine.index].to_numpy(), abs=1e-3)
    assert result.predict_partial_hazard(new) == pytest.approx(theirs.predict_partial_hazard(new).to_list(), rel=1e-3)


def efron_by_definition(frame, beta):
    """The log partial likelihood, event by event: strata, weights, late entry, offset; Efron's ties."""
    found = 0.0
    eta = frame["age"] * beta[0] + frame["edss"] * beta[1] + frame["off"]
    for (_, days), tied in frame[frame["event"]].groupby(["sex", "days"]):
        at_risk = frame[(frame["sex"] == tied["sex"].iloc[0]) & (frame["days"] >= days) & (frame["start"] < days)]
        whole = (at_risk["w"] * np.exp(eta[at_risk.index])).sum()
        own = (tied["w"] * np.exp(eta[tied.index])).sum()
        found += (tied["w"] * eta[tied.index]).sum()
        found -= tied["w"].mean() * sum(np.log(whole - k / len(tied) * own) for k in range(len(tied)))
    return found


def test_everything_at_once_is_the_likelihood_of_the_textbook():
    """Strata, weights, late entry, offset and ties together: the likelihood by its definition, at its maximum."""
    frame = random_frame(250, 5)
    frame["days"] = np.ceil(frame["days"] / 100).astype(int) * 100
    frame["start"] = np.where(np.arange(250) % 3 == 0, 100, 0)
    frame = frame[frame["start"] < frame["days"]].reset_index(drop=True)
    source = {**RANDOM, "variables": [*RANDOM["variables"], {"name": "start", "type": "integer", "range": [0, 3650]}]}
    cohort = fedstats.pooled(split(frame, np.arange(len(frame)) % 3), dictionary=Dictionary.from_dict(source)).cohort()
    result = cohort.cox("Surv(start, days, event) ~ age + edss + strata(sex) + offset(off)", weights="w")
    beta = np.array([result["age"].coef, result["edss"].coef])
    top = efron_by_definition(frame, beta)

    # the offset is taken from the middle of its range, which changes nothing but adds up to rounding
    assert result.loglik == pytest.approx(top, rel=1e-9)
    for step in np.vstack([np.eye(2), -np.eye(2)]) * [1e-3, 1e-2]:
        assert efron_by_definition(frame, beta + step) < top
    slope = [(efron_by_definition(frame, beta + d) - efron_by_definition(frame, beta - d)) / 2e-4 for d in np.eye(2) * 1e-4]
    assert np.abs(slope) == pytest.approx([0, 0], abs=1e-3)


def test_a_ridge_penalty_draws_coefficients_to_the_penalised_maximum():
    """The penalised score is 0: lifelines' penalty per patient is ours divided by the number of patients, on its own scale."""
    frame = random_frame()
    free = random_cohort(frame).cox("Surv(days, event) ~ age + edss + sex")
    tight = random_cohort(frame).cox("Surv(days, event) ~ age + edss + sex", ridge=20.0)

    assert abs(tight["sex[F]"].coef) < abs(free["sex[F]"].coef)
    assert tight.loglik < free.loglik
    assert tight["sex[F]"].se < free["sex[F]"].se


def test_proportional_hazards_that_the_events_do_not_tell_are_not_tested():
    """A level with one event has no slope over time: no test of its term nor of all, and the others stand."""
    frame = random_frame(60, 460)
    frame["days"] = np.ceil(frame["days"] / 50).astype(int) * 50
    result = random_cohort(frame).cox("Surv(days, event) ~ age + C(edss) + sex", ridge=1.0)

    assert [one.term for one in result.proportional_hazards] == ["age", "sex"]
    assert all(0 <= one.chi2 < 10 for one in result.proportional_hazards)


def test_an_offset_is_a_coefficient_of_one():
    """With its own fitted coefficient times the variable as offset, the others stay where they are."""
    frame = random_frame()
    frame["off"] = frame["edss"] / 10
    both = random_cohort(frame).cox("Surv(days, event) ~ age + edss")
    frame["edss2"] = frame["edss"]
    fixed = random_cohort(frame).cox("Surv(days, event) ~ age + edss + offset(off)")

    assert fixed["age"].coef == pytest.approx(both["age"].coef, rel=CLOSE)
    assert fixed["edss"].coef == pytest.approx(both["edss"].coef - 0.1, rel=CLOSE)
    assert fixed.loglik == pytest.approx(both.loglik, rel=LIKELY)


@pytest.mark.parametrize("strata", ["", " + strata(sex)"])
def test_auc_and_brier_score_equal_a_count_over_all_pairs(strata):
    """Weighted for censoring by hand, patient by patient, from the model's own risks; with the baseline of each patient's stratum."""
    frame = random_frame(400, 3)
    terms = ["age", "edss"] if strata else ["age", "edss", "sex"]
    result = random_cohort(frame).cox(f"Surv(days, event) ~ {' + '.join(terms)}" + strata, horizons=[365, 1200], ties="breslow")
    relative = np.array(result.predict_partial_hazard(frame[terms]))
    days, event = frame["days"].to_numpy(), frame["event"].to_numpy()
    base = result.baseline_cumulative_hazard_

    def free(t):        # not censored before t; events come first
        left = 1.0
        for s in np.unique(days[~event & (days < t)]):
            left *= 1 - (~event & (days == s)).sum() / ((days > s) | (~event & (days == s))).sum()
        return left

    for one in result.horizons:
        t = one.time
        until = base[base.index <= t].ffill().iloc[-1]
        hazard = until[["sex=" + sex for sex in frame["sex"]]].to_numpy() if strata else until.iloc[0]
        survival = np.exp(-hazard * relative)
        case, control = np.flatnonzero(event & (days <= t)), np.flatnonzero(days > t)
        weight = np.array([1 / free(days[i]) for i in case])
        won = (survival[case][:, None] < survival[control]) + 0.5 * (survival[case][:, None] == survival[control])
        brier = ((weight * survival[case] ** 2).sum() + ((1 - survival[control]) ** 2).sum() / free(t + 1e-9)) / len(days)
        # risks are known to 1 in 256 intervals, and censorings to the nearest of 130 times, or of 65 with two strata
        assert one.auc == pytest.approx((weight[:, None] * won).sum() / (weight.sum() * len(control)), abs=2e-3)
        assert one.brier == pytest.approx(brier, abs=1e-3)
        assert one.brier < one.brier_without
