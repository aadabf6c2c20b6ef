"""What can be said of a finished run beyond its accuracy: noise, prevalence, drift, slices, and what more labels are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from hf_llambert.quality.prevalence import class_prevalence
from hf_llambert.quality.slices import find_slices
from hf_llambert.quality.words import Words, in_texts, tf_idf
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.texts import TextColumn, column_names, why_unusable
from hf_llambert.training.compared import EVALUATION_FILE, read_evaluation

_TEXTS, _FILES = 2000, 64  # of the pool that are read for drift
_MOST_ROWS = 10_000  # in which wrong labels are looked for; more take minutes and change little
_LEAST_GOLD = 100  # rows below which slices are chance
_WIDTH = 32  # of what the clusters are made of


def find_all(
    run: Path, labels: Sequence[str], annotated: Dataset | None, config: Mapping, rows: list[dict], pool: Path | None
) -> dict:
    """
    Everything that the folders of a run allow; what they do not is `None`.

    Args:
        run (`Path`): Folder of the run.
        labels (`Sequence[str]`): Names of the labels.
        annotated (`Dataset`, *optional*): The annotated rows.
        config (`Mapping`): How they were annotated.
        rows (`list[dict]`): Of each annotated row `text`, and the label ids `teacher` and `gold`.
        pool (`Path`, *optional*): Folder of the labelled pool, where this run's student labelled all of it.

    Returns:
        `dict`: `noise`, `pool` (`counts` of the labels given to it), `prevalence`, `drift` and `slices` (`teacher` and
        `student`).

    Raises:
        OSError: The note of the pool counts other rows than its shards have.
    """
    usable, words = [row for row in rows if row["teacher"] != ABSTAIN], Words()
    evaluation = read_evaluation(run / "student") if (run / "student" / EVALUATION_FILE).is_file() else None
    out: dict = {
        "noise": _noise(usable, words),
        "pool": None,
        "prevalence": None,
        "drift": None,
    }
    if pool:
        made = read_stage(pool / STAGE_FILE, "labels")
        counts = pool_counts(pool, len(labels))
        if sum(counts) != made["results"]["n_labelled"]:
            why = f"expected {sum(counts)} rows with a label, as its shards have, at 'results.n_labelled'"
            raise damaged_note(pool / STAGE_FILE, f"{why}, got {made['results']['n_labelled']}")
        out["pool"] = {"counts": dict(zip(labels, counts, strict=True))}
        if evaluation and len(evaluation) > 1 and any(counts):
            out["prevalence"] = class_prevalence(evaluation["gold"][:], evaluation["student_label"][:], counts, labels)
    if pool and annotated is not None:
        texts = pool_texts(pool, made["config"]["text_column"])
        if texts is not None:
            out["drift"] = measure_drift([row["text"] for row in rows], texts, words=words)
    known = [k for k, row in enumerate(rows) if ABSTAIN not in (row["teacher"], row["gold"])]
    columns = {} if annotated is None else _columns(annotated.select(known), config)
    out["slices"] = {
        "teacher": _slices(
            [rows[k]["text"] for k in known], [rows[k]["teacher"] == rows[k]["gold"] for k in known], columns, words
        ),
        "student": None,
    }
    if evaluation and "text" in evaluation.column_names:
        right = np.array(evaluation["student_label"][:]) == np.array(evaluation["gold"][:])
        out["slices"]["student"] = _slices(evaluation["text"][:], right.tolist(), {}, words)
    return out


def pool_counts(folder: Path, num_labels: int) -> list[int]:
    """How often each label was given to a labelled pool, read one shard at a time."""
    counts = np.zeros(num_labels, dtype=np.int64)
    for path in shard_files(folder):
        given = pq.read_table(path, columns=["student_label"])["student_label"].to_numpy()
        counts += np.bincount(given[given >= 0], minlength=num_labels)
    return [int(count) for count in counts]


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


def _noise(usable: list[dict], words: Words) -> dict | None:
    if len(usable) > _MOST_ROWS:
        drawn = np.random.default_rng(0).permutation(len(usable))[:_MOST_ROWS]
        usable = [usable[k] for k in sorted(drawn.tolist())]
    try:
        share, suspects = likely_label_errors(
            [row["text"] for row in usable], [row["teacher"] for row in usable], words=words
        )
    except ImportError:
        return None
    return {"share": share, "n": len(usable), "n_suspected": len(suspects)}


def _columns(data: Dataset, config: Mapping) -> dict[str, list]:
    """Columns of few values, in which the rows may be sliced."""
    out = {}
    for name, feature in data.features.items():
        ours = name.startswith(("llm_", "student_")) or name in (
            config.get("gold_column"),
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
        if 2 <= len({value for value in values if value is not None}) <= 20:
            out[f"column {name}"] = values
    return out


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
