"""People's answers to the questions of a task: which columns have them, and what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from datasets import ClassLabel, Dataset, List, Value

from hf_llambert.data import check_column, question_gold, question_reading
from hf_llambert.tasks.label_messages import shown
from hf_llambert.tasks.label_names import is_missing
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.parts import GOLD, by_question, nearest_name, refuse_unknown_question
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.questions import LabelValues
from hf_llambert.tasks.requests import refuse_gold_as_text
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, row_texts

logger = get_logger(__name__)

GoldColumn = str | Sequence[str]
"""The column that has people's answers to a question; or, where several labels may hold, a column for each label in order."""

GoldColumns = str | Mapping[str, GoldColumn] | None
"""That of the only question; or those of several by the questions' names; or `None`: those that are named as the questions."""

LabelMap = Mapping[str, str] | Mapping[str, Mapping[str, str]]
"""What other labels of the data are in the task; of several questions by their names."""

Reading = LabelValues | Mapping[str, LabelValues]
"""What columns of gold hold; of several questions by their names."""


def gold_columns(present: Sequence[str], task: TaskSpec, given: GoldColumns = None) -> dict[str, GoldColumn]:
    """
    The column of people's answers to each question that has one, by the names of [`TaskSpec.parts`].

    Args:
        present (`Sequence[str]`): Columns of the data.
        task (`TaskSpec`): The task.
        given (`str` or `Mapping[str, str]`, *optional*): The column of the only question; or the columns of questions by their
            names, the other questions having none. Defaults to columns named as the questions (`label` of the only one); a
            warning names the questions without one. Where several labels may hold, also a column for each label.

    Raises:
        ValueError: A question or a column is not there, or there is no column at all.
    """
    if isinstance(given, str):
        if len(task.parts) > 1:
            raise ValueError(
                f"'{given}' is one column, and task '{task.name}' has several questions ({', '.join(task.parts)}). Say which "
                f"one it answers: --label_column {next(iter(task.parts))}={given} (a mapping in Python)."
            )
        return {"": given}
    if given is not None:
        return _named(present, task, given)
    found, absent = own_columns(present, task)
    if not found:
        raise ValueError(
            f"No column of {list(present)} has people's answers to {_listed(absent)}. A column is called as its question, or "
            f"named: --label_column {absent[0]}=COLUMN (a mapping in Python)."
        )
    warn_of_absent(present, absent)
    return found


def own_columns(present: Sequence[str], task: TaskSpec) -> tuple[dict[str, GoldColumn], list[str]]:
    """
    The columns that are named as the questions, by the names of [`TaskSpec.parts`]; and the names of questions without one.

    Raises:
        ValueError: A task of one question finds a column of its name and another that is called `label`.
    """
    found: dict[str, GoldColumn] = {}
    absent = []
    for part, one in task.parts.items():
        question = one.question
        there = [name for name in dict.fromkeys([question.name, part or GOLD]) if name in present]
        if len(there) > 1:
            raise ValueError(
                f"Columns '{there[0]}' and '{there[1]}' both may have people's answers to '{question.name}'. Say which: "
                f"--label_column {there[0]}, or --label_column {there[1]}."
            )
        if there:
            found[part] = there[0]
        elif flags := _column_a_label(present, question):
            found[part] = flags
        else:
            absent.append(question.name)
    return found, absent


def warn_of_absent(present: Sequence[str], absent: Sequence[str]) -> None:
    """Warn of questions that no column answers."""
    if not absent:
        return
    near = {name: nearest_name(name, present) for name in absent}
    hints = "".join(f" Is '{like}' that of '{name}'?" for name, like in near.items() if like)
    logger.warning(
        "No column has people's answers to %s; nothing is measured there. A column is called as its question, or named: "
        "--label_column %s=COLUMN.%s",
        _listed(absent),
        absent[0],
        hints,
    )


def gold_answers(
    data: Dataset,
    task: TaskSpec,
    label_column: GoldColumns = None,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
) -> dict[str, list]:
    """
    People's answers to each question that has some, by the names of [`TaskSpec.parts`]: ids (-1: none), lists of ids or
    numbers (`None`: none), as [`Question.gold`] has them.

    Args:
        data (`Dataset`): Rows with gold in columns of any type.
        task (`TaskSpec`): The task.
        label_column (`str` or `Mapping[str, str]`, *optional*): See [`gold_columns`].
        label_map (`Mapping`, *optional*): What other labels of the data are in the task: `{"sci/tech": "tech"}`; of several
            questions by their names: `{"section": {"sci/tech": "tech"}}`.
        label_values (`str` or `Mapping[str, str]`, defaults to `"auto"`): `names`, `ids` or `ids_from_1`, where the values alone
            do not tell; of several questions by their names.

    Raises:
        ValueError: As [`gold_columns`]; a column fits two readings or none.
    """
    return _all_answers(data, task, gold_columns(data.column_names, task, label_column), label_map, label_values)


def _all_answers(
    data: Dataset, task: TaskSpec, columns: Mapping[str, GoldColumn], label_map: LabelMap | None, label_values: Reading
) -> dict[str, list]:
    maps, values = by_question(label_map or {}, task, "label_map"), by_question(label_values, task, "label_values")
    out = {}
    for part, one in task.parts.items():
        if part in columns:
            with _option_of(part):
                out[part] = _answers(
                    data, columns[part], one.question, maps.get(part) or {}, values.get(part) or "auto"
                )
    return out


@contextmanager
def _option_of(part: str) -> Iterator[None]:
    """Options that errors advise, as they are typed where there are several questions: `--label_map tone:9=`."""
    try:
        yield
    except ValueError as error:
        if not part:
            raise
        told = re.sub(r"(--label_map '?)", rf"\1{part}:", str(error))
        told = re.sub(r"(--label_values )(\w)", rf"\1{part}=\2", told)
        told = re.sub(r"label_values='(\w+)' in Python", rf"label_values={{'{part}': '\1'}} in Python", told)
        raise ValueError(told) from error


def gold_readings(
    data: Dataset,
    task: TaskSpec,
    label_column: GoldColumns = None,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
) -> Reading:
    """
    What whole columns of people's answers hold, as `label_values` says it, so that some of their rows are read as all are.
    Arguments and errors as of [`gold_answers`].
    """
    columns = gold_columns(data.column_names, task, label_column)
    maps, values = by_question(label_map or {}, task, "label_map"), by_question(label_values, task, "label_values")
    found = {}
    for part, column in columns.items():
        if isinstance(column, str):
            with _option_of(part):
                question = task.parts[part].question
                found[part] = question_reading(data, column, question, maps.get(part), values.get(part) or "auto")
    if list(task.parts) == [""]:
        return found.get("", cast(LabelValues, label_values))
    return {part: how for part, how in found.items() if how != "auto"} or "auto"


def warn_about_answers(
    texts: Sequence[object], gold: Mapping[str, Sequence], task: TaskSpec, columns: Mapping[str, GoldColumn]
) -> None:
    """
    Warn of texts to which people gave several answers, and of labels that no row has, for each question.

    Args:
        texts (`Sequence`): From [`row_texts`].
        gold (`Mapping[str, Sequence]`): From [`gold_answers`].
        task (`TaskSpec`): The task.
        columns (`Mapping[str, str]`): From [`gold_columns`].
    """
    for part, answers in gold.items():
        column = columns[part]
        _warn(texts, answers, task.parts[part].question, column if isinstance(column, str) else ", ".join(column))


def with_gold(
    dataset: Dataset,
    text_column: TextColumn,
    label_column: GoldColumns,
    task: TaskSpec,
    label_map: LabelMap | None = None,
    label_values: Reading = "auto",
) -> Dataset:
    """
    The texts with people's answers as the task has them: ids of labels, lists of ids, or numbers. They are in a column
    `label`; of a task of several questions in a column named as each. Warns of texts with several answers and of labels that
    no row has.

    Args:
        dataset (`Dataset`): Texts and labels.
        text_column (`str`): Column of the texts.
        label_column (`str` or `Mapping[str, str]`): Column of the labels: all names of the task (or what is commonly short for
            one, `neg` for `negative`), or all ids. A null, an empty cell or NaN means no label, and -1 where no label is called
            so. Of several questions their columns by their names (a question that is not named has no answers), or `None`:
            columns named as the questions.
        task (`TaskSpec`): The task.
        label_map (`Mapping[str, str]`, *optional*): What other labels of the data are in the task: `{"sci/tech": "tech"}`. An
            empty label means none. Of several questions by their names.
        label_values (`str`, defaults to `"auto"`): `names`, `ids` or `ids_from_1`, where the values alone do not tell. Of
            several questions by their names.

    Raises:
        ValueError: No such column or question, or labels that fit two readings or none.
    """
    check_column(dataset, text_column, "text_column")
    refuse_gold_as_text(task, text_column)
    columns = gold_columns(dataset.column_names, task, label_column)
    gold = _all_answers(dataset, task, columns, label_map, label_values)
    out = dataset.select_columns(column_names(text_column))
    warn_about_answers(row_texts(out, text_column), gold, task, columns)
    for part, one in task.parts.items():
        answers = gold.get(part, [one.question.missing] * len(dataset))
        out = out.add_column(part or GOLD, answers, feature=gold_feature(one.question))
    return out


def gold_feature(question: Question) -> ClassLabel | List | Value:
    """The type of a column of [`with_gold`]: that of the answers, numbers in full."""
    feature = question.own_features()[question.answer_column]
    return feature if isinstance(feature, ClassLabel | List) else Value("float64")


def _named(present: Sequence[str], task: TaskSpec, given: Mapping[str, GoldColumn]) -> dict[str, GoldColumn]:
    found: dict[str, GoldColumn] = {}
    names = {one.question.name: part for part, one in task.parts.items()}
    for name, column in given.items():
        if name not in task.parts:
            refuse_unknown_question(name, task)
        for one in column_names(column):
            if one not in present:
                near = nearest_name(one, present)
                raise ValueError(
                    f"Column '{one}' not found in {list(present)}. It is to have people's answers to '{name}'."
                    + (f" Did you mean '{near}'?" if near else "")
                )
        found[names.get(name, name)] = column
    if not found:
        raise ValueError(f"Expected columns of people's answers to {_listed(names)}, got none.")
    return {part: found[part] for part in task.parts if part in found}


def _column_a_label(present: Sequence[str], question: Question) -> list[str]:
    """For each label the column that is called as it, or as question and label; none where some lack one."""
    if not question.gold_may_be_columns:
        return []
    for names in (question.labels, [f"{question.name}_{label}" for label in question.labels]):
        if set(names) <= set(present):
            return list(names)
    return []


def _answers(
    data: Dataset,
    column: GoldColumn,
    question: Question,
    label_map: Mapping[str, str],
    label_values: LabelValues,
) -> list:
    if isinstance(column, str):
        return question_gold(data, column, question, label_map, label_values)
    names = ", ".join(column)
    if not question.gold_may_be_columns or len(column) != len(question.labels):
        raise ValueError(
            f"Expected one column of people's answers to '{question.name}'"
            + (f", or {len(question.labels)} for its labels" if question.gold_may_be_columns else "")
            + f", got {names}."
        )
    rows: list[list[str] | None] = []
    for values in zip(*(data[name][:] for name in column), strict=True):
        holds = [_flag(value, name) for value, name in zip(values, column, strict=True)]
        if None in holds and any(one is not None for one in holds):
            raise ValueError(
                f"Columns {names} of '{question.name}' have empty cells beside others: say 0 or 1 in each."
            )
        rows.append(
            None if None in holds else [label for label, one in zip(question.labels, holds, strict=True) if one]
        )
    return question.gold(rows, names, label_map, "names")


def _warn(texts: Sequence[object], answers: Sequence[object], question: Question, column: str) -> None:
    seen: dict[str, set[str]] = {}
    given: set[str] = set()
    for text, answer in zip(texts, answers, strict=True):
        if isinstance(text, str) and question.is_answer(answer):
            seen.setdefault(text, set()).add(str(answer))
            given.update(question.named(answer))
    what, is_named = _ANSWERS[question.kind]
    if contradicted := sum(len(found) > 1 for found in seen.values()):
        logger.warning(
            "%d of %d different texts have several %s in column '%s'. Whoever labels them cannot be right about all "
            "their rows; decide which one counts.",
            contradicted,
            len(seen),
            what,
            column,
        )
    absent = [label for label in question.labels if label not in given]
    if absent and given and is_named:
        logger.warning(
            "Column '%s' has no row of %d of the %d labels: %s. Macro-F1 is taken over the others.",
            column,
            len(absent),
            len(question.labels),
            shown(absent),
        )


_ANSWERS = {"choice": ("labels", True), "choices": ("lists of labels", True), "scale": ("values", False)}
"""What answers are, by kind; and whether labels that none has are missed."""


def _flag(value: object, column: str) -> bool | None:
    """Whether a label holds, as its column says; `None` where it says nothing."""
    if is_missing(value):
        return None
    text = f"{value:g}" if isinstance(value, float) else str(value).strip().lower()
    if text not in ("0", "1", "true", "false"):
        raise ValueError(
            f"Column '{column}', which says whether a label holds, takes 0 and 1, or true and false; got {value!r}."
        )
    return text in ("1", "true")


def _listed(names: Iterable[str]) -> str:
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} and {last}" if first else last
