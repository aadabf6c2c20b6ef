import sys

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features

from hf_llambert import Calibration, TaskSpec, drop_label_errors, select_silver

TASK = TaskSpec("t", ("negative", "positive"), "{text}", chat=False)


def annotated(labels, status=None, confidence=None, scores=None):
    n = len(labels)
    return Dataset.from_dict(
        {
            "text": [f"text {i}" for i in range(n)],
            "label": [1] * n,
            "llm_label": labels,
            "llm_confidence": confidence or [0.9] * n,
            "llm_scores": scores or [[-1.0, -2.0]] * n,
            "llm_status": status or ["ok" if label >= 0 else "abstained" for label in labels],
        }
    )


def rows(silver):
    return [int(text.split()[1]) for text in silver["text"]]


def test_silver_is_what_is_usable_and_gold_is_kept_apart():
    silver, counts = select_silver(annotated([0, -1, 1, -1], ["ok", "abstained", "ok", "failed"]), TASK)
    assert silver["label"][:] == [0, 1]
    assert silver["gold_label"][:] == [1, 1]
    assert [(count["rule"], count["n"]) for count in counts] == [("annotated", 4), ("usable label", 2)]
    assert counts[-1]["per_label"] == {"negative": 1, "positive": 1}


def test_silver_of_one_label_only_is_refused_with_counts():
    with pytest.raises(ValueError, match=r"at least two labels.*'abstained': 1.*\{'negative': 2, 'positive': 0\}"):
        select_silver(annotated([0, 0, -1], ["ok", "ok", "abstained"]), TASK)
    with pytest.raises(ValueError, match="after confidence of at least 0.95.*select less strictly"):
        select_silver(annotated([0, 1, 1], confidence=[0.99, 0.5, 0.5]), TASK, min_confidence=0.95)
    with pytest.raises(ValueError, match="Pass a dataset annotated by LLMLabeler"):
        select_silver(Dataset.from_dict({"text": ["x"]}), TASK)


def test_confidence_is_a_threshold_and_a_missing_one_is_below_it():
    data = annotated([0, 1, 0, 1], confidence=[0.6, 0.8, None, 0.7])
    silver, counts = select_silver(data, TASK, min_confidence=0.6)
    assert rows(silver) == [0, 1, 3]
    assert counts[-1] == {
        "rule": "confidence of at least 0.6",
        "n": 3,
        "per_label": {"negative": 1, "positive": 2},
    }
    assert rows(select_silver(data, TASK)[0]) == [0, 1, 2, 3]


def test_surest_share_is_taken_of_each_label_in_the_old_order():
    data = annotated([0, 0, 0, 0, 1, 1], confidence=[0.5, 0.9, 0.6, 0.8, 0.51, 0.52])
    silver, _ = select_silver(data, TASK, keep_share=0.5)
    assert rows(silver) == [1, 3, 5]


def test_balance_keeps_as_many_as_the_rarest_label_has():
    data = annotated([0, 0, 0, 1, 1], confidence=[0.5, 0.9, 0.6, 0.8, 0.51])
    silver, counts = select_silver(data, TASK, balance=True)
    assert rows(silver) == [1, 2, 3, 4]
    assert counts[-1]["per_label"] == {"negative": 2, "positive": 2}


def test_agreement_counts_every_teacher_and_an_abstention_is_none():
    first = annotated([0, 1, 1, 0])
    others = [annotated([0, 1, 0, -1]), annotated([0, 0, 1, -1])]
    assert rows(select_silver(first, TASK, others=others[:1])[0]) == [0, 1]
    silver, counts = select_silver(first, TASK, others=others, min_agreement=0.6)
    assert rows(silver) == [0, 1, 2]
    assert counts[-1]["rule"] == "agreement of at least 60% of 3 teachers"


def test_other_teachers_must_have_annotated_the_same_rows():
    first = annotated([0, 1, 1])
    with pytest.raises(ValueError, match="same 3 rows in the same order"):
        select_silver(first, TASK, others=[annotated([0, 1, 1]).select([1, 0, 2])])


@pytest.mark.parametrize("wrong", [{"min_confidence": 1.5}, {"keep_share": 0}, {"min_agreement": -1}])
def test_shares_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        select_silver(annotated([0, 1]), TASK, **wrong)


def test_probabilities_are_the_calibrated_ones_and_certain_without_scores():
    data = annotated([0, 1, 1], scores=[[-1.0, -2.0], [-3.0, -1.0], None])
    calibration = Calibration("batch", (0.5, -0.5), 2.0)
    silver, _ = select_silver(data, TASK, calibration=calibration)
    expected = calibration.probabilities([[-1.0, -2.0], [-3.0, -1.0]])
    assert np.allclose(silver["probabilities"][:2], expected)
    assert silver["probabilities"][2] == [0.0, 1.0]


def noisy():
    random = np.random.default_rng(0)
    truth = random.integers(2, size=200)
    flipped = random.permutation(200)[:30]
    labels = truth.copy()
    labels[flipped] = 1 - labels[flipped]
    p = np.clip(np.where(truth == 1, 0.9, 0.1) + random.normal(0, 0.05, 200), 0, 1)
    silver, _ = select_silver(annotated(labels.tolist()), TASK)
    return silver, np.c_[1 - p, p], set(flipped.tolist())


def test_label_errors_are_found_and_dropped():
    silver, p, flipped = noisy()
    left, count = drop_label_errors(silver, TASK, p)
    dropped = set(range(200)) - set(rows(left))
    assert len(dropped & flipped) >= 28
    assert len(dropped - flipped) <= 2
    assert count["n"] == len(left) == sum(count["per_label"].values())


def test_probabilities_of_other_rows_are_refused():
    silver, p, _ = noisy()
    with pytest.raises(ValueError, match=r"shape \(200, 2\), got \(199, 2\)"):
        drop_label_errors(silver, TASK, p[1:])


def test_missing_cleanlab_names_the_extra(monkeypatch):
    silver, p, _ = noisy()
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ImportError, match=r"hf-llambert\[noise\]"):
        drop_label_errors(silver, TASK, p)


def test_other_teachers_with_their_labels_in_another_order_are_refused():
    names = Features({**annotated([0, 1]).features, "llm_label": ClassLabel(names=["positive", "negative"])})
    with pytest.raises(ValueError, match="annotated with labels .'positive', 'negative'."):
        select_silver(annotated([0, 1]), TASK, others=[annotated([0, 1]).cast(names)])


def test_rows_with_a_missing_number_are_the_same_rows():
    data = annotated([0, 1, 1]).add_column("stars", [1.0, float("nan"), None])
    silver, _ = select_silver(data, TASK, others=[data])
    assert len(silver) == 3


def test_share_never_drops_a_whole_label():
    labels = [0] * 10 + [1]
    silver, _ = select_silver(annotated(labels), TASK, keep_share=0.3)
    assert silver["label"][:] == [0, 0, 0, 1]


@pytest.mark.parametrize("rule", [{"keep_share": 0.5}, {"balance": True}])
def test_surest_rows_need_confidences(rule):
    data = annotated([0, 1, 1, 0], confidence=[None, 0.8, 0.9, 0.9])
    with pytest.raises(ValueError, match="some usable rows have no llm_confidence"):
        select_silver(data, TASK, **rule)


def test_nothing_usable_is_explained_by_every_rule():
    for data in (annotated([-1, -1]), annotated([]), annotated([0, 1], confidence=[0.1, 0.1])):
        with pytest.raises(ValueError, match="at least two labels to tell apart"):
            select_silver(data, TASK, balance=True, min_confidence=0.5)


def test_columns_are_not_written_over():
    data = annotated([0, 1]).add_column("gold_label", [0, 1]).add_column("probabilities", [[0.5, 0.5]] * 2)
    with pytest.raises(ValueError, match="'gold_label', 'probabilities'. would be written over"):
        select_silver(data, TASK, calibration=Calibration("none", (0.0, 0.0), 1.0))


def test_answers_without_scores_have_all_on_their_label():
    data = annotated([0, 1]).remove_columns("llm_scores")
    silver, _ = select_silver(data, TASK, calibration=Calibration("none", (0.0, 0.0), 1.0))
    assert silver["probabilities"][:] == [[1, 0], [0, 1]]


def test_probabilities_of_a_diverged_training_are_refused():
    with pytest.raises(ValueError, match="not numbers: a training of the folds' students diverged"):
        drop_label_errors(select_silver(annotated([0, 1] * 5), TASK)[0], TASK, np.full((10, 2), np.nan))
