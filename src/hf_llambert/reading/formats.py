"""Encoding, delimiter and column types to read a file with; opening it as bytes or as text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as data_field
from pathlib import Path
from typing import IO, BinaryIO, cast

import pyarrow as pa

from hf_llambert.reading.encodings import BOMS, utf16_or_32, wrong_encoding


@dataclass(frozen=True)
class FileFormat:
    """
    What a file of texts does not say about itself.

    Args:
        encoding (`str`, defaults to `"utf-8"`): Of CSV and JSON, by the names of Python. A byte order mark is no text.
        delimiter (`str`, defaults to `","`): What stands between the fields of a CSV; in a .tsv it is a tab.
        label_columns (`Sequence[str]`, defaults to none): Columns of CSV and JSON whose values are read as strings, as
            they are written: `01` and `1.0` stay that; an empty cell and a JSON null are null.
        text_columns (`tuple[str, ...]`, defaults to `("text",)`): Columns whose rows are unusable where JSON has half a
            character (a lone surrogate); elsewhere U+FFFD stands for it.
        column_types (`Mapping[str, pa.DataType]`, *optional*): Types of the columns of CSV and JSON, from [`suited`].
            Defaults to those that suit this very file. No part of what a file is known by.

    Raises:
        ValueError: No such encoding, or a delimiter of several characters.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    label_columns: Sequence[str] = ()
    text_columns: tuple[str, ...] = ("text",)
    column_types: Mapping[str, pa.DataType] | None = data_field(default=None, repr=False, hash=False)

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

    def of(self, path: Path) -> FileFormat:
        """
        The format of one file: the fields of a .tsv stand between tabs.

        Raises:
            ValueError: Another delimiter was passed for it.
        """
        if not any(suffix.lower() == ".tsv" for suffix in path.suffixes[-2:]) or self.delimiter == "\t":
            return self
        if self.delimiter != ",":
            raise ValueError(
                f"it is called .tsv, whose fields stand between tabs, and the delimiter {self.delimiter!r} was passed. Leave "
                f"delimiter (--delimiter) out, or call it .csv"
            )
        return replace(self, delimiter="\t")

    @property
    def codec(self) -> str:
        """The encoding, a byte order mark left out."""
        return "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding


PLAIN = FileFormat()
"""UTF-8, commas, and types as they are guessed."""


PACKED = (".gz", ".zst", ".bz2", ".xz")
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file's bytes raises where what is packed is cut or changed."""


def open_bytes(path: Path) -> IO[bytes]:
    """A file's bytes, decompressed."""
    suffix = path.suffix.lower()
    if suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(pa.input_stream(str(path), compression="zstd")))
    opened = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(suffix, open)
    return cast(IO[bytes], opened(path, "rb"))  # type: ignore[operator]


def seekable(path: Path) -> BinaryIO | Path:
    """The file as one that can be sought in: its path, or its unpacked bytes."""
    if path.suffix.lower() not in PACKED:
        return path
    with open_bytes(path) as file:
        return io.BytesIO(file.read())


def open_text(path: Path, form: FileFormat) -> io.TextIOWrapper:
    """A file's characters, its byte order mark left out. Raises `ValueError` where it begins as another Unicode encoding."""
    with open_bytes(path) as file:
        head = file.read(_SNIFFED)
    codec, name = form.codec, codecs.lookup(form.encoding).name
    marked = next((mark for mark in BOMS if head.startswith(mark[0])), None)
    if marked is not None:
        if name not in marked[1:]:
            raise wrong_encoding(open_bytes(path), form.codec, form.encoding)
        codec = marked[1]  # it takes the mark for none of the text
    elif codec == "utf-8-sig" and utf16_or_32(head) is not None:
        raise wrong_encoding(open_bytes(path), form.codec, form.encoding)
    return io.TextIOWrapper(io.BufferedReader(cast(io.RawIOBase, open_bytes(path))), encoding=codec, newline="")


_SNIFFED = 4096  # bytes by which an encoding is guessed
