"""What is evidently English, by the words of english.yaml, and which words may stand beside a label in it."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_PAUSE = re.compile(r"[.,;:!?()\n–—…|]|\s-+\s|--")
_TAIL = re.compile(r"\s*(?:[,;…–—]|-+\s)([^.,;:!?()\n]*)[.!\s]*\Z")


@dataclass(frozen=True)
class _English:
    evident: frozenset[str]
    usual: frozenset[str]
    weakening: frozenset[str]
    intensifiers: frozenset[str]


@lru_cache(maxsize=1)
def _known() -> _English:
    text = (resources.files("hf_llambert") / "tasks" / "english.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    return _English(*(frozenset(data[name]) for name in ("evident", "usual", "weakening", "intensifiers")))


def looks_english(words: list[str]) -> bool:
    """Whether one of the words is English and of no other language, or most of them are usual English ones."""
    if not _known().evident.isdisjoint(words):
        return True
    words = [word for word in words if set(word) != {"x"}]  # labels are blanked out
    usual = [word for word in words if is_usual(word)]
    if not any(len(word) > (3 if len(words) > 1 else 4) for word in usual):
        return False
    return len(usual) == len(words) or len(words) > 2 and 3 * len(usual) >= 2 * len(words)


def is_usual(word: str) -> bool:
    """Whether a word is a usual English one that neither weakens nor denies a label beside it."""
    known = _known()
    if word in known.weakening:
        return False
    return word in known.evident or word in known.usual or (len(word) > 4 and word.endswith("ly"))


def all_usual_beside(rest: str, spans: list[re.Match[str]]) -> bool:
    """
    Whether the words directly before and after each label are usual English ones. A single other word can deny in any language.

    Args:
        rest (`str`): A text, its labels blanked out.
        spans (`list[re.Match[str]]`): Where its labels are.
    """
    words = list(WORDS.finditer(rest))
    starts = [word.start() for word in words]
    labels = {span.start() for span in spans}
    intensifiers = _known().intensifiers
    for span in spans:
        k, edge = bisect_left(starts, span.start()) - 1, span.start()
        while k >= 0 and not _PAUSE.search(rest, words[k].end(), edge):
            word = words[k][0]
            if words[k].start() not in labels and (word == "to" or not is_usual(word)):
                return False
            if word not in intensifiers:
                break
            k, edge = k - 1, words[k].start()
        k = bisect_right(starts, span.end() - 1)
        beside = k < len(words) and not _PAUSE.search(rest, span.end(), words[k].start())
        if beside and words[k].start() not in labels and not is_usual(words[k][0]):
            return False
    return True


def ends_in_unknown(after: str) -> bool:
    """Whether what follows a label in its sentence is a pause and one or two words of which none is usual English."""
    tail = _TAIL.match(after)
    words = WORDS.findall(tail[1]) if tail else []
    return 0 < len(words) < 3 and not any(is_usual(word) for word in words)
