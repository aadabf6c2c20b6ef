"""Shards of a cascade: which rows of each are asked about, and what is written of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Value
from numpy.typing import NDArray

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.data import named_values
from hf_llambert.pool.sources import table_texts
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.texts import TextColumn, column_names
from hf_llambert.whole import whole_file

WINDOW = 4096
"""Rows in memory; texts that the teacher sorts by length together."""


@dataclass(frozen=True)
class CascadeShard:
    """A shard of the labels, where it goes, and which of its rows are asked about."""

    source: Path
    target: Path
    asked: NDArray[np.bool_]

    @property
    def n_asked(self) -> int:
        """How many of its rows are asked about."""
        return int(self.asked.sum())

    def finished(self) -> bool:
        """Whether it is written, and no row of it is to be asked about again."""
        if not self.target.is_file():
            return False
        status = pq.ParquetFile(self.target).read(columns=["llm_status"])["llm_status"]
        return len(status) == len(self.asked) and "failed" not in status.unique().to_pylist()

    def texts(self, column: TextColumn) -> list[object]:
        """The texts to ask about."""
        if not self.n_asked:
            return []
        out: list[object] = []
        for table, asked in self._windows(column_names(column)):
            out += table_texts(table.filter(pa.array(asked)), column)
        return out

    def gold(self, column: str) -> list[object]:
        """People's labels, as they are written."""
        return written_gold(self.source, column)

    def write(self, labeler: LLMLabeler) -> None:
        """Write it with the columns of the teacher, which are in the ledger, and of the cascade."""
        with pq.ParquetFile(self.source) as source:
            schema = _output_schema(source.schema_arrow, labeler)
        with whole_file(self.target) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for table, asked in self._windows():
                writer.write_table(_decided(table, asked, labeler, schema))

    def _windows(self, columns: list[str] | None = None) -> Iterator[tuple[pa.Table, NDArray[np.bool_]]]:
        with pq.ParquetFile(self.source) as source:
            at = 0
            for batch in source.iter_batches(WINDOW, columns=columns):
                yield pa.Table.from_batches([batch]), self.asked[at : at + batch.num_rows]
                at += batch.num_rows


def written_gold(file: Path, column: str) -> list[object]:
    """People's labels of one shard, as they are written."""
    return named_values(Dataset(pq.ParquetFile(file).read(columns=[column])), column)


def cascade_shards(files: Sequence[Path], output: Path, chosen: NDArray[np.bool_]) -> Iterator[CascadeShard]:
    """The shards of a cascade, with their parts of `chosen` (one value a row of the pool)."""
    start = 0
    for path in files:
        rows = pq.read_metadata(path).num_rows
        yield CascadeShard(path, output / path.name, chosen[start : start + rows])
        start += rows


def groups(shards: Sequence[CascadeShard]) -> Iterator[list[CascadeShard]]:
    """Group shards until their rows to be asked about fill a window, since small batches are slow."""
    group: list[CascadeShard] = []
    for shard in shards:
        if group and sum(one.n_asked for one in [*group, shard]) > WINDOW:
            yield group
            group = []
        group.append(shard)
    if group:
        yield group


def own_features(labeler: LLMLabeler) -> Features:
    """The columns that a cascade adds."""
    decided = {"cascade_label": ClassLabel(names=list(labeler.task.labels)), "cascade_source": Value("string")}
    return Features({**labeler.features(), **decided})


def _output_schema(source: pa.Schema, labeler: LLMLabeler) -> pa.Schema:
    own = own_features(labeler)
    metadata = Features({**Features.from_arrow_schema(source), **own}).arrow_schema.metadata
    return pa.schema([*source, *own.arrow_schema], metadata)


def _decided(table: pa.Table, asked: NDArray[np.bool_], labeler: LLMLabeler, schema: pa.Schema) -> pa.Table:
    """A window of rows with the teacher's answers and the decision."""
    rows = np.flatnonzero(asked)
    answers = labeler.recalled(table_texts(table.take(pa.array(rows)), labeler.text_column))
    places = np.zeros(len(asked), dtype=np.int64)
    places[rows] = np.arange(len(rows))
    spread = pa.array(places, mask=~asked)  # to take by: null where nobody was asked
    label = table["student_label"].fill_null(ABSTAIN).to_numpy().copy()
    teacher = np.array(answers["llm_label"], dtype=label.dtype)
    label[rows] = np.where(teacher == ABSTAIN, label[rows], teacher)
    source = np.full(len(asked), "student", dtype=object)
    source[rows[teacher != ABSTAIN]] = "teacher"
    own = {name: pa.array(values, schema.field(name).type).take(spread) for name, values in answers.items()}
    own |= {"cascade_label": pa.array(label), "cascade_source": pa.array(source, pa.string())}
    return pa.table([*table.columns, *(own[name] for name in schema.names[len(table.columns) :])], schema=schema)
