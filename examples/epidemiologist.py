"""An epidemiologist's morning: who starts which class of treatment, how soon does disability worsen, and a report for the colleagues.

    python epidemiologist.py                          five synthetic registries in this process
    python epidemiologist.py ms.toml ana.key          the same questions to a consortium over the network
"""

import sys

import fedstats
from fedstats.client.report import write_report
from fedstats.ms import synthetic

if len(sys.argv) == 3:
    fed = fedstats.connect(sys.argv[1], key=sys.argv[2])
else:
    made = synthetic.registries(seed=1, sizes=[1400, 1000, 700, 500, 400])      # visits, relapses, treatments, images; nobody's data
    fed = fedstats.simulate({name: one.tables for name, one in made.items()}, data_cut=synthetic.DATA_CUT,
                            rules=fedstats.Rules(show_zeros=True))

starters = fed.cohort({
    "index": {"event": "dmt_start"},                                    # time zero: the first treatment of all
    "eligibility": [["age", ">=", 18], ["edss", "missing", False]],     # what was known then, never later
    "covariates": ["age", "sex", "edss", "relapses_12m", "disease_duration", "dmt_class"],
    "outcomes": [{"kind": "definition", "definition": "cdw24", "version": 1}],      # 24-week confirmed disability worsening
    "follow_up": {"max_days": 2190},
}, where=[("cdw24_event", "missing", False)])       # one set of patients for all questions: a few more in one of them would stand out
print(starters.describe(), "\n")

ask = starters.question
worsening = {"time": "cdw24_days", "event": "cdw24_event"}
questions = {
    "Patients": ask.table_one(["age", "sex", "edss", "relapses_12m", "disease_duration"], by="dmt_class"),
    "Worsening": ask.kaplan_meier(**worsening, by="dmt_class"),
    "Log-rank test": ask.logrank(**worsening, by="dmt_class"),
    "Adjusted": ask.cox("Surv(cdw24_days, cdw24_event) ~ dmt_class + age + sex + edss + relapses_12m + strata(registry)"),
}
print(fed.explain(*questions.values()), "\n")

results = dict(zip(questions, fed.ask(*questions.values(), purpose="worsening by drug class")))     # one query, all or nothing
for step in results["Patients"].size.flow:
    print(f"{step.step}: {'too few to tell' if step.n is None else step.n}")
print(f"\n{results['Patients']}\n\n{results['Log-rank test']}\n")
for curve in results["Worsening"].groups:
    later = curve.at(2 * 364)       # days; the registered time grid has steps of 91
    if later.survival is not None:
        print(f"{curve.group}: {later.survival:.3f} ({later.low:.3f} to {later.high:.3f}) not worsened after two years, "
              f"{later.at_risk} at risk")
print(f"\n{results['Adjusted'].frame()[['hazard ratio', 'hazard ratio_low', 'hazard ratio_high', 'p']].round(3)}")

# Classes differ in severity before treatment: the curves describe, and the model adjusts for what registries write down, not for more.
path = write_report("worsening.html", title="Worsening by drug class", results=list(results.items()), purpose="worsening by drug class",
                    cohort="adults at the start of their first treatment", registries=fed.registries,
                    flow=[(step.step, step.n) for step in results["Patients"].size.flow])
print(f"\nreport: {path}")
