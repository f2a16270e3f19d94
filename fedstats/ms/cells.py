"""The judge of cells under its earlier name: it is `fedstats.cells`, one for all tables."""

from ..cells import *  # noqa: F403
