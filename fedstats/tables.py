"""Tables at the edge: a data frame, an Arrow table, a dict of columns, a CSV or Parquet file -> plain numpy columns.

The only file that imports pyarrow. CSV cells are read as text: what they mean is the dictionary's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

Columns = dict[str, np.ndarray]


def columns_of(table: Any) -> Columns:
    """The columns of anything that is a table, as numpy arrays of equal length.

    table : a path to .csv or .parquet, a pandas DataFrame, a pyarrow Table or RecordBatch, or a mapping of column name to
        sequence. Raises InputError for anything else, for columns of unequal length and for repeated names.
    """
    if isinstance(table, (str, Path)):
        return read(table)
    if isinstance(table, Mapping):
        found = {str(name): np.asarray(column) for name, column in table.items()}
    elif hasattr(table, "column_names"):        # pyarrow
        if len(set(table.column_names)) != len(table.column_names):
            raise InputError("a column name is used twice in the table")
        found = {name: table.column(name).to_numpy(zero_copy_only=False) if not hasattr(table.column(name), "chunks")
                 else table.column(name).to_numpy() for name in table.column_names}
    elif hasattr(table, "columns") and hasattr(table, "to_numpy"):      # pandas
        names = [str(name) for name in table.columns]
        if len(set(names)) != len(names):
            raise InputError("a column name is used twice in the table")
        found = {str(name): np.asarray(table[name]) for name in table.columns}
    else:
        raise InputError(f"a table was expected, not {type(table).__name__}",
                         hint="give a data frame, an Arrow table, a dict of columns, or the path of a .csv or .parquet file")
    if any(column.ndim != 1 for column in found.values()) or len({len(column) for column in found.values()}) > 1:
        raise InputError("the columns of a table must have one length")
    return found


def read(path: str | Path) -> Columns:
    """The columns of a CSV (UTF-8, first line names, every cell as text) or Parquet file. Raises InputError naming the file."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        if path.suffix == ".parquet":
            return columns_of(pyarrow.parquet.read_table(path))
        with path.open("rb") as file:
            head = file.readline().decode("utf-8-sig")
        if not head.strip():
            raise InputError(f"{path} is empty: the first line must name the columns")
        delimiter = max(",;\t", key=head.count)
        names = pyarrow.csv.read_csv(pa.BufferReader(head.encode() + b"\n"),
                                     parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter)).column_names
        if len(set(names)) != len(names):
            raise InputError(f"{path}: a column name is used twice")
        as_text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        # one thread: only then does Arrow know in which line it stumbled
        table = pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter), convert_options=as_text,
                                     read_options=pyarrow.csv.ReadOptions(use_threads=False))
        return columns_of(table)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None
    except pa.ArrowInvalid as error:
        # Arrow quotes the row it stumbled over: keep the place, drop the cells
        found = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", str(error))
        if found:
            raise InputError(f"{path}, line {found[1]}: {found[3]} cells where the first line has {found[2]}",
                             hint="every line needs as many cells as the first") from None
        raise InputError(f"{path} cannot be read: {str(error).split(':')[0].strip()[:120]}", hint="is it a table?") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or 'not a table'}") from None


def write_csv(path: str | Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns as CSV."""
    import pyarrow as pa
    import pyarrow.csv

    pyarrow.csv.write_csv(pa.table({name: pa.array(column) for name, column in columns.items()}), path)
