"""Metrics of labels, intervals and comparisons: scikit-learn's metrics as `evaluate.Metric`s that compute offline."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from hf_llambert.intervals import wilson_interval
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
