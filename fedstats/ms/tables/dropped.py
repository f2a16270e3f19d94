"""What was left out of the tables although it happened: so that its absence is never taken for "no".

How this works: loading and cleaning take away rows and cells that cannot be right - a relapse whose day
cannot be read, two drugs that start on one day. The patient had a relapse, was treated; only the tables
do not say it any more. Each such row leaves a trace here: whose, of which table or cell, between which
days, and until when it may have lasted. Whoever concludes something from an absence (a new user, no
relapse in a year, no worsening) asks here first, and where a trace lies in the way, the answer is
"not known". What did not happen (a steroid among the treatments, an entry made twice) leaves none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEVER, FOREVER = -np.inf, np.inf
ROW = ""  # the key of whole rows; of cells it is their column
UNKNOWN_DRUG = -1
Key = tuple[str, str]  # table, column


@dataclass(frozen=True)
class Dropped:
    """Traces of one key, shape (n,).

    patient : place in `Registry.ids`. first, last : days since 1970 between which it began, infinite
    where not known. until : last day that it may have lasted. dmt : which treatment, `UNKNOWN_DRUG`.
    """

    patient: np.ndarray
    first: np.ndarray
    last: np.ndarray
    until: np.ndarray
    dmt: np.ndarray

    @classmethod
    def of(
        cls,
        patient: np.ndarray,
        first: np.ndarray | float = NEVER,
        last: np.ndarray | float | None = None,
        until: np.ndarray | float | None = None,
        dmt: np.ndarray | int = UNKNOWN_DRUG,
    ) -> Dropped:
        """Traces; last is first, or not known where that is not; until is last if not given."""
        shape = np.shape(patient)
        low = np.broadcast_to(np.asarray(first, dtype=float), shape)
        high = (
            np.where(np.isfinite(low), low, FOREVER)
            if last is None
            else np.broadcast_to(np.asarray(last, dtype=float), shape)
        )
        end = high if until is None else np.broadcast_to(np.asarray(until, dtype=float), shape)
        return cls(
            np.asarray(patient, dtype=np.int64),
            low,
            high,
            np.where(np.isnan(end), FOREVER, end),
            np.broadcast_to(np.asarray(dmt, dtype=np.int64), shape),
        )

    def __repr__(self) -> str:  # a notebook must not print patients
        return f"Dropped({self.n})"

    @property
    def n(self) -> int:
        return len(self.patient)

    def where(self, keep: np.ndarray) -> Dropped:
        """Some of them. keep : boolean, or places."""
        return Dropped(
            self.patient[keep], self.first[keep], self.last[keep], self.until[keep], self.dmt[keep]
        )

    def of_patients(self, place: np.ndarray) -> Dropped:
        """Those of some patients. place : the new place of each patient, -1 for those who go."""
        kept = self.where(place[self.patient] >= 0)
        return Dropped(place[kept.patient], kept.first, kept.last, kept.until, kept.dmt)

    def begun(self, patient: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Whether something may have begun from day `start` to day `stop` (both included) of each of `patient`; boolean."""
        query, trace = self.pairs(patient)
        inside = (
            (self.first[trace] <= stop[query])
            & (self.last[trace] >= start[query])
            & (start[query] <= stop[query])
        )
        return self.hit(query[inside], len(patient))

    def pairs(self, patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every question with every trace of its patient: places in `patient`, places in self."""
        order = np.argsort(self.patient, kind="stable")
        mine = self.patient[order]
        low, high = np.searchsorted(mine, patient), np.searchsorted(mine, patient, side="right")
        size = high - low
        query = np.repeat(np.arange(len(patient)), size)
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        return query, order[np.repeat(low, size) + within]

    @staticmethod
    def hit(query: np.ndarray, n: int) -> np.ndarray:
        """Which questions are among these, boolean, shape (n,)."""
        return np.bincount(query, minlength=n) > 0


NOTHING = Dropped.of(np.zeros(0, dtype=np.int64))


def joined(parts: list[Dropped]) -> Dropped:
    """Traces of several keys as one."""
    parts = [one for one in parts if one.n]
    if not parts:
        return NOTHING
    return Dropped(
        *(
            np.concatenate([getattr(one, name) for one in parts])
            for name in ("patient", "first", "last", "until", "dmt")
        )
    )
