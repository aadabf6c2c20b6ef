"""Rows to which teacher, student and people answered differently."""

from __future__ import annotations

from collections.abc import Mapping

from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import shorten_fields

_EXAMPLES = 12
_SHOWN = 400  # characters of a text

_PAIRS = {
    "teacher_gold": ("teacher", "gold"),
    "student_gold": ("student", "gold"),
    "teacher_student": ("teacher", "student"),
}


def _furthest(row: Mapping, question: Question) -> float:
    """How far the two answers to a row are apart that differ most; 0 where none do."""
    return max(_apart(question, row[a], row[b]) for a, b in _PAIRS.values())


def _apart(question: Question, one: object, other: object) -> float:
    """How far two answers are apart; 0 where one is missing."""
    return question.apart(one, other) if question.is_answer(one) and question.is_answer(other) else 0.0


def shown_rows(rows: list[dict], question: Question) -> list[dict]:
    """The disagreements that are furthest, and of which the teacher was surest; long texts without their middles."""
    ranked = [(_furthest(row, question), row) for row in rows]
    worst = sorted((one for one in ranked if one[0]), key=lambda one: (-one[0], -(one[1]["confidence"] or 0)))
    return [{**row, "text": shorten_fields(row["text"], _SHOWN, head_share=0.5)} for _, row in worst[:_EXAMPLES]]


def count_disagreements(rows: list[dict], question: Question) -> dict[str, int]:
    """In how many rows each two of teacher, student and people give answers that differ."""
    return {name: sum(_apart(question, row[a], row[b]) > 0 for row in rows) for name, (a, b) in _PAIRS.items()}
