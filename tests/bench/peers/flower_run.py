"""Runs and times Flower in its own environment; `bench_peers.py` starts it: python flower_run.py PLACE DATA SITES

A line of JSON when the first question is answered; then one question per line on standard input until it is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

START = time.perf_counter()
REST = 5.0        # seconds between questions, so that none waits for the end of the one before
HOST = "127.0.0.1"
SAY = {"stdout": sys.stderr, "stderr": sys.stderr, "stdin": subprocess.DEVNULL}
PROJECT = """[project]
name = "ages"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "ages.flower_server:app"
clientapp = "ages.flower_client:app"
[tool.flwr.app.config]
sites = {sites}
result = "{result}"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def project(place: Path, sites: int) -> Path:
    """What a user has: an app with a pyproject.toml."""
    package = place / "app" / "ages"
    package.mkdir(parents=True)
    for name in ("flower_client.py", "flower_server.py"):
        shutil.copy(Path(__file__).with_name(name), package / name)
    (package / "__init__.py").touch()
    (place / "app" / "pyproject.toml").write_text(PROJECT.format(sites=sites, result=place / "result.json"))
    return place / "app"


def flower(name: str, *words: str) -> list[str]:
    return [str(Path(sys.executable).with_name(name)), *words]


def ask(place: Path, start: float) -> dict:
    """One `flwr run`; the answer is taken as soon as the server app has written it, before Flower has closed the run."""
    result = place / "result.json"
    result.unlink(missing_ok=True)
    start = start or time.perf_counter()
    subprocess.run(flower("flwr", "run", str(place / "app"), "bench"), check=True, **SAY)
    while not result.exists():
        if time.perf_counter() - start > 180:
            raise SystemExit("no answer from Flower within 180 seconds")
        time.sleep(0.01)
    return json.loads(result.read_text()) | {"seconds": time.perf_counter() - start}


def tell(what: dict) -> None:
    print("RESULT " + json.dumps(what), flush=True)


def connection(text: str) -> None:
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text('[superlink]\ndefault = "bench"\n[superlink.bench]\n' + text)


def deployment(place: Path, tables: list[Path]) -> None:
    port = free_port()
    connection(f'address = "{HOST}:{port}"\ninsecure = true\n')
    project(place, len(tables))
    running = []
    try:
        running.append(subprocess.Popen(flower("flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
                                               "--host", HOST, "--port", str(port)), start_new_session=True, **SAY))
        for k, table in enumerate(tables):
            running.append(subprocess.Popen(flower("flower-supernode", "--insecure", "--superlink", f"{HOST}:{port}", "--host", HOST,
                                                   "--port", str(free_port()), "--node-config", f'table="{table}" partition-id={k}'),
                                            start_new_session=True, **SAY))
        while True:
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                break
            time.sleep(0.05)
        started = time.perf_counter() - START
        tell(ask(place, START) | {"started": started})
        for _ in sys.stdin:
            time.sleep(REST)
            tell(ask(place, 0.0))
    finally:
        for process in running:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    deployment(folder, [Path(sys.argv[2]) / f"{site}.csv" for site in sys.argv[3].split(",")])
