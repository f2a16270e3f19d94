"""One example question, or more, for every analysis: the tests that hold for all analyses run over this list.

Columns are those of `every.random_rows`. `test_every_statistic` fails when an analysis has no example here.
"""

from fedstats import analyses  # noqa: F401  (registers the analyses)
from fedstats.formula import parse_terms
from fedstats.query.analysis import ANALYSES, Question, question_of

# short name of the analysis -> (arguments, keywords) of `cohort.<name>(...)`
CALLS: dict[str, list[tuple[tuple, dict]]] = {
    "summary": [((["age", "edss", "years"],), {}), (("female",), {})],
    "crosstab": [(("sex", "female"), {}), (("sex", "ecog"), {"missing": True}), (("ecog",), {}), (("sex", "female", "event"), {})],
    "glm": [(("event ~ age + sex + edss",), {"family": "binomial", "lr": True}),
            ((), {"outcome": "relapses", "covariates": ["age", "female"], "family": "poisson", "strata": "registry",
                  "offset": "log(years + 1)"}),
            (("edss ~ ns(age, 3) + sex*female",), {"se": "HC1"})],
    "histogram": [(("age",), {}), (("edss",), {"by": "sex"}), (("relapses",), {"by": "ecog", "missing": True})],
    "quantiles": [((["age", "ecog"],), {}), ((["edss", "years"],), {"q": (0.1, 0.5, 0.9), "type": 2})],
    "boost": [(("event", ["age", "edss", "sex", "years"]), {"rounds": 3, "max_depth": 2, "bins": 6}),
              (("event", ["age", "edss"]), {"objective": "hazard:logistic", "time": "days", "rounds": 2, "max_depth": 2, "bins": 6}),
              (("event", ["age", "edss"]), {"objective": "survival:cox", "time": "days", "rounds": 2, "max_depth": 2, "bins": 6}),
              (("relapses", ["age", "female"]), {"objective": "count:poisson", "rounds": 2, "max_depth": 2, "bins": 6}),
              (("event", ["age", "edss", "sex"]), {"splits": "random", "rounds": 4, "batch": 2, "max_depth": 2, "bins": 6})],
    "validation": [(("event", ["age", "edss", "sex"]), {"by": ["sex"], "folds": 2, "rounds": 2, "max_depth": 2, "bins": 6}),
                   (("event", ["age", "edss"]), {"objective": "hazard:logistic", "time": "days", "intervals": [600, 1200, 3000],
                                                 "horizons": [600, 1200], "folds": 2, "rounds": 2, "max_depth": 2, "bins": 6})],
    "compare": [(("edss",), {"by": "sex"}), (("age",), {"by": "ecog"}), (("female",), {"by": "sex", "missing": True})],
    "correlation": [((["age", "edss", "years"],), {}), ((["edss", "relapses", "female"],), {"method": "spearman"})],
    "cox": [(("Surv(days, event) ~ age + sex + ns(edss, 3)",), {"lr": True}),
            (("Surv(days, event) ~ age + sex",), {"horizons": [600, 1200], "calibration": True, "baseline": False}),
            ((), {"time": "years", "event": "event", "covariates": ["age", "C(ecog)"], "strata": ["sex"], "ties": "breslow",
                  "weights": "edss"}),
            ((), {"time": "years", "event": "event", "covariates": ["age", "sex"], "strata": "registry",
                  "transforms": ["rank", "identity", "log"], "ridge": 0.5}),
            (("Surv(days, event) ~ female",), {"weights": {"treatment": "female", "terms": parse_terms("age").terms,
                                                           "coefficients": [-0.5, 0.01]}})],
    "piecewise": [(("Surv(days, event) ~ age + sex",), {"cuts": [600, 1800]}),
                  ((), {"time": "days", "event": "event", "covariates": ["age"], "cuts": 900, "weights": "edss",
                        "offset": "log(years + 1)"})],
    "ordinal": [(("ecog ~ age + sex",), {}), ((), {"outcome": "ecog", "covariates": ["edss"], "link": "probit"})],
    "multinomial": [(("ecog ~ age + female",), {})],
    "kaplan_meier": [((), {"time": "days", "event": "event"}),
                     ((), {"time": "years", "event": "event", "by": "sex", "missing": True, "grid": 1.0})],
    "logrank": [((), {"time": "days", "event": "event", "by": "sex"}),
                ((), {"time": "days", "event": "event", "by": "sex", "strata": "registry", "rho": 1}),
                ((), {"time": "years", "event": "event", "by": "female", "strata": "sex", "rho": 1})],
    "rates": [((), {"events": "relapses", "time": "years", "by": "sex"}), ((), {"events": "event", "time": "days"})],
    "severity": [((), {"time": "years"}), (("armss",), {})],
    "table_one": [((["age", "edss", "female"],), {"by": "sex"}), ((["ecog", "relapses"],), {"categorical": ["ecog"]})],
}


def calls() -> list[tuple[str, tuple, dict]]:
    """Every example of the analyses that are registered: (short name, arguments, keywords)."""
    return [(name, *call) for name, examples in CALLS.items() if f"{name}/1" in ANALYSES for call in examples]


def every_question() -> list[Question]:
    return [question_of(name, *args, **kwargs) for name, args, kwargs in calls()]
