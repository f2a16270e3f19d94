"""fedstats dictionary and fedstats split: the codebook, and tables cut into registries for trying things out."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json as js
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .manners import FormLines, Json, machine, note, plain_group, table, write_text, writing

if TYPE_CHECKING:
    from ..data.variable import Variable

app = plain_group("The codebook of the consortium: propose, check, show.")
DOMAIN = b"fedstats split/1"


@app.command()
def draft(file: Annotated[Path, typer.Argument(help="A table, .csv or .parquet, one row per patient.")],
          out: Annotated[Path | None, typer.Option("--out", help="Where to write it; to the screen by default.")] = None,
          name: Annotated[str, typer.Option(help="Name of the dictionary; that of the file by default.")] = "",
          patient_id: Annotated[str, typer.Option(help="Column that identifies a patient.")] = "patient_id",
          form: FormLines = None) -> None:
    """Propose a dictionary for a table, and what to check.

    Types, ranges, steps, levels and cut points. Identifiers, sites and free text are skipped. A dictionary is public: read it before you
    share it. Ranges and cut points are in the unit of the column; write the unit in.

    \b
    Example:  fedstats dictionary draft patients.csv --out dict.json
    """
    from ..data.draft import draft as propose
    from ..data.forms import read_form
    from ..data.tables import read

    if file.is_dir():
        raise InputError(f"{file} is a folder: a dictionary is drafted from one table",
                         hint="tables of MS need none: fedstats consortium create ... --ms")
    declared = read_form(form or [])
    found = propose(read(file, encoding=declared.encoding), name or file.stem, patient_id=patient_id, form=declared)
    text = _one_line_each(found.source)
    if out:
        write_text(out, text, replace=False)
        note(f"{out} written: {len(found.source['variables'])} variables")
    else:
        print(text, end="")
    for line in found.skipped:
        note(f"skipped: {line}")
    for line in found.check:
        note(f"check: {line}")


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A table, .csv or .parquet, one row per patient; or a folder with the tables of MS.")],
          dictionary: Annotated[Path | None, typer.Option(help="The dictionary (JSON or TOML); for tables of MS the one that comes with "
                                                          "fedstats without it.")] = None,
          data_cut: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="For tables of MS: nothing is later than this.")] = None,
          form: FormLines = None, json: Json = False) -> None:
    """Check a table against a dictionary: counts, never values.

    How many values break which rule. What breaks a rule counts as missing. Exit code 0, with the number of warnings; 2 if the table
    cannot be used: also if more than a small share of a column is written in a form that was not declared (decimal commas, day-first
    dates, other words for levels), with the line to write. Tables of MS are cleaned, too, as a node cleans them.

    \b
    Examples:  fedstats dictionary check lyon.csv --dictionary dict.json
               fedstats dictionary check lyon/ --data-cut 2026-06-30 --form 'decimal = ","'
    """
    from ..data.dictionary import Dictionary
    from ..data.forms import read_form
    from ..query.population import Codebook, is_ms, load_treatments, survey
    from ..query.population import check as check_form

    if dictionary is None and not is_ms(file):
        raise InputError("a table of one row per patient needs a --dictionary", hint="fedstats dictionary draft FILE.csv proposes one")
    if dictionary is None:
        from ..ms.tables.registry import dictionary as shipped

        book = shipped()
    else:
        book = Dictionary.load(dictionary)
    declared = read_form(form or [])
    _, report = survey(file, Codebook(book, load_treatments(None) if is_ms(file) else None), data_cut=data_cut, who=str(file),
                       form=declared)
    print_report(report, json)
    check_form(report, who=str(file), form=declared)


def print_report(report: Any, json: bool) -> None:
    """A load report for the eyes of the registry. report : `rows.LoadReport`, or `population.Several` for tables of MS."""
    if not hasattr(report, "violations"):
        machine({"ok": report.ok, "reports": [one.to_dict() for one in report.reports]}) if json else print("\n".join(report.lines()))
        return
    if json:
        machine({"rows": report.rows, "missing": dict(report.missing), "absent": list(report.absent), "ignored": list(report.ignored),
                 "violations": [{"column": name, "rule": rule, "values": n} for (name, rule), n in report.violations.items()],
                 "noted": [{"column": name, "rule": rule, "values": n} for (name, rule), n in report.noted.items()],
                 "undeclared": [{"column": one.column, "form": one.form, "share": one.share, "line": one.line}
                                for one in report.undeclared]})
        return
    print("\n".join(report.lines()))
    if any(report.missing.values()):
        print()
        table(("column", "missing", "of"), [(name, count, report.rows) for name, count in report.missing.items() if count])
    count = len(report.violations) + len(report.absent)
    print(f"\n{count} warning{'' if count == 1 else 's'}" if count else "\nno warnings")


@app.command()
def show(file: Annotated[Path, typer.Argument(help="The dictionary (JSON or TOML).")], json: Json = False) -> None:
    """Print a dictionary as a table.

    Type, unit, range or levels, step and cut points of every variable.

    \b
    Example:  fedstats dictionary show dict.json
    """
    from ..data.dictionary import Dictionary

    found = Dictionary.load(file)
    if json:
        machine(found.to_dict() | {"sha256": found.digest})
        return
    print(f"{found.name}: {len(found.variables)} variables, sha256 {found.digest[:16]}...\n")
    table(("variable", "type", "unit", "range or levels", "step", "cut points", "meaning"), [_line(one) for one in found.variables])


def _line(variable: Variable) -> tuple[str, ...]:
    from ..data.variable import Every, value_text

    if variable.labels is not None:
        span = ", ".join(variable.labels)
    else:
        span = f"{value_text(variable, variable.low)} to {value_text(variable, variable.high)}"
    points = variable.cut_points
    if isinstance(points, Every):
        cuts = f"every {points.step:g} from {_number(points.start)} to {_number(points.stop)}"
    elif points is not None:
        cuts = ", ".join(map(_number, points))
    else:
        cuts = "none" if variable.unit_step is None else "" if variable.labels is not None else "every step"
    step = "" if variable.unit_step is None or variable.labels is not None else f"{variable.unit_step:g}"
    return variable.name, variable.type, variable.unit, span, step, cuts, variable.description


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.10g}"


def _one_line_each(source: dict[str, Any]) -> str:
    """JSON with one variable per line: easy to read, to edit and to compare."""
    head = {name: value for name, value in source.items() if name != "variables"}
    lines = ",\n".join("  " + js.dumps(one, ensure_ascii=False) for one in source["variables"])
    start = "".join(f" {js.dumps(name)}: {js.dumps(value, ensure_ascii=False)},\n" for name, value in head.items())
    return f'{{\n{start} "variables": [\n{lines}\n ]\n}}\n'


# -- split -----------------------------------------------------------------------------------------------------------------


def split(file: Annotated[Path, typer.Argument(help="A .csv file; its first line names the columns.")],
          into: Annotated[int, typer.Option(help="How many parts.", min=1, max=256)],
          out: Annotated[Path, typer.Option(help="Folder for r1.csv, r2.csv, ...")],
          by: Annotated[str, typer.Option(help="Keep rows with the same value of this column together, such as a hospital.")] = "",
          patient_id: Annotated[str, typer.Option(help="Column that identifies a patient; rows are numbered without it.")] = "patient_id",
          seed: Annotated[str, typer.Option(help="Another seed, another split.")] = "0",
          json: Json = False) -> None:
    """Cut one table into several, as if they were registries. For trying things out.

    The part of a patient follows from HMAC-SHA256(seed, patient id): the same on every machine, whatever the order of rows, and
    all rows of a patient stay together.

    \b
    Example:  fedstats split patients.csv --into 4 --out parts
    """
    import contextlib

    head, rows, delimiter = read_csv(file)
    column = by or patient_id
    if by and by not in head:
        raise InputError(f'{file}: there is no column "{by}"', hint="columns are: " + ", ".join(head))
    place = head.index(column) if column in head else None
    names = [row[place].strip() if place is not None else str(number) for number, row in enumerate(rows)]
    parts = [[row for name, row in zip(names, rows) if part_of(name, into, seed) == part] for part in range(into)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}") from None
    with contextlib.ExitStack() as stack:       # all parts take their names together, after all have been written
        for part, lines in enumerate(parts):
            place_of = stack.enter_context(writing(out / f"r{part + 1}.csv"))
            with place_of.open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([head, *lines])
    counts = {f"r{part + 1}": len(lines) for part, lines in enumerate(parts)}
    if json:
        machine({"folder": str(out), "rows": counts})
        return
    for name, count in counts.items():
        print(f"{out / name}.csv  {count} rows")
    note(f"{len(rows)} rows by {f'column {column}' if place is not None else 'row number'}")


def part_of(name: str, parts: int, seed: str) -> int:
    """Which part a patient falls into, 0 to parts - 1: a keyed hash of the id, so it does not depend on where the row stands."""
    found = hmac.digest(seed.encode(), DOMAIN + b"\0" + name.encode(), hashlib.sha256)
    return int.from_bytes(found[:16], "big") % parts


def read_csv(file: Path) -> tuple[list[str], list[list[str]], str]:
    """Head, rows and delimiter of a CSV file, cells as they stand. Raises InputError naming file and line."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            delimiter = max(",;\t", key=first.count)
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            rows = _whole(reader, file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is not UTF-8 text", hint="save it as UTF-8") from None
    if not rows:
        raise InputError(f"{file} is empty: the first line must name the columns")
    return rows[0], rows[1:], delimiter


def _whole(reader: Any, file: Path) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0]):
                raise InputError(f"{file}, line {reader.line_num}: {len(row)} cells where the first line has {len(rows[0])}",
                                 hint="every line needs as many cells as the first")
            if row:
                rows.append(row)
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: {error}") from None
    return rows

