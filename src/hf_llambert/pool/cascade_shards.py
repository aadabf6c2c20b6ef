"""Shards of a cascade: which rows of each are asked about, and what is written of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value
from numpy.typing import NDArray

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.pool.sources import table_texts
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import TextColumn, column_names
from hf_llambert.whole import whole_file

WINDOW = 4096
"""Rows in memory; texts that the teacher sorts by length together."""


Below = Mapping[str, float]
"""By question the confidence below which a text goes to the teacher."""


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
        file = pq.ParquetFile(self.target)
        names = [name for name in file.schema_arrow.names if name.startswith("llm_") and name.endswith("_status")]
        found = [file.read(columns=[name])[name] for name in names]
        return bool(found) and all(
            len(status) == len(self.asked) and "failed" not in status.unique().to_pylist() for status in found
        )

    def texts(self, column: TextColumn) -> list[object]:
        """The texts to ask about."""
        if not self.n_asked:
            return []
        out: list[object] = []
        for table, asked in self._windows(column_names(column)):
            out += table_texts(table.filter(pa.array(asked)), column)
        return out

    def write(self, labeler: LLMLabeler, below: Below) -> None:
        """Write it with the columns of the teacher, which are in the ledger, and of the cascade."""
        with pq.ParquetFile(self.source) as source:
            schema = _output_schema(source.schema_arrow, labeler)
        with whole_file(self.target) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for table, asked in self._windows():
                writer.write_table(_decided(table, asked, labeler, schema, below))

    def _windows(self, columns: list[str] | None = None) -> Iterator[tuple[pa.Table, NDArray[np.bool_]]]:
        with pq.ParquetFile(self.source) as source:
            at = 0
            for batch in source.iter_batches(WINDOW, columns=columns):
                yield pa.Table.from_batches([batch]), self.asked[at : at + batch.num_rows]
                at += batch.num_rows


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


def student_prefix(part: str, who: str = "student") -> str:
    """The beginning of the names of the columns of answers to a question."""
    return f"{who}_{part}" if part else who


def own_features(labeler: LLMLabeler) -> Features:
    """The columns that a cascade adds."""
    decided: dict[str, object] = {}
    for part, one in labeler.task.parts.items():
        begin = student_prefix(part, "cascade")
        decided |= {f"{begin}_{end}": feature for end, feature in one.question.own_features().items()}
        decided[f"{begin}_source"] = Value("string")
    return Features({**labeler.features(), **decided})


def _output_schema(source: pa.Schema, labeler: LLMLabeler) -> pa.Schema:
    own = own_features(labeler)
    metadata = Features({**Features.from_arrow_schema(source), **own}).arrow_schema.metadata
    return pa.schema([*source, *own.arrow_schema], metadata)


def is_below(table: pa.Table, below: Below, question: Question, part: str) -> NDArray[np.bool_]:
    """Rows of which the student's answer to a question is less sure than its threshold; not those without an answer."""
    begin = student_prefix(part)
    there = np.array([question.is_answer(answer) for answer in _answers(table, begin, question)], dtype=bool)
    sure = table[f"{begin}_confidence"].to_numpy().astype(np.float32)
    return there & (sure < np.float32(below[part]))


def stages(table: pa.Table, part: str) -> NDArray[np.object_]:
    """Which of two students answered a question, `None` where neither did; `student` where there was one."""
    name = answer_column(part, "source")
    if name not in table.column_names:
        return np.full(table.num_rows, "student", dtype=object)
    return np.array(table[name].to_pylist(), dtype=object)


def _answers(table: pa.Table, begin: str, question: Question) -> list:
    return table[f"{begin}_{question.answer_column}"].to_pylist()


def _decided(
    table: pa.Table, asked: NDArray[np.bool_], labeler: LLMLabeler, schema: pa.Schema, below: Below
) -> pa.Table:
    """A window of rows with the teacher's answers and the decision."""
    rows = np.flatnonzero(asked)
    answers = labeler.recalled(table_texts(table.take(pa.array(rows)), labeler.text_column))
    places = np.zeros(len(asked), dtype=np.int64)
    places[rows] = np.arange(len(rows))
    spread = pa.array(places, mask=~asked)  # to take by: null where nobody was asked
    own = {name: pa.array(values, schema.field(name).type).take(spread) for name, values in answers.items()}
    for part, one in labeler.task.parts.items():
        question, begin = one.question, student_prefix(part, "cascade")
        teacher = answers[f"{student_prefix(part, 'llm')}_{question.answer_column}"]
        # Asked because of another question only: the student's answer to this one was sure enough.
        unsure = is_below(table, below, question, part) if part else np.ones(len(asked), dtype=bool)
        by_teacher = np.zeros(len(asked), dtype=bool)
        by_teacher[rows] = [question.is_answer(answer) for answer in teacher]
        by_teacher &= unsure
        for end in question.own_features():
            column = table[f"{student_prefix(part)}_{end}"].to_pylist()
            theirs = answers[f"{student_prefix(part, 'llm')}_{end}"]
            mixed = [theirs[places[k]] if by_teacher[k] else column[k] for k in range(len(asked))]
            nothing = question.no_answer()[end]
            filled = [nothing if value is None else value for value in mixed]
            own[f"{begin}_{end}"] = pa.array(filled, schema.field(f"{begin}_{end}").type)
        source = np.where(by_teacher, "teacher", stages(table, part))
        own[f"{begin}_source"] = pa.array(source.tolist(), pa.string())
    return pa.table([*table.columns, *(own[name] for name in schema.names[len(table.columns) :])], schema=schema)
