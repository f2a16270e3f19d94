"""summary and crosstab against pandas and R."""

import pytest
from scipy import stats

from . import helpers


def test_summary_equals_pandas():
    """Count, mean and standard deviation are those of the pooled table."""
    result = helpers.pooled_lung().cohort().summary(["age", "wt.loss", "years"])
    frame = helpers.lung()

    for name in ("age", "wt.loss", "years"):
        column = result[name]
        assert column.n == frame[name].count()
        assert column.mean == pytest.approx(frame[name].mean(), rel=1e-12)
        assert column.sd == pytest.approx(frame[name].std(), rel=1e-12)
        interval = stats.t.interval(0.95, column.n - 1, frame[name].mean(), stats.sem(frame[name]))
        assert (column.low, column.high) == pytest.approx(interval, rel=1e-12)
