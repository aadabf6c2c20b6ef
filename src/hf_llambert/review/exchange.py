"""A review's rows for Argilla and Label Studio, and people's answers back from there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from hf_llambert.review.answers import Answer, Key, checked_name
from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import QueueRow
from hf_llambert.review.session import Review
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.questions import ABSTAIN, name_id

logger = get_logger(__name__)
FORMATS = ("argilla", "label_studio")
_QUESTION, _FIELD = "label", "text"


def export_review(
    review: Review, path: str | Path, format: str, *, machine_labels: bool = False, answers: bool = False
) -> int:
    """
    Write the rows of a review for another tool.

    Argilla's is the JSON of `dataset.records.to_json` (argilla 2): read it with `dataset.records.from_json` into a dataset
    with a `TextField("text")` and a `LabelQuestion("label")`. Label Studio's is its list of tasks, for a `Text` named `text`
    and a `Choices` named `label`. Where the task shows several columns, there is a field for each, by its name. A path that
    ends in `.jsonl` gets one row a line.

    Args:
        review (`Review`): The review.
        path (`str` or `Path`): The file; it must not exist.
        format (`str`): `argilla` or `label_studio`.
        machine_labels (`bool`, defaults to `False`): Add what teacher and student say, as suggestions or predictions. People
            then tend to agree with them. Argilla takes one suggestion a question: the teacher's.
        answers (`bool`, defaults to `False`): Add people's answers. The other tool must know their ids: in Argilla a UUID
            made from the name, in Label Studio the name as e-mail.

    Returns:
        `int`: Rows written.

    Raises:
        FileExistsError: The file exists.
        ValueError: Another format.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"Expected one of the formats {list(FORMATS)}, got '{format}'.")
    if path.exists():
        raise FileExistsError(f"'{path}' exists already. Choose another file, or remove it.")
    write = _argilla_record if format == "argilla" else _label_studio_task
    given = review.answers() if answers else {}
    records = []
    for place, row in enumerate(review.queue.rows):
        those = {name: answer[place] for name, answer in given.items() if place in answer}
        records.append(write(review, place, row, machine_labels, those))
    text = (
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        if path.suffix == ".jsonl"
        else json.dumps(records, indent=1, ensure_ascii=False) + "\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return len(records)


def import_review(review: Review, path: str | Path) -> dict[str, int]:
    """
    Take people's answers from a file of Argilla or Label Studio, exported there after [`export_review`].

    All of it is read and checked before any of it is kept. Imported again, only what is new is added. Annotations without a
    choice, drafts and discarded ones are left out, cancelled ones of Label Studio are skips; both are warned of with their
    number.

    Args:
        review (`Review`): The review whose rows were exported.
        path (`str` or `Path`): JSON or JSON lines.

    Returns:
        `dict[str, int]`: New answers by reviewer. One whom the file names by number only is called `argilla-...` or
        `label_studio-...`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is malformed, is not of this review, or has a label that is not the task's; the message has its
            number, from 1.
    """
    path = Path(path)
    reviewers = {str(_user_id(name)): name for name in review.answers()}
    given: dict[str, dict[Key, Answer]] = {}
    seen: set[int] = set()
    unanswered: list[int] = []
    cancelled: list[int] = []
    for number, record in enumerate(_records(path), start=1):
        where = f"Row {number} of '{path}'"
        try:
            place = _place(record, review)
            if place in seen:
                raise ValueError("is there twice")
            seen.add(place)
            read = _argilla_answers if "fields" in record else _label_studio_answers
            for name, answer in read(record, review, reviewers):
                if answer is None:
                    unanswered.append(number)
                    continue
                if answer.label == ABSTAIN:
                    cancelled.append(number)
                those = given.setdefault(checked_name(name), {})
                if (place, "") not in those or those[
                    place, ""
                ].at <= answer.at:  # of several by one person the latest counts
                    those[place, ""] = answer
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{where} is no record of Argilla or Label Studio ({type(error).__name__}: {error}). Nothing was taken."
            ) from error
        except ValueError as error:
            raise ValueError(f"{where} {error}. Nothing was taken from the file.") from error
    for numbers, are in (
        (unanswered, f"have no choice for '{_QUESTION}', or are drafts or discarded, and are left out"),
        (cancelled, "were cancelled (skipped), and are no labels"),
    ):
        if numbers:
            few = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            logger.warning("%d annotations of '%s' %s (row %s).", len(numbers), path, are, few)
    if not given:
        raise ValueError(f"'{path}' has {len(seen):,} rows and no answer to any. Export it with responses.")
    return review.add_all(given)


def _argilla_record(
    review: Review, place: int, row: QueueRow, machine_labels: bool, answers: Mapping[str, Answer]
) -> dict:
    suggestions = {}
    if machine_labels and row.teacher != ABSTAIN:
        suggestions[_QUESTION] = {
            "value": _name(review, row.teacher),
            "score": row.teacher_confidence,
            "agent": "teacher",
        }
    responses = [
        {"value": _name(review, answer.label), "user_id": str(_user_id(name))}
        for name, answer in answers.items()
        if answer.label != ABSTAIN
    ]
    return {
        "id": _identifier(review, place),
        "fields": _shown(review, row),
        "metadata": {"reason": row.reason} if machine_labels else {},
        "suggestions": suggestions,
        "responses": {_QUESTION: responses} if responses else {},
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }


def _label_studio_task(
    review: Review, place: int, row: QueueRow, machine_labels: bool, answers: Mapping[str, Answer]
) -> dict:
    predictions = []
    said = (("teacher", row.teacher, row.teacher_confidence), ("student", row.student, row.student_confidence))
    for who, label, confidence in said:
        if machine_labels and label != ABSTAIN:
            predictions.append({"model_version": who, "score": confidence, "result": _choice(_name(review, label))})
    annotations = [
        {
            "completed_by": {"email": name},
            "created_at": answer.at,
            "was_cancelled": answer.label == ABSTAIN,
            "result": [] if answer.label == ABSTAIN else _choice(_name(review, answer.label)),
        }
        for name, answer in answers.items()
    ]
    data = {**_shown(review, row), "review_id": _identifier(review, place)}
    return {"data": data, "predictions": predictions, "annotations": annotations}


def _shown(review: Review, row: QueueRow) -> dict[str, str]:
    """A row's text as `text`; several fields by their columns."""
    fields = review.queue.fields(row)
    if len(fields) > 1 and "review_id" in fields:
        raise ValueError("A column is called 'review_id', as the id of a row is. Rename it and annotate again.")
    return fields if len(fields) > 1 else {_FIELD: row.text}


def _name(review: Review, label: object) -> str:
    return reviewed(review.queue.task.question).words(review.queue.task.question, label)


def _choice(label: str) -> list[dict]:
    return [{"from_name": _QUESTION, "to_name": _FIELD, "type": "choices", "value": {"choices": [label]}}]


def _argilla_answers(
    record: Mapping, review: Review, reviewers: Mapping[str, str]
) -> Iterator[tuple[str, Answer | None]]:
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")  # the file has no times
    for response in (record["responses"] or {}).get(_QUESTION) or []:
        user, status = response["user_id"], response.get("status")
        if not isinstance(user, str) or not user:
            raise ValueError(f"has a response of the user {user!r}, expected an id")
        given = response["value"] is not None and str(status or "submitted").casefold() == "submitted"
        yield (
            reviewers.get(user, f"argilla-{user}"),
            Answer(_label(response["value"], review), at) if given else None,
        )


def _label_studio_answers(
    record: Mapping, review: Review, reviewers: Mapping[str, str]
) -> Iterator[tuple[str, Answer | None]]:
    for annotation in record["annotations"] or []:
        user = annotation.get("completed_by")
        if isinstance(user, Mapping):
            user = user.get("email") or user.get("id")
        if user is None or isinstance(user, bool) or not isinstance(user, int | str):
            raise ValueError(f"has an annotation of {user!r}, expected who completed it")
        name = user if isinstance(user, str) else f"label_studio-{user}"
        at = _time(annotation.get("created_at"))
        if annotation.get("was_cancelled"):
            yield name, Answer(ABSTAIN, at)
            continue
        chosen = [
            choices
            for r in annotation.get("result") or []
            if r.get("from_name") == _QUESTION and (choices := r["value"].get("choices"))
        ]
        if not chosen:
            yield name, None
            continue
        if len(chosen) != 1 or len(chosen[0]) != 1:
            raise ValueError(f"has an annotation with {chosen!r} for '{_QUESTION}', expected one choice")
        yield name, Answer(_label(chosen[0][0], review), at)


def _time(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has an annotation made at {value!r}, expected a time")
    try:
        made = datetime.fromisoformat(value.replace("Z", "+00:00"))
        made = made if made.tzinfo else made.replace(tzinfo=timezone.utc)
        return made.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"has an annotation made at {value!r}, expected a time") from error


def _label(value: object, review: Review) -> int:
    """The label that another tool's row names; it was given the names, so it gives no ids back."""
    labels: Sequence[str] = review.queue.task.labels
    found = name_id(value, labels) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"has the label {value!r}, expected one of {list(labels)}")
    return found


def _place(record: object, review: Review) -> int:
    """Where in the queue a record stands."""
    if not isinstance(record, Mapping):
        raise ValueError("is not an object")
    data = record["fields"] if "fields" in record else record["data"]
    identifier = record["id"] if "fields" in record else data["review_id"]
    digest, _, number = str(identifier).rpartition("-")
    if digest != review.queue.digest or not number.isdecimal() or int(number) >= len(review.queue.rows):
        raise ValueError(f"has the id {identifier!r}, which is none of this review ({review.queue.digest}-0, ...)")
    shown = _shown(review, review.queue.rows[int(number)])
    if {name: data[name] for name in shown} != shown:
        raise ValueError("has another text than the row of this review with its id")
    return int(number)


def _records(path: Path) -> list:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file '{path}'.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8: {error}. Nothing was taken.") from error
    if path.suffix != ".jsonl":
        try:
            records = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"'{path}' is not JSON: {error}. One record a line must be in a .jsonl file.") from error
        if not isinstance(records, list):
            raise ValueError(f"'{path}' must hold a list of records, got {type(records).__name__}.")
        return records
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"Row {number} of '{path}' is not JSON: {error}. Nothing was taken.") from error
    return records


def _identifier(review: Review, place: int) -> str:
    return f"{review.queue.digest}-{place}"


def _user_id(name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"hf-llambert:reviewer:{name}")
