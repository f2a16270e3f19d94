"""Named study definitions: the numbers they give, the sentences they write."""

import pytest

from fedstats.errors import InputError
from fedstats.ms.outcomes.definitions import definition, describe, names
from fedstats.ms.outcomes.progression import worsening

from .progression_data import one, tables


def test_the_names_are_those_of_the_issue():
    """Six definitions ship."""
    assert names() == ["cdw12", "cdw24", "cdw48", "pira24", "raw12", "cdi24"]


@pytest.mark.parametrize(("name", "events"), [("cdw12", 15), ("cdw24", 21), ("cdw48", 23)])
def test_a_stated_tolerance_gives_confirmation_its_meaning(name, events):
    """With 84 days of tolerance 12, 24 and 48 weeks find 15, 21 and 23 first worsenings among 40 patients."""
    found = definition(name).find(*tables("sample"))

    assert found.flow["events"] == events


@pytest.mark.parametrize("weeks", [12, 24, 48])
def test_the_default_window_makes_no_difference_between_12_and_48_weeks(weeks):
    """With 730 days of tolerance, all three find the same 28."""
    assert worsening(*tables("sample"), conf_days=7 * weeks).flow["events"] == 28


@pytest.mark.parametrize("name", names())
def test_confirmation_lies_in_the_stated_window(name):
    """No event is confirmed earlier than 7 days before its week or later than 84 days after it."""
    one_definition = definition(name)
    days = one_definition.settings["conf_days"]
    rows = one_definition.find(*tables("sample")).frame()
    lag = (rows[f"conf{days}_date"] - rows["date"]).dt.days.dropna()

    assert len(lag) and lag.between(days - 7, days + 84).all()


def test_pira24_finds_only_worsening_far_from_relapses():
    """No relapse from 90 days before to 30 days after the event and its confirmation."""
    visits, relapses = tables("sample")
    rows = definition("pira24").find(visits, relapses).frame()
    onsets = relapses.assign(onset=relapses["relapse_onset_date"].astype("datetime64[ns]"))
    joined = rows[rows["nevent"] > 0].merge(onsets, on="patient_id")
    for visit in ("date", "pira_conf168_date"):
        assert not (joined["onset"] - joined[visit]).dt.days.between(-90, 30).any()

    assert set(rows["cdw_type"]) == {"PIRA", ""}


def test_a_definition_writes_its_own_methods_sentence():
    """Change, reference, confirmation window, relapses, sources."""
    text = definition("pira24").describe()

    for part in ("1.5 points (from a reference of 0 on), 1 point (from 0.5 on), 0.5 points (from 5.5 on)",
                 "roving reference", "24 weeks later (a visit from day 161 to day 252 after the event)",
                 "at least 30 days after the onset of a relapse", "from 90 days before to 30 days after the event",
                 "EDSS 10 and death were competing events", "JAMA Neurol 2023;80:1232", "version 1"):
        assert part in text


@pytest.mark.parametrize("name", names())
def test_every_definition_cites_its_sources(name):
    """A title, a version and at least one source."""
    found = definition(name)

    assert found.title and found.version >= 1 and found.citations


def test_a_sentence_follows_the_settings():
    """What is asked is what is written: several periods, persistence, imputation, other outcomes."""
    text = describe(outcome="sdmt", conf_days=(84, 168), conf_tol_days=(0, float("inf")), require_sust_days=float("inf"),
                    check_intermediate=False, impute_last_visit=180)

    assert "decrease of SDMT of at least 20 % of the reference, 4 points at most" in text
    assert "12 weeks later (a visit from day 84 to the end of follow-up after the event) or 24 weeks later" in text
    assert "until the end of follow-up" in text and "within 180 days of time zero" in text and "in between" not in text


def test_the_result_describes_itself_like_its_definition():
    """The sentence of a result is the sentence of the definition that made it."""
    found = definition("cdw24").find(*one([0, 100, 300], [2, 3, 3]))

    assert definition("cdw24").describe().startswith(found.describe())


def test_a_definition_cannot_be_bent():
    """cdw24 with another confirmation is not cdw24."""
    with pytest.raises(InputError, match="cdw24 says what conf_days is"):
        definition("cdw24").find(*one([0, 100], [2, 3]), conf_days=84)
    with pytest.raises(InputError, match='no definition "cdp24"'):
        definition("cdp24")
