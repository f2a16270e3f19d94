"""One example ask, or more, for every registered statistic: the property tests run over this list.

`test_every_statistic` fails when a registered statistic has no example here. Columns are those of `random_rows`.
"""

from fedstats.analyses.boosting import sums as boosting
from fedstats.analyses.boosting.bins import Feature
from fedstats.analyses.boosting.cases import Model, Target
from fedstats.analyses.boosting.model import Column, RiskModel, Tree
from fedstats.analyses.correlation import products
from fedstats.analyses.correlation.ranks import rank_margins, rank_products
from fedstats.analyses.crosstab import counts
from fedstats.analyses.histogram import binned
from fedstats.analyses.rates import person_time
from fedstats.analyses.regression.cox.calibration import cox_groups
from fedstats.analyses.regression.cox.concordance import cox_influence, cox_pairs, cox_places
from fedstats.analyses.regression.cox.curvature import cox_curvature
from fedstats.analyses.regression.cox.hazards import cox_registry_slopes
from fedstats.analyses.regression.cox.registry_pairs import cox_registry_pairs
from fedstats.analyses.regression.cox.residuals import cox_residuals
from fedstats.analyses.regression.cox.risk import cox_events, cox_risk, cox_totals
from fedstats.analyses.regression.cox.strata import cox_registry, cox_registry_residuals, cox_start
from fedstats.analyses.regression.cox.times import cox_runs
from fedstats.analyses.regression.glm.start import glm_start
from fedstats.analyses.regression.glm.sums import glm_own, glm_sums
from fedstats.analyses.regression.glm.watch import glm_leverage, glm_reach
from fedstats.analyses.regression.model_cells import model_cells
from fedstats.analyses.regression.model_rules import model_informed, model_outlying
from fedstats.analyses.regression.multinomial import multinomial_sums
from fedstats.analyses.regression.ordinal import ordinal_sums
from fedstats.analyses.regression.outcome_moments import outcome_moments
from fedstats.analyses.regression.piecewise.sums import piecewise_residuals, piecewise_risk, piecewise_totals
from fedstats.analyses.regression.ranges import range_parts
from fedstats.analyses.severity import severity_counts
from fedstats.analyses.shared.centred import deviations
from fedstats.analyses.shared.centred_products import centred_products
from fedstats.analyses.shared.folds import fold_sizes, of_fold
from fedstats.analyses.shared.moments import moments
from fedstats.analyses.survival.life_table import life_table
from fedstats.analyses.survival.logrank import logrank_scores
from fedstats.analyses.table_one import characteristics
from fedstats.analyses.validation.seen import covariate_pairs, covariates_seen
from fedstats.analyses.validation.sums import plain_model, registry_sizes, score_classes, score_spread, scores
from fedstats.disclosure.engine import levels, size
from fedstats.disclosure.overlaps import overlaps
from fedstats.query.analysis import Size
from fedstats.query.driver import flow

# a model as the asks of regressions carry it
TERMS = [{"term": "variable", "name": "age"}, {"term": "variable", "name": "sex"}, {"term": "natural", "name": "edss", "df": 2},
         {"term": "interaction", "factors": [{"term": "variable", "name": "age"}, {"term": "variable", "name": "sex"}]}]
LOGIT = {"columns": ["event", "age", "sex", "edss"], "terms": TERMS, "response": "event", "family": "binomial", "link": "logit"}
COUNTS = {"columns": ["relapses", "age", "years"], "terms": TERMS[:1], "response": "relapses", "family": "negativebinomial", "link": "log",
          "offset": {"term": "log", "name": "years", "plus": 1.0}, "weights": "years"}

# A Cox model with everything, on the grid; the same with registries as strata
COX = {"time": "days", "event": "event", "entry": "relapses", "strata": ["sex"], "weights": "edss", "drop": [],
       "terms": [{"term": "variable", "name": "age"}, {"term": "categorical", "name": "ecog"}],
       "offset": {"term": "log", "name": "age", "plus": 1.0}}
COX_REGISTRY = {**COX, "strata": ["sex", "registry"], "weights": None}
AT = {"beta": [0.4, -0.3, 0.2, 0.1, 0.5],
      "frame": [[0.1, 1.0, -1.1, 0.9], *([shift, 1.0, -1.0 - shift, 1.0 - shift] for shift in (-0.6, -0.5, -0.6, -0.7))]}
BASELINE = {"place": [3, 40, 90, 200], "hazard": [0.1, 0.2, 0.1, 0.3], "drift": [[0.1, 0.0, 0.1, 0.0, 0.2]] * 4,
            "spared_hazard": [0.0, 0.1, 0.0, 0.1], "spared_drift": [[0.0] * 5] * 4, "mean": [[0.2, 0.1, 0.1, 0.0, -0.1]] * 4}
COVARIANCE = [0.1] + [0.0] * 14
COUNTED = [[[100.0] * 256] * 2] * 2           # as many rows in every interval of risk, for two strata and runs of times

# A model of two features, one finished tree of one split, and a tree that has only its root.
AGE, SEX = Feature("age", "age", None, (30.0, 50.0)), Feature("sex=M", "sex", 1, (1.0,))
GRID = {"time": "days", "ends": (600.0, 1800.0, 3650.0)}
BOOSTED = Model(Target("binary:logistic", "event"), (AGE, SEX)).text
HAZARDS = Model(Target("hazard:logistic", "event", **GRID), (AGE, Feature("days", "days", None, (1800.0, 3650.0)))).text
COXED = Model(Target("survival:cox", "event", **GRID), (AGE, SEX)).text
BOOSTED_COUNTS = Model(Target("count:poisson", "relapses", weights="edss")).text
ROOT_TREE = "//////////8AAAAAAAAAAAAAAAAA"
ONE_SPLIT = "AQAAAAIAAAAAAAAAAQAAAAEAAAAA//////////8AAAAAAAAAAAAAAIC+//////////8AAAAAAAAAAAAAAAA/"
NEXT = {"trees": [ONE_SPLIT], "unit": 2.0**-20}

# The models of two folds, of one tree each, and how patients are weighted who may be censored before 90 days.
STUMP = Tree((1, -1, -1), (2, -1, -1), (0, 0, 0), (50.0, 0.0, 0.0), (False,) * 3, (0.0, -0.5, 0.75), (2.0, 1.0, 1.0))
MODEL = RiskModel(size=Size(0), outcome="event", objective="binary:logistic", covariates=("age", "sex"), trees=(STUMP,), base_score=0.5,
                  columns=(Column("age", "age"), Column("sex=M", "sex", 1)), base_margin=0.0, variables=())
SCORER = {"models": [plain_model(MODEL)] * 2, "seed": 1, "outcome": "event", "needs": ["event"], "censoring": None}
CENSORED = {**SCORER, "needs": ["days", "event"],
            "censoring": {"time": "days", "ends": [30.0, 60.0, 90.0], "weights": [2**20, 2**20 + 5, 2**20 + 77, 2**21, 3 * 2**20 + 1]}}
PROPENSITY = {"treatment": "female", "terms": TERMS[:1], "coefficients": [-1.0, 0.02], "most": 4.0}
OWN_PROPENSITY = {**PROPENSITY, "coefficients": [0.02], "share": 0.6, "by_registry": True}
LEVELS = {"columns": ["ecog", "age", "sex"], "terms": TERMS[:2], "outcome": "ecog", "codes": [0, 1, 2, 3, 4]}

EXAMPLES = [
    size(populations=[{"known": ["age"]}, {"known": ["age", "sex"], "weights": '"age"'}, {},
                      {"known": ["days", "edss"], "lost": [{"why": "late", "columns": ["years", "days"]},
                                                   {"why": "weightless", "columns": ["edss"]}], "weights": '"edss"'}]),
    levels(columns=["sex"]),
    flow(steps=["patients", "in the cohort"]),
    overlaps(groupings=[{"axis": {"column": "event"}, "of": {"known": ["age", "event"]}},
                        {"axis": {"column": "relapses", "some": True}},
                        {"axis": {"column": "sex", "unknown": True}, "of": {"known": ["edss"]}}]),
    overlaps(groupings=[{"axis": {"column": "event"}}, {"axis": {"column": "edss", "several": True}}], by="sex"),
    moments(columns=["age", "edss", "years", "female"]),
    deviations(columns=["years"], needs=["age", "years"], origins=[[5.0, 6.0, 0.0]], units=[[64.0, 32.0, 0.0]], by="sex", missing=True),
    centred_products(columns=["age", "years"], needs=["age", "years"], origins=[40.0, 6.0], units=[128.0, 32.0]),
    moments(columns=["age", "years"], by="sex"),
    moments(columns=["age", "years", "edss"], by="sex", missing=True),
    counts(variables=["sex", "ecog"]),
    counts(variables=["sex", "ecog", "female"], missing=True),
    binned(columns=["age", "edss", "years", "start"]),
    binned(columns=["edss", "female"], by="sex", missing=True),
    products(columns=["age", "edss", "years", "female", "event"]),
    rank_margins(columns=["edss", "age", "years", "ecog", "female"]),
    rank_products(columns=["ecog", "female", "event"], margins=[[50, 40, 60, 30, 20], [120, 80], [99, 101]]),
    person_time(events="event", time="years", by="sex"),
    person_time(events="relapses", time="days"),
    person_time(events="relapses", time="ecog", by="sex", missing=True),
    life_table(time="days", event="event"),
    life_table(time="years", event="event", by=["sex"], missing=True),
    life_table(time="days", event="event", by=["sex", "ecog"], ends=[[5, 122], [1, 9, 122], [122], [60, 122]]),
    cox_totals(model=COX),
    cox_events(model=COX),
    cox_start(model=COX),
    cox_risk(model=COX, **AT),
    cox_risk(model=COX, **AT, efron=False),
    cox_curvature(model=COX, **AT, place=[3, 40, 90, 200], hazard=[0.1, 0.2, 0.1, 0.3], spared=[0.0, 0.1, 0.0, 0.1],
                  ends=[2, 4], g=[[-0.5, 0.0, 0.5, 1.0]]),
    cox_residuals(model=COX, **AT, baseline=BASELINE, covariance=COVARIANCE),
    cox_pairs(model=COX, **AT, width=0.01, ends=[7, 60, 122]),
    cox_places(model=COX, **AT, width=0.01),
    cox_influence(model=COX, **AT, width=0.01, ends=[60, 122],
                  counts={"events": COUNTED, "stay": COUNTED, "enter": [[[0.0] * 256] * 2] * 2}),
    cox_groups(model=COX, **AT, width=0.05, groups=[[0] * 100 + [1] * 28 + [2] * 128, [1] * 256], place=40),
    cox_runs(model=COX, ends=[[7, 60, 100], [50, 122]]),
    piecewise_totals(model=COX, ends=[365.0, 1095.0, 3650.0]),
    piecewise_risk(model=COX, ends=[365.0, 1095.0, 3650.0], **AT),
    piecewise_residuals(model=COX, ends=[365.0, 1095.0, 3650.0], **AT, covariance=COVARIANCE,
                        baseline={**{name: values[:3] for name, values in BASELINE.items()}, "place": [0, 1, 2]}),
    cox_registry(model=COX_REGISTRY, **AT),
    cox_registry_residuals(model=COX_REGISTRY, **AT, covariance=COVARIANCE),
    cox_registry_pairs(model=COX_REGISTRY, **AT, others=5000),
    cox_registry_slopes(model=COX_REGISTRY, **AT, transforms=[[0.0, 3650.0, None], [8.0, 1.0, "log"], [0.0, 1.0, [0.5] * 122]]),
    severity_counts(score="msss", edss="edss", time="years"),
    severity_counts(score="armss", edss="edss", time="age"),
    logrank_scores(time="days", event="event", by="sex"),
    logrank_scores(time="years", event="event", by="ecog", rho=1, missing=True),
    characteristics(numbers=["age", "edss", "years", "ecog"], levels=["female", "start"]),
    characteristics(numbers=["edss"], levels=["ecog", "event"], by="sex", missing=True),
    model_cells(columns=[*LOGIT["columns"], "ecog"], terms=TERMS, outcome="event", also=["ecog"]),
    outcome_moments(outcome="relapses", columns=["relapses", "age"]),
    outcome_moments(outcome="days", columns=["days", "sex", "years"], by="sex", weights="years"),
    model_informed(columns=LOGIT["columns"], terms=TERMS, outcome="event", survival=True),
    model_outlying(columns=LOGIT["columns"], terms=TERMS, inverse=[0.01] * 21),
    glm_start(**LOGIT),
    glm_start(**COUNTS, own=True),
    glm_sums(**LOGIT, beta=[0.1, 0.2, -0.3, 0.4, 0.5, -0.2], last=True),
    glm_sums(**(LOGIT | {"link": "cloglog"}), beta=[-0.1, 0.2, -0.3, 0.4, 0.5, -0.2], last=True),
    glm_sums(**COUNTS, beta=[0.1, 0.2], theta=1.5, last=True),
    glm_own(**(LOGIT | {"link": "probit"}), own=True, beta=[0.2, -0.3, 0.4, 0.5, -0.2], last=True),
    glm_own(**(COUNTS | {"offset": None, "weights": None}), own=True, beta=[0.2], theta=1.5, last=True),
    ordinal_sums(**LEVELS, link="logit", point=[0.2, -0.3, -1.0, -0.2, 0.7, 1.5], last=True),
    ordinal_sums(**LEVELS, link="probit", point=[0.2, -0.3, -1.0, -0.2, 0.7, 1.5], last=True),
    multinomial_sums(**LEVELS, point=[0.1 * k for k in range(-6, 6)], last=True),
    range_parts(columns=["event", "years"], ranges=[["years", 0.0, 64.0]]),
    glm_sums(**(LOGIT | {"columns": ["event", "age", "female"], "terms": TERMS[:1], "weights": PROPENSITY}), beta=[0.1, 0.2], last=True),
    glm_sums(**(LOGIT | {"columns": ["event", "age", "female"], "terms": TERMS[:1], "weights": OWN_PROPENSITY}), beta=[0.1, 0.2]),
    model_cells(columns=["event", "age", "female"], terms=TERMS[:1], outcome="event", weights=OWN_PROPENSITY),
    glm_reach(**COUNTS, beta=[0.1, 0.2]),
    glm_leverage(**LOGIT, beta=[0.1, 0.2, -0.3, 0.4, 0.5, -0.2], inverse=[0.1] * 21),
    boosting.start(model=BOOSTED, covariates=["age", "sex", "female", "years"]),
    boosting.start(model=HAZARDS, covariates=["edss"]),
    boosting.start(model=BOOSTED_COUNTS, covariates=["age"]),
    boosting.histograms(model=BOOSTED, **NEXT, tree=ROOT_TREE, nodes=[0], people=True),
    boosting.histograms(model=BOOSTED, **NEXT, tree=ONE_SPLIT, nodes=[2], people=False, used=[1]),
    boosting.histograms(model=HAZARDS, **NEXT, tree=ONE_SPLIT, nodes=[1, 2], people=True),
    boosting.histograms(model=COXED, **NEXT, tree=ROOT_TREE, nodes=[0], people=False, hazard=[[0.1, 0.2, 0.4], [0.01, 0.02, 0.05], [0.5]]),
    boosting.risk(model=COXED, trees=[ONE_SPLIT], shift=0.5),
    boosting.reach(model=BOOSTED, trees=[ONE_SPLIT], edges=[-0.3, 0.0, 0.3]),
    boosting.leaves(model=BOOSTED, trees=[ONE_SPLIT, ROOT_TREE]),
    boosting.leaves(model=HAZARDS, trees=[ONE_SPLIT]),
    boosting.leaf_sums(model=BOOSTED, **NEXT, batch=[ONE_SPLIT, ROOT_TREE]),
    boosting.noisy_leaf_sums(model=BOOSTED, **NEXT, batch=[ONE_SPLIT], scale=0.0),
    boosting.leaf_sums(model=COXED, **NEXT, batch=[ONE_SPLIT], hazard=[[0.1, 0.2, 0.4], [0.01, 0.02, 0.05], [0.5]]),
    boosting.scores(model=BOOSTED, trees=[ONE_SPLIT], unit=2.0**-24, held=False, edges=[-0.5, 0.0, 0.5]),
    boosting.scores(model=HAZARDS, trees=[ONE_SPLIT], unit=2.0**-24, held=False),
    fold_sizes(columns=["event", "days"], seed=3, folds=5),
    of_fold(seed=3, folds=4, fold=1, inside=True, statistic="moments/2", params={"columns": ["age", "edss"]}),
    of_fold(seed=3, folds=2, fold=0, inside=False, statistic="life_table/1", params={"time": "days", "event": "event"}),
    scores(scorer=SCORER, by=["sex", "ecog"]),
    scores(scorer=CENSORED, by=["female"]),
    score_classes(scorer=SCORER, ends=[200, 260, 512]),
    score_classes(scorer=CENSORED, ends=[250, 512]),
    score_spread(scorer=SCORER, fewest=5),
    covariates_seen(covariates=["age", "edss", "sex"], needs=["event"]),
    covariate_pairs(covariates=["age", "edss", "sex"], cuts=[[40.0], [2.0, 4.0], []], needs=["event"]),
    registry_sizes(columns=["age", "event"]),
    score_spread(scorer=CENSORED, fewest=2),
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
    """A table of n patients with gaps in every column but the patient's id. random : numpy Generator."""
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
        # folds are drawn from it; a stream of its own, so that the other columns are what they would be without
        "patient_id": [f"p{k}" for k in random.spawn(1)[0].integers(0, 2**53, n).tolist()],
    }
