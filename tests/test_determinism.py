"""Nodes on different machines derive bit-identical questions: whatever computes the next ask uses nothing that depends on a processor.

One script drives all joint halves on the same totals, in processes with different linear algebra kernels, numbers of threads and
numpy instruction sets, and prints the digest of the asks of every round and of the decisions at the end. The totals are recorded on
this machine and replayed on the others: local halves may use anything, and sums of doubles differ in their last bit.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
from pathlib import Path
import msgspec
import numpy as np
from fedstats import Dictionary, Rules; from fedstats.query import driver, rounds
from fedstats.data.rows import load
from fedstats.query.population import Whole
from fedstats.wire.transcript import decisions_of
from tests import every
from tests.questions import every_question

dictionary = Dictionary.from_dict(every.DICTIONARY)
rng = np.random.default_rng(20260101)
record = Path(sys.argv[1])
replay = iter(msgspec.msgpack.decode(record.read_bytes())) if record.exists() else None
heard = []

def answer(asks):
    if replay is not None:
        return [{name: np.array(values, dtype=kind).reshape(shape) for name, (kind, shape, values) in sums.items()}
                for sums in next(replay)]
    totals = rounds.pooled(asks, many, dictionary, 1200)
    heard.append([{name: (block.dtype.str, block.shape, block.ravel().tolist()) for name, block in sums.items()} for sums in totals])
    return totals

many = [load(every.random_rows(int(n), rng), dictionary)[0] for n in (400, 300, 500)]
for rules in (Rules(min_cell=5, min_cohort=20), Rules(min_cell=1, min_cohort=1, min_registries=1, show_zeros=True, rounding=False)):
    for question in [[one] for one in every_question()] + [every_question()]:
        steps = driver.query(question, Whole(dictionary), rules, 3)
        asks, r = next(steps), 0
        try:
            while True:
                print(r, question[0].analysis if len(question) == 1 else "all", rounds.digest(asks).hex())
                asks, r = steps.send(answer(asks)), r + 1
        except StopIteration as done:
            print("decisions", decisions_of(done.value).hex())
        except Exception as error:
            print("ended:", type(error).__name__)
if replay is None:
    record.write_bytes(msgspec.msgpack.encode(heard))
"""
MACHINES = {
    "old kernel, one thread": {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
    "AVX2 kernel, two threads": {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "2"},
    "AMD kernel, no AVX512 in numpy": {"OPENBLAS_CORETYPE": "Zen", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512_SKX", "PYTHONHASHSEED": "3"},
    "AVX512 kernel, plain numpy": {"OPENBLAS_CORETYPE": "SkylakeX", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX",
                                   "PYTHONHASHSEED": "4"},
}


def digests(settings, record):
    """What the script prints on such a machine; None if this processor cannot play it. record : file of the totals, written if absent."""
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT, str(record)], cwd=ROOT, env=os.environ | settings,
                           capture_output=True, text=True)
    if found.returncode and ("CPU features" in found.stderr or found.returncode < 0):
        return None
    assert found.returncode == 0, found.stderr[-2000:]
    return found.stdout.splitlines()


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return tmp_path_factory.mktemp("totals") / "totals.msgpack"


@pytest.fixture(scope="module")
def here(record):
    return digests({}, record)


def test_every_analysis_has_a_round_in_the_comparison(here):
    """The script reaches the asks of every analysis, beyond round 0."""
    from fedstats.query.analysis import ANALYSES

    from . import questions  # noqa: F401  (registers the analyses)

    assert {line.split()[1] for line in here if line.startswith("1 ")} >= set(ANALYSES)


@pytest.mark.parametrize("machine", MACHINES)
def test_asks_are_the_same_on_every_machine(here, record, machine):
    """Other kernels, threads and instruction sets: the same digests of asks and decisions, with and without rules."""
    found = digests(MACHINES[machine], record)
    if found is None:
        pytest.skip("this processor cannot run these instructions")

    assert found == here
