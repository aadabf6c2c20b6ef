import dataclasses
import json

import pytest
from datasets import Dataset

from fakes import CountingTeacher
from hf_llambert import LLMLabeler, TaskSpec, annotate, load_data

TASK = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)


@pytest.fixture
def data():
    return Dataset.from_dict({"text": ["x" * (i + 1) for i in range(12)], "label": [i % 2 for i in range(12)]})


@pytest.fixture
def teacher(tmp_path):
    return CountingTeacher(str(tmp_path / "asked"))


def run(data, teacher, tmp_path, **kwargs):
    return annotate(data, LLMLabeler(TASK, teacher, tmp_path / "ledger"), tmp_path / "annotated", **kwargs)


def test_results_count_every_row(data, teacher, tmp_path):
    rows = Dataset.from_list([*data.to_list(), {"text": None, "label": 0}])
    results = run(rows, teacher, tmp_path, gold_column="label")
    assert (results["n_rows"], results["n_ok"], results["n_abstained"], results["n_failed"]) == (13, 12, 1, 0)
    assert results["seconds"] == 6.0
    assert results["quality"]["n"] == 12
    assert sum(results["labels"].values()) == 12
    assert len(load_data(tmp_path / "annotated")) == 13


def test_finished_run_asks_and_writes_nothing(data, teacher, tmp_path):
    first = run(data, teacher, tmp_path)
    stamp = (tmp_path / "annotated" / "stage.json").stat().st_mtime_ns
    assert run(data, teacher, tmp_path) == first
    assert (tmp_path / "annotated" / "stage.json").stat().st_mtime_ns == stamp
    assert len(teacher.asked()) == 12


def test_folder_of_another_run_is_refused_and_kept(data, teacher, tmp_path):
    run(data, teacher, tmp_path)
    with pytest.raises(FileExistsError, match="results of another run \\(calibration: 'batch' there, 'none' now\\)"):
        run(data, teacher, tmp_path, calibration="none")
    assert len(load_data(tmp_path / "annotated")) == 12


@pytest.mark.parametrize("method", ["none", "batch", "contextual"])
def test_gold_changes_no_label_without_fitting(data, teacher, tmp_path, method):
    run(data, teacher, tmp_path, calibration=method, gold_column="label")
    with_gold = load_data(tmp_path / "annotated").remove_columns("label").to_dict()
    flipped = data.map(lambda row: {"label": 1 - row["label"]})
    other = tmp_path / "other"
    annotate(flipped, LLMLabeler(TASK, teacher, tmp_path / "ledger"), other, calibration=method, gold_column="label")
    assert load_data(other).remove_columns("label").to_dict() == with_gold


def test_fitted_calibration_measures_on_the_other_rows(teacher, tmp_path):
    gold = [int((i + 1) % 3 == 2) for i in range(12)]
    data = Dataset.from_dict({"text": ["x" * (i + 1) for i in range(12)], "label": gold})
    results = run(data, teacher, tmp_path, calibration="fitted", gold_column="label", calibration_rows=5)
    assert results["calibration"]["method"] == "fitted"
    assert results["quality"]["n"] == 7
    assert results["quality"]["accuracy"] == 1.0


def test_fitted_calibration_without_gold_is_refused_before_asking(data, teacher, tmp_path):
    with pytest.raises(ValueError, match="Fitted calibration needs gold labels"):
        run(data, teacher, tmp_path, calibration="fitted")
    assert teacher.asked() == []


def test_unknown_calibration_and_column_are_refused_before_asking(data, teacher, tmp_path):
    with pytest.raises(ValueError, match="calibration must be none, batch, contextual or fitted, got 'magic'"):
        run(data, teacher, tmp_path, calibration="magic")
    with pytest.raises(ValueError, match="Column 'stars' not found"):
        run(data, teacher, tmp_path, gold_column="stars")
    with pytest.raises(ValueError, match="has no rows"):
        run(data.select([]), teacher, tmp_path)
    assert teacher.asked() == []


def test_generated_answers_need_no_calibration(data, tmp_path):
    results = run(data, CountingTeacher(str(tmp_path / "asked"), mode="generate"), tmp_path, gold_column="label")
    assert results["calibration"] is None
    assert results["n_abstained"] == 2
    assert results["quality"]["coverage"] == 10 / 12


def test_disk_full_while_saving_keeps_the_replies(data, teacher, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "save_to_disk", full)
    with pytest.raises(
        OSError, match="annotated' cannot be written: No space left on device. Make room, then run again"
    ):
        run(data, teacher, tmp_path)
    assert not (tmp_path / "annotated").exists()
    monkeypatch.undo()
    run(data, teacher, tmp_path)
    assert len(teacher.asked()) == 12


def test_failed_rows_are_asked_again_by_the_same_call(data, teacher, tmp_path):
    broken = dataclasses.replace(teacher, fails_on="x" * 9)
    assert run(data, broken, tmp_path)["n_failed"] == 4
    asked = len(teacher.asked())
    results = run(data, teacher, tmp_path)
    assert (results["n_failed"], results["n_ok"]) == (0, 12)
    assert len(teacher.asked()) - asked == 4


@pytest.mark.parametrize("column", ["llm_label", "llm_response"])
def test_column_that_is_there_already_is_not_overwritten(data, teacher, tmp_path, column):
    mine = data.add_column(column, ["from our own run"] * len(data))
    labeler = LLMLabeler(TASK, teacher, tmp_path / "ledger")
    with pytest.raises(ValueError, match=f"has the column '{column}' already"):
        run(mine, teacher, tmp_path)
    with pytest.raises(ValueError, match=f"'{column}' already"):
        mine.map(labeler, batched=True)
    with pytest.raises(ValueError, match=f"'{column}' already"):
        labeler.features(mine)
    assert teacher.asked() == []


def test_gold_is_read_as_the_options_say_and_they_are_noted(data, teacher, tmp_path):
    counted = data.map(lambda row: {"label": row["label"] + 1})
    first = run(data, teacher, tmp_path, gold_column="label")
    read = annotate(
        counted, LLMLabeler(TASK, teacher, tmp_path / "ledger"), tmp_path / "counted", gold_column="label",
        label_values="ids_from_1",
    )  # fmt: skip
    assert read["quality"] == first["quality"]
    config = json.loads((tmp_path / "counted" / "stage.json").read_text())["config"]
    assert config["label_values"] == "ids_from_1"
    joined = data.map(lambda row: {"label": ["bad", "good"][row["label"]]}, features=None, remove_columns="label")
    mapped = annotate(
        joined, LLMLabeler(TASK, teacher, tmp_path / "ledger"), tmp_path / "mapped", gold_column="label",
        label_map={"bad": "negative", "good": "positive"},
    )  # fmt: skip
    assert mapped["quality"] == first["quality"]
