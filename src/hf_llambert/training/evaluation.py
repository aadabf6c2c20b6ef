"""A student measured on gold labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.special import softmax
from transformers import EvalPrediction

from hf_llambert.metrics import MAIN, METRICS
from hf_llambert.tasks.parts import answer_column
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import row_texts
from hf_llambert.training.compared import EVALUATION_FILE
from hf_llambert.training.heads import Head, is_plain
from hf_llambert.training.labeler import Labeler
from hf_llambert.training.rows import answers_of, labelled_rows

CHOSEN_BY = "mean"
"""What the Trainer notes of an evaluation of several questions, or of another kind than `choice`; the best epoch has most."""


def evaluate_student(labeler: Labeler, data: Dataset, task: TaskSpec, folder: str | Path | None = None) -> dict:
    """
    Measure a student on texts with gold labels in a `label` column. See [`ClassificationQuality`].

    Gold of several questions is in columns called as they are, and the result is by their names; a question that no row
    answers is left out. See [`METRICS`] for the figures of each kind.

    With `folder`, texts and labels are written there too, for a paired comparison with another student (`compare_students`)
    and to see where it errs. They are not published.
    """
    labeler.check_task(task)
    data = labelled_rows(data, task, labeler.text_column, "evaluation")
    labeler.warm_up()
    shown = row_texts(data, labeler.text_column)
    out = labeler.label(shown)
    found, gold = {}, {}
    for name, part in task.parts.items():
        question = part.question
        gold[name or "gold"] = truth = answers_of(data, name, question)
        answers = out[answer_column(name, question.answer_column)]
        quality = measured(question, answers, truth, out[answer_column(name, "confidence")])
        if quality:
            found[name] = {**quality, "texts_per_second": len(data) / labeler.seconds}
    if folder is not None:
        Dataset.from_dict({"text": shown, **gold, **out}).to_parquet(str(Path(folder) / EVALUATION_FILE))
    return found if len(task.parts) > 1 else found[""]


def measured(
    question: Question, answers: Sequence[object], gold: Sequence[object], confidences: Sequence[float] | None
) -> dict:
    """The quality of answers by the metric of the question's kind, over the rows that gold answers; empty without any."""
    rows = [i for i, answer in enumerate(gold) if question.is_answer(answer)]
    if not rows:
        return {}
    quality = METRICS[question.kind](keep_in_memory=True).compute(
        predictions=[answers[i] for i in rows],
        references=[gold[i] for i in rows],
        labels=question.labels,
        confidences=None if confidences is None else [confidences[i] for i in rows],
    )
    return quality or {}


def scalar_metrics(heads: Sequence[Head]) -> Callable[[EvalPrediction], dict[str, float]]:
    """
    What the Trainer notes at each evaluation: the numbers of the kind's metric, of several questions with their names before
    them, and `mean`, the mean over the questions of what [`MAIN`] names.
    """

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        logits, labels = torch.tensor(np.asarray(prediction.predictions)).float(), np.asarray(prediction.label_ids)
        noted: dict[str, float] = {}
        mains = []
        for head in heads:
            question = head.question
            columns = (
                head.question.decide(softmax(np.asarray(prediction.predictions), axis=1))
                if is_plain(heads)
                else head.columns(head.evidence(head.of(logits)))
            )
            gold = labels.tolist() if is_plain(heads) else head.untargeted(head.of(torch.tensor(labels)))
            answers, confidences = (columns[end].to_pylist() for end in (question.answer_column, "confidence"))
            quality = measured(question, answers, gold, confidences)
            numbers = {name: value for name, value in quality.items() if isinstance(value, (int, float))}
            noted |= {f"{head.name}_{name}" if head.name else name: value for name, value in numbers.items()}
            mains.append(numbers.get(MAIN[question.kind], 0.0))  # without a value where all answers are one
        return noted if is_plain(heads) else {**noted, CHOSEN_BY: float(np.mean(mains))}

    return compute
