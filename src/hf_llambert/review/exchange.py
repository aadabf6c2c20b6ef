"""A review's rows for Argilla and Label Studio, and people's answers back from there."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from xml.sax.saxutils import quoteattr

from hf_llambert.review.answers import Answer, Key, checked_name
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
    fields, questions = list(_shown(review, review.queue.rows[0])), _questions(review)
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
    _shown(review, review.queue.rows[0])  # refuses names that clash
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
    reviewers = {str(_user_id(name)): name for name in review.standing()}
    parts = review.queue.task.parts
    given: dict[str, dict[Key, Answer]] = {}
    seen: set[int] = set()
    unanswered: list[tuple[int, str]] = []
    cancelled: list[int] = []
    foreign: dict[str, list[int]] = {}
    for number, record in enumerate(_records(path), start=1):
        where = f"Row {number} of '{path}'"
        try:
            place = _place(record, review)
            if place in seen:
                raise ValueError("is there twice")
            seen.add(place)
            read = _argilla_answers if "fields" in record else _label_studio_answers
            for called in _foreign(record, review):
                foreign.setdefault(called, []).append(number)
            for name, question, answer in read(record, review, reviewers):
                if answer is None:
                    unanswered.append((number, question))
                    continue
                if not parts[question].question.is_answer(answer.label):
                    cancelled.append(number)
                those, key = given.setdefault(checked_name(name), {}), (place, question)
                if key not in those or those[key].at <= answer.at:  # of several by one person the latest counts
                    those[key] = answer
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{where} is no record of Argilla or Label Studio ({type(error).__name__}: {error}). Nothing was taken."
            ) from error
        except ValueError as error:
            raise ValueError(f"{where} {error}. Nothing was taken from the file.") from error
    left_out = [
        (
            [n for n, of in unanswered if of == name],
            f"have no choice for '{name or GOLD}', or are drafts or discarded, and are",
        )
        for name in parts
    ]
    for numbers, are in (
        *((numbers, f"{are} left out") for numbers, are in left_out),
        (list(dict.fromkeys(cancelled)), "were cancelled (skipped), and are no labels"),
        *(
            (rows, f"answer {called!r}, which is no question of the task, and are left out")
            for called, rows in foreign.items()
        ),
    ):
        if numbers:
            few = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            logger.warning("%d annotations of '%s' %s (row %s).", len(numbers), path, are, few)
    if not given:
        raise ValueError(f"'{path}' has {len(seen):,} rows and no answer to any. Export it with responses.")
    return review.add_all(given)


def _check_format(format: str) -> None:
    if format not in FORMATS:
        raise ValueError(f"Expected one of the formats {list(FORMATS)}, got '{format}'.")


def _questions(review: Review) -> dict[str, Question]:
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
            {"value": kind.argilla(question, those[part].label), "user_id": str(_user_id(who))}
            for who, those in answers.items()
            if part in those and question.is_answer(those[part].label)
        ]
        if given:
            responses[name] = given
    return {
        "id": _identifier(review, place),
        "fields": _shown(review, row),
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
    shown, parts, predictions = _shown(review, row), review.queue.task.parts, []
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


def _shown(review: Review, row: QueueRow) -> dict[str, str]:
    """A row's text as `text`; several fields by their columns."""
    fields = review.queue.fields(row)
    if len(fields) > 1 and "review_id" in fields:
        raise ValueError("A column is called 'review_id', as the id of a row is. Rename it and annotate again.")
    shown = fields if len(fields) > 1 else {_FIELD: row.text}
    if taken := [name for name in _questions(review) if name in shown]:
        raise ValueError(f"A column and a question are both called '{taken[0]}'. Rename one and annotate again.")
    return shown


def _argilla_answers(
    record: Mapping, review: Review, reviewers: Mapping[str, str]
) -> Iterator[tuple[str, str, Answer | None]]:
    at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")  # the file has no times
    for part, one in review.queue.task.parts.items():
        question = one.question
        for response in (record["responses"] or {}).get(part or GOLD) or []:
            user, status = response["user_id"], response.get("status")
            if not isinstance(user, str) or not user:
                raise ValueError(f"has a response of the user {user!r}, expected an id")
            given, answer = (
                response["value"] is not None and str(status or "submitted").casefold() == "submitted",
                None,
            )
            if given:
                with _told(part):
                    answer = Answer(EXCHANGED[question.kind].from_argilla(question, response["value"]), at)
            yield reviewers.get(user, f"argilla-{user}"), part, answer


def _label_studio_answers(
    record: Mapping, review: Review, reviewers: Mapping[str, str]
) -> Iterator[tuple[str, str, Answer | None]]:
    for annotation in record["annotations"] or []:
        user = annotation.get("completed_by")
        if isinstance(user, Mapping):
            user = user.get("email") or user.get("id")
        if user is None or isinstance(user, bool) or not isinstance(user, int | str):
            raise ValueError(f"has an annotation of {user!r}, expected who completed it")
        name = user if isinstance(user, str) else f"label_studio-{user}"
        at = _time(annotation.get("created_at"))
        for part, one in review.queue.task.parts.items():
            if annotation.get("was_cancelled"):
                yield name, part, Answer(one.question.missing, at)
                continue
            found = _chosen(annotation.get("result") or [], part, one.question)
            yield name, part, Answer(found, at) if found is not None else None


def _chosen(results: list[Mapping], part: str, question: Question) -> object | None:
    """The answer to a question among the results of an annotation."""
    called = part or GOLD
    with _told(part):
        read = [
            EXCHANGED[question.kind].from_label_studio(question, result["value"])
            for result in results
            if result.get("from_name") == called
        ]
    found = [answer for answer in read if answer is not None]
    if len(found) > 1:
        raise ValueError(f"has an annotation with {found!r} for '{called}', expected one choice")
    return found[0] if found else None


def _foreign(record: Mapping, review: Review) -> list[str]:
    """What a record answers that the task does not ask; one of labels has always left other controls out."""
    if not review.queue.task.questions:
        return []
    results = [one for made in record.get("annotations") or [] for one in made.get("result") or []]
    called = [*(record.get("responses") or {}), *(one.get("from_name") for one in results)]
    return [str(name) for name in dict.fromkeys(called) if name not in _questions(review)]


@contextmanager
def _told(part: str) -> Iterator[None]:
    """Say of a value that was refused what it is, and of several questions for which one it was given."""
    try:
        yield
    except ValueError as error:
        value, mark, expected = str(error).partition(", expected")
        raise ValueError(f"has the label {value}{f' for {part!r}' if part else ''}{mark}{expected}") from error


def _time(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has an annotation made at {value!r}, expected a time")
    try:
        made = datetime.fromisoformat(value.replace("Z", "+00:00"))
        made = made if made.tzinfo else made.replace(tzinfo=timezone.utc)
        return made.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"has an annotation made at {value!r}, expected a time") from error


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
