"""What counts as an outcome: confirmed worsening and its kinds, milestones, relapses.

definitions   names and versions               progression   every choice spelled out
milestone     an EDSS that is reached          relapses      counts and rates
thresholds    how much of a change counts      kernels       the loops, compiled

Import the files by name.
"""
