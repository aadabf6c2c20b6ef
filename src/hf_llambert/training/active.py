"""
Active learning and self-training: which texts to ask the teacher about next, which of the student's own labels to learn
from, and when to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from datasets import Dataset, List, Value
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin

from hf_llambert.annotation.silver import surest_rows
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import why_unusable
from hf_llambert.training.students import StudentLabeler

Strategy = Literal["random", "entropy", "margin", "diverse"]


def next_to_annotate(
    texts: Sequence[str],
    number: int,
    labeler: StudentLabeler | None = None,
    strategy: Strategy = "margin",
    seed: int = 42,
) -> list[int]:
    """
    The texts whose labels would teach the student most.

    Args:
        texts (`Sequence[str]`): Texts without a label.
        number (`int`): How many to choose; all, if there are fewer. A null or blank text is never chosen.
        labeler (`StudentLabeler`, *optional*): The student so far. Not needed for `random`.
        strategy (`str`, defaults to `"margin"`): `random`; `entropy` (the student's distribution is the flattest);
            `margin` (its two best labels are the closest); `diverse` (the texts nearest to the centres of `number` k-means
            clusters of the student's embeddings).
        seed (`int`, defaults to 42): Seed of `random` and `diverse`.

    Returns:
        `list[int]`: Row numbers; the most uncertain first for `entropy` and `margin`.

    Raises:
        ValueError: An unknown strategy, or no student where one is needed.
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy must be one of {', '.join(get_args(Strategy))}; got {strategy!r}.")
    if number < 1:
        raise ValueError(f"The number of texts to annotate must be positive, got {number}.")
    usable = [i for i, text in enumerate(texts) if why_unusable(text) is None]
    number = min(number, len(usable))
    if strategy == "random" or number == len(usable):
        return [usable[i] for i in np.random.default_rng(seed).permutation(len(usable))[:number]]
    if labeler is None:
        raise ValueError(f"Strategy {strategy} asks the student: pass labeler=StudentLabeler(...).")
    asked = [texts[i] for i in usable]
    if strategy == "diverse":
        order = diverse_rows(labeler.embed(asked).numpy(), number, seed)
    else:
        order = uncertain_rows(labeler.label(asked)["student_scores"], number, strategy)
    return [usable[i] for i in order]


def uncertain_rows(scores: ArrayLike, number: int, by: Literal["entropy", "margin"] = "margin") -> list[int]:
    """The `number` rows of log-probabilities (rows, labels) that say least, the worst first; the earlier of equals."""
    logp = log_softmax(np.asarray(scores, dtype=np.float64), axis=1)
    if by == "entropy":
        doubt = -(np.exp(logp) * logp).sum(1)
    else:
        best = np.sort(np.exp(logp), axis=1)
        doubt = best[:, -2] - best[:, -1]
    return np.argsort(-doubt, kind="stable")[:number].tolist()


def diverse_rows(embeddings: NDArray[np.float32], number: int, seed: int = 42) -> list[int]:
    """
    The rows nearest to the centres of `number` k-means clusters; filled up from the others where two centres share their
    nearest row.
    """
    centres = MiniBatchKMeans(number, random_state=seed, n_init=3).fit(embeddings).cluster_centers_
    chosen = list(dict.fromkeys(pairwise_distances_argmin(centres, embeddings).tolist()))
    left = np.setdiff1d(np.arange(len(embeddings)), chosen)
    return chosen + np.random.default_rng(seed).permutation(left)[: number - len(chosen)].tolist()


def student_silver(labelled: Dataset, task: TaskSpec, min_confidence: float = 0.9, balance: bool = True) -> Dataset:
    """
    The student's own confident labels as further silver (self-training).

    Args:
        labelled (`Dataset`): Texts with the columns of [`StudentLabeler`].
        task (`TaskSpec`): The labels.
        min_confidence (`float`, defaults to 0.9): The least confidence of the student.
        balance (`bool`, defaults to `True`): As many of each label that is among them, so that the
            student's favourite does not grow.

    Returns:
        `Dataset`: The rows kept, maybe none, with `label`, `llm_confidence` and `probabilities` (the student's).

    Raises:
        ValueError: `labelled` has such columns already.
    """
    taken = {"label", "llm_confidence", "probabilities"} & set(labelled.column_names)
    if taken:
        raise ValueError(f"Columns {sorted(taken)} would be written over. Rename or remove them first.")
    labels = np.array(labelled["student_label"][:])
    confidence = np.array([-1.0 if c is None else c for c in labelled["student_confidence"]])
    kept = np.flatnonzero(confidence >= max(min_confidence, 0.0))
    if balance and len(kept):
        rarest = min(int((labels[kept] == i).sum()) for i in set(labels[kept].tolist()))
        kept = surest_rows(kept, labels, confidence, dict.fromkeys(range(task.num_labels), rarest))
    silver = labelled.select(kept.tolist())
    probabilities = [np.exp(row).tolist() for row in silver["student_scores"]]
    silver = silver.remove_columns("student_scores").add_column(
        "probabilities", probabilities, feature=List(Value("float64"))
    )
    return silver.rename_columns({"student_label": "label", "student_confidence": "llm_confidence"})


def is_flat(curve: Sequence[float], patience: int = 2, min_gain: float = 0.005) -> bool:
    """Whether the last `patience` points of a learning curve are all less than `min_gain` above the best before them."""
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}.")
    if len(curve) <= patience:
        return False
    return max(curve[-patience:]) < max(curve[:-patience]) + min_gain
