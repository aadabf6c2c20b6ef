import json
import os
import platform

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_llambert import TaskSpec, load_data, whole_folder, with_gold
from hf_llambert.data import content_hash, note_stage, question_gold, stage_results

ROWS = {"text": ["None", "b", 'ü, "q"\nline'], "label": [0, 1, 1]}


@pytest.fixture
def task():
    return TaskSpec("t", ("negative", "positive"), "{text}")


@pytest.fixture
def table():
    return Dataset.from_dict(ROWS)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("folder", [False, True])
def test_files_and_folders_of_files_are_read(table, suffix, folder, tmp_path):
    path = tmp_path / "data" / f"part.{suffix}"
    path.parent.mkdir()
    getattr(table, {"jsonl": "to_json"}.get(suffix, f"to_{suffix}"))(str(path))
    assert load_data(path.parent if folder else path).to_dict() == ROWS


def test_saved_dataset_and_run_folder_are_read(table, tmp_path):
    table.save_to_disk(tmp_path / "run" / "annotated")
    assert load_data(tmp_path / "run" / "annotated").to_dict() == ROWS
    assert load_data(tmp_path / "run").to_dict() == ROWS


def test_split_is_asked_for_where_there_are_several(table, tmp_path):
    DatasetDict(train=table, test=table.select([0])).save_to_disk(tmp_path / "d")
    assert len(load_data(tmp_path / "d", "test")) == 1
    with pytest.raises(ValueError, match=r"has the splits \['train', 'test'\]; got split=None"):
        load_data(tmp_path / "d")


def test_smaller_sample_begins_a_larger_one(tmp_path):
    Dataset.from_dict({"text": [str(i) for i in range(100)]}).to_parquet(str(tmp_path / "d.parquet"))
    small, large = (load_data(tmp_path / "d.parquet", num_rows=n, seed=3)["text"][:] for n in (10, 30))
    assert large[:10] == small
    assert small != load_data(tmp_path / "d.parquet", num_rows=10, seed=4)["text"][:]


@pytest.mark.parametrize("num_rows", [0, -1, 4])
def test_more_rows_than_there_are_is_refused(table, tmp_path, num_rows):
    table.to_csv(str(tmp_path / "d.csv"))
    with pytest.raises(ValueError, match=f"Asked for {num_rows} rows of .* which has 3"):
        load_data(tmp_path / "d.csv", num_rows=num_rows)


def test_wrong_sources_are_named(table, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or directory here, and no dataset of that name"):
        load_data("nobody/nothing")
    with pytest.raises(FileNotFoundError, match=r"holds no .jsonl"):
        load_data(tmp_path)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(ValueError, match="is not one of .jsonl"):
        load_data(tmp_path / "x.txt")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        load_data(tmp_path / "empty.jsonl")
    (tmp_path / "head.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match="has no rows"):
        load_data(tmp_path / "head.csv")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": ')
    with pytest.raises(ValueError, match="cannot be read as json"):
        load_data(tmp_path / "broken.jsonl")
    with pytest.raises(ValueError, match="mixes"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ([0, 1, -1, None], None),
        (["negative", "Positive", None, None], None),
        (["neg", "pos", None, None], None),
        ([0.0, 1.0, None, None], None),
        ([1, 0, -1, None], ClassLabel(names=["pos", "neg"])),
        ([1, 0, None, None], ClassLabel(names=["POSITIVE", "NEGATIVE"])),
    ],
)
def test_gold_labels_are_understood_by_id_and_name_in_any_order(task, values, feature):
    features = None if feature is None else Features({"gold": feature})
    assert question_gold(Dataset.from_dict({"gold": values}, features=features), "gold", task.question) == [
        0,
        1,
        -1,
        -1,
    ]


@pytest.mark.parametrize("values", [[0, 2], ["negative", "meh"], [True, False], [0.5, 1.0]])
def test_gold_labels_that_are_none_of_the_task_are_refused(task, values):
    with pytest.raises(ValueError, match="which (is|are) none of the labels"):
        question_gold(Dataset.from_dict({"gold": values}), "gold", task.question)


def test_missing_gold_column_says_which_argument(task, table):
    with pytest.raises(
        ValueError, match=r"Column 'stars' not found in \['text', 'label'\]. Name the column .* --label_column"
    ):
        with_gold(table, "text", "stars", task)


def test_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out") as part:
        (part / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "out") as part:
        (part / "file").write_text("x")
        assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(FileExistsError, match="exists already"), whole_folder(tmp_path / "out"):
        pass


def test_two_writers_of_one_folder_leave_the_first_whole(tmp_path):
    with pytest.raises(FileExistsError, match="by another process meanwhile"), whole_folder(tmp_path / "out") as part:
        (part / "second").write_text("x")
        with whole_folder(tmp_path / "out") as other:
            (other / "first").write_text("x")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["first"]
    assert len(list(tmp_path.iterdir())) == 1


def test_litter_of_a_killed_run_is_removed_and_that_of_a_living_one_is_not(tmp_path):
    host = platform.node()
    dead, living = tmp_path / f".out.{host}.aaaa.4194300.part", tmp_path / f".out.{host}.bbbb.{os.getpid()}.part"
    elsewhere = tmp_path / ".out.another-host.cccc.4194300.part"
    elsewhere.mkdir()
    dead.mkdir()
    living.mkdir()
    with whole_folder(tmp_path / "out"):
        pass
    assert (dead.exists(), living.exists(), elsewhere.exists()) == (False, True, True)


def test_finished_stage_is_recognised_and_another_one_is_refused(tmp_path):
    config = {"teacher": "a", "rows": (1, 2)}
    assert stage_results(tmp_path / "s", config) is None
    with whole_folder(tmp_path / "s") as part:
        note_stage(part, config, {"n": 3})
    assert stage_results(tmp_path / "s", config) == {"n": 3}
    with pytest.raises(FileExistsError, match="results of another run \\(teacher: 'a' there, 'b' now\\)"):
        stage_results(tmp_path / "s", config | {"teacher": "b"})
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="was not made by hf-llambert"):
        stage_results(tmp_path / "mine", config)


def test_content_hash_is_of_the_values(table, tmp_path):
    table.to_parquet(str(tmp_path / "d.parquet"))
    again = load_data(tmp_path / "d.parquet").cast_column("label", Value("int64"))
    assert content_hash(again) == content_hash(table)
    assert content_hash(table.select([0, 2, 1])) != content_hash(table)
    assert json.dumps(content_hash(table))


def test_labels_that_are_numbers_are_known_by_name_before_id():
    task = TaskSpec("t", ("1", "2", "3"), "{text}")
    assert question_gold(Dataset.from_dict({"gold": [1, 2, 3]}), "gold", task.question) == [0, 1, 2]
