"""The rows that a student learns from or is measured on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from datasets import Dataset

from hf_llambert.data import check_column
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, row_texts, why_unusable
from hf_llambert.training.losses import hard_targets, soften
from hf_llambert.training.trainer import StudentConfig

logger = get_logger(__name__)


def labelled_rows(data: Dataset, task: TaskSpec, text_column: TextColumn, what: str) -> Dataset:
    """The rows that can be learnt from or measured on: with a text and a label."""
    check_column(data, text_column, "text_column")
    check_column(data, "label", "label_column")
    names = getattr(data.features["label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise ValueError(
            f"The {what} data has the labels {names}, task '{task.name}' {list(task.labels)}. Use with_gold."
        )
    texts, labels = row_texts(data, text_column), data["label"][:]
    usable = [i for i, label in enumerate(labels) if label not in (None, ABSTAIN) and why_unusable(texts[i]) is None]
    if len(usable) < len(data):
        logger.warning(
            "%d of %d %s rows have no text or no label and are left out.", len(data) - len(usable), len(data), what
        )
    if not usable:
        raise ValueError(f"None of the {len(data)} {what} rows has both a text and a label.")
    strange = {labels[i] for i in usable if not isinstance(labels[i], int) or not 0 <= labels[i] < task.num_labels}
    if strange:
        raise ValueError(
            f"Expected ids from 0 to {task.num_labels - 1} in column 'label' of the {what} data, got "
            f"{sorted(strange, key=str)[:5]}. Use with_gold."
        )
    return data.select(usable)


def training_rows(silver: Dataset | None, gold: Dataset | None, num_labels: int, args: StudentConfig) -> dict:
    """
    The columns `label`, `targets`, `weight` and `row` of [`StudentTrainer`] for `[silver | gold]`.

    Raises:
        ValueError: Soft targets or confidences are asked for and silver has none.
    """
    labels = [label for data in (silver, gold) if data is not None for label in data["label"]]
    targets = hard_targets(torch.tensor(labels), num_labels)
    weights = torch.ones(len(labels))
    num_silver = 0 if silver is None else len(silver)
    if silver is not None and args.soft_targets:
        if "probabilities" not in silver.column_names:
            raise ValueError(
                f"Column 'probabilities' not found in {silver.column_names}: soft_targets needs the teacher's "
                f"distributions. Annotate in score mode and pass calibration=... to select_silver."
            )
        targets[:num_silver] = soften(torch.tensor(silver["probabilities"][:]), args.target_temperature)
    if silver is not None and args.weight_by_confidence:
        if "llm_confidence" not in silver.column_names:
            raise ValueError(
                f"Column 'llm_confidence' not found in {silver.column_names}: no confidences to weigh by."
            )
        weights[:num_silver] = torch.tensor([1.0 if c is None else c for c in silver["llm_confidence"]])
    weights[num_silver:] *= args.gold_weight
    if args.class_balanced:
        totals = torch.zeros(num_labels).index_add(0, torch.tensor(labels), weights)
        weights /= totals[torch.tensor(labels)]
    return {
        "label": labels,
        "targets": soften(targets, smoothing=args.label_smoothing_factor).tolist(),
        "weight": (weights / weights.mean()).tolist(),
        "row": list(range(len(labels))),
    }


def kept_back(
    rows: Mapping[str, Dataset], args: StudentConfig, text_column: TextColumn
) -> tuple[dict[str, Dataset], dict[str, Dataset]]:
    """The rows to learn from, and `args.dev_share` of each source to choose the epoch on; no text is in both."""
    if not args.dev_share:
        return dict(rows), {}
    few = [name for name, data in rows.items() if round(args.dev_share * len(data)) in (0, len(data))]
    if few:
        raise ValueError(
            f"dev_share {args.dev_share} of the {few[0]} rows ({len(rows[few[0]])}) leaves none on one side."
        )
    parts = {name: data.train_test_split(args.dev_share, seed=args.seed) for name, data in rows.items()}
    dev = {name: part["test"] for name, part in parts.items()}
    seen = {text for data in dev.values() for text in row_texts(data, text_column)}
    kept = {}
    for name, part in parts.items():
        texts = row_texts(part["train"], text_column)
        kept[name] = part["train"].select([i for i, text in enumerate(texts) if text not in seen])
        if not len(kept[name]):
            raise ValueError(f"All {name} texts to train on are also among those that dev_share keeps back. Lower it.")
    return kept, dev


def warn_of_shared_texts(
    rows: Mapping[str, Dataset], dev: Mapping[str, Dataset], eval_rows: Dataset, text_column: TextColumn
) -> None:
    """Say which texts are both learnt from, or choose the epoch, and measured on."""
    held = set(row_texts(eval_rows, text_column))
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
