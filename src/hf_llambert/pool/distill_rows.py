"""Rows that a student is distilled from, and where it is put."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features
from numpy.typing import NDArray

from hf_llambert.pool.labelled import Labels
from hf_llambert.tasks.texts import TextColumn, row_texts, why_unusable
from hf_llambert.whole import whole_folder


def rows_at(labels: Labels, places: NDArray[np.int64], columns: Sequence[str]) -> Dataset:
    """Those columns of rows of a labelled pool by their numbers, in that order; only files that have one are read."""
    order, tables, start = np.sort(places), [], 0
    for path in labels.shards():
        rows = pq.read_metadata(path).num_rows
        mine = order[(order >= start) & (order < start + rows)] - start
        if len(mine):
            tables.append(pq.read_table(path, columns=list(columns)).take(pa.array(mine)))
        start += rows
    return Dataset(pa.concat_tables(tables)).select(np.searchsorted(order, places))


def fresh(rows: Dataset, known: set[object], column: TextColumn, num_rows: int) -> Dataset:
    """The first rows whose usable text is not known and comes once."""
    seen, kept = set(known), list[int]()
    for i, text in enumerate(row_texts(rows, column)):
        if why_unusable(text) is None and text not in seen and len(kept) < num_rows:
            seen.add(text)
            kept.append(i)
    if not kept:
        raise ValueError(
            "The pool has no text that the student was not trained or measured on. Pass other texts (--pool)."
        )
    return rows.select(kept)


def alike(silver: Dataset, features: Features) -> Dataset:
    """The run's silver with the columns of the texts that its encoder labelled; probabilities are null where there are none."""
    for name, feature in features.items():
        if name not in silver.column_names:
            silver = silver.add_column(name, [None] * len(silver), feature=feature)
    return silver.select_columns(list(features)).cast(features)


def place(made: Path, target: Path) -> None:
    """Copy a student to where it is looked for, unless it is there."""
    names = sorted(path.name for path in made.iterdir())
    if target.is_dir() and filecmp.cmpfiles(made, target, names, shallow=False)[0] == names:
        return
    shutil.rmtree(target, ignore_errors=True)
    with whole_folder(target) as part:
        shutil.copytree(made, part, dirs_exist_ok=True)
