"""Tables as they come out of hospitals: semicolons, tabs, byte order marks, ragged lines, other encodings."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fedstats.data.tables import columns_of, read, write_csv
from fedstats.errors import InputError


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_csv_files_of_all_kinds_read_alike(tmp_path, delimiter, end, mark):
    """The first line names the columns; cells are text, whatever they look like."""
    lines = [delimiter.join(cells) for cells in (["age", "sex", "town"], ["41", "F", "Gent"], ["", "M", "Århus"], ["007", "1.0", "NA"])]
    found = read(written(tmp_path, mark + end.join(lines) + end))

    assert list(found) == ["age", "sex", "town"]
    assert found["age"].tolist() == ["41", "", "007"]
    assert found["sex"].tolist() == ["F", "M", "1.0"] and found["town"].tolist() == ["Gent", "Århus", "NA"]


def test_cells_may_hold_the_delimiter_in_quotes(tmp_path):
    """A quoted cell is one cell."""
    found = read(written(tmp_path, 'name,place\n"Lyon, France","a ""good"" one"\n'))

    assert found["name"].tolist() == ["Lyon, France"] and found["place"].tolist() == ['a "good" one']


def test_a_file_of_one_column_is_a_table(tmp_path):
    """No delimiter at all: one column."""
    assert read(written(tmp_path, "age\n41\n42\n"))["age"].tolist() == ["41", "42"]


def test_a_file_without_rows_has_its_columns(tmp_path):
    """A header alone: an empty registry, not an error."""
    found = read(written(tmp_path, "age,sex\n"))

    assert {name: len(column) for name, column in found.items()} == {"age": 0, "sex": 0}


@pytest.mark.parametrize(("content", "wanted"), [
    ("", "empty"), ("\n\n", "empty"), ("a,b\n1,2\n3\n", "cells"), ("a,b\n1,2,3\n", "cells"), ("a,a\n1,2\n", "used twice"),
    ("age,town\n61.25,Århus\n".encode("latin-1"), "t.csv"), ("åge,b\n1,2\n".encode("latin-1"), "UTF-8"),
    ("a,b\n1,2\n".encode("utf-16"), "t.csv"),
], ids=["nothing", "blank lines", "a cell short", "a cell more", "a column twice", "latin-1", "latin-1 header", "utf-16"])
def test_a_file_that_is_no_table_is_named_and_its_cells_are_not(tmp_path, content, wanted):
    """The error says which file and what to do; it never quotes a patient's line."""
    with pytest.raises(InputError) as caught:
        read(written(tmp_path, content))
    text = f"{caught.value} {caught.value.hint}"

    assert wanted in text and "t.csv" in text
    assert not any(cell in text for cell in ("61.25", "Århus", "rhus"))


def test_a_ragged_line_is_not_quoted(tmp_path):
    """Arrow's own message repeats the line: ours does not."""
    with pytest.raises(InputError) as caught:
        read(written(tmp_path, "name,diagnosis\nJane Doe,G35\nJohn Roe\n"))

    assert "Roe" not in str(caught.value) and "as many cells as the first" in caught.value.hint


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet", "."])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    """No traceback for a wrong path."""
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / name)


def test_a_damaged_parquet_file_is_an_input_error(tmp_path):
    """Bytes that are no Parquet file."""
    with pytest.raises(InputError, match=r"t\.parquet"):
        read(written(tmp_path, b"PAR1" + bytes(100), "t.parquet"))


def test_all_forms_of_a_table_hold_the_same_columns(tmp_path):
    """Dict, pandas, Arrow table and batch, Parquet and CSV."""
    content = {"age": [41, 42], "sex": ["F", "M"]}
    frame, table = pd.DataFrame(content), pa.table(content)
    pa.parquet.write_table(table, tmp_path / "t.parquet") if hasattr(pa, "parquet") else frame.to_parquet(tmp_path / "t.parquet")
    write_csv(tmp_path / "t.csv", {name: np.array(column) for name, column in content.items()})

    for form in (content, frame, table, table.to_batches()[0], tmp_path / "t.parquet", str(tmp_path / "t.csv")):
        found = columns_of(form)
        assert list(found) == ["age", "sex"]
        assert [str(value) for value in found["age"]] == ["41", "42"] and found["sex"].tolist() == ["F", "M"]


@pytest.mark.parametrize("table",
                         [[1, 2], 5, None, {"a": [1, 2], "b": [1]}, {"a": [[1, 2], [3, 4]]}, pd.DataFrame([[1, 2]], columns=["a", "a"]),
                                   pa.table([[1], [2]], names=["a", "a"]), {"a": 5}],
                         ids=["list", "number", "none", "lengths", "matrix", "pandas names", "arrow names", "scalar"])
def test_what_is_no_table_is_refused(table):
    """Columns of one length, each named once."""
    with pytest.raises(InputError):
        columns_of(table)
