"""What the demonstration asks, of whom, and what is true: its registries, cohort, questions, comparison and true effect. No screen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..disclosure import Rules
from ..ms import synthetic

if TYPE_CHECKING:
    from ..client.federation import Cohort, CohortQuestion, Federation
    from ..query.analysis import Result

SEED = 2026
SIZES = (3400, 2500, 1800, 1400, 900)       # patients: enough for curves that are not coarse where steps hold at least 10 events
# Not rounded, so that every digit is compared; a real consortium rounds. Zeros are shown: a sex that nobody has would hide another one.
RULES = Rules(min_cell=10, min_cohort=50, min_registries=3, rounding=False, show_zeros=True)
COHORT: dict[str, Any] = {
    "index": {"event": "dmt_start"},
    "covariates": ["age", "sex", "edss", "relapses_12m", "disease_duration", "sdmt", "t2_lesion_count",
                   "dmt_class"],
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}, {"kind": "relapse", "version": 1}],
    "follow_up": {"max_days": 2190},
}
KNOWN = [("cdw24_event", "missing", False)]     # one set of patients for all questions: a few more or fewer in one would stand out
YEARS_FOLLOWED = 6.0                        # the horizon of the true effect, that of the cohort
WORDS = "adults who start their first disease-modifying treatment, with an EDSS known at that time, followed for up to six years"
ADJUSTED_FOR = "age + sex + edss + relapses_12m + disease_duration"
STRONG, WEAK = "high", "low"                # the classes whose true effect is told
CRUDE, ADJUSTED = "Worsening by class, not adjusted", "Worsening by class, adjusted"
PURPOSE = "demonstration: disability worsening after the start of a first treatment, by efficacy class"
QUESTION = ("crosstab", "sex", "dmt_class")     # what is asked while somebody is on the line
ASK_SECONDS = 3600.0            # the last resort: `waiting` gives up earlier, when nobody gets on
SAME = 1e-8                     # largest relative difference from pooled that passes
NOT_COMPARED = frozenset({"query", "released"})     # of a result: what says in which world it was computed

Results = dict[str, "Result"]


def registries(told: Callable[[str], None]) -> dict[str, Mapping[str, Any]]:
    """The five tables of every registry. told : called with its name when it is made."""
    found: dict[str, Mapping[str, Any]] = {}
    for place, n in enumerate(SIZES):
        one = synthetic.registry(SEED, place, n)
        found[one.name] = one.tables
        told(one.name)
    return found


def questions(cohort: Cohort) -> dict[str, CohortQuestion]:
    """What is asked, by the name it has in the report."""
    ask = cohort.question
    worsening = {"time": "cdw24_days", "event": "cdw24_event"}
    return {
        "Patients by class of their first treatment": ask.table_one(["age", "sex", "edss", "relapses_12m", "disease_duration"],
                                                                    by="dmt_class"),
        "EDSS at the start": ask.quantiles(["edss"], q=[0.1, 0.25, 0.5, 0.75, 0.9]),
        "Relapses after the start": ask.rates(events="relapse_count", time="follow_up_days", by="dmt_class"),
        "Time to 24-week confirmed worsening": ask.kaplan_meier(**worsening, by="dmt_class"),
        "Do the curves differ?": ask.logrank(**worsening, by="dmt_class"),
        CRUDE: ask.cox("Surv(cdw24_days, cdw24_event) ~ dmt_class + strata(registry)"),
        ADJUSTED: ask.cox(f"Surv(cdw24_days, cdw24_event) ~ dmt_class + {ADJUSTED_FOR} + strata(registry)"),
    }


def flow(results: Results) -> list[tuple[str, int | None]]:
    """How patients came into the cohort; None for a number too small to tell."""
    return [(step.step, step.n) for step in next(iter(results.values())).size.flow]


def once(results: Results, described: str) -> Results:
    """The results for one page: what the cohort is stands in the methods of the first only."""
    import msgspec

    first = next(iter(results))
    return {name: one if name == first else msgspec.structs.replace(one, methods=one.methods.replace(f" {described}", ""))
            for name, one in results.items()}


# -- the same from one pooled table -----------------------------------------------------------------------------------------


def pooled(tables: Mapping[str, Any]) -> Federation:
    """All tables as one, under the same rules."""
    import fedstats

    return fedstats.pooled(tables, rules=RULES, data_cut=synthetic.DATA_CUT)


def compare(results: Results, fed: Federation) -> dict[str, float]:
    """Per question, the largest relative difference from what the pooled world says."""
    asked = questions(fed.cohort(COHORT, where=KNOWN))
    return {name: difference(results[name].to_dict(), one.to_dict()) for name, one in zip(asked, fed.ask(*asked.values()))}


def difference(a: Any, b: Any) -> float:
    """The largest relative difference between two plain contents; infinite where one has what the other has not."""
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        if isinstance(a, dict) and isinstance(b, dict):
            names = (a.keys() | b.keys()) - NOT_COMPARED
            return max((difference(a.get(name), b.get(name)) for name in names), default=0.0)
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
            return max((difference(x, y) for x, y in zip(a, b)), default=0.0)
        return 0.0 if a == b else math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b))


# -- what is true ------------------------------------------------------------------------------------------------------------


class Ratio(NamedTuple):
    """A hazard ratio of the strong against the weak class, with its interval; the true one has none."""

    analysis: str
    value: float
    low: float | None = None
    high: float | None = None


def hazard_ratios(results: Results) -> list[Ratio]:
    """Crude, adjusted, and true: that of the same people started on the one class and on the other, in two runs of one world."""
    from ..analyses.regression.cox import Cox
    from ..ms.synthetic.truth import truth

    found = [
        Ratio(name, math.exp(one.coef), math.exp(one.lower), math.exp(one.upper))
        for name in (CRUDE, ADJUSTED)
        for result in [results[name]]
        if isinstance(result, Cox)
        for one in result.coefficients
        if one.term == f"dmt_class[{STRONG}]"
    ]
    real = truth(SEED, a=WEAK, b=STRONG, sizes=SIZES, stays=False, horizons=(YEARS_FOLLOWED,))["horizons"][f"{YEARS_FOLLOWED:g}"]
    return [*found, Ratio("true: the same people on both, in two runs of one world", float(real["hazard_ratio"]))]
