"""Waiting for processes by what they do: the slow get time, the dead and the idle are named."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from fedstats.cli import main
from fedstats.demo import laptop, waiting
from fedstats.demo.logs import keeping
from fedstats.demo.waiting import Watch
from fedstats.errors import InputError, Unreachable

from . import flat_registries

BUSY = "print(flush=True)\nwhile True: pass"
IDLE = "import time; print(flush=True); time.sleep(600)"
SOON = 4.0              # seconds of doing nothing that are too long in these tests


class Hands:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch(tmp_path):
    """A watch with a clock set by hand; what it starts ends with the test."""
    said = []
    here = Watch({}, lambda name: tmp_path / f"{name}.log", said.append, Hands())
    here.said = said
    yield here
    for process in here.running.values():
        process.kill()
        process.wait()
        process.stdout.close()


def start(program, **options):
    words = [sys.executable, "-S", "-c", program]
    return subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, **options)


def begin(watch, **programs):
    """Start programs of Python and look at them once."""
    for name, program in programs.items():
        watch.running[name] = start(program)
        watch.running[name].stdout.readline()       # it has begun
    watch.begin()
    watch.look(list(programs), "answering")


def after(watch, seconds):
    watch.clock.now += seconds


# -- one process ----------------------------------------------------------------------------------


def test_a_busy_process_is_given_time(watch):
    """However slow the machine is: what uses the processor, or waits for its turn, gets on."""
    begin(watch, calgary=BUSY)
    for _ in range(5):
        after(watch, 0.9 * waiting.LONGEST_SECONDS / 5)
        watch.look(["calgary"], "answering", each=True)


def test_a_process_that_does_nothing_is_told(watch, tmp_path):
    """It is alive and waits for something that never comes; the log and its place are named."""
    begin(watch, calgary=IDLE)
    (tmp_path / "calgary.log").write_text("one\ntwo\nthree\nfour\n")
    waits(watch, "calgary")
    watch.begin()
    watch.look(["calgary"], "answering")
    after(watch, waiting.STILL_SECONDS + 1)
    with pytest.raises(Unreachable, match="answering, but did nothing for 60 s") as caught:
        watch.look(["calgary"], "answering")

    assert caught.value.hint == f"two; three; four (log: {tmp_path / 'calgary.log'})"


def waits(watch, *names):
    """Until these are asleep."""
    for name in names:
        while waiting._state(watch.running[name].pid)[:1] != "S":
            time.sleep(0.02)


def test_one_that_gets_on_is_enough_where_the_others_wait_for_it(watch):
    """In a query nodes wait for each other; at the start each has its own work."""
    begin(watch, aarhus=BUSY, bari=IDLE)
    waits(watch, "bari")
    watch.begin()
    watch.look(["aarhus", "bari"], "answering")
    after(watch, waiting.STILL_SECONDS + 1)
    watch.look(["aarhus", "bari"], "answering")
    with pytest.raises(Unreachable, match=r"^bari is starting, but did nothing"):
        watch.look(["aarhus", "bari"], "starting", each=True)


def test_a_stopped_process_is_named(watch):
    begin(watch, aarhus=IDLE, calgary=BUSY)
    waits(watch, "aarhus")
    watch.running["calgary"].send_signal(signal.SIGSTOP)
    while waiting._state(watch.running["calgary"].pid)[:1] != waiting.STOPPED:
        time.sleep(0.02)
    watch.begin()
    watch.look(["aarhus", "calgary"], "answering")
    after(watch, waiting.STILL_SECONDS + 1)
    with pytest.raises(Unreachable, match=r"^calgary is stopped by somebody"):
        watch.look(["aarhus", "calgary"], "answering")


def test_a_process_that_ends_is_told_at_once(watch, tmp_path):
    """No second passes on the clock; the one that ended is named, not those that are waited for."""
    begin(watch, aarhus=BUSY, bari=IDLE)
    (tmp_path / "bari.log").write_text("no space left\n")
    watch.running["bari"].kill()
    watch.running["bari"].wait()
    with pytest.raises(Unreachable, match=r"bari ended while aarhus is answering \(exit") as caught:
        watch.look(["aarhus"], "answering")

    assert "no space left" in caught.value.hint
    watch.begin()                       # known to be gone: no reason not to wait for another one
    watch.look(["aarhus"], "answering")


def test_even_what_is_busy_ends_at_last(watch):
    begin(watch, calgary=BUSY)
    after(watch, waiting.LONGEST_SECONDS + 1)
    with pytest.raises(Unreachable, match="too long"):
        watch.look(["calgary"], "answering")


def test_what_is_slow_is_said(watch, tmp_path):
    """Who, since when, and what its log said last; not more often than every ten seconds."""
    begin(watch, calgary=BUSY)
    lines = ("reading the tables", "compiling kernels")
    text = "".join(f"2026-01-01 10:00:00,000 INFO {one}\n" for one in lines)
    (tmp_path / "calgary.log").write_text(text)
    for seconds in (5, 35, 5):
        after(watch, seconds)
        watch.look(["calgary"], "starting")

    assert watch.said == ["calgary is starting, 40 s so far: compiling kernels"]


def test_a_program_that_asks_is_ended_when_the_others_are(watch):
    """The analyst's command does not wait for a node that has gone."""
    begin(watch, calgary=BUSY)
    watch.running["calgary"].kill()
    asking = start(IDLE, stderr=subprocess.PIPE, text=True)
    watch.running["calgary"].poll()
    with pytest.raises(Unreachable, match="calgary ended"), asking:
        watch.finish(asking, ["calgary"], "answering")

    assert asking.returncode is not None


@pytest.mark.parametrize(("text", "seconds"), [
    ("0:01.23", 1.23), ("00:00:12", 12.0), ("1-02:03:04", 93_784.0), ("", 0.0)])
def test_the_clock_of_ps_is_read(text, seconds):
    """Where there is no /proc: minutes and hundredths on macOS, hours and days elsewhere."""
    assert waiting._clock(text) == pytest.approx(seconds)


def test_ps_says_what_proc_says(watch, monkeypatch):
    if not os.path.isdir("/proc") or not waiting._ps(os.getpid(), "stat"):
        pytest.skip("needs /proc and ps")
    begin(watch, calgary=IDLE)
    waits(watch, "calgary")
    pid = watch.running["calgary"].pid
    state, used = waiting._state(pid)[:1], waiting.used_seconds(pid)
    monkeypatch.setattr(waiting, "_stat", lambda pid: [])

    assert waiting._state(pid)[:1] == state == "S"
    assert waiting.used_seconds(pid) == pytest.approx(used, abs=1.0)        # ps knows whole seconds


# -- a federation ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    tables = flat_registries.registries(3, sites=3, patients=360)
    laptop.prepare(tmp_path / "fed", tables, flat_registries.DICTIONARY)
    return tmp_path / "fed"


@pytest.fixture
def slowed(tmp_path, monkeypatch):
    """Make one party do something first: slowed(name, statements)."""
    def slow(name, statements):
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook" / "sitecustomize.py").write_text(
            f"import sys, time\nif {name!r} in ' '.join(sys.orig_argv):\n"
            + "".join(f"    {one}\n" for one in statements))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    monkeypatch.setattr(waiting, "STILL_SECONDS", SOON)
    monkeypatch.setattr(waiting, "TELL_SECONDS", 1.0)
    return slow


@pytest.mark.network
def test_a_node_that_needs_longer_than_it_may_be_still_comes_up(folder, slowed):
    """It computes before it is ready, as when everything is compiled anew; somebody is told."""
    work = f"until = time.process_time() + {SOON + 1}", "while time.process_time() < until: pass"
    slowed("bari/node.toml", work)
    said = []
    with laptop.Laptop(folder, slow=said.append) as here:
        assert set(here.alive()) == {laptop.COORDINATOR, *here.registries}

    assert any("bari is starting, " in one for one in said)


@pytest.mark.network
def test_a_node_that_dies_at_the_start_is_told_with_its_last_words(folder, slowed):
    slowed("bari/node.toml", ["sys.exit('numba is broken here')"])
    here = laptop.Laptop(folder, logs=folder.parent)
    with pytest.raises(Unreachable, match=r"bari did not start \(exit code 1\)") as caught:
        here.__enter__()

    assert "numba is broken here" in caught.value.hint
    assert str(folder.parent / "bari.log") in caught.value.hint
    assert not here.alive()


@pytest.mark.network
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_node_that_is_stopped_is_named_unless_it_goes_on(folder, slowed, monkeypatch, goes_on):
    """A pause is no end; a pause without an end is."""
    spawn = laptop.Laptop._spawn

    def paused(self, name):
        spawn(self, name)
        if name == "bari":
            self.running[name].send_signal(signal.SIGSTOP)
            if goes_on:
                threading.Timer(1.0, self.running[name].send_signal, [signal.SIGCONT]).start()

    monkeypatch.setattr(laptop.Laptop, "_spawn", paused)
    here = laptop.Laptop(folder)
    if goes_on:
        with here:
            assert "bari" in here.alive()
    else:
        with pytest.raises(Unreachable, match="bari is stopped by somebody"):
            here.__enter__()

    assert not here.alive()


def test_a_port_that_is_taken_is_said_at_once(folder):
    here = laptop.Laptop(folder)
    with socket.socket() as other:
        other.bind((laptop.HOST, here.port))
        other.listen()
        with pytest.raises(Unreachable, match="coordinator did not start") as caught:
            here.__enter__()

    assert f"cannot listen on {laptop.HOST}:{here.port}" in caught.value.hint


# -- what stays -----------------------------------------------------------------------------------


def fail(out, keep, error):
    """Run into an error after a process has written its log."""
    with keeping(out, keep) as logs:
        (logs / "calgary.log").write_text("said\n")
        if error:
            raise error


def test_logs_stay_where_something_failed_and_are_named(tmp_path):
    with pytest.raises(Unreachable) as caught:
        fail(tmp_path / "out", None, Unreachable("no answer", hint="see that these nodes run"))

    assert (tmp_path / "out" / "logs" / "calgary.log").read_text() == "said\n"
    assert caught.value.hint == f"see that these nodes run; logs: {tmp_path / 'out' / 'logs'}"


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_logs_go_where_nothing_failed(tmp_path, error):
    """All went well, or somebody pressed Ctrl-C: no logs; with --keep they stay with the rest."""
    for keep in (None, tmp_path / "keep"):
        with contextlib.suppress(KeyboardInterrupt):
            fail(tmp_path / "out", keep, error)

    assert list((tmp_path / "out").iterdir()) == []
    assert (tmp_path / "keep" / "calgary.log").exists()


def test_a_full_disk_is_said_in_a_sentence(tmp_path):
    """And a line that breaks is not taken for one."""
    with pytest.raises(InputError, match=r"patients.csv cannot be written: No space left"):
        fail(tmp_path / "out", None, OSError(errno.ENOSPC, "No space left", "patients.csv"))
    with pytest.raises(ConnectionResetError):
        fail(tmp_path / "out", None, ConnectionResetError(errno.ECONNRESET, "reset"))


def test_an_output_folder_that_cannot_be_is_said_first(tmp_path, capsys, monkeypatch):
    """Before the work, not after it."""
    monkeypatch.setattr("fedstats.demo.study.registries", lambda told: pytest.fail("it began"))
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["demo", "--out", str(out)]) == 2
        assert "cannot be written" in capsys.readouterr().err
