"""The number of trees where nobody names one: risks of patients not seen are spread as they should be, a model of nothing is refused."""

import json

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.boosting import _call, choice
from fedstats.analyses.boosting.objectives import COX, HAZARD, LOGISTIC
from fedstats.analyses.boosting.params import BoostParams
from fedstats.analyses.shared import scores
from fedstats.errors import QuestionError, Refused
from fedstats.query.analysis import Failed

from .risk_data import COVARIATES, DICTIONARY, people, registries

BOOK = Dictionary.from_dict(DICTIONARY)
SIZES = (500, 300, 400)
QUICK = {"max_depth": 2, "learning_rate": 0.15, "bins": 8}     # fewer rounds: what is tested does not depend on it


def cohort(tables, rules=None, world=fedstats.pooled):
    return world(tables, dictionary=BOOK, rules=rules or Rules()).cohort()


@pytest.fixture(scope="module")
def both():
    """A model and its validation, asked together without a number of trees."""
    one = cohort(registries(SIZES, seed=4))
    return one._federation.ask(one.question.boost("worse", COVARIATES, **QUICK), one.question.validation("worse", COVARIATES, **QUICK))


def test_the_slope_is_near_one_for_patients_not_seen_and_for_others(both):
    """Of the cross-validation, and of patients of another draw: the published sample error of a slope there is about 0.12."""
    model, made = both
    other = people(20_000, 999)
    margin, y = model.margins({name: other[name] for name in COVARIATES}), other["worse"]
    cells = [np.bincount(scores.bin_of_margin(margin[y == k]), minlength=scores.BINS) for k in (False, True)]

    assert 0.9 < made.overall.slope < 1.1 and made.overall.auc > 0.65
    assert 0.7 < scores.recalibrate(*cells, 0.95)[1].value < 1.3


def test_model_and_validation_say_the_same_number_of_trees(both):
    """What a card compares: trees, learning rate, and the method in words."""
    model, made = both

    assert model.parameters["rounds"] == made.parameters["rounds"] == len(model.trees) > 1
    assert model.parameters["learning_rate"] == made.parameters["learning_rate"]
    assert "chosen by 5-fold cross-validation" in model.methods and "chosen by 5-fold cross-validation" in made.methods


def test_a_chosen_model_is_the_one_with_so_many_trees(both):
    """The choice decides the number of trees and nothing else: the same trees, bit for bit, with that number named."""
    model, _ = both
    named = cohort(registries(SIZES, seed=4)).boost("worse", COVARIATES, rounds=len(model.trees), **QUICK)

    assert named.trees == model.trees and named.base_score == model.base_score


@pytest.mark.slow
def test_the_seal_changes_nothing(both):
    sealed = cohort(registries(SIZES, seed=4), world=fedstats.simulate).boost("worse", COVARIATES, **QUICK)

    assert sealed.trees == both[0].trees


def noise():
    """Registries whose outcome has nothing to do with the covariates."""
    found = registries(SIZES, seed=5)
    for k, one in enumerate(found.values()):
        one["worse"] = np.random.default_rng(k).random(len(one["worse"])) < 0.3
    return found


def test_a_model_that_knows_nothing_is_refused_unless_asked_for():
    """Also beside its validation, which says so with its numbers."""
    one = cohort(noise())
    with pytest.raises(Refused, match=r"tell nothing|knows nothing") as caught:
        one.boost("worse", COVARIATES, **QUICK)
    model, made = one._federation.ask(one.question.boost("worse", COVARIATES, release_anyway=True, **QUICK),
                                      one.question.validation("worse", COVARIATES, release_anyway=True, **QUICK))

    assert "release_anyway" in caught.value.hint
    assert (len(model.trees) >= 1 and made.overall.auc_low < 0.5) or made.overall.slope_low < 0


def test_numbers_and_hazards_are_chosen_too():
    """A mean squared error has no slope: its smallest held-out value decides. A hazard is judged by its intervals."""
    one = cohort(registries(SIZES, seed=4), rules=fedstats.disclosure.NO_RULES)
    number = one.boost("relapses", ["age", "edss", "worse"], objective="reg:squarederror", release_anyway=True, **QUICK)
    hazard = one.boost("event", COVARIATES, objective=HAZARD, time="days", intervals=[360, 720], **QUICK)

    assert 1 <= len(number.trees) < choice.MOST_TREES and 1 <= len(hazard.trees) < choice.MOST_TREES


@pytest.mark.parametrize(("given", "rounds", "depth", "rate"), [
    ({}, None, 3, 0.05), ({"rounds": 100}, 100, 4, 0.1), ({"rounds": 7, "max_depth": 2}, 7, 2, 0.1), ({"max_depth": 2}, None, 2, 0.05),
    ({"objective": COX, "time": "days"}, 100, 4, 0.1), ({"splits": "random"}, 100, 4, 0.1),
    ({"early_stopping": 5, "validation": 0.2}, 100, 4, 0.1)], ids=str)
def test_what_is_named_stays(given, rounds, depth, rate):
    """Named rounds keep the defaults they had; a number is chosen only where that is possible and nobody asked for another way."""
    params = _call("worse", ["age"], **given)

    assert (params.rounds, params.max_depth, params.learning_rate) == (rounds, depth, rate)


def test_a_question_of_before_still_means_a_hundred_trees():
    assert BoostParams("worse", ("age",)).rounds == 100


def test_a_partial_likelihood_has_no_loss_to_choose_by():
    with pytest.raises(QuestionError, match="cannot be chosen"):
        BoostParams("event", ("age",), COX, "days", rounds=None).check(BOOK)


def test_few_patients_get_fewer_and_longer_steps():
    """One leaf for every five patients; together the steps reach as far."""
    assert choice.most_trees(Rules(), 3, 4000) == 100 and choice.step(0.05, 100) == 0.05
    assert choice.most_trees(Rules(), 3, 800) == 20 and choice.step(0.05, 20) == 0.25
    assert choice.step(0.05, 1) == choice.LARGEST_STEP


def test_too_few_patients_for_folds_are_told_to_name_a_number():
    with pytest.raises(Refused, match="a fold would hold fewer than 50 patients") as caught:
        cohort(registries((60, 60, 60), seed=1)).boost("worse", COVARIATES)

    assert "rounds=" in caught.value.hint


@pytest.mark.parametrize("seed", range(3))
def test_the_steady_slope_is_that_of_a_logistic_regression(seed):
    """Newton in steady arithmetic against the one in numpy; None where nothing is told apart."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1, 1, 3000)
    y = rng.random(3000) < scores.risk_of(0.3 + (0.5 + 0.4 * seed) * x)
    cells = [np.bincount(scores.bin_of_margin(x[y == k]), minlength=scores.BINS) for k in (False, True)]

    assert choice.slope_of(*(one.tolist() for one in cells)) == pytest.approx(scores.recalibrate(*cells, 0.95)[1].value, rel=1e-7)
    assert choice.slope_of([0] * 10 + [50] + [0] * 501, [0] * 10 + [20] + [0] * 501) is None
    assert choice.slope_of([0] * 300 + [50] + [0] * 211, [0] * 400 + [50] + [0] * 111) is None      # told apart without error


def test_a_question_says_that_nobody_named_a_number():
    """In the signed question a number to be chosen stands as null, so that no registry takes it for another."""
    question = cohort(registries(SIZES, seed=4)).question.boost("worse", COVARIATES)

    assert json.loads(json.dumps(question.question.params))["rounds"] is None
    assert not isinstance(question, Failed) and question.question.params["objective"] == LOGISTIC


def test_explain_tells_the_most_that_may_be_asked():
    """No real run takes more rounds; a number that is named is told as it is."""
    one = cohort(registries(SIZES, seed=4), world=fedstats.simulate)
    told = one._federation.explain(one.question.boost("worse", COVARIATES, **QUICK))
    named = one._federation.explain(one.question.boost("worse", COVARIATES, rounds=10, **QUICK))
    model = one.boost("worse", COVARIATES, **QUICK)
    taken = one._federation._world.network.rounds

    looks = choice.MOST_TREES // choice.EVERY + 2
    per_tree = QUICK["max_depth"]
    assert told.at_most and f"rounds: up to {told.rounds};" in str(told)
    assert told.rounds >= 2 * per_tree * choice.MOST_TREES + looks and len(model.trees) > 1
    assert taken <= told.rounds and taken > named.rounds
    assert not named.at_most and f"rounds: {named.rounds};" in str(named)


def test_hazards_choose_their_number_of_trees_too():
    """A patient counts once for every interval in the cells of the slope: more than one in a cell is within its bound."""
    one = cohort(registries(SIZES, seed=4))
    model = one.boost("event", COVARIATES, objective=HAZARD, time="days", **QUICK)

    assert len(model.trees) > 1 and "chosen by" in model.methods
