"""Where a pool comes from, in pieces that are read one after the other: files, a dataset, a stream."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError
from datasets.table import table_cast

from hf_llambert.data import content_hash, data_files, is_saved_dataset, load_data, reading_options
from hf_llambert.models import digest_file

_READ = 1000  # rows that are read at once
_PEEK = 100  # rows by which a stream is known again


@dataclass(frozen=True)
class Piece:
    """
    A part of a pool whose rows have an order: a file, or all of a dataset.

    Args:
        name (`str`): What to call it in errors.
        identity (`str`): Changes with its content.
        num_rows (`int`, *optional*): How many rows it has, where that is known before it is read.
        read (`Callable`): From a row number to tables with the rows from there on.
        features (`Features`, *optional*): Names and types of its columns, where they are known before it is read.
    """

    name: str
    identity: str
    num_rows: int | None
    read: Callable[[int], Iterator[pa.Table]]
    features: Features | None = None


def pool_pieces(pool: Dataset | IterableDataset | str | Path, split: str | None = None) -> list[Piece]:
    """
    The pieces of a pool, in order.

    Args:
        pool: A dataset; a stream, which is known again by its first rows; a .parquet, .jsonl, .json, .csv or .arrow file
            (compressed or not), a directory of such files of one kind; a saved dataset or a run's folder; or a Hub id, whose
            files are streamed. Files are never copied, and told apart by size and 64 places in each.
        split (`str`, *optional*): Split of a Hub id or a saved dataset.

    Raises:
        FileNotFoundError: There is no such file, directory or Hub dataset.
        ValueError: A directory without such files, or with several kinds.
    """
    if isinstance(pool, Dataset):
        return [Piece("the dataset", content_hash(pool), len(pool), partial(_read_dataset, pool), pool.features)]
    if isinstance(pool, IterableDataset):
        return [Piece("the stream", _stream_identity(pool), None, partial(_read_stream, pool), pool.features)]
    path = Path(pool)
    if is_saved_dataset(path) or (path / "annotated").is_dir():
        return pool_pieces(load_data(path, split))
    if path.exists():
        kind, files = data_files(pool)
        return [_file_piece(kind, path, root=Path(pool)) for path in files]
    kind, urls = _hub_files(str(pool), split)
    return [Piece(url, url, None, partial(_read_file, kind, url)) for url in urls]  # the commit is part of the address


def pool_features(pieces: Sequence[Piece]) -> Features:
    """
    Names and types of the columns, from the first piece that can be read.

    Raises:
        ValueError: None can, or there are no rows.
    """
    reasons = []
    for piece in pieces:
        if piece.features is not None:
            return piece.features
        try:
            table = next(piece.read(0), None)
        except Exception as error:  # noqa: BLE001  (whatever a file may hold)
            reasons.append(unreadable(piece, error))
        else:
            if table is not None:
                return Features.from_arrow_schema(table.schema)
    raise ValueError(" ".join(reasons) or "The pool has no rows.")


def cast_table(table: pa.Table, features: Features) -> pa.Table:
    """
    A table of one piece with the columns and types of the first.

    Raises:
        ValueError: It has other columns, or a value does not fit.
    """
    if sorted(table.column_names) != sorted(features):
        raise ValueError(f"expected the columns {list(features)}, got {table.column_names}")
    return table_cast(table.select(list(features)), features.arrow_schema)


def column_values(column: pa.ChunkedArray) -> list[object]:
    """The values of a column. Those that are not valid UTF-8 come as bytes, and are as unusable as any other non-text."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        kind = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
        return [_decoded(value) for chunk in column.chunks for value in chunk.view(kind).to_pylist()]


def unreadable(piece: Piece, error: BaseException) -> str:
    """One sentence about a piece that cannot be read."""
    reason = str(error).strip() or str(error.__cause__ or "").strip() or type(error).__name__
    return f"'{piece.name}' cannot be read: {' '.join(reason.split())[:300]}."


def _decoded(value: bytes | None) -> object:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _read_dataset(dataset: Dataset, start: int) -> Iterator[pa.Table]:
    rows = dataset.with_format("arrow")
    for first in range(start, len(dataset), _READ):
        yield rows[first : min(first + _READ, len(dataset))]


def _read_stream(stream: IterableDataset, start: int) -> Iterator[pa.Table]:
    yield from stream.skip(start).with_format("arrow").iter(batch_size=_READ)


def _stream_identity(stream: IterableDataset) -> str:
    rows = list(stream.take(_PEEK))
    return hashlib.sha256(json.dumps(rows, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _file_piece(kind: str, path: Path, root: Path) -> Piece:
    name = path.relative_to(root).as_posix() if path != root else path.name
    digest = hashlib.sha256()
    digest_file(path, digest, sampled=True)
    identity = digest.hexdigest()[:32]
    if kind != "parquet":
        return Piece(name, identity, None, partial(_read_file, kind, str(path)))
    try:
        num_rows = pq.ParquetFile(path).metadata.num_rows
    except (pa.ArrowException, OSError):
        num_rows = None  # reading it says why
    return Piece(name, identity, num_rows, partial(_read_parquet, path))


def _read_parquet(path: Path, start: int) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        repeated = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
        if repeated:
            raise ValueError(f"it has several columns of the name {repeated[0]!r}. Rename them")
        groups: list[int] = []
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start >= rows and not groups:
                start -= rows
            else:
                groups.append(group)
        if not groups and file.metadata.num_rows:
            return
        for batch in file.iter_batches(batch_size=_READ, row_groups=groups):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata)
            if start < table.num_rows:
                yield table.slice(start)
            start = max(0, start - table.num_rows)


def _read_file(kind: str, path: str, start: int) -> Iterator[pa.Table]:
    stream = load_dataset(kind, data_files=[path], split="train", streaming=True, **reading_options(kind))
    yield from _read_stream(stream, start)


def _hub_files(name: str, split: str | None) -> tuple[str, list[str]]:
    try:
        builder = load_dataset_builder(name)
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise FileNotFoundError(
            f"'{name}' is no file or directory here, and no dataset of that name could be had from the Hub: {error}"
        ) from error
    files = builder.config.data_files or {}
    if split is None and len(files) == 1:
        split = str(next(iter(files)))
    if split not in files:
        raise ValueError(f"'{name}' has the splits {[str(s) for s in files]}; got split={split!r}. Pass one of them.")
    return builder.name, [str(file) for file in files[split]]
