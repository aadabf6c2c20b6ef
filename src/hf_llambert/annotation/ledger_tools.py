"""Statistics, export and compaction of a ledger, outside a run."""

from __future__ import annotations

import heapq
import json
import os
import platform
import re
import sqlite3
import uuid
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from hf_llambert.annotation.ledger import (
    COLUMNS,
    create_ledger_file,
    ledger_files,
    open_ledger_file,
    unreadable,
)
from hf_llambert.whole import is_alive, whole_file

_ROWS = 10_000  # in one group of a Parquet file


def ledger_stats(folder: str | Path) -> dict:
    """
    What a ledger holds.

    Returns:
        `dict`: `files`, `bytes`, `replies` (each once), `failures`, `input_tokens`, `output_tokens`, `seconds`, `first` and
        `last` (ISO 8601), and `asked`: for each teacher its identity and its replies.

    Raises:
        FileNotFoundError: There is no ledger in `folder`.
        OSError: A file is damaged, or of another layout.
    """
    files = _files(folder)
    whole = {"replies": 0, "input_tokens": 0, "output_tokens": 0, "seconds": 0.0}
    times: list[float] = []
    per_teacher: Counter[str] = Counter()
    for row in _merged(files):
        reply = dict(zip(COLUMNS, row, strict=True))
        whole["replies"] += 1
        for name in ("input_tokens", "output_tokens", "seconds"):
            whole[name] += reply[name]
        times = [min([*times[:1], reply["asked_at"]]), max([*times[1:], reply["asked_at"]])]
        per_teacher[reply["identity"]] += 1
    identities: dict[str, str] = {}
    failures = 0
    for path in files:
        with closing(open_ledger_file(path)) as connection:
            identities.update(connection.execute("SELECT hash, identity FROM identities").fetchall())
            failures += connection.execute("SELECT count(*) FROM failures").fetchone()[0]
    first, last = (
        (datetime.fromtimestamp(t, timezone.utc).isoformat(timespec="seconds") for t in times)
        if times
        else (None,) * 2
    )
    return {
        "files": len(files),
        "bytes": sum(p.stat().st_size for path in files for p in path.parent.glob(path.name + "*")),
        **whole,
        "failures": failures,
        "first": first,
        "last": last,
        "asked": [
            {"identity": json.loads(identities[who]), "replies": count} for who, count in per_teacher.most_common()
        ],
    }


def export_ledger(folder: str | Path, output: str | Path) -> int:
    """
    Write all replies to one .jsonl or .parquet file, in the order of their keys, each once, the file whole or not at all.

    Returns:
        `int`: Number of replies.

    Raises:
        FileNotFoundError: There is no ledger in `folder`.
        ValueError: The name of the file ends in neither.
        OSError: A file is damaged, or the output cannot be written.
    """
    output = Path(output)
    if output.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"Expected a name that ends in .jsonl or .parquet, got '{output}'.")
    rows = _exported(_files(folder))
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as part:
        return _write_jsonl(rows, part) if output.suffix == ".jsonl" else _write_parquet(rows, part)


def compact_ledger(folder: str | Path, all_hosts: bool = False) -> dict[str, int]:
    """
    Make one file of the many that ended processes left. Files of processes that still run are left alone.

    The new file is complete and on disk before an old one goes, so that a kill at any instant loses nothing.

    Args:
        folder (`str` or `Path`): The ledger.
        all_hosts (`bool`, defaults to `False`): Take the files of other machines too. Whether processes there still run
            cannot be seen from here: make sure that none does.

    Returns:
        `dict[str, int]`: `merged` files, `left` files, `replies` in the new file.

    Raises:
        FileNotFoundError: There is no ledger in `folder`.
        RuntimeError: Another compact runs on this ledger.
        OSError: A file is damaged, or the new one cannot be written.
    """
    folder = Path(folder)
    try:
        with FileLock(folder / ".compact.lock" if folder.is_dir() else os.devnull, timeout=0):
            files = _files(folder)
            old = [path for path in files if not _may_be_written(path, all_hosts)]
            for litter in folder.glob(".compact-*.part*"):
                litter.unlink()
            if len(old) < 2:
                return {"merged": 0, "left": len(files), "replies": 0}
            rows = [0]
            new = folder / f"compact-{uuid.uuid4().hex[:8]}.sqlite"
            create_ledger_file(new, _all_rows(old, rows))
            for path in old:
                for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                    name.unlink(missing_ok=True)
            return {"merged": len(old), "left": len(files) - len(old), "replies": rows[0]}
    except Timeout as error:
        raise RuntimeError(f"Another compact runs on '{folder}'. Wait for it.") from error


def _files(folder: str | Path) -> list[Path]:
    files = ledger_files(Path(folder))
    if not files:
        raise FileNotFoundError(f"'{folder}' holds no ledger. A run has it in its folder 'ledger'.")
    return files


def _may_be_written(path: Path, all_hosts: bool) -> bool:
    """Whether the process that a file is named after may still write it: `<host>-<pid>-<random>.sqlite`."""
    name = re.fullmatch(r"(.*)-(\d+)-[0-9a-f]{8}", path.stem)
    if name is None:
        return False  # made by compact
    if name[1] != platform.node():
        return not all_hosts
    return is_alive(int(name[2]))


def _merged(files: list[Path]) -> Iterator[tuple]:
    """All replies in the order of their keys, each once, read as they are needed."""
    cursors = [_sorted(path) for path in files]
    try:
        last = None
        for row in heapq.merge(*cursors, key=lambda row: row[0]):
            if row[0] != last:
                yield row
            last = row[0]
    finally:
        for cursor in cursors:
            cursor.close()


def _sorted(path: Path) -> Generator[tuple, None, None]:
    with closing(open_ledger_file(path)) as connection:
        try:
            yield from connection.execute(f"SELECT {', '.join(COLUMNS)} FROM replies ORDER BY key")
        except sqlite3.DatabaseError as error:
            raise unreadable(path, error) from error


def _all_rows(files: list[Path], count: list[int]) -> Iterator[tuple[str, tuple]]:
    for row in _merged(files):
        count[0] += 1
        yield "replies", row
    for path in files:
        with closing(open_ledger_file(path)) as connection:
            for table in ("identities", "failures"):
                for row in connection.execute(f"SELECT * FROM {table}"):
                    yield table, row


def _exported(files: list[Path]) -> Iterator[dict]:
    for row in _merged(files):
        reply = dict(zip(COLUMNS, row, strict=True))
        reply |= {
            "scores": json.loads(reply["scores"]) if reply["scores"] else None,
            "truncated": bool(reply["truncated"]),
            "structured": bool(reply["structured"]),
        }
        yield reply


def _write_jsonl(rows: Iterable[dict], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _write_parquet(rows: Iterable[dict], path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "truncated": pa.bool_(),
        "structured": pa.bool_(),
        "seconds": pa.float64(),
        "asked_at": pa.float64(),
        "scores": pa.list_(pa.float64()),
    }
    types |= {"input_tokens": pa.int64(), "output_tokens": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    count, batch = 0, []
    with pq.ParquetWriter(path, schema) as writer:
        for row in rows:
            batch.append(row)
            if len(batch) == _ROWS:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                count, batch = count + len(batch), []
        writer.write_table(pa.Table.from_pylist(batch, schema))
    return count + len(batch)
