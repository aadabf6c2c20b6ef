"""Reading a label out of a free answer. Strict on purpose: what is not clearly one label is none."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from itertools import islice

_TAGS = re.compile(r"</?(?:b|i|u|em|strong|code|span|p|div|br|li|label|answer|output|result|class|category)\b[^>]*>")
_THINKING = re.compile(r"^.*</think(?:ing)?>|<think(?:ing)?>.*$", re.DOTALL)
_ANSWER_KEYS = frozenset(
    ("answer", "label", "category", "class", "classification", "result", "output", "sentiment", "topic", "section")
)
# "Answer: x", alone on its line, is the answer whatever an explanation on other lines goes on to mention.
_ANSWER_LINE = re.compile(r"^\W*(?:the |my |final |overall )*(?:" + "|".join(_ANSWER_KEYS) + r")(?: is)?\s*[:=]+(.*)$")
_NEGATION = (
    r"(?:not|no|non|never|neither|nor|none|nothing|nowhere|without|hardly|barely|rarely|seldom|scarcely|few|cannot|unable|"
    r"unsure|unclear|uncertain|unlikely|impossible|difficult|doubt\w*|disagree|opposite|reverse|whether|if|false|"
    r"fails? to|lacks?|lacking|wrong to|incorrect to|instead of|rather than|far from|anything but|less than|\w+n't|"
    r"(?:is|was|do|does|did|would|could|should|ca|wo)nt)"
)
_NEGATED_BEFORE = re.compile(rf"(?<!\w){_NEGATION}(?!\w)")
_NEGATED_AFTER = re.compile(
    r"^[^\w\n]{0,3}\?|^['\"]?\s*[:=]\s*['\"]?(?:no\b|not\b|none\b|false|never|hardly|unlikely|\d)|"
    r"^\W{0,3}(?:(?:is|was|would be|seems|does|do|can|could|would|will|may|might)\s+"
    r"(?:not\b|be ruled out|be excluded|unlikely|doubtful|wrong|incorrect|false|hardly)|"
    r"(?:is|was|does|do|would|could|ca|wo)n't\b|cannot\b)|^\s+(?:that|about)\b"
)
_STRUCK = re.compile(r"~~|❌|✗|✘|\[ \]")
_REFUSED = re.compile(
    r"(?:cannot|can't|could not|couldn't|unable to|not able to|impossible to)\s+(?:really\s+)?"
    r"(?:answer|tell|determine|say|judge|decide|know)(?!\w)"
)
_PAUSE = re.compile(r"\s*(?:[.,!;:)\]\"'\n–—-]|$)")
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
    # ½ and ² would become digits of their own.
    text = "".join("x" if unicodedata.category(c) == "No" else c for c in text)
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
    return ids, re.compile(rf"(?<![\w\-])(?<!\d[.,/])(?:{alternatives})(?!\w|-\w|[.,/]\d|\s*%)")


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
    text = _THINKING.sub(" ", _fold(response))
    if not text.strip():
        return None, "empty answer"
    if _STRUCK.search(text):
        return None, "denies a label"
    whole = ids.get(re.sub(r"[\s\-]+", " ", normalize(text)))
    if whole is not None:
        return whole, None
    answers = _json_answers(text)
    if answers is not None:
        return _only([_sentence_labels(answer, ids, pattern) for answer in answers])
    text = _TAGS.sub(" ", text)
    lines = [match[1] for line in text.splitlines() if (match := _ANSWER_LINE.match(line))]
    stated = [ids.get(re.sub(r"[\s\-]+", " ", normalize(line))) for line in lines]
    if stated and None not in stated:
        return _only([({label}, None) for label in stated if label is not None])
    return _only([_sentence_labels(text, ids, pattern)])


def _only(found: list[tuple[set[int], str | None]]) -> tuple[int | None, str | None]:
    labels: set[int] = set().union(*(labels for labels, _ in found))
    reason = next((reason for _, reason in found if reason), None)
    if len(labels) > 1:
        return None, "names several labels"
    if reason or not labels:
        return None, reason or "names no label"
    return labels.pop(), None


def _sentence_labels(text: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[set[int], str | None]:
    """The labels that a text names, and a reason for not believing it."""
    text = _QUOTED.sub(lambda match: _unquote(match, ids), text)
    spans = [span for span in pattern.finditer(text) if _stands_alone(span)]
    labels = {ids[re.sub(r"[\s\-]+", " ", span[0])] for span in spans}
    if labels and _REFUSED.search(text):
        return labels, "refuses to answer"
    # Label words are blanked out first: "no" and "not related" may be labels themselves.
    blanked = list(text)
    for span in spans:
        blanked[span.start() : span.end()] = "x" * len(span[0])
    rest = "".join(blanked)
    for span in spans:
        clause = re.split(r"[.!?;:\n]", rest[: span.start()])[-1]
        turn = list(_TURN.finditer(clause))
        if _NEGATED_BEFORE.search(clause[turn[-1].end() :] if turn else clause):
            return labels, "denies a label"
        if _NEGATED_AFTER.match(rest[span.end() :]):
            return labels, "denies a label"
    return labels, None


def _stands_alone(span: re.Match[str]) -> bool:
    """Whether `no` and single letters, which are also ordinary words of a sentence, are an answer here."""
    if span[0] != "no" and not (len(span[0]) == 1 and span[0].isalpha()):
        return True
    return _PAUSE.match(span.string[span.end() :]) is not None


def _unquote(match: re.Match[str], ids: dict[str, int]) -> str:
    """Keep `The answer is "x"`; blank out longer quotations and `The review says "x"`."""
    inside = next(group for group in match.groups() if group is not None)
    alone = re.sub(r"[\s\-]+", " ", normalize(inside)) in ids
    if alone and not _REPORTED.search(match.string[: match.start()]):
        return f" {inside} "
    return " " * len(match[0])


def _json_answers(text: str) -> list[str] | None:
    """The strings that answer the question in all JSON objects and lists of `text`; `None` if there is no JSON."""
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
    answers: list[object] = []
    found, end = False, 0
    for match in islice(re.finditer(r"[\[{]", text), _JSON_TRIES):
        start = match.start()
        if start < end:
            continue  # within an object that was read
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if text[start] == "[":
            if value and all(isinstance(item, str) for item in value):
                found = True
                answers += value
            continue
        found = True
        named = [item for key, item in value if key.strip() in _ANSWER_KEYS]
        if not named and len(value) == 1:
            named = [value[0][1]]
        answers += [item for answer in named for item in (answer if isinstance(answer, list) else [answer])]
    if not found:
        return None
    return [item for item in answers if isinstance(item, str)] if all(isinstance(a, str) for a in answers) else []
