"""Out-of-fold probabilities: each row is judged by a student that was not trained on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold

from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import row_texts
from hf_llambert.training.compared import EVALUATION_FILE
from hf_llambert.training.rows import labelled_rows
from hf_llambert.training.train import train_student
from hf_llambert.training.trainer import StudentConfig


def out_of_fold(
    silver: Dataset,
    task: TaskSpec,
    student: str,
    output: str | Path,
    args: StudentConfig,
    folds: int = 3,
    **kwargs: object,
) -> np.ndarray:
    """
    Probabilities of each row by students that were not trained on it, for [`drop_label_errors`].

    One student is trained for each fold on the rows of the others, equal texts in one fold; finished folds in `output` are
    not trained again.

    Args:
        silver (`Dataset`): Rows with a `label`.
        task (`TaskSpec`): The labels.
        student (`str`): Encoder to start from.
        output (`str` or `Path`): Folder of the folds' students.
        args (`StudentConfig`): As the student itself will be trained.
        folds (`int`, defaults to 3): How many parts, each with rows of every label.
        kwargs: Further arguments of [`train_student`].

    Returns:
        `np.ndarray` of shape (rows, labels): Probabilities.
    """
    text_column = task.columns(kwargs.get("text_column", "text"))  # type: ignore[arg-type]
    usable = labelled_rows(silver, task, text_column, "silver")
    if len(usable) < len(silver):
        raise ValueError(
            f"{len(silver) - len(usable)} of {len(silver)} silver rows have no text or no label. Drop them."
        )
    labels = silver["label"][:]
    rarest, fewest = min(Counter(labels).items(), key=lambda item: item[1])
    if folds < 2 or folds > fewest:
        raise ValueError(
            f"Expected from 2 folds to as many as the rarest label has rows; got {folds} folds, and label "
            f"'{task.labels[rarest]}' has {fewest}. Ask for fewer folds, annotate more texts, or leave label errors in."
        )
    out = np.zeros((len(silver), task.num_labels))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=args.seed)
    parts = splitter.split(labels, labels, groups=row_texts(silver, text_column))
    for fold, (seen, held) in enumerate(parts):
        folder = Path(output) / f"fold-{fold}"
        train_student(task, student, folder, args, silver=silver.select(seen), eval_data=silver.select(held), **kwargs)  # type: ignore[arg-type]
        scores = Dataset.from_parquet(str(folder / EVALUATION_FILE))["student_scores"][:]
        out[held] = np.exp(scores)
        (folder / "model.safetensors").unlink(missing_ok=True)  # its answers are all that is needed
    return out
