"""Rows of a CSV, and the types of its columns: what would not be written back as it stands stays a string."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa

from hf_llambert.reading.formats import DAMAGED, FileFormat, open_text
from hf_llambert.tasks.logs import get_logger

logger = get_logger(__name__)

_ROWS = 10_000  # that are read at once
_SEPARATORS = ";\t|"
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"-?[0-9]+[.e][-+.e0-9]*")
_TRUTH = (("True", "False"), ("true", "false"), ("TRUE", "FALSE"))


def csv_tables(path: Path, form: FileFormat) -> Iterator[pa.Table]:
    """The rows of a CSV. Its types are those of the format, else those that suit the whole file."""
    types = csv_types([path], form) if form.column_types is None else form.column_types
    form = form.of(path)
    with closing(_checked_rows(path, form)) as checked:
        header = next(checked, None)
        if header is None:
            return
        kinds = [types.get(name, pa.string()) for name in header]
        while True:
            rows = list(islice(checked, _ROWS))
            columns = zip(*rows, strict=True) if rows else [()] * len(header)
            yield pa.table(
                [_column(values, kind) for values, kind in zip(columns, kinds, strict=True)],
                schema=pa.schema(list(zip(header, kinds, strict=True))),
            )
            if len(rows) < _ROWS:
                return


def csv_types(files: Sequence[Path], form: FileFormat) -> dict[str, pa.DataType]:
    """
    The types of the columns of CSV files: whole numbers (int64), other numbers (float64) or truth values where all values
    in all files are written back as they stand, strings otherwise; an empty cell is null in each. `0012`, `1.50` and
    numbers of more digits than a type holds are strings, and so is what stands beside them in their column.
    """
    found: dict[str, _Kinds] = {}
    for path in files:
        with suppress(ValueError, *DAMAGED), closing(_checked_rows(path, form.of(path))) as checked:  # reading says it
            header = next(checked, [])
            kinds = [found.setdefault(name, _Kinds(name in form.label_columns)) for name in header]
            while any(kind.left for kind in kinds) and (rows := list(islice(checked, _ROWS))):
                open_ones = [k for k, kind in enumerate(kinds) if kind.left]
                for k in open_ones:
                    kinds[k].see({row[k] for row in rows})
    return {name: kinds.type for name, kinds in found.items()}


class _Kinds:
    """The kinds that a column may still be of."""

    def __init__(self, string: bool) -> None:
        self.left: list[str] = [] if string else list(_FITS)
        self.seen = False

    def see(self, values: set[str]) -> None:
        """Keep the kinds that fit these values too."""
        values.discard("")
        self.seen = self.seen or bool(values)
        self.left = [kind for kind in self.left if all(map(_FITS[kind], values))]

    @property
    def type(self) -> pa.DataType:
        return _TYPES[self.left[0]] if self.left and self.seen else pa.string()


def _is_whole(value: str) -> bool:
    return _WHOLE.fullmatch(value) is not None and -(2**63) <= int(value) < 2**63


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value) is not None and _as_float(value) == value


def _as_float(value: str) -> str:
    try:
        return repr(float(value))
    except ValueError:
        return ""


_FITS = {
    "whole": _is_whole,
    "number": _is_number,
    **{names[0]: frozenset(names).__contains__ for names in _TRUTH},
}
_TYPES = {"whole": pa.int64(), "number": pa.float64(), **{names[0]: pa.bool_() for names in _TRUTH}}


def _column(values: Iterable[str], kind: pa.DataType) -> pa.Array:
    """Values as written, as an array of a type; what is empty is null."""
    if pa.types.is_string(kind):
        return pa.array([value or None for value in values], kind)
    read = {pa.int64(): int, pa.float64(): float}.get(kind, lambda value: value.lower() == "true")
    return pa.array([read(value) if value else None for value in values], kind)


def _checked_rows(path: Path, form: FileFormat) -> Generator[list[str]]:
    """
    The header and the rows of a CSV, each with as many fields as the header: pandas takes what is too much for an index,
    and shifts the rest. An empty line is no row.
    """
    csv.field_size_limit(2**31 - 1)
    width, line = 0, 1
    with open_text(path, form) as text:
        first = text.readline()
        lines = chain(["\n" if _is_note_of_excel(first, form) else first], text)
        rows = csv.reader(lines, delimiter=form.delimiter, strict=True)  # or a stray quote swallows the rows behind it
        try:
            for row in rows:
                if len(row) == width > 1:
                    if form.delimiter != "," and any("\n" in one and form.delimiter in one for one in row):
                        _warn_of_quote(line, rows.line_num, form)
                    yield row
                elif not row or (len(row) == 1 != width and not row[0].strip(" \t")):
                    pass  # an empty line
                elif not width:
                    header, width = row, len(row)
                    _check_header(header, form)
                    yield row
                elif len(row) == width:
                    yield row
                else:
                    raise ValueError(
                        f"line {line:,} has {len(row)} fields, the header {width}: {header}. "
                        + _backslashes(path, form, line, rows.line_num)
                        + f"Put a field that holds {form.delimiter!r} or a line break in double quotes, or pass the right "
                        f"delimiter (--delimiter)"
                    )
                line = rows.line_num + 1
        except csv.Error as error:
            raise ValueError(_said(error, path, form, line, rows.line_num)) from error


def _said(error: csv.Error, path: Path, form: FileFormat, line: int, last: int) -> str:
    """What is wrong with a row, from one line to another."""
    written = _backslashes(path, form, line, last)
    if "unexpected end" in str(error):
        return f"line {line:,} opens a double quote that nothing closes. {written}Write it twice inside a field"
    if "expected after" in str(error):
        return (
            f"line {line:,} opens a double quote whose field goes on behind the one that closes it, in line {last:,}. "
            f'{written}Write a quote inside a quoted field twice, and a first one that is text as """"'
        )
    return f"line {line:,} is no CSV ({error})"


def _warn_of_quote(line: int, last: int, form: FileFormat) -> None:
    logger.warning(
        "A field of line %s goes on to line %s with %r in it. If its first double quote is a text's own, it has swallowed "
        'rows: write it as """".',
        f"{line:,}",
        f"{last:,}",
        form.delimiter,
    )


def _backslashes(path: Path, form: FileFormat, line: int, last: int) -> str:
    """
    The message about lines where a backslash stands before a quote, as Spark and MySQL write it; it may be part of a
    text.
    """
    with open_text(path, form) as text:
        if not any('\\"' in one for one in islice(text, line - 1, last)):
            return ""
    return (
        'It holds \\", as Spark and MySQL write a quote: write the file with "" for it '
        "(in Spark option('escape', '\"')). "
    )


def _is_note_of_excel(line: str, form: FileFormat) -> bool:
    """Whether a first line is `sep=;`, which is no row. Raises `ValueError` where another delimiter was passed."""
    found = re.fullmatch(r"sep=(.)\r?\n?", line)
    if found is not None and found[1] != form.delimiter:
        shown = "\\t" if found[1] == "\t" else found[1]
        raise ValueError(
            f"its first line says that '{shown}' separates its fields, expected {form.delimiter!r}. Pass "
            f"delimiter='{shown}' (--delimiter '{shown}')"
        )
    return found is not None


def _check_header(header: list[str], form: FileFormat) -> None:
    other = next((mark for mark in _SEPARATORS if mark in header[0]), None) if len(header) == 1 else None
    if len(header) == 1 and form.delimiter == "\t" and "," in header[0]:
        raise ValueError(
            f"its header {header[0]!r} is one field and looks separated by ','. Call it .csv, or separate by tabs"
        )
    if other is not None and form.delimiter not in _SEPARATORS:
        shown = "\\t" if other == "\t" else other
        raise ValueError(
            f"its header {header[0]!r} is one field and looks separated by '{shown}'. Pass delimiter='{shown}' "
            f"(--delimiter '{shown}')"
        )
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise ValueError(f"it has several columns of the name {repeated[0]!r}. Rename them")
