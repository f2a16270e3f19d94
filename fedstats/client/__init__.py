"""The analyst's side.

federation   what an analyst calls              worlds          how a question is carried out
memory       all parties in one process         explain         what a question will open
report       results as a page and a file       receipt_check   what a receipt proves

Import the files by name.
"""
