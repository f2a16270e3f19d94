"""Named study definitions: what "24-week confirmed worsening" means here, with its confirmation window stated, and its sources.

`definitions.json` is the list. A definition's meaning never changes under its name and version. The confirmation visit lies from 7 days
before to 84 days after its week: with the window of 730 days that software offers by default, 12, 24 and 48 weeks find the same events.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from .progression import NOT_SETTINGS, worsening
from .progression_events import WEEK, Events
from .progression_rules import confirmation_days, pair, relapse_free, windows
from .thresholds import Threshold, threshold

MAY_BE_GIVEN = {*NOT_SETTINGS, "return_unconfirmed", "censor", "edss_10"} - {"visits", "relapses"}
NOUNS = {"first_cdw": "the first confirmed disability worsening", "first_cdi": "the first confirmed disability improvement",
         "first_pira": "the first confirmed progression independent of relapse activity (PIRA)",
         "first_raw": "the first confirmed relapse-associated worsening (RAW)", "first": "the first confirmed worsening or improvement",
         "multiple": "every confirmed worsening and improvement"}
REFERENCES = {"fixed": "a fixed reference", "roving": "a roving reference, moved by every confirmed event",
              "roving_impr": "a roving reference, moved by confirmed improvements",
              "roving_wors": "a roving reference, moved by confirmed worsenings"}


@dataclass(frozen=True)
class Definition:
    """A study definition. settings : arguments of progression.worsening; what they leave out has its default."""

    name: str
    version: int
    title: str
    settings: Mapping[str, Any]
    citations: tuple[str, ...]

    def find(self, visits: Any, relapses: Any = None, **data: Any) -> Events:
        """The events by this definition.

        data : columns, origin, deaths, valid_confirmation, censor, edss_10, return_unconfirmed.
        """
        fixed = sorted(set(data) - MAY_BE_GIVEN)
        if fixed:
            raise InputError(f"{self.name} says what {fixed[0]} is", hint="for another definition call worsening with settings of your own")
        return worsening(visits, relapses, **self.settings, **data)

    def describe(self) -> str:
        """The definition as sentences for a methods section, with its sources."""
        return f"{describe(**self.settings)} Definition {self.name}, version {self.version}; sources: {'; '.join(self.citations)}."


def definition(name: str) -> Definition:
    """A named definition; raises InputError for a name that is not in the list."""
    if name not in _shipped():
        raise InputError(f'there is no definition "{name}"', hint="definitions are " + ", ".join(_shipped()))
    return _shipped()[name]


def names() -> list[str]:
    """The names of the definitions."""
    return list(_shipped())


@functools.cache
def _shipped() -> dict[str, Definition]:
    found = json.loads(Path(__file__).with_name("definitions.json").read_text("utf-8"))
    return {name: Definition(name, one["version"], one["title"], one["settings"], tuple(one["citations"])) for name, one in found.items()}


def describe(**settings: Any) -> str:
    """Sentences for a methods section that say what these arguments of `worsening` ask for."""
    s = {name: one.default for name, one in inspect.signature(worsening).parameters.items() if one.default is not one.empty} | settings
    rule = threshold(s["outcome"], half_step_from=s["half_step_from"], thresholds=s["thresholds"])
    return " ".join([_change(s, rule), _confirmation(s), *_relapses(s), *_rest(s)])


def _change(s: dict[str, Any], rule: Threshold) -> str:
    up, down = ("increase", "decrease") if rule.worse > 0 else ("decrease", "increase")
    way = {"first_cdi": down, "first": "change", "multiple": "change"}.get(s["event"], up)
    size = rule.describe()
    return (f"The outcome was {NOUNS[s['event']]}: {'an' if way == 'increase' else 'a'} {way} of {rule.title} of at least {size}, against "
            f"{REFERENCES[s['baseline']]}{_clear(s['relapse_to_bl'], ', at a visit')}.")


def _confirmation(s: dict[str, Any]) -> str:
    texts = []
    for day, (low, high) in zip(confirmation_days(s["conf_days"]), windows(s["conf_days"], s["conf_tol_days"])):
        latest = f"day {high:g}" if np.isfinite(high) else "the end of follow-up"
        texts.append(f"{day / WEEK:g} weeks later (a visit from day {low:g} to {latest} after the event)")
    between = ", and present at all visits in between" if s["check_intermediate"] else ""
    text = f"It had to be confirmed {' or '.join(texts)}{_clear(s['relapse_to_conf'], ', at a visit')}{between}."
    if s["require_sust_days"] > 0:
        length = f"for {s['require_sust_days']:g} days or " if np.isfinite(s["require_sust_days"]) else ""
        text += f" It had to persist {length}until the end of follow-up."
    return text


def _relapses(s: dict[str, Any]) -> list[str]:
    if s["event"] in ("first_cdw", "first_cdi", "first"):
        return []
    before, after = pair("relapse_assoc", s["relapse_assoc"])
    ahead = f" or {after:g} days before one" if after else ""
    raw = f"A worsening within {before:g} days after the onset of a relapse{ahead} was relapse-associated."
    near = pair("relapse_to_bl", s["relapse_to_bl"])[0]
    early = f"Relapses more than {near:g} days before the first visit were not looked at." if near else \
        "Relapses before the first visit were not looked at."
    if s["event"] == "first_raw":
        return [raw, early]
    (_, _, e0, e1, c0, c1), _ = relapse_free(s["relapse_indep"])
    free = [_around(name, a, b) for name, a, b in (("event", e0, e1), ("confirmation", c0, c1)) if (a, b) != (0, 0)]
    return [raw, f"A worsening was independent of relapses if no relapse began {' and '.join(free) or 'anywhere near'}.", early]


def _around(name: str, before: float, after: float) -> str:
    first = "from the checkpoint before it" if np.isnan(before) else f"from {before:g} days before"
    return f"{first} {'up to the next one' if np.isnan(after) else f'to {after:g} days after'} the {name}"


def _rest(s: dict[str, Any]) -> list[str]:
    texts = []
    if s["relapse_rebl"]:
        texts.append("After every relapse the reference was set anew, for changes later than those associated with it.")
    if s["sub_threshold_rebl"] != "none" and s["baseline"] != "fixed":
        texts.append(f"A confirmed {s['sub_threshold_rebl']} below the threshold also moved the reference.")
    if s["impute_last_visit"]:
        limit = "" if s["impute_last_visit"] == 1 else f" within {s['impute_last_visit']:g} days of time zero"
        texts.append(f"An unconfirmed worsening at the last visit{limit} counted as an event.")
    if s["outcome"] == "edss" and s["edss_10"] == "competing":
        texts.append("EDSS 10 and death were competing events.")
    if s["censor"] == "last_confirmable":
        texts.append("Patients without an event were censored at the last visit at which one could have been confirmed.")
    return texts


def _clear(distance: Any, text: str) -> str:
    before, after = pair("distance", distance)
    ends = [f"{before:g} days after the onset of a relapse"] * (before > 0) + [f"{after:g} days before one"] * (after > 0)
    return f"{text} at least {' and '.join(ends)}" if ends else ""
