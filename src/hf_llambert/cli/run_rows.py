"""Which rows `hf-llambert run` annotates, holds out and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_llambert.cli.gold import gold_column, label_columns, needed_gold, warn_of_look_alikes
from hf_llambert.cli.kept import untuned
from hf_llambert.cli.options import say
from hf_llambert.tasks.texts import column_names, row_texts

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_llambert import TaskSpec
    from hf_llambert.gold import GoldColumns

NUM_ANNOTATED = 1000


@dataclass(frozen=True)
class Drawn:
    """
    What the command line says about rows.

    Args:
        data (`str`): All texts.
        split (`str`, *optional*): Its split.
        text_column (`str` or `Sequence[str]`): Column of the texts, or those of the task's fields.
        label_column (`str`, *optional*): As on the command line; see [`gold_column`].
        reading (`dict`): How people's labels are to be read; see [`gold_options`].
        form (`dict`): Further arguments of [`load_data`].
        num_annotated (`int`, *optional*): Rows for the teacher.
        num_held_out (`int`, *optional*): Rows of the data to measure the student on.
        num_pool (`int`, *optional*): Rows to label.
        eval_data (`str`, *optional*): Texts elsewhere to measure the student on.
        eval_split (`str`, *optional*): Their split.
        eval_config (`str`, *optional*): Their configuration.
        seed (`int`): Of all draws.
        tuned (`frozenset[str]`, defaults to none): Texts that chose the prompt: nothing is measured on them.
    """

    data: str
    split: str | None
    text_column: str | Sequence[str]
    label_column: str | None
    reading: dict
    form: dict
    num_annotated: int | None
    num_held_out: int | None
    num_pool: int | None
    eval_data: str | None
    eval_split: str | None
    eval_config: str | None
    seed: int
    tuned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rows:
    """
    The rows of a run. No text is both annotated and held out.

    Args:
        rest (`Dataset`): The data without what is held out: `sample` is drawn from it.
        sample (`Dataset`): For the teacher.
        pool (`Dataset`, *optional*): For the student; none of them annotated or held out. `None`: all of the data.
        num_pool (`int`): How many that are.
        held_out (`Dataset`, *optional*): To measure the student on, gold as [`with_gold`] has it.
        what (`str`): What is held out, for the report.
        gold_column (`str` or `Mapping[str, str]`, *optional*): People's labels in the data.
        reading (`dict`): How they are to be read: as the whole column is.
    """

    rest: Dataset
    sample: Dataset
    pool: Dataset | None
    num_pool: int
    held_out: Dataset | None
    what: str
    gold_column: GoldColumns
    reading: dict


def read_rows(asked: Drawn, task: TaskSpec) -> Rows:
    """
    Read the data and divide it. Says what is left out.

    Raises:
        ValueError: There are fewer rows than asked for, or no people's labels to hold out.
    """
    from hf_llambert import check_column, load_data

    columns = label_columns(asked.label_column, task)
    data = load_data(asked.data, asked.split, label_columns=columns, text_column=asked.text_column, **asked.form)
    check_column(data, asked.text_column, "text_column")
    warn_of_look_alikes(asked.label_column, data.column_names, task)
    column = gold_column(asked.label_column, data.column_names, task)
    held_out, what, reading = _held_out(asked, data, column, task)
    rest = data
    if held_out is not None:
        texts = set(row_texts(held_out, asked.text_column))
        rest = _without(data, asked.text_column, texts)
        gone = len(data) - len(rest)
        if asked.eval_data is not None and gone:
            say(f"{gone:,} of the {len(data):,} texts of --data are in --eval_data too: they are not annotated")
        if not len(rest):
            raise ValueError("Every text of --data is held out to measure on. None is left to annotate.")
    number = min(NUM_ANNOTATED, len(rest)) if asked.num_annotated is None else asked.num_annotated
    if not 0 < number <= len(rest):
        raise ValueError(f"--num_annotated must be from 1 to {len(rest):,}, the texts not held out; got {number:,}.")
    shuffled = rest.shuffle(seed=asked.seed)
    sample = shuffled.select(range(number))  # as annotate --num_rows draws it
    if asked.num_pool is None:
        return Rows(rest, sample, None, len(data), held_out, what, column, reading)
    left = len(rest) - number
    if not 0 < asked.num_pool <= left:
        raise ValueError(
            f"--num_pool must be from 1 to {left:,}, the texts neither annotated nor held out; got {asked.num_pool:,}. Without "
            f"it all {len(data):,} of the data are labelled, those included."
        )
    pool = shuffled.select(range(number, number + asked.num_pool))
    return Rows(rest, sample, pool, asked.num_pool, held_out, what, column, reading)


def read_gold(asked: Drawn, gold: str, form: dict, task: TaskSpec) -> Dataset:
    """
    Texts with people's labels to train on, gold as [`with_gold`] has it.

    Raises:
        ValueError: There is no such column, or it fits two readings or none.
    """
    from hf_llambert import load_data, with_gold

    written = label_columns(asked.label_column, task)
    rows = load_data(gold, label_columns=written, text_column=asked.text_column, **form)
    column = needed_gold(asked.label_column, rows.column_names, task, "--gold")
    return with_gold(rows, asked.text_column, column, task, **asked.reading)


def _held_out(asked: Drawn, data: Dataset, column: GoldColumns, task: TaskSpec) -> tuple[Dataset | None, str, dict]:
    """What the student is measured on, what it is called, and how the data's own gold is to be read."""
    from hf_llambert import load_data, with_gold
    from hf_llambert.gold import gold_readings
    from hf_llambert.tasks.parts import GOLD
    from hf_llambert.tasks.texts import why_unusable

    if asked.eval_data is not None and asked.num_held_out is not None:
        raise ValueError("--eval_data and --num_held_out both say what to measure on. Pass one of them.")
    if asked.eval_data is not None:
        written = label_columns(asked.label_column, task)
        form = {**asked.form, "config": asked.eval_config, "text_column": asked.text_column}
        rows = load_data(asked.eval_data, asked.eval_split, label_columns=written, **form)
        rows = untuned(rows, asked.text_column, asked.tuned, "--eval_data")
        found = needed_gold(asked.label_column, rows.column_names, task, "--eval_data")
        source = Path(asked.eval_data).name if Path(asked.eval_data).exists() else asked.eval_data
        what = f"{source}, {asked.eval_split}" if asked.eval_split else source
        return with_gold(rows, asked.text_column, found, task, **asked.reading), what, asked.reading
    if asked.num_held_out is None:
        return None, "", asked.reading
    if column is None:
        raise ValueError(
            f"--num_held_out takes texts of --data that people have labelled, and there is no column "
            f"{' or '.join(repr(name or 'label') for name in task.parts)}. Pass --label_column, or --eval_data with such texts."
        )
    reading = asked.reading
    if reading["label_values"] == "auto" or task.questions:
        reading = {**reading, "label_values": gold_readings(data, task, column, **reading)}
    labelled = with_gold(data, asked.text_column, column, task, **reading).shuffle(seed=asked.seed)
    labelled = untuned(labelled, asked.text_column, asked.tuned, "--data, when texts are held out,")
    answers = [(one.question, labelled[name or GOLD][:]) for name, one in task.parts.items()]
    known = [any(one.is_answer(found[row]) for one, found in answers) for row in range(len(labelled))]
    texts, drawn = set[str](), list[int]()
    for row, text in enumerate(row_texts(labelled, asked.text_column)):
        if known[row] and why_unusable(text) is None and text not in texts:
            texts.add(text)
            drawn.append(row)
        if len(drawn) == asked.num_held_out:
            break
    if not 0 < asked.num_held_out == len(drawn) < len(data):
        raise ValueError(
            f"--num_held_out must be from 1 to less than the {len(data):,} texts of --data; people have labelled "
            f"{sum(known):,} of them, and {asked.num_held_out:,} are asked for."
        )
    name = Path(asked.data).name if Path(asked.data).exists() else asked.data
    return labelled.select(drawn), f"{len(drawn):,} texts of {name}, held out", reading


def _without(data: Dataset, column: str | Sequence[str], texts: set[str]) -> Dataset:
    """The rows that show none of these texts."""
    shown = data.select_columns(column_names(column))
    rows = (text for part in shown.iter(1000) for text in row_texts(part, column))
    return data.select([row for row, text in enumerate(rows) if text not in texts])
