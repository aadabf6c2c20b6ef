"""Metrics of labels, intervals and comparisons: scikit-learn's metrics as `evaluate.Metric`s that compute offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.metrics import (
    cohen_kappa_score,
    confusion_matrix,
    matthews_corrcoef,
    mean_absolute_error,
    precision_recall_fscore_support,
    root_mean_squared_error,
)

from hf_llambert.headline import MAIN, RIGHT  # noqa: F401  (of these figures)
from hf_llambert.intervals import percentile_interval, row_draws, wilson_interval
from hf_llambert.tasks.kinds import Choices, Scale
from hf_llambert.tasks.questions import ABSTAIN

_BINS = 15
_TOGETHER = 50  # bootstrap samples whose rows are counted in one product of matrices


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


def _info(metric: evaluate.Metric, answers: str, feature: object) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=metric.__class__.__doc__ or "",
        citation="",
        inputs_description=f"predictions and references: {answers}",
        features=datasets.Features({"predictions": feature, "references": feature}),
    )


def _of_label(hits: int, given: int, support: int, f1: float) -> dict[str, float]:
    """Precision and recall of a label with their intervals."""
    precise, recalled = wilson_interval(hits, given), wilson_interval(hits, support)
    return {
        "precision": hits / given if given else 0.0,
        "precision_low": precise[0],
        "precision_high": precise[1],
        "recall": hits / support if support else 0.0,
        "recall_low": recalled[0],
        "recall_high": recalled[1],
        "f1": f1,
        "support": support,
    }


def _refuse_missing(metric: str, predictions: Sequence, references: Sequence) -> None:
    for name, values in (("predictions", predictions), ("references", references)):
        if n := sum(value is None for value in values):
            raise ValueError(
                f"Expected an answer in each of {len(values):,} rows, got {n:,} {name} that are None. Leave those rows out, or "
                f"measure with Annotation{metric}, which leaves out missing predictions and counts them."
            )
    if not len(references):
        raise ValueError("No row has both an answer and gold, so there is nothing to measure.")


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
        return _info(self, "label ids", datasets.Value("int32"))

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
        _, _, f1, support = precision_recall_fscore_support(gold, predicted, labels=ids, zero_division=0)
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
        out["per_class"] = {
            name: _of_label(int(confusion[i, i]), int(confusion[:, i].sum()), int(support[i]), float(f1[i]))
            for i, name in enumerate(labels)
        }
        out["confusion"] = confusion.tolist()
        return out


class ChoicesQuality(evaluate.Metric):
    """
    Quality where any of the labels may hold: `compute(predictions=lists of ids, references=lists of ids, labels=names)`.

    `confidences=[...]` (of all labels of a row being right) adds the expected calibration error `ece` and its bins
    `reliability`. The result has `n`; `subset_accuracy`, the share of rows whose labels are all right, with its 95 % Wilson
    interval; `micro_f1`, and `macro_f1` over the labels that gold has (named in `macro_f1_classes`), with 95 % bootstrap
    intervals of rows, the same each time; and `per_class` as in [`ClassificationQuality`]. Where no row is wrong the low ends
    are Wilson's: of all rows, and the mean of those of each label's rows. A figure without a value is None and says why in
    `undefined`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info(self, "lists of label ids", datasets.List(datasets.Value("int32")))

    def _compute(
        self,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        labels: Sequence[str],
        confidences: Sequence[float] | None = None,
    ) -> dict[str, object]:
        _refuse_missing("ChoicesQuality", predictions, references)
        for name, values in (("predictions", predictions), ("references", references)):
            strange = {i for row in values for i in row} - set(range(len(labels)))
            if strange:
                raise ValueError(f"Expected {name} from 0 to {len(labels) - 1}, got {sorted(strange)}.")
        question = Choices("labels", tuple(labels))
        right = question.right(predictions, references)
        given, gold = question.targets(predictions), question.targets(references)
        counts = np.concatenate([given * gold, given, gold], axis=1)
        hits, n_given, support = counts.sum(0).reshape(3, -1)
        f1 = _f1(hits, n_given, support)
        known = support > 0
        low, high = wilson_interval(int(right.sum()), len(right))
        out: dict[str, object] = {
            "n": len(right),
            "subset_accuracy": float(right.mean()),
            "subset_accuracy_low": low,
            "subset_accuracy_high": high,
            "micro_f1": _number(_f1(hits.sum(), n_given.sum(), support.sum())),
            "macro_f1": float(f1[known].mean()) if known.any() else None,
        }
        intervals: list[tuple[float | None, float | None]]
        if right.all():
            each = [wilson_interval(int(n), int(n))[0] for n in support[known]]
            intervals = [(low, 1.0), (float(np.mean(each)) if each else None, 1.0)]
        else:
            micro, macro = _f1_draws(counts.astype(np.float32), known)
            intervals = [percentile_interval(micro), percentile_interval(macro)]
        for name, interval in zip(("micro_f1", "macro_f1"), intervals, strict=True):
            out[f"{name}_low"], out[f"{name}_high"] = interval if out[name] is not None else (None, None)
        out["macro_f1_classes"] = [name for name, there in zip(labels, known, strict=True) if there]
        if confidences is not None:
            out["ece"] = expected_calibration_error(confidences, right)
            out["reliability"] = reliability(confidences, right)
        out["per_class"] = {
            name: _of_label(int(hits[i]), int(n_given[i]), int(support[i]), float(np.nan_to_num(f1[i])))
            for i, name in enumerate(labels)
        }
        why = {"micro_f1": "no row has or was given a label", "macro_f1": "gold has no label in any row"}
        out["undefined"] = {name: reason for name, reason in why.items() if out[name] is None}
        return out


class ScaleQuality(evaluate.Metric):
    """
    Quality of answers on a scale: `compute(predictions=numbers, references=numbers, labels=levels)`.

    The result has `n`, `mae`, `rmse`, `pearson`, `spearman`; `kappa` (quadratic weights), `accuracy` with its 95 % Wilson
    interval and `confusion` (rows: gold, columns: predicted) of the nearest levels; `within_half_step`, the share of answers
    that are at most half a step off, with its interval; and `f1` of being at least `cut` (the middle of the scale unless
    given). `mae`, `spearman`, `kappa` and `f1` have 95 % bootstrap intervals of rows, the same each time, such as `mae_low`;
    None where all resamples are alike. A figure without a value is None and says why in `undefined`.

    `confidences=[...]` (of the level) adds the expected calibration error `ece` and its bins `reliability`, by `accuracy`.
    """

    def _info(self) -> evaluate.MetricInfo:
        return _info(self, "numbers on the scale", datasets.Value("float64"))

    def _compute(
        self,
        predictions: Sequence[float],
        references: Sequence[float],
        labels: Sequence[str],
        confidences: Sequence[float] | None = None,
        cut: float | None = None,
    ) -> dict[str, object]:
        _refuse_missing("ScaleQuality", predictions, references)
        scale = Scale("scale", tuple(labels))
        levels, size = scale.levels, len(labels)
        predicted, gold = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
        span = np.ptp(levels)
        for name, values in (("predictions", predicted), ("references", gold)):
            off = values[~((values >= levels[0] - 1e-6 * span) & (values <= levels[-1] + 1e-6 * span))]  # NaN too
            if len(off):
                raise ValueError(
                    f"Expected {name} from {labels[0]} to {labels[-1]}, got {off[0]:g} in {len(off):,} rows."
                )
        cut = float((levels[0] + levels[-1]) / 2) if cut is None else float(cut)
        ids = np.array(scale.nearest(predicted.tolist())), np.array(scale.nearest(gold.tolist()))
        right = ids[0] == ids[1]
        over, under = predicted >= cut, gold >= cut
        counts = np.stack([over & under, over, under]).astype(float)
        low, high = wilson_interval(int(right.sum()), len(right))
        near = scale.right(predictions, references)
        near_low, near_high = wilson_interval(int(near.sum()), len(near))
        constant = [name for name, one in (("answers", predicted), ("gold", gold)) if np.ptp(one) < 1e-9 * span]
        alike = len(np.unique(np.concatenate(ids))) < 2
        out: dict[str, object] = {
            "n": len(gold),
            "mae": float(mean_absolute_error(gold, predicted)),
            "rmse": float(root_mean_squared_error(gold, predicted)),
            "pearson": None if constant else float(np.corrcoef(predicted, gold)[0, 1]),
            "spearman": None if constant else float(np.corrcoef(rankdata(predicted), rankdata(gold))[0, 1]),
            "kappa": None if alike else float(cohen_kappa_score(*ids, labels=range(size), weights="quadratic")),
            "accuracy": float(right.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
            "within_half_step": float(near.mean()),
            "within_half_step_low": near_low,
            "within_half_step_high": near_high,
            "f1": _number(_f1(*counts.sum(1))),
            "cut": cut,
        }
        for name, drawn in _scale_draws(predicted, gold, ids, size, counts).items():
            interval = (None, None) if out[name] is None else percentile_interval(drawn)
            out[f"{name}_low"], out[f"{name}_high"] = interval
        if confidences is not None:
            out["ece"] = expected_calibration_error(confidences, right)
            out["reliability"] = reliability(confidences, right)
        out["confusion"] = confusion_matrix(ids[1], ids[0], labels=range(size)).tolist()
        why = dict.fromkeys(("pearson", "spearman"), f"all {' and '.join(constant)} are one number")
        why |= {"kappa": "all answers and gold are of one level", "f1": f"no answer and no gold is at least {cut:g}"}
        out["undefined"] = {name: reason for name, reason in why.items() if out[name] is None}
        return out


class _Covering:
    """Leaves out the rows without an answer and adds `coverage`, the share of rows that have one."""

    missing: ClassVar[object] = None

    def _compute(
        self,
        predictions: Sequence,
        references: Sequence,
        labels: Sequence[str],
        confidences: Sequence[float] | None = None,
        **more: object,
    ) -> dict[str, object]:
        kept = [i for i, answer in enumerate(predictions) if answer is not None and answer != self.missing]
        quality = super()._compute(  # type: ignore[misc]  # a mixin
            [predictions[i] for i in kept],
            [references[i] for i in kept],
            labels,
            None if confidences is None else [confidences[i] for i in kept],
            **more,
        )
        return {"coverage": len(kept) / len(predictions), **quality}


class AnnotationQuality(_Covering, ClassificationQuality):
    """
    Quality of a teacher's labels against gold: [`ClassificationQuality`] over the rows it labelled (prediction not -1),
    and `coverage`, the share of rows that it labelled.
    """

    missing = ABSTAIN


class AnnotationChoicesQuality(_Covering, ChoicesQuality):
    """[`ChoicesQuality`] over the rows whose prediction is not None, and `coverage`, the share of those rows."""


class AnnotationScaleQuality(_Covering, ScaleQuality):  # type: ignore[misc]  # it takes a cut too
    """[`ScaleQuality`] over the rows whose prediction is not None, and `coverage`, the share of those rows."""


METRICS: dict[str, type[evaluate.Metric]] = {
    "choice": ClassificationQuality,
    "choices": ChoicesQuality,
    "scale": ScaleQuality,
}
"""The metric of answers as gold has them, by the kind of a question."""
ANNOTATION_METRICS: dict[str, type[evaluate.Metric]] = {
    "choice": AnnotationQuality,
    "choices": AnnotationChoicesQuality,
    "scale": AnnotationScaleQuality,
}
"""The same where an answer may be missing."""


def _number(value: ArrayLike) -> float | None:
    number = float(np.asarray(value))
    return None if np.isnan(number) else number


def _f1(hits: ArrayLike, given: ArrayLike, support: ArrayLike) -> NDArray[np.float64]:
    """F1 from counts, NaN where there is nothing to count."""
    total = np.asarray(given, dtype=float) + np.asarray(support, dtype=float)
    return np.divide(2 * np.asarray(hits, dtype=float), total, out=np.full_like(total, np.nan), where=total > 0)


def _f1_draws(counts: NDArray[np.float32], known: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """Micro- and macro-F1 in bootstrap samples. A label of which a sample has no gold is left out of that mean."""
    draws = list(row_draws(len(counts)))
    parts = [np.stack(draws[k : k + _TOGETHER]).astype(np.float32) @ counts for k in range(0, len(draws), _TOGETHER)]
    hits, given, support = np.concatenate(parts).reshape(len(draws), 3, -1).transpose(1, 0, 2)
    there = (support > 0) & known
    sums = np.where(there, np.nan_to_num(_f1(hits, given, support)), 0).sum(1)
    macro = np.divide(sums, there.sum(1), out=np.full(len(draws), np.nan), where=there.any(1))
    return _f1(hits.sum(1), given.sum(1), support.sum(1)), macro


def _scale_draws(
    predicted: NDArray, gold: NDArray, ids: tuple[NDArray, NDArray], size: int, counts: NDArray
) -> dict[str, list[float]]:
    """The figures of a scale that have bootstrap intervals, in bootstrap samples; NaN where one has no value."""
    off = np.abs(predicted - gold)
    places = [np.unique(values, return_inverse=True)[1] for values in (predicted, gold)]
    cells, apart = ids[1] * size + ids[0], (np.subtract.outer(np.arange(size), np.arange(size)) ** 2).astype(float)
    out: dict[str, list[float]] = {"mae": [], "spearman": [], "kappa": [], "f1": []}
    for drawn in row_draws(len(gold)):
        out["mae"].append(float(drawn @ off) / len(gold))
        ranks = []
        for place in places:  # the mean rank of equal values
            times = np.bincount(place, weights=drawn)
            ranks.append((np.cumsum(times) - times / 2)[place] - len(gold) / 2)
        spread = [float(drawn @ (rank * rank)) for rank in ranks]
        both = float(drawn @ (ranks[0] * ranks[1]))
        out["spearman"].append(both / float(np.sqrt(spread[0] * spread[1])) if min(spread) > 1e-9 else float("nan"))
        table = np.bincount(cells, weights=drawn, minlength=size * size).reshape(size, size)
        chance = float((np.outer(table.sum(1), table.sum(0)) * apart).sum()) / len(gold)
        out["kappa"].append(1 - float((table * apart).sum()) / chance if chance > 0 else float("nan"))
        out["f1"].append(float(_f1(*(counts @ drawn))))
    return out
