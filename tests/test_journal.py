"""The journal: a query is used once for ever, and what was posted can only be posted again unchanged."""

import os
import subprocess
import sys
import threading

import pytest

from fedstats.errors import FedstatsError, InputError
from nodes.journal import Journal

T, ID = b"T" * 32, b"i" * 16


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def test_a_query_is_claimed_once(path):
    """The same bytes again, and the same id in other bytes, are no longer free; another query is."""
    journal = Journal(path)

    assert journal.claim(T, ID)
    assert not journal.claim(T, ID) and not journal.claim(T, b"j" * 16) and not journal.claim(b"U" * 32, ID)
    assert journal.claim(b"U" * 32, b"j" * 16)


def test_a_claim_outlives_the_process(path):
    """After a restart a used query stays used, also one that has ended."""
    journal = Journal(path)
    journal.claim(T, ID)
    journal.close(T, "released")
    journal.shut()

    assert not Journal(path).claim(T, ID)


def test_a_claim_outlives_a_crash(path):
    """A process killed right after its claim has not forgotten it: the line is on disk before anything is done."""
    code = (f"import os\nfrom nodes.journal import Journal\nj = Journal({str(path)!r})\n"
            f"j.claim({T!r}, {ID!r})\nj.post({T!r}, 'k', b'x')\nos._exit(9)")
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.getcwd()}).returncode == 9
    journal = Journal(path)

    assert not journal.claim(T, ID) and journal.posted(T, "k") == b"x" and journal.open_queries() == [T]


def test_only_the_same_bytes_may_be_posted_again(path):
    """A retry sends the stored bytes; other bytes under the same key are stopped, also after the query has ended."""
    journal = Journal(path)
    journal.post(T, "round 0", b"sealed")
    journal.post(T, "round 0", b"sealed")
    assert journal.posted(T, "round 0") == b"sealed"
    with pytest.raises(FedstatsError, match="second posting"):
        journal.post(T, "round 0", b"other")
    journal.close(T, "failed")
    with pytest.raises(FedstatsError, match="second posting"):
        journal.post(T, "round 0", b"other")

    journal.post(T, "round 1", b"other")
    journal.post(b"U" * 32, "round 0", b"other")


def test_an_ended_query_keeps_digests_and_no_ciphertexts(path):
    """Nothing sealed stays on disk once a query is over."""
    journal = Journal(path)
    journal.claim(T, ID)
    journal.post(T, "round 0", b"sealed")
    assert journal.open_queries() == [T]
    journal.close(T, "released")

    assert journal.posted(T, "round 0") is None and journal.open_queries() == []


def test_of_two_threads_one_gets_the_query(path):
    """A claim is atomic, within a process and between two."""
    journals, won = [Journal(path), Journal(path)], []

    def race(journal, k):
        won.extend((k, n) for n in range(20) if journal.claim(n.to_bytes(32, "big"), n.to_bytes(16, "big")))

    threads = [threading.Thread(target=race, args=(journals[k % 2], k)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(n for _, n in won) == list(range(20))


def test_a_journal_that_cannot_be_opened_is_named(tmp_path):
    """A folder that is not there, or a folder instead of a file."""
    for path in (tmp_path / "no" / "journal.sqlite", tmp_path):
        with pytest.raises(InputError, match="the journal"):
            Journal(path)


def test_a_journal_that_cannot_be_written_stops_everything(path):
    """No claim, no posting and no ending without its line: the error is ours and names no content."""
    journal = Journal(path)
    journal._db.execute("PRAGMA query_only = ON")
    for act in (lambda: journal.claim(T, ID), lambda: journal.post(T, "round 0", b"sealed"), lambda: journal.close(T, "failed")):
        with pytest.raises(FedstatsError, match="journal"):
            act()


def test_a_journal_in_memory_is_a_journal():
    """Simulations keep it in memory."""
    journal = Journal()

    assert journal.claim(T, ID) and not journal.claim(T, ID)
