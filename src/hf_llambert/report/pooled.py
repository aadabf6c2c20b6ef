"""What a student answered about the texts of a labelled pool, in counts, and how common that makes each answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_llambert.pool.manifest import shard_files
from hf_llambert.quality.prevalence import class_prevalence, label_prevalence, scale_mean
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.scale import Scale


def pool_answers(folder: Path, question: Question, name: str = "") -> dict:
    """
    How often each label was given to a labelled pool, read one shard at a time.

    Args:
        folder (`Path`): The labelled pool.
        question (`Question`): The question.
        name (`str`, defaults to none): Its name, where it is one of several.

    Returns:
        `dict`: `counts` by label (on a scale, of the nearest level); but for `choice` `n`, the texts with an answer; and on a
        scale their `mean` and `variance`.
    """
    column = f"student_{name}_{question.answer_column}" if name else f"student_{question.answer_column}"
    shards = (pq.read_table(path, columns=[column])[column] for path in shard_files(folder))
    return _COUNTED[question.kind](shards, question)


def texts_counted(given: Mapping) -> int:
    """Texts of a pool that have an answer, from [`pool_answers`]."""
    return given.get("n", sum(given["counts"].values()))


def _choice(shards: Iterator[pa.ChunkedArray], question: Question) -> dict:
    counts = np.zeros(len(question.labels), dtype=np.int64)
    for shard in shards:
        given = shard.to_numpy()
        counts += np.bincount(given[given >= 0], minlength=len(counts))
    return {"counts": _named(counts, question)}


def _choices(shards: Iterator[pa.ChunkedArray], question: Question) -> dict:
    counts, n = np.zeros(len(question.labels), dtype=np.int64), 0
    for shard in shards:
        n += len(shard) - shard.null_count
        counts += np.bincount(pc.list_flatten(shard).to_numpy(), minlength=len(counts))
    return {"counts": _named(counts, question), "n": n}


def _scale(shards: Iterator[pa.ChunkedArray], question: Question) -> dict:
    counts, n, total, squares = np.zeros(len(question.labels), dtype=np.int64), 0, 0.0, 0.0
    for shard in shards:
        given = shard.drop_null().to_numpy().astype(float)
        n, total, squares = n + len(given), total + float(given.sum()), squares + float((given**2).sum())
        counts += np.bincount(nearest_levels(question, given), minlength=len(counts))
    mean = total / n if n else 0.0
    return {
        "counts": _named(counts, question),
        "n": n,
        "mean": mean,
        "variance": max(squares / max(n, 1) - mean**2, 0.0),
    }


_COUNTED: dict[str, Callable[[Iterator[pa.ChunkedArray], Question], dict]] = {
    "choice": _choice,
    "choices": _choices,
    "scale": _scale,
}


def _named(counts: NDArray[np.int64], question: Question) -> dict[str, int]:
    return dict(zip(question.labels, counts.tolist(), strict=True))


def nearest_levels(question: Question, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The ids of the levels that numbers are nearest to, the lower of two."""
    levels = Scale(question.name, question.labels).levels
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values, side="left")


def prevalence_of(question: Question, gold: Sequence, answers: Sequence, given: Mapping) -> dict:
    """
    How common each label is in the pool, as `prevalence`, and on a scale its `mean`, put right by gold.

    Args:
        question (`Question`): The question.
        gold (`Sequence`): People's answers to a random sample of texts.
        answers (`Sequence`): The student's.
        given (`Mapping`): From [`pool_answers`].
    """
    return _PREVALENCE[question.kind](question, gold, answers, given)


def _common_choice(question: Question, gold: Sequence, answers: Sequence, given: Mapping) -> dict:
    return {"prevalence": class_prevalence(gold, answers, list(given["counts"].values()), question.labels)}


def _common_choices(question: Question, gold: Sequence, answers: Sequence, given: Mapping) -> dict:
    counts = list(given["counts"].values())
    return {"prevalence": label_prevalence(gold, answers, counts, given["n"], question.labels)}


def _common_scale(question: Question, gold: Sequence, answers: Sequence, given: Mapping) -> dict:
    people, student = (nearest_levels(question, np.asarray(values, dtype=float)) for values in (gold, answers))
    ends = float(question.labels[0]), float(question.labels[-1])
    return {
        "prevalence": class_prevalence(people, student, list(given["counts"].values()), question.labels),
        "mean": scale_mean(gold, answers, given["mean"], given["variance"], given["n"], ends),
    }


_PREVALENCE: dict[str, Callable[[Question, Sequence, Sequence, Mapping], dict]] = {
    "choice": _common_choice,
    "choices": _common_choices,
    "scale": _common_scale,
}
