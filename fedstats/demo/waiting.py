"""Waiting for processes by what they do, not by the clock: a slow machine is given time.

How this works: a process gets on while it uses the processor, or waits for its turn or the disk.
One that has ended is told at once, with the last lines of its log. One that does nothing for
`STILL_SECONDS` (stopped, or waiting for something that never comes) is told too.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unreachable

STILL_SECONDS = 60.0        # of doing nothing: far more than any process with work to do waits
LONGEST_SECONDS = 3600.0    # for anything: the last resort against one that is busy for ever
TELL_SECONDS = 10.0         # between two remarks about what is slow
LEAST_WORK = 0.05           # seconds of processor that count: asking for mail takes less per minute
LOOK_SECONDS = 0.5          # between two looks at those that are asked
CHATTER = " INFO HTTP Request"      # lines of a log that say nothing about what is slow
LAST_LINES = 3              # of a log, in an error
STARTING = "starting"       # what a process does that is not ready yet
STOPPED = "T"               # states of processes: somebody stopped it;
ATWORK = ("R", "D")         # runs or waits for its turn, waits for the disk


@dataclass
class Pulse:
    """When a process got on last, and how much of the processor it had used then (seconds)."""

    used: float
    moved: float


class Watch:
    """Looks at processes and their logs.

    running : {name: process}, may grow. log_path : where a process writes what it says.
    told : called with a sentence when something takes long. clock : seconds.
    """

    def __init__(self, running: Mapping[str, subprocess.Popen[bytes]],
                 log_path: Callable[[str], Path], told: Callable[[str], None] = lambda text: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.running, self.log_path, self.told, self.clock = running, log_path, told, clock
        self.pulses: dict[int, Pulse] = {}
        self.begin()

    def begin(self) -> None:
        """From now on is waited for something else, which those that are alive now may do."""
        self.begun = self.remarked = self.clock()
        self.alive = {name for name, one in self.running.items() if one.poll() is None}
        self.pulses.clear()

    def look(self, names: Sequence[str], doing: str, *, each: bool = False) -> None:
        """One look while these processes are waited for.

        doing : what they do, as in "calgary is starting". each : every one has work to do; else
        one that gets on is enough, as the others may wait for it.
        Raises Unreachable if a process has ended, if nothing gets on, and after `LONGEST_SECONDS`.
        """
        self._ended(names, doing)
        now = self.clock()
        still = [name for name in names if now - self._moved(name, now) > STILL_SECONDS]
        if still and (each or len(still) == len(names)):
            raise self._stuck(still, doing)
        if now - self.begun > LONGEST_SECONDS:
            lasts = now - self.begun
            raise self.trouble(names, f"{_are(names)} {doing} for {lasts:.0f} s: too long")
        if now - self.remarked >= TELL_SECONDS:
            self.remarked = now
            self.told("; ".join(self._slow(name, doing) for name in names if name not in still))

    def _ended(self, names: Sequence[str], doing: str) -> None:
        for name in (*names, *self.alive):
            code = self.running[name].poll()
            if code is not None:
                early = doing == STARTING and name in names
                did = "did not start" if early else f"ended while {_are(names)} {doing}"
                raise self.trouble([name], f"{name} {did} (exit code {code})")

    def _stuck(self, still: Sequence[str], doing: str) -> Unreachable:
        stopped = [name for name in still if _state(self.running[name].pid)[:1] == STOPPED]
        if stopped:
            return self.trouble(stopped, f"{_are(stopped)} stopped by somebody")
        what = f"{_are(still)} {doing}, but did nothing for {STILL_SECONDS:g} s"
        return self.trouble(still, what)

    def finish(self, process: subprocess.Popen[str], names: Sequence[str], doing: str
               ) -> tuple[str, str]:
        """What a process that asks the others has printed: (stdout, stderr).

        It has ended then, whatever happens. Raises Unreachable, see `look`.
        """
        self.begin()
        try:
            while True:
                try:
                    return process.communicate(timeout=LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    self.look(names, doing)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def trouble(self, names: Sequence[str], what: str) -> Unreachable:
        """The error about processes: the end of the log of the first, and where the logs are."""
        lines = self._lines(names[0])[-LAST_LINES:]
        places = ", ".join(str(self.log_path(name)) for name in names)
        return Unreachable(what, hint=f"{'; '.join(lines) or 'its log is empty'} (log: {places})")

    def log(self, name: str) -> str:
        """What a process has said."""
        path = self.log_path(name)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _lines(self, name: str) -> list[str]:
        """The lines of a log that say something."""
        lines = self.log(name).splitlines()
        return [line for line in lines if line.strip() and CHATTER not in line]

    def _moved(self, name: str, now: float) -> float:
        """When this process got on last."""
        pid = self.running[name].pid
        used, state = used_seconds(pid), _state(pid)[:1]
        pulse = self.pulses.setdefault(pid, Pulse(used, now))
        if used >= pulse.used + LEAST_WORK or state in ATWORK:
            pulse.used, pulse.moved = used, now
        return pulse.moved

    def _slow(self, name: str, doing: str) -> str:
        """"calgary is starting, 40 s so far: compiling kernels"."""
        lines = self._lines(name)
        last = lines[-1].partition(" INFO ")[2] or lines[-1] if lines else "importing"
        return f"{name} is {doing}, {self.clock() - self.begun:.0f} s so far: {last}"


def used_seconds(pid: int) -> float:
    """Seconds of processor that a process has used; 0 where it cannot be told."""
    fields = _stat(pid)
    if not fields:
        return _clock(_ps(pid, "time"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else _ps(pid, "stat")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name of the program, if there are any."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()
    except OSError:
        return []


def _ps(pid: int, what: str) -> str:
    try:
        words = ["ps", "-o", f"{what}=", "-p", str(pid)]
        found = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        return found.stdout.strip()
    except OSError:
        return ""


def _clock(text: str) -> float:
    """[[days-]hours:]minutes:seconds, as ps writes it, in seconds."""
    days, _, rest = text.rpartition("-")
    total = 0.0
    for part in rest.split(":") if rest else ():
        total = 60 * total + float(part)
    return total + 86_400 * float(days or 0)


def _are(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
