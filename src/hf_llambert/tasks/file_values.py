"""Values of a task file, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from hf_llambert.tasks.kinds import KINDS, Question, Scale
from hf_llambert.tasks.scale import level_name
from hf_llambert.tasks.texts import FIELD


def check_strings(where: str, what: str, values: Sequence[object]) -> None:
    """Raise a `ValueError` where one of some values is no string with something in it."""
    for value in values:
        if isinstance(value, bool):
            raise ValueError(
                f"{where}: {what} must be strings, got {value!r}. YAML reads yes, no, on and off as booleans: "
                f"put them in quotes."
            )
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: {what} must be non-empty strings, got {value!r}.")


def as_tuple(source: str, key: str, value: object) -> tuple:
    """A list of a task file. Raises `ValueError` where it is none."""
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{source}: '{key}' must be a list, got {value!r}.")
    return tuple(value)


def read_descriptions(source: str, value: object, labels: tuple) -> tuple[str, ...]:
    """What each label means, in the order of the labels; empty where nothing is said."""
    check_strings(source, "labels", labels)
    if not isinstance(value, Mapping) or not set(value) <= set(labels):
        raise ValueError(
            f"{source}: 'descriptions' must map labels of {list(labels)} to what they mean, got {value!r}. (YAML reads yes "
            f"and no as booleans: put them in quotes.)"
        )
    for label, meaning in value.items():
        if not isinstance(meaning, str) or not meaning.strip():
            raise ValueError(f"{source}: the description of '{label}' must be a non-empty string, got {meaning!r}.")
    return tuple(" ".join(value.get(label, "").split()) for label in labels)


def read_verbalizers(source: str, value: object, labels: tuple) -> tuple[tuple[str, ...], ...]:
    """The words of each label, in the order of the labels."""
    check_strings(source, "labels", labels)
    if not isinstance(value, Mapping):
        raise ValueError(f"{source}: 'verbalizers' must map each label to its words, got {value!r}.")
    if set(value) != set(labels):
        raise ValueError(
            f"{source}: 'verbalizers' must have exactly the keys {list(labels)}, got {list(value)}. "
            f"(YAML reads yes and no as booleans: put them in quotes.)"
        )
    return tuple(
        (value[label],) if isinstance(value[label], str) else as_tuple(source, f"verbalizers.{label}", value[label])
        for label in labels
    )


def read_labels(source: str, data: Mapping, fields: Sequence[str]) -> dict[str, Any]:
    """As [`read_questions`], of a file with `labels`."""
    values = dict(data)
    labels = values["labels"] = as_tuple(source, "labels", values["labels"])
    for name, read in (("verbalizers", read_verbalizers), ("descriptions", read_descriptions)):
        given = values.pop(name, None)
        if given is not None:
            values[name] = read(source, given, labels)
    rows = as_tuple(source, "examples", values.get("examples") or ())
    values["examples"] = [(_example_text(source, row, fields, ["label"]), row["label"]) for row in rows]
    return values


def _example_text(source: str, row: object, fields: Sequence[str], answers: Sequence[str]) -> str:
    if not isinstance(row, Mapping) or set(row) != {*fields, *answers}:
        needed = f"{', '.join([*fields, *answers][:-1])} and {answers[-1]}"
        raise ValueError(f"{source}: an example needs exactly the keys {needed}, got {row!r}.")
    if wrong := [row[name] for name in fields if not isinstance(row[name], str) or FIELD in row[name]]:
        raise ValueError(f"{source}: an example's text must be a non-empty string, got {wrong[0]!r}.")
    return FIELD.join(row[name] for name in fields)


_BESIDE_QUESTIONS = ("name", "instruction", "system", "chat", "questions", "examples")


def read_questions(source: str, data: Mapping, fields: Sequence[str]) -> dict[str, Any]:
    """
    The arguments of a [`TaskSpec`] that a task file with `questions` has; examples as pairs of text and answers.

    Args:
        source (`str`): What to call the file in errors.
        data (`Mapping`): Its content.
        fields (`Sequence[str]`): Columns that the instruction shows.
    """
    for key in data:
        if key not in _BESIDE_QUESTIONS:
            raise ValueError(f"{source}: '{key}' belongs to each of the questions, not beside them.")
    values = as_tuple(source, "questions", data["questions"])
    if not values:
        raise ValueError(f"{source}: 'questions' is empty. Give at least one, or labels.")
    questions = tuple(_read_question(f"{source}: question {k + 1}", value) for k, value in enumerate(values))
    names = [question.name for question in questions]
    rows = as_tuple(source, "examples", data.get("examples") or ())
    examples = [
        (_example_text(source, row, fields, names), tuple(_hashable(row[name]) for name in names)) for row in rows
    ]
    return {**data, "questions": questions, "examples": examples}


def _hashable(answer: object) -> object:
    if isinstance(answer, list):
        return tuple(answer)
    return level_name(answer) if isinstance(answer, int | float) and not isinstance(answer, bool) else answer


def _kind(source: str, data: Mapping) -> type[Question]:
    if "kind" not in data:
        near = difflib.get_close_matches("kind", map(str, data), n=1)
        hint = f" Is '{near[0]}' meant?" if near else ""
        raise ValueError(f"{source}: key 'kind' is missing, one of {', '.join(KINDS)}.{hint}")
    if str(data["kind"]) not in KINDS:
        raise ValueError(f"{source}: kind must be one of {', '.join(KINDS)}, got {data['kind']!r}.")
    return KINDS[str(data["kind"])]


def _read_question(source: str, data: object) -> Question:
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        raise ValueError(f"{source}: expected a mapping with name, kind and ask, got {data!r}.")
    source = f"{source} ('{data['name']}')"
    kind = _kind(source, data)
    for key in data:
        if key not in kind.keys:
            near = difflib.get_close_matches(str(key), kind.keys, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(kind.keys)}."
            raise ValueError(f"{source}: unknown key '{key}' of kind {kind.kind}. {hint}")
    own = "levels" if issubclass(kind, Scale) else "labels"
    for key in (own, "ask"):
        if key not in data:
            raise ValueError(f"{source}: key '{key}' is missing.")
    labels = as_tuple(source, own, data[own])
    values = {key: value for key, value in data.items() if key not in ("kind", own) and value is not None}
    if own == "levels":
        labels = tuple(level_name(level) for level in labels)
        for name in ("verbalizers", "descriptions"):
            if isinstance(values.get(name), Mapping):
                values[name] = {level_name(level): value for level, value in values[name].items()}
    if "verbalizers" in values:
        values["verbalizers"] = read_verbalizers(source, values["verbalizers"], labels)
    if "descriptions" in values:
        values["descriptions"] = read_descriptions(source, values["descriptions"], labels)
    if "yes_no" in values:
        values["yes_no"] = as_tuple(source, "yes_no", values["yes_no"])
    return kind(labels=labels, **values)
