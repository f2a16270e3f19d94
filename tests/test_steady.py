"""steady: against the C library and LAPACK, and errors that name the column."""

import math

import numpy as np
import pytest

from fedstats.sums import steady
from fedstats.sums.steady import Singular


def ulps(found, expected):
    return abs(found - expected) / math.ulp(expected)


def test_exp_and_log_are_within_two_units_of_the_c_library():
    """Near 0 and 1, where it is hard, and over the whole range."""
    rng = np.random.default_rng(1)
    for x in [*rng.uniform(-1, 1, 5000), *rng.uniform(-700, 700, 5000), 0.0, 1e-300, -1e-20, 709.0]:
        assert ulps(steady.exp(float(x)), math.exp(x)) <= 2
    for x in [*rng.uniform(0.5, 2, 5000), *np.exp(rng.uniform(-700, 700, 5000)), 1.0, 1 + 2**-52, 1 - 2**-53, 5e-324, 1.7e308]:
        assert abs(steady.log(float(x)) - math.log(x)) <= 2 * math.ulp(math.log(x))


def test_exp_and_log_say_where_they_end():
    """No silent infinity; 0 far below."""
    assert steady.exp(-1000.0) == 0.0
    with pytest.raises(OverflowError):
        steady.exp(710.0)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError):
            steady.log(wrong)


def test_solve_and_inverse_equal_lapack():
    """Random positive definite systems, up to the rounding of their condition."""
    rng = np.random.default_rng(2)
    for p in (1, 2, 7, 30):
        X = rng.normal(size=(3 * p, p))
        A, b = X.T @ X, rng.normal(size=p)

        assert steady.solve(A, b) == pytest.approx(np.linalg.solve(A, b), rel=1e-9)
        assert steady.inverse(A) == pytest.approx(np.linalg.inv(A), rel=1e-9)
        assert np.array_equal(steady.inverse(A), steady.inverse(A).T)
        assert np.array(steady.cholesky(A)[-1]) == pytest.approx(np.linalg.cholesky(A)[-1], rel=1e-9)


def test_a_singular_matrix_names_the_column():
    """The third column is the sum of the first two."""
    X = np.random.default_rng(3).normal(size=(20, 4))
    X[:, 2] = X[:, 0] + X[:, 1]
    with pytest.raises(Singular) as caught:
        steady.solve(X.T @ X, np.zeros(4))

    assert caught.value.column == 2
    with pytest.raises(Singular):
        steady.inverse([[0.0]])


def test_totals_do_not_depend_on_the_memory_layout():
    """Rows in C or Fortran order, a slice or a copy: the same bits; and near numpy's sum."""
    x = np.random.default_rng(4).normal(size=(1001, 7))
    found = steady.total(x)

    assert np.array_equal(found, steady.total(np.asfortranarray(x))) and np.array_equal(found, steady.total(x.T.copy(), axis=1))
    assert found == pytest.approx(x.sum(axis=0), abs=1e-11)
    assert steady.total(np.zeros((0, 3))).tolist() == [0.0, 0.0, 0.0]


def test_triangles_go_there_and_back():
    A = np.arange(16.0).reshape(4, 4)
    A = A + A.T

    assert np.array_equal(steady.unpack(steady.pack(A), 4), A)


@pytest.mark.parametrize(("x", "expected"), [(1.0, 1.0), (1.0001, 2.0), (0.3, 0.5), (8.0, 8.0), (0.0, 2.0**-300)])
def test_bounds_are_rounded_up_to_powers_of_two(x, expected):
    assert steady.power_of_two(x) == expected
