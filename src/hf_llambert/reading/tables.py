"""The rows of one file of any kind as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hf_llambert.reading.columns import plain_types
from hf_llambert.reading.csv_rows import csv_tables, csv_types
from hf_llambert.reading.encodings import wrong_encoding
from hf_llambert.reading.formats import DAMAGED, PACKED, FileFormat, open_bytes, seekable
from hf_llambert.reading.json_rows import json_form, json_tables

_ROWS = 10_000  # that are read at once


def suited(kind: str, files: Sequence[Path], form: FileFormat) -> FileFormat:
    """The format with the types of columns that suit all of some files, where these do not say them."""
    if kind == "csv":
        return replace(form, column_types=csv_types(files, form))
    return json_form(files, form) if kind == "json" else form


def read_tables(kind: str, path: Path, form: FileFormat, start: int = 0, size: int = _ROWS) -> Iterator[pa.Table]:
    """
    The rows of a file from a row number on, as tables of at most `size` rows.

    Args:
        kind (`str`): parquet, json, csv or arrow.
        path (`Path`): The file.
        form (`FileFormat`): What it does not say about itself.
        start (`int`, defaults to 0): The first row, counted from 0.
        size (`int`, defaults to 10,000): Most rows of a table.

    Raises:
        ValueError: It is not of that kind, encoding or delimiter; the sentence says at which line, where there are lines.
    """
    try:
        for table in _READERS[kind](path, form):
            if start >= table.num_rows:
                start -= table.num_rows
                continue
            for first in range(start, table.num_rows, size):
                yield plain_types(table.slice(first, size))
            start = 0
    except UnicodeError as error:
        raise wrong_encoding(open_bytes(path), form.codec, form.encoding) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except DAMAGED as error:
        if path.suffix.lower() not in PACKED:
            raise
        raise ValueError(f"what is packed in it is cut or damaged ({error}). Fetch or pack it again") from error


def read_parquet(file: pq.ParquetFile, start: int, size: int) -> Iterator[pa.Table]:
    """The rows of a Parquet file from a row number on; row groups before it are not read."""
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
    for batch in file.iter_batches(batch_size=size, row_groups=groups):
        table = plain_types(pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata))
        if start < table.num_rows:
            yield table.slice(start)
        start = max(0, start - table.num_rows)


def _parquet_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    with pq.ParquetFile(seekable(path)) as file:
        yield from read_parquet(file, 0, _ROWS)


def _arrow_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    place = seekable(path)
    try:
        batches = pa.ipc.open_stream(pa.memory_map(str(place)) if isinstance(place, Path) else place)
    except pa.ArrowInvalid:
        place = seekable(path)
        file = pa.ipc.open_file(pa.memory_map(str(place)) if isinstance(place, Path) else place)
        for k in range(file.num_record_batches):
            yield pa.Table.from_batches([file.get_batch(k)])
        return
    for batch in batches:
        yield pa.Table.from_batches([batch])


_READERS = {"parquet": _parquet_tables, "json": json_tables, "csv": csv_tables, "arrow": _arrow_tables}
