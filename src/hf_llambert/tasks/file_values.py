"""Values of a task file, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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
