"""Recorded answers that [`RecordedTeacher`] finds by their texts, and those of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from datasets import ClassLabel, Dataset

from hf_llambert.data import check_column
from hf_llambert.tasks.label_names import is_missing
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import value_key
from hf_llambert.tasks.spec import CUT, TaskSpec
from hf_llambert.tasks.texts import TextColumn, Unusable, column_names, row_texts
from hf_llambert.teachers.protocol import finished

logger = get_logger(__name__)
_ROWS = 1000


@dataclass(frozen=True)
class Answer:
    """
    What a file says about one text.

    Args:
        value (`object`): A text, a label, numbers in label order, or log-probabilities by token.
        error (`str`, *optional*): Why there is nothing.
        tokens (`tuple[int, int]`, defaults to none): Tokens of the prompt and of the answer.
        finish (`str`, *optional*): Why the writing ended; see [`Reply`].
        structured (`bool`, defaults to `False`): Whether the request asked for JSON with one of the labels, or, where the
            requests are not there, the answer is such JSON.
    """

    value: object = None
    error: str | None = None
    tokens: tuple[int, int] = field(default=(0, 0), compare=False)
    finish: str | None = None
    structured: bool = False


class Recording(Protocol):
    """Answers at numbered places."""

    index: Index

    def name(self, task: TaskSpec, text: str) -> str:
        """What the answer about `text` is filed under."""
        ...

    def read(self, places: Sequence[int]) -> list[tuple[str, Answer]]:
        """The names and answers at some places."""
        ...

    def values(self) -> list[object]:
        """All different answers, as they are written."""
        ...


class Index:
    """
    From a name to the places that may have it: 16 bytes a place, whatever the names' length. Two names may share a
    hash, so what stands at a place is compared with the name.
    """

    def __init__(self, hashes: Sequence[int] | np.ndarray) -> None:
        keys = np.asarray(hashes, np.uint64)
        self._places = np.argsort(keys, kind="stable")
        self._keys = keys[self._places]

    def find(self, names: Sequence[str]) -> list[list[int]]:
        """For each name the places that may have it, in the order of the file."""
        wanted = np.fromiter(map(name_hash, names), np.uint64, len(names))
        first, last = (np.searchsorted(self._keys, wanted, side) for side in ("left", "right"))
        return [self._places[a:b].tolist() for a, b in zip(first, last, strict=True)]

    def repeated(self) -> Iterator[list[int]]:
        """Places that share a hash."""
        starts = np.flatnonzero(np.diff(self._keys, prepend=self._keys[:1] + np.uint64(1)))
        ends = np.append(starts[1:], len(self._keys))
        for k in np.flatnonzero(ends - starts > 1):
            yield self._places[starts[k] : ends[k]].tolist()

    def __len__(self) -> int:
        return len(self._keys)


def name_hash(name: str) -> int:
    """64 bits of a name, the same in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class TableRecording:
    """
    Answers in a column of a table, about texts in another column or, by row number or id, in other data.

    Args:
        table (`Dataset`): The table.
        answer_column (`str` or `Sequence[str]`): Column of the answers; or several, whose values by column are an answer.
        text_column (`str` or `Sequence[str]`): Column of the texts, or of several fields.
        texts (`Dataset`, *optional*): Data that has the texts. Defaults to the table itself.
        row_column (`str`): Column of the table that says which row of `texts` it is about: the value of the column of
            the same name there, else the row number from 0.
        finish_columns (`Sequence[str]`, defaults to none): Columns that say why each answer ended, called as a service
            calls them.
    """

    def __init__(
        self,
        table: Dataset,
        answer_column: TextColumn,
        text_column: TextColumn,
        texts: Dataset | None,
        row_column: str,
        finish_columns: Sequence[str] = (),
    ) -> None:
        check_column(table, answer_column, "response_column, label_column, scores_column or probabilities_column")
        if texts is not None:
            table = _with_ids(table, row_column)
        self._rows = None if texts is None else _rows(table, texts, row_column)
        texts = table if texts is None else texts
        check_column(texts, text_column, "text_column")
        columns = column_names(answer_column)
        self._features = {column: table.features[column] for column in columns}
        self._answers = table.select_columns([*columns, *finish_columns]).with_format(None)
        self._finish_columns = finish_columns
        self._texts = texts.select_columns(column_names(text_column)).with_format(None)
        self._text_column, self._answer_column = text_column, answer_column
        hashes = np.empty(len(table), np.uint64)
        for start in range(0, len(table), _ROWS):
            places = range(start, min(start + _ROWS, len(table)))
            hashes[start : places.stop] = [name_hash(text) for text in self._texts_at(places)]
        self.index = Index(hashes)

    def values(self) -> list[object]:
        """The different answers; of a column of classes its names, where they occur or not."""
        (column,) = column_names(self._answer_column)
        if isinstance(feature := self._features[column], ClassLabel):
            return [None, *feature.names]
        return list({value_key(value): value for value in self._answers[column][:]}.values())

    def column(self, name: str) -> list[object]:
        """All values of one of the columns of answers, those of classes by name."""
        return self._named(name, self._answers[name][:])

    def _named(self, column: str, values: list) -> list:
        feature = self._features[column]
        within = getattr(feature, "feature", None)  # of a list
        if isinstance(feature, ClassLabel):
            return [feature.names[v] if isinstance(v, int) and v >= 0 else None for v in values]
        if isinstance(within, ClassLabel):
            return [None if row is None else [within.names[v] for v in row] for row in values]
        return values

    def name(self, task: TaskSpec, text: str) -> str:
        """The text itself."""
        return text

    def read(self, places: Sequence[int]) -> list[tuple[str, Answer]]:
        """See [`Recording`]."""
        rows = self._answers[list(places)]
        named = {column: self._named(column, rows[column]) for column in column_names(self._answer_column)}
        if isinstance(self._answer_column, str):
            values = named[self._answer_column]
        else:
            values = [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]
        ends = [finished({name: rows[name][k] for name in self._finish_columns}) for k in range(len(values))]
        return [
            (
                text,
                Answer(error="the answer about this text was broken off")
                if end == "broken"
                else Answer(value, finish=end),
            )
            for text, value, end in zip(self._texts_at(places), values, ends, strict=True)
        ]

    def _texts_at(self, places: Sequence[int]) -> list[str]:
        rows = list(places) if self._rows is None else self._rows[np.asarray(places, int)].tolist()
        # A null matches nothing: an empty text is never asked about.
        shown = row_texts(self._texts[rows], self._text_column)
        texts = ["" if text is None or isinstance(text, Unusable) else text for text in shown]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"Column '{self._text_column}' must hold strings. Pass text_column=... .")
        return texts


def _with_ids(table: Dataset, row_column: str) -> Dataset:
    """The rows of a table that say which text they are about; warns of the others."""
    check_column(table, row_column, "row_column")
    kept = [i for i, value in enumerate(table[row_column][:]) if not is_missing(value)]
    if len(kept) == len(table):
        return table
    if not kept:
        raise ValueError(f"Column '{row_column}' is empty, so no answer says which text it is about.")
    logger.warning(
        "%d of %d recorded answers have nothing in column '%s', so they are about no text and are left out.",
        len(table) - len(kept),
        len(table),
        row_column,
    )
    return table.select(kept)


def _rows(table: Dataset, texts: Dataset, row_column: str) -> np.ndarray:
    """For each row of the table the row of `texts` that it is about. Ids are compared as they are written."""
    check_column(table, row_column, "row_column")
    wanted = [_id(value) for value in table[row_column][:]]
    if row_column in texts.column_names:
        ids = [name for name in map(_id, texts[row_column][:]) if name is not None]
        place = {_id(value): i for i, value in enumerate(texts[row_column][:])}
        if len(set(ids)) < len(ids):
            raise ValueError(f"Column '{row_column}' of the texts repeats {len(ids) - len(set(ids)):,} ids.")
        found = [None if name is None else place.get(name) for name in wanted]
    else:
        numbers = [int(name) if name is not None and name.isascii() and name.isdigit() else None for name in wanted]
        found = [n if n is not None and n < len(texts) else None for n in numbers]
    rows = [0 if row is None else row for row in found]
    unknown = [value for value, row in zip(table[row_column][:], found, strict=True) if row is None]
    if unknown:
        raise ValueError(
            f"Column '{row_column}' names {len(unknown):,} rows that the texts do not have, such as {unknown[0]!r}; "
            f"they have {len(texts):,} rows, counted from 0. Pass the texts that the table was made from."
        )
    return np.asarray(rows, np.int64)


def _id(value: object) -> str | None:
    """An id as it is written; a gap in a column of whole numbers makes 7 a 7.0."""
    if is_missing(value) or isinstance(value, bool):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def clean(text: str) -> str:
    """The text with halves of characters (lone surrogates) replaced: no file and no database takes them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def best(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that count: those that came and were not cut, else those that came."""
    came = [answer for answer in answers if answer.error is None]
    return [answer for answer in came if answer.finish not in CUT] or came


def disagreeing(recording: Recording, key: Callable[[Answer], object]) -> int:
    """How many names have answers that differ by `key`."""
    count = 0
    for places in recording.index.repeated():
        answers: dict[str, list[Answer]] = {}
        for name, answer in recording.read(places):
            answers.setdefault(name, []).append(answer)
        count += sum(len({key(answer) for answer in best(mine)}) > 1 for mine in answers.values())
    return count
