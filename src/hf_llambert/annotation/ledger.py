"""The ledger: replies on disk. A question whose reply is there is not asked again, also after a kill."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from hf_llambert.teachers.base import Reply
from hf_llambert.whole import whole_file

_LAYOUT = 2
_SCHEMA = f"""
CREATE TABLE replies (
    key TEXT PRIMARY KEY, scores TEXT, response TEXT, truncated INTEGER NOT NULL, seconds REAL NOT NULL,
    asked_at REAL NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, identity TEXT,
    finish TEXT, structured INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE identities (hash TEXT PRIMARY KEY, identity TEXT NOT NULL);
CREATE TABLE failures (key TEXT, error TEXT, asked_at REAL);
CREATE INDEX failures_by_key ON failures (key);
PRAGMA user_version = {_LAYOUT};
"""
COLUMNS = (
    "key",
    "scores",
    "response",
    "truncated",
    "seconds",
    "asked_at",
    "input_tokens",
    "output_tokens",
    "identity",
    "finish",
    "structured",
)
_SELECTED = ", ".join(COLUMNS)
_LOOKUP = 500  # keys in one SELECT, below SQLite's limit on variables
_MOST_TOKENS = 2**53
_KEPT_OPEN = 16  # files; each takes up to three descriptors


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
        for path, connection in self._connections():
            for row in _rows(path, connection, "replies", _SELECTED, missing):
                key, scores, response, truncated, seconds, _, tokens_in, tokens_out, _, finish, structured = row
                found[key] = Reply(
                    tuple(json.loads(scores)) if scores else None,
                    response,
                    bool(truncated),
                    seconds,
                    tokens_in,
                    tokens_out,
                    finish=finish,
                    structured=bool(structured),
                )
            missing = [key for key in missing if key not in found]
        return found

    def asked_at(self, keys: Iterable[str]) -> dict[str, float]:
        """When the replies that are known among `keys` were put here, in seconds since 1970."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, float] = {}
        for path, connection in self._connections():
            for key, at in _rows(path, connection, "replies", "key, asked_at", wanted):
                found.setdefault(key, at)
        return found

    def errors(self, keys: Iterable[str]) -> dict[str, str]:
        """Why asking failed, for those of `keys` where it did: the latest error of each."""
        wanted = list(keys)
        latest: dict[str, tuple[float, str]] = {}
        for path, connection in self._connections():
            for key, error, asked_at in _rows(path, connection, "failures", "key, error, asked_at", wanted):
                if asked_at >= latest.get(key, (0.0, ""))[0]:
                    latest[key] = (asked_at, error)
        return {key: error for key, (_, error) in latest.items()}

    def prepare(self) -> None:
        """
        Make this process's file. Called before a teacher is asked, so that no reply is paid for that cannot be
        written.

        Raises:
            OSError: The folder cannot be written.
        """
        with self._writing():
            pass

    def put(self, replies: Mapping[str, Reply], identity: Mapping[str, object]) -> None:
        """
        Keep replies; durable when this returns. Replies that carry an error are counted, not kept; one that cannot be
        written counts as an error of its own key.

        Raises:
            OSError: They could not be written (disk full, no permission). Everything put before is kept.
        """
        now = time.time()
        text = json.dumps(identity, sort_keys=True)
        who = hashlib.sha256(text.encode()).hexdigest()
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO identities VALUES (?, ?)", (who, text))
            for key, reply in replies.items():
                error = reply.error
                if error is None:
                    try:
                        connection.execute(
                            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                            _values(key, reply, now, who),
                        )
                    except (
                        TypeError,
                        ValueError,
                        OverflowError,
                        sqlite3.InterfaceError,
                        sqlite3.ProgrammingError,
                    ) as fault:
                        error = f"the reply cannot be kept: {fault}"
                if error is not None:
                    connection.execute("INSERT INTO failures VALUES (?, ?, ?)", (key, _clean(str(error)), now))

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
        """Number of replies kept, over all files; one that two processes asked for counts twice."""
        return sum(_count(path, connection, "replies") for path, connection in self._connections())

    def failures(self) -> int:
        """
        Number of failed replies so far; it never falls. It is part of the labeler's hash, so `map` computes failed
        rows anew.
        """
        return sum(_count(path, connection, "failures") for path, connection in self._connections())

    def _connections(self) -> Iterator[tuple[Path, sqlite3.Connection]]:
        self._after_fork()
        for path in ledger_files(self.folder):
            if path in self._readers:
                yield path, self._readers[path]
            elif len(self._readers) < _KEPT_OPEN:
                self._readers[path] = open_ledger_file(path)
                yield path, self._readers[path]
            else:
                with closing(open_ledger_file(path)) as connection:
                    yield path, connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._after_fork()
        try:
            if self._writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.sqlite"
                create_ledger_file(path)
                self._writer = _connect(path, "rw")
            with self._lock, self._writer:
                yield self._writer
        except (sqlite3.DatabaseError, OSError) as error:
            raise OSError(
                f"The ledger '{self.folder}' cannot be written: {error}. The replies up to here are kept. "
                f"{_remedy(error, self.folder)} Then run again: only what is missing is asked."
            ) from error

    def _after_fork(self) -> None:
        """SQLite connections must not cross a fork: a child opens its own."""
        if self._pid != os.getpid():
            self._pid, self._writer, self._readers, self._lock = os.getpid(), None, {}, threading.Lock()


def _values(key: str, reply: Reply, now: float, who: str) -> tuple:
    """A row of `replies`. Numbers that SQLite or JSON cannot hold are brought into their range, or refused."""
    if reply.scores is not None and not all(math.isfinite(score) for score in reply.scores):
        raise ValueError("its scores are not finite numbers")
    scores = None if reply.scores is None else json.dumps(reply.scores)
    seconds = reply.seconds if math.isfinite(reply.seconds) else 0.0
    tokens = (min(max(int(count), 0), _MOST_TOKENS) for count in (reply.input_tokens, reply.output_tokens))
    finish = None if reply.finish is None else _clean(reply.finish)
    response = None if reply.response is None else _clean(reply.response)
    return key, scores, response, bool(reply.truncated), seconds, now, *tokens, who, finish, bool(reply.structured)


def _clean(text: str) -> str:
    """Text without lone surrogates, which SQLite does not take."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def ledger_files(folder: Path) -> list[Path]:
    """
    The files of a ledger, in the order of their names.

    Raises:
        OSError: The folder is there and cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(".sqlite"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise OSError(f"The ledger '{folder}' cannot be read ({error}). {_remedy(error, folder)}") from error


def create_ledger_file(path: Path, rows: Iterable[tuple] = ()) -> None:
    """Make a ledger file that other processes see only when it is complete. `rows` are (table, values)."""
    with whole_file(path) as part:
        try:
            with closing(sqlite3.connect(part)) as connection:
                connection.executescript(_SCHEMA)
                with connection:
                    for table, values in rows:
                        places = ",".join("?" * len(values))
                        connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", values)
                connection.execute("PRAGMA journal_mode=WAL")
        finally:
            part.with_name(part.name + "-journal").unlink(missing_ok=True)


def open_ledger_file(path: Path) -> sqlite3.Connection:
    """
    Open a file of a ledger for reading, also on a disk or in a folder that cannot be written.

    Raises:
        OSError: It is damaged, or of another layout.
    """
    try:
        # A killed process may have left a write-ahead log: opening for writing lets SQLite recover it.
        if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
            connection = _connect(path, "rw")
        else:
            log = path.with_name(path.name + "-wal")
            if log.exists() and log.stat().st_size:
                raise OSError(
                    f"The ledger file '{path}' was left by a process that was killed, and it cannot be recovered where "
                    f"nothing can be written. Copy the ledger to a place that can be written."
                )
            connection = _connect(path, "ro&immutable=1")
        connection.execute("SELECT key FROM replies LIMIT 0")  # fails here if it is a database of something else
        layout = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise unreadable(path, error) from error
    if layout != _LAYOUT:
        connection.close()
        raise OSError(
            f"The ledger file '{path}' was written by {'a newer' if layout > _LAYOUT else 'an unreleased'} hf_llambert "
            f"(layout {layout}; this version reads {_LAYOUT}). Use the version that wrote it, or another ledger."
        )
    return connection


def _rows(
    path: Path, connection: sqlite3.Connection, table: str, columns: str, keys: Sequence[str]
) -> Iterator[tuple]:
    for start in range(0, len(keys), _LOOKUP):
        part = keys[start : start + _LOOKUP]
        try:
            yield from connection.execute(
                f"SELECT {columns} FROM {table} WHERE key IN ({','.join('?' * len(part))})", part
            ).fetchall()
        except sqlite3.DatabaseError as error:
            raise unreadable(path, error) from error


def _count(path: Path, connection: sqlite3.Connection, table: str) -> int:
    try:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> OSError:
    """The error to raise for an unreadable file, with the cause and the remedy."""
    return OSError(f"The ledger file '{path}' cannot be read ({error}). {_remedy(error, path)}")


def _remedy(error: Exception, path: Path) -> str:
    """What to do about an error of SQLite or of the system: only a file that is no database (any more) must go."""
    said, number = str(error).lower(), error.errno if isinstance(error, OSError) else None
    if "unable to open" in said and not _descriptor_left():
        number = errno.EMFILE
    found = (do for words, numbers, do in _REMEDIES if number in numbers or any(word in said for word in words))
    return next(found, "See that the disk is there, has room and answers.").format(path=path)


_REMEDIES: tuple[tuple[tuple[str, ...], tuple[int, ...], str], ...] = (
    (
        ("too many open files",),
        (errno.EMFILE, errno.ENFILE),
        "Too many files are open: raise the limit (ulimit -n), or merge the ledger (hf-llambert ledger merge).",
    ),
    (("malformed", "not a database"), (), "Restore or remove it."),
    (
        ("no such table", "no such column"),
        (),
        "It is a database of something else, no ledger: move it to another folder, or give the ledger another with --ledger.",
    ),
    (
        ("is full", "no space left", "quota"),
        (errno.ENOSPC, errno.EDQUOT),
        "The disk is full, or its quota is used up: make room, or give the ledger another place with --ledger.",
    ),
    (("locked", "busy"), (errno.EAGAIN, errno.EBUSY), "Another process holds it: wait until that has ended."),
    (
        ("readonly", "read-only", "permission"),
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "It may not be written or read there: mend the rights, or give the ledger another place with --ledger.",
    ),
    (
        ("unable to open",),
        (errno.ENOENT,),
        "See that '{path}' is there, a file and neither a folder nor a broken link, and that its rights allow to use it.",
    ),
    (
        (),
        (errno.EEXIST, errno.ENOTDIR, errno.ELOOP),
        "A part of '{path}' is a file or a broken link: give the ledger another place with --ledger.",
    ),
)


def _descriptor_left() -> bool:
    """Whether this process may open one more file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # map(num_proc=...) pickles a labeler, and so reads its ledger, in a thread; SQLite itself is thread-safe.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", timeout=60, check_same_thread=False, uri=True
    )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("SELECT count(*) FROM sqlite_master")  # fails here if the file is no database
    return connection
