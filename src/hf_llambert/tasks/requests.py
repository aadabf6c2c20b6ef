"""How a task of several questions is asked: in one request that JSON answers, or in score mode by a branch for each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from hf_llambert.tasks.choice import Choice
from hf_llambert.tasks.label_names import folded
from hf_llambert.tasks.question import Question
from hf_llambert.tasks.texts import FIELD, TextColumn, column_names
from hf_llambert.tasks.thoughts import without_thoughts

if TYPE_CHECKING:
    from hf_llambert.tasks.spec import TaskSpec

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PLACE = re.compile(r"\{([^\W\d][\w.-]*)\}")
_NO_JSON = "is not the JSON object that was asked for"


@lru_cache(maxsize=256)
def parts_of(task: TaskSpec) -> dict[str, TaskSpec]:
    """A task for each question by its name; a task of one question is its own, by the empty name."""
    if len(task.questions) < 2:
        return {"": task}
    out = {}
    for k, question in enumerate(task.questions):
        examples = tuple(type(one)(one.text, (one.label[k],)) for one in task.examples)
        out[question.name] = _derived(task, question, examples=examples)
    return out


@lru_cache(maxsize=256)
def branches_of(task: TaskSpec) -> dict[str, tuple[TaskSpec, ...]]:
    """
    For each question of [`parts_of`] the tasks that score mode asks, one label of several each. All begin with the same
    words, the text's among them, and a worked example in them answers every question, a turn each.
    """
    if not task.questions:
        return {"": (task,)}
    shots = score_turns(task)
    out = {}
    for name, question in zip(parts_of(task), task.questions, strict=True):
        asked = []
        for ask, words in question.texts():
            labels = question.labels if len(words) == len(question.labels) and not question.is_json else None
            labels = labels or tuple(word[0] for word in words)
            branch = Choice(question.name, labels, ask, words, (), question.lead_in)
            asked.append(_derived(task, branch, shots=shots))
        out[name] = tuple(asked)
    return out


def _derived(task: TaskSpec, question: Question, **other: object) -> TaskSpec:
    return type(task)(
        f"{task.name}-{question.name}" if len(task.questions) > 1 else task.name,
        instruction=task.instruction,
        system=task.system,
        chat=task.chat,
        questions=(question,),
        **other,  # type: ignore[arg-type]
    )


def score_turns(task: TaskSpec) -> tuple[tuple[str, str], ...]:
    """
    The worked examples in score mode: what is asked and answered in each turn. The first of an example has its text. In a
    plain prompt an answer that a lead-in begins has a line of its own.
    """
    turns = []
    for example in task.examples:
        shown = task.instruct(example.text) + "\n\n"
        for question, answer in zip(task.questions, example.label, strict=True):
            for ask, answered in question.shown(answer):
                turns.append((shown + ask + ("" if task.chat or not question.lead_in else "\n"), answered))
                shown = ""
    return tuple(turns)


def json_turns(task: TaskSpec) -> tuple[tuple[str, str], ...]:
    """The worked examples where one request asks all: what is asked and the JSON that answers."""
    return tuple(
        (json_words(task, example.text), json.dumps(_written(task, example.label), ensure_ascii=False))
        for example in task.examples
    )


def _written(task: TaskSpec, answers: tuple | str) -> dict[str, object]:
    return {q.name: q.written(answer) for q, answer in zip(task.questions, answers, strict=True)}


def written(task: TaskSpec) -> dict[str, object]:
    """The questions and examples of a task as its YAML file has them."""
    out: dict[str, object] = {"questions": [question.to_dict() for question in task.questions]}
    if task.examples:
        out["examples"] = [
            {**dict(zip(task.fields, one.text.split(FIELD), strict=True)), **_written(task, one.label)}
            for one in task.examples
        ]
    return out


def json_words(task: TaskSpec, text: str) -> str:
    """The words that ask all questions about a text at once and say how to answer: with one JSON object."""
    asks = [f"{question.name}: {question.filled()}" for question in task.questions]
    keys = [f'"{question.name}": {question.wanted()}' for question in task.questions]
    return "\n\n".join(
        [
            task.instruct(text),
            "\n".join(asks),
            "\n".join(["Answer with one JSON object and nothing else. Its keys and what each of them has:", *keys]),
        ]
    )


def schema_of(task: TaskSpec) -> dict[str, object]:
    """JSON schema of the object that answers a task's questions."""
    names = [question.name for question in task.questions]
    properties = {question.name: question.schema() for question in task.questions}
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def first_object(response: str) -> str | None:
    """An answer up to the end of its first JSON object; `None` where it has none that ends."""
    start = response.find("{")
    try:
        return response[: json.JSONDecoder().raw_decode(response, start)[1]] if start >= 0 else None
    except (ValueError, RecursionError):
        return None


def longest_object(task: TaskSpec) -> str:
    """The longest JSON object that answers a task's questions, a line for each value."""
    longest = {question.name: question.longest() for question in task.questions}
    return json.dumps(longest, ensure_ascii=False, indent=2)


def tokens_for(task: TaskSpec, most: int) -> int:
    """The most tokens of an answer where nothing counts them: `most`, and as many as a JSON object that answers may take."""
    return max(most, len(longest_object(task).encode())) if task.is_json else most


def obeys_schema(task: TaskSpec, response: str | None) -> bool:
    """Whether an answer is exactly a JSON object that answers every question."""
    found = _only_object(response or "")
    return (
        not isinstance(found, str)
        and found.keys() == {question.name for question in task.questions}
        and all(_fits(found[question.name], question.schema()) for question in task.questions)
    )


def read_object(task: TaskSpec, response: str, structured: bool = False) -> dict[str, tuple[object, str | None]]:
    """
    The answer to each question in a JSON object, by the names of [`parts_of`]; the lack of one with its reason. A question
    that the object does not answer lacks one alone.

    Args:
        task (`TaskSpec`): The task.
        response (`str`): What was answered.
        structured (`bool`, defaults to `False`): It was asked for by a schema: only an object by itself counts, and in it
            only values that the schema has.
    """
    parts = parts_of(task)
    found = _only_object(response) if structured else _object(response)
    if isinstance(found, str):
        return {name: (one.question.missing, found) for name, one in parts.items()}
    out: dict[str, tuple[object, str | None]] = {}
    for name, one in parts.items():
        question = one.question
        said = [value for key, value in found.items() if key == question.name or not structured and _is(key, question)]
        if not said or said == [None]:
            out[name] = question.missing, f"has no '{question.name}'"
        elif any(value != said[0] for value in said[1:]):
            out[name] = question.missing, f"says '{question.name}' twice"
        elif structured and not _fits(said[0], question.schema()):
            out[name] = question.missing, f"has no value at '{question.name}' that was asked for"
        else:
            out[name] = question.read(said[0], one.read_words)
    return out


def _is(key: str, question: Question) -> bool:
    """Whether a key is a question's name but for case and blanks; no two questions are called so."""
    return folded(key) == folded(question.name)


def _object(response: str) -> Mapping[str, object] | str:
    """The one JSON object in an answer, or why there is none to believe."""
    text = without_thoughts(response)
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    found: list[Mapping[str, object]] = []
    at = tries = 0
    try:
        while (at := text.find("{", at)) >= 0 and len(found) < _MOST_OBJECTS:
            tries += 1
            if tries > _MOST_TRIES:  # each may read to the end of the text
                return _NO_JSON
            try:
                value, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                at += 1
            else:
                found.append(value)
    except _Twice as error:
        return f"says '{error}' twice"
    except (ValueError, RecursionError):
        return _NO_JSON
    if not found:
        return _NO_JSON
    if any(one != found[0] for one in found[1:]):
        return "has several JSON objects that differ"
    return found[0]


def _only_object(response: str) -> Mapping[str, object] | str:
    """The JSON object that an answer is and nothing beside it, or why there is none."""
    try:
        value = json.loads(without_thoughts(response), object_pairs_hook=_once)
    except _Twice as error:
        return f"says '{error}' twice"
    except (ValueError, RecursionError):
        return _NO_JSON
    return value if isinstance(value, dict) else _NO_JSON


def _fits(value: object, schema: Mapping) -> bool:
    """Whether a value is one of those that a question's schema has."""
    if schema["type"] == "array":
        return isinstance(value, list) and all(_fits(item, schema["items"]) for item in value)
    return isinstance(value, str | int | float) and not isinstance(value, bool) and value in schema["enum"]


_MOST_OBJECTS = 20
_MOST_TRIES = 200


class _Twice(ValueError):
    """A key stands twice in an object, with different values."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    out = dict(pairs)
    if len(out) < len(pairs):
        for name, value in pairs:
            if out[name] != value:
                raise _Twice(name)
    return out


def check_questions(task: TaskSpec, where: str) -> None:
    """Raise a `ValueError` where a task's questions make no sense, or what belongs to a question stands beside them."""
    questions = task.questions
    if not all(isinstance(question, Question) for question in questions):
        raise ValueError(f"{where}: questions must be Choice, Choices or Scale, got {list(questions)!r}.")
    only = questions[0] if len(questions) == 1 else None
    for name, default in (("labels", ()), ("verbalizers", ()), ("descriptions", ()), ("lead_in", "")):
        if getattr(task, name) not in (default, getattr(only, name, default)):
            raise ValueError(f"{where}: {name} belongs to each of the questions, not beside them.")
    if task.permute_options:
        raise ValueError(f"{where}: permute_options is for a task of labels, not of questions.")
    names = [question.name for question in questions]
    for question in questions:
        if not isinstance(question.name, str) or not _NAME.fullmatch(question.name):
            raise ValueError(
                f"{where}: a question's name has letters, digits and _ and begins with a letter, got {question.name!r}."
            )
        if question.name in task.fields:
            raise ValueError(
                f"{where}: question '{question.name}' is called as a field that the prompt shows, but its gold stands in a "
                f"column of its name. Call it otherwise."
            )
        if not isinstance(question.ask, str) or not question.ask.strip():
            raise ValueError(f"{where}: question '{question.name}' needs 'ask', its words; got {question.ask!r}.")
    if len(set(map(folded, names))) < len(names):
        raise ValueError(f"{where}: expected questions of different names, not by case alone, got {names}.")
    for name in names:
        if taken := {f"gold_{name}", f"{name}_probabilities"} & set(names):
            raise ValueError(
                f"{where}: question '{taken.pop()}' is called as a column that belongs to question '{name}'. Call it otherwise."
            )
    if task.shots is None:
        _check_places(task, where)


def refuse_gold_as_text(task: TaskSpec, text_column: TextColumn) -> None:
    """Raise a `ValueError` where a column of the texts is called as a question, whose people's answers would stand there."""
    for name in column_names(text_column):
        if name in [question.name for question in task.questions]:
            raise ValueError(
                f"Task '{task.name}': question '{name}' is called as the column of the texts, but its gold stands in a column "
                f"of its name. Call the question, or the column, otherwise."
            )


def _check_places(task: TaskSpec, where: str) -> None:
    for place in ("{options}", "{definitions}"):
        if place in task.instruction:
            raise ValueError(f"{where}: {place} belongs into 'ask' of a question, where the instruction has it.")
    for question in task.questions:
        for place in _PLACE.findall(question.ask):
            if place in ("options", "definitions") or (place == "label" and question.is_json):
                continue
            if place in task.fields or place == "text":
                raise ValueError(
                    f"{where}: question '{question.name}' has {{{place}}} in 'ask'. Fields stand in the instruction, which "
                    f"all questions share; name the field there."
                )
            raise ValueError(
                f"{where}: question '{question.name}' has an unknown place {{{place}}} in 'ask'; known are {{options}}, "
                f"{{definitions}} and, for choices, {{label}}."
            )
