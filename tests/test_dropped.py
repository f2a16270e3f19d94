"""What was dropped from the tables is not known, never absent: new users, relapses, scores, images, deaths."""

import numpy as np
import pandas as pd
import pytest

from fedstats.data.cells import PART, Form, date, span
from fedstats.ms import cohort, synthetic
from fedstats.ms.cohort.outcomes import OPEN
from fedstats.ms.tables import load
from fedstats.ms.tables.cleaning import clean
from fedstats.ms.tables.dropped import NOTHING, Dropped

KEPT = ("visits", "relapses", "treatments", "mri")
NAMES = {
    "visits": ("visit_date", "edss"),
    "relapses": ("relapse_onset_date",),
    "treatments": ("dmt_name", "start_date", "end_date"),
    "mri": ("mri_date", "new_t2_count", "gd_lesion_count"),
}
VISITS = [(f"{year}-{month}-01", 2) for year in range(2008, 2018) for month in ("01", "07")]
LATER = ("Tysabri", "2016-01-01", "")


def registry_of(patient=None, **tables):
    """One patient, cleaned; tables as lists of tuples."""
    source = {
        "patients": pd.DataFrame(
            [
                {
                    "patient_id": "a",
                    "sex": "F",
                    "birth_year": 1980,
                    "onset_date": "2007-01-01",
                    "entry_date": "2007-01-01",
                    **(patient or {}),
                }
            ]
        )
    }
    for name, rows in {"visits": VISITS, **tables}.items():
        source[name] = pd.DataFrame(
            [{"patient_id": "a", **dict(zip(NAMES[name], row))} for row in rows], dtype=object
        )
    return clean(load(source)[0], data_cut="2019-01-01")[0]


def derived(registry, index="2016-01-01", **more):
    at = {"event": "date", "date": index} if isinstance(index, str) else index
    tree = {
        "index": at,
        "covariates": [
            "dmt",
            "dmt_class",
            "dmt_class_before",
            "dmt_switches",
            "days_on_dmt",
            "relapses_12m",
            "edss",
            "edss_mean",
            "days_since_relapse",
            "new_t2_count",
            "visits_in_window",
        ],
        **more,
    }
    return cohort.compile(tree).derive(registry, recorded=KEPT)


def value(found, name):
    """Of the first row, as people read it; None where missing."""
    (number,) = found.rows.values(name)[:1]
    labels = found.rows.dictionary[name].labels
    return None if np.isnan(number) else labels[int(number)] if labels else number


# -- treatments ----------------------------------------------------------------------------------------------------------------

EARLIER = {
    "two drugs on one day": [
        ("Copaxone", "2010-01-01", "2011-01-01"),
        ("Gilenya", "2010-01-01", "2012-01-01"),
    ],
    "a drug on trial": [("tolebrutinib", "2010-01-01", "2011-01-01")],
    "a blinded drug": [("study drug", "2010-01-01", "2011-01-01")],
    "a drug without a name": [(None, "2010-01-01", "2011-01-01")],
    "one day": [("Rebif", "2010-01-01", "2010-01-01")],
    "ends before it starts": [("Rebif", "2010-01-01", "2009-12-01")],
    "an end that is no day": [("Rebif", "2010-01-01", "2012-02-31")],
    "an end in another form": [("Rebif", "2010-01-01", "31.12.2010")],
    "a start that is no day": [("Rebif", "2010-02-30", "2011-01-01")],
    "a start of an unknown day": [("Rebif", "2010", "2011-01-01")],
    "no start": [("Rebif", None, "2011-01-01")],
    "before onset": [("Rebif", "2006-01-01", "2006-06-01")],
    "before birth": [("Rebif", "1910-01-01", "2011-01-01")],
}


@pytest.mark.parametrize("rows", EARLIER.values(), ids=EARLIER)
def test_whoever_had_a_treatment_that_was_dropped_is_no_new_user(rows):
    """Left out, and counted as such; classes before and switches are not known; a year after it ended nobody is "none" by mistake."""
    registry = registry_of(treatments=[*rows, LATER])
    found = derived(registry, {"event": "dmt_start"})
    flow = dict(found.flow)

    assert (flow["with the index event"], flow["earlier treatments known"], found.rows.n) == (
        1,
        0,
        0,
    )
    later = derived(registry, "2016-07-01")
    assert (value(later, "dmt"), value(later, "dmt_switches")) == ("natalizumab", None)
    assert value(derived(registry, "2016-01-01"), "dmt_class_before") is None
    assert (
        derived(registry, {"event": "dmt_start", "dmts": ["teriflunomide"], "naive": False}).rows.n
        == 0
    )


@pytest.mark.parametrize(
    "rows",
    [
        [("Solu-Medrol", "2010-01-01", None)],
        [("vitamin D", "2010", None)],
        [("no treatment", "2010-01-01", "")],
        [("Rebif", "2018-01-01", "2018-01-01")],
        [],
    ],
    ids=["steroid", "vitamin", "none", "later", "nothing"],
)
def test_what_is_no_earlier_treatment_leaves_a_new_user(rows):
    """A steroid treats no disease course; what comes after time zero is not earlier."""
    found = derived(registry_of(treatments=[*rows, LATER]), {"event": "dmt_start"})

    assert (
        found.rows.n == 1
        and value(found, "dmt") == "natalizumab"
        and value(found, "dmt_class_before") == "none"
    )


def test_a_treatment_that_was_dropped_may_be_the_first_of_its_class_or_not():
    """Rebif for a day is no earlier natalizumab; a drug that nobody knows may be."""
    index = {"event": "dmt_start", "dmts": ["natalizumab"], "naive": False}

    assert (
        derived(
            registry_of(treatments=[("Rebif", "2010-01-01", "2010-01-01"), LATER]), index
        ).rows.n
        == 1
    )
    assert (
        derived(
            registry_of(treatments=[("tolebrutinib", "2010-01-01", "2011-01-01"), LATER]), index
        ).rows.n
        == 0
    )


@pytest.mark.parametrize(
    ("rows", "day", "dmt"),
    [
        (
            [("Copaxone", "2012-01-01", "2014-01-01"), ("Gilenya", "2012-01-01", "2014-01-01")],
            "2013-01-01",
            None,
        ),
        (
            [("Copaxone", "2012-01-01", "2014-01-01"), ("Gilenya", "2012-01-01", "2014-01-01")],
            "2015-01-01",
            "none",
        ),
        (
            [("Copaxone", "2012-01-01", None), ("Gilenya", "2012-01-01", None), LATER],
            "2015-01-01",
            None,
        ),
        (
            [
                ("Copaxone", "2012-01-01", None),
                ("Gilenya", "2012-01-01", None),
                ("Tysabri", "2013-01-01", "2014-01-01"),
            ],
            "2015-01-01",
            "none",
        ),
        ([("Rebif", "2012-01-01", "2012-13-01")], "2015-01-01", None),
        ([("Rebif", "2012-01-01", "2013-05")], "2013-04-01", None),
        ([("Rebif", "2012-01-01", "2013-05")], "2014-01-01", "none"),
        (
            [("Rebif", "2010-01-01", "2016-01-01"), ("Tysabri", "2012-01-01", "2013-01-01")],
            "2012-07-01",
            "natalizumab",
        ),
        (
            [("Rebif", "2010-01-01", "2016-01-01"), ("Tysabri", "2012-01-01", "2013-01-01")],
            "2014-01-01",
            None,
        ),
        (
            [("Rebif", "2010-01-01", "2016-01-01"), ("Tysabri", "2012-01-01", "2013-01-01")],
            "2016-07-01",
            "none",
        ),
    ],
    ids=[
        "two at once",
        "both ended",
        "neither ended",
        "another came after",
        "no end",
        "end within May",
        "after May",
        "two overlap",
        "the second ended",
        "both over",
    ],
)
def test_a_treatment_of_the_day_that_nobody_can_tell_is_not_none(rows, day, dmt):
    """Not known as long as it may have lasted, and no longer."""
    found = derived(registry_of(treatments=rows), day)

    assert value(found, "dmt") == dmt and (value(found, "days_on_dmt") is None) == (
        dmt != "natalizumab"
    )


def infusions(name, *days):
    return [(name, day, day) for day in days]


@pytest.mark.parametrize(
    ("rows", "day", "dmt"),
    [
        (
            infusions("Ocrevus", "2012-01-01", "2012-01-15", "2012-07-10", "2013-02-01"),
            "2012-04-01",
            "ocrelizumab",
        ),
        (
            infusions("Ocrevus", "2012-01-01", "2012-01-15", "2012-07-10", "2013-02-01"),
            "2013-01-01",
            "ocrelizumab",
        ),
        (
            infusions("Ocrevus", "2012-01-01", "2012-01-15", "2012-07-10", "2013-02-01"),
            "2013-07-01",
            "ocrelizumab",
        ),
        (
            infusions("Ocrevus", "2012-01-01", "2012-01-15", "2012-07-10", "2013-02-01"),
            "2014-01-01",
            "none",
        ),
        (
            infusions("Tysabri", "2012-01-01", "2012-02-05", "2012-03-20", "2012-12-01"),
            "2012-04-01",
            "natalizumab",
        ),
        (
            infusions("Tysabri", "2012-01-01", "2012-02-05", "2012-03-20", "2012-12-01"),
            "2012-10-01",
            "none",
        ),
        (
            [("Lemtrada", "2012-03-01", "2012-03-05"), ("Lemtrada", "2013-03-01", "2013-03-03")],
            "2015-01-01",
            "alemtuzumab",
        ),
        ([("Mavenclad", "2012-03-01", "2012-03-05")], "2012-10-01", "cladribine"),
        ([("AHSCT", "2012-03-01", "2012-03-01")], "2014-01-01", "stem cell transplantation"),
        (
            [("Lemtrada", "2012-03-01", "2012-03-05"), ("Gilenya", "2014-01-01", "2014-12-01")],
            "2015-01-01",
            "none",
        ),
        ([("Lemtrada", "2012-03-01", "2013-03-05")], "2014-01-01", "none"),
    ],
)
def test_infusions_and_courses_are_no_treatments_of_a_day(rows, day, dmt):
    """Written down one by one, they last until the next one is due; the effect of a course lasts until something else is given."""
    registry = registry_of(treatments=rows)

    assert (
        value(derived(registry, day), "dmt") == dmt
        and not registry.dropped.get(("treatments", ""), NOTHING).n
    )
    assert derived(registry, {"event": "dmt_start"}).rows.n == 1


def test_follow_up_ends_where_another_treatment_may_have_begun():
    """Two drugs on one day in 2017: whatever it was, it was a switch."""
    both = [("Copaxone", "2017-01-01", None), ("Gilenya", "2017-01-01", None)]
    found = derived(
        registry_of(treatments=[LATER, *both]),
        {"event": "dmt_start"},
        follow_up={"treatment": "switch"},
    )

    assert (value(found, "follow_up_end"), value(found, "follow_up_days")) == (
        "treatment switched",
        366,
    )
    same = derived(
        registry_of(treatments=[LATER, ("Tysabri", "2017-01-01", "2016-05-05")]),
        {"event": "dmt_start"},
        follow_up={"treatment": "switch"},
    )
    assert value(same, "follow_up_end") == "last visit"


# -- relapses ------------------------------------------------------------------------------------------------------------------

RELAPSE = [{"kind": "relapse"}, {"kind": "definition", "definition": "cdw24", "version": 1}]


@pytest.mark.parametrize(
    ("day", "before", "after", "free"),
    [
        ("2015-06-01", 1, True, True),
        ("2015-02-30", None, False, False),
        ("soon", None, False, False),
        ("2015", None, True, False),
        ("2015-06", None, True, True),
        ("2014", 0, True, True),
        ("2013-06", 0, True, True),
        ("2017", 0, False, False),
        ("2016-09", 0, False, False),
        ("05/2015", None, True, True),
        ("2015-05-00", None, True, True),
        ("00.00.2015", None, True, False),
        (None, 0, True, True),
        ("2006-05-01", 0, True, True),
        ("2018-05-01", 0, True, True),
    ],
    ids=str,
)
def test_a_relapse_whose_day_is_not_known_is_in_its_interval(day, before, after, free):
    """Relapses of the year before, relapse-free after, worsening near it: known where the interval does not reach.
    A line without a day and without anything else is no relapse."""
    found = derived(registry_of(relapses=[(day,), ("2012-01-01",)]), outcomes=RELAPSE)
    flow = dict(found.flow)

    assert value(found, "relapses_12m") == before
    assert (value(found, "relapse_event") == "false") is after and (
        value(found, "relapse_count") is not None
    ) is after
    assert flow[f"relapse: not at risk: {OPEN}"] == int(not after) and flow["in the cohort"] == 1
    assert (value(found, "cdw24_event") == "false") is free and flow[
        f"cdw24: not at risk: {OPEN}"
    ] == int(not free)
    since = value(derived(registry_of(relapses=[(day,)])), "days_since_relapse")
    assert since == (214 if day == "2015-06-01" else None)


def test_onsets_of_one_relapse_are_no_relapse_that_was_dropped():
    """Two entries of one onset, and one three weeks later: one relapse, and nothing is open."""
    registry = registry_of(relapses=[("2015-06-01",), ("2015-06-01",), ("2015-06-22",)])
    assert value(derived(registry), "relapses_12m") == 1 and not registry.dropped


def test_an_event_before_the_gap_is_an_event():
    """A relapse in May is the first one, whatever the relapse of some day in autumn was; how many there were is not known."""
    found = derived(registry_of(relapses=[("2016-05-01",), ("2016-10",)]), outcomes=RELAPSE)

    assert (
        value(found, "relapse_event"),
        value(found, "relapse_days"),
        value(found, "relapse_count"),
    ) == ("true", 121, None)


# -- visits and images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "baseline", "worsening", "visits"),
    [
        (("2015-09-01", 3), 3, True, True),
        (("2015-09-01", None), 2, True, True),
        (("2015-09-01", "three"), None, False, True),
        (("2015-09-01", 2.25), None, False, True),
        (("2015-09-01", 0.5), None, False, True),
        (("2015-09-32", 3), None, False, False),
        (("2015", 3), None, False, False),
        (("2013-05-05", "three"), 2, True, True),
        (("2016-10-01", "three"), 2, False, True),
        (("2016", 6), 2, False, True),
        (("someday", None), None, False, False),
    ],
    ids=str,
)
def test_a_score_that_was_dropped_is_not_the_one_before_it(row, baseline, worsening, visits):
    """The last EDSS, and worsening after it, are known only where no score is hidden; an empty cell hides none."""
    found = derived(registry_of(visits=[*VISITS, row]), "2015-10-01", outcomes=RELAPSE)

    assert (
        value(found, "edss") == baseline and (value(found, "cdw24_event") == "false") is worsening
    )
    assert (value(found, "edss_mean") is None) is (baseline is None) and (
        value(found, "visits_in_window") is not None
    ) is visits
    assert dict(found.flow)[f"cdw24: not at risk: {OPEN}"] == int(not worsening)


def test_visits_of_one_day_that_disagree_hide_a_score():
    """Neither 2 nor 6 on that day, and nobody can say that there was no worsening."""
    found = derived(
        registry_of(visits=[*VISITS, ("2016-10-01", 2), ("2016-10-01", 6)]), outcomes=RELAPSE
    )
    assert value(found, "cdw24_event") is None

    first = registry_of(visits=[("2007-06-01", 2), ("2007-06-01", 6), *VISITS])
    assert dict(derived(first, {"event": "first_visit"}).flow)["earlier visits known"] == 0


NEDA = [{"kind": "neda3", "years": 1}]


@pytest.mark.parametrize(
    ("row", "label"),
    [
        (None, "neda"),
        (("2016-05-01", 0, 0), "neda"),
        (("2016-05-01", 2, 0), "not neda"),
        (("2016-05-01", None, 0), "neda"),
        (("2016-05-01", "many", 0), "not evaluable"),
        (("2016-02-30", 3, 0), "not evaluable"),
        (("2016", 3, 0), "not evaluable"),
        (("2015", 3, 0), "neda"),
    ],
    ids=str,
)
def test_an_image_that_was_dropped_may_have_shown_lesions(row, label):
    """No evidence of activity needs evidence; a relapse of some day in 2016 is the same."""
    images = [("2016-10-15", 0, 0), *([row] if row else [])]

    assert (
        value(
            derived(registry_of(mri=images, relapses=[("2009-01-01",)]), outcomes=NEDA), "neda3_1y"
        )
        == label
    )
    assert value(
        derived(registry_of(mri=images, relapses=[("2016",)]), outcomes=NEDA), "neda3_1y"
    ) in ("not evaluable", "not neda")


def test_images_that_disagree_hide_the_last_count():
    """1 and 4 new lesions on one day: the count of the year before is not the last one."""
    images = [("2015-01-01", 0, 0), ("2015-11-01", 1, 0), ("2015-11-01", 4, 0)]
    assert value(derived(registry_of(mri=images)), "new_t2_count") is None
    assert value(derived(registry_of(mri=images[:1])), "new_t2_count") == 0


# -- deaths --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patient", "open_"),
    [
        ({}, False),
        ({"death_date": "2018-01-01"}, False),
        ({"death_date": "2018-02-30"}, True),
        ({"death_date": "2018"}, True),
        ({"death_date": "dead"}, True),
        ({"exit_reason": "death"}, True),
        ({"death_date": "2017-03-01"}, True),
        ({"death_date": "1970-01-01"}, True),
        ({"death_date": "2031-01-01"}, True),
    ],
    ids=str,
)
def test_whoever_died_on_an_unknown_day_is_not_alive(patient, open_):
    """Unreadable, partly known, not given, before the last visit, before birth, in the future: not at risk of death, and counted;
    alive at time zero, as there are visits after it."""
    found = derived(registry_of(patient), outcomes=[{"kind": "death"}])

    assert found.rows.n == 1 and dict(found.flow)[f"death: not at risk: {OPEN}"] == int(open_)
    assert value(found, "death_event") == (None if open_ else "true" if patient else "false")


def test_nobody_is_taken_for_alive_after_the_last_sign_of_life():
    """Dead on an unknown day, last seen in July 2017: not known to be alive in 2018."""
    for patient, count in (
        ({}, 1),
        ({"death_date": "dead"}, 0),
        ({"death_date": "2018-12"}, 1),
        ({"death_date": "2017-12"}, 0),
    ):
        flow = dict(derived(registry_of(patient), "2018-04-01").flow)
        assert flow["alive at time zero"] == count


def test_an_end_of_the_study_before_the_last_visit_leaves_nothing_open():
    """Seen in 2017, so alive at the end of 2016, whenever death came."""
    found = derived(
        registry_of({"death_date": "dead"}),
        outcomes=[{"kind": "death"}],
        follow_up={"end_date": "2017-01-01"},
    )
    assert value(found, "death_event") == "false" and value(found, "death_days") == 366


# -- the mechanism -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "days"),
    [
        ("2015", ("2015-01-01", "2015-12-31")),
        ("2016-02", ("2016-02-01", "2016-02-29")),
        ("2/2015", ("2015-02-01", "2015-02-28")),
        ("12.2015", ("2015-12-01", "2015-12-31")),
        ("2015-05-00", ("2015-05-01", "2015-05-31")),
        ("00.05.2015", ("2015-05-01", "2015-05-31")),
        ("2015-00-00", ("2015-01-01", "2015-12-31")),
        (2015, ("2015-01-01", "2015-12-31")),
        ("2015-13", None),
        ("2015-02-30", None),
        ("15", None),
    ],
)
def test_a_part_of_a_date_is_an_interval(cell, days):
    """From the first to the last day that it may be."""
    expected = days and tuple(float(np.datetime64(day, "D").astype(int)) for day in days)

    assert span(cell) == expected and (
        days is None or date(cell, Form(dates="d/m/y")) == (None, PART)
    )


def test_halves_of_a_registry_know_what_the_whole_knows():
    """Traces go with their patients: rows of the whole are those of its halves, whatever was dropped."""
    (registry,) = synthetic.registries(3, sites=1, sizes=[120]).values()
    tables = {name: pd.DataFrame(columns) for name, columns in registry.tables.items()}
    random = np.random.default_rng(5)
    for name, column in (
        ("relapses", "relapse_onset_date"),
        ("treatments", "end_date"),
        ("visits", "edss"),
        ("visits", "visit_date"),
    ):
        frame = tables[name].astype({column: object})
        frame.loc[random.random(len(frame)) < 0.05, column] = "x"
        tables[name] = frame
    raw = load(tables)[0]
    tree = cohort.compile(
        {
            "index": {"event": "dmt_start"},
            "covariates": ["edss", "dmt", "relapses_12m"],
            "outcomes": RELAPSE,
        }
    )
    half = random.random(len(raw.ids)) < 0.5
    whole, *parts = (
        tree.derive(clean(one, data_cut="2024-12-31")[0])
        for one in (raw, raw.only(half), raw.only(~half))
    )

    assert [count for _, count in whole.flow] == [
        a + b for (_, a), (_, b) in zip(parts[0].flow, parts[1].flow)
    ]
    assert dict(whole.flow)[f"cdw24: not at risk: {OPEN}"] > 0
    assert dict(whole.flow)["earlier treatments known"] < dict(whole.flow)["with the index event"]


def test_pairs_find_every_trace_of_a_patient():
    """Against a loop."""
    random = np.random.default_rng(1)
    traces = Dropped.of(
        random.integers(0, 8, 20), random.integers(0, 50, 20), random.integers(50, 99, 20)
    )
    patient, start = random.integers(0, 8, 30), random.integers(0, 99, 30)
    by_hand = [
        any(
            p == q and a <= s + 9 and b >= s
            for q, a, b in zip(traces.patient, traces.first, traces.last)
        )
        for p, s in zip(patient, start)
    ]

    assert traces.begun(patient, start, start + 9).tolist() == by_hand


def test_the_text_says_what_became_of_them():
    """A methods section that does not promise more than was done."""
    text = cohort.compile({"index": {"event": "dmt_start"}, "covariates": ["age"]}).describe()
    assert (
        "those whose earlier treatments are not known" in text
        and "count as not known, never as absent" in text
    )
