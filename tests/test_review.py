import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hf_llambert import (
    Choice,
    Review,
    build_queue,
    load_data,
    review_summary,
    suspected_errors,
    with_gold,
    write_queue,
)
from hf_llambert.annotation.alpha import krippendorff_alpha
from hf_llambert.cli import app
from hf_llambert.review.answers import Answer
from hf_llambert.review.drawing import CONTROL
from hf_llambert.review.summary import agreement, summary_lines
from review_run import make_run


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


def test_suspects_are_those_whose_label_contradicts_their_words(tmp_path, cloze):
    pytest.importorskip("cleanlab")
    run = make_run(tmp_path / "run", cloze, n=120, wrong=(40, 77))
    assert set(suspected_errors(run)[:2]) == {40, 77}
    queue = build_queue(run, 30, 5, suspects=suspected_errors(run))
    assert {40, 77} <= {row.row for row in queue.rows}


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


def test_killed_reviewer_loses_no_answer_and_blocks_nobody(review):
    code = (
        "import sys\nfrom hf_llambert import Review\nsession = Review(sys.argv[1]).session('Ann')\n"
        "for k in range(10):\n    session.answer(k, k % 2)\n    print(k, flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(review.folder)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    for k in range(10):
        assert process.stdout.readline() == f"{k}\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with review.session("Ann") as session:
        assert {place: answer.label for place, answer in session.answers.items()} == {k: k % 2 for k in range(10)}
        session.answer(10, 1)


def test_line_torn_by_a_kill_is_left_out_and_the_next_answer_is_whole(review):
    with review.session("Ann") as session:
        session.answer(0, 1)
        session.answer(1, 1)
    (path,) = (review.folder / "answers").glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-7])
    with review.session("Ann") as session:
        assert session.open_row() == 1
        session.answer(1, 0)
    assert [answer.label for answer in review.answers()["Ann"].values()] == [1, 0]


def test_damaged_line_in_the_middle_is_named(review):
    with review.session("Ann") as session:
        session.answer(0, 1)
        session.answer(1, 1)
    (path,) = (review.folder / "answers").glob("*.jsonl")
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], '{"row": 99, "label": 1, "at": "now"}', *lines[2:]]))
    with pytest.raises(OSError, match="Line 2 of .*row 99 is not in the queue"):
        review.answers()


def test_same_reviewer_twice_is_refused_and_another_is_not(review):
    with review.session("Ann"):
        with pytest.raises(RuntimeError, match=r"'Ann' has .* open already, in process \d+"):
            review.session("Ann")
        with review.session("ann") as other:
            other.answer(0, 1)
    review.session("Ann").close()


def test_refused_session_leaves_the_first_one_working(review):
    with review.session("Ann") as first:
        with pytest.raises(RuntimeError):
            review.session("Ann")
        first.answer(0, 1)
        with pytest.raises(RuntimeError):
            review.session("Ann")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 61])
def test_name_that_is_none_is_refused(review, name):
    with pytest.raises(ValueError, match="Expected a reviewer's name"):
        review.session(name)


def test_answers_to_another_queue_are_not_taken_for_this_ones(run, review, tmp_path, cloze):
    with review.session("Ann") as session:
        session.answer(0, 1)
    other = make_run(tmp_path / "other", cloze)
    write_queue(other / "review", build_queue(other, 10, 2))
    (review.folder / "answers").rename(other / "review" / "answers")
    with pytest.raises(OSError, match="another queue"):
        Review(other / "review").answers()


def test_gold_is_what_most_say_and_a_tie_is_no_label(review):
    for name, labels in {"Ann": [1, 1, 0, None], "Bob": [1, 0, 0, None], "Cid": [None, None, 1, None]}.items():
        with review.session(name) as session:
            for place, label in enumerate(labels):
                if label is None:
                    session.skip(place)
                else:
                    session.answer(place, label)
    gold = review.gold()
    assert gold["label"][:] == [1, -1, 0]
    assert gold["reviewers"][:] == [["Ann", "Bob"], ["Ann", "Bob"], ["Ann", "Bob", "Cid"]]
    assert gold["text"][:] == [row.text for row in review.queue.rows[:3]]
    assert gold["reason"][:] == [row.reason for row in review.queue.rows[:3]]
    assert gold["reviewed_at"][2] == review.answers()["Cid"][2].at


def test_saved_gold_is_read_as_train_reads_it_and_saved_again(review, cloze):
    with review.session("Ann") as session:
        session.answer(0, 1)
        review.save_gold()
        session.answer(1, 0)
    gold = with_gold(load_data(review.save_gold()), "text", "label", cloze)
    assert gold["label"][:] == [1, 0]
    assert gold.features["label"].names == list(cloze.labels)
    assert not [path for path in review.folder.iterdir() if path.name.endswith(".part")]


def test_gold_has_the_text_column_of_the_run(tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze, column="review")
    write_queue(run / "review", build_queue(run, 5, 1))
    review = Review(run / "review")
    with pytest.raises(ValueError, match="Nobody has labelled"):
        review.gold()
    with review.session("Ann") as session:
        session.answer(0, 1)
    assert "review" in review.gold().column_names


def test_summary_measures_by_the_control_rows_only(run, review):
    assert review_summary(run)["n_answered"] == 0
    rows = review.queue.rows
    with review.session("Ann") as session:
        for place, row in enumerate(rows):  # right on control rows wherever it has a label, wrong on all others
            wrong = row.reason != CONTROL
            session.answer(place, (row.teacher if row.teacher >= 0 else 0) ^ wrong)
    found = review_summary(run)
    control = [row for row in rows if row.reason == CONTROL]
    labelled = [row for row in control if row.teacher != -1]
    assert found["control"]["teacher"]["accuracy"] == 1
    assert found["control"]["teacher"]["n"] == len(labelled)
    assert found["control"]["teacher"]["low"] < 1 == found["control"]["teacher"]["high"]
    right = sum(row.student == max(row.teacher, 0) for row in control)
    assert found["control"]["student"]["accuracy"] == right / len(control)
    assert found["n_teacher_overruled"] == sum(row.reason != CONTROL and row.teacher != -1 for row in rows)
    assert found["reasons"][CONTROL]["n_teacher_overruled"] == 0
    assert found["agreement"] is None
    assert sum(part["n"] for part in found["reasons"].values()) == len(rows)


def test_run_without_a_review_has_no_summary(run):
    assert review_summary(run) is None


def test_alpha_is_krippendorffs_own_example():
    # Four observers, twelve units: Krippendorff (2011), nominal data, alpha = 0.743.
    table = """
    1 2 3 3 2 1 4 1 2 . . .
    1 2 3 3 2 2 4 1 2 5 . 3
    . 3 3 3 2 3 4 2 2 5 1 .
    1 2 3 3 2 4 4 1 2 5 1 ."""
    rows = [line.split() for line in table.strip().splitlines()]
    units = [[int(v) for v in unit if v != "."] for unit in zip(*rows, strict=True)]
    assert krippendorff_alpha(units, 6) == pytest.approx(0.743, abs=0.0005)
    assert krippendorff_alpha([[1, 1], [1, 1]], 2) is None


def test_alpha_is_crowd_kits():
    crowdkit = pytest.importorskip("crowdkit.metrics.data")
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    votes = [(t, w, int(random.integers(3))) for t in range(50) for w in range(4) if random.random() < 0.7]
    units = [[label for task, _, label in votes if task == t] for t in range(50)]
    theirs = crowdkit.alpha_krippendorff(pd.DataFrame(votes, columns=["task", "worker", "label"]))
    assert krippendorff_alpha(units, 3) == pytest.approx(theirs)


def test_kappa_of_two_reviewers_is_cohens():
    # 50 proposals of two readers, 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa is 0.4.
    question = Choice("label", ("no", "yes"))
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    answers = {
        name: {place: Answer(pair[k], "") for place, pair in enumerate(pairs)} | {99: Answer(-1, "")}
        for k, name in enumerate(("Ann", "Bob"))
    }
    found = agreement(answers, question)
    assert found["n"] == 50
    assert found["equal"] == pytest.approx(0.7)
    assert found["kappa"] == pytest.approx(0.4)
    assert found["alpha"] == pytest.approx(1 - 99 * 30 / (2 * 45 * 55))
    answers["Cid"] = {0: Answer(1, "")}
    assert agreement(answers, question)["kappa"] is None


def test_command_makes_the_queue_once_and_says_the_summary(run):
    found = CliRunner().invoke(app, ["review", "--run", str(run), "--num", "10", "--summary"], catch_exceptions=False)
    assert "0 of 10 rows labelled" in found.output
    with Review(run / "review").session("Ann") as session:
        session.answer(0, 1)
    found = CliRunner().invoke(app, ["review", "--run", str(run), "--summary"], catch_exceptions=False)
    assert "1 of 10 rows labelled" in found.output
    assert str(run / "review" / "gold") in found.output
    assert load_data(run / "review" / "gold").num_rows == 1


def test_review_of_a_whole_run_is_gold_for_the_next_training(finished_run, student_dir, tmp_path, cloze):
    run = shutil.copytree(finished_run, tmp_path / "run")
    call = CliRunner().invoke
    call(app, ["review", "--run", str(run), "--num", "12", "--summary"], catch_exceptions=False)
    review = Review(run / "review")
    assert all(row.student != -1 for row in review.queue.rows)
    with review.session("Ann") as session:
        for place in range(12):
            session.answer(place, place % 2)
    call(app, ["review", "--run", str(run), "--summary"], catch_exceptions=False)
    cloze.to_yaml(tmp_path / "task.yaml")
    words = ["train", "--task", tmp_path / "task.yaml", "--gold", run / "review" / "gold", "--student", student_dir]
    words += ["--output", tmp_path / "next", "--num_train_epochs", 1, "--max_length", 32, "--use_cpu", "true"]
    found = call(app, [str(word) for word in words], catch_exceptions=False)
    assert "trained on 12 labels" in found.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Pass --reviewer NAME"),
        (["--reviewer", "Ann", "--num", "7"], "holds a queue made with --num 20, asked for 7"),
        (["--reviewer", "Ann", "--summary", "--import", "x.json"], "Pass one of"),
    ],
)
def test_command_says_what_to_do_instead(run, review, arguments, message):
    found = CliRunner().invoke(app, ["review", "--run", str(run), *arguments])
    assert message in str(found.exception)


def test_queue_of_nonsense_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="3 rows, 4 at random"):
        build_queue(run, 3, 4)
    with pytest.raises(ValueError, match="Expected suspects from 0 to 39"):
        build_queue(run, suspects=[40])
    with pytest.raises(FileNotFoundError, match="hf-llambert annotate"):
        build_queue(tmp_path)
    with pytest.raises(FileNotFoundError, match="no queue"):
        Review(tmp_path)


def test_damaged_queue_is_told(review):
    path = review.folder / "queue.json"
    made = json.loads(path.read_text())
    del made["rows"][0]["text"]
    path.write_text(json.dumps(made))
    with pytest.raises(OSError, match="damaged"):
        Review(review.folder)


def test_a_student_that_was_not_there_yet_is_not_said_to_be_right(run):
    shutil.rmtree(run / "compared")
    write_queue(run / "review", build_queue(run, 20, 8))
    review = Review(run / "review")
    with review.session("Ann") as session:
        session.answer(0, 0)
    assert review_summary(run)["n_student_overruled"] is None
    assert "student" not in " ".join(summary_lines(review_summary(run)))


def test_copy_of_a_file_of_answers_is_not_taken_for_the_answers(review):
    with review.session("Ann") as session:
        session.answer(0, 0)
    (original,) = (review.folder / "answers").glob("*.jsonl")
    shutil.copy(original, original.with_name(original.stem + "_1.jsonl"))
    with pytest.raises(OSError, match="is a copy of the answers of 'Ann'"):
        review.answers()


def test_half_a_line_left_by_a_full_disk_spoils_no_later_answer(review):
    with review.session("Ann") as session:
        session.answer(0, 0)
        (path,) = (review.folder / "answers").glob("*.jsonl")
        with path.open("ab") as file:
            file.write(b'{"row": 1, "lab')
        session.answer(2, 1)
    assert {place: answer.label for place, answer in review.answers()["Ann"].items()} == {0: 0, 2: 1}


@pytest.mark.parametrize("column", ["label", "reason", "row"])
def test_text_column_that_gold_needs_for_itself_is_refused(column, tmp_path, cloze):
    run = make_run(tmp_path / "run", cloze, column=column)
    with pytest.raises(ValueError, match=f"text column '{column}' has the name of a column of the gold dataset"):
        build_queue(run, 20, 8)


@pytest.mark.parametrize("change", [{"reason": "whim"}, {"teacher": 9}, {"text": 7}, {"student": "x"}, None])
def test_damaged_queue_is_said_to_be(review, change):
    path = review.folder / "queue.json"
    made = json.loads(path.read_text())
    made["rows"] = [] if change is None else [row | change for row in made["rows"]]
    path.write_text(json.dumps(made))
    with pytest.raises(OSError, match="is damaged"):
        Review(review.folder)
