"""`label_pool`: a dataset in, Parquet shards with the student's columns out."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset, Features, load_dataset

from hf_llambert.data import check_column, content_hash, note_stage, stage_results, whole_folder
from hf_llambert.processes import process_state
from hf_llambert.progress import progress_bar
from hf_llambert.tasks import ABSTAIN
from hf_llambert.training.students import StudentLabeler

_WINDOW = 1000  # rows among which texts are sorted by length


def label_pool(
    pool: Dataset,
    labeler: StudentLabeler,
    output: str | Path,
    rows_per_shard: int = 10_000,
    show_progress: bool = True,
) -> dict:
    """
    Label every row of a dataset into `output/part-*.parquet`, in order.

    A shard is written whole or not at all, and one that is there is not computed again. Under `accelerate launch` each
    process takes every n-th shard; they share nothing but the folder.

    Args:
        pool (`Dataset`): The texts.
        labeler (`StudentLabeler`): The student.
        output (`str` or `Path`): Where the shards go.
        rows_per_shard (`int`, defaults to 10,000): Rows in each shard but the last.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Returns:
        `dict`: `n_labelled`, `n_unusable`, `seconds` of computing summed over processes, `texts_per_second` of one.

    Raises:
        FileExistsError: `output` holds labels of another pool or student.
        ValueError: No such column, or no rows.
    """
    check_column(pool, labeler.text_column, "text_column")
    if not len(pool) or rows_per_shard < 1:
        raise ValueError(f"Expected rows and a positive rows_per_shard, got {len(pool)} and {rows_per_shard}.")
    taken = [name for name in pool.column_names if name.startswith("student_")]
    if taken:
        raise ValueError(f"The pool has the columns {taken} already. Remove or rename them before labeling.")
    state, output = process_state(), Path(output)
    config = {
        "student": labeler.identity,
        "pool": content_hash(pool),
        "text_column": labeler.text_column,
        "rows_per_shard": rows_per_shard,
    }
    done = stage_results(output, config)
    if done is not None and done:
        return done
    state.wait_for_everyone()
    if done is None and state.is_main_process:
        with whole_folder(output) as part:
            note_stage(part, config, {})  # claims the folder: empty results mean that shards are missing
    state.wait_for_everyone()
    features = labeler.features(pool)
    labeler.warm_up()
    shards = range(-(-len(pool) // rows_per_shard))
    mine = shards[state.process_index :: state.num_processes]
    with progress_bar(
        "labeling", len(pool) // state.num_processes, show_progress and state.is_main_process
    ) as progress:
        for shard in mine:
            rows = pool.select(range(shard * rows_per_shard, min((shard + 1) * rows_per_shard, len(pool))))
            path = output / f"part-{shard:05d}.parquet"
            if path.exists():
                progress(len(rows))
            else:
                _label_shard(rows, labeler, features, path, progress)
    state.wait_for_everyone()
    if state.is_main_process:
        note_stage(output, config, _results(output, len(pool), len(shards)))
        for note in output.glob("*.seconds"):
            note.unlink()
    state.wait_for_everyone()
    return stage_results(output, config) or {}


def _label_shard(
    rows: Dataset, labeler: StudentLabeler, features: Features, path: Path, progress: Callable[[int], None]
) -> None:
    columns: dict[str, list] = {}
    start = time.perf_counter()
    for window in rows.select_columns(labeler.text_column).with_format(None).iter(batch_size=_WINDOW):
        for name, values in labeler(window).items():
            columns.setdefault(name, []).extend(values)
        progress(len(window[labeler.text_column]))
    seconds = time.perf_counter() - start
    for name, values in columns.items():
        rows = rows.add_column(name, values, feature=features[name])
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        rows.to_parquet(str(part))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        path.with_suffix(".seconds").write_text(f"{seconds}", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _results(output: Path, expected: int, shards: int) -> dict:
    """Count what is there, so that a lost row shows."""
    labelled = read_pool(output)
    if len(labelled) != expected:
        raise RuntimeError(f"'{output}' holds {len(labelled)} rows, expected {expected}. Remove it and run again.")
    notes = [output / f"part-{shard:05d}.seconds" for shard in range(shards)]
    # Absent when another process finished the same folder meanwhile; then the speed is not known.
    known = all(note.exists() for note in notes)
    seconds = sum(float(note.read_text(encoding="utf-8")) for note in notes) if known else 0.0
    unusable = sum(label == ABSTAIN for label in labelled["student_label"])
    return {
        "n_labelled": len(labelled) - unusable,
        "n_unusable": unusable,
        "seconds": seconds,
        "texts_per_second": len(labelled) / seconds if seconds else None,
    }


def read_pool(folder: str | Path) -> Dataset:
    """The rows that [`label_pool`] wrote, in the order of the pool."""
    files = sorted(str(p) for p in Path(folder).glob("part-*.parquet"))
    if not files:
        raise FileNotFoundError(f"'{folder}' holds no part-*.parquet. Label a pool into it first.")
    return load_dataset("parquet", data_files=files, split="train")
