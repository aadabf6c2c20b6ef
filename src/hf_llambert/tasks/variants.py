"""Other ways to ask that a task file lists under `variants`, for `hf-llambert tune`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import yaml

from hf_llambert.tasks.spec import TaskSpec, load_task

CHANGED = (
    "instruction",
    "system",
    "chat",
    "lead_in",
    "verbalizers",
    "descriptions",
    "examples",
    "permute_options",
    "questions",
)
"""Keys of a task that a variant may change."""


def load_variants(task: str | Path | TaskSpec) -> dict[str, TaskSpec]:
    """
    The variants of a task file by their names: the task with what each of them changes. None of a built-in task, or of a task
    that is no file.

    Args:
        task (`str`, `Path` or `TaskSpec`): As [`load_task`] takes it.

    Raises:
        ValueError: A variant has no name of its own, an unknown key, other labels, or does not make sense; the message names it.
    """
    spec = load_task(task)
    if isinstance(task, TaskSpec) or not Path(task).is_file():
        return {}
    data = yaml.safe_load(Path(task).read_text(encoding="utf-8"))
    return read_variants(data, spec, str(task))


def read_variants(data: Mapping, spec: TaskSpec, source: str) -> dict[str, TaskSpec]:
    """As [`load_variants`], of the content of a task file that `spec` was read from."""
    listed = data.get("variants")
    if listed is None:
        return {}
    if not isinstance(listed, list):
        raise ValueError(f"{source}: 'variants' must be a list of mappings with a name each, got {listed!r:.100}.")
    base = {key: value for key, value in data.items() if key != "variants"}
    found: dict[str, TaskSpec] = {}
    for number, one in enumerate(listed, 1):
        name = one.get("name") if isinstance(one, Mapping) else None
        if not isinstance(name, str) or not name.strip() or name in found:
            raise ValueError(
                f"{source}: variant {number} needs a name of its own and the keys that it changes, got {one!r:.100}."
            )
        where = f"{source}: variant '{name}'"
        _check_keys(one, base, where)
        changed = {key: value for key, value in one.items() if key != "name"}
        kept = {key: value for key, value in {**base, **changed}.items() if value is not None}  # null takes a key out
        try:
            variant = TaskSpec.from_dict(kept, source=where)
        except ValueError as error:
            raise ValueError(str(error) if where in str(error) else f"{where}: {error}") from error
        if _answers(variant) != _answers(spec):
            raise ValueError(
                f"{where} has the answers {_answers(variant)}, the task has {_answers(spec)}. A variant asks the same in other "
                f"words: give it the same labels in the same order."
            )
        found[name] = variant
    return found


def _check_keys(one: Mapping, base: Mapping, where: str) -> None:
    for key in one:
        if key == "labels" and one[key] != base.get("labels"):
            raise ValueError(
                f"{where} has the labels {one[key]}, the task has {base.get('labels')}. A variant asks the same in other words: "
                f"leave labels out, and change verbalizers, the words of the labels."
            )
        if key not in ("name", "labels", *CHANGED):
            near = difflib.get_close_matches(str(key), CHANGED, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"It may change {', '.join(CHANGED)}."
            raise ValueError(f"{where} has an unknown key '{key}'. {hint}")


def _answers(task: TaskSpec) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {name or "label": (one.question.kind, one.labels) for name, one in task.parts.items()}
