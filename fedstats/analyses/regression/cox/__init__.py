"""Cox regression: hazard ratios as on the pooled table, from sealed sums.

How this works.
1. First round: the release rules' tables, means, events by time, every registry's own fit as a first guess, and the sums at no effect.
2. Then Newton's method (`fit`), one round per step. With one baseline for all, each registry sends per time of the registered grid the
   sums of the hazards of those at risk and of these times the columns (`risk`), from which likelihood and score follow from their totals
   (`likelihood`, `grid`); the information takes one sum over all rows more (`curvature`). With `strata(registry)` each registry sends the
   score and the information of its own stratum on true times (`strata`), and no grid is needed.
3. Last round, at the fit: the information, squared residuals for robust standard errors, patients with too much leverage, pairs for
   Harrell's C (`concordance`, `registry_pairs`). One more where groups of risk are calibrated, or C has an error that counts do not give.
4. Tests, proportional hazards, baseline: computed from totals that are there already. Shown of the baseline are ends of intervals
   with enough events, while enough patients are at risk.
"""

from __future__ import annotations

from fedstats.query.analysis import Joint, Setting, analysis

from ..newton import metered
from .params import CoxParams, call
from .release import release
from .result import Cox
from .rounds import ask_rounds


@analysis("cox/1", params=CoxParams, result=Cox, call=call)
def cox(params: CoxParams, setting: Setting) -> Joint:
    """Cox regression: coefficients and hazard ratios with model-based and robust errors, tests, proportional hazards, concordance,
    baseline hazard and survival curves. With strata="registry" on true times, else on the registered time grid."""
    (study, fit, last, reduced), cost = yield from metered(ask_rounds(params, setting), setting)
    return release(study, fit, last, reduced, cost)
