"""NVIDIA FLARE, what a user writes for the question: count, mean, SD and histogram of age over the named sites."""

from flare_client import Patients
from nvflare.recipe.fedstats import FedStatsRecipe

STATISTICS = {"count": {}, "sum": {}, "mean": {}, "stddev": {}, "histogram": {"age": {"bins": 9, "range": [18, 90]}}}


def question(folder, sites):
    return FedStatsRecipe(name="ages", stats_output_path="ages.json", sites=sites, statistic_configs=STATISTICS,
                          stats_generator=Patients(folder))
