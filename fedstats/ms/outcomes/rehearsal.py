"""The first call of the compiled kernels, before anybody waits for an answer."""

from __future__ import annotations

VISITS = {"patient_id": ["a", "a", "a"], "edss": [2.0, 4.0, 4.0],
          "visit_date": ["2020-01-01", "2021-01-01", "2022-01-01"]}
RELAPSES = {"patient_id": ["a"], "relapse_onset_date": ["2020-06-01"]}


def rehearse() -> None:
    """Compile the kernels of outcomes: half a minute once per machine; numba keeps them."""
    from .definitions import definition
    from .milestone import milestone

    definition("cdw24").find(VISITS, RELAPSES)
    milestone(VISITS, 3.0, RELAPSES)
