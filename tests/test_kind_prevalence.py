"""Shares of labels of which several hold, and means of scales: their intervals hold the truth."""

import numpy as np
import pytest

from hf_llambert import label_prevalence, scale_mean
from test_quality_stats import draws_with_truth

LABELS = ("joy", "anger", "fear")
SHARES = np.array([0.5, 0.2, 0.05])
FLIPS = np.array([0.1, 0.2, 0.02])


def ids(rows):
    return [np.flatnonzero(row).tolist() for row in rows]


@pytest.mark.parametrize("k", range(3))
def test_intervals_of_each_label_hold_the_truth(k):
    def interval(random):
        gold = random.random((300, 3)) < SHARES
        student = gold ^ (random.random((300, 3)) < FLIPS)
        counts = random.binomial(20_000, SHARES * (1 - FLIPS) + (1 - SHARES) * FLIPS)
        found = label_prevalence(ids(gold), ids(student), counts, 20_000, LABELS)[LABELS[k]]
        return found["low"], found["high"]

    assert 0.92 <= draws_with_truth(SHARES[k], interval) <= 0.985


def test_label_of_several_is_a_share_of_texts():
    found = label_prevalence([[0, 1], [0], [], [0]] * 50, [[0], [0], [1], [0]] * 50, [750, 250, 0], 1000, LABELS)
    assert found["joy"]["share"] == pytest.approx(0.75)
    assert found["anger"]["counted"] == 0.25
    assert found["fear"]["share"] == 0 < found["fear"]["high"] < 0.1


@pytest.mark.parametrize(("bias", "noise", "rows"), [(0.5, 0.3, 300), (0.0, 1.0, 300), (-0.3, 0.5, 40)])
def test_intervals_of_a_mean_hold_the_truth(bias, noise, rows):
    random = np.random.default_rng(7)
    pool_gold = random.choice([1.0, 2.0, 3.0, 4.0, 5.0], 50_000, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    pool = np.clip(pool_gold + bias + random.normal(0, noise, len(pool_gold)), 1, 5)
    truth = pool_gold.mean()

    def interval(random):
        drawn = random.integers(len(pool), size=rows)
        found = scale_mean(pool_gold[drawn], pool[drawn], pool.mean(), pool.var(), len(pool), (1, 5))
        return found["low"], found["high"]

    assert 0.92 <= draws_with_truth(truth, interval) <= 0.985


def test_good_student_narrows_the_mean_and_a_lopsided_one_is_put_right():
    random = np.random.default_rng(0)
    gold = random.choice([1.0, 3.0, 5.0], 200)
    widths = []
    for student in (np.clip(gold + 0.4, 1, 5), random.permutation(gold)):
        found = scale_mean(gold, student, student.mean(), student.var(), 100_000, (1, 5))
        assert found["low"] < gold.mean() < found["high"]
        widths.append(found["high"] - found["low"])
    assert widths[0] < widths[1] / 2


def test_gold_that_is_all_alike_is_not_certain():
    found = scale_mean([3.0] * 5, [3.0] * 5, 3.0, 0.5, 1000, (1, 5))
    assert found["value"] == 3
    assert found["low"] < 2 < 4 < found["high"] <= 5


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (label_prevalence, ([[0]], [[0]], [1, 0, 0], 10, LABELS), "two texts with people's answers or more, got 1"),
        (label_prevalence, ([[0]] * 2, [[0]], [1, 0, 0], 10, LABELS), "for each of people's, got 1 for 2"),
        (label_prevalence, ([[0]] * 2, [[0]] * 2, [11, 0, 0], 10, LABELS), "how many of 10 texts"),
        (scale_mean, ([1.0, 2.0], [1.0, 2.0], 1.0, 0.1, 0, (1, 5)), "a pool of one text or more"),
    ],
)
def test_what_cannot_be_counted_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)
