"""The note of a published dataset on how it was annotated. Its author is not trusted: each field is checked."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from hf_llambert.annotation.calibration import Calibration, uncalibrated
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, visible
from hf_llambert.teachers.base import Teacher
from hf_llambert.teachers.kinds import make_teacher, teacher_class

ANNOTATION_FILE = "annotation.json"
"""Beside a published dataset: how it was annotated, for [`LLMLabeler.from_dataset`]."""

_LARGEST_NOTE = 16 * 2**20  # bytes
_LARGEST_NUMBER = 2**31
_MOST_LABELS = 10_000
_MOST_NAMED = 20  # of names in a message
_CALIBRATED = 1e6  # largest bias, and temperature or its inverse


def _word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_]{1,40}", value) is not None


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_NUMBER


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LARGEST_NUMBER


def _file_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.+-]{0,200}", value) is not None


def _revision(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= 200
        and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", value, re.ASCII) is not None
        and ".." not in value
    )


def _model(value: object) -> bool:
    """Whether it is a Hub id and cannot be taken for a folder of this machine."""
    try:
        validate_repo_id(value)  # type: ignore[arg-type]  # it checks the type
    except HFValidationError:
        return False
    return not os.path.lexists(str(value))


_TAKEN: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "model": (_model, "a Hub id that is no folder here"),
    "revision": (_revision, "a branch, tag or commit"),
    "gguf_file": (_file_name, "a file name without folders"),
    "mode": (_word, "score or generate"),
    "structured": (lambda value: isinstance(value, bool), "true or false"),
    "dtype": (_word, "a float type"),
    "quantization": (_word, "a word"),
    "max_model_len": (_count, "a whole number"),
    "max_text_tokens": (_count, "a whole number"),
    "head_share": (_number, "a number"),
    "max_new_tokens": (_count, "a whole number"),
    "temperature": (_number, "a number"),
    "top_k": (_count, "a whole number"),
    "seed": (_count, "a whole number"),
}
"""Settings of a teacher that a dataset may give, each with its check. No other enters a teacher."""


@dataclass(frozen=True)
class PublishedNote:
    """The note of a dataset, each field checked but for `settings`; see [`~PublishedNote.make_teacher`]."""

    dataset: str
    task: TaskSpec
    settings: object
    identity: object
    calibration: Calibration | dict[str, Calibration] | None
    text_column: TextColumn
    ask_apart: bool = False

    def make_teacher(self) -> Teacher:
        """
        The teacher of the note, where that is a model of the Hub with no other settings than those that are checked.

        Raises:
            ValueError: It depends on more; the message names what was not taken.
        """
        who, settings = f"The teacher of '{self.dataset}'", self.settings
        if not isinstance(settings, Mapping):
            raise ValueError(f"{who} must be a mapping of settings, got {settings!r:.100}. Pass teacher=... .")
        kind = settings.get("teacher", "transformers")
        given = {str(name): value for name, value in settings.items() if name != "teacher" and value is not None}
        if kind not in ("transformers", "vllm"):
            names = _listed(sorted(given)) or "nothing else is written there"
            raise ValueError(
                f"{who} is of the kind {str(kind)[:40]!r}, and only a model of the Hub that transformers or vllm runs is taken "
                f"from a dataset. Not taken: {names}. Pass teacher=... with your own."
            )
        if local := [name.removesuffix("_is_local") for name in given if name.endswith("_is_local") and given[name]]:
            names = " and ".join(f"{name} ({given.get(name, 'not published')!s:.200})" for name in local)
            raise ValueError(f"{who} depends on what only its annotator has: {names}. Pass teacher=... with your own.")
        given = {name: value for name, value in given.items() if not name.endswith("_is_local")}
        known = {field.name: field.default for field in dataclasses.fields(teacher_class(kind))}
        taken = {name: value for name, value in given.items() if name in _TAKEN and name in known}
        others = sorted(name for name in given if name not in taken and known.get(name, ...) != given[name])
        if others:
            raise ValueError(
                f"{who} depends on what is never taken from a dataset: {_listed(others)}. Only {', '.join(_TAKEN)} are. "
                f"Pass teacher=... with your own."
            )
        for name, value in taken.items():
            fits, expected = _TAKEN[name]
            if not fits(value):
                raise ValueError(
                    f"{who} has {name} {value!r:.100}, expected {expected}; it is not taken. Pass teacher=... with your own."
                )
        try:
            return make_teacher({**taken, "teacher": kind}, who)
        except ValueError as error:
            raise ValueError(f"{error} Update hf_llambert, or pass teacher=... .") from error


def published_note(dataset: str, revision: str | None = None, member: str | None = None) -> PublishedNote:
    """
    The note of a published dataset, or that of a member where a jury annotated.

    Raises:
        FileNotFoundError: There is no such dataset, or it was not published by hf_llambert.
        ValueError: The note is damaged, or there is no such member.
    """
    path = _note_file(dataset, revision)
    try:
        if path.stat().st_size > _LARGEST_NOTE:
            raise ValueError(f"it is larger than {_LARGEST_NOTE:,} bytes")
        note = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(note, dict) or not isinstance(note.get("members") or {}, dict):
            raise ValueError("expected a mapping")
        members = note.get("members") or {}
        if member in members:
            note |= members[member]
        task = _task(note["task"])
        column = note["text_column"]
        columns = column if isinstance(column, list) and column else [column]
        if not all(isinstance(one, str) for one in columns):
            raise ValueError(f"text_column must be a string, or several, got {column!r:.100}")
        calibration = _calibrations(note["calibration"], task)
        settings, identity = note["teacher"], note["identity"]
        ask_apart = note.get("ask_apart", False)
        if not isinstance(ask_apart, bool):
            raise ValueError(f"ask_apart must be true or false, got {ask_apart!r:.100}")
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"'{ANNOTATION_FILE}' of '{dataset}' is not what hf-llambert push writes: {error!s:.300}"
        ) from error
    if members and member not in members:
        raise ValueError(
            f"'{dataset}' was annotated by a jury. Pass member=, one of {_listed(members)}; got {member!r}."
        )
    return PublishedNote(dataset, task, settings, identity, calibration, column, ask_apart)


def _listed(names: Iterable[str]) -> str:
    """Names from a note for a message: few, short, without control characters."""
    names = list(names)
    more = f", ... ({len(names):,} in all)" if len(names) > _MOST_NAMED else ""
    return ", ".join(visible(name[:40]).replace("\n", "␊") for name in names[:_MOST_NAMED]) + more


def _task(found: object) -> TaskSpec:
    """The task, whose labels and words are words that can be written down and shown anywhere."""
    labels = found.get("labels") if isinstance(found, Mapping) else None
    if isinstance(labels, list):
        if len(labels) > _MOST_LABELS:
            raise ValueError(f"expected at most {_MOST_LABELS:,} labels, got {len(labels):,}")
        if not all(isinstance(label, str) for label in labels):
            raise ValueError("expected labels that are strings")
    task = TaskSpec.from_dict(found)  # type: ignore[arg-type]  # it checks the type
    parts = [task, *task.parts.values()]
    named = [one.name for one in parts] + [label for one in parts for label in one.labels]
    for word in (*named, *(word for one in parts for words in one.verbalizers for word in words)):
        if visible(word) != word or any(c in word for c in "\n\t"):
            raise ValueError(
                f"expected names of the task and its labels without control characters, got {ascii(word)[:100]}"
            )
    return task


def _calibrations(found: object, task: TaskSpec) -> Calibration | dict[str, Calibration] | None:
    """The calibration of the only question, or those of several by their names."""
    if "" in task.parts or not isinstance(found, Mapping):
        return _calibration(found, task)
    if unknown := sorted(set(found) - set(task.parts)):
        raise ValueError(f"calibration must be by the names of the questions {list(task.parts)}, got {unknown!r:.100}")
    return {
        name: _calibration(one, task.parts[name])
        or uncalibrated(task.parts[name].num_labels, task.parts[name].question.kind)
        for name, one in found.items()
    }


def _calibration(found: object, task: TaskSpec) -> Calibration | None:
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise ValueError(f"calibration must be a mapping, got {found!r:.100}")
    method, bias, temperature = found["method"], found["bias"], found["temperature"]
    finite = all(
        isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in [temperature, *bias]
    )
    usual = finite and 1 / _CALIBRATED <= temperature <= _CALIBRATED and all(abs(x) <= _CALIBRATED for x in bias)
    if not _word(method) or not usual or len(bias) != task.num_labels:
        raise ValueError(
            f"calibration needs a method, a finite bias for each of {task.num_labels} labels and a temperature over 0, none "
            f"beyond {_CALIBRATED:,.0f}"
        )
    if found.get("kind", "choice") != task.question.kind:
        raise ValueError(
            f"calibration is of a {found.get('kind', 'choice')!r:.40}, the question is a {task.question.kind}"
        )
    return Calibration(method, tuple(bias), temperature, task.question.kind)


def _note_file(dataset: str, revision: str | None) -> Path:
    if Path(dataset).is_dir():
        path = Path(dataset) / ANNOTATION_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"'{dataset}' holds no {ANNOTATION_FILE}: it was not published by hf-llambert push."
            )
        return path
    try:
        return Path(hf_hub_download(dataset, ANNOTATION_FILE, repo_type="dataset", revision=revision))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f"'{dataset}' is not a dataset that hf-llambert push published, or it cannot be had from the Hub: {error}"
        ) from error
