"""Together, alone, bagged, or without one registry: what each way of training is worth on the same held-out patients."""

import numpy as np
import pytest

import fedstats
from fedstats import Dictionary
from fedstats.errors import QuestionError
from fedstats.risk.comparison import ABROAD, BAGGED, JOINT, LEFT_OUT, LOCAL, compare_ways

from .risk_data import COVARIATES, DICTIONARY, SMALL, registries

BOOK = Dictionary.from_dict(DICTIONARY)


@pytest.fixture(scope="module")
def fed():
    return fedstats.pooled(registries((300, 60, 200), seed=4), dictionary=BOOK)


@pytest.fixture(scope="module")
def ways(fed):
    return {one.how: one for one in compare_ways(fed.cohort(), "worse", COVARIATES, folds=2, seed=1, **SMALL)}


def test_the_joint_way_is_the_validations_number(fed, ways):
    """The same folds and models: the AUC that `validation` gives."""
    found = fed.cohort().validation("worse", COVARIATES, folds=2, seed=1, **SMALL).overall

    assert (ways[JOINT].auc, ways[JOINT].brier) == pytest.approx((found.auc, found.brier), abs=1e-6)


def test_every_way_is_judged_on_every_registry(ways):
    assert list(ways) == [JOINT, LOCAL, ABROAD, BAGGED, LEFT_OUT]
    assert all(set(one.registries) == {"r0", "r1", "r2"} and 0.4 < one.auc < 0.95 for one in ways.values())


def test_together_is_better_than_alone(ways):
    """Small registries learn too little by themselves."""
    assert ways[JOINT].auc > ways[LOCAL].auc and ways[JOINT].brier < ways[LOCAL].brier


def test_a_local_model_is_worse_for_everybody_than_all_together(ways):
    """Over everybody, and within each registry, on average over the local models."""
    assert ways[ABROAD].auc < ways[JOINT].auc and ways[ABROAD].brier > ways[JOINT].brier
    assert np.mean(list(ways[ABROAD].registries.values())) < np.mean(list(ways[JOINT].registries.values()))


def test_one_registry_alone_has_nothing_to_compare():
    fed = fedstats.pooled(registries((200,), seed=4), dictionary=BOOK)
    with pytest.raises(QuestionError, match="at least two registries"):
        compare_ways(fed.cohort(), "worse", COVARIATES, **SMALL)


def test_over_a_network_there_is_no_such_comparison(fed):
    """A world that holds no rows: local models and fits without a registry are not made."""
    class Network:
        codebook, rules, registries = fed.codebook, fed.rules, fed.registries

    with pytest.raises(QuestionError, match="pooled and simulate only"):
        compare_ways(fedstats.client.federation.Federation(Network()).cohort(), "worse", COVARIATES)


def test_the_ways_do_not_depend_on_how_rows_lie(fed, ways):
    again = {one.how: one for one in compare_ways(fed.cohort(), "worse", COVARIATES, folds=2, seed=1, **SMALL)}

    assert again == ways and np.isfinite([one.brier for one in ways.values()]).all()
