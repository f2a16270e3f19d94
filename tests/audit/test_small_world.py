"""The small worlds: no released result determines a group of a few; every world shows something.

The small sizes run with the other tests; the larger ones, and pairs whose tables take long, are marked slow.
"""

import dataclasses

import pytest

from tests.audit.small_world import LEAST_SHOWN, WORLDS, audit, released

FAST = ("crosstab, one variable", "rates", "histogram", "quantiles", "quantiles beside the histogram", "kaplan-meier",
        "summary of few values")

# what is known to be determined, with the reason; strict: whoever mends it takes the line away
MEAN_WITH_SD = "mean and SD of a number of few values are its table"
KNOWN: dict[str, str] = {
    "crosstab, one variable": "3, 2, 2: the two small ones are hidden; with 3 and 1, or 4 and 0, the choice of a complement would "
                              "have hidden another cell, so whoever repeats that choice knows them",
    "kaplan-meier": "the Nelson-Aalen estimate at the last time tells in which order three people left; with few at risk its step of "
                    "one person is finer than the differences between orders",
    "summary of few values": MEAN_WITH_SD,
    "compare few values": MEAN_WITH_SD,
    "crosstab, two variables": "as for one variable: the choice of the complement tells",
    "log-rank": "observed, expected and variance to four digits have one table of twelve people; shown in 0.3 % only",
    "rates": "events and follow-up of seven people are told exactly: one table of durations has them",
}


def params(larger):
    for world in WORLDS:
        marks = [] if world.name in FAST and not larger else [pytest.mark.slow]
        if world.name in KNOWN:
            marks.append(pytest.mark.xfail(reason=KNOWN[world.name], strict=True))
        if not larger or world.larger:
            most = world.larger if larger else world.people
            yield pytest.param(world, most, marks=marks, id=f"{world.name}, {most}")


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("world", "most"), [*params(False), *params(True)])
def test_no_group_of_a_few_is_determined(world, most):
    """Whatever is released, several data sets give it, and they do not agree on any group of a few."""
    found = audit(world, most)

    assert found.shown >= LEAST_SHOWN, "a world that shows nothing says nothing"
    assert found.findings == ()


def test_the_audit_finds_what_is_told():
    """The control: whoever is told the data set knows every group of a few."""
    world = dataclasses.replace(WORLDS[1], people=6)

    def told(world, most):
        for counts, text, shown in released(world, most):
            yield counts, text + str(counts.tolist()), shown

    assert audit(world, run=told).findings and not audit(world).findings
