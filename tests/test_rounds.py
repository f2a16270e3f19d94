"""One round: scales that are proved to fit, and totals that no honest registries can have."""

import numpy as np
import pytest

import fedstats
from fedstats.analyses.shared.moments import moments
from fedstats.data.rows import load
from fedstats.errors import RangeError, Tampered
from fedstats.query import rounds
from fedstats.sums.statistic import INDICATORS

from . import every, helpers

DICTIONARY = fedstats.Dictionary.from_dict(every.DICTIONARY)


def table(steps):
    """A dictionary with one column of so many steps."""
    return fedstats.Dictionary.from_dict({"name": "wide", "variables": [{"name": "x", "type": "integer", "range": [0, steps]}]})


def test_a_sum_that_cannot_be_carried_is_refused_before_anything_is_computed():
    """Squares of numbers up to a billion, over a million patients, would not fit 62 bits: the error names the block and a remedy."""
    with pytest.raises(RangeError, match="xx0") as caught:
        rounds.plan([moments(columns=["x"])], table(2**30), 1_000_000, 64)

    assert "range" in caught.value.hint


@pytest.mark.parametrize("registries", [3, 64])
def test_values_at_their_bound_are_carried_exactly(registries):
    """Every patient at the upper end of the range, in up to 64 registries: the totals are exact."""
    n = 200
    many = [load({"age": np.full(n, 110), "years": np.full(n, 20.0)}, DICTIONARY)[0] for _ in range(registries)]
    (totals,) = rounds.pooled([moments(columns=["age", "years"])], many, DICTIONARY, n * registries)

    assert totals["x0"].tolist() == [110 * n * registries]
    assert totals["xx0"].tolist() == [110**2 * n * registries]
    assert totals["x1"].tolist() == [n * registries]


def test_one_prime_for_counts_two_for_real_sums():
    """Small whole numbers travel in one prime, real sums in two, so that nothing is larger than it must be."""
    made = rounds.plan([moments(columns=["edss", "years"])], DICTIONARY, 100_000, 5)
    primes = {segment.name.split("/")[-1]: segment.scale.primes for segment in made.segments}

    assert primes["n"] == primes["x0"] == primes["xx0"] == 1 and primes["x1"] == primes["xx1"] == 2


def test_counts_share_slots_and_indicators_more_so():
    """100 000 patients take 18 bits with a sign, five registries take 4."""
    made = rounds.plan([moments(columns=["edss"], by="sex")], DICTIONARY, 100_000, 5)
    shared = {segment.name.split("/")[-1]: segment.scale.per_slot for segment in made.segments}

    assert shared["n"] == 2 and shared["n" + INDICATORS] == 10


def lied(change):
    """Totals of one round after somebody changed the integers."""
    rows = [load(every.random_rows(50, np.random.default_rng(k)), DICTIONARY)[0] for k in range(3)]
    asks = [moments(columns=["age", "years"], by="sex")]
    made = rounds.plan(asks, DICTIONARY, 150, 3)
    integers = rounds.seal.plain_total([rounds.values(asks, one) for one in rows], made)
    for name, block in integers.items():
        change(name.split("/")[-1], block)
    return rounds.totals(integers, asks, made, DICTIONARY, 150, 3)


@pytest.mark.parametrize(("name", "block", "value"), [
    ("more people than the cohort", "n", 151), ("fewer than nobody", "n", -1), ("more registries than asked", "n" + INDICATORS, 4),
    ("people of no registry", "n" + INDICATORS, 0), ("a sum beyond its bound", "x0", 110 * 150 + 1),
    ("a real sum beyond its bound", "x1", 2**60)])
def test_an_impossible_total_is_not_used(name, block, value):
    """Totals that no honest registries can have end the query."""

    def change(which, array):
        if which == block:
            array[0] = value

    with pytest.raises(Tampered):
        lied(change)
    lied(lambda which, array: None)


def test_a_registry_without_a_column_answers_zeros():
    """A registry that does not record a variable takes part with nobody."""
    tables = helpers.split(every_frame(), np.arange(300) % 3)
    without = {name: frame.drop(columns="edss") if name == "r0" else frame for name, frame in tables.items()}
    result = fedstats.pooled(without, dictionary=DICTIONARY).cohort().summary(["edss"])

    assert result.n == sum(frame["edss"].notna().sum() for name, frame in without.items() if name != "r0")


def every_frame():
    import pandas as pd

    return pd.DataFrame(every.random_rows(300, np.random.default_rng(1)))
