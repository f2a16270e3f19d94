"""What `ask` does with its answers: on the screen, as JSON, as a report, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .manners import console, machine, note, table, writing

if TYPE_CHECKING:
    from ..query.analysis import Result


@dataclass(frozen=True)
class Answers:
    """Results by name, with what a reader needs to judge them: see `report.write_report`. described : the cohort's own words, which every
    result repeats."""

    results: list[tuple[str, Result]]
    described: str
    content: dict[str, Any]

    @property
    def several(self) -> bool:
        return len(self.results) > 1

    def show(self, json: bool) -> None:
        """Print them."""
        if json:
            self._json()
            return
        from .. import show

        for name, result in self.results:
            if self.several:
                console().rule(name, align="left")
            show.console(_briefly(result, self.described if self.several else ""), console())
        if self.content["flow"] and self.results[0][1].size.flow:
            console().rule("Flow of patients", align="left")
            if self.several:
                note(self.described)
            table(("step", "patients"), [(step, "too few to tell" if n is None else n) for step, n in self.content["flow"]])

    def _json(self) -> None:
        import msgspec

        from ..client.report import results_file

        machine(msgspec.json.decode(msgspec.json.encode(results_file(results=self.results, **self.content))))

    def write_report(self, path: Path) -> None:
        from ..client.report import write_report

        with writing(path) as part:
            write_report(part, results=[(name, _briefly(one, self.described)) for name, one in self.results], **self.content)
        note(f"report written to {path}")

    def write_picture(self, path: Path) -> None:
        """The picture of the first result."""
        with writing(path) as part:
            self.results[0][1].plot().savefig(part, format=path.suffix.lstrip(".") or "png", bbox_inches="tight", dpi=150)
        note(f"picture written to {path}")

    def failures(self) -> list[Exception]:
        from ..query.analysis import Failed

        return [result.error() for _, result in self.results if isinstance(result, Failed)]


def _briefly(result: Result, described: str) -> Result:
    """A result without the words about its cohort, where these stand once for all results."""
    import msgspec

    return msgspec.structs.replace(result, methods=result.methods.replace(f" {described}", "")) if described else result


def unique(names: Sequence[str]) -> list[str]:
    """Names for a report: a repeated one gets its number."""
    return [name if names.index(name) == k else f"{name} ({k + 1})" for k, name in enumerate(names)]


def flow(results: Sequence[Result]) -> list[tuple[str, int | None]]:
    """The cohort, then the complete cases of a single question."""
    from ..query.analysis import Failed

    answered = [result for result in results if not isinstance(result, Failed)]
    if not answered:
        return []
    lines: list[tuple[str, int | None]] = [(step.step, step.n) for step in answered[0].size.flow]
    lines += [("in the cohort and under the conditions asked" if lines else "patients in the cohort", answered[0].size.cohort)]
    return [*lines, ("all columns known", answered[0].n)] if len(answered) == 1 else lines
