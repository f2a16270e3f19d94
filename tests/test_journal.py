"""The journal: a query is used once for ever, and what was posted can only be posted again unchanged."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from fedstats.errors import FedstatsError, InputError
from nodes.journal import Journal
from nodes.lock import lock_path

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


FULL = """
import resource, sys
from fedstats.errors import FedstatsError
from nodes.journal import Journal
T, journal = b"T" * 32, Journal(sys.argv[1])
told = {"lyon": (b"m" * 16, 1), "turin": (b"m" * 16, 1)}
for act in (lambda: journal.claim(T, b"i" * 16), lambda: journal.witness(T, told), lambda: journal.post(T, "k", bytes(100_000)),
            lambda: journal.close(T, "failed")):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        act()
    except FedstatsError as error:
        print("journal" in str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    act()
print(journal.witness(b"U" * 32, told) == ("lyon", "turin"), journal.open_queries())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_a_disk_that_is_full_is_told_by_whatever_is_written_and_forgotten_once_there_is_room(path):
    """The end of a transaction is where it shows, too: our error, nothing half written, and the next time it is written."""
    child = subprocess.run([sys.executable, "-c", FULL, str(path)], env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True,
                           text=True)

    assert child.stdout.splitlines() == ["True"] * 4 + ["True []"], child.stderr


def test_a_journal_in_memory_is_a_journal():
    """Simulations keep it in memory."""
    journal = Journal()

    assert journal.claim(T, ID) and not journal.claim(T, ID)


# -- one node, one journal, one key ------------------------------------------------------------------------------------------------


HOLDER = """
import sys
from nodes.journal import Journal
try:
    journal = Journal(sys.argv[1], sys.argv[2] or None)
except Exception as error:
    print(type(error).__name__, error, error.hint, flush=True)
else:
    print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start():
    """Start another process that opens a journal under a key; returns it and what it says."""
    running = []

    def begin(path, key=""):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path), str(key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
        running.append(process)
        return process, process.stdout.readline().strip()

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def test_a_second_process_on_one_journal_is_told_who_has_it(path, start):
    """Process, machine and start of the first, and what to do; when the first is gone, also by force, nothing is in the way."""
    first, says = start(path)
    assert says == "holds"
    _, says = start(path)
    who = f"process {first.pid} on {socket.gethostname()}, since 2"
    assert says.startswith(f"InputError the journal {path} is in use by another node: {who}")
    assert says.endswith("stop the other one first")
    with pytest.raises(InputError, match=f"process {first.pid} on"):
        Journal(path)
    first.kill()
    first.wait()

    assert lock_path(path).exists() and start(path)[1] == "holds"


def test_a_second_process_with_one_key_is_told_who_has_it(tmp_path, start):
    """Two journals, one key: a copied folder that still names the first one's key."""
    key = tmp_path / "lyon.key"
    first, says = start(tmp_path / "a.sqlite", key)
    assert says == "holds"
    second, says = start(tmp_path / "b.sqlite", key)

    assert says.startswith(f"InputError the key {key} is in use by another node: process {first.pid} on")
    assert start(tmp_path / "b.sqlite", tmp_path / "turin.key")[1] == "holds"      # the refused one has let go of the journal
    assert second.poll() is None


def test_a_symbolic_link_is_the_same_journal(path, tmp_path, start):
    """Another name of the folder does not make another journal."""
    (tmp_path / "other").symlink_to(tmp_path, target_is_directory=True)
    assert start(path)[1] == "holds"

    assert "in use" in start(tmp_path / "other" / path.name)[1]


@pytest.mark.parametrize("left", [b"", b"process 1 on elsewhere, since 2001\n", b"\xff\x00" * 500])
def test_a_lock_file_that_nobody_holds_stops_nobody(path, left):
    """What a dead process, another machine or an accident left in it."""
    lock_path(path).write_bytes(left)
    journal = Journal(path)

    assert journal.claim(T, ID) and f"process {os.getpid()} on" in lock_path(path).read_text()


def test_within_a_process_a_journal_is_free_when_all_have_shut_it(path, start):
    """The last one that lets go frees it; one that was forgotten is freed with its object."""
    journals = [Journal(path), Journal(path)]
    journals.pop().shut()
    assert "in use" in start(path)[1]
    journals.clear()

    assert start(path)[1] == "holds"


def test_a_key_in_a_folder_that_cannot_be_written_to_is_no_obstacle(path, tmp_path, monkeypatch):
    """Secrets are often mounted read-only: the journal's own lock remains."""
    opened = os.open

    def refuse(place, *args, **kwargs):
        if str(place).endswith("lyon.key.lock"):
            raise PermissionError(30, "read-only")
        return opened(place, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)

    assert Journal(path, tmp_path / "lyon.key").claim(T, ID)


# -- copies ---------------------------------------------------------------------------------------------------------------------------


def test_a_journal_counts_its_queries_and_has_a_mark(path):
    """Numbers go up by one; the mark stays with the file."""
    journal = Journal(path)
    mark = journal.mark
    for k in range(3):
        journal.claim(bytes([k]) * 32, bytes([k]) * 16)
    assert [journal.number(bytes([k]) * 32) for k in range(4)] == [1, 2, 3, 0]
    journal.shut()

    assert Journal(path).mark == mark and Journal(path.with_name("b.sqlite")).mark != mark


def test_two_queries_under_one_number_show_a_copy(path):
    """Retries, other orders and new journals do not."""
    journal, mark, U = Journal(path), b"m" * 16, b"U" * 32
    assert journal.witness(T, {"lyon": (mark, 7), "turin": (mark, 7)}) == ()
    assert journal.witness(T, {"lyon": (mark, 7)}) == ()
    assert journal.witness(b"V" * 32, {"lyon": (mark, 6)}) == ()
    assert journal.witness(U, {"lyon": (b"n" * 16, 7), "turin": (mark, 8)}) == ()

    assert journal.witness(U, {"lyon": (mark, 7), "turin": (mark, 7), "oslo": (mark, 7)}) == ("lyon", "turin")
