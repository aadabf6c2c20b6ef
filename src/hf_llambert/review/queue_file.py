"""The file of a review's queue."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from hf_llambert.data import damaged_note, write_whole
from hf_llambert.misfits import ANY, misfit
from hf_llambert.notes import TEXT_COLUMN, read_note, task_shape
from hf_llambert.quality.alternative import EPSILON
from hf_llambert.review.drawing import OTHER, REASONS, Drawn
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import Queue, QueueRow
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec

QUEUE_FILE = "queue.json"
_SAID = {
    **dict.fromkeys(("teacher", "student"), (int, float, [int], None)),  # which of them is a matter of the question
    **dict.fromkeys(("teacher_confidence?", "student_confidence?"), (float, None)),
}
_ROW = {"row": int, **dict.fromkeys(("text", "reason"), str)}
_QUEUE = {
    "task": task_shape,
    "text_column": TEXT_COLUMN,
    "num": int,
    "num_control": int,
    "for_test?": int,
    "epsilon?": float,
    "student?": (str, None),
    "drawn?": ({"num_rows": int, "certain": [int]}, None),
    "rows": [dict],
}


def write_queue(folder: Path, queue: Queue) -> Queue:
    """Write a queue unless there is one. Where two processes write at once, the first counts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / QUEUE_FILE
    with FileLock(folder / ".queue.lock"):
        if not path.exists():
            made: dict[str, object] = {
                "task": queue.task.to_dict(),
                "text_column": queue.text_column,
                "num": queue.num,
                "num_control": queue.num_control,
                "student": queue.student,
                "drawn": None if queue.drawn is None else asdict(queue.drawn),
                "rows": [row.to_dict() for row in queue.rows],
            }
            if queue.for_test or queue.epsilon != EPSILON:
                made |= {"for_test": queue.for_test, "epsilon": queue.epsilon}
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
    task = TaskSpec.from_dict(made["task"])
    several = {"question": str, "questions": {ANY: _SAID}}
    unfit = misfit(made["rows"], [_ROW | (_SAID if "" in task.parts else several)], "rows")
    if unfit is not None:
        raise damaged_note(path, unfit, advice)
    try:
        rows = tuple(QueueRow(**row) for row in made["rows"])
    except TypeError as error:  # a field that rows have not
        raise damaged_note(path, error, advice) from error
    wrong = next((k for k, row in enumerate(rows) if not _is_sound(row, task)), None)
    if not rows or wrong is not None:
        reason = "there are no rows" if wrong is None else f"rows[{wrong}] has a label or reason that there is not"
        raise damaged_note(path, reason, advice)
    for_test, epsilon = made.get("for_test", 0), made.get("epsilon", EPSILON)
    if for_test < 0 or not 0 <= epsilon < 1:
        raise damaged_note(path, f"for_test is {for_test} and epsilon {epsilon}", advice)
    drawn = made.get("drawn")
    if drawn is not None:
        drawn = Drawn(drawn["num_rows"], tuple(drawn["certain"]))
        if not {*drawn.certain} <= {row.row for row in rows} or drawn.num_rows < len(rows):
            raise damaged_note(path, "'drawn' names rows that are not in the queue, or fewer than there are", advice)
    numbers = made["num"], made["num_control"]
    return Queue(task, made["text_column"], *numbers, rows, made.get("student"), for_test, epsilon, drawn)


def _is_sound(row: QueueRow, task: TaskSpec) -> bool:
    named = [] if "" in task.parts else list(task.parts)
    if sorted(row.questions) != sorted(named) or row.question not in ("", *named):
        return False
    parts = [(row.part(name), one) for name, one in task.parts.items()]
    answers = all(_is_said(answer, one.question) for part, one in parts for answer in (part.teacher, part.student))
    return answers and row.row >= 0 and row.reason in REASONS and row.reason != OTHER


def _is_said(answer: object, question: Question) -> bool:
    return answer == question.missing or reviewed(question).is_said(question, answer)
