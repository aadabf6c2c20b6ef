import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from datasets import ClassLabel, Dataset, DatasetDict

from common import parse_arguments
from experiment import ExperimentArguments, read_parts
from forked import free_port, run_by_two_processes
from hf_llambert import StudentConfig, load_data, load_task, read_pool
from hf_llambert.annotation.ledger import Ledger

RECIPES = Path(__file__).parent.parent / "recipes"


@pytest.fixture
def data_file(reviews, tmp_path):
    texts = [f"{text} take {k}" for k in range(4) for text in reviews["text"]]
    path = tmp_path / "reviews.parquet"
    Dataset.from_dict({"text": [*texts, texts[0]], "label": [*reviews["label"][:] * 4, 0]}).to_parquet(str(path))
    return path


@pytest.fixture
def news_file(tmp_path):
    names = ["business", "entertainment", "politics", "sport", "tech"]
    texts = [f"{names[i % 5]} section, number {i}, {'very ' * (i % 3)}much" for i in range(90)]
    path = tmp_path / "news.parquet"
    rows = Dataset.from_dict({"text": texts, "label": [i % 5 for i in range(90)]})
    rows.cast_column("label", ClassLabel(names=names)).to_parquet(str(path))
    return path


@pytest.fixture
def config(data_file, teacher_dir, student_dir, cloze, tmp_path):
    cloze.to_yaml(tmp_path / "task.yaml")
    settings = {
        "data": str(data_file), "teacher": teacher_dir, "student": student_dir, "task": str(tmp_path / "task.yaml"),
        "run": str(tmp_path / "run"), "num_held_out": 16, "num_annotated": 24, "num_labelled": 20, "max_length": 32,
        "num_train_epochs": 2, "learning_rate": 5e-3, "use_cpu": True, "disable_tqdm": True, "seed": 1,
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def parse(*arguments):
    return parse_arguments((ExperimentArguments, StudentConfig), [str(a) for a in arguments])


def parts_of(arguments):
    found = read_parts(arguments, load_task(arguments.task))
    return found.held_out, found.train, found.pool


def launch(config, *arguments, flags=(), recipe="imdb"):
    """Start a recipe in processes of its own, as a user does."""
    words = [sys.executable, "-m", "accelerate.commands.launch", *flags, str(RECIPES / f"{recipe}.py")]
    done = subprocess.run(
        [*words, "--config", str(config), *arguments],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture
def here(monkeypatch):
    """Run a recipe's file in this process: quicker, for what needs no process of its own."""

    def run(recipe, *arguments):
        monkeypatch.setattr(sys, "argv", [recipe, *map(str, arguments)])
        runpy.run_path(str(RECIPES / f"{recipe}.py"), run_name="__main__")

    return run


def test_two_processes_give_the_labels_of_one(config, here, tmp_path, capsys):
    halved = ["--train_sampling_strategy", "random", "--per_device_train_batch_size"]
    here("imdb", "--config", config, *halved, 8, "--run", tmp_path / "alone")
    assert "24 annotated, 24 silver, 20 labelled" in capsys.readouterr().out
    flags = ["--config_file", str(RECIPES / "accelerate" / "cpu_2proc.yaml"), "--main_process_port", str(free_port())]
    shown = launch(config, *halved, "4", "--num_processes", "2", flags=flags)
    assert "24 annotated, 24 silver, 20 labelled" in shown
    run = tmp_path / "run"
    report = json.loads((run / "report.json").read_text())
    assert (report["n_annotated"], report["n_silver"], report["n_labelled"]) == (24, 24, 20)
    assert report["student"]["train"]["processes"] == 2
    assert report["baseline"]["n"] == report["student"]["n"] == 16
    assert len(list((run / "ledger").glob("*.sqlite"))) == 2  # each asked about its share
    assert len(Ledger(run / "ledger")) == 24
    assert_same_labels(tmp_path / "alone", run)
    # Once more: finished at once, nothing asked, the same report.
    run_by_two_processes(tmp_path, RECIPES / "imdb.py", "--config", config, *halved, 4, ACCELERATE_USE_CPU="true")
    assert json.loads((run / "report.json").read_text()) == report
    assert len(Ledger(run / "ledger")) == 24


def assert_same_labels(one, two):
    first, second = (load_data(run) for run in (one, two))
    assert first["llm_label"][:] == second["llm_label"][:]
    labels, others = (read_pool(run / "labels") for run in (one, two))
    assert labels["text"][:] == others["text"][:]
    assert labels["student_label"][:] == others["student_label"][:]
    assert labels["student_confidence"][:] == pytest.approx(
        others["student_confidence"][:], abs=0.05
    )  # dropout is drawn by process


@pytest.mark.slow
def test_news_in_five_classes_by_two_processes(config, tmp_path, news_file, here):
    settings = {
        "data": str(news_file),
        "task": "bbc-news",
        "num_held_out": 20,
        "num_annotated": 40,
        "num_labelled": 15,
    }
    settings = yaml.safe_load(config.read_text()) | settings | {"num_compared": 10, "max_length": 24}
    config.write_text(yaml.safe_dump(settings | {"train_sampling_strategy": "random"}))
    here("bbc_news", "--config", config, "--per_device_train_batch_size", 8, "--run", tmp_path / "alone")
    together = [RECIPES / "bbc_news.py", "--config", config, "--per_device_train_batch_size", 4, "--num_processes", 2]
    run_by_two_processes(tmp_path, *together, ACCELERATE_USE_CPU="true")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["task"]["labels"] == ["business", "entertainment", "politics", "sport", "tech"]
    assert report["student"]["train"]["processes"] == 2
    assert len(list((tmp_path / "run" / "ledger").glob("*.sqlite"))) == 4  # two processes, two datasets
    table = json.loads((tmp_path / "run" / "table.json").read_text())
    assert table["teacher"]["n"] == 10
    assert_same_labels(tmp_path / "alone", tmp_path / "run")


def test_splits_are_disjoint_and_nothing_held_out_is_annotated(config):
    arguments, _ = parse("--config", config)
    held_out, annotated, pool = parts_of(arguments)
    parts = [set(part["text"]) for part in (held_out, annotated, pool)]
    assert [len(part) for part in (held_out, annotated, pool)] == [16, 24, 20]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_splits_of_the_data_are_used_where_named(config, reviews, tmp_path):
    unlabelled = reviews.select(range(4)).map(lambda row: {"label": -1, "text": row["text"] + " pool"})
    test = reviews.select(range(4, 10))
    DatasetDict(train=reviews, test=test, unsupervised=unlabelled).save_to_disk(tmp_path / "d")
    arguments, _ = parse(
        "--config", config, "--data", tmp_path / "d", "--data_split", "train", "--eval_split", "test", "--pool_split",
        "unsupervised", "--num_held_out", 6, "--num_annotated", 100, "--num_labelled", 4,
    )  # fmt: skip
    held_out, annotated, pool = parts_of(arguments)
    assert sorted(held_out["text"]) == sorted(test["text"])
    assert len(annotated) == 10  # six of the sixteen are in the test split
    assert sorted(pool["text"]) == sorted(unlabelled["text"])


def test_wrong_number_of_processes_is_refused_with_the_command(config, here):
    with pytest.raises(SystemExit, match="Asked for 2 processes, but 1 run. Start with accelerate launch --multi_gpu"):
        here("imdb", "--config", config, "--num_processes", 2)


def test_misspelt_key_is_refused(config):
    with pytest.raises(ValueError, match="no argument 'lerning_rate'. Did you mean 'learning_rate'?"):
        parse("--config", config, "--lerning_rate", 1)
    settings = yaml.safe_load(config.read_text()) | {"num_anotated": 3}
    config.write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match="no argument 'num_anotated'. Did you mean 'num_annotated'?"):
        parse("--config", config)


def test_mistake_is_one_sentence(config, here):
    with pytest.raises(SystemExit, match="^Error: Column 'review' not found"):
        here("imdb", "--config", config, "--text_column", "review")


@pytest.mark.parametrize("name", ["imdb.yaml", "imdb_quickstart.yaml"])
def test_shipped_configurations_parse(name):
    arguments, training = parse("--config", RECIPES / name, *(["--bf16", "false"] if name == "imdb.yaml" else []))
    assert training.num_train_epochs > 0
    task = arguments.task
    assert load_task(RECIPES.parent / task if task.endswith(".yaml") else task).labels == ("negative", "positive")


def test_question_for_chat_teachers_is_a_valid_task():
    assert load_task(RECIPES / "tasks" / "imdb_question.yaml").parse("Positive.") == 1


@pytest.mark.real
def test_real_teacher_and_student_on_real_reviews(assets, tmp_path, here, monkeypatch):
    """The quickstart in small: real models and reviews."""
    config = yaml.safe_load((RECIPES / "imdb_quickstart.yaml").read_text())
    config |= {name: str(assets.parent / config[name]) for name in ("data", "teacher", "student")}
    config |= {
        "run": str(tmp_path / "run"), "num_annotated": 48, "num_held_out": 60, "num_labelled": 40, "teacher_text_tokens": 96,
        "max_length": 64, "num_train_epochs": 1, "columns": ["silver"], "disable_tqdm": True,
    }  # fmt: skip
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    here("imdb", "--config", path)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["teacher"]["accuracy"] > 0.65  # chance is 0.5; 48 rows allow no closer bound
    assert report["teacher"]["coverage"] == 1.0
    assert report["student"]["n"] == 60
    assert report["student"]["texts_per_second"] > report["teacher"]["texts_per_second"]
    labelled = read_pool(tmp_path / "run" / "labels")
    assert len(labelled) == 40
    assert set(labelled["student_label"]) <= {0, 1}
    silver = load_data(tmp_path / "run")
    assert silver.features["llm_label"].names == ["negative", "positive"]
