"""The five tables of a registry: read, judged cell by cell, cleaned.

loading    files -> typed columns, and a report   cells      what one cell may hold
registry   the tables of one place                cleaning   switchable rules between cells
dmt        treatments: names, codes, classes
"""


from .loading import COLUMNS, DATED, WORDS, Finding, Form, Registry, Report, Table, dictionary, load, missing, schema

__all__ = [
    "COLUMNS",
    "DATED",
    "WORDS",
    "Finding",
    "Form",
    "Registry",
    "Report",
    "Table",
    "dictionary",
    "load",
    "missing",
    "schema",
]
