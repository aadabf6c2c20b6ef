"""
Calibration: scores to probabilities to labels. Nothing here asks the teacher about a text.

Every method gives a temperature and a bias per label: `p = softmax(log_softmax(scores) / temperature + bias)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Value
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from hf_llambert.tasks.spec import TaskSpec

CONTENT_FREE = ("N/A", "[MASK]", "…")
"""Texts that say nothing, for contextual calibration. After Zhao et al. 2021 (arXiv 2102.09690), without the empty one."""


@dataclass(frozen=True)
class Calibration:
    """
    A temperature and one bias per label.

    Args:
        method (`str`): How it was found: `none`, `contextual`, `batch` or `fitted`.
        bias (`tuple[float, ...]`): Added to each label's log-probability, in label order.
        temperature (`float`, defaults to 1): Divides the log-probabilities.
    """

    method: str
    bias: tuple[float, ...]
    temperature: float = 1.0

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the labels, (rows, labels), from scores of the same shape."""
        return softmax(log_softmax(_matrix(scores), axis=1) / self.temperature + np.array(self.bias), axis=1)


def uncalibrated(num_labels: int) -> Calibration:
    """The teacher's own probabilities, normalised over the labels."""
    return Calibration("none", (0.0,) * num_labels)


def batch_calibration(scores: ArrayLike, prior: Sequence[float] | None = None) -> Calibration:
    """
    Divide out the mean probability of each label over a sample of texts (Zhou et al. 2023, arXiv 2309.17249).

    Args:
        scores (`ArrayLike` of shape (rows, labels)): The teacher's scores of unlabeled texts.
        prior (`Sequence[float]`, *optional*): Share of each label that the sample is believed to have. Defaults to
            uniform.
    """
    mean = softmax(_matrix(scores), axis=1).mean(0)
    return Calibration("batch", tuple(np.log(_prior(prior, len(mean))) - np.log(mean)))


def contextual_calibration(content_free: ArrayLike, prior: Sequence[float] | None = None) -> Calibration:
    """
    Divide out the teacher's probabilities for texts without content (Zhao et al. 2021, arXiv 2102.09690).

    Args:
        content_free (`ArrayLike` of shape (texts, labels)): Scores of such texts; see
            [`LLMLabeler.content_free_scores`].
        prior (`Sequence[float]`, *optional*): Believed share of each label. Defaults to uniform.
    """
    mean = softmax(_matrix(content_free), axis=1).mean(0)
    return Calibration("contextual", tuple(np.log(_prior(prior, len(mean))) - np.log(mean)))


def fitted_calibration(scores: ArrayLike, gold: Sequence[int]) -> Calibration:
    """
    Temperature and bias from some gold labels, by logistic regression on pairs of labels.

    Each row compares its gold label with every other one. That is the likelihood itself for two labels and a
    consistent stand-in for more (individualised logits, Begg and Gray 1984). The penalty is scikit-learn's default.

    Args:
        scores (`ArrayLike` of shape (rows, labels)): The teacher's scores of the rows.
        gold (`Sequence[int]`): Their gold label ids.

    Raises:
        ValueError: A label has no gold row, or the scores point away from the gold labels.
    """
    logp = log_softmax(_matrix(scores), axis=1)
    labels = logp.shape[1]
    gold_ids = np.asarray(gold)
    missing = sorted(set(range(labels)) - set(gold_ids.tolist()))
    if len(gold_ids) != len(logp) or missing:
        raise ValueError(
            f"Fitted calibration needs a gold label for each row and at least one row of each label; got "
            f"{len(gold_ids)} gold labels for {len(logp)} rows, none of label ids {missing}. Add gold, or use batch "
            f"calibration, which needs none."
        )
    features, first_won = [], []
    for row, label in zip(logp, gold_ids, strict=True):
        for other in range(labels):
            if other != label:
                low, high = sorted((int(label), other))
                one_hot = np.zeros(labels)
                one_hot[low], one_hot[high] = 1, -1
                features.append(np.r_[row[low] - row[high], one_hot])
                first_won.append(label == low)
    slope, *bias = LogisticRegression(fit_intercept=False).fit(np.array(features), first_won).coef_[0]
    if slope <= 0:
        raise ValueError(
            f"The teacher's scores point away from the gold labels (slope {slope:.3f} over {len(logp)} rows). Check "
            f"the verbalizers and the order of the gold label ids."
        )
    return Calibration("fitted", tuple(float(b) for b in bias), 1 / float(slope))


def calibrate(annotated: Dataset, task: TaskSpec, calibration: Calibration | None = None) -> Dataset:
    """
    Label an annotated dataset anew from its `llm_scores`. Rows without scores keep the label they have.

    Args:
        annotated (`Dataset`): With the columns of [`LLMLabeler`].
        task (`TaskSpec`): The task that it was annotated for.
        calibration (`Calibration`, *optional*): What to apply. Defaults to batch calibration over these very rows.

    Returns:
        `Dataset`: The same rows with new `llm_label` and `llm_confidence`.
    """
    rows, scores = scored_rows(annotated)
    labels, confidences = list(annotated["llm_label"]), list(annotated["llm_confidence"])
    if rows:
        calibration = calibration or batch_calibration(scores)
        for row, p in zip(rows, calibration.probabilities(scores), strict=True):
            labels[row], confidences[row] = int(p.argmax()), float(p.max())
    features = {"llm_label": ClassLabel(names=list(task.labels)), "llm_confidence": Value("float32")}
    order = annotated.column_names
    out = annotated.remove_columns(list(features))
    out = out.add_column("llm_label", labels, feature=features["llm_label"])
    return out.add_column("llm_confidence", confidences, feature=features["llm_confidence"]).select_columns(order)


def scored_rows(annotated: Dataset) -> tuple[list[int], NDArray[np.float64]]:
    """Numbers of the rows that have scores, and the scores, (rows, labels)."""
    column = annotated["llm_scores"]
    rows = [i for i, scores in enumerate(column) if scores is not None]
    return rows, np.array([column[i] for i in rows], dtype=np.float64)


def _matrix(scores: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or not len(matrix):
        raise ValueError(f"Expected scores of shape (rows, labels) with at least one row, got {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError("Expected finite scores, got NaN or infinity. Annotate again with dtype float32.")
    return matrix


def _prior(prior: Sequence[float] | None, labels: int) -> NDArray[np.float64]:
    if prior is None:
        return np.full(labels, 1 / labels)
    values = np.asarray(prior, dtype=np.float64)
    if values.shape != (labels,) or (values <= 0).any() or abs(values.sum() - 1) > 1e-6:
        raise ValueError(f"Expected a prior of {labels} positive shares that sum to 1, got {list(prior)}.")
    return values
