"""A run of three questions on a Hub: what is read back, and what its cards say."""

import json

import pytest
import yaml

from hf_llambert import (
    LLMLabeler,
    StudentLabeler,
    annotate,
    compare_labels,
    label_pool,
    load_data,
    select_silver,
    train_student,
)
from hf_llambert.gold import with_gold
from hub_fixtures import client, environment, hub  # noqa: F401
from kind_run import TASK, ReadingTeacher, visits
from test_training import arguments

pytestmark = [pytest.mark.usefixtures("undrawn_reports"), pytest.mark.slow]


def test_three_questions_come_back_from_the_hub_as_they_were(hub, client, student_dir, tmp_path):  # noqa: F811
    run, gold = tmp_path / "run", {one.name: one.name for one in TASK.questions}
    labeler = LLMLabeler(TASK, ReadingTeacher(str(tmp_path / "asked")), run / "ledger")
    annotate(visits(40, 1), labeler, run / "annotated", gold_column=gold, show_progress=False)
    silver, selection = select_silver(load_data(run), TASK)
    held_out = with_gold(visits(40, 2), "text", gold, TASK)
    args = arguments(tmp_path, num_train_epochs=1)
    train_student(TASK, student_dir, run / "student", args, silver=silver, selection=selection, eval_data=held_out)
    label_pool(visits(30, 3), StudentLabeler(run / "student"), run / "labels", show_progress=False)
    compare_labels(run)
    with pytest.raises(RuntimeError, match="A demo asks one question"):
        client.push(run, "tester/visits", space=True)
    client.push(run, "tester/visits")
    script = """
        import json
        from datasets import load_dataset
        from hf_llambert import StudentLabeler
        name = "tester/visits"
        labels = load_dataset(name, "labels", split="train")
        print(json.dumps({
            "stored": {c: labels[c][:] for c in labels.column_names if c.startswith("student_")},
            "computed": StudentLabeler.from_pretrained(name).label(labels["text"][:]),
            "columns": {c: load_dataset(name, c, split="train").column_names for c in ("annotations", "silver")},
        }))
    """
    found = json.loads(client.run(script).splitlines()[-1])
    for end in ("tone_label", "quality_label", "topics_labels", "topics_scores"):
        assert found["stored"][f"student_{end}"] == found["computed"][f"student_{end}"], end
    assert {"llm_tone_label", "llm_quality_value", "llm_topics_labels"} <= set(found["columns"]["annotations"])
    assert not set(gold) & set(found["columns"]["annotations"])
    files = hub.files("model", "tester/visits")
    assert {"README.md", "config.json", "training.json", "model.safetensors"} <= set(files)
    assert not {"stage.json", "evaluation.parquet", "silver.parquet"} & set(files)
    head = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    (card,) = head["model-index"]
    first = {one["dataset"]["config"]: one["metrics"][0]["type"] for one in card["results"]}
    assert first == {"tone": "accuracy", "quality": "spearmanr", "topics": "f1"}
    assert "answers 3 questions" in files["README.md"].decode()
