"""One of several questions as a task of one question sees it: its columns without its name, the others' left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hf_llambert.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from datasets import Dataset

GOLD = "label"
"""The column of gold in a task of one question, of whatever kind; of several, each has a column of its own name."""
ENDS = (
    "label",
    "labels",
    "value",
    "confidence",
    "scores",
    "response",
    "status",
    "reason",
    "truncated",
    "probabilities",
)
"""What the names of columns about answers end in."""


def answer_column(name: str, end: str, owner: str = "student") -> str:
    """The column of a question that ends in `end`; one alone has the empty name."""
    return f"{owner}_{name}_{end}" if name else f"{owner}_{end}"


def part_columns(
    columns: Iterable[str], task: TaskSpec, name: str, owners: Iterable[str] = ("llm", "student")
) -> dict[str, str]:
    """
    The columns that a question sees, with the names under which it sees them: `llm_NAME_label` as `llm_label`, gold in
    `NAME` as `label`, and all that belong to no question as they are.

    Args:
        columns (`Iterable[str]`): Names of all columns.
        task (`TaskSpec`): The task.
        name (`str`): The question, by the names of [`TaskSpec.parts`].
        owners (`Iterable[str]`, defaults to `("llm", "student")`): Whose answers there are.
    """
    if not name:
        return {column: column for column in columns}
    own = {name: GOLD, **{f"{who}_{name}_{end}": f"{who}_{end}" for who in owners for end in ENDS}}
    own[f"{name}_probabilities"] = "probabilities"
    foreign = {f"{who}_{other}_{end}" for who in owners for other in task.parts if other != name for end in ENDS}
    foreign |= {other for other in task.parts if other != name}
    foreign |= {f"{other}_probabilities" for other in task.parts if other != name}
    taken = set(own.values())
    return {c: own.get(c, c) for c in columns if c in own or not (c in foreign or c in taken)}


def part_of(data: Dataset, task: TaskSpec, name: str, owners: Iterable[str] = ("llm", "student")) -> Dataset:
    """
    A dataset as one of its task's questions sees it; see [`part_columns`].

    Args:
        data (`Dataset`): The rows.
        task (`TaskSpec`): The task.
        name (`str`): The question, by the names of [`TaskSpec.parts`].
        owners (`Iterable[str]`, defaults to `("llm", "student")`): Whose answers there are.
    """
    seen = part_columns(data.column_names, task, name, owners)
    renamed = {old: new for old, new in seen.items() if old != new}
    chosen = data.select_columns(list(seen))
    return chosen.rename_columns(renamed) if renamed else chosen


def with_parts(
    data: Dataset, task: TaskSpec, parts: Mapping[str, Dataset], owners: Iterable[str] = ("llm", "student")
) -> Dataset:
    """
    A dataset with the columns of its questions put back as they are in `parts`; see [`part_of`].

    Args:
        data (`Dataset`): The rows.
        task (`TaskSpec`): The task.
        parts (`Mapping[str, Dataset]`): The same rows as each question sees them, by name.
        owners (`Iterable[str]`, defaults to `("llm", "student")`): Whose answers there are.
    """
    from datasets import concatenate_datasets

    changed: list[Dataset] = []
    for name, part in parts.items():
        seen = part_columns(data.column_names, task, name, owners)
        own = {new: old for old, new in seen.items() if old != new or not name}
        changed.append(part.select_columns(list(own)).rename_columns(own))
    replaced = {column for part in changed for column in part.column_names}
    kept = [column for column in data.column_names if column not in replaced]
    return concatenate_datasets([data.select_columns(kept), *changed], axis=1).select_columns(data.column_names)
