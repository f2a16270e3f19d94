"""Results as pandas data frames: plain values, one frame per table. The only file that imports pandas."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..query.analysis import Failed, Result
from ..query.views import Table
from .words import tables_of


def frame(result: Result) -> Any:
    """The first table of a result as a DataFrame; numbers that were not released are NaN.

    Index and columns are stated in the docstring of each result. Raises the error of a `Failed`.
    """
    found = tables_of(_answered(result))
    if not found:
        raise InputError("this result has no table")
    return frame_of(found[0])


def frames(result: Result) -> dict[str, Any]:
    """All tables of a result as DataFrames, by title."""
    return {table.title or f"table {k + 1}": frame_of(table) for k, table in enumerate(tables_of(_answered(result)))}


def frame_of(table: Table) -> Any:
    """One table as a DataFrame, its leading columns as the index; None becomes NaN among numbers and stays None among texts."""
    pandas = _pandas()
    columns = [[row[k] for row in table.rows] for k in range(len(table.columns))]
    series = [pandas.Series(column, dtype="float64" if column and all(value is None for value in column) else None)
              for column in columns]
    if not table.rows:
        series = [pandas.Series(column, dtype=object) for column in columns]
    found = pandas.concat(series, axis=1, keys=range(len(series))) if series else pandas.DataFrame()
    # by place, not by name: a level may be called like another column
    index, body = found.iloc[:, :table.index], found.iloc[:, table.index:]
    body.columns = list(table.columns[table.index:])
    names = list(table.columns[:table.index])
    if table.index == 1:
        body.index = pandas.Index(index.iloc[:, 0], name=names[0])
    elif table.index > 1:
        body.index = pandas.MultiIndex.from_arrays([index.iloc[:, k] for k in range(table.index)], names=names)
    return body


def _answered(result: Result) -> Result:
    if isinstance(result, Failed):
        raise result.error()
    return result


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise InputError("data frames need pandas, which is not installed", hint='pip install "fedstats[show]"') from None
    return pandas
