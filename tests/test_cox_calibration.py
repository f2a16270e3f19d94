"""Calibration of a Cox model: groups of predicted risk against lifelines' Kaplan-Meier of the same groups, and the release rules."""

import numpy as np
import pytest

import fedstats
from fedstats import Rules
from fedstats.errors import QuestionError

from .test_weights import cohort, table

FORMULA, HORIZON = "Surv(days, event) ~ age + edss + treated", 720
STRATIFIED = "Surv(days, event) ~ age + edss + strata(treated)"


@pytest.mark.parametrize("stratified", [False, True])
def test_observed_and_predicted_are_those_of_the_groups(stratified):
    """About ten groups by predicted risk: Kaplan-Meier by lifelines with its log-log interval, and the mean of the predictions; where
    the treated have a baseline of their own, from that."""
    lifelines = pytest.importorskip("lifelines")
    frame = table(4000)
    result = cohort(frame).cox(STRATIFIED if stratified else FORMULA, horizons=[360, HORIZON], calibration=True, ties="breslow")
    groups = result.horizons[-1].calibration
    frame["days"] = np.ceil(frame["days"] / 30) * 30
    for stratum in ("treated=false", "treated=true") if stratified else (None,):
        mine = frame["treated"] == (stratum == "treated=true") if stratified else frame["treated"].notna()
        curves = result.predict_survival_function(frame.loc[mine, ["age", "edss", "treated"]].to_dict("list"), stratum)
        frame.loc[mine, "risk"] = 1 - curves.loc[:HORIZON].iloc[-1].to_numpy()
    frame = frame.sort_values("risk", ignore_index=True)

    assert 8 <= len(groups) <= 10 and sum(one.patients for one in groups) == len(frame) and not result.horizons[0].calibration
    everybody = sum(one.patients * one.predicted for one in groups) / len(frame)
    off = result.horizons[-1].predicted_off
    assert abs(everybody - frame["risk"].mean()) <= off < 0.01 and result.horizons[0].predicted_off is None
    start = 0
    for one in groups:
        # intervals of risk and exact risks order nearly alike: those at the edges may differ
        mine = frame.iloc[start:start + one.patients]
        start += one.patients
        km = lifelines.KaplanMeierFitter().fit(mine["days"], mine["event"])
        upper, lower = 1 - km.confidence_interval_.loc[:HORIZON].iloc[-1].to_numpy()
        assert one.predicted == pytest.approx(mine["risk"].mean(), abs=2e-3)
        assert (one.observed, one.lower, one.upper) == pytest.approx((1 - km.predict(HORIZON), lower, upper), abs=0.01)


@pytest.mark.parametrize("formula", [FORMULA, STRATIFIED])
def test_groups_hold_enough_people_and_are_the_same_under_the_seal(formula):
    """At least ten with the event and ten without in each group, or none is shown; pooled and simulate agree."""
    frame, found = table(900), []
    for world in (fedstats.pooled, fedstats.simulate):
        ruled = cohort(frame, world, rules=Rules(rounding=False))
        found.append(ruled.cox(formula, horizons=HORIZON, calibration=True, transforms=[], baseline=False).horizons)
    assert found[0] == found[1] and found[0][0].calibration
    for group in found[0][0].calibration:
        assert group.patients >= 20 and 0 < group.lower < group.observed < group.upper < 1


def test_calibration_needs_a_horizon():
    """Otherwise a sentence."""
    for keywords in ({}, {"horizons": HORIZON, "weights": "w"}):
        with pytest.raises(QuestionError, match="calibration"):
            cohort(table(300)).cox(FORMULA, calibration=True, **keywords)


def test_with_registries_as_strata_no_risk_is_known():
    """The baseline of a registry stays there: the error says so and what to do."""
    with pytest.raises(QuestionError, match="keeps its baseline to itself") as found:
        cohort(table(300)).cox("Surv(days, event) ~ age + strata(registry)", horizons=HORIZON)
    assert "registered grid" in found.value.hint
