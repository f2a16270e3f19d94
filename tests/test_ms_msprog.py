"""Every option of `worsening` against MSprog: made-up patients with many visits, and relapses on, before and after them."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedstats.ms.outcomes.progression import worsening

FILE = json.loads(Path(__file__).with_name("reference").joinpath("msprog.json").read_text("utf-8"))
CASES = FILE["results"]
EMPTY = {"none": None, "": None}


def plain(value):
    """A cell as it stands in the file: whole numbers, None where there is nothing."""
    if value != value:
        return None
    return EMPTY.get(value, value) if isinstance(value, str) else float(value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case["settings"]))
def test_every_option_is_what_msprog_does(case):
    """Same events, types, dates, references, confirmations and durations as MSprog 1.0.7, in every column that it writes."""
    found = worsening(FILE["visits"], FILE["relapses"], edss_10="value", **case["settings"])
    event = np.array([row[case["columns"].index("nevent")] for row in case["rows"]]) > 0

    assert list(found["patient_id"]) == [row[0] for row in case["rows"]]
    for k, column in enumerate(case["columns"][1:], 1):
        theirs = [row[k] for row in case["rows"]]
        if column == "sust_last":       # without an event it is left open there
            assert list(found[column][event]) == [bool(one) for one in np.array(theirs, object)[event]]
            continue
        assert [plain(one) for one in found[column.lower()]] == [None if one is None else plain(one) for one in theirs], column
