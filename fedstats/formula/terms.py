"""Terms of a model: a closed tree of columns, levels, powers, splines and products, and the design matrix that nodes build from it.

How this works:
1. A term is one of the structs below, plain data on the wire; nothing in it is evaluated. Levels, ranges and knots come from
   the dictionary, never from rows, so every registry builds the same columns.
2. `Design.of(terms, dictionary)` names the columns and knows, from the dictionary's ranges, the smallest and largest value that
   a patient can have in each. Fits run on (column - center) / half, within [-1, 1] for every possible patient: so sums are
   bounded and well conditioned. `unscale` turns a fit back into the columns as people know them.
3. Categories are coded as R codes them: against the reference level, unless the margin of the term is not in the model
   (Chambers & Hastie, 1992, Statistical Models in S, section 2.4.1).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ..data.dictionary import MOST_GROUPS, RESERVED, Dictionary
from ..data.rows import Rows
from ..data.variable import Variable as Entry
from ..data.variable import value_text
from ..errors import QuestionError
from ..sums import steady
from . import splines

INTERCEPT = "(Intercept)"
MOST_DEGREE, MOST_DF, MOST_FACTORS = 5, 10, 4
MOST_COLUMNS = 300          # of one design: their pairs are summed, 45 150 numbers


class _Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="term"):
    @property
    def label(self) -> str:
        """The term as people write it in a formula."""
        raise NotImplementedError


class Variable(_Term, frozen=True, tag="variable"):
    """A number or a boolean (0, 1) as it is, a category as indicators of its levels against `reference` (the first by default)."""

    name: str
    reference: str | None = None

    @property
    def label(self) -> str:
        return self.name if self.reference is None else f"C({self.name}, Treatment('{self.reference}'))"


class Categorical(_Term, frozen=True, tag="categorical"):
    """Levels whatever the type: an integer by its values, or by its registered cut points where it has some."""

    name: str
    reference: str | None = None

    @property
    def label(self) -> str:
        return f"C({self.name})" if self.reference is None else f"C({self.name}, Treatment('{self.reference}'))"


class Power(_Term, frozen=True, tag="power"):
    """x ** power, 2 to 5."""

    name: str
    power: int

    @property
    def label(self) -> str:
        return f"I({self.name}**{self.power})"


class Polynomial(_Term, frozen=True, tag="polynomial"):
    """x, x**2, ..., x**degree: raw powers, as R's poly(x, degree, raw=TRUE)."""

    name: str
    degree: int

    @property
    def label(self) -> str:
        return f"poly({self.name}, {self.degree})"


class Natural(_Term, frozen=True, tag="natural"):
    """A natural cubic spline as R's ns(x, knots=, Boundary.knots=): linear beyond the boundary.

    knots : inner knots, registered cut points. df : instead of knots, df - 1 of them, evenly spaced among the registered cut
    points (no quantiles of data are used). boundary : two registered cut points; the range of the variable by default.
    """

    name: str
    df: int | None = None
    knots: tuple[float, ...] = ()
    boundary: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        return f"ns({self.name}, {_inside(self)})"


class BSpline(_Term, frozen=True, tag="bspline"):
    """A B-spline as R's bs(x, knots=, degree=) with the variable's range as boundary. df : df - degree inner knots, as in `Natural`."""

    name: str
    df: int | None = None
    knots: tuple[float, ...] = ()
    degree: int = 3

    @property
    def label(self) -> str:
        return f"bs({self.name}, {_inside(self)}{'' if self.degree == splines.CUBIC else f', degree={self.degree}'})"


class Log(_Term, frozen=True, tag="log"):
    """log(x + plus), natural logarithm; the dictionary's range must make that positive."""

    name: str
    plus: float = 0.0

    @property
    def label(self) -> str:
        return f"log({self.name} + {self.plus:g})" if self.plus else f"log({self.name})"


class Scale(_Term, frozen=True, tag="scale"):
    """(x - center) / by with stated constants; by default the middle and half the width of the dictionary's range."""

    name: str
    center: float | None = None
    by: float | None = None

    @property
    def label(self) -> str:
        inside = "".join(f", {key}={value:g}" for key, value in (("center", self.center), ("by", self.by)) if value is not None)
        return f"scale({self.name}{inside})"


Factor = Variable | Categorical | Power | Polynomial | Natural | BSpline | Log | Scale


class Interaction(_Term, frozen=True, tag="interaction"):
    """All products of the columns of two to four terms."""

    factors: tuple[Factor, ...]

    @property
    def label(self) -> str:
        return ":".join(one.label for one in self.factors)


Term = Factor | Interaction


def _inside(term: Natural | BSpline) -> str:
    text = f"{term.df}" if term.df is not None else "knots=[" + ", ".join(f"{knot:g}" for knot in term.knots) + "]"
    if isinstance(term, Natural) and term.boundary:
        text += f", boundary=[{term.boundary[0]:g}, {term.boundary[1]:g}]"
    return text


def read_terms(source: Sequence[Any]) -> tuple[Term, ...]:
    """Terms from plain data (or from terms). Raises QuestionError."""
    if all(isinstance(one, _Term) for one in source):
        return tuple(source)
    try:
        return msgspec.convert([msgspec.to_builtins(one) for one in source], tuple[Term, ...], strict=True)
    except msgspec.ValidationError as error:
        raise QuestionError(f"a term of the model cannot be read: {error}") from None


def factors_of(term: Term) -> tuple[Factor, ...]:
    return term.factors if isinstance(term, Interaction) else (term,)


def variables_of(terms: Iterable[Term]) -> tuple[str, ...]:
    """The dictionary variables that terms need, in order, each once."""
    return tuple(dict.fromkeys(factor.name for term in terms for factor in factors_of(term)))


# -- columns -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """The columns of a term: names, the least and the largest value of each for any possible patient, and how rows give them.

    values : rows (complete cases) -> one array of doubles per column. corners : points in whose convex hull the columns of every
    patient lie, () if only `low` and `high` are known: levels exclude each other, B-splines are shares that sum to 1.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    values: Callable[[Rows], Sequence[np.ndarray]]
    corners: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def is_categorical(factor: Factor, dictionary: Dictionary) -> bool:
    """Whether a term is coded as indicators of levels."""
    return isinstance(factor, Categorical) or (isinstance(factor, Variable) and dictionary[factor.name].type == "category")


def columns_of(term: Term, dictionary: Dictionary, whole: Sequence[bool] | None = None) -> Columns:
    """The columns of one term. whole : per factor, whether a category gets all its levels. Raises QuestionError naming the term."""
    factors = factors_of(term)
    if not 1 <= len(factors) <= MOST_FACTORS or (isinstance(term, Interaction) and len(factors) < 2):
        raise QuestionError(f'"{term.label}": an interaction has 2 to {MOST_FACTORS} parts')
    if len({factor.name for factor in factors}) < len(factors):
        raise QuestionError(f'"{term.label}": a variable interacts with itself', hint="use I(x**2) for a square")
    parts = [_factor_columns(factor, dictionary, bool(whole and whole[k])) for k, factor in enumerate(factors)]
    return functools.reduce(_product, parts)


def single(term: Term, dictionary: Dictionary) -> Columns:
    """A term that must be one column, such as an offset. Raises QuestionError."""
    found = columns_of(read_terms([term])[0], dictionary)
    if len(found) != 1:
        raise QuestionError(f'"{read_terms([term])[0].label}" makes {len(found)} columns: one is wanted here')
    return found


def levels_of(name: str, dictionary: Dictionary) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The labels of the levels of a variable taken as a category, and their codes in `rows.bins`."""
    bins, variable = dictionary.bins(name, most=MOST_GROUPS), dictionary[name]
    codes = range(len(bins))
    if variable.type == "integer" and variable.levels and bins.atoms:
        allowed = {float(level) for level in variable.levels}
        codes = [k for k in codes if bins.values[k] in allowed]     # type: ignore[assignment]
    return tuple(bins.labels[k] for k in codes), tuple(codes)


def column_base(name: str, dictionary: Dictionary) -> str:
    """What stands before the level in the name of an indicator column: sex[M], C(ecog)[2]."""
    return f"C({name})" if dictionary[name].is_numeric else name


def _product(a: Columns, b: Columns) -> Columns:
    """All products, the first factor running fastest, as in R. Their range is that of the products of the ends."""
    pairs = [(i, j) for j in range(len(b)) for i in range(len(a))]
    ends = [[a.low[i] * b.low[j], a.low[i] * b.high[j], a.high[i] * b.low[j], a.high[i] * b.high[j]] for i, j in pairs]

    def values(rows: Rows) -> list[np.ndarray]:
        left, right = a.values(rows), b.values(rows)
        return [left[i] * right[j] for i, j in pairs]

    return Columns(tuple(f"{a.names[i]}:{b.names[j]}" for i, j in pairs), tuple(map(min, ends)), tuple(map(max, ends)), values)


def _factor_columns(factor: Factor, dictionary: Dictionary, whole: bool) -> Columns:
    if factor.name == RESERVED:
        raise QuestionError('"registry" is a reserved word: single registries are never terms of a model',
                            hint="write strata(registry), or strata=\"registry\"")
    if is_categorical(factor, dictionary):
        return _levels(factor, dictionary, whole)       # type: ignore[arg-type]
    if isinstance(factor, Variable) and factor.reference is not None:
        if dictionary[factor.name].type == "boolean":
            return _levels(factor, dictionary, whole)
        raise QuestionError(f'"{factor.label}": "{factor.name}" is not a category', hint=f"write C({factor.name}, Treatment(...))")
    entry = dictionary.numeric(factor.name)
    name, low, high = factor.name, entry.low, entry.high
    match factor:
        case Power():
            if not 2 <= factor.power <= MOST_DEGREE:
                raise QuestionError(f'"{factor.label}": a power lies between 2 and {MOST_DEGREE}')
            ends = _power_ends(low, high, factor.power)
            return Columns((factor.label,), (ends[0],), (ends[1],), lambda rows: [rows.values(name) ** factor.power])
        case Polynomial():
            if not 1 <= factor.degree <= MOST_DEGREE:
                raise QuestionError(f'"{factor.label}": a degree lies between 1 and {MOST_DEGREE}')
            degrees = range(1, factor.degree + 1)
            many = [_power_ends(low, high, k) for k in degrees]
            return Columns(tuple(f"{factor.label}[{k}]" for k in degrees), tuple(one[0] for one in many), tuple(one[1] for one in many),
                           lambda rows: [rows.values(name) ** k for k in degrees])
        case Natural() | BSpline():
            return _spline(factor, entry)
        case Log():
            if not low + factor.plus > 0:
                raise QuestionError(f'"{factor.label}": "{name}" may be {value_text(entry, low)}, whose logarithm is not defined',
                                    hint=f"write log({name} + 1), or let the range of \"{name}\" start above 0 in the dictionary")
            return Columns((factor.label,), (steady.log(low + factor.plus),), (steady.log(high + factor.plus),),
                           lambda rows: [np.log(rows.values(name) + factor.plus)])
        case Scale():
            center = factor.center if factor.center is not None else (low + high) / 2
            by = factor.by if factor.by is not None else (high - low) / 2
            if not by > 0:
                raise QuestionError(f'"{factor.label}": the unit must be above 0')
            return Columns((factor.label,), ((low - center) / by,), ((high - center) / by,),
                           lambda rows: [(rows.values(name) - center) / by])
    return Columns((name,), (low,), (high,), lambda rows: [rows.values(name)])


def _power_ends(low: float, high: float, power: int) -> tuple[float, float]:
    a = b = 1.0
    for _ in range(power):
        a, b = a * low, b * high
    return (0.0 if low < 0 < high and power % 2 == 0 else min(a, b)), max(a, b)


def _levels(factor: Variable | Categorical, dictionary: Dictionary, whole: bool) -> Columns:
    labels, codes = levels_of(factor.name, dictionary)
    if factor.reference is not None and factor.reference not in labels:
        raise QuestionError(f'"{factor.reference}" is not a level of "{factor.name}"', hint="levels are: " + ", ".join(labels))
    reference = factor.reference if factor.reference is not None else labels[0]
    kept = [(label, code) for label, code in zip(labels, codes) if whole or label != reference]
    base = column_base(factor.name, dictionary)

    def values(rows: Rows) -> list[np.ndarray]:
        found = rows.bins(factor.name)
        return [(found == code).astype(float) for _, code in kept]

    return Columns(tuple(f"{base}[{label}]" for label, _ in kept), (0.0,) * len(kept), (1.0,) * len(kept), values,
                   _simplex(len(kept)))


def _simplex(size: int) -> tuple[tuple[float, ...], ...]:
    """0 and the unit vectors."""
    return ((0.0,) * size, *(tuple(float(i == k) for i in range(size)) for k in range(size)))


# -- splines -----------------------------------------------------------------------------------------------------------------


def knots_of(factor: Natural | BSpline, dictionary: Dictionary) -> tuple[float, float, list[float]]:
    """The boundary of a spline, and its inner knots within it as shares."""
    entry = dictionary.numeric(factor.name)
    low, high = (entry.low, entry.high) if isinstance(factor, BSpline) or factor.boundary is None else factor.boundary
    return low, high, [(knot - low) / (high - low) for knot in _knots(factor, entry, low, high)]


def _spline(factor: Natural | BSpline, entry: Entry) -> Columns:
    name = factor.name
    low, high = entry.low, entry.high
    if isinstance(factor, Natural) and factor.boundary is not None:
        low, high = factor.boundary
        if not (entry.low <= low < high <= entry.high and entry.is_cut(low) and entry.is_cut(high)):
            raise QuestionError(f'"{factor.label}": the boundary must be two registered cut points of "{name}", increasing')
    inner = _knots(factor, entry, low, high)
    u = [(knot - low) / (high - low) for knot in inner]
    if isinstance(factor, BSpline):
        if not 1 <= factor.degree <= MOST_DEGREE:
            raise QuestionError(f'"{factor.label}": a degree lies between 1 and {MOST_DEGREE}')
        knots, count = splines.augmented(u, factor.degree), len(u) + factor.degree
        names = tuple(f"{factor.label}[{k + 1}]" for k in range(count))
        degree = factor.degree

        def columns(rows: Rows) -> Sequence[np.ndarray]:
            basis = splines.bspline(np.clip((rows.values(name) - low) / (high - low), 0.0, 1.0), knots, degree)
            return [basis[:, k + 1] for k in range(count)]

        return Columns(names, (0.0,) * count, (1.0,) * count, columns, _simplex(count))
    weights = splines.natural_weights(u)
    # inside the boundary B-splines are shares that sum to 1; beyond it the columns are straight, so the ends say all
    far = splines.natural(np.array([(entry.low - low) / (high - low), (entry.high - low) / (high - low)]), u, weights).tolist()
    least = tuple(min(0.0, *row, far[0][j], far[1][j]) for j, row in enumerate(weights))
    most = tuple(max(0.0, *row, far[0][j], far[1][j]) for j, row in enumerate(weights))

    def natural(rows: Rows) -> Sequence[np.ndarray]:
        return list(splines.natural((rows.values(name) - low) / (high - low), u, weights).T)

    corners = ((0.0,) * len(weights), *zip(*weights), *(tuple(row) for row in far))
    return Columns(tuple(f"{factor.label}[{k + 1}]" for k in range(len(weights))), least, most, natural, corners)


def _knots(factor: Natural | BSpline, entry: Entry, low: float, high: float) -> tuple[float, ...]:
    """The inner knots: those named, or evenly spaced among the registered cut points inside the boundary."""
    if factor.df is None:
        for a, b in zip((low, *factor.knots), (*factor.knots, high)):
            if not a < b:
                raise QuestionError(f'"{factor.label}": knots must increase and lie inside the boundary, {low:g} to {high:g}')
        for knot in factor.knots:
            if not entry.is_cut(knot):
                raise QuestionError(f'"{factor.label}": {knot:g} is not a registered cut point of "{factor.name}"',
                                    hint="use cut points of the dictionary")
        return tuple(float(knot) for knot in factor.knots)
    if factor.knots:
        raise QuestionError(f'"{factor.label}": give df or knots, not both')
    wanted = factor.df - (1 if isinstance(factor, Natural) else factor.degree)
    if not wanted >= 0 or factor.df > MOST_DF:
        least = 1 if isinstance(factor, Natural) else factor.degree
        raise QuestionError(f'"{factor.label}": df lies between {least} and {MOST_DF}')
    if entry.cuts is not None:
        places = [cut for cut in entry.cuts if low < cut < high]
    elif entry.unit_step is not None:
        first, last = round((low - entry.low) / entry.unit_step), round((high - entry.low) / entry.unit_step)
        places = [entry.low + k * entry.unit_step for k in range(first + 1, min(last, first + 20_000))]
    else:
        raise QuestionError(f'"{factor.name}" is a number without cut points: a spline has no place for its knots',
                            hint=f'add "cut_points" to "{factor.name}" in the dictionary')
    if len(places) < wanted:
        raise QuestionError(f'"{factor.label}": {wanted} inner knots are wanted, "{factor.name}" has {len(places)} registered cut points',
                            hint="ask for fewer degrees of freedom")
    # the k-th knot stands as near as can be to the share k / (wanted + 1) of the registered places; whole-number arithmetic
    return tuple(places[(2 * k * (len(places) + 1) + wanted + 1) // (2 * (wanted + 1)) - 1] for k in range(1, wanted + 1))


# -- the design --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """The design of a model: its columns, their ranges, and the way from scaled columns back.

    names : as in R and patsy: "(Intercept)", "age", "sex[M]", "age:sex[M]", "ns(edss, 3)[1]". terms : label -> places of its
    columns. variables : dictionary variables that must be known. low, high : of each column, for any possible patient.
    center, half : fits run on (column - center) / half. intercept : whether the first column is constant.
    """

    names: tuple[str, ...]
    terms: Mapping[str, tuple[int, ...]]
    variables: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    center: tuple[float, ...]
    half: tuple[float, ...]
    intercept: bool
    parts: tuple[Columns, ...]
    kept: tuple[int, ...]

    @staticmethod
    def of(terms: Sequence[Any], dictionary: Dictionary, *, intercept: bool = True, absorbed: bool = True,
           drop: Sequence[str] = ()) -> Design:
        """The design of some terms.

        intercept : whether there is a constant column. absorbed : without one, whether something else takes its part (a baseline
        hazard, registry intercepts): then columns may be centred, and categories are coded as beside an intercept.
        drop : names of columns to leave out: levels that nobody has, terms of a reduced model.
        Raises QuestionError naming the term.
        """
        return _design(read_terms(terms), dictionary, intercept, absorbed, frozenset(drop))

    def __len__(self) -> int:
        return len(self.names)

    def matrix(self, rows: Rows) -> np.ndarray:
        """The scaled columns of complete cases, shape (n, p), every entry within [-1, 1]."""
        found = np.ones((rows.n, len(self)), order="F")
        columns = [column for part in self.parts for column in part.values(rows)]
        start = int(self.intercept)
        for j, k in enumerate(self.kept):
            np.divide(columns[k] - self.center[start + j], self.half[start + j], out=found[:, start + j])
        # a spline's last digit may go beyond its bound
        return np.clip(found, -1.0, 1.0, out=found)

    def plain(self, rows: Rows) -> np.ndarray:
        """The columns of complete cases as they are, shape (n, p)."""
        columns = [column for part in self.parts for column in part.values(rows)]
        return np.column_stack([np.ones((rows.n, int(self.intercept))), *(columns[k] for k in self.kept)])

    @functools.cached_property
    def places(self) -> tuple[tuple[Columns, tuple[tuple[int, int], ...]], ...]:
        """Per term its columns, and which of them stand where in the design: (place in the term, place in the design)."""
        found, at, start = [], 0, int(self.intercept)
        where = {k: start + j for j, k in enumerate(self.kept)}
        for part in self.parts:
            found.append((part, tuple((k, where[at + k]) for k in range(len(part)) if at + k in where)))
            at += len(part)
        return tuple(found)

    @property
    def back(self) -> np.ndarray:
        """T with (coefficients of the columns as they are) = T (coefficients of the scaled columns), shape (p, p)."""
        found = np.diag([1.0 / half for half in self.half]) if len(self) else np.zeros((0, 0))
        if self.intercept:
            found[0, 1:] = [-center / half for center, half in zip(self.center[1:], self.half[1:])]
        return found

    def unscale(self, beta: Sequence[float] | np.ndarray, cov: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Coefficients and covariance of the columns as they are. For use after the last yield."""
        T = self.back
        return T @ np.asarray(beta, dtype=float), None if cov is None else T @ np.asarray(cov) @ T.T

    def eta_range(self, beta: Sequence[float]) -> tuple[float, float]:
        """The least and the largest linear predictor of any possible patient at scaled coefficients; steady."""
        low = high = beta[0] if self.intercept else 0.0
        for part, places in self.places:
            slopes = [beta[j] / self.half[j] for _, j in places]
            base = -steady.dot(slopes, [self.center[j] for _, j in places])
            if part.corners:
                ends = [steady.dot(slopes, [corner[k] for k, _ in places]) for corner in part.corners]
                low, high = low + (base + min(ends)), high + (base + max(ends))
            else:
                for slope, (k, _) in zip(slopes, places):
                    base_low, base_high = slope * part.low[k], slope * part.high[k]
                    low, high = low + min(base_low, base_high), high + max(base_low, base_high)
                low, high = low + base, high + base
        slack = 1e-9 * (1.0 + max(abs(low), abs(high)))     # for the rounding of columns
        return low - slack, high + slack

    def term_of(self, column: int) -> str:
        """The label of the term that a column belongs to."""
        return next((label for label, places in self.terms.items() if column in places), self.names[column])


@functools.lru_cache(maxsize=256)
def _design(terms: tuple[Term, ...], dictionary: Dictionary, intercept: bool, absorbed: bool, drop: frozenset[str]) -> Design:
    labels = [term.label for term in terms]
    for label in labels:
        if labels.count(label) > 1:
            raise QuestionError(f'the term "{label}" is named twice')
    margins: set[frozenset] = {frozenset(_key(factor) for factor in factors_of(term)) for term in terms}
    if intercept or absorbed:
        margins.add(frozenset())
    parts, places, names, low, high, kept, at = [], {}, [INTERCEPT] * intercept, [1.0] * intercept, [1.0] * intercept, [], 0
    for term, label in zip(terms, labels):
        factors = factors_of(term)
        whole = []
        for factor in factors:
            margin = frozenset(_key(one) for one in factors if one != factor)
            # R's rule: contrasts where the margin is in the model; without an intercept the first category takes its part
            whole.append(is_categorical(factor, dictionary) and margin not in margins)
        if sum(whole) > 1 and frozenset() in margins:
            raise QuestionError(f'"{label}": the main effects of an interaction are missing',
                                hint="write " + "*".join(factor.label for factor in factors))
        if any(whole) and len(factors) == 1:
            margins.add(frozenset())
        part = columns_of(term, dictionary, whole)
        parts.append(part)
        mine = []
        for k, name in enumerate(part.names):
            if name not in drop:
                mine.append(len(names))
                names.append(name)
                low.append(part.low[k])
                high.append(part.high[k])
                kept.append(at + k)
        at += len(part)
        if mine:
            places[label] = tuple(mine)
    if len(set(names)) < len(names):
        raise QuestionError("two columns of the model have the same name", hint="leave out the term that repeats another")
    if len(names) > MOST_COLUMNS:
        raise QuestionError(f"the model has {len(names)} columns: at most {MOST_COLUMNS}")
    centred = intercept or absorbed
    start = int(intercept)
    center = [0.0] * start + [(a + b) / 2 if centred else 0.0 for a, b in zip(low[start:], high[start:])]
    half = [1.0] * start + [((b - a) / 2 if centred else max(abs(a), abs(b))) or 1.0 for a, b in zip(low[start:], high[start:])]
    return Design(tuple(names), places, variables_of(terms), tuple(low), tuple(high), tuple(center), tuple(half), intercept,
                  tuple(parts), tuple(kept))


def _key(factor: Factor) -> tuple[str, str]:
    """What makes two factors the same for the coding of interactions: how the variable enters."""
    return (type(factor).__name__ if not isinstance(factor, (Variable, Categorical)) else "levels", factor.name)
