"""A whole federation on one machine: real processes that speak HTTP over loopback, for the demonstration, examples and tests.

How this works: `prepare` writes what a consortium needs (tables, dictionary, keys, consortium file, one node.toml per registry)
into a folder. `Laptop` starts a coordinator and the nodes as processes of their own and ends all of them, whatever happens: on the
way out, and, because every child watches its standard input, even when this process is killed.
How it waits for them stands in `waiting`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..crypto.identity import Identity
from ..data.dictionary import Dictionary
from ..data.tables import columns_of, write_csv
from ..disclosure import Rules
from ..query.population import is_ms, load_treatments, treatments_digest
from ..wire.roster import Consortium, accept, member_of
from .waiting import STARTING, Watch

HOST = "127.0.0.1"
COORDINATOR, ANALYST = "coordinator", "analyst"
LOOK_SECONDS = 0.05             # between two looks at those that start
STOP_SECONDS = 5.0              # for a process to end by itself


# -- files -------------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def prepare(folder: str | Path, tables: Mapping[str, Any], dictionary: Mapping[str, Any] | Dictionary | None = None, *,
            rules: Rules | None = None, port: int | None = None, round_seconds: float = 60.0, name: str = "laptop",
            through: Mapping[str, int] | None = None, data_cut: str = "demo") -> Path:
    """Write a consortium into a folder; returns the consortium file. Every party has accepted it.

    tables : {registry: table, see `tables.columns_of`}, or {registry: {"patients": table, "visits": table, ...}} for tables of MS, whose
        dictionary is the one that comes with fedstats, if none is given, and whose data_cut is a date.
    through : {registry: port of its Wire}.
    """
    import tomli_w

    folder, port = Path(folder), port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    ms = all(is_ms(table) for table in tables.values())
    book = _book(dictionary, ms)
    (folder / "dictionary.json").write_text(json.dumps(book.to_dict(), indent=1), encoding="utf-8")
    members = []
    for who, role in {**dict.fromkeys(tables, "registry"), ANALYST: "analyst", COORDINATOR: "coordinator"}.items():
        me = Identity.generate(who)
        me.save(folder / f"{who}.key")
        members.append(member_of(me, role, (f"http://{HOST}:{port}",) if role == "coordinator" else ()))    # type: ignore[arg-type]
    roster = Consortium(name=name, epoch=1, dictionary="dictionary.json", dictionary_sha256=book.digest, rules=rules or Rules(),
                        members=tuple(members), tables="ms" if ms else "rows",
                        treatments_sha256=treatments_digest(load_treatments(None)) if ms else "")
    roster.check()
    roster.save(folder / "consortium.toml")
    for who, table in tables.items():
        (folder / who).mkdir(exist_ok=True)
        for label, one in (table if ms else {"patients": table}).items():
            write_csv(folder / who / f"{label}.csv", columns_of(one))
        wire = {"coordinator": f"http://{HOST}:{through[who]}"} if through and who in through else {}
        settings = {"consortium": "../consortium.toml", "key": f"../{who}.key", "data": "." if ms else "patients.csv", "data_cut": data_cut,
                    "round_seconds": round_seconds} | wire
        (folder / who / "node.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    for who in (*tables, ANALYST, COORDINATOR):
        accept(roster, folder / f"{who}.key")
    return folder / "consortium.toml"


def _book(dictionary: Mapping[str, Any] | Dictionary | None, ms: bool) -> Dictionary:
    if dictionary is None and ms:
        from ..ms.tables.registry import dictionary as shipped

        return shipped()
    return dictionary if isinstance(dictionary, Dictionary) else Dictionary.from_dict(dictionary or {})


# -- processes ---------------------------------------------------------------------------------------------------------------


class Laptop:
    """The processes of a prepared folder. `with Laptop(folder) as here:` starts all, waits until they are ready, and ends all.

    told : called with the name of each that is ready. slow : called with a sentence about those
        that take long. logs : folder of what they say, that of the rest by default.
    log(name) is what a process has said; kill, stop and start are for trying out what happens when one goes.
    """

    def __init__(self, folder: str | Path, *, round_seconds: float = 60.0, logs: Path | None = None,
                 told: Callable[[str], None] = lambda text: None,
                 slow: Callable[[str], None] = lambda text: None) -> None:
        self.folder, self.round_seconds, self.told = Path(folder), round_seconds, told
        self.logs = logs or self.folder
        self.roster = Consortium.load(self.folder / "consortium.toml")
        self.url = self.roster.addresses[0]
        self.port = int(self.url.rpartition(":")[2])
        self.registries = self.roster.names("registry")
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.watch = Watch(self.running, self._log_path, slow)

    @property
    def consortium(self) -> Path:
        return self.folder / "consortium.toml"

    @property
    def key(self) -> Path:
        return self.folder / f"{ANALYST}.key"

    def __enter__(self) -> Laptop:
        try:
            self.start(COORDINATOR)
            for name in self.registries:        # all at once: each needs a second of a processor to start
                self._spawn(name)
            self._wait(*self.registries)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def start(self, name: str) -> None:
        """Start one party and wait until it is ready."""
        self._spawn(name)
        self._wait(name)

    def _spawn(self, name: str) -> None:
        if name == COORDINATOR:
            words = ["coordinator", "serve", "--consortium", str(self.consortium), "--key", str(self.folder / f"{COORDINATOR}.key"),
                     "--host", HOST, "--port", str(self.port), "--round-seconds", f"{self.round_seconds:g}"]
        else:
            words = ["node", "serve", str(self.folder / name / "node.toml")]
        with self._log_path(name).open("wb") as log:
            self.running[name] = subprocess.Popen([sys.executable, "-m", "fedstats.cli.child", *words],  # noqa: S603 (our own interpreter)
                                                  stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=environment())

    def _wait(self, *names: str) -> None:
        """Until all of these are ready. Raises Unreachable, see `Watch.look`."""
        self.watch.begin()
        starting = list(names)
        while starting:
            for name in [one for one in starting if self._ready(one)]:
                starting.remove(name)
                self.told(name)
            if starting:
                self.watch.look(starting, STARTING, each=True)
                time.sleep(LOOK_SECONDS)

    def _ready(self, name: str) -> bool:
        if name != COORDINATOR:
            return "connected to" in self.log(name)
        with contextlib.suppress(OSError):
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(f"{self.url}/healthz", timeout=2).status == 200
        return False

    def metrics(self) -> dict[str, int]:
        """What the coordinator counts: queries, rounds, bytes and so on."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        lines = opener.open(f"{self.url}/metrics", timeout=5).read().decode().splitlines()
        return {line.split()[0].removeprefix("fedstats_"): int(line.split()[1]) for line in lines if not line.startswith("#")}

    def _log_path(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def log(self, name: str) -> str:
        return self.watch.log(name)

    def alive(self) -> list[str]:
        return [name for name, process in self.running.items() if process.poll() is None]

    def kill(self, name: str) -> None:
        """As when the power goes."""
        self.running[name].kill()
        self.running[name].wait()

    def stop(self, name: str) -> int:
        """As an operator does; returns the exit code."""
        self.running[name].terminate()
        return self.running[name].wait(timeout=3 * STOP_SECONDS)

    def close(self) -> None:
        """End every process: asked first, then killed."""
        for process in self.running.values():
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    process.send_signal(signal.SIGCONT)
                process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.05, until - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()


def environment() -> dict[str, str]:
    """The environment of a child: loopback is never asked of a proxy, one thread of linear algebra per process."""
    near = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST, "localhost")))
    return os.environ | {"NO_PROXY": near, "no_proxy": near, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
