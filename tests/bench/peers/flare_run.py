"""Runs and times NVIDIA FLARE in its own environment; `bench_peers.py` starts it: python flare_run.py PLACE DATA SITES poc|simulator

A line of JSON when the first question is answered; then one question per line on standard input until it is closed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

START = time.perf_counter()
REST = 5.0        # seconds between questions, so that none waits for the end of the one before


def answer(result: Path, seconds: float) -> dict:
    """What the question found, and what of the single sites stands beside it in the server's file."""
    found = json.loads(next(result.rglob("ages.json")).read_text())["age"]
    everybody = {name: found[name]["Global"]["patients"] for name in ("count", "mean", "stddev", "histogram")}
    sites = [site for site in found["count"] if site != "Global"]
    flow = [datetime.strptime(re.findall(r"^\S+ \S+", line)[0], "%Y-%m-%d %H:%M:%S,%f")
            for log in result.rglob("log.txt") for line in log.read_text().splitlines() if re.search("control flow (started|end)", line)]
    return {"seconds": seconds, "inside": (flow[-1] - flow[0]).total_seconds() if len(flow) > 1 else None,
            "n": everybody["count"], "mean": everybody["mean"], "sd": everybody["stddev"],
            "counts": [one["sample_count"] if isinstance(one, dict) else one[-1] for one in everybody["histogram"]],
            "seen": {site: {"n": found["count"][site]["patients"], "sum": found["sum"][site]["patients"]} for site in sites}}


def tell(what: dict) -> None:
    print("RESULT " + json.dumps(what), flush=True)


def simulator(place: Path, recipe) -> None:
    from nvflare.recipe.sim_env import SimEnv

    sites = sys.argv[3].split(",")
    run = recipe.execute(SimEnv(clients=sites, num_threads=len(sites), workspace_root=str(place / "simulator")))
    tell(answer(Path(run.get_result(clean_up=False)), time.perf_counter() - START))


def poc(_: Path, recipe) -> None:
    from nvflare.recipe.prod_env import ProdEnv

    sites = sys.argv[3].split(",")
    command = str(Path(sys.executable).with_name("nvflare"))
    say = {"stdout": sys.stderr, "stderr": sys.stderr, "stdin": subprocess.DEVNULL}
    subprocess.run([command, "poc", "prepare", "-n", str(len(sites)), "--force"], check=True, **say)
    try:
        subprocess.run([command, "poc", "start"], check=True, **say)
        started = time.perf_counter() - START
        kit = str(next(Path(os.environ["NVFLARE_POC_WORKSPACE"]).rglob("admin@nvidia.com")))

        def ask() -> dict:
            start = time.perf_counter()
            env = ProdEnv(startup_kit_location=kit)
            run = recipe.execute(env)
            result = Path(run.get_result(timeout=180))
            return answer(result, time.perf_counter() - start)

        tell(ask() | {"started": started, "seconds": time.perf_counter() - START})
        for _ in sys.stdin:
            time.sleep(REST)
            tell(ask())
    finally:
        subprocess.run([command, "poc", "stop"], **say)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    from flare_job import question

    here = Path(sys.argv[1])
    {"poc": poc, "simulator": simulator}[sys.argv[4]](here, question(sys.argv[2], sys.argv[3].split(",")))
