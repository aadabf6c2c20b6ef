"""Reading a label out of a free answer. Strict on purpose: what is not clearly one label is none."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from itertools import islice

_TAGS = re.compile(r"</?(?:b|i|u|em|strong|code|span|p|div|br|li|label|answer|output|result|class|category)\b[^>]*>")
_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL)
_ANSWER_KEYS = frozenset(
    ("answer", "label", "category", "class", "classification", "result", "output", "sentiment", "topic", "section")
)
# "Answer: x", alone on its line, is the answer whatever an explanation on other lines goes on to mention.
_ANSWER_LINE = re.compile(r"^\W*(?:the |my |final |overall )*(?:" + "|".join(_ANSWER_KEYS) + r")(?: is)?\s*[:=]+(.*)$")
_NEGATION = (
    r"(?:not|no|non|never|neither|nor|none|without|hardly|barely|cannot|unable|unsure|unclear|uncertain|whether|"
    r"fails? to|lacks?|lacking|wrong to|incorrect to|false that|instead of|rather than|far from|anything but|less than|\w+n't)"
)
_NEGATED_BEFORE = re.compile(rf"(?<!\w){_NEGATION}(?!\w)[\s\-]*(?:[^\s.!?;:]+[\s,]+){{0,6}}[^\s\w.!?;:]*$")
_NEGATED_AFTER = re.compile(
    r"^(?:\W{0,3}|\W?\?\s*(?:it|that|this)\s+)"
    r"(?:(?:is|was|would be|seems|does|do)\s+(?:not\b|wrong|incorrect|false|hardly)|(?:is|was|does|would)n't\b)"
)
_TURN = re.compile(r"(?<!\w)(?:(?<!anything )but|however|yet|rather|instead)(?!\w)(?! (?:of|than))")
# A word in quotation marks after one of these is reported from the text, not given as the answer.
_REPORTED = re.compile(
    r"(?<!\w)(?:says?|said|saying|mention\w*|words?|phrases?|terms?|writes?|wrote|written|quot\w+|calls?|called|calling|"
    r"describ\w+|uses?|used|using|stat(?:es|ed|ing)|contains?|reads?|according to)(?!\w)[^.!?;]{0,40}$"
)
_JSON_TRIES = 20  # brackets at which JSON is looked for
_PLAIN_QUOTES = str.maketrans("“”„«»‘’", '"""""\'\'')
_QUOTED = re.compile(r"\"([^\"\n]*)\"|(?<!\w)'([^'\n]*)'(?!\w)|`([^`\n]*)`")


def normalize(text: str) -> str:
    """Case-folded text with plain quotes, without underscores, invisible characters and outer punctuation."""
    return _fold(text).strip(" \t\n.,!?;:'\"`*#()[]{}<>")


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = text.translate(_PLAIN_QUOTES)
    return re.sub(r"[ \t]+", " ", text.replace("_", " "))


@lru_cache(maxsize=64)
def _vocabulary(words: tuple[tuple[str, ...], ...]) -> tuple[dict[str, int], re.Pattern[str]]:
    """Label id by normalized word, and a pattern that finds whole words, the longest first."""
    ids: dict[str, int] = {}
    for label, names in enumerate(words):
        for name in names:
            # "human interest", "human-interest" and "human_interest" are one name.
            ids[re.sub(r"[\s\-]+", " ", normalize(name))] = label
    alternatives = "|".join(
        r"[\s\-]+".join(map(re.escape, name.split())) for name in sorted(ids, key=len, reverse=True)
    )
    return ids, re.compile(rf"(?<![\w\-])(?:{alternatives})(?![\w]|-\w)")


def read_answer(response: str, words: tuple[tuple[str, ...], ...]) -> tuple[int | None, str | None]:
    """
    The one label that `response` names.

    Args:
        response (`str`): What the teacher said.
        words (`tuple[tuple[str, ...], ...]`): For each label the words that name it.

    Returns:
        `tuple[int | None, str | None]`: The label's index and `None`, or `None` and the reason for abstaining.
    """
    ids, pattern = _vocabulary(words)
    text = _fold(_THINKING.sub(" ", response))
    if not text.strip():
        return None, "empty answer"
    whole = ids.get(re.sub(r"[\s\-]+", " ", normalize(text)))
    if whole is not None:
        return whole, None
    if answers := _json_answers(text):
        return _only([_sentence_labels(answer, ids, pattern) for answer in answers])
    text = _TAGS.sub(" ", text)
    lines = [match[1] for line in text.splitlines() if (match := _ANSWER_LINE.match(line))]
    stated = [ids.get(re.sub(r"[\s\-]+", " ", normalize(line))) for line in lines]
    if stated and None not in stated:
        return _only([({label}, None) for label in stated if label is not None])
    return _only([_sentence_labels(text, ids, pattern)])


def _only(found: list[tuple[set[int], str | None]]) -> tuple[int | None, str | None]:
    labels = set().union(*(labels for labels, _ in found))
    reason = next((reason for _, reason in found if reason), None)
    if len(labels) > 1:
        return None, "names several labels"
    if reason or not labels:
        return None, reason or "names no label"
    return labels.pop(), None


def _sentence_labels(text: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[set[int], str | None]:
    """The labels that a text names, and a reason for not believing it."""
    text = _QUOTED.sub(lambda match: _unquote(match, ids), text)
    spans = list(pattern.finditer(text))
    labels = {ids[re.sub(r"[\s\-]+", " ", span[0])] for span in spans}
    # Label words are blanked out first: "no" and "not related" may be labels themselves.
    blanked = pattern.sub(lambda match: "x" * len(match[0]), text)
    for span in spans:
        clause = re.split(r"[.!?;:\n]", blanked[: span.start()])[-1]
        turn = list(_TURN.finditer(clause))
        if _NEGATED_BEFORE.search(clause[turn[-1].end() :] if turn else clause):
            return labels, "names a label only to deny it"
        if _NEGATED_AFTER.match(blanked[span.end() :]):
            return labels, "names a label only to deny it"
    return labels, None


def _unquote(match: re.Match[str], ids: dict[str, int]) -> str:
    """Keep `The answer is "x"`; blank out longer quotations and `The review says "x"`."""
    inside = next(group for group in match.groups() if group is not None)
    alone = re.sub(r"[\s\-]+", " ", normalize(inside)) in ids
    if alone and not _REPORTED.search(match.string[: match.start()]):
        return f" {inside} "
    return " " * len(match[0])


def _json_answers(text: str) -> list[str]:
    """The values of all JSON objects and lists in `text` that answer the question; empty if they are no strings."""
    decoder = json.JSONDecoder(object_pairs_hook=list)
    answers: list[object] = []
    end = 0
    for match in islice(re.finditer(r"[\[{]", text), _JSON_TRIES):
        start = match.start()
        if start < end:
            continue  # within an object that was read
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if text[start] == "[":
            answers += value
            continue
        named = [item for key, item in value if key.strip() in _ANSWER_KEYS]
        if not named and len(value) == 1:
            named = [value[0][1]]
        answers += [item for answer in named for item in (answer if isinstance(answer, list) else [answer])]
    return [str(item) for item in answers] if all(isinstance(item, str) for item in answers) else []
