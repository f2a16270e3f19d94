"""fedstats: one question over many registries, the same digits as from one pooled table, and nobody has seen a registry's numbers.

    fed = fedstats.pooled(tables, dictionary=...)       one process, no seal
    fed = fedstats.simulate(tables, dictionary=...)     all parties in one process, the real conversation and the real seal
    fed = fedstats.connect("consortium.toml", key=...)  the network

    c = fed.cohort(where=[("age", ">=", 18)])
    c.summary(["age", "edss"])
"""

from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .client.federation import Cohort, Federation, connect, pooled, simulate
    from .data.dictionary import Dictionary
    from .data.rows import load
    from .disclosure import Rules
    from .errors import FedstatsError, InputError, QuestionError, Refused, Tampered, Unreachable

# Names are fetched when they are first used: `fedstats --help` need not wait for numpy and scipy.
_HOMES = dict.fromkeys(("Cohort", "Federation", "connect", "pooled", "simulate"), "client.federation") | {
    "Dictionary": "data.dictionary", "Rules": "disclosure", "load": "data.rows"} | dict.fromkeys(
    ("FedstatsError", "InputError", "QuestionError", "Refused", "Tampered", "Unreachable"), "errors")

__all__ = ["Cohort", "Dictionary", "Federation", "FedstatsError", "InputError", "QuestionError", "Refused", "Rules", "Tampered",
           "Unreachable", "connect", "load", "pooled", "simulate"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
