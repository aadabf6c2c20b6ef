"""Figures of answers that are several labels or a number, their intervals, and what has no value."""

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score, f1_score

from hf_llambert import AnnotationChoicesQuality, AnnotationScaleQuality, ChoicesQuality, ScaleQuality
from hf_llambert.intervals import percentile_interval, row_draws
from hf_llambert.metrics import ANNOTATION_METRICS, MAIN, METRICS
from hf_llambert.tasks.kinds import KINDS, Choices, Scale

TAGS = ("joy", "anger", "fear", "none seen")
LEVELS = ("0", "1", "2", "3", "4", "5")


def tags(rows, seed=0):
    random = np.random.default_rng(seed)
    gold = random.random((rows, 3)) < (0.5, 0.2, 0.1)
    given = gold ^ (random.random((rows, 3)) < 0.1)
    return [[np.flatnonzero(row).tolist() for row in one] for one in (given, gold)]


def scores(rows, seed=0, noise=0.7):
    random = np.random.default_rng(seed)
    gold = random.integers(0, 6, rows).astype(float)
    return np.clip(gold + random.normal(0, noise, rows), 0, 5), gold


def dense(rows):
    return Choices("tags", TAGS).targets(rows).astype(int)


def test_figures_of_several_labels_are_those_of_scikit_learn():
    given, gold = tags(300)
    out = ChoicesQuality(keep_in_memory=True).compute(predictions=given, references=gold, labels=TAGS)
    assert out["micro_f1"] == pytest.approx(f1_score(dense(gold), dense(given), average="micro"))
    assert out["macro_f1"] == pytest.approx(f1_score(dense(gold)[:, :3], dense(given)[:, :3], average="macro"))
    assert out["subset_accuracy"] == pytest.approx((dense(gold) == dense(given)).all(1).mean())
    assert out["macro_f1_classes"] == list(TAGS[:3])
    assert out["per_class"]["none seen"] == {
        **{"precision": 0, "precision_low": 0, "precision_high": 1, "recall": 0, "recall_low": 0, "recall_high": 1},
        **{"f1": 0, "support": 0},
    }
    for name in ("subset_accuracy", "micro_f1", "macro_f1"):
        assert out[f"{name}_low"] < out[name] < out[f"{name}_high"], name
    assert out["undefined"] == {}


def test_figures_of_a_scale_are_those_of_scipy_and_scikit_learn():
    given, gold = scores(300)
    out = ScaleQuality(keep_in_memory=True).compute(predictions=given, references=gold, labels=LEVELS)
    assert out["mae"] == pytest.approx(np.abs(given - gold).mean())
    assert out["rmse"] == pytest.approx(np.sqrt(((given - gold) ** 2).mean()))
    assert out["pearson"] == pytest.approx(pearsonr(given, gold).statistic)
    assert out["spearman"] == pytest.approx(spearmanr(given, gold).statistic)
    near = np.rint(given).astype(int)
    assert out["kappa"] == pytest.approx(cohen_kappa_score(gold.astype(int), near, weights="quadratic"))
    assert out["accuracy"] == pytest.approx((near == gold).mean())
    assert np.sum(out["confusion"]) == 300
    assert out["confusion"][5][4] == ((gold == 5) & (near == 4)).sum()
    assert (out["cut"], out["f1"]) == (2.5, pytest.approx(f1_score(gold >= 2.5, given >= 2.5)))
    for name in ("mae", "spearman", "kappa", "f1", "accuracy"):
        assert out[f"{name}_low"] < out[name] < out[f"{name}_high"], name


def test_resampled_figures_are_those_of_the_rows_that_were_drawn():
    from hf_llambert.metrics import _f1_draws, _scale_draws

    given, gold = scores(60)
    given = np.round(given, 1)  # equal answers share a rank
    ids = [np.array(Scale("s", LEVELS).nearest(values)) for values in (given, gold)]
    over, under = given >= 2.5, gold >= 2.5
    found = _scale_draws(given, gold, ids, 6, np.stack([over & under, over, under]).astype(float))
    some, some_gold = tags(60)
    counts = np.concatenate([dense(some) * dense(some_gold), dense(some), dense(some_gold)], 1).astype("float32")
    micro, macro = _f1_draws(counts, dense(some_gold).any(0))
    for k, drawn in zip(range(20), row_draws(60), strict=False):
        rows = np.repeat(np.arange(60), drawn)
        assert found["mae"][k] == pytest.approx(np.abs(given - gold)[rows].mean())
        assert found["spearman"][k] == pytest.approx(spearmanr(given[rows], gold[rows]).statistic)
        kappa = cohen_kappa_score(ids[0][rows], ids[1][rows], labels=range(6), weights="quadratic")
        assert found["kappa"][k] == pytest.approx(kappa)
        assert found["f1"][k] == pytest.approx(f1_score(under[rows], over[rows]))
        assert micro[k] == pytest.approx(f1_score(dense(some_gold)[rows], dense(some)[rows], average="micro"))
        there = dense(some_gold)[rows].any(0)
        each = f1_score(dense(some_gold)[rows], dense(some)[rows], average=None, zero_division=0)
        assert macro[k] == pytest.approx(each[there].mean())


def test_bootstrap_intervals_hold_the_truth():
    """95 % of intervals hold it: of 50 runs 41 or fewer do in one of 3,000."""
    whole = dict(zip(("predictions", "references"), scores(200_000, seed=9), strict=True))
    truth = ScaleQuality(keep_in_memory=True).compute(**whole, labels=LEVELS)
    whole = dict(zip(("predictions", "references"), tags(20_000, seed=9), strict=True))
    truth |= ChoicesQuality(keep_in_memory=True).compute(**whole, labels=TAGS)
    hits = dict.fromkeys(("mae", "spearman", "kappa", "f1", "micro_f1", "macro_f1"), 0)
    for seed in range(50):
        given, gold = scores(150, seed=seed)
        found = ScaleQuality(keep_in_memory=True).compute(predictions=given, references=gold, labels=LEVELS)
        given, gold = tags(150, seed=seed)
        found |= ChoicesQuality(keep_in_memory=True).compute(predictions=given, references=gold, labels=TAGS)
        for name in hits:
            hits[name] += found[f"{name}_low"] <= truth[name] <= found[f"{name}_high"]
    assert min(hits.values()) > 41, hits


def test_intervals_are_the_same_each_time():
    given, gold = scores(100)
    first, second = (
        ScaleQuality(keep_in_memory=True).compute(predictions=given, references=gold, labels=LEVELS) for _ in "ab"
    )
    assert first == second


def test_answers_that_never_change_have_no_correlation_and_say_why():
    gold = [1.0, 2.0, 3.0]
    out = ScaleQuality(keep_in_memory=True).compute(predictions=[2.0] * 3, references=gold, labels=LEVELS)
    assert (out["spearman"], out["pearson"], out["spearman_low"]) == (None, None, None)
    assert out["undefined"] == {"pearson": "all answers are one number", "spearman": "all answers are one number"}
    out = ScaleQuality(keep_in_memory=True).compute(predictions=[2.0], references=[2.0], labels=LEVELS)
    assert (out["kappa"], out["f1"], out["mae"], out["mae_high"]) == (None, None, 0, None)
    assert out["undefined"]["f1"] == "no answer and no gold is at least 2.5"
    assert not any(isinstance(value, float) and math.isnan(value) for value in out.values())


def test_texts_without_any_label_have_no_f1_and_say_why():
    out = ChoicesQuality(keep_in_memory=True).compute(predictions=[[], []], references=[[], []], labels=TAGS)
    assert (out["subset_accuracy"], out["micro_f1"], out["macro_f1"]) == (1.0, None, None)
    assert out["undefined"] == {
        "micro_f1": "no row has or was given a label",
        "macro_f1": "gold has no label in any row",
    }


def test_faultless_answers_are_not_certainly_so():
    _, gold = tags(50)
    out = ChoicesQuality(keep_in_memory=True).compute(predictions=gold, references=gold, labels=TAGS)
    assert (out["micro_f1"], out["micro_f1_high"]) == (1, 1)
    assert out["micro_f1_low"] == out["subset_accuracy_low"] == pytest.approx(0.929, abs=1e-3)
    assert out["macro_f1_low"] < out["micro_f1_low"]
    assert percentile_interval([1.0, 1.0]) == (None, None)


def test_cut_of_a_scale_may_be_given():
    given, gold = scores(300)
    out = ScaleQuality(keep_in_memory=True).compute(predictions=given, references=gold, labels=LEVELS, cut=3)
    assert (out["cut"], out["f1"]) == (3, pytest.approx(f1_score(gold >= 3, given >= 3)))


def test_missing_answers_lower_coverage_alone():
    out = AnnotationChoicesQuality(keep_in_memory=True).compute(
        predictions=[[0], None, []], references=[[0], [1], [2]], labels=TAGS, confidences=[0.9, 0.0, 0.6]
    )
    assert (out["coverage"], out["n"], out["subset_accuracy"]) == (pytest.approx(2 / 3), 2, 0.5)
    assert out["ece"] == pytest.approx((0.1 + 0.6) / 2)
    out = AnnotationScaleQuality(keep_in_memory=True).compute(
        predictions=[-1.0, None], references=[1.0, 0.0], labels=("-1", "0", "1"), cut=0.5
    )
    assert (out["coverage"], out["n"], out["mae"], out["cut"]) == (0.5, 1, 2.0, 0.5)


@pytest.mark.parametrize(
    ("metric", "given", "gold", "labels", "message"),
    [
        (ChoicesQuality, [[7]], [[0]], TAGS, r"Expected predictions from 0 to 3, got \[7\]"),
        (ChoicesQuality, [[0], None], [[0], [1]], TAGS, "each of 2 rows, got 1 predictions that are None"),
        (ScaleQuality, [1.0], [None], LEVELS, "got 1 references that are None"),
        (ScaleQuality, [1.0], [7.0], LEVELS, "Expected references from 0 to 5, got 7 in 1 rows"),
        (ScaleQuality, [math.nan], [1.0], LEVELS, "Expected predictions from 0 to 5, got nan"),
        (AnnotationScaleQuality, [None], [1.0], LEVELS, "nothing to measure"),
    ],
)
def test_answers_that_cannot_be_measured_are_refused(metric, given, gold, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(keep_in_memory=True).compute(predictions=given, references=gold, labels=labels)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_metric_and_its_main_figure(kind):
    question = KINDS[kind]("q", ("1", "2", "3"))
    gold = question.gold([["1"], ["2", "3"], ["3"]] if kind == "choices" else ["1", "2", "3"], "q")
    gold = gold * 5
    given = [*gold[:2], gold[0]] * 5
    out = METRICS[kind](keep_in_memory=True).compute(predictions=given, references=gold, labels=question.labels)
    assert out[f"{MAIN[kind]}_low"] <= out[MAIN[kind]] <= out[f"{MAIN[kind]}_high"]
    assert question.right(given, gold).tolist() == [True, True, False] * 5
    covered = ANNOTATION_METRICS[kind](keep_in_memory=True).compute(
        predictions=[question.missing, *given], references=[gold[0], *gold], labels=question.labels
    )
    assert covered == {"coverage": 15 / 16, **out}


def test_half_a_step_off_is_right():
    scale = Scale("s", ("1", "2", "4"))
    assert scale.half_step == 0.5
    assert scale.right(np.float32([1.5, 2.6, 3.3]), [1, 2, 4]).tolist() == [True, False, False]
