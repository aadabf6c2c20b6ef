"""The durable store of replies: whatever is killed and rerun, a question is asked once."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hf_llambert.teachers.base import Reply

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, scores TEXT, response TEXT, truncated INTEGER NOT NULL, seconds REAL NOT NULL,
    asked_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identities (hash TEXT PRIMARY KEY, identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS failures (key TEXT, error TEXT, asked_at REAL);
"""
_LOOKUP = 500  # keys in one SELECT, below SQLite's limit on variables


def reply_key(identity: Mapping[str, object], asked: object) -> str:
    """The key of a reply: a hash of who was asked and of exactly what, both JSON-ready."""
    payload = json.dumps([identity, asked], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """
    A directory of SQLite files, one for each process that wrote to it, so that no two processes share a lock. Readers
    see them all. Holds replies and what they depend on, never a credential.

    Args:
        folder (`str` or `Path`): The directory; it is made with the first reply.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"The ledger must be a directory, but '{self.folder}' is a file.")
        self._writer: sqlite3.Connection | None = None
        self._readers: dict[Path, sqlite3.Connection] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def get(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that are known among `keys`."""
        missing, found = list(dict.fromkeys(keys)), {}
        for connection in self._connections():
            for start in range(0, len(missing), _LOOKUP):
                part = missing[start : start + _LOOKUP]
                rows = connection.execute(
                    f"SELECT key, scores, response, truncated, seconds FROM replies "
                    f"WHERE key IN ({','.join('?' * len(part))})",
                    part,
                )
                for key, scores, response, truncated, seconds in rows:
                    found[key] = Reply(
                        tuple(json.loads(scores)) if scores else None, response, bool(truncated), seconds
                    )
            missing = [key for key in missing if key not in found]
        return found

    def put(self, replies: Mapping[str, Reply], identity: Mapping[str, object]) -> None:
        """
        Keep replies; durable when this returns. Replies that carry an error are counted, not kept.

        Raises:
            OSError: They could not be written (disk full, no permission). Everything put before is kept.
        """
        now = time.time()
        with self._writing() as connection:
            text = json.dumps(identity, sort_keys=True)
            connection.execute(
                "INSERT OR IGNORE INTO identities VALUES (?, ?)", (hashlib.sha256(text.encode()).hexdigest(), text)
            )
            for key, reply in replies.items():
                if reply.error is not None:
                    connection.execute("INSERT INTO failures VALUES (?, ?, ?)", (key, reply.error, now))
                    continue
                scores = None if reply.scores is None else json.dumps(reply.scores)
                connection.execute(
                    "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?)",
                    (key, scores, reply.response, reply.truncated, reply.seconds, now),
                )

    def close(self) -> None:
        """Move what was put from the write-ahead log into the file, and close all files. They open again when needed."""
        self._after_fork()
        if self._writer is not None:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._writer.close()
            self._writer = None
        for connection in self._readers.values():
            connection.close()
        self._readers = {}

    def __len__(self) -> int:
        """Number of replies kept, over all files."""
        return sum(c.execute("SELECT count(*) FROM replies").fetchone()[0] for c in self._connections())

    def failures(self) -> int:
        """How often a teacher ever failed to reply. It only grows: a cached map result with failed rows goes stale."""
        return sum(c.execute("SELECT count(*) FROM failures").fetchone()[0] for c in self._connections())

    def _connections(self) -> Iterator[sqlite3.Connection]:
        self._after_fork()
        for path in sorted(self.folder.glob("*.sqlite")):
            if path not in self._readers:
                try:
                    # A killed process may have left a write-ahead log: opening for writing lets SQLite recover it.
                    self._readers[path] = _open(path)
                except sqlite3.DatabaseError as error:
                    raise OSError(
                        f"The ledger file '{path}' cannot be read ({error}). Restore or remove it."
                    ) from error
            yield self._readers[path]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._after_fork()
        try:
            if self._writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.sqlite"
                _create(path)
                self._writer = _open(path)
            with self._lock, self._writer:
                yield self._writer
        except (sqlite3.OperationalError, OSError) as error:
            raise OSError(
                f"The ledger '{self.folder}' cannot be written: {error}. The replies up to here are kept; make room or "
                f"give it another place, and run again: only what is missing is asked."
            ) from error

    def _after_fork(self) -> None:
        """SQLite connections must not cross a fork: a child opens its own."""
        if self._pid != os.getpid():
            self._pid, self._writer, self._readers, self._lock = os.getpid(), None, {}, threading.Lock()


def _create(path: Path) -> None:
    """Make an empty ledger file that other processes see only when it is complete."""
    part = path.with_suffix(".part")
    connection = sqlite3.connect(part)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(_SCHEMA)
    connection.close()
    part.rename(path)


def _open(path: Path) -> sqlite3.Connection:
    # map(num_proc=...) pickles a labeler, and so reads its ledger, in a thread; SQLite itself is thread-safe.
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("SELECT count(*) FROM sqlite_master")  # fails here if the file is no database
    return connection
