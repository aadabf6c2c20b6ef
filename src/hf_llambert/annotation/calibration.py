"""
Calibration: scores to probabilities to labels. Nothing here asks the teacher about a text.

Every method gives a temperature and a bias per label: `p = softmax(log_softmax(scores) / temperature + bias)`; where several
labels may hold, `p = sigmoid(scores / temperature + bias)`. The biases of a scale lie on a line over its levels, so that no
level passes another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from datasets import Dataset, Features, Value, concatenate_datasets
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.linear_model import LogisticRegression

from hf_llambert.tasks.question import Question
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
        kind (`str`, defaults to `"choice"`): The kind of question; see [`Question`].
    """

    method: str
    bias: tuple[float, ...]
    temperature: float = 1.0
    kind: str = "choice"

    def probabilities(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of the labels, (rows, labels), from scores of the same shape."""
        return _LINKS[self.kind](_matrix(scores), self.temperature, np.array(self.bias))

    def to_dict(self) -> dict[str, object]:
        """The calibration as a stage notes it."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("kind", "choice")}


def _one_holds(scores: NDArray, temperature: float, bias: NDArray) -> NDArray[np.float64]:
    return softmax(log_softmax(scores, axis=1) / temperature + bias, axis=1)


def _any_holds(scores: NDArray, temperature: float, bias: NDArray) -> NDArray[np.float64]:
    return expit(scores / temperature + bias)


_LINKS: dict[str, Callable[[NDArray, float, NDArray], NDArray[np.float64]]] = {
    "choice": _one_holds,
    "choices": _any_holds,
    "scale": _one_holds,
}


def uncalibrated(num_labels: int, kind: str = "choice") -> Calibration:
    """The teacher's own probabilities, normalised over the labels where only one holds."""
    return Calibration("none", (0.0,) * num_labels, kind=kind)


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
        raise _points_away(slope, len(logp))
    return Calibration("fitted", tuple(float(b) for b in bias), 1 / float(slope))


def _points_away(slope: float, rows: int) -> ValueError:
    return ValueError(
        f"The teacher's scores point away from the gold labels (slope {slope:.3f} over {rows} rows). Check "
        f"the verbalizers and the order of the gold label ids."
    )


def calibration_of(
    method: str,
    question: Question,
    scores: ArrayLike,
    content_free: ArrayLike | None = None,
    gold: Sequence[object] = (),
    prior: Sequence[float] | None = None,
) -> Calibration | None:
    """
    The calibration of a question of any kind.

    Args:
        method (`str`): `none`, `batch`, `contextual` or `fitted`.
        question (`Question`): What was asked.
        scores (`ArrayLike` of shape (rows, labels)): The teacher's scores: for `fitted` of the rows with gold, else of a
            sample.
        content_free (`ArrayLike` of shape (texts, labels), *optional*): Scores of texts that say nothing, for `contextual`.
        gold (`Sequence`, *optional*): People's answers as [`Question.gold`] gives them, for `fitted`.
        prior (`Sequence[float]`, *optional*): Believed share of each label. Defaults to uniform; of a scale only its mean
            counts. Where several labels may hold, `batch` needs one: what share of texts a label has is not to be guessed.

    Returns:
        `Calibration`, or `None` where nothing is to be changed: `none`, or `batch` without the prior that it needs.

    Raises:
        ValueError: As the method's own function.
    """
    if method == "none":
        return None
    return _METHODS[question.kind](method, _Given(question, scores, content_free, gold, prior))


class _Given(NamedTuple):
    """What a question is calibrated by; see [`calibration_of`]."""

    question: Question
    scores: ArrayLike
    content_free: ArrayLike | None
    gold: Sequence
    prior: Sequence[float] | None


def _of_choice(method: str, given: _Given) -> Calibration:
    if method == "fitted":
        return fitted_calibration(given.scores, given.gold)
    if method == "contextual":
        return contextual_calibration(np.asarray(given.content_free), given.prior)
    return batch_calibration(given.scores, given.prior)


def _of_scale(method: str, given: _Given) -> Calibration:
    levels = np.array([float(label) for label in given.question.labels])
    place = (levels - levels.mean()) / (levels[-1] - levels[0])
    logp = log_softmax(_matrix(given.content_free if method == "contextual" else given.scores), axis=1)  # type: ignore[arg-type]
    if method == "fitted":
        targets = given.question.targets(given.gold)
        _check_fit(logp, targets)

        def loss(x: NDArray) -> float:
            return float(-(targets * log_softmax(logp * np.exp(x[0]) + x[1] * place, axis=1)).sum(1).mean())

        slope, tilt = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-4, 4), (-30, 30)]).x
        return Calibration("fitted", tuple((tilt * place).tolist()), float(np.exp(-slope)), "scale")
    wanted = float(_prior(given.prior, len(levels)) @ place)
    wanted = min(max(wanted, place[0] + _EDGE), place[-1] - _EDGE)

    def above(tilt: float) -> float:
        return float((softmax(logp + tilt * place, axis=1) @ place).mean()) - wanted

    return Calibration(method, tuple((_root(above) * place).tolist()), kind="scale")


def _of_choices(method: str, given: _Given) -> Calibration | None:
    check_prior(given.question, given.prior)
    if method == "fitted":
        targets, found = given.question.targets(given.gold), _matrix(given.scores)
        _check_fit(found, targets)
        one_hot = np.tile(np.eye(found.shape[1]), (len(found), 1))
        pairs = np.column_stack([found.ravel(), one_hot])
        slope, *bias = LogisticRegression(fit_intercept=False).fit(pairs, targets.ravel()).coef_[0]
        if slope <= 0:
            raise _points_away(slope, len(found))
        return Calibration("fitted", tuple(float(b) for b in bias), 1 / float(slope), "choices")
    if method == "contextual":
        nothing = _matrix(given.content_free).mean(0)  # type: ignore[arg-type]
        return Calibration("contextual", tuple((_logits(given.prior) - nothing).tolist()), kind="choices")
    if given.prior is None:
        return None
    bias = [
        _root(lambda b, s=of_label, p=share: float(expit(s + b).mean()) - p)  # type: ignore[misc]
        for of_label, share in zip(_matrix(given.scores).T, given.prior, strict=True)
    ]
    return Calibration("batch", tuple(bias), kind="choices")


def check_prior(question: Question, prior: Sequence[float] | None) -> None:
    """Raise a `ValueError` where believed shares of the labels cannot be: where one label holds they sum to 1."""
    if prior is not None:
        _PRIORS[question.kind](question, prior)


def _shares_of_one(question: Question, prior: Sequence[float]) -> None:
    try:
        _prior(prior, len(question.labels))
    except ValueError as error:
        raise ValueError(f"{error} It is that of '{question.name}'.") from error


def _shares_of_each(question: Question, prior: Sequence[float]) -> None:
    shares = np.asarray(prior, dtype=np.float64)
    if shares.shape != (len(question.labels),) or not ((shares > 0) & (shares < 1)).all():
        raise ValueError(
            f"Expected a prior of {len(question.labels)} shares between 0 and 1 for '{question.name}', got {list(prior)}."
        )


_PRIORS = {"choice": _shares_of_one, "choices": _shares_of_each, "scale": _shares_of_one}
_METHODS = {"choice": _of_choice, "choices": _of_choices, "scale": _of_scale}
_EDGE = 1e-3  # of the scale's width: its mean is never quite at an end


def _logits(prior: Sequence[float] | None) -> NDArray[np.float64]:
    return np.zeros(1) if prior is None else logit(np.asarray(prior, dtype=np.float64))


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function is 0, or the end that it is nearest to it at."""
    low, high = -200.0, 200.0
    if rising(low) >= 0 or rising(high) <= 0:
        return low if rising(low) >= 0 else high
    return float(brentq(rising, low, high, xtol=1e-10))


def _check_fit(scores: NDArray, targets: NDArray) -> None:
    if not len(targets) or len(targets) != len(scores) or np.isnan(targets).any():
        raise ValueError(
            f"Fitted calibration needs gold for each row, got {int((~np.isnan(targets).any(1)).sum())} gold answers for "
            f"{len(scores)} rows. Add gold, or use batch calibration."
        )
    if (targets == targets[0]).all():
        raise ValueError("Fitted calibration needs gold that differs; all rows have the same. Add gold.")


def calibrate(annotated: Dataset, task: TaskSpec, calibration: Calibration | None = None) -> Dataset:
    """
    Label an annotated dataset anew from its `llm_scores`. Rows without scores keep the answer they have.

    Args:
        annotated (`Dataset`): With the columns of [`LLMLabeler`].
        task (`TaskSpec`): The task of one question that it was annotated for; of several see `TaskSpec.parts`.
        calibration (`Calibration`, *optional*): What to apply. Defaults to batch calibration over these very rows.

    Returns:
        `Dataset`: The same rows with new answers (`llm_label`) and `llm_confidence`.
    """
    question = task.question
    rows, scores = scored_rows(annotated)
    own = Features({**question.own_features(), "confidence": Value("float32")})
    columns = {end: list(annotated[f"llm_{end}"]) for end in own}
    calibration = calibration or (calibration_of("batch", question, scores) if rows else None)
    if rows and calibration is not None:
        found = question.decided(calibration.probabilities(scores))
        for end, values in columns.items():
            for row, value in zip(rows, found[end], strict=True):
                values[row] = value
    anew = Dataset.from_dict(
        {f"llm_{end}": values for end, values in columns.items()},
        features=Features({f"llm_{end}": feature for end, feature in own.items()}),
    )
    kept = annotated.remove_columns(anew.column_names)
    return concatenate_datasets([kept, anew], axis=1).select_columns(annotated.column_names)


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
    if values.shape != (labels,) or not (values > 0).all() or abs(values.sum() - 1) > 1e-6:
        raise ValueError(f"Expected a prior of {labels} positive shares that sum to 1, got {list(prior)}.")
    return values
