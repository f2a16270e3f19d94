"""MSSS and ARMSS from summed counts: the ranks of all patients together, and what the table may not give away."""

import itertools

import msgspec
import numpy as np
import pytest

from fedstats.analyses.severity import LEVELS, Severity
from fedstats.client.worlds import Pooled
from fedstats.data.dictionary import Dictionary
from fedstats.data.rows import Rows
from fedstats.data.variable import Variable
from fedstats.disclosure import NO_RULES, Rules
from fedstats.errors import QuestionError
from fedstats.query.analysis import question_of
from fedstats.query.population import Codebook, Household, Whole

BOOK = Dictionary("severity", (Variable("edss", "number", range=(0, 10), step=0.5), Variable("age", "integer", range=(0, 110)),
                               Variable("disease_duration", "number", range=(0, 90), step=0.1, unit="years")))
RULES = Rules()
EVERYBODY = {"all": []}


def patients(n, seed=0):
    """EDSS that grows with duration, ages, durations; some of each unknown."""
    random = np.random.default_rng(seed)
    duration = np.round(random.gamma(2, 7, n).clip(0, 60), 1)
    level = np.clip(random.normal(3 + duration / 4, 4, n).round(), 0, 18).astype(int)
    edss, age = np.array([*LEVELS, 10.0])[np.where(random.random(n) < 0.01, 19, level)], np.floor(25 + duration + random.exponential(8, n))
    edss[random.random(n) < 0.03] = np.nan
    return edss, np.clip(age, 0, 110), duration


def rows_of(edss, age, duration):
    steps = {"edss": np.where(np.isnan(edss), -1, np.nan_to_num(edss) * 2).astype(np.int64), "age": age.astype(np.int64),
             "disease_duration": np.rint(duration * 10).astype(np.int64)}
    return Rows(BOOK, len(edss), steps)


def asked(score, tables, rules=NO_RULES, **more):
    world = Pooled(Codebook(BOOK), {name: Household(rows_of(*one)) for name, one in tables.items()}, {}, rules)
    (found,) = world.run([question_of("severity", score, **more)], Whole(BOOK), EVERYBODY)
    assert isinstance(found, Severity), found
    return found


def split(edss, age, duration, parts=3):
    who = np.arange(len(edss)) % parts
    return {"abc"[k]: (edss[who == k], age[who == k], duration[who == k]) for k in range(parts)}


def ranked(score, edss, age, duration):
    """Brute force: of each patient the mean rank among all patients of the years around, times 10 / (n + 1)."""
    time = np.minimum(np.floor(duration) + 1, 30) if score == "msss" else age
    known = ~np.isnan(edss) & (edss < 10)
    found = np.full(len(edss), np.nan)
    for k in np.flatnonzero(known & (time >= (1 if score == "msss" else 18)) & (time <= (30 if score == "msss" else 75))):
        near = edss[known & (np.abs(time - time[k]) <= 2)]
        found[k] = 10 * ((near < edss[k]).sum() + ((near == edss[k]).sum() + 1) / 2) / (len(near) + 1)
    return found


@pytest.mark.parametrize("score", ["msss", "armss"])
def test_scores_are_the_ranks_of_all_patients_together(score):
    """Three registries, each patient ranked among all patients of the same years and two more on both sides."""
    people = patients(3000)
    found = asked(score, split(*people))
    edss, age, duration = people

    np.testing.assert_allclose(found.apply(edss, duration if score == "msss" else age), ranked(score, *people), rtol=1e-12)
    assert not any("bands" in note for note in found.notes) and len({one.first_year for one in found.cells}) >= 30


def test_a_score_grows_with_edss_and_lies_between_0_and_10():
    """Within every year; the average score of the patients is 5."""
    people = patients(3000, seed=1)
    found = asked("msss", {"a": people})
    for year in range(1, 31):
        scores = [one.score for one in found.cells if one.first_year == year]

        assert scores == sorted(scores) and scores[0] > 0 and scores[-1] < 10
    assert np.nanmean(found.apply(people[0], people[2])) == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("score", ["msss", "armss"])
def test_under_the_rules_bands_do_not_overlap_and_their_cells_are_not_small(score):
    """Each cell of each band holds at least 10 patients from three registries; what is ranked is the band alone."""
    people = patients(4000, seed=2)
    found = asked(score, split(*people), RULES)
    edss, age, duration = people
    time = np.minimum(np.floor(duration) + 1, 30) if score == "msss" else age
    bands = sorted({(one.first_year, one.last_year) for one in found.cells})

    assert bands and all(a[1] < b[0] for a, b in itertools.pairwise(bands)) and any("bands of 5" in note for note in found.notes)
    for one in found.cells:
        inside = (time >= one.first_year) & (time <= one.last_year)
        here = inside & (edss >= one.low) & (edss <= one.high)
        n = (inside & (edss < 10)).sum()
        mean_rank = (inside & (edss < one.low)).sum() + (here.sum() + 1) / 2

        assert here.sum() >= 10
        assert one.score == pytest.approx(10 * mean_rank / (n + 1), abs=5e-5)


def test_one_patient_more_in_a_small_registry_is_not_seen_in_the_cells():
    """Two registries only have patients in a band: it is not shown."""
    few = {name: (edss, age, np.where(duration > 10, duration, 10.5) if name == "c" else duration)
           for name, (edss, age, duration) in split(*patients(3000, seed=3)).items()}
    found = asked("msss", few, RULES)

    assert not any(one.last_year <= 10 for one in found.cells) and any("too few" in note for note in found.notes)


def test_who_is_in_no_band_is_nobody_or_enough():
    """Three patients over 90 beside 2000 others: a band is taken away so that they do not follow from the number of all."""
    edss, age, duration = patients(2000, seed=6)
    edss, age = np.where(np.isnan(edss) | (edss == 10), 3.0, edss), np.clip(age, 18, 75)
    alone = asked("armss", split(edss, age, duration), RULES)
    age[:3] = 95
    found = asked("armss", split(edss, age, duration), RULES)
    inside = sum(((age >= a) & (age <= b)).sum() for a, b in {(one.first_year, one.last_year) for one in found.cells})

    assert len(edss) - inside >= 10
    assert len({one.first_year for one in found.cells}) < len({one.first_year for one in alone.cells})


def test_columns_may_have_other_names():
    """A question about another column than the usual one; patients out of the table have no score."""
    other = asked("armss", {"a": patients(500)}, time="disease_duration")

    assert other.cells and np.isnan(other.apply([10.0, 0.5, np.nan, 2.0], [30, 30, 30, 90])).all()


def test_what_is_no_edss_is_no_question():
    """By column, with a remedy."""
    book = msgspec.structs.replace(BOOK, variables=(*BOOK.variables, Variable("sex", "category", levels=("F", "M"))))
    for column, says in (("age", "is no EDSS"), ("sex", "is not a number")):
        with pytest.raises(QuestionError, match=says) as caught:
            question_of("severity", "msss", edss=column).read().check(book)
        assert caught.value.hint


def test_the_result_survives_json():
    """And the table still applies to patients."""
    edss, age, duration = patients(500)
    found = asked("msss", {"a": (edss, age, duration)})
    again = Severity.from_dict(found.to_dict())

    np.testing.assert_array_equal(again.apply(edss, duration), found.apply(edss, duration))
    assert found.frame().shape == (len(found.cells), 1)


@pytest.mark.parametrize("score", ["msss", "armss"])
def test_how_far_merged_scores_are_from_those_of_one_edss_is_said(score):
    """The rank of every patient in the band, by brute force, is within the bound of the released score; and not far within."""
    edss, age, duration = patients(4000, seed=3)
    found = asked(score, split(edss, age, duration), RULES)
    (note,) = [one for one in found.notes if "by at most" in one]
    bound, worst = float(note.split("by at most ")[1]), 0.0
    time = np.minimum(np.floor(duration) + 1, 30) if score == "msss" else age
    given = found.apply(edss, duration if score == "msss" else age)
    for first, last in {(one.first_year, one.last_year) for one in found.cells}:
        band = edss[(time >= first) & (time <= last) & ~np.isnan(edss) & (edss < 10)]
        for value in np.unique(band):
            alone = 10 * ((band < value).sum() + ((band == value).sum() + 1) / 2) / (len(band) + 1)
            here = given[(time >= first) & (time <= last) & (edss == value)][0]
            worst = max(worst, abs(alone - here))

    assert 0 < worst <= bound + 1e-4 and worst > bound / 4      # scores have 4 decimals
