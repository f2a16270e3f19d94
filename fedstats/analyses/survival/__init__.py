"""Time to an event without covariates.

kaplan_meier   curves and restricted means      logrank   do groups differ
life_table     events by group and interval     cuts      which intervals may be shown
"""
