"""What a recorded value is: a raw answer, a label, scores, probabilities, or a first token's likeliest words."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from hf_llambert.tasks.questions import label_meanings, parse_label_map, value_key
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.teachers.base import Reply
from hf_llambert.teachers.recorded_values import key_of, label_name, scores_of, text_of, word_scores
from hf_llambert.teachers.recordings import Answer, Recording

if TYPE_CHECKING:
    from hf_llambert.teachers.recorded import RecordedTeacher

Meanings = Mapping[tuple[str, object], object]
"""The label that each value of a column stands for."""


class _ByQuestion(dict[tuple[str, object], object]):
    """The answer that each value stands for, by question."""

    columns: dict[str, str]


class Kind(ABC):
    """What a recorded value is; each kind owns what it reads of a file and how a value becomes a reply."""

    name = ""
    says_how_it_ended = False
    """Whether a table's column of how an answer ended is about its values."""

    def options(self, teacher: RecordedTeacher) -> dict[str, object]:
        """Options that decide what is read, for the ledger's key."""
        return {}

    def meanings(self, teacher: RecordedTeacher, task: TaskSpec, recording: Recording, column: str | None) -> Meanings:
        """What the values stand for, decided by all of them."""
        return {}

    def says(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> object:
        """The label that an answer is, or the answer itself where it is none."""
        return key_of(answer)

    @abstractmethod
    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        """The reply of an answer. Raises `ValueError` where it is none, which concerns this row alone."""


class _Response(Kind):
    name, says_how_it_ended = "response", True

    def says(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> object:
        if answer.value is not None:
            with suppress(ValueError, TypeError, RecursionError):
                if task.is_json:
                    found = task.read_answers(text_of(answer.value), answer.finish, answer.structured)
                    return json.dumps([given for given, _ in found.values()])
                return task.read(text_of(answer.value), answer.finish, answer.structured)[0]
        return key_of(answer)

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        return Reply(response=text_of(answer.value), finish=answer.finish, structured=answer.structured)


class _Answers(Kind):
    """Columns of a table, one for each question: the answer is the JSON object that they make."""

    name = "answers"

    def options(self, teacher: RecordedTeacher) -> dict[str, object]:
        return _label_options(teacher)

    def meanings(self, teacher: RecordedTeacher, task: TaskSpec, recording: Recording, column: str | None) -> Meanings:
        questions = {question.name: question for question in task.questions}
        columns = teacher.question_columns()
        if strange := [name for name in columns if name not in questions]:
            raise ValueError(
                f"label_columns names a question '{strange[0]}', and task '{task.name}' has "
                f"{', '.join(questions) or 'none by name'}. Pass label_columns=['QUESTION=COLUMN', ...]."
            )
        out = _ByQuestion()
        out.columns = columns
        given = parse_label_map(teacher.recorded_map or ())
        for name, of_table in columns.items():
            values = list({_key(value): value for value in recording.column(of_table)}.values())  # type: ignore[attr-defined]
            try:
                answers = questions[name].gold(values, of_table, given, teacher.recorded_values)
            except ValueError as error:
                raise ValueError(f"Recorded answers to '{name}' in '{teacher.path}': {error}") from error
            out |= {(name, _key(value)): answer for value, answer in zip(values, answers, strict=True)}
        return out

    def says(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> object:
        return json.dumps(self._object(task, answer, meanings), sort_keys=True)

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        found = self._object(task, answer, meanings)
        if not task.is_json:
            return Reply(response=str(next(iter(found.values()), "")))
        return Reply(response=json.dumps(found, ensure_ascii=False))

    def _object(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> dict[str, object]:
        out, values = {}, answer.value if isinstance(answer.value, dict) else {}
        columns = meanings.columns if isinstance(meanings, _ByQuestion) else {}
        for question in task.questions:
            if question.name in columns:
                found = meanings[question.name, _key(values[columns[question.name]])]
                if question.is_answer(found):
                    out[question.name] = question.said(found)
        return out


class _Label(Kind):
    name = "label"

    def options(self, teacher: RecordedTeacher) -> dict[str, object]:
        return _label_options(teacher)

    def meanings(self, teacher: RecordedTeacher, task: TaskSpec, recording: Recording, column: str | None) -> Meanings:
        if task.is_json:
            raise ValueError(
                f"Column '{column}' of '{teacher.path}' has labels of one question, and task '{task.name}' asks "
                f"{', '.join(question.name for question in task.questions)}. Pass label_columns=['QUESTION=COLUMN', ...], or "
                f"response_column with JSON objects."
            )
        for k, label in enumerate(task.labels):
            if task.parse(label) != k:
                raise ValueError(
                    f"Task '{task.name}' does not read the answer {label!r} as that label, so a recorded one would "
                    f"be lost. Rename the label."
                )
        values, how, given = recording.values(), teacher.recorded_values, parse_label_map(teacher.recorded_map or ())
        try:
            return label_meanings(values, task.labels, column or "", given, how, skip_strange=True, option="recorded")
        except ValueError as error:
            raise ValueError(f"Recorded labels in '{teacher.path}': {error}") from error

    def says(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> object:
        return meanings.get(value_key(answer.value), key_of(answer))

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        return Reply(response=label_name(task, answer.value, meanings))


class _Scores(Kind):
    name = "scores"

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        return Reply(scores=scores_of(task, answer.value, probabilities=False))


class _Probabilities(Kind):
    name = "probabilities"

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        return Reply(scores=scores_of(task, answer.value, probabilities=True))


class _Tokens(Kind):
    name = "tokens"

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        return Reply(scores=word_scores(task, answer.value))


_ALL = (_Response(), _Answers(), _Label(), _Scores(), _Probabilities(), _Tokens())
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def _label_options(teacher: RecordedTeacher) -> dict[str, object]:
    out: dict[str, object] = {}
    if teacher.recorded_values != "auto":
        out["recorded_values"] = teacher.recorded_values
    return out | ({"recorded_map": parse_label_map(teacher.recorded_map or ())} if teacher.recorded_map else {})


def _key(value: object) -> str:
    """One spelling of a value of a table; a gap in a column of whole numbers makes 7 a 7.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)
