"""Leaves the gold that chose a prompt out of what a command measures or promises, and says so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from hf_llambert.cli.options import say

if TYPE_CHECKING:
    from datasets import Dataset


def untuned(data: Dataset, text_column: str | Sequence[str], tuned: Collection[str], what: str) -> Dataset:
    """
    The rows that chose no prompt; a line says how many are left out.

    Args:
        data (`Dataset`): Rows with people's labels.
        text_column (`str` or `Sequence[str]`): Column of the texts.
        tuned (`Collection[str]`): Of [`tuned_texts`].
        what (`str`): What the rows are, such as `--eval_data`.

    Raises:
        ValueError: None is left.
    """
    from hf_llambert.tuning.kept import leave_out

    kept, said = leave_out(data, text_column, tuned, what)
    if said:
        say(said)
    return kept
