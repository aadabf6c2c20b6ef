"""The cascade: rows that the student is unsure of go to the teacher, within a budget."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Features
from numpy.typing import NDArray

from hf_llambert.annotation.calibration import Calibration, batch_calibration, uncalibrated
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.data import STAGE_FILE, claim_stage, note_stage, stage_results
from hf_llambert.intervals import paired_bootstrap, wilson_interval
from hf_llambert.notes import CASCADED, empty_shape
from hf_llambert.pool.cascade_shards import (
    WINDOW,
    CascadeShard,
    cascade_shards,
    groups,
    written_gold,
)
from hf_llambert.pool.guarantee import check_labels
from hf_llambert.pool.labelled import labels_identity
from hf_llambert.pool.manifest import shard_files
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.progress import progress_bar
from hf_llambert.tasks.questions import ABSTAIN, LabelValues, gold_reading, label_meanings, value_key
from hf_llambert.tasks.texts import column_names

_STUDENT = ("student_label", "student_confidence", "student_scores")


def cascade(
    labels: str | Path,
    labeler: LLMLabeler,
    output: str | Path,
    *,
    below: float,
    max_asked: int | None = None,
    gold_column: str | None = None,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
    overwrite: bool = False,
    show_progress: bool = True,
) -> dict:
    """
    Ask the teacher about the rows of a labelled pool that the student is unsure of.

    `output/part-*.parquet` are the shards of `labels`, one for one, with all their columns, those of [`LLMLabeler`] (null
    where the teacher was not asked), `cascade_label` (the teacher's label where it gave one, else the student's) and
    `cascade_source` (`student` or `teacher`). A shard is written whole or not at all.

    Replies are in the labeler's ledger before a shard is written. The same call again asks only what is missing; rows
    that failed keep the student's label and are asked about again. Under `accelerate launch` each process takes its share
    of the shards.

    Args:
        labels (`str` or `Path`): The folder that [`label_pool`] wrote.
        labeler (`LLMLabeler`): Task, teacher, ledger and calibration. Scores mean little without a calibration; see
            [`pool_calibration`].
        output (`str` or `Path`): Where the shards go.
        below (`float`): Rows with a student's confidence below this are asked about; see [`calibrate_cascade`] for one
            that keeps a promise. Rows without a usable text never are.
        max_asked (`int`, *optional*): Most rows to ask about: those that the student is least sure of, the earlier of
            equals. Memory is needed for the column of confidences alone.
        gold_column (`str`, *optional*): People's labels, to measure what was bought. Used for nothing else.
        label_map (`Mapping[str, str]`, *optional*): What other labels of that column are in the task; see [`with_gold`].
        label_values (`str`, defaults to `"auto"`): What that column holds: `names`, `ids` or `ids_from_1`.
        overwrite (`bool`, defaults to `False`): Replace the results of another call.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Returns:
        `dict`: `n`, `n_asked`, `n_changed` (the teacher's label is not the student's), `n_abstained`, `n_failed`,
        and their `reasons` with counts;
        `threshold`, which is `below` or, where `max_asked` cut it, the confidence of the surest row asked about;
        `seconds`, `input_tokens` and `output_tokens` of asking, a repeated text counted once; and with gold `gold`: for
        `all` rows with gold and those `asked`, `n`, accuracy of `student` and `cascade` and their `difference`, each with
        its 95 % interval.

    Raises:
        BlockingIOError: Another process writes `output`, or asks the same with the same ledger.
        FileExistsError: `output` holds the results of another call.
        FileNotFoundError: `labels` holds no shards.
        ValueError: The student has other labels than the task, a column is missing or taken, or an argument is wrong.
    """
    if not 0 <= below <= 1 or (max_asked is not None and max_asked < 0):
        raise ValueError(f"Expected below from 0 to 1 and max_asked of 0 or more, got {below} and {max_asked}.")
    files = shard_files(labels)
    _check_columns(files[0], labeler, gold_column)
    config = {
        "labels": labels_identity(files),
        "task": labeler.task.to_dict(),
        "teacher": labeler.teacher.identity(),
        "calibration": dataclasses.asdict(labeler.calibration),
        "text_column": labeler.text_column,
        "below": below,
        "max_asked": max_asked,
        "gold_column": gold_column,
        **gold_reading(label_map, label_values),
    }
    gold = None
    if gold_column is not None:  # before anything is claimed or paid for
        gold = (gold_column, pool_gold(labels, labeler.task.labels, gold_column, label_map, label_values))
    state, output = process_state(), Path(output)
    with asking_turn([labeler], output) if state.is_main_process else nullcontext():
        if state.is_main_process:
            _claim(output, config, overwrite)
        wait_for_everyone()  # nobody asks before the main process has its turn
        return _in_turn(files, labeler, output, config, gold, show_progress)


def _in_turn(
    files: list[Path],
    labeler: LLMLabeler,
    output: Path,
    config: dict,
    gold: tuple[str, Mapping[tuple[str, object], int]] | None,
    show_progress: bool,
) -> dict:
    """As [`cascade`], with its arguments in `config` and what gold means."""
    state, below, max_asked = process_state(), config["below"], config["max_asked"]
    done = stage_results(output, config, (CASCADED, empty_shape))
    confidence = _confidences(files)
    chosen, threshold = choose_rows(confidence, below, max_asked)
    shards = list(cascade_shards(files, output, chosen))
    finished = [shard.finished() for shard in shards]
    wait_for_everyone()  # all have looked before one writes
    if done and all(finished):
        return done
    mine = [s for s, there in zip(shards, finished, strict=True) if not there]
    mine = mine[state.process_index :: state.num_processes]
    with progress_bar(
        "asking", sum(shard.n_asked for shard in mine), show_progress and state.is_main_process
    ) as progress:
        for group in groups(mine):
            _ask([text for shard in group for text in shard.texts(labeler.text_column)], labeler, progress)
            for shard in group:
                shard.write(labeler)
    labeler.ledger.close()  # so that the main process, maybe on another machine, finds all of it in the files
    wait_for_everyone()
    if state.is_main_process:
        note_stage(output, config, _results(shards, labeler, gold) | {"below": below, "threshold": threshold})
        for litter in output.glob(".part-*"):
            litter.unlink()
    wait_for_everyone()
    noted = stage_results(output, config, (CASCADED, empty_shape))
    if not noted:
        raise RuntimeError(f"The main process did not finish '{output}'. Its error is above; the replies are kept.")
    return noted


def pool_gold(
    labels: str | Path,
    names: Sequence[str],
    column: str,
    label_map: Mapping[str, str] | None = None,
    label_values: LabelValues = "auto",
) -> dict[tuple[str, object], int]:
    """
    What each value of people's labels in a labelled pool is, decided by all its shards; see [`label_meanings`].

    Raises:
        ValueError: The values fit two readings, or none.
    """
    values = {value_key(value): value for file in shard_files(labels) for value in written_gold(file, column)}
    try:
        return label_meanings(values.values(), names, column, label_map, label_values)
    except ValueError as error:
        raise ValueError(
            f"People's labels of the pool: {error} Or measure by none: gold_column=None (--label_column none, with "
            f"--guarantee --label_column and the name of another column)."
        ) from error


def choose_rows(
    confidence: NDArray[np.float32], below: float, max_asked: int | None
) -> tuple[NDArray[np.bool_], float]:
    """Which rows to ask about, and the threshold that this comes to. NaN is never chosen."""
    chosen = confidence < np.float32(below)
    if max_asked is None or chosen.sum() <= max_asked:
        return chosen, below
    if not max_asked:
        return np.zeros_like(chosen), 0.0
    surest = np.partition(confidence[chosen], max_asked - 1)[max_asked - 1]
    chosen = confidence < surest
    chosen[np.flatnonzero(confidence == surest)[: max_asked - int(chosen.sum())]] = True
    return chosen, float(surest)


def pool_calibration(
    labels: str | Path, labeler: LLMLabeler, *, below: float = 1.0, number: int = 256, show_progress: bool = True
) -> Calibration:
    """
    Batch calibration over the rows that the student is least sure of, which [`cascade`] would ask about in any case.

    Args:
        labels (`str` or `Path`): The folder that [`label_pool`] wrote.
        labeler (`LLMLabeler`): Task, teacher and ledger.
        below (`float`, defaults to 1): No row of a higher confidence.
        number (`int`, defaults to 256): Most rows.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Returns:
        `Calibration`: None at all where the teacher gives no scores.
    """
    none = uncalibrated(labeler.task.num_labels)
    if labeler.teacher.mode != "score":
        return none
    files = shard_files(labels)
    _check_columns(files[0], labeler, None)
    chosen, _ = choose_rows(_confidences(files), below, number)
    texts = [text for shard in cascade_shards(files, Path(), chosen) for text in shard.texts(labeler.text_column)]
    turn = asking_turn([labeler]) if process_state().is_main_process else nullcontext()
    with turn, progress_bar("calibrating", len(texts), show_progress) as progress:
        replies = labeler.replies(texts, progress=progress)
    scores = [s for text in texts if isinstance(text, str) and (s := replies[text].scores) is not None]
    return batch_calibration(scores) if scores else none


def _check_columns(first: Path, labeler: LLMLabeler, gold_column: str | None) -> None:
    schema = pq.read_schema(first)
    missing = [name for name in _STUDENT if name not in schema.names]
    if missing:
        raise ValueError(f"Columns {missing} not found in '{first}'. Pass the folder that label_pool wrote.")
    lacking = [name for name in column_names(labeler.text_column) if name not in schema.names]
    if lacking:
        raise ValueError(
            f"Column '{lacking[0]}' not found in {schema.names}. Label the pool so that its text is kept, or pass "
            f"text_column=... to the labeler."
        )
    if gold_column is not None and gold_column not in schema.names:
        raise ValueError(f"Column '{gold_column}' not found in {schema.names}. Pass gold_column=... .")
    taken = [name for name in schema.names if name.startswith(("llm_", "cascade_"))]
    if taken:
        raise ValueError(f"The labels have the columns {taken} already. Label the pool without keeping them.")
    check_labels(getattr(Features.from_arrow_schema(schema)["student_label"], "names", ()), labeler)


def _claim(output: Path, config: Mapping[str, object], overwrite: bool) -> None:
    try:
        claim_stage(output, config)
    except FileExistsError:
        if not overwrite or not (output / STAGE_FILE).is_file():
            raise
        for path in output.glob("part-*.parquet"):  # before the note: what is there would pass for this call's
            path.unlink()
        claim_stage(output, config, overwrite)


def _confidences(files: Sequence[Path]) -> NDArray[np.float32]:
    """The student's confidence in each row; NaN where it has no label."""
    parts = []
    for path in files:
        table = pq.ParquetFile(path).read(columns=["student_label", "student_confidence"])
        label = table["student_label"].fill_null(ABSTAIN).to_numpy()
        parts.append(np.where(label == ABSTAIN, np.float32("nan"), table["student_confidence"].to_numpy()))
    return np.concatenate(parts).astype(np.float32)


def _ask(texts: Sequence[object], labeler: LLMLabeler, progress: Callable[[int], None]) -> None:
    for start in range(0, len(texts), WINDOW):
        window = texts[start : start + WINDOW]
        told = 0

        def tell(count: int) -> None:
            nonlocal told
            told += count  # noqa: B023  (called within this turn of the loop only)
            progress(count)

        labeler.replies(window, progress=tell)
        progress(len(window) - told)  # repeated texts


def _results(
    shards: Sequence[CascadeShard],
    labeler: LLMLabeler,
    gold_meanings: tuple[str, Mapping[tuple[str, object], int]] | None,
) -> dict:
    """The counts and figures, from what was written: a lost row must show."""
    names = ["student_label", "llm_label", "llm_status", "llm_reason", "cascade_label"]
    reasons: Counter[str] = Counter()
    counts = dict.fromkeys(("n", "n_asked", "n_changed", "n_abstained", "n_failed"), 0)
    seconds, tokens = _spent(shards, labeler)
    right: list[NDArray[np.bool_]] = []
    for shard in shards:
        table = pq.ParquetFile(shard.target).read(columns=names)
        if table.num_rows != len(shard.asked):
            raise RuntimeError(
                f"'{shard.target}' holds {table.num_rows:,} rows, expected {len(shard.asked):,}. Remove it and run again."
            )
        student, decided = (table[name].fill_null(ABSTAIN).to_numpy() for name in ("student_label", "cascade_label"))
        status = table["llm_status"].to_pylist()
        counts["n"] += len(student)
        counts["n_asked"] += shard.n_asked
        counts["n_changed"] += int((student != decided).sum())
        counts["n_abstained"] += status.count("abstained")
        counts["n_failed"] += status.count("failed")
        reasons.update(reason for reason in table["llm_reason"].to_pylist() if reason)
        if gold_meanings is not None:
            column, meanings = gold_meanings
            gold = np.array([meanings[value_key(value)] for value in shard.gold(column)])
            known = (gold != ABSTAIN) & (student != ABSTAIN)
            right.append(np.stack([student == gold, decided == gold, shard.asked])[:, known])
    return {
        **counts,
        "seconds": seconds,
        "input_tokens": tokens[0],
        "output_tokens": tokens[1],
        "reasons": dict(reasons),
        "gold": _bought(np.concatenate(right, axis=1)) if right else None,
    }


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
