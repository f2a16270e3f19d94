"""What a registry writes down durably: used queries and the outbox, in one small SQLite file.

A query id is used once for ever; the bytes of a posting are kept before they leave, so that a retry resends the same bytes and
nothing is ever computed twice under the same masks. A node that finds open queries here after a restart aborts them: their keys
lived in memory only.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path
from typing import Any

from fedstats.errors import FedstatsError, InputError

PAGE_BYTES = 16_384         # of a new file: a megabyte of ciphertexts costs half the time that it takes in pages of 4096 bytes
SCHEMA = """
CREATE TABLE IF NOT EXISTS queries (
    T BLOB PRIMARY KEY, id BLOB UNIQUE NOT NULL, state TEXT NOT NULL DEFAULT 'open', since TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS outbox (
    T BLOB NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, parcel BLOB, PRIMARY KEY (T, key));
"""


class Journal:
    """See the module. path : the file, or None to keep it in memory (simulations)."""

    def __init__(self, path: str | Path | None = None) -> None:
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.executescript(f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + SCHEMA)
        except sqlite3.Error as error:
            raise InputError(f"the journal {path} cannot be opened: {error}",
                             hint="is another node running on it, or the folder read-only?") from None
        self._lock = threading.Lock()

    def claim(self, T: bytes, query_id: bytes) -> bool:
        """Note a query as used; False if its bytes or its id have been seen before."""
        with self._lock:
            return self._run("INSERT OR IGNORE INTO queries (T, id) VALUES (?, ?)", (T, query_id)).rowcount == 1

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

    def _run(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise InputError(f"the journal cannot be read or written: {error}", hint="is the disk full, or the file read-only?") from None

    def shut(self) -> None:
        self._db.close()
