import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, DatasetDict

from common import make_teacher
from experiment import ExperimentArguments, main_of, published, read_parts
from hf_llambert import (
    RecordedTeacher,
    StudentConfig,
    StudentLabeler,
    TransformersTeacher,
    load_task,
    read_evaluation,
)
from hf_llambert.annotation.ledger import Ledger
from table import table_lines

COLUMNS = ["combined", "gold", "silver", "silver_extra", "extra"]


@pytest.fixture
def reviews_file(reviews, tmp_path):
    texts = [f"{text} take {k}" for k in range(5) for text in reviews["text"]]
    path = tmp_path / "reviews.parquet"
    Dataset.from_dict({"text": texts, "label": reviews["label"][:] * 5}).to_parquet(str(path))
    return path


@pytest.fixture
def make(reviews_file, teacher_dir, student_dir, cloze, tmp_path):
    """Arguments of a small experiment, with changes."""
    cloze.to_yaml(tmp_path / "task.yaml")

    def arguments(**changes):
        return ExperimentArguments(
            **{
                "data": str(reviews_file), "teacher": teacher_dir, "student": student_dir, "max_length": 32,
                "task": str(tmp_path / "task.yaml"), "run": str(tmp_path / "run"), "num_held_out": 16,
                "num_annotated": 16, "num_extra": 24, "num_labelled": 8, **changes,
            }
        )  # fmt: skip

    return arguments


@pytest.fixture
def training(tmp_path):
    return StudentConfig(
        str(tmp_path / "checkpoints"), use_cpu=True, num_train_epochs=1, learning_rate=5e-3, disable_tqdm=True, seed=1
    )


def run(arguments, training):
    return main_of(arguments, training)


def recorded_labels(reviews_file, tmp_path, by_row):
    """Labels of another teacher: gold, but for every eighth row."""
    rows = Dataset.from_parquet(str(reviews_file))
    labels = [label if i % 8 else 1 - label for i, label in enumerate(rows["label"])]
    key = {"row": list(range(len(rows)))} if by_row else {"text": rows["text"][:]}
    path = tmp_path / f"labels_{by_row}.csv"
    Dataset.from_dict({**key, "llm_label": labels}).to_csv(str(path))
    return str(path)


def test_the_papers_four_columns_and_the_silver_of_extra_alone(make, training, tmp_path):
    result = run(make(columns=COLUMNS, num_seeds=2, num_compared=10, published="imdb"), training)
    table = result["table"]
    (cells,) = table["students"].values()
    assert table["columns"] == ["gold", "silver", "silver_extra", "extra", "combined"]
    assert {name: cell["n_train"] for name, cell in cells.items()} == {
        "gold": 16, "silver": 16, "silver_extra": 40, "extra": 24, "combined": 40,
    }  # fmt: skip
    for cell in cells.values():
        assert len(cell["values"]) == 2
        assert 0 <= cell["low"] <= cell["mean"] <= cell["high"] <= 1
    assert "less_gold" not in cells["gold"]
    assert cells["combined"]["less_gold"]["mean"] == pytest.approx(cells["combined"]["mean"] - cells["gold"]["mean"])
    assert table["teacher"]["n"] == cells["gold"]["teacher"]["n"] == 10
    folder = tmp_path / "run"
    annotated = Dataset.load_from_disk(str(folder / "annotated"))
    assert annotated["part"][:].count("train") == 16
    assert {label for label, part in zip(annotated["label"], annotated["part"], strict=True) if part == "extra"} == {
        -1
    }
    silver = Dataset.from_parquet(str(folder / "student" / "silver.parquet"))
    assert set(silver["part"]) == {"extra"}  # the combined student is the run's own
    assert result["student"]["train"]["n_gold"] == 16
    kept = sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("model.safetensors"))
    assert kept == ["baseline", "student"]  # of ten students, and those two
    counting = [str(path.parent.relative_to(folder)) for path in folder.rglob("linear.safetensors")]
    assert counting == ["student/baseline"]  # beside the run's own alone
    shown = "\n".join(table_lines(table))
    assert "| *roberta-large, published* | 96.54 | 94.83 | 94.98 | – | 96.68 |" in shown
    assert json.loads((folder / "table.json").read_text()) == table
    assert (folder / "table.png").stat().st_size > 10_000


def test_a_second_call_asks_and_trains_nothing(make, training, tmp_path, monkeypatch):
    arguments = make(columns=["silver", "gold"], num_seeds=2, num_compared=4)
    first = run(arguments, training)
    asked = len(Ledger(tmp_path / "run" / "ledger"))
    monkeypatch.setattr("hf_llambert.training.train.StudentTrainer", None)  # would raise if it were made
    assert run(arguments, training)["table"] == first["table"]
    assert len(Ledger(tmp_path / "run" / "ledger")) == asked


def test_combined_without_extra_goes_from_silver_to_gold_of_train(make, training, tmp_path):
    table = run(make(columns="combined", num_extra=None, num_labelled=0), training)["table"]
    assert next(iter(table["students"].values()))["combined"]["n_train"] == 32
    assert not (tmp_path / "run" / "labels").exists()


def test_students_of_words_stand_in_the_table_beside_the_encoder(make, training, student_dir, tmp_path):
    arguments = make(columns=["silver", "gold"], student=[student_dir, "linear", "static"], num_labelled=0)
    table = run(arguments, training)["table"]
    assert list(table["students"]) == [Path(student_dir).name, "linear", "static"]
    assert {cell["n_train"] for cells in table["students"].values() for cell in cells.values()} == {16}
    kinds = {name: (tmp_path / "run" / "students" / name / "gold" / "1") for name in ("linear", "static")}
    assert (kinds["linear"] / "linear.safetensors").is_file()
    assert StudentLabeler(kinds["static"]).kind == "static"


def test_each_fold_is_held_out_once_and_learnt_from_otherwise(make, training, reviews_file, tmp_path):
    arguments = make(
        columns="gold", num_folds=3, num_held_out=None, num_annotated=None, num_extra=None, num_labelled=0
    )
    table = run(arguments, training)["table"]
    seen, rows = [], Dataset.from_parquet(str(reviews_file))
    for fold in (1, 2, 3):
        held_out = read_evaluation(tmp_path / "run" / f"fold-{fold}" / "student")["text"][:]
        learnt = Dataset.from_parquet(str(tmp_path / "run" / f"fold-{fold}" / "student" / "gold.parquet"))["text"][:]
        assert not {*held_out} & {*learnt}
        assert {*held_out} | {*learnt} == {*rows["text"]}
        seen += held_out
    assert sorted(seen) == sorted(rows["text"])
    (cell,) = table["students"].values()
    assert cell["gold"]["n_train"] == round(len(rows) * 2 / 3)
    assert table["held_out"] == "80 rows of reviews.parquet, each held out in one of 3 folds"
    assert json.loads((tmp_path / "run" / "table.json").read_text()) == table


def test_gold_alone_asks_nobody(make, training, tmp_path):
    result = run(make(columns=["gold"], teacher="nobody", num_labelled=0), training)
    assert result["n_annotated"] is None
    assert not (tmp_path / "run" / "ledger").exists()


@pytest.mark.parametrize("by_row", [True, False])
def test_recorded_answers_by_row_or_by_text(make, training, reviews_file, tmp_path, by_row):
    path = recorded_labels(reviews_file, tmp_path, by_row)
    arguments = make(
        recorded=path, teacher="somebody/some-model", calibration="none", columns="silver", num_compared=16
    )
    result = run(arguments, training)
    assert isinstance(make_teacher(arguments), RecordedTeacher)
    assert result["teacher_identity"]["model"] == "somebody/some-model"
    assert result["table"]["teacher"]["mean"] > 0.7
    assert result["teacher"]["coverage"] == 1


def test_a_teacher_of_any_kind_comes_from_a_file(make, teacher_dir, tmp_path):
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump({"teacher": "transformers", "model": teacher_dir, "mode": "generate"})
    )
    teacher = make_teacher(make(teacher=str(tmp_path / "t.yaml")))
    assert isinstance(teacher, TransformersTeacher)
    assert teacher.mode == "generate"
    with pytest.raises(ValueError, match="teacher_dtype go into the teacher's own file"):
        make_teacher(make(teacher=str(tmp_path / "t.yaml"), teacher_dtype="float32"))


def test_extra_texts_from_elsewhere_lose_those_held_out_or_in_train(make, reviews_file, tmp_path):
    task = load_task(str(tmp_path / "task.yaml"))
    arguments = make(extra_data=str(reviews_file), num_extra=None, num_labelled=0)
    parts = read_parts(arguments, task)
    assert len(parts.extra) == 80 - 32
    assert not set(parts.extra["text"]) & {*parts.train["text"], *parts.held_out["text"]}


def test_labels_that_the_task_does_not_know_are_mapped_or_refused(make, reviews_file, tmp_path):
    task = load_task(str(tmp_path / "task.yaml"))
    rows = Dataset.from_parquet(str(reviews_file))
    path = str(tmp_path / "named.csv")
    names = Dataset.from_dict({"text": rows["text"][:], "label": [("bad", "good")[label] for label in rows["label"]]})
    names.to_csv(path)
    with pytest.raises(ValueError, match="'(bad|good)'.* which (is|are) none of the labels"):
        read_parts(make(data=path), task)
    parts = read_parts(make(data=path, label_map={"bad": "negative", "good": "positive"}), task)
    assert parts.train["label"][:] == read_parts(make(), task).train["label"][:]
    for wrong, why in (
        (["bad=terrible", "good=positive"], "'terrible' is not among"),
        (["worst=negative"], "'bad', 'good', which are none"),
    ):
        with pytest.raises(ValueError, match=why):
            read_parts(make(data=path, label_map=wrong), task)
    with pytest.raises(ValueError, match="pairs such as pos=positive"):
        make(label_map=["bad"])


def test_a_map_may_join_classes(tmp_path, cloze):
    from datasets import ClassLabel

    from hf_llambert import with_gold

    data = Dataset.from_dict({"text": list("abc"), "label": [0, 1, 2]})
    data = data.cast_column("label", ClassLabel(names=["awful", "poor", "positive"]))
    found = with_gold(data, "text", "label", cloze, {"awful": "negative", "poor": "negative"})
    assert found["label"][:] == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"columns": ["silver", "bronze"]}, "columns are some of gold, silver"),
        ({"columns": []}, "columns are some of"),
        ({"student": ["a/bert", "b/bert"]}, "Two students have one name"),
        ({"num_seeds": 0}, "num_seeds must be 1 or more"),
        ({"student": ["linear", "bert"]}, "must be an encoder; got"),
        (
            {"num_folds": 2},
            "nothing else is held out, labelled or published; got num_folds 2, num_held_out 16, num_labelled 8",
        ),
        ({"num_folds": 0}, "num_folds is 1 or more"),
        ({"publish_as": "our-team/reviews"}, "needs a license"),
        ({"published": "agnews"}, "published takes one of imdb, umls"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_where_they_enter(make, changes, why):
    with pytest.raises(ValueError, match=why):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_held_out": None}, "Something must be held out to measure on: pass eval_split"),
        ({"num_extra": 60}, "num_extra asks for 60 texts; 48 are left"),
        ({"num_annotated": 64, "num_extra": None, "num_labelled": None}, "No texts are left to label"),
        ({"label_column": "stars"}, "Column 'stars' not found"),
        ({"columns": "extra", "num_extra": None}, "need extra texts for the teacher"),
        ({"num_compared": 17}, "num_compared must be from 0 to 16"),
    ],
)
def test_data_that_does_not_suffice_is_refused_in_a_sentence(make, training, changes, why):
    with pytest.raises(ValueError, match=why):
        run(make(**changes), training)


def test_a_missing_split_is_named(make, training, reviews, tmp_path):
    DatasetDict(train=reviews).save_to_disk(tmp_path / "d")
    DatasetDict(train=reviews, dev=reviews).save_to_disk(tmp_path / "two")
    for folder, split in (("d", "test"), ("two", "test")):
        with pytest.raises(ValueError, match=r"has the splits \[.*\]; got split='test'"):
            run(make(data=str(tmp_path / folder), data_split="train", eval_split=split), training)


def test_fewer_gold_rows_than_classes_are_refused(make, training, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"film {i}", "label": 0 if i == 3 else -1}) for i in range(40)))
    with pytest.raises(
        ValueError, match="Expected gold labels for each of the 2 labels in the data, got 1 rows with one"
    ):
        run(make(data=str(path)), training)


def test_published_figures_are_the_papers():
    figures = published("imdb")["students"]
    assert figures["roberta-large"] == {"gold": 96.54, "silver": 94.83, "silver_extra": 94.98, "combined": 96.68}
    assert published("umls")["students"]["BiomedBERT-large"]["combined"] == "96.92 ±0.10"
