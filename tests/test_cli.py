import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset

from endpoint_server import EndpointServer
from hf_llambert import cli, load_data
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.cli.options import TEACHERS, say
from hf_llambert.teachers.kinds import KINDS


def run(*arguments, expect=0, **kwargs) -> str:
    """The command as a user types it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "hf_llambert.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout + done.stderr


def call(*arguments) -> None:
    """The command in this process: quicker, for what needs no process of its own."""
    cli.app([*map(str, arguments)], standalone_mode=False)


@pytest.fixture
def task_file(cloze, tmp_path):
    cloze.to_yaml(tmp_path / "task.yaml")
    return tmp_path / "task.yaml"


@pytest.fixture
def data_file(reviews, tmp_path):
    path = tmp_path / "reviews.jsonl"
    reviews.to_json(str(path))
    return path


def test_annotate_train_label_report(task_file, data_file, reviews, teacher_dir, student_dir, tmp_path, typed):
    folder = tmp_path / "run"
    common = ["--task", task_file, "--output", folder]
    shown = typed("annotate", *common, "--data", data_file, "--teacher", teacher_dir)
    assert "16 texts: 16 ok" in shown
    assert "agreement with gold" in shown
    shown = typed(
        "train", *common, "--silver", folder, "--student", student_dir, "--eval_data", data_file, "--max_length", 32,
        "--num_train_epochs", 2, "--use_cpu", "true", "--disable_tqdm", "true",
    )  # fmt: skip
    assert "trained on 16 labels" in shown
    assert json.loads((folder / "student" / "metrics.json").read_text())["train"]["epochs"] == 2
    shown = typed("label", "--student", folder / "student", "--data", data_file, "--output", folder)
    assert "16 texts labelled, 0 unusable" in shown
    labels = load_dataset("parquet", data_files=str(folder / "labels" / "*.parquet"), split="train")
    assert labels["text"][:] == reviews["text"][:]
    assert {"student_label", "student_confidence", "student_scores", "label"} <= set(labels.column_names)
    assert "16 annotated, 16 silver, 16 labelled" in typed("report", folder)
    assert (folder / "report.md").exists()


def test_gold_alone_and_gold_with_silver_train_too(task_file, data_file, teacher_dir, student_dir, tmp_path):
    common = [
        "--task",
        task_file,
        "--student",
        student_dir,
        "--gold",
        data_file,
        "--use_cpu",
        "true",
        "--num_train_epochs",
        1,
    ]
    call("train", *common, "--output", tmp_path / "gold", "--num_rows", 10)
    assert json.loads((tmp_path / "gold" / "student" / "metrics.json").read_text())["train"]["n"] == 10
    call("annotate", "--task", task_file, "--output", tmp_path / "run", "--data", data_file, "--teacher", teacher_dir)
    call("train", *common, "--silver", tmp_path / "run", "--output", tmp_path / "both")
    assert json.loads((tmp_path / "both" / "student" / "metrics.json").read_text())["train"]["n"] == 32


def test_selection_mixing_and_seeds_are_options_of_train_and_stand_in_the_report(
    task_file, data_file, teacher_dir, student_dir, tmp_path, capsys
):
    folder = tmp_path / "run"
    call("annotate", "--task", task_file, "--output", folder, "--data", data_file, "--teacher", teacher_dir)
    call("annotate", "--task", task_file, "--output", tmp_path / "b", "--data", data_file, "--teacher", teacher_dir)
    common = ["--task", task_file, "--student", student_dir, "--eval_data", data_file, "--use_cpu", "true"]
    common += ["--silver", folder, "--gold", data_file, "--learning_rate", 5e-3, "--disable_tqdm", "true"]
    selection = ["--keep_share", 0.9, "--agree_with", tmp_path / "b", "--label_error_folds", 2]
    mixing = ["--mix", "silver_then_gold", "--silver_epochs", 1, "--gold_epochs", 2, "--soft_targets", "true"]
    call("train", *common, "--output", folder, *selection, *mixing, "--seeds", 2, "--seed", 3)
    shown = capsys.readouterr().out
    assert "accuracy over 2 seeds:" in shown
    assert "silver rows are left without likely label errors" in shown
    report_of = json.loads((folder / "student" / "metrics.json").read_text())["train"]
    rules = [count["rule"] for count in report_of["selection"]]
    assert rules == [
        "annotated", "usable label", "agreement of at least 100% of 2 teachers", "surest 90% of each label",
        "no likely label error",
    ]  # fmt: skip
    assert report_of["n_silver"] == report_of["selection"][-1]["n"] < 16
    assert report_of["n_gold"] == 16
    call("train", *common, "--output", tmp_path / "b", "--mix", "concat", "--num_train_epochs", 1)
    call("report", folder, "--against", tmp_path / "b")
    assert "accuracy of this run's student less that of" in capsys.readouterr().out
    text = (folder / "report.md").read_text()
    assert "## From annotated to silver" in text
    assert "over 2 seeds the accuracy is" in text


@pytest.mark.slow
def test_interrupted_annotation_goes_on_where_it_stopped(task_file, teacher_dir, tmp_path, typed):
    Dataset.from_dict({"text": [f"review number {i} " + "very " * 40 for i in range(300)]}).to_csv(
        str(tmp_path / "d.csv")
    )
    command = ["annotate", "--task", task_file, "--output", tmp_path / "run", "--data", tmp_path / "d.csv"]
    command += ["--teacher", teacher_dir, "--batch_tokens", 64]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_llambert.cli", *map(str, command)], env=environment, stderr=subprocess.DEVNULL
    )
    ledger = Ledger(tmp_path / "run" / "ledger")
    deadline = time.monotonic() + 60
    while len(ledger) < 5 and process.poll() is None and time.monotonic() < deadline:
        ledger = Ledger(tmp_path / "run" / "ledger")
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(Ledger(tmp_path / "run" / "ledger"))
    assert 5 <= kept < 300
    typed(*command)
    assert len(load_data(tmp_path / "run")) == 300
    files = [len(_keys(path)) for path in (tmp_path / "run" / "ledger").glob("*.sqlite")]
    assert sum(files) == 300  # no reply is there twice
    assert sorted(files) == sorted([kept, 300 - kept])


def _keys(path: Path) -> list:
    import sqlite3

    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT key FROM replies").fetchall()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--text_column", "review"], "Column 'review' not found in ['text', 'label']. Pass text_column"),
        (["--label_column", "stars"], "Column 'stars' not found"),
        (["--task", "imbd"], "No task 'imbd'. Pass one of bbc-news, imdb, umls-neuro"),
        (["--data", "nowhere.csv"], "'nowhere.csv' is no file or directory here"),
        (["--teacher", "nobody/nothing"], "'nobody/nothing' is not a directory here"),
        (["--num_rows", "17"], "Asked for 17 rows"),
        (["--mode", "guess"], "--mode: invalid choice: 'guess'"),
        (["--calibration", "fitted"], "Fitted calibration needs gold labels"),
        (["--gguf_file", "x.gguf"], "holds no model: expected x.gguf"),
    ],
)
def test_mistakes_of_annotate_are_one_sentence(task_file, data_file, teacher_dir, tmp_path, change, message, typed):
    arguments = {
        "--task": str(task_file),
        "--data": str(data_file),
        "--teacher": teacher_dir,
        "--output": str(tmp_path / "r"),
    }
    arguments |= {change[0]: change[1]}
    shown = typed("annotate", *(x for pair in arguments.items() for x in pair), expect=1)
    assert "Error: " in shown
    assert message in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "r" / "annotated").exists()


def test_misspelt_training_argument_is_refused(task_file, data_file, student_dir, tmp_path):
    with pytest.raises(ValueError, match="No such option --learning_rat. Did you mean --learning_rate"):
        call(
            "train",
            "--task",
            task_file,
            "--gold",
            data_file,
            "--student",
            student_dir,
            "--output",
            tmp_path,
            "--learning_rat",
            1,
        )
    with pytest.raises(ValueError, match="Nothing to train on"):
        call("train", "--task", task_file, "--student", student_dir, "--output", tmp_path)


def test_misspelt_key_in_a_task_is_named(data_file, teacher_dir, tmp_path, typed):
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump({"name": "t", "labels": ["a", "b"], "instructions": "{text}"}))
    shown = typed(
        "annotate", "--task", path, "--data", data_file, "--teacher", teacher_dir, "--output", tmp_path / "r", expect=1
    )
    assert "unknown key 'instructions'. Did you mean 'instruction'?" in shown


def test_output_of_another_run_is_refused(task_file, data_file, teacher_dir, tmp_path):
    command = [
        "annotate",
        "--task",
        task_file,
        "--data",
        data_file,
        "--teacher",
        teacher_dir,
        "--output",
        tmp_path / "run",
    ]
    call(*command)
    with pytest.raises(FileExistsError, match="results of another run \\(data:"):
        call(*command, "--num_rows", 5)


def test_help_lists_the_commands():
    shown = run("--help")
    for command in ("annotate", "train", "label", "report"):
        assert command in shown


def test_two_teachers_of_two_kinds_are_a_jury(task_file, data_file, reviews, teacher_dir, tmp_path, typed):
    recorded = tmp_path / "recorded.yaml"
    reviews.rename_column("label", "llm_label").to_csv(str(tmp_path / "labels.csv"))
    recorded.write_text(f"teacher: recorded\npath: {tmp_path / 'labels.csv'}\nmodel: people\n")
    shown = typed(
        "annotate", "--task", task_file, "--data", data_file, "--teacher", teacher_dir, "--teacher", recorded,
        "--max_text_tokens", 64, "--jury", "majority", "--output", tmp_path / "run",
    )  # fmt: skip
    assert "recorded: 16 texts: 16 ok" in shown
    assert re.search(r"teacher\d*: 16 texts: 16 ok", shown)
    names = load_data(tmp_path / "run").column_names
    assert {"recorded_label", "recorded_status", "llm_label", "llm_scores"} <= set(names)


def test_recorded_answers_are_annotated_without_a_model(task_file, data_file, reviews, tmp_path, capsys):
    reviews.rename_column("label", "llm_label").to_csv(str(tmp_path / "labels.csv"))
    call(
        "annotate", "--task", task_file, "--data", data_file, "--backend", "recorded", "--teacher", "people",
        "--path", tmp_path / "labels.csv", "--output", tmp_path / "run",
    )  # fmt: skip
    assert "agreement with gold 100.0%" in capsys.readouterr().out
    assert load_data(tmp_path / "run")["llm_label"][:] == reviews["label"][:]


def test_batch_is_written_and_its_output_read_back(question, data_file, reviews, tmp_path, capsys):
    question.to_yaml(tmp_path / "question.yaml")
    common = ["annotate", "--task", tmp_path / "question.yaml", "--data", data_file, "--output", tmp_path / "run"]
    call(*common, "--teacher", "gpt-x", "--write_batch", tmp_path / "requests.jsonl", "--max_new_tokens", 5)
    assert "16 requests in 1 file(s)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    lines = [json.loads(line) for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert lines[0]["body"]["max_tokens"] == 5
    answers = []
    for line in lines:
        label = "positive" if "wonderful" in line["body"]["messages"][-1]["content"] else "negative"
        body = {"choices": [{"message": {"role": "assistant", "content": label}}]}
        answers.append({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}, "error": None})
    (tmp_path / "output.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in reversed(answers)))
    call(*common, "--backend", "recorded", "--teacher", "gpt-x", "--path", tmp_path / "output.jsonl")
    assert load_data(tmp_path / "run")["llm_label"][:] == reviews["label"][:]


def test_endpoint_is_asked_from_the_command_line(question, data_file, reviews, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    question.to_yaml(tmp_path / "question.yaml")
    with EndpointServer() as server:
        call(
            "annotate", "--task", tmp_path / "question.yaml", "--data", data_file, "--backend", "endpoint", "--teacher",
            "some/model", "--base_url", server.url, "--mode", "score", "--output", tmp_path / "run",
        )  # fmt: skip
    assert "16 texts: 16 ok" in capsys.readouterr().out
    assert server.requests == 16


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--backend", "oracle"],
            "No teacher of the kind 'oracle'. Expected one of transformers, vllm, endpoint, recorded",
        ),
        (["--temprature", "1"], "No such option --temprature. Did you mean --temperature"),
        (["--teacher", "x.yaml"], "The teacher's file 'x.yaml' cannot be read"),
        (["--jury", "vote", "--teacher", "other"], "jury must be dawid_skene, majority, mace or mean, got 'vote'"),
        (["--teacher", "a/b"], "Two members of the jury have one name"),
        (["--write_batch", "x.jsonl", "--path", "y"], "--write_batch takes --service, --max_new_tokens"),
        (["--backend", "endpoint", "--max_cost", "3"], "max_cost needs price_input"),
        (["--backend", "recorded"], "arguments are required: --path"),
    ],
)
def test_mistakes_about_teachers_are_one_sentence(task_file, data_file, tmp_path, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        call(
            "annotate", "--task", task_file, "--data", data_file, "--teacher", "b", "--output", tmp_path / "run", *more
        )


def test_files_are_labelled_piece_by_piece_and_a_broken_one_is_said(reviews, student_dir, tmp_path, capsys, typed):
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    for k in range(2):
        reviews.select(range(8 * k, 8 * k + 8)).to_parquet(str(corpus / f"{k}.parquet"))
    (corpus / "2.parquet").write_bytes(b"PAR1 no parquet PAR1")
    common = ["--data", corpus, "--student", student_dir, "--output", out, "--keep", "text", "--backend", "torch"]
    shown = typed("label", *common, expect=1)
    assert "Error: 1 of 3 pieces of the pool could not be read. '2.parquet' cannot be read" in shown
    (corpus / "2.parquet").unlink()
    call("label", *common)
    assert "16 texts labelled, 0 unusable" in capsys.readouterr().out
    assert load_dataset(str(out / "labels"), split="train")["text"][:] == reviews["text"][:]
    call("label", *common[:4], "--output", tmp_path / "shared", "--process", "0/2", "--long_texts", "mean")
    assert "Other processes have not finished their shares." in capsys.readouterr().out
    for wrong, message in (
        (["--process", "2/2"], "--process must be such as 3/8"),
        (["--long_texts", "median"], "long_texts must be truncate, mean or max"),
        (["--task", "bbc-news"], "The student has the labels"),
        (["--backend", "jax"], "backend must be one of torch, openvino, onnx"),
    ):
        with pytest.raises(ValueError, match=message):
            call("label", *common[:4], "--output", tmp_path / "wrong", *wrong)


def test_of_several_processes_the_first_speaks_and_each_of_its_errors(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    say("labelled")
    say("Error: no such file", error=True)
    monkeypatch.setenv("RANK", "0")
    say("labelled")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("labelled\n", "Error: no such file\n")


STARS = {"name": "stars", "labels": list("12345"), "instruction": "How many stars? {text}"}


@pytest.fixture
def stars(tmp_path):
    (tmp_path / "stars.yaml").write_text(yaml.safe_dump(STARS))
    answers = [{"text": f"r{n}", "response": str(n)} for n in (1, 2, 3, 4)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    arguments = ["annotate", "--task", tmp_path / "stars.yaml", "--backend", "recorded", "--model", "x"]
    return [*arguments, "--path", tmp_path / "answers.jsonl"]


@pytest.mark.parametrize("missing", ["", "r5,\n"])
def test_labels_of_a_csv_are_names_with_and_without_an_empty_cell(stars, tmp_path, missing, capsys):
    (tmp_path / "gold.csv").write_text("text,label\nr1,1\nr2,2\nr3,3\nr4,4\n" + missing)
    call(*stars, "--data", tmp_path / "gold.csv", "--output", tmp_path / "run")
    assert "agreement with gold 100.0%" in capsys.readouterr().out


def test_gold_is_mapped_counted_from_one_or_switched_off(stars, tmp_path, capsys):
    (tmp_path / "gold.csv").write_text("text,label\nr1,one\nr2,2\nr3,3\nr4,NA\n")
    data = ["--data", tmp_path / "gold.csv"]
    with pytest.raises(ValueError, match="--label_map NA=LABEL|--label_map one=LABEL"):
        call(*stars, *data, "--output", tmp_path / "refused")
    call(*stars, *data, "--output", tmp_path / "mapped", "--label_map", "one=1", "--label_map", "NA=")
    assert "agreement with gold 100.0%" in capsys.readouterr().out
    call(*stars, *data, "--output", tmp_path / "off", "--label_column", "none")
    assert "agreement" not in capsys.readouterr().out


def test_configuration_of_files_here_is_refused(task_file, data_file, student_dir, tmp_path):
    with pytest.raises(ValueError, match="--config 'plain_text' names a configuration of a dataset on the Hub"):
        call(
            "train", "--task", task_file, "--gold", data_file, "--student", student_dir, "--output", tmp_path / "run",
            "--config", "plain_text",
        )  # fmt: skip


def test_completion_knows_every_kind_of_teacher():
    assert sorted(TEACHERS("")) == sorted(KINDS)
    assert TEACHERS("v") == ["vllm"]
