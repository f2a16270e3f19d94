"""The demonstration: five synthetic MS registries, a coordinator and an analyst on this machine, each a process of its own.

Every registry holds visits, relapses, treatments and images of people that have never been. The analyst asks, in one query over the
sealed network, who starts a first treatment and how soon their disability worsens; then the demonstration computes the same from one
pooled table, shows that both agree, tells the true effect beside the estimated ones, changes one bit on the line and shows that it is
caught, grows a risk model, and writes a report. `demo_study` is what is asked, `demo_tamper` the changed bit, `demo_model` and `demo_page`
the model; `story` does it all, tells what it does, and returns whether everything came out as it should.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ms import synthetic
from ..ms.outcomes.rehearsal import rehearse
from ..query.population import TABLES
from ..risk.card_proof import check_model
from ..show import RESEARCH
from . import laptop, study
from . import model as demo_model
from . import page as demo_page
from . import tamper as demo_tamper
from .laptop import Laptop
from .logs import keeping
from .tap import Wire

if TYPE_CHECKING:
    from ..client.federation import Federation
    from ..query.analysis import Result
    from ..show.words import Sheet

YEARS, DAYS_PER_YEAR = (1, 2, 5), 364.0         # at which curves are read off; whole steps of the time grid of 91 days


@dataclass
class Outcome:
    """What the demonstration found. model : the folder with the risk model and its card. port : the coordinator's.

    checks : (what was tried, outcome, whether it came out as it should).
    """

    report: Path
    results: Path
    model: Path
    port: int = 0
    checks: list[tuple[str, str, bool]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(good for _, _, good in self.checks)


def story(out: Path, keep: Path | None, console: Any) -> Outcome:
    """Run the demonstration. out : folder of report and results. keep : folder for everything else, a temporary one without."""
    with keeping(out, keep) as logs:
        return _story(out, keep, logs, console)


def _story(out: Path, keep: Path | None, logs: Path, console: Any) -> Outcome:
    begun = time.monotonic()
    outcome = Outcome(out / "report.html", out / "results.json", out / demo_model.FOLDER)
    with contextlib.ExitStack() as ends:
        folder = keep or Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fedstats-demo-")))
        with _bar(console, "making", len(study.SIZES)) as moved:
            tables = study.registries(moved)
        port = outcome.port = laptop.free_port()
        wire = ends.enter_context(Wire(port))
        laptop.prepare(folder, tables, rules=study.RULES, port=port, through={demo_tamper.TAPPED: wire.port}, name="demo",
                       data_cut=synthetic.DATA_CUT, round_seconds=study.ASK_SECONDS)
        (folder / "cohort.json").write_text(json.dumps(study.COHORT, indent=1) + "\n", encoding="utf-8")
        counts = {table: sum(len(one[table]["patient_id"]) for one in tables.values()) for table in TABLES}
        console.print(f"{len(tables)} registries ({', '.join(tables)}) with " + ", ".join(f"{n} {table}" for table, n in counts.items())
                      + ": synthetic, nobody's data")
        with _bar(console, "compiling kernels, once per machine", 1):
            rehearse()      # here, so that not every node does it
        with _bar(console, "starting", len(tables) + 1) as moved:
            here = ends.enter_context(Laptop(
                folder, round_seconds=study.ASK_SECONDS, logs=logs, told=lambda name: moved(name),
                slow=lambda text: console.print(text, style="dim")))
        console.print(f"{len(here.alive())} processes run on this machine: a coordinator, and a node for each registry that reads its "
                      "own tables only\n")
        results, seen, seconds, described = ask(here, console)
        counts = here.metrics()
        console.print(f"{len(results)} questions answered in one query: {counts['rounds']} rounds, {counts['bytes_in'] / 1e6:.1f} MB of "
                      f"sealed numbers, {seconds:.1f} seconds\n")
        console.print(f"{described}\n", style="dim")
        show_flow(results, console)
        show(results, console)
        pooled = study.pooled({name: folder / name for name in tables})
        differences = study.compare(results, pooled)
        tell_differences(differences, outcome, console)
        ratios = study.hazard_ratios(results)
        tell_truth(ratios, console)
        outcome.checks.extend(demo_tamper.tamper(here, wire, console))
        trained, of_model, facts = train(here, pooled, outcome, console)
        here.close()
        left = here.alive()
        demo_tamper.untap(folder)
    outcome.checks.append(("end every process that was started", ", ".join(left) or "none is left", not left))
    write_files(outcome, list(tables), results, described, seen, differences | of_model, trained, {
        "date": time.strftime("%Y-%m-%d"), "rounds of the query": counts["rounds"], "bytes carried": counts["bytes_in"],
        "seconds for the query": round(seconds, 1), **facts,
        f"true hazard ratio, {study.STRONG} against {study.WEAK} efficacy": round(ratios[-1].value, 3),
        "data": f"synthetic, seed {study.SEED}"})
    console.print(f"\nall processes ended; {time.monotonic() - begun:.0f} seconds in all")
    return outcome


def ask(here: Laptop, console: Any) -> tuple[study.Results, Sequence[tuple[str, str]], float, str]:
    """All questions in one query over the network: (results, who sees what, seconds, the cohort in words)."""
    begun = time.monotonic()
    with connected(here, "asking", console) as fed:
        cohort = fed.cohort(study.COHORT, where=study.KNOWN)
        asked = study.questions(cohort)
        explanation = fed.explain(*asked.values())
        found = fed.ask(*asked.values(), purpose=study.PURPOSE)
    return dict(zip(asked, found)), explanation.who_sees_what, time.monotonic() - begun, cohort.describe()


@contextlib.contextmanager
def connected(here: Laptop, doing: str, console: Any) -> Iterator[Federation]:
    """The federation as the analyst has it, with a bar that moves.

    It gives up when the nodes do not get on, see `Watch.look`.
    """
    import fedstats

    os.environ.update({name: value for name, value in laptop.environment().items() if name.lower() == "no_proxy"})
    last: tuple[str, int] | None = None
    with _bar(console, doing, len(here.registries)) as moved:

        def progress(label: str, answered: int, of: int) -> None:
            nonlocal last
            if last != (label, answered):
                last = label, answered
                here.watch.begin()
            here.watch.look(here.registries, "answering")
            moved.to(label, answered, of)

        with fedstats.connect(here.consortium, key=here.key, timeout=study.ASK_SECONDS,
                              progress=progress) as fed:
            yield fed


def show_flow(results: study.Results, console: Any) -> None:
    table = _table("Flow of patients", "step", "patients")
    for step, n in study.flow(results):
        table.add_row(step, "too few to tell" if n is None else str(n))
    console.print(table)
    console.print()


def show(results: study.Results, console: Any) -> None:
    """The heart of each result; the report has all of it."""
    from ..query.analysis import Failed
    from ..show import console as print_whole
    from ..show.words import people

    for name, result in results.items():
        console.rule(name, align="left")
        if isinstance(result, Failed):
            print_whole(result, console)
            continue
        for sheet in brief(result):
            _print(sheet, console)
        console.print(f"{people(result)}\n".replace("\u202f", " "), style="dim")


def brief(result: Result) -> list[Sheet]:
    """The first table of a result, its tests and ratios; of curves, survival at a few times; of Cox models, hazard ratios."""
    from ..analyses.regression.cox import Cox
    from ..analyses.survival.kaplan_meier import KaplanMeier
    from ..query.views import Table
    from ..show.words import sheet, sheets

    if isinstance(result, KaplanMeier):
        heads = ("group", *(part for year in YEARS for part in (f"{year} y", "low", "high")))
        read = [[group.at(DAYS_PER_YEAR * year) for year in YEARS] for group in result.groups]
        rows = tuple((group.group, *(number for one in line for number in (one.survival, one.low, one.high)))
                     for group, line in zip(result.groups, read))
        return [sheet(result, Table(heads, rows, title="Not worsened after so many years, with 95% intervals"))]
    if isinstance(result, Cox):
        rows = tuple((one.term, one.exp_coef, math.exp(one.lower), math.exp(one.upper), one.p) for one in result.coefficients)
        return [sheet(result, Table(("covariate", "hazard ratio", "low", "high", "p"), rows, title="Hazard ratios, registries as strata"))]
    first, *others = sheets(result)
    return [first, *(one for one in others if one.title.startswith(("Test", "Rate ratios")))]


def _table(title: str, first: str, *others: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False, header_style="bold")
    table.add_column(first)
    for head in others:
        table.add_column(head, justify="right")
    return table


def _print(sheet: Sheet, console: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=Text(sheet.title, style="bold"), title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for head, numeric in zip(sheet.heads, sheet.numeric):
        drawn.add_column(Text(head), justify="right" if numeric else "left")
    for row in sheet.rows:
        drawn.add_row(*(Text(entry.text.replace("\u202f", " ")) for entry in row))
    console.print(drawn)
    if sheet.footnote:
        console.print(Text(sheet.footnote, style="dim"))
    console.print()


def tell_differences(differences: Mapping[str, float], outcome: Outcome, console: Any) -> None:
    table = _table("The same from one pooled table, under the same rules", "question", "difference from pooled")
    for name, largest in differences.items():
        table.add_row(name, "none" if largest == 0 else f"{largest:.1e}")
    console.print(table)
    console.print("largest relative difference of any released number\n", style="dim")
    largest = max(differences.values())
    outcome.checks.append(("compute the same from one pooled table", "every number is the same" if largest == 0 else
                           f"largest relative difference {largest:.1e}", largest <= study.SAME))


def tell_truth(ratios: Sequence[study.Ratio], console: Any) -> None:
    """Beside each other: what the analyses say, and what is so."""
    table = _table(f"Worsening within {study.YEARS_FOLLOWED:g} years on {study.STRONG} against {study.WEAK} efficacy", "", "hazard ratio",
                   "95% interval")
    for one in ratios:
        table.add_row(one.analysis, f"{one.value:.2f}", "" if one.low is None else f"{one.low:.2f} to {one.high:.2f}")
    console.print(table)
    console.print("stronger drugs go to those who are worse off, so without adjustment they look no better; what no covariate holds "
                  "is not adjusted for\n", style="dim")


# -- the risk model ------------------------------------------------------------------------------------------------------------


def train(here: Laptop, pooled: Federation, outcome: Outcome, console: Any
          ) -> tuple[demo_model.Trained, dict[str, float], dict[str, float]]:
    """One more query: a model and its cross-validation, compared with those of the pooled table.

    Returns them with {name: largest relative difference} and facts for the report.
    """
    console.print()
    console.rule("A risk model of worsening within two years", align="left")
    begun, before = time.monotonic(), here.metrics()["rounds"]
    with connected(here, "training", console) as fed:
        trained = demo_model.train(fed, synthetic.DATA_CUT, time.strftime("%Y-%m-%d"))
    facts = {"rounds for the risk model": here.metrics()["rounds"] - before,
             "seconds for the risk model": round(time.monotonic() - begun, 1)}
    tell_model(trained, facts, console)
    same, differences = demo_model.compare(trained, pooled)
    largest = max(differences.values())
    found = f"the model is the one that the pooled table gives (SHA-256 {trained.card.provenance.model[:12]}...)" if same \
        else "the pooled table gives another model"
    outcome.checks.append(("grow the risk model from one pooled table", found + (
        ", and its validation too" if largest == 0 else f"; largest relative difference {largest:.1e}"), same and largest <= study.SAME))
    assert trained.receipt is not None
    signed = check_model(trained.model, trained.card, trained.receipt, here.roster).proof.registries
    outcome.checks.append(("check offline, from the receipt, that the registries signed the model and its card",
                           f"{len(signed)} of {len(here.registries)} did", len(signed) == len(here.registries)))
    return trained, differences, facts


def tell_model(trained: demo_model.Trained, facts: Mapping[str, float], console: Any) -> None:
    console.print(f"one more query over the network: {facts['rounds for the risk model']:.0f} rounds, "
                  f"{facts['seconds for the risk model']:.1f} seconds; the model and one for each of {trained.card.folds} folds grew side "
                  "by side\n")
    table = _table(f"{trained.card.title}, {trained.card.folds}-fold cross-validation", "patients", "worsened", "ROC-AUC (95% interval)",
                   "Brier score", "calibration slope")
    table.add_row(*(text.replace("\u202f", " ") for text in demo_page.row(trained.card)))
    console.print(table)
    console.print(f"{demo_page.meaning(trained.card)}\n", style="dim")
    console.print(demo_model.INSTALL if trained.said is None else demo_page.patient_line(trained.said))
    if trained.unsaid is not None:
        console.print(demo_page.stranger_line(trained.unsaid))
    console.print(f"A risk does not say who will worsen, nor what would lower it. {RESEARCH.capitalize()}.", style="dim")


# -- files --------------------------------------------------------------------------------------------------------------------


def write_files(outcome: Outcome, registries: Sequence[str], results: study.Results, described: str, seen: Sequence[tuple[str, str]],
                differences: Mapping[str, float], trained: demo_model.Trained, facts: Mapping[str, Any]) -> None:
    from ..client.report import write_report, write_results

    content: dict[str, Any] = {
        "title": "Five synthetic MS registries", "purpose": study.PURPOSE, "cohort": study.WORDS, "registries": registries, "seen": seen,
        "flow": study.flow(results), "differences": differences,
        "checks": [(what, found) for what, found, _ in outcome.checks], "facts": facts}
    demo_model.write(outcome.model.parent, trained)
    part = outcome.report.with_name("report.part")
    write_report(part, results=list(study.once(results, described).items()), **content,
                 sections=[(trained.card.title, demo_page.section(trained, differences[demo_model.MODEL] == 0))])
    part.replace(outcome.report)
    part = outcome.results.with_name("results.part")
    write_results(part, results=[*results.items(), *trained.results.items()], **content)
    part.replace(outcome.results)


class _Moved:
    """A progress bar seen from below: called with a name it goes on by one; `to` sets it, as `connect` does."""

    def __init__(self, bars: Any, doing: str, of: int) -> None:
        self.bars, self.doing, self.task = bars, doing, bars.add_task(doing, total=of)

    def __call__(self, name: str) -> None:
        self.bars.update(self.task, description=f"{self.doing} {name}", advance=1)

    def to(self, label: str, answered: int, of: int) -> None:
        self.bars.update(self.task, description=f"{self.doing}: {label}", completed=answered, total=of)


@contextlib.contextmanager
def _bar(console: Any, doing: str, of: int) -> Iterator[_Moved]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), console=console,
                  transient=True, disable=not console.is_terminal) as bars:
        yield _Moved(bars, doing, of)
