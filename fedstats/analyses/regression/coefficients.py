"""Coefficients of regression models, under the names that users of lifelines and statsmodels know.

A model's result holds its `coefficients`, their covariance and joint tests; everything else (`.params`, `.hazard_ratios_`,
`.summary`, ...) is read off these. `coefficients_of` makes them from a fit, after the last round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ...disclosure.precision import (
    DIGITS,
    Public,
    PValue,
    Statistic,
    Told,
    error_digits,
    estimate_step,
    to_digits,
    to_step,
    widening,
)
from ...errors import QuestionError
from ...formula.terms import INTERCEPT
from ...query.analysis import Result
from ...query.views import Picture, Table
from ..shared.common import CONFIDENCE, p_chi2, p_normal, p_student, t_of, z_of

COLLINEAR = 1e14            # condition of an information matrix without a useful inverse
NOT_RATIOS = "the coefficients of this model are no logarithms of ratios: exp(coef) means nothing"


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One coefficient. exp_coef : the odds, rate or hazard ratio; None where the model has no
    ratios (identity and probit links), infinite above exp(709). se : model-based. se_robust :
    sandwich, None where not asked for. lower, upper, z, p : from `se_used` of the result. z is
    Student's t where the dispersion is estimated. With a standard error of 0 (a perfect fit) z is
    infinite, or not a number for a coefficient of 0; without residual degrees of freedom none of
    them is a number. vif : variance inflation factor, None for an intercept."""

    term: str
    coef: Told[float]
    exp_coef: Told[float | None]
    se: Told[float]
    se_robust: Told[float | None]
    lower: Told[float]
    upper: Told[float]
    z: Statistic[float]
    p: PValue[float]
    vif: float | None = None


class Test(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One test. name : "wald", "lr" or "score". term : what is tested, "(model)" for all terms together."""

    name: str
    term: str
    chi2: Statistic[float]
    df: int
    p: PValue[float]


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fit took. rounds : of sealed sums, round 0 aside. numbers : sealed by each registry, in all rounds. bytes : sent by each
    registry, sealed, about."""

    rounds: int
    numbers: int
    bytes: int = 0


class ModelResult(Result, frozen=True, kw_only=True):
    """What regression models share. Frame: one row per coefficient (index: covariate), see `coefficients_table`; `summary` is the same
    under lifelines' column names.

    covariance : of the coefficients, model-based; None where it would be more numbers than the rules let out.
    covariance_robust : sandwich, None where not asked for.
    se_used : "model" or "robust", behind intervals and p values. t_df : degrees of freedom of Student's t, None: normal.
    tests : joint tests. cost : rounds and numbers of the fit.
    """


    coefficients: tuple[Coefficient, ...]
    covariance: tuple[tuple[float, ...], ...] | None = None
    covariance_robust: tuple[tuple[float, ...], ...] | None = None
    confidence: Public[float] = CONFIDENCE
    se_used: str = "model"
    t_df: int | None = None
    tests: tuple[Test, ...] = ()
    cost: Public[Cost] = Cost(0, 0)

    def told(self) -> ModelResult:
        return msgspec.structs.replace(self, coefficients=tuple(map(self._told, self.coefficients)))

    def _told(self, one: Coefficient) -> Coefficient:
        """A coefficient to a hundredth of its standard error; z, interval and exp(coef) from what is told, p exact."""
        used = self._se(one)
        if not 0 < used < math.inf:
            return one
        quantile, step, digits = self._quantile(self.confidence), estimate_step(used), error_digits(self.n)
        coef, told = to_step(one.coef, step), to_digits(used, digits)
        half = quantile * told + widening(step, used)
        return msgspec.structs.replace(
            one, coef=coef, exp_coef=None if one.exp_coef is None else to_digits(exp_or_inf(coef), DIGITS),
            se=to_digits(one.se, digits), se_robust=None if one.se_robust is None else to_digits(one.se_robust, digits),
            lower=to_step(coef - half, step), upper=to_step(coef + half, step), z=coef / told)

    def __getitem__(self, term: str) -> Coefficient:
        return {one.term: one for one in self.coefficients}[term]

    @property
    def has_ratios(self) -> bool:
        """Whether exp(coef) means something: an odds, rate or hazard ratio."""
        return all(one.exp_coef is not None for one in self.coefficients)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.term for one in self.coefficients)

    # -- as in lifelines ---------------------------------------------------------------------------------------------------

    @property
    def summary(self) -> Any:
        """The table of coefficients as a DataFrame, with lifelines' column names."""
        return self.framed(self.summary_table())

    @property
    def params_(self) -> Any:
        """Coefficients as a Series."""
        return self.summary["coef"].rename("coef")

    @property
    def hazard_ratios_(self) -> Any:
        """exp(coef) as a Series. Raises QuestionError for a model that has no ratios."""
        if not self.has_ratios:
            raise QuestionError(NOT_RATIOS, hint="read .params_: they are differences")
        return self.summary["exp(coef)"].rename("exp(coef)")

    @property
    def standard_errors_(self) -> Any:
        return self.summary["se(coef)"].rename("se")

    @property
    def confidence_intervals_(self) -> Any:
        """DataFrame with lifelines' columns "95% lower-bound" and "95% upper-bound"."""
        level = f"{100 * self.confidence:g}%"
        return self.framed(Table(("covariate", f"{level} lower-bound", f"{level} upper-bound"),
                                 tuple((one.term, one.lower, one.upper) for one in self.coefficients)))

    @property
    def variance_matrix_(self) -> Any:
        """The covariance behind the intervals as a DataFrame."""
        used = self.covariance_robust if self.se_used == "robust" and self.covariance_robust is not None else self.covariance
        if used is None:
            raise QuestionError("the covariance of the coefficients is not released: more than a number per 10 patients (rule models)")
        return self.framed(Table(("covariate", *self.names), tuple((name, *row) for name, row in zip(self.names, used))))

    def print_summary(self, decimals: int = 2, **_: Any) -> None:
        """Print the table of coefficients and the tests."""
        print(self)

    # -- as in statsmodels -------------------------------------------------------------------------------------------------

    @property
    def params(self) -> Any:
        return self.params_

    @property
    def bse(self) -> Any:
        return self.standard_errors_

    @property
    def tvalues(self) -> Any:
        return self.summary["z"].rename("z")

    @property
    def pvalues(self) -> Any:
        return self.summary["p"].rename("p")

    def cov_params(self) -> Any:
        return self.variance_matrix_

    def conf_int(self, alpha: float | None = None) -> Any:
        """DataFrame with columns 0 and 1. alpha : 0.05 for 95 %; by default that of the fit."""
        quantile = self._quantile(self.confidence if alpha is None else 1 - alpha)
        rows = tuple((one.term, one.coef - quantile * self._se(one), one.coef + quantile * self._se(one)) for one in self.coefficients)
        found = self.framed(Table(("covariate", "0", "1"), rows))
        found.columns = [0, 1]
        return found

    # -- texts -------------------------------------------------------------------------------------------------------------

    def to_latex(self, **options: Any) -> str:
        """The table of coefficients as a LaTeX tabular (pandas options)."""
        return _latex(self.summary_table())

    def to_html(self, **options: Any) -> str:
        """The result as an HTML fragment."""
        return self._repr_html_()

    def summary_table(self) -> Table:
        """One row per coefficient under lifelines' column names; those of exp(coef) only where it
        means something."""
        level = f"{100 * self.confidence:g}%"
        ratios = self.has_ratios
        columns = (
            "covariate",
            "coef",
            *(("exp(coef)",) if ratios else ()),
            "se(coef)",
            f"coef lower {level}",
            f"coef upper {level}",
            *((f"exp(coef) lower {level}", f"exp(coef) upper {level}") if ratios else ()),
            "cmp to",
            "z",
            "p",
            "-log2(p)",
        )
        rows = []
        for one in self.coefficients:
            ratio = (one.exp_coef,) if ratios else ()
            ends = (exp_or_inf(one.lower), exp_or_inf(one.upper)) if ratios else ()
            found = (one.coef, *ratio, self._se(one), one.lower, one.upper, *ends)
            rows.append((one.term, *found, 0.0, one.z, one.p, _bits(one.p)))
        return Table(columns, tuple(rows), title="Coefficients")

    def coefficients_table(self, ratio: str = "") -> Table:
        """One row per coefficient, for reading: coef, se, coef_low, coef_high, z, p; with `ratio`, exp(coef) under that name and its
        interval before them."""
        columns = ("covariate", *((ratio, f"{ratio}_low", f"{ratio}_high") if ratio else ()), "coef", "se", "coef_low", "coef_high",
                   "t" if self.t_df is not None else "z", "p")
        rows = []
        for one in self.coefficients:
            ratios = (one.exp_coef, exp_or_inf(one.lower), exp_or_inf(one.upper)) if ratio else ()
            rows.append((one.term, *ratios, one.coef, self._se(one), one.lower, one.upper, one.z, one.p))
        return Table(columns, tuple(rows), title="Coefficients")

    def tests_table(self) -> Table:
        return Table(("test", "term", "chi2", "df", "p"), tuple((one.name, one.term, one.chi2, one.df, one.p) for one in self.tests),
                     index=2, title="Tests")

    def forest(self, ratio: str = "", title: str = "Coefficients") -> Picture:
        """Coefficients with intervals; exponentiated, with a reference line at 1, if `ratio` says what they are then. Intercepts and
        cut points of levels are left out."""
        shown = [one for one in self.coefficients if INTERCEPT not in one.term and "|" not in one.term] or list(self.coefficients)

        def change(value: float) -> float | None:
            found = exp_or_inf(value) if ratio else value
            return found if math.isfinite(found) and (found or not ratio) else None

        series = tuple((name, tuple(change(getattr(one, key)) for one in shown))
                       for name, key in (("estimate", "coef"), ("low", "lower"), ("high", "upper")))
        return Picture("points", title, y=ratio or "coefficient", labels=tuple(one.term for one in shown), series=series,
                       marks=(1.0 if ratio else 0.0,))

    def _se(self, one: Coefficient) -> float:
        return one.se_robust if self.se_used == "robust" and one.se_robust is not None else one.se

    def _quantile(self, confidence: float) -> float:
        return z_of(confidence) if self.t_df is None else t_of(confidence, self.t_df)


# -- from a fit to its coefficients ----------------------------------------------------------------------------------------------


def exp_or_inf(x: float) -> float:
    """exp(x), infinite where no double holds it."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _bits(p: float) -> float:
    """-log2 of a p value."""
    return math.inf if p == 0 else -math.log2(p)


def coefficients_of(
    names: Sequence[str],
    coef: Sequence[float] | np.ndarray,
    cov: np.ndarray,
    *,
    robust: np.ndarray | None = None,
    use_robust: bool = False,
    confidence: float = CONFIDENCE,
    t_df: int | None = None,
    vif: Sequence[float | None] | None = None,
    ratios: bool = True,
) -> tuple[Coefficient, ...]:
    """Coefficients with standard errors, intervals and Wald tests.

    cov, robust : covariance matrices, shape (p, p). use_robust : behind z, p and intervals. t_df : Student's t instead of the normal.
    ratios : whether coefficients are logarithms of ratios.
    """
    quantile = z_of(confidence) if t_df is None else t_of(confidence, t_df)
    found = []
    for k, name in enumerate(names):
        b, se = float(coef[k]), _root(cov[k, k])
        other = None if robust is None else _root(robust[k, k])
        used = other if use_robust and other is not None else se
        z = over(b, used)
        p = p_normal(z) if t_df is None else p_student(z, t_df)
        found.append(
            Coefficient(
                name,
                b,
                exp_or_inf(b) if ratios else None,
                se,
                other,
                b - quantile * used,
                b + quantile * used,
                z,
                p,
                vif[k] if vif is not None else None,
            )
        )
    return tuple(found)


def _root(variance: float) -> float:
    """A standard error; a variance that rounding has made negative is 0, one that is not a number
    stays so."""
    return math.sqrt(variance) if not variance < 0 else 0.0


def over(value: float, error: float) -> float:
    """A statistic value / error: infinite for an error of 0, and not a number where nothing stands
    over nothing."""
    if error == 0:
        return math.copysign(math.inf, value) if value else math.nan
    return value / error


def wald(coef: Sequence[float] | np.ndarray, cov: np.ndarray, places: Sequence[int]) -> tuple[float, int]:
    """The joint Wald statistic b' V^-1 b of some coefficients and its degrees of freedom.

    Infinite where a coefficient is known without error and is not 0. Not a number where V has no
    inverse otherwise: a sandwich of fewer patients than coefficients, or a fit without residual
    degrees of freedom.
    """
    b, V = np.asarray(coef, dtype=float)[list(places)], np.asarray(cov)[np.ix_(list(places), list(places))]
    errors = np.sqrt(np.maximum(np.diag(V), 0.0))
    if (b[errors == 0] != 0).any():
        return math.inf, len(places)
    if (
        not np.isfinite(V).all()
        or (errors == 0).any()
        or np.linalg.cond(V / np.outer(errors, errors)) > COLLINEAR
    ):
        return math.nan, len(places)
    return float(b @ np.linalg.solve(V, b)), len(places)


def wald_tests(coef: Sequence[float] | np.ndarray, cov: np.ndarray, terms: Mapping[str, Sequence[int]]) -> tuple[Test, ...]:
    """One joint Wald test per term."""
    found = []
    for label, places in terms.items():
        chi2, df = wald(coef, cov, places)
        found.append(Test("wald", label, chi2, df, p_chi2(chi2, df)))
    return tuple(found)


def lr_test(term: str, full: float, reduced: float, df: int) -> Test:
    """The likelihood-ratio test of two nested fits from their log likelihoods."""
    if math.isinf(full):        # a perfect fit: better than any other that is not one
        chi2 = math.nan if full == reduced else math.inf
        return Test("lr", term, chi2, df, p_chi2(chi2, df))
    chi2 = max(2 * (full - reduced), 0.0)
    return Test("lr", term, chi2, df, p_chi2(chi2, df))


def vif_of(information: np.ndarray, intercept: bool) -> tuple[float | None, ...]:
    """Variance inflation factors: the diagonal of the inverse of the covariance matrix's correlation matrix, intercept left out.

    information : shape (p, p). Davis et al. (1986), as car::vif for terms of one column; weighted by the model's weights. None for all
    where a column follows from others, which only a penalty makes estimable.
    """
    start = int(intercept)
    if np.linalg.cond(information) > COLLINEAR:
        return (None,) * len(information)
    cov = np.linalg.inv(information)[start:, start:]
    inner = np.linalg.inv(cov)
    return (None,) * start + tuple(float(cov[k, k] * inner[k, k]) for k in range(len(cov)))


def rows_of(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """A matrix as plain data."""
    return tuple(tuple(float(one) for one in row) for row in np.asarray(matrix))


def _latex(table: Table) -> str:
    def cell(value: Any) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return "".join("\\" + sign if sign in "_%&#$" else "\\textasciicircum{}" if sign == "^" else sign for sign in text)

    lines = ["\\begin{tabular}{l" + "r" * (len(table.columns) - 1) + "}", " & ".join(map(cell, table.columns)) + " \\\\", "\\hline"]
    lines += [" & ".join(map(cell, row)) + " \\\\" for row in table.rows]
    return "\n".join([*lines, "\\end{tabular}"]) + "\n"
