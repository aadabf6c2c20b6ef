"""One process's share of a pool: read and tokenised in a thread, computed and written in another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import Features

from hf_llambert.pool.manifest import Manifest, Shard, ShardFile, shard_name
from hf_llambert.pool.sources import Piece, cast_table, table_strings, table_texts, unreadable
from hf_llambert.tasks.texts import column_names
from hf_llambert.training.labeler import Encoded, Labeler

_WINDOW = 4096  # rows among which texts are sorted by length


@dataclass
class _Item:
    """
    An item from the reading thread: tokenised rows of a chunk, the end of a piece, or the error that ended reading it.
    """

    piece: int
    chunk: int = 0
    start: int = 0
    table: pa.Table | None = None
    encoded: Encoded | None = None
    ends: bool = False  # the chunk
    last: bool = False  # the piece
    error: Exception | None = None


class Share:
    """
    One process's share: read and tokenise in a thread, compute and write here.

    Chunks of pieces whose rows are counted before they are read (Parquet, datasets) go to the processes in turn. Any other
    piece is one process's, so that no two parse it: the largest first, each to the process that has least.
    """

    def __init__(
        self,
        labeler: Labeler,
        features: Features,
        kept: Sequence[str],
        manifest: Manifest,
        rank: int,
        count: int,
        on_shard: Callable[[Path], None] | None,
        whole: bool,
    ) -> None:
        self.labeler, self.manifest, self.rank, self.count, self.on_shard = labeler, manifest, rank, count, on_shard
        self.owners = _owners(manifest.pieces, count)
        self.lost: dict[int, str] = {}
        """Why pieces of this share could not be read to their end."""
        self.kept, self.whole = list(kept), whole
        self.input = Features(
            {name: features[name] for name in dict.fromkeys((*kept, *column_names(labeler.text_column)))}
        )
        self.output = labeler.features(Features({name: features[name] for name in kept}))

    def look(self) -> int:
        """
        Check the shards of this process that exist and forget damaged ones. Returns the number of rows of the sound
        ones.
        """
        rows = 0
        for shard in [s for s in self.manifest.shards.values() if self._is_mine(s.piece, s.chunk)]:
            if self.manifest.sound(shard):
                rows += shard.rows
                if self.on_shard is not None and shard.rows:
                    self.on_shard(self.manifest.folder / shard.name)
            else:
                self.manifest.forget(shard)
        return rows

    def compute(self, progress: Callable[[int], None]) -> None:
        """Compute every shard of this process that is missing."""
        file: ShardFile | None = None
        begun, unusable, seconds = 0, 0, 0.0
        try:
            clock = time.perf_counter()
            for item in _ahead(self._items()):
                if item.error is not None:
                    if file is not None:
                        file.discard()
                        file = None
                    self.lost.setdefault(item.piece, unreadable(self.manifest.pieces[item.piece], item.error))
                    continue
                if file is None:
                    begun, unusable, seconds = item.start, 0, 0.0
                if item.table is not None and item.encoded is not None:
                    if file is None:
                        path = self.manifest.folder / shard_name(item.piece, item.chunk)
                        file = ShardFile(path, self.output.arrow_schema)
                    columns = self.labeler.score(item.encoded, progress=progress)
                    file.write(self._labelled(item.table, columns))
                    unusable += self.labeler.count_unusable(columns)
                begin, clock = clock, time.perf_counter()  # waiting for the texts counts too
                seconds += clock - begin
                if item.ends:
                    self._finish(file, item, begun, unusable, seconds)
                    file = None
        finally:
            if file is not None:
                file.discard()

    def _labelled(self, table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
        table = table.select(self.kept)
        for name, column in columns.items():
            table = table.append_column(self.output.arrow_schema.field(name), column)
        return table.replace_schema_metadata(self.output.arrow_schema.metadata)

    def _finish(self, file: ShardFile | None, item: _Item, start: int, unusable: int, seconds: float) -> None:
        """Give a shard its note and its name. Without a file it is the end of a piece that ends where a chunk does."""
        piece = self.manifest.pieces[item.piece]
        size, checksum = file.finish() if file is not None else (0, "")
        shard = Shard(
            item.piece,
            item.chunk,
            source=piece.name,
            identity=piece.identity,
            start=start,
            rows=file.rows if file is not None else 0,
            unusable=unusable,
            last=item.last,
            student=self.labeler.identity,
            run=self.manifest.run,
            size=size,
            checksum=checksum,
            seconds=seconds,
        )
        # Before its name: a note without a shard is no shard, a shard without a note is litter.
        self.manifest.add(shard)
        if file is not None:
            file.publish()
            if self.on_shard is not None:
                self.on_shard(file.path)

    def _items(self) -> Iterator[_Item]:
        """Everything that this process has to compute, in order. Runs in the reading thread."""
        for p, piece in enumerate(self.manifest.pieces):
            missing = [chunk for chunk in self.manifest.missing(p) if self._is_mine(p, chunk)]
            passes = [missing] if p in self.owners else _in_a_row(missing)
            for chunks in filter(None, passes):
                yield from self._pass(p, piece, chunks)

    def _pass(self, p: int, piece: Piece, chunks: list[int]) -> Iterator[_Item]:
        """These chunks in one pass. Where it breaks off, those that are not done are read each by itself."""
        left = chunks
        try:
            for item in self._rows(p, piece, chunks):
                if item.ends:
                    left = [chunk for chunk in left if chunk > item.chunk]
                yield item
        except Exception as error:  # noqa: BLE001  (whatever a file may hold)
            yield _Item(p, error=error)
            if len(chunks) > 1 and p not in self.owners:
                for chunk in left:
                    yield from self._pass(p, piece, [chunk])

    def _read(self, piece: Piece, start: int) -> Iterator[pa.Table]:
        """The rows of a piece from a row on, in the columns that are needed."""
        for table in piece.read(start):
            yield cast_table(table, self.input, start, self.whole)
            start += table.num_rows

    def _is_mine(self, piece: int, chunk: int) -> bool:
        return self.owners.get(piece, (piece + chunk) % self.count) == self.rank

    def _rows(self, p: int, piece: Piece, chunks: list[int]) -> Iterator[_Item]:
        """These chunks in one pass; where the end of the piece is not known, what is missing from the first of them on."""
        size, at, stop = self.manifest.rows_per_shard, chunks[0] * self.manifest.rows_per_shard, None
        if self.manifest.ended(p) is not None:
            stop = min((chunks[-1] + 1) * size, piece.num_rows or 1 << 62)
        for window in _windows(self._read(piece, at), at, size):
            table = window.slice(0, None if stop is None else stop - at)
            chunk, start, at = at // size, at, at + table.num_rows
            if (p, chunk) not in self.manifest.shards:
                texts = table_strings(table, self.labeler.text_column) if self.labeler.reads_strings else None
                encoded = self.labeler.encode(table_texts(table, self.labeler.text_column) if texts is None else texts)
                ends = at % size == 0 or at == stop
                yield _Item(p, chunk, start, table, encoded, ends, last=at == piece.num_rows)
            if at == stop:
                return
        if stop is not None:
            raise ValueError(f"it ended at row {at:,}, expected {stop:,}")
        yield _Item(p, at // size, at, ends=True, last=True)


def _in_a_row(chunks: Sequence[int]) -> list[list[int]]:
    """The same chunks, those that follow one another together: a row group of Parquet is read once for all of them."""
    out: list[list[int]] = []
    for chunk in chunks:
        if out and chunk == out[-1][-1] + 1:
            out[-1].append(chunk)
        else:
            out.append([chunk])
    return out


def _owners(pieces: Sequence[Piece], count: int) -> dict[int, int]:
    """Which process reads each piece whose number of rows only reading tells."""
    given, out = [0] * count, {}
    for p in sorted(
        (p for p, piece in enumerate(pieces) if piece.num_rows is None), key=lambda p: (-pieces[p].size, p)
    ):
        out[p] = given.index(min(given))
        given[out[p]] += max(pieces[p].size, 1)
    return out


def _windows(tables: Iterator[pa.Table], at: int, rows_per_shard: int) -> Iterator[pa.Table]:
    """The same rows, cut where a chunk ends and into windows counted from its beginning."""
    held: list[pa.Table] = []
    rows = 0

    def room() -> int:
        return min(_WINDOW - (at % rows_per_shard) % _WINDOW, rows_per_shard - at % rows_per_shard)

    for table in tables:
        taken = 0
        while taken < table.num_rows:
            part = table.slice(taken, room() - rows)
            taken += part.num_rows
            held.append(part)
            rows += part.num_rows
            if rows == room():
                yield pa.concat_tables(held, promote_options="permissive")
                at, held, rows = at + rows, [], 0
    if held:
        yield pa.concat_tables(held, promote_options="permissive")


def _ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, each made in a thread while the one before it is computed."""
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
