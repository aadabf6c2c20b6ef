"""What the command line says about people's labels: their columns, and how they are read."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import TaskSpec
    from hf_llambert.gold import GoldColumns

NONE = "none"
"""What says on a command line that there is no gold."""


def gold_options(
    label_map: list[str] | None, label_values: str, task: TaskSpec | None = None, option: str = "label_map"
) -> dict:
    """
    The arguments of library functions that say how people's labels are to be read.

    Raises:
        ValueError: With several questions, one is unknown, or it is not said which is meant.
    """
    from hf_llambert import parse_label_map

    if task is None or len(task.parts) < 2:
        return {"label_map": parse_label_map(label_map or [], option), "label_values": label_values}
    grouped: dict[str, list[str]] = {}
    for pair in label_map or []:
        name, colon, rest = pair.partition(":")
        if not colon or "=" in name:
            first, shape = next(iter(task.parts)), "VALUE=LABEL" if option == "label_map" else "LABEL=SHARE"
            raise ValueError(
                f"Task '{task.name}' has several questions, and --{option} {shlex.quote(pair)} says not of which one. Expected "
                f"QUESTION:{shape}, such as {shlex.quote(f'{first}:{pair}')}."
            )
        grouped.setdefault(_known(name, task), []).append(rest)
    values = by_question(label_values, task, "label_values") if "=" in label_values else label_values
    return {
        "label_map": {name: parse_label_map(found, option) for name, found in grouped.items()},
        "label_values": values,
    }


def prior_of(given: list[str] | None, task: TaskSpec) -> dict | None:
    """
    `--prior` as `annotate` takes it.

    Raises:
        ValueError: A share is no number, or with several questions one is unknown or not said.
    """
    if not given:
        return None
    said = gold_options(given, "auto", task, "prior")["label_map"]
    # Which labels they are of, and their sum, `annotate` checks.
    return {name: _shares(of_one) for name, of_one in said.items()} if len(task.parts) > 1 else _shares(said)


def _shares(said: dict[str, str]) -> dict[str, float]:
    try:
        return {label: float(share) for label, share in said.items()}
    except ValueError as error:
        raise ValueError(f"--prior takes a share for each label, such as 0.2, got {said}.") from error


def label_columns(given: str | None, task: TaskSpec | None = None) -> list[str]:
    """Columns that are read from files as they are written, where names of labels stand: `01` stays `01`."""
    if task is None or not task.questions:
        return [given or "label"]
    named = {} if given in (None, NONE) else column_pairs(str(given), task)
    found = []
    for part, one in task.parts.items():
        if one.question.gold_is_name:
            column = named.get(one.question.name)
            found += [column] if column else [one.question.name, *([] if part else ["label"])]
    return found


def column_pairs(given: str, task: TaskSpec) -> dict[str, str]:
    """
    The columns that `--label_column` names, by questions.

    Raises:
        ValueError: A question is unknown, or it is not said which of several is meant.
    """
    if len(task.parts) > 1:
        return by_question(given, task, "label_column")
    name = task.question.name
    return {name: given.removeprefix(f"{name}=")}


@overload
def gold_column(given: str | None, columns: Sequence[str]) -> str | None: ...
@overload
def gold_column(given: str | None, columns: Sequence[str], task: TaskSpec, quiet: bool = False) -> GoldColumns: ...
def gold_column(
    given: str | None, columns: Sequence[str], task: TaskSpec | None = None, quiet: bool = False
) -> GoldColumns:
    """
    The column of people's labels: the one named, else `label` where there is one; `none` is none. Of a task with `questions`
    those named, and for the other questions those of their names.

    Args:
        given (`str`, *optional*): What `--label_column` says.
        columns (`Sequence[str]`): Columns of the data.
        task (`TaskSpec`, *optional*): The task.
        quiet (`bool`, defaults to `False`): Warn of nothing.

    Raises:
        ValueError: A question or a column is not there.
    """
    if given == NONE and NONE not in columns:
        return None
    if task is None or not task.questions:
        return given if given is not None else "label" if "label" in columns else None
    from hf_llambert.gold import gold_columns, own_columns, warn_of_absent

    if len(task.parts) == 1 and given is not None:
        return given if given in columns else column_pairs(given, task)[task.question.name]
    said = {} if given is None else column_pairs(given, task)
    named = {name: column for name, column in said.items() if column != NONE or NONE in columns}
    if named:
        gold_columns(columns, task, named)
    found, absent = own_columns(columns, task)
    out = {name or task.question.name: column for name, column in found.items() if name not in said} | named
    if out and not quiet:
        warn_of_absent(columns, [name for name in absent if name not in said])
    if len(task.parts) == 1 and out:
        (only,) = out.values()
        return only if isinstance(only, str) else out
    return {name: out[name] for name in task.parts if name in out} or None


def needed_gold(given: str | None, columns: Sequence[str], task: TaskSpec, what: str) -> GoldColumns:
    """
    As [`gold_column`], where there must be gold.

    Args:
        what (`str`): What it is for, as an option.

    Raises:
        ValueError: There is none.
    """
    if not task.questions:
        return given or "label"
    found = gold_column(given, columns, task)
    if found is not None:
        return found
    if given is not None:
        raise ValueError(f"{what} takes people's labels, and --label_column {given} says that there are none.")
    from hf_llambert.gold import gold_columns

    return gold_columns(columns, task)  # which says what is missing


def warn_of_look_alikes(given: str | None, columns: Sequence[str], task: TaskSpec | None = None) -> None:
    """Warn where no column of people's labels was named, none is called as it should be, and one is called nearly so."""
    from hf_llambert.tasks.label_names import look_alikes
    from hf_llambert.tasks.logs import get_logger

    if given is not None or "label" in columns or (task is not None and gold_column(None, columns, task, quiet=True)):
        return
    several = [] if task is None or len(task.parts) < 2 else list(task.parts)
    for name in several or ["label" if task is None else task.question.name]:
        if like := look_alikes(name, columns):
            get_logger(__name__).warning(
                "No column is called '%s', but %s. Nothing is measured: for people's labels pass --label_column %s, "
                "else --label_column none.",
                name,
                " and ".join(map(repr, like)),
                shlex.quote(f"{name}={like[0]}" if several else like[0]),
            )


def load_sample(
    source: str,
    split: str | None,
    num_rows: int | None,
    seed: int,
    task: TaskSpec | None,
    label_column: str | None,
    reading: dict,
    **form: object,
) -> tuple[Dataset, dict]:
    """
    Rows, and how their gold is to be read: as the whole column is, not as the rows that happen to be drawn would be.

    Args:
        task (`TaskSpec`, *optional*): The task; without one nothing is looked at.
        label_column (`str`, *optional*): As on the command line; see [`gold_column`].
        reading (`dict`): From [`gold_options`].
        form: Other arguments of [`load_data`].

    Raises:
        ValueError: As [`load_data`] and [`gold_answers`].
    """
    from hf_llambert import load_data
    from hf_llambert.data import draw_rows
    from hf_llambert.gold import gold_readings

    data = load_data(source, split, label_columns=label_columns(label_column, task), **form)  # type: ignore[arg-type]
    warn_of_look_alikes(label_column, data.column_names, task)
    if num_rows is None:
        return data, reading
    if task is not None and (column := gold_column(label_column, data.column_names, task, quiet=True)) is not None:
        reading = reading | {"label_values": gold_readings(data, task, column, **reading)}
    return draw_rows(data, num_rows, seed, source), reading


def by_question(given: str, task: TaskSpec, option: str) -> dict[str, str]:
    """
    What an option says of each question: `a=x,b=y` as a mapping; `"a=with, a comma"` in quotes is one.

    Raises:
        ValueError: A question is unknown, or it is not said which of several is meant.
    """
    try:
        (words,) = csv.reader([given], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"Expected QUESTION=NAME, with commas between, in --{option}, got {given!r}.") from error
    out: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not value:
            first = next(iter(task.parts))
            raise ValueError(
                f"Task '{task.name}' has several questions ({', '.join(task.parts)}), and --{option} {shlex.quote(given)} says "
                f"not of which one. Expected such as --{option} {shlex.quote(f'{first}={word}' if word else first)}."
            )
        if out.setdefault(_known(name, task), value) != value:
            raise ValueError(f"--{option} says of '{name}' both '{out[name]}' and '{value}'.")
    return out


def _known(name: str, task: TaskSpec) -> str:
    from hf_llambert.gold import refuse_unknown_question

    refuse_unknown_question(name, task)
    return name
