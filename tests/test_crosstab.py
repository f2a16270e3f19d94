"""Cross-tabulation against R (shared/reference/models/stats_lung.csv)."""

import numpy as np
import pytest

from . import helpers

REL = 1e-9      # issue: tests within 1e-9 relative


def test_counts_and_chi_squared_equal_R():
    """A two-way table: counts exactly, expected counts and the test as R prints them."""
    result = helpers.pooled_lung().cohort().crosstab("sex", "ph.ecog")
    setting = "table=sex_x_ph.ecog"

    for cell in result.cells:
        term = f"sex={cell.levels[0]};ph.ecog={cell.levels[1]}"
        assert cell.count == helpers.reference("stats_lung", "chisq_test", setting, "count", term)
        assert cell.expected == pytest.approx(helpers.reference("stats_lung", "chisq_test", setting, "expected", term), rel=REL)
    for name, quantity in (("chi2", "chisq"), ("p", "p")):
        assert getattr(result, name) == pytest.approx(helpers.reference("stats_lung", "chisq_test", setting, quantity), rel=REL)
    assert result.total == 212 and np.nansum(result.array()) == 212
