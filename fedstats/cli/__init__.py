"""The command line. This file holds the list of commands and what happens to errors; each group of commands has its own file.

    fedstats: <what happened>                 on stderr, never a traceback (unless --debug)
    fedstats: hint: <what to do about it>

Exit codes: 0 done, 2 input, 3 refused, 4 unreachable, 5 tampered, 1 a fault of the software, 130 interrupted.
Other packages add commands through the entry point group "fedstats.commands"; they are loaded when they are first needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import ask, consortium, coordinator, data, demo, keys, receipt, risk, synthetic
from .manners import plain_group, printable, warn

PLUGINS = "fedstats.commands"
INTERRUPTED = 130
ORDER = ("demo", "ask", "risk", "receipt", "keys", "consortium", "coordinator", "node", "dictionary", "split", "synthetic", "version")


class Commands(TyperGroup):
    """The commands of this package and those of others, which are found when somebody looks for them."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = dict.fromkeys([*super().list_commands(ctx), *(entry.name for entry in _plugins())])
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        for entry in _plugins() if found is None else ():
            if entry.name == cmd_name:
                return typer.main.get_command(entry.load())
        return found


def _plugins() -> list[Any]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=PLUGINS), key=lambda entry: entry.name)


app = plain_group("""One question over many registries, the same digits as from one pooled table; nobody sees a registry's numbers.

    \b
    To look around, on one laptop:   fedstats demo
    An analyst:                      fedstats ask table_one age edss --by sex --consortium c.toml --key ana.key
    A registry:                      fedstats node serve node.toml
    """, cls=Commands)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of unexpected faults.")] = False) -> None:
    if debug:
        _Debug.on = True


LONGEST_SAID = 2000         # characters of a sentence
LONGEST_PLACE = 200         # characters of a path that are shown


class _Debug:
    on = False


ask.register(app)
app.add_typer(consortium.app, name="consortium")
app.add_typer(coordinator.app, name="coordinator")
app.command("demo")(demo.demo)
app.add_typer(data.app, name="dictionary")
app.add_typer(keys.app, name="keys")
app.add_typer(receipt.app, name="receipt")
app.command("split")(data.split)
app.add_typer(risk.app, name="risk")
app.command("synthetic")(synthetic.synthetic)


@app.command()
def version() -> None:
    """Print the version of fedstats and of the seal.

    \b
    Example:  fedstats version
    """
    from ..version import __version__
    from ..wire.messages import PROTOCOL, SEAL

    print(f"fedstats {__version__} (protocol {PROTOCOL}, seal {SEAL})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code. argv : without the program's name, those of the process by default."""
    import warnings

    from ..errors import FedstatsError

    _Debug.on = False
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        return _say("an argument has bytes that are no text in UTF-8", "rename the file, or set the terminal to UTF-8", 2)
    try:
        found = typer.main.get_command(app).main(words, prog_name="fedstats", standalone_mode=False)
        # the parser turns an interrupt into its exit code
        return _say("interrupted", "", INTERRUPTED) if found == INTERRUPTED else found if isinstance(found, int) else 0
    except FedstatsError as error:
        return _say(str(error), error.hint, error.exit_code)
    except typer.Abort:
        return _say("stopped: nothing was done", "", 1)
    except KeyboardInterrupt:
        return _say("interrupted", "", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()          # the reader has gone (fedstats ... | head): nothing more to say
        return 1
    except OSError as error:
        if not _Debug.on:
            # the text of an operating system's error names a file and nothing else
            place = f"{str(error.filename)[:LONGEST_PLACE]}: " if error.filename else ""
            return _say(f"{place}{(error.strerror or type(error).__name__).lower()}", "", 2)
        raise
    except Exception as error:
        if hasattr(error, "format_message"):        # the parser of arguments
            context = getattr(error, "ctx", None)
            text = str(error.format_message()).strip().rstrip(".")
            return _say(text[:1].lower() + text[1:], f"{context.command_path} --help" if context else "fedstats --help", 2)
        if _Debug.on:
            import traceback

            traceback.print_exc()
            return 1
        # the text of an unexpected fault may carry data: only its kind is told
        return _say(f"an internal fault ({type(error).__name__}): this is a bug", "fedstats --debug ... shows where", 1)


def _say(what: str, hint: str, code: int) -> int:
    print(f"fedstats: {printable(_short(what))}", file=sys.stderr)
    if hint:
        print(f"fedstats: hint: {printable(_short(hint))}", file=sys.stderr)
    return code


def _short(text: str) -> str:
    """A sentence that quotes a megabyte of what was wrong is cut."""
    return text if len(text) <= LONGEST_SAID else f"{text[:LONGEST_SAID]} ..."


__all__ = ["app", "main"]
