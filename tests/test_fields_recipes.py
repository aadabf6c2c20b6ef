"""Recipes and the command line on tasks whose prompt shows several columns."""

import json

import pytest
from transformers import AutoTokenizer

import active
import experiment
from adapt_teacher import training_rows
from hf_llambert import PromptEncoder, StudentConfig, cli, load_data, read_pool
from hf_llambert.annotation.ledger import Ledger
from test_fields import make_pairs, rows
from test_fields_students import encoder  # noqa: F401  (fixture)


@pytest.fixture
def files(tmp_path):
    """A task file and a file of rows."""
    make_pairs().to_yaml(tmp_path / "task.yaml")
    rows(60).to_json(str(tmp_path / "data.jsonl"))
    return {"data": str(tmp_path / "data.jsonl"), "task": str(tmp_path / "task.yaml"), "run": str(tmp_path / "run")}


@pytest.fixture
def training(tmp_path):
    return StudentConfig(str(tmp_path / "checkpoints"), use_cpu=True, num_train_epochs=1, disable_tqdm=True, seed=1)


def test_experiment_learns_from_both_fields(files, training, teacher_dir, encoder, tmp_path):  # noqa: F811
    given = {"teacher": teacher_dir, "student": encoder, "max_length": 32, "num_held_out": 16, "num_annotated": 16}
    more = {"num_extra": 8, "num_labelled": 8, "num_compared": 4, "columns": ["silver", "gold", "combined"]}
    found = experiment.main_of(experiment.ExperimentArguments(**files, **given, **more), training)
    assert set(next(iter(found["table"]["students"].values()))) == {"silver", "gold", "combined"}
    assert {"premise", "hypothesis", "student_label"} <= set(read_pool(tmp_path / "run" / "labels").column_names)
    assert json.loads((tmp_path / "run" / "student" / "training.json").read_text())["reading"]["fields"]


def test_recorded_answers_of_both_fields_serve_a_recipe(files, training, encoder, tmp_path):  # noqa: F811
    recorded = rows(60).rename_column("label", "llm_label")
    recorded.to_json(str(tmp_path / "recorded.jsonl"))
    arguments = experiment.ExperimentArguments(
        **files, teacher="someone", student=encoder, max_length=32, num_held_out=16, num_annotated=16, num_labelled=0,
        recorded=str(tmp_path / "recorded.jsonl"), columns=["silver"],
    )  # fmt: skip
    experiment.main_of(arguments, training)
    annotated = load_data(tmp_path / "run")
    assert annotated["llm_label"][:] == annotated["label"][:]


def test_active_learning_chooses_rows_of_both_fields(files, training, teacher_dir, encoder, tmp_path):  # noqa: F811
    given = {"budget": 24, "num_dev": 8, "round_size": 8, "num_pool": 20, "num_held_out": 10, "max_length": 32}
    arguments = active.ActiveArguments(
        **files, teacher=teacher_dir, student=encoder, label_column="label", patience=9, self_training=0.01, **given
    )
    found = active.main(arguments, training)
    assert found["asked"] == 24 == len(Ledger(tmp_path / "run" / "ledger"))
    assert found["n_own_labels"] > 0


def test_adapter_learns_the_prompt_of_both_fields(teacher_dir):
    tokenizer = AutoTokenizer.from_pretrained(teacher_dir)
    made = training_rows(PromptEncoder(tokenizer, make_pairs()), rows(2), ("premise", "hypothesis"), 100)
    assert tokenizer.decode(made["input_ids"][0]).startswith("First: the music was awful 0\nSecond: the film is bad\n")


def call(*arguments) -> None:
    cli.app([*map(str, arguments)], standalone_mode=False)


def test_commands_go_from_plan_to_labels(files, teacher_dir, encoder, tmp_path, capsys):  # noqa: F811
    about = ("--task", files["task"], "--output", files["run"])
    sample = ("--data", files["data"], "--teacher", teacher_dir)
    call("plan", *about, *sample, "--num_annotated", 20, "--sample", 6, "--student", encoder)
    assert "tokens to annotate" in capsys.readouterr().out
    call("annotate", *about, *sample, "--num_rows", 20)
    silver = ("--silver", files["run"], "--eval_data", files["data"], "--num_train_epochs", 1, "--use_cpu", "true")
    call("train", *about, "--student", encoder, "--max_length", 32, *silver)
    call("label", "--student", f"{files['run']}/student", "--data", files["data"], "--output", files["run"])
    call("report", files["run"])
    labels = read_pool(tmp_path / "run" / "labels")
    assert len(labels) == 60
    assert labels["premise"][:] == rows(60)["premise"][:]
    call("annotate", *about, *sample, "--write_batch", tmp_path / "batch.jsonl")
    capsys.readouterr()
    call("status", files["run"])
    assert "nothing is left to do" in capsys.readouterr().out


def test_command_names_a_field_that_is_no_column(files, teacher_dir, tmp_path):
    rows(6).rename_column("premise", "first").to_json(str(tmp_path / "other.jsonl"))
    about = ("--task", files["task"], "--output", files["run"], "--data", tmp_path / "other.jsonl")
    with pytest.raises(ValueError, match=r"'premise' not found .* shows \{premise\}"):
        call("annotate", *about, "--teacher", teacher_dir)
    with pytest.raises(ValueError, match=r"'premise' not found .* are read together"):
        call("annotate", *about, "--teacher", "m", "--write_batch", tmp_path / "batch.jsonl")
    assert not (tmp_path / "batch.jsonl").exists()
    assert not (tmp_path / "run").exists()
