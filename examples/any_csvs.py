"""Any CSV files and a dictionary: Table 1, cross-tabulations and survival curves over all of them.

Every file plays a registry. With --simulate (the default) all parties run in this process, with the real conversation, the real
seal and the release rules; with --pooled the same is computed from one table, without either.

    fedstats split lung.csv --into 4 --by inst --out parts
    python any_csvs.py parts/*.csv --dictionary lung.json --yes died=status:2 \
        --columns age wt.loss --by sex --time time --event died
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import fedstats
from fedstats.data import tables


def main():
    options = arguments()
    book = fedstats.Dictionary.load(options.dictionary)
    files = dict(word.split("=", 1) if "=" in word else (Path(word).stem, word) for word in options.tables)
    registries = {name: derived(tables.columns_of(path), options.yes, options.first) for name, path in files.items()}
    world = fedstats.pooled if options.pooled else fedstats.simulate
    fed = world(registries, dictionary=book, rules=fedstats.Rules(min_cell=options.min_cell))
    # one set of patients for all questions: two results about almost the same patients would single out the difference
    named = dict.fromkeys(filter(None, [*options.columns, options.by, options.time, options.event]))
    cohort = fed.cohort(where=[(name, "missing", False) for name in named])

    questions = [cohort.question.table_one([name for name in options.columns if name != options.by], by=options.by)]
    if options.by:
        questions += [cohort.question.crosstab(name, options.by) for name in options.columns
                      if book[name].labels and book[options.by].labels and name != options.by]
    if options.time and options.event:
        questions.append(cohort.question.kaplan_meier(time=options.time, event=options.event, by=options.by))
        questions += [cohort.question.logrank(time=options.time, event=options.event, by=options.by)] if options.by else []

    for question, result in zip(questions, fed.ask(*questions)):
        print(f"\n== {question.question}\n\n{result}")


def derived(columns, yes, first):
    """Columns made of others. yes : name=column:value, true where the column has the value (* = any). first : name=column,column."""
    for word in yes:
        name, _, source = word.partition("=")
        column, _, wanted = source.partition(":")
        cells = [str(cell).strip() for cell in columns[column]]
        known = [cell not in ("", "NA") for cell in cells]
        columns[name] = np.array([here if wanted == "*" else cell == wanted if here else None for cell, here in zip(cells, known)],
                                 dtype=object)
    for word in first:
        name, _, sources = word.partition("=")
        rows = zip(*(columns[source] for source in sources.split(",")))
        columns[name] = np.array([next((cell for cell in row if str(cell).strip() not in ("", "NA")), None) for row in rows], dtype=object)
    return columns


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="name=file.csv", help="one table per registry; files are named after themselves")
    parser.add_argument("--dictionary", required=True, help="JSON or TOML; fedstats dictionary draft proposes one")
    parser.add_argument("--columns", nargs="+", required=True, help="what Table 1 describes")
    parser.add_argument("--by", help="the column that groups the patients")
    parser.add_argument("--time", help="follow-up, in the unit of the dictionary")
    parser.add_argument("--event", help="whether the event happened at its end (yes/no)")
    parser.add_argument("--yes", action="append", default=[], metavar="name=column:value",
                        help="make a yes/no column, such as died=status:2")
    parser.add_argument("--first", action="append", default=[], metavar="name=column,column", help="make a column of the first known cell")
    parser.add_argument("--min-cell", type=int, default=10, help="smallest number of people in a released cell")
    world = parser.add_mutually_exclusive_group()
    world.add_argument("--simulate", action="store_true", help="all parties in this process, with the real seal (the default)")
    world.add_argument("--pooled", action="store_true", help="one table, no seal, the same rules")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except fedstats.FedstatsError as error:
        sys.exit(f"{error}\nhint: {error.hint}" if error.hint else str(error))
