"""Numbers of an answer: which are grades, and which count something else."""

from __future__ import annotations

import re

from hf_llambert.tasks.names import DASHES

_BEFORE_COUNT = re.compile(
    r"(?<!\w)(?:than|almost|nearly|about|around|approximately|roughly|over|under|above|below|at least|at most|up to|"
    r"close to|not quite|between|waited|past|version|top)\s(?:an? )?$"
)
_OUT_OF = re.compile(r"(?:\s*-?\s*(?:stars?|points?))?(?:\s+out)?\s+of\s+(\d{1,9})(?!\d)")
_FRACTION = re.compile(
    r"\s+(?:\d+\s?/\s?\d|x(?!\w)(?=\s*(?:stars?|points?|\W|$))|(?:and )?(?:an? )?(?:half|quarter)\b|point \w)"
)
_WORD_AFTER = re.compile(r" +[a-z]")
# What may follow a grade; other words, as in "3 hours" or "4 pools", are what it counts.
_AFTER_GRADE = re.compile(
    r"\s+(?:stars?|points?|rating|out of|of|because|since|as|for|based|due|given|considering|overall|and|but|or|with|on|is|"
    r"was|would|seems|fits|best|means|indicates|represents|reflects|here|to|clearly|definitely|this|it|the|x+)(?!\w)"
)


_DASH_BEFORE = re.compile(rf"[-{DASHES}]\s{{1,3}}$")


def is_other_number(span: re.Match[str], ids: dict[str, int], top: int) -> bool:
    """Whether a number may be below zero, a part of another, or the count of something."""
    if "-" + span[0] in ids and _DASH_BEFORE.search(span.string[max(0, span.start() - 4) : span.start()]):
        return True
    return span[0].isdecimal() and _counts(span.string, span.start(), span.end(), top)


def _counts(text: str, start: int, end: int, top: int) -> bool:
    """Whether the number at `start:end` is no grade up to `top`: "5 out of 10", "3 1/2", "almost 5", "2 pools"."""
    if _BEFORE_COUNT.search(text, max(0, start - 30), start) or _FRACTION.match(text, end):
        return True
    if scale := _OUT_OF.match(text, end):
        return int(scale[1]) != top
    return _WORD_AFTER.match(text, end) is not None and not _AFTER_GRADE.match(text, end)
