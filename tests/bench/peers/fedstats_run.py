"""Runs and times fedstats as the peers are timed; `bench_peers.py` starts it: python fedstats_run.py PLACE DATA SITES real|exact|simulator

real: a coordinator and the nodes as processes, default release rules. exact: the same without rounding. simulator: one process.
A line of JSON when the first question is answered; then one question per line on standard input until it is closed.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

START = time.perf_counter()
REST = 5.0        # seconds between questions, so that none waits for the end of the one before


def answer(results, seconds: float) -> dict:
    summary, histogram = results
    column = summary.columns[0]
    return {"seconds": seconds, "inside": None, "n": column.n, "mean": column.mean, "sd": column.sd,
            "counts": [one.count for one in histogram.bins]}


def forms(number: int) -> list[bytes]:
    """A total as it would lie in memory in the clear: 64-bit integer, 64-bit float, msgpack, decimal digits."""
    import numpy as np

    return [np.int64(number).tobytes(), np.float64(number).tobytes(), b"\xce" + number.to_bytes(4, "big"), str(number).encode()]


def search(pid: int, wanted: dict[str, list[bytes]]) -> dict[str, bool]:
    """Which of some byte strings are in the readable and writable memory of a process."""
    found = dict.fromkeys(wanted, False)
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if low_high := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line):
                low, high = (int(part, 16) for part in low_high.groups())
                try:
                    memory.seek(low)
                    content = memory.read(high - low)
                except (OSError, ValueError, OverflowError):
                    continue
                for name, patterns in wanted.items():
                    found[name] = found[name] or any(pattern in content for pattern in patterns)
    return found


def seen(pid: int, data: Path, sites: list[str]) -> dict | None:
    """What the coordinator's memory holds of the sites' sums; `control` is a string that it must hold, or the search is worth nothing."""
    from fedstats.data.tables import columns_of

    wanted = {site: forms(int(sum(int(age) for age in columns_of(data / f"{site}.csv")["age"]))) for site in sites}
    try:
        found = search(pid, wanted | {"control": [b"summary/1"]})
    except OSError:
        return None
    return {"control": found.pop("control"), "sites": sorted(site for site, there in found.items() if there)}


def tell(what: dict) -> None:
    print("RESULT " + json.dumps(what), flush=True)


def real(place: Path, data: Path, sites: list[str], rounding: bool) -> None:
    import fedstats
    from fedstats import Rules
    from fedstats.demo.laptop import COORDINATOR, Laptop, prepare

    prepare(place, {site: data / f"{site}.csv" for site in sites}, DICTIONARY, rules=Rules(rounding=rounding))
    with Laptop(place) as here, fedstats.connect(here.consortium, key=here.key) as fed:
        started = time.perf_counter() - START

        def ask() -> dict:
            start = time.perf_counter()
            return answer(question(fed), time.perf_counter() - start)

        tell(ask() | {"started": started, "seconds": time.perf_counter() - START})
        for _ in sys.stdin:
            time.sleep(REST)
            found = ask()
            tell(found | {"memory": seen(here.running[COORDINATOR].pid, data, sites)})


def simulator(data: Path, sites: list[str]) -> None:
    import fedstats

    fed = fedstats.simulate({site: data / f"{site}.csv" for site in sites}, dictionary=DICTIONARY)
    found = question(fed)
    tell(answer(found, time.perf_counter() - START))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from fedstats_job import DICTIONARY, question

    folder, rows, names, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(","), sys.argv[4]
    simulator(rows, names) if how == "simulator" else real(folder, rows, names, how == "real")
