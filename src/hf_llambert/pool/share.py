"""One process's share of a pool: read and tokenised in a thread, computed and written in another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import Features

from hf_llambert.pool.manifest import Failure, Manifest, Shard, ShardFile, shard_name
from hf_llambert.pool.sources import Piece, cast_table, column_values, unreadable
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.training.students import Encoded, StudentLabeler

_WINDOW = 4096  # rows among which texts are sorted by length


@dataclass
class _Item:
    """What the reading thread hands to the model: rows of a chunk, tokenised; or why there are none."""

    piece: int
    chunk: int
    start: int = 0
    table: pa.Table | None = None
    encoded: Encoded | None = None
    ends: bool = False  # the chunk
    last: bool = False  # the piece
    error: Exception | None = None


class Share:
    """One process's share: read and tokenise in a thread, compute and write here."""

    def __init__(
        self,
        labeler: StudentLabeler,
        features: Features,
        kept: Sequence[str],
        manifest: Manifest,
        rank: int,
        count: int,
        on_shard: Callable[[Path], None] | None,
        whole: bool,
    ) -> None:
        self.labeler, self.manifest, self.rank, self.count, self.on_shard = labeler, manifest, rank, count, on_shard
        self.kept, self.whole = list(kept), whole
        self.input = Features({name: features[name] for name in dict.fromkeys((*kept, labeler.text_column))})
        self.output = labeler.features(Features({name: features[name] for name in kept}))

    def compute(self, progress: Callable[[int], None]) -> None:
        """Compute every shard of this process that is missing or damaged."""
        self._look_at_what_is_there(progress)
        file: ShardFile | None = None
        begun, unusable, seconds = 0, 0, 0.0
        try:
            clock = time.perf_counter()
            for item in _ahead(self._items()):
                if item.error is not None:
                    if file is not None:
                        file.discard()
                        file = None
                    self._fail(item)
                    continue
                if file is None:
                    path = self.manifest.folder / shard_name(item.piece, item.chunk)
                    file, begun, unusable, seconds = ShardFile(path, self.output.arrow_schema), item.start, 0, 0.0
                if item.table is not None and item.encoded is not None:
                    columns = self.labeler.score(item.encoded)
                    file.write(self._labelled(item.table, columns))
                    unusable += columns["student_label"].count(ABSTAIN)
                    progress(item.table.num_rows)
                begin, clock = clock, time.perf_counter()  # waiting for the texts counts too
                seconds += clock - begin
                if item.ends:
                    self._finish(file, item, begun, unusable, seconds)
                    file = None
        finally:
            if file is not None:
                file.discard()

    def _labelled(self, table: pa.Table, columns: dict[str, list]) -> pa.Table:
        table = table.select(self.kept)
        for name, values in columns.items():
            field = self.output.arrow_schema.field(name)
            table = table.append_column(field, pa.array(values, field.type))
        return table.replace_schema_metadata(self.output.arrow_schema.metadata)

    def _finish(self, file: ShardFile, item: _Item, start: int, unusable: int, seconds: float) -> None:
        piece = self.manifest.pieces[item.piece]
        note = {"source": piece.name, "identity": piece.identity, "start": start, "last": item.last}
        student, run = self.labeler.identity, self.manifest.run
        if not file.rows:  # a stream without rows
            file.discard()
            self.manifest.add(Shard(item.piece, item.chunk, rows=0, unusable=0, student=student, run=run, **note))  # type: ignore[arg-type]
            return
        size, checksum = file.finish()
        shard = Shard(
            item.piece,
            item.chunk,
            rows=file.rows,
            unusable=unusable,
            student=student,
            run=run,
            size=size,
            checksum=checksum,
            seconds=seconds,
            **note,  # type: ignore[arg-type]
        )
        self.manifest.add(
            shard
        )  # before its name: a note without a shard is no shard, a shard without a note is litter
        file.publish()
        if self.on_shard is not None:
            self.on_shard(file.path)

    def _fail(self, item: _Item) -> None:
        piece = self.manifest.pieces[item.piece]
        reason = unreadable(piece, item.error or RuntimeError())
        self.manifest.add(Failure(item.piece, item.chunk, piece.identity, self.manifest.run, reason))

    def _look_at_what_is_there(self, progress: Callable[[int], None]) -> None:
        for shard in [s for s in self.manifest.shards.values() if self._is_mine(s.piece, s.chunk)]:
            if self.manifest.sound(shard):
                progress(shard.rows)
                if self.on_shard is not None and shard.rows:
                    self.on_shard(self.manifest.folder / shard.name)
            else:
                self.manifest.forget(shard)
        for failure in list(self.manifest.failures.values()):
            if self._is_mine(failure.piece, failure.chunk) or self.manifest.pieces[failure.piece].num_rows is None:
                self.manifest.forget(failure)

    def _items(self) -> Iterator[_Item]:
        """Everything that this process has to compute, in order. Runs in the reading thread."""
        for p, piece in enumerate(self.manifest.pieces):
            chunks = self.manifest.ended(p)
            if chunks is None:
                yield from self._through(p, piece)
                continue
            for chunk in range(chunks):
                if self._is_mine(p, chunk) and (p, chunk) not in self.manifest.shards:
                    yield from self._chunk(p, piece, chunk)

    def _read(self, piece: Piece, start: int) -> Iterator[pa.Table]:
        """The rows of a piece from a row on, in the columns that are needed."""
        for table in piece.read(start):
            yield cast_table(table, self.input, start, self.whole)
            start += table.num_rows

    def _is_mine(self, piece: int, chunk: int) -> bool:
        return (piece + chunk) % self.count == self.rank

    def _chunk(self, p: int, piece: Piece, chunk: int) -> Iterator[_Item]:
        """One chunk of a piece of known length."""
        size = self.manifest.rows_per_shard
        start = chunk * size
        stop = start + size if piece.num_rows is None else min(start + size, piece.num_rows)
        last = self.manifest.ended(p) == chunk + 1
        at = start
        try:
            for window in _windows(self._read(piece, start), start, size):
                table = window.slice(0, stop - at)
                at += table.num_rows
                yield self._item(p, chunk, at - table.num_rows, table, at == stop, last)
                if at == stop:
                    return
            raise ValueError(f"it ended at row {at:,}, expected {stop:,}")
        except Exception as error:  # noqa: BLE001  (whatever a file may hold)
            yield _Item(p, chunk, error=error)

    def _through(self, p: int, piece: Piece) -> Iterator[_Item]:
        """A piece whose length only reading tells."""
        size = self.manifest.rows_per_shard
        missing = (c for c in range(_FAR) if self._is_mine(p, c) and (p, c) not in self.manifest.shards)
        at = next(missing) * size
        chunk = at // size
        try:
            tables = _windows(self._read(piece, at), at, size)
            following = next(tables, None)
            if following is None and at == 0:
                yield _Item(p, 0, ends=True, last=True)
            while following is not None:
                table, chunk = following, at // size
                at += table.num_rows
                following, broken = _next(tables)  # a piece's last chunk must say so
                ends = at % size == 0
                if self._is_mine(p, chunk) and (p, chunk) not in self.manifest.shards and (ends or broken is None):
                    last = following is None and broken is None
                    yield self._item(p, chunk, at - table.num_rows, table, ends or last, last)
                if broken is not None:
                    yield _Item(p, at // size, error=broken)
        except Exception as error:  # noqa: BLE001
            yield _Item(p, chunk, error=error)

    def _item(self, p: int, chunk: int, start: int, table: pa.Table, ends: bool, last: bool) -> _Item:
        encoded = self.labeler.encode(column_values(table[self.labeler.text_column]))
        return _Item(p, chunk, start, table, encoded, ends, ends and last)


_FAR = 1 << 40


def _next(tables: Iterator[pa.Table]) -> tuple[pa.Table | None, Exception | None]:
    try:
        return next(tables, None), None
    except Exception as error:  # noqa: BLE001
        return None, error


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
