"""fedstats ask: one question, or several from a file, put to a consortium, to a simulation of one, or to pooled tables."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..errors import InputError, QuestionError
from . import filters
from .answers import Answers, flow, unique
from .manners import Json, check_places, machine, note, progress, write_text
from .questions import Asked, Sheet, analyses, read_cohort, read_sheet
from .worlds import AnalystKey, ConsortiumFile, DictionaryFile, Forms, Pooled, RulesOrNot, Simulated, Timeout, Whom

if TYPE_CHECKING:
    from ..client.explain import Explanation
    from ..client.federation import Cohort
    from ..wire.receipt import Receipt

PICTURES = (".png", ".svg", ".pdf")
ROLES = ("by", "time", "event", "events")       # arguments that have an option of their own


class AskCommand(TyperCommand):
    """The help of `ask` ends with the list of analyses, which is made only when somebody reads it."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Analyses"):
            formatter.write_dl([(call, words) for call, words in analyses()])


def register(app: typer.Typer) -> None:
    app.command("ask", cls=AskCommand)(ask)


def ask(analysis: Annotated[str, typer.Argument(metavar="ANALYSIS", help="Name of the analysis; the list is below.")] = "",
        columns: Annotated[list[str] | None, typer.Argument(metavar="COLUMN", help="Columns that it is about.")] = None,
        by: Annotated[str, typer.Option(metavar="COLUMN", help="Column that groups the patients.")] = "",
        time_: Annotated[str, typer.Option("--time", metavar="COLUMN", help="Column with the follow-up time, in its own unit.")] = "",
        event: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the event (yes/no).")] = "",
        events: Annotated[str, typer.Option(metavar="COLUMN", help="Column with the number of events.")] = "",
        where: Annotated[list[str] | None, typer.Option(metavar="CONDITION", help="A condition; may be repeated, all of them hold. Such as "
                                                        f"{filters.FORMS}.")] = None,
        option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Another argument of the analysis.")] = None,
        cohort_file: Annotated[Path | None, typer.Option("--cohort", help="Where registries hold tables of MS: the cohort, a TOML or "
                                                         "JSON file.")] = None,
        file: Annotated[Path | None, typer.Option(help="TOML file with several questions, asked in one query.")] = None,
        purpose: Annotated[str, typer.Option(help="What the answer is for; every registry reads it.")] = "",
        consortium: ConsortiumFile = None,
        key: AnalystKey = None,
        timeout: Timeout = 600.0,
        pooled: Pooled = None,
        simulate: Simulated = None,
        dictionary: DictionaryFile = None,
        rules: RulesOrNot = None,
        form: Forms = None,
        explain: Annotated[bool, typer.Option("--explain", help="Say what asking would mean; ask nobody.")] = False,
        json: Json = False,
        report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")] = None,
        plot: Annotated[Path | None, typer.Option(help="Write the picture (.png, .svg or .pdf); for one question.")] = None,
        receipt: Annotated[Path | None, typer.Option(help="Over the network: write what the result rests on, for fedstats receipt "
                                                     "check.")] = None) -> None:
    """Ask one question, or several from a file in the same rounds.

    Ages, times and scores are in the units of the dictionary (fedstats dictionary show).

    \b
    Examples:
      fedstats ask table_one age edss sex --by dmt --consortium ms.toml --key ana.key
      fedstats ask kaplan_meier --time days --event worsened --by dmt --where 'age>=18' --consortium ms.toml --key ana.key
      fedstats ask quantiles age --option q=0.1,0.5,0.9 --pooled lyon=lyon.csv turin=turin.csv --dictionary dict.json
      fedstats ask --file questions.toml --consortium ms.toml --key ana.key --report report.html
      fedstats ask summary edss --consortium ms.toml --key ana.key --json --receipt receipt.json > result.json

    \b
    A file of questions ([cohort] where registries hold tables of MS):
      purpose = "first look"
      where = ["age>=18"]
      [cohort]
      index = {event = "dmt_start"}
      covariates = ["age", "edss", "dmt_class"]
      outcomes = [{kind = "definition", definition = "cdw24", version = 1}]
      [[question]]
      analysis = "summary"
      columns = ["age", "edss"]
    """
    if receipt and not consortium:
        raise InputError("--receipt goes with --consortium", hint="only results over the network are signed")
    check_places(report, plot, receipt)
    columns, more = _tables_among(columns or (), bool(pooled or simulate))
    whom = Whom(consortium, key, timeout, [*pooled, *more] if pooled else None, [*simulate, *more] if simulate else None, dictionary, rules,
                form)
    roles = {role: name for role, name in zip(ROLES, (by, time_, event, events)) if name}
    sheet = _sheet(file, analysis, columns, roles | dict(map(filters.option, option or ())), where or (), cohort_file)
    if plot and plot.suffix not in PICTURES:
        raise InputError(f'a picture is written as {", ".join(PICTURES)}, not "{plot.suffix}"')
    if plot and len(sheet.questions) > 1:
        raise QuestionError("--plot takes one question", hint="a --report shows the pictures of all")
    begun = time.monotonic()
    with progress("asking") as moved, whom.federation(moved) as fed:
        cohort = fed.cohort(sheet.cohort, where=sheet.where)
        questions = [one.question(cohort) for one in sheet.questions]
        explanation = fed.explain(*questions)
        results = [] if explain else fed.ask(*questions, purpose=purpose or sheet.purpose)
        proof = fed.receipt(results[0]) if receipt and results else None
    if explain:
        machine(explanation.to_dict()) if json else print(explanation)
        return
    answers = _answers(sheet, purpose, cohort, results, list(fed.registries), explanation, time.monotonic() - begun)
    answers.show(json)
    if receipt and proof:
        _write_receipt(receipt, proof)
    if report:
        answers.write_report(report)
    failures = answers.failures()
    if plot and not failures:
        answers.write_picture(plot)
    if failures:
        raise failures[0]


def _tables_among(words: Sequence[str], local: bool) -> tuple[list[str], list[str]]:
    """Columns, and the tables that follow --pooled or --simulate: their option takes one, the others arrive among the columns."""
    tables = [one for one in words if "=" in one] if local else []
    return [one for one in words if one not in tables], tables


def _sheet(file: Path | None, analysis: str, columns: Sequence[str], arguments: dict[str, Any], where: Sequence[str],
           cohort_file: Path | None) -> Sheet:
    """What is asked, from the file or from the command line, with the conditions of both. Raises QuestionError."""
    if file and (analysis or columns):
        raise QuestionError("give an analysis, or a --file of questions, not both")
    if not file and not analysis:
        raise QuestionError("which analysis?", hint="there are: " + ", ".join(call.partition("(")[0] for call, _ in analyses()))
    sheet = read_sheet(file) if file else Sheet(questions=(Asked("", analysis, tuple(columns), arguments),))
    tree = read_cohort(cohort_file) if cohort_file else sheet.cohort
    if where and not isinstance(sheet.where, (list, tuple)):
        raise QuestionError("--where cannot be added to a tree of conditions", hint='write it into the file\'s "where"')
    return dataclasses.replace(sheet, cohort=tree, where=filters.conditions([*sheet.where, *where] if where else sheet.where))


def _answers(sheet: Sheet, purpose: str, cohort: Cohort, results: list[Any], registries: list[str], explanation: Explanation,
             seconds: float) -> Answers:
    names = unique([one.label for one in sheet.questions])
    described, purpose = cohort.describe(), purpose or sheet.purpose or "not stated"
    return Answers(list(zip(names, results)), described, {
        "title": sheet.title or f"fedstats: {names[0] if len(names) == 1 else f'{len(names)} questions'}", "purpose": purpose,
        "cohort": " ".join(filter(None, (described, filters.words(cohort.where)))), "registries": registries,
        "seen": explanation.who_sees_what, "flow": flow(results),
        "facts": {"date": time.strftime("%Y-%m-%d"), "rounds": explanation.rounds, "bytes sent per registry": explanation.up_bytes,
                  "seconds": round(seconds, 1)}})


def _write_receipt(path: Path, receipt: Receipt) -> None:
    from ..wire.receipt import receipt_text

    write_text(path, receipt_text(receipt))
    note(f"receipt written to {path}; anybody can check it: fedstats receipt check {path} --consortium ...")
