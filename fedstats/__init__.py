"""fedstats: one question over many registries, the same digits as from one pooled table, and nobody has seen a registry's numbers.

    fed = fedstats.pooled(tables, dictionary=...)       one process, no seal
    fed = fedstats.simulate(tables, dictionary=...)     all parties in one process, the real conversation and the real seal
    fed = fedstats.connect("consortium.toml", key=...)  the network

    c = fed.cohort(where=[("age", ">=", 18)])
    c.summary(["age", "edss"])
"""

__version__ = "0.1.0"

from .client.federation import Cohort, Federation, connect, pooled, simulate
from .dictionary import Dictionary
from .disclosure import Rules
from .errors import FedstatsError, InputError, QuestionError, Refused, Tampered, Unreachable

__all__ = ["Cohort", "Dictionary", "Federation", "FedstatsError", "InputError", "QuestionError", "Refused", "Rules", "Tampered",
           "Unreachable", "connect", "pooled", "simulate"]
