"""What a reader can work out about the numbers that a table hides: by linear programming and by trying out every table.

The attacker here knows everything that is released of a cross-tabulation (cells, margins, total, expected counts, shares and
their intervals, tests) and that people are counted in whole numbers. Hidden numbers must stay within a range at least as wide
as the smallest cell. (Which of them are hidden for their own sake and which beside others is not told.)
"""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from fedstats import Dictionary, Rules
from fedstats.analyses.crosstab import CrosstabParams
from fedstats.disclosure import suppression
from fedstats.disclosure.suppression import _Entries, show_table
from fedstats.query.analysis import ANALYSES, Setting, Size
from fedstats.query.driver import finish
from fedstats.sums.statistic import INDICATORS

SHAPES = [(4,), (9,), (2, 2), (2, 5), (3, 4), (6, 6), (2, 2, 2), (2, 3, 4)]
TABLES_EACH = {4: 20, 9: 20, 10: 16, 12: 16, 8: 20, 36: 5, 24: 6}      # by number of cells: large ones take longer
TOLERANCE = 1e-5        # of the solver of linear programmes, in people


def made(shape, rng, rules):
    """A random sparse table, and how many of five registries have people in each cell."""
    counts = rng.poisson(rng.gamma(0.6, rng.choice([4, 15, 40]), shape))
    counts.flat[rng.integers(counts.size)] += 2 * rules.min_cell        # a cohort that passes the gate
    contributors = np.minimum(counts, rng.integers(1, 6, shape))
    return counts, contributors


def people_of(counts, contributors):
    """The totals of `counts`. A level's registries: at least those of any of its cells."""
    found = {"people": counts, "people" + INDICATORS: contributors}
    for axis in range(counts.ndim) if counts.ndim > 1 else ():
        others = tuple(a for a in range(counts.ndim) if a != axis)
        found |= {f"line{axis}": counts.sum(axis=others), f"line{axis}{INDICATORS}": contributors.max(axis=others)}
    return found


def released(counts, contributors, rules):
    """The dict that leaves: the joint half of crosstab on these totals, finished as for release."""
    names = tuple("abc"[:counts.ndim])
    dictionary = Dictionary.from_dict({"name": "letters", "variables": [
        {"name": name, "type": "category", "levels": [f"{name}{k}" for k in range(size)]} for name, size in zip(names, counts.shape)]})
    joint = ANALYSES["crosstab/1"].joint(CrosstabParams(names), Setting(dictionary, rules, 5, Size(int(counts.sum()))))
    next(joint)
    with pytest.raises(StopIteration) as done:
        joint.send([people_of(counts, contributors)])
    return finish(done.value.value, rules, 5).to_dict()


def knowledge(result):
    """Everything linear that a reader knows about the cells: rows of A x = b over all cells, in order."""
    shape = [len(levels) for levels in result["levels"]]
    where = np.indices(shape).reshape(len(shape), -1)
    rows, right = [np.ones(where.shape[1])], [result["total"]]

    def learn(vector, value):
        rows.append(np.asarray(vector, dtype=float))
        right.append(value)

    margins = [list(margin) for margin in result["margins"]]
    for k, cell in enumerate(result["cells"]):
        place = where[:, k]
        if cell["count"] is not None:
            learn(np.arange(where.shape[1]) == k, cell["count"])
            if cell["share"] and len(shape) == 2 and margins[0][place[0]] is None:
                margins[0][place[0]] = cell["count"] / cell["share"]
        if cell["expected"] and sum(margins[a][i] is None for a, i in enumerate(place)) == 1:
            known = math.prod(margins[a][i] for a, i in enumerate(place) if margins[a][i] is not None)
            axis = next(a for a, i in enumerate(place) if margins[a][i] is None)
            margins[axis][place[axis]] = cell["expected"] * result["total"] ** (len(shape) - 1) / known
    for axis, margin in enumerate(margins):
        for line, value in enumerate(margin):
            if value is not None:
                learn(where[axis] == line, value)
    return np.array(rows), np.array(right, dtype=float), where


def hidden_numbers(result, where):
    """The suppressed cells and margins as sums of cells."""
    targets = [np.arange(where.shape[1]) == k for k, cell in enumerate(result["cells"]) if cell["count"] is None]
    return targets + [where[axis] == line for axis, margin in enumerate(result["margins"]) for line, m in enumerate(margin) if m is None]


def narrowest(result, counts, enough):
    """The narrowest range, in people, into which a reader can bring a hidden number; ranges of `enough` count as wide."""
    A, b, where = knowledge(result)
    assert np.allclose(A @ counts.ravel(), b), "what is released is not true"
    fitting = [counts.ravel().astype(float)]
    widths = []
    for target in hidden_numbers(result, where):
        for sign in (1, -1):
            reach = np.array(fitting) @ target
            if np.ptp(reach) < enough - TOLERANCE:
                found = linprog(sign * target.astype(float), A_eq=A, b_eq=b, bounds=(0, None), method="highs")
                fitting += [found.x] if found.status == 0 else []
        widths.append(np.ptp(np.array(fitting) @ target))
    return min(widths, default=math.inf)


def no_complement(monkeypatch):
    monkeypatch.setattr(_Entries, "protect", lambda self: None)
    monkeypatch.setattr(_Entries, "reconsider", lambda self: None)


@pytest.mark.parametrize("zeros", [False, True], ids=["zeros hidden", "zeros shown"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_hidden_number_can_be_narrowed_below_the_smallest_cell(shape, zeros):
    """With all that is released of a table, a hidden number of people stays uncertain by at least the smallest cell."""
    rng = np.random.default_rng([len(shape), *shape, zeros])
    for k in itertools.islice(itertools.cycle([3, 5, 10]), TABLES_EACH[math.prod(shape)]):
        rules = Rules(min_cell=k, min_registries=3, show_zeros=zeros, rounding=False)
        counts, contributors = made(shape, rng, rules)
        result = released(counts, contributors, rules)

        assert narrowest(result, counts, k) >= k - TOLERANCE


def test_the_attack_finds_hidden_cells_when_nothing_is_hidden_beside_them(monkeypatch):
    """The control: if only the small cells themselves are hidden, subtraction from the margins gives most of them back."""
    no_complement(monkeypatch)
    rng, found = np.random.default_rng(5), 0
    rules = Rules(min_cell=5, min_registries=1, show_zeros=True, rounding=False)
    for _ in range(50):
        counts, _ = made((3, 4), rng, rules)
        result = released(counts, np.full((3, 4), 5), rules)
        found += narrowest(result, counts, 5) < 5 - TOLERANCE

    assert found >= 25


def whole_tables(people, cells):
    """All ways to place so many people in so many cells, shape (ways, cells)."""
    bars = np.array(list(itertools.combinations(range(people + cells - 1), cells - 1)), dtype=np.int64).reshape(-1, cells - 1)
    edges = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), people + cells - 1)])
    return np.diff(edges, axis=1) - 1


@pytest.mark.parametrize("zeros", [False, True], ids=["zeros hidden", "zeros shown"])
@pytest.mark.parametrize(("shape", "people"), [((3,), 30), ((4,), 24), ((2, 2), 30), ((2, 3), 16), ((2, 2, 2), 11)], ids=str)
def test_trying_out_every_table_does_not_find_a_hidden_number(shape, people, zeros):
    """All tables of whole people that fit what is released: every hidden number takes values at least a smallest cell apart."""
    rng, k = np.random.default_rng([*shape, people, zeros]), 3
    everything = whole_tables(people, math.prod(shape))
    rules = Rules(min_cell=k, min_cohort=1, min_registries=1, show_zeros=zeros, rounding=False)
    for _ in range(15):
        counts = everything[rng.integers(len(everything))].reshape(shape)
        result = released(counts, np.minimum(counts, 3), rules)
        A, b, where = knowledge(result)
        fitting = everything[(np.abs(everything @ A.T - b) < TOLERANCE).all(axis=1)]

        assert len(fitting)
        for target in hidden_numbers(result, where):
            assert np.ptp(fitting @ target) >= k


def test_trying_out_every_table_finds_cells_when_nothing_is_hidden_beside_them(monkeypatch):
    """The control of the exhaustive search."""
    no_complement(monkeypatch)
    rules = Rules(min_cell=3, min_cohort=1, min_registries=1, show_zeros=True, rounding=False)
    counts = np.array([[2, 9], [8, 11]])
    A, b, _ = knowledge(released(counts, np.full((2, 2), 3), rules))
    everything = whole_tables(30, 4)

    assert len(everything[(np.abs(everything @ A.T - b) < TOLERANCE).all(axis=1)]) == 1


def test_tests_of_a_table_are_released_only_if_no_cell_is_hidden():
    """Chi-squared with margins gives suppressed cells back: it is printed for whole tables only."""
    rules = Rules(rounding=False)
    names = ("chi2", "p", "df", "cramers_v", "chi2_yates", "p_yates", "fisher")
    hidden = released(np.array([[30, 4], [40, 25]]), np.full((2, 2), 4), rules)
    whole = released(np.array([[30, 14], [40, 25]]), np.full((2, 2), 4), rules)

    assert hidden["suppressed"] and all(hidden[name] is None for name in names)
    assert not whole["suppressed"] and all(whole[name] is not None for name in names)


def test_a_cell_from_too_few_registries_is_hidden():
    """A cell of 40 people of whom all are in one or two registries is not shown."""
    shown = show_table(np.array([40, 50, 60]), np.array([2, 3, 3]), Rules())

    assert shown.cells[0] < 0 and (shown.cells < 0).sum() == 2


def test_what_is_hidden_beside_others_is_what_is_needed():
    """Sex by ECOG of the lung data, one patient with ECOG 3: its column and one more are hidden, the other columns stay."""
    shown = show_table(np.array([[35, 65, 25, 1], [26, 41, 19, 0]]), np.full((2, 4), 4), Rules())

    assert shown.cells.tolist() == [[35, 65, -1, -1], [26, 41, -1, -1]]
    assert [margin.tolist() for margin in shown.margins] == [[126, 86], [61, 106, -1, -1]]


def test_reconsidering_never_hides_more(monkeypatch):
    """The second pass shows again what the first hid without need; the share of hidden cells is printed (pytest -s)."""
    rng, rules = np.random.default_rng(7), Rules(show_zeros=True)
    tables = [made(shape, rng, rules) for shape in SHAPES[:5] for _ in range(6)]
    second = [show_table(*table, rules) for table in tables]
    monkeypatch.setattr(_Entries, "reconsider", lambda self: None)
    first = [show_table(*table, rules) for table in tables]
    cells = sum(counts.size for counts, _ in tables)
    small = sum(int(suppression._primary(*table, rules).sum()) for table in tables)
    shares = [sum(int((one.cells < 0).sum()) for one in shown) / cells for shown in (first, second)]
    print(f"\nhidden for their own sake {small / cells:.1%}, in all after the first pass {shares[0]:.1%}, after the second {shares[1]:.1%}")

    assert all(b.hidden <= a.hidden for a, b in zip(first, second))


def test_a_table_given_in_another_memory_order_is_suppressed_alike():
    """Rows and columns exchanged: the same cells are hidden."""
    counts = np.array([[35, 65, 25, 1], [26, 41, 19, 0]])
    straight, turned = show_table(counts, np.full((2, 4), 4), Rules()), show_table(counts.T, np.full((4, 2), 4), Rules())

    assert (turned.cells == straight.cells.T).all()
