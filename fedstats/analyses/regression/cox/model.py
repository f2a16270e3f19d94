"""What a Cox model is about, as every ask of it carries it, and how large its sums may become.

Columns lie in [-1, 1] by the dictionary (see `terms`). The first round counts which 256ths of that are used at all; from then on an
ask carries a `frame`, per column [shift, scale, low, high]: the mean and half the width of what is used, and the least and largest
value that (column - shift) / scale can have. So bounds are near what patients have, whatever the dictionary would allow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from fedstats.data.dictionary import RESERVED, Dictionary
from fedstats.errors import QuestionError
from fedstats.formula.terms import Columns, Design, Term, single, variables_of
from fedstats.formula.weights import InverseProbability, Weighting, weight_variables
from fedstats.sums import steady

from ...shared.common import groups
from ..ranges import narrowed

NATS = 1.4426950408889634       # 1 / log 2: powers of two in a unit of eta
LARGEST_ETA = 60.0              # of a linear predictor: beyond it sums of exp(eta) hold nothing but one patient


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a Cox model is about, as every ask of it carries it.

    time : where a row leaves. event : whether with an event. entry : after which it is at risk. terms : the covariates.
    strata : variables with a baseline hazard per level. weights : a variable, or inverse probabilities of treatment. offset : a term
    with coefficient 1. drop : columns that are left out, as nobody has the level. ranges : of
    covariates, narrower than in the dictionary (see `ranges`); not sent where there are none.
    """

    time: str
    event: str
    terms: tuple[Term, ...]
    entry: str | None = None
    strata: tuple[str, ...] = ()
    weights: str | InverseProbability | None = None
    offset: Term | None = None
    drop: tuple[str, ...] = ()
    ranges: tuple[tuple[str, float, float], ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def levels(self) -> tuple[str, ...]:
        """The strata that are variables."""
        return tuple(name for name in self.strata if name != RESERVED)

    @property
    def by_registry(self) -> bool:
        return RESERVED in self.strata

    def design(self, dictionary: Dictionary) -> Design:
        if self.ranges is not msgspec.UNSET:
            dictionary = narrowed(dictionary, self.ranges)
        return Design.of(self.terms, dictionary, intercept=False, drop=self.drop)

    def offset_column(self, dictionary: Dictionary) -> Columns | None:
        return None if self.offset is None else single(self.offset, dictionary)

    @property
    def columns(self) -> tuple[str, ...]:
        """All variables that must be known."""
        names = [self.time, self.event, *([self.entry] if self.entry else []), *self.levels, *weight_variables(self.weights)]
        return tuple(dict.fromkeys([*names, *variables_of((*self.terms, *((self.offset,) if self.offset else ())))]))

    def weighting(self, dictionary: Dictionary) -> Weighting | None:
        return Weighting.of(self.weights, dictionary)

    @property
    def selectors(self) -> tuple[str, ...]:
        """The variables that select or weigh on their own: those of the weights, and those of the offset."""
        return (*weight_variables(self.weights), *(variables_of((self.offset,)) if self.offset else ()))

    def strata_count(self, dictionary: Dictionary) -> int:
        return math.prod(len(groups(dictionary, name)) for name in self.levels)

    def bounds(self, dictionary: Dictionary, beta: Sequence[float], frame: Sequence[Sequence[float]]) -> tuple[float, float, float]:
        """The largest weight, the largest |eta| and the largest weight times exp(eta) that a row can have, as powers of two."""
        weighting = self.weighting(dictionary)
        weight = steady.power_of_two(weighting.high) if weighting is not None else 1.0
        offset = self.offset_column(dictionary)
        half = (offset.high[0] - offset.low[0]) / 2 if offset else 0.0
        top = math.fsum([max(b * low, b * high) for b, (_, _, low, high) in zip(beta, frame)]) + half
        eta = math.fsum([abs(b) * max(-low, high) for b, (_, _, low, high) in zip(beta, frame)]) + half
        if not eta <= LARGEST_ETA:
            raise QuestionError(f"the linear predictor may reach {eta:.3g} for values that the dictionary allows",
                                hint="give the covariates and the offset narrower ranges in the dictionary, or add a ridge penalty")
        return weight, eta, weight * math.ldexp(1.0, math.ceil(top * NATS))


@functools.lru_cache(maxsize=64)
def _read(raw: bytes) -> Model:
    return msgspec.json.decode(raw, type=Model)


def model_of(model: Any) -> Model:
    """The model that an ask carries as plain data."""
    return _read(msgspec.json.encode(model))


def as_frame(frame: Sequence[Sequence[float]]) -> np.ndarray:
    """The frame of an ask, shape (p, 4)."""
    return np.asarray(frame, dtype=float).reshape(-1, 4)
