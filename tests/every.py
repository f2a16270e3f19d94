"""One example ask, or more, for every registered statistic: the property tests run over this list.

`test_every_statistic` fails when a registered statistic has no example here. Columns are those of `random_rows`.
"""

from fedstats.analyses.correlation import pair, products
from fedstats.analyses.crosstab import counts
from fedstats.analyses.histogram import binned
from fedstats.analyses.logrank import logrank_scores
from fedstats.analyses.moments import moments
from fedstats.analyses.rates import person_time
from fedstats.analyses.survival import life_table
from fedstats.analyses.table_one import characteristics
from fedstats.driver import flow, size

EXAMPLES = [
    size(sets=[["age"], ["sex", "years"], []]),
    flow(steps=["patients", "in the cohort"]),
    moments(columns=["age", "edss", "years", "female"]),
    moments(columns=["age", "years"], by="sex"),
    moments(columns=["age", "years", "edss"], by="sex", missing=True),
    counts(variables=["sex", "ecog"]),
    counts(variables=["sex", "ecog", "female"], missing=True),
    binned(columns=["age", "edss", "years", "start"]),
    binned(columns=["edss", "female"], by="sex", missing=True),
    products(columns=["age", "edss", "years", "female", "event"]),
    pair(columns=["edss", "age", "years"], a="edss", b="age"),
    pair(columns=["edss", "relapses"], a="edss", b="relapses", cuts_a=[0, 3, 8, 21], cuts_b=[0, 1, 21]),
    person_time(events="event", time="years", by="sex"),
    person_time(events="relapses", time="days"),
    person_time(events="relapses", time="ecog", by="sex", missing=True),
    life_table(time="days", event="event"),
    life_table(time="years", event="event", by=["sex"], missing=True),
    life_table(time="days", event="event", by=["sex", "ecog"], ends=[[5, 122], [1, 9, 122], [122], [60, 122]]),
    logrank_scores(time="days", event="event", by="sex"),
    logrank_scores(time="years", event="event", by="ecog", rho=1, missing=True),
    characteristics(numbers=["age", "edss", "years", "ecog"], levels=["female", "start"]),
    characteristics(numbers=["edss"], levels=["ecog", "event"], by="sex", missing=True),
]

# A dictionary with every type of variable, and cut points where a time or a number needs them.
DICTIONARY = {
    "name": "every type",
    "variables": [
        {"name": "age", "type": "integer", "range": [0, 110], "unit": "years", "cut_points": {"from": 0, "to": 110, "step": 5}},
        {"name": "edss", "type": "number", "range": [0, 10], "step": 0.5},
        {"name": "years", "type": "number", "range": [0, 20], "unit": "years", "cut_points": {"from": 0, "to": 20, "step": 0.25}},
        {"name": "days", "type": "integer", "range": [0, 3650], "unit": "days", "cut_points": {"from": 0, "to": 3650, "step": 30}},
        {"name": "event", "type": "boolean"},
        {"name": "female", "type": "boolean"},
        {"name": "sex", "type": "category", "levels": ["F", "M"]},
        {"name": "ecog", "type": "integer", "range": [0, 4]},
        {"name": "relapses", "type": "integer", "range": [0, 20]},
        {"name": "start", "type": "date", "range": ["1990-01-01", "2030-12-31"],
         "cut_points": {"from": "1990-01-01", "to": "2030-12-31", "step": 365}},
    ],
}


def random_rows(n, random):
    """A table of n patients with gaps in every column. random : numpy Generator."""
    import numpy as np

    def gaps(values):
        values = np.asarray(values, dtype=object)
        values[random.random(n) < 0.05] = None
        return values

    return {
        "age": gaps(random.integers(18, 90, n)), "edss": gaps(random.integers(0, 20, n) / 2), "years": gaps(random.random(n) * 20),
        "days": gaps(random.integers(0, 3650, n)), "event": gaps(random.random(n) < 0.5), "female": gaps(random.random(n) < 0.7),
        "sex": gaps(random.choice(["F", "M"], n)), "ecog": gaps(random.integers(0, 5, n)), "relapses": gaps(random.poisson(1, n)),
        "start": gaps(np.array(["2001-02-03", "2010-11-12"])[random.integers(0, 2, n)]),
    }
