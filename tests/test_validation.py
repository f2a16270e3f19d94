"""Cross-validation over registries: the same numbers as scikit-learn on models trained fold by fold on one pooled table."""

import itertools

import msgspec
import numpy as np
import pytest

import fedstats
from fedstats import Dictionary, Rules
from fedstats.analyses.shared import folds, scores
from fedstats.analyses.validation.performance import Performance, size_bands
from fedstats.analyses.validation.result import Validation
from fedstats.data.rows import load
from fedstats.disclosure import NO_RULES
from fedstats.errors import InputError, QuestionError, Refused
from fedstats.sums.statistic import INDICATORS, answer

from .risk_data import COVARIATES, DICTIONARY, HAZARD, SMALL, people, registries

BOOK = Dictionary.from_dict(DICTIONARY)
FOLDS, SEED = 3, 7


def pooled(tables, rules=NO_RULES):
    return fedstats.pooled(tables, dictionary=BOOK, rules=rules).cohort()


def together(tables):
    """All registries' patients in one table."""
    return {name: np.concatenate([np.asarray(one[name], dtype=object) for one in tables.values()]) for name in next(iter(tables.values()))}


def some(table, keep):
    return {name: np.asarray(column, dtype=object)[keep] for name, column in table.items()}


@pytest.fixture(scope="module")
def tables():
    return registries((400, 250, 300, 200, 350), seed=1)


@pytest.fixture(scope="module")
def yes_no(tables) -> Validation:
    return pooled(tables).validation("worse", COVARIATES, folds=FOLDS, by=["sex", "relapses"], seed=SEED, **SMALL)


@pytest.fixture(scope="module")
def held_out(tables):
    """Outcome, logit and fold of every patient, from models that were trained on one table without the patient's fold."""
    whole = together(tables)
    fold = folds.fold_of(load(whole, BOOK)[0], SEED, FOLDS)
    margin = np.empty(len(fold))
    for k in range(FOLDS):
        model = pooled({"all": some(whole, fold != k)}).boost("worse", COVARIATES, seed=SEED, **SMALL)
        margin[fold == k] = model.margins({name: whole[name][fold == k] for name in COVARIATES})
    return whole, whole["worse"].astype(bool), margin


def test_the_discrimination_is_scikit_learns(yes_no, held_out):
    """ROC-AUC and PR-AUC of the same held-out risks on single patients."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    _, y, margin = held_out
    found = yes_no.overall

    assert (found.n, found.events) == (len(y), y.sum())
    assert found.auc == pytest.approx(roc_auc_score(y, margin), abs=found.auc_slack)
    assert found.auc == pytest.approx(roc_auc_score(y, scores.bin_of_margin(margin)), rel=1e-9)
    assert found.pr_auc == pytest.approx(average_precision_score(y, margin), abs=0.005)


def test_the_scores_are_scikit_learns(yes_no, held_out):
    """Brier score and log-loss are exact sums over patients."""
    from sklearn.metrics import brier_score_loss, log_loss

    _, y, margin = held_out
    p = scores.risk_of(margin)

    assert yes_no.overall.brier == pytest.approx(brier_score_loss(y, p), abs=1e-7)
    assert yes_no.overall.log_loss == pytest.approx(log_loss(y, p), abs=1e-7)
    assert yes_no.overall.ratio == pytest.approx(y.sum() / p.sum(), rel=1e-6)


def test_subgroups_are_the_patients_of_that_level(yes_no, held_out):
    from sklearn.metrics import brier_score_loss, roc_auc_score

    whole, y, margin = held_out
    for one in yes_no.performance[0].groups:
        column = whole[one.variable]
        own = np.array([one.level == "missing" if value is None else str(value) == one.level for value in column])
        if own.sum() < 30:
            continue

        assert (one.metrics.n, one.metrics.events) == (own.sum(), y[own].sum())
        assert one.metrics.auc == pytest.approx(roc_auc_score(y[own], scores.bin_of_margin(margin[own])), rel=1e-9)
        assert one.metrics.brier == pytest.approx(brier_score_loss(y[own], scores.risk_of(margin[own])), abs=1e-7)


def test_the_spread_is_that_of_the_registries_own_numbers(tables, yes_no, held_out):
    """Mean and standard deviation of what each registry would find for itself; no registry's own number is in the result."""
    from sklearn.metrics import roc_auc_score

    _, y, margin = held_out
    ends = np.cumsum([len(one["worse"]) for one in tables.values()])
    own = [roc_auc_score(y[a:b], scores.bin_of_margin(margin[a:b])) for a, b in itertools.pairwise([0, *ends])]
    found = yes_no.performance[0].spread

    assert (found.registries, found.mean, found.sd) == pytest.approx((5, np.mean(own), np.std(own, ddof=1)), abs=1e-5)
    assert 0 <= found.beyond_chance <= found.sd


def test_sizes_are_told_in_bands_only(yes_no):
    assert [(one.patients, one.registries) for one in yes_no.sizes] == [("100 to 299", 2), ("300 to 999", 3)]
    assert size_bands({"registries": np.array([0, 0, 1, 0, 0, 2])})[-1].patients == "10000 or more"


# -- folds ------------------------------------------------------------------------------------------------------------------------


def test_a_patients_fold_does_not_depend_on_the_registry_or_the_row():
    whole = people(300, 3)
    rows = load(whole, BOOK)[0]
    order = np.random.default_rng(1).permutation(300)
    mixed = load(some(whole, order), BOOK)[0]

    assert (folds.fold_of(mixed, 5, 4) == folds.fold_of(rows, 5, 4)[order]).all()
    assert (folds.fold_of(rows, 6, 4) != folds.fold_of(rows, 5, 4)).mean() > 0.5
    assert min(np.bincount(folds.fold_of(rows, 5, 4))) > 50


def test_a_wrapped_ask_is_the_ask_on_those_patients():
    """The sums outside a fold and those inside add up to all."""
    from fedstats.analyses.shared.moments import moments

    rows = load(people(200, 4), BOOK)[0]
    ask = moments(columns=["age", "edss"])
    parts = [answer(folds.of_fold(seed=1, folds=3, fold=0, inside=inside, statistic=ask.statistic, params=ask.params), rows)
             for inside in (True, False)]
    whole = answer(ask, rows)

    assert all(np.allclose(parts[0][name] + parts[1][name], whole[name]) for name in whole if not name.endswith(INDICATORS))


def test_what_looks_at_a_whole_registry_cannot_be_asked_about_folds():
    ask = folds.of_fold(seed=1, folds=3, fold=0, inside=True, statistic="score_spread/1", params={})

    with pytest.raises(InputError, match="folds"):
        answer(ask, load(people(20, 4), BOOK)[0])


def test_small_folds_are_refused():
    """A fold is a cohort of its own: two fold models differ by its patients."""
    with pytest.raises(Refused, match="a fold would hold fewer than 50 patients"):
        pooled(registries((60, 60, 60), 5), Rules()).validation("worse", COVARIATES, folds=5, **SMALL)


# -- up to a time, some being censored ----------------------------------------------------------------------------------------------


def graf(days, event, risk, horizon, grid):
    """Brier score, AUC and share with the event up to a horizon, by loops over patients and times. Graf et al. (1999)."""
    place = np.searchsorted([0, *grid], days, side="left")
    until = list(grid).index(horizon) + 1
    G = [1.0]
    for k in range(until + 1):
        at_risk = (place >= k).sum() - ((place == k) & event).sum()
        G.append(G[-1] * (1 - ((place == k) & ~event).sum() / at_risk))
    case, control = event & (place <= until), place > until
    w = np.where(control, 1 / G[until + 1], 0) + np.where(case, 1 / np.array(G)[np.minimum(place, until)], 0)
    brier = (w * (risk - case) ** 2).mean()
    wins = risk[case][:, None] - risk[control][None, :]
    pairs = w[case][:, None] * w[control][None, :]
    return brier, ((wins > 0) * pairs + 0.5 * (wins == 0) * pairs).sum() / pairs.sum(), (w * case).sum() / w.sum()


@pytest.fixture(scope="module")
def censored(tables):
    return pooled(tables).validation("event", COVARIATES, folds=FOLDS, seed=SEED, horizons=[360, 720], **HAZARD, **SMALL)


def test_censored_patients_are_weighted_as_in_graf(tables, censored):
    """At each horizon Brier score and AUC of the absolute risks, against loops over patients."""
    whole = together(tables)
    fold = folds.fold_of(load(whole, BOOK)[0], SEED, FOLDS)
    days, event = whole["days"].astype(float), whole["event"].astype(bool)
    risk = np.empty((len(fold), 2))
    for k in range(FOLDS):
        model = pooled({"all": some(whole, fold != k)}).boost("event", COVARIATES, seed=SEED, **HAZARD, **SMALL)
        risk[fold == k] = model.predict({name: whole[name][fold == k] for name in COVARIATES}, horizon=[360, 720])
    for j, one in enumerate(censored.performance):
        place = scores.bin_of_margin(np.log(risk[:, j] / (1 - risk[:, j])))
        brier, _, share = graf(days, event, risk[:, j], one.horizon, BOOK.grid("days"))
        _, area, _ = graf(days, event, place, one.horizon, BOOK.grid("days"))

        assert one.overall.brier == pytest.approx(brier, abs=1e-5)
        assert one.overall.auc == pytest.approx(area, abs=1e-5)
        assert sum(c.share * c.observed for c in one.classes) == pytest.approx(share, abs=1e-5)


def test_without_censoring_weights_do_nothing():
    """Everybody followed beyond the horizon: the weighted numbers are those of the plain yes or no."""
    tables = registries((300, 300), seed=6)
    for one in tables.values():
        one["days"] = np.where(one["event"], np.minimum(one["days"], 720), 1080)
        one["worse"] = one["event"]
    plain = pooled(tables).validation("worse", COVARIATES, folds=2, **SMALL)
    timed = pooled(tables).validation("worse", COVARIATES, folds=2, time="days", event="event", horizons=720, **SMALL)

    for name in ("n", "events", "auc", "brier", "ratio", "slope", "pr_auc"):
        assert getattr(timed.overall, name) == pytest.approx(getattr(plain.overall, name), rel=1e-6), name
    assert timed.performance[0].censored == 0


def test_a_horizon_beyond_the_follow_up_is_refused():
    tables = registries((200, 200), seed=8)
    for one in tables.values():
        one["days"], one["event"] = np.minimum(one["days"], 360), one["event"] & (one["days"] <= 360)

    with pytest.raises(Refused, match="could be followed"):
        pooled(tables).validation("event", COVARIATES, folds=2, horizons=[720], **HAZARD, **SMALL)


# -- what may be shown ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ruled(tables):
    return pooled(tables, Rules()).validation("worse", COVARIATES, folds=FOLDS, by=["sex", "relapses"], seed=SEED, **SMALL)


def test_every_shown_group_and_class_holds_the_smallest_cell_of_both(ruled):
    one: Performance = ruled.performance[0]
    groups = [(g.metrics.n, g.metrics.events) for g in one.groups if g.metrics.n is not None]
    for n, events in [*groups, *((c.n, c.events) for c in one.classes)]:
        assert events >= 10 and n - events >= 10
    assert any(g.metrics.n is None for g in one.groups) and any("not released" in note for note in ruled.notes)


def test_what_is_left_over_of_a_variable_is_safe_too(ruled):
    """The patients of the withheld levels, everybody less those shown."""
    one = ruled.performance[0]
    for name in ("sex", "relapses"):
        shown = [g.metrics for g in one.groups if g.variable == name and g.metrics.n is not None]
        n, events = one.overall.n - sum(m.n for m in shown), one.overall.events - sum(m.events for m in shown)

        assert n == 0 or (events >= 10 and n - events >= 10)


def test_no_registrys_own_number_and_no_fold_model_is_in_the_result(ruled, tables):
    text = msgspec.json.encode(ruled.to_dict()).decode()

    assert "trees" not in text and not any(name in text for name in tables)


def test_no_spread_from_fewer_than_five_registries():
    found = pooled(registries((300, 300, 300, 300), seed=2), Rules()).validation("worse", COVARIATES, folds=2, **SMALL)

    assert found.performance[0].spread is None and any("no spread" in note for note in found.notes)


@pytest.mark.parametrize(("arguments", "text"), [
    ({"outcome": "worse", "folds": 1}, "folds is 1"), ({"outcome": "worse", "horizons": 360}, "horizons need"),
    ({"outcome": "worse", "by": ["age"]}, "groups: at most"), ({"outcome": "relapses", "objective": "count:poisson"}, "gives none"),
    ({"outcome": "event", "horizons": [361], **HAZARD}, "361 is not a time"),
    ({"outcome": "worse", "time": "days", "event": "event", "horizons": [360, 720]}, "one horizon")])
def test_questions_that_cannot_be_asked_say_why(tables, arguments, text):
    covariates = [name for name in COVARIATES if name != arguments["outcome"]]
    with pytest.raises(QuestionError, match=text):
        pooled(tables).validation(covariates=covariates, **arguments)
