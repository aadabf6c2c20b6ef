"""People's answers back from Argilla and Label Studio."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from hf_llambert.review.answers import Answer, Key, checked_name
from hf_llambert.review.exchange import questions_there, shown_fields, user_id
from hf_llambert.review.exchanged import EXCHANGED
from hf_llambert.review.session import Review
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.parts import GOLD
from hf_llambert.tasks.question import Question

logger = get_logger(__name__)


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
    reviewers = {str(user_id(name)): name for name in review.standing()}
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
    return [str(name) for name in dict.fromkeys(called) if name not in questions_there(review)]


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
    shown = shown_fields(review, review.queue.rows[int(number)])
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
