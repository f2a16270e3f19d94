"""What all commands share: where they print, how they ask, how they show progress, how they write files.

Results go to stdout; everything else (progress, remarks, warnings) to stderr. Files are written beside their place under
".part" and renamed when they are whole.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError

PIPE_WIDTH = 120            # columns where stdout is not a terminal
PART = ".part"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

FORM_HELP = """How the files are written, a line as under [form] in node.toml, such as 'decimal = ","', 'dates = "d/m/y"', \
'encoding = "cp1252"', 'thousands = "none"' or 'levels.sex.w = "F"'. May be given several times."""
FormLines = Annotated[list[str] | None, typer.Option("--form", metavar="LINE", help=FORM_HELP)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def plain_group(text: str, **options: Any) -> typer.Typer:
    """A group of commands whose help is plain text: the same in a terminal, a pipe and a log."""
    return typer.Typer(help=text, rich_markup_mode=None, no_args_is_help=True, add_completion=False,
                       pretty_exceptions_enable=False, **options)


def printable(text: str) -> str:
    """Text without control and direction characters, lines and tabs excepted: what a file says must not steer a terminal."""
    return CONTROLS.sub("\ufffd", text)


def console(*, err: bool = False) -> Any:
    """A Rich console for stdout or stderr, wide enough for tables when nobody watches."""
    from rich.console import Console

    class Screen(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)

    stream = sys.stderr if err else sys.stdout
    return Screen(stderr=err, highlight=False, markup=False, width=None if stream.isatty() else PIPE_WIDTH)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print a small table of texts; columns of numbers are set to the right."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title or None, title_justify="left", title_style="bold", show_edge=False, pad_edge=False, header_style="bold")
    for k, head in enumerate(heads):
        numbers = bool(rows) and all(isinstance(row[k], (int, float)) for row in rows)
        shown.add_column(head, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(shown)


def note(text: str) -> None:
    """A remark for the person at the keyboard."""
    print(printable(text), file=sys.stderr)


def warn(text: str) -> None:
    print(f"fedstats: warning: {printable(text)}", file=sys.stderr)


def machine(content: Any) -> None:
    """Print plain data as JSON."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def confirm(question: str, yes: bool, *, hint: str = "compare the fingerprint first, then add --yes") -> None:
    """Ask for an explicit yes. Raises InputError without one, or where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("this needs a yes, and nobody is at the keyboard", hint=hint)
    if input(f"{question} [yes/no] ").strip().lower() not in ("yes", "y"):
        raise InputError("not confirmed: nothing was changed")


def check_places(*paths: Path | None) -> None:
    """Said before the work begins, not after: whether files can get their place. Raises InputError."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {path.parent}")


@contextlib.contextmanager
def writing(path: str | Path, *, replace: bool = True) -> Iterator[Path]:
    """A place to write a file to; it takes its name when the block ends well, and vanishes otherwise. Raises InputError."""
    path = Path(path)
    check_places(path)
    if not replace and path.exists():
        raise InputError(f"{path} exists already", hint="choose another name, or move it away")
    part = path.with_name(path.name + PART)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or 'not a place for a file'}") from None
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, replace: bool = True) -> None:
    """A text file, whole or not at all."""
    with writing(path, replace=replace) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def progress(doing: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, fed with (label, answered, of); silent where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = console(err=True)
    with Progress(TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), console=shown,
                  transient=True, disable=not shown.is_terminal) as bars:
        task = bars.add_task(doing, total=None)
        yield lambda label, answered, of: bars.update(task, description=f"{doing}: {label}", completed=answered, total=of)
