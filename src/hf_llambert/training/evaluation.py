"""A student measured on gold labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Dataset
from scipy.special import softmax
from transformers import EvalPrediction

from hf_llambert.metrics import ClassificationQuality
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import row_texts
from hf_llambert.training.compared import EVALUATION_FILE
from hf_llambert.training.rows import labelled_rows
from hf_llambert.training.students import StudentLabeler


def evaluate_student(labeler: StudentLabeler, data: Dataset, task: TaskSpec, folder: str | Path | None = None) -> dict:
    """
    Measure a student on texts with gold labels in a `label` column. See [`ClassificationQuality`].

    With `folder`, texts and labels are written there too, for a paired comparison with another student (`compare_students`)
    and to see where it errs. They are not published.
    """
    if labeler.labels != task.labels:
        raise ValueError(f"The student has the labels {labeler.labels}, task '{task.name}' has {task.labels}.")
    data = labelled_rows(data, task, labeler.text_column, "evaluation")
    labeler.warm_up()
    shown = row_texts(data, labeler.text_column)
    out = labeler.label(shown)
    quality = ClassificationQuality(keep_in_memory=True).compute(
        predictions=out["student_label"],
        references=data["label"][:],
        labels=task.labels,
        confidences=out["student_confidence"],
    )
    if folder is not None:
        texts = {"text": shown, "gold": data["label"][:]}
        Dataset.from_dict({**texts, **out}).to_parquet(str(Path(folder) / EVALUATION_FILE))
    return {**(quality or {}), "texts_per_second": len(data) / labeler.seconds}


def scalar_metrics(task: TaskSpec) -> Callable[[EvalPrediction], dict[str, float]]:
    """What the Trainer notes at each evaluation: the numbers of [`ClassificationQuality`]."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        p = softmax(np.asarray(prediction.predictions), axis=1)
        quality = ClassificationQuality(keep_in_memory=True).compute(
            predictions=p.argmax(1), references=prediction.label_ids, labels=task.labels, confidences=p.max(1)
        )
        return {name: value for name, value in (quality or {}).items() if isinstance(value, (int, float))}

    return compute
