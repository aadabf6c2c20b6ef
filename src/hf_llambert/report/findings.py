"""What can be said of a finished run beyond its accuracy: noise, prevalence, drift, slices, and what more labels are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Value
from sklearn.decomposition import TruncatedSVD

from hf_llambert.data import STAGE_FILE
from hf_llambert.notes import damaged_note, read_stage
from hf_llambert.pool.manifest import shard_files
from hf_llambert.pool.sources import table_texts
from hf_llambert.quality.drift import measure_drift
from hf_llambert.quality.noise import likely_label_errors
from hf_llambert.quality.slices import MOST_VALUES, find_slices
from hf_llambert.quality.source import foretold_by
from hf_llambert.quality.words import Words, in_texts, tf_idf
from hf_llambert.report.evaluated import evaluated
from hf_llambert.report.kinds import right_rows
from hf_llambert.report.pooled import pool_answers, prevalence_of, texts_counted
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, why_unusable

_TEXTS, _FILES = 2000, 64  # of the pool that are read for drift
_MOST_ROWS = 10_000  # in which wrong labels are looked for; more take minutes and change little
_LEAST_NOISE = 2000  # where each of many labels is looked at
_LEAST_GOLD = 100  # rows below which slices are chance
_COLUMN = "column "  # before the name of a column, where slices are of several kinds
_WIDTH = 32  # of what the clusters are made of


def find_all(
    run: Path,
    task: TaskSpec,
    annotated: Dataset | None,
    config: Mapping,
    rows: Mapping[str, list[dict]],
    pool: Path | None,
) -> dict:
    """
    Everything that the folders of a run allow; what they do not is `None`.

    Args:
        run (`Path`): Folder of the run.
        task (`TaskSpec`): The task.
        annotated (`Dataset`, *optional*): The annotated rows.
        config (`Mapping`): How they were annotated.
        rows (`Mapping[str, list[dict]]`): Of each question, of each annotated row `text`, and the answers `teacher` and `gold`.
        pool (`Path`, *optional*): Folder of the labelled pool, where this run's student labelled all of it.

    Returns:
        `dict`: `noise`, `pool` (`counts` of the labels given to it), `prevalence` (and the `mean` of a scale), `drift`,
        `sources` (of each column what it foretells, see [`foretold_by`]) and `slices` (`teacher` and `student`). Of several
        questions `drift`, and `questions` with the others by name.

    Raises:
        OSError: The note of the pool counts other rows than its shards have.
    """
    words = Words()
    drift = None
    if pool and annotated is not None:
        texts = pool_texts(pool, read_stage(pool / STAGE_FILE, "labels")["config"]["text_column"])
        if texts is not None:
            drift = measure_drift([row["text"] for row in next(iter(rows.values()))], texts, words=words)
    found = {
        name: _of_question(run, task, name, annotated, config, rows.get(name) or [], pool, words)
        for name in task.parts
    }
    if list(found) == [""]:
        slices = found[""].pop("slices")  # the order of the file
        return {**found[""], "drift": drift, "slices": slices}
    return {"drift": drift, "questions": found}


def _of_question(
    run: Path,
    task: TaskSpec,
    name: str,
    annotated: Dataset | None,
    config: Mapping,
    rows: list[dict],
    pool: Path | None,
    words: Words,
) -> dict:
    question = task.parts[name].question
    usable = [row for row in rows if question.is_answer(row["teacher"])]
    of_student = evaluated(run / "student", task, name)
    out: dict = {"noise": _noise(usable, question, words), "pool": None, "prevalence": None}
    if pool:
        given = pool_answers(pool, question, name)
        note = read_stage(pool / STAGE_FILE, "labels")
        noted = note["results"]["n_labelled"]
        n = texts_counted(given)
        if n != noted and not name:
            why = f"expected {n} rows with a label, as its shards have, at 'results.n_labelled'"
            raise damaged_note(pool / STAGE_FILE, f"{why}, got {noted}")
        out["pool"] = given
        if of_student and len(of_student.gold) > 1 and n and "first" not in note["config"]:
            out |= prevalence_of(question, of_student.gold, of_student.answers, given)
    out["sources"] = None if annotated is None else _sources(rows, annotated, config, task, question)
    known = [k for k, row in enumerate(rows) if question.is_answer(row["teacher"]) and question.is_answer(row["gold"])]
    columns = {} if annotated is None else _columns(annotated.select(known), config, task)
    right = right_rows(question, [rows[k]["teacher"] for k in known], [rows[k]["gold"] for k in known])
    out["slices"] = {
        "teacher": _slices([rows[k]["text"] for k in known], right.tolist(), columns, words),
        "student": None,
    }
    if of_student and of_student.texts:
        out["slices"]["student"] = _slices(of_student.texts, of_student.right(question), {}, words)
    return out


def pool_texts(folder: Path, column: TextColumn, seed: int = 0) -> list[str] | None:
    """At most 2,000 texts drawn at random from up to 64 shards of a labelled pool; `None` where it keeps no texts."""
    random, paths = np.random.default_rng(seed), shard_files(folder)
    names = column_names(column)
    if not set(names) <= set(pq.read_schema(paths[0]).names):
        return None
    chosen = [paths[k] for k in sorted(random.permutation(len(paths))[:_FILES])]
    sizes = np.array([pq.read_metadata(path).num_rows for path in chosen])
    drawn = np.sort(random.permutation(int(sizes.sum()))[:_TEXTS])
    texts, start = [], 0
    for path, size in zip(chosen, sizes.tolist(), strict=True):
        mine = drawn[(drawn >= start) & (drawn < start + size)] - start
        start += size
        if len(mine):
            texts += table_texts(pq.read_table(path, columns=names).take(mine), column)
    return texts


def _noise(usable: list[dict], question: Question, words: Words) -> dict | None:
    answers = [row["teacher"] for row in usable]
    return _NOISE[question.kind]([row["text"] for row in usable], answers, question, words)


def _noise_of_choice(texts: list, answers: list, question: Question, words: Words) -> dict | None:  # noqa: ARG001
    drawn = _drawn(len(texts), _MOST_ROWS)
    texts, answers = [texts[k] for k in drawn], [answers[k] for k in drawn]
    try:
        share, suspects = likely_label_errors(texts, answers, words=words)
    except ImportError:
        return None
    return {"share": share, "n": len(texts), "n_suspected": len(suspects)}


def _noise_of_choices(texts: list, answers: list, question: Question, words: Words) -> dict | None:
    """Whether each label holds is a question of its own; the share is of all of these answers."""
    drawn = _drawn(len(texts), max(_MOST_ROWS // len(question.labels), _LEAST_NOISE))
    texts, targets = [texts[k] for k in drawn], question.targets([answers[k] for k in drawn])
    found: dict[str, float | None] = {}
    suspected = 0
    for k, label in enumerate(question.labels):
        try:
            found[label], suspects = likely_label_errors(texts, targets[:, k].astype(int), words=words)
        except ImportError:
            return None
        suspected += len(suspects)
    known = [share for share in found.values() if share is not None]
    share = float(np.mean(known)) if known else None
    return {"share": share, "n": len(texts), "n_suspected": suspected, "per_label": found}


_NOISE: dict[str, Callable[[list, list, Question, Words], dict | None]] = {
    "choice": _noise_of_choice,
    "choices": _noise_of_choices,
    "scale": lambda *_: {"share": None, "n": 0, "n_suspected": 0},  # near misses are no slips
}


def _drawn(n: int, most: int) -> list[int]:
    return list(range(n)) if n <= most else sorted(np.random.default_rng(0).permutation(n)[:most].tolist())


def _columns(data: Dataset, config: Mapping, task: TaskSpec) -> dict[str, list]:
    """Columns of few values, in which the rows may be sliced."""
    out = {}
    for name, feature in data.features.items():
        ours = name.startswith(("llm_", "student_")) or name in (
            *_gold_columns(config.get("gold_column"), task),
            *column_names(config.get("text_column", ())),
        )
        plain = isinstance(feature, Value) and feature.dtype in (
            "string",
            "large_string",
            "bool",
            "int8",
            "int16",
            "int32",
        )
        if (
            ours
            or not (plain or isinstance(feature, ClassLabel))
            or any(name.startswith(f"{m}_") for m in config.get("members", ()))
        ):
            continue
        values = data[name][:]
        if isinstance(feature, ClassLabel):
            values = [None if value is None or value < 0 else feature.int2str(value) for value in values]
        if 2 <= len({value for value in values if value is not None}) <= MOST_VALUES:
            out[f"{_COLUMN}{name}"] = values
    return out


def _sources(
    rows: list[dict], annotated: Dataset, config: Mapping, task: TaskSpec, question: Question
) -> list[dict] | None:
    """
    What each column of few values foretells of the annotated rows' labels; none of it where there are too few rows, `None`
    where there is no column.
    """
    kept, given = [k for k, row in enumerate(rows) if question.is_answer(row["teacher"])], ["teacher"]
    for who in ("student", "gold"):
        both = [k for k in kept if question.is_answer(rows[k][who])]
        if len(both) >= _LEAST_GOLD:
            kept, given = both, [*given, who]
    kept = [kept[k] for k in _drawn(len(kept), _MOST_ROWS)]
    columns = _columns(annotated.select(kept), config, task)
    if not columns or len(kept) < _LEAST_GOLD:
        return [] if columns else None
    labels = {who: [rows[k][who] for k in kept] for who in given}
    names = {name: name.removeprefix(_COLUMN) for name in columns}
    return [{"column": names[key], **foretold_by(of, labels, question, names[key])} for key, of in columns.items()]


def _gold_columns(given: object, task: TaskSpec) -> list[str]:
    """The columns of people's answers, as a note has them."""
    if isinstance(given, Mapping):
        return [column for one in given.values() for column in _gold_columns(one, task)]
    if isinstance(given, list):
        return given
    return [given] if isinstance(given, str) else [name for name in task.parts if name]


def _slices(
    texts: Sequence[object], right: list[bool], columns: Mapping[str, Sequence], words: Words
) -> list[dict] | None:
    kept = [k for k, text in enumerate(texts) if why_unusable(text) is None]
    if len(kept) < _LEAST_GOLD:
        return None
    read = [str(texts[k]) for k in kept]
    return find_slices(
        read,
        [right[k] for k in kept],
        columns={n: [v[k] for k in kept] for n, v in columns.items()},
        embeddings=_topics(read, words),
        words=words,
    )


def _topics(texts: list[str], words: Words) -> np.ndarray | None:
    """Latent semantic analysis (Deerwester et al. 1990): what texts are about, without a model."""
    counts = in_texts(words.counts(texts)[0], 2, len(texts) / 2)
    if counts.shape[1] <= _WIDTH:
        return None
    return TruncatedSVD(_WIDTH, random_state=0).fit_transform(tf_idf(counts))
