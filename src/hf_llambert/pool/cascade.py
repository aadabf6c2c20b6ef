"""The cascade: rows that the student is unsure of go to the teacher, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Features
from numpy.typing import NDArray

from hf_llambert.annotation.calibration import Calibration, calibration_of, uncalibrated
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.annotation.turns import asking_turn
from hf_llambert.data import class_names, note_stage, stage_results
from hf_llambert.gold import GoldColumns, LabelMap, Reading, refuse_unknown_question
from hf_llambert.notes import CASCADED, empty_shape
from hf_llambert.pool.cascade_claim import as_promised, cascade_config, claim
from hf_llambert.pool.cascade_results import cascade_results, pool_answers_of_people
from hf_llambert.pool.cascade_shards import WINDOW, cascade_shards, groups, student_prefix
from hf_llambert.pool.guarantee import check_labels
from hf_llambert.pool.manifest import shard_files
from hf_llambert.pool.promise import Guarantee
from hf_llambert.processes import process_state, wait_for_everyone
from hf_llambert.progress import progress_bar
from hf_llambert.tasks.questions import gold_reading
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import column_names
from hf_llambert.teachers.base import asks_in_batches

_STUDENT = ("confidence", "scores")  # beside the answers
Below = float | Guarantee | Mapping[str, float | Guarantee]
"""Below which confidence rows are asked about; of several questions one for all, or one for each by name."""


def cascade(
    labels: str | Path,
    labeler: LLMLabeler,
    output: str | Path,
    *,
    below: Below,
    max_asked: int | None = None,
    gold_column: GoldColumns = None,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
    overwrite: bool = False,
    show_progress: bool = True,
) -> dict:
    """
    Ask the teacher about the rows of a labelled pool that the student is unsure of.

    `output/part-*.parquet` are the shards of `labels`, one for one, with all their columns, those of [`LLMLabeler`] (null
    where the teacher was not asked), `cascade_label` (the teacher's label where it gave one, else the student's) and
    `cascade_source` (`teacher` or `student`; of a [`StudentCascade`] `teacher` or which of the two answered). A shard is
    written whole or not at all.

    Of several questions a text goes to the teacher when the student is unsure of **any**; it answers all, and where the student
    was sure enough of one its own answer to that stays (`cascade_NAME_label`, `cascade_NAME_source`, ...).

    Replies are in the labeler's ledger before a shard is written. The same call again asks only what is missing; rows
    that failed keep the student's label and are asked about again. Under `accelerate launch` each process takes its share
    of the shards.

    Args:
        labels (`str` or `Path`): The folder that [`label_pool`] wrote.
        labeler (`LLMLabeler`): Task, teacher, ledger and calibration. Scores mean little without a calibration; see
            [`pool_calibration`].
        output (`str` or `Path`): Where the shards go.
        below (`float`, `Guarantee`, or a `Mapping` of them): Rows with a student's confidence below this are asked about; of
            several questions below any of theirs, by name or one for all. What [`calibrate_cascade`] or [`calibrate_questions`]
            found is noted with what it promises, and said by [`cascade_summary`]. Rows without a usable text never are.
        max_asked (`int`, *optional*): Most rows to ask about: those that the student is least sure of (of several questions:
            whose confidence is furthest below its threshold), the earlier of equals. Memory is needed for the columns of
            confidences alone.
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
        its 95 % interval. Of the labels of two students also `by_stage`: how many texts each stage answered, of several
        questions with each; and with gold the share of its answers that is right, as `by_stage` in `gold`.

    Raises:
        BlockingIOError: Another process writes `output`, or asks the same with the same ledger.
        FileExistsError: `output` holds the results of another call.
        FileNotFoundError: `labels` holds no shards.
        ValueError: The student has other labels than the task, a column is missing or taken, or an argument is wrong.
    """
    bounds, each = thresholds(below, labeler.task), _by_part(below, labeler.task)
    promises = {name: asdict(one) for name, one in each.items() if isinstance(one, Guarantee)}
    if not all(0 <= one <= 1 for one in bounds.values()) or (max_asked is not None and max_asked < 0):
        raise ValueError(f"Expected below from 0 to 1 and max_asked of 0 or more, got {flat(bounds)} and {max_asked}.")
    files = shard_files(labels)
    _check_columns(files[0], labeler, gold_column)
    config = cascade_config(files, labeler, max_asked, gold_column, gold_reading(label_map, label_values)) | {
        "calibration": _noted(labeler),
        "below": flat(bounds) if promises else below,
        **({"promise": promises} if promises else {}),
    }
    gold = None
    if gold_column is not None:  # before anything is claimed or paid for
        gold = pool_answers_of_people(labels, labeler.task, gold_column, label_map, label_values)
    state, output = process_state(), Path(output)
    with asking_turn([labeler], output) if state.is_main_process else nullcontext():
        if state.is_main_process:
            claim(output, as_promised(output, config), overwrite)
        wait_for_everyone()  # nobody asks before the main process has its turn
        return _in_turn(files, labeler, output, as_promised(output, config), gold, show_progress)


def _in_turn(
    files: list[Path],
    labeler: LLMLabeler,
    output: Path,
    config: dict,
    gold: Mapping[str, list] | None,
    show_progress: bool,
) -> dict:
    """As [`cascade`], with its arguments in `config` and what gold means."""
    state, max_asked, task = process_state(), config["max_asked"], labeler.task
    bounds = thresholds(config["below"], task)
    done = stage_results(output, config, (CASCADED, empty_shape))
    chosen, threshold = choose_texts(confidences(files, task), bounds, max_asked)
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
                shard.write(labeler, bounds)
    labeler.ledger.close()  # so that the main process, maybe on another machine, finds all of it in the files
    wait_for_everyone()
    if state.is_main_process:
        noted_bounds = {"below": flat(bounds), "threshold": flat(threshold)}
        noted_bounds |= {"promise": config["promise"]} if "promise" in config else {}
        note_stage(output, config, cascade_results(shards, labeler, gold) | noted_bounds)
        for litter in output.glob(".part-*"):
            litter.unlink()
    wait_for_everyone()
    noted = stage_results(output, config, (CASCADED, empty_shape))
    if not noted:
        raise RuntimeError(f"The main process did not finish '{output}'. Its error is above; the replies are kept.")
    return noted


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


def thresholds(below: Below, task: TaskSpec) -> dict[str, float]:
    """
    The threshold of each question, by the names of [`TaskSpec.parts`], from one for all or one for each by name.

    Raises:
        ValueError: A name is no question's, or a question has none.
    """
    each = _by_part(below, task)
    return {name: one.threshold if isinstance(one, Guarantee) else float(one) for name, one in each.items()}


def _by_part(below: Below, task: TaskSpec) -> dict[str, float | Guarantee]:
    """As [`thresholds`], with what is promised."""
    if not isinstance(below, Mapping):
        if isinstance(below, Guarantee) and len(task.parts) > 1:
            raise ValueError(
                f"below is a promise about one question, and task '{task.name}' has several. Pass one for each by name."
            )
        return dict.fromkeys(task.parts, below)
    given = {"" if "" in task.parts and name == task.question.name else name: one for name, one in below.items()}
    for name in given:
        if name not in task.parts:
            refuse_unknown_question(name, task)
    lacking = [name for name in task.parts if name not in given]
    if lacking:
        raise ValueError(f"below has no threshold of {', '.join(lacking)}; got {dict(below)}. Give 0 to ask never.")
    return {name: given[name] for name in task.parts}


def flat(by_part: Mapping[str, float]) -> float | dict[str, float]:
    """The only value of a task of one question; those of several by name."""
    return by_part[""] if list(by_part) == [""] else dict(by_part)


def choose_texts(
    confidence: Mapping[str, NDArray[np.float32]], below: Mapping[str, float], max_asked: int | None
) -> tuple[NDArray[np.bool_], dict[str, float]]:
    """Which texts to ask about, and the threshold of each question that this comes to; see [`choose_rows`]."""
    if list(confidence) == [""]:
        chosen, threshold = choose_rows(confidence[""], below[""], max_asked)
        return chosen, {"": threshold}
    margins = np.stack([np.float32(below[name]) - sure for name, sure in confidence.items()])
    most = np.where(np.isnan(margins), -np.inf, margins).max(0)  # how far below, in the question that is furthest
    chosen = most > 0
    if max_asked is None or chosen.sum() <= max_asked:
        return chosen, dict(below)
    if not max_asked:
        return np.zeros_like(chosen), dict.fromkeys(below, 0.0)
    order = np.argsort(-most, kind="stable")[:max_asked]
    chosen = np.zeros_like(chosen)
    chosen[order] = True
    cut = float(most[order[-1]])
    return chosen, {name: max(float(one) - cut, 0.0) for name, one in below.items()}


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
    if len(labeler.task.parts) > 1:
        raise ValueError(
            f"Task '{labeler.task.name}' has several questions, and a calibration is of one. Annotate a sample first: "
            f"saved_calibration has one for each."
        )
    none = uncalibrated(labeler.task.num_labels, labeler.task.question.kind)
    if labeler.teacher.mode != "score":
        return none
    files = shard_files(labels)
    _check_columns(files[0], labeler, None)
    chosen, _ = choose_rows(confidences(files, labeler.task)[""], below, number)
    texts = [text for shard in cascade_shards(files, Path(), chosen) for text in shard.texts(labeler.text_column)]
    turn = asking_turn([labeler]) if process_state().is_main_process else nullcontext()
    with turn, progress_bar("calibrating", len(texts), show_progress) as progress:
        replies = labeler.replies(texts, progress=progress)
    scores = [s for text in texts if isinstance(text, str) and (s := replies[text].scores) is not None]
    return (calibration_of("batch", labeler.task.question, scores) if scores else none) or none


def _noted(labeler: LLMLabeler) -> dict:
    """The calibration as the note has it; of several questions by name."""
    found = {name: one.to_dict() for name, one in labeler.calibrations.items()}
    return found[""] if list(found) == [""] else found


def _check_columns(first: Path, labeler: LLMLabeler, gold_column: GoldColumns) -> None:
    if asks_in_batches(labeler.teacher):
        raise ValueError(
            f"A cascade asks shard by shard, and {type(labeler.teacher).__name__} would make, and wait a day for, a batch of "
            f"each. Use the endpoint of the same model."
        )
    schema = pq.read_schema(first)
    wanted = [
        f"{student_prefix(part)}_{end}"
        for part, one in labeler.task.parts.items()
        for end in (*one.question.own_features(), *_STUDENT)
    ]
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise ValueError(f"Columns {missing} not found in '{first}'. Pass the folder that label_pool wrote.")
    lacking = [name for name in column_names(labeler.text_column) if name not in schema.names]
    if lacking:
        raise ValueError(
            f"Column '{lacking[0]}' not found in {schema.names}. Label the pool so that its text is kept, or pass "
            f"text_column=... to the labeler."
        )
    if isinstance(gold_column, str) and gold_column not in schema.names:
        raise ValueError(f"Column '{gold_column}' not found in {schema.names}. Pass gold_column=... .")
    taken = [name for name in schema.names if name.startswith(("llm_", "cascade_"))]
    if taken:
        raise ValueError(f"The labels have the columns {taken} already. Label the pool without keeping them.")
    features = Features.from_arrow_schema(schema)
    for part, one in labeler.task.parts.items():
        for end in one.question.own_features():
            names = class_names(features[f"{student_prefix(part)}_{end}"])
            if names or not part:
                check_labels(names or one.labels, labeler, part)


def confidences(files: Sequence[Path], task: TaskSpec) -> dict[str, NDArray[np.float32]]:
    """The student's confidence in each row, by question; NaN where it has no answer."""
    out = {}
    for part, one in task.parts.items():
        answers, sure = f"{student_prefix(part)}_{one.question.answer_column}", f"{student_prefix(part)}_confidence"
        nothing = one.question.missing
        found = []
        for path in files:
            table = pq.ParquetFile(path).read(columns=[answers, sure])
            there = table[answers].is_valid().to_numpy()
            if nothing is not None:
                there &= table[answers].fill_null(nothing).to_numpy() != nothing
            found.append(np.where(there, table[sure].to_numpy(), np.float32("nan")))
        out[part] = np.concatenate(found).astype(np.float32)
    return out


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
