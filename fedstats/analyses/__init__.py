"""The list of analyses. A new analysis is one file with two halves, a reference test, and a line here."""

from . import (
    crosstab,
    summary,
)

__all__ = [
    "crosstab",
    "summary",
]
