"""The demonstration: five synthetic MS registries, a coordinator and an analyst on this machine, each a process of its own.

It asks several questions in one query over the sealed network, computes the same from one pooled table, shows that both agree,
changes one byte on the line and shows that it is caught, and writes a report. `story` does it all and tells what it does; it
returns whether everything came out as it should.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import laptop, tap
from .disclosure import Rules
from .laptop import Laptop
from .ms import synthetic
from .tap import Wire

if TYPE_CHECKING:
    from .analysis import Result
    from .client.federation import Cohort, CohortQuestion
    from .show.words import Sheet

SEED, PATIENTS = 2026, 4000
# not rounded, so that every digit is compared; a real consortium rounds
RULES = Rules(min_cell=10, min_cohort=50, min_registries=3, rounding=False)
ADULTS = [("age", ">=", 18)]
PURPOSE = "demonstration: patients, disability and time to worsening by class of treatment"
TAPPED = "calgary"              # the registry whose line somebody tampers with
SAME = 1e-8                     # largest relative difference from pooled that passes
NOT_COMPARED = frozenset({"query", "released"})     # of a result: what says in which world it was computed
ASK_SECONDS = 120.0
YEARS, DAYS_PER_YEAR = (1, 2, 5), 360.0         # at which curves are read off; whole steps of the time grid of 90 days

Results = dict[str, "Result"]


@dataclass
class Outcome:
    """What the demonstration found. port : the coordinator's.

    checks : (what was tried, outcome, whether it came out as it should).
    """

    report: Path
    results: Path
    port: int = 0
    checks: list[tuple[str, str, bool]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(good for _, _, good in self.checks)


def questions(cohort: Cohort) -> dict[str, CohortQuestion]:
    """What is asked, by the name it has in the report."""
    ask = cohort.question
    follow_up = {"time": "days", "event": "worsened", "by": "dmt"}
    return {
        "Patients by treatment class": ask.table_one(["age", "sex", "course", "edss", "relapses"], by="dmt"),
        "EDSS and age at onset": ask.quantiles(["edss", "age_onset"], q=[0.1, 0.25, 0.5, 0.75, 0.9]),
        "Course by sex": ask.crosstab("sex", "course"),
        "Time to confirmed worsening": ask.kaplan_meier(**follow_up),
        "Do the curves differ?": ask.logrank(**follow_up),
    }


def story(out: Path, keep: Path | None, console: Any) -> Outcome:
    """Run the demonstration. out : folder of report and results. keep : folder for everything else, a temporary one without."""
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(out / "report.html", out / "results.json")
    with contextlib.ExitStack() as ends:
        folder = keep or Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="fedstats-demo-")))
        tables = synthetic.registries(SEED, patients=PATIENTS)
        port = outcome.port = laptop.free_port()
        wire = ends.enter_context(Wire(port))
        laptop.prepare(folder, tables, synthetic.DICTIONARY, rules=RULES, port=port, through={TAPPED: wire.port}, name="demo")
        people = sum(len(table["age"]) for table in tables.values())
        console.print(f"{len(tables)} registries with {people} synthetic patients: {', '.join(tables)}")
        with _bar(console, "starting", len(tables) + 1) as moved:
            here = ends.enter_context(Laptop(folder, told=lambda name: moved(name)))
        console.print(f"{len(here.alive())} processes run on this machine: a coordinator, and a node for each registry that reads its "
                      "own table only\n")
        results, seen, seconds = ask(here, console)
        counts = here.metrics()
        console.print(f"{len(results)} questions answered in one query: {counts['rounds']} rounds, {counts['bytes_in'] / 1e6:.1f} MB of "
                      f"sealed numbers, {seconds:.1f} seconds\n")
        show(results, console)
        differences = compare(tables, results)
        tell_differences(differences, outcome, console)
        tamper(here, wire, outcome, console)
        here.close()
        left = here.alive()
        untap(folder)
    outcome.checks.append(("end every process that was started", ", ".join(left) or "none is left", not left))
    write_files(outcome, list(tables), results, seen, differences, {
        "date": time.strftime("%Y-%m-%d"), "rounds of the query": counts["rounds"], "bytes carried": counts["bytes_in"],
        "seconds for the query": round(seconds, 1), "data": f"synthetic, seed {SEED}"})
    console.print(f"\nall processes ended; {time.monotonic() - begun:.0f} seconds in all")
    return outcome


def ask(here: Laptop, console: Any) -> tuple[Results, Sequence[tuple[str, str]], float]:
    """All questions in one query over the network: (results, who sees what, seconds)."""
    import fedstats

    os.environ.update({name: value for name, value in laptop.environment().items() if name.lower() == "no_proxy"})
    begun = time.monotonic()
    with _bar(console, "asking", len(here.registries)) as moved, \
            fedstats.connect(here.consortium, key=here.key, timeout=ASK_SECONDS, progress=moved.to) as fed:
        asked = questions(fed.cohort(ADULTS))
        explanation = fed.explain(*asked.values())
        found = fed.ask(*asked.values(), purpose=PURPOSE)
    return dict(zip(asked, found)), explanation.who_sees_what, time.monotonic() - begun


def show(results: Results, console: Any) -> None:
    """The heart of each result; the report has all of it."""
    from .analysis import Failed
    from .show import console as print_whole
    from .show.words import people

    for name, result in results.items():
        console.rule(name, align="left")
        if isinstance(result, Failed):
            print_whole(result, console)
            continue
        for sheet in brief(result):
            _print(sheet, console)
        console.print(f"{people(result)}\n".replace("\u202f", " "), style="dim")


def brief(result: Result) -> list[Sheet]:
    """The first table of a result and its tests; of curves, survival at a few times."""
    from .analyses.kaplan_meier import KaplanMeier
    from .show.words import sheet, sheets
    from .views import Table

    if isinstance(result, KaplanMeier):
        heads = ("group", *(part for year in YEARS for part in (f"{year} y", "low", "high")))
        read = [[group.at(DAYS_PER_YEAR * year) for year in YEARS] for group in result.groups]
        rows = tuple((group.group, *(number for one in line for number in (one.survival, one.low, one.high)))
                     for group, line in zip(result.groups, read))
        return [sheet(result, Table(heads, rows, title="Not worsened after so many years, with 95% intervals"))]
    first, *others = sheets(result)
    return [first, *(one for one in others if one.title.startswith("Test"))]


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


# -- the same from one pooled table -----------------------------------------------------------------------------------------


def compare(tables: Mapping[str, Any], results: Results) -> dict[str, float]:
    """Per question, the largest relative difference from the pooled computation under the same rules."""
    import fedstats

    fed = fedstats.pooled(tables, dictionary=synthetic.DICTIONARY, rules=RULES)
    asked = questions(fed.cohort(ADULTS))
    return {name: difference(results[name].to_dict(), one.to_dict()) for name, one in zip(asked, fed.ask(*asked.values()))}


def difference(a: Any, b: Any) -> float:
    """The largest relative difference between two plain contents; infinite where one has what the other has not."""
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        if isinstance(a, dict) and isinstance(b, dict):
            names = (a.keys() | b.keys()) - NOT_COMPARED
            return max((difference(a.get(name), b.get(name)) for name in names), default=0.0)
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
            return max((difference(x, y) for x, y in zip(a, b)), default=0.0)
        return 0.0 if a == b else math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b))


def tell_differences(differences: Mapping[str, float], outcome: Outcome, console: Any) -> None:
    from rich.table import Table

    table = Table(title="The same from one pooled table, under the same rules", title_justify="left", title_style="bold",
                  show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("question")
    table.add_column("difference from pooled", justify="right")
    for name, largest in differences.items():
        table.add_row(name, "none" if largest == 0 else f"{largest:.1e}")
    console.print(table)
    console.print("largest relative difference of any released number\n", style="dim")
    largest = max(differences.values())
    outcome.checks.append(("compute the same from one pooled table", "every number is the same" if largest == 0 else
                           f"largest relative difference {largest:.1e}", largest <= SAME))


# -- somebody on the line -----------------------------------------------------------------------------------------------------


def tamper(here: Laptop, wire: Wire, outcome: Outcome, console: Any) -> None:
    """Change one bit of one total on its way to one registry, then leave the line alone again."""
    flipped: list[int] = []

    def change(direction: str, parcel: bytes) -> Sequence[bytes]:
        if direction == "down" and tap.kind(parcel) == "total" and not flipped:
            flipped.append(len(parcel))
            return (tap.flip(parcel),)
        return (parcel,)

    console.rule("Somebody changes one bit on the line", align="left")
    wire.change = change
    ended = command_line(here)
    said = ended.stderr.strip()
    console.print(f"$ fedstats ask crosstab sex course --consortium consortium.toml --key {here.key.name}\n{said}\n"
                  f"exit code {ended.returncode}; printed: {'nothing' if not ended.stdout else 'something'}\n")
    caught = bool(flipped) and ended.returncode == 5 and not ended.stdout
    first = said.splitlines()[0].removeprefix("fedstats: ") if said else "nothing was said"
    outcome.checks.append((f"change one bit of a total on its way to {TAPPED}", f"{first}; exit code {ended.returncode}, nothing released"
                           if caught else f"not caught: exit code {ended.returncode}", caught))
    wire.change = lambda direction, parcel: (parcel,)
    again = command_line(here)
    outcome.checks.append(("ask again over the undisturbed line", "answered" if again.returncode == 0 else again.stderr.strip(),
                           again.returncode == 0))
    console.print("asked again over the undisturbed line: " + ("answered" if again.returncode == 0 else again.stderr.strip()))


def untap(folder: Path) -> None:
    """The settings without the line that is gone, for those who keep the folder."""
    settings = folder / TAPPED / "node.toml"
    lines = settings.read_text(encoding="utf-8").splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if not line.startswith("coordinator")), encoding="utf-8")


def command_line(here: Laptop) -> subprocess.CompletedProcess[str]:
    """One question as an analyst would type it."""
    words = [sys.executable, "-m", "fedstats.cli", "ask", "crosstab", "sex", "course", "--consortium", str(here.consortium),
             "--key", str(here.key), "--timeout", f"{ASK_SECONDS:g}"]
    return subprocess.run(words, capture_output=True, text=True, env=laptop.environment(), stdin=subprocess.DEVNULL,  # noqa: S603
                          timeout=2 * ASK_SECONDS, check=False)


# -- files --------------------------------------------------------------------------------------------------------------------


def write_files(outcome: Outcome, registries: Sequence[str], results: Results, seen: Sequence[tuple[str, str]],
                differences: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    from .report import write_report, write_results

    answered = next(iter(results.values()))
    content: dict[str, Any] = {
        "title": "Five synthetic MS registries", "results": list(results.items()), "purpose": PURPOSE,
        "cohort": " and ".join(" ".join(map(str, one)) for one in ADULTS), "registries": registries, "seen": seen,
        "flow": [("patients of at least 18 years", answered.size.cohort)], "differences": differences,
        "checks": [(what, found) for what, found, _ in outcome.checks], "facts": facts}
    for path, write in ((outcome.report, write_report), (outcome.results, write_results)):
        part = path.with_name(path.name + ".part")
        write(part, **content)
        part.replace(path)


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
