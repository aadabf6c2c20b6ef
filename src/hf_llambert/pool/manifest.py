"""What is known of each shard of a labelled pool: a note beside it, written before it takes its name."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hf_llambert.notes import AGREE, AMOUNT, COUNT, Shape, Within, read_note
from hf_llambert.pool.sources import Piece
from hf_llambert.whole import sync, write_whole

NOTES = ".manifest"
_MOST = 100_000  # pieces, and shards of a piece: five digits, so that names sort as the rows do


@dataclass(frozen=True)
class Shard:
    """
    A note about a shard. `piece` and `chunk` say which it is: rows `chunk * rows_per_shard` and on of that piece.

    Args:
        piece (`int`): Number of the piece of the pool.
        chunk (`int`): Number of the shard within the piece.
        source (`str`): The piece's name.
        identity (`str`): The piece's content.
        start (`int`): The first row, counted in the piece.
        rows (`int`): How many rows.
        unusable (`int`): How many of them had no usable text.
        last (`bool`): Whether the piece ends here.
        student (`str`): The student's content or revision.
        run (`str`): Everything that decides the labels and the layout, as a digest.
        size (`int`): Bytes of the Parquet file.
        checksum (`str`): Its SHA-256, as the Hub computes it.
        seconds (`float`): What it took to compute.
    """

    piece: int
    chunk: int
    source: str
    identity: str
    start: int
    rows: int
    unusable: int
    last: bool
    student: str
    run: str
    size: int = 0
    checksum: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The shard's file name."""
        return shard_name(self.piece, self.chunk)


_SHARD: Shape = {
    **dict.fromkeys(("piece", "chunk"), Within(int, high=_MOST - 1)),
    **dict.fromkeys(("start", "rows", "unusable", "size"), COUNT),
    **dict.fromkeys(("source", "identity", "student", "run", "checksum"), str),
    "last": bool,
    "seconds": AMOUNT,
    AGREE: lambda note: (
        None if note["unusable"] <= note["rows"] and bool(note["rows"]) == bool(note["size"]) else "rows"
    ),
}


def _note(path: Path) -> Shard | None:
    """The note in a file; `None` where there is none, or it is not ours."""
    try:
        return Shard(**read_note(path, _SHARD))
    except (OSError, TypeError):
        return None


def run_digest(settings: Mapping[str, object]) -> str:
    """What the notes of shards call the labelling that they are of, by what decides its labels."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def shard_name(piece: int, chunk: int) -> str:
    """The file of a shard; names sort as rows do."""
    if max(piece, chunk) >= _MOST:
        raise ValueError(f"More than {_MOST:,} files, or shards of one file. Use larger shards (rows_per_shard).")
    return f"part-{piece:05d}-{chunk:05d}.parquet"


def shard_files(labels: str | Path) -> list[Path]:
    """The shards of a labelled pool in its order. Raises `FileNotFoundError` where there are none."""
    files = sorted(Path(labels).glob("part-*.parquet"))
    if not files:
        raise FileNotFoundError(f"'{labels}' holds no part-*.parquet. Label a pool into it first.")
    return files


class Manifest:
    """
    The notes of one folder. Processes share nothing else: each writes notes of its own, and reads everybody's.

    Args:
        folder (`Path`): Where the shards are.
        run (`str`): Notes of another run are not seen.
        pieces (`Sequence[Piece]`): The pool.
        rows_per_shard (`int`): Rows of each shard but a piece's last.
    """

    def __init__(self, folder: Path, run: str, pieces: Sequence[Piece], rows_per_shard: int) -> None:
        self.folder, self.run, self.pieces, self.rows_per_shard = folder, run, pieces, rows_per_shard
        self.shards: dict[tuple[int, int], Shard] = {}
        self.changed: set[str] = set()
        """Names of pieces that were labelled with another content."""
        self._ends: dict[int, int] = {}
        self._seen: dict[str, int] = {}
        (folder / NOTES).mkdir(exist_ok=True)

    def read(self) -> None:
        """Take in the notes that were written since the last time, and forget shards whose notes are gone."""
        there = {entry.name: entry for entry in os.scandir(self.folder / NOTES) if entry.name.endswith(".json")}
        for shard in [s for s in self.shards.values() if self._note_path(s).name not in there]:
            self._drop(shard)  # another process computes it again
        for name, entry in sorted(there.items()):
            with suppress(OSError):  # removed meanwhile
                written = entry.stat().st_mtime_ns
                if self._seen.get(name) == written:
                    continue
                note = _note(Path(entry.path))
                if note is not None and self._take(note):
                    self._seen[name] = written

    def _take(self, note: Shard) -> bool:
        """Keep a note. `False` where its shard has no name yet, or another size: look again."""
        if note.run != self.run:
            return True
        if not self._is_of(note):
            self.changed.add(note.source)
        elif note.rows and _size(self.folder / note.name) != note.size:
            return False
        else:
            self._keep(note)
        return True

    def _is_of(self, note: Shard) -> bool:
        """Whether a shard is of this run's student, settings and pool."""
        here = note.run == self.run and note.piece < len(self.pieces)
        return here and self.pieces[note.piece].identity == note.identity

    def drop_others(self) -> None:
        """Remove shards of another student, other settings or another pool: rows of two would stand side by side."""
        for path in self.folder.glob("part-*.parquet"):
            told = self.folder / NOTES / f"{path.name}.json"
            note = _note(told)  # read now: another process may have replaced the shard since
            if note is None or not self._is_of(note):
                path.unlink(missing_ok=True)
                told.unlink(missing_ok=True)

    def _keep(self, shard: Shard) -> None:
        self.shards[(shard.piece, shard.chunk)] = shard
        if shard.last:
            self._ends[shard.piece] = shard.chunk + 1

    def sound(self, shard: Shard) -> bool:
        """Whether a shard is on the disk as it was written."""
        return not shard.rows or file_checksum(self.folder / shard.name) == shard.checksum

    def forget(self, shard: Shard) -> None:
        """Have a shard computed again."""
        self._drop(shard)
        self._note_path(shard).unlink(missing_ok=True)

    def _drop(self, shard: Shard) -> None:
        self.shards.pop((shard.piece, shard.chunk), None)
        self._seen.pop(self._note_path(shard).name, None)
        if shard.last:
            self._ends.pop(shard.piece, None)

    def ended(self, piece: int) -> int | None:
        """How many chunks a piece has, as far as is known."""
        rows = self.pieces[piece].num_rows
        if rows is not None:
            return -(-rows // self.rows_per_shard)
        return self._ends.get(piece)

    def missing(self, piece: int) -> list[int]:
        """The chunks that are not there; of a piece whose end is not known yet up to the first."""
        chunks = self.ended(piece)
        if chunks is not None:
            return [chunk for chunk in range(chunks) if (piece, chunk) not in self.shards]
        return [next(chunk for chunk in count() if (piece, chunk) not in self.shards)]

    def complete(self) -> bool:
        """Whether every chunk of every piece is there."""
        return not any(self.missing(piece) for piece in range(len(self.pieces)))

    def add(self, shard: Shard) -> None:
        """Write a note, whole or not at all."""
        self._keep(shard)
        write_whole(self._note_path(shard), json.dumps(asdict(shard), ensure_ascii=False) + "\n")

    def clean(self) -> None:
        """Remove what no shard of this run is: files of an overwritten one, and the litter of killed processes."""
        names = {shard.name for shard in self.shards.values() if shard.rows}
        for path in [*self.folder.glob("part-*.parquet"), *self.folder.glob(".part-*")]:
            if path.name not in names:
                path.unlink(missing_ok=True)
        notes = {self._note_path(shard).name for shard in self.shards.values()}
        for path in (self.folder / NOTES).glob("*.json*"):
            if path.name not in notes:
                path.unlink(missing_ok=True)

    def _note_path(self, shard: Shard) -> Path:
        return self.folder / NOTES / f"{shard.name}.json"


class ShardFile:
    """A Parquet file that takes its name when it is finished; a row group for each table."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        self._writer = pq.ParquetWriter(self.part, schema, compression="zstd")
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._writer.write_table(table)
        self.rows += table.num_rows

    def finish(self) -> tuple[int, str]:
        """Close the file and see that it is on the disk. Returns its size and checksum; [`publish`] gives it its name."""
        self._writer.close()
        sync(self.part)
        return self.part.stat().st_size, file_checksum(self.part)

    def publish(self) -> None:
        """Give the file its name."""
        self.part.replace(self.path)
        sync(self.path.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        try:
            self._writer.close()
        finally:
            self.part.unlink(missing_ok=True)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def file_checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
