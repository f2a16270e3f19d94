"""What a registry writes down durably: used queries and the outbox, in one small SQLite file.

A query id is used once for ever; the bytes of a posting are kept before they leave, so that a retry resends the same bytes and
nothing is ever computed twice under the same masks. A node that finds open queries here after a restart aborts them: their keys
lived in memory only.

One process at a time works with a journal, and with a key (`lock`). A copy elsewhere, and an older copy put back, show by their
numbers: a journal counts its queries, tells its mark and the count in every admission, and remembers those of the others. Two
queries under one number of one journal are the work of two copies.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedstats.errors import FedstatsError, InputError

from . import lock

PAGE_BYTES = 16_384         # of a new file: a megabyte of ciphertexts costs half the time that it takes in pages of 4096 bytes
MARK_BYTES = 16
SCHEMA = """
CREATE TABLE IF NOT EXISTS queries (
    T BLOB PRIMARY KEY, id BLOB UNIQUE NOT NULL, state TEXT NOT NULL DEFAULT 'open', since TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS marks (mark BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS others (
    registry TEXT NOT NULL, mark BLOB NOT NULL, number INTEGER NOT NULL, T BLOB NOT NULL, PRIMARY KEY (registry, mark, number));
CREATE TABLE IF NOT EXISTS outbox (
    T BLOB NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, parcel BLOB, PRIMARY KEY (T, key));
"""


class Journal:
    """See the module. path : the file, or None to keep it in memory (simulations). key : the registry's key, to be used by one
    process only as well; a key in a folder that cannot be written to is not locked. mark : of a journal in memory, where a
    simulation draws it; without it every journal is a new one with a mark of its own.

    Raises InputError that names the process which has journal or key in use.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        key: str | Path | None = None,
        *,
        mark: bytes | None = None,
    ) -> None:
        self._lock, self._locked = threading.Lock(), contextlib.ExitStack()
        weakref.finalize(self, self._locked.close)
        if path is not None:
            self._hold(path, key)
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.executescript(f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + SCHEMA)
        except sqlite3.Error as error:
            self._locked.close()
            raise InputError(f"the journal {path} cannot be opened: {error}",
                             hint="is the folder read-only, or the file damaged?") from None
        self.mark = self._mark(mark or os.urandom(MARK_BYTES))

    def _hold(self, path: str | Path, key: str | Path | None) -> None:
        try:
            lock.hold(path, f"the journal {path}")
            self._locked.callback(lock.let_go, path)
            if key is not None:
                with contextlib.suppress(OSError):
                    lock.hold(key, f"the key {key}")
                    self._locked.callback(lock.let_go, key)
        except OSError as error:
            raise InputError(f"the journal {path} cannot be opened: {error.strerror}", hint="is the folder there, and can it be written to?"
                             ) from None
        except InputError:
            self._locked.close()
            raise

    def _mark(self, new: bytes) -> bytes:
        """16 bytes that name this journal, made with it."""
        with self._lock:
            self._run("INSERT INTO marks SELECT ? WHERE NOT EXISTS (SELECT 1 FROM marks)", (new,))
            return bytes(self._run("SELECT mark FROM marks ORDER BY rowid LIMIT 1").fetchone()[0])

    def claim(self, T: bytes, query_id: bytes) -> bool:
        """Note a query as used; False if its bytes or its id have been seen before."""
        with self._lock:
            return self._run("INSERT OR IGNORE INTO queries (T, id) VALUES (?, ?)", (T, query_id)).rowcount == 1

    def number(self, T: bytes) -> int:
        """The how manieth claimed query this is, from 1; 0 for one that was not claimed."""
        row = self._run("SELECT rowid FROM queries WHERE T = ?", (T,)).fetchone()
        return int(row[0]) if row else 0

    def witness(self, T: bytes, numbers: Mapping[str, tuple[bytes, int]]) -> tuple[str, ...]:
        """Note under which number others have claimed a query. numbers : {registry: (mark of its journal, number)}.

        Returns the registries whose journal gave this number to another query before.
        """
        found = []
        with self._lock, self._transaction():  # all of them, or none
            for registry, (mark, number) in numbers.items():
                self._run("INSERT OR IGNORE INTO others VALUES (?, ?, ?, ?)", (registry, mark, number, T))
                row = self._run("SELECT T FROM others WHERE registry = ? AND mark = ? AND number = ?", (registry, mark, number)).fetchone()
                found += [registry] if row[0] != T else []
        return tuple(found)

    def post(self, T: bytes, key: str, parcel: bytes) -> None:
        """Keep the bytes of one posting. Raises FedstatsError if other bytes stand under this key already."""
        digest = hashlib.sha256(parcel).digest()
        with self._lock:
            if self._run("INSERT OR IGNORE INTO outbox VALUES (?, ?, ?, ?)", (T, key, digest, parcel)).rowcount == 1:
                return
            (before,) = self._run("SELECT digest FROM outbox WHERE T = ? AND key = ?", (T, key)).fetchone()
        if before != digest:
            raise FedstatsError(f"a second posting for {key} of one query was stopped")

    def posted(self, T: bytes, key: str) -> bytes | None:
        """The bytes of a posting, for sending them again; None once the query has ended."""
        row = self._run("SELECT parcel FROM outbox WHERE T = ? AND key = ?", (T, key)).fetchone()
        return row[0] if row else None

    def close(self, T: bytes, outcome: str) -> None:
        """Note how a query ended; its postings keep their digests and lose their bytes."""
        with self._lock:
            self._run("UPDATE queries SET state = ? WHERE T = ?", (outcome, T))
            self._run("UPDATE outbox SET parcel = NULL WHERE T = ?", (T,))

    def open_queries(self) -> list[bytes]:
        """Queries that had not ended when the node stopped."""
        return [row[0] for row in self._run("SELECT T FROM queries WHERE state = 'open'")]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Everything in the block is written, or nothing; what fails, fails as in `_run`."""
        self._run("BEGIN")
        try:
            yield
            self._run("COMMIT")  # where a disk that is full shows
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.rollback()
            raise

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise InputError(f"the journal cannot be read or written: {error}", hint="is the disk full, or the file read-only?") from None

    def shut(self) -> None:
        self._db.close()
        self._locked.close()
