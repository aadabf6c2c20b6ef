"""Conditions about each of several questions, and about figures that only some kinds have."""

import pytest
import yaml

from hf_llambert import check_gate, load_gate
from hf_llambert.quality.gate import Condition


def question(name, kind):
    ends = {"levels": [1, 2, 3]} if kind == "scale" else {"labels": ["a", "b"]}
    return {"name": name, "kind": kind, "ask": "?", **ends}


def part(name, kind, **figures):
    task = {"name": "sick", "questions": [question(name, kind)]}
    return {"task": task, "teacher": {"coverage": 0.9, "n_failed": 1}, "student": figures or None}


REPORT = {
    "task": {
        "questions": [question("entailment", "choice"), question("quality", "scale"), question("tags", "choices")]
    },
    "n_annotated": 100,
    "teacher": {"n_failed": 2},
    "drift": {"p": 0.5, "auc": 0.51},
    "questions": {
        "entailment": part("entailment", "choice", accuracy=0.85, accuracy_low=0.8, accuracy_high=0.9, n=50),
        "quality": part(
            "quality",
            "scale",
            mae=0.4,
            spearman=None,
            kappa=0.5,
            n=50,
            undefined={"spearman": "all gold are one number"},
        ),
        "tags": part("tags", "choices"),
    },
}


def judged(conditions):
    found = check_gate(REPORT, load_gate(conditions))["conditions"]
    return {one["name"]: (one["passed"], one["why"]) for one in found}


def test_condition_is_about_one_question(tmp_path):
    flat = {
        "entailment.accuracy": {"at_least": 0.8, "certain": True},
        "quality.mae": {"at_most": 0.5},
        "quality.kappa": {"at_least": 0.6},
        "drift_p": {"at_least": 0.01},
        "failed": {"at_most": 0.02},
        "tags.coverage": {"at_least": 0.9},
    }
    nested = {
        "entailment": {"accuracy": {"at_least": 0.8, "certain": True}},
        "quality": {"mae": {"at_most": 0.5}, "kappa": {"at_least": 0.6}},
        "drift_p": {"at_least": 0.01},
        "failed": {"at_most": 0.02},
        "tags": {"coverage": {"at_least": 0.9}},
    }
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(nested, sort_keys=False))
    assert load_gate(flat) == load_gate(tmp_path / "gate.yaml")
    assert judged(flat) == {name: (name != "quality.kappa", "") for name in flat}


def test_figure_without_a_value_is_missed_with_the_reason():
    found = judged({"quality.spearman": {"at_least": 0.5}, "tags.micro_f1": {"at_least": 0.5}})
    assert found["quality.spearman"] == (False, "all gold are one number")
    assert found["tags.micro_f1"] == (False, "there is no student")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("entailmnt.accuracy", "no question 'entailmnt'. Did you mean entailment"),
        ("accuracy", "of which is 'accuracy' in the gate. Write entailment.accuracy"),
        ("quality.macro_f1", "kind scale has no 'macro_f1' for the gate"),
        ("tags.accuracy", "kind choices has no 'accuracy' for the gate. Did you mean subset_accuracy"),
        ("tags.teacher_accuracy", "has no 'teacher_accuracy' for the gate. Did you mean teacher_subset_accuracy"),
        ("entailment.spearman", "kind choice has no 'spearman'"),
    ],
)
def test_question_or_figure_that_is_not_there_is_refused(name, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        check_gate(REPORT, [Condition(name, at_least=0.5)])


def test_figure_that_no_question_has_is_refused_at_once():
    with pytest.raises(ValueError, match="no figure 'spearmann'. Did you mean spearman"):
        load_gate({"quality.spearmann": {"at_least": 0.5}})
    with pytest.raises(ValueError, match=r"Expected \{at_least: number\}.* for 'quality.mae'"):
        load_gate({"quality": {"mae": {"atleast": 1}}})


def test_same_condition_written_both_ways_is_refused(tmp_path):
    (tmp_path / "gate.yaml").write_text("a.mae: {at_most: 1}\na: {mae: {at_most: 2}}")
    with pytest.raises(ValueError, match=r"two conditions for a\.mae"):
        load_gate(tmp_path / "gate.yaml")


def test_only_question_may_be_named_or_not():
    report = {"task": {"questions": [question("quality", "scale")]}, **part("quality", "scale", spearman=0.8, n=9)}
    for name in ("spearman", "quality.spearman"):
        assert check_gate(report, [Condition(name, at_least=0.7)])["passed"]
    with pytest.raises(ValueError, match="kind scale has no 'macro_f1'"):
        check_gate(report, [Condition("macro_f1", at_least=0.7)])
    with pytest.raises(ValueError, match="It has one question: write 'accuracy'"):
        check_gate({"task": {"labels": ["a", "b"]}, "student": None}, [Condition("x.accuracy", at_least=0.7)])
