"""The answers of a review: each on disk at once, resumable, and read as gold for the next training."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from datasets import (
    Dataset,
    Features,
    List,
    Value,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from filelock import FileLock, Timeout

from hf_llambert.review.answers import (
    Answer,
    Key,
    answers_to,
    checked_name,
    cut_torn_line,
    entry_about,
    file_name,
    read_answers,
    standing_answers,
)
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import Queue
from hf_llambert.review.queue_file import read_queue
from hf_llambert.tasks.parts import GOLD
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import column_names
from hf_llambert.whole import scratch_folder, sync


class Review:
    """
    A queue of rows and everybody's answers, in one folder: `queue.json`, `answers/` with a file for each reviewer, `gold/`.

    Args:
        folder (`str` or `Path`): The folder, usually `review` in a run's folder; `write_queue` puts the queue there.

    Raises:
        FileNotFoundError: The folder has no queue.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.queue: Queue = read_queue(self.folder)

    def answers(self, question: str = "") -> dict[str, dict[int, Answer]]:
        """
        Everybody's answers: by reviewer, then by place in the queue. The latest of a row counts.

        Args:
            question (`str`, defaults to none): Of several questions which one.

        Raises:
            KeyError: The task has no such question.
            OSError: A file is damaged, or belongs to another queue.
        """
        asked = self.question(question)
        return {name: answers_to(given, asked) for name, given in self.standing().items()}

    def standing(self) -> dict[str, dict[Key, Answer]]:
        """Everybody's answers to all questions: by reviewer, then by place and question, in the order in which they came."""
        found = {}
        for path in sorted((self.folder / "answers").glob("*.jsonl")):
            name, entries = read_answers(path, self.queue)
            if name is not None:
                if path.stem != file_name(name):
                    raise OSError(
                        f"'{path}' is a copy of the answers of '{name}'. Keep one of the two, as {file_name(name)}.jsonl."
                    )
                found[name] = standing_answers(entries)
        return dict(sorted(found.items()))

    def question(self, name: str) -> str:
        """The same name of a question. Raises `KeyError` where the task has none of that name."""
        parts = self.queue.task.parts
        if name not in parts:
            asked = f"questions {', '.join(parts)}: say which" if "" not in parts else "only one question: say none"
            raise KeyError(f"Task '{self.queue.task.name}' has the {asked}; got {name!r}.")
        return name

    def session(self, reviewer: str) -> ReviewSession:
        """Begin, or go on, as a reviewer; see [`ReviewSession`]."""
        return ReviewSession(self, reviewer)

    def labels(self, question: str = "") -> dict[int, object]:
        """
        What most reviewers say of each row that someone answered, by place in the queue: the label that most give, each label
        that more than half give, or the median of levels. Where they tie, the lack of an answer: -1, or `None`.

        Args:
            question (`str`, defaults to none): Of several questions which one.
        """
        asked = self.queue.task.parts[self.question(question)].question
        said: dict[int, list] = {}
        for answers in self.answers(question).values():
            for place, answer in answers.items():
                if asked.is_answer(answer.label):
                    said.setdefault(place, []).append(answer.label)
        return {place: reviewed(asked).most(asked, said[place]) for place in sorted(said)}

    @property
    def has_gold(self) -> bool:
        """Whether somebody has answered something."""
        return any(self.labels(name) for name in self.queue.task.parts)

    def gold(self) -> Dataset:
        """
        The rows that people answered.

        Returns:
            `Dataset`: The run's column of texts, or columns, `label` (the label of most reviewers, -1 where they tie; see
            [`~Review.labels`]), or of several questions a column for each by its name, `reviewers` (those who answered),
            `reviewed_at` (the latest answer), `reason` and `row` (number in the annotated dataset).

        Raises:
            ValueError: Nobody has answered a row.
        """
        parts = {name or GOLD: one.question for name, one in self.queue.task.parts.items()}
        labels = {name or GOLD: self.labels(name) for name in self.queue.task.parts}
        given = {name: self._given(answers) for name, answers in self.standing().items()}
        columns: dict[str, list] = {}
        for place in sorted({place for those in labels.values() for place in those}):
            row, by = self.queue.rows[place], {name: those[place] for name, those in given.items() if place in those}
            values = {
                **self.queue.fields(row),
                **{name: those.get(place, parts[name].missing) for name, those in labels.items()},
                "reviewers": list(by),
                "reviewed_at": max(at for times in by.values() for at in times),
                "reason": row.reason,
                "row": row.row,
            }
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
        if not columns:
            raise ValueError(f"Nobody has labelled a row in '{self.folder}' yet.")
        text = Value("string")
        kinds = {
            **dict.fromkeys(column_names(self.queue.text_column), text),
            **{name: _feature(question) for name, question in parts.items()},
            "reviewers": List(text),
            **dict.fromkeys(("reviewed_at", "reason"), text),
            "row": Value("int64"),
        }
        return Dataset.from_dict(columns, features=Features(kinds))

    def _given(self, answers: Mapping[Key, Answer]) -> dict[int, list[str]]:
        """When each row was answered, by place; nothing of what was skipped."""
        found: dict[int, list[str]] = {}
        for (place, name), answer in answers.items():
            if self.queue.task.parts[name].question.is_answer(answer.label):
                found.setdefault(place, []).append(answer.at)
        return found

    def save_gold(self) -> Path:
        """Write [`Review.gold`] to `gold` in the folder, in the place of what was there; `train --gold` takes it."""
        folder, gold = self.folder / "gold", self.gold()
        with FileLock(self.folder / ".gold.lock"), scratch_folder(folder) as part:
            with _no_bars():
                gold.save_to_disk(str(part / "new"))
            if folder.exists():
                folder.rename(part / "old")
            (part / "new").rename(folder)
            shutil.rmtree(part / "old", ignore_errors=True)
        return folder

    def add_all(self, answers: Mapping[str, Mapping[Key, Answer]]) -> dict[str, int]:
        """
        Add answers that were given elsewhere, by reviewer, then by place in the queue and question; how many of each reviewer
        are new.

        Nothing is written before every reviewer's file is open. See [`ReviewSession`] for the errors.
        """
        added = {}
        with ExitStack() as stack:
            sessions = {name: stack.enter_context(self.session(name)) for name in answers}
            for name, session in sessions.items():
                standing = session.standing
                new = {key: a for key, a in answers[name].items() if _is_news(standing.get(key), a)}
                session.write(entry_about(key, label=a.label, at=a.at) for key, a in new.items())
                added[name] = len(new)
        return added


class ReviewSession:
    """
    One reviewer's answers, while they are given. Each is on disk before the call returns; a killed process loses none.

    Args:
        review (`Review`): The review.
        reviewer (`str`): Name of the reviewer.

    Raises:
        ValueError: The name cannot be used.
        RuntimeError: The same reviewer has this review open elsewhere.
        OSError: The answers cannot be read or written.
    """

    def __init__(self, review: Review, reviewer: str) -> None:
        self.review, self.reviewer = review, checked_name(reviewer)
        folder = review.folder / "answers"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{file_name(self.reviewer)}.jsonl"
        process = self._path.with_suffix(".pid")
        self._lock = FileLock(self._path.with_suffix(".lock"))  # the system frees it when the process dies
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            number = process.read_text().strip() if process.is_file() else "unknown"
            raise RuntimeError(
                f"Reviewer '{self.reviewer}' has '{review.folder}' open already, in process {number}. Close that one, or "
                f"give another name."
            ) from error
        try:
            process.write_text(f"{os.getpid()}\n")
            _, self._entries = read_answers(self._path, review.queue)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            cut_torn_line(self._path, self._file)
            if not os.fstat(self._file).st_size:
                self._append([{"reviewer": self.reviewer, "queue": review.queue.digest}])
                sync(folder)
        except BaseException:  # it goes on; the lock must not outlive it
            self._lock.release()
            raise

    @property
    def standing(self) -> dict[Key, Answer]:
        """This reviewer's answers, by place in the queue and question, in the order in which they were given."""
        return standing_answers(self._entries)

    @property
    def answers(self) -> dict[int, Answer]:
        """This reviewer's answers to the only question of the task, by place in the queue."""
        return self.answers_to("")

    def answers_to(self, question: str) -> dict[int, Answer]:
        """This reviewer's answers to a question, by place in the queue."""
        return answers_to(self.standing, self.review.question(question))

    @property
    def step(self) -> int:
        """How much was ever said: another number after each answer and each that was taken back."""
        return len(self._entries)

    def open_row(self) -> int | None:
        """
        The first place in the queue where an answer is missing, or `None` when all questions are answered or skipped.
        """
        return next((place for place, _ in self._open()), None)

    def open_question(self) -> str | None:
        """The question that is next there, or `None` when all are answered or skipped."""
        return next((name for _, name in self._open()), None)

    def _open(self) -> Iterator[Key]:
        answered, names = self.standing, list(self.review.queue.task.parts)
        keys = ((place, name) for place in range(len(self.review.queue.rows)) for name in names)
        return (key for key in keys if key not in answered)

    def answer(self, place: int, label: object, question: str = "") -> None:
        """
        Answer a question of a row. Answered again, the latest answer counts.

        Args:
            place (`int`): Its place in the queue.
            label (`object`): The answer as gold has it: the id of a label, a sorted list of ids, or a level.
            question (`str`, defaults to none): Of several questions which one.
        """
        asked = self.review.queue.task.parts[self.review.question(question)].question
        if not reviewed(asked).is_given(asked, label):
            raise ValueError(f"Expected {reviewed(asked).expected(asked)}, got {label}.")
        self._note(place, label, question)

    def skip(self, place: int, question: str = "") -> None:
        """Leave a question of a row without an answer."""
        asked = self.review.queue.task.parts[self.review.question(question)].question
        self._note(place, asked.missing, question)

    def undo(self) -> int | None:
        """Take the latest standing answer back; the place that is open again, or `None` when there is none."""
        standing = self.standing
        if not standing:
            return None
        key = next(reversed(standing))
        self.write([entry_about(key, undo=True, at=_now())])
        return key[0]

    @property
    def skipped(self) -> list[Key]:
        """What was skipped: places in the queue and questions."""
        parts = self.review.queue.task.parts
        return [key for key, a in self.standing.items() if not parts[key[1]].question.is_answer(a.label)]

    def reopen_skipped(self) -> int:
        """Open what was skipped again; how many answers that are."""
        skipped = self.skipped
        self.write(entry_about(key, undo=True, at=_now()) for key in skipped)
        return len(skipped)

    def write(self, entries: Iterable[dict]) -> None:
        """Append entries of the file, all in one write."""
        given = list(entries)
        if given:
            self._append(given)
            self._entries += given

    def close(self) -> None:
        """Let others open this reviewer's answers."""
        if self._lock.is_locked:
            os.close(self._file)
            self._path.with_suffix(".pid").unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> ReviewSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, place: int, label: object, question: str) -> None:
        if not 0 <= place < len(self.review.queue.rows):
            raise ValueError(f"Expected a place from 0 to {len(self.review.queue.rows) - 1}, got {place}.")
        self.write([entry_about((place, question), label=label, at=_now())])

    def _append(self, entries: list[dict]) -> None:
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()
        try:
            cut_torn_line(self._path, self._file)
            before = os.fstat(self._file).st_size
            written = os.write(self._file, lines)
            if written < len(lines):
                os.ftruncate(self._file, before)
                raise OSError("no space left")
            os.fsync(self._file)
        except OSError as error:
            raise OSError(
                f"'{self._path}' cannot be written: {error}. The answers before this one are kept; make room and go on."
            ) from error


@contextmanager
def _no_bars() -> Iterator[None]:
    """Switch the progress bars of `datasets` off in the block, for a write of a second."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _is_news(standing: Answer | None, answer: Answer) -> bool:
    """Whether an answer from elsewhere is later than the one that stands, and differs from it."""
    return standing is None or (standing.label != answer.label and standing.at < answer.at)


def _feature(question: Question) -> object:
    """The type of a column of gold. Levels are kept as they are: one of 32 bits may lie beside its scale."""
    feature = question.own_features()[question.answer_column]
    return Value("float64") if feature == Value("float32") else feature


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
