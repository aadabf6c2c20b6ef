"""What a cascade bought: counts and figures from its shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray

from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.gold import GoldColumns, LabelMap, Reading, gold_answers, gold_columns
from hf_llambert.intervals import paired_bootstrap, wilson_interval
from hf_llambert.pool.cascade_shards import CascadeShard, groups, student_prefix
from hf_llambert.pool.labelled import in_order
from hf_llambert.pool.manifest import shard_files
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec


def cascade_results(shards: Sequence[CascadeShard], labeler: LLMLabeler, gold: Mapping[str, list] | None) -> dict:
    """
    The counts and figures, from what was written: a lost row must show. Of several questions also those of each, as
    `questions`; `n_changed`, `n_abstained` and `n_failed` are then of texts in which any was.

    Args:
        shards (`Sequence[CascadeShard]`): All shards.
        labeler (`LLMLabeler`): The teacher.
        gold (`Mapping[str, list]`, *optional*): People's answers to each row, by question.
    """
    seconds, tokens = _spent(shards, labeler)
    texts: dict[str, list[NDArray[np.bool_]]] = {"changed": [], "abstained": [], "failed": []}
    found = {part: _Counted() for part in labeler.task.parts}
    start = 0
    for shard in shards:
        table = pq.ParquetFile(shard.target).read()
        if table.num_rows != len(shard.asked):
            raise RuntimeError(
                f"'{shard.target}' holds {table.num_rows:,} rows, expected {len(shard.asked):,}. Remove it and run again."
            )
        end = start + table.num_rows
        rows = [
            found[part].add(
                table, shard.asked, one.question, part, None if gold is None else (gold.get(part) or [])[start:end]
            )
            for part, one in labeler.task.parts.items()
        ]
        for name, of_parts in zip(texts, zip(*rows, strict=True), strict=True):
            texts[name].append(np.any(of_parts, axis=0))
        start = end
    counts = {
        "n": start,
        "n_asked": sum(shard.n_asked for shard in shards),
        **{f"n_{name}": int(np.concatenate(of).sum()) if of else 0 for name, of in texts.items()},
    }
    spent = {"seconds": seconds, "input_tokens": tokens[0], "output_tokens": tokens[1]}
    if list(found) == [""]:
        one = found[""]
        return {**counts, **spent, "reasons": dict(one.reasons), "gold": one.bought(), **one.by_stage()}
    questions = {name: one.results() for name, one in found.items()}
    return {**counts, **spent, "reasons": {}, "gold": None, "questions": questions}


class _Counted:
    """What is counted of a question, shard by shard."""

    def __init__(self) -> None:
        self.n = dict.fromkeys(("n_by_teacher", "n_changed", "n_abstained", "n_failed"), 0)
        self.reasons: Counter[str] = Counter()
        self.right: list[NDArray[np.bool_]] = []
        self.stages: Counter[str | None] = Counter()
        self.stage_of: list[NDArray[np.object_]] = []
        """Which stage answered each row with gold."""

    def add(
        self, table: pa.Table, asked: NDArray[np.bool_], question: Question, part: str, gold: list | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Count a shard. Returns rows that were changed, in which the teacher abstained, and that failed."""
        end = question.answer_column
        student, decided = (table[f"{student_prefix(part, who)}_{end}"].to_pylist() for who in ("student", "cascade"))
        student = [question.missing if answer is None else answer for answer in student]
        status = np.array(table[f"{student_prefix(part, 'llm')}_status"].to_pylist(), dtype=object)
        changed = np.array([one != other for one, other in zip(student, decided, strict=True)], dtype=bool)
        source = np.array(table[f"{student_prefix(part, 'cascade')}_source"].to_pylist(), dtype=object)
        by_teacher = source == "teacher"
        if answer_column(part, "source") in table.column_names:  # of two students
            self.stages.update(source.tolist())
        abstained, failed = status == "abstained", status == "failed"
        for name, rows in zip(self.n, (by_teacher, changed, abstained, failed), strict=True):
            self.n[name] += int(rows.sum())
        self.reasons.update(reason for reason in table[f"{student_prefix(part, 'llm')}_reason"].to_pylist() if reason)
        if gold:
            known = [k for k in range(len(gold)) if question.is_answer(gold[k]) and question.is_answer(student[k])]
            truth = [gold[k] for k in known]
            right = [question.right([of[k] for k in known], truth) for of in (student, decided)] if known else []
            self.right.append(np.stack([*right, asked[known]]) if known else np.zeros((3, 0), dtype=bool))
            self.stage_of.append(source[known])
        return changed, abstained, failed

    def bought(self) -> dict | None:
        """What the teacher brought, by gold."""
        if not self.right:
            return None
        right = np.concatenate(self.right, axis=1).astype(bool)
        found, stage_of = _bought(right), np.concatenate(self.stage_of)
        if found is None or not self.stages:
            return found
        rows = {stage: right[1][stage_of == stage] for stage in self.by_stage()["by_stage"]}
        return found | {"by_stage": {stage: {"n": len(of), **_accuracy(of)} for stage, of in rows.items() if len(of)}}

    def by_stage(self) -> dict[str, dict[str, int]]:
        """How many rows each stage answered, the fastest first; of one student nothing."""
        return {"by_stage": in_order(self.stages)} if self.stages else {}

    def results(self) -> dict:
        """The figures of one of several questions."""
        return {**self.n, "reasons": dict(self.reasons), "gold": self.bought(), **self.by_stage()}


def pool_answers_of_people(
    labels: str | Path, task: TaskSpec, column: GoldColumns, label_map: LabelMap | None, label_values: Reading
) -> dict[str, list]:
    """
    People's answers to each row of a labelled pool, by question, read by all its shards together.

    Raises:
        ValueError: The values fit two readings, or none.
    """
    files = shard_files(labels)
    columns = gold_columns(pq.read_schema(files[0]).names, task, column)
    names = list(dict.fromkeys(name for one in columns.values() for name in ([one] if isinstance(one, str) else one)))
    data = Dataset(pq.read_table(files[0], columns=names))
    if len(files) > 1:
        data = concatenate_datasets([Dataset(pq.read_table(path, columns=names)) for path in files])
    try:
        return gold_answers(data, task, column, label_map, label_values)
    except ValueError as error:
        raise ValueError(
            f"People's labels of the pool: {error} Or measure by none: gold_column=None (--label_column none, with "
            f"--guarantee --label_column and the name of another column)."
        ) from error


def _spent(shards: Sequence[CascadeShard], labeler: LLMLabeler) -> tuple[float, tuple[int, int]]:
    """Seconds, and tokens in and out, of asking about all texts of the pool, each counted once."""
    seconds, given, written = 0.0, 0, 0
    seen: set[int] = set()
    for group in groups(shards):
        texts = {
            hash(text): text for shard in group for text in shard.texts(labeler.text_column) if isinstance(text, str)
        }
        took, tokens = labeler.spent([text for key, text in texts.items() if key not in seen])
        seconds, given, written = seconds + took, given + tokens[0], written + tokens[1]
        seen |= texts.keys()
    return seconds, (given, written)


def _bought(right: NDArray[np.bool_]) -> dict | None:
    """Figures of rows with gold: whether the student is right, whether the cascade is, whether it was asked about."""
    student, both, asked = right
    if not len(asked):
        return None
    out: dict[str, dict | None] = {}
    for name, rows in (("all", np.ones_like(asked)), ("asked", asked)):
        if not rows.any():
            out[name] = None
            continue
        value, low, high = paired_bootstrap(both[rows], student[rows])
        out[name] = {
            "n": int(rows.sum()),
            "student": _accuracy(student[rows]),
            "cascade": _accuracy(both[rows]),
            "difference": {"value": value, "low": low, "high": high},
        }
    return out


def _accuracy(right: NDArray[np.bool_]) -> dict[str, float]:
    low, high = wilson_interval(int(right.sum()), len(right))
    return {"value": float(right.mean()), "low": low, "high": high}
