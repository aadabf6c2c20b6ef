"""Rows of a labelled pool drawn at random, on which a promise against the teacher is certified."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from hf_llambert.pool.cascade import confidences
from hf_llambert.pool.cascade_shards import student_prefix
from hf_llambert.pool.certified import rows_needed
from hf_llambert.pool.manifest import shard_files
from hf_llambert.pool.promise import Promise, promised_of
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names

_MOST = 5_000  # rows, unless more are asked for by number


@dataclass(frozen=True)
class RowsNeeded:
    """
    How many rows a promise needs.

    Args:
        least (`int`): Fewer cannot certify it even where every label is right.
        wanted (`int`): About so many certify a threshold at which three quarters of the wrong labels that the promise allows
            are there. With fewer the threshold is higher, and more is asked of the teacher later.
        share (`float`): The share of right labels at that threshold.
    """

    least: int
    wanted: int
    share: float


def rows_for(promise: Promise) -> RowsNeeded:
    """How many rows a promise needs of those that it is of, where everything asked is right by construction."""
    share = promise.target + (1 - promise.target) / 4
    risk = 1 - promise.confidence
    found = [rows_needed(one, promise.target, risk) for one in (1.0, share)]
    least, wanted = (math.inf if one is None else one for one in found)
    if not math.isfinite(least) or not math.isfinite(wanted):
        raise ValueError(f"No number of rows that can be drawn certifies {promise.named()}. Lower the target.")
    return RowsNeeded(int(least), int(wanted), share)


class PoolRows:
    """
    The rows of a labelled pool that a student labelled.

    Args:
        labels (`str` or `Path`): The folder that [`label_pool`] wrote.
        task (`TaskSpec`): The task.
        text_column (`str` or `Sequence[str]`): Column of the texts.
    """

    def __init__(self, labels: str | Path, task: TaskSpec, text_column: TextColumn) -> None:
        self._files = shard_files(labels)
        self._task, self._columns = task, list(column_names(text_column))
        sure = np.stack(list(confidences(self._files, task).values()))
        self._rows = np.flatnonzero(~np.isnan(sure).all(0))
        self._starts = np.cumsum([0, *(pq.read_metadata(path).num_rows for path in self._files)])

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, promises: Mapping[str, Promise]) -> tuple[int, RowsNeeded]:
        """
        How many rows to draw for the promise about each question, and what the one that takes most of them needs: `least` of
        all rows, by how often the student gives the label that it is of, where it is of one.

        Args:
            promises (`Mapping[str, Promise]`): By the names of [`TaskSpec.parts`].
        """
        number, most = 0, RowsNeeded(0, 0, 0.0)
        for name, promise in promises.items():
            needed = rows_for(promise)
            share = self._share(name, promise.of)
            wanted = math.ceil(needed.wanted / share) if share else _MOST
            if wanted > number:
                number, most = wanted, replace(needed, least=math.ceil(needed.least / (share or 1.0)))
        return min(number, _MOST, len(self)), most

    def draw(self, number: int, seed: int) -> Dataset:
        """
        So many rows at random, without repetition, in the order of the pool: their columns of texts.

        Args:
            number (`int`): How many.
            seed (`int`): Of the draw.
        """
        chosen = np.sort(np.random.default_rng(seed).choice(self._rows, min(number, len(self)), replace=False))
        tables = []
        for path, start, end in zip(self._files, self._starts[:-1], self._starts[1:], strict=True):
            mine = chosen[(chosen >= start) & (chosen < end)] - start
            if len(mine):
                tables.append(pq.read_table(path, columns=self._columns).take(pa.array(mine)))
        return Dataset(pa.concat_tables(tables))

    def _share(self, name: str, of: str) -> float:
        """The share of rows that the student gives the label that a promise is of; 1 where it is of all."""
        question = self._task.parts[name].question
        label = promised_of(of, question)
        if label is None:
            return 1.0
        column = f"{student_prefix(name)}_{question.answer_column}"
        held = total = 0
        for path in self._files:
            values = pq.read_table(path, columns=[column])[column].to_pylist()
            answers = [one for one in values if question.is_answer(one)]
            held, total = held + int(question.holds(answers, label).sum()), total + len(answers)
        return held / max(total, 1)
