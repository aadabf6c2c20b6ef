"""Notes of tasks of several questions have the figures of each by its name."""

import json

import pytest

from hf_llambert import TaskSpec
from hf_llambert.metrics import METRICS
from hf_llambert.misfits import misfit
from hf_llambert.notes import ANNOTATION, CALIBRATION, QUALITY, SEEDS, TRAINED, read_stage, task_shape
from hf_llambert.tasks.kinds import KINDS


def quality(kind):
    question = KINDS[kind]("q", ("1", "2", "3"))
    gold = question.gold([["1"], ["2", "3"], ["3"]] if kind == "choices" else ["1", "2", "3"], "q") * 5
    found = METRICS[kind](keep_in_memory=True).compute(
        predictions=[*gold[1:], gold[0]], references=gold, labels=question.labels, confidences=[0.5] * 15
    )
    return json.loads(json.dumps(found))


COUNTS = {
    **{
        "n_rows": 15,
        "n_ok": 15,
        "n_abstained": 0,
        "n_failed": 0,
        "n_truncated": 0,
        "coverage": 1.0,
        "label_mass": 0.9,
    },
    **{"reasons": {}, "labels": {"1": 5, "2": 5, "3": 5}, "calibration": None},
}
SPENT = {
    **{"n_rows": 15, "n_failed": 0, "n_truncated": 0, "seconds": 1.0, "texts_per_second": 15.0, "mode": "score"},
    **{"input_tokens": 9, "output_tokens": 0, "settings": {}},
}
QUESTIONS = {kind: {**COUNTS, "quality": quality(kind)} for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_each_kind_fit_and_wrong_ones_are_named(kind):
    found = quality(kind)
    assert misfit(found, QUALITY) is None
    main = {"choice": "macro_f1", "choices": "micro_f1", "scale": "kappa"}[kind]
    assert f"at '{main}', got a number: 2.0" in misfit({**found, main: 2.0}, QUALITY)
    assert f"at '{main}', which is missing" in misfit({k: v for k, v in found.items() if k != main}, QUALITY)
    assert "'n'" in misfit({**found, "n": -1}, QUALITY)


def test_figures_of_nearest_levels_agree_with_their_table():
    assert "as 'confusion' has it, at 'accuracy'" in misfit({**quality("scale"), "accuracy": 0.9}, QUALITY)


def test_annotated_results_of_several_questions_fit():
    note = {**SPENT, "questions": QUESTIONS}
    assert misfit(note, ANNOTATION) is None
    assert misfit({**note, "questions": {"scale": {**COUNTS, "n_ok": 3}}}, ANNOTATION).startswith(
        "questions.scale: expected 'n_ok' of 'n_rows' to be 'coverage'"
    )
    jury = {k: v for k, v in COUNTS.items() if k not in ("label_mass", "calibration")}
    jury["jury"] = {"method": "mean", "n_ties": 0, "agreement": {"a": 0.5}, "believed": {}}
    members = {"a": {**SPENT, "questions": QUESTIONS}}
    assert misfit({**note, "questions": {"scale": jury}, "members": members}, ANNOTATION) is None
    wrong = {**QUESTIONS, "scale": {**COUNTS, "quality": {**quality("scale"), "mae": -1}}}
    assert misfit({**note, "questions": wrong}, ANNOTATION).startswith(
        "expected a number from 0 at 'questions.scale.quality.mae', got a whole number: -1"
    )


def test_figures_of_a_student_stand_by_question_or_flat():
    train = {"n": 9, "n_silver": 9, "n_gold": 0, "seed": 1, "seconds": 1.0, "student": "x", "selection": []}
    for kind in KINDS:
        assert misfit({"train": train, "eval": {**quality(kind), "texts_per_second": 3.0}}, TRAINED) is None
    several = {kind: {**quality(kind), "texts_per_second": 3.0} for kind in KINDS}
    assert misfit({"train": {**train, "selection": {"scale": []}}, "eval": several}, TRAINED) is None
    assert "'eval.scale.kappa'" in misfit(
        {"train": train, "eval": {**several, "scale": {**several["scale"], "kappa": "x"}}}, TRAINED
    )


def test_spread_over_seeds_stands_by_question():
    spread = {"values": [0.5, 0.6], "mean": 0.55, "low": -0.1, "high": 1.2}
    note = {"seeds": [1, 2], "n": 9, "training": "x", "questions": {"relatedness": {"spearman": spread}}}
    assert misfit(note, SEEDS) is None
    assert "'questions.relatedness.spearman.mean'" in misfit(
        {**note, "questions": {"relatedness": {"spearman": {**spread, "mean": None}}}}, SEEDS
    )


def test_calibration_may_say_the_kind_that_it_is_of():
    plain = {"method": "batch", "bias": [0.1, 0.2], "temperature": 1.0}
    assert misfit(plain, CALIBRATION) is misfit({**plain, "kind": "scale"}, CALIBRATION) is None
    assert "expected one of choice, choices, scale, got a string" in misfit({**plain, "kind": "tags"}, CALIBRATION)


def test_stage_of_several_questions_is_read(tmp_path):
    ask = {"ask": "Which: {options}?"}
    task = {
        "name": "t",
        "instruction": "{text}",
        "questions": [
            {"name": "choice", "kind": "choice", "labels": ["1", "2", "3"], **ask},
            {"name": "choices", "kind": "choices", "labels": ["1", "2", "3"], **ask},
            {"name": "scale", "kind": "scale", "levels": [1, 2, 3], **ask},
        ],
    }
    assert task_shape(TaskSpec.from_dict(task).to_dict()) is None
    plain = {"method": "batch", "bias": [0.1, 0.2], "temperature": 1.0}
    config = {
        "task": TaskSpec.from_dict(task).to_dict(),
        "text_column": "text",
        "gold_column": {"choice": "choice", "choices": ["a", "b"], "scale": None},
        "labeler_calibration": {"choice": plain, "scale": {**plain, "kind": "scale"}},
    }
    path = tmp_path / "stage.json"
    path.write_text(json.dumps({"config": config, "results": {**SPENT, "questions": QUESTIONS}}))
    assert read_stage(path, "annotated")["results"]["questions"]["scale"]["quality"] == quality("scale")
    config["labeler_calibration"]["scale"]["bias"] = 3
    path.write_text(json.dumps({"config": config, "results": {**SPENT, "questions": QUESTIONS}}))
    with pytest.raises(OSError, match="a list at 'config.labeler_calibration.scale.bias'"):
        read_stage(path, "annotated")
