"""Whether a patient is one of those that a model has seen, and if not, why: a reason instead of a number.

How this works. A patient must fulfil the conditions of the cohort, have values where the model's patients had theirs, lack only what they
lacked too, and be like enough of them in every two values together (`analyses.validation.seen` says what was counted). What cannot be
told from the model's covariates, such as a condition on another column, is said beside the number and not decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..analyses.validation.grid import place_in
from ..analyses.validation.seen import Covered, Distance, Seen, Unseen
from ..data.filters import check_filter, filter_columns, keep, normal_filter
from ..data.rows import Rows
from ..data.variable import ON_STEP, Variable, value_text
from ..errors import QuestionError
from ..ms.cohort.tree import condition_text

# Completed years at time zero and at onset, and tenths of years in between, each rounded down: the parts may miss the whole by 1.1.
AGES, ROUNDED_DOWN = ("age", "age_at_onset", "disease_duration"), 1.1
Reasons = Iterator[tuple[np.ndarray, str]]      # for which patients it holds, and the sentence


def reasons(rows: Rows, seen: Seen, eligible: Sequence[Any] = ()) -> list[list[str]]:
    """Per patient, why no number is given; an empty list where one is. rows : patients as the model's covariates, checked against the
    dictionary. eligible : the conditions of the cohort, as filters."""
    found: list[list[str]] = [[] for _ in range(rows.n)]
    for parts in (_unlike_cohort(rows, eligible), _missing(rows, seen), _outside(rows, seen), _contradicting(rows, seen)):
        for holds, sentence in parts:
            for k in np.flatnonzero(holds):
                found[k].append(sentence)
    for holds, sentence in _unlike_pairs(rows, seen):
        for k in np.flatnonzero(holds):
            if not found[k]:        # what is unlike by itself is so together with others too
                found[k].append(sentence)
    return found


def unchecked(rows: Rows, eligible: Sequence[Any]) -> list[str]:
    """Conditions of the cohort that are about other columns than the model's covariates, in words."""
    return [condition_text(one) for one in _normal(eligible) if not set(filter_columns(one)) <= set(rows.dictionary.names)]


def _normal(eligible: Sequence[Any]) -> list[Any]:
    return [normal_filter(one) for one in eligible]


def _unlike_cohort(rows: Rows, eligible: Sequence[Any]) -> Reasons:
    for one in _normal(eligible):
        if set(filter_columns(one)) <= set(rows.dictionary.names):
            check_filter(one, rows.dictionary)
            yield ~keep(one, rows), f"the model is for patients with {condition_text(one)}"


def _missing(rows: Rows, seen: Seen) -> Reasons:
    lacking = {one.name: ~rows.present(one.name) for one in seen.covariates}
    never = [one.name for one in seen.covariates if not one.missing]
    patterns = np.stack([lacking[name] for name in never], axis=1) if never else np.zeros((rows.n, 0), dtype=bool)
    for pattern in np.unique(patterns, axis=0):         # one sentence for all that a patient lacks
        if names := [name for name, lacks in zip(never, pattern) if lacks]:
            yield (patterns == pattern).all(axis=1), (f"{_and(names)} {'is' if len(names) == 1 else 'are'} not known, and fewer than "
                                                      f"{seen.fewest} patients that the model has seen lacked that")
    many = np.sum(list(lacking.values()), axis=0) if lacking else np.zeros(rows.n)
    beside = f"at most {seen.most_missing} of the model's {len(lacking)} covariates were unknown at once in the patients that it has seen"
    allowed = all(one.missing for one in seen.covariates)
    yield (many > max(seen.most_missing, 0)) & ((many > 1) | allowed), beside


def _outside(rows: Rows, seen: Seen) -> Reasons:
    for one in seen.covariates:
        variable = rows.dictionary[one.name]
        if variable.labels is not None:
            place, known = rows.steps(one.name), [variable.labels.index(name) for name in one.levels if name in variable.labels]
            yield (place >= 0) & ~np.isin(place, known), (f'"{one.name}" is a level of fewer than {seen.fewest} patients that the model '
                                                          f"has seen: they had {_or(one.levels)}")
        else:
            yield (_not_in(rows.values(one.name), one.spans, variable), f'"{one.name}" is where fewer than {seen.fewest} patients were '
                   f"that the model has seen: they had {_or(_spans(one.spans, variable))}")


def _not_in(values: np.ndarray, spans: Sequence[tuple[float, float]], variable: Variable | None) -> np.ndarray:
    """Known values outside of all spans. variable : whose upper end belongs to it."""
    inside = np.isnan(values)
    slack = 0.0 if variable is None else ON_STEP * (variable.unit_step or 0.0)
    for low, high in spans:
        top = variable is not None and high >= variable.high
        inside |= (values >= low - slack) & ((values <= high + slack) if top else (values < high - slack))
    return ~inside


def _contradicting(rows: Rows, seen: Seen) -> Reasons:
    if set(AGES) <= set(rows.dictionary.names):
        age, onset, duration = (rows.values(name) for name in AGES)
        with np.errstate(invalid="ignore"):
            yield np.abs(age - onset - duration) > ROUNDED_DOWN, f"{_and(AGES)} contradict each other"
    for one in seen.distances:
        had = _or(_spans(one.spans, rows.dictionary[one.first], whole=False))
        yield _far(rows, one), (f'"{one.first}" less "{one.second}" is where fewer than {seen.fewest} patients were that the model has '
                                f"seen: they had {had}")


def _far(rows: Rows, one: Distance) -> np.ndarray:
    return _not_in(rows.values(one.first) - rows.values(one.second), one.spans, None)


def _unlike_pairs(rows: Rows, seen: Seen) -> Reasons:
    covered = {one.name: one for one in seen.covariates}
    group = {name: _group(rows, one) for name, one in covered.items()}
    for one in seen.unseen:
        bad = np.zeros(rows.n, dtype=bool)
        for a, b in one.groups:
            bad |= (group[one.first] == a) & (group[one.second] == b)
        yield bad, _pair_text(one, seen)


def _pair_text(one: Unseen, seen: Seen) -> str:
    return f'"{one.first}" and "{one.second}" are together like those of fewer than {seen.fewest} patients that the model has seen'


def _group(rows: Rows, one: Covered) -> np.ndarray:
    labels = rows.dictionary[one.name].labels
    if labels is not None:
        place, last = rows.steps(one.name), len(labels)
    else:
        place, last = place_in((0.0, *one.cuts, 0.0), rows.values(one.name)), len(one.cuts) + 1
    return np.where(place < 0, last, place)


def check_seen(seen: Seen, names: Sequence[str]) -> None:
    """Whether what a card says of the patients fits a model's covariates. Raises QuestionError."""
    known = [one.name for one in seen.covariates]
    pairs = [(one.first, one.second) for one in seen.distances] + [(one.first, one.second) for one in seen.unseen]
    if sorted(known) != sorted(names) or not all({*pair} <= {*known} for pair in pairs):
        raise QuestionError("the card speaks of other covariates than the model has")
    for one in seen.covariates:
        if any(a >= b for a, b in zip(one.cuts, one.cuts[1:])) or not all(a < b for a, b in one.spans):
            raise QuestionError(f'the card does not say where "{one.name}" lay')


def _spans(spans: Sequence[tuple[float, float]], variable: Variable, *, whole: bool = True) -> list[str]:
    """whole : the last value of a stepped variable is named; else the end, which is left out."""
    step = (variable.unit_step or 0.0) if whole else 0.0
    between = "to" if whole else "up to, but not"
    return [f"{value_text(variable, low)} {between} {value_text(variable, high if high >= variable.high else high - step)}"
            for low, high in spans]


def _or(words: Sequence[str]) -> str:
    return " or ".join(words) if words else "none"


def _and(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f'"{names[0]}"'
    return ", ".join(f'"{name}"' for name in names[:-1]) + f' and "{names[-1]}"'
