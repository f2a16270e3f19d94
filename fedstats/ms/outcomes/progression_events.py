"""What `worsening` returns: one row per patient and event, how many patients came through, how long confirmation took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WEEK = 7        # days


@dataclass(frozen=True)
class Lag:
    """Days from an event to its confirmation: how many events, quartiles. NaN without events."""

    events: int
    lower: float
    median: float
    upper: float


@dataclass(frozen=True)
class Events:
    """Events of disability, as columns of equal length; `events["time2event"]` is one of them, `events.frame()` a data frame.

    patient_id, nevent (0: no event), event_type (CDW, CDI, none), cdw_type (PIRA, RAW, undefined; empty otherwise), date, value,
    bl_date, bl_value (the reference), last_delta_date, last_delta_value (the last visit that differs by the threshold),
    time2event (days from time zero; without an event the end of observation), bl2event, total_fu, conf<d>_date, conf<d>_value,
    pira_conf<d>_date, pira_conf<d>_value (per confirmation period of d days), sust_days, sust_last, imputed (the event is the last visit
    and was not confirmed), at_risk (had a reference and a visit after it), competing (observation ended with death or EDSS 10).

    flow : counts of visits, relapses and patients. confirmation_lag : {d: Lag}. unconfirmed : changes that came to nothing, or None.
    settings : what was asked. Dates are datetime64[D], missing as NaT; with days as input they are floats, missing as NaN.
    """

    columns: dict[str, np.ndarray]
    flow: dict[str, int]
    confirmation_lag: dict[float, Lag]
    unconfirmed: dict[str, np.ndarray] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["patient_id"])

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def keys(self) -> list[str]:
        return list(self.columns)

    def frame(self) -> Any:
        """The rows as a pandas data frame."""
        return frame(self.columns)

    def describe(self) -> str:
        """The definition as a sentence for a methods section."""
        from .definitions import describe

        return describe(**self.settings)

    def __str__(self) -> str:
        flow = self.flow
        lines = [f'{flow["events"]} events in {flow["with_event"]} of {flow["at_risk"]} patients at risk. Not at risk: '
                 f'{flow["single_visit"]} with a single visit, {flow["without_reference"]} without a reference and a visit after it.']
        for days, lag in self.confirmation_lag.items():
            if lag.events:
                lines.append(f"{days / WEEK:g}-week confirmation came after {lag.median:g} days (median of {lag.events} events; "
                             f"quartiles {lag.lower:g} and {lag.upper:g}).")
        return "\n".join(lines)


def frame(columns: dict[str, np.ndarray]) -> Any:
    """Columns as a pandas data frame; dates become timestamps."""
    import pandas as pd

    return pd.DataFrame({name: values.astype("datetime64[ns]") if values.dtype.kind == "M" else values for name, values in columns.items()})


def lag(days: np.ndarray) -> Lag:
    """The distribution of the days from event to confirmation; NaN where there was none."""
    days = days[~np.isnan(days)]
    if not len(days):
        return Lag(0, np.nan, np.nan, np.nan)
    lower, median, upper = np.quantile(days, [0.25, 0.5, 0.75])
    return Lag(len(days), float(lower), float(median), float(upper))
