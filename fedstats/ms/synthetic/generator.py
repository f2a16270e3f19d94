"""Synthetic MS registries with a natural history: patients that nobody has ever been, from onset to the last visit.

    made = synthetic.registries(seed=1, sites=5, patients=4000)
    fed = fedstats.simulate({name: one.tables for name, one in made.items()}, data_cut=synthetic.DATA_CUT)
    synthetic.write("registries", seed=1, sites=5, patients=4000)       # the same as folders of CSV files, with truth.json

How this works: `people` says who is there, `course` lets them live month by month, `tables` writes what a registry
would know of it, `truth` runs the same people under other treatments, `report` compares with published numbers.
`history_parameters.json` has every number with its source. Registry k of a seed is the same whatever other registries there are, and
its first patients are the same whatever its size: the same seed, the same rows. Only `write` touches files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...data.tables import write_csv
from ...errors import InputError
from . import people as history_people
from .course import Course, Forced, live
from .parameters import Parameters, parameters
from .people import People, Site
from .tables import Columns, tables

NAMES = ("aarhus", "bari", "calgary", "dresden", "evora", "funchal", "graz", "haifa")
DATA_CUT: str = parameters()["data_cut"]        # nothing is later
LONGEST_RUN = 20_000        # patients at once: columns of this length stay in the processor's cache


@dataclass(frozen=True)
class Synthetic:
    """One registry. tables : {table: {column: (rows,)}} for `ms.tables.load`, dates as datetime64[D]; planted : {column: faults}.

    people, course and site are the truth behind it; days there count from onset, patients are in the order of `people`.
    """

    name: str
    tables: dict[str, Columns]
    planted: dict[str, int]
    people: People
    course: Course
    site: Site

    def __repr__(self) -> str:
        rows = ", ".join(f"{len(columns['patient_id'])} {table}" for table, columns in self.tables.items())
        return f"Synthetic({self.name}: {rows})"


def registry(seed: int, place: int = 0, patients: int | None = None, *, p: Parameters | None = None, forced: Forced | None = None,
             planted: float = 0.0) -> Synthetic:
    """Registry number `place` of a seed. patients : how many, else as the seed says; patients without a visit do not appear in the tables.

    p : see `parameters.parameters`. forced : a counterfactual run. planted : share of rows with a deliberate fault.
    """
    p = parameters() if p is None else p
    n = history_people.size(seed, place, p) if patients is None else patients
    if n < 1 or place < 0 or not 0 <= planted < 1:
        raise InputError(f"a registry needs a patient and a place from 0 on, and planted from 0 to 1: {n}, {place}, {planted:g}")
    house, group = history_people.site(seed, place, p), history_people.people(seed, place, n, p)
    life = _joined([live(group.where(np.arange(low, min(low + LONGEST_RUN, n))), house, p, forced) for low in range(0, n, LONGEST_RUN)])
    found, faults = tables(name(place), group, life, p, planted)
    return Synthetic(name(place), found, faults, group, life, house)


def registries(seed: int = 1, *, sites: int = 8, patients: int | None = None, sizes: Sequence[int] | None = None,
               p: Parameters | None = None, forced: Forced | None = None, planted: float = 0.0) -> dict[str, Synthetic]:
    """The first registries of a seed, {name: registry}.

    patients : of all together, about; without it as many as the seed says, on a log scale. sizes : patients of each, instead of these.
    """
    found = [registry(seed, k, n, p=p, forced=forced, planted=planted) for k, n in enumerate(_sizes(seed, sites, patients, sizes, p))]
    return {one.name: one for one in found}


def _sizes(seed: int, sites: int, patients: int | None, sizes: Sequence[int] | None, p: Parameters | None) -> list[int]:
    """Patients of each registry."""
    if sizes is not None:
        return list(sizes)
    if sites < 1 or (patients is not None and patients < sites):
        raise InputError(f"at least one registry, and one patient in each, are wanted: {sites} registries"
                         + (f", {patients} patients" if patients is not None else ""))
    drawn = [history_people.size(seed, k, parameters() if p is None else p) for k in range(sites)]
    return drawn if patients is None else [max(1, round(patients * one / sum(drawn))) for one in drawn]


def name(place: int) -> str:
    """What registry number `place` is called."""
    again = place // len(NAMES)
    return NAMES[place % len(NAMES)] + (f"{again + 1}" if again else "")


def _joined(parts: list[Course]) -> Course:
    """Lives simulated in parts, as one."""
    if len(parts) == 1:
        return parts[0]
    before = np.concatenate([[0], np.cumsum([len(one.died) for one in parts])])
    joined = {}
    for table in ("visits", "relapses", "treatments", "mri"):
        columns = [getattr(one, table) for one in parts]
        joined[table] = {column: np.concatenate([one[column] + (shift if column == "who" else 0) for one, shift in zip(columns, before)])
                         for column in columns[0]}
    return Course(**joined, indexed=np.concatenate([one.indexed for one in parts]), died=np.concatenate([one.died for one in parts]),
                  converted=np.concatenate([one.converted for one in parts]))


# -- files ---------------------------------------------------------------------------------------------------------------------


def write(folder: str | Path, *, seed: int = 1, sites: int = 5, patients: int | None = None, sizes: Sequence[int] | None = None,
          planted: float = 0.0, truth: bool = True, p: Parameters | None = None, told: Callable[[str], None] = lambda what: None
          ) -> dict[str, int]:
    """Write registries as folders of CSV files that a node, `fedstats ask` and `dictionary check` read. Returns {name: patients}.

    folder : new or empty; it takes its name when everything is in it. sites, patients, sizes, planted : as for `registries`.
    Beside the registries stand report.txt (how near they come to published numbers) and, unless truth is False, truth.json (the true
    effects of treatment from counterfactual runs of these very patients, see `truth.TruthFile`).
    told : called with what comes next, `steps(...)` times. Raises InputError for a folder that holds something, or cannot be written.
    """
    folder, wanted = Path(folder), _sizes(seed, sites, patients, sizes, p)
    part = folder.with_name(folder.name + ".part")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is not empty", hint="give a new folder")
        if part.exists():
            raise InputError(f"{part} is in the way: another run is writing, or was killed", hint="remove it if nothing is writing there")
        part.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    try:
        found = _fill(part, seed, wanted, planted, truth, p, told)
        part.replace(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return found


def steps(sites: int, truth: bool = True) -> int:
    """How often `write` tells what comes next."""
    from .truth import RUNS

    return sites + 1 + (RUNS if truth else 0)


def _fill(folder: Path, seed: int, sizes: Sequence[int], planted: float, truth: bool, p: Parameters | None, told: Callable[[str], None]
          ) -> dict[str, int]:
    from . import report as history_report

    made: dict[str, Synthetic] = {}
    for k, n in enumerate(sizes):
        told(name(k))
        made[name(k)] = one = registry(seed, k, n, p=p, planted=planted)
        (folder / one.name).mkdir()
        for table, columns in one.tables.items():
            write_csv(folder / one.name / f"{table}.csv", columns)
    counts = {who: len(one.tables["patients"]["patient_id"]) for who, one in made.items()}
    told("report")
    cut = (parameters() if p is None else p)["data_cut"]
    head = [f"{sum(counts.values())} synthetic patients in {len(counts)} registries, seed {seed}, data cut {cut}: nobody's data.",
            *(f"  {who}: {n} patients" for who, n in counts.items()), "",
            "Against published numbers (with few patients or registries, differences are chance):"]
    lines = [*head, *history_report.lines(history_report.report(made, p=p), p)]
    (folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if truth:
        _write_truth(folder / "truth.json", seed, cut, counts, {who: one.planted for who, one in made.items()}, sizes, p, told)
    return counts


def _write_truth(path: Path, seed: int, cut: str, counts: dict[str, int], planted: Mapping[str, dict[str, int]], sizes: Sequence[int],
                 p: Parameters | None, told: Callable[[str], None]) -> None:
    import msgspec

    from .truth import TruthFile, truths

    found = TruthFile("fedstats truth", 1, seed, cut, counts, dict(planted), truths(seed, sizes, p=p, told=told))
    path.write_text(json.dumps(msgspec.to_builtins(found), indent=1) + "\n", encoding="utf-8")
