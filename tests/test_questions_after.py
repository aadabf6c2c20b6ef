"""What the commands after annotate say of a task of several questions: train, report, plan and label with a teacher."""

import json

import pytest

from hf_llambert import TaskSpec, cli, read_pool
from hf_llambert.cli.lines import against_lines, curve_lines, seed_lines
from kind_run import TASK, visits

QUICK = ("--use_cpu", "true", "--learning_rate", 5e-3, "--disable_tqdm", "true", "--num_train_epochs", 1)


def call(*arguments) -> None:
    cli.app([*map(str, arguments)], standalone_mode=False)


@pytest.fixture
def files(tmp_path):
    TASK.to_yaml(tmp_path / "task.yaml")
    for number, name in enumerate(("gold", "held", "pool")):
        visits(48, number).to_json(str(tmp_path / f"{name}.jsonl"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_reports")
def test_seeds_curve_and_another_run_are_told_by_question(files, student_dir, capsys, monkeypatch):
    monkeypatch.setattr("hf_llambert.quality.curves._DRAWS", {0.25: 2, 0.5: 2, 1.0: 1})
    common = ["--task", files / "task.yaml", "--student", student_dir, "--eval_data", files / "held.jsonl", *QUICK]
    call("train", *common, "--gold", files / "gold.jsonl", "--output", files / "run", "--seeds", 2, "--curve")
    shown = capsys.readouterr().out
    assert "tone: in accuracy another 48 labels on top of 48 are worth" in shown
    for line in ("tone: accuracy", "topics: micro-F1", "quality: Spearman", "quality: MAE"):
        assert f"{line} over 2 seeds: " in shown
    call("train", *common, "--gold", files / "pool.jsonl", "--output", files / "b")
    call("report", files / "run", "--against", files / "b")
    shown = " ".join(capsys.readouterr().out.split())
    for line in ("tone: accuracy", "topics: share with all labels right", "quality: share within half a step"):
        assert f"{line} of this run's student less that of {files / 'b'}: " in shown
    report = json.loads((files / "run" / "report.json").read_text())["questions"]
    assert {name: one["against"]["n"] for name, one in report.items()} == dict.fromkeys(report, 48)
    text = (files / "run" / "report.md").read_text()
    assert text.count("- less the student of b: ") == 3
    assert "- over 2 seeds micro-F1 is 0." in text
    assert "- over 2 seeds the accuracy is" in text


def test_question_that_is_not_measured_is_said_and_not_read():
    spread = {"values": [0.5, 0.6], "mean": 0.55, "low": 0.1, "high": 1.0}
    summary = {"seeds": [1, 2], "questions": {"tone": {"accuracy": spread, "macro_f1": spread}, "quality": {}}}
    lines = list(seed_lines(summary, TASK))
    assert lines[0] == "tone: accuracy over 2 seeds: 55.0%, 95 % interval 10.0% to 100.0%"
    assert lines[1] == "tone: macro-F1 over 2 seeds: 0.550, 95 % interval 0.100 to 1.000"
    assert lines[2] == "quality: Spearman over 2 seeds: none, some of them has no value"
    assert lines[4].startswith("topics: not measured")
    values = {"figure": "spearman", "values": [0.1, None, 0.2], "n_eval": 9}
    lines = list(curve_lines({"sizes": [4, 8, 16], "questions": {"quality": values}}, TASK))
    assert lines[1].startswith("quality: Spearman has no value for some students")
    assert [line.split(",")[0] for line in (lines[0], lines[2])] == ["tone: not measured", "topics: not measured"]
    found = {"difference": 0.1, "low": 0.0, "high": 0.2, "runs": 1, "n": 9}
    report = {"task": TASK.to_dict(), "questions": {"tone": {"against": found}, "quality": {}, "topics": {}}}
    assert [line.split(",")[0] for line in against_lines(report, "b")][1] == "quality: not compared"


@pytest.mark.slow
def test_seeds_and_another_run_of_one_scale(files, student_dir, capsys):
    TaskSpec("stars", instruction="Visit: {text}", questions=TASK.questions[1:2], chat=False).to_yaml(
        files / "one.yaml"
    )
    common = ["--task", files / "one.yaml", "--student", student_dir, "--eval_data", files / "held.jsonl", *QUICK]
    for run in ("run", "b"):
        call("train", *common, "--gold", files / "gold.jsonl", "--output", files / run, "--seeds", 2)
    assert "\nMAE over 2 seeds: " in capsys.readouterr().out
    call("report", files / "run", "--against", files / "b")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"share within half a step of this run's student less that of {files / 'b'}: +0.0%" in shown
    assert "2 pair(s) of students, 48 texts" in shown


@pytest.mark.slow
def test_cascade_of_three_questions_by_the_command(files, teacher_dir, student_dir, capsys):
    run = files / "run"
    call("train", "--task", files / "task.yaml", "--student", student_dir, "--gold", files / "gold.jsonl",
         "--output", run, *QUICK)  # fmt: skip
    asking = ["--task", files / "task.yaml", "--teacher", teacher_dir, "--max_text_tokens", 24, "--backend", "torch"]
    label = ["label", "--student", run, "--data", files / "pool.jsonl", "--output", run, *asking]
    capsys.readouterr()
    call(*label, "--ask_teacher_below", 0.99, "--max_asked", 5)
    shown = " ".join(capsys.readouterr().out.split())
    assert "The teacher's scores are not calibrated" in shown
    assert "asked about 5 of 48 rows" in shown
    out = read_pool(run / "cascade")
    assert sum(status is not None for status in out["llm_tone_status"][:]) == 5
    assert {"cascade_tone_label", "cascade_quality_value", "cascade_topics_labels"} <= set(out.column_names)
    each = ("--ask_teacher_below", "tone=0.99,quality=0", "--ask_teacher_below", "topics=0")
    call(*label, *each, "--max_asked", 5, "--overwrite")
    noted = json.loads((run / "cascade" / "stage.json").read_text())
    assert noted["results"]["below"] == {"tone": 0.99, "quality": 0.0, "topics": 0.0}
    assert [noted["results"]["questions"][name]["n_by_teacher"] for name in ("tone", "quality", "topics")] == [5, 0, 0]
    call("annotate", "--task", files / "task.yaml", "--teacher", teacher_dir, "--max_text_tokens", 24, "--output", run,
         "--data", files / "gold.jsonl", "--calibration", "batch", "--num_rows", 8)  # fmt: skip
    capsys.readouterr()
    call(*label, "--guarantee", 0.0001, "--gold", files / "held.jsonl", "--overwrite")
    shown = " ".join(capsys.readouterr().out.split())
    assert "not calibrated" not in shown
    for name in ("tone", "quality", "topics"):
        assert f"{name}: below a confidence of" in shown
    noted = json.loads((run / "cascade" / "stage.json").read_text())
    assert noted["config"]["calibration"]["tone"]["method"] == "batch"
    assert noted["results"]["questions"]["quality"]["gold"]["all"]["n"] == 48
