"""What may stand beside a label: known frames of many languages, read from frames.yaml, and what is evidently English."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from hf_llambert.tasks.english import WORDS, is_usual, looks_english

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3105-\u318f\u31a0-\u31ff"
    "\u3400-\u9fff\ua960-\ua97f\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Letters of scripts in which words do not stand between spaces, as ranges of a character class."""

_MARKS = re.compile(r"[\"'`´’‘“”„«»「」『』【】《》〈〉(){}\[\]<>:=,、،؛;~|#*_→⇒\\/–—-]+")
_STOPS = " \t\n\r.!。｡।۔…·•¡"


@dataclass(frozen=True)
class _Frames:
    spaced: re.Pattern[str]
    unspaced: re.Pattern[str]
    reason: re.Pattern[str]
    openers: frozenset[str]
    foreign: frozenset[str]
    denials: re.Pattern[str]
    yes: frozenset[str]
    no: frozenset[str]
    slips: re.Pattern[str]


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
        re.compile(r"[\W_]{0,8}(?:" + "|".join(reasons) + ")"),
        frozenset(clean(opener.casefold()) for opener in data["openers"]),
        frozenset(data["foreign"]),
        re.compile("|".join(re.escape(word) for word in data["denials"])),
        frozenset(word.casefold() for word in data["yes"]),
        frozenset(word.casefold() for word in data["no"]),
        re.compile("|".join(_whole_word(word) for word in data["slips"])),
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


def _whole_word(word: str) -> str:
    return re.escape(word) if re.match(rf"[{UNSPACED}]", word) else rf"(?<!\w){re.escape(word)}(?!\w)"


def is_yes_or_no_explained(name: str, before: str, after: str) -> bool:
    """Whether an answer is a yes or a no, a pause, and an explanation that does not take it back."""
    known = _known()
    after = re.sub(r"^(?:的|です|요|입니다)", "", after)
    if clean(before) or name not in known.yes | known.no or not re.match(r"\s{0,2}[,.;:!(、，。–—-]\s?\S", after):
        return False
    if known.slips.search(after) or len(clean(after)) < 3:
        return False
    return name in known.no or not is_foreign_denial(after)


def clean(text: str) -> str:
    """Folded words without marks, stops and symbols, one blank between them; a question mark stays."""
    text = "".join(c for c in _MARKS.sub(" ", text) if unicodedata.category(c) not in ("So", "Sk") and c != "\ufe0f")
    return " ".join(text.strip(_STOPS).split())


def is_frame(before: str, after: str) -> bool:
    """Whether nothing but a known frame stands before and after a label, except an explanation after a pause."""
    known = _known()
    before = clean(before)
    pauses = re.finditer(r"[,;:(.\n–—\- 。]+", after)
    end = (
        0
        if known.reason.match(after)
        else next((p.start() for p in pauses if known.reason.match(after, p.end())), len(after))
    )
    if is_foreign_denial(after[end:]):
        return False
    after = clean(after[:end])
    if not before and not after:
        return True
    beside = (before and before + " ") + "\n" + (after and after + " ")
    return bool(known.spaced.fullmatch(beside) or known.unspaced.fullmatch(beside.replace(" ", "")))


def is_foreign_denial(text: str) -> bool:
    """Whether a text has a word with which another language than English denies."""
    known = _known()
    return not known.foreign.isdisjoint(WORDS.findall(text)) or known.denials.search(text) is not None


def is_english(sentence: str) -> bool:
    """Whether a sentence, its labels blanked out, has a word that only English has, and nothing of other languages."""
    return looks_english(WORDS.findall(sentence)) and not (
        is_foreign_denial(sentence) or any(_is_foreign_letter(c) for c in set(sentence))
    )


def is_harmless(sentence: str) -> bool:
    """Whether a sentence that names no label cannot take back what another names."""
    said = clean(sentence)
    if not said or said in _known().openers or is_english(sentence):
        return True
    words = WORDS.findall(sentence)
    if is_foreign_denial(sentence):
        return False
    return _known().reason.match(sentence) is not None or not words or 2 * sum(map(is_usual, words)) > len(words)


def _is_foreign_letter(letter: str) -> bool:
    return letter.isalpha() and not letter.isascii() and not unicodedata.name(letter, "").startswith("LATIN")
