"""Reading a label out of a free answer. Strict on purpose: what is not clearly one label is none."""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import islice

from hf_llambert.tasks.frames import UNSPACED, clean, counts, is_english, is_frame, is_harmless, takes_back

LONGEST_ANSWER = 20_000
"""Characters of an answer, without its thoughts, that are read. A longer one abstains: its rest may take back its start."""

_TAGS = re.compile(
    r"</?(?:b|i|u|em|strong|code|span|p|div|br|li|label|answer|output|result|class|category)\b[^<>]{0,200}>|"
    r"<\|[^|<>\n]{1,40}\|>|</?(?:s|eos|bos|end_of_turn|end of turn)>"
)
_THOUGHT = (
    r"(?:[\w-]{1,20}:)?(?:think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratch[_-]?pad|inner_?(?:thoughts?|monologue)|"
    r"internal_?(?:thoughts?|monologue)|chain_of_thought|cot|rationale)"
)
_THOUGHT_MARKS = re.compile(
    rf"(?P<open><\s?[|｜]?\s?{_THOUGHT}(?:\s[^<>]{{0,100}})?[|｜]?>|\[{_THOUGHT}\]|◁think▷|<\|(?:begin_of_thought|start_thinking|think)\|>|"
    r"<\|?channel\|?>(?!\s*final)|<unused94>|\Aanalysis(?=[A-Z]))|"
    rf"(?P<close><\s?[|｜]?\s?/\s?[|｜]?{_THOUGHT}\s?[|｜]?\s?>|\[/{_THOUGHT}\]|◁/think▷|<\|(?:end_of_thought|end_thinking|/think)\|>|"
    r"<\|channel\|>\s*final\b[^<]{0,80}(?:<\|message\|>)?|<channel\|>|<unused95>|assistantfinal(?=\S))",
    re.IGNORECASE,
)
_ANSWER_KEYS = frozenset(
    ("answer", "label", "category", "class", "classification", "result", "output", "sentiment", "topic", "section")
)
_NUMBER_KEYS = frozenset(("rating", "stars", "grade", "stance", "score", "polarity", "prediction", "final answer"))
_MEASURE_KEYS = frozenset(
    ("confidence", "probability", "prob", "certainty", "p", "id", "index", "row", "count", "tokens", "length", "logprob",
     "reasoning", "thought", "thoughts", "explanation", "rationale", "reason", "opposite", "not", "excluded", "text",
     "review", "question", "input", "valid", "is correct")
)  # fmt: skip
# "Answer: x", alone on its line, is the answer whatever an explanation on other lines goes on to mention.
_ANSWER_LINE = re.compile(r"^\W*(?:the |my |final |overall )*(?:" + "|".join(_ANSWER_KEYS) + r")(?: is)?\s*[:=]+(.*)$")
_NEGATION = (
    r"(?:not|no|non|never|neither|nor|none|nothing|nowhere|without|hardly|barely|rarely|seldom|scarcely|few|cannot|unable|"
    r"unsure|unclear|uncertain|unlikely|impossible|difficult|doubt\w*|disagree|opposite|reverse|whether|if|false|"
    r"fails? to|lacks?|lacking|wrong|incorrect|incorrectly|untrue|inaccurate|misleading|except|"
    r"exclud\w+|rejected|rul(?:e|es|ed|ing) out|avoid\w*|discard\w*|refus\w+|least likely|away from|antithesis|stretch|"
    r"nope|everything but|all but|instead of|rather than|far from|anything but|less than|\w+n't|"
    r"(?:is|was|are|were|do|does|did|has|have|would|could|should|ca|wo|ai)nt)"
)
_NEGATED_BEFORE = re.compile(rf"(?<!\w){_NEGATION}(?!\w)")
_NEGATED_AFTER = re.compile(
    r"[^\w\n]{0,3}\?|['\"]?\s*[:=]\s*['\"]?(?:no\b|not\b|none\b|false|never|hardly|unlikely|\d)|"
    r"\W{0,6}(?:(?:is|was|would be|seems|does|do|can|could|would|will|may|might)\s+"
    r"(?:not\b|be ruled out|be excluded|unlikely|doubtful|wrong|incorrect|false|hardly|untrue|inaccurate|misleading|"
    r"a stretch|the (?:wrong|opposite|antithesis|least likely))|"
    r"(?:is|was|be|been|being|are|were)\s+(?:rejected|excluded|ruled out|discarded|avoided|refused)\b|"
    r"\w+\s+be(?:en)?\s+(?:rejected|excluded|ruled out|discarded|avoided|refused)\b|"
    r"(?:not|nope|nah|no|wrong|incorrect|untrue|false)(?=\W*(?:\n|\Z)|[.!)])|"
    r"(?:is|was|does|do|would|could|ca|wo|ai)n't\b|cannot\b)|\s+(?:that|about)\b"
)
_NOT_THEN = re.compile(
    r"(?<!\w)(?:(?:not|never|nope)\s?[:;.…]{1,4}|(?:wrong|incorrect|excluded|rejected)\s?:)[\s'\"(]*$"
)
_STRUCK = re.compile(r"~~|❌|✗|✘|✖|❎|🚫|⛔|👎|\[ \]")
_REFUSED = re.compile(
    r"(?:cannot|can't|could not|couldn't|unable to|not able to|impossible to)\s+(?:really\s+)?"
    r"(?:answer|tell|determine|say|judge|decide|know)(?!\w)"
)
_PAUSE = re.compile(r"\s*(?:[.,!;:)\]\"'\n–—。、|<-]|$)")
_TURN = re.compile(r"(?<!\w)(?:(?<!anything )but|however|yet|rather|instead)(?!\w)(?! (?:of|than))")
# A word in quotation marks after one of these is reported from the text, not given as the answer.
_REPORTED = re.compile(
    r"(?<!\w)(?:says?|said|saying|mention\w*|words?|phrases?|terms?|writes?|wrote|written|quot\w+|calls?|called|calling|"
    r"describ\w+|uses?|used|using|stat(?:es|ed|ing)|contains?|reads?|according to)(?!\w)[^.!?;]{0,40}$"
)
_JSON_TRIES = 20  # brackets at which JSON is looked for
_PLAIN_QUOTES = str.maketrans("“”„«»‘’", '"""""\'\'')
_EMPHASIS = re.compile(r"(\*{1,3})(?=\S)([^*\n]{1,500})(?<=\S)\1")
_QUOTED = re.compile(r"\"([^\"\n]*)\"|(?<!\w)'([^'\n]*)'(?!\w)|`([^`\n]*)`")


_OUTER = " \t\n.,!?;:'\"`()[]{}。、।｡؟،؛¡¿「」『』【】《》〈〉"
_DASHES = "\u00ad\u02d7\u058a\u2010-\u2015\u2043\u207b\u208b\u2212\u2796\ufe58\ufe63\uff0d"
_MINUS = re.compile(rf"(?<!\w)[{_DASHES}](?=\d)|(?<!\w)\u2212\s{{1,3}}(?=\d)")
# An em dash joins numbers, but parts words.
_HYPHEN = re.compile(r"(?<=\w)[\u2010-\u2013\u2212](?=\w)|(?<=\d)[\u2014\u2015](?=\d)")
_APOSTROPHE = re.compile(r"(?<=\w)[\u00b4`\u02b9\u02bc\u02c8\u2032\u201b](?=\w)")
_DASH_BEFORE = re.compile(rf"[-{_DASHES}]\s{{1,3}}$")
_COMPARED = re.compile(r"[<>]=?\d")
_PLUS = re.compile(r"(?<![\w+])\+(?=\d)")
_UNSPACED = re.compile(rf"[{UNSPACED}]")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。｡।۔؟])")


def normalize(text: str) -> str:
    """Case-folded text with plain quotes, without underscores, invisible characters and outer punctuation."""
    text = _fold(text).strip()
    for _ in range(20):  # marks within marks
        bare = _unmarked(text)
        if bare == text:
            break
        text = bare
    return text


def _unmarked(text: str) -> str:
    """One round of stripping: "C#", "A*" and "<5" are names of their own, "# heading", "**bold**" and "<b>" are markup."""
    text = text.strip(_OUTER)
    for mark in ("***", "**", "*"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            text = text[len(mark) : -len(mark)].strip(_OUTER)
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    text = text.lstrip("#*").rstrip("<>")
    if not _COMPARED.match(text):
        text = text.lstrip("<>")
    stem = text.rstrip("#*")
    tail = text[len(stem) :]
    if tail.startswith("#") and set(tail[1:]) == {"*"}:
        tail = "#"
    return stem + tail if len(tail) == 1 and (stem[-1:].isalnum() or tail == "#") else stem


def _fold(text: str) -> str:
    text = _PLUS.sub("", _MINUS.sub("-", _HYPHEN.sub("-", _APOSTROPHE.sub("'", text))))
    # ½ and ² would become digits of their own.
    text = "".join("x" if unicodedata.category(c) == "No" else c for c in text)
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cs"))
    text = text.translate(_PLAIN_QUOTES)
    return re.sub(r"[ \t]+", " ", text.replace("_", " "))


def _key(text: str) -> str:
    """A name as it is looked up: "human interest", "human-interest" and "human_interest" are one, "Sci / Tech" is "sci/tech"."""
    text = re.sub(r"(?<=\w)[\s\-]+(?=\w)", " ", normalize(text))
    return re.sub(r"(?<=\S)\s+(?=[^\w\s])|(?<=[^\w\s])(?<!\A.)\s+(?=\S)", "", text)


@lru_cache(maxsize=64)
def _vocabulary(words: tuple[tuple[str, ...], ...]) -> tuple[dict[str, int], re.Pattern[str]]:
    """Label id by name, and a pattern that finds whole names, the longest first."""
    ids: dict[str, int] = {}
    for label, names in enumerate(words):
        for name in names:
            ids.setdefault(_key(name), label)
    return ids, re.compile("|".join(_whole(name) for name in sorted(ids, key=len, reverse=True)))


def _whole(name: str) -> str:
    """A pattern of a name where it is no part of another word, number or name with symbols."""
    parts = []
    for i, part in enumerate(pieces := re.findall(r"\w+|\s|[^\w\s]", name)):
        if part == " ":
            parts.append(r"[\s\-]+")
        elif not part[0].isalnum() and 0 < i < len(pieces) - 1:
            parts.append(rf"\s{{0,3}}{re.escape(part)}\s{{0,3}}")
        else:
            parts.append(re.escape(part))
    spaced = rf"[^\W{UNSPACED}]"
    before, after = r"(?<!\d[.,/])(?<!\w[+/&@#=])(?<!\w/ )(?<!\w /)(?<!\w / )", ""
    if name[0].isdigit():
        before += r"(?<![<>≤≥~≈±])(?<![<>!]=)"
    if not re.match(rf"[{UNSPACED}]", name):
        before += rf"(?<!{spaced})(?<!-)"
    if not name[-1].isalnum():
        after = r"(?![\w+#*\-])"
    elif not re.search(rf"[{UNSPACED}]$", name):
        after = rf"(?!{spaced}|-\w|[.,/']\d|\s*%|[+#]|[&@=^]\w|\s?/\s?\w)"
        if name[-1].isdigit():
            after += r"(?! \d{3}(?!\d))"
        if len(name) <= 2:
            after += r"(?![*\-])"
    return before + "".join(parts) + after


def read_answer(response: str, words: tuple[tuple[str, ...], ...]) -> tuple[int | None, str | None]:
    """
    The one label that `response` names.

    Args:
        response (`str`): What the teacher said.
        words (`tuple[tuple[str, ...], ...]`): For each label the words that name it.

    Returns:
        `tuple[int | None, str | None]`: The label's index and `None`, or `None` and the reason for abstaining.
    """
    answer = without_thoughts(response).strip()
    if len(answer) > LONGEST_ANSWER:
        return None, f"longer than {LONGEST_ANSWER:,} characters"
    exact = [label for label, names in enumerate(words) if answer in names]
    if len(exact) == 1 and not _STRUCK.search(answer):
        return exact[0], None
    text = _fold(answer)
    if not text.strip():
        return None, "empty answer"
    if len(text) > 2 * LONGEST_ANSWER:  # one character may stand for eighteen
        return None, f"longer than {LONGEST_ANSWER:,} characters"
    return _read_folded(text, *_vocabulary(words))


def _read_folded(text: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[int | None, str | None]:
    if _STRUCK.search(text):
        return None, "denies a label"
    whole = ids.get(key := _key(text))
    if whole is not None:
        bare = re.sub(r"\s+", "", _EMPHASIS.sub(r"\2", text))
        if any(label != whole and len(name) > len(key) and name in bare for name, label in ids.items()):
            return None, "names several labels"
        return whole, None
    answers, beside = _json_answers(text, ids)
    if answers is not None:
        found = [_text_labels(answer, ids, pattern) for answer in answers]
        return _only([*found, _beside_labels(beside, ids, pattern)] if found else [])
    text = _EMPHASIS.sub(r"\2", _TAGS.sub(" ", text))
    lines = [match[1] for line in text.splitlines() if (match := _ANSWER_LINE.match(line))]
    stated = [ids.get(_key(line)) for line in lines]
    if stated and None not in stated and not takes_back(text):
        return _only([({label}, None) for label in stated if label is not None])
    return _only([_text_labels(text, ids, pattern)])


def _beside_labels(beside: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[set[int], str | None]:
    """The labels that the words beside JSON name, and a reason for not believing the JSON."""
    labels = {ids.get(_key(span[0])) for span in pattern.finditer(beside) if _stands_alone(span)}
    objects = list(re.finditer("\0", beside))
    denied = _denies(beside, objects) or takes_back(beside[objects[0].end() :])
    return {label for label in labels if label is not None}, "denies a label" if denied else None


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


def without_thoughts(response: str) -> str:
    """An answer without what stands between the marks of a thought; nothing where a thought is left open."""
    marks = list(_THOUGHT_MARKS.finditer(response))
    if not marks:
        return response
    if marks[-1]["open"]:
        return ""
    head = response[: marks[0].start()] if marks[0]["open"] else ""
    return f"{head}\n{response[marks[-1].end() :]}"


def _only(found: list[tuple[set[int], str | None]]) -> tuple[int | None, str | None]:
    labels: set[int] = set().union(*(labels for labels, _ in found))
    reason = next((reason for _, reason in found if reason), None)
    if len(labels) > 1:
        return None, "names several labels"
    if reason or not labels:
        return None, reason or "names no label"
    return labels.pop(), None


def _text_labels(text: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[set[int], str | None]:
    """The labels that a text names, and a reason for not believing it."""
    text = _QUOTED.sub(lambda match: _unquote(match, ids), text)
    top = max((int(name) for name in ids if name.isdecimal() and len(name) < 10), default=0)
    if top:  # "4 out of 5" is 4
        text = re.sub(rf"(?<=\d)(\s?-?\s?(?:stars?|points?))?\s{{1,3}}out of\s{{1,3}}{top}(?![.,/]\d|\w)", r"\1", text)
    spans = [span for span in pattern.finditer(text) if _stands_alone(span)]
    named = [ids.get(_key(name)) for name in {span[0] for span in spans}]
    labels = {label for label in named if label is not None}
    if not labels or None in named:
        return set(), None
    if any(_is_other_number(span, ids, top) for span in spans):
        return labels, "may be another number"
    if _REFUSED.search(text):
        return labels, "refuses to answer"
    # Label words are blanked out first: "no" and "not related" may be labels themselves.
    blanked = list(text)
    for span in spans:
        blanked[span.start() : span.end()] = "x" * len(span[0])
    rest = "".join(blanked)
    if _denies(rest, spans) or takes_back(rest[spans[0].end() :]):
        return labels, "denies a label"
    if not _is_known(rest, spans):
        return labels, "says more than a known frame"
    return labels, None


def _denies(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether an English word of denial stands before a label in its clause, or after it."""
    marks = [(match.end(), True) for match in _NEGATED_BEFORE.finditer(rest)]
    marks += [(match.end(), False) for match in re.finditer(r"[.!?;:\n]", rest)]
    marks += [(match.end(), False) for match in _TURN.finditer(rest)]
    marks.sort()
    denied, k = False, 0
    for span in spans:
        while k < len(marks) and marks[k][0] <= span.start():
            denied, k = marks[k][1], k + 1
        if (
            denied
            or _NEGATED_AFTER.match(rest, span.end())
            or _NOT_THEN.search(rest[max(0, span.start() - 20) : span.start()])
        ):
            return True
    return False


def _is_known(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether each sentence with a label is English or a known frame, and no other sentence can take it back."""
    bounds = [0, *(match.end() for match in _SENTENCE.finditer(rest)), len(rest)]
    k = 0
    for start, end in zip(bounds, bounds[1:], strict=False):
        inside = []
        while k < len(spans) and spans[k].start() < end:
            inside.append(spans[k])
            k += 1
        if not inside:
            if not is_harmless(rest[start:end]):
                return False
            continue
        first, last = inside[0], inside[-1]
        apart = any(clean(rest[a.end() : b.start()]) for a, b in zip(inside, inside[1:], strict=False))
        if (apart or not is_frame(rest[start : first.start()], rest[last.end() : end])) and not is_english(
            rest[start:end]
        ):
            return False
    return True


def _is_other_number(span: re.Match[str], ids: dict[str, int], top: int) -> bool:
    """Whether a number may be below zero, a part of another, or the count of something."""
    if "-" + span[0] in ids and _DASH_BEFORE.search(span.string[max(0, span.start() - 4) : span.start()]):
        return True
    return span[0].isdecimal() and counts(span.string, span.start(), span.end(), top)


def _stands_alone(span: re.Match[str]) -> bool:
    """Whether `no` and single letters, which are also ordinary words of a sentence, are an answer here."""
    if span[0] != "no" and not (len(span[0]) == 1 and span[0].isalpha() and not _UNSPACED.match(span[0])):
        return True
    return _PAUSE.match(span.string[span.end() :]) is not None


def _unquote(match: re.Match[str], ids: dict[str, int]) -> str:
    """Keep `The answer is "x"`; blank out longer quotations and `The review says "x"`."""
    inside = next(group for group in match.groups() if group is not None)
    alone = bool(inside.strip()) and len(inside) <= LONGEST_ANSWER // 10 and _key(inside) in ids
    if alone and not _REPORTED.search(match.string, max(0, match.start() - 80), match.start()):
        return f" {inside} "
    return " " * len(match[0])


class _Written(str):
    """A number or a boolean of JSON as an answer would write it."""


def _json_answers(text: str, ids: dict[str, int]) -> tuple[list[str] | None, str]:
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
        named = [item for key, item in value if key.strip() in _ANSWER_KEYS]
        named = named or [item for key, item in value if key.strip() in _NUMBER_KEYS]
        if not named and len(value) == 1 and value[0][0].strip() not in _MEASURE_KEYS and _key(value[0][0]) not in ids:
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
