"""One of several questions as a task of one question sees it: its columns without its name, the others' left out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hf_llambert.tasks.label_names import look_alikes
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
    "source",
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


def by_question(given: object, task: TaskSpec, argument: str) -> dict:
    """
    An argument about columns of gold for each part of a task.

    Args:
        given (`object`): Of the only question itself; of several a mapping by their names, or nothing and `auto`.
        task (`TaskSpec`): The task.
        argument (`str`): What to call it in errors.

    Raises:
        ValueError: A name is no question's, or it is not said which of several questions is meant.
    """
    plain = {"label_map": Mapping, "label_values": str}[argument]
    is_named = isinstance(given, Mapping) and all(isinstance(value, plain) for value in given.values())
    if list(task.parts) == [""]:
        name = task.question.name
        return {"": given[name] if is_named and isinstance(given, Mapping) and list(given) == [name] else given}
    if not given or given == "auto":
        return {}
    first = next(iter(task.parts))
    if not is_named or not isinstance(given, Mapping):
        python, line = _SHAPES[argument]
        raise ValueError(
            f"Task '{task.name}' has several questions, and {argument} says not of which one: got {given!r}. Expected such as "
            f"{python.replace('NAME', first)}, or --{argument} {line.replace('NAME', first)}."
        )
    for name in given:
        refuse_unknown_question(name, task)
    return dict(given)


_SHAPES = {
    "label_map": ("{'NAME': {'value': 'label'}}", "NAME:value=label"),
    "label_values": ("{'NAME': 'ids'}", "NAME=ids"),
}


def refuse_unknown_question(name: str, task: TaskSpec) -> None:
    """Raise a `ValueError` where a task has no question of that name; it says the nearest."""
    names = [one.question.name for one in task.parts.values()]
    if name not in names:
        near = nearest_name(name, names)
        raise ValueError(
            f"Task '{task.name}' has no question '{name}'. "
            + (f"Did you mean '{near}'?" if near else f"Its questions: {', '.join(names)}.")
        )


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """The name that is spelled nearly so."""
    known = list(names)
    like = look_alikes(name, known) or difflib.get_close_matches(name, known, 1, 0.7)
    return like[0] if like else None
