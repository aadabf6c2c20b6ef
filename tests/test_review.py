import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_from_disk

from hf_llambert import load_data, with_gold
from hf_llambert.data import note_stage
from hf_llambert.quality.review import Answer, Review
from hf_llambert.quality.review_queue import CONTROL, build_queue, write_queue

LABELS = ["negative", "positive"]


def make_run(folder: Path, task, n=40, column="text") -> Path:
    """Annotated and compared rows: the teacher abstains on the first two, the student contradicts it on every fifth."""
    label = ClassLabel(names=task.labels)
    teacher = [-1 if i < 2 else i % 2 for i in range(n)]
    annotated = Dataset.from_dict(
        {
            column: [f"text {i} <script>alert({i})</script>" for i in range(n)],
            "llm_label": teacher,
            "llm_confidence": [None if i < 2 else 0.5 + (i % 20) / 50 for i in range(n)],
            "llm_status": ["abstained" if i < 2 else "ok" for i in range(n)],
        },
        features=Features(
            {
                column: Value("string"),
                "llm_label": label,
                "llm_confidence": Value("float32"),
                "llm_status": Value("string"),
            }
        ),
    )
    annotated.save_to_disk(str(folder / "annotated"))
    note_stage(folder / "annotated", {"task": task.to_dict(), "text_column": column, "gold_column": None}, {})
    (folder / "compared").mkdir()
    student = [i % 2 if i % 5 else 1 - i % 2 for i in range(n)]
    compared = Dataset.from_dict({"student_label": student, "student_confidence": [0.9] * n})
    compared.to_parquet(str(folder / "compared" / "part-00000-00000.parquet"))
    return folder


@pytest.fixture
def run(tmp_path, cloze) -> Path:
    return make_run(tmp_path / "run", cloze)


@pytest.fixture
def review(run) -> Review:
    write_queue(run / "review", build_queue(run, 20, 8))
    return Review(run / "review")


def test_queue_is_the_same_each_time_and_another_with_another_seed(run):
    first = build_queue(run, 20, 8)
    assert first == build_queue(run, 20, 8)
    assert first != build_queue(run, 20, 8, seed=1)


def test_queue_has_the_control_rows_and_each_kind_of_doubt_once(run):
    queue = build_queue(run, 20, 8, suspects=[7, 11])
    rows = queue.rows
    assert len(rows) == len({row.row for row in rows}) == 20
    assert sum(row.reason == CONTROL for row in rows) == 8
    assert {row.reason for row in rows} == {CONTROL, "disagree", "suspect", "unsure", "abstained"}
    assert all(row.teacher != row.student for row in rows if row.reason == "disagree")
    assert {row.row for row in rows if row.reason == "suspect"} <= {7, 11}
    assert all(row.row < 2 for row in rows if row.reason == "abstained")


def test_control_rows_do_not_depend_on_what_the_machines_say(run, tmp_path, cloze):
    other = make_run(tmp_path / "other", cloze)
    for part in (other / "compared").iterdir():
        part.unlink()
    (other / "compared").rmdir()
    control = [{row.row for row in build_queue(r, 20, 8).rows if row.reason == CONTROL} for r in (run, other)]
    assert control[0] == control[1]


def test_queue_that_was_made_counts_whatever_is_asked_later(run, review):
    assert write_queue(run / "review", build_queue(run, 5, 1)) == review.queue
    assert Review(run / "review").queue == review.queue


def test_answers_are_there_after_closing_and_reviewing_goes_on(review):
    with review.session("Ann") as session:
        for _ in range(3):
            session.answer(session.open_row(), 1)
        session.skip(session.open_row())
    with Review(review.folder).session("Ann") as session:
        assert session.open_row() == 4
        assert [answer.label for answer in session.answers.values()] == [1, 1, 1, -1]
        assert all(answer.at.endswith("+00:00") for answer in session.answers.values())


def test_latest_answer_of_a_row_counts_and_undo_opens_it_again(review):
    with review.session("Ann") as session:
        session.answer(0, 1)
        session.answer(1, 1)
        session.answer(0, 0)
        assert session.answers[0].label == 0
        assert session.undo() == 0
        assert session.open_row() == 0
        assert session.undo() == 1
        assert session.undo() is None
    assert Review(review.folder).answers() == {"Ann": {}}
