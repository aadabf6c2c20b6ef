"""Halves of characters in JSON (lone surrogates, such as `"\\ud800"`): Python reads them, and no UTF-8 can hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.texts import HALF

logger = get_logger(__name__)

_ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


class Halves:
    """
    Replaces each half of a character: in texts by a sign that makes the row unusable, elsewhere by U+FFFD. Values that
    were changed elsewhere are counted.

    Args:
        text_columns (`Sequence[str]`): Columns of the texts.
    """

    def __init__(self, text_columns: Sequence[str]) -> None:
        self.text_columns = text_columns
        self.count = 0

    def mended(self, block: bytes) -> bytes:
        """The same JSON lines without halves of characters."""
        if _ESCAPED.search(block) is None:
            return block
        return b"\n".join(
            self._mended_line(line) if _ESCAPED.search(line) is not None else line for line in block.split(b"\n")
        )

    def warn(self, path: Path) -> None:
        """Say how many values were mended."""
        if self.count:
            logger.warning(
                "%s value(s) of '%s' outside the column %s hold half a character (a lone surrogate) and have U+FFFD there.",
                f"{self.count:,}",
                path,
                " and ".join(map(repr, self.text_columns)),
            )

    def _mended_line(self, line: bytes) -> bytes:
        try:
            row = json.loads(line, parse_int=_Written, parse_float=_Written, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            return line  # reading it says why not
        if not isinstance(row, _Pairs):
            return line
        parts = []
        for name, value in row:
            is_text = name in self.text_columns and isinstance(value, str)
            parts.append(f"{self._string(name)}: {self._string(value, HALF) if is_text else self._value(value)}")
        return f"{{{', '.join(parts)}}}".encode()

    def _value(self, value: object) -> str:
        if isinstance(value, _Written):
            return str(value.written)
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, _Pairs):
            return "{" + ", ".join(f"{self._string(name)}: {self._value(one)}" for name, one in value) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self._value, value)) + "]"
        return json.dumps(value)

    def _string(self, value: str, sign: str | None = None) -> str:
        if _HALF.search(value) is not None:
            self.count += sign is None
            value = _HALF.sub(sign or "\ufffd", value)
        return json.dumps(value)


class _Pairs(list):
    """The names and values of an object."""


class _Written:
    """A number as it was written."""

    def __init__(self, written: str) -> None:
        self.written = written
