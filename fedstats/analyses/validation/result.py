"""The result of a validation: performance at each horizon, overall and by group."""

from __future__ import annotations

from typing import Any, ClassVar

from ...disclosure.precision import Public
from ...query.analysis import Result
from ...query.views import Picture, Table
from ..shared.common import CONFIDENCE
from .performance import Metrics, Performance, SizeBand
from .seen import Seen


class Validation(Result, frozen=True, kw_only=True):
    """Frame: one row per horizon and group (index: horizon, variable, level), columns n, events, auc, auc_ci_low, ...

    `performance` has everything, one entry per horizon (horizon None: a plain yes or no). folds : how many. sizes : of registries, in
    bands. parameters : of the model. seen : which patients it has seen, so that it is asked about no others.
    """

    kind: ClassVar[str] = "validation"

    outcome: str
    objective: str
    folds: int
    performance: tuple[Performance, ...]
    sizes: tuple[SizeBand, ...] = ()
    confidence: Public[float] = CONFIDENCE
    time: str | None = None
    unit: str = ""
    parameters: Public[dict[str, Any]]
    seen: Public[Seen | None] = None

    @property
    def overall(self) -> Metrics:
        """Everybody, at the last horizon."""
        return self.performance[-1].overall

    def tables(self) -> tuple[Table, ...]:
        columns = ("horizon", "variable", "level", "n", "events", "auc", "auc_low", "auc_high", "pr_auc", "pr_auc_low", "pr_auc_high",
                   "brier", "observed/expected", "ratio_low", "ratio_high", "slope", "slope_low", "slope_high")
        rows = tuple((self._at(one), variable, level, m.n, m.events, m.auc, m.auc_low, m.auc_high, m.pr_auc, m.pr_auc_low, m.pr_auc_high,
                      m.brier, m.ratio, m.ratio_low, m.ratio_high, m.slope, m.slope_low, m.slope_high)
                     for one in self.performance
                     for variable, level, m in (("", "everybody", one.overall), *((g.variable, g.level, g.metrics) for g in one.groups)))
        found = [Table(columns, rows, index=3, title=f"{self.outcome}: {self.folds}-fold cross-validation")]
        classes = tuple((self._at(one), c.risk_from, c.risk_to, c.n, c.events, c.predicted, c.observed, c.low, c.high, c.net_benefit,
                         c.net_benefit_all) for one in self.performance for c in one.classes)
        if classes:
            found.append(Table(("horizon", "risk from", "risk to", "n", "events", "predicted", "observed", "observed_low", "observed_high",
                                "net benefit", "net benefit of all"), classes, index=3, title="Risk classes"))
        return tuple(found)

    def picture(self) -> Picture | None:
        """The calibration curve at the last horizon: observed share by mean predicted risk."""
        classes = self.performance[-1].classes
        if not classes:
            return None
        return Picture("points", f"{self.outcome}: observed by predicted risk", x="mean predicted risk of the class", y="observed share",
                       labels=tuple(f"{c.predicted:.1%}" for c in classes),
                       series=(("observed", tuple(c.observed for c in classes)), ("low", tuple(c.low for c in classes)),
                               ("high", tuple(c.high for c in classes))))

    def _at(self, one: Performance) -> str:
        return "" if one.horizon is None else f"{one.horizon:g} {self.unit}".strip()
