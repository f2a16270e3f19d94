"""The linking attack on everything that a registry sees of a cross-validation: the totals of all folds' models, joined.

A validation opens more totals than a model does, and each fold is a cohort of its own. See test_boosting_linking for the attack.
"""

from collections import defaultdict

import pytest

from fedstats import Dictionary, Rules
from fedstats.data.rows import load
from fedstats.disclosure import NO_RULES
from fedstats.query import rounds
from fedstats.query.analysis import ANALYSES, Setting, Size, question_of
from fedstats.sums.statistic import Ask

from ..boosting_data import dictionary_of, names_of, tables
from .test_boosting_linking import FEATURES, linked_over_trees, made_up, share_found


def recorded_by_fold(X, y, rules, **options):
    """Every ask of a validation that is about the patients outside a fold, with its totals."""
    dictionary = Dictionary.from_dict(dictionary_of(X, y))
    many = [load(table, dictionary)[0] for table in tables(X, y, 3).values()]
    params = question_of("validation", "y", names_of(X), **options).read()
    steps, found = ANALYSES["validation/1"].joint(params, Setting(dictionary, rules, 3, Size(len(y)))), defaultdict(list)
    asks = next(steps)
    try:
        while True:
            totals = rounds.pooled(asks, many, dictionary, len(y))
            for ask, sums in zip(asks, totals):
                if ask.statistic == "of_fold/1":
                    found[ask.params["fold"]].append((Ask(ask.params["statistic"], ask.params["params"]), sums))
            asks = steps.send(totals)
    except StopIteration:
        return found


def linked_over_folds(records, X):
    """What is found of a patient in the models of several folds is joined."""
    known = defaultdict(dict)
    for record in records.values():
        for row, piece in linked_over_trees(record, X).items():
            known[row] |= piece
    return known


@pytest.mark.parametrize("folds", [3, 5])
def test_a_default_validation_gives_no_row_away(folds):
    X, y = made_up(600, 16)
    known = linked_over_folds(recorded_by_fold(X, y, Rules(), folds=folds, rounds=30), X)

    assert share_found(known, X) == 0
    assert max((len(piece) for piece in known.values()), default=0) < FEATURES / 2


def test_without_floors_the_attack_finds_many():
    """The control: 64 bins, depth 6 and no rules."""
    X, y = made_up(600, 64)
    records = recorded_by_fold(X, y, NO_RULES, folds=2, rounds=12, max_depth=6, bins=64, min_child_weight=1)

    assert share_found(linked_over_folds(records, X), X) > 0.5
