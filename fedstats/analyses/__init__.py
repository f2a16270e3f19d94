"""The list of analyses. A new analysis is one file with two halves, a reference test, and a line here."""

from . import (
    compare,
    correlation,
    crosstab,
    histogram,
    kaplan_meier,
    logrank,
    quantiles,
    rates,
    summary,
    table_one,
)

__all__ = [
    "compare",
    "correlation",
    "crosstab",
    "histogram",
    "kaplan_meier",
    "logrank",
    "quantiles",
    "rates",
    "summary",
    "table_one",
]
