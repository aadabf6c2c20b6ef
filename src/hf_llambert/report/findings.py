"""What can be said of a finished run beyond its accuracy: noise, prevalence, drift, slices, and what more labels are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Value
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from hf_llambert.data import STAGE_FILE
from hf_llambert.notes import COUNT, SHARE, damaged_note, read_note, read_stage
from hf_llambert.pool.cascade import labels_identity
from hf_llambert.pool.manifest import shard_files
from hf_llambert.quality.curves import CURVE_FILE, worth_of_labels
from hf_llambert.quality.drift import measure_drift
from hf_llambert.quality.labelled import run_labels
from hf_llambert.quality.noise import likely_label_errors
from hf_llambert.quality.prevalence import class_prevalence
from hf_llambert.quality.slices import find_slices
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.texts import why_unusable
from hf_llambert.training.evaluation import EVALUATION_FILE, read_evaluation

logger = get_logger(__name__)

_TEXTS, _FILES = 2000, 64  # of the pool that are read for drift
_MOST_ROWS = 10_000  # in which wrong labels are looked for; more take minutes and change little
_MORE = 500  # labels whose worth is told
_LEAST_GOLD = 100  # rows below which slices are chance
_WIDTH = 32  # of what the clusters are made of
_LEVEL = 0.05


def notes_of_student(run: Path) -> tuple[dict[str, dict | None], dict[str, str]]:
    """
    What a run's student left: the notes of the pool that it labelled to its end and of its cascade.

    Args:
        run (`Path`): Folder of the run.

    Returns:
        `tuple[dict, dict]`: The notes of `labels` and `cascade`, or `None`; and by name why one that is there is left out.
    """
    found, cascade = run_labels(run), run / "cascade" / STAGE_FILE
    note = read_stage(cascade, "cascade") if cascade.is_file() else None
    left_out = {"labels": why} if found is not None and (why := found.left_out) else {}
    if note and found is not None and (left_out or labels_identity(found.shards()) != note["config"].get("labels")):
        left_out["cascade"] = (
            "'cascade' is left out: it is of other labels. Run hf-llambert label with its options again."
        )
    notes = {"labels": found.note if found is not None else None, "cascade": note}
    return {name: None if name in left_out else one for name, one in notes.items()}, left_out


def student_less_teacher(student: Mapping | None, teacher: Mapping | None) -> dict | None:
    """
    The student's accuracy on held-out texts less the teacher's on annotated ones, with the 95 % interval of Newcombe (1998,
    method 10) for shares of different texts. `None` where one was not measured.
    """
    if not student or not teacher or student.get("accuracy") is None or teacher.get("accuracy") is None:
        return None
    difference = student["accuracy"] - teacher["accuracy"]
    down = math.hypot(student["accuracy"] - student["accuracy_low"], teacher["accuracy_high"] - teacher["accuracy"])
    up = math.hypot(student["accuracy_high"] - student["accuracy"], teacher["accuracy"] - teacher["accuracy_low"])
    return {"difference": difference, "low": difference - down, "high": difference + up}


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
        `dict`: `noise`, `pool` (`counts` of the labels given to it), `prevalence`, `advice`, `drift` and `slices` (`teacher` and
        `student`).

    Raises:
        OSError: The note of the pool counts other rows than its shards have.
    """
    usable = [row for row in rows if row["teacher"] != ABSTAIN]
    evaluation = read_evaluation(run / "student") if (run / "student" / EVALUATION_FILE).is_file() else None
    out: dict = {"noise": _noise(usable), "pool": None, "prevalence": None, "advice": _advice(run), "drift": None}
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
            out["drift"] = measure_drift([row["text"] for row in rows], texts)
    known = [k for k, row in enumerate(rows) if ABSTAIN not in (row["teacher"], row["gold"])]
    columns = {} if annotated is None else _columns(annotated.select(known), config)
    out["slices"] = {
        "teacher": _slices(
            [rows[k]["text"] for k in known], [rows[k]["teacher"] == rows[k]["gold"] for k in known], columns
        ),
        "student": None,
    }
    if evaluation and "text" in evaluation.column_names:
        right = np.array(evaluation["student_label"][:]) == np.array(evaluation["gold"][:])
        out["slices"]["student"] = _slices(evaluation["text"][:], right.tolist(), {})
    return out


def finding_sentences(report: Mapping) -> list[str]:
    """What was found, a sentence each, for every form of a report."""
    out, noise, drift = [*report.get("left_out", {}).values()], report.get("noise"), report.get("drift")
    if noise and noise["share"] is not None:
        out.append(
            f"About {noise['share']:.1%} of the teacher's labels contradict how it labels similar texts (confident learning, no "
            f"gold; errors that it always makes are not counted)."
        )
    if report.get("advice"):
        said = report["advice"]["sentence"]
        out.append(f"{said[0].upper()}{said[1:]}.")
    if drift and drift["p"] is None:
        out.append(str(drift["why"]))
    elif drift:
        words = {side: ", ".join(drift["words"][side][:5]) for side in ("pool", "sample")}
        apart = "".join(f"; more in the {side}: {found}" for side, found in words.items() if found)
        if drift["p"] >= _LEVEL:
            out.append(
                f"The labelled pool reads like the annotated sample (a classifier tells them apart with AUC {drift['auc']:.2f}, "
                f"p = {drift['p']:.2g})."
            )
        else:
            out.append(
                f"The labelled pool is of another kind than the annotated sample (a classifier tells them apart with AUC "
                f"{drift['auc']:.2f}, p = {drift['p']:.1g}{apart}). The student's accuracy there may be another."
            )
    for who, found in (report.get("slices") or {}).items():
        worse = [row for row in found or [] if row["p_adjusted"] < _LEVEL and row["difference"] < 0][:3]
        out += [
            f"The {who} is right less often where {row['kind']} is {row['name']}: {row['accuracy']:.1%} ({row['low']:.1%} to "
            f"{row['high']:.1%}) of {row['n']:,}, {100 * row['difference']:+.1f} points against the rest."
            for row in worse
        ]
        if found and not worse:
            out.append(
                f"No slice was found on which the {who} is right less often than elsewhere, of {len(found)} shown."
            )
    return out


def pool_counts(folder: Path, num_labels: int) -> list[int]:
    """How often each label was given to a labelled pool, read one shard at a time."""
    counts = np.zeros(num_labels, dtype=np.int64)
    for path in shard_files(folder):
        given = pq.read_table(path, columns=["student_label"])["student_label"].to_numpy()
        counts += np.bincount(given[given >= 0], minlength=num_labels)
    return [int(count) for count in counts]


def pool_texts(folder: Path, column: str, seed: int = 0) -> list[str] | None:
    """At most 2,000 texts drawn at random from up to 64 shards of a labelled pool; `None` where it keeps no texts."""
    random, paths = np.random.default_rng(seed), shard_files(folder)
    if column not in pq.read_schema(paths[0]).names:
        return None
    chosen = [paths[k] for k in sorted(random.permutation(len(paths))[:_FILES])]
    sizes = np.array([pq.read_metadata(path).num_rows for path in chosen])
    drawn = np.sort(random.permutation(int(sizes.sum()))[:_TEXTS])
    texts, start = [], 0
    for path, size in zip(chosen, sizes.tolist(), strict=True):
        mine = drawn[(drawn >= start) & (drawn < start + size)] - start
        start += size
        if len(mine):
            texts += pq.read_table(path, columns=[column])[column].take(mine).to_pylist()
    return texts


def _noise(usable: list[dict]) -> dict | None:
    if len(usable) > _MOST_ROWS:
        drawn = np.random.default_rng(0).permutation(len(usable))[:_MOST_ROWS]
        usable = [usable[k] for k in sorted(drawn.tolist())]
    try:
        share, suspects = likely_label_errors([row["text"] for row in usable], [row["teacher"] for row in usable])
    except ImportError:
        return None
    return {"share": share, "n": len(usable), "n_suspected": len(suspects)}


def _advice(run: Path) -> dict | None:
    path = run / CURVE_FILE
    if not path.is_file():
        return None
    try:
        curve = read_note(path, {"sizes": [COUNT], "accuracy": [SHARE], "n_eval": COUNT, "n_train": COUNT})
        sizes, accuracy = curve["sizes"], curve["accuracy"]
        student = run / "student" / "metrics.json"
        if student.is_file() and read_note(student, {"train": {"n": int}})["train"]["n"] != curve["n_train"]:
            logger.warning(
                "'%s' is of another number of labels than the student, and is left out: train --curve.", path
            )
            return None
        return {"n_eval": int(curve["n_eval"]), **curve, **worth_of_labels(sizes, accuracy, min(_MORE, max(sizes)))}
    except (ValueError, OSError) as error:
        logger.warning("'%s' is no learning curve (%s) and is left out. Remove it, or make it again.", path, error)
        return None


def _columns(data: Dataset, config: Mapping) -> dict[str, list]:
    """Columns of few values, in which the rows may be sliced."""
    out = {}
    for name, feature in data.features.items():
        ours = name.startswith(("llm_", "student_")) or name in (config.get("gold_column"), config.get("text_column"))
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


def _slices(texts: Sequence[object], right: list[bool], columns: Mapping[str, Sequence]) -> list[dict] | None:
    kept = [k for k, text in enumerate(texts) if why_unusable(text) is None]
    if len(kept) < _LEAST_GOLD:
        return None
    read = [str(texts[k]) for k in kept]
    return find_slices(
        read,
        [right[k] for k in kept],
        columns={n: [v[k] for k in kept] for n, v in columns.items()},
        embeddings=_topics(read),
    )


def _topics(texts: list[str]) -> np.ndarray | None:
    """Latent semantic analysis (Deerwester et al. 1990): what texts are about, without a model."""
    try:
        weights = TfidfVectorizer(min_df=2, max_df=0.5, sublinear_tf=True, stop_words=None).fit_transform(texts)
    except ValueError:  # no word stands in two texts
        return None
    if weights.shape[1] <= _WIDTH:
        return None
    return TruncatedSVD(_WIDTH, random_state=0).fit_transform(weights)
