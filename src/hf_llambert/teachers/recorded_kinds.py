"""What a recorded value is: a raw answer, a label, scores, probabilities, or a first token's likeliest words."""

from __future__ import annotations

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

Meanings = Mapping[tuple[str, object], int]
"""The label that each value of a column stands for."""


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
                return task.read(text_of(answer.value), answer.finish, answer.structured)[0]
        return key_of(answer)

    def reply(self, task: TaskSpec, answer: Answer, meanings: Meanings) -> Reply:
        return Reply(response=text_of(answer.value), finish=answer.finish, structured=answer.structured)


class _Label(Kind):
    name = "label"

    def options(self, teacher: RecordedTeacher) -> dict[str, object]:
        out: dict[str, object] = {}
        if teacher.recorded_values != "auto":
            out["recorded_values"] = teacher.recorded_values
        return out | ({"recorded_map": parse_label_map(teacher.recorded_map or ())} if teacher.recorded_map else {})

    def meanings(self, teacher: RecordedTeacher, task: TaskSpec, recording: Recording, column: str | None) -> Meanings:
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


KINDS: dict[str, Kind] = {kind.name: kind for kind in (_Response(), _Label(), _Scores(), _Probabilities(), _Tokens())}
