"""Whether the teacher may stand in for people: in the queue, on the page, in the summary."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hf_llambert import Review, build_queue, check_gate, review_summary, write_queue
from hf_llambert.annotation.alpha import answers_alpha, weighted_alphas
from hf_llambert.cli import app
from hf_llambert.quality.gate import Condition
from hf_llambert.review.drawing import CONTROL, RANDOM, TEST
from hf_llambert.review.standing_in import alphas, standing_in, standing_lines
from hf_llambert.review.summary import review_lines, summary_lines
from review_run import make_questions, make_questions_run, make_run


@pytest.fixture
def run(tmp_path, cloze) -> Path:
    return make_run(tmp_path / "run", cloze, n=120)


@pytest.fixture
def review(run) -> Review:
    write_queue(run / "review", build_queue(run, 80, 5, for_test=60))
    return Review(run / "review")


def answer(review, reviewer, wrong=(), skipped=(), only=lambda row: True):
    """Answer as the words of the texts say, but on rows whose number in the dataset is in `wrong`."""
    with review.session(reviewer) as session:
        for place, row in enumerate(review.queue.rows):
            if row.row in skipped:
                session.skip(place)
            elif only(row):
                session.answer(place, (row.row + (row.row in wrong)) % 2)


def test_rows_for_the_test_come_first_drawn_at_random_and_are_the_same_each_time(run, review):
    reasons = [row.reason for row in review.queue.rows]
    assert reasons[:60] == [TEST] * 60
    assert reasons.count(CONTROL) == 5
    assert len({row.row for row in review.queue.rows}) == 80
    assert build_queue(run, 80, 5, for_test=60) == review.queue
    other = build_queue(run, 80, 5, for_test=60, seed=1)
    assert {row.row for row in other.rows[:60]} != {row.row for row in review.queue.rows[:60]}


def test_rows_for_the_test_change_no_other_row_drawn_at_random(run, review):
    plain = build_queue(run, 20, 5)
    control = [{row.row for row in queue.rows if row.reason == CONTROL} for queue in (plain, review.queue)]
    assert control[0] == control[1]


def test_rows_for_the_test_are_drawn_whatever_the_machines_say(run, review, tmp_path, cloze):
    other = make_run(tmp_path / "other", cloze, n=120, wrong=range(0, 120, 3))
    again = build_queue(other, 80, 5, for_test=60)
    assert {row.row for row in again.rows[:60]} == {row.row for row in review.queue.rows[:60]}


def test_every_row_is_as_likely_to_be_drawn_for_the_test(run):
    drawn = np.zeros(120)
    for seed in range(30):
        for row in build_queue(run, 80, 5, seed=seed, for_test=60).rows:
            drawn[row.row] += row.reason == TEST
    assert drawn.sum() == 1800
    assert 4 < drawn.min() <= drawn.max() < 26  # 15 expected, 2.7 is a standard deviation


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num": 80, "num_control": 30, "for_test": 60}, "got 80 rows, 90 at random, 60 of these for the test"),
        ({"num": 80, "num_control": 9, "for_test": 40}, "takes 50 rows drawn at random .* got 49. Ask for more"),
        ({"for_test": -1}, "got 100 rows, 19 at random"),
        ({"epsilon": 1.0}, "Expected epsilon"),
        ({"epsilon": float("nan")}, "Expected epsilon"),
    ],
)
def test_numbers_that_make_no_test_are_refused(run, numbers, message):
    with pytest.raises(ValueError, match=message):
        build_queue(run, **numbers)


@pytest.mark.parametrize("change", [{"for_test": -1}, {"epsilon": 2.0}, {"for_test": "60"}])
def test_damaged_numbers_of_the_test_are_told(review, change):
    path = review.folder / "queue.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(OSError, match="damaged"):
        Review(review.folder)


def test_nobody_is_shown_what_machines_say_of_rows_that_measure(review):
    from hf_llambert.review.page import _shown

    with review.session("Ann") as session:
        assert "says" not in "".join(_shown(session, True))
        assert "for the test whether the teacher may stand in" in "".join(_shown(session, True))
        for place, row in enumerate(review.queue.rows):
            if row.reason in RANDOM:
                session.answer(place, 0)
        assert "student says" in "".join(_shown(session, True))


def test_nobody_is_shown_what_machines_say_of_questions_of_rows_that_measure(tmp_path):
    from hf_llambert.review.questions_page import _shown

    run = make_questions_run(tmp_path / "run", make_questions(), n=80)
    write_queue(run / "review", build_queue(run, 60, 0, for_test=60))
    with Review(run / "review").session("Ann") as session:
        assert "says" not in "".join(_shown(session, True))


def test_teacher_as_good_as_people_may_stand_in_for_them(run, review):
    answer(review, "Ann", wrong=(5, 21))
    answer(review, "Bob", wrong=(8, 44))
    found = review_summary(run)["alternative"]
    drawn = [row for row in review.queue.rows if row.reason in RANDOM]
    assert (found["n"], found["epsilon"], found["lacking"]) == (65, 0.1, "")
    assert found["n_abstained"] == sum(row.row < 2 for row in drawn)
    assert found["passes"]
    assert found["winning_rate"] == 1
    lines = summary_lines(review_summary(run))
    said = "\n".join(lines)
    assert (
        "the teacher may stand in for people (alternative annotator test, p below 0.001): it wins against 2 of 2"
        in said
    )
    assert "this assumes that the 65 rows are a random sample" in said
    assert "with two reviewers each is measured by one other person only" in said
    json.dumps(found, allow_nan=False)


def test_only_rows_drawn_at_random_are_tested(run, review):
    for name in ("Ann", "Bob"):  # always against the teacher where rows were chosen to be hard
        with review.session(name) as session:
            for place, row in enumerate(review.queue.rows):
                right = row.teacher if row.teacher >= 0 else 0
                session.answer(place, right if row.reason in RANDOM else 1 - right)
    assert review_summary(run)["alternative"]["reviewers"]["Ann"]["person"] == 1
    assert review_summary(run)["alternative"]["winning_rate"] == 1
    assert review_summary(run)["control"]["n_drawn"] == 65


def test_bad_teacher_is_not_shown_to_be_able_to_stand_in(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze, n=120, wrong=range(0, 120, 3))
    write_queue(run / "review", build_queue(run, 60, 0, for_test=60))
    review = Review(run / "review")
    for name in ("Ann", "Bob", "Cid"):
        answer(review, name)
    found = review_summary(run)["alternative"]
    assert not found["passes"]
    assert found["alpha"]["people"] == 1
    assert found["alpha"]["difference"] < found["alpha"]["difference_high"] < 0
    lines = standing_lines(found)
    assert lines[0].startswith("it is not shown that the teacher may stand in for people")
    assert not any("with two reviewers" in line for line in lines)


def test_epsilon_of_the_queue_is_that_of_the_test(run):
    write_queue(run / "review", build_queue(run, 60, 0, for_test=60, epsilon=0.2))
    review = Review(run / "review")
    answer(review, "Ann")
    answer(review, "Bob")
    assert review_summary(run)["alternative"]["epsilon"] == 0.2
    assert any("worse on 20% of the rows (epsilon 0.2)" in line for line in summary_lines(review_summary(run)))


def test_what_is_lacking_is_told_and_nothing_else(run, review):
    answer(review, "Ann")
    found = review_summary(run)["alternative"]
    assert found == {"epsilon": 0.1, "lacking": "1 of at least 2 reviewers have answered, 1 is lacking"}
    answer(review, "Bob", only=lambda row: row.row % 2)
    found = review_summary(run)["alternative"]
    n = sum(row.row % 2 for row in review.queue.rows if row.reason in RANDOM)
    assert found["lacking"].startswith(f"{n} of at least 50 rows have answers of two reviewers or more, {50 - n}")
    said = "\n".join(summary_lines(review_summary(run)))
    assert f"whether the teacher may stand in for people cannot be told yet: {n} of at least 50" in said


def test_people_who_give_one_answer_tell_nothing(run, review):
    for name in ("Ann", "Bob"):
        with review.session(name) as session:
            for place in range(80):
                session.answer(place, 1)
    assert "people gave one answer to all 65 rows, positive" in review_summary(run)["alternative"]["lacking"]


def test_review_of_one_person_that_asked_for_no_test_says_nothing_of_it(run):
    write_queue(run / "review", build_queue(run, 80, 60))
    review = Review(run / "review")
    answer(review, "Ann")
    assert review_summary(run)["alternative"] is None
    answer(review, "Bob")
    assert review_summary(run)["alternative"]["passes"]  # sixty rows drawn at random, whatever for


def test_each_of_several_questions_is_tested(tmp_path):
    run = make_questions_run(tmp_path / "run", make_questions(), n=80)
    write_queue(run / "review", build_queue(run, 60, 0, for_test=60))
    review = Review(run / "review")
    for name in ("Ann", "Bob"):
        with review.session(name) as session:
            for place, row in enumerate(review.queue.rows):
                session.answer(place, row.row % 2, "tone")
                session.answer(place, sorted({3, *row.part("topics").teacher}), "topics")
                session.answer(place, float(round(row.part("length").teacher)), "length")
    found = {name: one["alternative"] for name, one in review_summary(run)["questions"].items()}
    assert {name: one["passes"] for name, one in found.items()} == {"tone": True, "topics": False, "length": True}
    assert found["length"]["advantage"] == 1
    assert "tone: the teacher may stand in for people" in "\n".join(summary_lines(review_summary(run)))


def test_alphas_are_those_of_all_rows_and_of_the_teacher_in_each_ones_place():
    teacher, ann, bob = [0, 1, 2, 0, 1, -1] * 10, [0, 1, 2, 0, 2, 1] * 10, [0, 1, 1, 0, 1, 1] * 10
    from hf_llambert import Choice

    question = Choice("q", ("a", "b", "c"))
    found = alphas(teacher, {"Ann": ann, "Bob": bob}, question)

    def alpha(one, other):
        units = [[a for a in pair if a != -1] for pair in zip(one, other, strict=True)]
        return answers_alpha(units, question.apart)

    assert found["people"] == pytest.approx(alpha(ann, bob))
    assert found["teacher"] == pytest.approx((alpha(teacher, bob) + alpha(ann, teacher)) / 2)
    assert found["difference"] == pytest.approx(found["teacher"] - found["people"])
    assert found["low"] < found["teacher"] < found["high"]


def test_weights_count_rows_as_often_as_repeating_them():
    units = [[1, 1], [1, 3], [2], [2, 3, 3], [], [1, 2]]
    weights = np.array([[1, 1, 1, 1, 1, 1], [3, 0, 1, 2, 1, 1], [2, 0, 0, 0, 0, 0]], dtype=float)

    def apart(one, other):
        return (one - other) ** 2

    found = weighted_alphas(units, apart, weights)
    repeated = [unit for unit, n in zip(units, weights[1], strict=True) for _ in range(int(n))]
    assert found[:2] == pytest.approx([answers_alpha(units, apart), answers_alpha(repeated, apart)])
    assert np.isnan(found[2])


def test_command_draws_rows_for_the_test_and_keeps_them(run):
    def call(*words):
        return CliRunner().invoke(app, ["review", "--run", str(run), "--summary", *words])

    found = call("--for_test", "60", "--epsilon", "0.2")
    assert "0 of at least 2 reviewers have answered, 2 are lacking" in found.output
    queue = Review(run / "review").queue
    assert (queue.num, queue.num_control, queue.for_test, queue.epsilon) == (100, 0, 60, 0.2)
    assert call().exit_code == 0
    assert "holds a queue made with --for_test 60, asked for 70" in str(call("--for_test", "70").exception)
    assert "holds a queue made with --epsilon 0.2, asked for 0.1" in str(call("--epsilon", "0.1").exception)


def test_queue_that_was_made_without_a_test_goes_on_without_one(run):
    write_queue(run / "review", build_queue(run, 20, 5))
    assert "for_test" not in json.loads((run / "review" / "queue.json").read_text())
    found = CliRunner().invoke(app, ["review", "--run", str(run), "--summary", "--for_test", "60"])
    assert "made with --for_test 0, asked for 60" in str(found.exception)
    assert standing_in(Review(run / "review").queue, {}) is None


NAMES = ("stands_in", "stands_in_p", "stands_in_advantage", "stands_in_alpha")
WANTED = {"at_least": 0.5}, {"at_most": 0.05}, {"at_least": 0.9}, {"at_least": 0.6, "certain": True}


def test_gate_judges_by_the_test(run, review):
    conditions = [Condition(name, **wanted) for name, wanted in zip(NAMES, WANTED, strict=True)]
    whys = []
    for reviewer in (None, "Ann", "Bob"):
        if reviewer:
            answer(review, reviewer, wrong=(5, 21) if reviewer == "Ann" else (8, 44))
        found = check_gate({"task": {}, "review": review_summary(run)}, conditions)
        whys.append({one["why"] for one in found["conditions"]})
    assert whys[0] == {"0 of at least 2 reviewers have answered, 2 are lacking"}
    assert whys[1] == {"1 of at least 2 reviewers have answered, 1 is lacking"}
    assert found["passed"]
    certain = [Condition(name, at_least=0, certain=True) for name in NAMES]
    assert [one["passed"] for one in check_gate({"task": {}, "review": review_summary(run)}, certain)["conditions"]] == [
        False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("review", [None, {"alternative": None}])
def test_gate_misses_a_test_that_nobody_asked_for(review):
    [one] = check_gate({"task": {}, "review": review}, [Condition("stands_in", at_least=0.5)])["conditions"]
    assert (one["passed"], one["got"]) == (False, "not measured")
    assert "hf-llambert review --for_test 60" in one["why"]


def test_gate_judges_each_question_by_its_own_test():
    found = {"winning_rate": 1.0, "p": 0.001, "advantage": 0.9, "lacking": ""}
    questions = {"tone": {"alternative": found}, "topics": {"alternative": {"lacking": "5 rows"}}}
    asked = [{"name": name, "kind": "choice"} for name in questions]
    report = {"task": {"questions": asked}, "review": {"questions": questions}}
    report["questions"] = {name: {"task": {"questions": [one]}} for name, one in zip(questions, asked, strict=True)}
    conditions = [Condition("tone.stands_in", at_least=0.5), Condition("topics.stands_in", at_least=0.5)]
    tone, topics = check_gate(report, conditions)["conditions"]
    assert tone["passed"]
    assert topics["why"] == "5 rows"


def annotate_again(run, cloze, tmp_path, **changes):
    shutil.rmtree(run / "annotated")
    make_run(tmp_path / "again", cloze, **{"n": 120, **changes})
    (tmp_path / "again" / "annotated").rename(run / "annotated")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"wrong": range(120)}, "holds other labels than the queue, of "),
        ({"text": "another "}, "does not hold the rows that the queue was made of"),
        ({"n": 40}, "does not hold the rows that the queue was made of"),
    ],
)
def test_verdict_on_one_teacher_is_not_read_of_another(run, review, cloze, tmp_path, changes, why):
    answer(review, "Ann", wrong=(5, 21))
    answer(review, "Bob", wrong=(8, 44))
    annotate_again(run, cloze, tmp_path, **changes)
    found = review_summary(run)
    assert found["alternative"] is found["control"]["teacher"] is found["n_teacher_overruled"] is None
    assert why in found["left_out"]
    said = "\n".join(summary_lines(found))
    assert "what the teacher said is left out" in said
    assert "stand in" not in said
    assert "teacher right" not in said
    assert review_lines(Review(run / "review")) == summary_lines(found)
    gate = check_gate({"task": {}, "review": found}, [Condition("stands_in", at_least=0.5)])
    assert not gate["passed"]
    assert why in gate["conditions"][0]["why"]


@pytest.mark.parametrize("damaged", ["stage.json", "state.json", "data-00000-of-00001.arrow"])
def test_damaged_labels_leave_what_people_said(run, review, damaged):
    answer(review, "Ann", wrong=(5, 21))
    (run / "annotated" / damaged).write_bytes(b"{")
    found = review_summary(run)
    assert "what the teacher said is left out: 'annotated' cannot be read: " in found["left_out"]
    assert found["alternative"] is None
    assert (found["n_answered"], found["n_teacher_overruled"]) == (80, None)


def test_same_labels_again_and_labels_that_were_moved_away_change_nothing(run, review, cloze, tmp_path):
    answer(review, "Ann", wrong=(5, 21))
    answer(review, "Bob", wrong=(8, 44))
    before = review_summary(run)
    annotate_again(run, cloze, tmp_path)
    assert review_summary(run) == before
    shutil.rmtree(run / "annotated")
    assert review_summary(run) == before


def test_other_labels_of_one_question_leave_the_others_alone(tmp_path):
    run = make_questions_run(tmp_path / "run", make_questions(), n=80)
    queue = build_queue(run, 60, 0, for_test=60)
    rows = []
    for row in queue.rows:
        tone = {**row.questions["tone"], "teacher": 1 - max(row.questions["tone"]["teacher"], 0)}
        rows.append(replace(row, questions={**row.questions, "tone": tone}))
    write_queue(run / "review", replace(queue, rows=tuple(rows)))
    found = review_summary(run)
    assert found["left_out"].startswith("tone: what the teacher said is left out")
    assert found["questions"]["topics"]["n_teacher_overruled"] == 0
    assert "tone: people overrule the teacher" not in "\n".join(summary_lines(found))
