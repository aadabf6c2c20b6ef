"""The recipe for several questions, and its data."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from datasets import ClassLabel, Dataset

from common import parse_arguments, split_rows
from hf_llambert import Choice, Choices, Scale, StudentConfig, TaskSpec, load_data, load_task, read_pool
from questions import QuestionsArguments, lines
from quickstart_assets import with_injury, with_minutes

ROOT = Path(__file__).parent.parent
QUESTIONS = (
    Choice("mood", ("good", "bad"), "Is it {options}?"),
    Choices("about", ("music", "actors"), "What is it about: {options}?"),
    Scale("stars", ("1", "2", "3"), "How many stars?"),
)


@pytest.fixture
def config(teacher_dir, student_dir, tmp_path):
    """Sixty reviews with answers to three questions, and a small run."""
    TaskSpec("film", instruction="Review: {text}", questions=QUESTIONS, chat=False).to_yaml(tmp_path / "film.yaml")
    words = ("the actors were wonderful", "the music was awful and dull")
    rows = {
        "text": [f"{words[i % 2]} number {i}" for i in range(60)],
        "kind": [("good", "bad")[i % 2] for i in range(60)],
        "about": [[("actors", "music")[i % 2]] if i % 3 else [] for i in range(60)],
        "stars": [(3, 1.5)[i % 2] for i in range(60)],
    }
    Dataset.from_dict(rows).to_parquet(str(tmp_path / "rows.parquet"))
    settings = {
        "data": str(tmp_path / "rows.parquet"), "teacher": teacher_dir, "student": student_dir,
        "task": str(tmp_path / "film.yaml"), "run": str(tmp_path / "run"), "label_column": {"mood": "kind", "about": "about",
        "stars": "stars"}, "prior": {"about": {"music": 0.4, "actors": 0.4}}, "num_held_out": 16, "num_annotated": 24,
        "num_labelled": 12, "max_length": 16, "num_train_epochs": 1, "learning_rate": 5e-3, "use_cpu": True,
        "disable_tqdm": True, "report_to": "none",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "recipe.yaml"


def parse(*arguments):
    return parse_arguments((QuestionsArguments, StudentConfig), [str(one) for one in arguments])[0]


def test_every_question_is_annotated_learnt_measured_labelled_and_reported(
    config, monkeypatch, undrawn_reports, capsys
):
    monkeypatch.setattr(sys, "argv", ["questions", "--config", str(config)])
    runpy.run_path(str(ROOT / "recipes" / "questions.py"), run_name="__main__")
    run = config.parent / "run"
    table = json.loads((run / "table.json").read_text())
    assert {name: one["gold"]["figure"] for name, one in table.items()} == {
        "mood": "accuracy", "about": "micro_f1", "stars": "spearman",
    }  # fmt: skip
    assert all(one[learnt]["n"] == 16 for one in table.values() for learnt in ("silver", "gold"))
    assert all(one["teacher"]["n"] == 24 for one in table.values())
    assert len(read_pool(run / "labels")) == 12
    assert {"llm_mood_label", "llm_about_labels", "llm_stars_value"} <= set(load_data(run).column_names)
    assert "| mood | accuracy |" in capsys.readouterr().out
    assert "stars" in (run / "report.md").read_text()


def test_rows_held_out_are_not_annotated_and_gold_is_in_columns_of_the_questions(config):
    arguments = parse("--config", config)
    held_out, rest = split_rows(arguments, load_task(arguments.task))
    assert set(held_out["text"]).isdisjoint(rest["text"])
    assert {"mood", "about", "stars", "kind"} <= set(held_out.column_names)
    assert [("good", "bad")[i] for i in held_out["mood"]] == held_out["kind"][:]


def test_columns_and_shares_are_read_from_the_command_line_too(config):
    arguments = parse(
        "--config", config, "--label_column", "mood=kind", "--prior", "about:music=0.2", "about:actors=0.3"
    )
    assert arguments.gold_columns == {"mood": "kind"}
    assert arguments.shares == {"about": {"music": 0.2, "actors": 0.3}}
    with pytest.raises(ValueError, match="one student, one seed"):
        parse("--config", config, "--num_seeds", 2)


def test_figure_without_a_value_is_a_dash():
    cells = {"teacher": None, "silver": {"figure": "spearman", "value": None, "low": None, "high": None, "n": 3}}
    assert "| stars | spearman | – | – | – |" in lines({"stars": cells}, "3 rows")


def test_answers_of_the_packaged_data_are_known_by_counting_and_by_the_code():
    news = Dataset.from_dict({"text": ["word " * n for n in (10, 476, 5000)], "label": [0, 1, 2]})
    assert with_minutes(news)["minutes"][:] == [1.0, 2.0, 4.0]
    names = Dataset.from_dict({"code": ["S00.1", "T36", "A00", "Z99"], "text": list("abcd"), "label": [0, 0, 1, 1]})
    names = names.cast_column("label", ClassLabel(names=["x", "y"]))
    assert with_injury(names)["injury"][:] == ["injury", "injury", "other", "other"]
    assert with_injury(names).column_names == ["code", "text", "chapter", "injury"]


@pytest.mark.parametrize("name", ["bbc_questions", "icd_questions"])
def test_packaged_task_asks_the_columns_of_its_data(name, assets):
    task = load_task(ROOT / "recipes" / "tasks" / f"{name}.yaml")
    rows = load_data(assets / f"{name}.parquet")
    assert set(task.parts) <= set(rows.column_names)
    for part, one in task.parts.items():
        assert set(getattr(rows.features[part], "names", one.labels)) == set(one.labels)


def test_file_of_the_page_is_a_task():
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    task = TaskSpec.from_dict(yaml.safe_load(block))
    assert [one.question.kind for one in task.parts.values()] == ["choice", "choices", "scale"]
    assert task.fields == ("first", "second")
