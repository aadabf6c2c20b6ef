"""`hf-llambert run`: the whole way in one command, that asks before it spends and goes on where it stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from datasets import Dataset

import hf_llambert
from conftest import make_cloze, make_reviews
from hf_llambert import load_data, make_plan, read_pool
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.annotation.turns import one_at_a_time

QUICK = ["--num_train_epochs", 1, "--max_length", 32, "--batch_tokens", 256]


def no_plan(*args, **kwargs):
    """A plan that asked nobody."""
    one = {"value": 1.0, "low": 1.0, "high": 1.0}
    part = {"n": 1, "hours": one, "money": None, "input_tokens": one, "output_tokens": one}
    texts = dict.fromkeys(("median", "n_counted", "n_unusable", "n_repeated", "limit"), 1)
    return {
        "task": "tiny", "teacher": "t", "sample": {"answered": 0, "asked_now": 0}, "currency": None, "annotate": part,
        "teacher_for_all": part, "student": None, "break_even": None, "coverage": None, "agreement": None, "notes": [],
        "texts": {**texts, "longest": [1], "unit": "tokens", "n_cut": None},
    }  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A task, 40 reviews with gold, and a folder to be in."""
    monkeypatch.chdir(tmp_path)
    make_cloze().to_yaml("task.yaml")
    make_reviews(40).to_json("reviews.jsonl")
    return tmp_path


@pytest.fixture
def words(here, teacher_dir, student_dir):
    shown = ["--data", "reviews.jsonl", "--teacher", teacher_dir, "--student", student_dir, "--output", "r"]
    return ["run", "task.yaml", *shown, "--num_annotated", 16, "--num_held_out", 10, *QUICK]


@pytest.fixture
def main(typed, monkeypatch):
    """The command in this process, with a plan that asks nobody unless one is passed."""

    def run_main(*arguments, plan=no_plan, **kwargs) -> str:
        monkeypatch.setattr(hf_llambert, "make_plan", plan)
        return typed(*arguments, **kwargs)

    return run_main


@pytest.fixture(scope="session")
def whole(teacher_dir, student_dir, tmp_path_factory):
    """A finished run beside its data. Copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("whole")
    make_cloze().to_yaml(folder / "task.yaml")
    make_reviews(40).to_json(str(folder / "reviews.jsonl"))
    shown = ["--data", "reviews.jsonl", "--teacher", teacher_dir, "--student", student_dir, "--output", "r"]
    command = ["run", "task.yaml", *shown, "--num_annotated", "16", "--num_held_out", "10", *map(str, QUICK), "--yes"]
    done = subprocess.run(
        [sys.executable, "-m", "hf_llambert", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout, command


def stages(shown: str) -> list[str]:
    return re.findall(r"\d/4 .*", shown)


def test_run_annotates_trains_labels_and_reports_a_line_each(whole):
    folder, shown, _ = whole
    run = folder / "r"
    assert shown.startswith("planning: ")
    assert "tiny with" in shown.splitlines()[1]  # the plan
    lines = stages(shown)
    assert [line.split()[1] for line in lines] == ["annotate", "train", "label", "report"]
    assert "16 of 16 texts labelled" in lines[0]
    assert "agreement with gold" in lines[0]
    assert "16 labels" in lines[1]
    assert "on 10 held-out texts" in lines[1]
    [worth] = [line for line in shown.splitlines() if line.startswith("    accuracy ")]
    assert "by the encoder at " in worth
    assert "by counting words at " in worth
    assert "40 texts" in lines[2]
    assert "those annotated and held out are among them" in lines[2]
    assert "16 annotated, 16 silver, 40 labelled" in shown
    assert {"loss", "grad_norm"}.isdisjoint(shown.split("'"))
    assert not (run / "checkpoints").exists()
    assert (run / "report.html").is_file()


def test_no_text_is_both_annotated_and_held_out(whole):
    run = whole[0] / "r"
    annotated = load_data(run)["text"][:]
    measured = hf_llambert.read_evaluation(run / "student")["text"][:]
    assert len(set(measured)) == 10
    assert not set(measured) & set(annotated)
    assert read_pool(run / "labels")["text"][:] == make_reviews(40)["text"][:]


def test_finished_run_says_so_and_loads_nothing_heavy(whole):
    folder, _, command = whole
    program = "import sys; from hf_llambert.cli import main; sys.argv = ['hf-llambert', *sys.argv[1:]]\ntry: main()\n"
    program += "finally: print([m for m in ('torch', 'transformers', 'datasets', 'pandas') if m in sys.modules])"
    before = {path: path.stat().st_mtime_ns for path in (folder / "r").rglob("*")}
    done = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'r' was finished on" in done.stdout
    assert len(stages(done.stdout)) == 4
    assert done.stdout.splitlines()[-1] == "[]"
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "r").rglob("*")}


def test_finished_run_whose_data_changed_is_not_finished(whole, here, main):
    folder, _, command = whole
    shutil.copytree(folder, here / "copy")
    os.chdir(here / "copy")
    make_reviews(41).to_json("reviews.jsonl")
    assert "other --data (file)" in main(*command, expect=1)


def test_finished_run_whose_files_were_written_again_is_finished(whole, here, main):
    folder, _, command = whole
    shutil.copytree(folder, here / "copy")
    os.chdir(here / "copy")
    (here / "copy" / "reviews.jsonl").write_bytes((folder / "reviews.jsonl").read_bytes())
    assert "was finished on" in main(*command)


def test_plan_is_shown_and_asked_and_no_means_no(words, main, here):
    shown = main(*words, answers=["n"], expect=1, plan=make_plan)
    assert "teacher alone" in shown
    assert "Nothing more is asked. What was answered is kept." in shown
    assert stages(shown) == []
    assert not (here / "r" / "annotated").exists()
    assert len(Ledger(here / "r" / "ledger")) == 16
    assert "next: hf-llambert run" in main("status", here / "r", expect=3)
    assert "teacher alone" in main(*words, answers=["n"], expect=1, plan=make_plan)  # nothing was agreed to


def test_without_a_terminal_it_is_refused_before_anybody_is_asked(words, main, here):
    assert "Pass --yes to go on without the question" in main(*words, expect=1)
    assert not (here / "r").exists()


def test_another_run_with_the_ledger_of_the_first_asks_nothing_again(words, main, here):
    main(*words, "--yes", "--ledger", "kept")
    assert not (here / "r" / "ledger").exists()
    assert len(Ledger(here / "kept")) == 16
    assert "with --ledger kept nothing is asked again" in " ".join(
        main(*words, "--yes", "--seed", 7, "--ledger", "kept", expect=1).split()
    )
    assert "was finished on" in main(*words, "--ledger", "kept")
    priors = ["--prior", "positive=0.7", "--prior", "negative=0.3"]
    shown = main(*words, "--output", "other", "--yes", "--ledger", "kept", *priors, plan=make_plan)
    assert "(0 asked now)" in shown
    assert len(stages(shown)) == 4
    assert len(Ledger(here / "kept")) == 16


def test_interrupted_in_each_stage_it_goes_on_and_does_nothing_twice(words, main, here, monkeypatch):
    given = {}

    def stop(*args, **kwargs):
        given[stage] = args
        raise KeyboardInterrupt

    weights, trained = here / "r" / "student" / "model.safetensors", []
    for number, stage in enumerate(["annotate", "train_student", "label_pool", "write_report"]):
        with monkeypatch.context() as patch:
            patch.setattr(hf_llambert, stage, stop)
            shown = main(*words, answers=None if number else ["y"], expect=130)  # it was agreed to then
        assert len(stages(shown)) == number
        assert ("going on with the plan of" in shown) == ("teacher alone" not in shown) == (number > 0)
        trained += [weights.stat().st_mtime_ns] if weights.exists() else []
    assert len(stages(main(*words))) == 4
    training = given["train_student"][3]
    assert (training.save_strategy, training.resume_from_checkpoint) == ("epoch", "True")
    assert set(trained) == {weights.stat().st_mtime_ns}
    assert len(Ledger(here / "r" / "ledger")) == 16
    assert "was finished on" in main(*words)


def test_other_arguments_are_another_plan(words, main, here):
    main(*words, answers=["n"], expect=1)
    main(*words, "--yes")
    asked = len(Ledger(here / "r" / "ledger"))
    for more in (["--num_pool", 5], ["--seed", 7], ["--learning_rate", 1e-3]):
        shown = main(*words, *more, "--yes", expect=1)
        assert f"'r' holds a run with other {'further arguments' if len(str(more[1])) > 1 else more[0]}" in shown
    assert "type the command as it was: hf-llambert run task.yaml --data" in shown
    assert "with --ledger r/ledger nothing is asked again" in " ".join(shown.split())
    make_reviews(41).to_json("reviews.jsonl")
    assert "'r' holds a run with other --data (file)" in main(*words, "--yes", expect=1)
    assert len(Ledger(here / "r" / "ledger")) == asked


def test_other_arguments_of_what_is_not_made_yet_are_asked_anew(words, main, here, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hf_llambert, "label_pool", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(*words, "--yes")
    assert "no terminal" in main(*words, "--num_pool", 5, expect=1)
    assert "5 texts" in stages(main(*words, "--num_pool", 5, "--yes"))[2]


def test_run_fits_no_linear_student_where_it_is_told_not_to(words, main, here):
    assert "counting words" not in main(*words, "--no_baseline", "--yes")
    assert not (here / "r" / "student" / "baseline").exists()
    assert "'r' holds a run with other --baseline" in main(*words, "--yes", expect=1)


def test_second_start_at_once_is_refused(words, main, here):
    with one_at_a_time(here / "r" / "run.json"):
        assert "run.json' is being written by this very process" in main(*words, "--yes", expect=1)


def test_pool_of_some_rows_is_neither_annotated_nor_held_out(words, main, here):
    shown = main(*words, "--num_pool", 14, "--yes")
    assert "14 texts" in stages(shown)[2]
    assert "among them" not in stages(shown)[2]
    texts = [set(load_data(here / "r")["text"]), set(read_pool(here / "r" / "labels")["text"])]
    texts.append(set(hf_llambert.read_evaluation(here / "r" / "student")["text"]))
    assert [len(one) for one in texts] == [16, 14, 10]
    assert len(set.union(*texts)) == 40


def test_task_of_two_columns_runs_to_the_report(words, main, here):
    rows = [
        {"name": f"film {i}", "said": row["text"], "label": row["label"]} for i, row in enumerate(make_reviews(40))
    ]
    Dataset.from_list(rows).to_json("reviews.jsonl")
    task = yaml.safe_load((here / "task.yaml").read_text())
    task["instruction"] = task["instruction"].replace("{text}", "{name}: {said}")
    (here / "task.yaml").write_text(yaml.safe_dump(task))
    shown = main(*words, "--yes")
    assert "16 annotated, 16 silver, 40 labelled" in shown
    assert {"name", "said", "student_label"} <= set(read_pool(here / "r" / "labels").column_names)
    assert "done" in main("status", here / "r")


def test_texts_to_measure_on_are_not_annotated(words, main, here):
    make_reviews(4).to_json("eval.jsonl")
    words = [one for one in words if one not in ("--num_held_out", 10)]
    shown = main(*words, "--num_annotated", 36, "--eval_data", "eval.jsonl", "--yes")
    assert "4 of the 40 texts of --data are in --eval_data too: they are not annotated" in shown
    assert "on 4 held-out texts" in stages(shown)[1]
    assert set(load_data(here / "r")["text"]) == set(make_reviews(40)["text"]) - set(make_reviews(4)["text"])


def test_without_people_s_labels_nothing_is_measured_and_that_is_said(words, main, here):
    make_reviews(20).remove_columns("label").to_json("reviews.jsonl")
    assert "there is no column 'label'" in main(*words, "--yes", expect=1)
    words = [one for one in words if one not in ("--num_held_out", 10)]
    lines = stages(main(*words, "--yes"))
    assert "not measured: that takes --eval_data or --num_held_out" in lines[1]
    assert lines[2].endswith("; those annotated are among them")


def test_gold_is_trained_on_together_with_silver(words, main, here):
    make_reviews(50).select(range(40, 50)).to_json("gold.jsonl")
    shown = main(*words, "--gold", "gold.jsonl", "--mix", "concat", "--yes")
    assert "26 labels" in stages(shown)[1]


def test_missed_gate_ends_with_1_now_and_later(words, main, here):
    (here / "gate.yaml").write_text(yaml.safe_dump({"accuracy": {"at_least": 0.99, "certain": True}}))
    shown = main(*words, "--conditions", "gate.yaml", "--yes", expect=1)
    assert "The gate: missed" in shown
    assert "It missed its conditions" in main(*words, "--conditions", "gate.yaml", expect=1)
    (here / "gate.yaml").write_text(yaml.safe_dump({"coverage": {"at_least": 0.5}}))
    shown = main(*words, "--conditions", "gate.yaml")  # other conditions are no other plan
    assert "The gate: passed" in shown
    assert len(Ledger(here / "r" / "ledger")) == 16


def test_cap_stops_before_the_training_and_a_larger_one_goes_on(words, main, here, teacher_dir):
    name = teacher_dir.rsplit("/", 1)[-1]
    prices = {name: {"input_per_million": 1.0, "output_per_million": 1.0, "currency": "EUR"}}
    (here / "prices.yaml").write_text(yaml.safe_dump(prices))
    words = [*words, "--prices", "prices.yaml", "--batch_tokens", 40]
    shown = main(*words, "--max_cost", 1e-4, "--yes", expect=1)
    assert "texts were not asked about, so nothing was trained. Run again with a larger cap" in shown
    assert not (here / "r" / "student").exists()
    asked = len(Ledger(here / "r" / "ledger"))
    assert 0 < asked < 16
    shown = main(*words, "--max_cost", 1, "--yes")
    assert "EUR" in stages(shown)[0]
    assert len(Ledger(here / "r" / "ledger")) == 16


def test_rows_that_failed_are_not_asked_again_once_a_student_learnt_from_the_others(words, main, here, monkeypatch):
    main(*words, "--yes")
    noted = here / "r" / "annotated" / "stage.json"
    note = json.loads(noted.read_text())
    note["results"] |= {"n_failed": 2, "n_ok": 14, "coverage": 14 / 16, "reasons": {"the server was away": 2}}
    noted.write_text(json.dumps(note))

    def refuse(*args, **kwargs):
        raise AssertionError("asked again")

    monkeypatch.setattr(hf_llambert, "annotate", refuse)
    assert "2 failed" in stages(main(*words))[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--curve"], "hf-llambert run has no --curve; hf-llambert train has."),
        (["--num_rows", 3], "hf-llambert run has no --num_rows; hf-llambert annotate and"),
        (["--max_text_token", 3], "No such option --max_text_token. Did you mean --max_text_tokens"),
        (["--num_anotated", 3], "No such option --num_anotated. Did you mean --num_annotated"),
        (["--teacher", "other"], "hf-llambert run asks one teacher"),
        (["--num_annotated", 31], "--num_annotated must be from 1 to 30, the texts not held out; got 31"),
        (["--num_annotated", 0], "--num_annotated must be from 1 to 30"),
        (["--num_pool", 15], "--num_pool must be from 1 to 14"),
        (["--num_held_out", 40], "--num_held_out must be from 1 to less than the 40 texts"),
        (["--eval_data", "reviews.jsonl"], "--eval_data and --num_held_out both say what to measure on"),
        (["--conditions", "nowhere.yaml"], "nowhere.yaml"),
        (["--text_column", "body"], "Column 'body' not found"),
        (["--student", "nowhere/at-all"], "nowhere/at-all"),
        (["--gold", "task.yaml"], "task.yaml"),
        (["--calibration", "fitted"], "hf-llambert run knows --calibration none, batch, contextual; got 'fitted'."),
        (["--mix", "both"], "mix must be one of"),
        (["--prior", "positive=0.7", "--prior", "negative=0.7"], "positive shares that sum to 1"),
        (
            ["--prior", "positive=0.7", "--prior", "negative=0.3", "--calibration", "none"],
            "A prior is for batch and contextual",
        ),
        (
            ["--prior", "positive=0.7", "--prior", "negative=0.3", "--mode", "generate"],
            "A prior is for the scores of a teacher",
        ),
        (["--prices", "nowhere.yaml"], "The price table 'nowhere.yaml' cannot be read"),
        (["stray"], "Unknown arguments ['stray']"),
        (["--yes", "--seed", 1, "stray"], "stray"),
    ],
)
def test_mistakes_are_a_sentence_before_anybody_is_asked(words, main, here, more, said):
    shown = " ".join(main(*words, *more, "--yes", expect=1).split())
    assert said in shown
    assert "Traceback" not in shown
    assert not (here / "r" / "ledger").exists()


def test_credentials_are_written_nowhere(words, main, here, monkeypatch):
    monkeypatch.setattr(hf_llambert, "annotate", lambda *args, **kwargs: 1 / 0)
    secret = "hf_" + "a1" * 17
    for more in (["--hub_token", "my word"], ["--hub_token=my word"], ["--run_name", secret]):
        with pytest.raises(ZeroDivisionError):
            main(*words, *more, "--yes")
        note = (here / "r" / "run.json").read_text()
        assert "my word" not in note
        assert secret not in note
        assert json.loads(note)["command"] is None
        assert json.loads(note)["asked"]["further"][-1].endswith("...")


def test_several_processes_are_refused(words, main, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "hf-llambert run is one process" in main(*words, "--yes", expect=1)


def test_damaged_note_is_a_sentence(words, main, here):
    (here / "r").mkdir()
    (here / "r" / "run.json").write_text('{"asked": 3')
    shown = main(*words, "--yes", expect=1)
    assert "run.json' is damaged" in shown
    assert "Remove" in shown


KILLED_AT_THE_SECOND_CHECKPOINT = """
import os, signal
from transformers import Trainer
from hf_llambert.cli import main

save = Trainer._save_checkpoint

def save_and_die(trainer, *args, **kwargs):
    save(trainer, *args, **kwargs)
    if trainer.state.epoch >= 2:
        os.kill(os.getpid(), signal.SIGKILL)

Trainer._save_checkpoint = save_and_die
main()
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_training_it_goes_on_from_the_last_epoch(words, here):
    words = [*map(str, words), "--num_train_epochs", "4", "--yes"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_THE_SECOND_CHECKPOINT, *words], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert list(here.glob("r/checkpoints/run/*/checkpoint-*"))
    command = [sys.executable, "-m", "hf_llambert", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    trained = json.loads((here / "r" / "student" / "metrics.json").read_text())["train"]
    assert trained["epochs"] == 4
    assert len(Ledger(here / "r" / "ledger")) == 16
