"""Reading one file of rows: Parquet, JSON, CSV or Arrow, compressed or not, by exactly the name it has."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as data_field
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as paj
import pyarrow.parquet as pq

_ROWS = 10_000  # of a CSV that are read, and whose types are guessed, at once
_BLOCK = 10 << 20  # bytes of JSON lines that are read at once
_SNIFFED = 4096  # bytes by which an encoding is guessed
_SEPARATORS = ";\t|"
_DEPTH = 50  # levels of a JSON value
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_BRACKET = re.compile(rb"[\[\]{}]")


@dataclass(frozen=True)
class FileFormat:
    """
    What a file of texts does not say about itself.

    Args:
        encoding (`str`, defaults to `"utf-8"`): Of CSV and JSON, by the names of Python. A byte order mark is no text.
        delimiter (`str`, defaults to `","`): What stands between the fields of a CSV.
        label_columns (`Sequence[str]`, defaults to none): Columns of CSV and JSON whose values are read as strings, as
            they are written: `01` and `1.0` stay that; an empty cell and a JSON null are null.
        string_columns (`Sequence[str]`, defaults to none): More such columns, of CSV only. They are found out, not asked
            for, and no part of what a file is known by.

    Raises:
        ValueError: No such encoding, or a delimiter of several characters.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    label_columns: Sequence[str] = ()
    string_columns: Sequence[str] = data_field(default=(), repr=False)

    def __post_init__(self) -> None:
        try:
            "a".encode(self.encoding)
        except (LookupError, ValueError) as error:  # none of that name, or one between bytes, such as base64
            raise ValueError(
                f"There is no encoding {self.encoding!r}. Pass encoding=... (--encoding), such as utf-16 or cp1252."
            ) from error
        object.__setattr__(self, "delimiter", {"\\t": "\t"}.get(self.delimiter, self.delimiter))
        object.__setattr__(self, "label_columns", tuple(dict.fromkeys(self.label_columns)))
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            raise ValueError(f"delimiter (--delimiter) must be one character, such as ';', got {self.delimiter!r}.")

    @property
    def codec(self) -> str:
        """The encoding, a byte order mark left out."""
        return "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding


PLAIN = FileFormat()
"""UTF-8, commas, and types as they are guessed."""


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
        raise _wrong_encoding(form, _guess(path)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


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


def plain_types(table: pa.Table) -> pa.Table:
    """The same table with its views of strings and bytes as plain strings and bytes, which `datasets` knows."""
    schema = plain_schema(table.schema)
    return table if schema == table.schema else table.cast(schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of [`plain_types`]."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema], schema.metadata)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return kind


def check_labels(seen: dict[str, tuple[str, object]], schema: pa.Schema, name: str) -> None:
    """
    See that files number the names of their labels alike, or their rows would get the names of others.

    Args:
        seen (`dict`): Of each column, the file that has it first and the names of its labels; what is new is added.
        schema (`pa.Schema`): Columns of the next file, with the notes of `datasets`.
        name (`str`): The next file.

    Raises:
        MixedTypes: They do not.
    """
    features: dict[str, object] = {}
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        features.update(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    for column in schema:
        if pa.types.is_null(column.type):
            continue
        names = _label_names(features.get(column.name))
        first, known = seen.setdefault(column.name, (name, names))
        if names != known:
            raise MixedTypes(
                column.name,
                f"column '{column.name}' holds {_labels_said(names)} where '{first}' holds {_labels_said(known)}. Read the "
                f"files one by one, or write them with the same ClassLabel names",
            )


def _label_names(feature: object) -> object:
    """The names of all `ClassLabel` in a feature, as `datasets` notes it."""
    if isinstance(feature, list):
        return [found for part in feature if (found := _label_names(part))]
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        return [feature.get("names")]
    return [found for part in feature.values() if (found := _label_names(part))]


def _labels_said(names: object) -> str:
    return f"a ClassLabel of {names}" if names else "no ClassLabel"


class MixedTypes(ValueError):
    """A column has types that do not go together."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def joined_schema(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """
    One schema for the rows of two, as written to one table: columns of both; null and whole numbers give way.

    Raises:
        MixedTypes: A column has types that do not go together; the message names it and both types.
    """
    fields = {field.name: field for field in first}
    for field in second:
        known = fields.get(field.name, field)
        try:
            fields[field.name] = pa.unify_schemas(
                [pa.schema([known]), pa.schema([field])], promote_options="permissive"
            ).field(0)
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise MixedTypes(field.name, f"column '{field.name}' holds {field.type}, expected {known.type}") from error
    return pa.schema(list(fields.values()), first.metadata)


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns and types of [`joined_schema`]; columns that it has not are null."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _open(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed."""
    if path.suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(pa.input_stream(str(path), compression="zstd")))
    opened = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix, open)
    return cast(IO[bytes], opened(path, "rb"))  # type: ignore[operator]


def _whole(path: Path) -> BinaryIO | Path:
    """A file to seek in."""
    if path.suffix not in (".gz", ".bz2", ".xz", ".zst"):
        return path
    with _open(path) as file:
        return io.BytesIO(file.read())


def _parquet_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    with pq.ParquetFile(_whole(path)) as file:
        yield from read_parquet(file, 0, _ROWS)


def _arrow_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    place = _whole(path)
    try:
        batches = pa.ipc.open_stream(pa.memory_map(str(place)) if isinstance(place, Path) else place)
    except pa.ArrowInvalid:
        place = _whole(path)
        file = pa.ipc.open_file(pa.memory_map(str(place)) if isinstance(place, Path) else place)
        for k in range(file.num_record_batches):
            yield pa.Table.from_batches([file.get_batch(k)])
        return
    for batch in batches:
        yield pa.Table.from_batches([batch])


def _csv_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    import pandas as pd

    with _text(path, form) as text:
        checked = _checked_rows(text, form)
        header = next(checked, None)
        if header is None:
            return
        rows = list(islice(checked, _ROWS))
        while True:
            frame = pd.read_csv(
                _quoted([header, *rows]),  # pandas guesses types, and has no say in what is a row
                index_col=False,
                skip_blank_lines=False,
                keep_default_na=False,  # or pandas reads texts such as "None" or "NA" as missing
                na_values=[""],
                converters=dict.fromkeys((*form.label_columns, *form.string_columns), str),
            )
            table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
            yield _empty_as_null(table, (*form.label_columns, *form.string_columns))
            if not (rows := list(islice(checked, _ROWS))):
                break


def _quoted(rows: Sequence[Sequence[str]]) -> io.StringIO:
    """Rows as a CSV in which nothing can be taken for something else."""
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    file.seek(0)
    return file


def _empty_as_null(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    for name in set(columns) & set(table.column_names):
        column = table[name].cast(pa.string())
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _checked_rows(text: IO[str], form: FileFormat) -> Iterator[list[str]]:
    """
    The header and the rows of a CSV, each with as many fields as the header: pandas takes what is too much for an index,
    and shifts the rest. An empty line is no row.
    """
    csv.field_size_limit(2**31 - 1)
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield from text
        ended = True

    rows = csv.reader(lines(), delimiter=form.delimiter)
    header, line = None, 1
    try:
        for row in rows:
            if ended:  # the last row ends with its line, unless that is inside quotes
                raise ValueError(
                    f"line {line:,} opens a double quote that nothing closes. Write it twice inside a field"
                )
            if not row or (len(row) == 1 and not row[0].strip(" \t") and (header is None or len(header) > 1)):
                pass  # an empty line
            elif header is None:
                header = row
                _check_header(header, form)
                yield row
            elif len(row) != len(header):
                raise ValueError(
                    f"line {line:,} has {len(row)} fields, the header {len(header)}: {header}. Put a field that holds "
                    f"{form.delimiter!r} or a line break in double quotes, or pass the right delimiter (--delimiter)"
                )
            else:
                yield row
            line = rows.line_num + 1
    except csv.Error as error:
        raise ValueError(f"line {line:,} is no CSV ({error})") from error


def _check_header(header: list[str], form: FileFormat) -> None:
    other = next((mark for mark in _SEPARATORS if mark in header[0]), None) if len(header) == 1 else None
    if other is not None and form.delimiter not in _SEPARATORS:
        shown = "\\t" if other == "\t" else other
        raise ValueError(
            f"its header {header[0]!r} is one field and looks separated by '{shown}'. Pass delimiter='{shown}' "
            f"(--delimiter '{shown}')"
        )
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise ValueError(f"it has several columns of the name {repeated[0]!r}. Rename them")


def _text(path: Path, form: FileFormat) -> io.TextIOWrapper:
    if form.codec == "utf-8-sig" and (guess := _guess(path)) not in ("utf-8", "cp1252"):
        raise _wrong_encoding(form, guess)
    return io.TextIOWrapper(io.BufferedReader(cast(io.RawIOBase, _open(path))), encoding=form.codec, newline="")


def _guess(path: Path) -> str:
    """The encoding that the beginning of a file looks like."""
    with _open(path) as file:
        head = file.read(_SNIFFED)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head and head.count(0) > len(head) // 4:
        return "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _wrong_encoding(form: FileFormat, guess: str) -> ValueError:
    like = (
        "cp1252" if guess == "utf-8" and form.codec == "utf-8-sig" else guess
    )  # what is not UTF-8 stands further down
    return ValueError(f"it is not {form.encoding}, it looks like {like}. Pass encoding='{like}' (--encoding {like})")


def _json_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    kept = pa.schema([(name, pa.string()) for name in form.label_columns])
    options = paj.ParseOptions(explicit_schema=kept if form.label_columns else None)
    order: dict[str, None] = {}  # of the columns, as the file has them; Arrow puts those of a schema first
    for first, read in _json_blocks(path, form):
        _check_depth(read, first)
        block, names = _labels_as_written(read, form.label_columns, first) if form.label_columns else (read, {})
        order |= names
        if not block.strip():
            continue
        block = _ESCAPE.sub(lambda found: b"\\ufffd" if found["half"] else found[0], block)  # of characters
        try:
            table = paj.read_json(
                io.BytesIO(block), paj.ReadOptions(block_size=max(len(block), 1 << 16)), parse_options=options
            )
        except pa.ArrowInvalid as error:
            raise ValueError(f"from line {first:,} on: {error}. Expected a JSON object on each line") from error
        yield table.select([name for name in order if name in table.column_names]) if form.label_columns else table


def _check_depth(block: bytes, first: int) -> None:
    """Raise a `ValueError` that names a line nested so deeply that Arrow or Python would end over it."""
    for number, line in enumerate(block.split(b"\n"), start=first):
        if line.count(b"[") + line.count(b"{") <= _DEPTH:
            continue
        depth = 0
        for mark in _BRACKET.findall(_STRING.sub(b"", line)):
            depth += 1 if mark in b"[{" else -1
            if depth > _DEPTH:
                raise ValueError(f"line {number:,} is nested too deeply. Expected at most {_DEPTH} levels")


def _json_blocks(path: Path, form: FileFormat) -> Iterator[tuple[int, bytes]]:
    """JSON lines in UTF-8, many at once, and the number of the first; a file that is one array comes as lines."""
    line = 1
    with _text(path, form) as text:
        head = ""
        while not head.strip() and (part := text.read(_SNIFFED)):
            head += part
        if head.lstrip().startswith("["):
            try:
                rows = json.loads(head + text.read(), parse_int=_Whole, parse_float=_Decimal)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"it is no JSON array of objects ({_said(error)})") from error
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("it is a JSON array of other things than objects. Expected an object for each row")
            for number, row in enumerate(rows, start=1):
                row.update({name: _as_written(row[name], name, number) for name in form.label_columns if name in row})
            rows_text = "\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
            yield 1, rows_text.encode()
            return
        while head:
            more = text.read(_BLOCK)
            rest = "" if head.endswith("\n") and not more else text.readline()
            block = head + more + rest
            try:
                yield line, block.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"it holds half a character (a lone surrogate) after line {line:,}") from error
            line += block.count("\n")
            head = text.read(_SNIFFED)


def _labels_as_written(block: bytes, columns: Sequence[str], first: int) -> tuple[bytes, dict[str, None]]:
    """JSON lines with the values of some columns as strings, and all their columns in order."""
    out: list[str] = []
    order: dict[str, None] = {}
    for number, line in enumerate(block.decode().split("\n"), start=first):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=_Whole, parse_float=_Decimal)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number:,} is no JSON ({_said(error)})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number:,} is no JSON object. Expected one on each line")
        order |= dict.fromkeys(row)
        for name in columns:
            if name in row:
                row[name] = _as_written(row[name], name, number)
        out.append(json.dumps(row))
    return "\n".join(out).encode(), order


class _Whole(int):
    """A whole number that remembers how it was written."""

    def __new__(cls, written: str) -> _Whole:
        number = super().__new__(cls, written)
        number.written = written
        return number

    written: str


class _Decimal(float):
    """A number that remembers how it was written."""

    def __new__(cls, written: str) -> _Decimal:
        number = super().__new__(cls, written)
        number.written = written
        return number

    written: str


def _as_written(value: object, column: str, line: int) -> str | None:
    if isinstance(value, (_Whole, _Decimal)):
        return value.written
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, float):  # NaN
        return None
    raise ValueError(f"column '{column}' holds a {type(value).__name__} in row {line:,}. Expected a label")


def _said(error: BaseException) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


_READERS = {"parquet": _parquet_tables, "json": _json_tables, "csv": _csv_tables, "arrow": _arrow_tables}
