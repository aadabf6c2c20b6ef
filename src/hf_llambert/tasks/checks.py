"""Checks of a task when it is made: each raises a `ValueError` that says what was expected and came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_llambert.tasks.file_values import check_strings
from hf_llambert.tasks.names import normalize
from hf_llambert.tasks.texts import FIELD

if TYPE_CHECKING:
    from hf_llambert.tasks.spec import TaskSpec


def check_labels(task: TaskSpec, where: str) -> None:
    """Check labels, verbalizers and descriptions, and fill in what is left out."""
    check_strings(where, "labels", task.labels)
    if len(task.labels) < 2 or len(set(task.labels)) != len(task.labels):
        raise ValueError(f"{where}: expected at least two different labels, got {list(task.labels)}.")
    _check_descriptions(task, where)
    if not task.verbalizers:
        object.__setattr__(task, "verbalizers", tuple((label,) for label in task.labels))
    _check_verbalizers(task, where)


def check_prompt(task: TaskSpec, where: str) -> None:
    """Check everything that is sent beside the labels."""
    if not isinstance(task.instruction, str) or not task.fields or len(set(task.fields)) < len(task.fields):
        raise ValueError(
            f"{where}: instruction must contain {{text}} exactly once, where the text goes, or the names of several "
            f"columns so, once each; got {task.instruction!r}."
        )
    if "label" in task.fields:
        raise ValueError(
            f"{where}: instruction has {{label}}, but a column 'label' holds people's labels, which no prompt shows. Give "
            f"the column another name, or write the word without braces."
        )
    if task.instruction.count("{options}") > 1 or not isinstance(task.permute_options, bool):
        raise ValueError(
            f"{where}: instruction may contain {{options}} once, and permute_options is true or false; got "
            f"{task.instruction!r} and {task.permute_options!r}."
        )
    if task.permute_options and "{options}" not in task.instruction:
        raise ValueError(f"{where}: permute_options needs {{options}} in the instruction, where they are to stand.")
    if not isinstance(task.lead_in, str) or not isinstance(task.chat, bool):
        raise ValueError(
            f"{where}: lead_in must be a string and chat true or false, got {task.lead_in!r} and {task.chat!r}."
        )
    object.__setattr__(task, "lead_in", task.lead_in.strip())  # a blank before the answer belongs to its word
    if task.system is not None and not task.chat:
        raise ValueError(f"{where}: a plain completion has no system turn. Set chat: true or drop system.")
    if task.system is not None and not isinstance(task.system, str):
        raise ValueError(f"{where}: system must be a string, got {task.system!r}.")


def check_examples(task: TaskSpec, where: str) -> None:
    """Check the worked examples."""
    for example in task.examples:
        if not isinstance(example.text, str) or not example.text.replace(FIELD, "").strip():
            raise ValueError(f"{where}: an example's text must be a non-empty string, got {example.text!r}.")
        if example.text.count(FIELD) != len(task.fields) - 1:
            raise ValueError(f"{where}: an example has {', '.join(task.fields)}, got {example.text.split(FIELD)}.")
        if task.questions:
            _check_answers(task, where, example.label)
        elif example.label not in task.labels:
            raise ValueError(f"{where}: example label {example.label!r} is not one of the labels {list(task.labels)}.")


def _check_answers(task: TaskSpec, where: str, answers: object) -> None:
    if not isinstance(answers, tuple) or len(answers) != len(task.questions):
        raise ValueError(f"{where}: an example answers {len(task.questions)} questions, got {answers!r}.")
    for question, answer in zip(task.questions, answers, strict=True):
        if not question.has(answer):
            raise ValueError(
                f"{where}: example answer {answer!r} is none to question '{question.name}', which takes {question.wanted()}."
            )


def _check_descriptions(task: TaskSpec, where: str) -> None:
    if not task.descriptions:
        object.__setattr__(task, "descriptions", ("",) * len(task.labels))
    if len(task.descriptions) != len(task.labels) or not all(isinstance(one, str) for one in task.descriptions):
        raise ValueError(
            f"{where}: expected descriptions of {len(task.labels)} labels, strings, got {list(task.descriptions)}."
        )
    place, words = ("ask", task.questions[0].ask) if task.questions else ("instruction", task.instruction)
    if words.count("{definitions}") > 1 or ("{definitions}" in words and not any(task.descriptions)):
        raise ValueError(
            f"{where}: {place} may contain {{definitions}} once, where the labels have descriptions; got {words!r} and "
            f"{list(task.descriptions)}."
        )


def _check_verbalizers(task: TaskSpec, where: str) -> None:
    if len(task.verbalizers) != len(task.labels):
        raise ValueError(f"{where}: expected verbalizers for {len(task.labels)} labels, got {len(task.verbalizers)}.")
    owner: dict[str, str] = {}
    for label, words in zip(task.labels, task.verbalizers, strict=True):
        check_strings(where, f"verbalizers of '{label}'", words)
        if not words:
            raise ValueError(f"{where}: label '{label}' has no verbalizer. Give it at least one word.")
        for word in (*words, label):
            key = normalize(word)
            if not key:
                raise ValueError(f"{where}: {word!r} of label '{label}' has no letter or digit to recognise it by.")
            if owner.setdefault(key, label) != label:
                raise ValueError(
                    f"{where}: {word!r} stands for both '{owner[key]}' and '{label}'. A word may name one label."
                )
