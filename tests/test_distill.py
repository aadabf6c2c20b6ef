"""A run's encoder distilled into a student hundreds of times as fast."""

import json
import shutil
from dataclasses import replace

import pytest
from datasets import ClassLabel, Dataset

from hf_llambert import (
    Choice,
    Choices,
    StudentConfig,
    StudentLabeler,
    TaskSpec,
    distill_student,
    distilled_summary,
    label_pool,
    read_pool,
    train_student,
)
from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.pool import distill, distill_rows
from hf_llambert.pool.thresholds import guaranteed_threshold
from hf_llambert.tasks.texts import FIELD
from hf_llambert.training.compared import read_evaluation
from hf_llambert.training.train_fast import fast_arguments
from hf_llambert.training.vectors import TokenVectors
from hf_llambert.whole import DiskFull
from test_linear import BAD, GOOD, MOOD

TASK = replace(MOOD, labels=("negative", "positive"))


def rows(start, count, task=TASK):
    texts = [f"{(*GOOD, *BAD)[i % 6]} number {i}" for i in range(start, start + count)]
    data = Dataset.from_dict({"text": texts, "label": [int(i % 6 < 3) for i in range(start, start + count)]})
    return data.cast_column("label", ClassLabel(names=list(task.labels)))


@pytest.fixture(scope="module")
def made(student_dir, tmp_path_factory):
    """A run with an encoder that was measured, and a labelled pool with some texts that the encoder knows."""
    run = tmp_path_factory.mktemp("runs") / "run"
    args = StudentConfig(
        str(run / "c"), report_to=[], use_cpu=True, disable_tqdm=True, num_train_epochs=8, learning_rate=3e-3
    )
    train_student(
        TASK, student_dir, run / "student", args, gold=rows(0, 48), silver=rows(48, 12), eval_data=rows(60, 30)
    )
    pool = rows(30, 150).remove_columns("label")
    label_pool(pool, StudentLabeler(run / "student"), run / "labels", show_progress=False)
    return run


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def test_a_student_learns_the_encoders_labels_and_lies_in_the_run(run):
    found = distill_student(run, num_rows=60)
    one = found["students"]["linear"]
    assert one["num_rows"] == 60
    assert one["times"] == pytest.approx(
        one["texts_per_second"] / json.loads((run / "student/metrics.json").read_text())["eval"]["texts_per_second"]
    )
    assert json.loads((run / "students/distilled.json").read_text()) == found
    labeler, encoder = StudentLabeler(run / "students/linear"), StudentLabeler(run / "student")
    texts = rows(60, 30)["text"][:]
    mine, theirs = (each.label(texts)["student_label"] for each in (labeler, encoder))
    assert one["agreement"] == sum(a == b for a, b in zip(mine, theirs, strict=True)) / 30
    gold = rows(60, 30)["label"][:]
    assert one["right"] == sum(a == b for a, b in zip(mine, gold, strict=True)) / 30
    assert one["difference"]["difference"] == pytest.approx(one["right"] - one["encoder"])


def test_neither_held_out_nor_known_texts_are_learnt_as_the_pools(run):
    distill_student(run, num_rows=1000)
    learnt = json.loads((run / "students/distilled.json").read_text())["students"]["linear"]["num_rows"]
    assert learnt == 90  # of texts 30 to 179 those from 90 on
    assert read_evaluation(run / "students/linear")["text"][:] == rows(60, 30)["text"][:]
    noted = json.loads((run / "students/linear/stage.json").read_text())["results"]["train"]
    assert (noted["n_silver"], noted["n_gold"]) == (90 + 12, 48)


def test_texts_without_labels_are_labelled_first(run):
    shutil.rmtree(run / "labels")
    with pytest.raises(FileNotFoundError, match="has no labelled pool to learn from. Pass texts without labels"):
        distill_student(run)
    found = distill_student(run, num_rows=40, pool=rows(100, 80), show_progress=False)
    assert found["students"]["linear"]["num_rows"] == 40
    assert len(list((run / "students/labelled").glob("part-*.parquet"))) == 1


def test_the_same_call_computes_nothing_again(run, monkeypatch):
    first = distill_student(run, num_rows=60)
    monkeypatch.setattr("hf_llambert.training.train_fast.fit_linear", None)
    assert distill_student(run, num_rows=60) == first


def test_other_texts_make_another_student(run):
    distill_student(run, num_rows=60)
    before = (run / "students/linear/linear.safetensors").read_bytes()
    distill_student(run, num_rows=30)
    assert (run / "students/linear/linear.safetensors").read_bytes() != before
    assert json.loads((run / "students/linear/stage.json").read_text())["results"]["train"]["n_silver"] == 42


def test_as_many_other_texts_or_other_arguments_make_another_student(run):
    first = distill_student(run, num_rows=60)
    other = distill_student(run, num_rows=60, seed=7)
    stage = json.loads((run / "students/linear/stage.json").read_text())
    assert stage["config"]["arguments"]["seed"] == 7
    assert other["students"]["linear"]["num_rows"] == first["students"]["linear"]["num_rows"] == 60
    softer = {"linear": fast_arguments("linear", str(run / "c"), target_temperature=2.0)}
    distill_student(run, num_rows=60, args=softer, seed=7)
    stage = json.loads((run / "students/linear/stage.json").read_text())
    assert stage["config"]["arguments"]["target_temperature"] == 2.0


def test_a_damaged_student_is_put_there_anew(run):
    distill_student(run, num_rows=60)
    file = run / "students/linear/linear.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    distill_student(run, num_rows=60)
    assert file.read_bytes() == whole


def test_a_full_disk_is_one_sentence_where_a_student_is_put(run, monkeypatch):
    def full(source, target, **given):
        raise shutil.Error([(str(source), str(target), "[Errno 28] No space left on device: 'a' -> 'b'")])

    monkeypatch.setattr(distill_rows.shutil, "copytree", full)
    with pytest.raises(DiskFull, match="students/linear' cannot be written: No space left on device. Make room"):
        distill_student(run, num_rows=60)
    assert not (run / "students/linear").exists()


def test_two_that_distil_a_run_at_once_are_refused(run):
    with one_at_a_time(run / "students"), pytest.raises(BlockingIOError, match="this very process"):
        distill_student(run, num_rows=60)


def test_a_held_out_text_with_the_sign_between_fields_is_one_text(run):
    table = read_evaluation(run / "student").to_pandas()
    table.loc[0, "text"] += FIELD
    table.to_parquet(run / "student/evaluation.parquet")
    assert distill_student(run, num_rows=60)["students"]["linear"]["difference"]["n"] == 30


def test_auto_doubles_the_texts_until_the_curve_is_flat(run, monkeypatch):
    monkeypatch.setattr(distill, "_FIRST", 12)
    found = distill_student(run, "auto", num_rows=1000, within=0.99)
    for kind in ("linear", "static"):
        curve = [one for one in found["curve"] if one["kind"] == kind]
        points = [one["num_rows"] for one in curve]
        assert points == [12, 24, 48, 90][: len(points)]
        assert all(
            after["right"] - before["right"] >= 0.005 for before, after in zip(curve, curve[1:-1], strict=False)
        )
        assert found["students"][kind] == curve[-1]
    fastest = max(found["students"].values(), key=lambda one: one["texts_per_second"])
    assert found["chosen"] == fastest["kind"]


def test_nothing_is_recommended_that_may_be_worse(run, monkeypatch):
    monkeypatch.setattr(
        distill, "compare_rows", lambda first, second: {"difference": -0.1, "low": -0.2, "high": 0.0, "n": 30}
    )
    monkeypatch.setattr(distill._Run, "_right", lambda self, table: 1.0 if table is self.measured else 0.9)
    assert distill_student(run, num_rows=60, within=0.1)["chosen"] == "encoder"
    assert distill_student(run, num_rows=60, within=0.2)["chosen"] == "linear"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"to": "tree"}, "to must be auto, linear, static"),
        ({"num_rows": 0}, "Expected num_rows of 1 or more, and within from 0 to 1; got 0"),
        ({"within": 1.5}, "got 20000 and 1.5"),
        ({"pool": rows(60, 30)}, "The pool has no text that the student was not trained or measured on"),
        ({"pool": rows(0, 9).rename_column("text", "body")}, "Column 'text' not found in .* Rename the pool's column"),
    ],
)
def test_what_cannot_be_distilled_is_refused(asked, message, run):
    with pytest.raises(ValueError, match=message):
        distill_student(run, **asked)


def test_a_run_without_a_measured_student_is_refused(run):
    (run / "student/evaluation.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="was not measured"):
        distill_student(run)
    shutil.rmtree(run / "student")
    with pytest.raises(FileNotFoundError, match="has no student to distil"):
        distill_student(run)


def test_a_measurement_that_was_killed_is_none(run):
    note = json.loads((run / "student/stage.json").read_text())
    del note["results"]["eval"]
    (run / "student/stage.json").write_text(json.dumps(note))
    (run / "student/evaluation.parquet").write_bytes(b"PAR1")
    with pytest.raises(FileNotFoundError, match="was not measured"):
        distill_student(run)


def test_labels_without_texts_or_of_another_student_are_refused(run):
    label_pool(
        rows(90, 20),
        StudentLabeler(run / "student"),
        run / "labels",
        show_progress=False,
        keep=["label"],
        overwrite=True,
    )
    with pytest.raises(ValueError, match="has no column text"):
        distill_student(run)
    (run / "student/tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="'labels' is left out"):
        distill_student(run)


def test_several_questions_about_fields_are_distilled(student_dir, tmp_path):
    questions = (Choice("mood", ("bad", "good"), "?"), Choices("about", ("day", "film"), "?"))
    task = TaskSpec("several", (), "{title}: {body}", questions=questions)

    def several(start, count):
        one = rows(start, count)
        about = [[i for i, word in enumerate(("day", "film")) if word in text] for text in one["text"]]
        return Dataset.from_dict(
            {"title": ["t"] * count, "body": one["text"][:], "mood": one["label"][:], "about": about}
        )

    args = StudentConfig(
        str(tmp_path / "c"), report_to=[], use_cpu=True, disable_tqdm=True, max_steps=2, threshold_share=0
    )
    columns = ("title", "body")
    run = tmp_path / "run"
    train_student(
        task, student_dir, run / "student", args, gold=several(0, 30), eval_data=several(60, 30), text_column=columns
    )
    found = distill_student(
        run, num_rows=50, pool=several(100, 50).remove_columns(["mood", "about"]), show_progress=False
    )
    assert set(found["students"]["linear"]["difference"]) == {"mood", "about"}
    labeler = StudentLabeler(run / "students/linear")
    assert set(labeler.questions) == {"mood", "about"}


def test_a_static_student_is_distilled_from_the_encoders_own_vectors(run, tmp_path):
    found = distill_student(run, "static", num_rows=60)
    assert found["students"]["static"]["num_rows"] == 60
    assert len(list((run / "students").glob("vectors-*"))) == 1
    shutil.rmtree(run / "students/static-60")  # what lies in students/static is enough
    both = distill_student(run, "linear", num_rows=60)
    assert both["students"]["static"] == found["students"]["static"]
    assert set(both["students"]) == {"linear", "static"}
    labeler = StudentLabeler(run / "students/static")
    assert (labeler.kind, labeler.labels) == ("static", ("negative", "positive"))
    label_pool(rows(90, 20), labeler, tmp_path / "labels", show_progress=False)
    assert (
        read_pool(tmp_path / "labels")["student_label"][:] == labeler.label(rows(90, 20)["text"][:])["student_label"]
    )


def test_a_tokenizer_that_cannot_be_taken_is_told_before_texts_are_labelled(run, monkeypatch):
    def refuse(*args, **given):
        raise ValueError("model2vec cannot take the tokenizer.")

    monkeypatch.setattr(TokenVectors, "load", refuse)
    with pytest.raises(
        ValueError, match=r"cannot take the tokenizer. Or distil it into a linear student \(--to linear\)"
    ):
        distill_student(run, "auto", num_rows=60, pool=rows(100, 80))
    assert not (run / "students/labelled").exists()


def test_the_command_says_what_came_and_what_to_use(run, typed):
    out = typed("distill", run, "--num_rows", "60", "--within", "50")
    assert "linear, from 60 texts: " in out
    assert "use linear: the fastest that is certainly within 50 points of the best" in out
    assert "--within takes points, from 0 to less than 100; got -1.0" in typed(
        "distill", run, "--within", "-1", expect=1
    )
    assert "--split and --config are of --pool" in typed("distill", run, "--split", "train", expect=1)
    promised = ("distill", run, "--num_rows", "60", "--against", "gold", "--guarantee")
    assert "No student keeps" not in typed(*promised, "0.5")
    out = typed(*promised, "0.99", expect=1)
    assert "No student keeps the promise of 99.0%; the reasons stand above." in out
    assert (run / "students" / "linear").is_dir()


def test_a_student_is_certified_against_the_encoder_on_texts_that_it_did_not_learn(run, capsys):
    found = distill_student(run, num_rows=60, guarantee=0.8)
    one = found["students"]["linear"]
    assert one["num_rows"] == 60  # of ninety the others are kept back
    made = one["guarantee"][""]
    assert (made["against"], made["target"], made["n_rows"]) == ("encoder", 0.8, 30)
    assert made["lower"] >= 0.8
    if made["threshold"] == 0:
        assert "linear: the linear student alone, on 30 rows of the pool: it agrees with the encoder on" in "\n".join(
            distilled_summary(found)
        )
    with pytest.raises(ValueError, match="18 of the 90 texts of the pool can be kept back, and 29 are needed"):
        distill_student(run, num_rows=1000, guarantee=0.9)
    with pytest.raises(ValueError, match="nobody is asked while it is made.*--against teacher"):
        distill_student(run, guarantee=0.9, against="teacher")
    with pytest.raises(ValueError, match="share between 0 and 1, such as 0.95; got 95"):
        distill_student(run, guarantee=95)


def test_a_student_is_certified_against_gold_on_held_out_texts_or_it_is_said_why_not(run):
    found = distill_student(run, num_rows=60, guarantee=0.5, against="gold")
    one = found["students"]["linear"]
    mine, encoder = read_evaluation(run / "students/linear"), read_evaluation(run / "student")
    gold = encoder["gold"][:]
    expected = guaranteed_threshold(
        mine["student_confidence"][:], mine["student_label"][:], encoder["student_label"][:], gold, 0.5
    )
    assert one["guarantee"][""]["threshold"] == expected.threshold
    assert one["num_rows"] == 60
    lines = list(distilled_summary(found))
    assert "of 30 gold rows: " in lines[1] or "alone, on 30 gold rows: " in lines[1]
    refused = distill_student(run, num_rows=60, guarantee=0.99, against="gold")
    assert refused["students"]["linear"]["guarantee"][""]["why"].startswith("An accuracy of 99.0% cannot be promised")
    assert any("An accuracy of 99.0% cannot be promised" in line for line in distilled_summary(refused))
