"""Score histograms against scikit-learn and statsmodels on the single patients, within stated bounds; and what may be shown."""

import numpy as np
import pytest

from fedstats import Rules
from fedstats.analyses.shared import scores
from fedstats.analyses.validation.classes import (
    calibration_error,
    cut_classes,
    decomposition,
    groups_shown,
    keep_classes,
    percentile,
    risk_classes,
    wilson,
)
from fedstats.analyses.validation.performance import _per_parameter
from fedstats.disclosure import NO_RULES

CONFIDENCE = 0.95
WIDTH = 1 / scores.PER_UNIT


def patients(n, seed, slope=0.8):
    """Logits of predicted risks and outcomes; the prediction is a little off."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(-1, 1.3, n)
    return margin, rng.random(n) < scores.risk_of(0.2 + slope * margin)


def binned(margin, y):
    where = scores.bin_of_margin(margin)
    return tuple(np.bincount(where[y == k], minlength=scores.BINS) for k in (False, True))


CASES = pytest.mark.parametrize(("n", "seed"), [(300, 1), (2_000, 2), (20_000, 3)])


# -- against other software ----------------------------------------------------------------------------------------------------


@CASES
def test_the_auc_is_scikit_learns_within_the_ties(n, seed):
    """At most half the share of pairs in one bin away, and in truth far less."""
    from sklearn.metrics import roc_auc_score

    margin, y = patients(n, seed)
    counts = binned(margin, y)
    away = abs(scores.auc(*counts) - roc_auc_score(y, margin))

    assert away <= scores.auc_slack(*counts) < 0.006
    assert away < 1e-3


@CASES
def test_the_auc_of_rounded_risks_is_scikit_learns_exactly(n, seed):
    """Where patients of one bin are ties for scikit-learn too, the numbers are the same."""
    from sklearn.metrics import roc_auc_score

    margin, y = patients(n, seed)

    assert scores.auc(*binned(margin, y)) == pytest.approx(roc_auc_score(y, scores.bin_of_margin(margin)), rel=1e-12)


@CASES
def test_the_average_precision_is_scikit_learns_within_the_order_inside_bins(n, seed):
    from sklearn.metrics import average_precision_score

    margin, y = patients(n, seed)
    counts, exact = binned(margin, y), average_precision_score(y, margin)
    low, high = scores.precision_range(*counts)

    assert low <= exact <= high
    assert scores.average_precision(*counts) == pytest.approx(exact, abs=2e-3)


def test_delongs_variance_is_that_of_single_patients():
    """The textbook formula on all pairs, ties included."""
    margin, y = patients(400, 5)
    rounded = scores.bin_of_margin(margin)
    wins = (rounded[y][:, None] > rounded[~y][None, :]) + 0.5 * (rounded[y][:, None] == rounded[~y][None, :])
    expected = wins.mean(axis=1).var(ddof=1) / y.sum() + wins.mean(axis=0).var(ddof=1) / (~y).sum()

    assert scores.auc_variance(*binned(margin, y)) == pytest.approx(expected, rel=1e-10)


def test_delongs_interval_covers():
    """In 200 samples the interval holds the true AUC about 19 times of 20."""
    margin, y = patients(200_000, 6)
    truth = scores.auc(*binned(margin, y))
    inside = []
    for seed in range(200):
        found = scores.auc_interval(*binned(*patients(300, 1000 + seed)), CONFIDENCE)
        inside.append(found.low <= truth <= found.high)

    assert 0.90 <= np.mean(inside) <= 0.99


@CASES
def test_recalibration_is_statsmodels(n, seed):
    """Intercept and slope from bin centres: away by far less than their standard errors."""
    import statsmodels.api as sm

    margin, y = patients(n, seed)
    intercept, slope = scores.recalibrate(*binned(margin, y), CONFIDENCE)
    full = sm.GLM(y, sm.add_constant(margin), family=sm.families.Binomial()).fit()
    only = sm.GLM(y, np.ones(n), offset=margin, family=sm.families.Binomial()).fit()

    assert slope.value == pytest.approx(full.params[1], abs=0.02 * full.bse[1])
    assert intercept.value == pytest.approx(only.params[0], abs=0.05 * only.bse[0] + WIDTH / 100)
    assert slope.high - slope.low == pytest.approx(2 * 1.959964 * full.bse[1], rel=2e-3)


def test_separated_patients_have_no_slope():
    """Everybody with the outcome above everybody without it: the slope is infinite, and none is given."""
    counts = np.zeros((2, scores.BINS))
    counts[0, 100:110], counts[1, 400:410] = 5, 5

    assert scores.recalibrate(*counts, CONFIDENCE) is None
    assert scores.auc(*counts) == 1 and scores.auc_interval(*counts, CONFIDENCE).low is None


def test_weights_of_one_change_nothing_but_the_small_sample_factor():
    margin, y = patients(2_000, 8)
    counts = np.array(binned(margin, y), dtype=float)
    plain, weighted = (scores.auc_variance(*counts, squares=squares) for squares in (None, counts))

    assert weighted == pytest.approx(plain, rel=1 / 400)
    assert scores.average_precision(*counts) == pytest.approx(scores.average_precision(*(2 * counts), counts[1]), rel=1e-12)


# -- classes ----------------------------------------------------------------------------------------------------------------------


def classes_of(margin, y, rules, most=10):
    counts = binned(margin, y)
    ends = cut_classes(*counts, rules, most)
    where = np.searchsorted(ends, scores.bin_of_margin(margin), side="right")
    people = np.stack([np.bincount(where[y == k], minlength=len(ends)) for k in (0, 1)])
    expected = np.bincount(where, weights=scores.risk_of(margin), minlength=len(ends))
    return risk_classes((0, *ends[:-1]), people, people.astype(float), people.sum(axis=0).astype(float), expected, scores.BINS, CONFIDENCE)


def test_classes_are_deciles_without_rules():
    margin, y = patients(5_000, 9)
    found = classes_of(margin, y, NO_RULES)

    assert len(found) == 10 and sum(one.n for one in found) == 5_000
    assert all(350 < one.n < 700 for one in found)


def test_the_calibration_curve_is_scikit_learns_over_the_same_classes():
    """Mean predicted risk and observed share per class, and the mean distance between them."""
    from sklearn.metrics import brier_score_loss

    margin, y = patients(5_000, 10)
    p, found = scores.risk_of(margin), classes_of(margin, y, NO_RULES)
    inside = [(p >= one.risk_from) & (p < one.risk_to) for one in found]

    for one, own in zip(found, inside):
        assert (one.predicted, one.observed) == pytest.approx((p[own].mean(), y[own].mean()), rel=1e-9)
    assert calibration_error(found) == pytest.approx(sum(own.sum() * abs(p[own].mean() - y[own].mean()) for own in inside) / 5_000)
    reliability, resolution, uncertainty = decomposition(found)
    within = np.concatenate([np.full(own.sum(), p[own].mean()) for own in inside])
    outcomes = np.concatenate([y[own] for own in inside])
    assert reliability - resolution + uncertainty == pytest.approx(brier_score_loss(outcomes, within), rel=1e-9)


def test_net_benefit_is_the_textbook_formula():
    """Vickers & Elkin (2006): true positives minus false positives at the odds of the threshold, per patient."""
    margin, y = patients(3_000, 11)
    p = scores.risk_of(margin)
    for one in classes_of(margin, y, NO_RULES)[1:]:
        treated, odds = p >= one.risk_from, one.risk_from / (1 - one.risk_from)

        assert one.net_benefit == pytest.approx(((treated & y).sum() - odds * (treated & ~y).sum()) / 3_000)
        assert one.net_benefit_all == pytest.approx((y.sum() - odds * (~y).sum()) / 3_000)


def test_wilsons_interval_is_statsmodels():
    from statsmodels.stats.proportion import proportion_confint

    for x, n in ((0, 20), (3, 17), (40, 40), (120, 1000)):
        assert wilson(x / n, n, CONFIDENCE) == pytest.approx(proportion_confint(x, n, 0.05, "wilson"), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [40, 200, 3_000])
def test_every_class_holds_the_smallest_cell_of_both(n, seed):
    """With and without the outcome; what cannot be cut so is one class, or none."""
    rules = Rules(min_cell=10)
    margin, y = patients(n, seed)
    counts = binned(margin, y)
    ends = cut_classes(*counts, rules)
    cells = np.array([[one[a:b].sum() for a, b in zip((0, *ends), ends)] for one in counts])

    assert (cells >= 10).all()
    assert bool(ends) == (min(y.sum(), (~y).sum()) >= 10)
    assert not ends or ends[-1] == scores.BINS


def test_classes_of_too_few_registries_are_merged():
    people = np.full((2, 4), 50)
    there = np.array([[5, 5, 2, 5], [5, 5, 5, 5]])

    assert keep_classes((1, 2, 3, 4), people, there, Rules()) == ((0, 1), (1, 2), (2, 4))
    assert keep_classes((1, 2, 3, 4), people, there, NO_RULES) == ((0, 1), (1, 2), (2, 3), (3, 4))


def test_the_percentile_is_the_share_of_patients_below():
    margin, y = patients(5_000, 12)
    p, found = scores.risk_of(margin), classes_of(margin, y, NO_RULES)
    for risk in (0.05, 0.2, 0.33, 0.6):
        assert percentile(risk, found) == pytest.approx((p < risk).mean(), abs=0.03)
    assert percentile(0.0, found) == 0 and percentile(1.0, found) == pytest.approx(1) and percentile(0.4, ()) is None


# -- subgroups ----------------------------------------------------------------------------------------------------------------------


def shown(cells, apart=None, registries=5, variables=None):
    cells = np.array(cells)
    n = int(cells[0].sum())
    apart = np.full((len(cells), len(cells)), n // 2) if apart is None else np.array(apart)
    return groups_shown(cells, np.full(cells.shape, registries), apart, n, variables or [list(range(1, len(cells)))], Rules()).tolist()


def test_a_group_needs_the_smallest_cell_with_and_without_the_outcome():
    assert shown([(300, 90), (200, 60), (100, 30)]) == [True, True, True]
    assert shown([(300, 90), (200, 81), (90, 9), (10, 0)]) == [True, False, False, False]


def test_a_small_group_takes_the_smallest_other_with_it():
    """Everybody is known: two of three groups shown would give the third."""
    assert shown([(300, 90), (150, 50), (100, 36), (50, 4)]) == [True, True, False, False]


def test_nobody_is_shown_where_all_together_are_too_few():
    assert shown([(300, 9), (200, 5), (100, 4)]) == [False, False, False]
    assert shown([(300, 90), (200, 60), (100, 30)], registries=2) == [False, False, False]


def test_groups_that_differ_by_a_few_patients_are_not_both_shown():
    """Women, and those with a relapsing course, but for four patients: the four would follow. The same through the complement."""
    cells = [(300, 90), (200, 60), (100, 30), (202, 62), (98, 28)]
    for near in (4, 386):
        apart = np.full((5, 5), 150)
        apart[1, 3] = apart[3, 1] = near
        found = shown(cells, apart, variables=[[1, 2], [3, 4]])

        assert found[:3] == [True, True, True] and found[3:] == [False, False]


def test_a_slope_needs_events_for_its_parameters():
    assert (_per_parameter(Rules()), _per_parameter(Rules(min_cell=5)), _per_parameter(NO_RULES)) == (10, 5, 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_average_precision_of_single_patients_is_within_its_bounds(seed):
    """Few and many patients, risks far apart and alike, with weights and without; scikit-learn says what is right."""
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(seed)
    n, width = [40, 300, 2000][seed % 3], [1.0, 0.05][seed % 2]
    margin = rng.normal(0, width, n)
    y = rng.random(n) < scores.risk_of(margin - 1)
    y[:2] = True, False
    for weight in (np.ones(n), rng.uniform(0.2, 3, n)):
        weighted = bool((weight != 1).any())
        counts = [np.bincount(scores.bin_of_margin(margin[y == one]), weight[y == one], scores.BINS) for one in (0, 1)]
        right = average_precision_score(y, margin, sample_weight=weight)
        low, high = scores.precision_bounds(*counts, weighted)

        assert low - 1e-12 <= right <= high + 1e-12
