"""Numbers in an answer: which are grades, and which count something else."""

from __future__ import annotations

import re

from hf_llambert.tasks.names import DASHES

_STARS = "sterne?n?|étoiles?|estrellas?|stelle|sterren|stjärnor|stjerner|yıldız|звёзды?|звезды?|звезд|gwiazdki|gwiazdek|estrelas?"
_GLYPHS = re.compile(r"(?<![★⭐☆])((?:[★⭐]\ufe0f?)+)(☆*)(?![★⭐☆½x\ufe0f])")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORD = re.compile(rf"\W*({'|'.join(_WORDS)})(?:[ -]stars?)?\W*")
_LIST_NUMBER = re.compile(r"(?:\A|\n)\s*1[.)]\s+\w")
_CONFIDENCE = re.compile(
    r"\s?[,;(\[–—-]\s{0,3}(?:(?:with |my |i'm |i am )?(?:about |a )?(?:confidence|certainty|probability)?"
    r"(?: level| score)?(?: is| of)?\s?[:=]?\s?)"
    r"(\d{1,3}(?:\.\d{1,4})?)\s?(%|percent)?(?:\s(confident|confidence|certain|certainty|sure|probability|likely))?\s?[)\]]?"
    r"(?=\s*(?:[.!\n]|\Z))(?!\.\d)"
)
_COUNTED = re.compile(r" +(?!(?:stars?|points?)(?!\w))[a-z]")
_DASH_BEFORE = re.compile(rf"[-{DASHES}]\s{{1,3}}$")


def highest(ids: dict[str, int]) -> int:
    """The highest whole number among the names of labels, 0 where none is one."""
    return max((int(name) for name in ids if name.isdecimal() and len(name) < 10), default=0)


def counted_grade(text: str, ids: dict[str, int]) -> str:
    """A folded answer in which a grade that is written as stars, or alone as a word, is a number: "★★★★☆" and "Four" are 4."""
    top = highest(ids)
    word = _WORD.fullmatch(text) if top else None
    if word and not ids.keys() & set(_WORDS):
        return str(_WORDS.index(word[1]))

    def grade(match: re.Match[str]) -> str:
        full = len(match[1].replace("\ufe0f", ""))
        return str(full) if full + len(match[2]) == top else match[0]  # fewer may be cut

    return text if top < 3 or re.search(r"\d", text) else _GLYPHS.sub(grade, text)


def plain_grades(text: str, top: int) -> str:
    """A text in which "4/5", "4 out of 5", "4.0" and "4-star" are written "4" and "4 stars", where 5 is the highest grade."""
    if not top:
        return text
    text = re.sub(rf"(?:on )?an? (?:scale|range) (?:of|from) \d (?:to|-) {top}(?!\d)", " ", text)
    text = re.sub(r"(?<![\d.,/-])(-?\d{1,9})\.0{1,2}(?![.,]?\d|\w|%)", r"\1", text)
    text = re.sub(rf"(?<=\d) (?:von|sur|de|van|di|su|из|av|z|/) (?={top}(?![\d.,]))", " of ", text)
    text = re.sub(rf"(?<=\d)(?:\s?(?:{_STARS})(?!\w)|\s?(?:个|個)?[星点點점](?!\w))", "", text)
    text = re.sub(r"(?<=\d)\s?-\s?(?=(?:stars?|points?)(?!\w))", " ", text)
    scale = rf"\s{{0,3}}/\s{{0,3}}{top}(?!\s?[./,-]\s?\d|\w)" if top > 2 else r"(?!)"
    out_of = rf"(\s(?:stars?|points?))?\s{{1,3}}\(?(?:out )?of\s{{1,3}}{top}(?![.,/]\d|\w)"
    return re.sub(rf"(?<![\d.,/-])(?<!\d )(\d{{1,9}})(?:{scale}|{out_of})", r"\1\2", text)


def without_confidence(text: str, top: int) -> str:
    """A text without notes like "(95% confident)" and ", 0.95"; those under a half stay, since they doubt."""

    def kept(match: re.Match[str]) -> str:
        sure = float(match[1]) / (100 if match[2] else 1)
        told = match[2] or match[3] or not top
        return " " if told and 0.5 <= sure <= 1 and (match[2] or "." in match[1]) else match[0]

    return _CONFIDENCE.sub(kept, text)


def is_other_number(span: re.Match[str], ids: dict[str, int]) -> bool:
    """Whether a number of a statement may be below zero, of a list, or an amount of money."""
    text, start = span.string, span.start()
    if "-" + span[0] in ids and _DASH_BEFORE.search(text[max(0, start - 4) : start]):
        return True
    line = text.rfind("\n", 0, start) + 1
    listed = _LIST_NUMBER.match(text, line) and not text[line:start].strip()
    return span[0].isdecimal() and bool(listed or text[:start].rstrip()[-1:] in tuple("#$€£"))


def is_count(span: re.Match[str]) -> bool:
    """Whether a number of an explanation counts something: "3 weeks", but not "3 stars" or "3"."""
    return span[0].isdecimal() and _COUNTED.match(span.string, span.end()) is not None
