"""The columns that a prompt shows, looked at before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from datasets import Dataset

from hf_llambert.gold import GoldColumns
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, empty_fields

logger = get_logger(__name__)


def refuse_unshown(columns: Iterable[str], wanted: TextColumn, task: TaskSpec) -> None:
    """Raise a `ValueError` where data lacks a column that the prompt shows; it names the field."""
    present = list(columns)
    for name, field in zip(column_names(wanted), task.fields, strict=True):
        if name not in present:
            how = (
                "Pass text_column=... to the labeler."
                if field == "text"
                else f"The prompt of task '{task.name}' shows {{{field}}}: rename the column, or mend the instruction."
            )
            raise ValueError(f"Column '{name}' not found in {present}. {how}")


def check_fields(data: Dataset, column: TextColumn, task: TaskSpec, gold: GoldColumns) -> None:
    """
    Look at the columns that the prompt shows, before anybody is asked. Rows that lack some of several fields are asked
    about; a warning counts them.

    Raises:
        ValueError: A column is missing, or one of several holds the gold labels.
    """
    refuse_unshown(data.column_names, column, task)
    names = column_names(column)
    if len(names) == 1:
        return
    given = list(gold.values()) if isinstance(gold, Mapping) else [gold]
    shown = [name for columns in given if columns is not None for name in column_names(columns) if name in names]
    if shown:
        raise ValueError(
            f"The prompt of task '{task.name}' shows the column '{shown[0]}' of the gold labels. Measure by another "
            f"(gold_column=..., --label_column), or take it out of the instruction."
        )
    for name, count in empty_fields(data, names).items():
        logger.warning(
            "%d of %d rows have nothing in column '%s' and something in another field; they are asked about as they are.",
            count,
            len(data),
            name,
        )
