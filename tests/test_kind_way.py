"""Three questions the whole way with a trained student: annotated, learnt, labelled, reported, asked about, published."""

import pytest

from hf_llambert import (
    LLMLabeler,
    Publication,
    StudentLabeler,
    annotate,
    cascade,
    compare_labels,
    label_pool,
    load_data,
    saved_calibration,
    select_silver,
    train_student,
    write_report,
)
from hf_llambert.gold import with_gold
from hf_llambert.hub.push import _Plan
from kind_run import TASK, ReadingTeacher, visits
from test_training import arguments

pytestmark = pytest.mark.usefixtures("undrawn_reports")


def test_three_questions_go_the_whole_way(student_dir, tmp_path):
    run, gold = tmp_path / "run", {one.name: one.name for one in TASK.questions}
    labeler = LLMLabeler(TASK, ReadingTeacher(str(tmp_path / "asked")), run / "ledger")
    annotate(visits(60, 1), labeler, run / "annotated", gold_column=gold, show_progress=False)
    silver, selection = select_silver(load_data(run), TASK)
    train_student(
        TASK,
        student_dir,
        run / "student",
        arguments(tmp_path, num_train_epochs=1),
        silver=silver,
        selection=selection,
        eval_data=with_gold(visits(40, 2), "text", gold, TASK),
        max_length=32,
    )
    label_pool(visits(50, 3), StudentLabeler(run / "student"), run / "labels", show_progress=False)
    compare_labels(run)
    teacher = LLMLabeler(TASK, labeler.teacher, run / "ledger", calibration=saved_calibration(run))
    asked = cascade(run / "labels", teacher, run / "cascade", below=1.0, gold_column=gold, show_progress=False)
    assert asked["n_asked"] == 50
    report = write_report(run, gate={"quality.spearman": {"at_least": -1}, "topics": {"eval_rows": {"at_least": 40}}})
    assert report["gate"]["passed"]
    assert report["left_out"] == {}
    for name, one in report["questions"].items():
        assert one["student"]["n"] == 40, name
        assert one["disagreements"]["teacher_student"] > 0, name
        assert asked["questions"][name]["gold"]["all"]["n"] == 50, name
        assert one["prevalence"], name
    plan = _Plan.of(run, Publication("team/visits", "mit"), False, False, False)
    assert set(plan.configs) == {"annotations", "silver", "labels"}
    assert not {"tone", "quality", "topics"} & set(plan.configs["labels"].features)
    cards = {one.name: plan.card(one) for one in plan.repositories}
    assert "answers 3 questions" in cards["model"]
    assert "Spearman" in cards["dataset"]
