"""The numbers and dates that a cohort may name: registered steps, the same for everybody.

A threshold that can be moved by one day selects one patient: the cohort up to 14 March less the cohort up to 13 March is whoever was seen
on the 14th, and no rule on the size of a cohort sees that. So dates are the first days of quarters, lengths of time are steps of 30 days
or of half years, and counts of rows come from a short list, as filters cut at the dictionary's cut points only (see `filters`). What
remains is the difference of two cohorts a step apart, which the registries' memory of earlier questions is there for.
"""

from __future__ import annotations

import datetime

from ...data.variable import EPOCH, iso_date
from ...errors import QuestionError

LONGEST_DAYS = 36_500                       # of a window: a hundred years
STEP_DAYS = 30
HALF_YEAR = (365, 2)                        # days of two half years: 183, 365, 548, 730 ... with halves rounded up
QUARTERS = (1, 4, 7, 10)                    # months that begin one
ROWS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)      # of one patient
HORIZONS = tuple(half / 2 for half in range(1, 41))       # years: half a year to twenty


def day_of(text: str, field: str) -> int:
    """Days since 1970-01-01 of a date as YYYY-MM-DD."""
    date = iso_date(text)
    if date is None:
        raise QuestionError(f'cohort: {field}: "{text}" is not a date', hint="write it as 2015-01-01")
    return (date - EPOCH).days


def check_date(text: str, field: str) -> int:
    """Days since 1970-01-01 of a date that begins a quarter; raises QuestionError for another one."""
    day = day_of(text, field)
    date = EPOCH + datetime.timedelta(days=day)
    if date.day != 1 or date.month not in QUARTERS:
        raise QuestionError(f"cohort: {field}: {text} does not begin a quarter",
                            hint="the first of January, April, July or October: a date that can be moved by a day selects one patient")
    return day


def check_days(days: int, field: str) -> None:
    """Raises QuestionError for a length of time that is no registered step."""
    length, halves = HALF_YEAR
    nearest = -(-length * round(halves * days / length) // halves)
    if not 0 <= days <= LONGEST_DAYS:
        raise QuestionError(f"cohort: {field} is {days}", hint=f"whole days from 0 to {LONGEST_DAYS}")
    if days % STEP_DAYS and days != nearest:
        raise QuestionError(f"cohort: {field} is {days}", hint=f"a multiple of {STEP_DAYS} days, or half years (183, 365, 548, 730 ... "
                            "days): a length of time that can be moved by a day selects one patient")


def check_rows(most: int, field: str) -> None:
    """Raises QuestionError for a largest number of rows that is not in the list."""
    if most not in ROWS:
        raise QuestionError(f"cohort: {field} is {most}", hint="one of " + ", ".join(map(str, ROWS)))


def check_horizon(years: float, field: str) -> None:
    """Raises QuestionError for a horizon that is not in the list."""
    if years not in HORIZONS:
        raise QuestionError(f"cohort: {field} is {years:g} years", hint=f"half years from {HORIZONS[0]:g} to {HORIZONS[-1]:g}")
