"""Labels at a fixed time: worsening within two years, and no evidence of disease activity, by hand."""

import numpy as np
import pytest

from fedstats.errors import QuestionError
from fedstats.ms import cohort

from .test_ms_cohort import CDW24, KEPT, one, row_of, tree_of

WITHIN = {"kind": "within", "outcome": "cdw24", "years": 2}
NEDA = {"kind": "neda3", "years": 2}
STABLE = [("2009-12-01", 2), ("2010-07-01", 2), ("2011-01-01", 2), ("2011-07-01", 2), ("2012-02-01", 2), ("2012-08-01", 2)]
WORSE = [*STABLE[:2], ("2011-01-01", 3), ("2011-07-01", 3), ("2012-02-01", 3), ("2012-08-01", 3)]
LATE = [*STABLE[:4], ("2012-02-01", 3), ("2012-08-01", 3)]
CLEAR = ("2011-11-01", "brain", 12, 0, 0)
RELAPSE_LONG_AGO = "2005-01-01"        # so that the registry keeps the table


def label(name, outcomes, **history):
    tree = tree_of(outcomes=[CDW24, *outcomes], follow_up=history.pop("follow_up", {}))
    return row_of(tree, one(history.pop("patient", None), **history))[name]


@pytest.mark.parametrize(("expected", "history"), [
    ("true", {"visits": WORSE}), ("false", {"visits": STABLE}), ("false", {"visits": LATE}),
    (None, {"visits": STABLE[:4]}),             # lost before two years
    (None, {"visits": STABLE[:5]}),             # seen at two years, not until an event could have been confirmed
    ("false", {"visits": STABLE[:3], "patient": {"death_date": "2011-03-01"}}),
    (None, {"visits": STABLE, "follow_up": {"max_days": 365}}),
    ("false", {"visits": STABLE, "follow_up": {"max_days": 730}}),
    (None, {"visits": STABLE, "follow_up": {"max_days": 730, "confirmation": "within"}}),
    (None, {"visits": STABLE[:1]}),             # not at risk
])
def test_worsening_within_two_years_is_known_or_missing(expected, history):
    """EDSS 2 throughout, or 3 from 2011 or 2012 on, from 1 January 2010."""
    assert label("cdw24_within_2y", [WITHIN], **history) == expected


@pytest.mark.parametrize(("expected", "history"), [
    ("neda", {"visits": STABLE, "mri": [CLEAR]}),
    ("not neda", {"visits": WORSE, "mri": [CLEAR]}),
    ("not neda", {"visits": STABLE, "mri": [CLEAR], "relapses": ["2011-05-01"]}),
    ("not neda", {"visits": STABLE, "mri": [("2010-06-01", "brain", 12, 1, 0), CLEAR]}),
    ("not neda", {"visits": STABLE, "mri": [("2010-06-01", "brain", 12, None, 2), CLEAR]}),
    # evidence of one domain is enough, whatever else is missing
    ("not neda", {"visits": STABLE[:2], "relapses": ["2010-03-01"]}),
    ("not neda", {"visits": STABLE[:1], "mri": [("2010-06-01", "brain", 12, 3, None)], "relapses": [RELAPSE_LONG_AGO]}),
    # nothing seen is not nothing there
    ("not evaluable", {"visits": STABLE}),
    ("not evaluable", {"visits": STABLE, "mri": [("2010-06-01", "brain", 12, 0, 0)]}),          # the last image is old
    ("not evaluable", {"visits": STABLE, "mri": [("2011-11-01", "brain", 12, None, 0)]}),
    ("not evaluable", {"visits": STABLE, "mri": [("2011-11-01", "spine", 12, 0, 0)]}),
    ("not evaluable", {"visits": STABLE[:5], "mri": [CLEAR]}),                                  # a late worsening could be missed
    ("not evaluable", {"visits": STABLE[:3], "mri": [CLEAR], "patient": {"death_date": "2011-03-01"}}),
    # what came before time zero or after the two years is no activity
    ("neda", {"visits": STABLE, "mri": [("2009-12-01", "brain", 12, 5, 5), CLEAR, ("2012-03-01", "brain", 12, 5, 5)],
              "relapses": ["2010-01-01", "2012-01-02"]}),
])
def test_no_evidence_of_disease_activity(expected, history):
    """Relapses, worsening and images of two years from 1 January 2010."""
    tables = {"relapses": [RELAPSE_LONG_AGO], **history}

    assert label("neda3_2y", [NEDA], **tables) == expected


def test_images_before_the_new_reference_are_no_activity():
    """Lesions on day 59 after a start of treatment; a new reference from day 90 on."""
    tables = {"visits": STABLE, "relapses": [RELAPSE_LONG_AGO], "mri": [("2010-03-01", "brain", 12, 4, 2), CLEAR]}

    assert label("neda3_2y", [NEDA], **tables) == "not neda"
    assert label("neda3_2y", [{**NEDA, "rebaseline_days": 90}], **tables) == "neda"


def test_a_registry_without_images_or_relapses_says_so():
    """Not evaluable, never free of activity."""
    recipe = cohort.compile(tree_of(outcomes=[NEDA]))
    registry = one(visits=STABLE, relapses=[RELAPSE_LONG_AGO], mri=[CLEAR])
    for kept, expected in ((KEPT, "neda"), (("visits", "relapses"), "not evaluable"), (("visits", "mri"), "not evaluable")):
        rows = recipe.derive(registry, recorded=kept).rows

        assert rows.dictionary["neda3_2y"].labels[int(rows.values("neda3_2y")[0])] == expected


def test_the_flow_of_a_label_adds_up_and_the_cohort_says_what_it_is():
    """Yes, no, not known; a sentence for each."""
    recipe = cohort.compile(tree_of(outcomes=[CDW24, WITHIN, NEDA]))
    flow = dict(recipe.derive(one(visits=STABLE), recorded=KEPT).flow)

    assert [flow[f"cdw24_within_2y: {one}"] for one in ("no", "yes", "not known")] == [1, 0, 0]
    assert [flow[f"neda3_2y: {one}"] for one in ("not neda", "neda", "not evaluable")] == [0, 0, 1]
    assert "730 days" in recipe.describe() and "NEDA-3" in recipe.explain_columns()["neda3_2y"]


@pytest.mark.parametrize(("outcomes", "says"), [
    ([WITHIN], "is not about an outcome of this cohort"), ([CDW24, {**WITHIN, "years": 1.9}], "half years"),
    ([CDW24, WITHIN, {**WITHIN, "outcome": "cdw24_within_2y"}], "is not about an outcome"), ([{**NEDA, "years": 3}], "years"),
    ([{**NEDA, "rebaseline_days": 91}], "rebaseline_days")])
def test_labels_that_mean_nothing_are_refused(outcomes, says):
    """By field, with a remedy."""
    with pytest.raises(QuestionError) as caught:
        cohort.compile(tree_of(outcomes=outcomes))

    assert says in f"{caught.value} {caught.value.hint}" and np.isfinite(len(caught.value.hint))
