"""Tables at the edge: a data frame, an Arrow table, a dict of columns, a CSV or Parquet file -> columns.

The only file that imports pyarrow. CSV cells are read as text, and no library is asked what a date or a
number is (Arrow makes 2 March of 31/02/2020): what cells mean is for `cells`, by the dictionary.

`sheet` gives every column as its distinct cells, for readers that judge cell by cell and count what they
found; lines that are no rows are counted, or stop it (`whole`). `columns_of` gives plain columns.
"""

from __future__ import annotations

import codecs
import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .variable import one_form

Columns = dict[str, np.ndarray]


def columns_of(table: Any) -> Columns:
    """The columns of anything that is a table, as numpy arrays of equal length.

    table : a path to .csv or .parquet, a pandas DataFrame, a pyarrow Table or RecordBatch, or a mapping of column name to
        sequence. Raises InputError for anything else, for columns of unequal length and for repeated names.
    """
    if isinstance(table, (str, Path)):
        return read(table)
    if isinstance(table, Mapping):
        found = {one_form(str(name)): np.asarray(column) for name, column in table.items()}
    elif hasattr(table, "column_names"):        # pyarrow
        if len(set(table.column_names)) != len(table.column_names):
            raise InputError("a column name is used twice in the table")
        found = {one_form(name): table.column(name).to_numpy(zero_copy_only=False) if not hasattr(table.column(name), "chunks")
                 else table.column(name).to_numpy() for name in table.column_names}
    elif hasattr(table, "columns") and hasattr(table, "to_numpy"):      # pandas
        names = [str(name) for name in table.columns]
        if len(set(names)) != len(names):
            raise InputError("a column name is used twice in the table")
        found = {one_form(str(name)): np.asarray(table[name]) for name in table.columns}
    else:
        raise InputError(f"a table was expected, not {type(table).__name__}",
                         hint="give a data frame, an Arrow table, a dict of columns, or the path of a .csv or .parquet file")
    if any(column.ndim != 1 for column in found.values()) or len({len(column) for column in found.values()}) > 1:
        raise InputError("the columns of a table must have one length")
    return found


def read(path: str | Path, *, encoding: str = "utf-8") -> Columns:
    """The columns of a CSV (first line names, every cell as text) or Parquet file. Raises InputError naming the file."""
    found = sheet(path, encoding=encoding, whole=True)
    return {name: cells.array() for name, cells in found.columns.items()}


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file. Returns its path. Raises InputError if it cannot be written."""
    path = Path(path)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    return path


def write_csv(path: str | Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns as CSV; None and not-a-number are empty cells."""
    import pyarrow as pa
    import pyarrow.csv

    pyarrow.csv.write_csv(pa.table({name: pa.array(column, from_pandas=True) for name, column in columns.items()}), path)


# -- cell by cell --------------------------------------------------------------------------------------------------------

RAGGED = "line with more or fewer cells than the first line"
INSIDE = "line break inside a quoted cell"
QUOTE = b'"'
NO_FILE = "there is no such file"
DECLARE_ENCODING = 'save it as UTF-8, or declare its encoding, such as encoding = "cp1252"'
LARGEST = 10**300
SEPARATORS = ",;\t"
LOST = "\ufffd"         # stands in a text for bytes that were none in the declared encoding


@dataclass(frozen=True)
class Cells:
    """A column as its distinct cells and, for each row, which of them it has.

    codes : int, shape (rows,), -1 = null.
    distinct : text, numbers, booleans; moments of time as ISO text ("Z" where they have a time zone). `LOST` in a text stands
        for bytes that were no text in the declared encoding.
    """

    codes: np.ndarray
    distinct: list[Any]

    def array(self) -> np.ndarray:
        """The cells row by row; None where null."""
        return np.array([*self.distinct, None], dtype=object)[self.codes]


@dataclass(frozen=True)
class Sheet:
    """A table cell by cell. lost : lines that did not become rows of their own, by rule (`RAGGED`, `INSIDE`).

    odd_line : the first `RAGGED` one: line of the file, its cells, those of the first line.
    """

    rows: int
    columns: Mapping[str, Cells]
    lost: Mapping[str, int]
    odd_line: tuple[int, int, int] | None = None


def sheet(table: Any, *, encoding: str = "utf-8", whole: bool = False) -> Sheet:
    """The cells of a table; see `columns_of` for what is a table, `encoding` for how a CSV file is written.

    One bad line or cell does not stop the reading: lines that are no rows are counted, cells are handed
    over as they are. whole : they do stop it, and the error names the file.
    Raises InputError for what is no table at all.
    """
    if isinstance(table, (str, Path)):
        return _read_whole(Path(table), encoding) if whole else _read_sheet(Path(table), encoding)
    if isinstance(table, Mapping):
        named = [(str(name), column) for name, column in table.items()]
    elif hasattr(table, "column_names"):        # pyarrow
        named = list(zip(table.column_names, table.columns))
    elif hasattr(table, "columns") and hasattr(table, "iloc"):          # pandas
        named = [(str(name), table.iloc[:, k]) for k, name in enumerate(table.columns)]
    else:
        raise InputError(f"a table was expected, not {type(table).__name__}",
                         hint="give a data frame, an Arrow table, a dict of columns, or the path of a .csv or .parquet file")
    named = [(one_form(name), column) for name, column in named]
    _check_names([name for name, _ in named])
    if any(not hasattr(column, "__len__") or isinstance(column, (str, bytes)) or getattr(column, "ndim", 1) != 1 for _, column in named) \
            or len({len(column) for _, column in named}) > 1:
        raise InputError("the columns of a table must have one length")
    return Sheet(len(named[0][1]) if named else 0, {name: cells_of(column) for name, column in named}, {})


def _read_whole(path: Path, encoding: str) -> Sheet:
    try:
        found = _read_sheet(path, encoding)
    except InputError as error:
        text = f"there is no file {path}" if error.what == NO_FILE else f"{path}: {error.what}"
        raise InputError(text, hint=error.hint) from None
    if found.odd_line is not None:
        line, here, there = found.odd_line
        raise InputError(f"{path}, line {line}: {here} cells where the first line has {there}",
                         hint="every line needs as many cells as the first")
    torn = any(LOST in name for name in found.columns)
    if torn or any(isinstance(cell, str) and LOST in cell for cells in found.columns.values() for cell in cells.distinct):
        raise InputError(f"{path} is not {encoding.upper()} text", hint=DECLARE_ENCODING)
    return found


def _read_sheet(path: Path, encoding: str) -> Sheet:
    import pyarrow as pa
    import pyarrow.parquet

    if not path.is_file():
        raise InputError(NO_FILE)
    try:
        if path.suffix == ".parquet":
            return sheet(pyarrow.parquet.read_table(path, page_checksum_verification=True))
        return _csv_sheet(path.read_bytes(), encoding)
    except pa.ArrowException:       # its text may quote cells
        raise InputError("cannot be read", hint="is it a table? are all quotation marks closed?") from None
    except OSError:                 # also what Arrow says of a damaged file
        raise InputError("cannot be read", hint="is the file whole, and may it be opened?") from None


def _csv_sheet(content: bytes, encoding: str) -> Sheet:
    import pyarrow as pa
    import pyarrow.csv

    first, _, body = _as_utf8(content, encoding).partition(b"\n")
    if not first.strip():
        raise InputError("is empty: the first line must name the columns")
    head = first.decode().strip("\r\n")
    delimiter = max(SEPARATORS, key=re.sub('"[^"]*"', "", head).count)
    if delimiter not in head and any(sign in head for sign in "|:^~"):
        raise InputError("its first line names one column only", hint="cells are separated by commas, semicolons or tabs: save it so")
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    as_text = pyarrow.csv.ConvertOptions(column_types={f"f{k}": pa.string() for k in range(head.count(delimiter) + 1)},
                                         strings_can_be_null=False)
    # the first line is read as a row, because there it may name columns twice
    line = pyarrow.csv.read_csv(pa.BufferReader(head.encode() + b"\n"), parse_options=parse, convert_options=as_text,
                                read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=True))
    names = [one_form(str(column[0].as_py())).strip() or f"(column {k + 1})" for k, column in enumerate(line.columns)]
    _check_names(names)
    lost: dict[str, int] = {}
    odd: list[tuple[int, int, int]] = []

    def ragged(row: Any) -> str:
        lost[RAGGED] = lost.get(RAGGED, 0) + 1
        lost[INSIDE] = lost.get(INSIDE, 0) + row.text.count("\n")
        odd.append((row.number + 1, row.actual_columns, row.expected_columns)) if not odd else None
        return "skip"

    if not body.strip():
        return Sheet(0, {name: Cells(np.empty(0, dtype=np.int32), []) for name in names}, {})
    table = pyarrow.csv.read_csv(
        # one thread: only then does Arrow know in which line it stumbled
        pa.BufferReader(body), read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=ragged, newlines_in_values=QUOTE in body),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False))
    found = {name: cells_of(column) for name, column in zip(names, table.columns)}
    if QUOTE in body:       # a stray quotation mark swallows whole lines: never silently
        lost[INSIDE] = lost.get(INSIDE, 0) + sum(_count_of(cells, "\n") for cells in found.values())
    return Sheet(table.num_rows, found, lost, odd[0] if odd else None)


def _as_utf8(content: bytes, encoding: str) -> bytes:
    """A text file in UTF-8 with line ends of today. Bytes that are no text become `LOST`: which cells have
    them is found out cell by cell."""
    try:
        is_utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
        if not is_utf8:
            content = content.decode(encoding).encode()
    except (UnicodeError, LookupError):
        raise InputError(f"is not {encoding} text", hint="declare the encoding that the file was saved in") from None
    if is_utf8 and (content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:4096]):
        raise InputError("is not UTF-8 text", hint="save it as UTF-8, or declare its encoding, such as utf-16")
    if content[:4] == b"PK\3\4":
        raise InputError("is a workbook or an archive, not CSV", hint="save it as CSV, UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").decode(errors="replace").encode()
    return content if b"\n" in content else content.replace(b"\r", b"\n")       # old Macintoshes


def _check_names(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise InputError("a column name is used twice")


def _count_of(cells: Cells, mark: str) -> int:
    each = np.array([cell.count(mark) if isinstance(cell, str) else 0 for cell in cells.distinct] + [0])
    return int(each[cells.codes].sum())


def cells_of(column: Any) -> Cells:
    """Any sequence as distinct cells."""
    import pyarrow as pa

    try:
        array = column if isinstance(column, (pa.Array, pa.ChunkedArray)) else pa.array(column, from_pandas=True)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
            array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        return _arrow_cells(array)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):       # columns of mixed or nested kinds
        for name in ("to_pylist", "tolist"):
            column = getattr(column, name)() if hasattr(column, name) else column
        return _plain_cells(column)


def _arrow_cells(array: Any) -> Cells:
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind):
        return Cells(np.full(len(array), -1, dtype=np.int32), [])
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = kind.unit if pa.types.is_timestamp(kind) else "D" if pa.types.is_date32(kind) else "ms"
        found = _arrow_cells(array.cast(pa.int32() if unit == "D" else pa.int64()).cast(pa.int64()))
        moments = np.array(found.distinct, dtype=np.int64).view(f"datetime64[{unit}]").astype("datetime64[s]")
        zone = "Z" if pa.types.is_timestamp(kind) and kind.tz else ""
        texts = np.datetime_as_string(moments).tolist()
        return Cells(found.codes, [text + zone if zone else text.removesuffix("T00:00:00") for text in texts])
    if pa.types.is_nested(kind) or pa.types.is_decimal(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return _plain_cells(array.to_pylist())
    encoded = array.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    distinct = encoded.dictionary
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return Cells(codes, distinct.to_numpy(zero_copy_only=False).tolist())
    return Cells(codes, [cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in distinct.to_pylist()])


def _plain_cells(column: Iterable[Any]) -> Cells:
    places: dict[Any, int] = {}
    codes = []
    for cell in column:
        plain = _plain(cell)
        codes.append(-1 if plain is None else places.setdefault((type(plain), plain), len(places)))
    return Cells(np.array(codes, dtype=np.int32), [plain for _, plain in places])


def _plain(cell: Any) -> Any:
    if isinstance(cell, np.generic):
        cell = cell.item()
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    if isinstance(cell, int) and abs(cell) > LARGEST:       # no double holds it
        return float("inf") if cell > 0 else float("-inf")
    if isinstance(cell, (str, int, float)):
        return cell
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, (datetime.date, datetime.datetime)):
        return cell.isoformat()
    if isinstance(cell, (list, tuple, set, np.ndarray)):
        return ";".join(str(part) for part in cell)
    return str(cell)
