"""An epidemiologist's morning: who is in the registries, does worsening differ by drug class, and a report for the colleagues.

    python epidemiologist.py                          five synthetic registries in this process
    python epidemiologist.py ms.toml ana.key          the same questions to a consortium over the network
"""

import sys

import fedstats
from fedstats.ms import synthetic
from fedstats.report import write_report

if len(sys.argv) == 3:
    fed = fedstats.connect(sys.argv[1], key=sys.argv[2])
else:
    fed = fedstats.simulate(synthetic.registries(seed=1), dictionary=synthetic.DICTIONARY)

adults = fed.cohort(where=[("age", ">=", 18), ("course", "in", ["RRMS", "SPMS"])])
ask = adults.question
questions = {
    "Patients": ask.table_one(["age", "sex", "edss", "relapses"], by="dmt"),
    "Worsening": ask.kaplan_meier(time="days", event="worsened", by="dmt"),
    "Log-rank test": ask.logrank(time="days", event="worsened", by="dmt"),
}
print(fed.explain(*questions.values()), "\n")

results = dict(zip(questions, fed.ask(*questions.values(), purpose="worsening by drug class")))     # one query, all or nothing
print(results["Patients"], "\n")
print(results["Log-rank test"], "\n")
for curve in results["Worsening"].groups:
    year = curve.at(360)
    print(f"{curve.group}: {year.survival:.3f} ({year.low:.3f} to {year.high:.3f}) not worsened after a year, {year.at_risk} at risk")

# Classes differ in severity before treatment: these curves describe, they do not say what a drug does.
path = write_report("worsening.html", title="Worsening by drug class", results=list(results.items()), purpose="worsening by drug class",
                    cohort="adults with RRMS or SPMS", registries=fed.registries)
print(f"\nreport: {path}")
