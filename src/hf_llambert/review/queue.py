"""The queue of a review: rows whose label is doubtful, and rows drawn at random to measure by."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from datasets import Dataset
from filelock import FileLock

from hf_llambert.data import STAGE_FILE, damaged_note, write_whole
from hf_llambert.notes import TEXT_COLUMN, read_note, task_shape
from hf_llambert.pool.labelled import read_pool, run_labels
from hf_llambert.reading.saved import read_annotated
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import FIELD, TextColumn, column_names, row_texts, why_unusable

QUEUE_FILE = "queue.json"
_ROW = {
    **dict.fromkeys(("row", "teacher", "student"), int),
    **dict.fromkeys(("text", "reason"), str),
    **dict.fromkeys(("teacher_confidence?", "student_confidence?"), (float, None)),
}
_QUEUE = {
    "task": task_shape,
    "text_column": TEXT_COLUMN,
    "num": int,
    "num_control": int,
    "student?": (str, None),
    "rows": [_ROW],
}
GOLD_COLUMNS = ("label", "reviewers", "reviewed_at", "reason", "row")
CONTROL = "random"
REASONS = {
    CONTROL: "drawn at random, to measure by",
    "disagree": "teacher and student disagree",
    "suspect": "suspected label error",
    "unsure": "the teacher was unsure",
    "abstained": "the teacher gave no label",
}
"""Why a row is in a queue, and how it is said to a person."""


@dataclass(frozen=True)
class QueueRow:
    """
    A row to be read.

    Args:
        row (`int`): Its number in the annotated dataset.
        text (`str`): The text.
        reason (`str`): One of `REASONS`.
        teacher (`int`): The teacher's label, -1 where it gave none.
        student (`int`): The student's label, -1 where there is none.
        teacher_confidence (`float`, *optional*): The teacher's confidence.
        student_confidence (`float`, *optional*): The student's confidence.
    """

    row: int
    text: str
    reason: str
    teacher: int = ABSTAIN
    student: int = ABSTAIN
    teacher_confidence: float | None = None
    student_confidence: float | None = None


@dataclass(frozen=True)
class Queue:
    """The rows that every reviewer of a run reads, in this order; `student` is the content of whose labels they have."""

    task: TaskSpec
    text_column: TextColumn
    num: int
    num_control: int
    rows: tuple[QueueRow, ...]
    student: str | None = None

    def fields(self, row: QueueRow) -> dict[str, str]:
        """What a row shows, by the columns that it is from."""
        names = column_names(self.text_column)
        return dict(zip(names, row.text.split(FIELD) if len(names) > 1 else [row.text], strict=True))

    @property
    def digest(self) -> str:
        """
        The digest of a queue that its answers are kept with, so that answers to another queue are not taken for them.
        """
        payload = json.dumps([list(self.task.labels), [(row.row, row.text) for row in self.rows]])
        return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def build_queue(
    run: str | Path,
    num: int = 100,
    num_control: int = 20,
    seed: int = 42,
    suspects: Sequence[int] = (),
) -> Queue:
    """
    Choose the rows of a run's annotated dataset that people should read.

    `num_control` rows are drawn at random from all usable texts, whatever the machines say of them: only these can measure
    teacher and student. The others are taken in turn from those where teacher and student disagree (the surest first), the
    suspects, those of the teacher's least confidence and those that it gave no label. All are then shuffled. The same run
    and arguments give the same queue.

    Args:
        run (`str` or `Path`): Folder with `annotated` and, for the student's labels, `compared` (see [`compare_labels`]).
        num (`int`, defaults to 100): Rows in the queue; fewer when the run has fewer.
        num_control (`int`, defaults to 20): How many of them are drawn at random.
        seed (`int`, defaults to 42): Seed of the drawing and of the order.
        suspects (`Sequence[int]`, defaults to none): Numbers of rows whose label is likely wrong, the likeliest first.

    Raises:
        FileNotFoundError: The run has no annotated dataset.
        ValueError: The numbers make no sense, or no text can be read.
    """
    if not 0 <= num_control <= num or num < 1:
        raise ValueError(
            f"Expected 1 row or more, of which none or more, but not more than all, are drawn at random; got {num} rows, "
            f"{num_control} at random."
        )
    run = Path(run)
    annotated, task, column = _annotated(run)
    taken = [name for name in column_names(column) if name in GOLD_COLUMNS]
    if taken:
        raise ValueError(
            f"The text column '{taken[0]}' has the name of a column of the gold dataset. Rename it and annotate again."
        )
    strange = [row for row in suspects if not 0 <= row < len(annotated)]
    if strange:
        raise ValueError(f"Expected suspects from 0 to {len(annotated) - 1:,}, got {strange[:5]}.")
    compared = run_labels(run, "compared")
    earlier = compared is not None and compared.foreign is not None  # student; its labels say nothing of this one
    rows = _rows(annotated, run, column, earlier)
    if not rows:
        raise ValueError(f"None of the {len(annotated):,} texts in '{run / 'annotated'}' can be read by anyone.")
    draw = random.Random(seed)
    control = sorted(draw.sample(sorted(rows), min(num_control, len(rows))))
    chosen = dict.fromkeys(control, CONTROL)
    _fill(chosen, _doubtful(rows, suspects), min(num, len(rows)))
    order = sorted(chosen)
    draw.shuffle(order)
    made = tuple(QueueRow(**{**asdict(rows[i]), "reason": chosen[i]}) for i in order)
    student = None if compared is None or earlier else compared.student
    return Queue(task, column, num, num_control, made, student)


def suspected_errors(run: str | Path, seed: int = 0) -> list[int]:
    """
    Rows of a run's annotated dataset whose label by the teacher is likely wrong, the likeliest first; for the `suspects` of
    [`build_queue`]. See [`likely_label_errors`] for how, and for the errors.
    """
    from hf_llambert.quality.noise import likely_label_errors

    annotated, _, column = _annotated(Path(run))
    labels, texts = annotated["llm_label"][:], row_texts(annotated, column)
    rows = [i for i, label in enumerate(labels) if label != ABSTAIN and why_unusable(texts[i]) is None]
    _, found = likely_label_errors([texts[i] for i in rows], [labels[i] for i in rows], seed=seed)
    return [rows[k] for k in found.tolist()]


def _annotated(run: Path) -> tuple[Dataset, TaskSpec, TextColumn]:
    """A run's annotated dataset, its task and its column of texts."""
    note = run / "annotated" / STAGE_FILE
    if not note.is_file():
        raise FileNotFoundError(f"'{run}' holds no 'annotated' folder. Run hf-llambert annotate --output {run} first.")
    config = read_note(note, {"config": {"task": task_shape, "text_column": TEXT_COLUMN}})["config"]
    annotated, column = read_annotated(run, config), config["text_column"]
    return annotated, TaskSpec.from_dict(config["task"]), column


def _rows(annotated: Dataset, run: Path, column: TextColumn, alone: bool) -> dict[int, QueueRow]:
    """The rows that a person can read, each once, by number. `alone`: without a student's labels."""
    student, sure = [ABSTAIN] * len(annotated), [None] * len(annotated)
    if not alone and (run / "compared").is_dir():
        compared = read_pool(run / "compared")
        if len(compared) != len(annotated):
            raise ValueError(
                f"'{run / 'compared'}' has {len(compared):,} rows, the annotated dataset {len(annotated):,}. Remove "
                f"'compared' and run hf-llambert report {run}."
            )
        student, sure = compared["student_label"][:], compared["student_confidence"][:]
    values = zip(
        row_texts(annotated, column),
        annotated["llm_label"][:],
        annotated["llm_confidence"][:],
        student,
        sure,
        strict=True,
    )
    rows, seen = {}, set()
    for i, (text, teacher, confidence, label, student_confidence) in enumerate(values):
        if why_unusable(text) is None and text not in seen:
            seen.add(text)
            learnt = ABSTAIN if label is None else label
            rows[i] = QueueRow(i, text, CONTROL, teacher, learnt, confidence, student_confidence)
    return rows


def _doubtful(rows: dict[int, QueueRow], suspects: Sequence[int]) -> dict[str, list[int]]:
    """Row numbers by reason, those that matter most first."""
    labelled = [row for row in rows.values() if row.teacher != ABSTAIN]
    disagree = [row for row in labelled if row.student not in (ABSTAIN, row.teacher)]
    disagree.sort(key=lambda row: (-(row.teacher_confidence or 0) - (row.student_confidence or 0), row.row))
    unsure = [row for row in labelled if row.teacher_confidence is not None]
    unsure.sort(key=lambda row: (row.teacher_confidence, row.row))
    return {
        "disagree": [row.row for row in disagree],
        "suspect": [row for row in dict.fromkeys(suspects) if row in rows],
        "unsure": [row.row for row in unsure],
        "abstained": [row.row for row in rows.values() if row.teacher == ABSTAIN],
    }


def _fill(chosen: dict[int, str], reasons: dict[str, list[int]], num: int) -> None:
    """Take from each reason in turn, until `num` are chosen or none is left."""
    left = {reason: iter(rows) for reason, rows in reasons.items()}
    while left and len(chosen) < num:
        for reason in list(left):
            row = next((row for row in left[reason] if row not in chosen), None)
            if row is None:
                del left[reason]
            elif len(chosen) < num:
                chosen[row] = reason


def write_queue(folder: Path, queue: Queue) -> Queue:
    """Write a queue unless there is one. Where two processes write at once, the first counts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / QUEUE_FILE
    with FileLock(folder / ".queue.lock"):
        if not path.exists():
            made = {
                "task": queue.task.to_dict(),
                "text_column": queue.text_column,
                "num": queue.num,
                "num_control": queue.num_control,
                "student": queue.student,
                "rows": [asdict(row) for row in queue.rows],
            }
            write_whole(path, json.dumps(made, indent=1, ensure_ascii=False))
    return read_queue(folder)


def read_queue(folder: Path) -> Queue:
    """
    The queue of a review.

    Raises:
        FileNotFoundError: None was made yet.
        OSError: It cannot be read.
    """
    path = folder / QUEUE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' holds no queue of rows to review. Start hf-llambert review first.")
    advice = "Restore it; the answers beside it belong to it."
    made = read_note(path, _QUEUE, advice)
    try:
        rows = tuple(QueueRow(**row) for row in made["rows"])
    except TypeError as error:  # a field that rows have not
        raise damaged_note(path, error, advice) from error
    task = TaskSpec.from_dict(made["task"])
    wrong = next((k for k, row in enumerate(rows) if not _is_sound(row, task.num_labels)), None)
    if not rows or wrong is not None:
        reason = "there are no rows" if wrong is None else f"rows[{wrong}] has a label or reason that there is not"
        raise damaged_note(path, reason, advice)
    return Queue(task, made["text_column"], made["num"], made["num_control"], rows, made.get("student"))


def _is_sound(row: QueueRow, num_labels: int) -> bool:
    labels = all(ABSTAIN <= label < num_labels for label in (row.teacher, row.student))
    return labels and row.row >= 0 and row.reason in REASONS
