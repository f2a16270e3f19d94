"""Somebody on the line: the demonstration changes one bit of a total on its way to one registry, and shows that it is caught."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import laptop, study, tap
from .laptop import Laptop
from .tap import Wire

TAPPED = "calgary"              # the registry whose line somebody tampers with


def tamper(here: Laptop, wire: Wire, console: Any) -> list[tuple[str, str, bool]]:
    """Change one bit of one total on its way to one registry, then leave the line alone again.

    Returns (what was tried, outcome, whether it came out as it should) of both.
    """
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
    typed = f"{' '.join(study.QUESTION)} --cohort cohort.json --consortium consortium.toml --key {here.key.name}"
    console.print(f"$ fedstats ask {typed}\n{said}\n"
                  f"exit code {ended.returncode}; printed: {'nothing' if not ended.stdout else 'something'}\n")
    caught = bool(flipped) and ended.returncode == 5 and not ended.stdout
    first = said.splitlines()[0].removeprefix("fedstats: ") if said else "nothing was said"
    found = f"{first}; exit code {ended.returncode}, nothing released" if caught else f"not caught: exit code {ended.returncode}"
    wire.change = lambda direction, parcel: (parcel,)
    again = command_line(here)
    then = "answered" if again.returncode == 0 else again.stderr.strip()
    console.print(f"asked again over the undisturbed line: {then}")
    return [(f"change one bit of a total on its way to {TAPPED}", found, caught),
            ("ask again over the undisturbed line", then, again.returncode == 0)]


def untap(folder: Path) -> None:
    """The settings without the line that is gone, for those who keep the folder."""
    settings = folder / TAPPED / "node.toml"
    lines = settings.read_text(encoding="utf-8").splitlines(keepends=True)
    settings.write_text("".join(line for line in lines if not line.startswith("coordinator")), encoding="utf-8")


def command_line(here: Laptop) -> subprocess.CompletedProcess[str]:
    """One question as an analyst would type it."""
    words = [sys.executable, "-m", "fedstats.cli", "ask", *study.QUESTION, "--cohort", str(here.folder / "cohort.json"), "--consortium",
             str(here.consortium), "--key", str(here.key), "--timeout", f"{study.ASK_SECONDS:g}"]
    asked = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,  # noqa: S603
                             stderr=subprocess.PIPE, text=True, env=laptop.environment())
    out, err = here.watch.finish(asked, here.registries, "answering")
    return subprocess.CompletedProcess(words, asked.returncode, out, err)
