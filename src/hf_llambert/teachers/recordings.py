"""The two kinds of file that [`RecordedTeacher`] reads: a table, and what a batch service answered."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from datasets import ClassLabel, Dataset

from hf_llambert.data import check_column
from hf_llambert.tasks.label_names import is_missing
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import value_key
from hf_llambert.tasks.spec import CUT, TaskSpec
from hf_llambert.teachers.batches import custom_id, messages_id
from hf_llambert.teachers.logprobs import first_tokens
from hf_llambert.teachers.protocol import (
    NotOne,
    Unreadable,
    counted,
    finished,
    only_choice,
    read_json,
    written,
)

logger = get_logger(__name__)
_ROWS = 1000
_MOST_TOKENS = 2**40
_ROUNDING = 1e-3  # a probability of 1 may come as a little more
_DAMAGED = "\0damaged"  # no key of a service
_CUSTOM_ID = re.compile(r'"custom_id"\s*:\s*("(?:[^"\\]|\\.){0,500}")')
_UNREADABLE = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


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
        answer_column (`str`): Column of the answers.
        text_column (`str`): Column of the texts.
        texts (`Dataset`, *optional*): Data that has the texts. Defaults to the table itself.
        row_column (`str`): Column of the table that says which row of `texts` it is about: the value of the column of
            the same name there, else the row number from 0.
        finish_columns (`Sequence[str]`, defaults to none): Columns that say why each answer ended, called as a service
            calls them.
    """

    def __init__(
        self,
        table: Dataset,
        answer_column: str,
        text_column: str,
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
        feature = table.features[answer_column]
        self._names = feature.names if isinstance(feature, ClassLabel) else None
        self._answers = table.select_columns([answer_column, *finish_columns]).with_format(None)
        self._finish_columns = finish_columns
        self._texts = texts.select_columns(text_column).with_format(None)
        self._text_column, self._answer_column = text_column, answer_column
        hashes = np.empty(len(table), np.uint64)
        for start in range(0, len(table), _ROWS):
            places = range(start, min(start + _ROWS, len(table)))
            hashes[start : places.stop] = [name_hash(text) for text in self._texts_at(places)]
        self.index = Index(hashes)

    def values(self) -> list[object]:
        """The different answers; of a column of classes its names, where they occur or not."""
        if self._names is not None:
            return [None, *self._names]
        return list({value_key(value): value for value in self._answers[self._answer_column][:]}.values())

    def name(self, task: TaskSpec, text: str) -> str:
        """The text itself."""
        return text

    def read(self, places: Sequence[int]) -> list[tuple[str, Answer]]:
        """See [`Recording`]."""
        rows = self._answers[list(places)]
        values = rows[self._answer_column]
        if self._names is not None:
            values = [self._names[v] if isinstance(v, int) and v >= 0 else None for v in values]
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
        texts = ["" if text is None else text for text in self._texts[rows][self._text_column]]
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


class BatchRecording:
    """
    What a batch service answered: lines with `custom_id`, `response` and `error`.

    Args:
        files (`Sequence[Path]`): The output files; error files too.
        scored (`bool`): Whether to read the first token's log-probabilities, or the text.
        requests (`Sequence[Path]`, defaults to none): The request files, when the custom ids are not those of
            [`write_batch`].
    """

    def __init__(self, files: Sequence[Path], scored: bool, requests: Sequence[Path] = ()) -> None:
        self._files, self._scored = files, scored
        self._asked: dict[str, str] = {}
        self._structured: set[str] = set()
        for given, name, structured in _asked(requests):
            self._asked[given] = name
            if structured:
                self._structured.add(name)
        hashes, self._starts = [], []
        for number, file in enumerate(files):
            for start, row, line in json_lines(file):
                hashes.append(name_hash(self._name_of(line)))
                self._starts.append((number, start, row))
        self.index = Index(hashes)

    def name(self, task: TaskSpec, text: str) -> str:
        """See [`custom_id`]."""
        return custom_id(task, text)

    def read(self, places: Sequence[int]) -> list[tuple[str, Answer]]:
        """See [`Recording`]."""
        out: dict[int, tuple[str, Answer]] = {}
        for number in {self._starts[place][0] for place in places}:
            with self._files[number].open("rb") as file:
                for place in places:
                    if self._starts[place][0] == number:
                        _, start, row = self._starts[place]
                        file.seek(start)
                        line = _json_line(file.readline(), row, self._files[number])
                        name = self._name_of(line)
                        out[place] = (
                            name,
                            _answer(line, self._scored, name in self._structured if self._asked else None),
                        )
        return [out[place] for place in places]

    def values(self) -> list[object]:
        """See [`Recording`]. A batch is answered in free text."""
        return []

    def _name_of(self, line: dict) -> str:
        name = line.get("custom_id")
        return self._asked.get(str(name), str(name)) if self._asked else str(name)


def json_lines(file: Path) -> Iterator[tuple[int, int, dict]]:
    """
    The objects of a JSONL file, each with the byte at which its line starts and the line's number. A line whose answer
    cannot be read, though its custom_id can, says so under `damaged`.
    """
    start = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield start, number, _json_line(line, number, file)
            start += len(line)


def _json_line(line: bytes, number: int, file: Path) -> dict:
    try:
        text = line.decode("utf-8-sig")
        damage = None
    except UnicodeDecodeError as error:
        text = line.decode("utf-8-sig", "replace")
        damage = f"line {number:,} of '{file.name}' is not UTF-8 at byte {error.start:,}"
    try:
        value = read_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Line {number:,} of '{file}' is not JSON" + (f" ({damage})" if damage else "") + f"; was it cut? {error}"
        ) from error
    except (RecursionError, Unreadable) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        found = _CUSTOM_ID.search(text)
        value = {"custom_id": json.loads(found.group(1))} if found else {}
        damage = f"line {number:,} of '{file.name}' {what}"
    if not isinstance(value, dict):
        raise ValueError(f"Line {number:,} of '{file}' is not a JSON object.")
    return value if damage is None else {**value, "response": None, _DAMAGED: damage}


def _asked(requests: Sequence[Path]) -> Iterator[tuple[str, str, bool]]:
    """Of each request the name there, the name that [`write_batch`] gives it, and whether it asks for one of the labels."""
    for file in requests:
        for _, number, line in json_lines(file):
            try:
                body = line.get("body") or {}
                messages = body.get("messages") or [{"role": "user", "content": body.get("prompt")}]
                yield str(line.get("custom_id")), messages_id(messages), _wants_label(body.get("response_format"))
            except (AttributeError, TypeError, ValueError, RecursionError) as error:
                raise ValueError(f"Line {number:,} of '{file}' is no request with a body: {error}") from error


def _wants_label(response_format: object) -> bool:
    try:
        label = response_format["json_schema"]["schema"]["properties"]["label"]  # type: ignore[index]
        return bool(label["enum"])
    except (KeyError, TypeError, IndexError):
        return False


def _answer(line: dict, scored: bool, structured: bool | None) -> Answer:
    if damage := line.get(_DAMAGED):
        return Answer(error=f"the batch service's answer about this text cannot be read: {damage}")
    try:
        response = line.get("response") or {}
        body = response.get("body") or {}
        code = response.get("status_code")
        fault = line.get("error") or body.get("error")
        if fault or code != 200:
            # Not the service's own message: it may repeat a key.
            why = fault.get("code") or fault.get("type") if isinstance(fault, dict) else None
            said = f"status {code!s:.40}" + (f", {why!s:.80}" if why else "")
            return Answer(error=f"the batch service failed on this text: {clean(said)}")
        choice = only_choice(body)
        value: object = (_checked(first_tokens(choice)) or None) if scored else written(choice)
        if not scored and not isinstance(value, str | None):
            raise TypeError("no text")
        finish = None if scored else finished(choice, body)
    except _UNREADABLE as error:
        why = (
            str(error)
            if isinstance(error, NotOne)
            else "the batch service's answer about this text has not the expected shape"
        )
        return Answer(error=why)
    if finish == "broken" or choice.get("error"):
        return Answer(error="the batch service broke off the answer about this text")
    if value is None and finish not in CUT:
        what = "log-probabilities; write the batch with top_logprobs=..." if scored else "text"
        return Answer(error=f"the batch service's answer about this text has no {what}")
    if not scored:
        value = clean(str(value or ""))
        structured = _looks_structured(value) if structured is None else structured
    return Answer(value, tokens=_tokens(body), finish=finish, structured=bool(structured) and not scored)


def _looks_structured(answer: str) -> bool:
    """Whether an answer, of a request that nobody has, is what a structured one is: JSON with `label` and no more."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and list(value) == ["label"]


def _checked(likeliest: dict[str, float]) -> dict[str, float]:
    """The same log-probabilities; a `ValueError` where one is none. An infinitely small one is."""
    if not all(p <= _ROUNDING for p in likeliest.values()):  # NaN is not
        raise ValueError("no log-probability")
    return likeliest


def _tokens(body: dict) -> tuple[int, int]:
    """Tokens in and out; zeros where the service counted none, or what no service can have counted."""
    try:
        read, wrote = counted(body)
    except _UNREADABLE:
        return 0, 0
    return (read if 0 <= read < _MOST_TOKENS else 0), (wrote if 0 <= wrote < _MOST_TOKENS else 0)


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
