"""Rows of JSON: an object on each line, or an array of objects."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as paj

from hf_llambert.reading.formats import FileFormat, open_text
from hf_llambert.reading.halves import Halves

_BLOCK = 10 << 20  # bytes of lines that are read at once
_SNIFFED = 4096  # characters by which an array is known
_DEPTH = 50  # levels of a value
_LONG = re.compile(rb"\d{19}")  # of digits: such a number may be beyond 64 bits
_DIGITS = 4300  # of a number that Python reads
_LEAST, _MOST = -(2**63), 2**63 - 1
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKET = re.compile(rb"[\[\]{}]")


def json_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    """The rows of a JSON file. Warns, at its end, of halves of characters."""
    kept = pa.schema([(name, pa.string()) for name in form.label_columns])
    options = paj.ParseOptions(explicit_schema=kept if form.label_columns else None)
    order: dict[str, None] = {}  # of the columns, as the file has them; Arrow puts those of a schema first
    halves = Halves(form.text_column)
    for first, read in _json_blocks(path, form):
        _check_depth(read, first)
        _check_whole_numbers(read, first, form.label_columns)
        sound = halves.mended(read)
        block, names = _labels_as_written(sound, form.label_columns, first) if form.label_columns else (sound, {})
        order |= names
        if not block.strip():
            continue
        try:
            table = paj.read_json(
                io.BytesIO(block), paj.ReadOptions(block_size=max(len(block), 1 << 16)), parse_options=options
            )
        except pa.ArrowInvalid as error:
            raise ValueError(f"from line {first:,} on: {error}. Expected a JSON object on each line") from error
        yield table.select([name for name in order if name in table.column_names]) if form.label_columns else table
    halves.warn(path)


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


def _check_whole_numbers(block: bytes, first: int, kept: Sequence[str]) -> None:
    """Raise a `ValueError` that names a line with a whole number that Arrow would round; columns in `kept` stay as written."""
    for number, line in enumerate(block.split(b"\n"), start=first) if _LONG.search(block) else ():
        if _LONG.search(_STRING.sub(b"", line)) is None:
            continue
        try:
            row = json.loads(line, parse_int=_Whole)
        except (ValueError, RecursionError):
            continue  # reading it says why not
        if isinstance(row, dict):
            _check_row(row, f"line {number:,}", kept)


def _check_row(row: dict, where: str, kept: Sequence[str]) -> None:
    for name, value in row.items():
        waiting = [] if name in kept else [value]
        while waiting:
            one = waiting.pop()
            if isinstance(one, int) and not _LEAST <= one <= _MOST:
                written = one.written if isinstance(one, _Whole) else str(one)
                shown = written if len(written) <= 30 else f"{written[:30]}..."
                raise ValueError(
                    f"{where} holds the whole number {shown} in column '{name}', which is beyond 64 bits and would be rounded. "
                    f"Put it in quotes"
                )
            waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def _json_blocks(path: Path, form: FileFormat) -> Iterator[tuple[int, bytes]]:
    """JSON lines in UTF-8, many at once, and the number of the first; a file that is one array comes as lines."""
    line = 1
    with open_text(path, form) as text:
        head = ""
        while not head.strip() and (part := text.read(_SNIFFED)):
            head += part
        if head.lstrip().startswith("["):
            try:
                rows = _loaded(head + text.read())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"it is no JSON array of objects ({_said(error)})") from error
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("it is a JSON array of other things than objects. Expected an object for each row")
            for number, row in enumerate(rows, start=1):
                _check_row(row, f"row {number:,}", form.label_columns)
                _check_names(row, f"row {number:,}")
                row.update({name: _as_written(row[name], name, number) for name in form.label_columns if name in row})
            yield 1, "\n".join(map(json.dumps, rows)).encode()
            return
        while head:
            more = text.read(_BLOCK)
            rest = "" if head.endswith("\n") and not more else text.readline()
            block = head + more + rest
            yield line, block.encode()
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
            row = _loaded(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number:,} is no JSON ({_said(error)})") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number:,} is no JSON object. Expected one on each line")
        _check_names(row, f"line {number:,}")
        order |= dict.fromkeys(row)
        for name in columns:
            if name in row:
                row[name] = _as_written(row[name], name, number)
        out.append(json.dumps(row))
    return "\n".join(out).encode(), order


class _Object(dict[str, object]):
    """An object that remembers the first name that stands in it twice."""

    twice: str | None

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        within = (value.twice for _, value in pairs if isinstance(value, _Object))
        self.twice = next(
            (name for k, name in enumerate(names) if name in names[:k]) if len(self) < len(names) else within, None
        )


def _loaded(text: str) -> Any:
    return json.loads(text, parse_int=_Whole, parse_float=_Decimal, object_pairs_hook=_Object)


def _check_names(row: dict, where: str) -> None:
    if isinstance(row, _Object) and row.twice is not None:
        raise ValueError(f"{where} has {row.twice!r} twice in one object. Keep one of them")


class _Whole(int):
    """A whole number that remembers how it was written."""

    def __new__(cls, written: str) -> _Whole:
        short = len(written) <= _DIGITS  # else Python refuses it; that it is beyond 64 bits is all that counts then
        number = super().__new__(cls, written if short else 2**64)
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
