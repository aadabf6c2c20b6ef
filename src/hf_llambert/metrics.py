"""Metrics of labels, intervals and comparisons: scikit-learn's metrics as `evaluate.Metric`s that compute offline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, t
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from hf_llambert.tasks.questions import ABSTAIN

_BINS = 15


def reliability(confidences: ArrayLike, correct: ArrayLike, bins: int = _BINS) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and number of rows in each equal-width bin of confidence that has any."""
    confidence, right = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[index == b].mean()), float(right[index == b].mean()), int((index == b).sum()))
        for b in np.unique(index)
    ]


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike, bins: int = _BINS) -> float:
    """
    Mean distance between confidence and accuracy over bins of confidence, weighted by rows (Guo et al. 2017, arXiv
    1706.04599). 0 is perfect, 1 the worst.
    """
    parts = reliability(confidences, correct, bins)
    return sum(n * abs(confidence - accuracy) for confidence, accuracy, n in parts) / sum(n for *_, n in parts)


def wilson_interval(hits: float, n: float) -> tuple[float, float]:
    """The 95 % interval of a share of `n` rows (Wilson 1927), from 0 to 1 where there are none; `n` may be no whole number."""
    if not n:
        return 0.0, 1.0
    z2 = float(norm.ppf(0.975)) ** 2
    share = hits / n
    centre, half = share + z2 / (2 * n), math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n)))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if hits <= 0 else max(0.0, low)), (1.0 if hits >= n else min(1.0, high))


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """
    Mean and 95 % interval (Student's t) of a figure over seeds: mean, low, high. NaN bounds for a single value.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike | float = 0.0, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """
    How much more often the first of two students is right, measured on the same texts: difference, low, high (95 %).

    Texts are resampled, and runs with them (Efron and Tibshirani 1993). With three runs or more the interval covers other
    texts and, roughly, other seeds; with one run it is about other texts only. Against 0 it is the interval of the first
    one's accuracy.

    Args:
        first (`ArrayLike` of shape (runs, texts)): Whether each text was labelled right, by run (seed).
        second (`ArrayLike` of the same shape, *optional*): The same of the other student; its runs are paired with the
            first one's. Defaults to 0.
        resamples (`int`, defaults to 2000): Bootstrap samples.
        seed (`int`, defaults to 0): Seed of the resampling.

    Raises:
        ValueError: The two do not cover the same texts.
    """
    right = np.atleast_2d(np.asarray(first, dtype=float))
    if np.ndim(second) and np.atleast_2d(np.asarray(second)).shape != right.shape:
        raise ValueError(
            f"Expected both students on the same texts in as many runs, got shapes {right.shape} and "
            f"{np.atleast_2d(np.asarray(second)).shape}."
        )
    difference = right - np.asarray(second, dtype=float)
    runs, texts = difference.shape
    random = np.random.default_rng(seed)
    means = [
        difference[random.integers(runs, size=runs)].mean(0)[random.integers(texts, size=texts)].mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(difference.mean()), float(low), float(high)


class ClassificationQuality(evaluate.Metric):
    """
    Quality of single-label classification: `compute(predictions=ids, references=ids, labels=names)`.

    `confidences=[...]` adds the expected calibration error `ece` and its bins `reliability`. The result has `accuracy`
    with its 95 % Wilson interval `accuracy_low`, `accuracy_high`, `macro_f1` (over the classes that gold has, named
    in `macro_f1_classes`), `mcc`, `n`, `per_class` (by name:
    precision and recall with theirs, f1 and support; an interval from 0 to 1 where there is no row) and `confusion` (rows: gold,
    columns: predicted).
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__class__.__doc__ or "",
            citation="",
            inputs_description="predictions and references: label ids",
            features=datasets.Features(
                {"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}
            ),
        )

    def _compute(
        self,
        predictions: Sequence[int],
        references: Sequence[int],
        labels: Sequence[str],
        confidences: Sequence[float] | None = None,
    ) -> dict[str, object]:
        predicted, gold = np.asarray(predictions), np.asarray(references)
        ids = list(range(len(labels)))
        for name, values in (("predictions", predicted), ("references", gold)):
            strange = set(values.tolist()) - set(ids)
            if strange:
                raise ValueError(f"Expected {name} from 0 to {len(labels) - 1}, got {sorted(strange)}.")
        if not len(gold):
            raise ValueError("No row has both a label and a gold label, so there is nothing to measure.")
        right = predicted == gold
        low, high = wilson_interval(int(right.sum()), len(right))
        precision, recall, f1, support = precision_recall_fscore_support(gold, predicted, labels=ids, zero_division=0)
        out: dict[str, object] = {
            "accuracy": float(right.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
            "macro_f1": float(f1[support > 0].mean()),
            "macro_f1_classes": [name for name, count in zip(labels, support, strict=True) if count],
            "mcc": float(matthews_corrcoef(gold, predicted)),
            "n": len(gold),
        }
        if confidences is not None:
            out["ece"] = expected_calibration_error(confidences, right)
            out["reliability"] = reliability(confidences, right)
        confusion = confusion_matrix(gold, predicted, labels=ids)
        per_class: dict[str, dict[str, float]] = {}
        for i, name in enumerate(labels):
            hits = int(confusion[i, i])
            precise, recalled = (
                wilson_interval(hits, int(confusion[:, i].sum())),
                wilson_interval(hits, int(support[i])),
            )
            per_class[name] = {
                "precision": float(precision[i]),
                "precision_low": precise[0],
                "precision_high": precise[1],
                "recall": float(recall[i]),
                "recall_low": recalled[0],
                "recall_high": recalled[1],
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
        out["per_class"], out["confusion"] = per_class, confusion.tolist()
        return out


class AnnotationQuality(ClassificationQuality):
    """
    Quality of a teacher's labels against gold: [`ClassificationQuality`] over the rows it labelled (prediction not -1),
    and `coverage`, the share of rows that it labelled.
    """

    def _compute(
        self,
        predictions: Sequence[int],
        references: Sequence[int],
        labels: Sequence[str],
        confidences: Sequence[float] | None = None,
    ) -> dict[str, object]:
        kept = [i for i, label in enumerate(predictions) if label != ABSTAIN]
        quality = super()._compute(
            [predictions[i] for i in kept],
            [references[i] for i in kept],
            labels,
            None if confidences is None else [confidences[i] for i in kept],
        )
        return {"coverage": len(kept) / len(predictions), **quality}
