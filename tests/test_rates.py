"""rates against R's poisson.test (stats_lung.csv) and scipy, and what they give away."""

import msgspec
import numpy as np
import pytest
from scipy import stats

import fedstats
from fedstats import Rules
from fedstats.analyses.rates import _verdict, binomial_p, garwood
from fedstats.disclosure import may_imply
from fedstats.errors import QuestionError
from fedstats.sums.statistic import INDICATORS

from . import helpers

REL = 1e-9
COUNTS = {"name": "relapses", "type": "integer", "range": [0, 30]}


def with_relapses(relapses, rules=None):
    """lung with a number of relapses per patient. relapses : whole numbers, shape (212,)."""
    frame = helpers.lung()
    frame["relapses"] = relapses
    source = helpers.lung_dictionary().to_dict()
    source["variables"] = [*source["variables"], COUNTS]
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    return fedstats.pooled(tables, dictionary=source, rules=rules).cohort()


@pytest.mark.parametrize(("time", "per_day"), [("time", 1), ("years", 1 / 365.25)])
def test_rates_equal_R(time, per_day):
    """Deaths per day and per 100 person-years by sex, with exact and Wald intervals, follow-up in days or in years."""
    result = helpers.pooled_lung().cohort().rates(events="event", time=time, by="sex")

    assert [one.group for one in result.rates] == ["1", "2", "overall"] and result.per_unit == "per 100 person-years"
    for one in result.rates:
        setting = f"sex={'all' if one.group == 'overall' else one.group}"
        assert one.events == helpers.reference("stats_lung", "incidence_rate", setting, "events") == one.with_events
        found = {"rate_per_day": one.rate * per_day, "exact_ci_lower_per_day": one.low * per_day,
                 "exact_ci_upper_per_day": one.high * per_day, "rate_per_100_person_years": one.scaled,
                 "exact_ci_lower_per_100_person_years": one.scaled_low, "exact_ci_upper_per_100_person_years": one.scaled_high,
                 "wald_log_ci_lower_per_day": one.wald_low * per_day, "wald_log_ci_upper_per_day": one.wald_high * per_day}
        for quantity, value in found.items():
            assert value == pytest.approx(helpers.reference("stats_lung", "incidence_rate", setting, quantity), rel=REL)


def test_rate_ratio_equals_R():
    """Men against women: ratio, exact interval and p as poisson.test, and the Wald forms."""
    (ratio,) = helpers.pooled_lung().cohort().rates(events="event", time="time", by="sex", reference=2).ratios
    found = {"ratio": ratio.ratio, "exact_ci_lower": ratio.low, "exact_ci_upper": ratio.high, "exact_p": ratio.p,
             "log_ratio_se": ratio.log_se, "wald_ci_lower": ratio.wald_low, "wald_ci_upper": ratio.wald_high, "wald_p": ratio.wald_p}

    for quantity, value in found.items():
        assert value == pytest.approx(helpers.reference("stats_lung", "rate_ratio", "sex1_over_sex2", quantity), rel=REL)


def test_the_first_group_is_the_reference_unless_named():
    """Women against men is the inverse of men against women, with the same p."""
    cohort = helpers.pooled_lung().cohort()
    (women,), (men,) = (cohort.rates(events="event", time="time", by="sex", reference=one).ratios for one in (None, 2))

    assert (women.group, women.reference) == ("2", "1") and women.ratio == pytest.approx(1 / men.ratio, rel=1e-12)
    assert women.low == pytest.approx(1 / men.high, rel=1e-9) and women.p == pytest.approx(men.p, rel=1e-9)


def test_exact_intervals_and_p_equal_scipy():
    """Few and many events: Garwood's interval from chi-squared, the binomial p as scipy computes it."""
    for events in (0, 1, 7, 250):
        low, high = garwood(events, 0.95)
        assert low == pytest.approx(stats.chi2.ppf(0.025, 2 * events) / 2 if events else 0, rel=REL)
        assert high == pytest.approx(stats.chi2.ppf(0.975, 2 * events + 2) / 2, rel=REL)
    for x, n, share in ((0, 5, 0.3), (3, 9, 0.5), (40, 60, 0.55), (5, 200, 0.04)):
        assert binomial_p(x, n, share) == pytest.approx(stats.binomtest(x, n, share).pvalue, rel=REL)


def test_several_events_per_patient_are_added_up():
    """Relapses: their sum over the follow-up, beside the number of patients with any."""
    relapses = np.random.default_rng(2).poisson(1.5, 212)
    result = with_relapses(relapses).rates(events="relapses", time="time")
    one, frame = result["overall"], helpers.lung()

    assert (one.n, one.events, one.with_events) == (212, relapses.sum(), (relapses > 0).sum())
    assert one.rate == pytest.approx(relapses.sum() / frame["time"].sum(), rel=1e-12)


def test_groups_without_events_have_an_upper_limit_only():
    """No event in a group: rate 0 with an exact upper limit, no Wald interval, and a ratio with one end open."""
    frame = helpers.lung()
    frame["event"] &= frame["sex"] == 1
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    cohort = fedstats.pooled(tables, dictionary=helpers.lung_dictionary()).cohort()
    result = cohort.rates(events="event", time="time", by="sex", reference=2)

    assert (result[2].rate, result[2].low, result[2].wald_low) == (0, 0, None) and result[2].high > 0
    assert (result.ratios[0].ratio, result.ratios[0].high) == (None, None) and result.ratios[0].low > 1


def test_the_overall_row_needs_every_group():
    """Six patients of status 2 are alive: its rate and that of the next smallest group are withheld, and so is the overall row."""
    result = helpers.ruled_lung().rates(events="event", time="time", by="ecog3")

    assert [one.group for one in result.rates] == ["0", "1", "2"]
    assert [one.rate is None for one in result.rates] == [True, False, True]
    assert [one.time is None for one in result.rates] == [True, False, True]
    assert result.ratios == () and any("rule min_cell" in note for note in result.notes)


def test_withheld_groups_stay_uncertain_for_a_reader_of_the_overall_rate():
    """Overall minus what is shown leaves at least 10 patients with and 10 without an event in the withheld groups together."""
    shown = helpers.ruled_lung().rates(events="event", time="time", by="ecog3")
    overall = helpers.ruled_lung().rates(events="event", time="time")["overall"]
    some = sum(one.with_events for one in shown.rates if one.with_events is not None)
    people = sum(one.n for one in shown.rates if one.with_events is not None)

    assert overall.with_events - some >= 10
    assert (overall.n - people) - (overall.with_events - some) >= 10


def test_withheld_groups_stay_uncertain_in_any_table():
    """Whatever the groups: from all shown sizes, the shown rates and the overall rate, the number with events of a withheld group
    is known to within 10 at best."""
    random, seen = np.random.default_rng(11), 0
    for _ in range(300):
        sizes = random.integers(1, 60, random.integers(2, 6))
        events = random.binomial(sizes, random.random())
        people = np.stack([sizes - events, events], axis=1)
        if not may_imply(people.sum(axis=0), np.array([4, 4]), Rules(show_zeros=False)) or people.sum(axis=0).min() == 0:
            continue        # the overall rate is not released either
        totals = {"n": sizes, "any": people, "classes": people}
        totals |= {f"{name}{INDICATORS}": np.where(block > 0, 4, 0) for name, block in totals.items()}
        shown, silent = _verdict(totals, Rules(), np.zeros(len(sizes), dtype=bool))
        without, some = people[silent].sum(axis=0)
        for group in np.flatnonzero(silent & (shown >= 0)):
            seen += 1
            low = max(0, sizes[group] - without)

            assert min(sizes[group], some) - low >= 10
        assert not silent.any() or people[silent].sum(axis=0).min() >= 10
    assert seen > 100


def test_nothing_about_withheld_groups_is_in_the_result():
    """Another follow-up of a patient in a withheld group, or an event that moves between withheld groups: the same result."""
    before = helpers.ruled_lung().rates(events="event", time="time", by="ecog3")
    longer = helpers.edited({"ecog3": 2}, {"time": 1000})
    moved = helpers.edited({"ecog3": 2, "event": False}, {"event": True})
    moved = helpers.edited({"ecog3": 0, "event": True}, {"event": False}, moved)

    for tables in (longer, moved):
        assert helpers.ruled_lung(tables).rates(events="event", time="time", by="ecog3").to_dict() == before.to_dict()


def test_hidden_groups_have_no_size_and_no_rate():
    """One patient has status 3: hidden with the next smallest group, as in every table of groups."""
    result = helpers.ruled_lung().rates(events="event", time="time", by="ph.ecog")

    assert [one.n for one in result.rates] == [61, 106, None, None]
    assert all(one.events is None for one in result.rates if one.n is None)


def test_twelve_patients_with_thirteen_events_are_not_released():
    """One of them had two: the sum of events would single that patient out."""
    relapses = np.zeros(212, dtype=int)
    relapses[:212:16] = 1           # 14 patients over all registries
    once = with_relapses(relapses, Rules()).rates(events="relapses", time="time")["overall"]
    relapses[0] = 2
    twice = with_relapses(relapses, Rules()).rates(events="relapses", time="time")

    assert once.events == once.with_events == 14
    assert (twice["overall"].rate, twice["overall"].events, twice["overall"].with_events) == (None, None, None)
    assert any("several events" in note for note in twice.notes)


def test_events_of_few_patients_are_not_released():
    """Nine patients with an event: no rate."""
    relapses = np.zeros(212, dtype=int)
    relapses[:207:23] = 1

    assert (relapses > 0).sum() == 9
    assert with_relapses(relapses, Rules()).rates(events="relapses", time="time")["overall"].rate is None


def test_other_units_are_reported_as_they_are():
    """A follow-up without a unit of the calendar is reported per 1000 of its own units."""
    result = helpers.pooled_lung(time={"unit": "cycles"}).cohort().rates(events="event", time="time", per=1000)

    assert result.per_unit == "per 1000 x cycles" and result["overall"].scaled == pytest.approx(1000 * 150 / 66804, rel=1e-12)


def test_questions_that_make_no_sense_say_so():
    """Events are counted, follow-up starts at 0, the reference is one of the groups."""
    cohort = helpers.pooled_lung().cohort()
    for wrong, text in (({"events": "years"}, "type number"), ({"time": "wt.loss"}, "follow-up"), ({"events": "age"}, "starts at"),
                        ({"by": "sex", "reference": 3}, "not a group"), ({"per": 0}, "above 0")):
        with pytest.raises(QuestionError, match=text):
            cohort.rates(**{"events": "event", "time": "time", **wrong})


def test_result_can_be_stored_and_drawn():
    """A result read back from its plain form is the same; the tables hold rates and ratios."""
    result = helpers.ruled_lung().rates(events="event", time="time", by="sex")

    assert type(result).from_dict(result.to_dict()) == result
    assert [row[0] for row in result.tables()[0].rows] == ["1", "2", "overall"] and len(result.tables()[1].rows) == 1
    assert result.picture().labels == ("1", "2", "overall")


def test_person_years_stand_beside_days():
    """A rate per 100 person-years can be checked by eye: events over the years beside it; without a unit of the calendar there are none."""
    result = helpers.ruled_lung().rates(events="event", time="time", by="sex")
    table = result.tables()[0]
    for row, rate in zip(table.rows, result.rates):
        line = dict(zip(table.columns, row))

        assert line["person_years"] == pytest.approx(rate.time / 365.25)
        assert 100 * line["events"] / line["person_years"] == pytest.approx(line["rate"], rel=1e-3)
    other = msgspec.structs.replace(result, unit="per visit").tables()[0]
    assert other.columns == tuple(one for one in table.columns if one != "person_years")
    assert [len(row) for row in other.rows] == [len(other.columns)] * 3
