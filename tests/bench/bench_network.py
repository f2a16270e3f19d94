"""How long a sealed question takes over real processes on loopback: prints seconds, asserts nothing about time.

    python -m tests.bench.bench_network             # the cost of a sealed question
    python -m tests.bench.bench_network attacks     # the same while strangers attack the coordinator
    python -m tests.bench.bench_network two [TIMES] # two coordinators, one of which goes or returns

Five registries of 20 000 patients each; Kaplan-Meier by group on a 30-day grid over ten years, warm (the first query is not counted),
beside the same question pooled in one process. Then the idle round trip of a signed request, a long-poll's wake-up, and start times.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

import fedstats
from fedstats import Rules
from fedstats.demo.laptop import Laptop, prepare

DICTIONARY = {"name": "bench", "variables": [
    {"name": "days", "type": "integer", "range": [0, 3650], "unit": "days", "cut_points": {"from": 0, "to": 3650, "step": 30}},
    {"name": "event", "type": "boolean"}, {"name": "arm", "type": "category", "levels": ["a", "b", "c"]},
    {"name": "age", "type": "integer", "range": [18, 90], "unit": "years"}]}
PATIENTS, REGISTRIES, RUNS = 20_000, 5, 7


def tables() -> dict:
    random = np.random.default_rng(1)
    return {f"r{k}": {"days": random.integers(1, 3650, PATIENTS), "event": random.random(PATIENTS) < 0.4,
                      "arm": random.choice(["a", "b", "c"], PATIENTS), "age": random.integers(18, 91, PATIENTS)} for k in range(REGISTRIES)}


def timed(work) -> list[float]:
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return found


def line(name: str, seconds: list[float], unit: str = "s", factor: float = 1.0) -> None:
    low, middle, high = (factor * f(seconds) for f in (min, statistics.median, max))
    print(f"{name:58s} min {low:8.3f}  median {middle:8.3f}  max {high:8.3f} {unit}")


def wake_up(fed: fedstats.Federation) -> float:
    """Seconds from the posting of a query until the admission of the first registry lies in the analyst's mailbox.

    Asked for again and again, as an admission alone does not wake its reader.
    """
    from fedstats.wire.analyst import Analyst

    world = fed._world
    analyst = Analyst(world.me, world.roster, random=__import__("os").urandom)
    question = fed.cohort().question.summary(["age"]).question
    first = analyst.start([question], {"all": []}, world.registries, purpose="", now=time.time(), lifetime=60.0)
    world.link.post(bytes(first))
    start = time.perf_counter()
    while not world.link.mail(0, 0.0, analyst.T):
        pass
    seconds = time.perf_counter() - start
    time.sleep(0.5)             # until this query is over, which the next one would wait for
    return seconds


def main() -> None:
    data = tables()
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, data, DICTIONARY, rules=Rules())
        with Laptop(folder) as here, fedstats.connect(here.consortium, key=here.key) as fed:
            cohort = fed.cohort()
            cohort.summary(["age"])                                 # warm
            ask = {"time": "days", "event": "event", "by": "arm"}
            cohort.kaplan_meier(**ask)
            sealed = timed(lambda: cohort.kaplan_meier(**ask))
            pooled = fedstats.pooled(data, dictionary=DICTIONARY, rules=Rules()).cohort()
            plain = timed(lambda: pooled.kaplan_meier(**ask))
            line(f"Kaplan-Meier by arm, sealed, {REGISTRIES} x {PATIENTS} patients", sealed)
            line("  the same, pooled in one process", plain)
            print(f"  ratio of medians {statistics.median(sealed) / statistics.median(plain):.1f}")
            line("summary of one column, sealed", timed(lambda: cohort.summary(["age"])))
            line("idle signed round trip", timed(lambda: fed._world.link.progress(bytes(32))), "ms", 1e3)
            line("query posted -> first admission in the mailbox", [wake_up(fed) for _ in range(RUNS)], "ms", 1e3)
    for name, program in (("import fedstats and its analyses", "import fedstats; fedstats.pooled"),
                          ("import of a node", "import nodes.service"), ("fedstats --help", "import fedstats.cli")):
        line(name, timed(lambda program=program: subprocess.run([sys.executable, "-c", program], check=True)))


ATTACK_SECONDS = 15.0


@contextlib.contextmanager
def hammering(threads: int, work: Callable[[], None]) -> Iterator[None]:
    """`threads` strangers who do something again and again, until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                work()

    all_of_them = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for one in all_of_them:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in all_of_them:
            one.join(10)


@contextlib.contextmanager
def holding(port: int, count: int, sent: bytes) -> Iterator[None]:
    """`count` connections that say so much and no more; closed ones are made again."""
    crowd: list[socket.socket] = []

    def call() -> None:
        if len(crowd) >= count:
            crowd.pop(0).close()
            time.sleep(0.01)
        near = socket.create_connection(("127.0.0.1", port), timeout=5)
        crowd.append(near)
        near.sendall(sent)

    with hammering(1, call):
        yield
    for one in crowd:
        one.close()


def attacks() -> None:
    """Median seconds of a question, undisturbed and under attack, and the most memory of the coordinator."""
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, {name: {key: value[:2000] for key, value in table.items()}
                         for name, table in tables().items()}, DICTIONARY, rules=Rules())
        with Laptop(folder) as here, fedstats.connect(here.consortium, key=here.key) as fed:
            port, cohort = here.port, fed.cohort()
            memory = f"/proc/{here.running['coordinator'].pid}/statm"
            head = b"POST /v1/parcels HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

            def bad_request() -> None:
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                line.request("POST", "/v1/parcels", b"x")
                line.getresponse().read()
                line.close()

            def flood() -> None:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as near:
                    near.sendall(head % (128 << 20))
                    for _ in range(128):
                        near.sendall(bytes(1 << 20))

            def measure(name: str, attack: contextlib.AbstractContextManager) -> float:
                seconds, most, until = [], 0, time.monotonic() + ATTACK_SECONDS
                with attack:
                    time.sleep(1.0)
                    while time.monotonic() < until:
                        start = time.perf_counter()
                        cohort.summary(["age"])
                        seconds.append(time.perf_counter() - start)
                        with open(memory) as file:
                            most = max(most, int(file.read().split()[1]) * 4096)
                line(f"{name} ({len(seconds)} questions, {most / 1e6:.0f} MB)", seconds)
                return statistics.median(seconds)

            calm = measure("undisturbed", contextlib.nullcontext())
            for name, attack in {
                    "1 000 bodies that never come": holding(port, 1000, head % 1000),
                    "2 000 half heads": holding(port, 2000, b"GET / HTTP/1.1\r\nX: " + b"a" * 8000),
                    "2 000 silent connections": holding(port, 2000, b""),
                    "bad requests from one address": hammering(4, bad_request),
                    "bodies of 128 MB": hammering(4, flood)}.items():
                print(f"  ratio of medians {measure(name, attack) / calm:.2f}")


def two(times: int = 100, seed: int = 1) -> None:
    """Either of two coordinators goes or returns, drawn by a seed; a question is asked at once."""
    from tests.hub import World

    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"
    draw, seconds, wrong = random.Random(seed), [], 0
    with World(2) as world:
        right = world.pooled()["age"]
        for _ in range(times):
            hub = draw.choice(world.hubs)
            for other in world.hubs:
                if other.server is None:
                    other.start(world.roster, world.round_seconds)
                    hub = None
            if hub is not None:
                hub.stop()
            start = time.perf_counter()
            try:
                wrong += world.ask()["age"] != right
            except fedstats.errors.FedstatsError as error:
                wrong += 1
                print(error)
            seconds.append(time.perf_counter() - start)
    line(f"two coordinators, {times} kills and returns, {wrong} not right", seconds)


if __name__ == "__main__":
    what, *more = sys.argv[1:] or ["cost"]
    {"cost": main, "attacks": attacks, "two": two}[what](*map(int, more))
