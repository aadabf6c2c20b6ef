"""Numbers of an answer: which are grades, and which count something else."""

from __future__ import annotations

import re

from hf_llambert.tasks.names import DASHES

_BEFORE_COUNT = re.compile(
    r"(?<!\w)(?:than|almost|nearly|about|around|approximately|roughly|over|under|above|below|at least|at most|up to|"
    r"close to|not quite|between|waited|past|version|top|minus|lost|loses|lose|losing|deduct(?:s|ed|ing)?|dock(?:s|ed|ing)?|"
    r"removed?|missing|subtract\w*|take[sn]? off|took off|taking off|on|in|since|from|until|by|after|before|every|within|"
    r"we are|we were|they were|there are|there were|"
    r"days?|pages?|seasons?|episodes?|chapters?|parts?|volumes?|numbers?|no\.|reasons?|points?|steps?|rooms?|tables?|questions?|examples?|samples?|items?|ages?|aged|"
    r"january|february|march|april|may|june|july|august|september|october|november|december)\s(?:an? )?$|[#$€£]\s?$"
)
_LESS_AFTER = re.compile(
    r"(?:\s*-?\s*(?:stars?|points?))?\s+(?:less|off|short|shy|below|above|away|more|fewer|higher|lower|better|worse|deducted|"
    r"removed|missing|lost|too (?:many|much|few)|at (?:most|best|least)|(?:is|was|would be|seems) (?:too|generous)|"
    r"(?:is|means|being) (?:the )?(?:best|worst|good|bad|great|highest|lowest)|if not|"
    r"and (?:up|over|above|a bit)|hotels?|restaurants?|resorts?|chefs?|places?|generals?)(?!\w)|\s?[×*] ?\w"
)
_STARS = "sterne?n?|étoiles?|estrellas?|stelle|sterren|stjärnor|stjerner|yıldız|звёзды?|звезды?|звезд|gwiazdki|gwiazdek|estrelas?"
_LIST_NUMBER = re.compile(r"(?:\A|\n)\s*1[.)]\s+\w")
_CONFIDENCE = re.compile(
    r"\s?[,;(\[–—-]\s{0,3}(?:(?:with |my |i'm |i am )?(?:about |a )?(?:confidence|certainty|probability)?"
    r"(?: level| score)?(?: is| of)?\s?[:=]?\s?)"
    r"(\d{1,3}(?:\.\d{1,4})?)\s?(%|percent)?(?:\s(confident|confidence|certain|certainty|sure|probability|likely))?\s?[)\]]?"
    r"(?=\s*(?:[.!\n]|\Z))(?!\.\d)"
)
_PRAISE_AFTER = re.compile(
    r"\s+(?:wonderful|great|excellent|solid|full|strong|good|bad|amazing|perfect|shining|bright|big|glowing|generous|poor|weak|"
    r"terrible|awful|fantastic|superb|decent|fair)(?=\s+(?:stars?|points?)(?!\w)|\s*(?:[.,!;]|\Z))"
)
_OUT_OF = re.compile(r"(?:\s*-?\s*(?:stars?|points?))?(?:\s+out)?\s+of\s+(\d{1,9})(?!\d)")
_FRACTION = re.compile(
    r"\s+(?:\d+\s?/\s?\d|x(?!\w)(?=\s*(?:stars?|points?|\W|$))|(?:and )?(?:an? )?(?:half|quarter)\b|point \w)"
)
_WORD_AFTER = re.compile(r" +[a-z]")
# What may follow a grade; other words, as in "3 hours" or "4 pools", are what it counts.
_AFTER_GRADE = re.compile(
    r"\s+(?:stars?|points?|rating|because|since|as|for|based|due|given|considering|overall|and|but|or|with|on|is|"
    r"was|would|seems|fits|best|means|indicates|represents|reflects|here|to|clearly|definitely|this|it|the|x+)(?!\w)"
)


_DASH_BEFORE = re.compile(rf"[-{DASHES}]\s{{1,3}}$")


def highest(ids: dict[str, int]) -> int:
    """The highest whole number among the names of labels, 0 where none is one."""
    return max((int(name) for name in ids if name.isdecimal() and len(name) < 10), default=0)


def plain_grades(text: str, top: int) -> str:
    """A text in which "4/5", "4 out of 5", "4.0" and "4-star" are written "4" and "4 stars", where 5 is the highest grade."""
    if not top:
        return text
    text = re.sub(rf"(?:on )?an? (?:scale|range) (?:of|from) \d (?:to|-) {top}(?!\d)", " ", text)
    text = re.sub(r"(?<![\d.,/-])(\d{1,9})\.0{1,2}(?![.,]?\d|\w|%)", r"\1", text)
    text = re.sub(rf"(?<=\d) (?:von|sur|de|van|di|su|из|av|z|/) (?={top}(?![\d.,]))", " of ", text)
    text = re.sub(rf"(?<=\d)(?:\s?(?:{_STARS})(?!\w)|\s?(?:个|個)?[星点點점](?!\w))", "", text)
    text = re.sub(r"(?<=\d)\s?-\s?(?=(?:stars?|points?)(?!\w))", " ", text)
    scale = rf"\s{{0,3}}/\s{{0,3}}{top}(?!\s?[./,-]\s?\d|\w)" if top > 2 else r"(?!)"
    return re.sub(
        rf"(?<![\d.,/-])(?<!\d )(\d{{1,9}})(?:{scale}|(\s(?:stars?|points?))?\s{{1,3}}(?:out )?of\s{{1,3}}{top}(?![.,/]\d|\w))",
        r"\1\2",
        text,
    )


def without_confidence(text: str, top: int) -> str:
    """A text without notes like "(95% confident)" and ", 0.95"; those under a half stay, since they doubt."""

    def kept(match: re.Match[str]) -> str:
        sure = float(match[1]) / (100 if match[2] else 1)
        told = match[2] or match[3] or not top
        return " " if told and 0.5 <= sure <= 1 and (match[2] or "." in match[1]) else match[0]

    return _CONFIDENCE.sub(kept, text)


def is_other_number(span: re.Match[str], ids: dict[str, int], top: int) -> bool:
    """Whether a number may be below zero, a part of another, or the count of something."""
    if "-" + span[0] in ids and _DASH_BEFORE.search(span.string[max(0, span.start() - 4) : span.start()]):
        return True
    return span[0].isdecimal() and _counts(span.string, span.start(), span.end(), top)


def _counts(text: str, start: int, end: int, top: int) -> bool:
    """Whether the number at `start:end` is no grade up to `top`: "5 out of 10", "3 1/2", "almost 5", "2 pools"."""
    if (
        _BEFORE_COUNT.search(text, max(0, start - 30), start)
        or _FRACTION.match(text, end)
        or _LESS_AFTER.match(text, end)
    ):
        return True
    if (
        _LIST_NUMBER.match(text, text.rfind("\n", 0, start) + 1)
        and not text[text.rfind("\n", 0, start) + 1 : start].strip()
    ):
        return True
    if scale := _OUT_OF.match(text, end):
        return int(scale[1]) != top
    return _WORD_AFTER.match(text, end) is not None and not (
        _AFTER_GRADE.match(text, end) or _PRAISE_AFTER.match(text, end)
    )
