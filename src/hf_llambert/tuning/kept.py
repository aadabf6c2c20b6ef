"""The gold rows that chose a prompt: noted in the run, and left out of what is promised later."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hf_llambert.tasks.texts import TextColumn, column_names, row_texts

if TYPE_CHECKING:
    from datasets import Dataset

TUNE = "tune"
"""Folder of a run with how its prompt was chosen."""
ROWS_FILE = "rows.jsonl"
EARLIER = "earlier"
"""What a text is noted for that chose before: what is compared grew out of that choice."""


def tuned_texts(*places: str | Path | None) -> frozenset[str]:
    """
    The texts whose gold labels chose a prompt, as [`row_texts`] has them. What was chosen by them is better on them than on
    others: nothing that is promised may be measured on them.

    Args:
        places (`str` or `Path`): Folders of runs, and tasks: those that are files count as their folder, so that
            `RUN/tuned.yaml` leads to what chose it. `None` is passed over.

    Raises:
        OSError: A note is damaged.
    """
    found: set[str] = set()
    for folder in {Path(place).parent if Path(place).is_file() else Path(place) for place in places if place}:
        path = folder / TUNE / ROWS_FILE
        if not path.is_file():
            continue
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            found.update(row["text"] for row in rows if row["label"] is not None or row["use"] == EARLIER)
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"'{path}' is damaged ({error}), so which texts chose the prompt is not known.") from error
    return frozenset(found)


def leave_out(data: Dataset, text_column: TextColumn, texts: Collection[str], what: str) -> tuple[Dataset, str]:
    """
    The rows that show none of these texts, and a sentence about the others; an empty one where there are none.

    Args:
        data (`Dataset`): Rows with gold, to measure or to promise by.
        text_column (`str` or `Sequence[str]`): Column of the texts.
        texts (`Collection[str]`): Of [`tuned_texts`].
        what (`str`): What the rows are, such as `--eval_data`.

    Raises:
        ValueError: No row is left.
    """
    if not texts or any(name not in data.column_names for name in column_names(text_column)):
        return data, ""  # a column that is missing is told by who reads it
    shown = data.select_columns(column_names(text_column))
    kept = rows_without(row_texts(shown, text_column), texts)
    gone = len(data) - len(kept)
    if gone and not kept:
        raise ValueError(
            f"All {gone:,} rows of {what} chose the prompt (hf-llambert tune), so that nothing can be measured on them: it would "
            f"flatter. Pass other texts with people's labels."
        )
    if not gone:
        return data, ""
    return data.select(kept), (
        f"{gone:,} of the {len(data):,} rows of {what} chose the prompt (hf-llambert tune): they are left out of what is measured"
    )


def rows_without(shown: Iterable[object], texts: Collection[str]) -> list[int]:
    """Numbers of the rows that show none of these texts."""
    return [row for row, text in enumerate(shown) if not isinstance(text, str) or text not in texts]
