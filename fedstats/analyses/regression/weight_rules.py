"""Release rules for weights: nobody may be picked out, or left out, by a weight that hardly anybody else has.

How this works: weights may follow an analyst's wish (the coefficients of a propensity model are stated, not proved), and a weighted mean
beside a plain one tells the outcome of whoever weighs far more, or far less, than all others. So patients are counted in classes of weight,
each half as high as the one above, apart for each treatment; `check_classes` reads the counts. What the propensity model's own columns
single out is checked like a model's (`model_rules`).
"""

from __future__ import annotations

import numpy as np

from ...data.rows import Rows
from ...disclosure import Rules, safe
from ...errors import Refused
from ...formula.terms import levels_of
from ...formula.weights import Weighting

CLASSES = 20                # from the largest weight that there may be, halved from one to the next
NEARLY_NOTHING = 3          # classes below the one of the median: an eighth of it, below which patients are as good as left out


def arms(weighting: Weighting) -> int:
    """How many treatments there are; 1 for weights that are a column of the table."""
    return len(levels_of(weighting.inverse.treatment, weighting.dictionary)[0]) if weighting.inverse else 1


def class_counts(cases: Rows, weighting: Weighting, weights: np.ndarray) -> np.ndarray:
    """People per treatment and class of weight, shape (treatments, CLASSES). With several rows, a patient counts once per treatment, by
    the largest weight. weights : above 0, of each row.

    Class k holds weights from high / 2^(k + 1), exclusive, to high / 2^k.
    """
    shares = np.maximum(weights / weighting.high, 0.5**CLASSES)
    place = np.clip(np.frexp(1 / shares)[1] - 1, 0, CLASSES - 1)
    if weighting.inverse is not None:
        treatment = weighting.inverse.treatment
        place = place + CLASSES * np.searchsorted(np.array(levels_of(treatment, cases.dictionary)[1]), cases.bins(treatment))
    if cases.person is not None:
        order = np.argsort(place, kind="stable")
        place, person = place[order], cases.person[order]
        place = place[np.unique(np.stack([place // CLASSES, person]), axis=1, return_index=True)[1]]
    return np.bincount(place, minlength=arms(weighting) * CLASSES).reshape(-1, CLASSES)


def check_classes(classes: np.ndarray, contributors: np.ndarray, rules: Rules) -> None:
    """Whether enough patients, of enough registries, have about the largest weights of each treatment, and whether nobody is as good as
    left out. Raises Refused.

    classes : people, shape (treatments, CLASSES), largest weights first. contributors : registries with such people, same shape.
    """
    k = rules.min_cell
    for counts, registries in zip(classes, contributors):
        if not counts.sum():
            continue
        top = int(np.flatnonzero(counts)[0])
        if counts[top:top + 2].sum() < k or registries[top:top + 2].max() < rules.min_registries:
            raise Refused(f"fewer than {k} patients, or those of fewer than {rules.min_registries} registries, have the largest weights: "
                          "within a quarter of the largest (rule models)",
                          hint="truncate weights lower (inverse probabilities by a smaller `most`, a column by a narrower range in the "
                               "dictionary), or leave out terms of the propensity model")
        middle = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
        last = middle + NEARLY_NOTHING
        small = [*counts[middle:last].tolist(), int(counts[last:].sum())][::-1]
        below = 0
        for here, above in zip(small, [*small[1:], k]):
            below += here
            if not safe(below, rules) and not above:
                raise Refused(f"fewer than {k} patients weigh far less than all others, as if they were left out (rule models)",
                              hint="leave out terms of the propensity model, or leave these patients out with a filter")
