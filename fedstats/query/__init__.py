"""A question, its rounds, its result.

analysis     both halves of a question, its result
views        how a result wants to be seen      nonfinite  numbers without end, as text
population   who a question is about            driver     turns the crank: asks in, totals out
rounds       sums as the seal takes them, and back

Import the files by name.
"""
