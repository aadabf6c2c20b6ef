"""What people's and recorded labels mean, from the command line to the figures."""

import csv
import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value

import active
from hf_llambert import TaskSpec, with_gold
from hf_llambert.cli import app
from hf_llambert.cli.options import gold_options, load_sample

STARS = TaskSpec("stars", ("1", "2", "3", "4", "5"), "How many stars?\n{text}")


def call(*arguments):
    app([str(one) for one in arguments], standalone_mode=False)


def table(path, **columns):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def stars(tmp_path):
    STARS.to_yaml(tmp_path / "stars.yaml")
    return tmp_path / "stars.yaml"


def annotated(tmp_path, task, data, recorded, *options):
    call(
        "annotate", "--task", task, "--data", data, "--backend", "recorded", "--model", "people", "--path", recorded,
        "--output", tmp_path / "run", *options,
    )  # fmt: skip
    return json.loads((tmp_path / "run" / "annotated" / "stage.json").read_text())["results"]


def test_drawn_rows_are_read_as_the_whole_column_is(tmp_path, stars):
    texts = [f"text {i}" for i in range(40)]
    levels = [0, *(1 + i % 4 for i in range(39))]  # without the one 0 they could be names
    data = table(tmp_path / "data.csv", text=texts, label=levels)
    recorded = table(tmp_path / "recorded.csv", text=texts, response=[STARS.labels[i] for i in levels])
    drawn = annotated(tmp_path, stars, data, recorded, "--num_rows", 5, "--seed", 2)
    read = Dataset.load_from_disk(str(tmp_path / "run" / "annotated"))
    assert "0" not in read["label"]
    assert drawn["quality"]["accuracy"] == 1.0
    call("report", tmp_path / "run")
    assert "100.0" in (tmp_path / "run" / "report.md").read_text()


def test_drawn_gold_is_read_as_the_whole_column_is_and_classes_by_their_names(tmp_path):
    texts = [f"text {i}" for i in range(40)]
    levels = [0, *(1 + i % 4 for i in range(39))]
    data = table(tmp_path / "data.csv", text=texts, label=levels)
    rows, reading = load_sample(str(data), None, 5, 2, STARS, None, gold_options([], "auto"))
    assert "0" not in rows["label"]
    assert with_gold(rows, "text", "label", STARS, **reading)["label"][:] == [int(v) for v in rows["label"]]
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(STARS.labels))})
    Dataset.from_dict({"text": texts, "label": levels}, features=features).to_parquet(str(tmp_path / "c.parquet"))
    rows, reading = load_sample(str(tmp_path / "c.parquet"), None, 5, 2, STARS, None, gold_options([], "auto"))
    assert reading["label_values"] == "auto"
    assert with_gold(rows, "text", "label", STARS, **reading)["label"][:] == rows["label"][:]


def test_held_out_gold_of_active_learning_is_read_as_the_whole_column_is(tmp_path, stars):
    texts = [f"text {i}" for i in range(40)]
    levels = [0, *(1 + i % 4 for i in range(39))]
    data = table(tmp_path / "data.csv", text=texts, label=levels)
    for seed in range(5):
        arguments = active.ActiveArguments(
            data=str(data), run="r", task=str(stars), teacher="t", student=["s"], label_column="label", num_held_out=5,
            budget=20, num_dev=5, split_seed=seed,
        )  # fmt: skip
        held_out, dev, pool = active.split_rows(arguments)
        assert [levels[texts.index(text)] for text in held_out["text"]] == held_out["label"][:]
        assert len({*held_out["text"], *dev["text"], *pool["text"]}) == 40
