"""The rounds of a generalised linear model: cells and start, the iterations of the model and of its reduced models side by side,
and the numbers that follow from their last totals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedstats.disclosure import NO_RULES
from fedstats.disclosure.release import few_levels
from fedstats.errors import NotConverged, QuestionError
from fedstats.formula.terms import INTERCEPT, Design, Term, factors_of
from fedstats.query.analysis import Setting, abreast
from fedstats.sums import steady
from fedstats.sums.statistic import Ask, Sums

from ...shared.centred import narrower, spread_of
from ..model_cells import Cells, crossed, model_cells, selecting
from ..model_rules import (
    check_columns,
    check_effective,
    check_informed,
    check_leverage,
    check_model,
    model_informed,
    nobody_outlying,
)
from ..newton import Fit, Problem, Reading, collinear, penalised, settle, usual_course
from ..outcome_moments import Implied
from ..ranges import far_reaching
from .data import Spec
from .family import SCALED, Family
from .start import glm_start
from .sums import glm_own, glm_sums
from .watch import Reach, glm_leverage

# of the moment estimate that a negative binomial starts from: from below Newton's steps are safe
LEAST_THETA, MOST_THETA = 0.05, 5.0
NO_OVERDISPERSION = 13.0                    # log theta beyond it: the counts are Poisson

Steps = Generator[list[Ask], list[Sums], Any]


@dataclass(frozen=True)
class Plan:
    """A model before it is fitted: what every ask carries. selectors : variables of weights and offset."""

    model: dict[str, Any]
    terms: tuple[Term, ...]
    family: Family
    setting: Setting
    ridge: float
    selectors: tuple[str, ...] = ()

    def spec(self, drop: Sequence[str] = ()) -> Spec:
        return Spec.of(self.setting.dictionary, **(self.model | {"drop": list(drop)}))


@dataclass(frozen=True)
class Ended:
    """A fitted model. spec : without the columns that are left out. theta : of the negative
    binomial. registries : whose sums it is from."""

    fit: Fit
    spec: Spec
    theta: float | None
    registries: int

    @property
    def beta(self) -> tuple[float, ...]:
        return self.fit.point[:len(self.spec.design)]

    def total(self, name: str) -> float:
        return float(self.fit.totals[name])

    def rounding(self, name: str) -> float:
        """The rounding error of a sum: every registry rounds to the unit that 53 bits below the
        bound leave."""
        return self.fit.layout[name].bound * 2.0**-53 * self.registries

    @property
    def perfect(self) -> bool:
        """Whether nothing is left over: an exact line, or an outcome that is the same for all who
        are alike."""
        return self.spec.family.dispersed and not int(self.total("off"))

    @property
    def deviance(self) -> float:
        """On the scale of the outcome."""
        half = self.spec.y_scale[1]
        return 0.0 if self.perfect else max(self.total("deviance"), 0.0) * half * half

    @property
    def dispersion(self) -> float:
        """Pearson's chi-squared over the residual degrees of freedom, on the scale of the fit; not
        a number where there are none, as R says."""
        if not self.spec.family.dispersed:
            return 1.0
        left = self.total("rows") - self.parameters
        return math.nan if left <= 0 else 0.0 if self.perfect else self.total("pearson") / left

    @property
    def log_likelihood(self) -> float | None:
        """With its constants, as R's glm and MASS::glm.nb; None for quasi-likelihoods, and for weighted gaussian models (theirs needs the
        logarithms of the weights)."""
        t, n, kind = self.total, self.total("rows"), self.spec.family.kind
        if self.spec.family.name.startswith("quasi") or (kind == "gaussian" and self.spec.weights is not None):
            return None
        if self.perfect:        # a density without limit
            return math.inf
        if kind == "gaussian":
            half = self.spec.y_scale[1]
            return -n / 2 * (math.log(2 * math.pi * t("deviance") * half * half / n) + 1)
        if kind == "gamma":
            a = t("weight") / t("deviance")
            return (a - 1) * t("constant") + a * t("likelihood") + t("weight") * (a * math.log(a) - math.lgamma(a))
        return t("likelihood") + t("constant")

    @property
    def parameters(self) -> int:
        """Coefficients, registry intercepts included, without dispersion and theta."""
        return len(self.spec.design) + int(self.total("registries"))

    @property
    def extra(self) -> int:
        """Parameters of the likelihood beside the coefficients: sigma, shape, theta."""
        return int(self.spec.family.kind in ("gaussian", "gamma", "negativebinomial"))


@dataclass(frozen=True)
class Fitted:
    """All fits of a question. reduced : label of the term left out -> fit. dropped : columns that nobody has. tells_null : whether
    what belongs to the model without terms may be told."""

    full: Ended
    null: Ended | None
    reduced: dict[str, Ended]
    cells: Cells
    dropped: tuple[str, ...]
    tells_null: bool = True


def fitted(plan: Plan, *, lr: bool, null: bool, released: int) -> Steps:
    """All rounds of a model. Raises Refused, QuestionError or NotConverged naming the term."""
    setting, spec = plan.setting, plan.spec()
    dictionary, binary = setting.dictionary, spec.family.binary
    # a mean of few-level values is the table of these levels in disguise; so is what weights or an offset of few levels select
    outcome = spec.response if binary or few_levels(dictionary[spec.response]) else None
    also = selecting(plan.selectors, dictionary)
    keys = {"weights": plan.model["weights"], "columns": list(spec.columns), "terms": plan.model["terms"]}
    first = [model_cells(outcome=outcome, also=also, intercept=spec.design.intercept, absorbed=spec.own, **keys), glm_start(**plan.model)]
    if spec.own:
        first.append(model_informed(outcome=spec.response, **keys))
    implied = Implied(spec.response, plan.terms, plan.selectors, dictionary)
    first += (tables := implied.asks(spec.columns, plan.model["weights"]))
    wide = far_reaching(plan.terms, dictionary, [spec.response] if spec.family.name in SCALED else [])
    if wide:
        first.append(spread_of(wide, spec.columns, dictionary))
    if not setting.size.n:
        yield from usual_course(first, lambda last: [_ask(spec)(beta=[0.0] * len(spec.design), last=last, **plan.model)])
    cell_totals, start, *informed = yield first
    spreads = informed.pop() if wide else None
    of_outcome = [informed.pop() for _ in tables]
    parameters = max(len(spec.design) - int(spec.design.intercept), 1)
    cells = check_model(cell_totals, spec.design, dictionary, plan.terms, setting.rules, released=released, also=also,
                        parameters=parameters, what="events" if outcome else "patients", weights=plan.model["weights"],
                        ridge=plan.ridge)
    tells_null = implied.check(of_outcome, setting.rules)
    for found in informed:
        check_informed(found["informed"], spec.design.names, cells, setting.rules)
    dropped = check_columns(cells, spec.design)
    if binary and not plan.ridge:
        _check_separation(cell_totals, cells, plan)
    ranges = (yield from narrower(spreads, wide, spec.columns, setting)) if spreads is not None else {}
    if ranges:      # what was scaled by the ranges of the dictionary has lost digits
        plan = dataclasses.replace(plan, model=plan.model | {"ranges": ranges})
        spec = plan.spec()
        (start,) = yield [glm_start(**plan.model)]
    wanted = {"": dropped}
    if null and spec.family.kind != "negativebinomial":
        wanted[NULL] = tuple(name for name in spec.design.names if name != INTERCEPT)
    if lr:
        wanted |= {label: (*dropped, *(spec.design.names[k] for k in spec.design.terms[label])) for label in droppable(plan.terms)
                   if label in spec.design.terms}
    outlying = nobody_outlying(cell_totals, cells, setting.rules, keys | {"intercept": spec.design.intercept, "absorbed": spec.own})
    ends = yield from abreast([outlying, *(_one(plan, drop, start, spec.design) for drop in wanted.values())])
    fits = dict(zip(wanted, ends[1:]))
    full = fits.pop("")
    check_precision(full)
    check_effective(full.total("working"), full.total("working_squares"), parameters, setting.rules)
    for found in full.fit.beside:
        check_leverage(int(found["objections"]), setting.rules)
    if lr and full.theta is not None:
        fits[NULL] = yield from _null_at(plan, full.theta, start, spec.design)
    return Fitted(full, fits.pop(NULL, None), fits, cells, dropped, tells_null)


NULL = "(null)"
NEEDED, NEEDED_ROBUST = 1e-9, 1e-7      # relative precision of the information, and of the sandwich
NEEDED_DISPERSION = 1e-5                # of the dispersion: four digits are released


def precision(ended: Ended, name: str) -> float:
    """The rounding error of a packed matrix of sums, as a share of its smallest diagonal entry."""
    p = len(ended.spec.design)
    diagonal = [float(steady.unpack(ended.fit.totals[name], p)[k, k]) for k in range(p)]
    return ended.rounding(name) / max(min(diagonal, default=1.0), 1e-300)


def check_precision(ended: Ended) -> None:
    """Whether the sums were carried to enough digits. Raises QuestionError."""
    if len(ended.spec.design) and precision(ended, "information") > NEEDED:
        raise QuestionError("the sums of this model cannot be carried to enough digits: what one patient may add is far more than what the "
                            "patients do", hint="give narrower ranges in the dictionary, or transform a column that reaches far")
    if (
        ended.spec.family.dispersed
        and not ended.perfect
        and ended.rounding("pearson") > NEEDED_DISPERSION * abs(ended.total("pearson"))
    ):
        raise QuestionError(
            f'what the model leaves over of "{ended.spec.response}" is so small beside its range in the dictionary that it '
            "cannot be carried to enough digits",
            hint=f'give "{ended.spec.response}" a narrower range in the dictionary',
        )


def penalties(design: Design, ridge: float) -> list[float]:
    """The ridge penalty of each scaled coefficient: `ridge` per squared coefficient of the column as it is, none for the intercept."""
    return [0.0 if design.intercept and k == 0 else ridge / (half * half) for k, half in enumerate(design.half)]


def droppable(terms: Sequence[Term]) -> list[str]:
    """Terms that are not part of an interaction in the model, as R's drop1."""
    inside = [frozenset(factors_of(term)) for term in terms]
    return [term.label for term, mine in zip(terms, inside) if not any(mine < other for other in inside)]


def _check_separation(totals: Sums, cells: Cells, plan: Plan) -> None:
    """A level, or a combination of levels that an interaction has a coefficient for, in which the
    outcome is always the same has no finite coefficient. Raises QuestionError naming it. totals :
    of `model_cells`."""
    dictionary = plan.setting.dictionary
    single = {factors_of(term)[0].name for term in plan.terms if len(factors_of(term)) == 1}
    tables: list[tuple[tuple[str, ...], np.ndarray]] = [
        ((name,), table) for name, table in zip(cells.factors, cells.levels) if name in single]
    tables += [
        (names, totals[f"cross{j}"]) for j, names in enumerate(crossed(plan.terms, cells.factors))
    ]
    for names, table in tables:
        # numbers make a straight line through their levels, not a coefficient for each
        if any(dictionary[name].is_numeric for name in names):
            continue
        labels = [dictionary.bins(name).labels for name in names]
        for place in np.ndindex(table.shape[:-1]):
            if table[place].sum() and not table[place].all():
                raise _separated(
                    list(zip(names, (one[k] for one, k in zip(labels, place)))),
                    bool(table[place][-1]),
                )


def _separated(levels: Sequence[tuple[str, str]], everybody: bool) -> QuestionError:
    """levels : (variable, level) of those who all have the event, or of whom nobody has."""
    where = " and ".join(f'the level "{label}" of "{name}"' for name, label in levels)
    names = " or ".join(f'"{name}"' for name, _ in levels)
    what = "that level out with a filter" if len(levels) == 1 else "the interaction out"
    return QuestionError(
        f"in {where} {'everybody' if everybody else 'nobody'} has the event: its coefficient has no finite estimate "
        "(separation)",
        hint=f"leave {what}, join levels of {names}, or hold coefficients back with ridge=1",
    )


def _one(plan: Plan, drop: Sequence[str], start: Sums, whole: Design) -> Steps:
    """One model from start to end."""
    spec = plan.spec(drop)
    design, model = spec.design, plan.model | {"drop": list(drop)}
    beta = _first(start, whole, design, plan)
    if spec.family.kind == "negativebinomial":
        ended = yield from _negative_binomial(plan, spec, model, beta)
        return ended
    reach = Reach(spec, model, beta)
    problem = Problem(design.names, lambda point, last: _ask(spec)(beta=list(point), last=last, reach=reach.at(point), **model), _read,
                      plan.setting.dictionary, penalties(design, plan.ridge), linear=spec.family.kind == "gaussian",
                      beside=_leverage(plan, spec, model), watch=reach)
    fit = yield from settle(problem, beta, matrix=_submatrix(start, whole, design))
    return Ended(fit, spec, None, plan.setting.registries)


def _leverage(plan: Plan, spec: Spec, model: dict[str, Any]) -> Any:
    """What the last ask of a model brings along: whether somebody has too much leverage. Not asked where there are no rules."""
    if plan.setting.rules == NO_RULES:
        return None

    def asks(point: Sequence[float], matrix: np.ndarray) -> list[Ask]:
        p = len(spec.design)
        information = penalised(np.array(matrix)[:p, :p], penalties(spec.design, plan.ridge))
        try:
            inverse = steady.pack(steady.inverse(information)).tolist()
        except steady.Singular as error:
            raise collinear(spec.design.names[error.column]) from None
        theta = steady.exp(point[p]) if len(point) > p else None
        return [glm_leverage(beta=list(point[:p]), inverse=inverse, theta=theta, **model)]

    return asks


def _null_at(plan: Plan, theta: float, start: Sums, whole: Design) -> Steps:
    """The null model of a negative binomial at the theta of the whole model, as the null deviance of MASS::glm.nb is defined."""
    drop = [name for name in whole.names if name != INTERCEPT]
    spec, model = plan.spec(drop), plan.model | {"drop": drop}
    beta = _first(start, whole, spec.design, plan)
    reach = Reach(spec, model, beta)
    problem = Problem(spec.design.names, lambda point, last: _ask(spec)(beta=list(point), theta=theta, last=last, reach=reach.at(point),
                                                                        **model), _read, plan.setting.dictionary, watch=reach)
    fit = yield from settle(problem, beta)
    return Ended(fit, spec, theta, plan.setting.registries)


def _ask(spec: Spec) -> Any:
    return glm_own if spec.own else glm_sums


def _read(point: Sequence[float], totals: Sums) -> Reading:
    return Reading(float(totals["likelihood"]), _list(totals, "score"), _matrices(totals, len(point)))


def _list(totals: Sums, name: str) -> list[float]:
    return totals[name].tolist() if name in totals else []


def _matrices(totals: Sums, p: int) -> list[np.ndarray]:
    return [steady.unpack(totals[name], p) for name in ("observed", "information") if name in totals] or [np.zeros((0, 0))]


def _first(start: Sums, whole: Design, design: Design, plan: Plan) -> list[float]:
    """The start of a model from the sums of I_r and I_r b_r: for a reduced model, the best point of the same quadratic form."""
    places = [whole.names.index(name) for name in design.names]
    A = penalised(_submatrix(start, whole, design), penalties(design, plan.ridge))
    try:
        return steady.solve(A, [start["vector"][k].item() for k in places]).tolist()
    except steady.Singular as error:
        raise collinear(design.names[error.column]) from None


def _submatrix(start: Sums, whole: Design, design: Design) -> np.ndarray:
    places = [whole.names.index(name) for name in design.names]
    matrix = steady.unpack(start["matrix"], len(whole)).tolist()
    return np.array([[matrix[i][j] for j in places] for i in places]).reshape(len(places), len(places))


# -- negative binomial ---------------------------------------------------------------------------------------------------------


def _negative_binomial(plan: Plan, spec: Spec, model: dict[str, Any], beta: list[float]) -> Steps:
    """Coefficients and log theta together, by Newton's method on the joint likelihood, from one Poisson step and the moment estimate.

    The maximum is that of MASS::glm.nb, which alternates between the two. Lawless (1987), Can J Stat 15:209-225.
    """
    design, p = spec.design, len(spec.design)
    reach = Reach(spec, model, beta)
    if reach.on:
        reach.heard(beta, (yield reach.asks(beta)))
    first = _ask(spec)(beta=beta, reach=reach.at(beta), **model)
    first.layout(plan.setting.dictionary)
    (totals,) = yield [first]
    if p:
        matrix = penalised(steady.unpack(totals["information"], p), penalties(design, plan.ridge))
        try:
            beta = [b + s for b, s in zip(beta, steady.solve(matrix, totals["score"].tolist()).tolist())]
        except steady.Singular as error:
            raise collinear(design.names[error.column]) from None
    # E (y - mu)^2 / mu = 1 + mu / theta; with an intercept the first entry of the information is the sum of mu
    excess = float(totals["pearson"]) - plan.setting.size.n if "pearson" in totals else 0.0
    mean = float(totals["information"][0]) if design.intercept else float(plan.setting.size.n)
    theta = min(max(mean / excess, LEAST_THETA), MOST_THETA) if excess > 0 else MOST_THETA

    def ask(point: Sequence[float], last: bool) -> Ask:
        if point[-1] > NO_OVERDISPERSION:
            raise NotConverged("the counts vary no more than a Poisson model expects: theta of the negative binomial grows without limit",
                               hint='use family="poisson"')
        return _ask(spec)(beta=list(point[:-1]), theta=steady.exp(point[-1]), last=last, reach=reach.at(point), **model)

    def read(point: Sequence[float], totals: Sums) -> Reading:
        h, cross = float(totals["theta_information"]), _list(totals, "cross")
        matrices = _matrices(totals, p) if p else [np.zeros((0, 0))] * 2
        # where the likelihood is not concave in theta: a step of at most 1, uphill
        uphill = max(abs(h), abs(float(totals["theta_score"])), 1e-3)
        joint = [_bordered(matrix, line, corner) for matrix, line, corner in zip(matrices, (cross, [0.0] * p), (h, uphill))]
        return Reading(float(totals["likelihood"]), [*_list(totals, "score"), float(totals["theta_score"])], joint)

    problem = Problem((*design.names, "log(theta)"), ask, read, plan.setting.dictionary, [*penalties(design, plan.ridge), 0.0],
                      beside=_leverage(plan, spec, model), watch=reach)
    fit = yield from settle(problem, [*beta, steady.log(theta)])
    return Ended(fit, spec, math.exp(fit.point[-1]), plan.setting.registries)


def _bordered(matrix: np.ndarray, line: Sequence[float], corner: float) -> np.ndarray:
    p = len(matrix)
    found = np.zeros((p + 1, p + 1))
    found[:p, :p] = matrix
    found[:p, p] = found[p, :p] = line
    found[p, p] = corner
    return found
