"""Which annotated rows become training data."""

from __future__ import annotations

import logging
from collections import Counter

from datasets import Dataset

from hf_llambert.tasks import TaskSpec

logger = logging.getLogger(__name__)


def select_silver(annotated: Dataset, task: TaskSpec) -> Dataset:
    """
    The rows with a usable label, as training data with a `label` column.

    Args:
        annotated (`Dataset`): With the columns of [`LLMLabeler`].
        task (`TaskSpec`): The task that it was annotated for.

    Returns:
        `Dataset`: The rows with status `ok`; `label` is the teacher's label, a gold `label` column becomes `gold_label`.

    Raises:
        ValueError: No row, or only rows of one label, would be left to learn from.
    """
    missing = {"llm_label", "llm_status"} - set(annotated.column_names)
    if missing:
        raise ValueError(
            f"Columns {sorted(missing)} not found in {annotated.column_names}. Pass a dataset annotated by LLMLabeler."
        )
    status = Counter(annotated["llm_status"])
    names = getattr(annotated.features["llm_label"], "names", None)
    if names is not None and tuple(names) != task.labels:
        raise ValueError(f"The dataset was annotated with labels {names}, the task has {list(task.labels)}.")
    silver = annotated.select([i for i, s in enumerate(annotated["llm_status"]) if s == "ok"])
    counts = Counter(task.labels[label] for label in silver["llm_label"])
    logger.info("silver: %d of %d rows (%s)", len(silver), len(annotated), dict(status))
    if len(counts) < 2:
        raise ValueError(
            f"A student needs at least two labels to tell apart, but of {len(annotated)} annotated rows ({dict(status)}) "
            f"the usable labels are {dict(counts)}. Annotate more rows, calibrate the scores (batch), or check the "
            f"verbalizers."
        )
    if "label" in silver.column_names:
        silver = silver.rename_column("label", "gold_label")
    return silver.add_column("label", silver["llm_label"][:], feature=annotated.features["llm_label"])
