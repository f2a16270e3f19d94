"""What several tests share: where the real data and the reference results are, and federations over them.

The data are not part of the package: tests that need them skip with a sentence when they are absent.
"""

from __future__ import annotations

import csv
import functools
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fedstats
from fedstats import Dictionary, Rules

SHARED = Path(os.environ.get("FEDSTATS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
OPEN_RULES = Rules(min_cell=1, min_cohort=1, min_registries=1, show_zeros=True, rounding=False)

LUNG = {
    "name": "lung", "description": "survival::lung, complete cases",
    "variables": [
        {"name": "time", "type": "integer", "range": [0, 1100], "unit": "days"},
        {"name": "event", "type": "boolean", "description": "death"},
        {"name": "age", "type": "integer", "range": [18, 100], "unit": "years"},
        {"name": "sex", "type": "category", "levels": [1, 2]},
        {"name": "ph.ecog", "type": "integer", "range": [0, 3]},
        {"name": "ecog3", "type": "integer", "range": [0, 2]},
        {"name": "ph.karno", "type": "integer", "range": [0, 100]},
        {"name": "wt.loss", "type": "integer", "range": [-30, 80], "unit": "pounds"},
        {"name": "years", "type": "number", "range": [0, 3.1], "unit": "years"},
    ],
}


def shared(*parts: str) -> Path:
    """A file of the shared data, or a skip that says what is missing."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the shared file {'/'.join(parts)} is not here (set FEDSTATS_SHARED)")
    return path


@functools.cache
def _lung(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    frame["event"] = frame["status"] == 2
    frame["ecog3"] = np.minimum(frame["ph.ecog"], 2)
    frame["years"] = frame["time"] / 365.25
    return frame


def lung() -> pd.DataFrame:
    """lung_complete with event, ecog3 and follow-up in years: 212 patients of 18 institutions."""
    return _lung(shared("data", "survival_multicentre", "lung_complete.csv")).copy()


def split(frame: pd.DataFrame, by: np.ndarray) -> dict[str, pd.DataFrame]:
    """One table per value of `by`."""
    return {f"r{value}": frame[by == value].reset_index(drop=True) for value in np.unique(by)}


def lung_tables(registries: int = 4) -> dict[str, pd.DataFrame]:
    """lung, its institutions grouped into registries."""
    frame = lung()
    return split(frame, frame["inst"].to_numpy().astype(int) % registries)


def lung_dictionary(**changes: dict) -> Dictionary:
    """The dictionary of lung; changes: {variable: {field: value}} (dots in names as given in a dict)."""
    source = {**LUNG, "variables": [{**one, **changes.get(one["name"], {})} for one in LUNG["variables"]]}
    return Dictionary.from_dict(source)


def hear_interrupts() -> None:
    """In a process about to be started: what a shell runs in the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def pooled_lung(**changes: dict) -> fedstats.Federation:
    return fedstats.pooled(lung_tables(), dictionary=lung_dictionary(**changes))


@functools.cache
def _reference(path: Path) -> dict[tuple[str, str, str, str], float]:
    with path.open() as file:
        return {(line["model"], line["setting"], line["term"], line["quantity"]): float("nan" if line["value"] == "NA" else line["value"])
                for line in csv.DictReader(file)}


def reference(file: str, model: str, setting: str, quantity: str, term: str = "(model)") -> float:
    """One number of R's results, see the README beside them: reference("stats_lung", "t_test_welch", "y=age;by=sex", "t")."""
    return _reference(shared("reference", "models", f"{file}.csv"))[model, setting, term, quantity]


def ruled_lung(tables: dict[str, pd.DataFrame] | None = None, **changes: dict) -> fedstats.Cohort:
    """Everybody in lung, under the default release rules. tables : another version of the rows."""
    return fedstats.pooled(tables or lung_tables(), dictionary=lung_dictionary(**changes), rules=Rules()).cohort()


def edited(where: dict, to: dict, tables: dict[str, pd.DataFrame] | None = None) -> dict[str, pd.DataFrame]:
    """lung with one patient changed: the first who has these values gets others. edited({"age": 45}, {"age": 46})"""
    tables = {name: frame.copy() for name, frame in (tables or lung_tables()).items()}
    for frame in tables.values():
        fits = np.logical_and.reduce([(frame[name] == value).to_numpy() for name, value in where.items()])
        if fits.any():
            for name, value in to.items():
                frame.loc[frame.index[fits][0], name] = value
            return tables
    raise AssertionError(f"nobody has {where}")
