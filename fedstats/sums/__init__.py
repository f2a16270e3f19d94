"""What adds up over patients: the one rule, and arithmetic with the same bits everywhere.

statistic    rows -> sums that add up           steady     the same bits on every machine

Import the files by name.
"""
