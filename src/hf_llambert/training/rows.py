"""The rows that a student learns from or is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hf_llambert.data import check_column
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.parts import GOLD
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts, why_unusable
from hf_llambert.training.heads import Head, is_plain
from hf_llambert.training.trainer import StudentConfig

logger = get_logger(__name__)


def gold_columns(data: Dataset, task: TaskSpec, what: str) -> dict[str, str]:
    """
    The column with the answers to each question that `data` has, by the names of [`TaskSpec.parts`].

    Raises:
        ValueError: It has none of them, or one of other labels.
    """
    columns = {name: name or GOLD for name in task.parts}
    missing = [name for name, column in columns.items() if column not in data.column_names]
    if len(missing) == len(columns):
        check_column(data, columns[missing[0]], "label_column")
    if missing:
        logger.warning("The %s data has no column %s, so it does not answer that.", what, " and no ".join(missing))
    for name, column in columns.items():
        question = task.parts[name].question
        feature = None if name in missing else data.features[column]
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names is not None and tuple(names) != question.labels:
            raise ValueError(
                f"The {what} data has the labels {names}{f' in column {name}' if name else ''}, task '{task.name}' "
                f"{list(question.labels)}. Use with_gold."
            )
    return {name: column for name, column in columns.items() if name not in missing}


def labelled_rows(data: Dataset, task: TaskSpec, text_column: TextColumn, what: str) -> Dataset:
    """The rows that can be learnt from or measured on: with a text, and a label or an answer to some question."""
    check_column(data, text_column, "text_column")
    columns = gold_columns(data, task, what)
    texts = row_texts(data, text_column)
    answered = np.zeros(len(data), dtype=bool)
    for name, column in columns.items():
        question, answers = task.parts[name].question, data[column][:]
        given = [i for i, answer in enumerate(answers) if question.is_answer(answer)]
        answered[given] = True
        strange = {str(answers[i]) for i in given if not question.is_own(answers[i])}
        if strange:
            raise ValueError(
                f"Expected {question.own} in column '{column}' of the {what} data, got [{', '.join(sorted(strange)[:5])}]. "
                f"Use with_gold."
            )
    usable = [i for i in np.flatnonzero(answered).tolist() if why_unusable(texts[i]) is None]
    lack = "label" if len(task.parts) == 1 else "answer"
    if len(usable) < len(data):
        logger.warning(
            "%d of %d %s rows have no text or no %s and are left out.", len(data) - len(usable), len(data), what, lack
        )
    if not usable:
        raise ValueError(
            f"None of the {len(data)} {what} rows has both a text and {'an' if lack == 'answer' else 'a'} {lack}."
        )
    return data.select(usable)


def answers_of(data: Dataset, name: str, question: Question) -> list:
    """The answers to a question as gold has them; where a dataset lacks its column, no answers."""
    column = name or GOLD
    return data[column][:] if column in data.column_names else [question.missing] * len(data)


def all_answers(data: Iterable[Dataset], name: str, question: Question) -> list:
    """The answers to a question in several datasets, one behind the other."""
    return [answer for rows in data for answer in answers_of(rows, name, question)]


def measured_labels(data: Dataset, heads: Sequence[Head]) -> list:
    """What `label` is of the rows that a [`StudentTrainer`] measures on: ids of one choice, else targets."""
    if is_plain(heads):
        return data[GOLD][:]
    found = [head.targets(answers_of(data, head.name, head.question)) for head in heads]
    return torch.cat(found, dim=1).tolist()


def rows_note(rows: Mapping[str, Dataset], dev: Mapping[str, Dataset], heads: Sequence[Head]) -> dict[str, object]:
    """What `metrics.json` says of the rows that a student learnt from: how many, by source, and how often each label."""
    counts = {head.name: _count_answers(rows.values(), head.name, head.question) for head in heads}
    return {
        "n": sum(len(data) for data in rows.values()),
        **{f"n_{source}": len(rows[source]) if source in rows else 0 for source in ("silver", "gold")},
        "n_dev": sum(len(data) for data in dev.values()),
        "per_label": counts if len(heads) > 1 else counts[""],
    }


def _count_answers(data: Iterable[Dataset], name: str, question: Question) -> dict[str, int]:
    """How often each label of a question is given; of a scale the nearest level."""
    counts = dict.fromkeys(question.labels, 0)
    for rows in data:
        given = question.column(answers_of(rows, name, question))
        for found in given["labels"] if "labels" in given else given["label"]:
            for label in found or () if isinstance(found, list) or found is None else [found]:
                if label != ABSTAIN:
                    counts[question.labels[label]] += 1
    return counts


def check_variety(rows: Mapping[str, Dataset], task: TaskSpec) -> None:
    """Raise `ValueError` where a question has no answers to learn from, or but one."""
    for name, part in task.parts.items():
        question = part.question
        answers = [a for a in all_answers(rows.values(), name, question) if question.is_answer(a)]
        if not name and question.kind == "choice" and len(set(answers)) < 2:
            raise ValueError(
                f"A student needs at least two labels to tell apart; all {len(answers)} training rows have label "
                f"{sorted(set(answers))}."
            )
        if not answers:
            raise ValueError(f"No training row answers the question '{name}'. Give some, or take it out of the task.")
        if all(answer == answers[0] for answer in answers):
            raise ValueError(
                f"A student needs at least two answers to tell apart; all {len(answers)} to the question "
                f"'{question.name}' are {answers[0]}."
            )


def check_arguments(heads: Sequence[Head], args: StudentConfig) -> None:
    """Raise `ValueError` where an argument of the training does not go with a kind of question."""
    for head in heads:
        kind, asked = head.question.kind, f"question '{head.question.name}' of kind {head.question.kind}"
        if args.loss not in head.takes:
            raise ValueError(
                f"loss='{args.loss}' is for a distribution over labels; {asked} is learnt by {head.loss}. Leave loss out."
            )
        if args.loss == "elr" and len(heads) > 1:
            raise ValueError(
                f"loss='elr' remembers one distribution for a row, got {len(heads)} questions. Leave loss out."
            )
        if args.class_balanced and kind != "choice":
            raise ValueError(f"class_balanced is for questions of kind choice, got {asked}. Leave it out.")
        if args.label_smoothing_factor and kind == "scale":
            raise ValueError(
                f"label_smoothing_factor would pull every value of {asked} towards the middle. Leave it out, or use soft_targets."
            )


def training_rows(silver: Dataset | None, gold: Dataset | None, heads: Sequence[Head], args: StudentConfig) -> dict:
    """
    The columns `label`, `targets`, `weight` and `row` of [`StudentTrainer`] for `[silver | gold]`.

    Args:
        silver (`Dataset`, *optional*): From [`select_silver`].
        gold (`Dataset`, *optional*): From [`with_gold`].
        heads (`Sequence[Head]`): Those of the student.
        args (`StudentConfig`): What is learnt, and how rows are weighed.

    Raises:
        ValueError: Soft targets or confidences are asked for and silver has none.
    """
    targets, weights = [], []
    for head in heads:
        found, weight = _learnt(silver, gold, head, args)
        targets.append(head.smoothed(found, args.label_smoothing_factor))
        weights.append(weight)
    count = len(weights[0])
    plain = is_plain(heads)
    labels = [label for data in (silver, gold) if data is not None for label in data[GOLD]] if plain else [0] * count
    return {
        "label": labels,
        "targets": torch.cat(targets, dim=1).tolist(),
        "weight": weights[0].tolist() if plain else torch.stack(weights, dim=1).tolist(),
        "row": list(range(count)),
    }


def _learnt(silver: Dataset | None, gold: Dataset | None, head: Head, args: StudentConfig) -> tuple[Tensor, Tensor]:
    """What a question learns from each row, NaN without an answer, and its weight, 1 on average over those with one."""
    question, name = head.question, head.name
    answers = all_answers([data for data in (silver, gold) if data is not None], name, question)
    targets, weights = head.targets(answers), torch.ones(len(answers))
    num_silver = 0 if silver is None else len(silver)
    if silver is not None and args.soft_targets:
        column = f"{name}_probabilities" if name else "probabilities"
        if column not in silver.column_names:
            raise ValueError(
                f"Column '{column}' not found in {silver.column_names}: soft_targets needs the teacher's "
                f"distributions. Annotate in score mode and pass calibration=... to select_silver."
            )
        given = silver[column][:]
        rows = [i for i, row in enumerate(given) if row is not None and question.is_answer(answers[i])]
        if rows:
            targets[rows] = head.soft(torch.tensor([given[i] for i in rows]), args.target_temperature)
    if silver is not None and args.weight_by_confidence:
        column = f"llm_{name}_confidence" if name else "llm_confidence"
        if column not in silver.column_names:
            raise ValueError(f"Column '{column}' not found in {silver.column_names}: no confidences to weigh by.")
        weights[:num_silver] = torch.tensor([1.0 if c is None else c for c in silver[column]])
    weights[num_silver:] *= args.gold_weight
    answered = ~targets[:, 0].isnan()
    if args.class_balanced:
        labels = torch.tensor([answer for answer in answers if question.is_answer(answer)])
        totals = torch.zeros(head.size).index_add(0, labels, weights[answered])
        weights[answered] /= totals[labels]
    weights[~answered] = 0.0
    return targets, weights / (weights.mean() if answered.all() else weights[answered].mean())


def kept_back(
    rows: Mapping[str, Dataset], share: float, seed: int, text_column: TextColumn
) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """
    The rows to learn from, and a `share` of each source to choose the epoch or thresholds on; no text is in both.
    """
    if not share:
        return dict(rows), {}
    few = [name for name, data in rows.items() if round(share * len(data)) in (0, len(data))]
    if few:
        raise ValueError(f"dev_share {share} of the {few[0]} rows ({len(rows[few[0]])}) leaves none on one side.")
    parts = {name: data.train_test_split(share, seed=seed) for name, data in rows.items()}
    dev = {name: part["test"] for name, part in parts.items()}
    seen = {text for data in dev.values() for text in row_texts(data, text_column)}
    kept = {}
    for name, part in parts.items():
        texts = row_texts(part["train"], text_column)
        kept[name] = part["train"].select([i for i, text in enumerate(texts) if text not in seen])
        if not len(kept[name]):
            raise ValueError(f"All {name} texts to train on are also among those that dev_share keeps back. Lower it.")
    return kept, dev


def for_thresholds(heads: Sequence[Head], rows: Mapping[str, Dataset], args: StudentConfig) -> float:
    """The share of the rows that is kept back to choose thresholds by; none of too few."""
    fewest, share = min(len(data) for data in rows.values()), args.threshold_share
    wanted = any(head.question.kind == "choices" for head in heads)
    return share if wanted and round(share * fewest) not in (0, fewest) else 0.0


def warn_of_shared_texts(
    rows: Mapping[str, Dataset], dev: Mapping[str, Dataset], eval_rows: Dataset, text_column: TextColumn
) -> None:
    """Say which texts are both learnt from, or choose the epoch, and measured on."""
    held = {text for text in row_texts(eval_rows, text_column) if why_unusable(text) is None}
    for parts, use in ((rows, "to train on"), (dev, "that choose the epoch")):
        for name, data in parts.items():
            shared = sum(text in held for text in row_texts(data, text_column))
            if shared:
                logger.warning(
                    "%d of %d %s texts %s are also measured on: the figures will flatter. Take them out of one.",
                    shared,
                    len(data),
                    name,
                    use,
                )
