"""Reads JSON answers: which of their values is the answer."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from itertools import islice

from hf_llambert.tasks.denials import REFUSED, takes_back
from hf_llambert.tasks.names import key
from hf_llambert.tasks.numbers import highest
from hf_llambert.tasks.thoughts import without_thoughts

ANSWER_KEYS = frozenset(
    ("answer", "label", "category", "class", "classification", "result", "output", "sentiment", "topic", "section", "prediction",
     "verdict")
)  # fmt: skip
NUMBER_KEYS = frozenset(
    ("rating", "stars", "star", "grade", "stance", "score", "polarity", "emotion", "intent", "tone", "decision")
)
# "final label" and "predicted class" are answers too; "rejected label", "second label" and "label confidence" are none.
_HEADS = frozenset(
    ("final", "predicted", "the", "my", "overall", "main", "primary", "best", "correct", "chosen", "selected", "assigned", "top",
     "most", "likely", "general", "detected", "inferred", "resulting", "text", "review", "document", "article", "tweet",
     "comment", "message", "ticket", "spam", "icd", "customer", "movie", "film", "product", "news", "user", "model", "llm", "ai",
     "numeric", "corrected", "revised", "actual", "true", "real", "new", "updated", "adjusted")
)  # fmt: skip
# Ordinary nouns, which answer only where an object says nothing else.
_NOUNS = frozenset(
    ("language", "lang", "code", "codes", "priority", "urgency", "severity", "type", "genre", "department", "toxicity",
     "relation", "relationship", "domain", "theme", "subject", "mood", "feeling", "style", "level", "status", "diagnosis",
     "icd10", "emotions", "response")
)  # fmt: skip
_BESIDE = frozenset(
    ("reason", "reasons", "reasoning", "explanation", "rationale", "justification", "description", "confidence", "score",
     "probability", "certainty", "id", "text", "intensity", "note", "notes")
)  # fmt: skip
_SCALE = frozenset(("max", "maximum", "scale", "out of", "max rating", "max score"))
# Keys whose `false`, or whose value other than false and nothing, says that the object gives no answer; and values of a status.
_JUDGED = frozenset(
    ("correct", "valid", "right", "true", "accurate", "success", "successful", "ok", "applicable", "final",
     "sure", "certain")
)  # fmt: skip
_FAULTS = frozenset(
    ("error", "errors", "exception", "failure", "failed", "refusal", "refused", "declined", "retracted", "withdrawn", "rejected",
     "incorrect", "wrong", "invalid", "mistaken", "negated", "negation", "opposite", "inverted", "abstain", "abstained", "unsure",
     "uncertain", "skip", "skipped", "correction", "corrections")
)  # fmt: skip
_FAULTS_OF = frozenset(
    ("rate", "type", "count", "code", "analysis", "label", "category", "class", "answer")
)  # "error rate"
_NO_FAULT = frozenset(("", "none", "no", "null", "false", "n/a", "na", "0", "nothing", "ok"))
_REMARKS = frozenset(("note", "notes", "comment", "comments", "remark", "warning", "warnings", "caveat", "disclaimer"))
_UNREAD = re.compile(r"\{\s*[\"'][^\"'\n]{0,100}[\"']\s*:")
_SINGLE_QUOTES = re.compile(r"(?<=[{\[,:\s])'|'(?=\s*[}\],:])")
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
    if '"' not in text and "{" in text:
        text = _SINGLE_QUOTES.sub('"', text)
    text = re.sub(r",(\s{0,99}[}\]])", r"\1", text)
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
            end = start  # objects in a list are read one by one
            continue
        found = True
        beside, done = beside + text[done:start].replace("\0", " ") + "\0", end
        answers += value if text[start] == "[" else _object_answers(value, ids)
    beside += text[done:].replace("\0", " ")
    if not found:
        return ([] if _UNREAD.search(text) else None), beside
    if not all(isinstance(answer, (str, bool)) for answer in answers):
        return [], beside  # null, or an object of its own
    return [_as_written(answer, ids) for answer in answers], beside


def _object_answers(value: tuple[tuple[str, object], ...], ids: dict[str, int]) -> list[object]:
    """The values under answer keys of an object, or under keys of numbers where it has none; `None` where it denies itself."""
    if any(_denies_itself(name, item) for name, item in value):
        return [None]
    top = highest(ids)
    if top and any(name in _SCALE and str(item) != str(top) for name, item in value):
        return [None]  # a grade of another scale
    numbers = [item for name, item in value if _is_key(name, NUMBER_KEYS)]
    named = [item for name, item in value if _is_key(name, ANSWER_KEYS)]
    named += [item for item in numbers if not named or isinstance(item, _Written) and _as_written(item, ids) in ids]
    if not named:
        rest = [(name, item) for name, item in value if name not in _BESIDE]
        named = [rest[0][1]] if len(rest) == 1 and _is_key(rest[0][0], _NOUNS) else []
        named = [item for item in named if all(str(part).casefold() in ids for part in _items(item))]
    answers = [item for answer in named for item in _items(answer, ids)]
    # "is positive": false beside the label positive, or true beside another, leaves no answer.
    given = {ids.get(key(str(item))) for item in answers}
    judged = [(ids.get(key(name.removeprefix("is "))), item) for name, item in value if isinstance(item, bool)]
    return (
        [None] if any(label is not None and item != (label in given) for label, item in judged if answers) else answers
    )


def _denies_itself(name: str, item: object) -> bool:
    """Whether a key and its value say that an object gives no answer: "valid": false, "error": "timeout"."""
    words = set(re.split(r"\W+", name))
    if item is False:
        return not words.isdisjoint(_JUDGED)
    said = str(item).strip() if isinstance(item, (str, bool)) else item
    if not words.isdisjoint(("status", "state")) and isinstance(said, str):
        return not _FAULTS.isdisjoint(re.split(r"\W+", said))
    if not words.isdisjoint(_REMARKS) and isinstance(said, str):
        return takes_back(said) or REFUSED.search(said) is not None
    if words.isdisjoint(_FAULTS) or not words.isdisjoint(_FAULTS_OF):
        return False
    return bool(said) and str(said).casefold() not in _NO_FAULT


def _items(answer: object, ids: dict[str, int] | None = None) -> list[object]:
    """The items of a list, the answers of an object within an object, or the one answer itself."""
    if isinstance(answer, tuple) and ids is not None:
        return _object_answers(
            tuple((name, item) for name, item in answer if name in ANSWER_KEYS or name in _BESIDE), ids
        ) or [None]
    return answer if isinstance(answer, list) else [answer]


def _is_key(name: str, answers: frozenset[str]) -> bool:
    """Whether a folded key is one of `answers`, as in "final label", "label 2", "label name" and "predictedlabel"."""
    words = re.sub(r"[\W\d]+$", "", name).replace("-", " ").split()
    if len(words) > 1 and words[-1] in ("name", "value", "text"):
        words.pop()
    if not words:
        return False
    if len(words) == 1 and words[0] not in answers:
        words = next(([head, words[0][len(head) :]] for head in _HEADS if words[0].startswith(head)), words)
    return words[-1] in answers and all(word in _HEADS or word in ANSWER_KEYS | NUMBER_KEYS for word in words[:-1])


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
