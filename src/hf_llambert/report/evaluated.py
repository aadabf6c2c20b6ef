"""What a student answered to one question on the texts that it was measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hf_llambert.intervals import paired_bootstrap
from hf_llambert.report.kinds import right_rows
from hf_llambert.tasks.parts import GOLD, part_of
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.training.compared import EVALUATION_FILE, read_evaluation


@dataclass(frozen=True)
class Evaluated:
    """
    Rows that have both gold and an answer.

    Args:
        texts (`list`): The texts; none of a student that is older than this.
        gold (`list`): People's answers.
        answers (`list`): The student's.
        confidences (`list`): How sure it was.
    """

    texts: list
    gold: list
    answers: list
    confidences: list

    def right(self, question: Question) -> list[bool]:
        """Whether each answer is right."""
        return right_rows(question, self.answers, self.gold).tolist()


def evaluated(folder: Path, task: TaskSpec, name: str) -> Evaluated | None:
    """
    The answers of a student to a question; `None` where it was not measured.

    Args:
        folder (`Path`): Folder of the student.
        task (`TaskSpec`): The whole task.
        name (`str`): The question, by the names of [`TaskSpec.parts`].
    """
    if not (folder / EVALUATION_FILE).is_file():
        return None
    question, table = task.parts[name].question, part_of(read_evaluation(folder), task, name)
    if (GOLD if name else "gold") not in table.column_names:
        return None
    gold, answers = table[GOLD if name else "gold"][:], table[f"student_{question.answer_column}"][:]
    rows = [k for k in range(len(table)) if question.is_answer(gold[k]) and question.is_answer(answers[k])]
    texts = table["text"][:] if "text" in table.column_names else []
    confidences = table["student_confidence"][:]
    columns = ([column[k] for k in rows] if column else [] for column in (texts, gold, answers, confidences))
    return Evaluated(*columns)


def less_baseline(run: Path, task: TaskSpec, name: str) -> dict | None:
    """How much more often the student is right than the baseline on the same texts; see [`paired_bootstrap`]."""
    first, second = (evaluated(run / folder, task, name) for folder in ("student", "baseline"))
    if first is None or second is None or first.gold != second.gold or not first.gold:
        return None
    question = task.parts[name].question
    difference, low, high = paired_bootstrap(first.right(question), second.right(question))
    return {"difference": difference, "low": low, "high": high, "runs": 1, "n": len(first.gold)}
