"""Answers as JSON: which of its values are the answer."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from itertools import islice

from hf_llambert.tasks.names import key
from hf_llambert.tasks.thoughts import without_thoughts

ANSWER_KEYS = frozenset(
    ("answer", "label", "category", "class", "classification", "result", "output", "sentiment", "topic", "section")
)
_NUMBER_KEYS = frozenset(("rating", "stars", "grade", "stance", "score", "polarity", "prediction", "final answer"))
_MEASURE_KEYS = frozenset(
    ("confidence", "probability", "prob", "certainty", "p", "id", "index", "row", "count", "tokens", "length", "logprob",
     "reasoning", "thought", "thoughts", "explanation", "rationale", "reason", "opposite", "not", "excluded", "text",
     "review", "question", "input", "valid", "is correct")
)  # fmt: skip
_JSON_TRIES = 20  # brackets at which JSON is looked for


def read_structured(response: str, labels: tuple[str, ...]) -> tuple[int | None, str | None]:
    """The label of an answer that was asked for as JSON: exactly `{"label": X}`, or X, with X one of `labels`."""
    answer = without_thoughts(response).strip()
    try:
        value = json.loads(answer, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        value = None
    named = value[0][1] if isinstance(value, list) and len(value) == 1 and value[0][:1] == ("label",) else answer
    if isinstance(named, str) and named in labels:
        return labels.index(named), None
    return None, "is not the JSON of one label that was asked for"


class _Written(str):
    """A number or a boolean of JSON as an answer would write it."""


def json_answers(text: str, ids: dict[str, int]) -> tuple[list[str] | None, str]:
    """The values that answer the question in all JSON of `text`, `None` if there is none; and the text, JSON as NUL."""
    decoder = json.JSONDecoder(object_pairs_hook=tuple, parse_int=_Written, parse_float=_Written)
    answers: list[object] = []
    found, end, done, beside = False, 0, 0, ""
    for match in islice(re.finditer(r"[\[{]", text), _JSON_TRIES):
        start = match.start()
        if start < end:
            continue  # within an object that was read
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if text[start] == "[" and not (value and all(isinstance(item, str) for item in value)):
            continue
        found = True
        beside, done = beside + text[done:start].replace("\0", " ") + "\0", end
        if text[start] == "[":
            answers += value
            continue
        named = [item for name, item in value if name.strip() in ANSWER_KEYS]
        named = named or [item for name, item in value if name.strip() in _NUMBER_KEYS]
        if not named and len(value) == 1 and value[0][0].strip() not in _MEASURE_KEYS and key(value[0][0]) not in ids:
            named = [value[0][1]]
        answers += [item for answer in named for item in (answer if isinstance(answer, list) else [answer])]
    beside += text[done:].replace("\0", " ")
    if not found:
        return None, beside
    if not all(isinstance(answer, (str, bool)) for answer in answers):
        return [], beside  # null, or an object of its own
    return [_as_written(answer, ids) for answer in answers], beside


def _as_written(value: object, ids: dict[str, int]) -> str:
    """A JSON value as the name that it is: 5.0 is the label 5 where the task has no other."""
    if not isinstance(value, (_Written, bool)) or (text := str(value).casefold()) in ids:
        return str(value).casefold()
    if isinstance(value, bool):
        return ""
    try:
        names = [name for name in ids if re.fullmatch(r"-?[0-9.]{1,30}", name) and Decimal(name) == Decimal(text)]
    except InvalidOperation:
        return ""
    return names[0] if len({ids[name] for name in names}) == 1 else ""
