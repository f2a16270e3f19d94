"""The same question on the same rows, to fedstats and to other software, side by side; prints a table, asserts nothing.

    FEDSTATS_PEERS=peers python -m tests.bench.bench_peers [cycles]

FEDSTATS_PEERS is a folder with one virtual environment per peer; a peer without one is skipped with a sentence:

    python -m venv peers/flare  && peers/flare/bin/pip  install nvflare==2.9.0 pandas
    python -m venv peers/flower && peers/flower/bin/pip install flwr==1.41.0 pandas

The question: n, mean, SD and a histogram of nine bins of one column, five sites of 20 000 patients. Everything is real processes on
loopback, one per site and one in the middle, set up as each project's own pages say; "simulator" is the project's way to try a
question on one machine. Each cycle starts a federation, asks, rests, asks twice more and ends it, one project after the other
(A B C A B C ...), so that what else the machine does falls on all of them. In peers/ beside this file, *_job.py, *_client.py and
*_server.py are what a user writes (their lines are counted); *_run.py start, ask and time. All traffic is on loopback, but the server of
NVIDIA FLARE's proof-of-concept mode listens on all addresses of the machine while it runs.
"""

from __future__ import annotations

import ast
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fedstats.data.tables import write_csv

HERE = Path(__file__).parent / "peers"
SITES, PATIENTS, WARM = [f"site-{k + 1}" for k in range(5)], 20_000, 2
LONGEST = 300.0                                # seconds for one run of one peer
FLARE_PORTS = (8002, 8003)                     # fixed by its proof-of-concept mode
WAYS = [("fedstats", "real"), ("flare", "poc"), ("flower", "deployment"), ("fedstats", "simulator"), ("flare", "simulator")]
TITLES = {"fedstats": "fedstats", "flare": "NVIDIA FLARE", "flower": "Flower"}
PACKAGES = {"flare": "nvflare", "flower": "flwr"}
WRITTEN = {"fedstats": ["fedstats_job.py"], "flare": ["flare_client.py", "flare_job.py"],
           "flower": ["flower_client.py", "flower_server.py"]}


def tables(folder: Path) -> np.ndarray:
    """Writes the sites' tables; returns all ages: the pooled truth."""
    random, ages = np.random.default_rng(1), []
    for site in SITES:
        ages.append(random.integers(18, 91, PATIENTS))
        write_csv(folder / f"{site}.csv", {"age": ages[-1], "days": random.integers(1, 3650, PATIENTS),
                                           "event": random.random(PATIENTS) < 0.4, "arm": random.choice(["a", "b", "c"], PATIENTS)})
    return np.concatenate(ages)


def lines(name: str) -> int:
    """Lines of code a user writes: without blank lines, comments and docstrings."""
    count = 0
    for file in WRITTEN[name]:
        text = (HERE / file).read_text()
        docs = {line for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        count += sum(k not in docs and bool(line.strip()) and not line.strip().startswith("#")
                     for k, line in enumerate(text.splitlines(), 1))
    return count


def python_of(name: str) -> Path | None:
    if name == "fedstats":
        return Path(sys.executable)
    folder = os.environ.get("FEDSTATS_PEERS")
    python = Path(folder).absolute() / name / "bin" / "python" if folder else None
    return python if python and python.exists() else None


def version(name: str) -> str:
    program = f"import importlib.metadata as m; print(m.version('{PACKAGES.get(name, name)}'))"
    return subprocess.run([str(python_of(name)), "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def run(name: str, how: str, data: Path, warm: int) -> list[dict]:
    """One federation from nothing to the end: the answers, the first one with everything that came before it."""
    if how == "poc":
        for port in FLARE_PORTS:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    raise RuntimeError(f"port {port} is in use")
    python = python_of(name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place, near = Path(folder), "127.0.0.1,localhost"
        env = os.environ | {"HOME": folder, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "NO_PROXY": near, "no_proxy": near,
                            "NVFLARE_POC_WORKSPACE": str(place / "poc"), "FLWR_HOME": str(place / "flower"), "FLWR_TELEMETRY_ENABLED": "0",
                            "FLWR_DISABLE_UPDATE_CHECK": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with (place / "log").open("w+") as log:
            command = [str(python), str(HERE / f"{name}_run.py"), str(place / "work"), str(data), ",".join(SITES), how]
            (place / "work").mkdir()
            done = subprocess.run(command, input="\n" * warm, stdout=subprocess.PIPE, stderr=log, text=True, timeout=LONGEST,
                                  env=env, cwd=place / "work")
            found = [json.loads(line.removeprefix("RESULT ")) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if done.returncode or len(found) != 1 + warm:
                log.seek(0)
                raise RuntimeError("; ".join((log.read().strip() or done.stdout).splitlines()[-3:]))
    return found


def difference(found: float, truth: float) -> str:
    return "0" if found == truth else f"{abs(found / truth - 1):.0e}"


def middle(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})" if seconds else "-"


def main() -> None:
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ways = [way for way in WAYS if python_of(way[0])]
    for name in PACKAGES:
        if not python_of(name):
            print(f"{TITLES[name]}: skipped, there is no virtual environment {name} in the folder FEDSTATS_PEERS")
    if len({name for name, _ in ways}) == 1:
        return
    found: dict[tuple[str, str], list[list[dict]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        ages = tables(data)
        for cycle in range(cycles):
            for name, how in ways:
                try:
                    found[name, how].append(run(name, how, data, 0 if how == "simulator" else WARM))
                except (RuntimeError, subprocess.TimeoutExpired) as problem:
                    print(f"{TITLES[name]} ({how}), cycle {cycle + 1}: {str(problem)[:300]}")
                else:
                    print(f"cycle {cycle + 1}: {TITLES[name]} ({how}) "
                          + ", ".join(f"{one['seconds']:.2f} s" for one in found[name, how][-1]), flush=True)
        exact = run("fedstats", "exact", data, 0)[0]
    counts, _ = np.histogram(ages, bins=9, range=(18, 90))
    truth = {"n": len(ages), "mean": float(ages.mean()), "sd": float(ages.std(ddof=1)), "counts": counts.tolist()}

    print(f"\n{cycles} cycles, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds: median (smallest-largest)")
    print("| | nothing to first answer | one warm question | of it from the server's first request to the result "
          "| relative difference mean, SD | histogram equal | lines |")
    print("|---|---|---|---|---|---|---|")
    middles = {}
    for (name, how), runs in found.items():
        if not runs:
            continue
        last, warm = runs[-1][-1], [one for many in runs for one in many[1:]]
        middles[name, how] = (statistics.median([many[0]["seconds"] for many in runs]),
                              statistics.median([one["seconds"] for one in warm]) if warm else None)
        print(f"| {TITLES[name]} {version(name)}, {how} | {middle([many[0]['seconds'] for many in runs])} "
              f"| {middle([one['seconds'] for one in warm])} | {middle([one['inside'] for one in warm if one['inside']])} "
              f"| {difference(last['mean'], truth['mean'])}, {difference(last['sd'], truth['sd'])} "
              f"| {last['counts'] == truth['counts'] and last['n'] == truth['n']} | {lines(name)} |")
    print(f"fedstats without rounding: mean {difference(exact['mean'], truth['mean'])}, SD {difference(exact['sd'], truth['sd'])}, "
          f"histogram equal {exact['counts'] == truth['counts']}")
    for (name, how), (first, warm) in middles.items():
        ours = middles.get(("fedstats", "simulator" if how == "simulator" else "real"))
        if name != "fedstats" and ours:
            print(f"{TITLES[name]} ({how}) / fedstats: first answer {first / ours[0]:.1f}"
                  + (f", warm {warm / ours[1]:.1f}" if warm and ours[1] else ""))
    print("\nwhat the party in the middle holds of single sites after the question:")
    sums = {site: int(part.sum()) for site, part in zip(SITES, np.split(ages, len(SITES)))}
    for (name, how), runs in found.items():
        if not runs:
            continue
        last = runs[-1][-1]
        if "seen" in last:
            right = sorted(one["sum"] for one in last["seen"].values()) == sorted(sums.values())
            print(f"  {TITLES[name]} ({how}): n and sum of {len(last['seen'])} single sites in the clear, "
                  f"{'equal to' if right else 'different from'} the sites' own: {list(last['seen'].items())[:2]} ...")
        elif memory := last.get("memory"):
            print(f"  {TITLES[name]} ({how}): sums of {len(memory['sites'])} of {len(SITES)} sites found in the coordinator's memory"
                  f" (control: the question's name found {memory['control']})")


if __name__ == "__main__":
    main()
