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
from scipy.special import log_expit, log_softmax
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin

from hf_llambert.annotation.silver import surest_rows
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
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
            `margin` (its two best labels are the closest; of several questions, or labels of which several may hold, its two
            best answers to all of it, taken as independent); `diverse` (the texts nearest to the centres of `number` k-means
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
        columns = labeler.label(asked)
        found = [
            parts_of(question, columns[answer_column(name, "scores")]) for name, question in labeler.questions.items()
        ]
        order = most_doubtful([part for parts in found for part in parts], number, strategy)
    return [usable[i] for i in order]


def parts_of(question: Question, scores: ArrayLike) -> list[NDArray[np.float64]]:
    """The distributions that the scores of a question are, as log-probabilities (rows, answers): one, or one a label."""
    values = np.asarray(scores, dtype=np.float64)
    if question.kind != "choices":
        return [log_softmax(values, axis=1)]
    return [np.stack([log_expit(-odds), log_expit(odds)], axis=1) for odds in values.T]


def most_doubtful(parts: Sequence[NDArray[np.float64]], number: int, by: str) -> list[int]:
    """Rows by the entropy of all distributions together, or by how near their second best answer is to the best."""
    if by == "entropy":
        doubt = -np.sum([(np.exp(logp) * logp).sum(1) for logp in parts], axis=0)
    else:
        ranked = [np.sort(np.exp(logp), axis=1) for logp in parts]
        best = np.prod([p[:, -1] for p in ranked], axis=0)
        lost = np.min([(p[:, -1] - p[:, -2]) / p[:, -1] for p in ranked], axis=0)  # of the best, by the nearest change
        doubt = -best * lost if len(parts) > 1 else ranked[0][:, -2] - ranked[0][:, -1]
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
            student's favourite does not grow. Only where one `choice` is asked.

    Returns:
        `Dataset`: The rows kept, maybe none, with `label`, `llm_confidence` and `probabilities` (the student's). Of several
        questions a row is kept where one of its answers is confident enough, with `NAME`, `llm_NAME_confidence` and
        `NAME_probabilities`; its other answers are missing.

    Raises:
        ValueError: `labelled` has such columns already.
    """
    own = {
        name: (
            name or "label",
            answer_column(name, "confidence", "llm"),
            f"{name}_probabilities" if name else "probabilities",
        )
        for name in task.parts
    }
    taken = {column for columns in own.values() for column in columns} & set(labelled.column_names)
    if taken:
        raise ValueError(f"Columns {sorted(taken)} would be written over. Rename or remove them first.")
    sure: dict[str, NDArray[np.bool_]] = {}
    columns: dict[str, tuple[list, list, list]] = {}
    for name, part in task.parts.items():
        question = part.question
        given = labelled[answer_column(name, question.answer_column)][:]
        confidence = [-1.0 if c is None else c for c in labelled[answer_column(name, "confidence")]]
        enough = np.array(confidence) >= max(min_confidence, 0.0)
        sure[name] = enough
        columns[name] = (
            [answer if there else question.missing for answer, there in zip(given, enough, strict=True)],
            [one if there else None for one, there in zip(confidence, enough, strict=True)],
            [
                _probabilities(question, row) if there else None
                for row, there in zip(labelled[answer_column(name, "scores")], enough, strict=True)
            ],
        )
    kept = np.flatnonzero(np.any(list(sure.values()), axis=0))
    if balance and len(kept) and task.is_plain:
        labels, certain = np.array(columns[""][0]), np.array(labelled["student_confidence"][:], dtype=float)
        rarest = min(int((labels[kept] == i).sum()) for i in set(labels[kept].tolist()))
        kept = surest_rows(kept, labels, certain, dict.fromkeys(range(task.num_labels), rarest))
    rows = kept.tolist()
    gone = {
        answer_column(name, end)
        for name, part in task.parts.items()
        for end in (*part.question.own_features(), "confidence", "scores")
    }
    silver = labelled.select(rows).remove_columns(sorted(gone))
    for name, part in task.parts.items():
        question = part.question
        features = (dict(question.own_features())[question.answer_column], Value("float32"), List(Value("float64")))
        for column, values, feature in zip(own[name], columns[name], features, strict=True):
            silver = silver.add_column(column, [values[i] for i in rows], feature=feature)
    return silver


def _probabilities(question: Question, scores: Sequence[float]) -> list[float]:
    return question.probabilities([scores])[0].tolist()


def is_flat(curve: Sequence[float], patience: int = 2, min_gain: float = 0.005) -> bool:
    """Whether the last `patience` points of a learning curve are all less than `min_gain` above the best before them."""
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}.")
    if len(curve) <= patience:
        return False
    return max(curve[-patience:]) < max(curve[:-patience]) + min_gain
