"""fedstats ask: one question, or several from a file, put to a consortium, to a simulation of one, or to pooled tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..errors import InputError, QuestionError
from . import filters
from .manners import Json, console, machine, note, progress, table, writing
from .questions import Asked, Sheet, analyses, read_cohort, read_sheet

if TYPE_CHECKING:
    from ..analysis import Result
    from ..client.federation import Federation

SUFFIXES = (".csv", ".parquet")
ROLES = ("by", "time", "event", "events")       # arguments that have an option of their own


class AskCommand(TyperCommand):
    """The help of `ask` ends with the list of analyses, which is made only when somebody reads it."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Analyses"):
            formatter.write_dl([(call, words) for call, words in analyses()])


def register(app: typer.Typer) -> None:
    app.command("ask", cls=AskCommand)(ask)


def ask(analysis: Annotated[str, typer.Argument(help="Name of the analysis; the list is below.")] = "",
        columns: Annotated[list[str] | None, typer.Argument(help="Columns that it is about.")] = None,
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
        consortium: Annotated[Path | None, typer.Option(help="Ask over the network: the consortium file.")] = None,
        key: Annotated[Path | None, typer.Option(help="The analyst's key.")] = None,
        timeout: Annotated[float, typer.Option(help="Seconds to wait for the registries.", min=1)] = 600.0,
        pooled: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Compute on this machine without a seal: "
                                                         "name=file.csv, or a folder of tables. No release rules unless --rules.")] = None,
        simulate: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="All parties in this process, with the real seal. "
                                                           "The default release rules unless --no-rules.")] = None,
        dictionary: Annotated[Path | None, typer.Option(help="The dictionary, for --pooled and --simulate.")] = None,
        rules: Annotated[bool | None, typer.Option("--rules/--no-rules", help="Apply the default release rules, or none "
                                                   "(on this machine only).")] = None,
        explain: Annotated[bool, typer.Option("--explain", help="Say what asking would mean; ask nobody.")] = False,
        json: Json = False,
        report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report.")] = None,
        plot: Annotated[Path | None, typer.Option(help="Write the picture (.png, .svg or .pdf); for one question.")] = None) -> None:
    """Ask one question, or several from a file in the same rounds.

    Ages, times and scores are in the units of the dictionary (fedstats dictionary show).

    \b
    Examples:
      fedstats ask table_one age edss sex --by dmt --consortium ms.toml --key ana.key
      fedstats ask kaplan_meier --time days --event worsened --by dmt --where 'age>=18' --consortium ms.toml --key ana.key
      fedstats ask quantiles age --option q=0.1,0.5,0.9 --pooled lyon=lyon.csv turin=turin.csv --dictionary dict.json
      fedstats ask --file questions.toml --consortium ms.toml --key ana.key --report report.html

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
    given = [one for one in columns or () if "=" in one] if pooled or simulate else []
    asked = Asked("", analysis, tuple(one for one in columns or () if one not in given),
                  {role: name for role, name in zip(ROLES, (by, time_, event, events)) if name} | dict(map(filters.option, option or ())))
    sheet = read_sheet(file) if file else Sheet(questions=(asked,))
    tree = read_cohort(cohort_file) if cohort_file else sheet.cohort
    if file and (analysis or columns):
        raise QuestionError("give an analysis, or a --file of questions, not both")
    if not file and not analysis:
        raise QuestionError("which analysis?", hint="there are: " + ", ".join(call.partition("(")[0] for call, _ in analyses()))
    if plot and len(sheet.questions) > 1:
        raise QuestionError("--plot takes one question", hint="a --report shows the pictures of all")
    conditions = sheet.where
    if isinstance(conditions, (list, tuple)):
        conditions = filters.conditions([*conditions, *(where or ())])
    elif where:
        raise QuestionError("--where cannot be added to a tree of conditions", hint='write it into the file\'s "where"')
    begun = time.monotonic()
    with progress("asking") as moved, world(consortium, key, timeout, pooled, simulate, given, dictionary, rules, moved) as fed:
        cohort = fed.cohort(tree, where=conditions)
        questions = [one.question(cohort) for one in sheet.questions]
        explanation = fed.explain(*questions)
        results = [] if explain else fed.ask(*questions, purpose=purpose or sheet.purpose)
    if explain:
        machine(explanation.to_dict()) if json else print(explanation)
        return
    names = unique([one.label for one in sheet.questions])
    content = {"title": sheet.title or f"fedstats: {names[0] if len(names) == 1 else f'{len(names)} questions'}",
               "results": list(zip(names, results)), "described": cohort.describe(), "purpose": purpose or sheet.purpose or "not stated",
               "cohort": " ".join(filter(None, (cohort.describe(), filters.words(cohort.where)))),
               "registries": list(fed.registries), "seen": explanation.who_sees_what,
               "flow": flow(results), "facts": {"date": time.strftime("%Y-%m-%d"), "rounds": explanation.rounds,
                                                "bytes sent per registry": explanation.up_bytes,
                                                "seconds": round(time.monotonic() - begun, 1)}}
    show(content, json, report, plot)


def show(content: dict[str, Any], json: bool, report: Path | None, plot: Path | None) -> None:
    """Print the results and write the files; then raise the first failure, if there is one."""
    from .. import show as pictures
    from ..analysis import Failed
    from ..report import results_file, write_report

    results, file = content["results"], {name: one for name, one in content.items() if name != "described"}
    if json:
        import msgspec

        machine(msgspec.json.decode(msgspec.json.encode(results_file(**file))))
    else:
        for name, result in results:
            if len(results) > 1:
                console().rule(name, align="left")
            pictures.console(_briefly(result, content["described"] if len(results) > 1 else ""), console())
        if content["flow"] and results[0][1].size.flow:
            console().rule("Flow of patients", align="left")
            if len(results) > 1:
                note(content["described"])
            table(("step", "patients"), [(step, "too few to tell" if n is None else n) for step, n in content["flow"]])
    if report:
        with writing(report) as part:
            write_report(part, **file | {"results": [(name, _briefly(one, content["described"])) for name, one in results]})
        note(f"report written to {report}")
    failures = [result.error() for _, result in results if isinstance(result, Failed)]
    if plot and not failures:
        with writing(plot) as part:
            results[0][1].plot().savefig(part, format=plot.suffix.lstrip(".") or "png", bbox_inches="tight", dpi=150)
        note(f"picture written to {plot}")
    if failures:
        raise failures[0]


def _briefly(result: Result, described: str) -> Result:
    """A result without the words about its cohort, where these stand once for all results."""
    import msgspec

    return msgspec.structs.replace(result, methods=result.methods.replace(f" {described}", "")) if described else result


# -- which world -----------------------------------------------------------------------------------------------------------


def world(consortium: Path | None, key: Path | None, timeout: float, pooled: list[str] | None, simulate: list[str] | None,
          more: Sequence[str], dictionary: Path | None, rules: bool | None, moved: Callable[[str, int, int], None]) -> Federation:
    """The federation that the options name. Raises InputError for none, or several."""
    import fedstats

    if sum(map(bool, (consortium, pooled, simulate))) != 1:
        raise InputError("whom to ask? give --consortium and --key, or --pooled, or --simulate",
                         hint="--pooled and --simulate take name=file.csv (or a folder) and --dictionary")
    if consortium:
        if key is None:
            raise InputError("--consortium needs the analyst's --key")
        if rules is not None:
            raise InputError("over the network the rules of the consortium apply", hint="leave --rules and --no-rules out")
        return fedstats.connect(consortium, key=key, dictionary=dictionary, progress=moved, timeout=timeout)
    tables = tables_of([*(pooled or simulate or ()), *more])
    if dictionary is None and not all(path.is_dir() for path in tables.values()):
        raise InputError("--pooled and --simulate need a --dictionary", hint="fedstats dictionary draft FILE.csv proposes one")
    if pooled:
        return fedstats.pooled(tables, dictionary=dictionary, rules=fedstats.Rules() if rules else None)
    from ..disclosure import NO_RULES

    return fedstats.simulate(tables, dictionary=dictionary, rules=NO_RULES if rules is False else None)


def tables_of(texts: Sequence[str]) -> dict[str, Path]:
    """`name=file`, a file (named after itself) or a folder of tables, as {name: path}; the five tables of MS are one folder. Raises
    InputError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, place = text.partition("=")
        path = Path(place if sign else text)
        if not path.exists():
            raise InputError(f"there is no file {path}")
        files = [path]
        if path.is_dir() and not _holds_visits(path):
            files = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES or _holds_visits(one))
            if sign and files:
                raise InputError(f"{path} is a folder: its tables are named after themselves", hint=f"write {path} without {name}=")
        if not files:
            raise InputError(f"{path} holds no table", hint="tables are .csv or .parquet files, or folders with visits.csv and others")
        for file in files:
            label = name if sign else file.stem
            if label in found:
                raise InputError(f'two tables are named "{label}"', hint="write name=file.csv")
            found[label] = file
    return found


def _holds_visits(path: Path) -> bool:
    return any((path / f"visits{suffix}").is_file() for suffix in SUFFIXES)


# -- for the report ------------------------------------------------------------------------------------------------------------


def unique(names: Sequence[str]) -> list[str]:
    """Names for a report: a repeated one gets its number."""
    return [name if names.index(name) == k else f"{name} ({k + 1})" for k, name in enumerate(names)]


def flow(results: Sequence[Result]) -> list[tuple[str, int | None]]:
    """The cohort, then the complete cases of a single question."""
    from ..analysis import Failed

    answered = [result for result in results if not isinstance(result, Failed)]
    if not answered:
        return []
    lines: list[tuple[str, int | None]] = [(step.step, step.n) for step in answered[0].size.flow]
    lines += [("in the cohort and under the conditions asked" if lines else "patients in the cohort", answered[0].size.cohort)]
    return [*lines, ("all columns known", answered[0].n)] if len(answered) == 1 else lines

