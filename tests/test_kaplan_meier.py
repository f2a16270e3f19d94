"""Kaplan-Meier against R (km_lung.csv) and lifelines, its properties, and what curves give away."""

import itertools
import math

import lifelines
import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Rules
from fedstats.analyses.survival.life_table import bin_of, life_table, times_of
from fedstats.data.rows import load
from fedstats.errors import QuestionError
from fedstats.sums.statistic import answer

from . import helpers

REL = 1e-9
MONTHS = {"time": {"range": [0, 1110], "cut_points": {"from": 0, "to": 1110, "step": 30}}}
SCALES = {"day": {}, "grid30": MONTHS}
MODELS = [("km_overall", None, None), ("km_by_sex", "sex", None), ("km_by_ecog", "ph.ecog", None),
          ("km_by_sex_ecog", "ph.ecog", 1), ("km_by_sex_ecog", "ph.ecog", 2)]
READ_AT = {"ci_lower": "low", "ci_upper": "high", "n_risk": "at_risk", "surv": "survival", "se_greenwood": "se",
           "nelson_aalen": "cumulative_hazard", "nelson_aalen_se": "cumulative_hazard_se"}
QUANTILES = {f"{name}{end}": (k, field) for k, name in enumerate(("q25", "median", "q75"))
             for end, field in (("", "time"), ("_ci_lower", "time_low"), ("_ci_upper", "time_high"))}
# Here the upper limit rises again (0.373 at 750 days, 0.376 at 780), and R's quantile() takes the later time: `approx` sorts by height.
R_TAKES_A_LATER_TIME = {("grid30", "log", "sex=2_ph.ecog=1", "median_ci_upper")}


def quantities(model, setting):
    """Every number of R about a model: (term, quantity) -> value."""
    table = pd.read_csv(helpers.shared("reference", "models", "km_lung.csv"))
    table = table[(table["model"] == model) & (table["setting"] == setting)]
    return {(line.term, line.quantity): float(line.value) for line in table.itertuples()}


def read_off(results, group, quantity):
    """One of R's quantities from our results; results : {tau: result}."""
    curve = results[720][group]
    name, _, time = quantity.rpartition("_at_")
    if name == "n_event_since_previous_time":
        since = {"90": -1, "180": 90, "365": 180, "720": 365}[time]
        return sum(d for t, d in zip(curve.times, curve.events) if since < t <= float(time))
    if name:
        return getattr(curve.at(float(time)), READ_AT[name])
    if quantity.startswith("rmean"):
        curve = results[int(quantity.split("_")[1])][group]
        return curve.rmst_se if quantity.endswith("se") else curve.rmst
    if quantity in QUANTILES:
        place, field = QUANTILES[quantity]
        return getattr(curve.quantiles[place], field)
    return {"n": curve.n, "events": curve.total_events}[quantity]


@pytest.mark.parametrize(("model", "by", "sex"), MODELS)
@pytest.mark.parametrize("conf_type", ["log-log", "log", "plain"])
@pytest.mark.parametrize("scale", SCALES)
def test_curves_equal_R(scale, conf_type, model, by, sex):
    """Survival, limits, medians, quartiles, restricted means, cumulative hazard and numbers at risk as R's survfit prints them."""
    cohort = helpers.pooled_lung(**SCALES[scale]).cohort([("sex", "==", sex)] if sex else None)
    results = {tau: cohort.kaplan_meier(time="time", event="event", by=by, conf_type=conf_type, tau=tau) for tau in (720, 365)}
    checked = 0
    for (term, quantity), expected in quantities(model, f"scale={scale};conf={conf_type}").items():
        if (sex and f"sex={sex}" not in term) or (scale, conf_type, term, quantity) in R_TAKES_A_LATER_TIME:
            continue
        found = read_off(results, term.rpartition("=")[2], quantity)
        checked += 1

        assert (found is None) == math.isnan(expected), (term, quantity)
        assert found is None or found == pytest.approx(expected, rel=REL, abs=1e-12), (term, quantity)
    assert checked >= 14


def test_curves_equal_lifelines():
    """Men and women of lung: survival, band, medians and median follow-up are those of another program."""
    result = helpers.pooled_lung().cohort().kaplan_meier(time="time", event="event", by="sex")
    for sex, rows in helpers.lung().groupby("sex"):
        curve = result[sex]
        fitted = lifelines.KaplanMeierFitter().fit(rows["time"], rows["event"])
        band = fitted.confidence_interval_.loc[list(curve.times)]
        reverse = lifelines.KaplanMeierFitter().fit(rows["time"], ~rows["event"])
        hazard = lifelines.NelsonAalenFitter(nelson_aalen_smoothing=False).fit(rows["time"], rows["event"])

        assert curve.survival == pytest.approx(fitted.predict(list(curve.times)).to_numpy(), rel=1e-9, abs=1e-12)
        for limit, other in ((curve.low, band.iloc[:, 0]), (curve.high, band.iloc[:, 1])):
            pairs = [(a, b) for a, b in zip(limit, other) if a is not None and not math.isnan(b)]
            assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=1e-9, abs=1e-12)
        assert curve.median.time == fitted.median_survival_time_
        assert curve.follow_up.time == reverse.median_survival_time_
        assert curve.cumulative_hazard == pytest.approx(hazard.predict(list(curve.times)).to_numpy(), rel=1e-9, abs=1e-12)


def test_a_coarser_grid_is_the_registered_grid_of_that_step():
    """Asking a daily grid in steps of 30 days gives what a dictionary with 30-day cut points gives."""
    ask = {"time": "time", "event": "event", "by": "sex", "tau": 720}
    daily = helpers.pooled_lung(time={"range": [0, 1110]}).cohort().kaplan_meier(**ask, grid=30)
    monthly = helpers.pooled_lung(**MONTHS).cohort().kaplan_meier(**ask)

    assert daily.groups == monthly.groups


def test_default_tau_is_the_shortest_curve():
    """Without tau, restricted means run to the last time that every group reaches."""
    result = helpers.pooled_lung().cohort().kaplan_meier(time="time", event="event", by="sex")
    frame = helpers.lung()

    assert result.tau == frame.groupby("sex")["time"].max().min()


def test_the_median_is_the_middle_of_a_flat_stretch_at_one_half():
    """Two of four die at days 10 and 20, the next at 40: survival is 0.5 from 20 to 40, the median is 30."""
    frame = pd.DataFrame({"time": [10, 20, 40, 50], "event": [True, True, True, True]})
    result = fedstats.pooled({"a": frame}, dictionary=helpers.lung_dictionary()).cohort().kaplan_meier(time="time", event="event")

    assert result.groups[0].median.time == 30
    assert result.groups[0].quantiles[0].time == 15


# -- the grid ------------------------------------------------------------------------------------------------------------------


def test_times_fall_on_the_next_grid_point():
    """0.3 as 3 x 0.1 falls on 0.3, not on 0.4; time 0 has a place of its own; beyond the last point comes after all."""
    times = np.array([0.0, *(0.1 * np.arange(1, 11))])

    assert bin_of(np.array([0.0, 1e-9, 0.05, 0.1, 0.1 * 3, 0.3, 0.31, 1.0, 1.01]), times).tolist() == [0, 0, 1, 1, 3, 3, 4, 10, 11]


def test_follow_up_beyond_the_grid_is_censored_at_its_end():
    """A death on day 500 with a grid to 360 counts as under observation to day 360, and the note says so without a number."""
    frame = pd.DataFrame({"time": [0, 100, 500, 700], "event": [True, True, True, False]})
    dictionary = helpers.lung_dictionary(time={"cut_points": {"from": 0, "to": 360, "step": 30}})
    result = fedstats.pooled({"a": frame}, dictionary=dictionary).cohort().kaplan_meier(time="time", event="event")
    (curve,) = result.groups

    assert curve.times == (0, 120, 360)
    assert (curve.events, curve.censored) == ((1, 1, 0), (0, 0, 2))
    assert any("beyond 360 days" in note for note in result.notes)


def test_splitting_the_patients_changes_nothing():
    """Life tables of two hospitals add up to that of all their patients, at the grid and at any merged ends."""
    frame, dictionary = helpers.lung(), helpers.lung_dictionary(**MONTHS)
    some = np.random.default_rng(1).random(len(frame)) < 0.5
    bins = len(times_of(dictionary, "time"))
    for ends in (None, [[5, bins], [1, 9, bins], [bins], [2, bins]]):
        ask = life_table(time="time", event="event", by=["sex", "ph.ecog"], ends=ends)
        whole, here, there = (answer(ask, load(part, dictionary)[0]) for part in (frame, frame[some], frame[~some]))

        assert all((whole[name] == here[name] + there[name]).all() for name in whole if "@" not in name)


# -- properties ----------------------------------------------------------------------------------------------------------------


def assert_is_survival_curve(curve):
    survival, low, high = (np.array([math.nan if v is None else v for v in part]) for part in (curve.survival, curve.low, curve.high))
    known = ~np.isnan(low)
    assert survival[0] <= 1
    assert (survival >= 0).all()
    assert (np.diff(survival) <= 0).all()
    assert (low[known] <= survival[known]).all()
    assert (survival[known] <= high[known]).all()
    assert (np.diff(curve.times) > 0).all()
    assert (np.diff(curve.at_risk) <= 0).all()
    assert curve.at_risk[-1] == curve.events[-1] + curve.censored[-1] + curve.remaining


def patients(seed=0, n=400, registries=5):
    """Registries of patients in three sizes of group and one rare one, with deaths over ten years on a grid of 30 days."""
    random, tables = np.random.default_rng(seed), {}
    for k in range(registries):
        stage = random.choice(4, n, p=[0.55, 0.3, 0.13, 0.02])
        death, end = random.exponential(900 / (1 + 0.5 * stage)), random.uniform(0, 1500, n)
        tables[f"r{k}"] = pd.DataFrame({"time": np.minimum(np.minimum(death, end).round(), 1080), "event": (death <= end) & (death < 1080),
                                        "sex": random.choice([1, 2], n), "ph.ecog": stage})
    return tables


RULES = [fedstats.Rules(min_cell=k, min_registries=m, rounding=False) for k, m in ((5, 1), (10, 1), (10, 3), (20, 3))]


@pytest.fixture(params=RULES, ids=lambda r: f"k{r.min_cell}m{r.min_registries}")
def rules(request):
    return request.param


def asked(tables, rules, by=None, **options):
    return fedstats.pooled(tables, dictionary=helpers.lung_dictionary(**MONTHS), rules=rules).cohort().kaplan_meier(
        time="time", event="event", by=by, **options)


@pytest.mark.parametrize("by", [None, "sex", "ph.ecog"])
def test_curves_decrease_within_their_band(by, rules):
    """With and without release rules: from at most 1 down, inside the band, numbers at risk falling."""
    for found in (asked(patients(), None, by), asked(patients(), rules, by)):
        for curve in found.groups:
            if curve.times:
                assert_is_survival_curve(curve)


# -- release rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [None, "sex", "ph.ecog"])
def test_every_shown_interval_is_empty_or_large(by, rules):
    """No step tells of 1 to k - 1 deaths or censored, and whoever remains after the end is nobody or at least k."""
    result = asked(patients(), rules, by)

    assert any(len(curve.times) > 3 for curve in result.groups)
    for curve in result.groups:
        for count in (*curve.events, *curve.censored, curve.n or 0, curve.remaining or 0):
            assert count == 0 or count >= rules.min_cell


def test_a_rare_group_has_no_curve_and_takes_another_with_it():
    """A stage with 4 patients is hidden, and so is another one, as everybody less the rest would give it away."""
    tables = patients()
    for k, table in enumerate(tables.values()):
        table.loc[table["ph.ecog"] == 3, "ph.ecog"] = 0
        if k < 4:
            table.loc[table.index[0], "ph.ecog"] = 3
    result = asked(tables, RULES[1], "ph.ecog")

    hidden = [curve.group for curve in result.groups if curve.n is None]
    assert len(hidden) == 2
    assert "3" in hidden
    assert all(f'"{name}"' in " ".join(result.notes) for name in hidden)


def test_the_tail_is_cut():
    """The curve ends before the last patients, restricted means beyond its end are not released, nor is survival there."""
    result = asked(patients(), RULES[1], "sex", tau=1080)
    for curve in result.groups:
        if curve.remaining:
            assert curve.rmst is None
            assert curve.at(1080).survival is None
            assert curve.at(curve.times[-1]).survival == curve.survival[-1]
            assert any("ends at" in note for note in result.notes)


@pytest.mark.parametrize("n", [60, 400, 4000])
@pytest.mark.parametrize("by", [None, "sex", "ph.ecog"])
def test_every_number_is_that_of_the_pooled_table(n, by, rules):
    """At reporting times survival, errors, limits, people at risk and events are those without rules, to the last digit; between
    them the curve without rules lies within the bounds."""
    tables, seen = patients(n=n, seed=n), 0
    found, exact = asked(tables, rules, by), asked(tables, None, by)
    for curve in found.groups:
        whole = exact[curve.group]
        for k, time in enumerate(curve.times[1:], start=1):
            there = whole.at(time)
            seen += 1
            assert (curve.survival[k], curve.se[k], curve.low[k], curve.high[k], curve.cumulative_hazard[k]) == pytest.approx(
                (there.survival, there.se, there.low, there.high, there.cumulative_hazard), rel=1e-12)
            assert sum(curve.events[:k + 1]) == sum(d for t, d in zip(whole.times, whole.events) if t <= time)
        for time in np.arange(0.0, curve.times[-1] if curve.times else 0.0, 30.0).tolist():
            between, there = curve.at(time), whole.at(time)
            assert between.lowest - 1e-12 <= there.survival <= between.highest + 1e-12
            assert between.survival is None or between.survival == pytest.approx(there.survival, rel=1e-12)
    assert seen > 3 or n == 60


@pytest.mark.parametrize("n", [400, 4000, 40_000])
@pytest.mark.parametrize("by", [None, "sex", "ph.ecog"])
def test_restricted_means_and_quartiles_are_those_of_the_pooled_table_or_hidden(n, by, rules):
    """A restricted mean is exact or it is not told; a quartile lies in the interval that is told, and its limits contain the exact ones."""
    tables = patients(n=n, seed=n)
    found = asked(tables, rules, by)
    exact = asked(tables, None, by, tau=found.tau)
    assert n < 4000 or any(curve.rmst is not None for curve in found.groups)
    for curve in found.groups:
        whole = exact[curve.group]
        if curve.rmst is not None:
            assert (curve.rmst, curve.rmst_se, curve.rmst_low, curve.rmst_high) == pytest.approx(
                (whole.rmst, whole.rmst_se, whole.rmst_low, whole.rmst_high), rel=1e-12)
        elif curve.times:
            assert any("restricted mean" in note and f'"{curve.group}"' in note for note in found.notes)
        for mine, theirs in zip((*curve.quantiles, curve.follow_up) if curve.times else (), (*whole.quantiles, whole.follow_up)):
            if mine.time is not None:
                assert (mine.time if mine.after is None else mine.after) <= theirs.time <= mine.time
            for inner, outer, sign in ((theirs.time_low, mine.time_low, 1), (theirs.time_high, mine.time_high, -1)):
                assert outer is None or sign * (inner - outer) >= 0


@pytest.mark.parametrize("by", [None, "sex"])
def test_digits_follow_what_one_person_moves(by):
    """With rounding, survival is told to one person at risk, a restricted mean to tau over the patients, and intervals hold the exact ones'
    middle; small groups have intervals and no standard error."""
    for n in (200, 2000):
        tables = patients(n=n, seed=n)
        found = asked(tables, fedstats.Rules(), by)
        exact = asked(tables, None, by, tau=found.tau)
        for curve in found.groups:
            whole = exact[curve.group]
            for k, time in enumerate(curve.times[1:], start=1):
                there, one = whole.at(time), 1 / curve.at_risk[k]
                assert abs(curve.survival[k] - there.survival) <= one / 2 + 5.1e-5        # and four decimals
                assert curve.low[k] <= there.survival <= curve.high[k]
                assert (curve.se[k] is None) == (curve.at_risk[k] < 100)
                assert curve.se[k] is None or curve.se[k] == pytest.approx(there.se, rel=0.051)       # two digits
            if curve.rmst is not None:
                assert abs(curve.rmst - whole.rmst) <= 0.51 * found.tau / curve.n + 5.1e-4 * whole.rmst
                assert curve.rmst_low <= whole.rmst <= curve.rmst_high


def test_at_one_cohort_every_analysis_counts_the_same_events():
    """Curve, log-rank and table: also where the curve ends before the last events."""
    tables = patients(n=4000)
    federation = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(**MONTHS), rules=fedstats.Rules())
    cohort = federation.cohort()
    curves = cohort.kaplan_meier(time="time", event="event", by="sex")
    test = cohort.logrank(time="time", event="event", by="sex")
    table = cohort.crosstab("event", "sex").array()

    for k, curve in enumerate(curves.groups):
        assert test[curve.group].observed == table[1, k]
        assert curve.total_events == table[1, k]


def cumulated(curve, field):
    """What a reader knows: events (or censored) up to each shown time."""
    return dict(zip(curve.times[1:], np.cumsum(getattr(curve, field))[1:].tolist()))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("by", ["sex", "ph.ecog"])
def test_attack_subtracting_groups_from_everybody_gives_no_small_number(seed, by, rules):
    """Everybody less any choice of groups, wherever all those curves have a step: never 1 to k - 1 deaths or censored."""
    tables = patients(seed)
    everybody, groups = asked(tables, rules).groups[0], [curve for curve in asked(tables, rules, by).groups if curve.times]
    for size in range(len(groups) + 1):
        for some in itertools.combinations(groups, size):
            for field in ("events", "censored"):
                known = [cumulated(curve, field) for curve in some]
                all_known = cumulated(everybody, field)
                times = sorted(set(all_known).intersection(*known)) if known else sorted(all_known)
                left = np.diff([0, *(all_known[t] - sum(one[t] for one in known) for t in times)])

                assert ((left == 0) | (left >= rules.min_cell)).all(), ([c.group for c in some], field, times, left)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_attack_curves_and_logrank_together(seed, rules):
    """The log-rank test counts all events: those after the end of a group's curve are nobody's or enough people's."""
    tables = patients(seed)
    for by in ("sex", "ph.ecog"):
        curves = asked(tables, rules, by)
        test = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(**MONTHS), rules=rules).cohort().logrank(
            time="time", event="event", by=by)
        for group in test.groups:
            if group.observed is not None and curves[group.group].times:
                rest = group.observed - sum(curves[group.group].events)

                assert rest == 0 or rest >= rules.min_cell


@pytest.mark.parametrize("grid", [60, 90, 180])
def test_attack_two_grids_give_no_small_number(grid, rules):
    """The same curve asked in coarser steps ends its steps where the finer one does."""
    tables = patients()
    for by in (None, "sex", "ph.ecog"):
        for fine, coarse in zip(asked(tables, rules, by).groups, asked(tables, rules, by, grid=grid).groups):
            known = dict(zip(fine.times, np.cumsum(fine.events)))
            for t, d in zip(coarse.times, np.cumsum(coarse.events)):
                assert d == known[max(time for time in known if time <= t)]


def test_attack_events_in_the_cut_tail_by_subtraction(rules):
    """Deaths of everybody, from a table, less those of the curve: never 1 to k - 1."""
    tables = patients()
    federation = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(**MONTHS), rules=rules)
    table = federation.cohort().crosstab("event", "sex")
    for k, curve in enumerate(federation.cohort().kaplan_meier(time="time", event="event", by="sex").groups):
        for level, field in enumerate(("censored", "events")):
            total = table.array()[level, k]
            rest = total - sum(getattr(curve, field))
            if not math.isnan(total) and curve.times and curve.remaining:
                assert rest == 0 or rest >= rules.min_cell


# -- questions that cannot be asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"event": "age"}, "boolean"), ({"by": "event"}, "different columns"), ({"grid": 45}, "not on the registered grid"),
    ({"tau": 5000}, "tau"), ({"conf_type": "arcsin"}, "log-log"), ({"time": "years"}, "cut points"), ({"by": "registry"}, "reserved"),
    ({"confidence": 95}, "confidence")])
def test_wrong_questions_say_what_is_wanted(options, words):
    """Each refusal names the remedy."""
    cohort = helpers.pooled_lung(time={"range": [0, 1110], "cut_points": {"from": 0, "to": 1110, "step": 30}}).cohort()
    with pytest.raises(QuestionError) as raised:
        cohort.kaplan_meier(**{"time": "time", "event": "event", **options})

    assert words in f"{raised.value} {raised.value.hint}"


def test_result_survives_the_wire_and_the_screen():
    """Written as JSON-ready content and read back it is the same; table and picture have one line per group and time."""
    result = asked(patients(), RULES[1], "sex")

    assert fedstats.query.analysis.read_result(result.to_dict()) == result
    assert len(result.tables()[0].rows) == sum(len(curve.times) for curve in result.groups)
    assert [one.label for one in result.picture().curves] == [curve.group for curve in result.groups if curve.times]


@pytest.mark.parametrize("k", [5, 10])
def test_everybody_and_groups_together_name_no_interval_of_few_registries(k):
    """The curve of all laid over those by sex: every interval between their ends has nobody, or k people from three registries."""
    tables = helpers.lung_tables()
    rules = Rules(min_cell=k, rounding=False)
    cohort = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(), rules=rules).cohort()
    everybody = cohort.kaplan_meier(time="time", event="event").groups
    groups = cohort.kaplan_meier(time="time", event="event", by="sex").groups
    # what the groups have in common is a total over everybody
    common = set.intersection(*(set(one.times) for one in groups))
    ends = sorted({0.0, *everybody[0].times, *common})

    for start, stop in itertools.pairwise(ends):
        for event in (True, False):
            counts = [int(((t["time"] > start) & (t["time"] <= stop) & (t["event"] == event)).sum()) for t in tables.values()]
            assert sum(counts) == 0 or (sum(counts) >= k and sum(one > 0 for one in counts) >= rules.min_registries), (start, stop)
