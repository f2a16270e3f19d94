"""One node, one journal, one key: a lock that a second process meets, and that dies with its
holder.

How this works. Beside the file stands FILE.lock with the holder's process, machine and start in it,
for people to read. What holds is the system's lock on that file: it goes with the process however
that ends, so what a dead process has left behind stops nobody. Within one process several may use
the file: the journal's own claims keep them apart."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import sys
import threading
from pathlib import Path

from fedstats.errors import InputError

LONGEST_WORD = 300  # bytes of a lock file that are read
_guard = threading.Lock()
_held: dict[Path, list[int]] = {}  # lock file -> [its open file, how many in this process use it]


def lock_path(path: str | Path) -> Path:
    return Path(f"{path}.lock")


def hold(path: str | Path, what: str) -> None:
    """Take the lock of a file for this process. what : the file in words. Raises InputError that
    names the holder; OSError where no
    lock file can be written."""
    place = lock_path(path).resolve()
    with _guard:
        if place in _held:
            _held[place][1] += 1
            return
        file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(file)
        except OSError:
            said = os.read(file, LONGEST_WORD).decode("utf-8", "replace").strip()
            os.close(file)
            raise InputError(
                f"{what} is in use by another node"
                + (f": {said}" if said.isprintable() and said else ""),
                hint="a registry runs one node: stop the other one first",
            ) from None
        with contextlib.suppress(
            OSError
        ):  # a full disk: the lock holds, only its words are missing
            os.ftruncate(file, 0)
            os.write(file, _words().encode())
        _held[place] = [file, 1]


def let_go(path: str | Path) -> None:
    """Give back one `hold`; the last one frees the file for other processes."""
    place = lock_path(path).resolve()
    with _guard:
        if place in _held:
            _held[place][1] -= 1
            if not _held[place][1]:
                os.close(_held.pop(place)[0])


def _words() -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"process {os.getpid()} on {socket.gethostname()}, since {now}\n"


if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30  # the locked byte lies behind the words, which others may then read

    def _take(file: int) -> None:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _take(file: int) -> None:
        # of the process, not of the open file: children that compute do not inherit it
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
