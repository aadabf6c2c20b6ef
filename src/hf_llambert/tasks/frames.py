"""What may stand beside a label: known frames of many languages, read from frames.yaml, and what is evidently English."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3105-\u318f\u31a0-\u31ff"
    "\u3400-\u9fff\ua960-\ua97f\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts in which words do not stand between spaces, as ranges of a character class."""

_MARKS = re.compile(r"[\"'`´’‘“”„«»「」『』【】《》〈〉(){}\[\]<>:=,、،؛;~|#*_→⇒\\/–—-]+")
_STOPS = " \t\n\r.!。｡।۔…·•¡"
_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_IT = r"(?:this|that|it|the above|(?:the|my|this|that) (?:answer|label|category|classification))"
_TAKEN_BACK = re.compile(
    rf"(?:\A|(?<=[.!?;:,\n(-]))\W{{0,4}}(?:(?:but|no|wait|actually|sorry|well|however|so|and)[ ,]{{1,3}}){{0,3}}(?:"
    rf"{_IT}\s?(?:is|was|would be|may be|might be|'s)\s?(?:not|n't)\s+(?:\w+\s+)?(?:correct|right|true|accurate|it)\b|"
    rf"{_IT}\s?(?:is|was|would be|may be|might be|'s)\s+(?:\w+\s+){{0,2}}(?:wrong|incorrect|untrue|inaccurate|mistaken|false)"
    r"(?:\s(?:answer|label|category|class|classification|choice|one))?\s*(?:[.!;,)\n]|\Z)|"
    r"(?:scratch|strike|ignore|disregard|forget)\s(?:that|this|it|the above)\b|(?:just )?(?:kidding|joking)\b|never ?mind\b|"
    r"on second thought|i (?:take (?:that|it|this) back|was wrong|made a mistake|changed my mind)|my (?:mistake|bad)\b|"
    r"(?:correction|edit|edited|update|erratum)\s?[:–—-]|(?:oops|whoops)\b|"
    r"(?:wrong|incorrect|nope|not|no|untrue|false)\s*(?:[.!\n]|\Z))"
)

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


@dataclass(frozen=True)
class _Frames:
    spaced: re.Pattern[str]
    unspaced: re.Pattern[str]
    reason: re.Pattern[str]
    openers: frozenset[str]
    english: frozenset[str]
    foreign: frozenset[str]


@lru_cache(maxsize=1)
def _known() -> _Frames:
    text = (resources.files("hf_llambert") / "tasks" / "frames.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(unicodedata.normalize("NFKC", text))
    spaced = [_template(frame, " ") for frames in data["frames"].values() for frame in frames]
    unspaced = [_template(frame, "") for frames in data["unspaced_frames"].values() for frame in frames]
    reasons = [rf"{re.escape(word.casefold())}(?!\w)" for word in data["reasons"]]
    reasons += [re.escape(word.casefold()) for word in data["unspaced_reasons"]]
    return _Frames(
        re.compile("|".join(spaced)),
        re.compile("|".join(unspaced)),
        re.compile(r"[\W_]*(?:" + "|".join(reasons) + ")"),
        frozenset(clean(opener.casefold()) for opener in data["openers"]),
        frozenset(data["english"]),
        frozenset(data["foreign"]) - frozenset(data["english"]),
    )


def _template(frame: str, gap: str) -> str:
    """A frame as a pattern of the words before the label, a line end for the label, and the words after it."""
    out = ""
    for choice, optional, word in re.findall(r"\{([^}]*)\}|\[([^\]]*)\]|(\S+)", frame):
        if word == "X":
            out += "\n"
            continue
        options = "|".join(re.escape(option.casefold()) for option in (choice or optional or word).split("|"))
        out += rf"(?:(?:{options}){gap})" + ("?" if optional else "")
    return out


def clean(text: str) -> str:
    """Folded words without marks, stops and symbols, one blank between them; a question mark stays."""
    text = "".join(c for c in _MARKS.sub(" ", text) if unicodedata.category(c) not in ("So", "Sk") and c != "\ufe0f")
    return " ".join(text.strip(_STOPS).split())


def is_frame(before: str, after: str) -> bool:
    """Whether nothing but a known frame stands before and after a label, except an explanation after a pause."""
    known = _known()
    before = clean(before)
    tails = [
        match.start() for match in re.finditer(r"[,;:(.\n–—\- 。]+", after) if known.reason.match(after, match.end())
    ]
    end = 0 if known.reason.match(after) else tails[0] if tails else len(after)
    after = clean(after[:end])
    if not before and not after:
        return True
    beside = (before and before + " ") + "\n" + (after and after + " ")
    return bool(known.spaced.fullmatch(beside) or known.unspaced.fullmatch(beside.replace(" ", "")))


def is_english(sentence: str) -> bool:
    """Whether a sentence, its labels blanked out, has a word that only English has, and nothing of other languages."""
    known = _known()
    words = _WORDS.findall(sentence)
    if known.english.isdisjoint(words) or not known.foreign.isdisjoint(words):
        return False
    return not any(_is_foreign_letter(c) for c in set(sentence))


def is_harmless(sentence: str) -> bool:
    """Whether a sentence that names no label cannot take back what another names."""
    known = _known()
    said = clean(sentence)
    if not said or said in known.openers or is_english(sentence) or known.reason.match(sentence):
        return True
    words = set(_WORDS.findall(sentence))
    return len(words) > 2 and known.foreign.isdisjoint(words) and sentence.isascii() or not words


def _is_foreign_letter(letter: str) -> bool:
    return letter.isalpha() and not letter.isascii() and not unicodedata.name(letter, "").startswith("LATIN")


def takes_back(text: str) -> bool:
    """Whether an English text after a label says that the label is wrong: "This is not correct", "Scratch that"."""
    return _TAKEN_BACK.search(text) is not None


def counts(text: str, start: int, end: int, top: int) -> bool:
    """Whether the number at `start:end` is no grade up to `top`: "5 out of 10", "3 1/2", "almost 5", "2 pools"."""
    if _BEFORE_COUNT.search(text, max(0, start - 30), start) or _FRACTION.match(text, end):
        return True
    if scale := _OUT_OF.match(text, end):
        return int(scale[1]) != top
    return _WORD_AFTER.match(text, end) is not None and not _AFTER_GRADE.match(text, end)
