"""The queue of a review: rows whose label is doubtful, and rows drawn at random to measure by."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import Dataset

from hf_llambert.data import STAGE_FILE
from hf_llambert.notes import TEXT_COLUMN, read_note, task_shape
from hf_llambert.pool.labelled import read_pool, run_labels
from hf_llambert.quality.alternative import EPSILON, LEAST_ROWS
from hf_llambert.reading.saved import read_annotated
from hf_llambert.review.drawing import CONTROL, OTHER, RANDOM, REASONS, TEST, Drawn, choose_rows
from hf_llambert.review.kinds import reviewed
from hf_llambert.tasks.parts import GOLD, part_of
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import FIELD, TextColumn, column_names, row_texts, why_unusable

if TYPE_CHECKING:
    from hf_llambert.quality.words import Words

_MACHINES = ("teacher", "student", "teacher_confidence", "student_confidence")
GOLD_COLUMNS = ("reviewers", "reviewed_at", "reason", "row")


@dataclass(frozen=True)
class QueueRow:
    """
    A row to be read.

    Args:
        row (`int`): Its number in the annotated dataset.
        text (`str`): The text.
        reason (`str`): One of `REASONS`.
        teacher (`object`): The teacher's answer as gold has it: the id of a label, -1 where it gave none.
        student (`object`): The student's answer, or the lack of one.
        teacher_confidence (`float`, *optional*): The teacher's confidence.
        student_confidence (`float`, *optional*): The student's confidence.
        question (`str`, defaults to none): Of several questions the one that `reason` is about; none where it is about all.
        questions (`Mapping[str, Mapping]`): Of several questions the four values above for each, by its name.
    """

    row: int
    text: str
    reason: str
    teacher: object = ABSTAIN
    student: object = ABSTAIN
    teacher_confidence: float | None = None
    student_confidence: float | None = None
    question: str = ""
    questions: Mapping[str, Mapping] = field(default_factory=dict)

    @property
    def is_blind(self) -> bool:
        """Whether nobody is to see what machines say of it."""
        return self.reason in RANDOM

    def part(self, name: str) -> QueueRow:
        """The row as one of its task's questions sees it, by the names of [`TaskSpec.parts`]."""
        if not name:
            return self
        reason = self.reason if self.question in ("", name) else OTHER
        return QueueRow(self.row, self.text, reason, **self.questions[name])

    def to_dict(self) -> dict[str, object]:
        """The row as `queue.json` has it."""
        made = asdict(self)
        unused = _MACHINES if self.questions else ("question", "questions")
        return {key: value for key, value in made.items() if key not in unused}


@dataclass(frozen=True)
class Queue:
    """
    The rows that every reviewer of a run reads, in this order; `student` is the content of whose labels they have, `epsilon` by
    how much the test whether the teacher may stand in for people lets it be worse, and `drawn` says how they came into it (`None`
    in queues that do not say it yet).
    """

    task: TaskSpec
    text_column: TextColumn
    num: int
    num_control: int
    rows: tuple[QueueRow, ...]
    student: str | None = None
    for_test: int = 0
    epsilon: float = EPSILON
    drawn: Drawn | None = None

    def fields(self, row: QueueRow) -> dict[str, str]:
        """What a row shows, by the columns that it is from."""
        names = column_names(self.text_column)
        return dict(zip(names, row.text.split(FIELD) if len(names) > 1 else [row.text], strict=True))

    def part(self, name: str) -> Queue:
        """The queue as one of its task's questions sees it, by the names of [`TaskSpec.parts`]."""
        if not name:
            return self
        return replace(self, task=self.task.parts[name], rows=tuple(row.part(name) for row in self.rows))

    @property
    def digest(self) -> str:
        """
        The digest of a queue that its answers are kept with, so that answers to another queue are not taken for them.
        """
        asked: list = list(self.task.labels)
        if self.task.questions:
            asked = [[question.name, question.kind, list(question.labels)] for question in self.task.questions]
        payload = json.dumps([asked, [(row.row, row.text) for row in self.rows]])
        return hashlib.sha256(payload.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def build_queue(
    run: str | Path,
    num: int = 100,
    num_control: int = 20,
    seed: int = 42,
    suspects: Sequence[int] | Mapping[str, Sequence[int]] = (),
    for_test: int = 0,
    epsilon: float = EPSILON,
) -> Queue:
    """
    Choose the rows of a run's annotated dataset that people should read.

    `num_control` rows are drawn at random from all usable texts, whatever the machines say of them: only these can measure
    teacher and student. The others are taken in turn from those where teacher and student disagree (the surest first), the
    suspects, those of the teacher's least confidence and those that it gave no label. All are then shuffled. The same run
    and arguments give the same queue. Of several questions each takes its turn, so that a row comes early when any of its
    answers is doubtful; those that differ the most come first, then the surest.

    Args:
        run (`str` or `Path`): Folder with `annotated` and, for the student's labels, `compared` (see [`compare_labels`]).
        num (`int`, defaults to 100): Rows in the queue; fewer when the run has fewer.
        num_control (`int`, defaults to 20): How many of them are drawn at random.
        seed (`int`, defaults to 42): Seed of the drawing and of the order.
        suspects (`Sequence[int]`, defaults to none): Numbers of rows whose label is likely wrong, the likeliest first. Of
            several questions by the question's name, or one list for all.
        for_test (`int`, defaults to 0): How many more of them are drawn at random for the test whether the teacher may stand in
            for people ([`alternative_annotator_test`]). They come first, so that they are what reviewers who stop early have in
            common.
        epsilon (`float`, defaults to 0.1): What that test forgives; kept with the queue, before anybody has answered.

    Raises:
        FileNotFoundError: The run has no annotated dataset.
        ValueError: The numbers make no sense, a column or question has the name of a column of gold, or no text can be read.
    """
    _check_numbers(num, num_control, for_test, epsilon)
    run = Path(run)
    annotated, task, column = annotated_rows(run)
    _check_names(task, column)
    found = _suspects(suspects, task, len(annotated))
    compared = run_labels(run, "compared")
    earlier = compared is not None and compared.foreign is not None  # student; its labels say nothing of this one
    rows = _rows(annotated, run, task, column, earlier)
    if not rows:
        raise ValueError(f"None of the {len(annotated):,} texts in '{run / 'annotated'}' can be read by anyone.")
    draw = random.Random(seed)
    chosen, certain = choose_rows(list(rows), _doubtful(rows, task, found), num, num_control, draw, for_test)
    order = sorted(chosen)
    draw.shuffle(order)
    order.sort(key=lambda row: chosen[row][0] != TEST)
    made = tuple(replace(rows[i], reason=chosen[i][0], question=chosen[i][1]) for i in order)
    student = None if compared is None or earlier else compared.student
    return Queue(
        task, column, num, num_control, made, student, for_test, float(epsilon), Drawn(len(rows), certain)
    )  # fmt: skip


def _check_numbers(num: int, num_control: int, for_test: int, epsilon: float) -> None:
    if num < 1 or min(num_control, for_test) < 0 or num_control + for_test > num:
        tested = f", {for_test} of these for the test" if for_test else ""
        raise ValueError(
            f"Expected 1 row or more, of which none or more, but not more than all, are drawn at random; got {num} rows, "
            f"{num_control + for_test} at random{tested}."
        )
    if for_test and num_control + for_test < LEAST_ROWS:
        raise ValueError(
            f"Whether the teacher may stand in for people takes {LEAST_ROWS} rows drawn at random that two reviewers answer, and "
            f"some will be skipped; got {num_control + for_test}. Ask for more, such as 60."
        )
    if not 0 <= epsilon < 1:
        raise ValueError(f"Expected epsilon, a share of rows, from 0 to below 1, got {epsilon}.")


def suspected_errors(run: str | Path, seed: int = 0) -> list[int] | dict[str, list[int]]:
    """
    Rows of a run's annotated dataset whose label by the teacher is likely wrong, the likeliest first; for the `suspects` of
    [`build_queue`]. Of several questions by the question's name. Where several labels may hold, each is looked at by itself,
    and they take turns. See [`likely_label_errors`] for how, and for the errors.
    """
    annotated, task, column = annotated_rows(Path(run))
    from hf_llambert.quality.words import Words

    words = Words()
    found = {
        name: _errors(part_of(annotated, task, name), one, column, seed, words) for name, one in task.parts.items()
    }
    return found.get("", found)


def _errors(annotated: Dataset, task: TaskSpec, column: TextColumn, seed: int, words: Words) -> list[int]:
    from hf_llambert.quality.noise import likely_label_errors

    question = task.question
    answers, texts = annotated[f"llm_{question.answer_column}"][:], row_texts(annotated, column)
    rows = [i for i, a in enumerate(answers) if question.is_answer(a) and why_unusable(texts[i]) is None]
    read = [texts[i] for i in rows]
    classes = reviewed(question).classes(question, [answers[i] for i in rows])
    each = [likely_label_errors(read, labels, seed=seed, words=words)[1].tolist() for labels in classes]
    turns = (found[k] for k in range(len(rows)) for found in each if k < len(found))
    return [rows[k] for k in dict.fromkeys(turns)]


def _check_names(task: TaskSpec, column: TextColumn) -> None:
    """Raise a `ValueError` where two columns of gold would have one name."""
    shown = column_names(column)
    own = {*GOLD_COLUMNS, *(name or GOLD for name in task.parts)}
    if taken := [name for name in shown if name in own]:
        raise ValueError(
            f"The text column '{taken[0]}' has the name of a column of the gold dataset. Rename it and annotate again."
        )
    if taken := [name for name in task.parts if name in GOLD_COLUMNS]:
        raise ValueError(
            f"The question '{taken[0]}' has the name of a column of the gold dataset. Rename it and annotate again."
        )


def _suspects(
    suspects: Sequence[int] | Mapping[str, Sequence[int]], task: TaskSpec, num_rows: int
) -> dict[str, list[int]]:
    """The suspects of each question; those of all by the empty name."""
    named = dict(suspects) if isinstance(suspects, Mapping) else {"": suspects}
    if unknown := [name for name in named if name and name not in task.parts]:
        raise ValueError(f"Expected suspects of the questions {', '.join(task.parts)}, got some of {unknown[0]!r}.")
    strange = [row for rows in named.values() for row in rows if not 0 <= row < num_rows]
    if strange:
        raise ValueError(f"Expected suspects from 0 to {num_rows - 1:,}, got {strange[:5]}.")
    return {name: list(rows) for name, rows in named.items()}


def annotated_rows(run: Path) -> tuple[Dataset, TaskSpec, TextColumn]:
    """A run's annotated dataset, its task and its column of texts."""
    note = run / "annotated" / STAGE_FILE
    if not note.is_file():
        raise FileNotFoundError(f"'{run}' holds no 'annotated' folder. Run hf-llambert annotate --output {run} first.")
    config = read_note(note, {"config": {"task": task_shape, "text_column": TEXT_COLUMN}})["config"]
    annotated, column = read_annotated(run, config), config["text_column"]
    return annotated, TaskSpec.from_dict(config["task"]), column


def _rows(annotated: Dataset, run: Path, task: TaskSpec, column: TextColumn, alone: bool) -> dict[int, QueueRow]:
    """The rows that a person can read, each once, by number. `alone`: without a student's labels."""
    compared = None
    if not alone and (run / "compared").is_dir():
        compared = read_pool(run / "compared")
        if len(compared) != len(annotated):
            raise ValueError(
                f"'{run / 'compared'}' has {len(compared):,} rows, the annotated dataset {len(annotated):,}. Remove "
                f"'compared' and run hf-llambert report {run}."
            )
    said = {name: said_by_machines(annotated, compared, task, name) for name in task.parts}
    rows, seen = {}, set()
    for i, text in enumerate(row_texts(annotated, column)):
        if why_unusable(text) is None and text not in seen:
            seen.add(text)
            answers = {name: found[i] for name, found in said.items()}
            rows[i] = QueueRow(i, text, CONTROL, **answers.get("", {"questions": answers}))
    return rows


def said_by_machines(annotated: Dataset, compared: Dataset | None, task: TaskSpec, name: str) -> list[dict]:
    """What teacher and student say to a question, a row each."""
    question, found = task.parts[name].question, dict[str, list]()
    for who, owner, data in (("teacher", "llm", annotated), ("student", "student", compared)):
        answers, sure = [question.missing] * len(annotated), [None] * len(annotated)
        if data is not None:
            part = part_of(data, task, name)
            answers, sure = part[f"{owner}_{question.answer_column}"][:], part[f"{owner}_confidence"][:]
        found[who] = [answer if question.is_answer(answer) else question.missing for answer in answers]
        found[f"{who}_confidence"] = sure
    return [dict(zip(_MACHINES, row, strict=True)) for row in zip(*(found[key] for key in _MACHINES), strict=True)]


def _doubtful(
    rows: Mapping[int, QueueRow], task: TaskSpec, suspects: Mapping[str, Sequence[int]]
) -> dict[tuple[str, str], list[int]]:
    """Row numbers by reason and question, those that matter most first."""
    found = {name: _doubts([row.part(name) for row in rows.values()], one) for name, one in task.parts.items()}
    for name, those in suspects.items():
        found.setdefault(name, {})["suspect"] = [row for row in dict.fromkeys(those) if row in rows]
    return {(why, name): of[why] for why in REASONS for name, of in found.items() if why in of}


def _doubts(rows: Iterable[QueueRow], task: TaskSpec) -> dict[str, list[int]]:
    """Row numbers by reason, as one question sees it."""
    question = task.question
    labelled = [row for row in rows if question.is_answer(row.teacher)]
    both = [row for row in labelled if question.is_answer(row.student)]
    apart = {row.row: question.apart(row.teacher, row.student) for row in both}
    disagree = [row for row in both if apart[row.row]]
    disagree.sort(
        key=lambda row: (
            -apart[row.row],
            -(row.teacher_confidence or 0) - (row.student_confidence or 0),
            row.row,
        )
    )
    unsure = [row for row in labelled if row.teacher_confidence is not None]
    unsure.sort(key=lambda row: (row.teacher_confidence, row.row))
    return {
        "disagree": [row.row for row in disagree],
        "unsure": [row.row for row in unsure],
        "abstained": [row.row for row in rows if not question.is_answer(row.teacher)],
    }
