"""Registries for the tests of cohorts: tables of random patients, in memory or as frames, and moving them in time."""

from __future__ import annotations

import numpy as np

from fedstats.ms.tables import dmt
from fedstats.ms.tables.registry import COLUMNS, DATED, Registry, Table, dictionary

START = 12_000      # days since 1970: late 2002
BLANKS = {"number": np.nan, "integer": np.nan, "date": np.nan, "boolean": -1, "category": -1}


def registry_of(ids, tables):
    """A registry of typed columns; columns that are not given are missing for everybody."""
    book, treatments, held = dictionary(), dmt.shipped(), {}
    for name, names in COLUMNS.items():
        given = tables.get(name, {})
        n = len(given["patient"]) if "patient" in given else 0
        columns = {"patient": np.zeros(0, np.int64)}
        for column in (one.rstrip("*+!") for one in names):
            if column in book:
                kind = BLANKS[book[column].type]
                columns[column] = np.full(n, kind, dtype=float if kind != kind else np.int8)
        columns |= {"birth_month": np.full(n, np.nan)} if name == "patients" else {}
        columns |= {"dmt": np.full(n, -1, np.int16), "efficacy": np.full(n, -1, np.int8)} if name == "treatments" else {}
        columns |= {DATED[name]: np.zeros(n, np.int64)} if name in DATED else {}
        held[name] = Table(name, n, columns | given)
    if "efficacy" not in tables.get("treatments", {}):
        classes = np.array([treatments.efficacy(k) for k in range(len(treatments.names))] + [-1, -1], dtype=np.int8)
        held["treatments"] = held["treatments"].changed(efficacy=classes[held["treatments"]["dmt"]])
    return Registry(np.array(ids, dtype=object), np.ones(len(ids), bool), held, book, treatments)


def random_registry(patients, seed=0, visits=14, prefix="p"):
    """So many patients, each from their own random numbers in the order of tables; a visit every half year or so."""
    random = np.random.default_rng(seed)

    def owners(mean):
        return np.repeat(np.arange(patients), random.poisson(mean, patients))

    entry = START + random.integers(0, 3000, patients)
    onset = entry - random.integers(0, 4000, patients)
    death = np.where(random.random(patients) < 0.05, entry + random.integers(100, 4000, patients), np.nan)
    tables = {"patients": {
        "patient": np.arange(patients), "sex": random.integers(0, 2, patients).astype(np.int8), "onset_date": onset.astype(float),
        "birth_year": 1970.0 + np.floor(onset / 365.25) - random.integers(18, 50, patients), "death_date": death,
        "onset_course": random.integers(0, 2, patients).astype(np.int8)}}

    def dated(mean, low, high):
        """Owners and days, one row per patient and day, none after death."""
        who = owners(mean)
        day = entry[who] + random.integers(low, high, len(who))
        who, day = np.unique(np.stack([who, day]), axis=1)
        alive = ~(day > death[who])
        return who[alive], day[alive]

    who, day = dated(visits, 0, 3650)
    n = len(who)
    level = random.integers(0, 10, patients)[who] + (day - entry[who]) // 900 + random.integers(-1, 2, n)
    half = np.clip(level, 0, 19)
    edss = np.where(half == 1, 2, half) / 2
    tables["visits"] = {"patient": who, "visit_date": day, "edss": np.where(random.random(n) < 0.05, np.nan, edss),
                        "course_at_visit": random.integers(0, 4, n).astype(np.int8), "sdmt": random.integers(0, 111, n).astype(float)}
    who, day = dated(2, -700, 3650)
    tables["relapses"] = {"patient": who, "relapse_onset_date": day}
    who, day = dated(1.5, -300, 3650)
    end = day + random.integers(50, 1500, len(who)).astype(float)
    follows = np.append(np.where(who[1:] == who[:-1], day[1:], np.inf), np.inf)[:len(who)]
    end = np.where(random.random(len(who)) < 0.4, np.where(np.isinf(follows), np.nan, follows), np.minimum(end, follows))
    tables["treatments"] = {"patient": who, "start_date": day, "end_date": end,
                            "dmt": random.integers(0, len(dmt.shipped().names), len(who)).astype(np.int16)}
    who, day = dated(4, -700, 3650)
    tables["mri"] = {"patient": who, "mri_date": day, "t2_lesion_count": random.integers(0, 60, len(who)).astype(float),
                     "gd_lesion_count": random.poisson(0.4, len(who)).astype(float), "region": np.zeros(len(who), np.int8)}
    return registry_of([f"{prefix}{k:07d}" for k in range(patients)], tables)


def shuffled(registry, seed=0):
    """The same registry with the rows of its tables in another order."""
    random = np.random.default_rng(seed)
    for name in DATED:
        registry = registry.with_table(registry.table(name).where(random.permutation(registry.table(name).n)))
    return registry


def moved(registry, days):
    """All dates later by so many days. Four years (1461 days) move a year of birth by four."""
    assert days % 1461 == 0
    book = registry.dictionary
    for name, table in registry.held.items():
        dates = {column: values + days for column, values in table.columns.items()
                 if column == DATED.get(name) or column == "birth_month" or (column in book and book[column].type == "date")}
        if name == "patients":
            dates["birth_year"] = table["birth_year"] + 4 * days // 1461
        registry = registry.with_table(table.changed(**dates))
    return registry


def together(*registries):
    """One registry with the patients of all; identifiers must come in increasing order."""
    first, held, offset = registries[0], {}, np.cumsum([0] + [len(one.ids) for one in registries])
    for name in COLUMNS:
        parts = [one.held[name].columns | {"patient": one.held[name]["patient"] + k} for one, k in zip(registries, offset)]
        columns = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
        held[name] = Table(name, len(columns["patient"]), columns)
    return Registry(np.concatenate([one.ids for one in registries]), np.concatenate([one.listed for one in registries]), held,
                    first.dictionary, first.treatment_list)
