"""A teacher that has answered already: labels or answers made elsewhere, read from a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Literal

from datasets import Dataset

from hf_llambert.data import content_hash, load_data
from hf_llambert.reading import PLAIN, FileFormat
from hf_llambert.tasks.label_names import is_missing
from hf_llambert.tasks.questions import LabelValues
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import column_names
from hf_llambert.teachers.base import Mode, Reply, ask_apart, check_branch
from hf_llambert.teachers.batch_recordings import BatchRecording
from hf_llambert.teachers.protocol import ENDS
from hf_llambert.teachers.recorded_files import (
    batch_files,
    column_pairs,
    digest_of,
    files_of,
    map_pairs,
    shown_place,
    stamp,
)
from hf_llambert.teachers.recorded_kinds import KINDS, Kind, Meanings
from hf_llambert.teachers.recorded_values import NOTHING
from hf_llambert.teachers.recordings import (
    Answer,
    Recording,
    TableRecording,
    best,
    disagreeing,
)

_CHUNK = 1000
_OPTION = re.compile(r"(--|\bPass |^)(encoding|delimiter)\b")
_ADVICE = re.compile(r"[Pp]ass (the right )?(encoding|delimiter).*", re.DOTALL)
_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "generate": {"response": ("response", "llm_response"), "answers": (), "label": ("llm_label", "label")},
    "score": {"scores": ("scores", "llm_scores"), "probabilities": ("probabilities",)},
}


@dataclass(frozen=True)
class RecordedTeacher:
    """
    Answers read from a file, so that labels made elsewhere go the same way as all others: parsed, kept in the ledger,
    calibrated, published.

    The file is one of two kinds, told apart by its first line. *A batch's output* (of OpenAI, vLLM's `run-batch`, Mistral,
    Anthropic, Gemini): JSONL with `custom_id` or `key`; [`write_batch`] makes the requests. *A table* that
    [`load_data`] reads, with the texts (matched exactly) or with row numbers or ids that `texts` resolves.

    A text that the file does not have, or on which its maker failed, comes back as failed, with the reason. A recorded
    label is given back by its name, a recorded abstention (-1, null, empty) as an empty answer.

    Args:
        path (`str`): The file, a directory of such files, or a dataset.
        model (`str`): Who gave the answers, such as `meta-llama/Llama-2-70b-chat-hf`. Not checked; shown on the cards.
        mode (`"generate"` or `"score"`, defaults to `"generate"`): Read texts and labels, or scores. The scores of a
            batch are those of the first token; every label needs a word among them.
        texts (`str`, *optional*): Data that has the texts, when a table has only row numbers or ids.
        text_column (`str` or `list[str]`, defaults to `"text"`): Column of the texts; the columns of the task's fields in
            their order, where it has several.
        row_column (`str`, defaults to `"row"`): With `texts`, the table's column of row numbers, counted from 0; of ids
            when `texts` has a column of that name.
        response_column (`str`, *optional*): Column of raw answers. Defaults to `response` or `llm_response`. Where there is
            a column `finish_reason` (or `native_finish_reason`, `stop_reason`), an answer that was cut (`length`,
            `max_tokens`, ...) or filtered (`content_filter`, `SAFETY`, ...) is no label, as at an endpoint.
        label_column (`str`, *optional*): Column of labels: ids or names of the task. Defaults to `llm_label` or `label`, where
            there is no response, or only empty ones. Ids count the task's labels in their order; the ledger keeps the names
            that they stood for, so a task whose labels change their order needs another ledger.
        label_columns (`Mapping[str, str]` or `list[str]`, *optional*): Columns of answers to several questions:
            `{"tone": "gold_tone"}`, `["tone=gold_tone"]`, or the question's name where the column has it too. They are read as
            people's answers are; a question without an answer in a row lacks one alone. (Whole JSON objects that answer all
            questions stand in `response_column`, as text or as a column of structs.)
        scores_column (`str`, *optional*): Column of log-probabilities in label order. Defaults to `scores` or
            `llm_scores`.
        probabilities_column (`str`, *optional*): Column of probabilities in label order, used where there are no scores.
            A 0 counts as 1e-12: a score must be finite. Defaults to `probabilities`.
        split (`str`, *optional*): Split of a table on the Hub.
        texts_split (`str`, *optional*): Split of `texts`.
        requests (`str`, *optional*): The file or directory of requests, for a batch that [`write_batch`] did not write.
        on_disagreement (`"refuse"` or `"fail"`, defaults to `"refuse"`): When a text is recorded twice with answers that are
            different labels, refuse the file or fail on that text. Failed answers beside a good one do not count.
        recorded_values (`str`, defaults to `"auto"`): What a column of labels holds: `names`, `ids` or `ids_from_1`, where the
            whole column fits several.
        recorded_map (`Mapping[str, str]` or `list[str]`, *optional*): What values of a column of labels are in the task:
            `{"sci/tech": "tech"}` or `["sci/tech=tech"]`. An empty label means none.
        recorded_encoding (`str`, defaults to `"utf-8"`): Encoding of a table in CSV or JSON.
        recorded_delimiter (`str`, defaults to `","`): What stands between the fields of a table in CSV.

    Raises:
        ValueError: An argument does not make sense.
    """

    path: str
    model: str
    mode: Mode = "generate"
    texts: str | None = None
    text_column: str | list[str] = "text"  # the parser of the command line knows no other sequence
    row_column: str = "row"
    response_column: str | None = None
    label_column: str | None = None
    label_columns: list[str] | None = field(default=None, metadata={"action": "append"})
    scores_column: str | None = None
    probabilities_column: str | None = None
    split: str | None = None
    texts_split: str | None = None
    requests: str | None = None
    on_disagreement: Literal["refuse", "fail"] = "refuse"
    recorded_values: LabelValues = "auto"
    recorded_map: list[str] | None = field(default=None, metadata={"action": "append"})
    recorded_encoding: str = "utf-8"
    recorded_delimiter: str = ","

    overlaps = False

    def __post_init__(self) -> None:
        for name in ("path", "texts", "requests"):  # a Path would not be JSON-ready
            if getattr(self, name) is not None:
                object.__setattr__(self, name, str(getattr(self, name)))
        if not isinstance(self.text_column, str):
            names = tuple(self.text_column)  # hashable
            object.__setattr__(self, "text_column", names[0] if len(names) == 1 else names)
        object.__setattr__(self, "recorded_map", map_pairs(self.recorded_map))
        object.__setattr__(self, "label_columns", column_pairs(self.label_columns))
        self._form()
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"model must say who gave the answers, got {self.model!r}.")
        if self.mode not in _COLUMNS:
            raise ValueError(f"mode must be generate or score, got {self.mode!r}.")
        if self.on_disagreement not in ("refuse", "fail"):
            raise ValueError(f"on_disagreement must be refuse or fail, got {self.on_disagreement!r}.")
        given = [_option(kind) for kinds in _COLUMNS.values() for kind in kinds if getattr(self, _option(kind))]
        fitting = [_option(kind) for kind in _COLUMNS[self.mode]]
        if len(given) > 1 or not set(given) <= set(fitting):
            raise ValueError(f"mode='{self.mode}' reads one of {' and '.join(fitting)}, got {' and '.join(given)}.")

    def identity(self) -> dict[str, object]:
        """Who answered, and the content of what is read. See [`Teacher`]."""
        loaded = self._loaded()
        out: dict[str, object] = {
            "teacher": "recorded",
            "model": self.model,
            "mode": self.mode,
            "content": loaded.digest,
            "kind": loaded.kind.name,
            "column": loaded.column,
            "text_column": self.text_column,
            "on_disagreement": self.on_disagreement,
        }
        return out | loaded.kind.options(self)  # what is read decides the answers that the ledger keeps

    def settings(self) -> dict[str, object]:
        """Who answered, and which file it was, by name and digest. See [`Teacher`]."""
        loaded = self._loaded()
        out = {
            **self.identity(),
            "path": shown_place(self.path),
            "path_is_local": True,
            "content": loaded.digest,
            "split": self.split,
        }
        for name in ("texts", "requests"):
            if (place := getattr(self, name)) is not None:
                out[name] = shown_place(place)
        if self.texts is not None:
            out |= {"row_column": self.row_column, "texts_split": self.texts_split}
        return out

    def ask(self, task: TaskSpec, texts: Sequence[str], rank: int | None = None) -> Iterator[dict[int, Reply]]:
        """
        Look each text up. See [`Teacher`].

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file cannot be read as one of the kinds, has not the columns, or disagrees with itself; or
                the task does not recognise one of its own label names in an answer.
        """
        if self.mode == "score":
            check_branch(task)
        loaded = self._loaded()
        said = self._said(task)
        for start in range(0, len(texts), _CHUNK):
            names = [loaded.recording.name(task, text) for text in texts[start : start + _CHUNK]]
            found = loaded.recording.index.find(names)
            places = [place for some in found for place in some]
            answers = iter(loaded.recording.read(places) if places else [])
            replies = {}
            for i, (name, some) in enumerate(zip(names, found, strict=True), start):
                mine = [answer for named, answer in islice(answers, len(some)) if named == name]
                replies[i] = _reply(task, mine, loaded, said)
            yield replies

    def ask_branches(
        self, tasks: Sequence[TaskSpec], texts: Sequence[str], rank: int | None = None
    ) -> Iterator[dict[int, tuple[Reply, ...]]]:
        """
        Look each text up for each question. See [`~teachers.base.ask_branches`].

        Raises:
            ValueError: A table has one answer about each text, and no column says whose. See also [`~RecordedTeacher.ask`].
        """
        if len(tasks) > 1 and not isinstance(self._loaded().recording, BatchRecording):
            names = ", ".join(task.name for task in tasks)
            raise ValueError(
                f"Column '{self._loaded().column}' of '{self.path}' has one value about each text, and {names} are asked. Use "
                f"mode='generate' with label_columns=['QUESTION=COLUMN', ...], or response_column with JSON objects; scores of "
                f"several questions are read from a batch's output."
            )
        return ask_apart(self, tasks, texts, rank)

    def question_columns(self) -> dict[str, str]:
        """The columns of answers by question."""
        pairs = (pair.partition("=") for pair in self.label_columns or ())
        return {name: column or name for name, _, column in pairs}

    def _said(self, task: TaskSpec) -> _Said:
        """What the answers say about a task, once it is certain that none contradicts another."""
        return _read_by(self, task, self._stamps())

    def _form(self) -> FileFormat:
        try:
            return FileFormat(self.recorded_encoding, self.recorded_delimiter)
        except ValueError as error:
            raise ValueError(_OPTION.sub(r"\1recorded_\2", str(error))) from error

    def _stamps(self) -> tuple:
        return tuple(stamp(place) for place in (self.path, self.texts, self.requests) if place is not None)

    def _loaded(self) -> _Loaded:
        return _load(self, self._stamps())


_NESTED = re.compile(r"column '(.*)' holds a (?:list|dict) in row")
"""What JSON is refused with where a label was expected."""


@dataclass(frozen=True)
class _Loaded:
    recording: Recording
    kind: Kind
    column: str | None
    digest: str


@dataclass(frozen=True)
class _Said:
    """
    How recorded labels are read, and the value of an answer by which it is compared with others about the same text.
    """

    meanings: Meanings
    label: Callable[[Answer], object]


@lru_cache(maxsize=4)
def _read_by(teacher: RecordedTeacher, task: TaskSpec, stamp: tuple) -> _Said:
    """The recorded answers as a task reads them, once in each process and for each state of the file."""
    loaded = teacher._loaded()
    meanings = loaded.kind.meanings(teacher, task, loaded.recording, loaded.column)

    def says(answer: Answer) -> object:
        return loaded.kind.says(task, answer, meanings)

    if teacher.on_disagreement == "refuse" and (count := disagreeing(loaded.recording, says)):
        raise ValueError(
            f"'{teacher.path}' has different answers about the same text for {count:,} texts. Correct it, or pass "
            f"on_disagreement='fail' (--on_disagreement fail) to go without an answer about them."
        )
    return _Said(meanings, says)


@lru_cache(maxsize=4)
def _load(teacher: RecordedTeacher, stamp: tuple) -> _Loaded:
    """The file and its index, once in each process and for each state of the file."""
    files = batch_files(teacher.path) if teacher._form().codec == PLAIN.codec else []
    if files:
        requests = files_of(teacher.requests) if teacher.requests else []
        digest = digest_of([*files, *requests])
        scored = teacher.mode == "score"
        kind = KINDS["tokens" if scored else "response"]
        loaded = _Loaded(BatchRecording(files, scored, requests), kind, None, digest)
    else:
        answers = {*_COLUMNS["generate"]["response"], *_COLUMNS["generate"]["label"]}
        answers |= {name for name in (teacher.response_column, teacher.label_column) if name}
        answers |= {*teacher.question_columns().values()}
        ids = [teacher.row_column] if teacher.texts else []  # as written: a gap would round long ones
        table = _table(teacher, [*sorted(answers), *ids])
        texts = _texts(teacher, ids) if teacher.texts else None
        missing = [name for name in column_names(teacher.text_column) if name not in table.column_names]
        if texts is None and missing:
            raise ValueError(
                f"'{teacher.path}' has the columns {table.column_names}, not '{missing[0]}'. Pass "
                f"text_column=... (on the command line in a YAML file of the teacher), or texts=... (--texts) with the data that "
                f"its column of row numbers or ids stands for."
            )
        found, column = _column(teacher, table)
        kind = KINDS[found]
        digest = content_hash(table) + (content_hash(texts) if texts is not None else "")
        finish = [name for name in ENDS if name != "status" and kind.says_how_it_ended and name in table.column_names]
        columns = tuple(teacher.question_columns().values()) if found == "answers" else column
        recording = TableRecording(table, columns, teacher.text_column, texts, teacher.row_column, finish)
        loaded = _Loaded(recording, kind, column, hashlib.sha256(digest.encode()).hexdigest()[:32])
    return loaded


def _table(teacher: RecordedTeacher, columns: Sequence[str]) -> Dataset:
    form = {"encoding": teacher.recorded_encoding, "delimiter": teacher.recorded_delimiter}
    try:
        return load_data(teacher.path, teacher.split, label_columns=columns, **form)  # type: ignore[arg-type]
    except ValueError as error:
        nested = _NESTED.search(str(error))
        if nested and nested[1] in columns:  # lists of labels, and objects, need not be kept as they are written
            return _table(teacher, [name for name in columns if name != nested[1]])
        # of options that have other names here
        raise ValueError(_OPTION.sub(r"\1recorded_\2", str(error))) from error


def _texts(teacher: RecordedTeacher, columns: Sequence[str]) -> Dataset:
    try:
        return load_data(str(teacher.texts), teacher.texts_split, label_columns=columns)
    except ValueError as error:
        raise ValueError(_ADVICE.sub("Write it as UTF-8 with commas.", str(error))) from error


def _option(kind: str) -> str:
    return "label_columns" if kind == "answers" else f"{kind}_column"


def _column(teacher: RecordedTeacher, table: Dataset) -> tuple[str, str]:
    kinds = _COLUMNS[teacher.mode]
    for kind in kinds:
        if column := getattr(teacher, _option(kind)):
            return kind, column if isinstance(column, str) else ", ".join(column)
    there = [name for names in kinds.values() for name in names if name in table.column_names]
    filled = [name for name in there if not all(map(is_missing, table[name]))] if len(there) > 1 else there
    for kind, names in kinds.items():
        present = [name for name in names if name in (filled or there[:1])]
        if len(present) > 1:
            raise ValueError(
                f"'{teacher.path}' has the columns {present}. Say which one: pass {kind}_column=... (on the command line in a "
                f"YAML file of the teacher)."
            )
        if present:
            return kind, present[0]
    wanted = [_option(kind) for kind in kinds]
    raise ValueError(
        f"'{teacher.path}' has the columns {table.column_names}, none of which mode='{teacher.mode}' reads. Pass "
        f"{'=... or '.join(wanted)}=... (on the command line in a YAML file of the teacher)."
    )


def _reply(task: TaskSpec, answers: list[Answer], loaded: _Loaded, said: _Said) -> Reply:
    good = best(answers)
    if not good:
        return Reply(error=(answers[0].error if answers else None) or NOTHING)
    if len(good) > 1 and len({said.label(answer) for answer in good}) > 1:
        return Reply(error=f"the recorded file has {len(good)} answers about this text, and they differ")
    read, wrote = good[0].tokens
    try:
        reply = loaded.kind.reply(task, good[0], said.meanings)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # this row only
        return Reply(error=str(error)[:500])
    return replace(reply, input_tokens=read, output_tokens=wrote)
