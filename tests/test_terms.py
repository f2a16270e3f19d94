"""terms and splines: columns as R and patsy make them, within their bounds; what cannot be a term says why."""

import msgspec
import numpy as np
import patsy
import pytest
from scipy.interpolate import BSpline as ScipySpline

from fedstats import Dictionary
from fedstats.data.rows import load
from fedstats.errors import QuestionError
from fedstats.formula import parse, splines
from fedstats.formula.terms import BSpline, Categorical, Design, Interaction, Log, Natural, Power, Variable, columns_of, read_terms

from . import every

DICTIONARY = Dictionary.from_dict(every.DICTIONARY)
EVERY = ("age*sex + ns(edss, 3) + bs(age, 5) + C(ecog, Treatment('2')) + log(relapses + 1) + I(edss**2) + poly(years, 3) + scale(days) + "
         "female:event + ns(years, knots=[5, 10], boundary=[2, 18])")


@pytest.fixture(scope="module")
def rows():
    return load(every.random_rows(400, np.random.default_rng(1)), DICTIONARY)[0]


def columns(text, rows):
    (term,) = parse(text).terms
    return np.column_stack(columns_of(term, DICTIONARY).values(rows.complete(Design.of([term], DICTIONARY).variables)))


def test_scaled_columns_lie_within_one_and_come_back(rows):
    """Every column of every kind of term is within [-1, 1]; coefficients and covariance turn back into those of the plain columns."""
    design = Design.of(parse(EVERY).terms, DICTIONARY)
    cases = rows.complete(design.variables)
    X = design.matrix(cases)
    plain = np.column_stack([np.ones(cases.n), *(column for part in design.parts for column in part.values(cases))])
    beta, V = np.linspace(-1, 1, len(design)), np.diag(np.linspace(1, 2, len(design)))
    coef, cov = design.unscale(beta, V)

    assert np.abs(X).max() <= 1
    assert plain @ coef == pytest.approx(X @ beta, abs=1e-10)
    assert np.einsum("ij,jk,ik->i", plain, cov, plain) == pytest.approx(np.einsum("ij,jk,ik->i", X, V, X), rel=1e-7)
    low, high = design.eta_range(beta.tolist())
    assert low <= (X @ beta).min() and (X @ beta).max() <= high


def test_columns_lie_within_the_range_of_the_dictionary(rows):
    """The stated least and largest value of a column hold for every value that the dictionary allows, not only for these rows."""
    ends = {"age": [0, 110], "edss": [0, 10], "years": [0, 20], "days": [0, 3650], "relapses": [0, 20], "female": [True, False],
            "event": [True, False], "sex": ["F", "M"], "ecog": [0, 4]}
    rng = np.random.default_rng(2)
    table = {name: [values[k] for k in rng.integers(0, 2, 300)] for name, values in ends.items()}
    extreme = load(table, DICTIONARY)[0]

    assert np.abs(Design.of(parse(EVERY).terms, DICTIONARY).matrix(extreme)).max() <= 1


def test_names_are_those_of_R_and_terms_know_their_columns():
    design = Design.of(parse("age*sex + ns(edss, 3)").terms, DICTIONARY)

    assert design.names == ("(Intercept)", "age", "sex[M]", "ns(edss, 3)[1]", "ns(edss, 3)[2]", "ns(edss, 3)[3]", "age:sex[M]")
    assert design.terms == {"age": (1,), "sex": (2,), "ns(edss, 3)": (3, 4, 5), "age:sex": (6,)}
    assert design.variables == ("age", "sex", "edss")


@pytest.mark.parametrize("text", ["age + sex", "age:sex", "age + age:sex", "sex*C(ecog)", "sex + sex:C(ecog)", "0 + sex",
                                  "0 + sex + C(ecog)", "0 + sex:age"])
def test_categories_span_what_patsy_makes_of_them(rows, text):
    """With and without main effects and intercept: the same column space as patsy's full-rank coding."""
    model = parse(text)
    design = Design.of(model.terms, DICTIONARY, intercept=model.intercept, absorbed=False)
    cases = rows.complete(["age", "sex", "ecog"])
    data = {"age": cases.values("age"), "sex": np.array(["F", "M"])[cases.steps("sex")], "ecog": cases.values("ecog")}
    theirs = np.asarray(patsy.dmatrix(text, data))
    ours = design.matrix(cases)

    assert ours.shape[1] == np.linalg.matrix_rank(ours) == np.linalg.matrix_rank(theirs)
    assert np.linalg.matrix_rank(np.column_stack([ours, theirs])) == ours.shape[1]


def test_bsplines_equal_scipy_and_patsy(rows):
    """Values and derivatives of the basis; a term as patsy's bs with the same knots."""
    knots, u = splines.augmented([0.2, 0.5, 0.6], 3), np.linspace(0, 1, 101)
    for derivative in (0, 1, 2):
        theirs = np.column_stack([ScipySpline(knots, np.eye(7)[k], 3)(np.minimum(u, 1 - 1e-14), nu=derivative) for k in range(7)])
        assert splines.bspline(u, knots, 3, derivative) == pytest.approx(theirs, abs=1e-9 * 10**derivative)
    x = rows.values("age")[rows.present("age")]

    assert columns("bs(age, knots=[40, 65])", rows) == pytest.approx(
        np.asarray(patsy.dmatrix("bs(x, knots=[40, 65], lower_bound=0, upper_bound=110) - 1", {"x": x})), abs=1e-12)


def test_natural_splines_have_no_curvature_beyond_the_boundary(rows):
    """Cubic between the knots, straight outside, smooth throughout, and as rich as it says: the span of patsy's cr."""
    x = np.linspace(0, 20, 401)
    table = load({"years": x}, DICTIONARY)[0]
    found = columns("ns(years, knots=[5, 10], boundary=[2, 18])", table)
    second = np.diff(found, 2, axis=0)

    assert found.shape[1] == 3
    assert np.abs(second[x[1:-1] < 1.99]).max() < 1e-12 and np.abs(second[x[1:-1] > 18.01]).max() < 1e-12
    inside = (x >= 2) & (x <= 18)
    theirs = np.asarray(patsy.dmatrix("cr(x, knots=[5, 10], lower_bound=2, upper_bound=18) - 1", {"x": x[inside]}))
    both = np.column_stack([np.ones(inside.sum()), found[inside], theirs])
    assert np.linalg.matrix_rank(both, tol=1e-8) == 4


def test_natural_spline_columns_are_those_of_R():
    """The rows that R prints for ns(women$height, df = 5) at 59 and 60 inches: the same columns with the same signs."""
    inner = [(knot - 58) / 14 for knot in (60.8, 63.6, 66.4, 69.2)]
    weights = splines.natural_weights(inner)
    found = splines.natural((np.array([58, 59, 60]) - 58) / 14, inner, weights)

    assert found[0] == pytest.approx(np.zeros(5), abs=1e-12)
    assert found[1] == pytest.approx([7.592323e-03, 0, -8.670223e-02, 2.601067e-01, -1.734045e-01], abs=1e-7)
    assert found[2] == pytest.approx([6.073858e-02, 0, -1.503044e-01, 4.509132e-01, -3.006088e-01], abs=1e-7)


def test_knots_by_df_are_registered_cut_points():
    """Evenly spaced among them, never quantiles of data."""
    many = {df: columns_of(Natural("age", df), DICTIONARY) for df in (1, 2, 3, 4)}
    spline = Natural("age", 3)
    by_hand = Natural("age", knots=(35.0, 75.0))
    u = load({"age": np.arange(0, 111)}, DICTIONARY)[0]

    assert [len(one) for one in many.values()] == [1, 2, 3, 4]
    assert np.array_equal(columns_of(spline, DICTIONARY).values(u), columns_of(by_hand, DICTIONARY).values(u))


def test_a_term_is_the_same_after_a_journey():
    terms = parse(EVERY).terms
    again = read_terms(msgspec.json.decode(msgspec.json.encode(terms)))

    assert again == terms and Design.of(msgspec.to_builtins(terms), DICTIONARY).names == Design.of(terms, DICTIONARY).names


@pytest.mark.parametrize(("terms", "text"), [
    ([Variable("registry")], "reserved"), ([Variable("start")], "date"), ([Log("years")], "not defined"),
    ([Power("age", 9)], "between 2 and"),
    ([Natural("age", knots=(33.0,))], "not a registered cut point"), ([Natural("age", knots=(60.0, 40.0))], "increase"),
    ([BSpline("age", 2)], "df lies between"), ([Categorical("sex", "X")], "not a level"), ([Variable("age"), Variable("age")], "twice"),
    ([Interaction((Variable("sex"), Categorical("ecog")))], "main effects"), ([Interaction((Variable("age"),))], "2 to 4"),
    ([Variable("height")], "not a variable"),
    ([{"term": "variable", "name": "age", "code": "import os"}], "cannot be read"), ([{"term": "eval", "name": "age"}], "cannot be read"),
])
def test_what_cannot_be_a_term_says_why(terms, text):
    with pytest.raises(QuestionError, match=text):
        Design.of(terms, DICTIONARY)
