"""Cohorts: a closed tree, compiled once, derived into one row per patient or episode.

recipe     the compiled tree, and the rows     tree        what can be asked for
index      time zero                           covariates  what lies before it
outcomes   what lies after it                  intervals   (start, stop] rows
labels     what had happened by a horizon      limits      registered steps of dates
records    a registry's records by patient     words       a cohort in sentences
"""


from .recipe import Derived, Recipe, compile, hold

__all__ = ["Derived", "Recipe", "compile", "hold"]
