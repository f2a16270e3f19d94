"""fedstats synthetic: registries that never existed, as folders of tables, with the truth about them."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from .manners import Json, machine, note, progress, table


def synthetic(folder: Annotated[Path, typer.Argument(help="A new folder; it gets one folder of five tables per registry.")],
              registries: Annotated[int, typer.Option(help="How many registries.", min=1, max=200)] = 5,
              patients: Annotated[int, typer.Option(help="Patients of all registries together, about.", min=1)] = 4000,
              seed: Annotated[int, typer.Option(help="Another seed, other people.", min=0)] = 1,
              planted: Annotated[float, typer.Option(help="Share of rows with a deliberate fault, such as a birth in 1804, to try "
                                                     "out checks.", min=0, max=0.5)] = 0.0,
              truth: Annotated[bool, typer.Option("--truth/--no-truth", help="Also compute true treatment effects (takes about "
                                                  "five times as long as the registries).")] = True,
              json: Json = False) -> None:
    """Make synthetic MS registries, with the truth about them.

    Natural history, relapses, treatments and images of people that have never been. Each registry is a folder with patients.csv,
    visits.csv, relapses.csv, treatments.csv and mri.csv. Beside them stand report.txt, which compares them with published numbers, and
    truth.json: the true effects of treatment, from the same people started on each class. The same seed gives the same registries on
    every machine.

    \b
    Examples:
      fedstats synthetic registries
      fedstats synthetic registries --registries 8 --patients 20000 --seed 7 --no-truth
      fedstats ask --file questions.toml --simulate registries
    """
    from ..ms import synthetic as generator

    signal.signal(signal.SIGTERM, _interrupted)
    done, of = -1, generator.steps(registries, truth)
    with progress("making") as moved:

        def told(what: str) -> None:
            nonlocal done
            done += 1
            moved(what, done, of)

        counts = generator.write(folder, seed=seed, sites=registries, patients=patients, planted=planted, truth=truth, told=told)
    if json:
        machine({"folder": str(folder), "seed": seed, "data_cut": generator.DATA_CUT, "patients": counts})
        return
    table(("registry", "patients"), list(counts.items()))
    files = "report.txt and truth.json" if truth else "report.txt"
    print(f"\n{sum(counts.values())} patients who were seen at least once in {folder}; read {files} there; data cut {generator.DATA_CUT}")
    note(f"next: fedstats ask --file questions.toml --simulate {folder}")


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt
