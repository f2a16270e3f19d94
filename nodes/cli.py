"""fedstats node: set up, check and run one registry's node (entry point group "fedstats.commands")."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fedstats.cli.manners import FormLines, Json, note, plain_group, write_text

app = plain_group("Set up, check and run a registry's node.")
Settings = Annotated[Path, typer.Argument(help="The node's settings.")]


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Folder for node.toml and the journal.", metavar="DIR")],
         consortium: Annotated[Path, typer.Option(help="The consortium file.")],
         key: Annotated[Path, typer.Option(help="The registry's key.")],
         data: Annotated[Path, typer.Option(help="The table, .csv or .parquet, one row per patient; or the folder with the tables of MS.")],
         data_cut: Annotated[str, typer.Option(help="Name of the frozen data cut, such as its date.")],
         coordinator: Annotated[str, typer.Option(help="Another URL to call, for a house behind its own gateway.")] = "",
         round_seconds: Annotated[float, typer.Option(help="Seconds to wait for the others in a round.", min=1)] = 300.0,
         form: FormLines = None) -> None:
    """Write node.toml, check the data against the dictionary, and print what was found.

    The report is for the eyes of the registry: counts per rule, never a value. Data in a form that is not declared (decimal commas,
    day-first dates, other words for levels) is refused, with the line to write.

    \b
    Example:  fedstats node init lyon --consortium ms.toml --key lyon.key --data patients.csv --data-cut 2026-06-30
    """
    import msgspec
    import tomli_w

    from fedstats.data.forms import read_form
    from fedstats.errors import FedstatsError
    from fedstats.wire.roster import Consortium, check_pin

    from .house import RegistryHouse

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()

    found = {"consortium": relative(consortium), "key": relative(key), "data": relative(data), "data_cut": data_cut}
    found |= {"coordinator": coordinator} if coordinator else {}
    more: dict[str, Any] = {"round_seconds": round_seconds} if round_seconds != 300.0 else {}
    roster, name = Consortium.load(consortium), _registry(consortium, key)
    declared = read_form(form or [])
    more |= {"form": msgspec.to_builtins(declared)} if form else {}
    settings = _absolute(consortium, key, data, data_cut, declared)
    house = RegistryHouse(settings, roster, name)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "node.toml", f"# node of {name}; paths are relative to this file\n" + tomli_w.dumps(found | more), replace=False)
    _print_report(house.report)
    note(f"{folder / 'node.toml'} written")
    try:
        check_pin(roster, key, consortium)
        note(f"next: fedstats node serve {folder / 'node.toml'}")
    except FedstatsError as error:
        note(f"next: {error.hint}")


@app.command()
def check(settings: Settings = Path("node.toml"), json: Json = False) -> None:
    """Check everything that serving needs (files, key, accepted consortium) and print the load report. Calls nobody.

    Exit code 0, with the number of warnings; 2 if the node could not serve.

    \b
    Example:  fedstats node check lyon/node.toml
    """
    from fedstats.wire.roster import Consortium, check_pin

    from .config import load
    from .house import RegistryHouse

    found = load(settings)
    roster = Consortium.load(found.consortium)
    name = _registry(Path(found.consortium), Path(found.key))
    check_pin(roster, found.key, found.consortium)
    house = RegistryHouse(found, roster, name)
    if not json:
        print(f"{name}, data cut {found.data_cut}, of {roster.name}, epoch {roster.epoch}\n")
    _print_report(house.report, json)


@app.command()
def serve(settings: Settings = Path("node.toml"),
          debug: Annotated[bool, typer.Option("--debug", help="Log tracebacks of internal faults; they may carry data.")] = False) -> None:
    """Answer questions until interrupted (SIGINT or SIGTERM). Calls out to the coordinator only; nothing listens.

    Logs to stderr: query ids, phases and codes of problems, never a row, a key, a count or a total.

    \b
    Example:  fedstats node serve lyon/node.toml
    """
    from .config import load
    from .service import Node

    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.INFO,
                        format="%(asctime)s %(levelname)s %(message)s")
    if not debug:
        for library in ("httpx", "httpcore"):       # a line for every poll
            logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("fedstats.node").info("reading the tables")
    node = Node.start(load(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: node.stop())
    logging.getLogger("fedstats.node").info("node %s of %s, epoch %d, data cut %s", node.me.name, node.roster.name, node.roster.epoch,
                                            node.house.data_cut)
    node.run()


def _registry(consortium: Path, key: Path) -> str:
    """The name on the key, if it is a registry of the consortium. Raises InputError."""
    from fedstats.crypto.identity import Identity
    from fedstats.errors import InputError
    from fedstats.wire.roster import Consortium

    roster, name = Consortium.load(consortium), Identity.load(key).name
    if name not in roster.names("registry"):
        raise InputError(f"the key {key} belongs to {name}, who is not a registry of {roster.name}",
                         hint="registries are: " + (", ".join(roster.names("registry")) or "none yet"))
    return name


def _absolute(consortium: Path, key: Path, data: Path, data_cut: str, form: Any) -> Any:
    from .config import Settings as Found

    return Found(consortium=str(consortium.resolve()), key=str(key.resolve()), data=str(data.resolve()), data_cut=data_cut,
                 form=form)


def _print_report(report: Any, json: bool = False) -> None:
    from fedstats.cli.data import print_report

    print_report(report, json)
