"""Reviews of tasks with several questions, or with one of another kind than today's."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hf_llambert import (
    Choice,
    Choices,
    Review,
    Scale,
    build_queue,
    load_data,
    review_summary,
    suspected_errors,
    with_gold,
    write_queue,
)
from hf_llambert.annotation.alpha import answers_alpha, krippendorff_alpha
from hf_llambert.cli import app
from hf_llambert.review.answers import Answer, file_name
from hf_llambert.review.drawing import CONTROL, OTHER
from hf_llambert.review.kinds import REVIEWED, reviewed
from hf_llambert.review.summary import agreement, summary_lines
from hf_llambert.tasks.kinds import KINDS
from review_run import make_questions, make_questions_run, make_run


@pytest.fixture
def run(tmp_path) -> Path:
    return make_questions_run(tmp_path / "run", make_questions())


@pytest.fixture
def review(run) -> Review:
    write_queue(run / "review", build_queue(run, 20, 6))
    return Review(run / "review")


# What the version before questions wrote: its bytes, and answers beside them.
OLD_QUEUE = """{
 "task": {
  "name": "tiny",
  "labels": [
   "negative",
   "positive"
  ],
  "instruction": "Movie review: {text}",
  "chat": false,
  "lead_in": "Overall, the movie was",
  "verbalizers": {
   "negative": [
    "terrible",
    "not worth the ticket"
   ],
   "positive": [
    "great",
    "wonderful"
   ]
  }
 },
 "text_column": "text",
 "num": 4,
 "num_control": 1,
 "student": null,
 "rows": [
  {
   "row": 5,
   "text": "text 5 it was great and funny",
   "reason": "disagree",
   "teacher": 1,
   "student": 0,
   "teacher_confidence": 0.6000000238418579,
   "student_confidence": 0.9
  },
  {
   "row": 2,
   "text": "text 2 it was dull and awful",
   "reason": "unsure",
   "teacher": 0,
   "student": 0,
   "teacher_confidence": 0.5400000214576721,
   "student_confidence": 0.9
  },
  {
   "row": 10,
   "text": "text 10 it was dull and awful",
   "reason": "random",
   "teacher": 0,
   "student": 1,
   "teacher_confidence": 0.699999988079071,
   "student_confidence": 0.9
  },
  {
   "row": 0,
   "text": "text 0 it was dull and awful",
   "reason": "abstained",
   "teacher": -1,
   "student": 1,
   "teacher_confidence": null,
   "student_confidence": 0.9
  }
 ]
}"""
OLD_ANSWERS = """{"reviewer": "Ann", "queue": "d4e9f93e9a06e588"}
{"row": 0, "label": 1, "at": "2026-11-30T09:54:10.282+00:00"}
{"row": 1, "label": -1, "at": "2026-11-30T09:54:10.282+00:00"}
{"row": 2, "label": 0, "at": "2026-11-30T09:54:10.282+00:00"}
{"row": 2, "undo": true, "at": "2026-11-30T09:54:10.283+00:00"}
"""


def test_queue_of_a_task_of_labels_is_written_as_before_questions(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze, n=12)
    write_queue(run / "review", build_queue(run, 4, 1))
    written = json.loads((run / "review" / "queue.json").read_text())
    assert written.pop("drawn")["num_rows"] == 12
    assert json.dumps(written) == json.dumps(json.loads(OLD_QUEUE))


def test_queue_and_answers_from_before_questions_are_read_and_gone_on_with(tmp_path):
    folder = tmp_path / "review"
    (folder / "answers").mkdir(parents=True)
    (folder / "queue.json").write_text(OLD_QUEUE)
    (folder / "answers" / f"{file_name('Ann')}.jsonl").write_text(OLD_ANSWERS)
    with Review(folder).session("Ann") as session:
        assert {place: answer.label for place, answer in session.answers.items()} == {0: 1, 1: -1}
        assert (session.open_row(), session.open_question()) == (2, "")
        session.answer(2, 0)
    lines = (folder / "answers" / f"{file_name('Ann')}.jsonl").read_text().splitlines()
    assert [set(json.loads(line)) for line in lines[-2:]] == [{"row", "undo", "at"}, {"row", "label", "at"}]
    assert Review(folder).gold()["label"][:] == [1, 0]


def test_queue_knows_what_teacher_and_student_say_to_each_question(run, review):
    first = min(review.queue.rows, key=lambda row: row.row)
    assert set(first.questions) == {"tone", "topics", "length"}
    for name, one in review.queue.task.parts.items():
        for row in review.queue.part(name).rows:
            assert reviewed(one.question).is_said(one.question, row.student)
            assert row.student_confidence == pytest.approx(0.5 + row.row / 99)
    assert all(isinstance(row.teacher, list) for row in review.queue.part("topics").rows)
    assert review.queue == build_queue(run, 20, 6)


def test_rows_come_when_any_question_is_doubtful(run):
    rows = build_queue(run, 24, 0, suspects={"length": [7], "topics": [11]}).rows
    reasons = {(row.reason, row.question) for row in rows}
    assert reasons >= {("disagree", name) for name in ("tone", "topics", "length")}
    assert reasons >= {("unsure", "topics"), ("abstained", "tone"), ("suspect", "length"), ("suspect", "topics")}
    assert {row.row for row in rows if row.reason == "suspect"} == {7, 11}
    for row in rows:
        part = row.part(row.question)
        if row.reason == "disagree":
            assert part.teacher != part.student
        if row.reason == "abstained":
            assert part.teacher == -1
    other = next(row for row in rows if row.question == "length")
    assert other.part("tone").reason == OTHER
    assert {row.part("tone").reason for row in build_queue(run, 5, 5).rows} == {CONTROL}


def test_one_list_of_suspects_is_for_all_questions(run):
    rows = build_queue(run, 10, 0, suspects=[7]).rows
    assert [(row.row, row.question) for row in rows if row.reason == "suspect"] == [(7, "")]
    with pytest.raises(ValueError, match="suspects of the questions tone, topics, length, got some of 'mood'"):
        build_queue(run, suspects={"mood": [1]})
    with pytest.raises(ValueError, match="Expected suspects from 0 to 39"):
        build_queue(run, suspects={"tone": [40]})


def test_suspects_are_found_for_every_question(tmp_path):
    pytest.importorskip("cleanlab")
    run = make_questions_run(tmp_path / "run", make_questions())
    assert set(suspected_errors(run)) == {"tone", "topics", "length"}
    alone = make_questions_run(tmp_path / "alone", make_questions(questions=make_questions().questions[1:2]))
    assert isinstance(suspected_errors(alone), list)


def test_row_is_answered_for_some_questions_and_skipped_for_others(review):
    with review.session("Ann") as session:
        assert (session.open_row(), session.open_question()) == (0, "tone")
        session.answer(0, 1, "tone")
        session.skip(0, "topics")
        assert (session.open_row(), session.open_question()) == (0, "length")
        session.answer(0, 4.0, "length")
        assert (session.open_row(), session.open_question()) == (1, "tone")
        session.answer(1, [], "topics")
        assert session.open_question() == "tone"
        assert session.undo() == 1
        assert session.undo() == 0
        assert session.open_question() == "length"
        assert session.reopen_skipped() == 1
        assert session.open_question() == "topics"
        with pytest.raises(KeyError, match="questions tone, topics, length: say which; got ''"):
            _ = session.answers
    assert {name: review.answers(name)["Ann"] for name in ("topics", "length")} == {"topics": {}, "length": {}}
    assert review.answers("tone")["Ann"][0].label == 1


@pytest.mark.parametrize(
    ("question", "label", "message"),
    [
        ("tone", 2, "a label from 0 to 1, got 2"),
        ("tone", [1], "a label from 0 to 1"),
        ("tone", True, "a label from 0 to 1"),
        ("topics", 1, "a sorted list of labels from 0 to 3"),
        ("topics", [1, 0], "a sorted list"),
        ("topics", [1, 1], "a sorted list"),
        ("topics", [4], "a sorted list"),
        ("length", 2.5, "a level: 1, 2, 3, 4, 5"),
        ("length", 0, "a level"),
        ("length", 10**400, "a level"),
        ("length", float("nan"), "a level"),
        ("length", None, "a level"),
    ],
)
def test_answer_that_is_none_is_refused(review, question, label, message):
    with review.session("Ann") as session:
        with pytest.raises(ValueError, match=message):
            session.answer(0, label, question)
        assert session.standing == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "mood"}, "question 'mood' is none of the task's"),
        ({"question": ["tone"]}, "cannot be read"),
        ({"question": "tone", "label": [0]}, r"label \[0\] is none"),
        ({"question": "topics", "label": 0}, "label 0 is none"),
        ({"question": "topics", "label": -1}, "label -1 is none"),
        ({"question": "length", "label": 6}, "label 6 is none"),
        ({}, "no question"),
    ],
)
def test_line_about_a_question_or_answer_that_there_is_not_is_named(review, change, message):
    with review.session("Ann") as session:
        session.answer(0, 1, "tone")
    (path,) = (review.folder / "answers").glob("*.jsonl")
    with path.open("a") as file:
        file.write(json.dumps({"row": 1, "label": 1, "at": "now", **change}) + "\n")
    with pytest.raises(OSError, match=f"Line 3 of .*{message}"):
        review.standing()


def test_answer_to_a_question_is_none_of_a_task_of_labels(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze)
    write_queue(run / "review", build_queue(run, 5, 1))
    review = Review(run / "review")
    with review.session("Ann") as session:
        with pytest.raises(KeyError, match="only one question: say none; got 'tone'"):
            session.answer(0, 1, "tone")
        session.answer(0, 1)
    (path,) = (review.folder / "answers").glob("*.jsonl")
    path.write_text(path.read_text().replace('"row": 0', '"row": 0, "question": "tone"'))
    with pytest.raises(OSError, match="question 'tone' is none of the task's"):
        review.answers()


def test_reviewer_killed_within_a_row_goes_on_with_the_next_question(review):
    code = (
        "import sys\nfrom hf_llambert import Review\nsession = Review(sys.argv[1]).session('Ann')\n"
        "for place, name, label in ((0, 'tone', 1), (0, 'topics', [0, 2]), (0, 'length', 3), (1, 'tone', 0)):\n"
        "    session.answer(place, label, name)\n    print(name, flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(review.folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    for name in ("tone", "topics", "length", "tone"):
        assert process.stdout.readline() == f"{name}\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (path,) = (review.folder / "answers").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"row": 1, "question": "topics", "lab')
    with review.session("Ann") as session:
        assert {key: answer.label for key, answer in session.standing.items()} == {
            (0, "tone"): 1, (0, "topics"): [0, 2], (0, "length"): 3, (1, "tone"): 0
        }  # fmt: skip
        assert (session.open_row(), session.open_question()) == (1, "topics")
        session.answer(1, [], "topics")
    assert review.answers("topics")["Ann"][1].label == []


def test_two_reviewers_at_once_answer_the_same_questions(review):
    with review.session("Ann") as ann, review.session("Bob") as bob:
        for place in range(3):
            ann.answer(place, 1, "tone")
            bob.answer(place, 1, "tone")
            bob.answer(place, [place], "topics")
    assert {name: len(given) for name, given in review.standing().items()} == {"Ann": 3, "Bob": 6}
    assert review.labels("tone") == {0: 1, 1: 1, 2: 1}
    assert review.labels("topics") == {0: [0], 1: [1], 2: [2]}
    with pytest.raises(KeyError, match="say which"):
        review.labels()


def test_most_reviewers_decide_by_the_kind_of_question():
    topics, length = Choices("t", ("a", "b", "c")), Scale("s", ("1", "2", "5"))
    assert reviewed(topics).most(topics, [[0, 1], [0], [0, 2]]) == [0]
    assert reviewed(topics).most(topics, [[], [], [1]]) == []
    assert reviewed(topics).most(topics, [[0, 1], [0]]) is None  # nobody knows of the second
    assert reviewed(length).most(length, [1, 5, 2]) == 2
    assert reviewed(length).most(length, [1, 2]) == 1.5
    tone = Choice("c", ("a", "b"))
    assert reviewed(tone).most(tone, [0, 1, 1]) == 1
    assert reviewed(tone).most(tone, [0, 1]) == -1


def test_every_kind_of_question_can_be_reviewed():
    assert set(REVIEWED) == set(KINDS)


# Four observers, twelve units: Krippendorff (2011); nominal 0.743, interval 0.849.
OBSERVED = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""


def test_alpha_of_levels_is_krippendorffs_for_interval_data():
    rows = [line.split() for line in OBSERVED.strip().splitlines()]
    units = [[float(v) for v in unit if v != "."] for unit in zip(*rows, strict=True)]
    scale = Scale("s", ("1", "2", "3", "4", "5"))
    assert reviewed(scale).alpha(scale, units) == pytest.approx(0.849, abs=0.0005)
    names = [[int(v) for v in unit] for unit in units]
    assert answers_alpha(names, lambda one, other: 1) == pytest.approx(krippendorff_alpha(names, 6))
    assert answers_alpha([[1, 1], [1]], lambda one, other: 1) is None
    assert answers_alpha([], lambda one, other: 1) is None


def test_alpha_of_sets_counts_half_an_agreement_as_half():
    question = Choices("t", ("a", "b"))
    answers = {
        "Ann": {0: Answer([0], ""), 1: Answer([1], ""), 2: Answer([0, 1], ""), 3: Answer(None, "")},
        "Bob": {0: Answer([0], ""), 1: Answer([1], ""), 2: Answer([0], ""), 3: Answer([0], "")},
    }
    found = agreement(answers, question)
    assert (found["n"], found["equal"], found["kappa"]) == (3, pytest.approx(2 / 3), None)
    # Six answers: {a} 3, {b} 2, {a, b} 1. Observed: 2 * 1/2. By chance: 2 * (3*2*1 + 3*1*1/2 + 2*1*1/2) = 17.
    assert found["alpha"] == pytest.approx(1 - 5 * 1 / 17)
    assert found["labels"] == {"a": pytest.approx(1.0), "b": pytest.approx(1 - 5 * 2 / (2 * 3 * 3))}


def answer_all(review: Review, name: str, **labels) -> None:
    with review.session(name) as session:
        for place in range(len(review.queue.rows)):
            for question, label in labels.items():
                said = label(review.queue.part(question).rows[place])
                session.skip(place, question) if said is None else session.answer(place, said, question)


def test_summary_is_one_for_each_question(run, review):
    answer_all(
        review, "Ann", tone=lambda row: max(row.teacher, 0), topics=lambda row: row.student, length=lambda row: None
    )
    answer_all(review, "Bob", tone=lambda row: max(row.teacher, 0), length=lambda row: round(row.teacher))
    found = review_summary(run)
    assert set(found) == {"n_rows", "n_answered", "questions"}
    assert (found["n_rows"], found["n_answered"]) == (20, 20)
    tone, topics, length = (found["questions"][name] for name in ("tone", "topics", "length"))
    assert tone["agreement"]["equal"] == 1
    assert tone["control"]["teacher"]["accuracy"] == 1
    assert topics["control"]["student"]["accuracy"] == 1
    assert topics["n_teacher_overruled"] == sum(row.teacher != row.student for row in review.queue.part("topics").rows)
    assert topics["agreement"] is None
    assert length["reviewers"]["Ann"] | {"last": 0} == {"n_answered": 0, "n_skipped": 20, "last": 0}
    assert 0 < length["control"]["teacher"]["mae"] < 0.5
    assert length["control"]["teacher"]["accuracy"] == 1  # the nearest level
    assert sum(part["n"] for part in length["reasons"].values()) == 20
    lines = summary_lines(found)
    assert lines[0] == "20 of 20 rows have an answer"
    assert "tone: reviewers agree on 100% of the 20 rows that two or more labelled, Cohen's kappa 1.00" in "\n".join(
        lines
    )
    assert any(
        line.startswith("length: teacher right on 100% of the 6") and "off in the mean" in line for line in lines
    )


@pytest.mark.parametrize("kind", ["choice", "choices", "scale"])
def test_one_question_of_any_kind_is_reviewed_as_today(tmp_path, kind):
    question = next(one for one in make_questions().questions if one.kind == kind)
    run = make_questions_run(tmp_path / "run", make_questions(questions=(question,)))
    write_queue(run / "review", build_queue(run, 12, 4))
    review = Review(run / "review")
    assert all(row.questions == {} and row.question == "" for row in review.queue.rows)
    answer = {"choice": 1, "choices": [0, 2], "scale": 4.0}[kind]
    with review.session("Ann") as session:
        session.answer(0, answer)
        session.skip(1)
        assert session.open_row() == 2
        assert session.answers[0].label == answer
    assert review.labels() == {0: answer}
    found = review_summary(run)
    assert (found["n_answered"], found["reviewers"]["Ann"]["n_skipped"]) == (1, 1)


@pytest.mark.parametrize("name", ["reason", "row", "reviewers", "reviewed_at"])
def test_question_that_gold_needs_for_itself_is_refused(tmp_path, name):
    task = make_questions()
    run = make_questions_run(tmp_path / "run", task)
    note = run / "annotated" / "stage.json"
    note.write_text(note.read_text().replace('"tone"', f'"{name}"'))
    with pytest.raises(ValueError, match=f"question '{name}' has the name of a column of the gold"):
        build_queue(run, 20, 8)


@pytest.mark.parametrize(
    "change",
    [
        {"questions": {}},
        {"questions": {"tone": {"teacher": 0, "student": 0}}},
        {"question": "mood"},
        {"reason": "other"},
        {"tone": {"teacher": 2, "student": 0}},
        {"topics": {"teacher": [4], "student": []}},
        {"topics": {"teacher": 0, "student": []}},
        {"length": {"teacher": 5.5, "student": None}},
        {"length": {"teacher": 5.0}},
    ],
)
def test_damaged_queue_of_questions_is_said_to_be(review, change):
    path = review.folder / "queue.json"
    made = json.loads(path.read_text())
    for row in made["rows"]:
        row |= {key: value for key, value in change.items() if key not in review.queue.task.parts}
        row["questions"] |= {key: value for key, value in change.items() if key in review.queue.task.parts}
    path.write_text(json.dumps(made))
    with pytest.raises(OSError, match="is damaged"):
        Review(review.folder)


def test_command_makes_the_queue_of_questions_and_says_the_summary(run, tmp_path):
    (tmp_path / "suspects.json").write_text('{"length": [7, 10, 13]}')
    command = ["review", "--run", str(run), "--summary"]
    call = CliRunner().invoke
    found = call(app, [*command, "--num", "10", "--suspects", str(tmp_path / "suspects.json")], catch_exceptions=False)
    assert "0 of 10 rows have an answer" in found.output
    review = Review(run / "review")
    assert ("suspect", "length") in {(row.reason, row.question) for row in review.queue.rows}
    with review.session("Ann") as session:
        session.answer(0, [1], "topics")
    found = call(app, command, catch_exceptions=False)
    assert "topics: 1 of 10 rows labelled" in found.output
    assert load_data(run / "review" / "gold")["topics"][:] == [[1]]
    (tmp_path / "suspects.json").write_text('{"length": ["7"]}')
    other = make_questions_run(tmp_path / "other", make_questions())
    found = call(app, ["review", "--run", str(other), "--summary", "--suspects", str(tmp_path / "suspects.json")])
    assert "an object of such lists" in str(found.exception)


def test_answers_to_a_queue_of_other_questions_are_refused(review, tmp_path):
    with review.session("Ann") as session:
        session.answer(0, 1, "tone")
    asked = make_questions().questions
    other = make_questions(questions=(*asked[:2], replace(asked[2], labels=("1", "2", "3", "4", "6"), verbalizers=())))
    run = make_questions_run(tmp_path / "other", other)
    write_queue(run / "review", build_queue(run, 20, 6))
    (review.folder / "answers").rename(run / "review" / "answers")
    with pytest.raises(OSError, match="another queue"):
        Review(run / "review").standing()


def test_gold_is_read_as_training_and_annotation_read_it(review):
    answered = {
        "Ann": [(0, "tone", 1), (0, "topics", [0, 2]), (0, "length", 4), (1, "topics", []), (2, "length", 1)],
        "Bob": [(0, "tone", 0), (0, "topics", [0, 2]), (0, "length", 5)],
    }
    for name, given in answered.items():
        with review.session(name) as session:
            for place, question, label in given:
                session.answer(place, label, question)
            session.skip(3, "tone")
    saved = load_data(review.save_gold())
    assert saved.column_names == ["text", "tone", "topics", "length", "reviewers", "reviewed_at", "reason", "row"]
    assert saved["reviewers"][:] == [["Ann", "Bob"], ["Ann"], ["Ann"]]
    task = review.queue.task
    found = with_gold(saved, "text", None, task)
    assert found["tone"][:] == [-1, -1, -1]  # a tie, and nothing
    assert found["topics"][:] == [[0, 2], [], None]
    assert found["length"][:] == [4.5, None, 1.0]
    # In another order of labels and from a file, the names say what is meant.
    saved.to_parquet(str(review.folder / "gold.parquet"))
    tone, topics, length = task.questions
    turned = replace(task, questions=(tone, replace(topics, labels=topics.labels[::-1], verbalizers=()), length))
    assert with_gold(load_data(review.folder / "gold.parquet"), "text", None, turned)["topics"][0] == [1, 3]


@pytest.mark.parametrize("name", ["tone", "topics", "length"])
def test_gold_of_one_question_of_any_kind_is_called_label(tmp_path, name):
    question = next(one for one in make_questions().questions if one.name == name)
    task = make_questions(questions=(question,))
    run = make_questions_run(tmp_path / "run", task)
    write_queue(run / "review", build_queue(run, 6, 2))
    review = Review(run / "review")
    answer = {"tone": 1, "topics": [1, 3], "length": 2.0}[name]
    with review.session("Ann") as session:
        session.answer(0, answer)
        session.skip(1)
    assert with_gold(load_data(review.save_gold()), "text", "label", task)["label"][:] == [answer]


def test_level_that_32_bits_cannot_hold_stays_within_its_scale(tmp_path):
    question = Scale("share", ("0", "0.1"), "How much?")
    task = make_questions(questions=(question, make_questions().questions[0]))
    review = Review(make_share_review(tmp_path, task))
    with review.session("Ann") as session:
        session.answer(0, 0.1, "share")
    assert with_gold(load_data(review.save_gold()), "text", None, task)["share"][:] == [0.1]


def make_share_review(folder, task) -> Path:
    """A review of a scale that ends at a tenth."""
    made = make_questions_run(folder / "run", make_questions(questions=make_questions().questions[:2]))
    queue = build_queue(made, 4, 1)
    rows = tuple(
        replace(
            row, question="", questions={"share": dict.fromkeys(row.questions["tone"]), "tone": row.questions["tone"]}
        )
        for row in queue.rows
    )
    write_queue(folder / "review", replace(queue, task=task, rows=rows))
    return folder / "review"


def test_whole_run_of_questions_is_reviewed_and_its_gold_trains_the_next(typed, teacher_dir, student_dir, tmp_path):
    task = make_questions(chat=False)
    task.to_yaml(tmp_path / "task.yaml")
    rows = [{"text": f"a film number {i} that I {('liked', 'hated')[i % 2]} very much"} for i in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, shared = tmp_path / "run", ("--task", tmp_path / "task.yaml")
    typed("annotate", *shared, "--data", tmp_path / "rows.jsonl", "--teacher", teacher_dir, "--output", run)
    training = ("--student", student_dir, "--use_cpu", "True", "--num_train_epochs", 1, "--max_length", 16)
    typed("train", *shared, "--silver", run, *training, "--report_to", "none", "--output", run)
    assert "0 of 12 rows have an answer" in typed("review", "--run", run, "--num", 12, "--summary")
    review = Review(run / "review")
    for name, one in task.parts.items():
        part = review.queue.part(name)
        assert all(one.question.is_answer(row.student) for row in part.rows)
        with review.session("Ann") as session:
            for place in range(12):
                answer = [place % 4] if name == "topics" else place % 5 + 1 if name == "length" else place % 2
                session.answer(place, answer, name)
    assert "length: student right on" in typed("review", "--run", run, "--summary")
    gold = ("--gold", run / "review" / "gold", "--eval_data", run / "review" / "gold")
    shown = typed("train", *shared, *gold, *training, "--report_to", "none", "--output", tmp_path / "next")
    assert "tone: accuracy " in shown
    assert "12 held-out texts" in shown
    typed("report", run)
    assert "topics: 12 of 12 rows labelled" in (run / "report.md").read_text()
