"""What a batch service answered, as [`RecordedTeacher`] reads it: files of JSON, a line for each request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_llambert.tasks.spec import CUT, TaskSpec
from hf_llambert.teachers.batch_forms import FORMS, form_of
from hf_llambert.teachers.batches import custom_id, messages_id
from hf_llambert.teachers.logprobs import first_tokens
from hf_llambert.teachers.protocol import (
    NotOne,
    Unreadable,
    counted,
    finished,
    only_choice,
    read_json,
    written,
)
from hf_llambert.teachers.recordings import Answer, Index, clean, name_hash

_MOST_TOKENS = 2**40
_ROUNDING = 1e-3  # a probability of 1 may come as a little more
_DAMAGED = "\0damaged"  # no key of a service
_CUSTOM_ID = re.compile(r'"(?:custom_id|key)"\s*:\s*("(?:[^"\\]|\\.){0,500}")')
_UNREADABLE = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


class BatchRecording:
    """
    What a batch service answered, in OpenAI's form (`custom_id`, `response`, `error`; Mistral's too), Anthropic's (`custom_id`,
    `result`) or Gemini's (`key`, `response`, `error`).

    Args:
        files (`Sequence[Path]`): The output files; error files too.
        scored (`bool`): Whether to read the first token's log-probabilities, or the text.
        requests (`Sequence[Path]`, defaults to none): The request files, when the custom ids are not those of
            [`write_batch`].
    """

    def __init__(self, files: Sequence[Path], scored: bool, requests: Sequence[Path] = ()) -> None:
        self._files, self._scored = files, scored
        self._asked: dict[str, str] = {}
        self._structured: set[str] = set()
        for given, name, structured in _asked(requests):
            self._asked[given] = name
            if structured:
                self._structured.add(name)
        hashes, self._starts = [], []
        for number, file in enumerate(files):
            for start, row, said in json_lines(file):
                line = _in_openais_form(said, row, file)
                hashes.append(name_hash(self._name_of(line)))
                self._starts.append((number, start, row))
        self.index = Index(hashes)

    def name(self, task: TaskSpec, text: str) -> str:
        """See [`custom_id`]."""
        return custom_id(task, text)

    def read(self, places: Sequence[int]) -> list[tuple[str, Answer]]:
        """See [`Recording`]."""
        out: dict[int, tuple[str, Answer]] = {}
        for number in {self._starts[place][0] for place in places}:
            with self._files[number].open("rb") as file:
                for place in places:
                    if self._starts[place][0] == number:
                        _, start, row = self._starts[place]
                        file.seek(start)
                        said = _json_line(file.readline(), row, self._files[number])
                        line = _in_openais_form(said, row, self._files[number])
                        name = self._name_of(line)
                        out[place] = (
                            name,
                            _answer(line, self._scored, name in self._structured if self._asked else None),
                        )
        return [out[place] for place in places]

    def values(self) -> list[object]:
        """See [`Recording`]. A batch is answered in free text."""
        return []

    def _name_of(self, line: dict) -> str:
        name = line.get("custom_id")
        return self._asked.get(str(name), str(name)) if self._asked else str(name)


def json_lines(file: Path) -> Iterator[tuple[int, int, dict]]:
    """
    The objects of a JSONL file, each with the byte at which its line starts and the line's number. A line whose answer
    cannot be read, though its custom_id can, says so under `damaged`.
    """
    start = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield start, number, _json_line(line, number, file)
            start += len(line)


def _json_line(line: bytes, number: int, file: Path) -> dict:
    try:
        text = line.decode("utf-8-sig")
        damage = None
    except UnicodeDecodeError as error:
        text = line.decode("utf-8-sig", "replace")
        damage = f"line {number:,} of '{file.name}' is not UTF-8 at byte {error.start:,}"
    try:
        value = read_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"Line {number:,} of '{file}' is not JSON" + (f" ({damage})" if damage else "") + f"; was it cut? {error}"
        ) from error
    except (RecursionError, Unreadable) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else str(error)
        found = _CUSTOM_ID.search(text)
        value = {"custom_id": json.loads(found.group(1))} if found else {}
        damage = f"line {number:,} of '{file.name}' {what}"
    if not isinstance(value, dict):
        raise ValueError(f"Line {number:,} of '{file}' is not a JSON object.")
    return value if damage is None else {**value, "response": None, _DAMAGED: damage}


def _in_openais_form(line: dict, number: int, file: Path) -> dict:
    """An answer in OpenAI's words; a line that is none stays as it is, and one whose answer is misshapen says so."""
    if _DAMAGED in line:
        return {**line, "custom_id": line.get("custom_id", line.get("key"))}
    form = form_of(line, f"Line {number:,} of '{file}'")
    if form is None:
        return line
    try:
        return form.answer(line)
    except _UNREADABLE:
        return {"custom_id": line.get(form.id_field), "response": {"status_code": 200, "body": None}}


def _asked(requests: Sequence[Path]) -> Iterator[tuple[str, str, bool]]:
    """Of each request the name there, the name that [`write_batch`] gives it, and whether it asks for one of the labels."""
    for file in requests:
        for _, number, line in json_lines(file):
            try:
                form = FORMS["anthropic" if "params" in line else "gemini" if "request" in line else "openai"]
                messages, wanted = form.question(line)
                yield str(line.get(form.id_field)), messages_id(messages), _wants_label(wanted)
            except (AttributeError, TypeError, ValueError, RecursionError) as error:
                raise ValueError(f"Line {number:,} of '{file}' is no request with a body: {error}") from error


def _wants_label(response_format: object) -> bool:
    """Whether a request asks for JSON with one of the labels, or with the answers to questions."""
    try:
        asked = response_format["json_schema"]  # type: ignore[index]
        if asked["name"] == "answers":
            return all("enum" in one.get("items", one) for one in asked["schema"]["properties"].values())
        label = response_format["json_schema"]["schema"]["properties"]["label"]  # type: ignore[index]
        return bool(label["enum"])
    except (AttributeError, KeyError, TypeError, IndexError):
        return False


def _answer(line: dict, scored: bool, structured: bool | None) -> Answer:
    if damage := line.get(_DAMAGED):
        return Answer(error=f"the batch service's answer about this text cannot be read: {damage}")
    try:
        response = line.get("response") or {}
        body = response.get("body") or {}
        code = response.get("status_code")
        fault = line.get("error") or body.get("error")
        if fault or code != 200:
            # Not the service's own message: it may repeat a key.
            why = fault.get("code") or fault.get("type") if isinstance(fault, dict) else None
            said = f"status {code!s:.40}" + (f", {why!s:.80}" if why else "")
            return Answer(error=f"the batch service failed on this text: {clean(said)}")
        choice = only_choice(body)
        value: object = (_checked(first_tokens(choice)) or None) if scored else written(choice)
        if not scored and not isinstance(value, str | None):
            raise TypeError("no text")
        finish = None if scored else finished(choice, body)
    except _UNREADABLE as error:
        why = (
            str(error)
            if isinstance(error, NotOne)
            else "the batch service's answer about this text has not the expected shape"
        )
        return Answer(error=why)
    if finish == "broken" or choice.get("error"):
        return Answer(error="the batch service broke off the answer about this text")
    if value is None and finish not in CUT:
        what = "log-probabilities; write the batch with top_logprobs=..." if scored else "text"
        return Answer(error=f"the batch service's answer about this text has no {what}")
    if not scored:
        value = clean(str(value or ""))
        structured = _looks_structured(value) if structured is None else structured
    return Answer(value, tokens=_tokens(body), finish=finish, structured=bool(structured) and not scored)


def _looks_structured(answer: str) -> bool:
    """Whether an answer, of a request that nobody has, is what a structured one is: JSON with `label` and no more."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and list(value) == ["label"]


def _checked(likeliest: dict[str, float]) -> dict[str, float]:
    """The same log-probabilities. Raises `ValueError` for a value that is none; minus infinity is one."""
    if not all(p <= _ROUNDING for p in likeliest.values()):  # NaN is not
        raise ValueError("no log-probability")
    return likeliest


def _tokens(body: dict) -> tuple[int, int]:
    """Tokens in and out; zeros where the service counted none, or what no service can have counted."""
    try:
        read, wrote = counted(body)
    except _UNREADABLE:
        return 0, 0
    return (read if 0 <= read < _MOST_TOKENS else 0), (wrote if 0 <= wrote < _MOST_TOKENS else 0)
