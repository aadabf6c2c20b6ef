"""The answers of a review: each on disk at once, resumable, and read as gold for the next training."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from datasets import (
    ClassLabel,
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
    checked_name,
    cut_torn_line,
    file_name,
    read_answers,
    standing_answers,
)
from hf_llambert.review.queue import GOLD_COLUMNS, Queue, read_queue
from hf_llambert.tasks.questions import ABSTAIN
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

    def answers(self) -> dict[str, dict[int, Answer]]:
        """
        Everybody's answers: by reviewer, then by place in the queue. The latest of a row counts.

        Raises:
            OSError: A file is damaged, or belongs to another queue.
        """
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

    def session(self, reviewer: str) -> ReviewSession:
        """Begin, or go on, as a reviewer; see [`ReviewSession`]."""
        return ReviewSession(self, reviewer)

    def labels(self) -> dict[int, int]:
        """The label of most reviewers for each row that someone labelled, by place in the queue; -1 is a tie."""
        votes: dict[int, Counter[int]] = {}
        for answers in self.answers().values():
            for place, answer in answers.items():
                if answer.label != ABSTAIN:
                    votes.setdefault(place, Counter())[answer.label] += 1
        return {place: _majority(votes[place]) for place in sorted(votes)}

    def gold(self) -> Dataset:
        """
        The rows that people labelled.

        Returns:
            `Dataset`: The run's column of texts, or columns, `label` (the label of most reviewers, -1 where they tie),
            `reviewers` (those who labelled it), `reviewed_at` (the latest answer), `reason` and `row` (number in the annotated
            dataset).

        Raises:
            ValueError: Nobody has labelled a row.
        """
        labels, answers = self.labels(), self.answers()
        if not labels:
            raise ValueError(f"Nobody has labelled a row in '{self.folder}' yet.")
        shown = column_names(self.queue.text_column)
        names: dict[str, list] = {k: [] for k in (*shown, *GOLD_COLUMNS)}
        for place, label in labels.items():
            row = self.queue.rows[place]
            given = {n: a[place] for n, a in answers.items() if place in a and a[place].label != ABSTAIN}
            said = (label, list(given), max(a.at for a in given.values()), row.reason, row.row)
            for name, value in zip(names, (*self.queue.fields(row).values(), *said), strict=True):
                names[name].append(value)
        text = Value("string")
        kinds = (
            *[text] * len(shown),
            ClassLabel(names=list(self.queue.task.labels)),
            List(text),
            text,
            text,
            Value("int64"),
        )
        return Dataset.from_dict(names, features=Features(dict(zip(names, kinds, strict=True))))

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

    def add_all(self, answers: Mapping[str, Mapping[int, Answer]]) -> dict[str, int]:
        """
        Add answers that were given elsewhere, by reviewer and place in the queue; how many of each reviewer are new.

        Nothing is written before every reviewer's file is open. See [`ReviewSession`] for the errors.
        """
        added = {}
        with ExitStack() as stack:
            sessions = {name: stack.enter_context(self.session(name)) for name in answers}
            for name, session in sessions.items():
                standing = {place: (answer.label, answer.at) for place, answer in session.answers.items()}
                new = {p: a for p, a in answers[name].items() if _is_news(standing.get(p), a)}
                session.write({"row": place, "label": a.label, "at": a.at} for place, a in new.items())
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
    def answers(self) -> dict[int, Answer]:
        """This reviewer's answers, by place in the queue."""
        return standing_answers(self._entries)

    def open_row(self) -> int | None:
        """The first place in the queue without an answer, or `None` when all are answered or skipped."""
        answered = self.answers
        return next((place for place in range(len(self.review.queue.rows)) if place not in answered), None)

    def answer(self, place: int, label: int) -> None:
        """Label a row. Labelled again, the latest label counts."""
        if not 0 <= label < self.review.queue.task.num_labels:
            raise ValueError(f"Expected a label from 0 to {self.review.queue.task.num_labels - 1}, got {label}.")
        self._note(place, label)

    def skip(self, place: int) -> None:
        """Leave a row without a label."""
        self._note(place, ABSTAIN)

    def undo(self) -> int | None:
        """Take the latest standing answer back; the place that is open again, or `None` when there is none."""
        standing = self.answers
        if not standing:
            return None
        place = next(reversed(standing))
        self.write([{"row": place, "undo": True, "at": _now()}])
        return place

    def reopen_skipped(self) -> int:
        """Open the skipped rows again; how many they are."""
        skipped = [place for place, answer in self.answers.items() if answer.label == ABSTAIN]
        self.write({"row": place, "undo": True, "at": _now()} for place in skipped)
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

    def _note(self, place: int, label: int) -> None:
        if not 0 <= place < len(self.review.queue.rows):
            raise ValueError(f"Expected a place from 0 to {len(self.review.queue.rows) - 1}, got {place}.")
        self.write([{"row": place, "label": label, "at": _now()}])

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


def _is_news(standing: tuple[int, str] | None, answer: Answer) -> bool:
    """Whether an answer from elsewhere is later than the one that stands, and differs from it."""
    return standing is None or (standing[0] != answer.label and standing[1] < answer.at)


def _majority(votes: Counter[int]) -> int:
    (label, most), *others = votes.most_common(2)
    return ABSTAIN if others and others[0][1] == most else label


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
