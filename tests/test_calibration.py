import numpy as np
import pytest
from datasets import Dataset
from scipy.special import log_softmax

from fakes import CountingTeacher
from hf_llambert import (
    Calibration,
    LLMLabeler,
    TaskSpec,
    batch_calibration,
    calibrate,
    contextual_calibration,
    fitted_calibration,
)
from hf_llambert.annotation.calibration import uncalibrated


def scores_of(rows, labels, temperature, bias, seed=0):
    """Gold labels, and scores of a teacher that is over-confident by `temperature` and leans by `bias`."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(rows, labels)) * 2
    gold = np.array([rng.choice(labels, p=np.exp(row)) for row in log_softmax(true, axis=1)])
    return (true - np.array(bias)) * temperature - 3.0, gold


def test_uncalibrated_normalises_over_the_labels():
    p = uncalibrated(2).probabilities([[np.log(0.03), np.log(0.01)]])
    assert p == pytest.approx(np.array([[0.75, 0.25]]))


def test_batch_calibration_undoes_a_lean_to_one_label():
    scores, gold = scores_of(2000, 3, 1.0, (2.0, 0.0, -1.0))
    raw = (scores.argmax(1) == gold).mean()
    calibrated = (batch_calibration(scores).probabilities(scores).argmax(1) == gold).mean()
    assert calibrated > raw + 0.05


def test_batch_calibration_is_the_published_formula_with_the_prior():
    p = np.array([[0.9, 0.1], [0.6, 0.4]])
    expected = p / p.mean(0) * np.array([0.2, 0.8])
    found = batch_calibration(np.log(p), prior=[0.2, 0.8]).probabilities(np.log(p))
    assert found == pytest.approx(expected / expected.sum(1, keepdims=True))


def test_contextual_calibration_makes_content_free_texts_follow_the_prior():
    free = np.log([[0.7, 0.2, 0.1]]) - 4
    assert contextual_calibration(free).probabilities(free) == pytest.approx(np.full((1, 3), 1 / 3))
    prior = [0.5, 0.3, 0.2]
    assert contextual_calibration(free, prior).probabilities(free) == pytest.approx(np.array([prior]))


@pytest.mark.parametrize("labels", [2, 4])
def test_fitted_calibration_finds_temperature_and_bias(labels):
    bias = np.linspace(-1, 1, labels)
    scores, gold = scores_of(6000, labels, 3.0, bias)
    found = fitted_calibration(scores, gold)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert np.array(found.bias) - np.mean(found.bias) == pytest.approx(bias, abs=0.15)
    p = found.probabilities(scores)
    assert p.max(1).mean() == pytest.approx((p.argmax(1) == gold).mean(), abs=0.02)


def test_fitted_calibration_without_a_label_is_refused():
    with pytest.raises(ValueError, match=r"none of label ids \[1\].*use batch calibration"):
        fitted_calibration([[0.0, -1.0], [-1.0, 0.0]], [0, 0])


def test_scores_that_point_away_from_gold_are_refused():
    scores, gold = scores_of(200, 2, 1.0, (0, 0))
    with pytest.raises(ValueError, match="point away from the gold labels"):
        fitted_calibration(-scores, gold)


@pytest.mark.parametrize("prior", [[0.5], [0.5, 0.6], [1.0, 0.0], [-0.5, 1.5]])
def test_prior_that_is_none_is_refused(prior):
    with pytest.raises(ValueError, match="prior of 2 positive shares that sum to 1"):
        batch_calibration([[0.0, -1.0]], prior)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="Expected finite scores"):
        batch_calibration([[0.0, -1.0], [float("nan"), 0.0]])


@pytest.mark.parametrize("scores", [[], [0.0, 1.0], np.zeros((0, 2))])
def test_no_scores_are_refused(scores):
    with pytest.raises(ValueError, match="shape"):
        batch_calibration(scores)


def test_calibrating_afterwards_equals_calibrating_while_labeling(tmp_path):
    task = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)
    teacher = CountingTeacher(str(tmp_path / "asked"))
    data = Dataset.from_dict({"text": ["x" * i for i in range(9)], "after": list(range(9))})

    def labelled(calibration=None):
        labeler = LLMLabeler(task, teacher, tmp_path / "ledger", calibration=calibration)
        return data.map(labeler, batched=True, features=labeler.features(data))

    raw = labelled()
    found = Calibration("fitted", (1.5, 0.0), temperature=2.0)
    later = calibrate(raw, task, found)
    assert later.to_list() == labelled(found).to_list()
    assert later.features == raw.features
    assert later["llm_label"][:] != raw["llm_label"][:]
    assert later["llm_label"][0] == -1  # the empty text


def test_calibrating_without_a_calibration_is_batch_calibration(tmp_path):
    task = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)
    labeler = LLMLabeler(task, CountingTeacher(str(tmp_path / "asked")), tmp_path / "ledger")
    data = Dataset.from_dict({"text": ["x" * i for i in range(9)]})
    raw = data.map(labeler, batched=True, features=labeler.features(data))
    assert calibrate(raw, task).to_list() == calibrate(raw, task, batch_calibration(raw["llm_scores"][1:])).to_list()
