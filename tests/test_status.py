"""`hf-llambert status`: what is there, what is next, what it cost; a sentence whatever the folder holds."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import make_cloze
from hf_llambert import LLMLabeler, Scale, TaskSpec, TransformersTeacher, write_report
from hf_llambert.annotation.ledger import Ledger
from hf_llambert.report.run_note import RUN_FILE, RunNote, written_at
from hf_llambert.report.status import run_status
from hf_llambert.teachers.base import Reply


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a whole run, its report written there."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def shown(typed):
    return functools.partial(typed, "status")


def state_of(run, name) -> dict:
    return next(one for one in run_status(run)["stages"] if one["name"] == name)


def test_finished_run_says_what_is_there_and_what_it_cost(run, shown):
    lines = shown(run).splitlines()
    assert lines[0] == f"{run}: tiny"
    assert [line.split()[:2] for line in lines[1:5]] == [
        [name, "done"] for name in ("annotate", "train", "label", "report")
    ]
    assert [line.split()[2] for line in lines[1:4]] == ["20", "20", "10"]
    assert "20 ok; agreement with gold" in lines[1]
    assert "on 10 held-out texts" in lines[2]
    assert lines[5].startswith("cost: ")
    assert "tokens in, 0 out" in lines[5]
    assert lines[6] == "next: nothing is left to do"


def test_it_imports_nothing_heavy(run):
    program = "import sys; from hf_llambert.cli import main; sys.argv = ['hf-llambert', *sys.argv[1:]]\ntry: main()\n"
    heavy = "torch transformers datasets pyarrow pandas numpy sklearn matplotlib rich"
    program += f"finally: print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program, "status", run], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


def test_as_json_it_is_what_the_function_gives(run, shown):
    assert json.loads(shown(run, "--json")) == run_status(run)


def test_each_stage_that_is_missing_is_next(run, shown):
    (run / "report.json").unlink()
    assert shown(run, expect=3).splitlines()[-1] == f"next: hf-llambert report {run}"
    shutil.rmtree(run / "labels")
    assert f"next: hf-llambert label --student {run} --data DATA --output {run}" in shown(run, expect=3)
    shutil.rmtree(run / "student")
    said = shown(run, expect=3)
    assert f"next: hf-llambert train --task TASK --silver {run} --student STUDENT --output {run}" in said
    assert re.search(r"train +not begun", said)
    shutil.rmtree(run / "annotated")
    said = shown(run, expect=3)
    assert re.search(r"annotate +part +20 ", said)
    assert "replies in the ledger" in said
    assert "tokens in" in said  # of the ledger
    assert f"next: hf-llambert annotate --task TASK --data DATA --teacher TEACHER --output {run}" in said


def test_half_of_a_stage_is_said(run):
    (run / "student" / "metrics.json").unlink()
    assert state_of(run, "train")["state"] == "part"
    assert "not measured yet" in state_of(run, "train")["says"]
    note = json.loads((run / "labels" / "stage.json").read_text())
    note["results"] = {}
    (run / "labels" / "stage.json").write_text(json.dumps(note))
    found = state_of(run, "label")
    assert (found["state"], found["rows"]) == ("part", 10)
    next((run / "labels").glob("part-*.parquet")).unlink()
    assert state_of(run, "label")["rows"] == 0


def test_shard_that_is_gone_is_seen(run):
    next((run / "labels").glob("part-*.parquet")).unlink()
    assert state_of(run, "label") | {"when": None} == {
        "name": "label", "state": "part", "rows": 0, "of": 10, "when": None, "says": "shards are missing",
    }  # fmt: skip


def test_training_that_was_killed_says_how_far_it_was(run):
    shutil.rmtree(run / "student")
    checkpoint = run / "checkpoints" / "abc" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    assert state_of(run, "train")["says"] == "begun"
    (checkpoint / "trainer_state.json").write_text('{"global_step": 3, "max_steps": 12}')
    assert state_of(run, "train")["says"] == "step 3 of 12 is in a checkpoint"
    assert run_status(run)["next"].endswith("--resume_from_checkpoint true")
    (checkpoint / "trainer_state.json").write_text("{")
    assert state_of(run, "train")["says"] == "begun"


def test_labels_of_another_student_and_an_old_report_are_outdated(run, shown):
    config = json.loads((run / "student" / "config.json").read_text())
    (run / "student" / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.3}))
    said = shown(run, expect=3)
    assert re.search(r"label +outdated ", said)
    assert "by another student than is there now" in said
    assert said.splitlines()[-1].endswith("--overwrite")
    note = json.loads((run / "annotated" / "stage.json").read_text())
    note["results"]["seconds"] += 1
    (run / "annotated" / "stage.json").write_text(json.dumps(note))
    shutil.rmtree(run / "labels")
    assert state_of(run, "report")["state"] == "old"


def test_student_of_another_annotation_is_outdated(run):
    note = json.loads((run / "annotated" / "stage.json").read_text())
    note["results"] |= {"n_rows": 16, "n_ok": 16, "coverage": 1.0}
    (run / "annotated" / "stage.json").write_text(json.dumps(note))
    assert state_of(run, "train")["state"] == "old"


def test_student_of_gold_alone_needs_no_annotation(run):
    shutil.rmtree(run / "annotated")
    shutil.rmtree(run / "ledger")
    shutil.rmtree(run / "student")
    (run / "baseline").rename(run / "student")
    assert state_of(run, "annotate")["says"] == "not needed: the student learnt from people's labels alone"
    assert run_status(run)["next"].startswith("hf-llambert label")


def test_rows_that_failed_are_counted(run):
    note = json.loads((run / "annotated" / "stage.json").read_text())
    note["results"] |= {"n_failed": 5, "n_ok": 15, "coverage": 0.75}
    (run / "annotated" / "stage.json").write_text(json.dumps(note))
    assert "15 ok; 5 failed" in state_of(run, "annotate")["says"]
    assert "the same command asks about those that failed" in state_of(run, "annotate")["says"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"config": 3}', "\x00\xff", "[" * 100_000])
@pytest.mark.parametrize(
    "name", ["annotated/stage.json", "student/stage.json", "labels/stage.json", "report.json", RUN_FILE]
)
def test_damage_is_a_sentence(run, shown, name, text):
    (run / name).write_bytes(text.encode("latin-1"))
    said = shown(run, expect=0 if name == RUN_FILE else 1)
    assert f"{name}' is damaged" in said
    assert "next: " in said


def test_damaged_ledger_and_manifest_are_no_traceback(run, shown):
    for path in (run / "labels" / ".manifest").glob("*.json"):
        path.write_text("{")
    assert state_of(run, "label")["state"] == "part"
    shutil.rmtree(run / "annotated")
    for path in (run / "ledger").glob("*.sqlite"):
        path.write_bytes(b"no database at all" * 100)
    said = shown(run, expect=1)
    assert re.search(r"annotate +damaged ", said)
    assert "cannot be read" in said


def test_what_is_no_run_is_said(run, shown, tmp_path):
    assert f"There is no folder '{tmp_path / 'nowhere'}'" in shown(tmp_path / "nowhere", expect=1)
    (tmp_path / "file").write_text("x")
    assert "There is no folder" in shown(tmp_path / "file", expect=1)
    (tmp_path / "empty").mkdir()
    assert "holds nothing of a run" in shown(tmp_path / "empty", expect=1)
    assert f"It is one stage of the run '{run}'" in shown(run / "student", expect=1)
    (run / "labels" / "stage.json").unlink()
    assert "it was not made by hf-llambert" in shown(run, expect=1)


def test_money_is_counted_by_the_prices(run, shown, tmp_path, teacher_dir, student_dir):
    names = [Path(folder).name for folder in (teacher_dir, student_dir)]
    table = tmp_path / "prices.yaml"
    table.write_text(yaml.safe_dump({name: {"per_hour": 3600.0, "currency": "EUR"} for name in names}))
    seconds = sum(run_status(run)["cost"]["seconds"].values())
    assert run_status(run, table)["cost"]["money"] == pytest.approx(seconds)
    assert "EUR" in shown(run, "--prices", table)
    table.write_text(yaml.safe_dump({"other": {"per_hour": 1.0, "currency": "EUR"}}))
    assert "has no price of" in shown(run, "--prices", table, expect=1)
    RunNote({"prices": str(table)}, {}).write(run)  # that run was given
    assert "note: no money is counted: " in shown(run)
    for name in ("annotated", "student", "labels"):
        shutil.rmtree(run / name)
    assert run_status(run, table)["cost"]["money"] is None
    assert run_status(run)["notes"] == []


def test_gate_that_is_missed_ends_with_1(run, shown):
    write_report(run, gate={"coverage": {"at_least": 0.1}})
    assert "the gate is passed" in shown(run)
    write_report(run, gate={"coverage": {"at_least": 1}, "eval_rows": {"at_least": 1000}})
    said = shown(run, expect=1)
    assert "the gate is missed" in said
    assert said.splitlines()[-1] == "next: nothing is left to do but to meet the gate"


def test_command_of_a_run_is_what_is_next(run, shown):
    note = RunNote({"prices": None}, {}, "hf-llambert run tiny.yaml --output r", "2026-01-01T00:00:00+00:00")
    note = note.changed(rows={"annotated": 20, "pool": 500})
    shutil.rmtree(run / "labels")
    note.write(run)
    said = shown(run, expect=3)
    assert said.splitlines()[-1] == "next: hf-llambert run tiny.yaml --output r"
    assert "of 500" in said
    note.changed(command=None, asked={"data": "my file.csv", "student": "s"}).write(run)  # a credential was in it
    assert f"next: hf-llambert run TASK --data 'my file.csv' --student s --output {run} ..." in shown(run, expect=3)
    note.changed(finished="2026-01-01T00:00:00+00:00", stages=written_at(run)).write(run)
    assert "next: hf-llambert label" in shown(run, expect=3)


def test_run_that_was_agreed_to_and_killed_at_once_is_a_run(tmp_path, shown):
    RunNote({}, {}, "hf-llambert run x", "2026-01-01T00:00:00+00:00").write(tmp_path / "r")
    said = shown(tmp_path / "r", expect=3)
    assert "task not known yet" in said
    assert said.splitlines()[-1] == "next: hf-llambert run x"


def test_what_asks_now_is_said(tmp_path, teacher_dir):
    labeler = LLMLabeler(make_cloze(), TransformersTeacher(teacher_dir), tmp_path / "r" / "ledger")
    labeler.replies(["a film"])
    from hf_llambert.annotation.turns import one_at_a_time

    with one_at_a_time(tmp_path / "r" / "annotated"):
        assert f"process {os.getpid()} is at it" in state_of(tmp_path / "r", "annotate")["says"]
    assert "is at it" not in state_of(tmp_path / "r", "annotate")["says"]


def test_shipped_task_is_named_where_json_wrote_its_numbers_as_text(run, shown, monkeypatch):
    levels = {"1": ["poor"], "2": ["fair"], "3": ["good"]}
    stars = Scale("stars", ("1", "2", "3"), "How many?", tuple(map(tuple, levels.values())))
    task = TaskSpec("shipped", instruction="{text}", questions=(stars,))
    monkeypatch.setattr("hf_llambert.report.status.builtin_tasks", lambda: ["shipped"])
    monkeypatch.setattr("hf_llambert.report.status.load_task", lambda name: task)
    shutil.rmtree(run / "student")
    path = run / "annotated" / "stage.json"
    note = json.loads(path.read_text())
    for noted, named in ((task.to_dict(), "shipped"), ({**task.to_dict(), "instruction": "Of {text}"}, "TASK")):
        note["config"]["task"] = noted
        path.write_text(json.dumps(note))
        assert json.loads(path.read_text())["config"]["task"]["questions"][0]["verbalizers"] == levels
        assert f"next: hf-llambert train --task {named} " in shown(run, expect=3)


def test_replies_are_no_rows_where_several_are_about_one_text(tmp_path, shown):
    run = tmp_path / "r"
    keys = {f"k{i}": Reply(scores=(0.0, -1.0)) for i in range(25)}
    Ledger(run / "ledger").put(keys, {"teacher": "t"})
    several = TaskSpec("s", (), "{text}", questions=(Scale("a", ("1", "2"), "?"), Scale("b", ("1", "2"), "?")))
    for task, said in (
        (several, "25 .* replies in the ledger, one or several about each text"),
        (make_cloze(), "25 of 60 "),
    ):
        RunNote({"task": task.to_dict()}, {}, "hf-llambert run x", rows={"annotated": 60, "pool": 60}).write(run)
        line = next(one for one in shown(run, expect=3).splitlines() if "annotate" in one)
        assert re.search(said, line)
        assert ("of 60" in line) == (task is not several)
