"""The plan of a task of several questions counts every prompt about a text once, and measures each question."""

from dataclasses import replace

import pytest

from hf_llambert import LLMLabeler, StudentPlan, annotate, make_plan
from hf_llambert.cli.plan import _lines
from hf_llambert.planning.costs import Lengths
from kind_run import TASK, ReadingTeacher, visits

GOLD = {one.name: one.name for one in TASK.questions}


@pytest.fixture
def labeler(tmp_path):
    return LLMLabeler(TASK, ReadingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")


def test_plan_of_three_questions_measures_each(labeler):
    plan = make_plan(visits(200, 1), labeler, num_annotated=100, sample=40, gold_column=GOLD, calibration="none")
    assert plan["coverage"]["value"] == 1
    assert plan["agreement"] is None
    found = {name: one["agreement"]["value"] for name, one in plan["questions"].items()}
    assert found["tone"] == pytest.approx(0.8, abs=0.15)
    assert found["topics"] == found["tone"]  # the same rows are wrong
    assert 0.5 < found["quality"] < 1
    hours = plan["annotate"]["hours"]
    assert hours["low"] <= 100 * 0.5 / 3600 * 1.01
    assert hours["value"] == pytest.approx(100 * 0.5 / 3600)  # five prompts of 0.1 s a text
    named = {"tone": "agreement with gold", "quality": "within half a step of gold", "topics": "all labels as in gold"}
    for name, what in named.items():
        assert any(line.startswith(f"{name}: coverage 100.0%") and f", {what} " in line for line in _lines(plan))


def test_only_question_says_what_counts_as_right(tmp_path):
    one = replace(TASK, questions=TASK.questions[1:2])
    plan = make_plan(
        visits(60, 1),
        LLMLabeler(one, ReadingTeacher(str(tmp_path / "asked")), tmp_path / "ledger"),
        num_annotated=50,
        sample=30,
        gold_column="quality",
        calibration="none",
    )
    assert any(line.startswith("within half a step of gold ") for line in _lines(plan))


def test_plan_agrees_by_the_prior_as_annotating_does(labeler, tmp_path):
    data = visits(60, 1)
    prior = {
        "topics": {"food": 0.02, "staff": 0.02, "price": 0.9},
        "tone": {"good": 0.98, "bad": 0.01, "neither": 0.01},
    }
    given = {"gold_column": GOLD, "prior": prior}
    found = make_plan(data, labeler, num_annotated=60, sample=60, **given)["questions"]
    plain = make_plan(data, labeler, num_annotated=60, sample=60, gold_column=GOLD)["questions"]
    annotated = annotate(data, labeler, tmp_path / "annotated", show_progress=False, **given)["questions"]
    for name, figure in (("tone", "accuracy"), ("topics", "subset_accuracy")):
        assert found[name]["agreement"]["value"] == pytest.approx(annotated[name]["quality"][figure])
        assert found[name] != plain[name]
    with pytest.raises(ValueError, match="between 0 and 1 for 'topics'"):
        make_plan(data, labeler, num_annotated=60, prior={"topics": dict.fromkeys(TASK.questions[2].labels, 2)})


def test_student_of_three_questions_is_measured(labeler, student_dir):
    student = StudentPlan(str(student_dir), 32, 0.5, 1, 4, "torch")
    plan = make_plan(visits(60, 1), labeler, num_annotated=50, sample=30, student=student, calibration="none")
    assert plan["student"]["train"]["n"] == 50
    assert plan["student"]["seconds_per_text"]["value"] > 0
    assert plan["break_even"]["hours"] is not None


def test_second_plan_and_the_run_ask_only_the_rest(labeler, tmp_path):
    data = visits(60, 1)
    assert make_plan(data, labeler, num_annotated=50, sample=30, gold_column=GOLD)["sample"]["asked_now"] == 30
    again = make_plan(data, labeler, num_annotated=50, sample=30, gold_column=GOLD)
    assert (again["sample"]["asked_now"], again["sample"]["answered"]) == (0, 30)
    before = len(labeler.teacher.asked())
    annotate(data.shuffle(seed=42).select(range(50)), labeler, tmp_path / "annotated", show_progress=False)
    assert len(labeler.teacher.asked()) - before == 20 * 5


def test_texts_are_measured_by_the_longest_prompt(labeler):
    assert "staff: yes or no" in Lengths(labeler).task.messages("x")[-1]["content"]
