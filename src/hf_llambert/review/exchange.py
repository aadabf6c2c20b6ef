"""A review's rows for Argilla and Label Studio."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

from hf_llambert.review.answers import Answer
from hf_llambert.review.exchanged import EXCHANGED
from hf_llambert.review.queue import QueueRow
from hf_llambert.review.session import Review
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.parts import GOLD
from hf_llambert.tasks.question import Question

logger = get_logger(__name__)
FORMATS = ("argilla", "label_studio")
_FIELD = "text"


def review_settings(review: Review, format: str) -> str:
    """
    What the other tool must be told before it reads a file of [`export_review`]: for Argilla the settings of a dataset, as
    Python, for Label Studio the labelling configuration, as XML.

    Of several labels one more can be chosen, that none holds. A scale is a rating of Argilla where its levels are whole
    numbers from 0 to 10, and of Label Studio where they count from 1, or there a number where they have equal steps; else a
    choice of one level.

    Args:
        review (`Review`): The review.
        format (`str`): `argilla` or `label_studio`.

    Raises:
        ValueError: Another format, or a question and a column of one name.
    """
    _check_format(format)
    fields, questions = list(shown_fields(review, review.queue.rows[0])), questions_there(review)
    if format == "argilla":
        asked = [EXCHANGED[question.kind].asked_by_argilla(question, name) for name, question in questions.items()]
        shown = ", ".join(f"rg.TextField({json.dumps(name, ensure_ascii=False)})" for name in fields)
        lines = "".join(f"        {one},\n" for one in asked)
        return f"rg.Settings(\n    fields=[{shown}],\n    questions=[\n{lines}    ],\n)"
    tags = [f"<Text name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in fields]
    tags += [EXCHANGED[q.kind].asked_by_label_studio(q, name, fields[0]) for name, q in questions.items()]
    return "\n".join(["<View>", *(f"  {tag}" for tag in tags), "</View>"])


def export_review(
    review: Review, path: str | Path, format: str, *, machine_labels: bool = False, answers: bool = False
) -> int:
    """
    Write the rows of a review for another tool.

    Argilla's is the JSON of `dataset.records.to_json` (argilla 2): read it with `dataset.records.from_json` into a dataset
    with a `TextField("text")` and a `LabelQuestion("label")`. Label Studio's is its list of tasks, for a `Text` named `text`
    and a `Choices` named `label`. Where the task shows several columns, there is a field for each, by its name; of several
    questions each is called by its name, and [`review_settings`] says what it is. A path that ends in `.jsonl` gets one row a
    line.

    Args:
        review (`Review`): The review.
        path (`str` or `Path`): The file; it must not exist.
        format (`str`): `argilla` or `label_studio`.
        machine_labels (`bool`, defaults to `False`): Add what teacher and student say of rows not drawn at random, as
            suggestions or predictions. People then tend to agree with them. Argilla takes one: the teacher's.
        answers (`bool`, defaults to `False`): Add people's answers. The other tool must know their ids: in Argilla a UUID
            made from the name, in Label Studio the name as e-mail.

    Returns:
        `int`: Rows written.

    Raises:
        FileExistsError: The file exists.
        ValueError: Another format.
    """
    path = Path(path)
    _check_format(format)
    if path.exists():
        raise FileExistsError(f"'{path}' exists already. Choose another file, or remove it.")
    shown_fields(review, review.queue.rows[0])  # refuses names that clash
    write = _argilla_record if format == "argilla" else _label_studio_task
    given = review.standing() if answers else {}
    records = []
    for place, row in enumerate(review.queue.rows):
        by = {who: {name: a for (k, name), a in said.items() if k == place} for who, said in given.items()}
        shown, said = machine_labels and not row.is_blind, {who: one for who, one in by.items() if one}
        records.append(write(review, place, row, shown, said))
    text = (
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        if path.suffix == ".jsonl"
        else json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return len(records)


def _check_format(format: str) -> None:
    if format not in FORMATS:
        raise ValueError(f"Expected one of the formats {list(FORMATS)}, got '{format}'.")


def questions_there(review: Review) -> dict[str, Question]:
    """The questions by what they are called in the other tool."""
    return {name or GOLD: one.question for name, one in review.queue.task.parts.items()}


def _argilla_record(
    review: Review, place: int, row: QueueRow, machine_labels: bool, answers: Mapping[str, Mapping[str, Answer]]
) -> dict:
    suggestions: dict[str, dict] = {}
    responses: dict[str, list[dict]] = {}
    for part, one in review.queue.task.parts.items():
        name, question, said = part or GOLD, one.question, row.part(part)
        kind = EXCHANGED[question.kind]
        if machine_labels and question.is_answer(said.teacher):
            suggestions[name] = {
                "value": kind.argilla(question, said.teacher),
                "score": said.teacher_confidence if kind.is_scored() else None,
                "agent": "teacher",
            }
        given = [
            {"value": kind.argilla(question, those[part].label), "user_id": str(user_id(who))}
            for who, those in answers.items()
            if part in those and question.is_answer(those[part].label)
        ]
        if given:
            responses[name] = given
    return {
        "id": _identifier(review, place),
        "fields": shown_fields(review, row),
        "metadata": {"reason": row.reason} if machine_labels else {},
        "suggestions": suggestions,
        "responses": responses,
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }


def _label_studio_task(
    review: Review, place: int, row: QueueRow, machine_labels: bool, answers: Mapping[str, Mapping[str, Answer]]
) -> dict:
    shown, parts, predictions = shown_fields(review, row), review.queue.task.parts, []
    for who in ("teacher", "student") if machine_labels else ():
        said = {name: row.part(name) for name in parts}
        results = _results(review, {name: getattr(one, who) for name, one in said.items()}, next(iter(shown)))
        sure = [getattr(one, f"{who}_confidence") for one in said.values()]
        if results:  # one score for all of it: that of the least sure
            known = [one for one in sure if one is not None]
            predictions.append({"model_version": who, "score": min(known, default=None), "result": results})
    annotations = [
        {
            "completed_by": {"email": name},
            "created_at": max(answer.at for answer in given.values()),
            "was_cancelled": len(given) == len(parts) and not results,
            "result": results,
        }
        for name, given in answers.items()
        for results in [_results(review, {k: answer.label for k, answer in given.items()}, next(iter(shown)))]
    ]
    data = {**shown, "review_id": _identifier(review, place)}
    return {"data": data, "predictions": predictions, "annotations": annotations}


def _results(review: Review, answers: Mapping[str, object], field: str) -> list[dict]:
    """Answers to questions, by part, as Label Studio has them."""
    results = []
    for part, answer in answers.items():
        question = review.queue.task.parts[part].question
        if question.is_answer(answer):
            how, value = EXCHANGED[question.kind].label_studio(question, answer)
            results.append({"from_name": part or GOLD, "to_name": field, "type": how, "value": {how: value}})
    return results


def shown_fields(review: Review, row: QueueRow) -> dict[str, str]:
    """A row's text as `text`; several fields by their columns."""
    fields = review.queue.fields(row)
    if len(fields) > 1 and "review_id" in fields:
        raise ValueError("A column is called 'review_id', as the id of a row is. Rename it and annotate again.")
    shown = fields if len(fields) > 1 else {_FIELD: row.text}
    if taken := [name for name in questions_there(review) if name in shown]:
        raise ValueError(f"A column and a question are both called '{taken[0]}'. Rename one and annotate again.")
    return shown


def _identifier(review: Review, place: int) -> str:
    return f"{review.queue.digest}-{place}"


def user_id(name: str) -> uuid.UUID:
    """What Argilla calls a reviewer."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"hf-llambert:reviewer:{name}")
