"""Reads the label from a free-text answer. An answer that does not clearly name one label gives none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hf_llambert.tasks.denials import ASKS, REFUSED, STRUCK, denies, is_measure, may_deny, refuses, takes_back
from hf_llambert.tasks.frames import (
    clean,
    is_foreign_denial,
    is_statement,
    is_yes_or_no,
    may_follow,
    may_precede,
)
from hf_llambert.tasks.json_answers import ANSWER_KEYS, NUMBER_KEYS, json_answers
from hf_llambert.tasks.names import (
    fold,
    is_code,
    is_letter,
    is_part_of_name,
    is_spoken_of,
    key,
    label_of,
    plain_names,
    stands_alone,
    vocabulary,
)
from hf_llambert.tasks.numbers import (
    counted_grade,
    highest,
    is_count,
    is_other_number,
    plain_grades,
    without_confidence,
)
from hf_llambert.tasks.thoughts import without_thoughts

LONGEST_ANSWER = 20_000
"""Characters of an answer, without its thoughts, that are read. A longer one abstains: its rest may take back its start."""

_TAGS = re.compile(
    r"</?(?:response|b|i|u|em|strong|code|span|p|div|br|li|(?:(?:final|predicted|overall) )?(?:"
    + "|".join(sorted(ANSWER_KEYS | NUMBER_KEYS))
    + r"))\b[^<>]{0,200}>|<\|[^|<>\n]{1,40}\|>|</?(?:s|eos|bos|end of turn)>|\[/?inst\]"
)
# "Answer: x", alone on its line, is the answer whatever an explanation on other lines goes on to mention.
_ANSWER_LINE = re.compile(
    r"^\W*(?:the |my |final |overall )*(?:" + "|".join(sorted(ANSWER_KEYS)) + r")(?: is)?\s*(?::|=(?!>))+(.*)$"
)
# What stands after a turn is none of the answer: a base model goes on with the next one. Where a turn begins before any label,
# the answer may hold the question, and nothing is left out.
_TURN = re.compile(
    r"</s>|<\|(?:im end|im start|eot id|eom id|start header id|end|end of text|endoftext|user)\|>|"
    r"<(?:start|end) of turn>|\[inst\]"
)
# A word in quotation marks after one of these is reported from the text, not given as the answer.
_REPORTED = re.compile(
    r"(?<!\w)(?:says?|said|saying|mention\w*|words?|phrases?|terms?|writes?|wrote|written|quot\w+|calls?|called|calling|"
    r"describ\w+|uses?|used|using|stat(?:es|ed|ing)|contains?|reads?|according to)(?!\w)[^.!?;]{0,40}$"
)
_EMPHASIS = re.compile(r"(\*{1,3})(?=\S)([^*\n]{1,500})(?<=\S)\1")
_NEXT_EXAMPLE = re.compile(
    r"\n[^\S\n]*(?:[#*>-]{1,4}\s*)?(?:(?:the|next|another|new|movie|film|customer|product|news|user|hotel|restaurant)\s)?"
    r"(?:review|text|input|question|sentence|tweet|article|passage|document|example|headline|statement|post|q|human|user|"
    r"instruction|task|prompt|message|sms|email|comment|query|utterance|premise|claim)(?:\s\d{1,4})?\**\s?:|"
    r"\n[^\S\n]*#{2,4}\s"
)
_OPTION_END = re.compile(r"\s?[).:\]}*–—-]{1,4}\s")
_CODE_END = re.compile(r"\s?[).:\]}*,–—-]{1,4}\s|\*{0,2}\s\((?=\w)")
_BOXED = re.compile(r"\${0,2}\\boxed\s?\{\s?(?:\\text\w{0,4}\s?\{)?([^{}]{0,200})\}{1,2}\$*")
_DENIED = re.compile(r"(?<!\w)(?:not|neither|nor)(?: an?)? $")
_MOST_BEFORE = 60  # sentences before the one that states the label
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
    turn = _TURN.search(text)
    if turn and pattern.search(text, 0, turn.start()):
        text = text[: turn.start()]
    text = counted_grade(plain_names(text, ids), ids)
    whole = _whole_answer(text, ids)
    if whole is not None:
        return whole
    answers, beside = json_answers(text, ids)
    if answers is not None:
        found = [_text_labels(answer, ids, pattern) for answer in answers]
        if any(not labels for labels, _ in found):
            return None, "names no label under one of its keys"
        return _only([*found, _beside_labels(_TAGS.sub(" ", beside), ids, pattern)] if found else [])
    text = _EMPHASIS.sub(r"\2", _TAGS.sub(" ", _BOXED.sub(r"(\1)", text)))
    if (turn := _NEXT_EXAMPLE.search(text)) and pattern.search(text, 0, turn.start()):
        # A small model goes on with examples of its own. Only an answer that is nothing but a label ends clearly before them.
        return _whole_answer(text[: turn.start()], ids) or (None, "goes on with another example")
    return _only(_stated_labels(text, ids) or [_text_labels(text, ids, pattern)])


def _stated_labels(text: str, ids: dict[str, int]) -> list[tuple[set[int], str | None]]:
    """The labels that lines like "Answer: x" and lines of a label alone name; nothing where another line may take them back."""
    lines = [(line, _ANSWER_LINE.match(line)) for line in text.splitlines()]
    stated = [label_of(match[1], ids) for _, match in lines if match]
    if not stated or None in stated or takes_back(text) or REFUSED.search(text):
        return []
    first = next(k for k, (_, match) in enumerate(lines) if match)
    named = [label_of(line, ids) for line, match in lines if not match]
    fits = (may_precede if k < first else may_follow for k, (_, match) in enumerate(lines) if not match)
    others = [line for line, match in lines if not match]
    if not all(label is not None or may(line) for label, may, line in zip(named, fits, others, strict=True)):
        return []
    return [({label}, None) for label in (*stated, *named) if label is not None]


def _whole_answer(text: str, ids: dict[str, int]) -> tuple[int | None, str | None] | None:
    """What an answer that is a name and nothing else says; `None` where it is more."""
    name, label = key(text), label_of(text, ids)
    if label is None:
        return None
    heading = text.rstrip().endswith(":") and _NEXT_EXAMPLE.match("\n" + text)  # "Question:", where that is a label
    if heading or ASKS.search(text) and name[-1] not in "?;":
        return None, "asks instead of answering"
    if name in ids and name[0].isdigit() and re.match(r"\s*[<>]=?\s", text):
        return None, "may be another number"
    bare = re.sub(r"\s+", "", _EMPHASIS.sub(r"\2", text))
    if is_code(name) and re.search(r"\d(?:[!†‡*]|\.[*-])", bare):
        return None, "may be a part of another label"
    if any(other_label != label and len(other) > len(name) and other in bare for other, other_label in ids.items()):
        return None, "names several labels"
    return label, None


def _beside_labels(beside: str, ids: dict[str, int], pattern: re.Pattern[str]) -> tuple[set[int], str | None]:
    """The labels that the words beside JSON name, and a reason for not believing the JSON."""
    labels = {label_of(span[0], ids) for span in pattern.finditer(beside) if stands_alone(span)}
    objects = list(re.finditer("\0", beside))
    denied = not _is_stated(beside, objects) or takes_back(beside[objects[0].end() :])
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
    text = _without_denied(text, ids, pattern)
    top = highest(ids)
    text = without_confidence(plain_grades(text, top), top)
    all_spans = list(pattern.finditer(text))
    spans = [span for span in all_spans if stands_alone(span)]
    label_by_name = {name: label_of(name, ids) for name in {span[0] for span in all_spans}}
    if not spans or any(label_by_name[span[0]] is None for span in spans):
        return set(), None
    first_end = next((stop.end() for stop in _SENTENCE.finditer(text, spans[0].end())), len(text))
    # In an explanation a number may count something: "2. It broke after 3 weeks."
    spans = [span for span in spans if span.start() < first_end or not is_count(span)]
    labels = {label for span in spans if (label := label_by_name[span[0]]) is not None}
    if any(label_by_name[span[0]] not in labels for span in all_spans if is_spoken_of(span)):
        return labels, "names several labels"
    return labels, next(_doubts(text, spans, ids), None)


def _without_denied(text: str, ids: dict[str, int], pattern: re.Pattern[str]) -> str:
    """A text without other labels that it denies after its own: "Ham, not spam.", "Neutral. It is neither good nor bad."."""
    spans = list(pattern.finditer(text))
    label_by_name = {name: label_of(name, ids) for name in {span[0] for span in spans}}
    out, end = "", 0
    for span in spans:
        if label_by_name[span[0]] != label_by_name[spans[0][0]]:
            denied = _DENIED.search(text, max(end, span.start() - 12), span.start())
            if denied:
                out, end = out + text[end : denied.start()], span.end()
    return out + text[end:]


def _doubts(text: str, spans: list[re.Match[str]], ids: dict[str, int]) -> Iterator[str]:
    """Reasons for not believing the labels at `spans`."""
    if any(is_other_number(span, ids) for span in spans):
        yield "may be another number"
    if any(is_part_of_name(span, ids) for span in spans[:100]):
        yield "may be a part of another label"
    if any(is_measure(span) for span in spans):
        yield "may be a confidence"
    if refuses(text, spans[0][0]):
        yield "refuses to answer"
    # Label words are blanked out first: "no" and "not related" may be labels themselves.
    blanked = list(text)
    for span in spans:
        blanked[span.start() : span.end()] = "x" * len(span[0])
    rest = "".join(blanked)
    if denies(rest, spans[1:]) or takes_back(rest[spans[0].end() :], spans[0][0]):
        yield "denies a label"
    if not (_is_option(rest, spans) or _is_stated(rest, spans)):
        yield "says more than a known frame"


def _is_option(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether an answer is the letter or code of an option and then the option's own text, which denies nothing."""
    first = spans[0]
    code = is_code(first[0])
    if (
        not (code or is_letter(first[0]))
        or len(spans) > 1
        or not (_CODE_END if code else _OPTION_END).match(rest, first.end())
    ):
        return False
    own = rest[first.end() :]
    if code:
        own = re.sub(r"(?<!\w)(?:without|not) (?:complications|specified|elsewhere)", "", own)
        if re.search(r"[a-z]\d|(?<!\w)(?:see|ruled?|excluded|excludes|history|suspected)(?!\w)", own):
            return False
    return is_statement(rest[: first.start()], "", "") and not (may_deny(own) or is_foreign_denial(own))


def _is_stated(rest: str, spans: list[re.Match[str]]) -> bool:
    """Whether the first sentence with a label is a known frame, and no other sentence states something else or takes it back."""
    bounds = [0, *(match.end() for match in _SENTENCE.finditer(rest)), len(rest)]
    first, last = spans[0], spans[0]
    for span in spans[1:]:
        if clean(rest[last.end() : span.start()]):
            break
        last = span
    stated = False
    for k, (start, end) in enumerate(zip(bounds, bounds[1:], strict=False)):
        sentence = rest[start:end]
        if end <= first.start():
            if k > _MOST_BEFORE or not may_precede(sentence):
                return False
        elif not stated:
            stop = max(end, next(bound for bound in bounds if bound >= last.end()))
            if is_yes_or_no(first[0]) and not clean(rest[start : first.start()]):
                stop = len(rest)  # an explanation in another sentence must be one of a yes or a no, too
            stated = is_statement(rest[start : first.start()], first[0], rest[last.end() : stop])
            if not stated:
                return False
        elif start >= last.end() and not may_follow(sentence):
            return False
    return stated


def _unquote(match: re.Match[str], ids: dict[str, int]) -> str:
    """Keep `The answer is "x"`; blank out longer quotations and `The review says "x"`."""
    inside = next(group for group in match.groups() if group is not None)
    alone = bool(inside.strip()) and len(inside) <= LONGEST_ANSWER // 10 and key(inside) in ids
    if alone and not _REPORTED.search(match.string, max(0, match.start() - 80), match.start()):
        return f" {inside} "
    return " " * len(match[0])
