"""Seeded faults over real processes: power cuts, frozen machines, cut lines, full disks, wrong clocks, of any party, at any moment.

    python -m tests.bench.bench_faults [TIMES] [SEED]

After each fault four things must hold. What the analyst got is the pooled answer, to the last digit, or no number at all.
Nobody waited longer than the time that was given. An error names the party, or the cause. The next question is right, once
what was broken works again. Prints a line for each fault, and ends with exit code 1 if one of them did not hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import fedstats
from fedstats import Rules
from fedstats.demo import laptop, tap
from nodes.lines import LONGEST_PAUSE_REFUSED
from tests import flat_registries

ROUND_SECONDS, ASK_SECONDS = 4.0, 12.0
LATE_SECONDS = 20.0  # beyond the time given, for a machine with more work than processors
LONGEST_DELAY = 1.2  # seconds of a question that the moments of faults are drawn from
SMALL_FILE = 256 * 1024  # bytes
WRONG_CLOCK = 3 * 3600.0

# the clock of a process, as its operating system would tell it; a file says how wrong it is
CLOCK = """
import os, sys, time
right, folder = time.time, os.environ["CLOCKS"]
def wrong():
    words = " ".join(getattr(sys, "argv", ()))
    for name in os.listdir(folder):
        if f"/{name}/" in words or f" {name} " in f" {words} ":
            return right() + float(open(os.path.join(folder, name)).read() or 0)
    return right()
time.time = wrong
"""
ANALYST = """
import json, sys, fedstats
consortium, key, seconds, _ = sys.argv[1:]
with fedstats.connect(consortium, key=key, timeout=float(seconds)) as fed:
    cohort = fed.cohort()
    questions = [cohort.question.summary(["age"]), cohort.question.crosstab("sex", "worsened"),
                 cohort.question.glm("worsened ~ age + sex", family="binomial")]
    print("asking", flush=True)
    sys.stdin.readline()
    try:
        results = fed.ask(*questions)
    except fedstats.errors.FedstatsError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error} ({error.hint})"}))
    else:
        print(json.dumps([one.to_dict() for one in results]))
"""


def numbers(results: list) -> list:
    """Results without what names their query."""
    return [{k: v for k, v in one.items() if k not in ("query", "released")} for one in results]


@dataclass
class Lab:
    """A running consortium, a tap on the line of every registry, and the pooled answer."""

    here: laptop.Laptop
    wires: dict[str, tap.Wire]
    clocks: Path
    right: list = field(default_factory=list)

    @property
    def pid(self) -> dict[str, int]:
        return {name: one.pid for name, one in self.here.running.items()}

    def asking(self) -> subprocess.Popen[str]:
        """An analyst's process that is about to ask, once it is told to."""
        words = [str(self.here.consortium), str(self.here.key), str(ASK_SECONDS), "analyst"]
        one = subprocess.Popen([sys.executable, "-c", ANALYST, *words], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=laptop.environment())
        assert one.stdout is not None and one.stdout.readline() == "asking\n"
        return one

    def mend(self) -> None:
        """Everybody runs, every line is whole, every clock is right."""
        for name in self.wires:
            self.wires[name].change = lambda way, parcel: (parcel,)
        for one in self.clocks.iterdir():
            one.write_text("0")
        for name in (laptop.COORDINATOR, *self.here.registries):
            with contextlib.suppress(OSError):
                os.kill(self.pid[name], signal.SIGCONT)
                limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(self.pid[name], resource.RLIMIT_FSIZE, limit)
        for name in (laptop.COORDINATOR, *self.here.registries):
            if name not in self.here.alive():
                self.here.start(name)


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        clocks, site = folder / "clocks", folder / "site"
        clocks.mkdir()
        site.mkdir()
        (site / "sitecustomize.py").write_text(CLOCK)
        path = os.pathsep.join(filter(None, (str(site), os.getcwd(), os.environ.get("PYTHONPATH"))))
        before = dict(os.environ)
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.update(laptop.environment() | {"CLOCKS": str(clocks), "PYTHONPATH": path})
        tables = flat_registries.registries(3, sites=3, patients=600)
        for name in (*tables, laptop.COORDINATOR, "analyst"):
            (clocks / name).write_text("0")
        port = laptop.free_port()
        wires = {name: stack.enter_context(tap.Wire(port)) for name in tables}
        through = {name: wire.port for name, wire in wires.items()}
        laptop.prepare(folder / "lab", tables, flat_registries.DICTIONARY, port=port,
                       round_seconds=ROUND_SECONDS, through=through)
        pooled = fedstats.pooled(tables, dictionary=flat_registries.DICTIONARY, rules=Rules()).cohort()
        results = [pooled.summary(["age"]), pooled.crosstab("sex", "worsened"),
                   pooled.glm("worsened ~ age + sex", family="binomial")]
        here = stack.enter_context(laptop.Laptop(folder / "lab", round_seconds=ROUND_SECONDS))
        yield Lab(here, wires, clocks, numbers(json.loads(json.dumps([one.to_dict() for one in results]))))


# -- faults: each breaks something at once, and says by which words an error may name it -------------


def killed(lab: Lab, who: str) -> str:
    lab.here.kill(who)
    return who


def killed_and_back(lab: Lab, who: str) -> str:
    lab.here.kill(who)
    lab.here.start(who)
    return who


def frozen(lab: Lab, who: str) -> str:
    os.kill(lab.pid[who], signal.SIGSTOP)
    return f"{who}|did not answer" if who == laptop.COORDINATOR else who


def frozen_for_a_moment(lab: Lab, who: str) -> str:
    os.kill(lab.pid[who], signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(lab.pid[who], signal.SIGCONT)
    return who


def line_cut(lab: Lab, who: str) -> str:
    lab.wires[who].change = lambda way, parcel: ()
    return who


def line_late(lab: Lab, who: str) -> str:
    def change(way: str, parcel: bytes) -> tuple[bytes, ...]:
        time.sleep(1.0)
        return (parcel,)

    lab.wires[who].change = change
    return who


def bit_flipped(lab: Lab, who: str) -> str:
    done: list[bool] = []

    def change(way: str, parcel: bytes) -> tuple[bytes, ...]:
        if done or tap.kind(parcel) not in ("total", "contribution"):
            return (parcel,)
        done.append(True)
        return (tap.flip(parcel),)

    lab.wires[who].change = change
    return f"{who}.*(verified|signed|parcel)"


def disk_full(lab: Lab, who: str) -> str:
    """Its journal does not grow any more. (Files in memory, which the cipher needs, are small and have room.)"""
    limit = (SMALL_FILE, resource.RLIM_INFINITY)
    resource.prlimit(lab.pid[who], resource.RLIMIT_FSIZE, limit)
    return f"{who}.*(disk|journal)"


def clock_wrong(lab: Lab, who: str) -> str:
    (lab.clocks / who).write_text(str(random.choice((-1, 1)) * WRONG_CLOCK))
    return f"clock.* of {who}|no answer from {who}" if who != laptop.COORDINATOR else "clock"


REGISTRY: tuple[Callable[[Lab, str], str], ...] = (
    killed, killed_and_back, frozen, frozen_for_a_moment, line_cut, line_late, bit_flipped,
    disk_full, clock_wrong)
HUB: tuple[Callable[[Lab, str], str], ...] = (
    killed, killed_and_back, frozen, frozen_for_a_moment, clock_wrong)
ASKER = ("killed", "frozen", "clock wrong")


def fault_of(draw: random.Random, lab: Lab) -> tuple[str, str, Callable | None]:
    """Which party, and what happens to it."""
    who = draw.choice((*lab.here.registries, laptop.COORDINATOR, "analyst"))
    if who == "analyst":
        return who, draw.choice(ASKER), None
    work = draw.choice(HUB if who == laptop.COORDINATOR else REGISTRY)
    return who, work.__name__.replace("_", " "), work


def analysts_own(lab: Lab, one: subprocess.Popen[str], kind: str) -> str:
    if kind == "killed":
        one.kill()
    elif kind == "frozen":
        one.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        one.send_signal(signal.SIGCONT)
    else:
        (lab.clocks / "analyst").write_text(str(WRONG_CLOCK))
    return "analyst|clock"


def asked(lab: Lab, break_it: Callable[[subprocess.Popen[str]], str] = lambda one: "",
          delay: float = 0.0) -> tuple[str, str, float]:
    """(outcome: "right", "nothing", "WRONG" or "HANGS", what was said, seconds) of one question, and a fault in its middle."""
    one = lab.asking()
    words: list[str] = []
    begun = time.monotonic()
    assert one.stdin is not None
    one.stdin.write("\n")
    one.stdin.flush()

    def later() -> None:
        time.sleep(delay)
        words.append(break_it(one))

    breaking = threading.Thread(target=later)
    breaking.start()
    try:
        said, _ = one.communicate(timeout=ASK_SECONDS + LATE_SECONDS)
    except subprocess.TimeoutExpired:
        one.kill()
        said = '"HANGS"'
    seconds = time.monotonic() - begun
    breaking.join()
    found = json.loads(said or "null")
    if isinstance(found, list):
        return "right" if numbers(found) == lab.right else "WRONG", "", seconds
    if found == "HANGS":
        return found, "", seconds
    text = found["error"] if found else "(its process was killed)"
    named = not found or re.search(words[0], text)
    return "nothing" if named else "UNNAMED", text, seconds


def main(times: int = 30, seed: int = 1) -> int:
    """Run so many faults; how many of them did not end as they should."""
    draw, bad, began = random.Random(seed), 0, time.monotonic()
    with lab() as here:
        outcome, text, seconds = asked(here)
        assert outcome == "right", text
        for k in range(times):
            who, kind, work = fault_of(draw, here)
            delay = draw.uniform(0.0, LONGEST_DELAY)
            outcome, text, seconds = asked(
                here,
                lambda one, who=who, kind=kind, work=work: work(here, who) if work else analysts_own(here, one, kind),
                delay)
            here.mend()
            after, why, _ = asked(here)
            if after == "nothing" and kind == "clock wrong":
                time.sleep(LONGEST_PAUSE_REFUSED)  # as the hint says: a node that was refused asks less often
                after, why, _ = asked(here)
            fine = outcome in ("right", "nothing") and after == "right"
            bad += not fine
            print(f"{k:3d} {who:12s} {kind:20s} after {delay:4.2f} s: {outcome} in {seconds:4.1f} s {text}"
                  + ("" if after == "right" else f" | NEXT {after} {why}") + ("" if fine else "  <-- BAD"),
                  flush=True)
    print(f"{times} faults, {bad} that did not end as they should, {time.monotonic() - began:.0f} s")
    return bad


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
