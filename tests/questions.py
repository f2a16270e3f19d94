"""One example question, or more, for every analysis: the tests that hold for all analyses run over this list.

Columns are those of `every.random_rows`. `test_every_statistic` fails when an analysis has no example here.
"""

from fedstats import analyses  # noqa: F401  (registers the analyses)
from fedstats.analysis import ANALYSES, Question, question_of

# short name of the analysis -> (arguments, keywords) of `cohort.<name>(...)`
CALLS: dict[str, list[tuple[tuple, dict]]] = {
    "summary": [((["age", "edss", "years"],), {}), (("female",), {})],
    "crosstab": [(("sex", "female"), {}), (("sex", "ecog"), {"missing": True}), (("ecog",), {}), (("sex", "female", "event"), {})],
    "histogram": [(("age",), {}), (("edss",), {"by": "sex"}), (("relapses",), {"by": "ecog", "missing": True})],
    "quantiles": [((["age", "ecog"],), {}), ((["edss", "years"],), {"q": (0.1, 0.5, 0.9), "type": 2})],
    "compare": [(("edss",), {"by": "sex"}), (("age",), {"by": "ecog"}), (("female",), {"by": "sex", "missing": True})],
    "correlation": [((["age", "edss", "years"],), {}), ((["edss", "relapses", "female"],), {"method": "spearman"})],
    "kaplan_meier": [((), {"time": "days", "event": "event"}),
                     ((), {"time": "years", "event": "event", "by": "sex", "missing": True, "grid": 1.0})],
    "logrank": [((), {"time": "days", "event": "event", "by": "sex"}),
                ((), {"time": "days", "event": "event", "by": "sex", "strata": "registry", "rho": 1}),
                ((), {"time": "years", "event": "event", "by": "female", "strata": "sex", "rho": 1})],
    "rates": [((), {"events": "relapses", "time": "years", "by": "sex"}), ((), {"events": "event", "time": "days"})],
    "table_one": [((["age", "edss", "female"],), {"by": "sex"}), ((["ecog", "relapses"],), {"categorical": ["ecog"]})],
}


def calls() -> list[tuple[str, tuple, dict]]:
    """Every example of the analyses that are registered: (short name, arguments, keywords)."""
    return [(name, *call) for name, examples in CALLS.items() if f"{name}/1" in ANALYSES for call in examples]


def every_question() -> list[Question]:
    return [question_of(name, *args, **kwargs) for name, args, kwargs in calls()]
