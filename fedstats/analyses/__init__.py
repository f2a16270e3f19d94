"""The list of analyses. A new analysis is one file with two halves, a reference test, and a line here; one that has grown is a folder of
that name, with its joint half in `__init__`."""

from . import boosting, compare, correlation, crosstab, histogram, quantiles, rates, severity, summary, table_one, validation
from .regression import cox, glm, multinomial, ordinal, piecewise
from .survival import kaplan_meier, logrank

__all__ = [
    "boosting",
    "compare",
    "correlation",
    "cox",
    "crosstab",
    "glm",
    "histogram",
    "kaplan_meier",
    "logrank",
    "multinomial",
    "ordinal",
    "piecewise",
    "quantiles",
    "rates",
    "severity",
    "summary",
    "table_one",
    "validation",
]
