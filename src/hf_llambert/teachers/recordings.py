"""The two kinds of file that [`RecordedTeacher`] reads: a table, and what a batch service answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from datasets import ClassLabel, Dataset

from hf_llambert.data import check_column
from hf_llambert.tasks.questions import value_key
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.batches import custom_id, messages_id
from hf_llambert.teachers.protocol import counted, first_tokens, written

_ROWS = 1000


@dataclass(frozen=True)
class Answer:
    """
    What a file says about one text.

    Args:
        value (`object`): A text, a label, numbers in label order, or log-probabilities by token.
        error (`str`, *optional*): Why there is nothing.
        tokens (`tuple[int, int]`, defaults to none): Tokens of the prompt and of the answer.
    """

    value: object = None
    error: str | None = None
    tokens: tuple[int, int] = field(default=(0, 0), compare=False)


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
    """

    def __init__(
        self, table: Dataset, answer_column: str, text_column: str, texts: Dataset | None, row_column: str
    ) -> None:
        check_column(table, answer_column, "response_column, label_column, scores_column or probabilities_column")
        self._rows = None if texts is None else _rows(table, texts, row_column)
        texts = table if texts is None else texts
        check_column(texts, text_column, "text_column")
        feature = table.features[answer_column]
        self._names = feature.names if isinstance(feature, ClassLabel) else None
        self._answers = table.select_columns(answer_column).with_format(None)
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
        values = self._answers[list(places)][self._answer_column]
        if self._names is not None:
            values = [self._names[v] if isinstance(v, int) and v >= 0 else None for v in values]
        return [(text, Answer(value)) for text, value in zip(self._texts_at(places), values, strict=True)]

    def _texts_at(self, places: Sequence[int]) -> list[str]:
        rows = list(places) if self._rows is None else self._rows[np.asarray(places, int)].tolist()
        # A null matches nothing: an empty text is never asked about.
        texts = ["" if text is None else text for text in self._texts[rows][self._text_column]]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"Column '{self._text_column}' must hold strings. Pass text_column=... .")
        return texts


def _rows(table: Dataset, texts: Dataset, row_column: str) -> np.ndarray:
    """For each row of the table the row of `texts` that it is about."""
    check_column(table, row_column, "row_column")
    wanted = table[row_column][:]
    if row_column in texts.column_names:
        ids = texts[row_column][:]
        place = {value: i for i, value in enumerate(ids)}
        if len(place) < len(ids):
            raise ValueError(f"Column '{row_column}' of the texts repeats {len(ids) - len(place):,} ids.")
        unknown = [value for value in wanted if value not in place]
        rows = [place.get(value, 0) for value in wanted]
    else:
        unknown = [v for v in wanted if isinstance(v, bool) or not isinstance(v, int) or not 0 <= v < len(texts)]
        rows = wanted
    if unknown:
        raise ValueError(
            f"Column '{row_column}' names {len(unknown):,} rows that the texts do not have, such as {unknown[0]!r}; "
            f"they have {len(texts):,} rows, counted from 0. Pass the texts that the table was made from."
        )
    return np.asarray(rows, np.int64)


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
        self._asked = dict(_asked(requests))
        hashes, self._starts = [], []
        for number, file in enumerate(files):
            for start, line in json_lines(file):
                hashes.append(name_hash(self._name_of(line)))
                self._starts.append((number, start))
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
                        file.seek(self._starts[place][1])
                        line = json.loads(file.readline())
                        out[place] = self._name_of(line), _answer(line, self._scored)
        return [out[place] for place in places]

    def values(self) -> list[object]:
        """See [`Recording`]. A batch is answered in free text."""
        return []

    def _name_of(self, line: dict) -> str:
        name = line.get("custom_id")
        return self._asked.get(str(name), str(name)) if self._asked else str(name)


def json_lines(file: Path) -> Iterator[tuple[int, dict]]:
    """The objects of a JSONL file, each with the byte at which its line starts."""
    start = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"Line {number:,} of '{file}' is not JSON; was it cut? {error}") from error
                if not isinstance(value, dict):
                    raise ValueError(f"Line {number:,} of '{file}' is not a JSON object.")
                yield start, value
            start += len(line)


def _asked(requests: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for file in requests:
        for _, line in json_lines(file):
            body = line.get("body") or {}
            messages = body.get("messages") or [{"role": "user", "content": body.get("prompt")}]
            yield str(line.get("custom_id")), messages_id(messages)


def _answer(line: dict, scored: bool) -> Answer:
    try:
        response = line.get("response") or {}
        body = response.get("body") or {}
        code = response.get("status_code")
        fault = line.get("error") or body.get("error")
        if fault or code != 200:
            # Not the service's own message: it may repeat a key.
            why = fault.get("code") or fault.get("type") if isinstance(fault, dict) else None
            return Answer(error=f"the batch service failed on this text: status {code}" + (f", {why}" if why else ""))
        choice = body["choices"][0]
        tokens = counted(body)
        value = (first_tokens(choice) or None) if scored else written(choice)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        return Answer(error="the batch service's answer about this text has not the expected shape")
    if value is None:
        what = "log-probabilities; write the batch with top_logprobs=..." if scored else "text"
        return Answer(error=f"the batch service's answer about this text has no {what}")
    return Answer(value, tokens=tokens)


def disagreeing(recording: Recording, key: Callable[[Answer], object]) -> int:
    """How many names have answers that differ by `key`."""
    count = 0
    for places in recording.index.repeated():
        answers: dict[str, set[object]] = {}
        for name, answer in recording.read(places):
            if answer.error is None:
                answers.setdefault(name, set()).add(key(answer))
        count += sum(len(values) > 1 for values in answers.values())
    return count
