"""histogram against pandas, and what its merged bins give away."""

import numpy as np
import pytest

import fedstats
from fedstats.errors import QuestionError

from . import helpers


def test_counts_equal_pandas():
    """Without release rules, every age has as many patients as in the pooled table, and the densities add up to 1."""
    result = helpers.pooled_lung().cohort().histogram("age")
    seen = helpers.lung()["age"].value_counts()

    assert [one.count for one in result.bins] == [seen.get(age, 0) for age in range(18, 101)]
    assert sum(one.density * (one.stop - one.start) for one in result.bins) == pytest.approx(1, rel=1e-12)
    assert result.registered == 83 and result.n == 212


def test_groups_share_the_registered_cut_points():
    """By sex and ten-year classes of age: the counts of the two-way table of the pooled rows."""
    cuts = {"from": 20, "to": 100, "step": 10}
    result = helpers.pooled_lung(age={"cut_points": cuts}).cohort().histogram("age", by="sex")
    frame = helpers.lung()

    for one in result.bins:
        inside = frame["age"].between(one.start, one.stop, inclusive="both" if one.stop == 100 else "left")
        assert one.count == (inside & (frame["sex"] == int(one.group))).sum()
    assert [one.bin for one in result.bins[:2]] == ["[18, 20)", "[20, 30)"]


def test_no_released_bin_is_small():
    """Under the release rules each shown bin of each group has at least 10 patients, and nobody is lost by merging."""
    for by in (None, "sex", "ph.ecog"):
        result = helpers.ruled_lung().histogram("age", by=by)

        assert result.bins and min(one.count for one in result.bins) >= 10
        for group in result.groups:
            assert group.n is None or sum(one.count for one in result.bins if one.group == group.group) == group.n


def test_hidden_groups_cannot_be_had_from_everybody_minus_the_shown():
    """Patients of suppressed groups: none, or at least 10, in every bin that the shown groups have."""
    result = helpers.ruled_lung().histogram("age", by="ph.ecog")
    frame, hidden = helpers.lung(), [int(one.group) for one in result.groups if one.n is None]

    assert hidden == [2, 3]
    for one in result.bins:
        if one.group == "0":
            rest = (frame["ph.ecog"].isin(hidden) & (frame["age"] >= one.start) & (frame["age"] < one.stop)).sum()
            assert rest >= 10


def test_moving_a_patient_inside_a_merged_bin_changes_nothing():
    """Ages 45 to 50 are one bin: whether somebody is 45 or 50 is not in the result."""
    before = helpers.ruled_lung().histogram("age")
    assert "45 to 50" in [one.bin for one in before.bins]

    after = helpers.ruled_lung(helpers.edited({"age": 45}, {"age": 50})).histogram("age")

    assert after.to_dict() == before.to_dict()


def test_rare_booleans_give_no_picture():
    """Three patients with an event among many: the two levels are one bin."""
    frame = helpers.lung()
    frame["event"] = np.arange(len(frame)) % 80 == 0
    tables = helpers.split(frame, frame["inst"].to_numpy().astype(int) % 4)
    result = fedstats.pooled(tables, dictionary=helpers.lung_dictionary(), rules=fedstats.Rules()).cohort().histogram("event")

    assert [one.count for one in result.bins] == [212]


def test_categories_have_no_histogram():
    """Levels without an order are not merged: crosstab counts them."""
    with pytest.raises(QuestionError, match="no order"):
        helpers.pooled_lung().cohort().histogram("sex")
    with pytest.raises(QuestionError, match="without cut points"):
        helpers.pooled_lung().cohort().histogram("years")


def test_result_can_be_stored_and_drawn():
    """A result read back from its plain form is the same; a picture has one curve per group."""
    result = helpers.ruled_lung().histogram("age", by="sex")

    assert type(result).from_dict(result.to_dict()) == result
    assert [curve.label for curve in result.picture().curves] == ["1", "2"]
    assert len(result.tables()[0].rows) == len(result.bins)
