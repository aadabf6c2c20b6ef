import numpy as np
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from hf_llambert import AnnotationQuality, ClassificationQuality
from hf_llambert.intervals import fisher_p
from hf_llambert.metrics import expected_calibration_error

GOLD = [0, 0, 1, 1, 2, 2, 2]
ANSWERED = [0, 1, 1, 1, 2, 0, 2]
NAMES = ("a", "b", "c")


def test_figures_are_those_of_scikit_learn():
    out = ClassificationQuality().compute(predictions=ANSWERED, references=GOLD, labels=NAMES)
    assert out["accuracy"] == pytest.approx(accuracy_score(GOLD, ANSWERED))
    assert out["macro_f1"] == pytest.approx(f1_score(GOLD, ANSWERED, average="macro"))
    assert out["mcc"] == pytest.approx(matthews_corrcoef(GOLD, ANSWERED))
    found = {"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "support": 2}
    assert {name: out["per_class"]["b"][name] for name in found} == pytest.approx(found)
    assert out["confusion"] == [[1, 1, 0], [0, 2, 0], [1, 0, 2]]
    assert out["accuracy_low"] < out["accuracy"] < out["accuracy_high"]


def test_interval_is_wilsons():
    out = ClassificationQuality().compute(predictions=[1] * 8 + [0] * 2, references=[1] * 10, labels=("a", "b"))
    assert (out["accuracy_low"], out["accuracy_high"]) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_a_label_that_never_comes_up_keeps_its_place():
    out = ClassificationQuality().compute(predictions=[0, 1], references=[0, 1], labels=NAMES)
    assert out["per_class"]["c"]["support"] == 0
    assert len(out["confusion"]) == 3


def test_abstained_rows_lower_coverage_and_not_accuracy():
    out = AnnotationQuality().compute(
        predictions=[0, -1, 1, -1], references=[0, 0, 0, 1], labels=("a", "b"), confidences=[0.9, 0.0, 0.7, 0.0]
    )
    assert (out["coverage"], out["accuracy"], out["n"]) == (0.5, 0.5, 2)
    assert out["ece"] == pytest.approx((0.1 + 0.7) / 2)


def test_calibration_error_of_known_bins():
    assert expected_calibration_error([0.8] * 10, [1] * 8 + [0] * 2) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 4, [1, 1, 0, 0]) == pytest.approx(0.5)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == pytest.approx(0)


def test_nothing_to_measure_is_an_error():
    with pytest.raises(ValueError, match="nothing to measure"):
        AnnotationQuality().compute(predictions=[-1], references=[0], labels=("a", "b"))


def test_ids_outside_the_labels_are_named():
    with pytest.raises(ValueError, match=r"Expected predictions from 0 to 1, got \[7\]"):
        ClassificationQuality().compute(predictions=[7], references=[0], labels=("a", "b"))


def test_macro_f1_is_over_the_classes_that_gold_has_and_says_which():
    out = ClassificationQuality().compute(predictions=[0, 1, 1, 2], references=[0, 1, 1, 1], labels=NAMES)
    assert out["macro_f1_classes"] == ["a", "b"]
    assert out["macro_f1"] == pytest.approx((1.0 + 0.8) / 2)
    assert out["per_class"]["c"]["f1"] == 0


def test_fisher_p_is_that_of_scipy():
    random = np.random.default_rng(0)
    for most in (1, 3, 30, 1000, 20_000):
        for table in random.integers(0, most + 1, (60, 2, 2)).tolist():
            assert fisher_p(table) == pytest.approx(fisher_exact(table).pvalue, rel=1e-6, abs=1e-300), table
