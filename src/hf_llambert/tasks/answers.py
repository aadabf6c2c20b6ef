"""Reading a label out of a free answer. Strict on purpose: what is not clearly one label is none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hf_llambert.tasks.denials import ASKS, REFUSED, STRUCK, denies, is_measure, may_deny, takes_back
from hf_llambert.tasks.english import all_usual_beside, ends_in_unknown
from hf_llambert.tasks.frames import (
    clean,
    is_english,
    is_foreign_denial,
    is_frame,
    is_harmless,
    is_yes_or_no_explained,
)
from hf_llambert.tasks.json_answers import ANSWER_KEYS, NUMBER_KEYS, json_answers
from hf_llambert.tasks.names import (
    fold,
    is_letter,
    is_part_of_name,
    is_spoken_of,
    key,
    label_of,
    plain_names,
    stands_alone,
    vocabulary,
)
from hf_llambert.tasks.numbers import highest, is_other_number, plain_grades, without_confidence
from hf_llambert.tasks.thoughts import without_thoughts

LONGEST_ANSWER = 20_000
"""Characters of an answer, without its thoughts, that are read. A longer one abstains: its rest may take back its start."""

_TAGS = re.compile(
    r"</?(?:b|i|u|em|strong|code|span|p|div|br|li|(?:(?:final|predicted|overall) )?(?:"
    + "|".join(sorted(ANSWER_KEYS | NUMBER_KEYS))
    + r"))\b[^<>]{0,200}>|<\|[^|<>\n]{1,40}\|>|</?(?:s|eos|bos|end_of_turn|end of turn)>"
)
# "Answer: x", alone on its line, is the answer whatever an explanation on other lines goes on to mention.
_ANSWER_LINE = re.compile(
    r"^\W*(?:the |my |final |overall )*(?:" + "|".join(sorted(ANSWER_KEYS)) + r")(?: is)?\s*(?::|=(?!>))+(.*)$"
)
# A word in quotation marks after one of these is reported from the text, not given as the answer.
_REPORTED = re.compile(
    r"(?<!\w)(?:says?|said|saying|mention\w*|words?|phrases?|terms?|writes?|wrote|written|quot\w+|calls?|called|calling|"
    r"describ\w+|uses?|used|using|stat(?:es|ed|ing)|contains?|reads?|according to)(?!\w)[^.!?;]{0,40}$"
)
_EMPHASIS = re.compile(r"(\*{1,3})(?=\S)([^*\n]{1,500})(?<=\S)\1")
_NEXT_EXAMPLE = re.compile(
    r"\n\s*(?:[#*>-]{1,4}\s*)?(?:(?:the|next|another|new|movie|film|customer|product|news|user|hotel|restaurant)\s)?"
    r"(?:review|text|input|question|sentence|tweet|article|passage|document|example|headline|statement|post|q|human|user|"
    r"instruction|task|prompt)(?:\s\d{1,4})?\**\s?:|"
    r"\n\s*(?:<\|(?:user|im_start)\|?>|\[inst\]|#{2,4}\s)"
)
_OPTION_END = re.compile(r"\s?[).:\]}*–—-]{1,4}\s")
_BOXED = re.compile(r"\$*\\boxed\s?\{\s?(?:\\text\w{0,4}\s?\{)?([^{}]{0,200})\}{1,2}\$*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+|(?<=[。｡।۔؟])")
_QUOTED = re.compile(r"\"([^\"\n]*)\"|(?<!\w)'([^'\n]*)'(?!\w)|`([^`\n]*)`")


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
    if len(exact) == 1 and not STRUCK.search(answer):
        return exact[0], None
    text = fold(answer)
    if not text.strip():
        return None, "empty answer"
    if len(text) > 2 * LONGEST_ANSWER:  # one character may stand for eighteen
        return None, f"longer than {LONGEST_ANSWER:,} characters"
    return _read_folded(text, *vocabulary(words))


def _read_folded(text: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[int | None, str | None]:
    if STRUCK.search(text):
        return None, "denies a label"
    text = plain_names(text, ids)
    whole = _whole_answer(text, ids)
    if whole is not None:
        return whole
    answers, beside = json_answers(text, ids)
    if answers is not None:
        found = [_text_labels(answer, ids, pattern) for answer in answers]
        if any(not labels for labels, _ in found):
            return None, "names no label under one of its keys"
        return _only([*found, _beside_labels(beside, ids, pattern)] if found else [])
    text = _EMPHASIS.sub(r"\2", _TAGS.sub(" ", _BOXED.sub(r"boxed (\1)", text)))
    if (turn := _NEXT_EXAMPLE.search(text)) and pattern.search(text, 0, turn.start()):
        # A small model goes on with examples of its own. Only an answer that is nothing but a label ends clearly before them.
        return _whole_answer(text[: turn.start()], ids) or (None, "goes on with another example")
    return _only(_stated_labels(text, ids) or [_text_labels(text, ids, pattern)])


def _stated_labels(text: str, ids: dict[str, int]) -> list[tuple[set[int], str | None]]:
    """The labels that lines like "Answer: x" and lines of a label alone name; nothing where another line may take them back."""
    lines = [(line, _ANSWER_LINE.match(line)) for line in text.splitlines()]
    stated = [label_of(match[1], ids) for _, match in lines if match]
    others = [line for line, match in lines if not match]
    if not stated or None in stated or takes_back(text) or not all(map(is_harmless, others)):
        return []
    return [({label}, None) for label in (*stated, *(label_of(line, ids) for line in others)) if label is not None]


def _whole_answer(text: str, ids: dict[str, int]) -> tuple[int | None, str | None] | None:
    """What an answer that is a name and nothing else says; `None` where it is more."""
    name, label = key(text), label_of(text, ids)
    if label is None:
        return None
    if ASKS.search(text) and name[-1] not in "?;":
        return None, "asks instead of answering"
    bare = re.sub(r"\s+", "", _EMPHASIS.sub(r"\2", text))
    if any(other_label != label and len(other) > len(name) and other in bare for other, other_label in ids.items()):
        return None, "names several labels"
    return label, None


def _beside_labels(beside: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[set[int], str | None]:
    """The labels that the words beside JSON name, and a reason for not believing the JSON."""
    labels = {label_of(span[0], ids) for span in pattern.finditer(beside) if stands_alone(span)}
    objects = list(re.finditer("\0", beside))
    denied = denies(beside, objects) or takes_back(beside[objects[0].end() :])
    return {label for label in labels if label is not None}, "denies a label" if denied else None


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
    top = highest(ids)
    text = without_confidence(plain_grades(text, top), top)
    all_spans = list(pattern.finditer(text))
    spans = [span for span in all_spans if stands_alone(span)]
    label_by_name = {name: label_of(name, ids) for name in {span[0] for span in all_spans}}
    named = [label_by_name[span[0]] for span in spans]
    labels = {label for label in named if label is not None}
    if not labels or None in named:
        return set(), None
    if any(label_by_name[span[0]] not in labels for span in all_spans if is_spoken_of(span)):
        return labels, "names several labels"
    return labels, next(_doubts(text, spans, ids, top), None)


def _doubts(text: str, spans: list[re.Match[str]], ids: dict[str, int], top: int) -> Iterator[str]:
    """Reasons for not believing the labels at `spans`."""
    if any(is_other_number(span, ids, top) for span in spans):
        yield "may be another number"
    if any(is_part_of_name(span, ids) for span in spans[:100]):
        yield "may be a part of another label"
    if any(is_measure(span) for span in spans):
        yield "may be a confidence"
    if REFUSED.search(text):
        yield "refuses to answer"
    # Label words are blanked out first: "no" and "not related" may be labels themselves.
    blanked = list(text)
    for span in spans:
        blanked[span.start() : span.end()] = "x" * len(span[0])
    rest = "".join(blanked)
    if ASKS.search(rest, spans[0].end()):
        yield "asks instead of answering"
    if denies(rest, spans) or takes_back(rest[spans[0].end() :], spans[0][0]):
        yield "denies a label"
    name, (start, end) = spans[0][0], spans[0].span()
    explained = len(spans) == 1 and is_yes_or_no_explained(name, rest[:start], rest[end:])
    if not (explained or _is_option(rest, spans) or _is_known(rest, spans)):
        yield "says more than a known frame"


def _is_option(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether an answer is the letter of an option and then the option's own text, which denies nothing."""
    first = spans[0]
    if not is_letter(first[0]) or len(spans) > 1 or not _OPTION_END.match(rest, first.end()):
        return False
    return is_frame(rest[: first.start()], "") and not (
        may_deny(rest[first.end() :]) or is_foreign_denial(rest[first.end() :])
    )


def _is_known(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether each sentence with a label is English or a known frame, and no other sentence can take it back."""
    bounds = [0, *(match.end() for match in _SENTENCE.finditer(rest)), len(rest)]
    k, english = 0, []
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
        if not apart and is_frame(rest[start : first.start()], rest[last.end() : end]):
            continue
        if not is_english(rest[start:end]) or ends_in_unknown(rest[last.end() : end]):
            return False
        english += inside
    return all_usual_beside(rest, english)


def _unquote(match: re.Match[str], ids: dict[str, int]) -> str:
    """Keep `The answer is "x"`; blank out longer quotations and `The review says "x"`."""
    inside = next(group for group in match.groups() if group is not None)
    alone = bool(inside.strip()) and len(inside) <= LONGEST_ANSWER // 10 and key(inside) in ids
    if alone and not _REPORTED.search(match.string, max(0, match.start() - 80), match.start()):
        return f" {inside} "
    return " " * len(match[0])
