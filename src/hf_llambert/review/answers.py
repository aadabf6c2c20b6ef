"""The file of a reviewer's answers: JSON lines. A last line that a kill cut is left out."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_llambert.review.kinds import reviewed
from hf_llambert.review.queue import Queue

_LONGEST_NAME = 60
Key = tuple[int, str]
"""What an answer is about: a place in the queue, and a question by the names of `TaskSpec.parts`."""


@dataclass(frozen=True)
class Answer:
    """
    What one reviewer says of one row, or to one of several questions about it.

    Args:
        label (`object`): The answer as gold has it: the id of a label, a list of ids or a level. Skipped: -1, or `None`.
        at (`str`): When, in UTC as ISO 8601.
    """

    label: object
    at: str


def checked_name(reviewer: str) -> str:
    """A reviewer's name without spaces around it. Raises `ValueError` when nothing is left or it is no name."""
    name = unicodedata.normalize("NFC", reviewer).strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"Expected a reviewer's name of 1 to {_LONGEST_NAME} printable characters, got {reviewer!r}.")
    return name


def file_name(reviewer: str) -> str:
    """A name for a file on any disk; two reviewers never share one."""
    short = re.sub(r"[^a-z0-9]+", "-", reviewer.lower()).strip("-")[:30]
    return f"{short or 'reviewer'}-{hashlib.sha256(reviewer.encode()).hexdigest()[:8]}"


def standing_answers(entries: Iterable[Mapping]) -> dict[Key, Answer]:
    """The answers that count, in the order in which they were given."""
    found: dict[Key, Answer] = {}
    for entry in entries:
        key = (entry["row"], entry.get("question", ""))
        found.pop(key, None)
        if not entry.get("undo"):
            found[key] = Answer(entry["label"], entry["at"])
    return found


def answers_to(standing: Mapping[Key, Answer], question: str) -> dict[int, Answer]:
    """The answers to one question, by place in the queue."""
    return {place: answer for (place, name), answer in standing.items() if name == question}


def entry_about(key: Key, **said: object) -> dict[str, object]:
    """A line of the file: what is said about a row, or about one of several questions of it."""
    place, question = key
    return {"row": place, **({"question": question} if question else {}), **said}


def read_answers(path: Path, queue: Queue) -> tuple[str | None, list[dict]]:
    """Reviewer and entries of a file. A last line without an end was torn by a kill and never confirmed: it is left out."""
    if not path.is_file():
        return None, []
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines:
        return None, []
    try:
        number = 1
        head = json.loads(lines[0])
        name, digest = head["reviewer"], head["queue"]
        if not isinstance(name, str):
            raise ValueError(f"expected a reviewer's name, got {name!r:.60}")
        entries = []
        for number, line in enumerate(lines[1:], start=2):  # noqa: B007  (named in the error)
            entries.append(_checked_entry(json.loads(line), queue))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OSError(f"Line {number} of '{path}' cannot be read ({error}). Restore or remove it.") from error
    if digest != queue.digest:
        raise OSError(f"'{path}' holds answers to another queue of rows. Move it away; it does not belong here.")
    return name, entries


def _checked_entry(entry: Mapping, queue: Queue) -> dict:
    place, name = entry["row"], entry.get("question", "")
    if not (type(place) is int and 0 <= place < len(queue.rows)):
        raise ValueError(f"row {place!r} is not in the queue")
    if name not in queue.task.parts:
        raise ValueError(f"question {name!r} is none of the task's" if name else "no question")
    question = queue.task.parts[name].question
    label = entry.get("label", question.missing)
    skipped = type(label) is type(question.missing) and label == question.missing
    if not (skipped or reviewed(question).is_given(question, label)):
        raise ValueError(f"label {label!r} is none of the task's")
    if "label" not in entry and not entry.get("undo"):
        raise ValueError("no label")
    if not (isinstance(entry["at"], str) and entry["at"].isprintable()):
        raise ValueError("no time")
    return dict(entry)


def cut_torn_line(path: Path, file: int) -> None:
    """Take a last line without an end out of an open file."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.ftruncate(file, content.rfind(b"\n") + 1)
