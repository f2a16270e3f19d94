"""What a model card holds: the questions it answers, as frozen structures. `card` makes and reads them, `card_page` shows them.

After Mitchell et al. (2019), Model Cards for Model Reporting, FAT*; the questions are those of TRIPOD+AI (Collins et al. 2024, BMJ
385:e078378).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..analyses.validation.performance import Performance, SizeBand
from ..analyses.validation.seen import Seen


class Covariate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A covariate as the dictionary has it. values : range or levels, in words. splits : how often trees cut there."""

    name: str
    type: str
    values: str
    unit: str = ""
    description: str = ""
    splits: int | None = None


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One coefficient with its interval, on the model's scale; exp_coef : hazard, odds or rate ratio."""

    term: str
    coef: float
    exp_coef: float | None
    low: float
    high: float
    p: float


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was made from. sizes : of registries, in bands; no registry's own number. cohort, outcome : sentences.

    data_cut : date after which nothing is in the data, "" if it was not stated. eligible : the conditions of the cohort as filters, each
    of which a patient must fulfil; of those that the model's covariates can tell.
    """

    registries: int
    sizes: tuple[SizeBand, ...]
    patients: int
    events: int | None
    cohort: str
    outcome: str
    data_cut: str
    eligible: tuple[Any, ...] = ()


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the patients are protected. how : sealed, simulated or pooled. rules : of release. settings : those that decide what the
    registries see on the way and what a model can tell of single patients (bins, depth, trees, ...)."""

    how: str
    rules: str
    settings: dict[str, str | int | float | bool | None]
    notes: tuple[str, ...] = ()


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it comes from. model : SHA-256 of the model's content. query : id, "" outside of a network. signatures : {registry: its signed
    word that this query's result may be released, base 64}."""

    software: str
    date: str
    model: str
    query: str = ""
    signatures: dict[str, str] = {}


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model card; `version` is that of this format. horizons : times up to which risks are given, in `time_unit`. seen : which patients
    the model has seen (of models with a validation; not in cards of version 1, so that their models say nothing of a patient)."""

    format: Literal["fedstats model card"]
    version: Literal[1, 2]
    title: str
    kind: Literal["boosting", "cox", "glm"]
    intended_use: str
    research_use: str
    not_said: tuple[str, ...]
    training: Training
    model: dict[str, str | int | float | bool | None]
    covariates: tuple[Covariate, ...]
    privacy: Privacy
    provenance: Provenance
    coefficients: tuple[Coefficient, ...] = ()
    performance: tuple[Performance, ...] = ()
    folds: int | None = None
    horizons: tuple[float, ...] = ()
    time_unit: str = ""
    notes: tuple[str, ...] = ()
    seen: Seen | None = None

    @property
    def last(self) -> Performance | None:
        """The performance at the last horizon, None without any."""
        return self.performance[-1] if self.performance else None
