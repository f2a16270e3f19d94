"""A cohort in words: sentences for a methods section."""

from __future__ import annotations

from ..outcomes.definitions import definition
from . import index as cohort_index
from . import intervals as cohort_intervals
from .labels import HALF_YEAR, horizon_days
from .tree import Death, Milestone, Neda, Outcome, Relapse, Tree, Within, Worsening, condition_text, conditions


def describe(tree: Tree, longest: int) -> str:
    """Time zero, eligibility, baseline, outcomes and follow-up. longest : days of follow-up."""
    parts = [cohort_index.describe(tree.index)]
    wanted = [condition_text(one) for one in conditions(tree.eligibility)]
    if wanted:
        parts.append(f"Patients were eligible with {'; '.join(wanted)}.")
    now, history = tree.baseline.now_days, tree.baseline.history_days
    parts.append(f"Baseline values were the last ones known, from {now} days before time zero to that day; means, extremes and slopes go "
                 f"back {history} days. Nothing recorded later entered eligibility or a covariate.")
    parts.append("Records that could not be used (without a readable day, or contradicting each other) count as not known, never as "
                 "absent.")
    if tree.rows is not None:
        parts.append(cohort_intervals.describe(tree.rows.time_varying))
    return " ".join([*parts, *(sentence(one, tree) for one in tree.outcomes), follow_up(tree, longest)])


def title(one: Outcome) -> str:
    """An outcome as a noun."""
    if isinstance(one, Worsening):
        return definition(one.definition).title
    if isinstance(one, Milestone):
        return f"confirmed EDSS {one.level:g}"
    if isinstance(one, Within):
        return f"{one.outcome} within {one.years:g} year{'s' * (one.years != 1)}"
    if isinstance(one, Neda):
        return f"no evidence of disease activity (NEDA-3) for {one.years} year{'s' * (one.years != 1)}"
    return "the first relapse" if isinstance(one, Relapse) else "death"


def sentence(one: Outcome, tree: Tree) -> str:
    """An outcome as sentences."""
    if isinstance(one, Worsening):
        last = (" Patients without an event were censored at the last visit at which one could have been confirmed."
                if one.censor == "last_confirmable" else "")
        return (f"{definition(one.definition).describe()}{last} The reference was the last fitting visit within {tree.baseline.now_days} "
                "days up to time zero, else the first one after it.")
    if isinstance(one, Milestone):
        return (f"The outcome {one.name} was the first EDSS of at least {one.level:g} after time zero, confirmed 24 weeks later (from 7 "
                "days before to 84 days after); patients who had it at time zero were not at risk.")
    if isinstance(one, Relapse):
        return "The outcome relapse was the first onset of a relapse after time zero."
    if isinstance(one, Within):
        return (f"{one.name} says whether {one.outcome} came within {horizon_days(one.years)} days; it is not known of patients who were "
                "not observed so long, or not long enough after it for an event to be confirmed.")
    if isinstance(one, Neda):
        start = f"after day {one.rebaseline_days}" if one.rebaseline_days else "after time zero"
        return (f"{one.name} was no relapse, no 24-week confirmed worsening, and no new T2 or gadolinium-enhancing lesion on an image "
                f"{start}, for {horizon_days(one.years)} days. Evidence of one was enough against it; without evidence, patients not "
                f"observed so long, or without an image of the last {HALF_YEAR} days that says both, were not evaluable.")
    assert isinstance(one, Death)
    return "The outcome death was death of any cause or EDSS 10, observed to the last visit or contact."


def follow_up(tree: Tree, longest: int) -> str:
    """What ended observation. longest : days of follow-up."""
    asked, ended = tree.follow_up, ["the last visit", "death"]
    if asked.treatment != "ignore":
        ended.append("the start of another treatment")
    if asked.treatment == "switch_or_stop":
        ended.append(f"the end of the treatment of time zero, if it was not taken up again within {asked.grace_days} days")
    ended += [f"the end of the study ({asked.end_date})"] if asked.end_date else []
    ended += [f"{longest} days after time zero"]
    text = f"Observation ended at {', '.join(ended[:-1])} or {ended[-1]}, whichever came first."
    if any(isinstance(one, (Worsening, Milestone)) for one in tree.outcomes):
        late = asked.confirmation == "any"
        text += f" An event within that time {'could be confirmed after its end' if late else 'had to be confirmed within it'}."
    return text
