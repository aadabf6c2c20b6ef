"""The annotating stage: a sample in, a folder with the annotated sample out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from accelerate import PartialState
from datasets import Dataset

from hf_llambert.annotation.calibration import (
    Calibration,
    batch_calibration,
    calibrate,
    contextual_calibration,
    fitted_calibration,
    scored_rows,
)
from hf_llambert.annotation.labelers import LLMLabeler
from hf_llambert.data import (
    STAGE_FILE,
    check_column,
    content_hash,
    gold_labels,
    note_stage,
    stage_results,
    whole_folder,
)
from hf_llambert.metrics import AnnotationQuality
from hf_llambert.progress import progress_bar
from hf_llambert.tasks import ABSTAIN, TaskSpec

CalibrationMethod = Literal["none", "batch", "contextual", "fitted"]
_MAP_BATCH = 1000


def annotate(
    data: Dataset,
    labeler: LLMLabeler,
    output: str | Path,
    *,
    calibration: CalibrationMethod = "batch",
    gold_column: str | None = None,
    calibration_rows: int = 0,
    show_progress: bool = True,
) -> dict:
    """
    Ask the teacher about every row, calibrate, and save the annotated dataset.

    Under `accelerate launch` each process asks about its share of the rows; the main process then puts the dataset
    together from the ledger, which all must see.

    Args:
        data (`Dataset`): The sample.
        labeler (`LLMLabeler`): Task, teacher, ledger and text column.
        output (`str` or `Path`): Folder of the annotated dataset, written whole or not at all. If it holds the result
            of this very call nothing is done, but that failed rows are asked about again.
        calibration (`str`, defaults to `"batch"`): `none`, `batch`, `contextual` or `fitted`. Replies that are not
            scores are left as they are.
        gold_column (`str`, *optional*): People's labels, to measure the teacher by. Used for nothing else, except:
        calibration_rows (`int`, defaults to 0): With `fitted`, the first rows whose gold labels fit the calibration.
            They are left out of the measurement.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.

    Returns:
        `dict`: Counts, speed, the calibration, and `quality` (see [`AnnotationQuality`]) when there is gold.

    Raises:
        FileExistsError: `output` holds the results of another run.
        ValueError: No such column, no rows, or `fitted` without gold.
    """
    state = PartialState()
    output = Path(output)
    check_column(data, labeler.text_column, "text_column")
    if not len(data):
        raise ValueError("The dataset has no rows to annotate.")
    if calibration not in get_args(CalibrationMethod):
        raise ValueError(f"calibration must be none, batch, contextual or fitted, got {calibration!r}.")
    if calibration == "fitted" and (gold_column is None or not 0 < calibration_rows < len(data)):
        raise ValueError(
            f"Fitted calibration needs gold labels: pass gold_column and calibration_rows between 1 and {len(data) - 1}; "
            f"got {gold_column!r} and {calibration_rows}. Batch calibration needs none."
        )
    gold = None if gold_column is None else gold_labels(data, gold_column, labeler.task)
    config = {
        "task": labeler.task.to_dict(),
        "teacher": labeler.teacher.identity(),
        "data": content_hash(data),
        "calibration": calibration,
        "calibration_rows": calibration_rows,
        "labeler_calibration": dataclasses.asdict(labeler.calibration),
        "text_column": labeler.text_column,
        "gold_column": gold_column,
    }
    done = stage_results(output, config)
    if done is not None and not done["n_failed"]:
        return done
    texts = data[labeler.text_column][:]
    start, end = (len(texts) * k // state.num_processes for k in (state.process_index, state.process_index + 1))
    share = texts[start:end]
    with progress_bar("annotating", len(set(map(str, share))), show_progress and state.is_main_process) as progress:
        labeler.replies(share, progress=progress)
        if calibration == "contextual" and state.is_main_process:
            labeler.content_free_scores()
    labeler.ledger.close()  # so that the main process, maybe on another machine, finds all of it in the files
    state.wait_for_everyone()
    if state.is_main_process:
        if done is not None:
            shutil.rmtree(output)  # it holds failed rows; all that came back is in the ledger
        with whole_folder(output) as part:
            # Everything is in the ledger, so a cached result would save nothing and could be of a failed attempt.
            annotated = data.map(
                labeler,
                batched=True,
                batch_size=_MAP_BATCH,
                features=labeler.features(data),
                load_from_cache_file=False,
                desc="assembling",
            )
            found = _calibration(annotated, labeler, calibration, gold, calibration_rows)
            if found is not None:
                annotated = calibrate(annotated, labeler.task, found)
            results = _results(annotated, labeler, found)
            if gold is not None:
                results["quality"] = _quality(annotated, gold, labeler.task, skip=calibration_rows)
            annotated.save_to_disk(part)
            note_stage(part, config, results)
    state.wait_for_everyone()
    noted = stage_results(output, config)
    if noted is None:
        raise RuntimeError(f"The main process did not write '{output}'. Its error is above; the replies are kept.")
    return noted


def saved_calibration(folder: str | Path) -> Calibration | None:
    """The calibration that gave the labels of an annotated dataset in `folder` (or a run's folder); `None` without one."""
    folder = Path(folder)
    note = next((path for path in (folder / "annotated" / STAGE_FILE, folder / STAGE_FILE) if path.is_file()), None)
    if note is None:
        return None
    stage = json.loads(note.read_text(encoding="utf-8"))
    found = stage["results"].get("calibration") or stage["config"]["labeler_calibration"]
    return Calibration(found["method"], tuple(found["bias"]), found["temperature"])


def _calibration(
    annotated: Dataset, labeler: LLMLabeler, method: CalibrationMethod, gold: list[int] | None, rows: int
) -> Calibration | None:
    scored, scores = scored_rows(annotated)
    if method == "none" or not scored:
        return None
    if method == "batch":
        return batch_calibration(scores)
    if method == "contextual":
        return contextual_calibration(labeler.content_free_scores())
    fit = [k for k, row in enumerate(scored) if row < rows and gold and gold[row] != ABSTAIN]
    return fitted_calibration(scores[fit], [gold[scored[k]] for k in fit] if gold else [])


def _results(annotated: Dataset, labeler: LLMLabeler, calibration: Calibration | None) -> dict:
    status = Counter(annotated["llm_status"][:])
    seconds = labeler.seconds(annotated[labeler.text_column][:])
    scored, scores = scored_rows(annotated)
    asked = len(annotated) - sum(reason is not None for reason in annotated["llm_reason"][:])
    return {
        "n_rows": len(annotated),
        "n_ok": status["ok"],
        "n_abstained": status["abstained"],
        "n_failed": status["failed"],
        "n_truncated": sum(annotated["llm_truncated"][:]),
        "reasons": dict(Counter(reason for reason in annotated["llm_reason"][:] if reason)),
        "labels": dict(Counter(annotated.features["llm_label"].int2str(i) for i in annotated["llm_label"] if i >= 0)),
        "coverage": status["ok"] / len(annotated),
        "seconds": seconds,
        "texts_per_second": asked / seconds if seconds else None,
        "label_mass": float(np.exp(np.logaddexp.reduce(scores, axis=1)).mean()) if scored else None,
        "calibration": None
        if calibration is None
        else {"method": calibration.method, "bias": calibration.bias, "temperature": calibration.temperature},
        "mode": labeler.teacher.mode,
        "settings": labeler.teacher.settings(),
    }


def _quality(annotated: Dataset, gold: list[int], task: TaskSpec, skip: int) -> dict | None:
    rows = [i for i in range(skip, len(gold)) if gold[i] != ABSTAIN]
    labels, confidences = annotated["llm_label"][:], annotated["llm_confidence"][:]
    labelled = [i for i in rows if labels[i] != ABSTAIN]
    if not labelled:
        return None
    return AnnotationQuality(keep_in_memory=True).compute(
        predictions=[labels[i] for i in rows],
        references=[gold[i] for i in rows],
        labels=task.labels,
        confidences=None if any(confidences[i] is None for i in labelled) else [confidences[i] for i in rows],
    )
