import json
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from hf_llambert import RecordedTeacher, StudentConfig, TaskSpec
from hf_llambert.tasks.choices import Choices
from hf_llambert.training.trainer import StudentTrainer

RECIPES = Path(__file__).parent.parent / "recipes"
sys.path[:0] = [str(RECIPES), str(RECIPES / "studies")]  # as a study that is run sees its neighbours

import fast_students  # noqa: E402

from common import parse_arguments  # noqa: E402

COLUMNS = ("set", "student", "learnt from", "labels")


@pytest.fixture
def make(reviews, student_dir, cloze, tmp_path):
    """Arguments of a small study: reviews that a teacher labelled, and rows to which several labels may hold."""
    texts = [f"{text} take {k}" for k in range(5) for text in reviews["text"]]
    labels = reviews["label"][:] * 5
    Dataset.from_dict({"text": texts, "label": labels}).to_json(str(tmp_path / "reviews.jsonl"))
    answers = [label if i % 8 else 1 - label for i, label in enumerate(labels)]
    Dataset.from_dict({"text": texts, "llm_label": answers}).to_csv(str(tmp_path / "answers.csv"))
    cloze.to_yaml(tmp_path / "task.yaml")
    names = ("good", "bad", "long")
    held = [[("bad", "good")[label], *(["long"] if "very very" in text else [])] for text, label in zip(texts, labels)]  # noqa: B905
    Dataset.from_dict({"text": texts, "moods": held}).to_json(str(tmp_path / "moods.jsonl"))
    task = TaskSpec("moods", (), "{text}", questions=(Choices("moods", names, "Which?"),))
    task.to_yaml(tmp_path / "moods.yaml")
    common = {"sizes": [32], "num_held_out": 24, "max_length": 32, "num_train_epochs": 2, "learning_rate": 5e-3}
    sets = {
        "reviews": {
            "data": "{recorded}/reviews.jsonl", "task": str(tmp_path / "task.yaml"), "teacher": "a large model",
            "recorded": "{recorded}/answers.csv", **common, "sizes": [24, 1000],
        },
        "moods": {
            "data": "{questions}/moods.jsonl", "task": str(tmp_path / "moods.yaml"), "label_column": "moods", **common,
        },
    }  # fmt: skip

    def arguments(**changes):
        run, folder = str(tmp_path / "run"), str(tmp_path)
        given = {
            "sets": sets,
            "student": student_dir,
            "run": run,
            "recorded": folder,
            "most_rows": 40,
            "most_pool": 20,
        }
        return fast_students.FastArguments(**{**given, **changes})

    return arguments


@pytest.fixture
def training(tmp_path, monkeypatch):
    monkeypatch.setattr(fast_students, "TIMED", dict.fromkeys(fast_students.TIMED, 8))
    return StudentConfig(str(tmp_path / "checkpoints"), use_cpu=True, disable_tqdm=True, seed=1, report_to=[])


def test_students_are_trained_distilled_and_measured_set_by_set(make, training, tmp_path, monkeypatch):
    table = fast_students.main(make(), training)
    each = ["encoder", "linear", "linear", "static", "static"]
    assert [row["student"] for row in table] == [*each, "encoder", "linear", "static"]
    assert {row["set"] for row in table} == {"reviews"}
    assert [row["learnt from"] for row in table[:5]] == ["the labels", *["the labels", "the encoder"] * 2]
    assert [row["rows"] for row in table] == [24, 24, 44, 24, 44, 40, 56, 56]
    for row in table:
        assert 0 <= row["low %"] <= row["value %"] <= row["high %"] <= 1
        assert row["texts/s"] > 0
        assert row["held out"] == 24
    assert {row["less encoder %"] for row in table if row["student"] == "encoder"} == {0}
    page = (tmp_path / "run" / "page.html").read_text()
    assert "Left out, or not run yet: moods." in page
    assert "labels of a large model" in page
    assert (tmp_path / "run" / "figure.png").stat().st_size > 5000

    both = fast_students.main(make(only=["moods"], questions=str(tmp_path)), training)
    assert both[:8] == table
    assert {row["figure"] for row in both[8:]} == {"micro-F1"}
    assert len(both) == 13

    def refuse(*args, **kwargs):
        raise AssertionError("asked, trained or timed again")

    monkeypatch.setattr(StudentTrainer, "train", refuse)
    monkeypatch.setattr(RecordedTeacher, "ask", refuse)
    monkeypatch.setattr(fast_students, "speed", refuse)
    assert fast_students.main(make(questions=str(tmp_path)), training) == both
    found = json.loads((tmp_path / "run" / "table.json").read_text())
    assert found["rows"] == both
    assert [line.split(":")[0] for line in found["findings"]] == [
        "reviews, 24 labels", "reviews, 56 labels", "moods, 32 labels",
    ]  # fmt: skip


def test_interval_of_a_ratio_is_that_of_its_texts():
    right = np.repeat([1.0, 0.0], [80, 20])
    value, low, high = fast_students.ratio_interval(right, np.ones(100))
    assert value == 0.8
    assert (low, high) == pytest.approx((0.72, 0.87), abs=0.02)
    assert fast_students.ratio_interval(right, np.ones(100), right, np.ones(100)) == (0, 0, 0)
    over, under = fast_students.FIGURES["choices"][1]([[0], [0, 1], []], [[0], [1], [2]])
    assert over.sum() / under.sum() == pytest.approx(2 * 2 / (2 + 3 + 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"only": ["films"]}, r"only takes some of reviews, moods; got \['films'\]"),
        ({"sets": {"films": {"file": "a.csv"}}}, r"Set 'films' has \['file'\]; expected some of \['data'"),
        ({"most_pool": 0}, "must be positive, got 40, 0"),
    ],
)
def test_wrong_arguments_are_refused(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        make(**wrong)


def test_a_set_that_is_asked_for_without_its_files_is_refused(make, training):
    with pytest.raises(ValueError, match="Set 'moods' needs --questions"):
        fast_students.main(make(only=["moods"]), training)


def test_shipped_settings_are_arguments_of_the_study_and_their_tasks_have_one_question():
    words = ["--config", str(RECIPES / "studies" / "fast_students.yaml"), "--recorded", "a", "--questions", "b"]
    arguments, training = parse_arguments((fast_students.FastArguments, StudentConfig), words)
    sets = arguments.found()
    assert list(sets) == ["imdb", "umls", "bbc", "icd", "sick", "goemotions"]
    assert sets["umls"].recorded == "a/umls_neuro_llama2_70b_train.jsonl"
    for one in sets.values():
        task = fast_students.load_task(one.task)
        assert [part.question.kind in fast_students.FIGURES for part in task.parts.values()] == [True]
    assert training.per_device_train_batch_size == 16
