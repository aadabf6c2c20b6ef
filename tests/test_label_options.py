"""What people's and recorded labels mean, from the command line to the figures."""

import csv
import dataclasses
import json

import pytest
from datasets import ClassLabel, Dataset, Features, Value

import active
from common import make_teacher
from experiment import ExperimentArguments
from hf_llambert import TaskSpec, with_gold
from hf_llambert.cli import app
from hf_llambert.cli.gold import gold_options, load_sample
from umls import UmlsArguments

MOOD = TaskSpec("mood", ("positive", "neutral", "negative"), "Which mood?\n{text}")


def call(*arguments):
    app([str(one) for one in arguments], standalone_mode=False)


def table(path, **columns):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def mood(tmp_path):
    MOOD.to_yaml(tmp_path / "mood.yaml")
    return tmp_path / "mood.yaml"


def annotated(tmp_path, task, data, recorded, *options):
    call(
        "annotate", "--task", task, "--data", data, "--backend", "recorded", "--model", "people", "--path", recorded,
        "--output", tmp_path / "run", *options,
    )  # fmt: skip
    return json.loads((tmp_path / "run" / "annotated" / "stage.json").read_text())["results"]


def test_drawn_rows_are_read_as_the_whole_column_is(tmp_path, mood):
    texts = [f"text {i}" for i in range(40)]
    levels = [2, *(i % 2 for i in range(39))]  # without the one 2 they could be bad and good
    data = table(tmp_path / "data.csv", text=texts, label=levels)
    recorded = table(tmp_path / "recorded.csv", text=texts, response=[MOOD.labels[i] for i in levels])
    drawn = annotated(tmp_path, mood, data, recorded, "--num_rows", 5, "--seed", 2)
    read = Dataset.load_from_disk(str(tmp_path / "run" / "annotated"))
    assert "2" not in read["label"]
    assert drawn["quality"]["accuracy"] == 1.0
    call("report", tmp_path / "run")
    assert "100.0" in (tmp_path / "run" / "report.md").read_text()


def test_drawn_gold_is_read_as_the_whole_column_is_and_classes_by_their_names(tmp_path):
    texts = [f"text {i}" for i in range(40)]
    levels = [2, *(i % 2 for i in range(39))]
    data = table(tmp_path / "data.csv", text=texts, label=levels)
    rows, reading = load_sample(str(data), None, 5, 2, MOOD, None, gold_options([], "auto"))
    assert "2" not in rows["label"]
    assert with_gold(rows, "text", "label", MOOD, **reading)["label"][:] == [int(v) for v in rows["label"]]
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(MOOD.labels))})
    Dataset.from_dict({"text": texts, "label": levels}, features=features).to_parquet(str(tmp_path / "c.parquet"))
    rows, reading = load_sample(str(tmp_path / "c.parquet"), None, 5, 2, MOOD, None, gold_options([], "auto"))
    assert reading["label_values"] == "auto"
    assert with_gold(rows, "text", "label", MOOD, **reading)["label"][:] == rows["label"][:]


def test_held_out_gold_of_active_learning_is_read_as_the_whole_column_is(tmp_path, mood):
    texts = [f"text {i}" for i in range(40)]
    levels = [2, *(i % 2 for i in range(39))]
    data = table(tmp_path / "data.csv", text=texts, label=levels)
    for seed in range(5):
        arguments = active.ActiveArguments(
            data=str(data), run="r", task=str(mood), teacher="t", student=["s"], label_column="label", num_held_out=5,
            budget=20, num_dev=5, split_seed=seed,
        )  # fmt: skip
        held_out, dev, pool = active.split_rows(arguments)
        assert [levels[texts.index(text)] for text in held_out["text"]] == held_out["label"][:]
        assert len({*held_out["text"], *dev["text"], *pool["text"]}) == 40


def recipe(tmp_path, **changes):
    return active.ActiveArguments(
        data=str(tmp_path / "data.csv"), run="r", task="imdb", teacher="t", student=["s"], **changes
    )


def test_recorded_file_of_a_recipe_is_read_by_options_of_its_own(tmp_path, question):
    (tmp_path / "r.csv").write_bytes("text;label\nschön;gut\nöde;schlecht\n".encode("cp1252"))
    said = {"recorded_encoding": "cp1252", "recorded_delimiter": ";"}
    arguments = recipe(
        tmp_path, recorded=str(tmp_path / "r.csv"), recorded_map={"gut": "positive", "schlecht": "negative"}
    )
    with pytest.raises(ValueError, match="--recorded_encoding cp1252"):
        list(make_teacher(arguments).ask(question, ["schön"]))
    arguments = recipe(tmp_path, recorded=str(tmp_path / "r.csv"), recorded_map=arguments.recorded_map, **said)
    (replies,) = make_teacher(arguments).ask(question, ["schön", "öde"])
    assert [reply.response for reply in replies.values()] == ["positive", "negative"]


def test_map_of_a_recipe_may_be_a_mapping_and_unquoted_words_of_yaml_are_refused(tmp_path):
    assert recipe(tmp_path, label_map={"pos": "positive", 1: "positive", "NA": None}).label_names == {
        "pos": "positive", "1": "positive", "NA": "",
    }  # fmt: skip
    for wrong in ({True: "positive"}, {"y": True}, {None: "positive"}, {"y": ["positive"]}):
        with pytest.raises(ValueError, match="in quotes"):
            recipe(tmp_path, label_map=wrong)


def test_every_option_about_labels_is_one_of_every_recipe():
    for arguments in (active.ActiveArguments, ExperimentArguments, UmlsArguments):
        names = {field.name for field in dataclasses.fields(arguments) if field.init}
        assert {"label_map", "label_values", "recorded_map", "recorded_values"} <= names
        assert {"recorded_encoding", "recorded_delimiter"} <= names


@pytest.mark.parametrize("name", ["Label", " label", "LABEL ", "label\u200b"])
def test_column_called_nearly_label_is_warned_of_once(tmp_path, mood, caplog, name):
    data = table(tmp_path / "data.csv", **{"text": ["a", "b"], name: ["positive", "negative"]})
    recorded = table(tmp_path / "recorded.csv", text=["a", "b"], response=["positive", "negative"])
    results = annotated(tmp_path, mood, data, recorded)
    warned = [record.getMessage() for record in caplog.records if "No column is called 'label'" in record.getMessage()]
    assert len(warned) == 1
    assert repr(name) in warned[0]
    assert "quality" not in results
    with pytest.raises(ValueError, match="Column 'label' not found .* Is it") as refused:
        with_gold(Dataset.from_csv(str(data)), "text", "label", MOOD)
    assert str(refused.value).endswith(f"Is it {name!r}?")


def test_column_named_or_declined_is_not_warned_of(tmp_path, mood, caplog):
    data = table(tmp_path / "data.csv", text=["a", "b"], Label=["positive", "negative"])
    recorded = table(tmp_path / "recorded.csv", text=["a", "b"], response=["positive", "negative"])
    annotated(tmp_path, mood, data, recorded, "--label_column", "Label")
    assert "No column is called" not in caplog.text
