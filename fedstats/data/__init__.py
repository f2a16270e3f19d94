"""Tables, and what a cell of them means.

tables       CSV, Parquet, frames -> columns     variable     what one column means
dictionary   the codebook of a consortium        rows         columns checked against it
filters      which rows a question is about      draft        a first codebook from a table

Import the files by name.
"""
