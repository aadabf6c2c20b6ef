"""Messages about the values of a label column: which readings there are, and which options choose one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

_SHOWN = 5  # values in a message
_LONG = 80  # characters of a value in a message
_LABELS = 20  # labels in a message
_Held = Mapping[tuple, str]  # each different value by its key, as a file would have it


def shown(values: Iterable[str]) -> str:
    """The first few different values, in order."""
    found = sorted(set(values))
    short = ", ".join(repr(v if len(v) <= _LONG else f"{v[:_LONG]}…") for v in found[:_SHOWN])
    return short + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def named(labels: Sequence[str]) -> str:
    """The labels of a task, where they are many only the first."""
    more = len(labels) - _LABELS
    return f"{list(labels[:_LABELS])}" + (f" and {more:,} more" if more > 0 else "")


def said_by_map(value: str, label: str, option: str) -> str:
    """The option that says on a command line which label a value is."""
    return f"--{option}_map {shlex.quote(f'{value}={label}')}"


def map_to_nowhere(unknown: Iterable[str], labels: Sequence[str], option: str) -> str:
    """For a map that goes to labels which the task has not."""
    return f"{option}_map goes to labels of the task or to nothing, and {shown(unknown)} is not among {named(labels)}."


def map_of_absent(absent: Iterable[str], held: Iterable[str], column: str, option: str) -> str:
    """For a map with values that the column does not hold."""
    return (
        f"{option}_map has {shown(absent)}, which column '{column}' does not hold. It holds "
        f"{shown(held) or 'no labels'}. If it should, look at how they are spelled."
    )


def beside_mapped(ids: Iterable[str], column: str, option: str) -> str:
    """For a map of some numbers where other numbers are left."""
    return (
        f"{option}_map says what some numbers of column '{column}' are, and {shown(ids)} would be ids. Map them too, or say "
        f"that they are: {_values(option, 'ids')}."
    )


def names_that_could_be_ids(
    held: _Held, ids: Mapping[tuple, int], labels: Sequence[str], column: str, option: str
) -> str:
    """For texts that are read as names and would be other labels as ids."""
    return (
        f"Column '{column}' holds {shown(held.values())}. They are read as the names of the labels; as ids they would be "
        f"{_listed(held, ids, labels)}. {_values(option, 'names')} or {_values(option, 'ids')} says which."
    )


def names_or_ids(held: _Held, labels: Sequence[str], column: str, option: str) -> str:
    """For numbers that can be names or ids, of different labels."""
    return (
        f"Column '{column}' holds {shown(held.values())}, which can be names of the labels {named(labels)} or ids that count "
        f"them from 0, and these differ. Say which: {_values(option, 'names')}, or {_values(option, 'ids')}."
    )


def common_codes(
    held: _Held,
    ids: Mapping[tuple, int],
    meant: Mapping[int, str],
    labels: Sequence[str],
    column: str,
    option: str,
) -> str:
    """For numbers that can be ids and commonly mean other labels."""
    as_ids = ", ".join(
        f"{name} is {repr(labels[i]) if i >= 0 else 'no label'}"
        for i, name in sorted((i, held[k]) for k, i in ids.items())
    )
    as_codes = ", ".join(f"{number} is {label!r}" for number, label in meant.items())
    pairs = [said_by_map(str(number), label, option) for number, label in meant.items()]
    return (
        f"Column '{column}' holds {shown(held.values())}, which can be ids that count the labels {named(labels)} from 0 "
        f"({as_ids}) or codes as they are common ({as_codes}). Say which: {_values(option, 'ids')}, or "
        f"{' '.join(pairs)} ({option}_map in Python)."
    )


def names_and_other_numbers(
    held: _Held, labels: Sequence[str], column: str, ids: Mapping[tuple, int], odd: Iterable[str], option: str
) -> str:
    """For numbers that could all be ids, of which some are names of labels and others (`odd`) are not."""
    others = sorted(odd)
    names = sorted({held[key] for key in ids} - set(others))
    are, they = ("is", "it is") if len(others) == 1 else ("are", "they are")
    return (
        f"In column '{column}' {shown(names)} can be names of the labels {named(labels)}, and {shown(others)} {are} none of "
        f"them; or all are ids that count the labels from 0 ({_listed(held, ids, labels)}). Say what {they}: "
        f"{said_by_map(others[0], '', option)} for no label ({option}_map in Python), or {_values(option, 'ids')}."
    )


def read_as(held: _Held, short: Mapping[tuple, int], labels: Sequence[str], column: str, option: str) -> str:
    """For abbreviations that are read as labels."""
    pairs = ", ".join(f"{held[key]!r} as {labels[i]!r}" for key, i in list(short.items())[:_SHOWN])
    more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
    return f"In column '{column}' abbreviations are read: {pairs}{more}. --{option}_map says otherwise."


def ids_without_zero(
    held: _Held,
    ids: Mapping[tuple, int],
    from_1: Mapping[tuple, int],
    labels: Sequence[str],
    column: str,
    option: str,
) -> str:
    """For numbers that are read as ids, of which none is 0."""
    return (
        f"Column '{column}' holds the ids {shown(held.values())} and no 0. They are read from 0: "
        f"{_listed(held, ids, labels)}. Counted from 1 they would be {_listed(held, from_1, labels)}: if that is meant, pass "
        f"{_values(option, 'ids_from_1')}; if not, {_values(option, 'ids')} says so."
    )


def none_fits(
    held: _Held,
    readings: Mapping[str, Mapping[tuple, int | None]],
    labels: Sequence[str],
    column: str,
    how: str,
    option: str,
) -> str:
    """For a column that no reading fits, or not the one that was asked for."""
    kinds = {
        "names": f"the names {named(labels)}",
        "ids": f"ids from 0 to {len(labels) - 1}",
        "ids_from_1": f"numbers from 1 to {len(labels)}",
    }
    left = {name: [held[key] for key, i in found.items() if i is None] for name, found in readings.items()}
    nearest = how if how != "auto" else "names" if len(left["names"]) <= len(left["ids"]) else "ids"
    mapped = said_by_map(min(left[nearest], default="VALUE"), "LABEL", option)
    map_hint = f"{mapped} ({option}_map in Python; nothing after = for no label)"
    if how != "auto":
        return (
            f"Column '{column}' holds {shown(left[how])}, which {option}_values='{how}' does not read: expected "
            f"{kinds[how]}. Pass another --{option}_values, or say what a value is: {map_hint}."
        )
    if not left["ids_from_1"]:
        return (
            f"Column '{column}' holds {shown(held.values())}. Ids count from 0, so the labels {named(labels)} have ids from 0 "
            f"to {len(labels) - 1}. If these count from 1, pass {_values(option, 'ids_from_1')}."
        )
    names, others = (set(left["ids"]) - set(left["names"]), set(left["names"]) - set(left["ids"]))
    are = "is" if len(set(left[nearest])) == 1 else "are"
    what = f"Column '{column}' holds {shown(left[nearest])}, which {are} none of the labels"
    if names and others:
        what = (
            f"In column '{column}' some values are names ({shown(names)}), others ids ({shown(others)}); a column is all "
            f"names or all ids"
        )
    return f"{what}. Expected {kinds['names']} or {kinds['ids']}. Say what a value is: {map_hint}."


def _values(option: str, how: str) -> str:
    return f"--{option}_values {how} ({option}_values='{how}' in Python)"


def _listed(held: _Held, ids: Mapping[tuple, int], labels: Sequence[str]) -> str:
    pairs = [f"{held[key]} is {labels[i]!r}" for key, i in ids.items() if i >= 0]
    return ", ".join(pairs[:_SHOWN]) + (", ..." if len(pairs) > _SHOWN else "")
