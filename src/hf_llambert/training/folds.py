"""Out-of-fold probabilities: each row is judged by a student that was not trained on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold

from hf_llambert.tasks.parts import answer_column
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
        silver (`Dataset`): Rows with a `label`, or with an answer to some question.
        task (`TaskSpec`): The labels.
        student (`str`): Encoder to start from.
        output (`str` or `Path`): Folder of the folds' students.
        args (`StudentConfig`): As the student itself will be trained.
        folds (`int`, defaults to 3): How many parts, each with rows of every label; of several questions, or of another kind
            than `choice`, drawn without looking at the answers.
        kwargs: Further arguments of [`train_student`].

    Returns:
        `np.ndarray` of shape (rows, labels): Probabilities.

    Raises:
        ValueError: The task has several questions: [`out_of_fold_parts`] gives such an array for each.
    """
    if len(task.parts) > 1:
        raise ValueError(f"Task '{task.name}' has several questions ({', '.join(task.parts)}). Use out_of_fold_parts.")
    return out_of_fold_parts(silver, task, student, output, args, folds, **kwargs)[""]


def out_of_fold_parts(
    silver: Dataset,
    task: TaskSpec,
    student: str,
    output: str | Path,
    args: StudentConfig,
    folds: int = 3,
    **kwargs: object,
) -> dict[str, np.ndarray]:
    """As [`out_of_fold`], for each question by the names of [`TaskSpec.parts`]; arguments and errors are the same."""
    text_column = task.columns(kwargs.get("text_column", "text"))  # type: ignore[arg-type]
    usable = labelled_rows(silver, task, text_column, "silver")
    if len(usable) < len(silver):
        raise ValueError(
            f"{len(silver) - len(usable)} of {len(silver)} silver rows have no text or no label. Drop them."
        )
    if not task.is_plain:
        groups, labels = row_texts(silver, text_column), [0] * len(silver)
        if not 2 <= folds <= len(set(groups)):
            raise ValueError(
                f"Expected from 2 folds to as many as there are different texts ({len(set(groups))}), got {folds}."
            )
    else:
        groups, labels = row_texts(silver, text_column), silver["label"][:]
        rarest, fewest = min(Counter(labels).items(), key=lambda item: item[1])
        if folds < 2 or folds > fewest:
            raise ValueError(
                f"Expected from 2 folds to as many as the rarest label has rows; got {folds} folds, and label "
                f"'{task.labels[rarest]}' has {fewest}. Ask for fewer folds, annotate more texts, or leave label errors in."
            )
    given = {**kwargs, "baseline": False}
    out = {name: np.zeros((len(silver), part.num_labels)) for name, part in task.parts.items()}
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=args.seed)
    for fold, (seen, held) in enumerate(splitter.split(labels, labels, groups=groups)):
        folder = Path(output) / f"fold-{fold}"
        train_student(task, student, folder, args, silver=silver.select(seen), eval_data=silver.select(held), **given)  # type: ignore[arg-type]
        answers = Dataset.from_parquet(str(folder / EVALUATION_FILE))
        for name, part in task.parts.items():
            scores = np.array(answers[answer_column(name, "scores")][:], dtype=np.float64)
            out[name][held] = part.question.probabilities(scores)
        (folder / "model.safetensors").unlink(missing_ok=True)  # its answers are all that is needed
    return out
