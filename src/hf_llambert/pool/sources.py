"""The pieces of a pool, read one after the other: files, a dataset or a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, DatasetBuilder, Features, IterableDataset, load_dataset, load_dataset_builder
from datasets.table import table_cast

from hf_llambert.data import content_hash, data_files, hub_errors, is_saved_dataset, load_data
from hf_llambert.models import digest_file
from hf_llambert.reading import (
    PLAIN,
    FileFormat,
    MixedTypes,
    check_labels,
    has_no_fields,
    is_wider,
    joined_schema,
    plain_schema,
    plain_types,
    read_parquet,
    read_tables,
    suited,
)
from hf_llambert.reading.hub_files import HubFiles, csv_options, hub_files
from hf_llambert.tasks.texts import TextColumn, column_names, row_texts

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
        size (`int`, defaults to 0): Bytes of its file, where that is here.
    """

    name: str
    identity: str
    num_rows: int | None
    read: Callable[[int], Iterator[pa.Table]]
    features: Features | None = None
    size: int = 0


def pool_pieces(
    pool: Dataset | IterableDataset | str | Path,
    split: str | None = None,
    form: FileFormat = PLAIN,
    config: str | None = None,
) -> list[Piece]:
    """
    The pieces of a pool, in order.

    Args:
        pool: A dataset; a stream, which is known again by its first rows; a .parquet, .jsonl, .ndjson, .json, .csv, .tsv or
            .arrow file (compressed or not), a directory of such files of one kind; a saved dataset or a run's folder; or a
            Hub id, whose files are streamed (CSV and JSON are fetched into the Hub's cache). Files are never copied, and told
            apart by size and 64 places in each.
        split (`str`, *optional*): Split of a Hub id or a saved dataset.
        form (`FileFormat`, *optional*): Encoding and delimiter of files that are here.
        config (`str`, *optional*): Configuration of a Hub id.

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
        return pool_pieces(load_data(path, split, config=config))
    if path.exists():
        if config is not None:
            raise ValueError(f"'{pool}' is here and has no configurations. Leave config (--config) out.")
        kind, files = data_files(pool)
        _check_labels(kind, files, path)
        read = suited(kind, files, form)
        return [_file_piece(kind, path, Path(pool), form, read) for path in files]
    builder, split, urls = _hub_files(str(pool), split, config)
    hub = hub_files(builder, split, form)
    if hub is None:  # the commit is part of the address
        return [Piece(url, url, None, partial(_read_url, builder.name, url, form)) for url in urls]
    # Types of a CSV are decided over all its files; those of JSON stand in it, so each is fetched when its turn comes.
    read = suited("csv", hub.paths(), hub.form) if hub.kind == "csv" else hub.form
    said = "" if hub.form == PLAIN else f" {hub.form!r}"
    return [Piece(url, url + said, None, partial(_read_hub_file, hub, url, read)) for url in urls]


def pool_features(pieces: Sequence[Piece]) -> Features:
    """
    Names of the columns of the first piece that can be read, and their types, as wide as the other Parquet files need them.
    Where types do not go together the first counts, and reading the other says so.

    Raises:
        ValueError: None can, or there are no rows.
    """
    reasons = []
    known = [piece.features for piece in pieces if piece.features is not None]
    if known:
        schema = known[0].arrow_schema
        for features in known[1:]:
            with suppress(ValueError):
                joined = joined_schema(schema, features.arrow_schema)
                schema = pa.schema([joined.field(name) for name in schema.names], schema.metadata)
        return known[0] if schema.equals(known[0].arrow_schema) else Features.from_arrow_schema(schema)
    for piece in pieces:
        try:
            table = next(piece.read(0), None)
        except Exception as error:  # noqa: BLE001  (whatever a file may hold)
            reasons.append(unreadable(piece, error))
        else:
            if table is not None:
                return Features.from_arrow_schema(table.schema)
    raise ValueError(" ".join(reasons) or "The pool has no rows.")


def cast_table(table: pa.Table, features: Features, start: int = 0, whole: bool = False) -> pa.Table:
    """
    A table of one piece with the columns and types that are kept; others are left out.

    Args:
        table (`pa.Table`): The rows.
        features (`Features`): Columns and types.
        start (`int`, defaults to 0): Number of the first row in its piece, for errors.
        whole (`bool`, defaults to `False`): Whether other columns are an error, and not left out.

    Raises:
        ValueError: A column is missing or too many, or a value does not fit; the message names column and row.
    """
    missing = [name for name in features if name not in table.column_names]
    others = [name for name in table.column_names if name not in features] if whole else []
    if missing or others:
        raise ValueError(
            f"expected the columns {list(features)} of the first file, got {table.column_names}. Choose columns that all "
            f"files have with keep=... (--keep)"
        )
    schema, columns = features.arrow_schema, []
    for name in features:
        one = pa.schema([schema.field(name)])
        if has_no_fields(one.field(0).type):
            raise ValueError(
                f"column '{name}' holds objects without any field, which Parquet cannot hold. Leave it out with keep=... (--keep)"
            )
        column = table.select([name])
        try:
            columns.append(_cast(column, one, features)[name])
        except Exception:  # noqa: BLE001  (one row tells which)
            for row in range(table.num_rows):
                try:
                    _cast(column.slice(row, 1), one, features)
                except Exception as error:
                    raise ValueError(
                        f"column '{name}' of row {start + row + 1:,} holds {column[name].type} where {one.field(0).type} "
                        f"was expected ({' '.join(str(error).split())[:150]})"
                    ) from error
            raise
    return pa.Table.from_arrays(columns, schema=schema)


def _cast(column: pa.Table, schema: pa.Schema, features: Features) -> pa.Table:
    """
    A column of another type, where its values are the same in both: a wider type of its kind, or another one for numbers
    that it holds exactly.

    Raises:
        ValueError: They would not be.
    """
    name = schema.names[0]
    read, kept, values = column.schema.field(name).type, schema.field(name).type, column[name]
    if read == kept:
        return column
    if values.null_count == len(values):
        return pa.table({name: pa.nulls(len(values), kept)})
    if not is_wider(kept, read):
        if not (_is_number(read) and _is_number(kept)):
            raise ValueError(f"as {kept} it would not be what is written")
        if not _same(values, values.cast(kept).cast(read)):
            raise ValueError(f"{kept} cannot hold it exactly")
    known = Features({name: features[name]})
    return table_cast(column.replace_schema_metadata(None), known.arrow_schema)


def _same(values: pa.ChunkedArray, others: pa.ChunkedArray) -> bool:
    is_float = pa.types.is_floating(values.type)
    equal = pc.or_(pc.equal(values, others), pc.and_(pc.is_nan(values), pc.is_nan(others))) if is_float else None
    return pc.all(pc.equal(values, others) if equal is None else equal).as_py() is not False


def _is_number(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))


def column_values(column: pa.ChunkedArray) -> list[object]:
    """The values of a column. Those that are not valid UTF-8 come as bytes, and are as unusable as any other non-text."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        kind = pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()
        return [_decoded(value) for chunk in column.chunks for value in chunk.view(kind).to_pylist()]


def table_texts(table: pa.Table, column: TextColumn) -> list:
    """The rows of a table as texts; see [`row_texts`]."""
    return row_texts({name: column_values(table[name]) for name in column_names(column)}, column)


def table_strings(table: pa.Table, column: TextColumn) -> pa.Array | None:
    """The rows of a table as Arrow strings, where they are one column of valid ones; `None` elsewhere."""
    names = column_names(column)
    strings = table[names[0]].combine_chunks()
    if len(names) > 1 or not (pa.types.is_string(strings.type) or pa.types.is_large_string(strings.type)):
        return None
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:  # bytes that are no UTF-8
        return None
    return strings


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


def _check_labels(kind: str, files: Sequence[Path], root: Path) -> None:
    """Check that Parquet and Arrow files number their labels alike."""
    labels: dict[str, tuple[str, object]] = {}
    for path in files if kind in ("parquet", "arrow") and len(files) > 1 else ():
        schema = None
        with suppress(Exception):  # reading it says why not
            if path.suffix.lower() == ".parquet":
                schema = pq.read_schema(path)
            elif (table := next(read_tables(kind, path, PLAIN), None)) is not None:
                schema = table.schema
        if schema is not None:
            try:
                check_labels(labels, schema, path.relative_to(root).as_posix())
            except MixedTypes as error:
                raise ValueError(f"'{path}' cannot be read with the others: {error}.") from error


def _file_piece(kind: str, path: Path, root: Path, form: FileFormat, read: FileFormat) -> Piece:
    name = path.relative_to(root).as_posix() if path != root else path.name
    digest = hashlib.sha256()
    digest_file(path, digest, sampled=True)
    if form != PLAIN and kind in ("csv", "json"):
        digest.update(repr(form).encode())
    if kind in ("csv", "json"):  # another file beside it may change its types
        with suppress(Exception):  # reading it says why not
            digest.update(str(next(read_tables(kind, path, read)).schema).encode())
    identity = digest.hexdigest()[:32]
    if kind != "parquet" or path.suffix.lower() != ".parquet":
        size = path.stat().st_size
        return Piece(name, identity, None, partial(read_tables, kind, path, read, size=_READ), size=size)
    num_rows = features = None
    with suppress(pa.ArrowException, OSError), pq.ParquetFile(path) as file:  # reading it says why not
        num_rows = file.metadata.num_rows
        schema = plain_schema(file.schema_arrow)
        if len(set(schema.names)) == len(schema.names):
            with suppress(ValueError, TypeError, KeyError):
                features = Features.from_arrow_schema(schema)
    return Piece(name, identity, num_rows, partial(_read_parquet, path), features, path.stat().st_size)


def _read_parquet(path: Path, start: int) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        yield from read_parquet(file, start, _READ)


def _read_url(kind: str, url: str, form: FileFormat, start: int) -> Iterator[pa.Table]:
    options = csv_options(form) if kind == "csv" else {}
    stream = load_dataset(kind, data_files=[url], split="train", streaming=True, **options)
    yield from map(plain_types, _read_stream(stream, start))


def _read_hub_file(hub: HubFiles, url: str, form: FileFormat, start: int) -> Iterator[pa.Table]:
    yield from hub.tables(url, form, start, _READ)


def _hub_files(name: str, split: str | None, config: str | None) -> tuple[DatasetBuilder, str | None, list[str]]:
    with hub_errors(name, config):
        builder = load_dataset_builder(name, config)
    files = builder.config.data_files or {}
    if split is None and len(files) == 1:
        split = str(next(iter(files)))
    if split not in files:
        raise ValueError(f"'{name}' has the splits {[str(s) for s in files]}; got split={split!r}. Pass one of them.")
    return builder, split, [str(file) for file in files[split]]
