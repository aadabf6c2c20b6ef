"""Rows of JSON: an object on each line, or an array of objects."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.json as paj

from hf_llambert.reading.columns import MixedTypes, fitted, is_wider, joined_schema
from hf_llambert.reading.formats import DAMAGED, FileFormat, open_text
from hf_llambert.reading.halves import Halves

_BLOCK = 10 << 20  # bytes of lines that are read at once
_LONGEST = 64 << 20  # characters that an object on several lines may have
_SNIFFED = 4096  # characters by which an array is known
_DEPTH = 50  # levels of a value
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_LARGE = b"0" * 16  # as many digits as a number has that float64 may change
_BLANK = re.compile(r"[ \t\r\n]*")
_BRACKET = re.compile(rb"[\[\]{}]")


def json_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    """
    The rows of a JSON file, each table with all columns of the file in their order. Types are those of the format where it
    has some that take the file's values as they are, else the file's own. Warns, at its end, of halves of characters.
    """
    form = json_form([path], form) if form.column_types is None else form
    own, known = _seen(path, form).schema, form.column_types or {}
    wide = [one.with_type(known.get(one.name, one.type)) for one in own]
    schema = pa.schema([two if is_wider(two.type, one.type) else one for one, two in zip(own, wide, strict=True)])
    halves = Halves(form.text_columns)
    for table in _read_blocks(path, form, halves, schema):
        yield fitted(table, schema)
    halves.warn(path)


def json_form(files: Sequence[Path], form: FileFormat) -> FileFormat:
    """
    The format with the types that suit all of some JSON files: a string is one, whatever it looks like, and whole numbers
    that no type of Arrow holds exactly are strings as they are written. Where types do not go together the first counts.
    """
    written = set(form.label_columns)
    for path in files:
        written |= _seen(path, form).too_large
    form = replace(form, label_columns=(*form.label_columns, *sorted(written - set(form.label_columns))))
    schema = pa.schema([])
    for path in files:
        schema = _joined(schema, _seen(path, form).schema)
    if len(files) > 1:  # a number may be too large only beside the decimals of another file
        doubles = {one.name for one in schema if pa.types.is_floating(one.type)}
        more = sorted(doubles & set().union(*(_seen(path, form).large for path in files)))
        if more:
            return json_form(files, replace(form, label_columns=(*form.label_columns, *more)))
    return replace(form, column_types={one.name: one.type for one in schema if not pa.types.is_null(one.type)})


@dataclass
class _Seen:
    """Columns of a JSON file, and those with whole numbers that float64 (`large`) or their type (`too_large`) changes."""

    schema: pa.Schema
    large: set[str]
    too_large: set[str]


def _seen(path: Path, form: FileFormat) -> _Seen:
    try:
        stat = path.stat()
    except OSError:  # reading it says why not
        return _Seen(pa.schema([]), set(), set())
    return _look_through(path, stat.st_size, stat.st_mtime_ns, replace(form, column_types=None))


@lru_cache(4096)
def _look_through(path: Path, size: int, changed: int, form: FileFormat) -> _Seen:
    """What a file has, as far as it can be read."""
    seen = _Seen(pa.schema([]), set(), set())
    with suppress(ValueError, *DAMAGED, RecursionError, pa.ArrowException):  # reading it says why not
        for table in _read_blocks(path, form, Halves(form.text_columns), None, seen):
            fields = [one.with_type(_timeless(one.type)) for one in table.schema]
            seen.schema = _joined(seen.schema, pa.schema(fields))
    doubles = {one.name for one in seen.schema if pa.types.is_floating(one.type)}
    seen.too_large |= seen.large & doubles
    return seen


def _joined(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    """The columns of both, each as wide as both need it; of types that do not go together the first."""
    for one in other:
        with suppress(MixedTypes):
            schema = joined_schema(schema, pa.schema([one]))
    return schema


def _timeless(kind: pa.DataType) -> pa.DataType:
    """A type as Arrow guesses it, with strings for times: JSON has none."""
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_timeless(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([one.with_type(_timeless(one.type)) for one in kind])
    return kind


def _read_blocks(
    path: Path, form: FileFormat, halves: Halves, schema: pa.Schema | None, seen: _Seen | None = None
) -> Iterator[pa.Table]:
    """The rows as tables of the types of a schema, else as Arrow guesses them; notes large numbers in `seen`."""
    kept = pa.schema([(name, pa.string()) for name in form.label_columns])
    types = kept if schema is None else schema
    options = paj.ParseOptions(explicit_schema=types if len(types) else None)
    for first, read in _json_blocks(path, form):
        _check_depth(read, first)
        sound = halves.mended(read)
        block, names = _labels_as_written(sound, form.label_columns, first) if form.label_columns else (sound, {})
        if not block.strip():
            continue
        if _LARGE in block.translate(_DIGITS):  # eight times as fast as a regular expression
            _check_large(block, first, schema, seen)
        try:
            table = paj.read_json(
                io.BytesIO(block), paj.ReadOptions(block_size=max(len(block), 1 << 16)), parse_options=options
            )
        except pa.ArrowInvalid as error:
            raise ValueError(f"from line {first:,} on: {error}. Expected a JSON object on each line") from error
        yield table.select([name for name in names if name in table.column_names]) if names else table


def _check_large(block: bytes, first: int, schema: pa.Schema | None, seen: _Seen | None) -> None:
    """Note large numbers of columns. Raises `ValueError` for those inside of lists and objects that would be changed."""
    for line, row in _objects(block, first):
        for name, value in row.items():
            is_nested = isinstance(value, (dict, list))
            for number in _whole_numbers(value):
                is_beyond, is_changed = not -(2**63) <= number < 2**63, not _is_double(number)
                as_double = schema is not None and name in schema.names and "double" in str(schema.field(name).type)
                if is_nested and (is_beyond or (is_changed and as_double)):
                    raise ValueError(
                        f"line {line:,} holds {number} inside column '{name}', which would be changed. Write it as a string"
                    )
                if seen is not None and is_changed and not is_nested:
                    seen.large.add(name)
                if seen is not None and is_beyond and not is_nested:
                    seen.too_large.add(name)


def _whole_numbers(value: object) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _whole_numbers(one)


def _is_double(number: int) -> bool:
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


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
    with open_text(path, form) as text:
        head = ""
        while not head.strip() and (part := text.read(_SNIFFED)):
            head += part
        if head.lstrip().startswith("["):
            try:
                rows = _DECODER.decode(head + text.read())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"it is no JSON array of objects ({_said(error)})") from error
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("it is a JSON array of other things than objects. Expected an object for each row")
            yield 1, "\n".join(_dumped(row, form.label_columns, n) for n, row in enumerate(rows, start=1)).encode()
            return
        rest = ""
        while head:
            more = text.read(_BLOCK)
            block = rest + head + more + ("" if head.endswith("\n") and not more else text.readline())
            head, rest = text.read(_SNIFFED), ""
            if not _is_lines(block):
                block, rest = _as_lines(block, line, form.label_columns, is_all=not head)
            yield line, block.encode()
            line += block.count("\n")


def _is_lines(block: str) -> bool:
    """Whether all lines begin and end as objects do: then none of them goes on in the next, which would need a comma."""
    lines = (line.strip() for line in block.split("\n"))
    return all(not line or (line[0] == "{" and line[-1] == "}") for line in lines)


def _as_lines(text: str, first: int, columns: Sequence[str], is_all: bool) -> tuple[str, str]:
    """
    Objects over several lines as one line each, with as many line breaks as they had, so that lines keep their numbers;
    and the part of the last one whose end is not read yet.
    """
    out, line, at = list[str](), first, 0
    try:
        for number, row, end in _run_together(text, first):
            out += ["\n" * (number - line) or " ", _dumped(row, columns, number)]
            line, at = number, end
    except ValueError:
        if is_all or len(text) - at > _LONGEST:
            raise
    out.append("\n" * (first + text.count("\n", 0, at) - line))
    return "".join(out), text[at:]


def _dumped(row: dict, columns: Sequence[str], number: int) -> str:
    """A row as a line of JSON, with the values of some columns as strings."""
    return json.dumps(row | {name: _as_written(row[name], name, number) for name in columns if name in row})


def _labels_as_written(block: bytes, columns: Sequence[str], first: int) -> tuple[bytes, dict[str, None]]:
    """JSON lines with the values of some columns as strings, and all their columns in order."""
    out: list[str] = []
    order: dict[str, None] = {}
    for number, row in _objects(block, first):
        order |= dict.fromkeys(row)
        out.append(_dumped(row, columns, number))
    return "\n".join(out).encode(), order


def _objects(block: bytes, first: int) -> Iterator[tuple[int, dict]]:
    """The objects of JSON lines with the numbers of their lines; also several on a line."""
    lines = block.decode().split("\n")
    for at, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = _DECODER.decode(line)
        except (ValueError, RecursionError):
            for number, several, _ in _run_together(line, first + at):
                yield number, several
            continue
        yield first + at, _object(row, first + at)


def _run_together(text: str, line: int) -> Iterator[tuple[int, dict, int]]:
    """Objects that follow one another with any space between, the line where each begins and the place where it ends."""
    at = 0
    while rest := _BLANK.match(text, at):
        line += rest[0].count("\n")
        at = rest.end()
        if at == len(text):
            return
        try:
            row, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else _said(error)
            raise ValueError(f"line {line:,} is no JSON ({reason})") from error
        yield line, _object(row, line), end
        line += text.count("\n", at, end)
        at = end


def _object(row: object, line: int) -> dict:
    if not isinstance(row, dict):
        raise ValueError(f"line {line:,} is no JSON object. Expected one on each line")
    return row


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        repeated = next(name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k]))
        raise ValueError(f"it has {repeated!r} twice")
    return row


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
        if math.isinf(number):
            raise ValueError(f"the number {written[:40]} is too large for float64")
        number.written = written
        return number

    written: str


_DECODER = json.JSONDecoder(parse_int=_Whole, parse_float=_Decimal, object_pairs_hook=_once)


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
