"""fedstats demo: a whole federation on this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from .manners import console


def demo(out: Annotated[Path, typer.Option(help="Folder for report.html, results.json and risk-model.")] = Path("fedstats-demo"),
         keep: Annotated[Path | None, typer.Option(help="Keep tables, keys, settings and logs in this (new or empty) folder.")] = None,
         open_: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False) -> None:
    """Run a whole federation on this machine. About a minute.

    Five synthetic registries, a coordinator, an analyst. The registries hold visits, relapses, treatments and images. The question: how
    soon does disability worsen after a first treatment, by efficacy class? Asks over the sealed network, compares with one pooled table,
    changes a bit on the line to show that it is caught, grows a risk model with its card, and writes a report. Exit code 0 only if all of
    that came out as it should.

    \b
    Example:  fedstats demo --out demo --keep demo/files --open
    """
    from ..demo.model import ASKED
    from ..demo.story import story
    from ..errors import FedstatsError, InputError

    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise InputError(f"{keep} is not empty", hint="--keep wants a new folder")
    signal.signal(signal.SIGTERM, _interrupted)
    shown = console()
    outcome = story(out, keep, shown)
    shown.print()
    for what, found, good in outcome.checks:
        shown.print(f"{'ok ' if good else 'NOT'}  {what}: {found}", soft_wrap=True)
    shown.print(f"\nreport:   {outcome.report}\nnumbers:  {outcome.results}\nmodel:    {outcome.model} (card.html says how good it is)")
    if keep is not None:
        shown.print(f"files:    {keep} (tables, keys, consortium.toml, a node.toml and a log for each registry); to start them by hand:\n"
                    f"  fedstats coordinator serve --consortium {keep}/consortium.toml --key {keep}/coordinator.key --port {outcome.port}\n"
                    f"  fedstats node serve {keep}/aarhus/node.toml       and so on, one terminal each", soft_wrap=True)
    shown.print("\nRead the report first: every table with its notes, and who saw what. Then, with tables to try things out on:\n"
                "  fedstats synthetic registries                                     folders of five CSV files, and the truth about them\n"
                "  fedstats dictionary check registries/aarhus --data-cut 2024-12-31  what a registry sees when it loads its own\n"
                "  fedstats ask --file questions.toml --simulate registries          such a file is in fedstats ask --help")
    if (outcome.model / ASKED).exists():
        shown.print(f"  fedstats risk predict {outcome.model} --patient {outcome.model / ASKED}     change the patient and ask again",
                    soft_wrap=True)
    if open_:
        import webbrowser

        webbrowser.open(outcome.report.resolve().as_uri())
    if not outcome.ok:
        raise FedstatsError("the demonstration did not come out as it should", hint="the lines that begin with NOT say what")


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt
